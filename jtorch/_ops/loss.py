"""Losses over class scores and probabilities, and regression losses.

Margin losses are in `loss_margin`, CTC in `loss_ctc`. Class indices out of range cannot be refused, since no operation
looks at values: such a target makes the loss NaN, where torch raises IndexError.
"""

from __future__ import annotations

import math
import warnings

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jtorch._ops._common import Array, Operand, is_float, scalar_name
from jtorch._ops._numeric import absolute
from jtorch._ops._reduction import (
    accumulate_dtype,
    check_broadcast,
    common_dtype,
    reduce_loss,
    refuse_integers,
    resolve_reduction,
    size_text,
    warn_unequal_sizes,
)
from jtorch._ops.registry import op

_F = ("nn.functional",)


@op(function=False, out=False, namespaces=_F, grad_name="NllLossBackward0")
def cross_entropy(
    input: Array,
    target: Array,
    weight: Array | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Array:
    """Cross entropy of unnormalised scores.

    input: (C), (N, C) or (N, C, d1, ..., dk). target: class indices (), (N) or (N, d1, ..., dk), int64 or uint8; or
    class probabilities of input's shape and a floating dtype. weight: (C). Indices equal to ignore_index count neither
    in the sum nor in the mean's denominator.
    """
    reduction = resolve_reduction(reduction, size_average, reduce)
    if not 0.0 <= label_smoothing <= 1.0:
        raise RuntimeError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}")
    probabilities = input.shape == target.shape
    if probabilities and not is_float(target):
        raise RuntimeError(
            f"Expected floating point type for target with class probabilities, got {scalar_name(target)}"
        )
    if probabilities and ignore_index >= 0:
        raise RuntimeError("ignore_index is not supported for floating point target")
    axis = min(1, input.ndim - 1)
    _check_weight(input, weight, axis)
    refuse_integers(input, "log_softmax_lastdim_kernel_impl")
    if not probabilities:
        _check_indices(input, target)
    log_probs = jax.nn.log_softmax(input.astype(accumulate_dtype(input)), axis=axis)
    if probabilities:
        loss = _soft_cross_entropy(log_probs, target, weight, axis, reduction, label_smoothing)
    else:
        loss = _hard_cross_entropy(log_probs, target, weight, axis, ignore_index, reduction, label_smoothing)
    return loss.astype(common_dtype(input, target) if probabilities else input.dtype)


