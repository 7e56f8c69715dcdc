"""Normalizations: batch, instance, layer, group, RMS, local response, and p-norm.

Half types are computed in float32 and rounded once at the end. Running statistics are state, so `batch_norm` and
`instance_norm` come as two pure operations each, training and evaluation; who owns the buffers updates them.
"""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jtorch._ops import _batch_norm
from jtorch._ops._common import Array, Arrays, Number, dtype_of, is_complex, is_float, scalar_name, wrap_dims
from jtorch._ops.distances import p_norm
from jtorch._ops.registry import op
from jtorch._runtime import dtypes


def _wide(x: Array) -> Array:
    return x.astype(jnp.float32) if x.dtype.itemsize == 2 else x


def _mean(x: Array, axes: tuple[int, ...]) -> Array:
    count = math.prod(x.shape[a] for a in axes)
    return x.sum(axes, keepdims=True, dtype=x.dtype) / np.asarray(count, x.dtype)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _variance(x: Array, axes: tuple[int, ...]) -> Array:
    """Biased variance, dims kept."""
    return _mean(lax.square(x - _mean(x, axes)), axes)


@_variance.defjvp
def _variance_jvp(axes, primals, tangents):
    # The deviations sum to zero, so the mean's own derivative adds nothing: one pass instead of two.
    (x,), (dx,) = primals, tangents
    deviation = x - _mean(x, axes)
    return _mean(lax.square(deviation), axes), 2 * _mean(deviation * dx, axes)


def _normalized(x: Array, axes: tuple[int, ...], eps: float) -> tuple[Array, Array, Array]:
    """x brought to mean 0 and variance 1 over axes; the mean and the biased variance."""
    mean, var = _mean(x, axes), _variance(x, axes)
    return (x - mean) * lax.rsqrt(var + np.asarray(eps, x.dtype)), mean, var


def _affine(y: Array, weight: Array | None, bias: Array | None, shape: tuple[int, ...]) -> Array:
    if weight is not None:
        y = y * weight.astype(y.dtype).reshape(shape)
    return y if bias is None else y + bias.astype(y.dtype).reshape(shape)


def _needs_float(x: Array, kernel: str) -> None:
    if not is_float(x):
        raise NotImplementedError(f"\"{kernel}\" not implemented for '{scalar_name(x)}'")


def _check_channels(input: Array, **vectors: Array | None) -> None:
    if input.ndim < 2 and (input.ndim == 0 or input.size):
        raise IndexError("Dimension out of range (expected to be in range of [-1, 0], but got 1)")
    for label, vector in vectors.items():
        if vector is not None and input.ndim > 1 and vector.size != input.shape[1]:
            raise RuntimeError(f"{label} should contain {input.shape[1]} elements not {vector.size}")


def _over_channels(x: Array) -> tuple[int, ...]:
    return (1, -1, *(1,) * (x.ndim - 2))


@op(key="batch_norm.train", name="batch_norm", function=False, grad_name="NativeBatchNormBackward0", out=False)
def batch_norm_train(input: Array, weight: Array | None, bias: Array | None, eps: float) -> tuple[Array, Array, Array]:
    """Normalizes each channel (dim 1) by its own batch statistics.

    Gives (output, mean, var): the statistics are (C,), the variance unbiased, no gradient flows through them, and half
    types keep them in float32.
    """
    if input.ndim == 1 and not input.size:
        nothing = jnp.zeros(0, _wide(input).dtype)
        return input, nothing, nothing
    if input.ndim >= 2 and input.size // max(input.shape[1], 1) == 1:
        raise ValueError(
            f"Expected more than 1 value per channel when training, got input size torch.Size({list(input.shape)})"
        )
    _check_channels(input, weight=weight, bias=bias)
    _needs_float(input, "batch_norm")
    x = _wide(input)
    count = input.size // max(input.shape[1], 1)
    if _batch_norm.fits(x):
        w = jnp.ones(x.shape[1], x.dtype) if weight is None else weight.astype(x.dtype)
        b = jnp.zeros(x.shape[1], x.dtype) if bias is None else bias.astype(x.dtype)
        out, mean, var = _batch_norm.normalize(x, w, b, eps)
    else:
        y, mean, var = _normalized(x, (0, *range(2, x.ndim)), eps)
        out = _affine(y, weight, bias, _over_channels(x))
    out = out.astype(input.dtype)
    unbiased = var * np.asarray(count / max(count - 1, 1), var.dtype)
    return out, lax.stop_gradient(mean).reshape(-1), lax.stop_gradient(unbiased).reshape(-1)


