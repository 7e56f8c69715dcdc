"""The convolution's three maps: the forms chosen on the CPU against XLA's plain ones, and what JAX does with them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jtorch._ops import _bilinear, _conv_direct, _conv_forms
from jtorch._ops._conv_geometry import Geometry
from jtorch._runtime import devices, kernel

CASES = {
    "plain": ((2, 5), (6, 5), (9, 8), (3, 3), (1, 1), (1, 0), (1, 1), 1),
    "few channels": ((2, 2), (6, 2), (9, 8), (3, 3), (2, 1), (1, 0), (1, 2), 1),
    "one tap": ((2, 5), (6, 5), (9, 8), (1, 1), (2, 3), (0, 0), (1, 1), 1),
    "whole": ((2, 5), (6, 5), (4, 3), (4, 3), (1, 1), (0, 0), (1, 1), 1),
    "patches": ((2, 5), (6, 5), (9, 8), (4, 4), (4, 4), (0, 0), (1, 1), 1),
    "even stride": ((2, 5), (6, 5), (16, 16), (4, 4), (2, 2), (1, 1), (1, 1), 1),
    "patches to the edge": ((2, 5), (6, 5), (8, 9), (4, 3), (4, 3), (0, 0), (1, 1), 1),
    "a patch a row": ((2, 5), (6, 5), (8, 9), (8, 3), (1, 3), (0, 0), (1, 1), 1),
    "few results": ((2, 5), (6, 5), (9, 8), (3, 3), (1, 1), (1, 1), (1, 1), 1),
    "few results, stride": ((2, 5), (12, 5), (9, 12), (2, 3), (1, 2), (0, 1), (1, 1), 1),
    "holes": ((2, 5), (6, 5), (9, 8), (2, 3), (3, 2), (1, 2), (2, 3), 1),
    "groups": ((2, 6), (4, 3), (9, 8), (3, 2), (2, 2), (1, 1), (1, 1), 2),
    "depthwise": ((2, 6), (6, 1), (9, 8), (3, 2), (2, 1), (1, 1), (1, 1), 6),
    "depthwise, some rest": ((11, 6), (12, 1), (5, 8), (3, 5), (2, 3), (1, 2), (2, 1), 6),
    "depthwise, stride past the kernel": ((2, 6), (6, 1), (9, 8), (2, 2), (5, 3), (0, 0), (1, 1), 6),
    "depthwise, wide padding": ((3, 6), (6, 1), (4, 4), (2, 2), (1, 2), (3, 3), (1, 1), 6),
    "stride past the kernel": ((2, 5), (6, 5), (9, 8), (2, 2), (5, 3), (0, 0), (1, 1), 1),
    "wide padding": ((2, 5), (6, 5), (4, 4), (2, 2), (1, 2), (3, 3), (1, 1), 1),
    "groups of one tap": ((2, 6), (8, 3), (9, 8), (1, 1), (1, 2), (0, 0), (1, 1), 2),
    "groups past the sums": ((2, 20), (6, 10), (9, 8), (3, 3), (2, 1), (1, 0), (1, 1), 2),
    "many groups past the sums": ((2, 90), (90, 9), (4, 3), (3, 3), (2, 2), (1, 1), (1, 1), 10),
    "wide groups": ((2, 6), (8, 3), (9, 8), (3, 2), (1, 1), (1, 0), (1, 2), 2),
    "padding past the groups' kernel": ((2, 6), (8, 3), (9, 8), (2, 2), (1, 1), (3, 2), (1, 1), 2),
    "few channels, many results": ((2, 2), (40, 2), (9, 8), (3, 3), (1, 1), (1, 0), (1, 2), 1),
    "deep": ((2, 5), (6, 5), (7, 6, 5), (3, 2, 3), (1, 1, 1), (1, 0, 1), (1, 2, 1), 1),
    "deep with stride": ((2, 5), (6, 5), (7, 6, 5), (3, 2, 3), (2, 1, 3), (1, 0, 1), (2, 1, 1), 1),
    "deep groups": ((2, 6), (8, 3), (7, 6, 5), (3, 2, 3), (2, 1, 1), (1, 0, 1), (1, 1, 1), 2),
    "line": ((2, 5), (6, 5), (30,), (3,), (2,), (1,), (1,), 1),
    "line, few channels": ((2, 2), (6, 2), (80,), (3,), (1,), (1,), (2,), 1),
    "many phases": ((1, 5), (6, 5), (40, 40), (7, 7), (6, 6), (1, 1), (2, 2), 1),
}


def _case(name):
    left, right, spatial, kernel, stride, padding, dilation, groups = CASES[name]
    at = Geometry(spatial, kernel, stride, tuple((p, p) for p in padding), dilation, groups)
    draw = np.random.default_rng(0).standard_normal
    return draw((*left, *spatial)), draw((*right, *kernel)), draw((left[0], right[0], *at.out)), at


@pytest.fixture(params=["as measured", "in pieces"])
def _limits(request, monkeypatch):
    if request.param == "in pieces":
        for name, value in dict(SMALL=0, LONG=0, MANY=0, PIECE=8, NARROW=0).items():
            monkeypatch.setattr(_conv_forms, name, value)
        for name, value in dict(AT_ONCE=2, TAPS=2, SAMPLES=1).items():
            monkeypatch.setattr(_conv_direct, name, value)
    jax.clear_caches()


@pytest.mark.usefixtures("_limits")
@pytest.mark.parametrize("name", CASES)
def test_forms_agree(name):
    x, w, g, at = _case(name)
    for ours, plain, args in (
        (_bilinear.correlate, _conv_forms.correlate, (x, w)),
        (_bilinear.spread_back, _conv_forms.spread_back, (g, w)),
        (_bilinear.taps_of, _conv_forms.taps_of, (x, g)),
    ):
        np.testing.assert_allclose(ours(*map(jnp.asarray, args), at), plain(*args, at), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["even stride", "groups"])
def test_transformations(name):
    x, w, _, at = _case(name)

    def through(conv):
        def loss(x, w):
            return (jnp.sin(conv(x, w, at)) ** 2).sum()

        def steep(x, w):
            return sum((g**2).sum() for g in jax.grad(loss, (0, 1))(x, w))

        many = jnp.stack([x, 2 * x]), jnp.stack([w, 0.5 * w])
        return [
            jax.jvp(loss, (x, w), (w.sum() * x, w)),
            jax.grad(steep, (0, 1))(x, w),
            jax.jvp(jax.grad(loss), (x, w), (x, w)),
            jax.vmap(jax.grad(loss, (0, 1)), (0, None))(many[0], w),
            jax.vmap(jax.grad(loss, (0, 1)))(*many),
        ]

    for ours, plain in zip(*(jax.tree.leaves(through(m.correlate)) for m in (_bilinear, _conv_forms)), strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-8, atol=1e-8)


@pytest.mark.skipif(jax.__version__ not in kernel.MEASURED, reason="the options are those that this JAX has")
@pytest.mark.skipif(jax.default_backend() != "cpu", reason="what XLA does for the CPU")
def test_large_arrays_are_transposed_apart():
    """Hot programs keep the barriers around a convolution's transposes, which XLA drops by default."""
    at = Geometry((32, 32), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1)
    x, w = np.ones((2, 32, 32, 32), np.float32), np.ones((32, 32, 3, 3), np.float32)
    options = kernel.compiler_options(devices.CPU, False)
    step = jax.jit(lambda x, w: _bilinear.correlate(x * 2, w, at) + 1, compiler_options=options)
    assert "opt-barrier" in step.lower(x, w).compile().as_text()
