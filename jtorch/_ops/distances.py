"""p-norms of differences: the core that norms share, cdist, pdist, pairwise_distance, cosine_similarity."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np

from jtorch._ops._common import Array, is_complex, is_float, scalar_name, wrap_dim
from jtorch._ops.registry import op


def magnitude(x: Array) -> Array:
    """|x|, real, with gradient 0 at 0 (jax's is 1 there)."""
    zero = x == 0
    size = jnp.abs(jnp.where(zero, jnp.ones((), x.dtype), x))
    return jnp.where(zero, jnp.zeros((), size.dtype), size)


def p_norm(x: Array, p: float, axis: int | tuple[int, ...] | None, keepdims: bool = False) -> Array:
    """(sum |x|^p)^(1/p) with gradient 0 where the norm is 0.

    P may be 0 and the infinities (ties share the gradient).
    """
    if p == 2:
        square = (x.real * x.real + x.imag * x.imag) if is_complex(x) else x * x
        total = square.sum(axis, keepdims=keepdims, dtype=square.dtype)
        zero = total == 0
        return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, total)))
    size = magnitude(x)
    if p == 0:
        return (size != 0).astype(size.dtype).sum(axis, keepdims=keepdims, dtype=size.dtype)
    if p == 1:
        return size.sum(axis, keepdims=keepdims, dtype=size.dtype)
    if p == math.inf:
        return size.max(axis, keepdims=keepdims)
    if p == -math.inf:
        return size.min(axis, keepdims=keepdims)
    # Zeros are kept out of both powers: their derivatives are infinite or nan where p is small.
    inside = size == 0
    blank = 0 if p > 0 else math.inf
    power = jnp.where(inside, jnp.asarray(blank, size.dtype), jnp.where(inside, 1, size) ** np.asarray(p, size.dtype))
    total = power.sum(axis, keepdims=keepdims, dtype=size.dtype)
    edge = (total == 0) | (total == math.inf) if p < 0 else total == 0
    root = jnp.where(edge, 1, total) ** np.asarray(1 / p, size.dtype)
    at_edge = jnp.where(total == 0, jnp.asarray(0 if p > 0 else math.inf, size.dtype), jnp.asarray(0, size.dtype))
    return jnp.where(edge, at_edge, root)


@op()
def cdist(x1: Array, x2: Array, p: float = 2.0, compute_mode: str | None = None) -> Array:
    """p-distances between the rows of x1 (..., n, d) and of x2 (..., m, d): (..., n, m).

    Always by differences, never by the squared-norm expansion: `compute_mode` is checked and changes nothing.
    """
    for label, x in (("X1", x1), ("X2", x2)):
        if x.ndim < 2:
            raise RuntimeError(f"cdist only supports at least 2D tensors, {label} got: {x.ndim}D")
    for label, x in (("X1", x1), ("X2", x2)):
        if not is_float(x):
            raise RuntimeError(f"cdist only supports floating-point dtypes, {label} got: {scalar_name(x)}")
    if x1.shape[-1] != x2.shape[-1]:
        raise RuntimeError(f"X1 and X2 must have the same number of columns. X1: {x1.shape[-1]} X2: {x2.shape[-1]}")
    if x1.dtype != x2.dtype:
        raise RuntimeError(f"expected scalar type {scalar_name(x1)} but found {scalar_name(x2)}")
    if p < 0:
        raise RuntimeError("cdist only supports non-negative p values")
    modes = (None, "use_mm_for_euclid_dist_if_necessary", "use_mm_for_euclid_dist", "donot_use_mm_for_euclid_dist")
    if compute_mode not in modes:
        raise ValueError(f"{compute_mode} is not a valid value for compute_mode")
    shape = (*jnp.broadcast_shapes(x1.shape[:-2], x2.shape[:-2]), x1.shape[-2], x2.shape[-2])
    if not x1.shape[-1] or 0 in shape:
        return jnp.zeros(shape, x1.dtype)
    return p_norm(x1[..., :, None, :] - x2[..., None, :, :], p, -1)


@op(namespaces=("nn.functional",))
def pdist(input: Array, p: float = 2.0) -> Array:
    """p-distances between every two rows of an (n, d) matrix, n (n - 1) / 2 of them in row order."""
    if input.ndim != 2:
        raise RuntimeError(f"pdist only supports 2D tensors, got: {input.ndim}D")
    if not is_float(input):
        raise RuntimeError("pdist only supports floating-point dtypes")
    if p < 0:
        raise RuntimeError("pdist only supports non-negative p values")
    rows, columns = np.triu_indices(input.shape[0], 1)
    if not len(rows) or not input.shape[1]:
        return jnp.zeros(len(rows), input.dtype)
    return p_norm(input[rows] - input[columns], p, -1)


@op(namespaces=("nn.functional",), promote="float", promote_args=("x1", "x2"), grad_name="NormBackward1")
def pairwise_distance(x1: Array, x2: Array, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Array:
    """p-norm over the last dim of x1 - x2 + eps."""
    return p_norm(x1 - x2 + np.asarray(eps, x1.dtype), p, -1, keepdim)


@op(namespaces=("nn.functional",), promote="same", promote_args=("x1", "x2"), grad_name="SumBackward1")
def cosine_similarity(x1: Array, x2: Array, dim: int = 1, eps: float = 1e-8) -> Array:
    """Cosine of the angle between vectors along `dim`; each norm counts as at least eps."""
    if not is_float(x1):
        raise RuntimeError(f"expected common dtype to be floating point, yet common dtype is {scalar_name(x1)}")
    shape = jnp.broadcast_shapes(x1.shape, x2.shape)
    axis = wrap_dim(dim, len(shape))
    x1, x2 = jnp.broadcast_to(x1, shape), jnp.broadcast_to(x2, shape)
    if not shape:
        x1, x2 = x1[None], x2[None]

    def unit(x: Array) -> Array:
        norm = p_norm(x, 2, axis, True)
        floor = np.asarray(eps, x.dtype)
        return x / jnp.where(norm < floor, floor, norm)

    return (unit(x1) * unit(x2)).sum(axis, dtype=x1.dtype)
