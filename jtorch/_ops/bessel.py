"""Bessel functions and Airy's, in float64 inside: Chebyshev sums near zero, and in 1/x beyond."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import jax.numpy as jnp
from jax import lax

from jtorch._ops import _bessel_tables as tables
from jtorch._ops._common import Array
from jtorch._ops._numeric import refuse, refuse_half
from jtorch._ops.registry import op
from jtorch._runtime.dtypes import COMPLEX

_BESSEL_EDGE = 8.0  # where the sums in x give way to those in 1/x
_MODIFIED_EDGE = 2.0
_AIRY_LEFT, _AIRY_RIGHT = -6.0, 2.0
_AIRY_LAST = 103.892  # beyond it torch says 0


def _chebyshev(coefficients: tuple[float, ...], u: Array) -> Array:
    """The sum of coefficients[k] * T_k(u), by Clenshaw's recurrence."""
    ahead = behind = jnp.zeros_like(u)
    for c in reversed(coefficients[1:]):
        ahead, behind = 2 * u * ahead - behind + c, ahead
    return u * ahead - behind + coefficients[0]


def _declare(fn: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """An operation of torch.special on real tensors, without a gradient, worked out in float64."""
    name = fn.__name__

    @functools.wraps(fn)
    def run(input: Array) -> Array:
        refuse(f"{name}_cpu", input, COMPLEX)
        refuse_half(f"{name}_cpu", input)
        return fn(input.astype(jnp.float64)).astype(input.dtype)

    facts = {"promote": "float", "function": False, "namespaces": ("special",), "differentiable": False}
    return op(key=f"special.{name}", name=name, **facts)(run)


# ----------------------------------------------------------------------------------------- of the first two kinds


def _near(x: Array) -> tuple[Array, Array]:
    """|x| cut off at the edge, and where its square lies in [-1, 1]."""
    inner = jnp.minimum(jnp.abs(x), _BESSEL_EDGE)
    return inner, 2 * (inner / _BESSEL_EDGE) ** 2 - 1


def _far(order: int, x: Array) -> tuple[Array, Array, Array]:
    """The amplitude, cosine and sine parts of the oscillation beyond the edge: J is their product's real part."""
    outer = jnp.maximum(jnp.abs(x), _BESSEL_EDGE)
    u = 2 * (_BESSEL_EDGE / outer) ** 2 - 1
    p, q = (tables.P0, tables.Q0) if order == 0 else (tables.P1, tables.Q1)
    p, q = _chebyshev(p, u), _chebyshev(q, u) / outer
    phase = outer - (2 * order + 1) * math.pi / 4
    cos, sin = jnp.cos(phase), jnp.sin(phase)
    return jnp.sqrt(2 / (math.pi * outer)), p * cos - q * sin, p * sin + q * cos


def _first(order: int, x: Array) -> Array:
    """J of order 0 or 1, for positive numbers."""
    inner, u = _near(x)
    near = _chebyshev(tables.J0, u) if order == 0 else inner * _chebyshev(tables.J1, u)
    amplitude, cos, _ = _far(order, x)
    return jnp.where(jnp.abs(x) <= _BESSEL_EDGE, near, amplitude * cos)


def _second(order: int, x: Array) -> Array:
    """Y of order 0 or 1: -inf at 0, nan below."""
    inner, u = _near(x)
    log = 2 / math.pi * jnp.log(inner / 2) * _first(order, inner)
    near = _chebyshev(tables.Y0, u) + log
    if order == 1:
        near = inner * _chebyshev(tables.Y1, u) + log - 2 / (math.pi * inner)
    amplitude, _, sin = _far(order, x)
    value = jnp.where(x <= _BESSEL_EDGE, near, amplitude * sin)
    return jnp.where(x == 0, -math.inf, jnp.where(x < 0, math.nan, value))


@_declare
def bessel_j0(input: Array) -> Array:
    """The Bessel function of the first kind of order 0."""
    return _first(0, input)


@_declare
def bessel_j1(input: Array) -> Array:
    """The Bessel function of the first kind of order 1."""
    return jnp.copysign(1.0, input) * _first(1, input)


@_declare
def bessel_y0(input: Array) -> Array:
    """The Bessel function of the second kind of order 0."""
    return _second(0, input)


@_declare
def bessel_y1(input: Array) -> Array:
    """The Bessel function of the second kind of order 1."""
    return _second(1, input)


@_declare
def spherical_bessel_j0(input: Array) -> Array:
    """sin(input) / input: 1 at 0, 0 at infinity."""
    small = jnp.abs(input) < 0.5
    inner, outer = jnp.where(small, input, 0), jnp.where(small | jnp.isinf(input), 1, input)
    square = inner * inner
    series = jnp.ones_like(square)
    for k in range(8, 0, -1):
        series = 1 - square / (2 * k * (2 * k + 1)) * series
    return jnp.where(small, series, jnp.where(jnp.isinf(input), 0, jnp.sin(outer) / outer))


# ------------------------------------------------------------------------------------------------------- modified


def _modified_first(order: int, x: Array) -> Array:
    scaled = lax.bessel_i0e(x) if order == 0 else lax.bessel_i1e(x)
    return jnp.where(jnp.isinf(x), math.nan, jnp.exp(jnp.abs(x)) * scaled)


def _modified_second(order: int, x: Array, *, scaled: bool) -> Array:
    """K of order 0 or 1, times exp(x) if scaled: inf at 0, nan below."""
    inner, outer = jnp.clip(x, 0, _MODIFIED_EDGE), jnp.maximum(x, _MODIFIED_EDGE)
    u = 2 * (inner / _MODIFIED_EDGE) ** 2 - 1
    log = jnp.log(inner / 2) * _modified_first(order, inner)
    near = _chebyshev(tables.K0, u) - log if order == 0 else inner * _chebyshev(tables.K1, u) + log + 1 / inner
    beyond = tables.K0_LARGE if order == 0 else tables.K1_LARGE
    far = _chebyshev(beyond, 2 * _MODIFIED_EDGE / outer - 1) / jnp.sqrt(outer)
    near, far = (near * jnp.exp(inner), far) if scaled else (near, far * jnp.exp(-outer))
    value = jnp.where(x <= _MODIFIED_EDGE, near, far)
    return jnp.where(x == 0, math.inf, jnp.where(x < 0, math.nan, value))


@_declare
def modified_bessel_i0(input: Array) -> Array:
    """The modified Bessel function of the first kind of order 0."""
    return _modified_first(0, input)


@_declare
def modified_bessel_i1(input: Array) -> Array:
    """The modified Bessel function of the first kind of order 1."""
    return _modified_first(1, input)


@_declare
def modified_bessel_k0(input: Array) -> Array:
    """The modified Bessel function of the second kind of order 0."""
    return _modified_second(0, input, scaled=False)


@_declare
def modified_bessel_k1(input: Array) -> Array:
    """The modified Bessel function of the second kind of order 1."""
    return _modified_second(1, input, scaled=False)


@_declare
def scaled_modified_bessel_k0(input: Array) -> Array:
    """exp(input) * modified_bessel_k0(input)."""
    return _modified_second(0, input, scaled=True)


@_declare
def scaled_modified_bessel_k1(input: Array) -> Array:
    """exp(input) * modified_bessel_k1(input)."""
    return _modified_second(1, input, scaled=True)


# ----------------------------------------------------------------------------------------------------------- Airy


def _airy_phase(x: Array) -> Array:
    return 2 / 3 * x * jnp.sqrt(x)


@_declare
def airy_ai(input: Array) -> Array:
    """Airy's function Ai."""
    middle = jnp.clip(input, _AIRY_LEFT, _AIRY_RIGHT)
    near = _chebyshev(tables.AIRY, (middle - (_AIRY_LEFT + _AIRY_RIGHT) / 2) / ((_AIRY_RIGHT - _AIRY_LEFT) / 2))

    right = jnp.maximum(input, _AIRY_RIGHT)
    z = _airy_phase(right)
    decay = _chebyshev(tables.AIRY_RIGHT, 2 * _airy_phase(jnp.asarray(_AIRY_RIGHT)) / z - 1)
    decay = jnp.where(right > _AIRY_LAST, 0, decay * jnp.exp(-z) / jnp.sqrt(jnp.sqrt(right)))

    left = -jnp.minimum(input, _AIRY_LEFT)
    z = _airy_phase(left)
    u = 2 * (_airy_phase(jnp.asarray(-_AIRY_LEFT)) / z) ** 2 - 1
    p, q = _chebyshev(tables.AIRY_P, u), _chebyshev(tables.AIRY_Q, u) / z
    phase = z + math.pi / 4
    wave = (jnp.sin(phase) * p - jnp.cos(phase) * q) / (math.sqrt(math.pi) * jnp.sqrt(jnp.sqrt(left)))

    value = jnp.where(input > _AIRY_RIGHT, decay, jnp.where(input < _AIRY_LEFT, wave, near))
    return jnp.where(jnp.isinf(input), math.nan, value)
