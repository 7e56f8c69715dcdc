"""A neural ODE: twenty steps of Runge-Kutta 4 with Python numbers as coefficients, fitted to a spiral."""


def build(torch, compile):
    nn = torch.nn
    torch.manual_seed(0)
    field = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 2))
    optimizer = torch.optim.Adam(field.parameters(), lr=1e-2)
    dt, steps = 0.1, 20
    start = torch.randn(16, 2)
    times = torch.arange(1, steps + 1) * dt
    angle = torch.stack([torch.stack([times.cos(), times.sin()], -1), torch.stack([-times.sin(), times.cos()], -1)], 1)
    target = torch.einsum("bi,tij->tbj", start, angle) * torch.exp(-0.2 * times)[:, None, None]

    def solve(y):
        path = []
        for _ in range(steps):
            k1 = field(y)
            k2 = field(y + 0.5 * dt * k1)
            k3 = field(y + 0.5 * dt * k2)
            k4 = field(y + dt * k3)
            y = y + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
            path.append(y)
        return torch.stack(path)

    solve = compile.model(solve)

    @compile.step
    def train():
        optimizer.zero_grad()
        loss = (solve(start) - target).abs().mean()
        loss.backward()
        optimizer.step()
        return loss

    return train
