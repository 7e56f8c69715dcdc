"""Arithmetic of two and three tensors, with torch's rounding modes, integer rules and subgradients."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from jtorch._ops._common import Array, DType, Number, Operand, dtype_of
from jtorch._ops._numeric import (
    absolute,
    alias,
    category,
    check_broadcast,
    constant,
    cpp_name,
    in_float32,
    need_float,
    need_integer,
    refuse,
    static_power,
    to_float,
)
from jtorch._ops.registry import op
from jtorch._runtime import dtypes
from jtorch._runtime.dtypes import BOOL, COMPLEX, FLOATING, INTEGRAL

# ---------------------------------------------------------------------------------------------- sums and products


def _check_alpha(given: dict[str, DType]) -> None:
    kind = given["alpha"].category
    result = max(given["input"].category, given["other"].category)
    if kind == BOOL and result != BOOL:
        raise RuntimeError("Boolean alpha only supported for Boolean results.")
    if kind == FLOATING and result < FLOATING:
        raise RuntimeError("For integral input tensors, argument alpha must not be a floating point number.")
    if kind == COMPLEX and result != COMPLEX:
        raise RuntimeError("For non-complex input tensors, argument alpha must not be a complex number.")


def _check_difference(given: dict[str, DType]) -> None:
    bools = [given["input"].category, given["other"].category].count(BOOL)
    if bools == 2:
        raise RuntimeError(
            "Subtraction, the `-` operator, with two bool tensors is not supported. "
            "Use the `^` or `logical_xor()` operator instead."
        )
    if bools:
        raise RuntimeError(
            "Subtraction, the `-` operator, with a bool tensor is not supported. If you are trying to invert a mask, use "
            "the `~` or `logical_not()` operator instead."
        )
    _check_alpha(given)


@in_float32
def _scaled_sum(x: Array, y: Array, alpha: Array, sign: int) -> Array:
    scaled = y * alpha.astype(y.dtype)
    return x + scaled if sign > 0 else x - scaled


def _is_one(alpha: Number) -> bool:
    # The default, which no program needs as an input.
    return type(alpha) is int and alpha == 1


@op(promote="same", method=True, inplace=True, check=_check_alpha)
def add(input: Operand, other: Operand, *, alpha: Number = 1) -> Array:
    """`input + alpha * other`. Bools add as `or`. RuntimeError for a float alpha of integers."""
    if _is_one(alpha):
        return jnp.add(input, other)
    return _scaled_sum(input, other, jnp.asarray(alpha), 1)


@op(promote="same", method=True, inplace=True, check=_check_difference)
def sub(input: Operand, other: Operand, *, alpha: Number = 1) -> Array:
    """`input - alpha * other`. RuntimeError for bools, and for a float alpha of integers."""
    if _is_one(alpha):
        return lax.sub(*jnp.broadcast_arrays(input, other))
    return _scaled_sum(input, other, jnp.asarray(alpha), -1)


@op(promote="same", check=_check_difference)
def rsub(input: Array, other: Operand, *, alpha: Number = 1) -> Array:
    """`other - alpha * input`."""
    return sub(other, input, alpha=alpha)


@op(promote="same", method=True, inplace=True)
def mul(input: Operand, other: Operand) -> Array:
    """`input * other`. Bools multiply as `and`."""
    return jnp.multiply(input, other)


@op(promote="same", method=True, inplace=True)
@in_float32
def addcmul(input: Array, tensor1: Array, tensor2: Array, *, value: Number = 1) -> Array:
    """`input + value * tensor1 * tensor2`. For integers the value is cut to an integer."""
    refuse("addcmul_cpu_out", input, BOOL)
    product = tensor1 * tensor2
    return input + (product if _is_one(value) else product * constant(value, input))


@op(promote="same", method=True, inplace=True)
@in_float32
def addcdiv(input: Array, tensor1: Array, tensor2: Array, *, value: Number = 1) -> Array:
    """`input + value * tensor1 / tensor2`. RuntimeError for integers."""
    if category(input) < FLOATING:
        raise RuntimeError(
            "Integer division with addcdiv is no longer supported, and in a future  release addcdiv will perform "
            "a true division of tensor1 and tensor2."
        )
    numerator = tensor1 if _is_one(value) else tensor1 * constant(value, input)
    return input + numerator / tensor2


@op(method=True, inplace=True)
def lerp(input: Array, end: Array, weight: Operand) -> Array:
    """`input + weight * (end - input)`, exact at both ends. All of one float or complex dtype: RuntimeError if not."""
    for name, x in (("end", end), ("weight", weight)):
        if x.dtype != input.dtype and (x.ndim or x is end):
            raise RuntimeError(f"expected dtype {cpp_name(input)} for `{name}` but got dtype {cpp_name(x)}")
    refuse(f"lerp_kernel_{'tensor' if weight.ndim else 'scalar'}", input, BOOL, INTEGRAL)
    check_broadcast(input, end, weight)
    return _lerp(input, end, weight.astype(input.dtype) if weight.dtype != input.dtype else weight)


@in_float32
def _lerp(start: Array, end: Array, weight: Array) -> Array:
    span = end - start
    # Counting from the nearer end keeps weight 0 and weight 1 exact.
    return jnp.where(jnp.abs(weight) < 0.5, start + weight * span, end - span * (1 - weight))


# ------------------------------------------------------------------------------------------------------- division


def _floor_quotient(x: Array, y: Array) -> Array:
    rest = lax.rem(x, y)
    quotient = jnp.round((x - rest) / y)
    quotient = jnp.where((rest != 0) & ((rest < 0) != (y < 0)), quotient - 1, quotient)
    return jnp.where(y == 0, x / y, quotient)


@op(promote="same", method=True, inplace=True)
def div(input: Operand, other: Operand, *, rounding_mode: str | None = None) -> Array:
    """`input / other`, rounded down ("floor") or towards zero ("trunc") if asked.

    Without a mode integers divide as floats of the default dtype. Integer division by zero does not raise.
    """
    if rounding_mode is None:
        return to_float(input) / to_float(other)
    if rounding_mode not in ("trunc", "floor"):
        raise RuntimeError(
            f"div expected rounding_mode to be one of None, 'trunc', or 'floor' but found '{rounding_mode}'"
        )
    refuse(f"div_{rounding_mode}_cpu", input, BOOL, COMPLEX)
    if category(input) == INTEGRAL:
        x, y = jnp.broadcast_arrays(input, other)
        return lax.div(x, y) if rounding_mode == "trunc" else jnp.floor_divide(x, y)
    return lax.stop_gradient(_rounded_quotient(input, other, rounding_mode))


@in_float32
def _rounded_quotient(x: Array, y: Array, rounding_mode: str) -> Array:
    if rounding_mode == "trunc":
        return jnp.trunc(x / y)
    return _floor_quotient(*jnp.broadcast_arrays(x, y))


@op(promote="same", method=True, inplace=True)
def true_divide(input: Operand, other: Operand) -> Array:
    """`input / other`; integers divide as floats."""
    return div(input, other)


@op(promote="same", method=True, inplace=True)
def floor_divide(input: Operand, other: Operand) -> Array:
    """The quotient rounded down. No gradient flows. Integer division by zero does not raise."""
    return div(input, other, rounding_mode="floor")


@op(promote="same", method=True, inplace=True)
def remainder(input: Operand, other: Operand) -> Array:
    """What is left of `input` after floor division: it has the sign of `other`."""
    refuse("remainder_cpu", input, BOOL, COMPLEX)
    return jnp.remainder(input, other)


@op(promote="same", method=True, inplace=True)
def fmod(input: Array, other: Operand) -> Array:
    """What is left of `input` after division rounded towards zero: it has the sign of `input`."""
    refuse("fmod_cpu", input, BOOL, COMPLEX)
    return lax.rem(*jnp.broadcast_arrays(input, other))


# --------------------------------------------------------------------------------------------------------- powers


def _integer_power(x: Array, exponent: Array) -> Array:
    power = jnp.power(x, jnp.maximum(exponent, 0))
    if not dtype_of(x).is_signed:
        return power
    # 1/x rounded towards zero, raised: only 1 and -1 leave something.
    parity = jnp.where(exponent % 2 == 0, 1, -1).astype(x.dtype)
    fraction = jnp.where(x == 1, 1, jnp.where(x == -1, parity, 0)).astype(x.dtype)
    return jnp.where(exponent < 0, fraction, power)


@jax.custom_jvp
def _pow(x: Array, y: Array) -> Array:
    return lax.pow(x, y)


@_pow.defjvp
def _pow_jvp(primals, tangents):
    (x, y), (dx, dy) = primals, tangents
    result = _pow(x, y)
    constant_one = y == 0
    slope = jnp.where(constant_one, 0, y * _pow(x, jnp.where(constant_one, 1, y) - 1))
    # 0 to a power that isn't negative stays 0 (or 1) nearby: log would make it nan.
    still = (x == 0) & (jnp.real(y) >= 0)
    growth = jnp.where(still, 0, result * jnp.log(jnp.where(still, 1, x)))
    return result, slope * dx + growth * dy


@op(key="pow", name="pow", promote="same", method=True, inplace=True, grad_name="PowBackward1")
def pow_(input: Operand, exponent: Operand) -> Array:
    """`input ** exponent`. An integer to a negative power is cut to an integer."""
    refuse("pow", input, BOOL)
    if category(input) == INTEGRAL:
        return _integer_power(*jnp.broadcast_arrays(input, exponent))
    return _pow(*jnp.broadcast_arrays(input, exponent))


@op(key="pow.reverse", name="pow", promote="same", function=False, grad_name="PowBackward1")
def pow_reverse(base: Operand, exponent: Array) -> Array:
    """`base ** exponent` for a number as the base."""
    return pow_(base, exponent)


@op(key="pow.static", name="pow", function=False)
def pow_static(input: Array, exponent: float) -> Array:
    """`input ** exponent` for an exponent that is part of the program.

    Integers stay integers under an integer exponent (bools become int64), and become floats under a float one.
    """
    integral = isinstance(exponent, int)
    if category(input) < FLOATING:
        if not integral:
            input = to_float(input)
        elif exponent < 0:
            raise RuntimeError("Integers to negative integer powers are not allowed.")
        elif category(input) == BOOL:
            input = input.astype(dtypes.int64.np)
    if isinstance(exponent, complex):
        if category(input) != COMPLEX:
            input = input.astype(dtype_of(input).to_complex().np)
        return lax.pow(input, constant(exponent, input))
    return _power(input, exponent)


_power = in_float32(static_power)


@op(promote="double", method=True, inplace=True, grad_name="PowBackward1")
def float_power(input: Operand, exponent: Operand) -> Array:
    """`input ** exponent` in float64, or complex128 where either is complex."""
    return pow_(input, exponent)


@op(promote="float", method=True, inplace=True)
@in_float32
def ldexp(input: Array, other: Array) -> Array:
    """`input * 2 ** other`."""
    return input * jnp.exp2(other)


@op(method=True, out=True, returns=("mantissa", "exponent"))
def frexp(input: Array) -> tuple[Array, Array]:
    """`input` as a mantissa in [0.5, 1) with its sign, and an int32 power of two."""
    if category(input) != FLOATING:
        raise RuntimeError("torch.frexp() only supports floating-point dtypes")
    narrow = input.astype(jnp.float32) if dtype_of(input).itemsize == 2 else input
    exponent = jnp.frexp(lax.stop_gradient(narrow))[1]
    exponent = jnp.where(jnp.isfinite(narrow), exponent, 0).astype(jnp.int32)
    # In two steps, for neither 2**-exponent of the smallest nor of the largest numbers is finite and normal.
    first = exponent // 2
    steps = [jnp.exp2((-part).astype(narrow.dtype)) for part in (first, exponent - first)]
    return (narrow * steps[0] * steps[1]).astype(input.dtype), exponent


# -------------------------------------------------------------------------------------- functions of two floats


@jax.custom_jvp
def _atan2(y: Array, x: Array) -> Array:
    return lax.atan2(y, x)


@_atan2.defjvp
def _atan2_jvp(primals, tangents):
    (y, x), (dy, dx) = primals, tangents
    norm = x * x + y * y
    # torch lets nothing through at the origin.
    scale = jnp.where(norm == 0, 0, 1 / jnp.where(norm == 0, 1, norm))
    return _atan2(y, x), (x * dy - y * dx) * scale


@op(promote="float", method=True, inplace=True)
@in_float32
def atan2(input: Array, other: Array) -> Array:
    """The angle of the point (other, input), between -pi and pi."""
    refuse("atan2_cpu", input, COMPLEX)
    return _atan2(*jnp.broadcast_arrays(input, other))


@jax.custom_jvp
def _hypot(x: Array, y: Array) -> Array:
    return jnp.hypot(x, y)


@_hypot.defjvp
def _hypot_jvp(primals, tangents):
    (x, y), (dx, dy) = primals, tangents
    norm = _hypot(x, y)
    return norm, x / norm * dx + y / norm * dy


@op(promote="same", method=True, inplace=True)
@in_float32
def hypot(input: Array, other: Array) -> Array:
    """The square root of `input**2 + other**2`, without overflow on the way. The gradient at the origin is nan."""
    need_float("hypot_cpu", input)
    return _hypot(*jnp.broadcast_arrays(input, other))


@jax.custom_jvp
def _copysign(x: Array, y: Array) -> Array:
    size = absolute(x)
    return jnp.where(jnp.signbit(y), -size, size)


@_copysign.defjvp
def _copysign_jvp(primals, tangents):
    (x, y), (dx, _) = primals, tangents
    result = _copysign(x, y)
    # A quotient: nan for the infinities.
    return result, jnp.where(x == 0, 0, result / jnp.where(x == 0, 1, x)) * dx


@op(promote="float", method=True, inplace=True)
def copysign(input: Array, other: Operand) -> Array:
    """`input` with the sign of `other`, negative zero included. The gradient at 0 is 0."""
    refuse("copysign_cpu", input, COMPLEX)
    return _copysign(*jnp.broadcast_arrays(input, other))


@jax.custom_jvp
def _nextafter(x: Array, y: Array) -> Array:
    return jnp.nextafter(x, y)


@_nextafter.defjvp
def _nextafter_jvp(primals, tangents):
    (x, y), (dx, _) = primals, tangents
    return _nextafter(x, y), jnp.where(x == y, 0, dx)


@op(promote="same", method=True, inplace=True)
def nextafter(input: Array, other: Array) -> Array:
    """The next number after `input` on the way to `other`. The gradient is `input`'s, and 0 where they are equal."""
    need_float("nextafter_cpu", input)
    return _nextafter(*jnp.broadcast_arrays(input, other))


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _log_sum(x: Array, y: Array, base: float) -> Array:
    return jnp.logaddexp2(x, y) if base == 2 else jnp.logaddexp(x, y)


