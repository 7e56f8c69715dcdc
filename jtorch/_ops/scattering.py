"""Gather and scatter along one dim."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jtorch._ops._along import IN_BOUNDS, along, check_index, take_along
from jtorch._ops._common import Array, Arrays, Number, is_complex, is_float, wrap_dim
from jtorch._ops.registry import op


@op(method=True)
def gather(input: Array, dim: int, index: Array, *, sparse_grad: bool = False) -> Array:
    """input at `index` along `dim`; the result has the index's shape. Indices must be in bounds: unchecked."""
    axis = wrap_dim(dim, input.ndim)
    check_index(index, "gather")
    if index.size == 0:
        return jnp.zeros(index.shape, input.dtype)
    if max(index.ndim, 1) != max(input.ndim, 1):
        raise RuntimeError("Index tensor must have the same number of dimensions as input tensor")
    if input.ndim == 0:
        return jnp.broadcast_to(input, index.shape)
    if index.ndim == 0:
        return gather(input, dim, index.reshape(1)).reshape(())
    for d in range(input.ndim):
        if d != axis and index.shape[d] > input.shape[d]:
            raise RuntimeError(
                f"Size does not match at dimension {d} expected index {list(index.shape)} to be no larger than self "
                f"{list(input.shape)} apart from dimension {axis}"
            )
    window = tuple(slice(None) if d == axis else slice(0, n) for d, n in enumerate(index.shape))
    return take_along(input[window], index, axis)


def _prepare(x: Array, dim: int, index: Array, src: Array | None) -> tuple[Array, Array | None, Arrays]:
    """Checks, then x and src with at least one dim, and where the elements of src go."""
    axis = wrap_dim(dim, x.ndim)
    check_index(index, "scatter")
    if max(index.ndim, 1) != max(x.ndim, 1):
        raise RuntimeError("Index tensor must have the same number of dimensions as self tensor")
    if src is not None:
        if src.dtype != x.dtype:
            raise RuntimeError("scatter(): Expected self.dtype to be equal to src.dtype")
        if max(src.ndim, 1) != max(index.ndim, 1):
            raise RuntimeError("Index tensor must have the same number of dimensions as src tensor")
    x, index = jnp.atleast_1d(x), jnp.atleast_1d(index)
    src = None if src is None else jnp.atleast_1d(src)
    fits = all(d == axis or n <= x.shape[d] for d, n in enumerate(index.shape))
    if not fits or (src is not None and any(n > m for n, m in zip(index.shape, src.shape, strict=True))):
        beside = "" if src is None else f" and to be no larger size than src {list(src.shape)}"
        raise RuntimeError(
            f"Expected index {list(index.shape)} to be no larger than self {list(x.shape)} apart from dimension "
            f"{axis}{beside}"
        )
    if src is not None:
        src = src[tuple(slice(0, n) for n in index.shape)]
    return x, src, along(x.shape, axis, index)


def overwrite(x: Array, where: Arrays, src: Array) -> Array:
    """x with src written at `where`. Of several writes to a place any may win; all get the gradient, as in torch."""
    # "unique" is what makes the gradient a plain gather; a place written twice still holds one of the values.
    return x.at[where].set(src, mode=IN_BOUNDS, unique_indices=True, wrap_negative_indices=False)


def add_at(x: Array, where: Arrays, src: Array) -> Array:
    """x with src added at `where`; for bools, or."""
    if x.dtype == np.bool_:
        return add_at(x.astype(np.int32), where, src.astype(np.int32)).astype(np.bool_)
    return x.at[where].add(src, mode=IN_BOUNDS, wrap_negative_indices=False)


def pick(x: Array, where: Arrays) -> Array:
    """x at `where`."""
    return x.at[where].get(mode=IN_BOUNDS, wrap_negative_indices=False)


def _multiply(x: Array, where: Arrays, src: Array) -> Array:
    """x multiplied by src at `where`: exact gradients, zeros included."""
    if x.dtype == np.bool_:
        return _multiply(x.astype(np.int32), where, src.astype(np.int32)).astype(np.bool_)
    if not (is_float(x) or is_complex(x)):
        return x.at[where].multiply(src, mode=IN_BOUNDS, wrap_negative_indices=False)
    return _product(x, src, where)


@jax.custom_jvp
def _product(x: Array, src: Array, where: Arrays) -> Array:
    return x.at[where].multiply(src, mode=IN_BOUNDS, wrap_negative_indices=False)


@_product.defjvp
def _product_jvp(primals, tangents):
    x, src, where = primals
    x_t, src_t, _ = tangents
    one = jnp.ones((), x.dtype)
    x_zero, src_zero = x == 0, src == 0
    zeros = add_at(x_zero.astype(np.int32), where, src_zero.astype(np.int32))
    rest = _product(jnp.where(x_zero, one, x), jnp.where(src_zero, one, src), where)

    def others(factor: Array, is_zero: Array, count: Array, product: Array) -> Array:
        """The product of all factors of a place but this one."""
        clean = count == is_zero.astype(np.int32)
        return jnp.where(clean, product / jnp.where(is_zero, one, factor), jnp.zeros((), x.dtype))

    x_part = x_t * others(x, x_zero, zeros, rest)
    src_part = src_t * others(src, src_zero, pick(zeros, where), pick(rest, where))
    return _product(x, src, where), add_at(x_part, where, src_part)


