"""What reductions, sorting and indexing share: positions along one dim, and promotion without broadcasting."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jtorch._ops._common import Array, Arrays, dtype_of, is_complex, is_float, scalar_name
from jtorch._runtime import dtypes

# Indices are the user's promise: no clamp, no mask, and XLA keeps both gathers and scatters inside the buffer anyway.
IN_BOUNDS = "promise_in_bounds"


def to_common(*arrays: Array) -> Arrays:
    """The arrays in their common dtype, by torch's promotion; for operations whose arguments do not broadcast."""
    best = common_dtype(*arrays)
    return tuple(a.astype(best.np) for a in arrays)


def common_dtype(*arrays: Array) -> dtypes.dtype:
    """The dtype torch's promotion gives these arrays, 0-d ones counting by category only."""
    return dtypes.result_type_of(
        [dtype_of(a) for a in arrays if a.ndim], [dtype_of(a) for a in arrays if not a.ndim], []
    )


def refuse_complex(x: Array, kernel: str) -> None:
    """NotImplementedError, as torch words a kernel that is missing for complex numbers."""
    if is_complex(x):
        refuse(x, kernel)


def refuse(x: Array, kernel: str) -> None:
    """NotImplementedError: this kernel does not exist for the array's dtype."""
    raise NotImplementedError(f"\"{kernel}\" not implemented for '{scalar_name(x)}'")


def check_index(index: Array, name: str) -> None:
    """RuntimeError unless the index is of int32 or int64. An empty one may be of any dtype."""
    if index.size and index.dtype not in (np.int32, np.int64):
        raise RuntimeError(f"{name}(): Expected dtype int32/int64 for index")


def narrow_index(index: Array, shape: tuple[int, ...]) -> Array:
    """The index in 32 bits where the shape allows: half the traffic of building and reading it."""
    small = max(shape, default=0) < 2**31
    return index.astype(np.int32 if small else np.int64)


def take_along(x: Array, index: Array, dim: int) -> Array:
    """x at non-negative positions `index` along `dim`; the other dims correspond."""
    index = narrow_index(index, x.shape)
    return jnp.take_along_axis(x, index, axis=dim, mode=IN_BOUNDS, wrap_negative_indices=False)


def take_at(x: Array, index: Array, dim: int) -> Array:
    """x at non-negative positions `index` (any shape) along `dim`, which the index's dims replace."""
    where = (slice(None),) * dim + (narrow_index(index, x.shape),)
    return x.at[where].get(mode=IN_BOUNDS, wrap_negative_indices=False)


def along(shape: tuple[int, ...], dim: int, index: Array) -> Arrays:
    """One index array a dim, such that `x.at[along(...)]` is what `gather` and `scatter` address in x of this shape."""
    index = narrow_index(index, shape)
    return tuple(
        index if d == dim else lax.broadcasted_iota(index.dtype, _line(index.shape[d], d, index.ndim), d)
        for d in range(index.ndim)
    )


def across(shape: tuple[int, ...], dim: int, index: Array) -> Arrays:
    """One index array a dim, such that `x.at[across(...)]` are the slices of x at the 1-d `index` along `dim`."""
    index = narrow_index(index, shape)
    ndim = len(shape)
    return tuple(
        index.reshape(_line(index.size, d, ndim))
        if d == dim
        else lax.broadcasted_iota(index.dtype, _line(shape[d], d, ndim), d)
        for d in range(ndim)
    )


def _line(size: int, dim: int, ndim: int) -> tuple[int, ...]:
    return tuple(size if d == dim else 1 for d in range(ndim))


def sort_key(x: Array) -> Array:
    """An int64 that orders values of at most 32 bits as sorting does: zeros are equal, NaNs the greatest and equal."""
    if not is_float(x):
        return x.astype(np.int64)
    x = x.astype(np.float32)
    x = jnp.where(x == 0, jnp.zeros_like(x), jnp.where(jnp.isnan(x), jnp.full_like(x, jnp.nan), x))
    bits = lax.bitcast_convert_type(x, np.int32)
    # Negative floats grow with falling magnitude bits: flip those.
    return jnp.where(bits < 0, bits ^ np.int32(0x7FFFFFFF), bits).astype(np.int64)


def order(x: Array, dim: int, descending: bool = False) -> Array:
    """The stable order of x along `dim`, int64. NaN counts as the greatest."""
    x = lax.stop_gradient(x)
    if x.dtype.itemsize <= 4 and x.shape[dim] < 2**31:
        # Key and place in one 64-bit integer: XLA sorts plain integers several times faster (on CPU) than it does
        # pairs through a comparator, and no two are equal, so the order is stable.
        key = sort_key(x)
        packed = ((~key if descending else key) << 32) | lax.broadcasted_iota(np.int64, x.shape, dim)
        return lax.sort(packed, dimension=dim, is_stable=False) & 0xFFFFFFFF
    return jnp.argsort(x, axis=dim, stable=True, descending=descending).astype(np.int64)


def drop(x: Array, axes: tuple[int, ...], keepdim: bool) -> Array:
    """A result reduced with its dims kept, without them where the caller did not ask to keep them."""
    return x if keepdim else lax.squeeze(x, axes)


@partial(jax.custom_jvp, nondiff_argnums=(1, 2, 3))
def spread(
    x: Array, pick: Callable[[Array, tuple[int, ...]], Array], axes: tuple[int, ...], find_nan: bool = True
) -> Array:
    """`pick(x, axes)`, dims kept: an element of x for each slice. All elements equal to it share its gradient.

    find_nan: NaN counts as equal to NaN. Without it nothing does, and a slice's gradient is NaN throughout.
    """
    return pick(x, axes)


@spread.defjvp
def _spread_jvp(pick, axes, find_nan, primals, tangents):
    (x,), (t,) = primals, tangents
    value = spread(x, pick, axes, find_nan)
    chosen = x == value
    if find_nan and is_float(x):
        chosen |= jnp.isnan(x) & jnp.isnan(value)
    count = jnp.sum(chosen, axis=axes, keepdims=True, dtype=x.dtype)
    if not find_nan:
        share = jnp.where(count == 0, jnp.full_like(count, jnp.nan), chosen / count)
        return value, jnp.sum(share * t, axis=axes, keepdims=True)
    total = jnp.sum(jnp.where(chosen, t, jnp.zeros_like(t)), axis=axes, keepdims=True)
    return value, total / count
