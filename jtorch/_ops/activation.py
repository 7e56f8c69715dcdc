"""Activations without random draws. Where torch has a top-level twin with another signature, each is declared.

`inplace` is in the signatures because it is in torch's; the shared caller acts on it, the functions here do not.
"""

from __future__ import annotations

import functools
import math
import warnings

import jax
import jax.numpy as jnp
from jax import lax

from jtorch._ops._common import Array, DType, dtype_of, scalar_name, wrap_dim
from jtorch._ops._numeric import absolute, category, constant, in_float32, need_float, refuse, to_float
from jtorch._ops.registry import op
from jtorch._runtime import dtypes
from jtorch._runtime.dtypes import BOOL, COMPLEX, INTEGRAL

_F = ("nn.functional",)


def _clip(x: Array, low: float, high: float) -> Array:
    """`x` between two numbers, with no gradient at either; nan stays."""
    return jnp.where(x <= low, constant(low, x), jnp.where(x >= high, constant(high, x), x))


def _no_complex_clamp(x: Array) -> None:
    if category(x) == COMPLEX:
        raise NotImplementedError("clamp is not supported for complex types")


# ------------------------------------------------------------------------------------------------ relu and its kin


@op(method=True, inplace=True, out=False, saves="output")
def relu(input: Array) -> Array:
    """The larger of the input and 0. The gradient at 0 is 0."""
    if category(input) == BOOL:
        raise RuntimeError("Boolean inputs not supported for relu")
    _no_complex_clamp(input)
    return jnp.where(input <= 0, constant(0, input), input)


@op(key="nn.functional.relu", name="relu", function=False, out=False, namespaces=_F, saves="output")
def f_relu(input: Array, inplace: bool = False) -> Array:
    """`torch.relu`, in place if asked."""
    return relu(input)


