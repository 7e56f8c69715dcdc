"""Look-ups in an embedding table, one by one and in bags."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jtorch._ops._common import Array, Number, scalar_name
from jtorch._ops.registry import op


@op(out=False)
def embedding(
    weight: Array, indices: Array, padding_idx: int = -1, scale_grad_by_freq: bool = False, sparse: bool = False
) -> Array:
    """Rows of weight (V, D) at indices (...): a tensor (..., D).

    The row padding_idx gets no gradient. scale_grad_by_freq divides a row's gradient by how often it was asked for.
    sparse is accepted; gradients are dense. An index out of range gives NaN, where torch raises IndexError.
    """
    if weight.ndim != 2:
        raise RuntimeError("'weight' must be 2-D")
    _need_index(indices, "embedding")
    return _rows(weight, indices, padding_idx, scale_grad_by_freq)


@op(name="embedding_bag", key="nn.embedding_bag", function=False, out=False)
def embedding_bag(
    weight: Array,
    indices: Array,
    offsets: Array | None = None,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    per_sample_weights: Array | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Array:
    """Sum, mean or max of the rows in each bag: (B, D).

    indices: (B, L), a bag a row and no offsets; or (N) with offsets (B), where each bag starts (and with
    include_last_offset, as the last, where the last one ends). Rows at padding_idx do not count. An empty bag is 0.
    """
    if weight.ndim != 2:
        raise RuntimeError("'weight' must be 2-D")
    if mode not in ("sum", "mean", "max"):
        raise ValueError("mode has to be one of sum, mean or max")
    if scale_grad_by_freq and mode == "max":
        raise RuntimeError("embedding_bag: scaling gradient by frequency is not supported for max mode")
    _need_index(indices, "embedding_bag")
    if padding_idx is not None:
        padding_idx %= weight.shape[0]
    if indices.ndim == 2:
        bags, length = indices.shape
        owner = jnp.repeat(jnp.arange(bags), length, total_repeat_length=bags * length)
    else:
        assert offsets is not None
        bags = offsets.shape[0] - int(include_last_offset)
        # Item i belongs to the last bag that starts at or before it.
        owner = jnp.searchsorted(offsets[:bags], jnp.arange(indices.shape[0]), side="right") - 1
        if include_last_offset:
            owner = jnp.where(jnp.arange(indices.shape[0]) < offsets[bags], owner, bags)
    flat = indices.reshape(-1)
    rows = _rows(weight, flat, -1, scale_grad_by_freq)
    counted = jnp.ones(flat.shape, bool) if padding_idx is None else flat != padding_idx
    owner = jnp.where(counted, owner, bags)
    if mode == "max":
        return _bag_max(rows, owner, bags)
    if per_sample_weights is not None:
        rows = rows * per_sample_weights.reshape(-1, 1)
    total = jnp.zeros((bags, weight.shape[1]), rows.dtype).at[owner].add(rows, mode="drop")
    if mode == "sum":
        return total
    count = jnp.zeros((bags,), rows.dtype).at[owner].add(jnp.ones((), rows.dtype), mode="drop")
    return total / jnp.maximum(count, 1)[:, None]


def _bag_max(rows: Array, owner: Array, bags: int) -> Array:
    """Largest element of each bag and column; the gradient goes to the first item that holds it."""
    fixed = jax.lax.stop_gradient(rows)
    lowest = -jnp.inf if jnp.issubdtype(rows.dtype, jnp.inexact) else jnp.iinfo(rows.dtype).min
    best = jnp.full((bags, rows.shape[1]), lowest, rows.dtype).at[owner].max(fixed, mode="drop")
    order = jnp.arange(rows.shape[0])[:, None]
    holds = fixed == best.at[owner].get(mode="fill", fill_value=jnp.nan)
    first = jnp.where(holds, order, rows.shape[0])
    chosen = jnp.full(best.shape, rows.shape[0], order.dtype).at[owner].min(first, mode="drop")
    if not rows.shape[0]:
        return jnp.zeros(best.shape, rows.dtype)
    picked = jnp.take_along_axis(rows, jnp.minimum(chosen, rows.shape[0] - 1), axis=0)
    return jnp.where(chosen < rows.shape[0], picked, jnp.zeros((), rows.dtype))


@op(function=False, out=False, differentiable=False)
def embedding_renorm(weight: Array, indices: Array, max_norm: Number, norm_type: float) -> Array:
    """weight with the rows at indices, where their norm exceeds max_norm, scaled down to it."""
    flat = indices.reshape(-1)
    rows = weight.at[flat].get(mode="clip")
    norm = jnp.linalg.norm(rows, ord=norm_type, axis=1, keepdims=True)
    limit = jnp.asarray(max_norm).astype(weight.dtype)
    scaled = jnp.where(norm > limit, rows * (limit / (norm + 1e-7)), rows)
    return weight.at[flat].set(scaled.astype(weight.dtype), mode="drop")


def _need_index(indices: Array, where: str) -> None:
    kind = scalar_name(indices)
    if kind not in ("Long", "Int"):
        raise RuntimeError(
            "Expected tensor for argument #1 'indices' to have one of the following scalar types: Long, Int; "
            f"but got torch.{kind}Tensor instead (while checking arguments for {where})"
        )


def _rows(weight: Array, indices: Array, padding_idx: int, scale_grad_by_freq: bool) -> Array:
    size = weight.shape[0]
    if padding_idx < -1:
        padding_idx += size
    index = jnp.where(indices < 0, size, indices)
    rows = weight.at[index].get(mode="fill", fill_value=jnp.nan if weight.dtype.kind not in "iub" else 0)
    if scale_grad_by_freq:
        count = jnp.zeros((size,), jnp.int32).at[index].add(1, mode="drop")
        share = 1 / jnp.maximum(count.at[index].get(mode="fill", fill_value=1), 1).astype(weight.dtype)
        rows = _scale_gradient(rows, share[..., None])
    if padding_idx >= 0:
        rows = jnp.where((indices == padding_idx)[..., None], jax.lax.stop_gradient(rows), rows)
    return rows


@jax.custom_jvp
def _scale_gradient(x: Array, share: Array) -> Array:
    return x


@_scale_gradient.defjvp
def _scale_gradient_jvp(primals, tangents):
    x, share = primals
    return _scale_gradient(x, share), share * tangents[0]
