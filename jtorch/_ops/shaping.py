"""Copies in another shape or order: flip, roll, repeat, triangles, diagonals, fill."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
from jax import lax

from jtorch._ops._common import Array, Number, Operand, is_complex, scalar_name, wrap_dim, wrap_dims
from jtorch._ops._norms import vector_norm
from jtorch._ops.registry import op


@op(method=True, out=False, varargs="dims")
def flip(input: Array, dims: tuple[int, ...]) -> Array:
    """A copy with the order reversed along `dims`."""
    dims = (dims,) if isinstance(dims, int) else dims
    axes = wrap_dims(dims, input.ndim) if dims else ()
    return lax.rev(input, axes) if axes else input


@op(method=True, out=False, grad_name="FlipBackward0")
def fliplr(input: Array) -> Array:
    """A copy with its columns reversed."""
    if input.ndim < 2:
        raise RuntimeError("Input must be >= 2-d.")
    return lax.rev(input, (1,))


@op(method=True, out=False, grad_name="FlipBackward0")
def flipud(input: Array) -> Array:
    """A copy with its rows reversed."""
    if input.ndim < 1:
        raise RuntimeError("Input must be >= 1-d.")
    return lax.rev(input, (0,))


@op(method=True, out=False)
def rot90(input: Array, k: int = 1, dims: tuple[int, ...] = (0, 1)) -> Array:
    """Turned by k quarter turns in the plane of two dims, from the first towards the second."""
    if len(dims) != 2:
        raise RuntimeError(f"expected total rotation dims == 2, but got dims = {len(dims)}")
    if input.ndim < 2:
        raise RuntimeError(f"expected total dims >= 2, but got total dims = {input.ndim}")
    a, b = (wrap_dim(d, input.ndim) for d in dims)
    if a == b:
        raise RuntimeError(f"expected rotation dims to be different, but got dim0 = {dims[0]} and dim1 = {dims[1]}")
    k %= 4
    if k == 0:
        return input
    if k == 2:
        return lax.rev(input, (a, b))
    return lax.rev(jnp.swapaxes(input, a, b), (a if k == 1 else b,))


@op(method=True, out=False)
def roll(input: Array, shifts: int | tuple[int, ...], dims: int | tuple[int, ...] = ()) -> Array:
    """Shifted along `dims`, what leaves at one end entering at the other; without dims, as if flattened."""
    shifts = (shifts,) if isinstance(shifts, int) else shifts
    dims = (dims,) if isinstance(dims, int) else dims
    if not shifts:
        raise RuntimeError("`shifts` required")
    if not dims and len(shifts) == 1:
        return jnp.roll(input.reshape(-1), shifts[0]).reshape(input.shape) if input.size else input
    if len(shifts) != len(dims):
        raise RuntimeError(f"shifts and dimensions must align. shifts: {len(shifts)}, dims:{len(dims)}")
    if dims and not input.ndim:
        raise IndexError(f"Dimension specified as {dims[0]} but tensor has no dimensions")
    for shift, dim in zip(shifts, dims, strict=True):
        axis = wrap_dim(dim, input.ndim)
        if input.size:
            input = jnp.roll(input, shift, axis)
    return input


@op(function=False, method=True, out=False, varargs="repeats")
def repeat(input: Array, repeats: tuple[int, ...]) -> Array:
    """Copies of the whole along every dim (and new ones in front)."""
    repeats = (repeats,) if isinstance(repeats, int) else repeats
    if len(repeats) < input.ndim:
        raise RuntimeError("Number of dimensions of repeat dims can not be smaller than number of dimensions of tensor")
    shape = (1,) * (len(repeats) - input.ndim) + input.shape
    sizes = [n * r for n, r in zip(shape, repeats, strict=True)]
    if min(sizes, default=0) < 0:
        raise RuntimeError(f"Trying to create tensor with negative dimension {min(sizes)}: {sizes}")
    return jnp.tile(input.reshape(shape), repeats)


@op(method=True, out=False, varargs="dims", grad_name="RepeatBackward0")
def tile(input: Array, dims: tuple[int, ...]) -> Array:
    """`repeat`, with fewer dims than the tensor's filled with ones in front."""
    dims = (dims,) if isinstance(dims, int) else dims
    return repeat(input, (1,) * (input.ndim - len(dims)) + tuple(dims))


@op(key="repeat_interleave.int", name="repeat_interleave", method=True, out=False, grad_name="ViewBackward0")
def repeat_interleave(input: Array, repeats: int, dim: int | None = None, *, output_size: int | None = None) -> Array:
    """Each element (slice along `dim`) `repeats` times in a row; without dim, of the flattened tensor."""
    if repeats < 0:
        raise RuntimeError("Repeats must be non-negative")
    x = input.reshape(-1) if dim is None or input.ndim == 0 else input
    axis = 0 if dim is None else wrap_dim(dim, input.ndim)
    size = x.shape[axis] * repeats
    if output_size is not None and output_size != size:
        raise RuntimeError(f"repeat_interleave: Invalid output_size, expected {size} but got {output_size}")
    wide = jnp.broadcast_to(jnp.expand_dims(x, axis + 1), (*x.shape[: axis + 1], repeats, *x.shape[axis + 1 :]))
    return wide.reshape((*x.shape[:axis], size, *x.shape[axis + 1 :]))


