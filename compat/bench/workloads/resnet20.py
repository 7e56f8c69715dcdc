"""ResNet-20 for CIFAR's 32x32 images, batch norm, SGD with momentum and weight decay, batches of 32."""

import itertools


def build(torch, compile):
    nn, F = torch.nn, torch.nn.functional
    torch.manual_seed(0)

    class Block(nn.Module):
        def __init__(self, before, width, stride):
            super().__init__()
            self.conv1 = nn.Conv2d(before, width, 3, stride, padding=1, bias=False)
            self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
            self.bn1, self.bn2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
            self.short = nn.Sequential()
            if stride != 1:
                self.short = nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width))

        def forward(self, x):
            h = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
            return F.relu(h + self.short(x))

    blocks, before = [], 16
    for width in (16, 32, 64):
        for i in range(3):
            blocks.append(Block(before, width, 2 if width > 16 and i == 0 else 1))
            before = width
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), *blocks,
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip
    optimizer = torch.optim.SGD(net.parameters(), lr=0.002, momentum=0.9, weight_decay=5e-4)
    model = compile.model(net)
    x, y = torch.rand(2, 32, 3, 32, 32), torch.randint(0, 10, (2, 32))

    @compile.step
    def train(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    data = itertools.cycle(list(zip(x, y)))
    return lambda: train(*next(data))
