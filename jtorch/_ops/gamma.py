"""Special functions of one tensor (and zeta): error functions, gamma's family, Bessel functions, the normal law."""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy.special as jsp
from jax import lax

from jtorch._ops._common import Array, Operand
from jtorch._ops._numeric import alias, in_float32, refuse, refuse_half
from jtorch._ops.registry import op
from jtorch._runtime.dtypes import BOOL, COMPLEX

# ------------------------------------------------------------------------------------------------ error functions


@op(promote="float", method=True, inplace=True, namespaces=("special",))
@in_float32
def erf(input: Array) -> Array:
    """The error function."""
    refuse("erf_vml_cpu", input, COMPLEX)
    return lax.erf(input)


@op(promote="float", method=True, inplace=True, namespaces=("special",))
@in_float32
def erfc(input: Array) -> Array:
    """1 - erf(input), exact where that is small."""
    refuse("erfc_vml_cpu", input, COMPLEX)
    return lax.erfc(input)


@op(promote="float", method=True, inplace=True, namespaces=("special",))
@in_float32
def erfinv(input: Array) -> Array:
    """The inverse of erf: inf at 1, -inf at -1, nan outside."""
    refuse("erfinv_vml_cpu", input, COMPLEX)
    return lax.erf_inv(input)


# ------------------------------------------------------------------------------------------------- gamma's family


@jax.custom_jvp
def _hurwitz(s: Array, q: Array) -> Array:
    """The sum of (q + k) ** -s over k from 0, for negative q (and whole s) too."""
    # XLA's is for positive q. Below, the terms before the sign changes are, mirrored, a difference of two such sums.
    part = q - jnp.floor(q)
    below = q < 0
    inner = jnp.where(part > 0, part, 0.5)
    mirrored = lax.zeta(s, 1 - inner) - lax.zeta(s, jnp.where(below, 1 - q, 1))
    whole = lax.zeta(s, jnp.where(below, inner, q)) + jnp.where(below, jnp.where(s % 2 == 0, 1, -1) * mirrored, 0)
    pole = (s == 1) | ((s > 1) & (q <= 0) & (part == 0))
    return jnp.where(pole, math.inf, jnp.where((s < 1) | (below & (s != jnp.floor(s))), math.nan, whole))


@_hurwitz.defjvp
def _hurwitz_jvp(primals, tangents):
    (s, q), (_, dq) = primals, tangents
    return _hurwitz(s, q), -s * _hurwitz(s + 1, q) * dq


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _polygamma(n: int, x: Array) -> Array:
    """The n-th derivative of digamma. Each is the next one's integral, so derivatives of any order are exact."""
    if n == 0:
        # At a pole with a sign, torch follows the sign.
        return jnp.where(x == 0, jnp.copysign(jnp.asarray(math.inf, x.dtype), -x), lax.digamma(x))
    if n == 1:
        # zeta is for positive numbers: below, reflect.
        low = x < 0.5
        series = lax.zeta(jnp.full_like(x, 2), jnp.where(low, 1 - x, x))
        turn = jnp.sin(math.pi * jnp.where(low, x, 0.5))
        return jnp.where(low, (math.pi / turn) ** 2 - series, series)
    sign = 1 if n % 2 else -1
    return sign * float(math.factorial(n)) * _hurwitz(jnp.full_like(x, n + 1), x)


@_polygamma.defjvp
def _polygamma_jvp(n, primals, tangents):
    (x,), (dx,) = primals, tangents
    return _polygamma(n, x), _polygamma(n + 1, x) * dx


@jax.custom_jvp
def _lgamma(x: Array) -> Array:
    return lax.lgamma(x)


@_lgamma.defjvp
def _lgamma_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    return _lgamma(x), _polygamma(0, x) * dx


@op(promote="float", method=True, inplace=True)
@in_float32
def lgamma(input: Array) -> Array:
    """The logarithm of the absolute value of the gamma function."""
    refuse("lgamma_vml_cpu", input, COMPLEX)
    return _lgamma(input)


