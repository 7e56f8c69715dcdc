"""What operation families share: annotation names, dim handling, torch's words for common mistakes."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jtorch._runtime import dtypes

Array = jax.Array
Arrays = tuple[jax.Array, ...]
Operand = Any  # a 0-d array where the user gave a Python number
Number = Any
DType = dtypes.dtype


def wrap_dim(dim: int, ndim: int) -> int:
    """`dim` counted from the front. A 0-d tensor takes dim 0 and -1. IndexError out of range."""
    span = max(ndim, 1)
    if not -span <= dim < span:
        raise IndexError(f"Dimension out of range (expected to be in range of [{-span}, {span - 1}], but got {dim})")
    return dim % span


def wrap_dims(dims: int | tuple[int, ...] | None, ndim: int) -> tuple[int, ...]:
    """Dims from the front, all of them for None or (). RuntimeError where one appears twice."""
    if dims is None:
        return tuple(range(ndim))
    if isinstance(dims, int):
        dims = (dims,)
    if not dims:
        return tuple(range(ndim))
    wrapped = tuple(wrap_dim(d, ndim) for d in dims)
    if len(set(wrapped)) != len(wrapped):
        twice = next(d for d in wrapped if wrapped.count(d) > 1)
        raise RuntimeError(f"dim {twice} appears multiple times in the list of dims")
    return wrapped if ndim else ()


def is_float(x: Array) -> bool:
    return jnp.issubdtype(x.dtype, np.floating)


def is_complex(x: Array) -> bool:
    return jnp.issubdtype(x.dtype, np.complexfloating)


def dtype_of(x: Array) -> dtypes.dtype:
    """The torch dtype of an array."""
    return dtypes.FROM_NUMPY[np.dtype(x.dtype)]


def scalar_name(x: Array) -> str:
    """What torch's messages call the array's element type: Float, Long, Half ..."""
    return dtypes.SCALAR_NAMES[dtype_of(x)]


def _halves_at_ties(pick, first_loses):
    """The greater or the smaller of two. At ties each gets half the gradient; beside NaN, which is neither, both all."""

    @jax.custom_jvp
    def picked(x: Array, y: Array) -> Array:
        return pick(x, y)

    @picked.defjvp
    def _(primals, tangents):
        (x, y), (tx, ty) = primals, tangents
        both = jnp.where(first_loses(x, y), 0, tx) + jnp.where(first_loses(y, x), 0, ty)
        return picked(x, y), jnp.where(x == y, both / 2, both)

    return picked


larger = _halves_at_ties(jnp.maximum, jnp.less)
smaller = _halves_at_ties(jnp.minimum, jnp.greater)
