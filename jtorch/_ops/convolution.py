"""Convolutions over one to three spatial dims, and their transposes.

A transposed convolution is the transpose of a convolution, as a linear map of its input: the same map that leads an
output's gradient back. Exact types (integers, complex) are a product over the columns; floats are `_bilinear`'s.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jtorch._ops._bilinear import correlate, spread_back
from jtorch._ops._common import Array, is_complex, scalar_name
from jtorch._ops._conv_forms import by_columns
from jtorch._ops._conv_geometry import Geometry
from jtorch._ops.matmul import C_NAMES
from jtorch._ops.registry import op

Ints = tuple[int, ...]
Pads = tuple[tuple[int, int], ...]


def _each(value: int | Ints, n: int, what: str) -> Ints:
    """A number or list as n numbers."""
    if isinstance(value, int):
        return (value,) * n
    if len(value) == 1:
        return tuple(value) * n
    if len(value) != n:
        raise RuntimeError(
            f"expected {what} to be a single integer value or a list of {n} values to match the convolution "
            "dimensions, "
            f"but got {what}={list(value)}"
        )
    return tuple(value)


def _pads(padding: int | str | Ints, n: int, weight: Array, stride: Ints, dilation: Ints) -> Pads:
    if isinstance(padding, str):
        if padding == "valid":
            return ((0, 0),) * n
        if padding != "same":
            raise RuntimeError(f"Invalid padding string: '{padding}'")
        if any(s != 1 for s in stride):
            raise RuntimeError("padding='same' is not supported for strided convolutions")
        total = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
        return tuple((t // 2, t - t // 2) for t in total)
    each = _each(padding, n, "padding")
    if any(p < 0 for p in each):
        raise RuntimeError("negative padding is not supported")
    return tuple((p, p) for p in each)


def _check(
    name: str, x: Array, w: Array, bias: Array | None, stride: Ints, dilation: Ints, groups: int, transposed: bool
) -> None:
    """What torch refuses, of a batched input."""
    if w.ndim != x.ndim:
        raise RuntimeError(
            f"Expected {w.ndim}-dimensional input for {w.ndim}-dimensional weight {list(w.shape)}, but got "
            f"{x.ndim}-dimensional input of size {list(x.shape)} instead"
        )
    if groups <= 0:
        raise RuntimeError("non-positive groups is not supported")
    if any(s <= 0 for s in stride):
        raise RuntimeError("non-positive stride is not supported")
    if any(d <= 0 for d in dilation):
        raise RuntimeError("dilation should be greater than zero")
    if w.shape[0] < groups:
        raise RuntimeError(
            f"Given groups={groups}, expected weight to be at least {groups} at dimension 0, but got weight of size "
            f"{list(w.shape)} instead"
        )
    if w.shape[0] % groups:
        raise RuntimeError(
            f"Given groups={groups}, expected weight to be divisible by {groups} at dimension 0, but got weight of "
            "size "
            f"[{list(w.shape)}] instead"
        )
    channels = w.shape[0] if transposed else w.shape[1] * groups
    if x.shape[1] != channels:
        given = "transposed=1" if transposed else f"groups={groups}"
        raise RuntimeError(
            f"Given {given}, weight of size {list(w.shape)}, expected input{list(x.shape)} to have {channels} "
            "channels, "
            f"but got {x.shape[1]} channels instead"
        )
    out = w.shape[1] * groups if transposed else w.shape[0]
    if bias is not None and bias.shape != (out,):
        given = "transposed=1, " if transposed else ""
        raise RuntimeError(
            f"Given {given}weight of size {list(w.shape)}, expected bias to be 1-dimensional with {out} elements, "
            f"but got bias of size {list(bias.shape)} instead"
        )
    if x.dtype != w.dtype and (bias is None or transposed or bias.dtype == x.dtype):
        raise RuntimeError(f"expected scalar type {scalar_name(x)} but found {scalar_name(w)}")
    if bias is not None and bias.dtype != x.dtype:
        names = C_NAMES[scalar_name(x)], C_NAMES[scalar_name(bias)]
        raise RuntimeError(f"Input type ({names[0]}) and bias type ({names[1]}) should be the same")
    if x.dtype == bool:
        raise NotImplementedError(f"\"{name}\" not implemented for 'Bool'")


def _batched(x: Array, n: int, name: str) -> tuple[Array, bool]:
    if x.ndim not in (n + 1, n + 2):
        raise RuntimeError(
            f"Expected {n + 1}D (unbatched) or {n + 2}D (batched) input to {name}, but got input of size: "
            f"{list(x.shape)}"
        )
    return (x, False) if x.ndim == n + 2 else (x[None], True)


def convolve(x: Array, w: Array, stride: Ints, pads: Pads, dilation: Ints, groups: int) -> Array:
    """x (N, C, *spatial) with w (O, C / groups, *kernel): (N, O, *out)."""
    at = Geometry(x.shape[2:], w.shape[2:], stride, pads, dilation, groups)
    if 0 in x.shape[:2] or w.shape[0] == 0:
        return jnp.zeros((x.shape[0], w.shape[0], *at.out), x.dtype)
    if is_complex(x) or jnp.issubdtype(x.dtype, jnp.integer):
        return by_columns(x, w, at)
    return correlate(x, w, at)


def _conv(
    n: int, input: Array, weight: Array, bias: Array | None, stride: int | Ints, padding: int | str | Ints,
    dilation: int | Ints, groups: int,
) -> Array:  # fmt: skip
    name = f"conv{n}d"
    if weight.ndim == n + 2:
        x, single = _batched(input, n, name)
    else:
        x, single = input, False
    stride, dilation = _each(stride, n, "stride"), _each(dilation, n, "dilation")
    _check(name, x, weight, bias, stride, dilation, groups, False)
    pads = _pads(padding, n, weight, stride, dilation)
    padded = [size + lo + hi for size, (lo, hi) in zip(x.shape[2:], pads, strict=True)]
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, weight.shape[2:], strict=True)]
    if any(p < r for p, r in zip(padded, reach, strict=True)):
        sizes = " x ".join(map(str, padded)), " x ".join(map(str, reach))
        raise RuntimeError(
            f"Calculated padded input size per channel: ({sizes[0]}). Kernel size: ({sizes[1]}). "
            "Kernel size can't be greater than actual input size"
        )
    y = convolve(x, weight, stride, pads, dilation, groups)
    if bias is not None:
        y = y + bias.reshape(-1, *(1,) * n)
    return y[0] if single else y


def _conv_transpose(
    n: int, input: Array, weight: Array, bias: Array | None, stride: int | Ints, padding: int | Ints,
    output_padding: int | Ints, groups: int, dilation: int | Ints,
) -> Array:  # fmt: skip
    name = f"conv_transpose{n}d"
    if weight.ndim == n + 2:
        x, single = _batched(input, n, name)
    else:
        x, single = input, False
    stride, dilation = _each(stride, n, "stride"), _each(dilation, n, "dilation")
    extra = _each(output_padding, n, "output_padding")
    pads = _pads(padding, n, weight, stride, dilation)
    _check(name, x, weight, bias, stride, dilation, groups, True)
    if any(e >= max(s, d) for e, s, d in zip(extra, stride, dilation, strict=True)):
        words = {1: ("width",), 2: ("height", "width"), 3: ("depth", "height", "width")}[n]
        facts = " ".join(
            f"{what}_{word}: {value}"
            for what, values in (("output_padding", extra), ("stride", stride), ("dilation", dilation))
            for word, value in zip(words, values, strict=True)
        )
        raise RuntimeError(f"output padding must be smaller than either stride or dilation, but got {facts}")
    out = tuple(
        (size - 1) * s - lo - hi + d * (k - 1) + e + 1
        for size, s, (lo, hi), d, k, e in zip(x.shape[2:], stride, pads, dilation, weight.shape[2:], extra, strict=True)
    )
    if any(o <= 0 for o in out):
        raise RuntimeError(
            f"Given input size per channel: {list(x.shape[2:])}. Calculated output size per channel: {list(out)}. "
            "Output size is too small"
        )
    shape = (x.shape[0], weight.shape[1] * groups, *out)
    if 0 in x.shape or 0 in shape:
        y = jnp.zeros(shape, x.dtype)
    else:
        # With output padding past the stride the convolution has positions the input lacks: they count as zeros.
        at = Geometry(out, weight.shape[2:], stride, pads, dilation, groups)
        x = jnp.pad(x, ((0, 0), (0, 0), *((0, r - size) for r, size in zip(at.out, x.shape[2:], strict=True))))
        # Integer maps have no transpose in JAX; torch's sums are exact in float64 up to 2**53 as well.
        dtype = x.dtype
        if jnp.issubdtype(dtype, jnp.integer):
            x, weight = x.astype(jnp.float64), weight.astype(jnp.float64)
        if is_complex(x):
            like = jax.ShapeDtypeStruct(shape, x.dtype)
            (y,) = jax.linear_transpose(lambda y: by_columns(y, weight, at), like)(x)
        else:
            y = spread_back(x, weight, at).astype(dtype)
    if bias is not None:
        y = y + bias.reshape(-1, *(1,) * n)
    return y[0] if single else y


@op(namespaces=("nn.functional",), grad_name="ConvolutionBackward0", out=False)
def conv1d(
    input: Array,
    weight: Array,
    bias: Array | None = None,
    stride: int | tuple[int, ...] = 1,
    padding: int | str | tuple[int, ...] = 0,
    dilation: int | tuple[int, ...] = 1,
    groups: int = 1,
) -> Array:
    """input (N, C, L) or (C, L), weight (O, C / groups, K), bias (O)."""
    return _conv(1, input, weight, bias, stride, padding, dilation, groups)


@op(namespaces=("nn.functional",), grad_name="ConvolutionBackward0", out=False)
def conv2d(
    input: Array,
    weight: Array,
    bias: Array | None = None,
    stride: int | tuple[int, ...] = 1,
    padding: int | str | tuple[int, ...] = 0,
    dilation: int | tuple[int, ...] = 1,
    groups: int = 1,
) -> Array:
    """input (N, C, H, W) or (C, H, W), weight (O, C / groups, KH, KW), bias (O)."""
    return _conv(2, input, weight, bias, stride, padding, dilation, groups)


@op(namespaces=("nn.functional",), grad_name="ConvolutionBackward0", out=False)
def conv3d(
    input: Array,
    weight: Array,
    bias: Array | None = None,
    stride: int | tuple[int, ...] = 1,
    padding: int | str | tuple[int, ...] = 0,
    dilation: int | tuple[int, ...] = 1,
    groups: int = 1,
) -> Array:
    """input (N, C, D, H, W) or unbatched, weight (O, C / groups, KD, KH, KW), bias (O)."""
    return _conv(3, input, weight, bias, stride, padding, dilation, groups)


@op(namespaces=("nn.functional",), grad_name="ConvolutionBackward0", out=False)
def conv_transpose1d(
    input: Array,
    weight: Array,
    bias: Array | None = None,
    stride: int | tuple[int, ...] = 1,
    padding: int | tuple[int, ...] = 0,
    output_padding: int | tuple[int, ...] = 0,
    groups: int = 1,
    dilation: int | tuple[int, ...] = 1,
) -> Array:
    """input (N, C, L) or (C, L), weight (C, O / groups, K), bias (O)."""
    return _conv_transpose(1, input, weight, bias, stride, padding, output_padding, groups, dilation)


@op(namespaces=("nn.functional",), grad_name="ConvolutionBackward0", out=False)
def conv_transpose2d(
    input: Array,
    weight: Array,
    bias: Array | None = None,
    stride: int | tuple[int, ...] = 1,
    padding: int | tuple[int, ...] = 0,
    output_padding: int | tuple[int, ...] = 0,
    groups: int = 1,
    dilation: int | tuple[int, ...] = 1,
) -> Array:
    """input (N, C, H, W) or (C, H, W), weight (C, O / groups, KH, KW), bias (O)."""
    return _conv_transpose(2, input, weight, bias, stride, padding, output_padding, groups, dilation)


@op(namespaces=("nn.functional",), grad_name="ConvolutionBackward0", out=False)
def conv_transpose3d(
    input: Array,
    weight: Array,
    bias: Array | None = None,
    stride: int | tuple[int, ...] = 1,
    padding: int | tuple[int, ...] = 0,
    output_padding: int | tuple[int, ...] = 0,
    groups: int = 1,
    dilation: int | tuple[int, ...] = 1,
) -> Array:
    """input (N, C, D, H, W) or unbatched, weight (C, O / groups, KD, KH, KW), bias (O)."""
    return _conv_transpose(3, input, weight, bias, stride, padding, output_padding, groups, dilation)
