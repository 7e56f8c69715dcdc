"""Padding, and the rearrangements of image-like tensors: pixel and channel shuffles, sliding blocks and back."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jtorch._ops._along import refuse
from jtorch._ops._common import Array, Number, is_complex, is_float
from jtorch._ops.registry import op


@op(function=False, out=False, namespaces=("nn.functional",), grad_name="ConstantPadNdBackward0")
def pad(input: Array, pad: tuple[int, ...], mode: str = "constant", value: Number | None = None) -> Array:
    """input with elements added before and after its last dims (pairs, last dim first); negative pairs crop.

    "constant" adds `value` (0), and serves any dims; "reflect", "replicate" and "circular" serve the last one, two or
    three dims of a tensor with one or two dims in front.
    """
    if len(pad) % 2:
        raise RuntimeError("Padding length must be divisible by 2")
    if len(pad) > 2 * input.ndim:
        raise RuntimeError(
            "Padding length should be less than or equal to two times the input dimension but got padding length "
            f"{len(pad)} and input of dimension {input.ndim}"
        )
    count = len(pad) // 2
    pairs = {input.ndim - 1 - i: (pad[2 * i], pad[2 * i + 1]) for i in range(count)}
    if mode == "constant":
        fill = jnp.zeros((), input.dtype) if value is None else jnp.asarray(value).astype(input.dtype)
        for d, (before, after) in pairs.items():
            if input.shape[d] + before + after < 0:
                raise RuntimeError(
                    f"The input size {input.shape[d]}, plus negative padding {before} and {after} resulted in a "
                    "negative output size, which is invalid. Check dimension "
                    f"{d} of your input."
                )
        return lax.pad(input, fill, [(*pairs.get(d, (0, 0)), 0) for d in range(input.ndim)])
    if mode not in ("reflect", "replicate", "circular"):
        raise NotImplementedError(f"Unrecognised padding mode {mode}")
    if value is not None:
        raise RuntimeError(f'Padding mode "{mode}" doesn\'t take in value argument')
    if count == 0 or count > 3 or input.ndim - count not in (1, 2):
        raise NotImplementedError(f"Padding size {len(pad)} is not supported for {input.ndim}D input tensor.")
    if mode != "circular" and input.dtype == np.bool_:
        refuse(input, f"{'reflection' if mode == 'reflect' else 'replication'}_pad{count}d")
    for d, (before, after) in pairs.items():
        input = _EXTEND[mode](input, d, before, after, pad)
    return input


def _cut(x: Array, d: int, start: int, stop: int) -> Array:
    return lax.slice_in_dim(x, start, stop, axis=d)


def _joined(x: Array, d: int, before: int, after: int, left: Array | None, right: Array | None) -> Array:
    """x between what is added, then cropped where a pad is negative."""
    parts = [part for part in (left, x, right) if part is not None]
    x = lax.concatenate(parts, d) if len(parts) > 1 else x
    start, stop = max(-before, 0), x.shape[d] - max(-after, 0)
    if stop < start or stop - start == 0:
        raise RuntimeError(f"input is too small: padding ({before}, {after}) leaves nothing of dimension {d}")
    return _cut(x, d, start, stop) if stop - start < x.shape[d] else x


def _reflect(x: Array, d: int, before: int, after: int, pad: tuple[int, ...]) -> Array:
    n = x.shape[d]
    if before >= n or after >= n:
        raise RuntimeError(
            "Argument #4: Padding size should be less than the corresponding input dimension, but got: padding "
            f"({before}, {after}) at dimension {d} of input {list(x.shape)}"
        )
    left = lax.rev(_cut(x, d, 1, before + 1), (d,)) if before > 0 else None
    right = lax.rev(_cut(x, d, n - 1 - after, n - 1), (d,)) if after > 0 else None
    return _joined(x, d, before, after, left, right)


def _replicate(x: Array, d: int, before: int, after: int, pad: tuple[int, ...]) -> Array:
    def edge(start: int, size: int) -> Array | None:
        if size <= 0:
            return None
        shape = tuple(size if i == d else n for i, n in enumerate(x.shape))
        return jnp.broadcast_to(_cut(x, d, start, start + 1), shape)

    if x.shape[d] == 0:
        raise RuntimeError(f"Expected input to have non-zero size for padding, but got: {list(x.shape)}")
    return _joined(x, d, before, after, edge(0, before), edge(x.shape[d] - 1, after))


def _circular(x: Array, d: int, before: int, after: int, pad: tuple[int, ...]) -> Array:
    n = x.shape[d]
    if before > n or after > n:
        raise RuntimeError("Padding value causes wrapping around more than once.")
    if n + before + after < 0:
        raise RuntimeError("Negative padding value is resulting in an empty dimension")
    # torch wraps what is left after cropping.
    start, stop = max(-before, 0), n - max(-after, 0)
    x = _cut(x, d, start, stop)
    n = stop - start
    left = _cut(x, d, max(n - before, 0), n) if before > 0 else None
    right = _cut(x, d, 0, min(after, n)) if after > 0 else None
    return _joined(x, d, max(before, 0), max(after, 0), left, right)


_EXTEND = {"reflect": _reflect, "replicate": _replicate, "circular": _circular}


# --- shuffles ------------------------------------------------------------------------------------------------------


@op(out=False, namespaces=("nn.functional",))
def channel_shuffle(input: Array, groups: int) -> Array:
    """Channels (dim 1) in `groups`, dealt out one of each group in turn."""
    if input.ndim <= 2:
        raise RuntimeError(f"channel_shuffle expects input with > 2 dims, but got input with sizes {list(input.shape)}")
    n, c = input.shape[:2]
    if groups <= 0:
        raise RuntimeError(f"Number of groups to divide channels in must be positive. Value of groups:{groups}")
    if c % groups:
        raise RuntimeError(f"Number of channels must be divisible by groups. Got {c} channels and {groups} groups.")
    split = input.reshape(n, groups, c // groups, *input.shape[2:])
    return jnp.swapaxes(split, 1, 2).reshape(input.shape)


@op(out=False, namespaces=("nn.functional",))
def pixel_shuffle(input: Array, upscale_factor: int) -> Array:
    """(*, C r^2, H, W) to (*, C, H r, W r)."""
    r = upscale_factor
    _need_image(input, "pixel_shuffle")
    if r <= 0:
        raise RuntimeError(f"pixel_shuffle expects a positive upscale_factor, but got {r}")
    *lead, c, h, w = input.shape
    if c % (r * r):
        raise RuntimeError(
            "pixel_shuffle expects its input's 'channel' dimension to be divisible by the square of upscale_factor, "
            f"but input.size(-3)={c} is not divisible by {r * r}"
        )
    x = input.reshape(math.prod(lead), c // (r * r), r, r, h, w)
    return x.transpose(0, 1, 4, 2, 5, 3).reshape(*lead, c // (r * r), h * r, w * r)


@op(out=False, namespaces=("nn.functional",))
def pixel_unshuffle(input: Array, downscale_factor: int) -> Array:
    """(*, C, H r, W r) to (*, C r^2, H, W)."""
    r = downscale_factor
    _need_image(input, "pixel_unshuffle")
    if r <= 0:
        raise RuntimeError(f"pixel_unshuffle expects a positive downscale_factor, but got {r}")
    *lead, c, h, w = input.shape
    for what, which, size in (("height", -2, h), ("width", -1, w)):
        if size % r:
            raise RuntimeError(
                f"pixel_unshuffle expects {what} to be divisible by downscale_factor, but input.size({which})={size} "
                f"is not divisible by {r}"
            )
    x = input.reshape(math.prod(lead), c, h // r, r, w // r, r)
    return x.transpose(0, 1, 3, 5, 2, 4).reshape(*lead, c * r * r, h // r, w // r)


def _need_image(x: Array, name: str) -> None:
    if x.ndim < 3:
        raise RuntimeError(
            f"{name} expects input to have at least 3 dimensions, but got input with {x.ndim} dimension(s)"
        )


# --- sliding blocks --------------------------------------------------------------------------------------------------


def _pair(v: int | tuple[int, ...]) -> tuple[int, int]:
    if isinstance(v, int):
        return v, v
    return (v[0], v[0]) if len(v) == 1 else (v[0], v[1])


class _Window:
    """The geometry of sliding blocks over an image: how many there are along each of its dims."""

    def __init__(self, size, kernel, dilation, padding, stride):
        self.size, self.kernel = _pair(size), _pair(kernel)
        self.dilation, self.padding, self.stride = _pair(dilation), _pair(padding), _pair(stride)
        for name, values, least in (
            ("kernel size", self.kernel, 1), ("stride", self.stride, 1), ("dilation", self.dilation, 1),
            ("padding", self.padding, 0),
        ):  # fmt: skip
            if min(values) < least:
                kind = "greater than zero" if least else "non-negative"
                raise RuntimeError(
                    f"{name} should be {kind}, but got {name.split()[0]}_height: {values[0]} "
                    f"{name.split()[0]}_width: {values[1]}"
                )
        self.blocks = tuple(
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, k, d, p, s in zip(self.size, self.kernel, self.dilation, self.padding, self.stride, strict=True)
        )

    def words(self) -> str:
        return f"kernel_size={self.kernel}, dilation={self.dilation}, padding={self.padding}"

    def slide(self, x: Array) -> Array:
        """(N, C, H, W) to (N, C kh kw, blocks). Two passes of slices, kh + kw of them rather than kh kw."""
        x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), (0, 0, 0), *((p, p, 0) for p in self.padding)])
        x = self._slide_axis(self._slide_axis(x, 0, 2), 1, 4)
        n, c, kh, oh, kw, ow = x.shape
        return x.transpose(0, 1, 2, 4, 3, 5).reshape(n, c * kh * kw, oh * ow)

    def _slide_axis(self, x: Array, which: int, axis: int) -> Array:
        """`axis` replaced by (offset in the kernel, block)."""
        k, d, s, o = self.kernel[which], self.dilation[which], self.stride[which], self.blocks[which]
        reach = (o - 1) * s + 1
        return jnp.stack([lax.slice_in_dim(x, i * d, i * d + reach, s, axis) for i in range(k)], axis=axis)


def _batched(x: Array, name: str) -> None:
    if not (is_float(x) or is_complex(x) or (name == "col2im" and x.dtype == np.bool_)):
        refuse(x, f"{name}_out_cpu")


@op(
    name="unfold", key="unfold.im2col", function=False, out=False, namespaces=("nn.functional",),
    grad_name="Im2ColBackward0",
)  # fmt: skip
def im2col(
    input: Array,
    kernel_size: int | tuple[int, ...],
    dilation: int | tuple[int, ...] = 1,
    padding: int | tuple[int, ...] = 0,
    stride: int | tuple[int, ...] = 1,
) -> Array:
    """Sliding blocks as columns: ([N,] C, H, W) to ([N,] C kh kw, blocks)."""
    if input.ndim not in (3, 4) or 0 in input.shape[-3:]:
        raise RuntimeError(
            "Expected 3D or 4D (batch mode) tensor with possibly 0 batch size and other non-zero dimensions for "
            f"input, but got: {list(input.shape)}"
        )
    window = _Window(input.shape[-2:], kernel_size, dilation, padding, stride)
    if min(window.blocks) < 1:
        raise RuntimeError(
            f"Given input with spatial size {window.size}, {window.words()}, calculated shape of the array of sliding "
            f"blocks as {window.blocks}, but its components must be at least one."
        )
    _batched(input, "im2col")
    out = window.slide(input.reshape(-1, *input.shape[-3:]))
    return out.reshape(*input.shape[:-3], *out.shape[1:])


@op(function=False, out=False, namespaces=("nn.functional",), grad_name="Col2ImBackward0")
def fold(
    input: Array,
    output_size: int | tuple[int, ...],
    kernel_size: int | tuple[int, ...],
    dilation: int | tuple[int, ...] = 1,
    padding: int | tuple[int, ...] = 0,
    stride: int | tuple[int, ...] = 1,
) -> Array:
    """Columns summed back to where `unfold` would have taken them from: ([N,] C kh kw, blocks) to ([N,] C, H, W)."""
    if input.ndim not in (2, 3) or 0 in input.shape[-2:]:
        raise RuntimeError(
            "Expected 2D or 3D (batch mode) tensor for input with possibly 0 batch size and non-zero dimensions for "
            f"input, but got: {list(input.shape)}"
        )
    window = _Window(output_size, kernel_size, dilation, padding, stride)
    rows, columns = input.shape[-2:]
    if rows % math.prod(window.kernel):
        raise RuntimeError(
            "Expected size of input's dimension 1 to be divisible by the product of kernel_size, but got "
            f"input.size(1)={rows} and kernel_size={window.kernel}."
        )
    high, wide = window.blocks
    if high * wide != columns or min(window.blocks) < 1:
        raise RuntimeError(
            f"Given output_size={window.size}, {window.words()}, stride={window.stride}, expected size of input's "
            f"dimension 2 to match the calculated number of sliding blocks {high} * {wide} = {high * wide}, but got "
            f"input.size(2)={columns}."
        )
    _batched(input, "col2im")
    x = input.reshape(-1, rows, columns)
    image = jax.ShapeDtypeStruct((x.shape[0], rows // math.prod(window.kernel), *window.size), x.dtype)
    (out,) = jax.linear_transpose(window.slide, image)(x)
    return out.reshape(*input.shape[:-2], *out.shape[1:])
