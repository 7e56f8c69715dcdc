"""The functions behind the modules.

Most of them are operations declared in `jtorch._ops`, derived here by name. Written out below are those that draw
random numbers, write state, read values, or are made of other functions.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jtorch
from jtorch._ops.registry import OPS, Op
from jtorch._tensor.composites import outside
from jtorch._tensor.derive import call, check_in_place, in_place, namespace, store_in_place
from jtorch._tensor.fused import overwrite
from jtorch._tensor.random import rrelu_slopes
from jtorch._tensor.storage import value_of
from jtorch._tensor.tensor import Tensor

if TYPE_CHECKING:
    from jtorch._stubs.functional import *  # noqa: F403

# linear, conv2d, relu, cross_entropy, layer_norm, interpolate ...: every operation that is declared for this namespace.
globals().update(namespace("nn.functional"))

_derived = namespace("nn.functional")


def _with_inplace(op: Op, fn: Callable[..., Any]) -> Callable[..., Any]:
    """An activation that writes over its input where `inplace` says so."""
    at = [p.name for p in op.params].index("inplace")
    write = in_place(op, fn)

    if len(op.params) == 2:

        def activation(input: Tensor, inplace: bool = False) -> Tensor:
            return write(input) if inplace else fn(input)

        return functools.wraps(fn)(activation)

    def activation_of(*args: Any, **kwargs: Any) -> Any:
        if not (kwargs.get("inplace") or (len(args) > at and args[at])):
            return fn(*args, **kwargs)
        named = {k: v for k, v in kwargs.items() if k not in ("inplace", "input")}
        return write(*(args[:at] or (kwargs["input"],)), **named)

    return functools.wraps(fn)(activation_of)


for _op in OPS.values():
    if "nn.functional" in _op.namespaces and any(p.name == "inplace" for p in _op.params):
        _derived[_op.name] = globals()[_op.name] = _with_inplace(_op, _derived[_op.name])

# ---------------------------------------------------------------------------------------------------------- dropout


def _check_p(p: float) -> None:
    if p < 0.0 or p > 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")


def _noise(input: Tensor, p: float, shape: Any = None) -> Tensor:
    """Zeros and 1 / (1 - p)."""
    noise = jtorch.empty_like(input) if shape is None else input.new_empty(shape)
    return noise.bernoulli_(1 - p).div_(1 - p)


def _dropout(input: Tensor, p: float, training: bool, inplace: bool, shape: Any = None) -> Tensor:
    if not training or p == 0 or input.numel() == 0:
        return input
    if p == 1:
        # No draw; what is not finite becomes NaN, as it does for torch.
        return input.mul_(0) if inplace else input * 0
    with jtorch.no_grad():
        noise = _noise(input, p, shape)
    return input.mul_(noise) if inplace else input * noise


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Zeroes each element with probability p and scales the others by 1 / (1 - p)."""
    _check_p(p)
    return _dropout(input, p, training, inplace)


def _channels_shape(input: Tensor) -> tuple[int, ...]:
    if input.dim() < 2:
        raise RuntimeError("Feature dropout requires at least 2 dimensions in the input")
    return (input.size(0), input.size(1), *(1,) * (input.dim() - 2))


def _feature_dropout(input: Tensor, p: float, training: bool, inplace: bool) -> Tensor:
    return _dropout(input, p, training, inplace, _channels_shape(input))


