"""An MLP of MNIST's size, Adam, batches of 128."""

import itertools


def make(torch):
    """Model and batches."""
    nn = torch.nn
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))
    x, y = torch.rand(4, 128, 784), torch.randint(0, 10, (4, 128))
    return net, list(zip(x, y))


def build(torch, compile):
    net, batches = make(torch)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    model = compile.model(net)

    @compile.step
    def train(x, y):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    data = itertools.cycle(batches)
    return lambda: train(*next(data))
