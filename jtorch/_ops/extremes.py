"""Extremes and order statistics: max, min, argmax, median, mode, quantile, histc."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import lax

from jtorch._ops._along import drop, order, refuse, refuse_complex, spread, take_along
from jtorch._ops._common import Array, Operand, is_complex, is_float, larger, smaller, wrap_dim, wrap_dims
from jtorch._ops.registry import op


def _amax(x: Array, axes: tuple[int, ...]) -> Array:
    return jnp.max(x, axis=axes, keepdims=True)


def _amin(x: Array, axes: tuple[int, ...]) -> Array:
    return jnp.min(x, axis=axes, keepdims=True)


def _need_elements(x: Array, name: str) -> None:
    if x.size == 0:
        raise RuntimeError(
            f"{name}(): Expected reduction dim to be specified for input.numel() == 0. "
            "Specify the reduction dim with the 'dim' argument."
        )


def _need_size(x: Array, axes: tuple[int, ...], name: str) -> None:
    for a in axes:
        if x.shape[a] == 0:
            raise IndexError(f"{name}: Expected reduction dim {a} to have non-zero size.")


def _at_index(x: Array, index: Array, axis: int, keepdim: bool) -> tuple[Array, Array]:
    """Values and indices of a choice along one dim; the gradient goes to the chosen element."""
    values = take_along(x, index, axis)
    return drop(values, (axis,), keepdim), drop(index, (axis,), keepdim)


def _extreme_all(x: Array, name: str, pick) -> Array:
    _need_elements(x, name)
    refuse_complex(x, f"{name}_all")
    axes = tuple(range(x.ndim))
    return drop(spread(x, pick, axes, True), axes, False)


def _extreme_dim(x: Array, dim: int, keepdim: bool, name: str, find) -> tuple[Array, Array]:
    axis = wrap_dim(dim, x.ndim)
    if is_complex(x):
        raise RuntimeError(f"{name}(): does not support complex input")
    if x.ndim == 0:
        return x, jnp.zeros((), np.int64)
    _need_size(x, (axis,), f"{name}()")
    index = jnp.expand_dims(find(lax.stop_gradient(x), axis, np.int64), axis)
    return _at_index(x, index, axis, keepdim)


@op(name="max", key="max.all", method=True, grad_name="MaxBackward1")
def max_all(input: Array) -> Array:
    """The greatest element, NaN if any is. Its gradient is shared by all elements equal to it."""
    return _extreme_all(input, "max", _amax)


@op(name="max", key="max.other", method=True, promote="same", grad_name="MaximumBackward0")
def max_other(input: Array, other: Array) -> Array:
    """The greater of two, elementwise; at ties each gets half the gradient."""
    refuse_complex(input, "maximum_cpu")
    return larger(input, other)


@op(name="max", key="max.dim", method=True, returns=("values", "indices"))
def max_dim(input: Array, dim: int, keepdim: bool = False) -> tuple[Array, Array]:
    """The greatest along `dim` and where it first is; the gradient goes there."""
    return _extreme_dim(input, dim, keepdim, "max", lax.argmax)


@op(name="min", key="min.all", method=True, grad_name="MinBackward1")
def min_all(input: Array) -> Array:
    """The smallest element, NaN if any is. Its gradient is shared by all elements equal to it."""
    return _extreme_all(input, "min", _amin)


@op(name="min", key="min.other", method=True, promote="same", grad_name="MinimumBackward0")
def min_other(input: Array, other: Array) -> Array:
    """The smaller of two, elementwise; at ties each gets half the gradient."""
    refuse_complex(input, "minimum_cpu")
    return smaller(input, other)


@op(name="min", key="min.dim", method=True, returns=("values", "indices"))
def min_dim(input: Array, dim: int, keepdim: bool = False) -> tuple[Array, Array]:
    """The smallest along `dim` and where it first is; the gradient goes there."""
    return _extreme_dim(input, dim, keepdim, "min", lax.argmin)


def _extreme_dims(x: Array, dim, keepdim: bool, name: str, kernel: str, pick) -> Array:
    axes = wrap_dims(dim, x.ndim)
    if x.size == 0:
        if len(axes) == x.ndim and dim == ():
            _need_elements(x, name)
        _need_size(x, axes, f"{name}()")
    refuse_complex(x, kernel)
    return drop(spread(x, pick, axes, False), axes, keepdim)


@op(method=True, saves="both")
def amax(input: Array, dim: int | tuple[int, ...] = (), keepdim: bool = False) -> Array:
    """The greatest over one or more dims; its gradient is shared evenly at ties."""
    return _extreme_dims(input, dim, keepdim, "amax", "max_values_cpu", _amax)


@op(method=True, saves="both")
def amin(input: Array, dim: int | tuple[int, ...] = (), keepdim: bool = False) -> Array:
    """The smallest over one or more dims; its gradient is shared evenly at ties."""
    return _extreme_dims(input, dim, keepdim, "amin", "min_values_cpu", _amin)


@op(method=True, returns=("min", "max"))
def aminmax(input: Array, *, dim: int | None = None, keepdim: bool = False) -> tuple[Array, Array]:
    """The smallest and the greatest along `dim`, or of all elements."""
    if input.size == 0:
        if dim is None:
            raise RuntimeError(
                "aminmax(): cannot compute aminmax over an empty dimension as the operation has no identity."
            )
        _need_size(input, wrap_dims(dim, input.ndim), "aminmax")
    refuse_complex(input, "aminmax_all_cpu" if dim is None else "aminmax_cpu")
    axes = wrap_dims(dim, input.ndim)
    low, high = spread(input, _amin, axes, False), spread(input, _amax, axes, False)
    return drop(low, axes, keepdim), drop(high, axes, keepdim)


def _arg_extreme(x: Array, dim: int | None, keepdim: bool, name: str, find) -> Array:
    for kind, refused in (("complex", is_complex(x)), ("bool", x.dtype == np.bool_)):
        if refused:
            raise RuntimeError(f"{name}(): does not support {kind} input")
    if dim is None:
        if x.size == 0:
            raise IndexError(f"{name}(): Expected reduction dim to be specified for input.numel() == 0.")
        return find(x.reshape(-1), 0, np.int64).reshape((1,) * x.ndim if keepdim else ())
    axis = wrap_dim(dim, x.ndim)
    if x.ndim == 0:
        return jnp.zeros((), np.int64)
    _need_size(x, (axis,), f"{name}()")
    out = find(x, axis, np.int64)
    return jnp.expand_dims(out, axis) if keepdim else out


@op(method=True, differentiable=False)
def argmax(input: Array, dim: int | None = None, keepdim: bool = False) -> Array:
    """Where the greatest element first is: along `dim`, or in the flattened tensor. int64."""
    return _arg_extreme(input, dim, keepdim, "argmax", lax.argmax)


@op(method=True, differentiable=False)
def argmin(input: Array, dim: int | None = None, keepdim: bool = False) -> Array:
    """Where the smallest element first is: along `dim`, or in the flattened tensor. int64."""
    return _arg_extreme(input, dim, keepdim, "argmin", lax.argmin)


# --- medians and the mode --------------------------------------------------------------------------------------


def _median_index(x: Array, axis: int, skip_nan: bool) -> Array:
    """Where the lower median is along `axis`, dim kept. With NaN about: there, unless they are to be skipped."""
    x = lax.stop_gradient(x)
    size = x.shape[axis]
    places = order(x, axis)
    if not is_float(x):
        return lax.slice_in_dim(places, (size - 1) // 2, (size - 1) // 2 + 1, axis=axis)
    # NaN sorts last, so the first of them stands right after all the numbers.
    numbers = jnp.sum(~jnp.isnan(x), axis=axis, keepdims=True, dtype=np.int64)
    middle = jnp.maximum(numbers - 1, 0) // 2
    if not skip_nan:
        middle = jnp.where(numbers < size, numbers, middle)
    return take_along(places, middle, axis)


def _median_value(x: Array, axes: tuple[int, ...]) -> Array:
    return _flat_pick(x, False)


def _nanmedian_value(x: Array, axes: tuple[int, ...]) -> Array:
    return _flat_pick(x, True)


def _flat_pick(x: Array, skip_nan: bool) -> Array:
    flat = x.reshape(-1)
    return take_along(flat, _median_index(flat, 0, skip_nan), 0).reshape((1,) * x.ndim)


def _median_all(x: Array, pick) -> Array:
    if is_complex(x) or x.dtype == np.bool_:
        refuse(x, "median_cpu")
    if x.size == 0:
        # torch: NaN, and what NaN converts to for integers.
        return jnp.full((), jnp.nan if is_float(x) else jnp.iinfo(x.dtype).min, x.dtype)
    axes = tuple(range(x.ndim))
    return drop(spread(x, pick, axes, True), axes, False)


def _median_dim(x: Array, dim: int, keepdim: bool, name: str) -> tuple[Array, Array]:
    axis = wrap_dim(dim, x.ndim)
    if is_complex(x) or x.dtype == np.bool_:
        refuse(x, "median_out")
    if x.ndim == 0:
        return x, jnp.zeros((), np.int64)
    _need_size(x, (axis,), f"{name}()")
    return _at_index(x, _median_index(x, axis, name == "nanmedian"), axis, keepdim)


@op(key="median.all", method=True, out=False)
def median(input: Array) -> Array:
    """The median of all elements, the lower of two; NaN if any is. Elements equal to it share its gradient."""
    return _median_all(input, _median_value)


@op(name="median", key="median.dim", method=True, returns=("values", "indices"), grad_name="MedianBackward1")
def median_dim(input: Array, dim: int, keepdim: bool = False) -> tuple[Array, Array]:
    """The (lower) median along `dim` and where it is. Which of equal elements is named may differ from torch."""
    return _median_dim(input, dim, keepdim, "median")


@op(key="nanmedian.all", method=True, out=False)
def nanmedian(input: Array) -> Array:
    """The median of what is not NaN."""
    return _median_all(input, _nanmedian_value)


@op(name="nanmedian", key="nanmedian.dim", method=True, returns=("values", "indices"), grad_name="NanmedianBackward1")
def nanmedian_dim(input: Array, dim: int, keepdim: bool = False) -> tuple[Array, Array]:
    """The median along `dim` of what is not NaN, and where it is."""
    return _median_dim(input, dim, keepdim, "nanmedian")


@op(method=True, returns=("values", "indices"))
def mode(input: Array, dim: int = -1, keepdim: bool = False) -> tuple[Array, Array]:
    """The most frequent value along `dim`, the smallest of several, and where it last is."""
    axis = wrap_dim(dim, input.ndim)
    if input.ndim == 0:
        return input, jnp.zeros((), np.int64)
    _need_size(input, (axis,), "mode()")
    places = order(input, axis)
    ranked = take_along(lax.stop_gradient(input), places, axis)
    at = lax.broadcasted_iota(np.int32, input.shape, axis)
    begins = jnp.concatenate(
        [
            jnp.ones_like(lax.slice_in_dim(ranked, 0, 1, axis=axis), dtype=np.bool_),
            lax.slice_in_dim(ranked, 1, None, axis=axis) != lax.slice_in_dim(ranked, 0, -1, axis=axis),
        ],
        axis=axis,
    )
    run = at - lax.cummax(jnp.where(begins, at, 0), axis=axis)
    # The first place where a run is longest is the end of the longest run of the smallest value.
    last = jnp.expand_dims(lax.argmax(run, axis, np.int64), axis)
    return _at_index(input, take_along(places, last, axis), axis, keepdim)


# --- quantiles and histograms ----------------------------------------------------------------------------------

_INTERPOLATIONS = ("linear", "lower", "higher", "midpoint", "nearest")


def _quantile(x: Array, q: Array, dim: int | None, keepdim: bool, interpolation: str, skip_nan: bool) -> Array:
    name = "nanquantile" if skip_nan else "quantile"
    if q.ndim > 1:
        raise RuntimeError(f"{name}() q must be a scalar or 1D tensor")
    if x.dtype not in (np.float32, np.float64):
        raise RuntimeError(f"{name}() input tensor must be either float or double dtype")
    if q.ndim and q.dtype != x.dtype:
        raise RuntimeError(f"{name}() q tensor must be same dtype as the input tensor")
    if interpolation not in _INTERPOLATIONS:
        raise RuntimeError(
            f"{name}() interpolation must be one of linear, lower, higher, midpoint or nearest, but got {interpolation}"
        )
    if x.size == 0:
        raise RuntimeError(f"{name}() input tensor must be non-empty")
    q = q.astype(x.dtype)
    axis = 0 if dim is None else wrap_dim(dim, x.ndim)
    rows = x.reshape(-1) if dim is None or x.ndim == 0 else jnp.moveaxis(x, axis, -1)
    ranked = take_along(rows, order(rows, rows.ndim - 1), rows.ndim - 1)
    numbers = jnp.sum(~jnp.isnan(lax.stop_gradient(rows)), axis=-1, keepdims=True, dtype=np.int64)
    top = rows.shape[-1] - 1
    last = jnp.maximum(numbers - 1, 0) if skip_nan else jnp.full_like(numbers, top)
    rank = q.reshape(-1) * last.astype(x.dtype)
    if not skip_nan:
        # The last of a sorted row is NaN if any is.
        rank = jnp.where(numbers <= top, jnp.asarray(top, x.dtype), rank)
    if interpolation == "lower":
        rank = jnp.floor(rank)
    elif interpolation == "higher":
        rank = jnp.ceil(rank)
    elif interpolation == "nearest":
        rank = jnp.round(rank)
    below = jnp.clip(lax.stop_gradient(rank).astype(np.int64), 0, top)
    out = take_along(ranked, below, rows.ndim - 1)
    if interpolation in ("linear", "midpoint"):
        weight = jnp.full_like(rank, 0.5) if interpolation == "midpoint" else rank - below.astype(x.dtype)
        above = jnp.clip(jnp.ceil(lax.stop_gradient(rank)).astype(np.int64), 0, top)
        end = take_along(ranked, above, rows.ndim - 1)
        step = end - out
        out = jnp.where(weight < 0.5, out + weight * step, end - (1 - weight) * step)
    out = jnp.moveaxis(out, -1, 0)
    if keepdim:
        shape = (1,) * x.ndim if dim is None else tuple(1 if d == axis else n for d, n in enumerate(x.shape))
        out = out.reshape(out.shape[:1] + shape)
    return out if q.ndim else out.reshape(out.shape[1:])


@op(method=True, grad_name="SqueezeBackward4")
def quantile(
    input: Array, q: Operand, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear"
) -> Array:
    """The q-th quantiles along `dim` or of all elements, NaN if any is; a 1-d q puts a dim in front.

    That q lies within [0, 1] is not checked.
    """
    return _quantile(input, q, dim, keepdim, interpolation, False)


@op(method=True, grad_name="SqueezeBackward4")
def nanquantile(
    input: Array, q: Operand, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear"
) -> Array:
    """The q-th quantiles of what is not NaN."""
    return _quantile(input, q, dim, keepdim, interpolation, True)


@op(method=True, differentiable=False)
def histc(input: Array, bins: int = 100, min: float = 0, max: float = 0) -> Array:
    """Counts, in input's dtype, in equal bins of [min, max]; equal bounds stand for those of the data."""
    if not is_float(input):
        refuse(input, "histogram_cpu")
    if bins <= 0:
        raise RuntimeError(f"torch.histogram(): bins must be > 0, but got {bins} for dimension 0")
    if min > max:
        raise RuntimeError("torch.histc: max must be larger than min")
    x = input.reshape(-1)
    dtype = x.dtype
    x = x.astype(np.float32) if dtype.itemsize < 4 else x
    low, high = jnp.asarray(min, x.dtype), jnp.asarray(max, x.dtype)
    if min == max and x.size:
        low, high = jnp.min(x), jnp.max(x)
    flat = low == high
    low, high = jnp.where(flat, low - 1, low), jnp.where(flat, high + 1, high)
    inside = (x >= low) & (x <= high)
    place = jnp.where(inside, (x - low) / (high - low) * bins, 0).astype(np.int64)
    place = jnp.where(inside, jnp.minimum(place, bins - 1), bins)
    return jnp.zeros(bins, np.int64).at[place].add(1, mode="drop").astype(dtype)
