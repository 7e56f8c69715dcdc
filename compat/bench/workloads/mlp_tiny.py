"""A tiny MLP, SGD with momentum, a regression: nearly all of the time is dispatch."""

import itertools


def make(torch):
    """Model and batches."""
    nn = torch.nn
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))
    x = torch.randn(8, 32, 16)
    return net, list(zip(x, x[:, :, :1] * x[:, :, 1:2]))


def build(torch, compile):
    net, batches = make(torch)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9)
    model = compile.model(net)

    @compile.step
    def train(x, y):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    data = itertools.cycle(batches)
    return lambda: train(*next(data))
