"""A 2-layer LSTM language model over characters, Adam with gradient clipping."""

import itertools


def build(torch, compile):
    nn, F = torch.nn, torch.nn.functional
    torch.manual_seed(0)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Embedding(65, 64), nn.Linear(128, 65)
            self.lstm = nn.LSTM(64, 128, num_layers=2, batch_first=True)

        def forward(self, x):
            return self.head(self.lstm(self.embed(x))[0])

    net = Model()
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    model = compile.model(net)

    @compile.step
    def train(tokens):
        loss = F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        return loss

    data = itertools.cycle(torch.randint(0, 65, (4, 16, 33)))
    return lambda: train(next(data))
