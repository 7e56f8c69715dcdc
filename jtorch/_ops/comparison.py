"""Comparison, logic, bits, and choice between tensors: extrema, clamp, where, masked_fill."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from jax import lax

from jtorch._ops._common import Array, Operand, dtype_of, larger, scalar_name, smaller
from jtorch._ops._numeric import (
    alias,
    category,
    check_broadcast,
    constant,
    cpp_name,
    is_nan,
    need_integer,
    refuse,
    to_float,
)
from jtorch._ops.registry import op
from jtorch._runtime.dtypes import BOOL, COMPLEX, FLOATING, INTEGRAL

# ----------------------------------------------------------------------------------------------------- comparison


@op(promote="same", method=True, inplace=True, differentiable=False)
def eq(input: Array, other: Operand) -> Array:
    """Where the two are equal, as bools. nan equals nothing."""
    return jnp.equal(input, other)


@op(promote="same", method=True, inplace=True, differentiable=False)
def ne(input: Array, other: Operand) -> Array:
    """Where the two differ, as bools."""
    return jnp.not_equal(input, other)


@op(promote="same", method=True, inplace=True, differentiable=False)
def lt(input: Array, other: Operand) -> Array:
    """`input < other`, as bools. Not for complex numbers."""
    refuse("lt_cpu", input, COMPLEX)
    return jnp.less(input, other)


@op(promote="same", method=True, inplace=True, differentiable=False)
def le(input: Array, other: Operand) -> Array:
    """`input <= other`, as bools. Not for complex numbers."""
    refuse("le_cpu", input, COMPLEX)
    return jnp.less_equal(input, other)


@op(promote="same", method=True, inplace=True, differentiable=False)
def gt(input: Array, other: Operand) -> Array:
    """`input > other`, as bools. Not for complex numbers."""
    refuse("gt_cpu", input, COMPLEX)
    return jnp.greater(input, other)


@op(promote="same", method=True, inplace=True, differentiable=False)
def ge(input: Array, other: Operand) -> Array:
    """`input >= other`, as bools. Not for complex numbers."""
    refuse("ge_cpu", input, COMPLEX)
    return jnp.greater_equal(input, other)


@op(method=True, out=False, differentiable=False)
def isclose(input: Array, other: Array, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> Array:
    """Where `|input - other| <= atol + rtol * |other|`. Infinities are close to themselves only; nan if asked."""
    if input.dtype != other.dtype:
        raise RuntimeError(f"{scalar_name(input)} did not match {scalar_name(other)}")
    for name, value in (("rtol", rtol), ("atol", atol)):
        if not value >= 0:
            raise RuntimeError(f"{name} must be greater than or equal to zero, but got {value:g}")
    check_broadcast(input, other)
    close = input == other
    if equal_nan and category(input) >= FLOATING:
        close |= jnp.isnan(input) & jnp.isnan(other)
    x, y = to_float(input), to_float(other)
    gap = jnp.abs(x - y)
    return close | (jnp.isfinite(gap) & (gap <= atol + jnp.abs(rtol * y)))


# ---------------------------------------------------------------------------------------------------------- logic


def _truth(x: Array) -> Array:
    return x if category(x) == BOOL else x != 0


@op(promote="same", method=True, inplace=True, differentiable=False)
def logical_and(input: Array, other: Array) -> Array:
    """Where both are non-zero, as bools."""
    return jnp.logical_and(_truth(input), _truth(other))


@op(promote="same", method=True, inplace=True, differentiable=False)
def logical_or(input: Array, other: Array) -> Array:
    """Where either is non-zero, as bools."""
    return jnp.logical_or(_truth(input), _truth(other))


@op(promote="same", method=True, inplace=True, differentiable=False)
def logical_xor(input: Array, other: Array) -> Array:
    """Where exactly one is non-zero, as bools."""
    return jnp.logical_xor(_truth(input), _truth(other))


@op(method=True, inplace=True, differentiable=False)
def logical_not(input: Array) -> Array:
    """Where the input is zero, as bools."""
    return jnp.logical_not(_truth(input))


# ----------------------------------------------------------------------------------------------------------- bits


@op(promote="same", method=True, inplace=True, differentiable=False)
def bitwise_and(input: Operand, other: Operand) -> Array:
    """Bits set in both. For integers and bools."""
    refuse("bitwise_and_cpu", input, FLOATING, COMPLEX)
    return jnp.bitwise_and(input, other)


@op(promote="same", method=True, inplace=True, differentiable=False)
def bitwise_or(input: Operand, other: Operand) -> Array:
    """Bits set in either. For integers and bools."""
    refuse("bitwise_or_cpu", input, FLOATING, COMPLEX)
    return jnp.bitwise_or(input, other)


@op(promote="same", method=True, inplace=True, differentiable=False)
def bitwise_xor(input: Operand, other: Operand) -> Array:
    """Bits set in exactly one. For integers and bools."""
    refuse("bitwise_xor_cpu", input, FLOATING, COMPLEX)
    return jnp.bitwise_xor(input, other)


@op(method=True, inplace=True, differentiable=False)
def bitwise_not(input: Array) -> Array:
    """All bits flipped; for bools, the opposite."""
    refuse("bitwise_not_cpu", input, FLOATING, COMPLEX)
    return jnp.bitwise_not(input)


@op(promote="same", method=True, inplace=True, differentiable=False)
def bitwise_left_shift(input: Operand, other: Operand) -> Array:
    """`input << other`; 0 where the shift is negative or at least the width."""
    need_integer("lshift_cpu", input)
    x, shift = jnp.broadcast_arrays(input, other)
    bits = dtype_of(x).itemsize * 8
    inside = (shift >= 0) & (shift < bits)
    return jnp.where(inside, lax.shift_left(x, jnp.where(inside, shift, 0)), 0)


@op(promote="same", method=True, inplace=True, differentiable=False)
def bitwise_right_shift(input: Operand, other: Operand) -> Array:
    """`input >> other` with the sign kept; a shift that is negative or at least the width leaves 0 or -1."""
    need_integer("rshift_cpu", input)
    x, shift = jnp.broadcast_arrays(input, other)
    kind = dtype_of(x)
    bits = kind.itemsize * 8
    inside = (shift >= 0) & (shift < bits)
    if kind.is_signed:
        return lax.shift_right_arithmetic(x, jnp.where(inside, shift, bits - 1))
    return jnp.where(inside, lax.shift_right_logical(x, jnp.where(inside, shift, 0)), 0)


# -------------------------------------------------------------------------------------------------------- extrema


def _need_order(name: str, x: Array) -> None:
    if category(x) == COMPLEX:
        raise RuntimeError(f"{name} not implemented for complex tensors.")


@op(promote="same", method=True)
def maximum(input: Array, other: Array) -> Array:
    """The larger of the two; nan where either is. The gradient is halved at ties."""
    _need_order("maximum", input)
    return larger(input, other)


@op(promote="same", method=True)
def minimum(input: Array, other: Array) -> Array:
    """The smaller of the two; nan where either is. The gradient is halved at ties."""
    _need_order("minimum", input)
    return smaller(input, other)


@op(promote="same", method=True)
def fmax(input: Array, other: Array) -> Array:
    """The larger of the two; of a number and a nan, the number. At ties the gradient goes to `input`."""
    _need_order("fmax", input)
    return jnp.where((input >= other) | is_nan(other), input, other)


@op(promote="same", method=True)
def fmin(input: Array, other: Array) -> Array:
    """The smaller of the two; of a number and a nan, the number. At ties the gradient goes to `input`."""
    _need_order("fmin", input)
    return jnp.where((input <= other) | is_nan(other), input, other)


# A nan bound wins and a nan element stays, neither with a gradient; at the bound the gradient is the element's.


@jax.custom_jvp
def _at_least(x: Array, low: Array) -> Array:
    return jnp.where((x < low) | is_nan(low), low, x)


@_at_least.defjvp
def _at_least_jvp(primals, tangents):
    (x, low), (dx, dlow) = primals, tangents
    return _at_least(x, low), jnp.where(x >= low, dx, 0) + jnp.where(x < low, dlow, 0)


@jax.custom_jvp
def _at_most(x: Array, high: Array) -> Array:
    return jnp.where((x > high) | is_nan(high), high, x)


@_at_most.defjvp
def _at_most_jvp(primals, tangents):
    (x, high), (dx, dhigh) = primals, tangents
    return _at_most(x, high), jnp.where(x <= high, dx, 0) + jnp.where(x > high, dhigh, 0)


@jax.custom_jvp
def _between(x: Array, low: Array, high: Array) -> Array:
    return _at_most(_at_least(x, low), high)


@_between.defjvp
def _between_jvp(primals, tangents):
    (x, low, high), (dx, dlow, dhigh) = primals, tangents
    inside = jnp.where((x >= low) & (x <= high), dx, 0)
    return _between(x, low, high), (
        inside + jnp.where((low < high) & (x < low), dlow, 0) + jnp.where((high < low) | (x > high), dhigh, 0)
    )


def _check_clamp(x: Array) -> None:
    if category(x) == COMPLEX:
        raise NotImplementedError("clamp is not supported for complex types")


@op(promote="same", method=True, inplace=True, grad_name="ClampBackward1")
def clamp(input: Array, min: Operand | None = None, max: Operand | None = None) -> Array:
    """`input` kept between `min` and `max`; `max` wins where they cross. RuntimeError without either."""
    if min is None and max is None:
        raise RuntimeError("torch.clamp: At least one of 'min' or 'max' must not be None")
    _check_clamp(input)
    if min is not None and max is not None:
        refuse("clamp_cpu", input, BOOL)
    if max is None:
        return _at_least(input, min)
    return _at_most(input, max) if min is None else _between(input, min, max)


@op(promote="same", method=True, inplace=True)
def clamp_min(input: Array, min: Operand) -> Array:
    """`input`, nowhere below `min`."""
    _check_clamp(input)
    return _at_least(input, min)


@op(promote="same", method=True, inplace=True)
def clamp_max(input: Array, max: Operand) -> Array:
    """`input`, nowhere above `max`."""
    _check_clamp(input)
    return _at_most(input, max)


# --------------------------------------------------------------------------------------------------------- choice


@op(promote="same", promote_args=("input", "other"))
def where(condition: Array, input: Operand, other: Operand) -> Array:
    """`input` where the condition holds, `other` elsewhere. RuntimeError unless the condition is of bools."""
    if dtype_of(condition).name not in ("bool", "uint8"):
        raise RuntimeError(
            f"where expected condition to be a boolean tensor, but got a tensor with dtype {scalar_name(condition)}"
        )
    check_broadcast(condition, input, other)
    return jnp.where(_truth(condition), input, other)


@op(key="where.method", name="where", promote="same", promote_args=("input", "other"), function=False, method=True)
def where_method(input: Array, condition: Array, other: Operand) -> Array:
    """`Tensor.where`: the tensor where the condition holds, `other` elsewhere."""
    return where(condition, input, other)


@op(method=True, inplace=True)
def masked_fill(input: Array, mask: Array, value: Operand) -> Array:
    """`input` with `value` where the mask holds. The dtype is the input's; the value is a number or 0-d."""
    if category(mask) != BOOL:
        raise RuntimeError(f"masked_fill_ only supports boolean masks, but got mask with dtype {cpp_name(mask)}")
    if value.ndim:
        raise RuntimeError(
            f"masked_fill_ only supports a 0-dimensional value tensor, but got tensor with {value.ndim} dimension(s)."
        )
    if category(value) == COMPLEX and category(input) != COMPLEX:
        target = "int64_t" if category(input) == INTEGRAL else cpp_name(input)
        raise RuntimeError(f"value cannot be converted to type {target} without overflow")
    check_broadcast(mask, input)
    return jnp.where(mask, value.astype(input.dtype), input)


