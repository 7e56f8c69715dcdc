"""Matrix factorisation with an MLP on top: two embedding tables, Adam, batches of 256."""

import itertools

EVERY = 10


def build(torch, compile):
    nn, F = torch.nn, torch.nn.functional
    torch.manual_seed(0)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.users, self.items = nn.Embedding(2000, 32), nn.Embedding(3000, 32)
            self.bias = nn.Embedding(3000, 1)
            self.mlp = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.0), nn.Linear(64, 1))

        def forward(self, user, item):
            u, i = self.users(user), self.items(item)
            return ((u * i).sum(-1, keepdim=True) + self.bias(item) + self.mlp(torch.cat([u, i], -1))).squeeze(-1)

    net = Model()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    model = compile.model(net)
    user, item = torch.randint(0, 2000, (8, 256)), torch.randint(0, 3000, (8, 256))
    rating = ((user * 7 + item * 3) % 5).float()

    @compile.step
    def train(user, item, rating):
        optimizer.zero_grad()
        loss = F.mse_loss(model(user, item), rating)
        loss.backward()
        optimizer.step()
        return loss

    data = itertools.cycle(list(zip(user, item, rating)))
    return lambda: train(*next(data))
