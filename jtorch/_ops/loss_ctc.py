"""Connectionist temporal classification: the forward recursion in log space, one scan over time."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from jtorch._ops._common import Array, scalar_name
from jtorch._ops._reduction import reduce_loss, resolve_reduction
from jtorch._ops.registry import op


@op(function=False, out=False, namespaces=("nn.functional",), grad_name="MeanBackward0")
def ctc_loss(
    log_probs: Array,
    targets: Array,
    input_lengths: Array,
    target_lengths: Array,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Array:
    """-log of the probability that a path through log_probs spells the targets.

    log_probs: (T, N, C) or (T, C), log-probabilities. targets: (N, S), or all of them one after the other in 1-D.
    Lengths: (N) or (). The mean divides each loss by its target's length first. The gradient is torch's, which takes
    log_probs to be normalised. Lengths are not checked against the sizes, since no operation looks at values.
    """
    reduction = resolve_reduction(reduction)
    if log_probs.ndim not in (2, 3):
        raise RuntimeError(f"Expected 2D or 3D log_probs, but got {log_probs.ndim}D")
    if scalar_name(log_probs) not in ("Float", "Double"):
        raise NotImplementedError(f"\"ctc_loss_cpu\" not implemented for '{scalar_name(log_probs)}'")
    batched = log_probs.ndim == 3
    if not batched:
        log_probs = log_probs[:, None]
        targets = targets[None] if targets.ndim == 1 else targets
    steps, batch, classes = log_probs.shape
    if not 0 <= blank < classes:
        raise RuntimeError("blank must be in label range")
    if steps == 0:
        raise RuntimeError("Expected log_probs with a non-zero time dimension")
    input_lengths = input_lengths.reshape(-1).astype(jnp.int32)
    target_lengths = target_lengths.reshape(-1).astype(jnp.int32)
    for name, lengths in (("input_lengths", input_lengths), ("target_lengths", target_lengths)):
        if lengths.shape[0] != batch:
            raise RuntimeError(f"{name} must be of size batch_size")
    labels = _label_rows(targets.astype(jnp.int32), target_lengths, steps)
    losses = _negative_log_likelihood(log_probs, labels, input_lengths, target_lengths, blank)
    losses = _as_if_normalised(losses, log_probs, input_lengths, zero_infinity)
    if zero_infinity:
        losses = jnp.where(jnp.isinf(losses), jnp.zeros((), losses.dtype), losses)
    losses = losses if batched else losses[0]
    if reduction == "mean":
        losses = losses / jnp.maximum(target_lengths, 1).astype(losses.dtype).reshape(losses.shape)
    return reduce_loss(losses, reduction)


def _label_rows(targets: Array, lengths: Array, steps: int) -> Array:
    """The targets as a row a sample. A target longer than the input has no path, so no row need be longer."""
    if targets.ndim == 2:
        return targets[:, : max(steps, 1)]
    width = min(targets.shape[0], steps)
    starts = jnp.cumsum(lengths) - lengths
    return targets.at[starts[:, None] + jnp.arange(width)[None, :]].get(mode="fill", fill_value=0)


def _negative_log_likelihood(log_probs: Array, labels: Array, steps: Array, lengths: Array, blank: int) -> Array:
    total, batch, _ = log_probs.shape
    width = labels.shape[1]
    dtype = log_probs.dtype
    never = jnp.asarray(-jnp.inf, dtype)
    # Labels with a blank before, between and after: b l0 b l1 ... b.
    path = jnp.full((batch, 2 * width + 1), blank, jnp.int32).at[:, 1::2].set(labels)
    scores = jnp.take_along_axis(log_probs, jnp.broadcast_to(path[None], (total, *path.shape)), axis=2, mode="fill")
    # A step over the blank is allowed between labels that differ.
    skips = jnp.zeros(path.shape, bool).at[:, 3::2].set(labels[:, 1:] != labels[:, :-1])
    position = jnp.arange(path.shape[1])[None, :]
    inside = position < 2 * lengths[:, None] + 1
    start = jnp.where((position < 2) & inside, scores[0], never)

    def advance(alpha: Array, now: tuple[Array, Array]) -> tuple[Array, None]:
        score, t = now
        one = jnp.pad(alpha, ((0, 0), (1, 0)), constant_values=-jnp.inf)[:, :-1]
        two = jnp.pad(alpha, ((0, 0), (2, 0)), constant_values=-jnp.inf)[:, : alpha.shape[1]]
        reached = _log_sum_exp(jnp.stack([alpha, one, jnp.where(skips, two, never)]))
        after = jnp.where(inside, reached + score, never)
        return jnp.where((t < steps)[:, None], after, alpha), None

    alpha, _ = lax.scan(advance, start, (scores[1:], jnp.arange(1, total, dtype=jnp.int32)))
    last = jnp.clip(jnp.stack([2 * lengths, 2 * lengths - 1], axis=1), 0, path.shape[1] - 1)
    ends = jnp.take_along_axis(alpha, last, axis=1)
    ends = jnp.where(jnp.stack([jnp.ones_like(lengths), lengths], axis=1) > 0, ends, never)
    loss = -_log_sum_exp(ends.T)
    loss = jnp.where(lengths > width, jnp.asarray(jnp.inf, dtype), loss)
    return jnp.where(steps > 0, loss, jnp.where(lengths > 0, jnp.inf, 0.0).astype(dtype))


def _log_sum_exp(x: Array) -> Array:
    """Over axis 0; all -inf gives -inf with gradient 0, where the plain formula gives NaN."""
    top = lax.stop_gradient(jnp.max(x, axis=0))
    top = jnp.where(jnp.isinf(top), jnp.zeros((), x.dtype), top)
    total = jnp.sum(jnp.exp(x - top), axis=0)
    dead = total == 0
    return jnp.where(dead, -jnp.inf, jnp.log(jnp.where(dead, 1, total)) + top).astype(x.dtype)


@partial(jax.custom_jvp, nondiff_argnums=(3,))
def _as_if_normalised(loss: Array, log_probs: Array, steps: Array, zero_infinity: bool) -> Array:
    """`loss`, its gradient by log_probs with exp(log_probs) added at the steps within the length.

    That is the term by which torch's gradient differs from the loss's own; log_softmax's backward cancels it. Where
    there is no path at all, the gradient is torch's too: NaN, or 0 with zero_infinity.
    """
    return loss


@_as_if_normalised.defjvp
def _as_if_normalised_jvp(zero_infinity, primals, tangents):
    loss, log_probs, steps = primals
    used = jnp.arange(log_probs.shape[0])[:, None] < steps[None, :]
    extra = jnp.sum(jnp.exp(log_probs) * tangents[1], axis=2)
    slope = tangents[0] + jnp.sum(jnp.where(used, extra, jnp.zeros((), extra.dtype)), axis=0)
    # A factor, not a selection between slopes: the backward would multiply NaN by the other samples' zeros.
    pathless = jnp.isinf(loss)
    if zero_infinity:
        return loss, jnp.where(pathless, jnp.zeros((), slope.dtype), slope)
    return loss, slope * jnp.where(pathless, jnp.nan, 1.0).astype(slope.dtype)