@op(method=True, inplace=True)
def heaviside(input: Array, values: Array) -> Array:
    """0 below zero, 1 above, `values` at zero; 0 for nan. One dtype for both: RuntimeError if not."""
    if COMPLEX in (category(input), category(values)):
        raise RuntimeError("heaviside is not yet implemented for complex tensors.")
    if input.dtype != values.dtype:
        raise RuntimeError("heaviside is not yet implemented for tensors with different dtypes.")
    check_broadcast(input, values)
    return lax.stop_gradient(jnp.where(input == 0, values, (input > 0).astype(values.dtype)))


@op(method=True, inplace=True)
def nan_to_num(
    input: Array, nan: float | None = None, posinf: float | None = None, neginf: float | None = None
) -> Array:
    """nan replaced (by 0 unless given), infinities too (by the dtype's extremes unless given)."""
    if category(input) < FLOATING:
        return input
    if category(input) == COMPLEX:
        return lax.complex(_finite(jnp.real(input), nan, posinf, neginf), _finite(jnp.imag(input), nan, posinf, neginf))
    return _finite(input, nan, posinf, neginf)


def _finite(x: Array, nan: float | None, posinf: float | None, neginf: float | None) -> Array:
    limits = ml_dtypes.finfo(x.dtype)
    high = float(limits.max) if posinf is None else posinf
    low = float(limits.min) if neginf is None else neginf
    y = jnp.where(jnp.isnan(x), constant(0.0 if nan is None else nan, x), x)
    y = jnp.where(x == np.inf, constant(high, x), y)
    return jnp.where(x == -np.inf, constant(low, x), y)


for _name, _of in (
    ("not_equal", "ne"), ("less", "lt"), ("less_equal", "le"), ("greater", "gt"), ("greater_equal", "ge"),
    ("clip", "clamp"),
):  # fmt: skip
    alias(_name, _of)
