"""A variational autoencoder of MNIST's size, Adam, batches of 64."""

import itertools


def build(torch, compile):
    nn, F = torch.nn, torch.nn.functional
    torch.manual_seed(0)

    class VAE(nn.Module):
        def __init__(self):
            super().__init__()
            self.encode = nn.Sequential(nn.Linear(784, 400), nn.ReLU(), nn.Linear(400, 40))
            self.decode = nn.Sequential(nn.Linear(20, 400), nn.ReLU(), nn.Linear(400, 784))

        def forward(self, x, noise):
            mean, log_variance = self.encode(x).chunk(2, -1)
            return self.decode(mean + noise * torch.exp(0.5 * log_variance)), mean, log_variance

    net = VAE()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    model = compile.model(net)

    @compile.step
    def train(x):
        # The noise is drawn outside of the model: torch.compile draws others than torch does.
        out, mean, log_variance = model(x, torch.randn(x.shape[0], 20))
        rebuilt = F.binary_cross_entropy_with_logits(out, x, reduction="sum")
        divergence = -0.5 * torch.sum(1 + log_variance - mean.pow(2) - log_variance.exp())
        loss = (rebuilt + divergence) / x.shape[0]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    data = itertools.cycle(torch.rand(4, 64, 784))
    return lambda: train(next(data))
