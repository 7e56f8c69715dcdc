"""Scaled dot product attention, as torch's math path computes it."""

from __future__ import annotations

import math

import jax.numpy as jnp
from jax import lax

from jtorch._ops._common import Array, dtype_of, scalar_name
from jtorch._ops._reduction import check_broadcast
from jtorch._ops.registry import op


@op(key="nn.scaled_dot_product_attention", name="scaled_dot_product_attention", function=False, out=False)
def scaled_dot_product_attention(
    query: Array,
    key: Array,
    value: Array,
    attn_mask: Array | None = None,
    dropout_mask: Array | None = None,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Array:
    """softmax(query @ key^T * scale + mask) @ value over the last two dims.

    query: (..., H, L, E), key: (..., H, S, E), value: (..., H, S, Ev); with enable_gqa key and value may have fewer
    heads, a divisor of H. attn_mask: broadcastable to (..., L, S); bool (True takes part) or added to the scores.
    dropout_mask: multiplies the weights, zeros and 1 / (1 - p). scale: 1 / sqrt(E) by default. A row that may attend
    to nothing gives zeros. Half types are multiplied with float32 sums and their softmax is taken in float32.
    """
    _check(query, key, value, attn_mask)
    length, span = query.shape[-2], key.shape[-2]
    lead = query.shape[:-1]
    grouped = enable_gqa and query.ndim > 2 and query.shape[-3] != key.shape[-3]
    if grouped:
        heads, own = query.shape[-3], key.shape[-3]
        if not own or heads % own or value.shape[-3] != own:
            raise RuntimeError("Number of heads in key and value must divide the number of heads in query")
        # One more dim, the heads that share a key: nothing is repeated.
        query = query.reshape(*query.shape[:-3], own, heads // own, *query.shape[-2:])
        key, value = key[..., None, :, :], value[..., None, :, :]
    wide = jnp.float32 if query.dtype.itemsize < 4 else query.dtype
    # The root of the scale on either side keeps the product in range, as torch has it.
    root = math.sqrt(abs(scale)) if scale is not None else 1 / math.sqrt(math.sqrt(max(query.shape[-1], 1)))
    sign = -1.0 if scale is not None and scale < 0 else 1.0
    left = query.astype(wide) * jnp.asarray(root * sign, wide)
    right = jnp.swapaxes(key.astype(wide) * jnp.asarray(root, wide), -1, -2)
    scores = jnp.matmul(left, right)
    masked = jnp.asarray(-jnp.inf, wide)
    if is_causal:
        scores = jnp.where(jnp.tri(length, span, dtype=bool), scores, masked)
    if attn_mask is not None:
        whole = (*lead, span)
        check_broadcast(whole, attn_mask.shape)
        if grouped:
            attn_mask = _split_heads(attn_mask, heads, own)
        scores = jnp.where(attn_mask, scores, masked) if attn_mask.dtype == bool else scores + attn_mask.astype(wide)
    weights = _safe_softmax(scores)
    if dropout_mask is not None:
        mask = _split_heads(dropout_mask, heads, own) if grouped else dropout_mask
        weights = weights * mask.astype(wide)
    result = jnp.matmul(weights, value.astype(wide)).astype(value.dtype)
    return result.reshape(*lead, value.shape[-1]) if grouped else result


def _check(query: Array, key: Array, value: Array, attn_mask: Array | None) -> None:
    if not query.dtype == key.dtype == value.dtype:
        raise RuntimeError(
            "Expected query, key, and value to have the same dtype, but got "
            f"query.dtype: {_type_name(query)} key.dtype: {_type_name(key)} and "
            f"value.dtype: {_type_name(value)} instead."
        )
    if min(query.ndim, key.ndim, value.ndim) < 2:
        raise RuntimeError(
            "Expected query, key, and value to all be  at least 2 dimensional, but got "
            f"query.dim: {query.ndim} key.dim: {key.ndim} and value.dim: {value.ndim} instead."
        )
    if attn_mask is not None and attn_mask.dtype not in (jnp.bool_, jnp.float32, query.dtype):
        raise RuntimeError(
            "Expected attn_mask dtype to be bool or float or to match query dtype, but got "
            f"attn_mask.dtype: {_type_name(attn_mask)} and  query.dtype: {_type_name(query)} instead."
        )
    if query.shape[-1] != key.shape[-1]:
        raise RuntimeError(
            f"Expected size for first two dimensions of batch2 tensor to be: [{math.prod(key.shape[:-2])}, "
            f"{query.shape[-1]}] but got: [{math.prod(key.shape[:-2])}, {key.shape[-1]}]."
        )
    if key.shape[-2] != value.shape[-2]:
        raise RuntimeError(
            f"Expected size for first two dimensions of batch2 tensor to be: [{math.prod(value.shape[:-2])}, "
            f"{key.shape[-2]}] but got: [{math.prod(value.shape[:-2])}, {value.shape[-2]}]."
        )


def _type_name(x: Array) -> str:
    """An element type as these messages have it: C's name for it."""
    words = {"Half": "c10::Half", "BFloat16": "c10::BFloat16", "Long": "long int", "Byte": "unsigned char"}
    return words.get(scalar_name(x), scalar_name(x).lower() if dtype_of(x).category < 3 else repr(dtype_of(x)))


def _split_heads(mask: Array, heads: int, own: int) -> Array:
    """The dim of query heads as (key heads, heads that share one)."""
    if mask.ndim < 3:
        return mask
    if mask.shape[-3] == 1:
        return mask[..., None, :, :]
    return mask.reshape(*mask.shape[:-3], own, heads // own, *mask.shape[-2:])


def _safe_softmax(scores: Array) -> Array:
    """softmax over the last dim; a row of -inf gives zeros, with a gradient of zeros."""
    if not scores.shape[-1]:
        return scores
    top = lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True))
    top = jnp.where(jnp.isfinite(top), top, jnp.zeros((), scores.dtype))
    parts = jnp.exp(scores - top)
    total = jnp.sum(parts, axis=-1, keepdims=True)
    return parts / jnp.where(total == 0, jnp.ones((), scores.dtype), total)