# --- triangles and diagonals ---------------------------------------------------------------------------------------


@op(method=True, inplace=True)
def tril(input: Array, diagonal: int = 0) -> Array:
    """The lower triangle of matrices, up to the given diagonal; zeros above."""
    if input.ndim < 2:
        raise RuntimeError("tril: input tensor must have at least 2 dimensions")
    return jnp.tril(input, diagonal)


@op(method=True, inplace=True)
def triu(input: Array, diagonal: int = 0) -> Array:
    """The upper triangle of matrices, from the given diagonal; zeros below."""
    if input.ndim < 2:
        raise RuntimeError("triu: input tensor must have at least 2 dimensions")
    return jnp.triu(input, diagonal)


@op(method=True, out=False)
def diag_embed(input: Array, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Array:
    """Matrices, in dims `dim1` and `dim2` of the result, with input's last dim on a diagonal."""
    ndim = input.ndim + 1
    first, second = wrap_dim(dim1, ndim), wrap_dim(dim2, ndim)
    if first == second:
        raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    x = jnp.atleast_1d(input)
    size = x.shape[-1] + abs(offset)
    x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, abs(offset))])
    row = lax.broadcasted_iota(np.int32, (size, size), 0)
    column = lax.broadcasted_iota(np.int32, (size, size), 1)
    x = jnp.expand_dims(x, -1 if offset >= 0 else -2)
    return jnp.moveaxis(jnp.where(column - row == offset, x, jnp.zeros((), x.dtype)), (-2, -1), (first, second))


@op(method=True, out=False, grad_name="DiagEmbedBackward0")
def diagflat(input: Array, offset: int = 0) -> Array:
    """A matrix with all of input's elements on a diagonal."""
    return diag_embed(input.reshape(-1), offset)


@op(name="diag", key="diag.embed", method=True, grad_name="DiagEmbedBackward0")
def diag(input: Array, diagonal: int = 0) -> Array:
    """A matrix with a vector on a diagonal. (The diagonal of a matrix is a view, and no operation.)"""
    if input.ndim != 1:
        raise RuntimeError(f"diag(): Supports 1D or 2D tensors. Got {input.ndim}D")
    return diag_embed(input, diagonal)


@op(out=False, grad_name="FlipBackward0")
def vander(x: Array, N: int | None = None, increasing: bool = False) -> Array:
    """The powers of a vector's elements as columns, falling unless `increasing`; integers in int64."""
    if x.ndim != 1:
        raise RuntimeError("x must be a one-dimensional tensor.")
    columns = x.size if N is None else N
    if columns < 0:
        raise RuntimeError("N must be non-negative.")
    if not jnp.issubdtype(x.dtype, np.inexact):
        x = x.astype(np.int64)
    powers = jnp.broadcast_to(x[:, None], (x.size, columns))
    powers = jnp.concatenate([jnp.ones_like(powers[:, :1]), powers[:, 1:]], axis=1)
    powers = lax.cumprod(powers, axis=1)
    return powers if increasing else powers[:, ::-1]


# --- values ----------------------------------------------------------------------------------------------------------


@op(inplace=True)
def fill(input: Array, value: Operand) -> Array:
    """A tensor like input, all of one value in input's dtype."""
    if value.ndim:
        raise RuntimeError(f"fill_ only supports 0-dimension value tensor but got tensor with {value.ndim} dimensions.")
    if is_complex(value) and not is_complex(input):
        kind = {"Float": "float", "Double": "double", "Long": "int64_t", "Int": "int"}.get(scalar_name(input))
        raise RuntimeError(f"value cannot be converted to type {kind or scalar_name(input)} without overflow")
    return jnp.broadcast_to(value.astype(input.dtype), input.shape)


@op(method=True, inplace=True)
def renorm(input: Array, p: float, dim: int, maxnorm: Number) -> Array:
    """input with each slice along `dim` whose p-norm is above `maxnorm` scaled down to it."""
    axis = wrap_dim(dim, input.ndim)
    if p <= 0:
        raise RuntimeError("renorm: non-positive-norm not supported")
    if input.ndim < 2:
        raise RuntimeError(f"renorm: input needs at least 2 dimensions, got {input.ndim} dimensions")
    axes = tuple(d for d in range(input.ndim) if d != axis)
    if math.prod(input.shape) == 0:
        return input
    size = vector_norm(input, p, axes, True)
    limit = jnp.asarray(maxnorm).astype(size.dtype)
    return input * jnp.where(size > limit, limit / (size + 1e-7), jnp.ones_like(size)).astype(input.dtype)
