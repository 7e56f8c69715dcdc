"""Elementary functions of one tensor: signs, powers, exponentials, trigonometry, rounding, predicates."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jtorch._ops._common import Array, dtype_of
from jtorch._ops._numeric import (
    absolute,
    alias,
    category,
    direction,
    in_float32,
    need_float,
    refuse,
    static_power,
    to_float,
)
from jtorch._ops.registry import op
from jtorch._runtime import dtypes
from jtorch._runtime.dtypes import BOOL, COMPLEX, FLOATING, INTEGRAL


def _elementary(name: str, fn: Callable[[Array], Array], doc: str, **facts: Any) -> Callable[[Array], Array]:
    """Declares a function of one float or complex tensor; integers become floats first."""

    def apply(input: Array) -> Array:
        return fn(input)

    apply.__name__ = apply.__qualname__ = name
    apply.__doc__ = doc
    return op(**({"promote": "float", "method": True, "inplace": True} | facts))(in_float32(apply))


# ---------------------------------------------------------------------------------------------- signs and parts


@op(method=True, inplace=True)
def abs(input: Array) -> Array:
    """The absolute value; of complex numbers the real length. The gradient at 0 is 0."""
    refuse("abs_cpu", input, BOOL)
    return absolute(input)


@op(method=True, inplace=True)
def neg(input: Array) -> Array:
    """`-input`. RuntimeError for bools."""
    if category(input) == BOOL:
        raise RuntimeError(
            "Negation, the `-` operator, on a bool tensor is not supported. "
            "If you are trying to invert a mask, use the `~` or `logical_not()` operator instead."
        )
    return lax.neg(input)


@op(method=True, out=False)
def positive(input: Array) -> Array:
    """The input itself. RuntimeError for bools."""
    if category(input) == BOOL:
        raise RuntimeError("The `+` operator, on a bool tensor is not supported.")
    return input


@op(method=True, inplace=True)
def sign(input: Array) -> Array:
    """-1, 0 or 1; 0 for nan. NotImplementedError for complex numbers."""
    if category(input) == COMPLEX:
        raise NotImplementedError(
            "Unlike NumPy, torch.sign is not intended to support complex numbers. Please use torch.sgn instead."
        )
    return direction(input)


@op(method=True, inplace=True, saves="output")
def sgn(input: Array) -> Array:
    """`sign`, and of a complex number the one of length 1 with its angle (0 for 0)."""
    return direction(input)


@op(method=True, differentiable=False)
def signbit(input: Array) -> Array:
    """Where the sign is negative, -0.0 included, as bools."""
    if category(input) == COMPLEX:
        raise NotImplementedError("signbit is not implemented for complex tensors.")
    if category(input) == FLOATING:
        return jnp.signbit(input)
    return input < 0 if dtype_of(input).is_signed else jnp.zeros(input.shape, bool)


@op(method=True)
def angle(input: Array) -> Array:
    """The angle in the complex plane, real: for real numbers 0 or pi. nan stays nan; the gradient at 0 is 0."""
    x = to_float(input)
    if category(x) == COMPLEX:
        re, im = jnp.real(x), jnp.imag(x)
        zero = (re == 0) & (im == 0)
        # Away from the origin nothing changes; there, atan2's own gradient would be nan.
        safe = lax.atan2(jnp.where(zero, 0, im), jnp.where(zero, 1, re))
        return jnp.where(zero, lax.stop_gradient(lax.atan2(im, re)), safe)
    turn = jnp.where(x < 0, jnp.asarray(math.pi, x.dtype), jnp.zeros((), x.dtype))
    return jnp.where(jnp.isnan(x), lax.stop_gradient(x), turn)


@op(method=True, inplace=True)
def conj_physical(input: Array) -> Array:
    """The complex conjugate, computed; real tensors as they are."""
    return jnp.conj(input) if category(input) == COMPLEX else input


# ----------------------------------------------------------------------------------------------- powers and roots


@op(method=True, inplace=True, grad_name="PowBackward0")
@in_float32
def square(input: Array) -> Array:
    """`input * input`; of bools, int64."""
    x = input.astype(dtypes.int64.np) if category(input) == BOOL else input
    return static_power(x, 2)


def _per(x: Array) -> Array:
    return lax.integer_pow(x, -1)


sqrt = _elementary("sqrt", lax.sqrt, "The square root; nan below 0.", saves="output")
rsqrt = _elementary("rsqrt", lax.rsqrt, "One over the square root.", saves="output")
reciprocal = _elementary("reciprocal", _per, "One over each element.", saves="output")

# ------------------------------------------------------------------------------------- exponentials and logarithms


def _log2(x: Array) -> Array:
    return jnp.log2(x)


def _exp2(x: Array) -> Array:
    return jnp.exp2(x)


exp = _elementary("exp", lax.exp, "e to the power of each element.", saves="output")
exp2 = _elementary("exp2", _exp2, "2 to the power of each element.", saves="output", namespaces=("special",))
expm1 = _elementary(
    "expm1", lax.expm1, "exp(input) - 1, exact near 0.", saves="output", namespaces=("special",)
)  # fmt: skip
log = _elementary("log", lax.log, "The natural logarithm; -inf at 0, nan below.")
log2 = _elementary("log2", _log2, "The logarithm to base 2.")
log10 = _elementary("log10", jnp.log10, "The logarithm to base 10.")
log1p = _elementary(
    "log1p", lax.log1p, "log(1 + input), exact near 0.", namespaces=("special",), grad_name="Log1PBackward0"
)  # fmt: skip

# --------------------------------------------------------------------------------------------------- trigonometry


def _sinc(x: Array) -> Array:
    return jnp.sinc(x)


sin = _elementary("sin", lax.sin, "The sine, of radians.")
cos = _elementary("cos", lax.cos, "The cosine, of radians.")
tan = _elementary("tan", lax.tan, "The tangent, of radians.", saves="output")
asin = _elementary("asin", lax.asin, "The inverse sine, in radians.")
acos = _elementary("acos", lax.acos, "The inverse cosine, in radians.")
atan = _elementary("atan", lax.atan, "The inverse tangent, in radians.")
sinh = _elementary("sinh", lax.sinh, "The hyperbolic sine.")
cosh = _elementary("cosh", lax.cosh, "The hyperbolic cosine.")
tanh = _elementary("tanh", lax.tanh, "The hyperbolic tangent.", saves="output", namespaces=("nn.functional",))
asinh = _elementary("asinh", lax.asinh, "The inverse hyperbolic sine.")
acosh = _elementary("acosh", lax.acosh, "The inverse hyperbolic cosine; nan below 1.")
atanh = _elementary("atanh", lax.atanh, "The inverse hyperbolic tangent; nan outside [-1, 1].")
sinc = _elementary("sinc", _sinc, "sin(pi input) / (pi input), and 1 at 0.", namespaces=("special",))


@op(method=True, inplace=True, promote="float", grad_name="Deg2RadBackward0")
@in_float32
def deg2rad(input: Array) -> Array:
    """Degrees to radians. RuntimeError for complex numbers."""
    if category(input) == COMPLEX:
        raise RuntimeError("deg2rad is not supported for complex tensors.")
    return input * (math.pi / 180)


@op(method=True, inplace=True, promote="float", grad_name="Rad2DegBackward0")
@in_float32
def rad2deg(input: Array) -> Array:
    """Radians to degrees. RuntimeError for complex numbers."""
    if category(input) == COMPLEX:
        raise RuntimeError("rad2deg is not supported for complex tensors.")
    return input * (180 / math.pi)


# ------------------------------------------------------------------------------------------------ sigmoid and logit

sigmoid = _elementary(
    "sigmoid", lax.logistic, "1 / (1 + exp(-input)).", saves="output", namespaces=("nn.functional",)
)  # fmt: skip


@jax.custom_jvp
def _logit(p: Array) -> Array:
    return jnp.log(p / (1 - p))


@_logit.defjvp
def _logit_jvp(primals, tangents):
    (p,), (dp,) = primals, tangents
    return _logit(p), jnp.where((p < 0) | (p > 1), math.nan, 1 / (p * (1 - p))) * dp


@op(promote="float", method=True, inplace=True, namespaces=("special",))
@in_float32
def logit(input: Array, eps: float | None = None) -> Array:
    """log(p / (1 - p)), with p first kept between `eps` and `1 - eps` if given. nan outside [0, 1]."""
    refuse("logit_cpu", input, COMPLEX)
    x = input
    if eps is not None:
        low, high = jnp.asarray(eps, x.dtype), jnp.asarray(1 - eps, x.dtype)
        x = jnp.where(x < low, low, jnp.where(x > high, high, x))
    return _logit(x)


# ------------------------------------------------------------------------------------------------------- rounding


def _rounding(name: str, x: Array) -> bool:
    """Whether there is anything to round; the errors of the element types that torch does not round."""
    if category(x) == COMPLEX and name != "round":
        raise NotImplementedError(f"{name} is not supported for complex inputs")
    refuse(f"{name}_vml_cpu", x, BOOL, COMPLEX)
    return category(x) == FLOATING


@op(method=True, inplace=True)
def ceil(input: Array) -> Array:
    """The next whole number up. Integers as they are."""
    return lax.ceil(input) if _rounding("ceil", input) else input


@op(method=True, inplace=True)
def floor(input: Array) -> Array:
    """The next whole number down. Integers as they are."""
    return lax.floor(input) if _rounding("floor", input) else input


@op(method=True, inplace=True)
def trunc(input: Array) -> Array:
    """The whole part. Integers as they are."""
    return jnp.trunc(input) if _rounding("trunc", input) else input


@op(method=True, inplace=True, namespaces=("special",))
def round(input: Array, *, decimals: int = 0) -> Array:
    """To `decimals` places (tens, hundreds where negative); halves go to the even neighbour."""
    if decimals == 0:
        return lax.round(input, lax.RoundingMethod.TO_NEAREST_EVEN) if _rounding("round", input) else input
    need_float("round_cpu", input)
    return _round_to(input, decimals)


@in_float32
def _round_to(x: Array, decimals: int) -> Array:
    # A power of ten beyond the dtype is inf, and the result nan: as torch has it.
    unit = jnp.asarray(float(f"1e{max(decimals, -decimals)}")).astype(x.dtype)
    if decimals > 0:
        return jnp.round(x * unit) / unit
    return jnp.round(x / unit) * unit


@op(method=True, inplace=True)
def frac(input: Array) -> Array:
    """What is left beside the whole part, with the input's sign."""
    need_float("frac_cpu", input)
    return input - jnp.trunc(input)


