"""Pooling over windows: max, average and power-average pooling, and max-unpooling.

Windows are taken one dim at a time, last dim first, as the kernel's shifted slices: k slices a dim instead of k ** n,
all
plain elementwise work for XLA, whose gradient is elementwise as well (the CPU's select-and-scatter is many times
slower).
A maximum of maxima keeps torch's tie rule: the first row that holds it, then the first column.
"""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from jtorch._ops._common import Array, is_float
from jtorch._ops.registry import op

Ints = tuple[int, ...]

# A window this long is gathered and reduced; a shorter one is a chain of slices.
_CHAIN = 16
_WORDS = {1: "one int", 2: "two ints", 3: "three ints"}


def _each(value: int | Ints, n: int, name: str, what: str) -> Ints:
    if isinstance(value, int):
        return (value,) * n
    if len(value) == 1:
        return tuple(value) * n
    if len(value) != n:
        word = "be omitted, a single int," if what == "stride" else "either be a single int,"
        word = f"either {word}" if what == "stride" else word
        raise RuntimeError(f"{name}: {what} must {word} or a tuple of {_WORDS[n]}")
    return tuple(value)


def _out_size(size: int, k: int, s: int, p: int, d: int, ceil: bool) -> int:
    span = size + 2 * p - d * (k - 1) - 1
    out = (-(-span // s) if ceil else span // s) + 1
    # The last window must start inside the input or the padding on its left.
    return out - 1 if ceil and (out - 1) * s >= size + p else out


class _Windows:
    """The checked geometry of a pooling, a tuple entry a spatial dim."""

    def __init__(
        self, name: str, n: int, input: Array, kernel: int | Ints, stride: int | Ints | None, padding: int | Ints,
        dilation: int | Ints, ceil: bool,
    ):  # fmt: skip
        self.kernel = _each(kernel, n, name, "kernel_size")
        self.stride = self.kernel if stride is None or stride == () else _each(stride, n, name, "stride")
        self.padding = _each(padding, n, name, "padding")
        self.dilation = _each(dilation, n, name, "dilation")
        self._check(name, n, input)
        spatial = input.shape[-n:]
        self.spatial = spatial
        self.out = tuple(
            _out_size(*facts, ceil)
            for facts in zip(spatial, self.kernel, self.stride, self.padding, self.dilation, strict=True)
        )
        if any(o < 1 for o in self.out):
            if n == 1:
                raise RuntimeError(f"{name}() Invalid computed output size: {self.out[0]}")
            sizes = ["x".join(map(str, (input.shape[-n - 1], *dims))) for dims in (spatial, self.out)]
            raise RuntimeError(
                f"Given input size: ({sizes[0]}). Calculated output size: ({sizes[1]}). Output size is too small"
            )

    def _check(self, name: str, n: int, input: Array) -> None:
        single = name == "max_pool1d"
        batched = (
            f"Expected {n + 1}D or {n + 2}D (batch mode) tensor with optional 0 dim batch size for input, but got:"
            f"{list(input.shape)}"
        )
        if input.ndim not in (n + 1, n + 2):
            if n == 1:
                raise RuntimeError(f"{name}: {batched}")
            raise RuntimeError(f"non-empty {n + 1}D or {n + 2}D (batch mode) tensor expected for input")
        for label, values in (("kernel_size", self.kernel), ("stride", self.stride), ("dilation", self.dilation)):
            if single and values[0] <= 0:
                raise RuntimeError(f"{name}() {label} must be greater than zero, but got {values[0]}")
        if 0 in self.stride:
            raise RuntimeError("stride should not be zero")
        for label, values in (("kernel size", self.kernel), ("stride", self.stride)):
            if any(v <= 0 for v in values):
                letter = label[0] if label == "kernel size" else "d"
                raise RuntimeError(
                    f"{label} should be greater than zero, but got {label.split()[0]} {self._named(letter, values)}"
                )
        if any(d <= 0 for d in self.dilation):
            named = self._named("dilation", self.dilation)
            raise RuntimeError(f"dilation should be greater than zero, but got {named}")
        for p, k, d in zip(self.padding, self.kernel, self.dilation, strict=True):
            if p < 0:
                raise RuntimeError(f"pad must be non-negative, but got pad: {p}")
            if p > (d * (k - 1) + 1) // 2:
                if single:
                    raise RuntimeError(
                        f"{name}() padding should be at most half of kernel size, but got padding={p} and "
                        f"kernel_size={k}"
                    )
                raise RuntimeError(
                    "pad should be at most half of effective kernel size, but got "
                    f"pad={p}, kernel_size={k} and dilation={d}"
                )
        if 0 in input.shape[-n - 1 :]:
            raise RuntimeError(f"{name}: {batched}" if n == 1 else batched)

    @staticmethod
    def _named(prefix: str, values: Ints) -> str:
        return " ".join(f"{prefix}{letter}: {v}" for letter, v in zip("TDHW"[-len(values) :], values, strict=True))

    def along(self, i: int) -> tuple[int, int, int, int, int]:
        """(out, kernel, stride, padding, dilation) of one spatial dim."""
        return self.out[i], self.kernel[i], self.stride[i], self.padding[i], self.dilation[i]


def _taps(x: Array, axis: int, facts: tuple[int, int, int, int, int], fill: Any) -> list[Array]:
    """The kernel's slices of x along an axis, first tap first; outside the input they hold `fill`."""
    out, k, s, p, d = facts
    reach = (out - 1) * s + d * (k - 1) + 1
    high = max(0, reach - p - x.shape[axis])
    if p or high:
        pads = [(0, 0)] * x.ndim
        pads[axis] = (p, high)
        x = jnp.pad(x, pads, constant_values=fill)
    return [lax.slice_in_dim(x, j * d, j * d + (out - 1) * s + 1, s, axis) for j in range(k)]


def _lowest(x: Array) -> np.ndarray:
    if is_float(x):
        return np.asarray(-np.inf, x.dtype)
    return np.asarray(np.iinfo(x.dtype).min, x.dtype)


def _max_along(
    x: Array, where: list[Array], axis: int, facts: tuple[int, int, int, int, int]
) -> tuple[Array, list[Array]]:
    """Maxima of the windows along one axis.

    `where` (indices of later dims) follows, this dim's own index comes first.
    """
    out, k, s, p, d = facts
    fill = _lowest(x)
    if s == k and p == 0 and d == 1 and k <= _CHAIN:
        return _max_of_blocks(x, where, axis, out, k)
    positions = np.arange(out)[:, None] * s + np.arange(k) * d - p
    inside = (positions >= 0) & (positions < x.shape[axis])
    tail = (1,) * (x.ndim - axis - 1)
    if k <= _CHAIN:
        # Where nothing beats -inf the index is still that of the window's first element inside the input.
        first = inside.argmax(1)
        own = jnp.asarray(positions[np.arange(out), first].astype(np.int32).reshape(-1, *tail))
        taps = _taps(x, axis, facts, fill)
        others = [_taps(w, axis, facts, 0) for w in where]
        best, found = taps[0], [other[0] for other in others]
        if (first > 0).any():
            found = [jnp.take(w, positions[np.arange(out), first], axis) for w in where]
        for j in range(1, k):
            more = taps[j] > best
            if is_float(x):
                more |= taps[j] != taps[j]
            best = jnp.where(more, taps[j], best)
            own = jnp.where(more, jnp.asarray(positions[:, j].astype(np.int32).reshape(-1, *tail)), own)
            found = [jnp.where(more, other[j], old) for other, old in zip(others, found, strict=True)]
        own = jnp.broadcast_to(own, best.shape)
        return best, [own, *found]
    clipped = np.clip(positions, 0, x.shape[axis] - 1)
    mask = jnp.asarray(inside.reshape(out, k, *tail))
    window = jnp.where(mask, jnp.take(x, clipped, axis), fill)
    pick = _first_max(window, axis + 1, mask)
    best = _at(window, pick, axis + 1)
    own = _at(
        jnp.broadcast_to(jnp.asarray(clipped.astype(np.int32).reshape(out, k, *tail)), window.shape), pick, axis + 1
    )
    return best, [own, *(_at(jnp.take(w, clipped, axis), pick, axis + 1) for w in where)]


def _blocks(x: Array, axis: int, out: int, k: int, fill: Any) -> Array:
    """x with an axis split into `out` blocks of k.

    Windows that do not overlap need no slices, nor does their gradient.
    """
    short = out * k - x.shape[axis]
    if short > 0:
        pads = [(0, 0)] * x.ndim
        pads[axis] = (0, short)
        x = jnp.pad(x, pads, constant_values=fill)
    elif short < 0:
        x = lax.slice_in_dim(x, 0, out * k, axis=axis)
    return x.reshape(*x.shape[:axis], out, k, *x.shape[axis + 1 :])


def _max_of_blocks(x: Array, where: list[Array], axis: int, out: int, k: int) -> tuple[Array, list[Array]]:
    """`_max_along` for windows that touch and do not overlap."""
    window = _blocks(x, axis, out, k, _lowest(x))
    still = lax.stop_gradient(window)
    best = lax.slice_in_dim(still, 0, 1, axis=axis + 1)
    pick = jnp.zeros(best.shape, jnp.int32)
    for j in range(1, k):
        tap = lax.slice_in_dim(still, j, j + 1, axis=axis + 1)
        more = tap > best
        if is_float(x):
            more |= tap != tap
        best, pick = jnp.where(more, tap, best), jnp.where(more, np.int32(j), pick)
    starts = jnp.asarray((np.arange(out) * k).astype(np.int32).reshape(-1, *(1,) * (x.ndim - axis - 1)))
    own = jnp.squeeze(pick, axis + 1) + starts
    found = [_at(_blocks(w, axis, out, k, 0), pick, axis + 1) for w in where]
    return _at(window, pick, axis + 1), [own, *found]


def _first_max(window: Array, axis: int, mask: Array) -> Array:
    """Index of the first maximum inside the mask; nan counts as the greatest."""
    top = window.max(axis, keepdims=True)
    hit = (window == top) | (window != window)
    return (hit & mask).argmax(axis, keepdims=True)


def _at(window: Array, pick: Array, axis: int) -> Array:
    """The element at `pick` along an axis, chosen by masks: the gradient then needs no scatter."""
    shape = [1] * window.ndim
    shape[axis] = window.shape[axis]
    chosen = jnp.arange(window.shape[axis], dtype=pick.dtype).reshape(shape) == pick
    return jnp.where(chosen, window, jnp.zeros((), window.dtype)).sum(axis, dtype=window.dtype)


def _flat(where: list[Array], spatial: Ints) -> Array:
    index = where[0].astype(jnp.int64)
    for size, w in zip(spatial[1:], where[1:], strict=True):
        index = index * size + w
    return index


def _max_pool(name: str, n: int, input: Array, kernel, stride, padding, dilation, ceil: bool) -> tuple[Array, Array]:
    geometry = _Windows(name, n, input, kernel, stride, padding, dilation, ceil)
    if input.dtype == bool:
        raise NotImplementedError(f"\"{name}\" not implemented for 'Bool'")
    x, where = input, []
    for i in reversed(range(n)):
        x, where = _max_along(x, where, input.ndim - n + i, geometry.along(i))
    return x, _flat(where, geometry.spatial)


def _declare_max(n: int) -> None:
    grad_name = {1: "SqueezeBackward1", 2: "MaxPool2DWithIndicesBackward0", 3: "MaxPool3DWithIndicesBackward0"}[n]

    def pool(
        input: Array,
        kernel_size: int | Ints,
        stride: int | Ints | None = None,
        padding: int | Ints = 0,
        dilation: int | Ints = 1,
        ceil_mode: bool = False,
    ) -> Array:
        return _max_pool(f"max_pool{n}d", n, input, kernel_size, stride, padding, dilation, ceil_mode)[0]

    def pool_with_indices(
        input: Array,
        kernel_size: int | Ints,
        stride: int | Ints | None = None,
        padding: int | Ints = 0,
        dilation: int | Ints = 1,
        ceil_mode: bool = False,
    ) -> tuple[Array, Array]:
        return _max_pool(f"max_pool{n}d", n, input, kernel_size, stride, padding, dilation, ceil_mode)

    pool.__doc__ = f"Maximum of each window over the last {n} dims; the gradient goes to a window's first maximum."
    pool_with_indices.__doc__ = f"`max_pool{n}d` and each maximum's flat index into its channel's {n} dims (int64)."
    pool.__name__ = pool.__qualname__ = f"max_pool{n}d"
    pool_with_indices.__name__ = pool_with_indices.__qualname__ = f"max_pool{n}d_with_indices"
    globals()[pool.__name__] = op(namespaces=("nn.functional",), grad_name=grad_name, out=False)(pool)
    globals()[pool_with_indices.__name__] = op(
        function=n == 1, namespaces=("nn.functional",), grad_name=grad_name, out=False
    )(pool_with_indices)


for _n in (1, 2, 3):
    _declare_max(_n)


def _sum_windows(x: Array, n: int, geometry: _Windows) -> Array:
    for i in reversed(range(n)):
        axis, facts = x.ndim - n + i, geometry.along(i)
        out, k, s, p, _ = facts
        if out == 1 and p == 0 and k >= x.shape[axis]:
            x = x.sum(axis, keepdims=True, dtype=x.dtype)
        elif s == k and p == 0:
            x = _blocks(x, axis, out, k, 0).sum(axis + 1, dtype=x.dtype)
        elif k <= _CHAIN:
            taps = _taps(x, axis, facts, 0)
            x = taps[0]
            for tap in taps[1:]:
                x = x + tap
        else:
            sizes, steps, pads = [1] * x.ndim, [1] * x.ndim, [(0, 0)] * x.ndim
            sizes[axis], steps[axis] = k, s
            pads[axis] = (p, (out - 1) * s + k - p - x.shape[axis])
            x = lax.reduce_window(x, np.zeros((), x.dtype), lax.add, sizes, steps, pads)
    return x


def _counts(n: int, geometry: _Windows, include_pad: bool) -> np.ndarray:
    """Elements each window divides by. Past the right padding (ceil mode) nothing is ever counted."""
    total = np.ones((1,) * n, np.int64)
    for i in range(n):
        out, k, s, p, _ = geometry.along(i)
        start = np.arange(out) * s - p
        end = np.minimum(start + k, geometry.spatial[i] + p)
        if not include_pad:
            start, end = np.maximum(start, 0), np.minimum(end, geometry.spatial[i])
        shape = [1] * n
        shape[i] = out
        total = total * (end - start).reshape(shape)
    return total


def _avg_pool(
    name: str, n: int, input: Array, kernel, stride, padding, ceil: bool, include_pad: bool, divisor: int | None
) -> Array:
    if divisor == 0:
        raise RuntimeError("divisor must be not zero")
    if n == 1 and input.ndim not in (2, 3):
        raise RuntimeError(
            f"Expected 2 to 3 dimensions, but got {input.ndim}-dimensional tensor for argument #1 'self' "
            f"(while checking arguments for {name})"
        )
    geometry = _Windows(name, n, input, kernel, stride, padding, 1, ceil)
    if input.dtype == bool:
        raise NotImplementedError(f"\"{name}\" not implemented for 'Bool'")
    half = is_float(input) and input.dtype.itemsize == 2
    total = _sum_windows(input.astype(jnp.float32) if half else input, n, geometry)
    counts = np.asarray(divisor) if divisor is not None else _counts(n, geometry, include_pad)
    if (counts == counts.flat[0]).all():
        counts = counts.flat[0]
    if jnp.issubdtype(input.dtype, jnp.integer):
        return lax.div(total, jnp.broadcast_to(jnp.asarray(counts, total.dtype), total.shape))
    return (total / jnp.asarray(counts, total.dtype)).astype(input.dtype)


@op(namespaces=("nn.functional",), grad_name="SqueezeBackward1")
def avg_pool1d(
    input: Array,
    kernel_size: int | tuple[int, ...],
    stride: int | tuple[int, ...] | None = None,
    padding: int | tuple[int, ...] = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    """Mean of each window of the last dim."""
    return _avg_pool("avg_pool1d", 1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


@op(function=False, namespaces=("nn.functional",))
def avg_pool2d(
    input: Array,
    kernel_size: int | tuple[int, ...],
    stride: int | tuple[int, ...] | None = None,
    padding: int | tuple[int, ...] = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Array:
    """Mean of each window of the last two dims; `divisor_override` divides instead of the window's size."""
    return _avg_pool(
        "avg_pool2d", 2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


@op(function=False, namespaces=("nn.functional",))
def avg_pool3d(
    input: Array,
    kernel_size: int | tuple[int, ...],
    stride: int | tuple[int, ...] | None = None,
    padding: int | tuple[int, ...] = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Array:
    """Mean of each window of the last three dims."""
    return _avg_pool(
        "avg_pool3d", 3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


def _lp_pool(n: int, input: Array, p: float, kernel, stride, ceil: bool) -> Array:
    kernel = _each(kernel, n, f"lp_pool{n}d", "kernel_size")
    mean = _avg_pool(f"avg_pool{n}d", n, input ** np.asarray(p, input.dtype), kernel, stride, 0, ceil, True, None)
    # The root of a negative sum (odd p) is nan, that of 0 has slope 0 here.
    scaled = mean * np.asarray(math.prod(kernel), input.dtype)
    some = scaled != 0
    return jnp.where(some, jnp.where(some, scaled, 1) ** np.asarray(1 / p, input.dtype), 0)


@op(function=False, namespaces=("nn.functional",), grad_name="PowBackward0", out=False)
def lp_pool1d(
    input: Array,
    norm_type: float,
    kernel_size: int,
    stride: int | tuple[int, ...] | None = None,
    ceil_mode: bool = False,
) -> Array:
    """p-norm of each window of the last dim."""
    return _lp_pool(1, input, norm_type, kernel_size, stride, ceil_mode)


@op(function=False, namespaces=("nn.functional",), grad_name="PowBackward0", out=False)
def lp_pool2d(
    input: Array,
    norm_type: float,
    kernel_size: int | tuple[int, ...],
    stride: int | tuple[int, ...] | None = None,
    ceil_mode: bool = False,
) -> Array:
    """p-norm of each window of the last two dims."""
    return _lp_pool(2, input, norm_type, kernel_size, stride, ceil_mode)


@op(function=False, namespaces=("nn.functional",), grad_name="PowBackward0", out=False)
def lp_pool3d(
    input: Array,
    norm_type: float,
    kernel_size: int | tuple[int, ...],
    stride: int | tuple[int, ...] | None = None,
    ceil_mode: bool = False,
) -> Array:
    """p-norm of each window of the last three dims."""
    return _lp_pool(3, input, norm_type, kernel_size, stride, ceil_mode)