def dropout1d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Drops whole channels of (N, C, L) or (C, L)."""
    _check_p(p)
    dims = input.dim()
    if dims not in (2, 3):
        raise RuntimeError(
            f"dropout1d: Expected 2D or 3D input, but received a {dims}D input. Note that dropout1d exists to provide "
            "channel-wise dropout on inputs with 1 spatial dimension, a channel dimension, and an optional batch "
            "dimension (i.e. 2D or 3D inputs)."
        )
    if dims == 3:
        return _feature_dropout(input, p, training, inplace)
    result = _feature_dropout(input.unsqueeze_(0) if inplace else input.unsqueeze(0), p, training, inplace)
    return result.squeeze_(0) if inplace else result.squeeze(0)


def dropout2d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Drops whole channels of (N, C, H, W). A 3-d input is taken for (N, C, L), with torch's warning."""
    _check_p(p)
    dims = input.dim()
    if dims not in (3, 4):
        warnings.warn(
            f"dropout2d: Received a {dims}-D input to dropout2d, which is deprecated and will result in an error in a "
            "future release. To retain the behavior and silence this warning, please use dropout instead. Note that "
            "dropout2d exists to provide channel-wise dropout on inputs with 2 spatial dimensions, a channel "
            "dimension, "
            "and an optional batch dimension (i.e. 3D or 4D inputs).",
            stacklevel=2,
        )
    if dims == 3:
        warnings.warn(
            "dropout2d: Received a 3D input to dropout2d and assuming that channel-wise 1D dropout behavior is desired "
            "- input is interpreted as shape (N, C, L), where C is the channel dim. This behavior will change in a "
            "future release to interpret the input as one without a batch dimension, i.e. shape (C, H, W). To maintain "
            "the 1D channel-wise dropout behavior, please switch to using dropout1d instead.",
            stacklevel=2,
        )
    return _feature_dropout(input, p, training, inplace)


def dropout3d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Drops whole channels of (N, C, D, H, W) or (C, D, H, W)."""
    _check_p(p)
    dims = input.dim()
    if dims not in (4, 5):
        warnings.warn(
            f"dropout3d: Received a {dims}-D input to dropout3d, which is deprecated and will result in an error in a "
            "future release. To retain the behavior and silence this warning, please use dropout instead. Note that "
            "dropout3d exists to provide channel-wise dropout on inputs with 3 spatial dimensions, a channel "
            "dimension, "
            "and an optional batch dimension (i.e. 4D or 5D inputs).",
            stacklevel=2,
        )
    if dims != 4:
        return _feature_dropout(input, p, training, inplace)
    result = _feature_dropout(input.unsqueeze_(0) if inplace else input.unsqueeze(0), p, training, inplace)
    return result.squeeze_(0) if inplace else result.squeeze(0)


# The value, negated, that a dropped unit takes: selu's limit at minus infinity.
_SELU_FLOOR = 1.7580993408473766


def _alpha_dropout(input: Tensor, p: float, training: bool, inplace: bool, shape: Any) -> Tensor:
    if not training or p == 0 or input.numel() == 0:
        return input
    if p == 1:
        return input.mul_(0) if inplace else input * 0
    a = 1.0 / math.sqrt((_SELU_FLOOR * _SELU_FLOOR * p + 1) * (1 - p))
    with jtorch.no_grad():
        kept = (jtorch.empty_like(input) if shape is None else input.new_empty(shape)).bernoulli_(1 - p)
        offset = (kept - 1).mul_(_SELU_FLOOR * a).add_(_SELU_FLOOR * a * p)
        kept.mul_(a)
    return input.mul_(kept).add_(offset) if inplace else input * kept + offset


def alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """Dropout that keeps the mean and variance of selu's outputs."""
    _check_p(p)
    return _alpha_dropout(input, p, training, inplace, None)


def feature_alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """`alpha_dropout` of whole channels."""
    _check_p(p)
    if not training or p == 0:
        return input
    return _alpha_dropout(input, p, training, inplace, _channels_shape(input))


# ------------------------------------------------------------------------------------------------------ activations


