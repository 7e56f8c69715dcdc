"""Tensors joined into one: cat, stack and their kin, block_diag, products of vectors, kron.

These promote by themselves: the shared caller would also check that the shapes broadcast.
"""

from __future__ import annotations

import itertools

import jax.numpy as jnp
import numpy as np
from jax import lax

from jtorch._ops._along import to_common
from jtorch._ops._common import Array, Arrays, wrap_dim
from jtorch._ops.registry import op


def _need_tensors(tensors: Arrays, name: str) -> None:
    if not tensors:
        raise RuntimeError(f"{name} expects a non-empty TensorList")


@op()
def cat(tensors: Arrays, dim: int = 0) -> Array:
    """The tensors one after another along `dim`; their other sizes must agree. Empty 1-d tensors are skipped."""
    if not tensors:
        raise ValueError("torch.cat(): expected a non-empty list of Tensors")
    tensors = to_common(*tensors)
    for i, t in enumerate(tensors):
        if t.ndim == 0:
            raise RuntimeError(f"zero-dimensional tensor (at position {i}) cannot be concatenated")
    kept = [(i, t) for i, t in enumerate(tensors) if t.shape != (0,)]
    if not kept:
        return tensors[0]
    first = kept[0][1]
    axis = wrap_dim(dim, first.ndim)
    for i, t in kept:
        if t.ndim != first.ndim:
            raise RuntimeError(f"Tensors must have same number of dimensions: got {first.ndim} and {t.ndim}")
        for d, (want, got) in enumerate(zip(first.shape, t.shape, strict=True)):
            if d != axis and want != got:
                raise RuntimeError(
                    f"Sizes of tensors must match except in dimension {axis}. Expected size {want} but got size {got} "
                    f"for tensor number {i} in the list."
                )
    return lax.concatenate([t for _, t in kept], axis) if len(kept) > 1 else first


@op(grad_name="CatBackward0")
def concat(tensors: Arrays, dim: int = 0) -> Array:
    """`cat` by another name."""
    return cat(tensors, dim)


@op(grad_name="CatBackward0")
def concatenate(tensors: Arrays, dim: int = 0) -> Array:
    """`cat` by another name."""
    return cat(tensors, dim)


@op()
def stack(tensors: Arrays, dim: int = 0) -> Array:
    """Tensors of one shape along a new `dim`."""
    if not tensors:
        raise RuntimeError("stack expects a non-empty TensorList")
    axis = wrap_dim(dim, tensors[0].ndim + 1)
    tensors = to_common(*tensors)
    for i, t in enumerate(tensors):
        if t.shape != tensors[0].shape:
            raise RuntimeError(
                f"stack expects each tensor to be equal size, but got {list(tensors[0].shape)} at entry 0 and "
                f"{list(t.shape)} at entry {i}"
            )
    return lax.concatenate([jnp.expand_dims(t, axis) for t in tensors], axis)


@op(grad_name="CatBackward0")
def hstack(tensors: Arrays) -> Array:
    """Side by side: along the second dim, or the only one."""
    _need_tensors(tensors, "hstack")
    raised = tuple(jnp.atleast_1d(t) for t in tensors)
    return cat(raised, 0 if raised[0].ndim == 1 else 1)


@op(grad_name="CatBackward0")
def vstack(tensors: Arrays) -> Array:
    """One above the other: along the first dim, vectors as rows."""
    _need_tensors(tensors, "vstack")
    return cat(tuple(jnp.atleast_2d(t) for t in tensors), 0)


@op(grad_name="CatBackward0")
def row_stack(tensors: Arrays) -> Array:
    """`vstack` by another name."""
    return vstack(tensors)


@op(grad_name="CatBackward0")
def dstack(tensors: Arrays) -> Array:
    """One behind the other: along the third dim."""
    _need_tensors(tensors, "dstack")
    return cat(tuple(jnp.atleast_3d(t) for t in tensors), 2)


@op(grad_name="CatBackward0")
def column_stack(tensors: Arrays) -> Array:
    """Side by side, vectors and 0-d tensors as columns."""
    _need_tensors(tensors, "column_stack")
    return cat(tuple(t.reshape(-1, 1) if t.ndim < 2 else t for t in tensors), 1)


@op(out=False, varargs="tensors", grad_name="CatBackward0")
def block_diag(tensors: Arrays) -> Array:
    """A matrix with the given ones (vectors as rows) on its diagonal, and zeros."""
    for i, t in enumerate(tensors):
        if t.ndim > 2:
            raise RuntimeError(
                f"torch.block_diag: Input tensors must have 2 or fewer dimensions. Input {i} has {t.ndim} dimensions"
            )
    if not tensors:
        return jnp.zeros((1, 0), np.float32)
    blocks = tuple(jnp.atleast_2d(t) for t in to_common(*tensors))
    width = sum(b.shape[1] for b in blocks)
    rows, left = [], 0
    zero = jnp.zeros((), blocks[0].dtype)
    for b in blocks:
        rows.append(lax.pad(b, zero, ((0, 0, 0), (left, width - left - b.shape[1], 0))))
        left += b.shape[1]
    return lax.concatenate(rows, 0)


@op(out=False, varargs="tensors", grad_name="StackBackward0")
def cartesian_prod(tensors: Arrays) -> Array:
    """All tuples of elements of the given vectors, the last varying fastest; one vector comes back as it is."""
    for t in tensors:
        if t.ndim != 1:
            raise RuntimeError(f"Expect a 1D vector, but got shape {list(t.shape)}")
    if not tensors:
        raise RuntimeError("meshgrid expects a non-empty TensorList")
    if any(t.dtype != tensors[0].dtype for t in tensors):
        raise RuntimeError("meshgrid expects all tensors to have the same dtype")
    if len(tensors) == 1:
        return tensors[0]
    grids = jnp.meshgrid(*tensors, indexing="ij")
    return jnp.stack([g.reshape(-1) for g in grids], axis=1)


@op(out=False, grad_name="StackBackward0")
def combinations(input: Array, r: int = 2, with_replacement: bool = False) -> Array:
    """All combinations of r elements of a vector, as rows, in the order of itertools."""
    if input.ndim != 1:
        raise RuntimeError(f"Expect a 1D vector, but got shape {list(input.shape)}")
    if r < 0:
        raise RuntimeError(f"Expect a non-negative number, but got {r}")
    if r == 0:
        return jnp.zeros((0,), input.dtype)
    choose = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    places = np.array(list(choose(range(input.size), r)), np.int32).reshape(-1, r)
    return input[places]


@op(method=True)
def kron(input: Array, other: Array) -> Array:
    """The Kronecker product; the shorter shape is filled with ones in front."""
    a, b = to_common(input, other)
    ndim = max(a.ndim, b.ndim)
    a, b = (x.reshape((1,) * (ndim - x.ndim) + x.shape) for x in (a, b))
    pairs = jnp.expand_dims(a, tuple(range(1, 2 * ndim, 2))) * jnp.expand_dims(b, tuple(range(0, 2 * ndim, 2)))
    return pairs.reshape(tuple(n * m for n, m in zip(a.shape, b.shape, strict=True)))