@op(promote="float", method=True, inplace=True, namespaces=("special",))
@in_float32
def digamma(input: Array) -> Array:
    """The derivative of lgamma."""
    refuse("digamma", input, COMPLEX)
    return _polygamma(0, input)


@op(promote="float", namespaces=("special",))
@in_float32
def polygamma(n: int, input: Array) -> Array:
    """The n-th derivative of digamma. RuntimeError for a negative n."""
    if n < 0:
        raise RuntimeError("polygamma(n, x) does not support negative n.")
    refuse(("digamma", "trigamma")[n] if n < 2 else "polygamma", input, COMPLEX)
    return _polygamma(n, input)


@op(key="polygamma.method", name="polygamma", promote="float", function=False, method=True, inplace=True)
def polygamma_method(input: Array, n: int) -> Array:
    """`Tensor.polygamma(n)`."""
    return polygamma(n, input)


@op(promote="float", method=True, inplace=True)
@in_float32
def mvlgamma(input: Array, p: int) -> Array:
    """The logarithm of the multivariate gamma function of dimension p. RuntimeError for p below 1."""
    if p < 1:
        raise RuntimeError("p has to be greater than or equal to 1")
    refuse("arange_cpu", input, BOOL, COMPLEX)
    shifts = jnp.arange(p, dtype=input.dtype) / 2
    return _lgamma(input[..., None] - shifts).sum(-1) + p * (p - 1) / 4 * math.log(math.pi)


@op(key="special.zeta", name="zeta", promote="float", function=False, namespaces=("special",),
    grad_name="SpecialZetaBackward0")  # fmt: skip
def zeta(input: Operand, other: Operand) -> Array:
    """Hurwitz' zeta: the sum of `(other + k) ** -input` over k from 0. Differentiable in `other` alone."""
    refuse("zeta_cpu", input, COMPLEX)
    refuse_half("zeta_cpu", input)
    return _hurwitz(*jnp.broadcast_arrays(input, other))


# ----------------------------------------------------------------------------------------------- Bessel functions


@op(promote="float", method=True, inplace=True, namespaces=("special",))
@in_float32
def i0(input: Array) -> Array:
    """The modified Bessel function of order 0."""
    refuse("i0_vml_cpu", input, COMPLEX)
    return _i0(input)


@jax.custom_jvp
def _i0(x: Array) -> Array:
    return jnp.exp(jnp.abs(x)) * lax.bessel_i0e(x)


@_i0.defjvp
def _i0_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    return _i0(x), _i1(x) * dx


@jax.custom_jvp
def _i1(x: Array) -> Array:
    return jnp.exp(jnp.abs(x)) * lax.bessel_i1e(x)


@_i1.defjvp
def _i1_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    y = _i1(x)
    zero = x == 0
    slope = jnp.where(zero, 0.5, _i0(x) - y / jnp.where(zero, 1, x))
    return y, slope * dx


@op(key="special.i0e", name="i0e", promote="float", function=False, namespaces=("special",), saves="output",
    grad_name="SpecialI0EBackward0")  # fmt: skip
@in_float32
def i0e(input: Array) -> Array:
    """exp(-|input|) * i0(input)."""
    refuse("i0e_cpu", input, COMPLEX)
    return lax.bessel_i0e(input)


@op(key="special.i1", name="i1", promote="float", function=False, namespaces=("special",), saves="output",
    grad_name="SpecialI1Backward0")  # fmt: skip
@in_float32
def i1(input: Array) -> Array:
    """The modified Bessel function of order 1."""
    refuse("i1_cpu", input, COMPLEX)
    return _i1(input)


@op(key="special.i1e", name="i1e", promote="float", function=False, namespaces=("special",), saves="output",
    grad_name="SpecialI1EBackward0")  # fmt: skip
@in_float32
def i1e(input: Array) -> Array:
    """exp(-|input|) * i1(input)."""
    refuse("i1e_cpu", input, COMPLEX)
    return lax.bessel_i1e(input)


# ----------------------------------------------------------------------------------------- normal law and entropy


