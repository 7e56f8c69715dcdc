"""Convolutions over one to three spatial dims, and their transposes.

Two forms, one meaning. XLA's own convolution is right everywhere and fast on accelerators; on the CPU it loses to a
matrix product over the columns (im2col) as long as the columns stay about as small as a cache. Each form is made of
operations JAX can differentiate any number of times. A transposed convolution is the transpose of a convolution, as a
linear map of its input, and takes whatever form that one takes.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import lax

from jtorch._ops._common import Array, is_complex, scalar_name
from jtorch._ops.matmul import C_NAMES, contract
from jtorch._ops.registry import op

# Elements of a column matrix up to which the product beats XLA's convolution on one CPU core (measured: wins at
# 2.4 million, loses at 9.4 million).
_COLUMNS = 1 << 22

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


def _out_sizes(spatial: Ints, kernel: Ints, stride: Ints, pads: tuple, dilation: Ints) -> Ints:
    return tuple(
        (size + lo + hi - d * (k - 1) - 1) // s + 1
        for size, k, s, (lo, hi), d in zip(spatial, kernel, stride, pads, dilation, strict=True)
    )


def _by_columns(x: Array, w: Array, stride: Ints, pads: tuple, dilation: Ints, groups: int) -> Array:
    """The kernel's shifted, strided slices of x side by side, and one product with the weight."""
    kernel, n = w.shape[2:], w.ndim - 2
    batch, channels = x.shape[:2]
    out = _out_sizes(x.shape[2:], kernel, stride, pads, dilation)
    # Channels first: the columns are then one (channels * kernel, batch * positions) matrix a group, without a copy.
    x = jnp.pad(jnp.swapaxes(x, 0, 1), ((0, 0), (0, 0), *pads))
    slices = []
    for tap in range(math.prod(kernel)):
        at, start = tap, []
        for k, d in zip(reversed(kernel), reversed(dilation), strict=True):
            start.insert(0, at % k * d)
            at //= k
        limit = [a + (o - 1) * s + 1 for a, o, s in zip(start, out, stride, strict=True)]
        slices.append(lax.slice(x, (0, 0, *start), (channels, batch, *limit), (1, 1, *stride)))
    taps, inner, outer = len(slices), channels // groups, w.shape[0] // groups
    if inner == 1 and outer == 1:
        # Depthwise: a multiply-add a tap, fused into one loop; no columns are stored.
        factors = w.reshape(channels, taps, *(1,) * (n + 1))
        y = sum(part * factors[:, tap] for tap, part in enumerate(slices))
    else:
        positions = batch * math.prod(out)
        columns = jnp.stack([part.reshape(groups, inner, positions) for part in slices], 1)
        columns = columns.reshape(groups, taps * inner, positions)
        matrix = jnp.swapaxes(w.reshape(groups, outer, inner, taps), 2, 3).reshape(groups, outer, taps * inner)
        if groups == 1:
            y = contract(matrix[0], columns[0], ((1,), (0,)))
        else:
            y = contract(matrix, columns, ((2,), (1,)), ((0,), (0,)))
    return jnp.swapaxes(y.reshape(w.shape[0], batch, *out), 0, 1)


def convolve(x: Array, w: Array, stride: Ints, pads: tuple, dilation: Ints, groups: int) -> Array:
    """x (N, C, *spatial) with w (O, C / groups, *kernel): (N, O, *out)."""
    kernel, n = w.shape[2:], w.ndim - 2
    out = _out_sizes(x.shape[2:], kernel, stride, pads, dilation)
    if 0 in x.shape[:2] or w.shape[0] == 0:
        return jnp.zeros((x.shape[0], w.shape[0], *out), x.dtype)
    on_cpu = jax.default_backend() == "cpu"
    depthwise = groups > 1 and w.shape[1] == 1 and w.shape[0] == groups
    columns = x.shape[0] * x.shape[1] * math.prod(out) * math.prod(kernel)
    exact = is_complex(x) or jnp.issubdtype(x.dtype, jnp.integer)
    small = columns <= _COLUMNS or math.prod(kernel) == 1 or (depthwise and math.prod(kernel) <= 49)
    if exact or (on_cpu and small):
        return _by_columns(x, w, stride, pads, dilation, groups)
    dtype = x.dtype
    if on_cpu and dtype.itemsize == 2:
        x, w = x.astype(jnp.float32), w.astype(jnp.float32)
    letters = "DHW"[-n:]
    y = lax.conv_general_dilated(
        x, w, stride, pads, rhs_dilation=dilation, feature_group_count=groups,
        dimension_numbers=(f"NC{letters}", f"OI{letters}", f"NC{letters}"), precision=lax.Precision.HIGHEST,
    )  # fmt: skip
    return y.astype(dtype)


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
        reached = _out_sizes(out, weight.shape[2:], stride, pads, dilation)
        x = jnp.pad(x, ((0, 0), (0, 0), *((0, r - size) for r, size in zip(reached, x.shape[2:], strict=True))))
        # Integer maps have no transpose in JAX; torch's sums are exact in float64 up to 2**53 as well.
        dtype = x.dtype
        if jnp.issubdtype(dtype, jnp.integer):
            x, weight = x.astype(jnp.float64), weight.astype(jnp.float64)
        like = jax.ShapeDtypeStruct(shape, x.dtype)
        (y,) = jax.linear_transpose(lambda y: convolve(y, weight, stride, pads, dilation, groups), like)(x)
        y = y.astype(dtype)
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