def _inplace(name: str) -> Callable[..., Tensor]:
    fn = _derived[name]

    @functools.wraps(fn)
    def in_place(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return fn(input, *args, **kwargs, inplace=True)

    in_place.__name__ = in_place.__qualname__ = name + "_"
    in_place.__doc__ = f"`{name}`, in place."
    return in_place


relu_ = _inplace("relu")
elu_ = _inplace("elu")
selu_ = _inplace("selu")
celu_ = _inplace("celu")
hardtanh_ = _inplace("hardtanh")
leaky_relu_ = _inplace("leaky_relu")
threshold_ = _inplace("threshold")


def sigmoid(input: Tensor) -> Tensor:
    """1 / (1 + exp(-input))."""
    return input.sigmoid()


def tanh(input: Tensor) -> Tensor:
    """The hyperbolic tangent."""
    return input.tanh()


def rrelu(
    input: Tensor, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False, inplace: bool = False
) -> Tensor:
    """Leaky relu whose slope is drawn from [lower, upper] for every element, or with training=False their mean."""
    if lower > upper:
        raise RuntimeError("Lower bound should be less than or equal to the upper bound")
    if not training:
        return _derived["leaky_relu"](input, (lower + upper) / 2, inplace=inplace)
    if inplace:
        check_in_place(input)
    slopes = rrelu_slopes(input, lower, upper)
    if not inplace:
        return call("_rrelu_with_noise", slopes, input.contiguous())
    store_in_place(input, value_of(call("_rrelu_with_noise", slopes, input)), "rrelu_")
    return input


def rrelu_(input: Tensor, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False) -> Tensor:
    """`rrelu`, in place."""
    return rrelu(input, lower, upper, training, True)


def gumbel_softmax(logits: Tensor, tau: float = 1, hard: bool = False, eps: float = 1e-10, dim: int = -1) -> Tensor:
    """A sample from the Gumbel-softmax distribution; hard: one-hot, with the soft sample's gradient."""
    if eps != 1e-10:
        warnings.warn("`eps` parameter is deprecated and has no effect.", stacklevel=2)
    with jtorch.no_grad():
        gumbels = -jtorch.empty_like(logits).exponential_().log()
    soft = ((logits + gumbels) / tau).softmax(dim)
    if not hard:
        return soft
    index = soft.max(dim, keepdim=True)[1]
    one = jtorch.zeros_like(logits).scatter_(dim, index, 1.0)
    return one - soft.detach() + soft


# --------------------------------------------------------------------------------------------------- normalization


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalizes each channel (dim 1): in training by the batch's statistics, which also move the running ones."""
    if not training:
        if running_mean is None or running_var is None:
            missing = "running_mean" if running_mean is None else "running_var"
            raise RuntimeError(f"{missing} must be defined in evaluation mode")
        return call("batch_norm.eval", input, running_mean, running_var, weight, bias, eps)
    _check_running(input.size(1) if input.dim() > 1 else 0, running_mean, running_var)
    output, mean, var = call("batch_norm.train", input, weight, bias, eps)
    _update_running((running_mean, running_var), (mean, var), momentum)
    return output


def _check_running(channels: int, mean: Tensor | None, var: Tensor | None) -> None:
    for name, stat in (("running_mean", mean), ("running_var", var)):
        if channels and stat is not None and stat.numel() != channels:
            raise RuntimeError(f"{name} should contain {channels} elements not {stat.numel()}")


def _update_running(running: tuple[Tensor | None, ...], batch: tuple[Tensor, ...], momentum: float) -> None:
    kept = [(r, b) for r, b in zip(running, batch, strict=True) if r is not None]
    if kept:
        targets, found = map(list, zip(*kept, strict=True))
        for t in targets:
            check_in_place(t)
        overwrite("running_statistics", targets, targets, found, momentum=momentum)


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalizes each channel of each sample; without use_input_stats by the running statistics."""
    if not use_input_stats:
        if running_mean is None or running_var is None:
            raise RuntimeError("Expected running_mean and running_var to be defined when use_input_stats is false")
        return call("batch_norm.eval", input, running_mean, running_var, weight, bias, eps)
    output, mean, var = call("instance_norm.train", input, weight, bias, eps)
    _update_running((running_mean, running_var), (mean, var), momentum)
    return output


# ---------------------------------------------------------------------------------------------------------- pooling


def _max_pool(n: int) -> Callable[..., Any]:
    plain, indexed = _derived[f"max_pool{n}d"], _derived[f"max_pool{n}d_with_indices"]

    def pool(
        input: Tensor,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Any:
        if isinstance(stride, (list, tuple)) and not stride:
            stride = None
        return (indexed if return_indices else plain)(input, kernel_size, stride, padding, dilation, ceil_mode)

    pool.__name__ = pool.__qualname__ = f"max_pool{n}d"
    pool.__doc__ = f"Maximum of each window over the last {n} dims; return_indices: and where each one was."
    return pool


def _max_pool_with_indices(n: int) -> Callable[..., Any]:
    pool = _max_pool(n)

    def pool_with_indices(
        input: Tensor,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> tuple[Tensor, Tensor]:
        return pool(input, kernel_size, stride, padding, dilation, ceil_mode, True)

    pool_with_indices.__name__ = pool_with_indices.__qualname__ = f"max_pool{n}d_with_indices"
    pool_with_indices.__doc__ = f"`max_pool{n}d` and where each maximum was."
    return pool_with_indices


def _adaptive_max_pool(n: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
    plain, indexed = _derived[f"adaptive_max_pool{n}d"], _derived[f"adaptive_max_pool{n}d_with_indices"]

    def pool(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
        return (indexed if return_indices else plain)(input, output_size)

    def pool_with_indices(input: Tensor, output_size: Any, return_indices: bool = False) -> tuple[Tensor, Tensor]:
        return indexed(input, output_size)

    for fn, name in ((pool, f"adaptive_max_pool{n}d"), (pool_with_indices, f"adaptive_max_pool{n}d_with_indices")):
        fn.__name__ = fn.__qualname__ = name
        fn.__doc__ = f"Maxima of windows that cover the last {n} dims, as many as output_size says."
    return pool, pool_with_indices


max_pool1d, max_pool2d, max_pool3d = (_max_pool(n) for n in (1, 2, 3))
max_pool1d_with_indices, max_pool2d_with_indices, max_pool3d_with_indices = (
    _max_pool_with_indices(n) for n in (1, 2, 3)
)
adaptive_max_pool1d, adaptive_max_pool1d_with_indices = _adaptive_max_pool(1)
adaptive_max_pool2d, adaptive_max_pool2d_with_indices = _adaptive_max_pool(2)
adaptive_max_pool3d, adaptive_max_pool3d_with_indices = _adaptive_max_pool(3)


def _fractional_starts(samples: Tensor, size: int, out: int, kernel: int) -> Tensor:
    """Where each window begins along one dim, (N, C, out): pseudo-random steps, the last window at the end."""
    last = size - kernel
    steps = jtorch.arange(out - 1, dtype=samples.dtype, device=samples.device)
    end = jtorch.full((*samples.shape, 1), last, dtype=jtorch.int64, device=samples.device)
    if out == 1:
        return end
    alpha = last / (out - 1)
    # The sample in the sample's own precision, the step in float64 beforehand: the order torch rounds in.
    alpha_t = jtorch.tensor(alpha, dtype=samples.dtype, device=samples.device)
    moved = ((steps + samples.unsqueeze(-1)) * alpha_t).long() - (samples.unsqueeze(-1) * alpha_t).long()
    return jtorch.cat([moved, end], -1)


def _fractional_max_pool(
    n: int, input: Tensor, kernel_size: Any, output_size: Any, output_ratio: Any, samples: Tensor | None
) -> tuple[Tensor, Tensor]:
    name = f"fractional_max_pool{n}d"
    if output_size is None and output_ratio is None:
        raise ValueError(f"{name} requires specifying either an output_size or an output_ratio")
    kernel = (kernel_size,) * n if isinstance(kernel_size, int) else tuple(kernel_size)
    sizes = input.shape[-n:]
    if output_size is None:
        ratio = (output_ratio,) * n if isinstance(output_ratio, (int, float)) else tuple(output_ratio)
        output_size = tuple(int(s * r) for s, r in zip(sizes, ratio, strict=True))
    out = (output_size,) * n if isinstance(output_size, int) else tuple(output_size)
    for size, o, k in zip(sizes, out, kernel, strict=True):
        if o + k - 1 > size:
            raise RuntimeError(f"{name}(): pool size ({k}) too large relative to input size ({size})")
    batched = input if input.dim() == n + 2 else input.unsqueeze(0)
    if samples is None:
        samples = jtorch.rand(batched.size(0), batched.size(1), n, dtype=input.dtype, device=input.device)
    lead = tuple(batched.shape[:2])
    # torch takes the samples for the last dim first.
    flat: Any = None
    for d in range(n):
        starts = _fractional_starts(samples[..., n - 1 - d], sizes[d], out[d], kernel[d])
        window = starts.unsqueeze(-1) + jtorch.arange(kernel[d], device=input.device)
        shape = [1] * (2 * n)
        shape[d], shape[n + d] = out[d], kernel[d]
        along = window.reshape(*lead, *shape) * math.prod(sizes[d + 1 :])
        flat = along if flat is None else flat + along
    whole = flat.reshape(*lead, math.prod(out), math.prod(kernel))
    values = batched.reshape(*lead, 1, -1).expand(*lead, whole.size(2), math.prod(sizes)).gather(-1, whole)
    best = values.detach().argmax(-1, keepdim=True)
    result = values.gather(-1, best).reshape(*lead, *out)
    where = whole.gather(-1, best).reshape(*lead, *out)
    return (result, where) if batched is input else (result.squeeze(0), where.squeeze(0))


def _fractional(n: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
    def pool_with_indices(
        input: Tensor,
        kernel_size: Any,
        output_size: Any = None,
        output_ratio: Any = None,
        return_indices: bool = False,
        _random_samples: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        return _fractional_max_pool(n, input, kernel_size, output_size, output_ratio, _random_samples)

    def pool(
        input: Tensor,
        kernel_size: Any,
        output_size: Any = None,
        output_ratio: Any = None,
        return_indices: bool = False,
        _random_samples: Tensor | None = None,
    ) -> Any:
        both = pool_with_indices(input, kernel_size, output_size, output_ratio, True, _random_samples)
        return both if return_indices else both[0]

    names = (f"fractional_max_pool{n}d", f"fractional_max_pool{n}d_with_indices")
    for fn, name in zip((pool, pool_with_indices), names, strict=True):
        fn.__name__ = fn.__qualname__ = name
        fn.__doc__ = f"Maxima of pseudo-randomly placed windows over the last {n} dims."
    return pool, pool_with_indices


fractional_max_pool2d, fractional_max_pool2d_with_indices = _fractional(2)
fractional_max_pool3d, fractional_max_pool3d_with_indices = _fractional(3)

# -------------------------------------------------------------------------------------------------------- embedding


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """1 at the class in a new last dim, int64. num_classes=-1 reads the largest class."""
    if tensor.dtype != jtorch.int64:
        raise RuntimeError("one_hot is only applicable to index tensor of type LongTensor.")
    if tensor.numel() == 0:
        if num_classes <= 0:
            raise RuntimeError("Can not infer total number of classes from empty tensor.")
        return tensor.new_empty((*tensor.shape, num_classes))
    if num_classes == -1:
        if int(tensor.min()) < 0:
            raise RuntimeError("Class values must be non-negative.")
        num_classes = int(tensor.max()) + 1
    bad = outside(tensor, num_classes)
    if bad is not None:
        raise RuntimeError("Class values must be " + ("non-negative." if bad < 0 else "smaller than num_classes."))
    return _derived["one_hot"](tensor, num_classes)


def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """Rows of weight (V, D) at input (...): (..., D). With max_norm the rows used are first scaled down, in place."""
    if (
        input.__class__ is Tensor
        and input._value.array is not None
        and weight.ndim == 2
        and outside(input, weight.size(0)) is not None
    ):
        raise IndexError("index out of range in self")
    if padding_idx is None:
        padding_idx = -1
    else:
        if not -weight.size(0) <= padding_idx < weight.size(0):
            raise AssertionError("Padding_idx must be within num_embeddings")
        padding_idx %= weight.size(0)
    if max_norm is not None:
        _renorm(weight, input, max_norm, norm_type)
    return jtorch.embedding(weight, input, padding_idx, scale_grad_by_freq, sparse)


def _renorm(weight: Tensor, input: Tensor, max_norm: float, norm_type: float) -> None:
    with jtorch.no_grad():
        weight.copy_(call("embedding_renorm", weight.detach(), input, max_norm, float(norm_type)))


def embedding_bag(
    input: Tensor,
    weight: Tensor,
    offsets: Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Tensor:
    """Sum, mean or max of the rows of each bag.

    input: (B, L), a bag a row; or (N) with offsets (B), where each bag starts. per_sample_weights: like input, for
    mode "sum" alone.
    """
    if weight.dtype == jtorch.int64 and input.is_floating_point():
        warnings.warn(
            "Argument order of nn.functional.embedding_bag was changed. Usage `embedding_bag(weight, input, ...)` is "
            "deprecated, and should now be `embedding_bag(input, weight, ...)`.",
            stacklevel=2,
        )
        weight, input = input, weight
    if per_sample_weights is not None and input.size() != per_sample_weights.size():
        raise ValueError(
            f"embedding_bag: If per_sample_weights ({per_sample_weights.shape}) is not None, then it must have "
            "the same "
            f"shape as the input ({input.shape})"
        )
    if not weight.dim() == 2:
        raise ValueError(f"weight has to be a 2D Tensor, but got Tensor of dimension {weight.dim()}")
    if input.dim() == 2:
        if offsets is not None:
            raise ValueError(
                "if input is 2D, then offsets has to be None, as input is treated is a mini-batch of fixed length "
                f"sequences. However, found offsets of type {type(offsets)}"
            )
    elif input.dim() == 1:
        if not isinstance(offsets, Tensor):
            raise ValueError("offsets has to be a 1D Tensor but got None")
        if offsets.dim() != 1:
            raise ValueError("offsets has to be a 1D Tensor")
    else:
        raise ValueError(f"input has to be 1D or 2D Tensor, but got Tensor of dimension {input.dim()}")
    if mode not in ("sum", "mean", "max"):
        raise ValueError("mode has to be one of sum, mean or max")
    if mode == "max":
        if scale_grad_by_freq:
            raise ValueError("max mode does not support scaling the gradient by the frequency")
        if sparse:
            raise ValueError("max mode does not support sparse weights")
    if per_sample_weights is not None and mode != "sum":
        raise NotImplementedError(
            "embedding_bag: per_sample_weights was not None. per_sample_weights is only supported for mode='sum' "
            f"(got mode='{mode}'). Please open a feature request on GitHub."
        )
    bad = outside(input, weight.size(0))
    if bad is not None:
        place = int((input.reshape(-1) == bad).nonzero()[0])
        raise RuntimeError(
            f"Index {place} of input takes value {bad} which is not in the valid range [0, {weight.size(0)})"
        )
    if max_norm is not None:
        _renorm(weight, input, max_norm, norm_type)
    return call(
        "nn.embedding_bag", weight, input, offsets, scale_grad_by_freq, mode, per_sample_weights, include_last_offset,
        padding_idx,
    )  # fmt: skip


# ----------------------------------------------------------------------------------------------------------- losses


def _check_classes(input: Any, target: Tensor, ignore_index: int) -> None:
    """IndexError for a class that there is not, where the targets' values are at hand."""
    if input.__class__ is not Tensor or not input.ndim or target.is_floating_point():
        return
    shape = input._value.aval.shape
    classes = shape[1] if len(shape) > 1 else shape[0]
    bad = outside(target, classes)
    if bad == ignore_index:
        host = target._host()
        wrong = host[(host != ignore_index) & ((host < 0) | (host >= classes))]
        bad = int(wrong[0]) if wrong.size else None
    if bad is not None:
        raise IndexError(f"Target {bad} is out of bounds.")


def _of_classes(name: str) -> Callable[..., Tensor]:
    fn = _derived[name]

    @functools.wraps(fn)
    def loss(*args: Any, **kwargs: Any) -> Tensor:
        target: Any = args[1] if len(args) > 1 else kwargs.get("target")
        input = args[0] if args else kwargs.get("input")
        if input is not None and target.__class__ is Tensor and target._value.array is not None:
            try:  # the usual case in a few steps: targets met before, all of them classes
                low, high = target._value.span
                sure = low >= 0 and high < input._value.aval.shape[1]
            except (AttributeError, IndexError):
                sure = False
            if not sure:
                _check_classes(input, target, args[4] if len(args) > 4 else kwargs.get("ignore_index", -100))
        return fn(*args, **kwargs)

    return loss


nll_loss, cross_entropy = _of_classes("nll_loss"), _of_classes("cross_entropy")


def ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """The derived operation, the lengths as tensors or as sequences of ints."""
    lengths = [
        t if isinstance(t, Tensor) else jtorch.tensor(t, dtype=jtorch.int64, device=log_probs.device)
        for t in (input_lengths, target_lengths)
    ]
    return _derived["ctc_loss"](log_probs, targets, *lengths, blank, reduction, zero_infinity)


def triplet_margin_with_distance_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    distance_function: Callable[[Tensor, Tensor], Tensor] | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """max(distance to positive - distance to negative + margin, 0), with any distance; Euclidean by default."""
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"{reduction} is not a valid value for reduction")
    if margin <= 0:
        raise ValueError(f"margin must be greater than 0, got {margin}")
    distance = jtorch.pairwise_distance if distance_function is None else distance_function
    dims = anchor.ndim
    if not dims == positive.ndim == negative.ndim:
        raise RuntimeError(
            "The anchor, positive, and negative tensors are expected to have the same number of dimensions, but got: "
            f"anchor {anchor.ndim}D, positive {positive.ndim}D, and negative {negative.ndim}D inputs"
        )
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = jtorch.minimum(far, distance(positive, negative))
    loss = jtorch.clamp_min(margin + near - far, 0)
    return loss.mean() if reduction == "mean" else loss.sum() if reduction == "sum" else loss


