"""Resampling to other sizes: `interpolate` in all its modes.

Every mode but area is separable, and along one dim each output is a weighted sum of a few inputs. Which inputs and
which
weights depends on sizes alone, so both are found on the host, once a program.
"""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
import numpy as np

from jtorch._ops._common import Array, is_float, scalar_name
from jtorch._ops.adaptive import _adaptive_avg
from jtorch._ops.registry import op

_LINEAR = {3: "linear", 4: "bilinear", 5: "trilinear"}
_NDIM = {"linear": 3, "bilinear": 4, "bicubic": 4, "trilinear": 5, "lanczos": 4}
_ALIGNING = ("linear", "bilinear", "bicubic", "trilinear")
_MODES = "nearest | linear | bilinear | bicubic | trilinear | lanczos | area | nearest-exact"

Plan = tuple[np.ndarray, np.ndarray]


def _cubic(t: np.ndarray, a: float) -> np.ndarray:
    """The cubic convolution kernel at distances t."""
    t = np.abs(t)
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    far = a * (((t - 5) * t + 8) * t - 4)
    return np.where(t <= 1, near, np.where(t < 2, far, 0))


def _triangle(t: np.ndarray) -> np.ndarray:
    return np.maximum(1 - np.abs(t), 0)


def _lanczos(t: np.ndarray) -> np.ndarray:
    return np.where(np.abs(t) < 3, np.sinc(t) * np.sinc(t / 3), 0)


def _scale(size: int, out: int, align: bool, factor: float | None, real: type) -> np.floating:
    """Inputs per output step."""
    if align:
        return real(real(size - 1) / real(out - 1)) if out > 1 else real(0)
    return real(1.0 / factor) if factor is not None else real(real(size) / real(out))


def _nearest(size: int, out: int, factor: float | None, exact: bool) -> np.ndarray:
    scale = _scale(size, out, False, factor, np.float32)
    at = np.arange(out, dtype=np.float32)
    source = (at + np.float32(0.5)) * scale if exact else at * scale
    return np.minimum(np.floor(source).astype(np.int64), size - 1)


def _source(size: int, out: int, align: bool, factor: float | None, real: type) -> np.ndarray:
    """Where each output's centre lies among the inputs."""
    scale = _scale(size, out, align, factor, real)
    at = np.arange(out).astype(real)
    return at * scale if align else (at + real(0.5)) * scale - real(0.5)


def _linear_plan(size: int, out: int, align: bool, factor: float | None, real: type) -> Plan:
    source = np.maximum(_source(size, out, align, factor, real), 0)
    low = np.minimum(np.floor(source).astype(np.int64), size - 1)
    high = np.minimum(low + 1, size - 1)
    part = np.clip(source - low.astype(real), 0, 1)
    return np.stack([low, high], 1), np.stack([real(1) - part, part], 1)


def _cubic_plan(size: int, out: int, align: bool, factor: float | None, real: type) -> Plan:
    source = _source(size, out, align, factor, real)
    low = np.floor(source)
    part = source - low
    taps = np.arange(-1, 3)
    weights = _cubic(part[:, None] - taps, -0.75)
    return np.clip(low.astype(np.int64)[:, None] + taps, 0, size - 1), weights


def _antialias_plan(size: int, out: int, align: bool, factor: float | None, mode: str) -> Plan:
    """The kernel stretched over as many inputs as an output covers, its weights normalized."""
    scale = float(_scale(size, out, align, factor, np.float64))
    reach = {"bilinear": 1.0, "bicubic": 2.0, "lanczos": 3.0}[mode]
    stretch = max(scale, 1.0)
    support = reach * stretch
    centre = scale * (np.arange(out) + 0.5)
    start = np.maximum(np.trunc(centre - support + 0.5).astype(np.int64), 0)
    stop = np.minimum(np.trunc(centre + support + 0.5).astype(np.int64), size)
    taps = start[:, None] + np.arange(max(int((stop - start).max()), 1))
    distance = (taps + 0.5 - centre[:, None]) / stretch
    kernel = {"bilinear": _triangle, "bicubic": lambda t: _cubic(t, -0.5), "lanczos": _lanczos}[mode]
    weights = np.where(taps < stop[:, None], kernel(distance), 0)
    total = weights.sum(1, keepdims=True)
    return np.clip(taps, 0, size - 1), weights / np.where(total == 0, 1, total)


