"""Convolutions and batch norm in float32 against torch: values, gradients and gradients of gradients, at every kind of
geometry. With the extra `onednn` installed this judges the kernels, without it the forms that XLA compiles."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import jtorch

# Function, input, weight, bias or not, options.
CASES = {
    "1d": ("conv1d", (3, 4, 12), (8, 4, 3), True, {}),
    "1d strided": ("conv1d", (3, 4, 12), (8, 2, 3), False, dict(stride=2, padding=2, dilation=2, groups=2)),
    "1d depthwise": ("conv1d", (3, 6, 12), (6, 1, 4), True, dict(padding=3, groups=6)),
    "1d transposed": ("conv_transpose1d", (3, 4, 7), (4, 6, 3), True, dict(stride=2, padding=1, output_padding=1)),
    "2d": ("conv2d", (2, 8, 7, 6), (16, 8, 3, 3), True, dict(padding=1)),
    "2d same": ("conv2d", (2, 8, 7, 6), (16, 8, 4, 3), True, dict(padding="same", dilation=(1, 2))),
    "2d image": ("conv2d", (2, 3, 9, 9), (16, 3, 3, 3), False, dict(stride=2, padding=1)),
    "2d patches": ("conv2d", (2, 3, 8, 8), (16, 3, 4, 4), True, dict(stride=4)),
    "2d one tap": ("conv2d", (2, 16, 7, 6), (8, 16, 1, 1), False, dict(stride=2)),
    "2d groups": ("conv2d", (2, 6, 7, 6), (9, 2, 3, 2), True, dict(stride=(1, 2), padding=(0, 1), groups=3)),
    "2d depthwise": ("conv2d", (2, 16, 7, 6), (16, 1, 3, 3), False, dict(padding=1, groups=16)),
    "2d depthwise strided": ("conv2d", (11, 6, 9, 8), (6, 1, 5, 5), True, dict(stride=(2, 3), padding=2, groups=6)),
    "2d depthwise wide": ("conv2d", (2, 6, 9, 8), (6, 1, 7, 7), True, dict(padding=3, groups=6)),
    "2d depthwise holes": ("conv2d", (3, 6, 9, 8), (18, 1, 3, 3), False, dict(stride=2, padding=2, dilation=2, groups=6)),
    "2d wide groups": ("conv2d", (2, 20, 7, 6), (16, 10, 3, 3), True, dict(stride=2, padding=1, groups=2)),
    "2d many wide groups": ("conv2d", (2, 90, 4, 3), (90, 9, 3, 3), True, dict(padding=1, groups=10)),
    "2d one tap groups": ("conv2d", (2, 8, 7, 6), (12, 4, 1, 1), True, dict(stride=(1, 2), groups=2)),
    "2d holes": ("conv2d", (2, 5, 9, 9), (7, 5, 3, 3), True, dict(stride=2, padding=2, dilation=(2, 3))),
    "2d one sample": ("conv2d", (8, 7, 6), (16, 8, 3, 3), True, {}),
    "2d transposed": ("conv_transpose2d", (2, 16, 5, 4), (16, 8, 4, 4), True, dict(stride=2, padding=1)),
    "2d transposed image": ("conv_transpose2d", (2, 16, 5, 4), (16, 3, 4, 4), False, dict(stride=2, padding=1)),
    "2d transposed groups": (
        "conv_transpose2d", (2, 6, 5, 4), (6, 4, 3, 3), True, dict(stride=(2, 1), dilation=2, groups=3)
    ),
    "2d transposed depthwise": ("conv_transpose2d", (2, 6, 5, 4), (6, 1, 4, 3), True, dict(stride=2, padding=1, groups=6)),
    "3d": ("conv3d", (2, 4, 4, 5, 6), (8, 4, 3, 2, 3), True, dict(padding=(1, 0, 1))),
    "3d depthwise": ("conv3d", (2, 4, 4, 5, 6), (4, 1, 3, 2, 3), True, dict(stride=(1, 2, 2), padding=1, groups=4)),
    "3d transposed": ("conv_transpose3d", (1, 4, 3, 3, 4), (4, 8, 2, 2, 2), True, dict(stride=2)),
}  # fmt: skip
# Whose second derivatives are compared as well.
STEEP = (
    "2d", "2d groups", "2d depthwise strided", "2d depthwise wide", "2d many wide groups", "2d transposed",
    "2d transposed depthwise",
)  # fmt: skip
BATCHES = [(4, 6), (3, 5, 4), (2, 16, 5, 6), (2, 3, 4, 2, 3)]


def _gradients(lib, run, arrays, steep):
    """What `run` gives of leaves of the arrays; the gradients of a loss; where `steep`, their gradients."""
    leaves = [lib.tensor(a, requires_grad=True) for a in arrays]
    y = run(lib, *leaves)
    first = lib.autograd.grad((y**2).sum() + y.sin().sum(), leaves, create_graph=steep)
    second = lib.autograd.grad(sum((g**2).sum() for g in first), leaves) if steep else ()
    return [t.detach().numpy() for t in (y, *first, *second)]


def _compare(run, *shapes, steep=False):
    draw = np.random.default_rng(0).standard_normal
    arrays = [draw(s).astype(np.float32) for s in shapes]
    for theirs, ours in zip(*(_gradients(lib, run, arrays, steep) for lib in (torch, jtorch)), strict=True):
        assert theirs.dtype == ours.dtype
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=3e-5 * max(1.0, float(abs(theirs).max())))


@pytest.mark.parametrize("name", CASES)
def test_convolution(name):
    function, x, w, biased, options = CASES[name]
    out = w[1] * options.get("groups", 1) if "transpose" in function else w[0]

    def run(lib, *leaves):
        return getattr(lib.nn.functional, function)(*leaves, **options)

    _compare(run, x, w, *[(out,)] * biased, steep=name in STEEP)


@pytest.mark.parametrize("view", ["transposed", "strided", "flipped"])
def test_inputs_that_are_not_contiguous(view):
    def run(lib, x, w):
        taken = {"transposed": lambda: x.transpose(1, 3), "strided": lambda: x.transpose(1, 3)[:, ::2].repeat(1, 2, 1, 1),
                 "flipped": lambda: x.permute(0, 3, 2, 1).flip(2)}[view]()  # fmt: skip
        return lib.nn.functional.conv2d(taken, w.transpose(2, 3), padding=1)

    _compare(run, (2, 7, 6, 8), (16, 8, 3, 2))


def test_empty_batch():
    def run(lib):
        conv = lib.nn.Conv2d(3, 4, 3)
        x = lib.zeros(0, 3, 6, 6, requires_grad=True)
        y = conv(x)
        y.sum().backward()
        return y.shape, x.grad.shape, conv.weight.grad.abs().sum().item()

    assert run(torch) == run(jtorch)


@pytest.mark.parametrize("shape", BATCHES)
@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm(shape, affine):
    def run(lib, x, *parameters):
        w, b = parameters or (None, None)
        mean, var = lib.zeros(shape[1]), lib.ones(shape[1])
        y = lib.nn.functional.batch_norm(3 * x + 2, mean, var, w, b, True, 0.3, 1e-4)
        return lib.cat([y.flatten(), mean, var])

    _compare(run, shape, *[(shape[1],)] * 2 * affine, steep=shape == BATCHES[1])


def test_training_a_network():
    """The kernels' layout goes through pooling, residuals and reshaping; a step's program has them all."""

    def run(lib):
        nn = lib.nn
        lib.manual_seed(0)
        first = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2))
        second = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8))
        last = nn.Sequential(nn.ConvTranspose2d(8, 4, 2, 2), nn.Flatten(), nn.Linear(4 * 64, 5))
        net = nn.ModuleList([first, second, last])
        optimizer = lib.optim.SGD(net.parameters(), lr=0.02, momentum=0.9)
        x, target = lib.randn(6, 1, 8, 8), lib.randint(0, 5, (6,))
        losses = []
        for _ in range(6):
            optimizer.zero_grad()
            h = first(x)
            loss = nn.functional.cross_entropy(last(lib.relu(h + second(h))), target)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses

    np.testing.assert_allclose(run(jtorch), run(torch), rtol=2e-4)
