"""A small vision transformer, inference without grad, batches of 8; what it says is read after each batch."""

import itertools


def build(torch, compile):
    nn = torch.nn
    torch.manual_seed(0)

    class ViT(nn.Module):
        def __init__(self, width=128, layers=4):
            super().__init__()
            self.patches = nn.Conv2d(3, width, 8, 8)
            self.first = nn.Parameter(torch.randn(1, 1, width) * 0.02)
            self.places = nn.Parameter(torch.randn(1, 65, width) * 0.02)
            layer = nn.TransformerEncoderLayer(
                width, 4, 4 * width, activation="gelu", batch_first=True, norm_first=True
            )
            self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
            self.head = nn.Linear(width, 100)

        def forward(self, x):
            h = self.patches(x).flatten(2).transpose(1, 2)
            h = torch.cat([self.first.expand(x.shape[0], -1, -1), h], 1) + self.places
            return self.head(self.encoder(h)[:, 0])

    net = ViT().eval()
    model = compile.model(net)

    @compile.step
    def predict(x):
        with torch.no_grad():
            return torch.softmax(model(x), -1).max(-1).values.sum()

    data = itertools.cycle(torch.rand(4, 8, 3, 64, 64))
    return lambda: predict(next(data))