@op(key="batch_norm.eval", name="batch_norm", function=False, grad_name="NativeBatchNormBackward0", out=False)
def batch_norm_eval(
    input: Array,
    running_mean: Array,
    running_var: Array,
    weight: Array | None,
    bias: Array | None,
    eps: float,
) -> Array:
    """Normalizes each channel (dim 1) by the statistics given."""
    _check_channels(input, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    _needs_float(input, "batch_norm")
    if input.ndim == 1 and not input.size:
        return input
    x = _wide(input)
    shape = _over_channels(x)
    # One factor and one offset a channel: two passes over the data become a multiply-add.
    scale = lax.rsqrt(running_var.astype(x.dtype) + np.asarray(eps, x.dtype))
    if weight is not None:
        scale = scale * weight.astype(x.dtype)
    y = (x - running_mean.astype(x.dtype).reshape(shape)) * scale.reshape(shape)
    return _affine(y, None, bias, shape).astype(input.dtype)


@op(key="running_statistics", name="running_statistics", function=False, out=False, differentiable=False)
def running_statistics(running: Arrays, batch: Arrays, *, momentum: Number) -> Arrays:
    """Running statistics moved towards a batch's."""
    near = jnp.asarray(momentum).astype(jnp.float64)
    return tuple(
        r * (1 - near).astype(r.dtype) + b.astype(r.dtype) * near.astype(r.dtype)
        for r, b in zip(running, batch, strict=True)
    )


@op(key="instance_norm.train", name="instance_norm", function=False, grad_name="ViewBackward0", out=False)
def instance_norm_train(
    input: Array, weight: Array | None, bias: Array | None, eps: float
) -> tuple[Array, Array, Array]:
    """Normalizes each channel of each sample by its own statistics.

    Gives (output, mean, var): the statistics are (C,), averaged over the batch, the variance unbiased, without
    gradient.
    """
    spatial = math.prod(input.shape[2:])
    if spatial == 1:
        raise ValueError(
            f"Expected more than 1 spatial element when training, got input size torch.Size({list(input.shape)})"
        )
    _check_channels(input, weight=weight, bias=bias)
    _needs_float(input, "batch_norm")
    x = _wide(input)
    y, mean, var = _normalized(x, tuple(range(2, x.ndim)), eps)
    unbiased = var * np.asarray(spatial / max(spatial - 1, 1), var.dtype)
    out = _affine(y, weight, bias, _over_channels(x)).astype(input.dtype)
    means = [_mean(lax.stop_gradient(s), (0,)).reshape(-1) for s in (mean, unbiased)]
    return out, means[0], means[1]


def _check_shape(
    input: Array, normalized_shape: tuple[int, ...], weight: Array | None, bias: Array | None, star: str
) -> tuple[int, ...]:
    """The axes to normalize over."""
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if not shape:
        raise RuntimeError(
            "Expected normalized_shape to be at least 1-dimensional, i.e., containing at least one element, but got "
            "normalized_shape = []"
        )
    for label, vector in (("weight", weight), ("bias", bias)):
        if vector is not None and vector.shape != shape:
            raise RuntimeError(
                f"Expected {label} to be of same shape as normalized_shape, but got {label} of shape "
                f"{list(vector.shape)} and normalized_shape = {list(shape)}"
            )
    if input.ndim < len(shape) or input.shape[-len(shape) :] != shape:
        wanted = ", ".join(map(str, shape))
        raise RuntimeError(
            f"Given normalized_shape={list(shape)}, expected input with shape [{star}{wanted}], but got input of "
            f"size{list(input.shape)}"
        )
    return tuple(range(input.ndim - len(shape), input.ndim))


def _check_parameter_dtype(input: Array, *vectors: Array | None) -> None:
    for vector in vectors:
        if (
            vector is not None
            and vector.dtype != input.dtype
            and not (input.dtype.itemsize == 2 and vector.dtype == jnp.float32)
        ):
            raise RuntimeError(f"mixed dtype (CPU): expect parameter to have scalar type of {scalar_name(input)}")


@op(namespaces=("nn.functional",), grad_name="NativeLayerNormBackward0", out=False)
def layer_norm(
    input: Array,
    normalized_shape: tuple[int, ...],
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
) -> Array:
    """Normalizes over the trailing dims of `normalized_shape`; weight and bias have that shape."""
    axes = _check_shape(input, normalized_shape, weight, bias, "*, ")
    _needs_float(input, "LayerNormKernelImpl")
    _check_parameter_dtype(input, weight, bias)
    y, _, _ = _normalized(_wide(input), axes, eps)
    shape = input.shape[axes[0] :]
    return _affine(y, weight, bias, shape).astype(input.dtype)


@op(namespaces=("nn.functional",), out=False, grad_name="MulBackward0")
def rms_norm(
    input: Array,
    normalized_shape: tuple[int, ...],
    weight: Array | None = None,
    eps: float | None = None,
) -> Array:
    """Divides by the root of the mean square over the trailing dims; eps defaults to the dtype's own epsilon."""
    axes = _check_shape(input, normalized_shape, weight, None, "*")
    if not is_float(input) and not is_complex(input):
        raise NotImplementedError(f"\"rms_norm\" not implemented for '{scalar_name(input)}'")
    x = _wide(input)
    if eps is None:
        # Half types are computed in float32, and torch takes the epsilon of what it computes in.
        eps = float(np.finfo(dtype_of(x).to_real().np).eps)
    square = x * x  # of a complex number too, where it is no length
    y = x * lax.rsqrt(_mean(square, axes) + np.asarray(eps, square.dtype))
    return _affine(y, weight, None, input.shape[axes[0] :]).astype(input.dtype)


@op(namespaces=("nn.functional",), grad_name="NativeGroupNormBackward0", out=False)
def group_norm(
    input: Array,
    num_groups: int,
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
) -> Array:
    """Normalizes each sample over groups of channels (dim 1); weight and bias are (C,)."""
    if input.ndim < 2:
        raise RuntimeError(f"Expected at least 2 dimensions for input tensor but received {input.ndim}")
    if num_groups <= 0:
        raise RuntimeError(f"Expected num groups to be greater than 0, got {num_groups}")
    n, channels = input.shape[:2]
    if channels % num_groups:
        raise RuntimeError(
            "Expected number of channels in input to be divisible by num_groups, but got input of shape "
            f"{list(input.shape)} and num_groups={num_groups}"
        )
    if n * channels and n * channels // num_groups * math.prod(input.shape[2:]) == 1:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {list(input.shape)}")
    for label, vector in (("weight", weight), ("bias", bias)):
        if vector is not None and vector.shape != (channels,):
            raise RuntimeError(
                f"Expected {label} to be a vector of size equal to the number of channels in input, but got {label} of "
                f"shape {list(vector.shape)} and input of shape {list(input.shape)}"
            )
    _needs_float(input, "GroupNormKernelImpl")
    _check_parameter_dtype(input, weight, bias)
    if not input.size:
        return input
    x = _wide(input)
    y, _, _ = _normalized(x.reshape(n, num_groups, -1), (2,), eps)
    return _affine(y.reshape(x.shape), weight, bias, _over_channels(x)).astype(input.dtype)


@op(function=False, namespaces=("nn.functional",), out=False, grad_name="DivBackward0")
def local_response_norm(input: Array, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Array:
    """Divides each value by (k + alpha * mean of squares over `size` neighbouring channels) ** beta."""
    if input.ndim < 3:
        raise ValueError(
            f"Expected 3D or higher dimensionality                          input (got {input.ndim} dimensions)"
        )
    if not input.size:
        return input
    channels = input.shape[1]
    exact = not is_float(input) and not is_complex(input)
    x = input.astype(dtypes.get_default_dtype().np) if exact else _wide(input)
    pads = [(0, 0)] * x.ndim
    pads[1] = (size // 2, (size - 1) // 2)
    padded = jnp.pad(lax.square(x), pads)
    total = sum(lax.slice_in_dim(padded, i, i + channels, axis=1) for i in range(size))
    scale = (total * np.asarray(alpha / size, x.dtype) + np.asarray(k, x.dtype)) ** np.asarray(beta, x.dtype)
    return (x / scale).astype(x.dtype if exact else input.dtype)


@op(function=False, namespaces=("nn.functional",), grad_name="DivBackward0")
def normalize(input: Array, p: float = 2.0, dim: int | tuple[int, ...] = 1, eps: float = 1e-12) -> Array:
    """input / max(its p-norm along dim, eps)."""
    if not is_float(input) and not is_complex(input):
        raise RuntimeError(
            f"linalg.vector_norm: Expected a floating point or complex tensor as input. Got {scalar_name(input)}"
        )
    x = _wide(input)
    norm = p_norm(x, p, wrap_dims(dim, x.ndim), True)
    floor = np.asarray(eps, norm.dtype)
    return (x / jnp.where(norm < floor, floor, norm)).astype(input.dtype)


@op(function=False, out=False, grad_name="NativeLayerNormBackward0")
def native_layer_norm(
    input: Array, normalized_shape: tuple[int, ...], weight: Array | None, bias: Array | None, eps: float
) -> tuple[Array, Array, Array]:
    """`layer_norm`, and the mean and inverse deviation it used."""
    axes = _check_shape(input, normalized_shape, weight, bias, "*")
    x = _wide(input)
    y, mean, var = _normalized(x, axes, eps)
    out = _affine(y, weight, bias, input.shape[axes[0] :]).astype(input.dtype)
    spread = lax.rsqrt(var + np.asarray(eps, var.dtype))
    return out, mean.astype(input.dtype), spread.astype(input.dtype)


@op(out=False, grad_name="NativeGroupNormBackward0")
def native_group_norm(
    input: Array, weight: Array | None, bias: Array | None, N: int, C: int, HxW: int, group: int, eps: float
) -> tuple[Array, Array, Array]:
    """`group_norm`, and the mean and inverse deviation of each group, (N, group)."""
    out = group_norm(input, group, weight, bias, eps)
    x = _wide(input).reshape(N, group, C // group * HxW)
    mean = _mean(x, (2,))
    spread = lax.rsqrt(_variance(x, (2,)) + np.asarray(eps, x.dtype))
    return out, mean[..., 0].astype(input.dtype), spread[..., 0].astype(input.dtype)