@_log_sum.defjvp
def _log_sum_jvp(base, primals, tangents):
    (x, y), (dx, dy) = primals, tangents
    # By the share of each, which stays between 0 and 1 at infinity too.
    lead = (x - y) * math.log(base)
    return _log_sum(x, y, base), lax.logistic(lead) * dx + lax.logistic(-lead) * dy


@op(promote="same", method=True)
@in_float32
def logaddexp(input: Array, other: Array) -> Array:
    """`log(exp(input) + exp(other))`, without overflow. The imaginary part may leave (-pi, pi]."""
    refuse("logaddexp_cpu", input, BOOL, INTEGRAL)
    if category(input) != COMPLEX:
        return _log_sum(*jnp.broadcast_arrays(input, other), math.e)
    first = input.real >= other.real
    high, low = jnp.where(first, input, other), jnp.where(first, other, input)
    return high + jnp.log1p(jnp.exp(low - high))


@op(promote="same", method=True)
@in_float32
def logaddexp2(input: Array, other: Array) -> Array:
    """`log2(2**input + 2**other)`, without overflow."""
    need_float("logaddexp2_cpu", input)
    return _log_sum(*jnp.broadcast_arrays(input, other), 2.0)


def _times_log(log: Callable[[Array], Array], edge: int) -> Callable[[Array, Array], Array]:
    """`x * log(y)`, 0 where x is 0. log: jnp.log, or jnp.log1p, which is -inf at `edge`."""

    @jax.custom_jvp
    def run(x: Array, y: Array) -> Array:
        vanishing = (x == 0) & ((y <= edge) | jnp.isinf(y))
        return x * log(jnp.where(vanishing, edge + 1, y))

    @run.defjvp
    def run_jvp(primals, tangents):
        (x, y), (dx, dy) = primals, tangents
        vanishing = (x == 0) & (y <= edge)
        slope = jnp.where(vanishing, 0, log(jnp.where(vanishing, edge + 1, y)))
        return run(x, y), slope * dx + x / (y - edge) * dy  # the latter nan where both are 0

    return run


