"""Window functions of signal processing."""

from __future__ import annotations

import math

import jax.numpy as jnp
from jax.scipy.special import i0e

from jtorch._runtime import dtypes
from jtorch._tensor.base import Tensor
from jtorch._tensor.creation import make


def _window(
    name: str, length: int, periodic: bool, dtype, device, requires_grad: bool, shape, *numbers: float
) -> Tensor:
    """`shape(place, numbers)` over the places -1 ... 1 of a window; a periodic one leaves its last place out."""
    dtype = dtype or dtypes.get_default_dtype()
    if not dtype.is_floating_point:
        raise RuntimeError(f"{name} expects floating point dtypes, got: {dtype.name}")
    if length < 0:
        raise RuntimeError(f"{name} requires non-negative window_length, got window_length={length}")
    if length < 2:
        return make(name, (length,), dtype, device, _ones, requires_grad=requires_grad)
    span = length if periodic else length - 1

    def build(s, d, span):
        def fn(*numbers):
            wide = jnp.float64 if d == jnp.float64 else jnp.float32
            place = jnp.arange(s[0], dtype=wide) * (2 / span) - 1
            return shape(place, *[n.astype(wide) for n in numbers]).astype(d)

        return fn

    floats = tuple(map(float, numbers))
    return make(name, (length,), dtype, device, build, span, numbers=floats, requires_grad=requires_grad)


def _ones(s, d):
    return lambda: jnp.ones(s, d)


def hann_window(
    window_length: int,
    periodic: bool = True,
    *,
    dtype=None,
    layout=None,
    device=None,
    pin_memory=False,
    requires_grad=False,
) -> Tensor:
    """A raised cosine."""
    return hamming_window(
        window_length, periodic, 0.5, 0.5, dtype=dtype, device=device, requires_grad=requires_grad, _name="hann_window"
    )


def hamming_window(
    window_length: int, periodic: bool = True, alpha: float = 0.54, beta: float = 0.46, *, dtype=None, layout=None, device=None,
    pin_memory=False, requires_grad=False, _name="hamming_window",
) -> Tensor:  # fmt: skip
    """alpha + beta times a cosine that is 1 in the middle."""

    def shape(x, a, b):
        return a + b * jnp.cos(math.pi * x)

    return _window(_name, window_length, periodic, dtype, device, requires_grad, shape, alpha, beta)


def bartlett_window(
    window_length: int,
    periodic: bool = True,
    *,
    dtype=None,
    layout=None,
    device=None,
    pin_memory=False,
    requires_grad=False,
) -> Tensor:
    """A triangle."""
    return _window("bartlett_window", window_length, periodic, dtype, device, requires_grad, lambda x: 1 - jnp.abs(x))


def blackman_window(
    window_length: int,
    periodic: bool = True,
    *,
    dtype=None,
    layout=None,
    device=None,
    pin_memory=False,
    requires_grad=False,
) -> Tensor:
    """The sum of two cosines that Blackman chose."""

    def shape(x):
        return 0.42 + 0.5 * jnp.cos(math.pi * x) + 0.08 * jnp.cos(2 * math.pi * x)

    return _window("blackman_window", window_length, periodic, dtype, device, requires_grad, shape)


def kaiser_window(
    window_length: int,
    periodic: bool = True,
    beta: float = 12.0,
    *,
    dtype=None,
    layout=None,
    device=None,
    pin_memory=False,
    requires_grad=False,
) -> Tensor:
    """Kaiser's window: a Bessel function of a half circle, the narrower the greater beta."""

    def bessel(x):
        return i0e(x) * jnp.exp(x)

    def shape(x, b):
        return bessel(b * jnp.sqrt(jnp.maximum(1 - x * x, 0))) / bessel(b)

    return _window("kaiser_window", window_length, periodic, dtype, device, requires_grad, shape, beta)


FUNCTIONS = {f.__name__: f for f in (hann_window, hamming_window, bartlett_window, blackman_window, kaiser_window)}
