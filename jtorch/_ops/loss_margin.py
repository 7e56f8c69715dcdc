"""Margin losses: hinge, ranking, multi-class, multi-label, triplet and cosine embedding."""

from __future__ import annotations

import math

import jax.numpy as jnp

from jtorch._ops._common import Array, is_complex, is_float, scalar_name
from jtorch._ops._numeric import absolute
from jtorch._ops._reduction import (
    accumulate_dtype,
    check_broadcast,
    clamp_min0,
    common_dtype,
    reduce_loss,
    refuse_integers,
    resolve_reduction,
    size_text,
)
from jtorch._ops.loss import log_sigmoid
from jtorch._ops.registry import op
from jtorch._runtime import dtypes

_F = ("nn.functional",)


@op(function=False, out=False, namespaces=_F, grad_name="MeanBackward0")
def hinge_embedding_loss(
    input: Array,
    target: Array,
    margin: float = 1.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Array:
    """input where target is 1, max(0, margin - input) where it is -1."""
    reduction = resolve_reduction(reduction, size_average, reduce)
    check_broadcast(target.shape, input.shape)
    zero = jnp.zeros((), input.dtype)
    far = clamp_min0(jnp.asarray(margin, input.dtype) - input)
    loss = jnp.where(target != 1, far, zero) + jnp.where(target != -1, input, zero)
    return reduce_loss(loss, reduction)


@op(function=False, out=False, namespaces=_F, promote="same", elementwise=False, grad_name="MeanBackward0")
def margin_ranking_loss(
    input1: Array,
    input2: Array,
    target: Array,
    margin: float = 0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Array:
    """max(0, -target * (input1 - input2) + margin)."""
    reduction = resolve_reduction(reduction, size_average, reduce)
    if not input1.ndim == input2.ndim == target.ndim:
        raise RuntimeError(
            "margin_ranking_loss : All input tensors should have same dimension but got sizes: "
            f"input1: {size_text(input1.shape)}, input2: {size_text(input2.shape)}, target: {size_text(target.shape)} "
        )
    check_broadcast(input1.shape, input2.shape)
    check_broadcast(target.shape, jnp.broadcast_shapes(input1.shape, input2.shape))
    gap = -target * (input1 - input2)
    if not is_float(gap):
        gap = gap.astype(dtypes.get_default_dtype().np)
    return reduce_loss(clamp_min0(gap + jnp.asarray(margin, gap.dtype)), reduction)


@op(function=False, out=False, namespaces=_F)
def soft_margin_loss(
    input: Array,
    target: Array,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Array:
    """log(1 + exp(-target * input)). The result has input's dtype."""
    reduction = resolve_reduction(reduction, size_average, reduce)
    check_broadcast(input.shape, target.shape)
    if not is_float(input):
        raise RuntimeError(f"result type Float can't be cast to the desired output type {scalar_name(input)}")
    dtype = common_dtype(input, target)
    loss = -log_sigmoid(target.astype(dtype) * input.astype(dtype))
    return reduce_loss(loss, reduction).astype(input.dtype)


@op(function=False, out=False, namespaces=_F)
def multi_margin_loss(
    input: Array,
    target: Array,
    p: int = 1,
    margin: float = 1.0,
    weight: Array | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Array:
    """Sum over the other classes of w[y] * max(0, margin - x[y] + x[c])**p / C.

    input: (C) or (N, C); target: () or (N).
    """
    reduction = resolve_reduction(reduction, size_average, reduce)
    if p not in (1, 2):
        raise ValueError("only p == 1 and p == 2 supported")
    if input.ndim > 2 or input.ndim and not input.shape[-1]:
        raise RuntimeError(
            f"Expected non-empty vector or matrix with optional 0-dim batch size, but got: {list(input.shape)}"
        )
    if weight is not None and weight.ndim != 1:
        raise ValueError("weight must be one-dimensional")
    if weight is not None and weight.size != (input.shape[-1] if input.ndim else 1):
        raise RuntimeError(
            f"inconsistent weight size, expected {input.shape[-1] if input.ndim else 1} but got {list(weight.shape)}"
        )
    rows = input.reshape(-1, input.shape[-1]) if input.ndim else input.reshape(1, 1)
    if target.size != rows.shape[0] or target.ndim > 1:
        raise RuntimeError(
            "multi_margin_loss: target tensor should be 1-D with size equal to the number of input samples (batch "
            f"size). Expected target size [{rows.shape[0]}], but got {list(target.shape)}. "
            f"Input has shape {list(input.shape)}."
        )
    _need_long(target)
    refuse_integers(input, "multi_margin_loss_cpu")
    rows = rows.astype(accumulate_dtype(input))
    index = _no_wrap(target.reshape(-1, 1), rows.shape[1])
    own = jnp.take_along_axis(rows, index, axis=1, mode="fill")
    gap = jnp.asarray(margin, rows.dtype) - own + rows
    other = jnp.arange(rows.shape[1])[None, :] != index
    # Out of range picks NaN, which must survive the comparison.
    gap = jnp.where(other & ~(gap <= 0), gap, jnp.zeros((), rows.dtype))
    gap = gap * gap if p == 2 else gap
    if weight is not None:
        gap = gap * weight.reshape(-1).astype(rows.dtype)[index]
    loss = jnp.sum(gap, axis=1) / rows.shape[1]
    return reduce_loss(loss.reshape(target.shape), reduction).astype(input.dtype)


@op(function=False, out=False, namespaces=_F, grad_name="MultilabelMarginLossBackward0")
def multilabel_margin_loss(
    input: Array,
    target: Array,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Array:
    """Sum over pairs of a target class y and any other class c of max(0, 1 - x[y] + x[c]) / C.

    input: (C) or (N, C). target: of the same shape, class indices up to the first -1.
    """
    reduction = resolve_reduction(reduction, size_average, reduce)
    if input.ndim > 2 or input.ndim and not input.shape[-1]:
        raise RuntimeError(
            f"Expected non-empty vector or matrix with optional 0-dim batch size, but got: {list(input.shape)}"
        )
    if target.shape != input.shape:
        raise RuntimeError(f"inconsistent target size: {list(target.shape)} for input of size: {list(input.shape)}")
    _need_long(target)
    refuse_integers(input, "multilabel_margin_loss")
    classes = input.shape[-1] if input.ndim else 1
    rows = input.reshape(-1, classes).astype(accumulate_dtype(input))
    labels = target.reshape(-1, classes)
    valid = jnp.cumsum((labels < 0).astype(jnp.int32), axis=1) == 0
    # Entries past the end index one class too many, and are dropped.
    index = jnp.where(valid, labels, classes)
    number = jnp.arange(rows.shape[0])[:, None]
    is_target = jnp.zeros(rows.shape, bool).at[number, index].set(True, mode="drop")
    own = jnp.take_along_axis(rows, jnp.where(valid, labels, 0), axis=1, mode="fill")
    gap = 1 - own[:, :, None] + rows[:, None, :]
    counted = valid[:, :, None] & ~is_target[:, None, :] & ~(gap <= 0)
    loss = jnp.sum(jnp.where(counted, gap, jnp.zeros((), rows.dtype)), axis=(1, 2)) / classes
    if reduction == "mean" and not loss.size:
        reduction = "sum"  # torch's mean over no sample at all is 0 here
    return reduce_loss(loss.reshape(()) if input.ndim < 2 else loss, reduction).astype(input.dtype)


def _need_long(target: Array) -> None:
    if scalar_name(target) != "Long":
        raise RuntimeError(f"expected scalar type Long but found {scalar_name(target)}")


def _no_wrap(index: Array, size: int) -> Array:
    return jnp.where(index < 0, size, index)


@op(
    function=False,
    out=False,
    namespaces=_F,
    promote="same",
    promote_args=("input", "target"),
    grad_name="MeanBackward0",
)
def multilabel_soft_margin_loss(
    input: Array,
    target: Array,
    weight: Array | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Array:
    """Mean over the last dim of the binary cross entropy of sigmoid(input)."""
    if size_average is not None or reduce is not None:
        reduction = resolve_reduction(reduction, size_average, reduce)
    refuse_integers(input, "log_sigmoid_cpu")
    loss = -(target * log_sigmoid(input) + (1 - target) * log_sigmoid(-input))
    if weight is not None:
        loss = loss * weight
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{reduction} is not valid")
    if not loss.ndim:
        raise IndexError("Dimension specified as -1 but tensor has no dimensions")
    loss = jnp.mean(loss, axis=-1)
    return reduce_loss(loss, reduction)


@op(function=False, out=False, namespaces=_F, promote="same", elementwise=False, grad_name="MeanBackward0")
def triplet_margin_loss(
    anchor: Array,
    positive: Array,
    negative: Array,
    margin: float = 1.0,
    p: float = 2,
    eps: float = 1e-6,
    swap: bool = False,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Array:
    """max(0, d(anchor, positive) - d(anchor, negative) + margin), d the p-norm of the difference plus eps over the
    last dim; with swap the negative is as far as the nearer of anchor and positive."""
    reduction = resolve_reduction(reduction, size_average, reduce)
    if margin <= 0:
        raise ValueError(f"margin must be greater than 0, got {margin}")
    if not anchor.ndim == positive.ndim == negative.ndim:
        raise RuntimeError(
            "The anchor, positive, and negative tensors are expected to have the same number of dimensions, but got: "
            f"anchor {anchor.ndim}D, positive {positive.ndim}D, and negative {negative.ndim}D inputs"
        )
    check_broadcast(anchor.shape, positive.shape)
    check_broadcast(anchor.shape, negative.shape)
    if not is_float(anchor) and not is_complex(anchor):
        anchor, positive, negative = (x.astype(dtypes.get_default_dtype().np) for x in (anchor, positive, negative))
    near = _norm(anchor - positive + eps, p)
    far = _norm(anchor - negative + eps, p)
    if swap:
        far = jnp.minimum(far, _norm(positive - negative + eps, p))
    return reduce_loss(clamp_min0(near - far + margin), reduction)


def _norm(x: Array, p: float) -> Array:
    """The p-norm over the last dim, with gradient 0 where it is 0."""
    size = absolute(x)
    if p == 0:
        return jnp.sum(size != 0, axis=-1).astype(x.dtype)
    if p == 1:
        return jnp.sum(size, axis=-1)
    if math.isinf(p):
        return (jnp.max if p > 0 else jnp.min)(size, axis=-1)
    one = jnp.ones((), size.dtype)
    power = jnp.square(size) if p == 2 else jnp.where(size == 0, 0 * one, jnp.where(size == 0, one, size) ** p)
    total = jnp.sum(power, axis=-1)
    safe = jnp.where(total == 0, one, total)
    return jnp.where(total == 0, 0 * one, jnp.sqrt(safe) if p == 2 else safe ** (1 / p))


@op(function=False, out=False, namespaces=_F, grad_name="MeanBackward0")
def cosine_embedding_loss(
    input1: Array,
    input2: Array,
    target: Array,
    margin: float = 0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Array:
    """1 - cos where target is 1, max(0, cos - margin) where it is -1. inputs: (N, D) and target (N), or (D) and ()."""
    reduction = resolve_reduction(reduction, size_average, reduce)
    if target.ndim > 1:
        raise RuntimeError("0D or 1D target tensor expected, multi-target not supported")
    if input1.ndim != target.ndim + 1 or input2.ndim != target.ndim + 1:
        raise RuntimeError(
            f"{target.ndim}D target tensor expects {target.ndim + 1}D input tensors, but found inputs with sizes "
            f"{list(input1.shape)} and {list(input2.shape)}."
        )
    check_broadcast(input1.shape, input2.shape)
    dtype = common_dtype(input1, input2)
    dtype = dtype if jnp.issubdtype(dtype, jnp.floating) else jnp.dtype(jnp.float32)
    a, b = input1.astype(dtype), input2.astype(dtype)
    tiny = 1e-12
    scale = jnp.sqrt((jnp.sum(a * a, axis=-1) + tiny) * (jnp.sum(b * b, axis=-1) + tiny))
    cosine = jnp.sum(a * b, axis=-1) / scale
    check_broadcast(target.shape, cosine.shape)
    zero = jnp.zeros((), dtype)
    loss = jnp.where(target == 1, 1 - cosine, zero) + jnp.where(target == -1, clamp_min0(cosine - margin), zero)
    return reduce_loss(loss, reduction)
