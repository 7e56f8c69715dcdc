"""Sampling at positions that are data: grid_sample, and affine_grid which makes such positions."""

from __future__ import annotations

import itertools
import math
from typing import Any

import jax.numpy as jnp
import numpy as np

from jtorch._ops._common import Array, dtype_of, is_float, scalar_name
from jtorch._ops.matmul import contract
from jtorch._ops.registry import op


def _clip(x: Array, top: float) -> Array:
    """x held inside [0, top]; at and past either end the gradient is zero."""
    return jnp.where(x <= 0, 0, jnp.where(x >= top, np.asarray(top, x.dtype), x)).astype(x.dtype)


def _reflect(x: Array, twice_low: int, twice_high: int) -> Array:
    """x folded back and forth between two bounds, given doubled so that halves stay exact."""
    if twice_low == twice_high:
        return jnp.zeros_like(x)
    low, span = twice_low / 2, (twice_high - twice_low) / 2
    away = jnp.abs(x - np.asarray(low, x.dtype))
    flips = jnp.floor(away / np.asarray(span, x.dtype))
    rest = away - flips * np.asarray(span, x.dtype)
    even = flips % 2 == 0
    return jnp.where(even, rest, np.asarray(span, x.dtype) - rest) + np.asarray(low, x.dtype)


def _unnormalize(x: Array, size: int, align: bool) -> Array:
    """[-1, 1] to pixel positions."""
    if align:
        return (x + 1) / 2 * np.asarray(size - 1, x.dtype)
    return ((x + 1) * np.asarray(size, x.dtype) - 1) / 2


def _padded(x: Array, size: int, padding_mode: str, align: bool) -> Array:
    """Positions moved inside the input where the padding mode says so."""
    if padding_mode == "border":
        return _clip(x, size - 1)
    if padding_mode == "reflection":
        x = _reflect(x, 0, 2 * (size - 1)) if align else _reflect(x, -1, 2 * size - 1)
        return _clip(x, size - 1)
    return x


def _fetch(flat: Array, index: list[Array], sizes: tuple[int, ...]) -> Array:
    """flat (N, C, positions) at whole-number positions (N, P) a dim; zero outside the input."""
    inside: Any = None
    offset: Any = None
    for at, size in zip(index, sizes, strict=True):
        ok = (at >= 0) & (at <= size - 1)
        inside = ok if inside is None else inside & ok
        whole = jnp.clip(jnp.where(ok, at, 0), 0, size - 1).astype(jnp.int32)
        offset = whole if offset is None else offset * size + whole
    values = jnp.take_along_axis(flat, offset[:, None, :], axis=2)
    return jnp.where(inside[:, None, :], values, 0).astype(flat.dtype)


def _cubic_weights(part: Array) -> list[Array]:
    a = -0.75

    def near(t: Array) -> Array:
        return ((a + 2) * t - (a + 3)) * t * t + 1

    def far(t: Array) -> Array:
        return a * (((t - 5) * t + 8) * t - 4)

    return [far(part + 1), near(part), near(1 - part), far(2 - part)]


def _check(input: Array, grid: Array, mode: str, padding_mode: str) -> int:
    n = input.ndim - 2
    if mode not in ("bilinear", "nearest", "bicubic"):
        raise ValueError(
            f"nn.functional.grid_sample(): expected mode to be 'bilinear', 'nearest' or 'bicubic', but got: '{mode}'"
        )
    if padding_mode not in ("zeros", "border", "reflection"):
        raise ValueError(
            "nn.functional.grid_sample(): expected padding_mode to be 'zeros', 'border', or 'reflection', but got: "
            f"'{padding_mode}'"
        )
    sizes = f"input with sizes {list(input.shape)} and grid with sizes {list(grid.shape)}"
    if grid.shape[0] != input.shape[0]:
        raise RuntimeError(f"grid_sampler(): expected grid and input to have same batch size, but got {sizes}")
    if grid.shape[-1] != n:
        raise RuntimeError(
            f"grid_sampler(): expected grid to have size {n} in last dimension, but got grid with sizes "
            f"{list(grid.shape)}"
        )
    for i in range(2, input.ndim):
        if input.shape[i] == 0:
            raise RuntimeError(
                "grid_sampler(): expected input to have non-empty spatial dimensions, but input has sizes "
                f"{list(input.shape)} with dimension {i} being empty"
            )
    if n not in (2, 3) or input.ndim != grid.ndim:
        raise RuntimeError(
            f"grid_sampler(): expected 4D or 5D input and grid with same number of dimensions, but got {sizes}"
        )
    if n == 3 and mode == "bicubic":
        raise RuntimeError("grid_sampler(): bicubic interpolation only supports 4D input")
    if input.dtype != grid.dtype:
        raise RuntimeError(f"expected scalar type {scalar_name(input)} but found {scalar_name(grid)}")
    if not is_float(input):
        raise NotImplementedError(f"\"grid_sampler_{n}d_cpu\" not implemented for '{scalar_name(input)}'")
    return n