@op(function=False, out=False, namespaces=_F)
def hardtanh(input: Array, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Array:
    """The input between `min_val` and `max_val`. ValueError where those cross."""
    if min_val > max_val:
        raise ValueError("min_val cannot be greater than max_val")
    if category(input) == BOOL:
        raise RuntimeError("Bool inputs not supported for hardtanh")
    _no_complex_clamp(input)
    if min_val < 0 and not dtype_of(input).is_signed:
        raise RuntimeError("cannot do hardtanh on an unsigned type with negative limits")
    if category(input) == INTEGRAL:
        min_val, max_val = int(min_val), int(max_val)
    return _clip(input, min_val, max_val)


@op(function=False, out=False, namespaces=_F, grad_name="HardtanhBackward0")
def relu6(input: Array, inplace: bool = False) -> Array:
    """The input between 0 and 6."""
    return hardtanh(input, 0.0, 6.0)


@op(function=False, out=False, namespaces=_F)
@in_float32
def leaky_relu(input: Array, negative_slope: float = 0.01, inplace: bool = False) -> Array:
    """The input where positive, `negative_slope` times it elsewhere."""
    need_float("leaky_relu_cpu", input)
    return jnp.where(input > 0, input, input * constant(negative_slope, input))


@op(method=True, out=False, namespaces=_F, grad_name="PreluKernelBackward0")
@in_float32
def prelu(input: Array, weight: Array) -> Array:
    """The input where positive, `weight` times it elsewhere; one weight, or one a channel (dim 1)."""
    if weight.dtype != input.dtype:
        raise RuntimeError(f"prelu: Type promoting not supported. Got {scalar_name(input)} and {scalar_name(weight)}")
    need_float("prelu_cpu", input)
    if weight.size != 1:
        channels = input.shape[1] if input.ndim > 1 else 1
        if input.ndim == 0:
            raise RuntimeError("Not allow zero-dim input tensor.")
        if weight.size != channels:
            raise RuntimeError(
                "Mismatch of parameter numbers and input channel size. "
                f"Found parameter numbers = {weight.size} and channel size = {channels}."
            )
        if weight.ndim != 1:
            raise RuntimeError(f"prelu: Expected `weight` to be a scalar or 1D tensor, but got: ndim = {weight.ndim}")
    slope = weight.reshape((1, -1) + (1,) * (input.ndim - 2)) if input.ndim > 1 else weight.reshape(())
    return jnp.where(input > 0, input, input * slope)


@op(key="threshold", name="threshold")
def top_threshold(input: Array, threshold: float, value: float) -> Array:
    """The input where above `threshold`, `value` elsewhere."""
    refuse("threshold_cpu", input, BOOL, COMPLEX)
    return jnp.where(input <= constant(threshold, input), constant(value, input), input)


@op(key="nn.functional.threshold", function=False, out=False, namespaces=_F)
def threshold(input: Array, threshold: float, value: float, inplace: bool = False) -> Array:
    """The input where above `threshold`, `value` elsewhere."""
    return top_threshold(input, threshold, value)


# ---------------------------------------------------------------------------------------------- exponential units

_SELU_ALPHA = 1.6732632423543772848170429916717
_SELU_SCALE = 1.0507009873554804934193349852946


@in_float32
def _elu(x: Array, alpha: float, scale: float, rate: float) -> Array:
    need_float("elu_cpu", x)
    bent = x <= 0
    # Only what is chosen is exponentiated: an overflow on the other side would make the gradient nan.
    low = jnp.expm1(jnp.where(bent, x, 0) * rate) * (alpha * scale)
    return jnp.where(bent, low, x * scale if scale != 1 else x)


@op(function=False, out=False, namespaces=_F)
def elu(input: Array, alpha: float = 1.0, inplace: bool = False) -> Array:
    """The input where positive, `alpha * (exp(input) - 1)` elsewhere."""
    return _elu(input, alpha, 1.0, 1.0)


@op(out=False, grad_name="EluBackward0")
def selu(input: Array) -> Array:
    """`elu` with the alpha and the scale of self-normalizing networks."""
    return _elu(input, _SELU_ALPHA, _SELU_SCALE, 1.0)


@op(key="nn.functional.selu", name="selu", function=False, out=False, namespaces=_F, grad_name="EluBackward0")
def f_selu(input: Array, inplace: bool = False) -> Array:
    """`torch.selu`, in place if asked."""
    return selu(input)


@op(out=False)
def celu(input: Array, alpha: float = 1.0) -> Array:
    """The input where positive, `alpha * (exp(input / alpha) - 1)` elsewhere. RuntimeError for alpha 0."""
    if alpha == 0:
        raise RuntimeError("ZeroDivisionError: alpha cannot be 0 for CELU")
    return _elu(input, alpha, 1.0, 1.0 / alpha)


@op(key="nn.functional.celu", name="celu", function=False, out=False, namespaces=_F)
def f_celu(input: Array, alpha: float = 1.0, inplace: bool = False) -> Array:
    """`torch.celu`, in place if asked."""
    return celu(input, alpha)


# --------------------------------------------------------------------------------------------------- smooth units


@op(function=False, namespaces=_F)
@in_float32
def gelu(input: Array, *, approximate: str = "none") -> Array:
    """The input times the normal distribution function of it, or the usual approximation with tanh."""
    if approximate not in ("none", "tanh"):
        raise RuntimeError("approximate argument must be either none or tanh.")
    need_float("GeluKernelImpl", input)
    if approximate == "none":
        return input * (0.5 * (1 + lax.erf(input * math.sqrt(0.5))))
    inner = math.sqrt(2 / math.pi) * (input + 0.044715 * (input * input * input))
    return input * (0.5 * (1 + jnp.tanh(inner)))


@op(function=False, out=False, namespaces=_F)
@in_float32
def silu(input: Array, inplace: bool = False) -> Array:
    """`input * sigmoid(input)`."""
    refuse("silu_cpu", input, BOOL, INTEGRAL)
    return input * lax.logistic(input)


def _log1p_exp(x: Array, beta: float, threshold: float) -> Array:
    linear = x * beta > threshold
    return jnp.where(linear, x, jnp.log1p(jnp.exp(jnp.where(linear, 0, x) * beta)) / beta)


@op(function=False, namespaces=_F)
@in_float32
def softplus(input: Array, beta: float = 1, threshold: float = 20) -> Array:
    """`log(1 + exp(beta * input)) / beta`, and the input itself where `beta * input` is above the threshold."""
    need_float("softplus_cpu", input)
    return _log1p_exp(input, beta, threshold)


@op(function=False, out=False, namespaces=_F)
@in_float32
def mish(input: Array, inplace: bool = False) -> Array:
    """`input * tanh(softplus(input))`."""
    need_float("mish_cpu", input)
    return input * jnp.tanh(_log1p_exp(input, 1.0, 20.0))


@op(function=False, out=False, namespaces=_F, grad_name="LogSigmoidBackward0")
@in_float32
def logsigmoid(input: Array) -> Array:
    """`log(sigmoid(input))`, without overflow."""
    need_float("log_sigmoid_cpu", input)
    return jnp.minimum(input, 0) - jnp.log1p(jnp.exp(-absolute(input)))


@op(function=False, out=False, namespaces=_F, grad_name="DivBackward0")
@in_float32
def softsign(input: Array) -> Array:
    """`input / (1 + |input|)`."""
    refuse("abs_cpu", input, BOOL)
    x = to_float(input)
    return x / (1 + absolute(x))


@op(function=False, out=False, namespaces=_F, grad_name="SubBackward0")
@in_float32
def tanhshrink(input: Array) -> Array:
    """`input - tanh(input)`."""
    if category(input) == BOOL:
        raise RuntimeError(
            "Subtraction, the `-` operator, with a bool tensor is not supported. "
            "If you are trying to invert a mask, use the `~` or `logical_not()` operator instead."
        )
    x = to_float(input)
    return x - jnp.tanh(x)


# ------------------------------------------------------------------------------------------------ piecewise linear


@op(function=False, out=False, namespaces=_F)
@in_float32
def hardsigmoid(input: Array, inplace: bool = False) -> Array:
    """`input / 6 + 1/2` between 0 and 1."""
    need_float("hardsigmoid_cpu", input)
    # Flat at nan.
    return _clip(jnp.where(jnp.isnan(input), lax.stop_gradient(input), input) + 3, 0.0, 6.0) / 6


@op(function=False, out=False, namespaces=_F)
@in_float32
def hardswish(input: Array, inplace: bool = False) -> Array:
    """`input * hardsigmoid(input)`."""
    need_float("hardswish_cpu", input)
    nan = jnp.isnan(input)  # the slope there is 1
    x = jnp.where(nan, 0, input)
    return jnp.where(nan, input, x * _clip(x + 3, 0.0, 6.0) / 6)


@op(function=False, namespaces=_F)
@in_float32
def softshrink(input: Array, lambd: float = 0.5) -> Array:
    """The input brought `lambd` nearer to 0, and 0 where it was within. RuntimeError for a negative lambd."""
    need_float("softshrink_check", input)
    if not 0 <= lambd <= dtypes.finfo(dtype_of(input)).max:
        raise RuntimeError(
            f"lambda must be in range [0, {dtypes.finfo(dtype_of(input)).max:g}] "
            f"for input dtype {scalar_name(input)}, but found {lambd:g}"
        )
    width = constant(lambd, input)
    # Times 0 rather than 0: -0.0 passes as torch's does. The slope at nan is 1.
    inside = (input >= -width) & (input <= width)
    return jnp.where(inside, lax.stop_gradient(input) * 0, jnp.where(input > width, input - width, input + width))


@op(method=True, namespaces=_F)
def hardshrink(input: Array, lambd: float = 0.5) -> Array:
    """The input, and 0 where it is within `lambd` of 0."""
    need_float("hardshrink_cpu", input)
    width = constant(lambd, input)
    return jnp.where((input >= -width) & (input <= width), constant(0, input), input)


@op(function=False, out=False, namespaces=_F)
@in_float32
def glu(input: Array, dim: int = -1) -> Array:
    """The first half along `dim` times the sigmoid of the second. RuntimeError for an odd size."""
    if input.ndim == 0:
        raise RuntimeError("glu does not support scalars because halving size must be even")
    dim = wrap_dim(dim, input.ndim)
    size = input.shape[dim]
    if size % 2:
        raise RuntimeError(f"Halving dimension must be even, but dimension {dim} is size {size}")
    need_float("glu_cpu", input)
    value, gate = jnp.split(input, 2, axis=dim)
    return value * lax.logistic(gate)


# -------------------------------------------------------------------------------------------------------- softmax


def _shifted(x: Array, dim: int) -> Array:
    return x - lax.stop_gradient(jnp.max(x, axis=dim, keepdims=True, initial=-jnp.inf))


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _softmax(x: Array, dim: int) -> Array:
    weights = jnp.exp(_shifted(x, dim))
    return weights / jnp.sum(weights, axis=dim, keepdims=True)


@_softmax.defjvp
def _softmax_jvp(dim, primals, tangents):
    (x,), (dx,) = primals, tangents
    # Through the result alone: neither the maximum nor the sum is kept.
    y = _softmax(x, dim)
    weighted = y * dx
    return y, weighted - y * jnp.sum(weighted, axis=dim, keepdims=True)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _log_softmax(x: Array, dim: int) -> Array:
    shifted = _shifted(x, dim)
    return shifted - jnp.log(jnp.sum(jnp.exp(shifted), axis=dim, keepdims=True))


@_log_softmax.defjvp
def _log_softmax_jvp(dim, primals, tangents):
    (x,), (dx,) = primals, tangents
    y = _log_softmax(x, dim)
    return y, dx - jnp.sum(jnp.exp(y) * dx, axis=dim, keepdims=True)


def _along(name: str, fn, x: Array, dim: int, dtype: DType | None) -> Array:
    if dtype is not None:
        x = x.astype(dtype.np)
    dim = wrap_dim(dim, x.ndim)
    need_float(f"{name}_lastdim_kernel_impl" if dim == max(x.ndim, 1) - 1 else f"{name}_kernel_impl", x)
    if x.ndim == 0:
        return in_float32(fn)(x[None], 0)[0]
    return in_float32(fn)(x, dim)


def _chosen_dim(name: str, dim: int | None, ndim: int, stacklevel: int) -> int:
    if dim is not None:
        return dim
    warnings.warn(
        f"Implicit dimension choice for {name} has been deprecated. Change the call to include dim=X as an argument.",
        stacklevel=stacklevel + 1,
    )
    return 0 if ndim in (0, 1, 3) else 1


@op(method=True, namespaces=("special",), saves="output")
def softmax(input: Array, dim: int, dtype: DType | None = None) -> Array:
    """exp(input) along `dim`, divided by its sum; computed in `dtype` if given."""
    return _along("softmax", _softmax, input, dim, dtype)


@op(method=True, namespaces=("special",), saves="output")
def log_softmax(input: Array, dim: int, dtype: DType | None = None) -> Array:
    """The logarithm of the softmax along `dim`; computed in `dtype` if given."""
    return _along("log_softmax", _log_softmax, input, dim, dtype)


@op(key="nn.functional.softmax", name="softmax", function=False, out=False, namespaces=_F, saves="output")
def f_softmax(input: Array, dim: int | None = None, _stacklevel: int = 3, dtype: DType | None = None) -> Array:
    """`torch.softmax`. Without a dim torch's old choice, with its warning."""
    return softmax(input, _chosen_dim("softmax", dim, input.ndim, _stacklevel), dtype)


@op(function=False, out=False, namespaces=_F, grad_name="SoftmaxBackward0", saves="output")
def softmin(input: Array, dim: int | None = None, _stacklevel: int = 3, dtype: DType | None = None) -> Array:
    """The softmax of the negated input."""
    return softmax(lax.neg(input), _chosen_dim("softmin", dim, input.ndim, _stacklevel), dtype)


@op(key="nn.functional.log_softmax", name="log_softmax", function=False, out=False, namespaces=_F, saves="output")
def f_log_softmax(input: Array, dim: int | None = None, _stacklevel: int = 3, dtype: DType | None = None) -> Array:
    """`torch.log_softmax`. Without a dim torch's old choice, with its warning."""
    return log_softmax(input, _chosen_dim("log_softmax", dim, input.ndim, _stacklevel), dtype)
