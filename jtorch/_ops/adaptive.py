"""Adaptive pooling, where the output's size picks the windows, and max-unpooling."""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jtorch._ops._common import Array, is_float, scalar_name
from jtorch._ops.pooling import _at, _each, _first_max, _flat, _lowest
from jtorch._ops.registry import op

Ints = tuple[int, ...]
Sizes = int | tuple[int | None, ...]


def _windows(size: int, out: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions of each output's window, (out, widest), and which of them are real."""
    start = np.arange(out) * size // out
    end = -(-(np.arange(1, out + 1) * size) // out)
    widest = int((end - start).max()) if out else 0
    positions = start[:, None] + np.arange(widest)
    inside = positions < end[:, None]
    return np.where(inside, positions, start[:, None]), inside


def _check(name: str, n: int, input: Array, output_size: Sizes) -> Ints:
    if input.ndim not in (n + 1, n + 2):
        if n == 1:
            raise RuntimeError(
                f"Expected 2 to 3 dimensions, but got {input.ndim}-dimensional tensor for argument #1 'self' "
                f"(while checking arguments for {name})"
            )
        if isinstance(output_size, tuple | list) and input.ndim < n + 1:
            raise ValueError(f"Input dimension should be at least {n + 1}")
        colon = ":" if "max" in name else ""
        raise RuntimeError(f"{name}(): Expected {n + 1}D or {n + 2}D tensor, but got{colon} {list(input.shape)}")
    spatial = input.shape[-n:]
    if isinstance(output_size, int) or output_size is None:
        output_size = (output_size,) * n
    if n == 1 and len(output_size) != 1:
        raise RuntimeError(f"{name}() argument 'output_size' should contain one int (got {len(output_size)})")
    if len(output_size) != n and "max" in name:
        raise RuntimeError(f"{name}(): internal error: output_size.size() must be {n}")
    if len(output_size) != n:
        raise RuntimeError(f"{name}: output_size must be {n}")
    for i in range(input.ndim - n - (n == 1 and input.ndim == 2) * 0, input.ndim):
        if input.shape[i] == 0:
            raise RuntimeError(
                f"{name}(): Expected input to have non-zero size for non-batch dimensions, but input has sizes "
                f"{list(input.shape)} with dimension {i} being empty"
            )
    out = tuple(size if o is None else o for size, o in zip(spatial, output_size, strict=True))
    if any(o < 0 for o in out):
        raise RuntimeError(
            f"{name}: elements of output_size must be greater than or equal to 0 but received {list(out)}"
        )
    if not is_float(input):
        raise NotImplementedError(f"\"{name}\" not implemented for '{scalar_name(input)}'")
    return out


def _adaptive_avg(name: str, n: int, input: Array, output_size: Sizes) -> Array:
    out = _check(name, n, input, output_size)
    x = input.astype(jnp.float32) if input.dtype.itemsize == 2 else input
    for i in range(n):
        axis, size = x.ndim - n + i, x.shape[x.ndim - n + i]
        if out[i] == size:
            continue
        if out[i] == 0:
            x = jnp.zeros((*x.shape[:axis], 0, *x.shape[axis + 1 :]), x.dtype)
        elif size % out[i] == 0:
            x = x.reshape(*x.shape[:axis], out[i], size // out[i], *x.shape[axis + 1 :]).mean(axis + 1, dtype=x.dtype)
        else:
            positions, inside = _windows(size, out[i])
            tail = (1,) * (x.ndim - axis - 1)
            mask = jnp.asarray(inside.reshape(*inside.shape, *tail))
            window = jnp.where(mask, jnp.take(x, positions, axis), jnp.zeros((), x.dtype))
            counts = jnp.asarray(inside.sum(1).reshape(-1, *tail), x.dtype)
            x = window.sum(axis + 1, dtype=x.dtype) / counts
    return x.astype(input.dtype)


def _adaptive_max(name: str, n: int, input: Array, output_size: Sizes) -> tuple[Array, Array]:
    out = _check(name, n, input, output_size)
    if 0 in out:
        shape = (*input.shape[:-n], *out)
        return jnp.zeros(shape, input.dtype), jnp.zeros(shape, jnp.int64)
    x, where = input, []
    for i in reversed(range(n)):
        axis = input.ndim - n + i
        positions, inside = _windows(x.shape[axis], out[i])
        tail = (1,) * (x.ndim - axis - 1)
        mask = jnp.asarray(inside.reshape(*inside.shape, *tail))
        window = jnp.where(mask, jnp.take(x, positions, axis), _lowest(x))
        pick = _first_max(window, axis + 1, mask)
        own = jnp.broadcast_to(jnp.asarray(positions.astype(np.int32).reshape(*positions.shape, *tail)), window.shape)
        where = [_at(own, pick, axis + 1), *(_at(jnp.take(w, positions, axis), pick, axis + 1) for w in where)]
        x = _at(window, pick, axis + 1)
    return x, _flat(where, input.shape[-n:])


@op(namespaces=("nn.functional",), grad_name="SqueezeBackward1")
def adaptive_avg_pool1d(input: Array, output_size: int | tuple[int | None, ...]) -> Array:
    """Means of `output_size` windows that cover the last dim."""
    return _adaptive_avg("adaptive_avg_pool1d", 1, input, output_size)


@op(function=False, namespaces=("nn.functional",), grad_name="MeanBackward1")
def adaptive_avg_pool2d(input: Array, output_size: int | tuple[int | None, ...]) -> Array:
    """Means of windows that cover the last two dims; None keeps a dim's size."""
    return _adaptive_avg("adaptive_avg_pool2d", 2, input, output_size)


@op(function=False, namespaces=("nn.functional",), grad_name="MeanBackward1")
def adaptive_avg_pool3d(input: Array, output_size: int | tuple[int | None, ...]) -> Array:
    """Means of windows that cover the last three dims; None keeps a dim's size."""
    return _adaptive_avg("adaptive_avg_pool3d", 3, input, output_size)


def _declare_max(n: int) -> None:
    grad_name = "SqueezeBackward1" if n == 1 else f"AdaptiveMaxPool{n}DBackward0"
    name = f"adaptive_max_pool{n}d"

    def pool(input: Array, output_size: int | tuple[int | None, ...]) -> Array:
        return _adaptive_max(name, n, input, output_size)[0]

    def pool_with_indices(input: Array, output_size: int | tuple[int | None, ...]) -> tuple[Array, Array]:
        return _adaptive_max(name, n, input, output_size)

    pool.__doc__ = f"Maxima of windows that cover the last {n} dims; None keeps a dim's size."
    pool_with_indices.__doc__ = f"`{name}` and each maximum's flat index into its channel's {n} dims (int64)."
    pool.__name__ = pool.__qualname__ = name
    pool_with_indices.__name__ = pool_with_indices.__qualname__ = f"{name}_with_indices"
    globals()[name] = op(function=False, namespaces=("nn.functional",), grad_name=grad_name, out=False)(pool)
    globals()[pool_with_indices.__name__] = op(
        function=False, namespaces=("nn.functional",), grad_name=grad_name, out=False
    )(pool_with_indices)


for _n in (1, 2, 3):
    _declare_max(_n)


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def _placed(values: Array, where: Array, count: int) -> Array:
    """Each row's values put where the indices say, the last of several at one place; all of those get its gradient."""
    rows = jnp.arange(values.shape[0])[:, None]
    return jnp.zeros((values.shape[0], count), values.dtype).at[rows, where].set(values, mode="drop")


@_placed.defjvp
def _placed_jvp(count, primals, tangents):
    (values, where), change = primals, tangents[0]
    rows = jnp.arange(values.shape[0])[:, None]
    added = jnp.zeros((values.shape[0], count), change.dtype).at[rows, where].add(change, mode="drop")
    return _placed(values, where, count), added


def _max_unpool(n: int, input: Array, indices: Array, kernel, stride, padding, output_size: Ints | None) -> Array:
    name = f"max_unpool{n}d"
    kernel = _each(kernel, n, name, "kernel_size")
    stride = kernel if stride is None else _each(stride, n, name, "stride")
    padding = _each(padding, n, name, "padding")
    if indices.dtype != jnp.int64:
        raise RuntimeError(f"elements in indices should be type int64 but got: {scalar_name(indices)}")
    if input.ndim not in (n + 1, n + 2):
        raise RuntimeError(
            f"Input to {name} should be a {n + 1}d or {n + 2}d Tensor, but got a tensor with {input.ndim} dimensions."
        )
    if indices.shape != input.shape:
        raise RuntimeError(
            "Expected shape of indices to be same as that of the input tensor "
            f"({list(input.shape)}) but got indices tensor with shape: {list(indices.shape)}"
        )
    default = tuple(
        (size - 1) * s + k - 2 * p for size, s, k, p in zip(input.shape[-n:], stride, kernel, padding, strict=True)
    )
    out = default
    if output_size is not None:
        out = tuple(output_size)
        if len(out) == n + 2:
            out = out[2:]
        if len(out) != n:
            raise ValueError(
                f"output_size should be a sequence containing {n} or {n + 2} elements, but it has a length of "
                f"'{len(out)}'"
            )
        for d, (size, s, o) in enumerate(zip(default, stride, out, strict=True)):
            if not size - s < o < size + s:
                raise ValueError(f'invalid output_size "{out}" (dim {d} must be between {size - s} and {size + s})')
    lead = input.shape[:-n]
    rows, count = math.prod(lead), math.prod(out)
    values = input.reshape(rows, math.prod(input.shape[-n:]))
    where = indices.reshape(values.shape)
    return _placed(values, where, count).reshape(*lead, *out)


@op(function=False, namespaces=("nn.functional",), out=False, grad_name="MaxUnpool2DBackward0")
def max_unpool1d(
    input: Array,
    indices: Array,
    kernel_size: int | tuple[int, ...],
    stride: int | tuple[int, ...] | None = None,
    padding: int | tuple[int, ...] = 0,
    output_size: tuple[int, ...] | None = None,
) -> Array:
    """Maxima back at their indices, zeros elsewhere. Indices outside the output are dropped, where torch raises."""
    return _max_unpool(1, input, indices, kernel_size, stride, padding, output_size)


@op(function=False, namespaces=("nn.functional",), out=False, grad_name="MaxUnpool2DBackward0")
def max_unpool2d(
    input: Array,
    indices: Array,
    kernel_size: int | tuple[int, ...],
    stride: int | tuple[int, ...] | None = None,
    padding: int | tuple[int, ...] = 0,
    output_size: tuple[int, ...] | None = None,
) -> Array:
    """`max_unpool1d` over two dims."""
    return _max_unpool(2, input, indices, kernel_size, stride, padding, output_size)


@op(function=False, namespaces=("nn.functional",), out=False, grad_name="MaxUnpool3DBackward0")
def max_unpool3d(
    input: Array,
    indices: Array,
    kernel_size: int | tuple[int, ...],
    stride: int | tuple[int, ...] | None = None,
    padding: int | tuple[int, ...] = 0,
    output_size: tuple[int, ...] | None = None,
) -> Array:
    """`max_unpool1d` over three dims."""
    return _max_unpool(3, input, indices, kernel_size, stride, padding, output_size)