# ----------------------------------------------------------------------------------------------------- predicates


def _nowhere(x: Array) -> Array:
    return jnp.zeros(x.shape, bool)


@op(method=True, out=False, differentiable=False)
def isnan(input: Array) -> Array:
    """Where the element (or either part of it) is nan."""
    return _nowhere(input) if category(input) < FLOATING else jnp.isnan(input)


@op(method=True, out=False, differentiable=False)
def isinf(input: Array) -> Array:
    """Where the element (or either part of it) is infinite."""
    return _nowhere(input) if category(input) < FLOATING else jnp.isinf(input)


@op(method=True, out=False, differentiable=False)
def isfinite(input: Array) -> Array:
    """Where the element is neither infinite nor nan."""
    return jnp.ones(input.shape, bool) if category(input) < FLOATING else jnp.isfinite(input)


def _one_infinity(name: str, x: Array, value: float) -> Array:
    if category(x) == COMPLEX:
        raise RuntimeError(f"{name} does not support complex inputs.")
    return _nowhere(x) if category(x) in (BOOL, INTEGRAL) else x == value


@op(method=True, differentiable=False)
def isposinf(input: Array) -> Array:
    """Where the element is +inf. RuntimeError for complex numbers."""
    return _one_infinity("isposinf", input, math.inf)


@op(method=True, differentiable=False)
def isneginf(input: Array) -> Array:
    """Where the element is -inf. RuntimeError for complex numbers."""
    return _one_infinity("isneginf", input, -math.inf)


@op(method=True, out=False, differentiable=False)
def isreal(input: Array) -> Array:
    """Where the imaginary part is zero; everywhere for real tensors."""
    return jnp.imag(input) == 0 if category(input) == COMPLEX else jnp.ones(input.shape, bool)


for _name, _of in (
    ("absolute", "abs"), ("negative", "neg"), ("fix", "trunc"),
    ("arcsin", "asin"), ("arccos", "acos"), ("arctan", "atan"),
    ("arcsinh", "asinh"), ("arccosh", "acosh"), ("arctanh", "atanh"),
):  # fmt: skip
    alias(_name, _of)
alias("expit", "sigmoid", key="special.expit", function=False, method=False, inplace=False, namespaces=("special",))