# -------------------------------------------------------------------------------------------------------- upsampling


def upsample(
    input: Tensor, size: Any = None, scale_factor: Any = None, mode: str = "nearest", align_corners: bool | None = None
) -> Tensor:
    """The deprecated name of `interpolate`."""
    warnings.warn("`nn.functional.upsample` is deprecated. Use `nn.functional.interpolate` instead.", stacklevel=2)
    return _derived["interpolate"](input, size, scale_factor, mode, align_corners)


def upsample_nearest(input: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    """Deprecated: `interpolate` with mode "nearest"."""
    warnings.warn(
        "`nn.functional.upsample_nearest` is deprecated. Use `nn.functional.interpolate` instead.", stacklevel=2
    )
    return _derived["interpolate"](input, size, scale_factor, "nearest")


def upsample_bilinear(input: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    """Deprecated: `interpolate` with mode "bilinear" and align_corners."""
    warnings.warn(
        "`nn.functional.upsample_bilinear` is deprecated. Use `nn.functional.interpolate` instead.", stacklevel=2
    )
    return _derived["interpolate"](input, size, scale_factor, "bilinear", True)


def normalize(
    input: Tensor, p: float = 2.0, dim: int | tuple[int, ...] = 1, eps: float = 1e-12, out: Tensor | None = None
) -> Tensor:
    """input divided by its p-norm over dim, the norm no smaller than eps."""
    result = _derived["normalize"](input, float(p), dim, eps)
    return result if out is None else out.resize_(result.shape).copy_(result)


# --------------------------------------------------------------------------------------------------------- attention


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(query @ key^T * scale + mask) @ value, with dropout on the weights.

    query: (..., H, L, E), key: (..., H, S, E), value: (..., H, S, Ev). attn_mask: bool (True takes part) or added to
    the scores. scale: 1 / sqrt(E) by default. enable_gqa: key and value may have fewer heads, a divisor of H.
    """
    if is_causal and attn_mask is not None:
        raise RuntimeError("_scaled_dot_product_attention: Explicit attn_mask should not be set when is_causal=True")
    if not 0 <= dropout_p <= 1:
        raise RuntimeError(f"dropout probability has to be between 0 and 1, but got {dropout_p:g}")
    noise = None
    if dropout_p > 0:
        with jtorch.no_grad():
            shape = (*query.shape[:-1], key.size(-2))
            noise = query.new_zeros(shape) if dropout_p == 1 else _noise(query, dropout_p, shape)
    scale = None if scale is None else float(scale)
    return call("nn.scaled_dot_product_attention", query, key, value, attn_mask, noise, is_causal, scale, enable_gqa)


# It needs the functions above.
from jtorch.nn._attention import _canonical_mask as _canonical_mask  # noqa: E402
from jtorch.nn._attention import _none_or_dtype as _none_or_dtype  # noqa: E402
from jtorch.nn._attention import multi_head_attention_forward as multi_head_attention_forward  # noqa: E402