def _pick(x: Array, axis: int, index: np.ndarray) -> Array:
    """x at the given indices of an axis; whole repeats become a broadcast, whose gradient is a plain sum."""
    size, out = x.shape[axis], len(index)
    if size == out and (index == np.arange(size)).all():
        return x
    if out % size == 0 and (index == np.arange(out) // (out // size)).all():
        return jnp.repeat(x, out // size, axis, total_repeat_length=out)
    return jnp.take(x, index, axis)


def _resample(x: Array, axis: int, plan: Plan) -> Array:
    index, weights = plan
    shape = (-1, *(1,) * (x.ndim - axis - 1))
    total: Any = None
    for k in range(index.shape[1]):
        term = _pick(x, axis, index[:, k]) * jnp.asarray(weights[:, k].reshape(shape), x.dtype)
        total = term if total is None else total + term
    return total


def _target(
    input: Array, size: int | tuple[int, ...] | None, scale_factor: float | tuple[float, ...] | None,
    recompute: bool | None,
) -> tuple[tuple[int, ...], tuple[float | None, ...]]:  # fmt: skip
    """Output sizes, and the factors the coordinates go by where the user's own are kept."""
    n = input.ndim - 2
    spatial = input.shape[2:]
    if size is not None and scale_factor is not None:
        raise ValueError("only one of size or scale_factor should be defined")
    if size is not None:
        if recompute:
            raise ValueError("recompute_scale_factor is not meaningful with an explicit size.")
        if isinstance(size, int):
            return (size,) * n, (None,) * n
        if len(size) != n:
            raise ValueError(
                "Input and output must have the same number of spatial dimensions, but got input with spatial "
                "dimensions "
                f"of {list(spatial)} and output size of {size}. Please provide input tensor in (N, C, d1, d2, ...,dK) "
                "format and output size in (o1, o2, ...,oK) format."
            )
        return tuple(size), (None,) * n
    if scale_factor is None:
        raise ValueError("either size or scale_factor should be defined")
    if isinstance(scale_factor, (tuple, list)):
        if len(scale_factor) != n:
            raise ValueError(
                "Input and scale_factor must have the same number of spatial dimensions, but got input with spatial "
                f"dimensions of {list(spatial)} and scale_factor of shape {scale_factor}. Please provide input "
                "tensor in "
                "(N, C, d1, d2, ...,dK) format and scale_factor in (s1, s2, ...,sK) format."
            )
        factors = tuple(float(f) for f in scale_factor)
    else:
        factors = (float(scale_factor),) * n
    out = tuple(math.floor(s * f) for s, f in zip(spatial, factors, strict=True))
    return out, (None,) * n if recompute else factors


def _check_mode(input: Array, mode: str, align_corners: bool | None, antialias: bool) -> None:
    if mode in ("nearest", "area", "nearest-exact") and align_corners is not None:
        raise ValueError(
            "align_corners option can only be set with the interpolating modes: linear | bilinear | bicubic | trilinear"
        )
    known = mode in _NDIM or mode in ("nearest", "area", "nearest-exact")
    if antialias and not (mode in ("bilinear", "bicubic", "lanczos") and input.ndim == 4):
        raise ValueError(
            "Anti-alias option is restricted to bilinear, bicubic, and lanczos modes and requires a 4-D tensor as input"
        )
    if known and mode in _NDIM and input.ndim != _NDIM[mode] and input.ndim in (3, 4, 5):
        raise NotImplementedError(f"Got {input.ndim}D input, but {mode} mode needs {_NDIM[mode]}D input")
    if not known or input.ndim not in (3, 4, 5):
        raise NotImplementedError(
            f"Input Error: Only 3D, 4D and 5D input Tensors supported (got {input.ndim}D) for the modes: {_MODES} "
            f"(got {mode})"
        )
    if mode == "lanczos" and not antialias:
        raise ValueError("lanczos mode is only supported with antialias=True")


@op(function=False, namespaces=("nn.functional",), out=False, grad_name="UpsampleBackward0")
def interpolate(
    input: Array,
    size: int | tuple[int, ...] | None = None,
    scale_factor: float | tuple[float, ...] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Array:
    """Resizes the spatial dims of (N, C, *spatial) to `size`, or by `scale_factor`.

    Byte images are computed in float32 and rounded, within 1 of torch's fixed-point results.
    """
    _check_mode(input, mode, align_corners, antialias)
    out, factors = _target(input, size, scale_factor, recompute_scale_factor)
    n = input.ndim - 2
    if min(*input.shape[2:], *out) <= 0:
        names = "DHW"[-n:] if n > 1 else "W"
        sizes = [", ".join(f"{d}: {v}" for d, v in zip(names, dims, strict=True)) for dims in (input.shape[2:], out)]
        raise RuntimeError(
            f"Input and output sizes should be greater than 0, but got input ({sizes[0]}) output ({sizes[1]})"
        )
    if mode == "area":
        return _adaptive_avg(f"adaptive_avg_pool{n}d", n, input, out)
    byte = input.dtype == jnp.uint8
    if not is_float(input) and not byte:
        kernel = mode.replace("-", "_")
        raise NotImplementedError(f"\"upsample_{kernel}{n}d_channels_last\" not implemented for '{scalar_name(input)}'")
    if mode in ("nearest", "nearest-exact"):
        x = input
        for i in range(n):
            x = _pick(x, 2 + i, _nearest(x.shape[2 + i], out[i], factors[i], mode != "nearest"))
        return x
    x = input.astype(jnp.float32) if input.dtype.itemsize < 4 else input
    real = np.float64 if x.dtype == jnp.float64 else np.float32
    align = bool(align_corners)
    # The last dim goes first, as the rows are the contiguous ones.
    for i in reversed(range(n)):
        facts = (x.shape[2 + i], out[i], align, factors[i])
        if antialias:
            plan = _antialias_plan(*facts, mode)
        elif facts[0] == facts[1] and (align or factors[i] in (None, 1.0)):
            continue
        else:
            plan = (_cubic_plan if mode == "bicubic" else _linear_plan)(*facts, real)
        x = _resample(x, 2 + i, plan)
        if byte:
            # torch keeps bytes between the passes as well.
            x = jnp.clip(jnp.round(x), 0, 255)
    return x.astype(input.dtype)
