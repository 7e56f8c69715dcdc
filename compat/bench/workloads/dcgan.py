"""A DCGAN on 32x32 images: two networks, two optimizers, batches of 16."""

import itertools


def build(torch, compile):
    nn, F = torch.nn, torch.nn.functional
    torch.manual_seed(0)
    generator = nn.Sequential(
        nn.ConvTranspose2d(64, 64, 4, 1, 0, bias=False), nn.BatchNorm2d(64), nn.ReLU(True),
        nn.ConvTranspose2d(64, 32, 4, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU(True),
        nn.ConvTranspose2d(32, 16, 4, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(True),
        nn.ConvTranspose2d(16, 3, 4, 2, 1, bias=False), nn.Tanh(),
    )  # fmt: skip
    critic = nn.Sequential(
        nn.Conv2d(3, 16, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, True),
        nn.Conv2d(16, 32, 4, 2, 1, bias=False), nn.BatchNorm2d(32), nn.LeakyReLU(0.2, True),
        nn.Conv2d(32, 64, 4, 2, 1, bias=False), nn.BatchNorm2d(64), nn.LeakyReLU(0.2, True),
        nn.Conv2d(64, 1, 4, 1, 0, bias=False), nn.Flatten(0),
    )  # fmt: skip
    opt_g = torch.optim.Adam(generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    opt_d = torch.optim.Adam(critic.parameters(), lr=2e-4, betas=(0.5, 0.999))
    make, judge = compile.model(generator), compile.model(critic)

    @compile.step
    def train(real):
        ones, zeros = torch.ones(real.shape[0]), torch.zeros(real.shape[0])
        opt_d.zero_grad()
        loss_real = F.binary_cross_entropy_with_logits(judge(real), ones)
        loss_real.backward()
        fake = make(torch.randn(real.shape[0], 64, 1, 1))
        loss_fake = F.binary_cross_entropy_with_logits(judge(fake.detach()), zeros)
        loss_fake.backward()
        opt_d.step()
        opt_g.zero_grad()
        loss_g = F.binary_cross_entropy_with_logits(judge(fake), ones)
        loss_g.backward()
        opt_g.step()
        return loss_real + loss_fake + loss_g

    data = itertools.cycle(torch.rand(4, 16, 3, 32, 32) * 2 - 1)
    return lambda: train(next(data))
