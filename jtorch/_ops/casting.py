"""Conversion between dtypes, and the copies torch makes."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import lax

from jtorch._ops._common import Array, DType, is_complex
from jtorch._ops.registry import op
from jtorch._runtime.dtypes import INTEGRAL


@op(key="to.dtype", name="to", function=False, grad_name="ToCopyBackward0")
def to_dtype(input: Array, dtype: DType) -> Array:
    """`input` as another dtype. Complex to real keeps the real part; a float out of an integer's range is undefined."""
    if is_complex(input) and not dtype.is_complex:
        input = (input != 0) if dtype.name == "bool" else jnp.real(input)
    if jnp.issubdtype(input.dtype, np.floating) and dtype.category == INTEGRAL and dtype.name != "uint64":
        # As the C conversions of torch's processors: through a wider integer, whose lowest bits are kept, and what that
        # can't hold is its least number. XLA would saturate.
        wide = np.int32 if dtype.is_signed and dtype.itemsize <= 4 else np.int64
        least = np.iinfo(wide).min
        exact = input.astype(np.float32) if input.dtype.itemsize < 4 else input
        held = (exact >= least) & (exact < -float(least))
        return jnp.where(held, exact.astype(wide), least).astype(dtype.np)
    if dtype.name == "float8_e4m3fn":
        # torch's largest stands for all that is larger, infinity too; XLA's conversion makes them nan.
        input = jnp.clip(input.astype(np.float64), -448, 448)
    elif dtype.name == "float8_e8m0fnu":
        # It has neither sign nor zero: torch keeps the magnitude, and zero becomes the least number.
        input = jnp.maximum(jnp.abs(input.astype(np.float64)), 2.0**-127)
    return input.astype(dtype.np)


@op(key="clone", function=True, method=False, out=False)
def clone_(input: Array) -> Array:
    """A copy of the elements."""
    return input


@op(key="expand_to", function=False, grad_name="ExpandBackward0")
def expand_to(input: Array, size: tuple[int, ...]) -> Array:
    """`input` broadcast to a size, as a copy."""
    return jnp.broadcast_to(input, size)


@op(key="view_as_complex_copy", function=False)
def view_as_complex_copy(input: Array) -> Array:
    """Pairs of reals as complex numbers, as a copy."""
    return input[..., 0] + 1j * input[..., 1]


@op(key="complex.parts", name="complex", function=False)
def complex_parts(real: Array, imag: Array) -> Array:
    """Complex numbers of real and imaginary parts."""
    if real.dtype == np.float16:
        return lax.complex(real.astype(np.float32), imag.astype(np.float32))
    return lax.complex(*jnp.broadcast_arrays(real, imag))