_xlogy, _xlog1py = _times_log(jnp.log, 0), _times_log(jnp.log1p, -1)


@op(promote="float", method=True, inplace=True, namespaces=("special",))
@in_float32
def xlogy(input: Operand, other: Operand) -> Array:
    """`input * log(other)`, and 0 where `input` is 0 (nan where `other` is nan)."""
    refuse("xlogy_cpu", input, COMPLEX)
    return _xlogy(*jnp.broadcast_arrays(input, other))


@op(key="special.xlog1py", name="xlog1py", promote="float", function=False, namespaces=("special",),
    grad_name="SpecialXlog1PyBackward0")  # fmt: skip
@in_float32
def xlog1py(input: Operand, other: Operand) -> Array:
    """`input * log1p(other)`, and 0 where `input` is 0 (nan where `other` is nan)."""
    refuse("xlog1py_cpu", input, COMPLEX)
    return _xlog1py(*jnp.broadcast_arrays(input, other))


# ------------------------------------------------------------------------------------------------------- integers


@op(promote="same", method=True, inplace=True)
def gcd(input: Array, other: Array) -> Array:
    """The greatest common divisor, never negative; gcd(0, 0) is 0."""
    need_integer("gcd_cpu", input)
    return jnp.gcd(input, other)


@op(promote="same", method=True, inplace=True)
def lcm(input: Array, other: Array) -> Array:
    """The least common multiple, never negative; 0 where either is 0."""
    need_integer("lcm_cpu", input)
    return jnp.lcm(input, other)


alias("subtract", "sub")
alias("multiply", "mul")
alias("divide", "div")
alias("arctan2", "atan2")