@op(function=False, out=False, namespaces=_F)
def nll_loss(
    input: Array,
    target: Array,
    weight: Array | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Array:
    """Negative log likelihood. input: log-probabilities (C), (N, C) or (N, C, d1, ...); target: class indices."""
    reduction = resolve_reduction(reduction, size_average, reduce)
    if input.ndim == 0:
        raise ValueError("Expected 1 or more dimensions (got 0)")
    _check_indices(input, target)
    axis = min(1, input.ndim - 1)
    _check_weight(input, weight, axis)
    refuse_integers(input, "nll_loss_out_frame")
    log_probs = input.astype(accumulate_dtype(input))
    return _hard_cross_entropy(log_probs, target, weight, axis, ignore_index, reduction, 0.0).astype(input.dtype)


def _check_weight(input: Array, weight: Array | None, axis: int) -> None:
    if weight is None:
        return
    classes = input.shape[axis]
    if weight.shape != (classes,):
        raise RuntimeError(
            f"weight tensor should be defined either for all {classes} classes or no classes but got weight tensor "
            f"of shape: {list(weight.shape)}"
        )
    if weight.dtype != input.dtype:
        raise RuntimeError(f"expected scalar type {scalar_name(input)} but found {scalar_name(weight)}")


def _check_indices(input: Array, target: Array) -> None:
    """Shapes and dtype of class indices against the scores they index."""
    if input.ndim == 0:
        raise RuntimeError("input tensor should be 1D or 2D")
    if input.ndim == 1:
        if target.ndim > 1 or target.size != 1:
            raise ValueError(f"For 1D input, 1D target must have size 1, but got target size: {target.size}")
    elif input.ndim == 2 and target.ndim > 1 and input.shape[0] == target.shape[0]:
        raise RuntimeError("0D or 1D target tensor expected, multi-target not supported")
    elif target.ndim == 0 or input.shape[0] != target.shape[0]:
        raise ValueError(
            f"Expected input batch_size ({input.shape[0]}) to match target batch_size "
            f"({target.shape[0] if target.ndim else 0})."
        )
    elif target.ndim != input.ndim - 1 and input.ndim != 4:
        raise RuntimeError(f"Expected target size {[input.shape[0], *input.shape[2:]]}, got {list(target.shape)}")
    elif target.ndim != input.ndim - 1:
        raise RuntimeError(
            f"only batches of spatial targets supported (3D tensors) but got targets of dimension: {target.ndim}"
        )
    elif target.shape[1:] != input.shape[2:]:
        if input.ndim == 4:
            raise RuntimeError(f"size mismatch (got input: {list(input.shape)} , target: {list(target.shape)}")
        raise RuntimeError(f"Expected target size {[input.shape[0], *input.shape[2:]]}, got {list(target.shape)}")
    if scalar_name(target) not in ("Long", "Byte"):
        raise RuntimeError(f"expected target dtype to be Long or Byte, but got {scalar_name(target)}")


def _hard_cross_entropy(
    log_probs: Array,
    target: Array,
    weight: Array | None,
    axis: int,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
) -> Array:
    """-w[y] * log_probs[y]."""
    classes = log_probs.shape[axis]
    flat = log_probs.ndim == 1
    target = (target.reshape(()) if flat else target).astype(jnp.int64)
    kept = target != ignore_index
    # Out of range means NaN; a negative index must not wrap around.
    index = jnp.where(kept, jnp.where(target < 0, classes, target), 0)
    zero = jnp.zeros((), log_probs.dtype)
    # A comparison fuses with what is around it, backward too; a gather's backward is a scatter, which XLA's CPU programs
    # run as a loop over the targets.
    place = lax.broadcasted_iota(jnp.int64, log_probs.shape, axis)
    picked = jnp.sum(jnp.where(place == jnp.expand_dims(index, axis), log_probs, zero), axis=axis)
    picked = jnp.where(index < classes, picked, jnp.asarray(jnp.nan, log_probs.dtype))
    if weight is not None:
        weight = weight.astype(log_probs.dtype)
        share = jnp.where(kept, weight.at[index].get(mode="fill"), zero)
        loss = jnp.where(kept, -picked * share, zero)
    else:
        share = kept.astype(log_probs.dtype)
        loss = jnp.where(kept, -picked, zero)
    if label_smoothing > 0.0:
        spread = log_probs if weight is None else log_probs * _along(weight, axis, log_probs.ndim)
        smooth = jnp.where(kept, -jnp.sum(spread, axis=axis), zero)
        loss = loss * (1.0 - label_smoothing) + smooth * (label_smoothing / classes)
    if reduction == "none":
        return loss
    total = jnp.sum(loss)
    return total if reduction == "sum" else total / jnp.sum(share)


def _soft_cross_entropy(
    log_probs: Array, target: Array, weight: Array | None, axis: int, reduction: str, label_smoothing: float
) -> Array:
    """-sum_c w[c] * target[c] * log_probs[c]; the mean is over the samples, whatever the weights."""
    classes = log_probs.shape[axis] if log_probs.ndim else 1
    target = target.astype(jnp.promote_types(log_probs.dtype, target.dtype))
    if label_smoothing > 0.0:
        target = target * (1.0 - label_smoothing) + label_smoothing / classes
    terms = log_probs * target
    if weight is not None:
        terms = terms * _along(weight.astype(log_probs.dtype), axis, log_probs.ndim)
    loss = -jnp.sum(terms, axis=axis)
    if reduction == "none":
        return loss
    # The division is written out: an empty batch must give 0 / 0.
    return jnp.sum(loss) if reduction == "sum" else jnp.sum(loss) / jnp.asarray(loss.size, loss.dtype)


def _along(vector: Array, axis: int, ndim: int) -> Array:
    return vector.reshape([-1 if d == axis else 1 for d in range(ndim)])


@jax.custom_jvp
def _bce(input: Array, target: Array) -> Array:
    return -(target * jnp.maximum(jnp.log(input), -100.0) + (1 - target) * jnp.maximum(jnp.log1p(-input), -100.0))


@_bce.defjvp
def _bce_jvp(primals, tangents):
    input, target = primals
    # At 0 and 1 the loss is clamped but its slope is torch's: huge, finite, and of the right sign.
    by_input = (input - target) / jnp.maximum((1 - input) * input, 1e-12)
    by_target = jnp.log1p(-input) - jnp.log(input)
    return _bce(input, target), by_input * tangents[0] + by_target * tangents[1]


@op(function=False, out=False, namespaces=_F)
def binary_cross_entropy(
    input: Array,
    target: Array,
    weight: Array | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Array:
    """Cross entropy of probabilities against targets of the same shape; logarithms are no less than -100.

    Inputs outside [0, 1] give NaN, where torch raises.
    """
    reduction = resolve_reduction(reduction, size_average, reduce)
    if input.shape != target.shape:
        raise ValueError(
            f"Using a target size ({size_text(target.shape)}) that is different to the input size "
            f"({size_text(input.shape)}) is deprecated. Please ensure they have the same size."
        )
    if weight is not None:
        _check_expands(weight.shape, input.shape)
    refuse_integers(input, "binary_cross_entropy")
    for other in (target, weight):
        if other is not None and other.dtype != input.dtype:
            raise RuntimeError(f"Found dtype {scalar_name(other)} but expected {scalar_name(input)}")
    wide = accumulate_dtype(input)
    loss = _bce(input.astype(wide), target.astype(wide))
    if weight is not None:
        loss = loss * weight.astype(wide)
    return reduce_loss(loss, reduction).astype(input.dtype)


def _check_expands(shape: tuple[int, ...], to: tuple[int, ...]) -> None:
    for back in range(1, len(shape) + 1):
        if back > len(to) or shape[-back] not in (1, to[-back]):
            raise RuntimeError(
                f"Attempting to broadcast a dimension of length {shape[-back]} at -{back}! Mismatching argument at "
                f"index 1 had {size_text(shape)}; but expected shape should be broadcastable to {list(to)}"
            )


def _check_no_growth(shape: tuple[int, ...], to: tuple[int, ...], first: bool) -> None:
    """RuntimeError unless `shape` broadcasts to exactly `to`; first: which of the two torch names tensor a."""
    check_broadcast(*((shape, to) if first else (to, shape)))
    grown = np.broadcast_shapes(shape, to)
    if grown != to:
        raise RuntimeError(f"output with shape {list(to)} doesn't match the broadcast shape {list(grown)}")


def log_sigmoid(x: Array) -> Array:
    """log(1 / (1 + exp(-x))) without overflow; its gradient at 0 is 1/2."""
    return jnp.minimum(x, jnp.zeros((), x.dtype)) - jnp.log1p(jnp.exp(-absolute(x)))


@op(function=False, out=False, namespaces=_F)
def binary_cross_entropy_with_logits(
    input: Array,
    target: Array,
    weight: Array | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Array | None = None,
) -> Array:
    """Cross entropy of sigmoid(input) against targets of the same shape; pos_weight weighs the positive part."""
    reduction = resolve_reduction(reduction, size_average, reduce)
    if input.shape != target.shape:
        raise ValueError(
            f"Target size ({size_text(target.shape)}) must be the same as input size ({size_text(input.shape)})"
        )
    refuse_integers(input, "log_sigmoid_cpu")
    if target.dtype == jnp.bool_:
        raise RuntimeError(
            "Subtraction, the `-` operator, with two bool tensors is not supported. "
            "Use the `^` or `logical_xor()` operator instead."
        )
    if not is_float(target):
        raise RuntimeError(
            f"result type {scalar_name(input)} can't be cast to the desired output type {scalar_name(target)}"
        )
    others = [x for x in (target, weight, pos_weight) if x is not None]
    if pos_weight is not None:
        _check_no_growth(pos_weight.shape, input.shape, first=True)
    if weight is not None:
        _check_no_growth(weight.shape, input.shape, first=False)
    dtype = common_dtype(input, *others)
    wide = jnp.float32 if dtype.itemsize < 4 else dtype
    x, t = input.astype(wide), target.astype(wide)
    log_part = log_sigmoid(x)
    if pos_weight is not None:
        log_part = log_part * ((pos_weight.astype(wide) - 1) * t + 1)
    loss = (1 - t) * x - log_part
    if weight is not None:
        loss = loss * weight.astype(wide)
    return reduce_loss(loss, reduction).astype(dtype)


def _weighted(loss: Array, weight: Array | None, input: Array, reduction: str) -> Array:
    """Reduction with per-element weights: the mean divides by the weights' sum."""
    if weight is None:
        return reduce_loss(loss, reduction)
    if weight.shape != input.shape:
        raise ValueError("Weights and input must have the same size.")
    loss = loss * weight
    return jnp.sum(loss) / jnp.sum(weight) if reduction == "mean" else reduce_loss(loss, reduction)


@op(function=False, out=False, namespaces=_F, promote="same", promote_args=("input", "target"))
def mse_loss(
    input: Array,
    target: Array,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Array | None = None,
) -> Array:
    """Squared difference of tensors that broadcast (with a warning where they do)."""
    warn_unequal_sizes(input, target)
    reduction = resolve_reduction(reduction, size_average, reduce)
    refuse_integers(input, "mse_cpu")
    return _weighted(jnp.square(input - target), weight, input, reduction)


@op(
    function=False,
    out=False,
    namespaces=_F,
    promote="same",
    promote_args=("input", "target"),
    grad_name="MeanBackward0",
)
def l1_loss(
    input: Array,
    target: Array,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Array | None = None,
) -> Array:
    """Absolute difference of tensors that broadcast (with a warning where they do); complex ones too."""
    warn_unequal_sizes(input, target)
    reduction = resolve_reduction(reduction, size_average, reduce)
    return _weighted(absolute(input - target), weight, input, reduction)


def _huber(input: Array, target: Array, delta: float) -> Array:
    """Quadratic up to delta and linear beyond, written without a branch so that infinities have finite slopes."""
    gap = absolute(input - target)
    near = jnp.minimum(gap, jnp.asarray(delta, gap.dtype))
    return 0.5 * near * near + delta * (gap - near)


@op(function=False, out=False, namespaces=_F, promote="same", promote_args=("input", "target"))
def smooth_l1_loss(
    input: Array,
    target: Array,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> Array:
    """Absolute difference, rounded to a parabola where it is less than beta. beta = 0 is `l1_loss`."""
    warn_unequal_sizes(input, target)
    reduction = resolve_reduction(reduction, size_average, reduce)
    if beta < 0:
        raise RuntimeError("smooth_l1_loss does not support negative values for beta.")
    refuse_integers(input, "smooth_l1_cpu")
    loss = absolute(input - target) if beta == 0 else _huber(input, target, float(beta)) / beta
    return reduce_loss(loss, reduction)


@op(function=False, out=False, namespaces=_F)
def huber_loss(
    input: Array, target: Array, reduction: str = "mean", delta: float = 1.0, weight: Array | None = None
) -> Array:
    """Squared error up to delta, linear beyond. The result has input's dtype; a weighted mean divides by the count."""
    warn_unequal_sizes(input, target)
    check_broadcast(input.shape, target.shape)
    reduction = resolve_reduction(reduction)
    if delta <= 0:
        raise RuntimeError("huber_loss does not support non-positive values for delta.")
    dtype = common_dtype(input, target)
    input_cast, target_cast = input.astype(dtype), target.astype(dtype)
    refuse_integers(input_cast, "huber_cpu")
    loss = _huber(input_cast, target_cast, float(delta))
    if weight is not None:
        if weight.shape != input.shape:
            raise ValueError("Weights and input must have the same size.")
        loss = loss * weight
    return reduce_loss(loss, reduction).astype(input.dtype if is_float(input) else dtype)


@op(function=False, out=False, namespaces=_F, grad_name="MeanBackward0")
def kl_div(
    input: Array,
    target: Array,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Array:
    """target * (log(target) - input), input being log-probabilities; target too with log_target."""
    reduction = resolve_reduction(reduction, size_average, reduce, extra=("batchmean",))
    if reduction == "mean":
        warnings.warn(
            "reduction: 'mean' divides the total loss by both the batch size and the support size."
            "'batchmean' divides only by the batch size, and aligns with the KL div math definition."
            "'mean' will be changed to behave the same as 'batchmean' in the next major release.",
            stacklevel=2,
        )
    if not (is_float(input) and is_float(target)):
        raise RuntimeError("kl_div: Integral inputs not supported.")
    check_broadcast(target.shape, input.shape)
    dtype = common_dtype(input, target)
    input, target = input.astype(dtype), target.astype(dtype)
    if log_target:
        loss = jnp.exp(target) * (target - input)
    else:
        loss = _x_log_x(target) - target * input
    if reduction == "batchmean":
        total = jnp.sum(loss)
        return total / input.shape[0] if input.ndim else total
    return reduce_loss(loss, reduction)


def _x_log_x(x: Array) -> Array:
    return jnp.where(x == 0, jnp.zeros((), x.dtype), x * jnp.log(jnp.where(x == 0, jnp.ones((), x.dtype), x)))


@op(function=False, out=False, namespaces=_F, promote="same", grad_name="MeanBackward0")
def poisson_nll_loss(
    input: Array,
    target: Array,
    log_input: bool = True,
    full: bool = False,
    size_average: bool | None = None,
    eps: float = 1e-08,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Array:
    """Poisson negative log likelihood of the rate `input` (its logarithm with log_input).

    full adds Stirling's approximation of log(target!) where target > 1.
    """
    reduction = resolve_reduction(reduction, size_average, reduce)
    real = input if is_float(input) else input.astype(jnp.float32)
    if log_input:
        loss = jnp.exp(real) - target * real
    else:
        loss = real - target * jnp.log(real + eps)
    if full:
        counted = target > 1
        t = jnp.where(counted, target, jnp.ones((), target.dtype)).astype(real.dtype)
        loss = loss + jnp.where(counted, t * jnp.log(t) - t + 0.5 * jnp.log(2 * math.pi * t), jnp.zeros((), real.dtype))
    return reduce_loss(loss, reduction)


@op(function=False, out=False, namespaces=_F, promote="same", elementwise=False, grad_name="MeanBackward0")
def gaussian_nll_loss(
    input: Array, target: Array, var: Operand, full: bool = False, eps: float = 1e-06, reduction: str = "mean"
) -> Array:
    """Gaussian negative log likelihood with a variance an element, a row, or for all.

    var: input's shape, or that with its last dim missing or any one dim 1, or a number. Variances below eps count as
    eps but keep their gradient. Negative ones are not refused here, since no operation looks at values.
    """
    if var.ndim and var.shape != input.shape:
        if var.shape == input.shape[:-1]:
            var = var[..., None]
        elif var.ndim != input.ndim or sum(v for i, v in zip(input.shape, var.shape, strict=True) if i != v) != 1:
            raise ValueError("var is of incorrect size")
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{reduction} is not valid")
    check_broadcast(input.shape, target.shape)
    check_broadcast(jnp.broadcast_shapes(input.shape, target.shape), var.shape)
    held = lax.stop_gradient(var)
    var = jnp.maximum(held, jnp.asarray(eps, var.dtype)) + (var - held)
    loss = 0.5 * (jnp.log(var) + jnp.square(input - target) / var)
    if full:
        loss = loss + 0.5 * math.log(2 * math.pi)
    return reduce_loss(loss, reduction)
