"""A GRUCell unrolled over 24 moments by a Python loop, Adam with gradient clipping."""

import itertools


def build(torch, compile):
    nn, F = torch.nn, torch.nn.functional
    torch.manual_seed(0)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell, self.head = nn.GRUCell(8, 32), nn.Linear(32, 1)

        def forward(self, x):
            h = torch.zeros(x.shape[0], 32)
            outs = []
            for t in range(x.shape[1]):
                h = self.cell(x[:, t], h)
                outs.append(self.head(h))
            return torch.stack(outs, 1)

    net = Model()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    model = compile.model(net)
    x = torch.randn(4, 16, 24, 8)

    @compile.step
    def train(x, y):
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        return loss

    data = itertools.cycle(list(zip(x, x.cumsum(2)[..., :1] * 0.2)))
    return lambda: train(*next(data))