@op(function=False, namespaces=("nn.functional",), out=False, grad_name="GridSampler2DBackward0")
def grid_sample(
    input: Array,
    grid: Array,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Array:
    """input (N, C, H, W) at positions grid (N, h, w, 2), x before y, in [-1, 1]; likewise with a depth."""
    n = _check(input, grid, mode, padding_mode)
    align = bool(align_corners)
    spatial, out = input.shape[2:], grid.shape[1:-1]
    batch, channels = input.shape[:2]
    wide = jnp.float32 if input.dtype.itemsize == 2 else input.dtype
    flat = input.astype(wide).reshape(batch, channels, math.prod(spatial))
    points = grid.astype(wide).reshape(batch, math.prod(out), n)
    # The grid says x first; dims go slowest first.
    places = [_unnormalize(points[..., n - 1 - i], spatial[i], align) for i in range(n)]
    if mode == "bicubic":
        total = _bicubic(flat, places, spatial, padding_mode, align)
    else:
        places = [_padded(p, size, padding_mode, align) for p, size in zip(places, spatial, strict=True)]
        if mode == "nearest":
            total = _fetch(flat, [jnp.round(p) for p in places], spatial)
        else:
            lows = [jnp.floor(p) for p in places]
            total = jnp.zeros((), wide)
            for corner in itertools.product((0, 1), repeat=n):
                weight: Any = None
                for p, low, high in zip(places, lows, corner, strict=True):
                    part = p - low if high else low + 1 - p
                    weight = part if weight is None else weight * part
                index = [low + high for low, high in zip(lows, corner, strict=True)]
                total = total + _fetch(flat, index, spatial) * weight[:, None, :]
    return total.reshape(batch, channels, *out).astype(input.dtype)


def _bicubic(flat: Array, places: list[Array], spatial: tuple[int, ...], padding_mode: str, align: bool) -> Array:
    lows = [jnp.floor(p) for p in places]
    weights = [_cubic_weights(p - low) for p, low in zip(places, lows, strict=True)]
    total = jnp.zeros((), flat.dtype)
    for i, j in itertools.product(range(4), repeat=2):
        index = [
            _padded(low + (tap - 1), size, padding_mode, align)
            for low, tap, size in zip(lows, (i, j), spatial, strict=True)
        ]
        total = total + _fetch(flat, index, spatial) * (weights[0][i] * weights[1][j])[:, None, :]
    return total


def _centres(size: int, align: bool, dtype: np.dtype) -> np.ndarray:
    """Pixel centres in [-1, 1]."""
    if size <= 1:
        return np.zeros(size, dtype)
    line = np.linspace(-1, 1, size)
    return (line if align else line * (size - 1) / size).astype(dtype)


@op(function=False, namespaces=("nn.functional",), out=False, grad_name="AffineGridGeneratorBackward0")
def affine_grid(theta: Array, size: tuple[int, ...], align_corners: bool | None = None) -> Array:
    """Grids for `grid_sample` from matrices (N, 2, 3) or (N, 3, 4), for outputs of `size` (N, C, *spatial)."""
    if not is_float(theta):
        raise ValueError(f"Expected theta to have floating point type, but got {dtype_of(theta)}")
    n = len(size) - 2
    if n not in (2, 3):
        raise NotImplementedError(
            "affine_grid only supports 4D and 5D sizes, for 2D and 3D affine transforms, respectively. Got size "
            f"torch.Size({list(size)})."
        )
    if theta.ndim != 3 or theta.shape[1:] != (n, n + 1):
        raise ValueError(
            f"Expected a batch of {n}D affine matrices of shape Nx{n}x{n + 1} for size torch.Size({list(size)}). "
            f"Got torch.Size({list(theta.shape)})."
        )
    if min(size) <= 0:
        raise ValueError(f"Expected non-zero, positive output size. Got torch.Size({list(size)})")
    lines = [_centres(s, bool(align_corners), np.dtype(theta.dtype)) for s in size[2:]]
    mesh = np.meshgrid(*lines, indexing="ij")
    base = np.stack([*reversed(mesh), np.ones_like(mesh[0])], -1).reshape(-1, n + 1)
    moved = contract(theta, jnp.asarray(base), ((2,), (1,)))  # (N, n, positions)
    return jnp.swapaxes(moved, 1, 2).reshape(theta.shape[0], *size[2:], n)
