"""Order: sort, topk, k-th values, and search in sorted sequences."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jtorch._ops._along import drop, order, take_along, to_common
from jtorch._ops._common import Array, Operand, is_complex, is_float, wrap_dim
from jtorch._ops.registry import op


def _sorted(x: Array, dim: int, descending: bool) -> tuple[Array, Array]:
    axis = wrap_dim(dim, x.ndim)
    if is_complex(x):
        raise RuntimeError("Sort does not support complex dtypes on CPU")
    if x.ndim == 0:
        return x, jnp.zeros((), np.int64)
    places = order(x, axis, descending)
    return take_along(x, places, axis), places


@op(method=True, returns=("values", "indices"))
def sort(input: Array, dim: int = -1, descending: bool = False, *, stable: bool | None = None) -> tuple[Array, Array]:
    """Sorted values along `dim` and where they were. Always stable; NaN is the greatest."""
    return _sorted(input, dim, descending)


@op(method=True, differentiable=False)
def argsort(input: Array, dim: int = -1, descending: bool = False, *, stable: bool = False) -> Array:
    """The places that would sort `input` along `dim`, int64. Always stable."""
    return _sorted(input, dim, descending)[1]


@op(method=True, grad_name="SortBackward0")
def msort(input: Array) -> Array:
    """Values sorted along the first dim."""
    return _sorted(input, 0, False)[0]


@op(method=True, returns=("values", "indices"))
def topk(input: Array, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> tuple[Array, Array]:
    """The k greatest (or smallest) along `dim`, best first, and where they are."""
    axis = wrap_dim(dim, input.ndim)
    if k < 0 or k > (input.shape[axis] if input.ndim else 1):
        raise RuntimeError("selected index k out of range")
    if is_complex(input) or input.dtype == np.bool_:
        kind = "complex" if is_complex(input) else "bool"
        raise RuntimeError(f"topk does not support {kind} dtypes on CPU")
    if input.ndim == 0:
        return input, jnp.zeros((), np.int64)
    keys = lax.stop_gradient(input)
    if is_float(keys):
        # The primitive orders by bits: one sign for all zeros and all NaNs, NaN the greatest.
        keys = jnp.where(keys == 0, jnp.zeros_like(keys), keys if largest else -keys)
        keys = jnp.where(jnp.isnan(keys), jnp.asarray(jnp.nan if largest else -jnp.nan, keys.dtype), keys)
    elif not largest:
        keys = ~keys
    if 2 * k > input.shape[axis]:
        places = lax.slice_in_dim(order(input, axis, largest), 0, k, axis=axis)
    else:
        places = lax.top_k(keys, k, axis=axis)[1].astype(np.int64)
    return take_along(input, places, axis), places


@op(method=True, returns=("values", "indices"))
def kthvalue(input: Array, k: int, dim: int = -1, keepdim: bool = False) -> tuple[Array, Array]:
    """The k-th smallest (from 1) along `dim`, and where it is. Which of several equals is named may differ."""
    axis = wrap_dim(dim, input.ndim)
    if not 1 <= k <= (input.shape[axis] if input.ndim else 1):
        raise RuntimeError(f"kthvalue(): selected number k out of range for dimension {axis}")
    if input.ndim == 0:
        return input, jnp.zeros((), np.int64)
    index = lax.slice_in_dim(order(input, axis), k - 1, k, axis=axis)
    return drop(take_along(input, index, axis), (axis,), keepdim), drop(index, (axis,), keepdim)


# --- search ------------------------------------------------------------------------------------------------------


def _search(edges: Array, values: Array, right: bool, out_int32: bool) -> Array:
    """Insertion points of values into edges sorted along their last dim; leading dims correspond."""
    edges, values = to_common(edges, values)
    dtype = np.int32 if out_int32 else np.int64
    side = "right" if right else "left"
    if edges.shape[-1] == 0:
        return jnp.zeros(values.shape, dtype)

    def find(row: Array, wanted: Array) -> Array:
        return jnp.searchsorted(row, wanted, side=side)

    if edges.ndim == 1:
        return find(edges, values).astype(dtype)
    rows = edges.reshape(-1, edges.shape[-1])
    wanted = values.reshape(rows.shape[0], values.shape[-1])
    return jax.vmap(find)(rows, wanted).reshape(values.shape).astype(dtype)


@op(differentiable=False)
def searchsorted(
    sorted_sequence: Array,
    input: Operand,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Array | None = None,
) -> Array:
    """Where to insert `input` into sequences sorted along their last dim (or by `sorter`): before equals, or after."""
    edges, name = sorted_sequence, "torch.searchsorted()"
    if side not in (None, "left", "right"):
        raise RuntimeError(f"{name}: side can only be 'left' or 'right' but got {side}")
    if side == "left" and right:
        raise RuntimeError(f"{name}: side and right can't be set to opposites, got side of left while right was True")
    if edges.ndim == 0:
        raise RuntimeError(f"{name}: boundaries tensor should have positive dimension, but got 0 dimension")
    if input.ndim == 0 and edges.ndim != 1:
        raise RuntimeError(
            f"{name}: input value can be a scalar only when boundaries tensor dimension is 1, but we got boundaries "
            f"tensor dim({edges.ndim}) and input value's dim(0) numel(1)"
        )
    if edges.ndim != 1 and edges.shape[:-1] != input.shape[:-1]:
        raise RuntimeError(
            f"{name}: boundaries tensor should be 1 dimension or the first N-1 dimensions of boundaries tensor and "
            f"input value tensor must match, but we got boundaries tensor {list(edges.shape)} and input value tensor "
            f"{list(input.shape)}"
        )
    if sorter is not None:
        if sorter.shape != edges.shape:
            raise RuntimeError(
                f"{name}: boundary and sorter must have the same size, but got boundary tensor {list(edges.shape)}"
                f"and got sorter tensor {list(sorter.shape)}"
            )
        if sorter.dtype != np.int64:
            raise RuntimeError(f"{name}: sorter must be a tensor of long dtype")
        edges = take_along(edges, sorter, edges.ndim - 1)
    return _search(edges, input, right or side == "right", out_int32)


@op(differentiable=False)
def bucketize(input: Operand, boundaries: Array, *, out_int32: bool = False, right: bool = False) -> Array:
    """The bucket, between sorted `boundaries`, of each element; a boundary belongs to the bucket below, or above."""
    if boundaries.ndim != 1:
        raise RuntimeError(f"boundaries tensor must be 1 dimension, but got dim({boundaries.ndim})")
    return _search(boundaries, input, right, out_int32)


@op(differentiable=False)
def isin(elements: Operand, test_elements: Operand, *, assume_unique: bool = False, invert: bool = False) -> Array:
    """Whether each element is among `test_elements` (of any shape). Bool."""
    elements, test_elements = to_common(elements, test_elements)
    return jnp.isin(elements, test_elements, assume_unique=assume_unique, invert=invert)
