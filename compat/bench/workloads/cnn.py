"""A small CNN on 28x28 images, SGD with momentum, batches of 64."""

import itertools


def make(torch):
    """Model and batches."""
    nn = torch.nn
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * 7 * 7, 10),
    )  # fmt: skip
    x, y = torch.rand(4, 64, 1, 28, 28), torch.randint(0, 10, (4, 64))
    return net, list(zip(x, y))


def build(torch, compile):
    net, batches = make(torch)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
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