def _raise_to(x: Array, where: Arrays, src: Array, rivals: Array, greatest: bool) -> Array:
    """The greatest (smallest) of x and of what src brings, at each place.

    Ties share the gradient evenly, and elements of `rivals` equal to the result take a share.
    """
    if x.dtype == np.bool_:
        x, src, rivals = (a.astype(np.uint8) for a in (x, src, rivals))
        return _raise_to(x, where, src, rivals, greatest).astype(np.bool_)
    return (_maximum if greatest else _minimum)(x, src, lax.stop_gradient(rivals), where)


@jax.custom_jvp
def _maximum(x: Array, src: Array, rivals: Array, where: Arrays) -> Array:
    return x.at[where].max(src, mode=IN_BOUNDS, wrap_negative_indices=False)


@jax.custom_jvp
def _minimum(x: Array, src: Array, rivals: Array, where: Arrays) -> Array:
    return x.at[where].min(src, mode=IN_BOUNDS, wrap_negative_indices=False)


def _extreme_jvp(extreme, primals, tangents):
    x, src, rivals, where = primals
    x_t, src_t, _, _ = tangents
    out = extreme(x, src, rivals, where)
    brought = (src == pick(out, where)).astype(x.dtype)
    count = add_at((rivals == out).astype(x.dtype), where, brought)
    total = add_at(x_t * (x == out).astype(x.dtype), where, src_t * brought)
    return out, total / count


_maximum.defjvp(lambda primals, tangents: _extreme_jvp(_maximum, primals, tangents))
_minimum.defjvp(lambda primals, tangents: _extreme_jvp(_minimum, primals, tangents))


def _limit(x: Array, greatest: bool) -> Array:
    """What a maximum (minimum) starts from."""
    if x.dtype == np.bool_:
        return jnp.asarray(not greatest)
    if is_float(x):
        return jnp.asarray(-jnp.inf if greatest else jnp.inf, x.dtype)
    info = jnp.iinfo(x.dtype)
    return jnp.asarray(info.min if greatest else info.max, x.dtype)


def reduce_at(x: Array, where: Arrays, src: Array, reduce: str, include_self: bool) -> Array:
    """x reduced with src at `where` by "sum", "prod", "mean", "amax" or "amin", its own elements counting or not."""
    own = x
    if not include_self:
        # A place that src reaches starts from the reduction's identity.
        start = {"sum": 0, "mean": 0, "prod": 1}.get(reduce)
        start = _limit(x, reduce == "amax") if start is None else jnp.asarray(start, x.dtype)
        touched = jnp.zeros(x.shape, np.bool_).at[where].set(True, mode=IN_BOUNDS, wrap_negative_indices=False)
        x = jnp.where(touched, start, x)
    if reduce == "prod":
        return _multiply(x, where, src)
    if reduce in ("amax", "amin"):
        # torch lets self's own elements share in ties even where they do not count.
        return _raise_to(x, where, src, own, reduce == "amax")
    total = add_at(x, where, src)
    if reduce == "sum":
        return total
    if include_self:
        count = add_at(jnp.ones(x.shape, np.int64), where, jnp.ones(src.shape, np.int64))
    else:
        count = jnp.maximum(add_at(jnp.zeros(x.shape, np.int64), where, jnp.ones(src.shape, np.int64)), 1)
    count = count.astype(x.dtype)
    return total / count if is_float(x) or is_complex(x) else total // count


def _scatter_like(x: Array, dim: int, index: Array, src: Array, how) -> Array:
    if index.size == 0:
        wrap_dim(dim, x.ndim)
        return x
    own, brought, where = _prepare(x, dim, index, src)
    return how(own, where, brought).reshape(x.shape)


def _overwrite_or(reduce: str | None):
    if reduce is None:
        return overwrite
    if reduce == "add":
        return add_at
    if reduce == "multiply":
        return _multiply
    raise RuntimeError("reduce argument must be either add or multiply.")


@op(key="scatter.src", method=True, inplace=True)
def scatter(input: Array, dim: int, index: Array, src: Array, *, reduce: str | None = None) -> Array:
    """input with src's elements written (added, multiplied in) at `index` along `dim`. Indices in bounds: unchecked."""
    return _scatter_like(input, dim, index, src, _overwrite_or(reduce))


@op(name="scatter", key="scatter.value", method=True, inplace=True, grad_name="ScatterBackward1")
def scatter_value(input: Array, dim: int, index: Array, value: Number, *, reduce: str | None = None) -> Array:
    """input with a number written (added, multiplied in) at `index` along `dim`."""
    how = _overwrite_or(reduce)
    if index.size == 0:
        wrap_dim(dim, input.ndim)
        return input
    x, _, where = _prepare(input, dim, index, None)
    src = jnp.broadcast_to(jnp.asarray(value).astype(x.dtype), jnp.atleast_1d(index).shape)
    return how(x, where, src).reshape(input.shape)


@op(method=True, inplace=True)
def scatter_add(input: Array, dim: int, index: Array, src: Array) -> Array:
    """input with src's elements added at `index` along `dim`."""
    return _scatter_like(input, dim, index, src, add_at)


@op(method=True, inplace=True)
def scatter_reduce(
    input: Array, dim: int, index: Array, src: Array, reduce: str, *, include_self: bool = True
) -> Array:
    """input reduced with src's elements at `index` along `dim`: "sum", "prod", "mean", "amax" or "amin"."""
    if reduce not in ("sum", "prod", "mean", "amax", "amin"):
        raise RuntimeError(f"reduce argument must be either sum, prod, mean, amax or amin, got {reduce}")
    return _scatter_like(
        input, dim, index, src, lambda x, where, brought: reduce_at(x, where, brought, reduce, include_self)
    )