@op(key="special.ndtr", name="ndtr", promote="float", function=False, namespaces=("special",),
    grad_name="MulBackward0")  # fmt: skip
@in_float32
def ndtr(input: Array) -> Array:
    """The standard normal distribution function. Unlike torch's it keeps its precision in the lower tail."""
    refuse("erf_vml_cpu", input, COMPLEX)
    return 0.5 * lax.erfc(input * -math.sqrt(0.5))


@jax.custom_jvp
def _ndtri(p: Array) -> Array:
    return jsp.ndtri(p)


@_ndtri.defjvp
def _ndtri_jvp(primals, tangents):
    (p,), (dp,) = primals, tangents
    y = _ndtri(p)
    return y, math.sqrt(2 * math.pi) * jnp.exp(y * y / 2) * dp


@op(key="special.ndtri", name="ndtri", promote="float", function=False, namespaces=("special",), saves="output",
    grad_name="SpecialNdtriBackward0")  # fmt: skip
def ndtri(input: Array) -> Array:
    """The inverse of ndtr: -inf at 0, inf at 1, nan outside."""
    refuse("ndtri_cpu", input, COMPLEX)
    refuse_half("ndtri_cpu", input)
    return _ndtri(input)


@op(key="special.log_ndtr", name="log_ndtr", promote="float", function=False, namespaces=("special",),
    saves="output", grad_name="SpecialLogNdtrBackward0")  # fmt: skip
def log_ndtr(input: Array) -> Array:
    """The logarithm of ndtr, precise far into the lower tail."""
    refuse("log_ndtr_cpu", input, COMPLEX)
    refuse_half("log_ndtr_cpu", input)
    return jsp.log_ndtr(input)


@jax.custom_jvp
def _entr(x: Array) -> Array:
    positive = x > 0
    value = -x * jnp.log(jnp.where(positive, x, 1))
    return jnp.where(x < 0, -math.inf, jnp.where(x == 0, 0, value))


@_entr.defjvp
def _entr_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    return _entr(x), (-jnp.log(x) - 1) * dx


@op(key="special.entr", name="entr", promote="float", function=False, namespaces=("special",),
    grad_name="SpecialEntrBackward0")  # fmt: skip
@in_float32
def entr(input: Array) -> Array:
    """-input * log(input); 0 at 0, -inf below."""
    refuse("entr_cpu", input, COMPLEX)
    return _entr(input)


for _name, _of in (("gammaln", "lgamma"), ("psi", "digamma"), ("multigammaln", "mvlgamma")):
    alias(
        _name, _of, key=f"special.{_name}", function=False, method=False, inplace=False, namespaces=("special",)
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------- incomplete gamma


def _declare_incomplete(public: str, old: str, run, doc: str) -> None:
    """Declares the function under its name in `torch.special` and under its older one."""
    homes: dict[str, dict[str, Any]] = {
        old: {"method": True, "inplace": True},
        public: {"function": False, "namespaces": ("special",)},
    }
    for name, facts in homes.items():

        def incomplete(input: Array, other: Array) -> Array:
            refuse(f"{old}_cpu", input, COMPLEX)
            shape = jnp.broadcast_shapes(input.shape, other.shape)
            return run(jnp.broadcast_to(input, shape), jnp.broadcast_to(other, shape))

        incomplete.__name__ = incomplete.__qualname__ = name
        incomplete.__doc__ = doc
        op(promote="float", grad_name=f"{old.capitalize()}Backward0", **facts)(in_float32(incomplete))


_declare_incomplete(
    "gammainc", "igamma", lax.igamma, "The regularized lower incomplete gamma function of order `input`."
)
_declare_incomplete(
    "gammaincc", "igammac", lax.igammac, "The regularized upper incomplete gamma function of order `input`."
)


@op(promote="float", function=False, namespaces=("special",))
@in_float32
def erfcx(input: Array) -> Array:
    """exp(input ** 2) * erfc(input), without overflow."""
    refuse("erfcx_cpu", input, COMPLEX)
    return jsp.erfcx(input)
