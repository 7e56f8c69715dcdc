"""A training as scripts have it: a Dataset of one's own, a shuffling DataLoader, a scheduler, metrics read each epoch."""

EVERY = 16  # an epoch: 512 samples in batches of 32


def build(torch, compile):
    nn, F = torch.nn, torch.nn.functional
    torch.manual_seed(0)

    class Waves(torch.utils.data.Dataset):
        def __init__(self):
            self.x, self.y = torch.randn(512, 64), torch.randint(0, 8, (512,))

        def __len__(self):
            return len(self.x)

        def __getitem__(self, i):
            return self.x[i] * 0.5 + 0.1, self.y[i]

    loader = torch.utils.data.DataLoader(Waves(), batch_size=32, shuffle=True)
    net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.BatchNorm1d(128), nn.Linear(128, 8))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50)
    model = compile.model(net)

    @compile.step
    def train(x, y):
        out = model(x)
        loss = F.cross_entropy(out, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss, (out.argmax(1) == y).sum()

    def epochs():
        while True:
            right = total = 0
            for x, y in loader:
                loss, hits = train(x, y)
                right, total = right + hits, total + loss.detach() * len(y)
                yield loss
            schedule.step()
            assert right.item() <= 512 and total.item() > 0  # the epoch's metrics, as they would be printed

    return epochs().__next__
