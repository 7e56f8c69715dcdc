"""Reductions over segments of one dim that lie behind each other."""

from __future__ import annotations

import jax.numpy as jnp

from jtorch._ops._common import Array, is_float, scalar_name, wrap_dim
from jtorch._ops.registry import op

# The reduction, and what an empty segment gives.
_REDUCTIONS = {
    "sum": (jnp.sum, 0.0),
    "prod": (jnp.prod, 1.0),
    "mean": (jnp.sum, 0.0),
    "max": (jnp.max, -jnp.inf),
    "min": (jnp.min, jnp.inf),
}
_LONG_NAMES = {"amax": "max", "amin": "min"}


@op(out=False)
def segment_reduce(
    data: Array,
    reduce: str,
    *,
    lengths: Array | None = None,
    indices: Array | None = None,
    offsets: Array | None = None,
    axis: int = 0,
    unsafe: bool = False,
    initial: float | None = None,
) -> Array:
    """Each segment of `axis` as one element. lengths (..., S), or offsets (..., S + 1), with the dims before `axis`.

    Differs from torch: lengths that do not sum up to the size of the dim do not raise.
    """
    name = _LONG_NAMES.get(reduce, reduce)
    if name not in _REDUCTIONS:
        raise RuntimeError(f"reduce argument must be either sum, prod, mean, amax or amin, got {reduce}")
    if not is_float(data):
        raise NotImplementedError(f"\"_segment_reduce_cpu\" not implemented for '{scalar_name(data)}'")
    axis = wrap_dim(axis, data.ndim)
    if offsets is not None:
        starts, ends = offsets[..., :-1], offsets[..., 1:]
    elif lengths is not None:
        ends = jnp.cumsum(lengths, -1)
        starts = ends - lengths
    else:
        raise RuntimeError("segment_reduce(): Either lengths or offsets must be defined.")
    if starts.ndim - 1 != axis:
        raise RuntimeError("segment_reduce(): Expected axis to be the last dimension of lengths but got " + str(axis))
    places = jnp.arange(data.shape[axis])
    inside = (places >= starts[..., None]) & (places < ends[..., None])  # (..., S, n)
    inside = inside.reshape(inside.shape + (1,) * (data.ndim - axis - 1))
    function, neutral = _REDUCTIONS[name]
    first = neutral if initial is None else initial
    spread = jnp.where(inside, jnp.expand_dims(data, axis), jnp.asarray(neutral, data.dtype))
    result = function(spread, axis=axis + 1, initial=None if data.shape[axis] else neutral)
    begin = jnp.asarray(first, data.dtype)
    if name == "mean":
        count = (ends - starts).reshape(starts.shape + (1,) * (data.ndim - axis - 1)).astype(data.dtype)
        empty = begin if initial is not None else jnp.asarray(jnp.nan, data.dtype)
        return jnp.where(count > 0, (result + begin) / jnp.maximum(count, 1), empty)
    if initial is None:
        return result
    return {"sum": jnp.add, "prod": jnp.multiply, "max": jnp.maximum, "min": jnp.minimum}[name](result, begin)
