"""Running sums, products and extremes, differences, and the trapezoid rule."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import lax

from jtorch._ops._along import common_dtype, refuse, take_along, to_common
from jtorch._ops._common import Array, DType, Number, dtype_of, is_complex, is_float, wrap_dim
from jtorch._ops.registry import op
from jtorch._runtime import dtypes


def _running(x: Array, dim: int, dtype: DType | None, scan) -> Array:
    axis = wrap_dim(dim, x.ndim)
    if dtype is not None:
        to = dtype.np
    else:
        to = x.dtype if is_float(x) or is_complex(x) else np.dtype(np.int64)
    x = x.astype(to)
    if x.ndim == 0 or x.size == 0:
        return x
    if is_float(x) and x.dtype.itemsize < 4:  # rounding at each step would pile up
        return scan(x.astype(np.float32), axis).astype(to)
    return scan(x, axis)


@op(method=True, inplace=True)
def cumsum(input: Array, dim: int, *, dtype: DType | None = None) -> Array:
    """Running sum along `dim`; integers and bools in int64."""
    return _running(input, dim, dtype, lax.cumsum)


@op(method=True, inplace=True, saves="both")
def cumprod(input: Array, dim: int, *, dtype: DType | None = None) -> Array:
    """Running product along `dim`; integers and bools in int64. The gradient is right at zeros."""
    return _running(input, dim, dtype, lax.cumprod)


def _running_extreme(x: Array, dim: int, name: str, scan) -> tuple[Array, Array]:
    axis = wrap_dim(dim, x.ndim)
    if is_complex(x):
        refuse(x, f"{name}_cpu")
    if x.ndim == 0 or x.size == 0:
        return x, jnp.zeros(x.shape, np.int64)
    plain = lax.stop_gradient(x)
    keys = plain.astype(np.uint8) if plain.dtype == np.bool_ else plain
    reached = keys == scan(keys, axis=axis)
    if is_float(x):
        reached |= jnp.isnan(keys)
    # Among equals the latest counts, and NaN beats all.
    at = lax.broadcasted_iota(np.int32, x.shape, axis)
    index = lax.cummax(jnp.where(reached, at, 0), axis=axis)
    return take_along(x, index, axis), index.astype(np.int64)


@op(method=True, returns=("values", "indices"))
def cummax(input: Array, dim: int) -> tuple[Array, Array]:
    """The greatest so far along `dim`, and where it (last) was; the gradient goes there."""
    return _running_extreme(input, dim, "cummax", lax.cummax)


@op(method=True, returns=("values", "indices"))
def cummin(input: Array, dim: int) -> tuple[Array, Array]:
    """The smallest so far along `dim`, and where it (last) was; the gradient goes there."""
    return _running_extreme(input, dim, "cummin", lax.cummin)


@op(method=True)
def logcumsumexp(input: Array, dim: int) -> Array:
    """log of the running sum of exp along `dim`, without overflow. Floating and complex only."""
    axis = wrap_dim(dim, input.ndim)
    if not (is_float(input) or is_complex(input)):
        refuse(input, "logcumsumexp_out_cpu")
    if input.ndim == 0 or input.size == 0:
        return input
    return lax.associative_scan(jnp.logaddexp, input, axis=axis)


@op(method=True, grad_name="SubBackward0")
def diff(input: Array, n: int = 1, dim: int = -1, prepend: Array | None = None, append: Array | None = None) -> Array:
    """n-th differences of neighbours along `dim`, bounded by `prepend` and `append`; exclusive or for bools."""
    if input.ndim == 0:
        raise RuntimeError("diff expects input to be at least one-dimensional")
    axis = wrap_dim(dim, input.ndim)
    if n < 0:
        raise RuntimeError(f"order must be non-negative but got {n}")
    for bound in (prepend, append):
        if bound is None:
            continue
        if bound.ndim != input.ndim:
            raise RuntimeError("diff expects prepend or append to be the same dimension as input")
        for d, (own, other) in enumerate(zip(input.shape, bound.shape, strict=True)):
            if d != axis and own != other:
                raise RuntimeError(
                    "diff expects the shape of tensor to prepend or append to match that of input except along the "
                    f"differencing dimension; input.size({d}) = {own}, but got tensor.size({d}) = {other}"
                )
    if n == 0:
        return input
    parts = to_common(*(part for part in (prepend, input, append) if part is not None))
    x = jnp.concatenate(parts, axis=axis) if len(parts) > 1 else input
    for _ in range(min(n, x.shape[axis])):
        later, earlier = lax.slice_in_dim(x, 1, None, axis=axis), lax.slice_in_dim(x, 0, -1, axis=axis)
        x = later ^ earlier if x.dtype == np.bool_ else later - earlier
    return x


def _panels(y: Array, x: Array | None, dx: Array, dim: int, name: str) -> tuple[Array, int]:
    """Area between neighbouring samples, times the panel's width, and the dim from the front."""
    if y.ndim == 0:
        raise IndexError(f"Dimension specified as {dim} but tensor has no dimensions")
    axis = wrap_dim(dim, y.ndim)
    for which, samples in (("y", y), ("x", x)):
        if samples is not None and samples.dtype == np.bool_:
            raise RuntimeError(f"{name}: received a bool input for `{which}`, but bool is not supported")
    best = dtype_of(y) if x is None else common_dtype(y, x)
    if best.category < dtypes.FLOATING:
        best = dtypes.get_default_dtype()
    dx = jnp.asarray(dx)
    if x is None and is_complex(dx):
        best = best.to_complex()
    y = y.astype(best.np)
    sides = lax.slice_in_dim(y, 1, None, axis=axis) + lax.slice_in_dim(y, 0, -1, axis=axis) if y.shape[axis] else y
    if x is None or x.ndim == 0:
        width = dx.astype(best.np) if x is None else jnp.zeros((), best.np)
        return sides * width / 2, axis
    x = x.astype(best.np)
    if x.ndim == 1:
        if x.shape[0] != y.shape[axis]:
            raise RuntimeError(f"{name}: There must be one `x` value for each sample point")
        x = x.reshape(tuple(x.size if d == axis else 1 for d in range(y.ndim)))
    else:
        x = x.reshape((1,) * (y.ndim - x.ndim) + x.shape)
    own = axis + max(0, x.ndim - y.ndim)
    return sides * jnp.diff(x, axis=own) / 2, own


@op(key="trapezoid", out=False, grad_name="MulBackward1")
def trapezoid(y: Array, x: Array | None = None, *, dx: Number = 1, dim: int = -1) -> Array:
    """The integral of samples y along `dim` at places x, or `dx` apart."""
    panels, axis = _panels(y, x, dx, dim, "trapezoid")
    return jnp.sum(panels, axis=axis)


@op(key="trapz", out=False, grad_name="MulBackward1")
def trapz(y: Array, x: Array | None = None, *, dx: Number = 1, dim: int = -1) -> Array:
    """`trapezoid` by its older name."""
    return trapezoid(y, x, dx=dx, dim=dim)


@op(out=False, grad_name="CumsumBackward0")
def cumulative_trapezoid(y: Array, x: Array | None = None, *, dx: Number = 1, dim: int = -1) -> Array:
    """The running integral of samples y along `dim`, one element fewer than y."""
    panels, axis = _panels(y, x, dx, dim, "cumulative_trapezoid")
    return jnp.cumsum(panels, axis=axis)
