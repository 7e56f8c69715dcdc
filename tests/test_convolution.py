"""The convolution's three maps: the forms chosen on the CPU against XLA's plain ones, and what JAX does with them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jtorch._ops import _bilinear, _conv_forms
from jtorch._ops._conv_forms import Geometry

CASES = {
    "plain": ((2, 5), (6, 5), (9, 8), (3, 3), (1, 1), (1, 0), (1, 1), 1),
    "few channels": ((2, 2), (6, 2), (9, 8), (3, 3), (2, 1), (1, 0), (1, 2), 1),
    "one tap": ((2, 5), (6, 5), (9, 8), (1, 1), (2, 3), (0, 0), (1, 1), 1),
    "whole": ((2, 5), (6, 5), (4, 3), (4, 3), (1, 1), (0, 0), (1, 1), 1),
    "patches": ((2, 5), (6, 5), (9, 8), (4, 4), (4, 4), (0, 0), (1, 1), 1),
    "even stride": ((2, 5), (6, 5), (16, 16), (4, 4), (2, 2), (1, 1), (1, 1), 1),
    "holes": ((2, 5), (6, 5), (9, 8), (2, 3), (3, 2), (1, 2), (2, 3), 1),
    "groups": ((2, 6), (4, 3), (9, 8), (3, 2), (2, 2), (1, 1), (1, 1), 2),
    "depthwise": ((2, 6), (6, 1), (9, 8), (3, 2), (2, 1), (1, 1), (1, 1), 6),
    "stride past the kernel": ((2, 5), (6, 5), (9, 8), (2, 2), (5, 3), (0, 0), (1, 1), 1),
    "wide padding": ((2, 5), (6, 5), (4, 4), (2, 2), (1, 2), (3, 3), (1, 1), 1),
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
        for name, value in dict(SMALL=0, PIECE=64, MANY=0).items():
            monkeypatch.setattr(_conv_forms, name, value)
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
