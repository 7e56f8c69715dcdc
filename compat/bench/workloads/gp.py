"""The marginal likelihood of a Gaussian process, maximised in its three parameters; float64, 128 points."""

import math

EVERY = 10


def build(torch, compile):
    torch.manual_seed(0)
    n = 128
    x = torch.linspace(0, 4, n, dtype=torch.float64)
    y = torch.sin(3 * x) + 0.1 * torch.randn(n, dtype=torch.float64)
    length, scale, noise = (torch.zeros((), dtype=torch.float64, requires_grad=True) for _ in range(3))
    optimizer = torch.optim.Adam([length, scale, noise], lr=0.02)

    def likelihood():
        distance = (x[:, None] - x[None, :]) / length.exp()
        kernel = scale.exp() * torch.exp(-0.5 * distance**2) + (noise.exp() + 1e-4) * torch.eye(n, dtype=torch.float64)
        factor = torch.linalg.cholesky(kernel)
        alpha = torch.cholesky_solve(y[:, None], factor)[:, 0]
        return 0.5 * y @ alpha + factor.diagonal().log().sum() + 0.5 * n * math.log(2 * math.pi)

    likelihood = compile.model(likelihood)

    @compile.step
    def train():
        optimizer.zero_grad()
        loss = likelihood()
        loss.backward()
        optimizer.step()
        return loss

    return train
