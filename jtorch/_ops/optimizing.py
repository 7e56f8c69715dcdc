"""Optimizer steps: each updates all the parameters of a group in one program.

Every function takes lists that run in parallel, one entry a parameter, and returns one flat tuple: the new parameters
first, then the new states, list by list in the order of the arguments. Complex parameters are updated as pairs of
reals. Half types are computed in float32 and rounded once a step.

Factors of the whole step (bias corrections, step sizes) are
computed in float64, as Python would, and meet the tensors in the tensors' own precision.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import lax

from jtorch._ops._common import Array, Arrays, Number, Operand, is_complex
from jtorch._ops.registry import op


def _open(x: Array) -> Array:
    """`x` as the update computes with it: reals, at least float32."""
    if is_complex(x):
        return jnp.stack([x.real, x.imag], axis=-1)
    return x.astype(jnp.float32) if x.dtype.itemsize < 4 else x


def _close(x: Array, like: Array) -> Array:
    """What `_open` made of an array like `like`, turned back."""
    return lax.complex(x[..., 0], x[..., 1]).astype(like.dtype) if is_complex(like) else x.astype(like.dtype)


def _all_closed(new: list[Array], old: Arrays) -> list[Array]:
    return [_close(n, o) for n, o in zip(new, old, strict=True)]


def _wide(number: Any) -> Array:
    return jnp.asarray(number).astype(jnp.float64).reshape(())


def _counts(steps: Arrays) -> Array:
    """The number of this step, for every parameter, as one vector: powers of it are then one kernel, not one each."""
    return jnp.stack([s.astype(jnp.float64).reshape(()) for s in steps]) + 1


def _next(steps: Arrays) -> list[Array]:
    return [s + jnp.ones((), s.dtype) for s in steps]


def _times(factor: Array, x: Array) -> Array:
    return factor.astype(x.dtype) * x


def _lerp(start: Array, end: Array, weight: Array) -> Array:
    return start + _times(weight, end - start)


def _gradient(grad: Array, param: Array, weight_decay: Any, decay: bool, maximize: bool) -> Array:
    grad = -_open(grad) if maximize else _open(grad)
    return grad + _times(_wide(weight_decay), param) if decay else grad


@op(wide=True, key="optim.sgd", function=False, out=False, differentiable=False)
def sgd(
    params: Arrays,
    grads: Arrays,
    momentum_buffers: Arrays,
    *,
    lr: Operand,
    momentum: Number,
    dampening: Number,
    weight_decay: Operand,
    decay: bool,
    nesterov: bool,
    maximize: bool,
    first: tuple[bool, ...],
) -> Arrays:
    """Gradient descent, with momentum where there are buffers. first: whose buffer starts as the gradient itself."""
    rate, keep, add = _wide(lr), _wide(momentum), 1 - _wide(dampening)
    new_params, new_buffers = [], []
    for i, (param, grad) in enumerate(zip(params, grads, strict=True)):
        p = _open(param)
        g = _gradient(grad, p, weight_decay, decay, maximize)
        if momentum_buffers:
            buffer = g if first and first[i] else _times(keep, _open(momentum_buffers[i])) + _times(add, g)
            new_buffers.append(_close(buffer, momentum_buffers[i]))
            g = g + _times(keep, buffer) if nesterov else buffer
        new_params.append(_close(p - _times(rate, g), param))
    return (*new_params, *new_buffers)


@op(wide=True, key="optim.adam", function=False, out=False, differentiable=False)
def adam(
    params: Arrays,
    grads: Arrays,
    exp_avgs: Arrays,
    exp_avg_sqs: Arrays,
    max_exp_avg_sqs: Arrays,
    steps: Arrays,
    *,
    lr: Operand,
    beta1: Operand,
    beta2: Operand,
    eps: Number,
    weight_decay: Number,
    decay: bool,
    decoupled: bool,
    maximize: bool,
) -> Arrays:
    """Adam; with decoupled decay AdamW; with maxima AMSGrad."""
    rate, b1, b2, count = _wide(lr), _wide(beta1), _wide(beta2), _counts(steps)
    sizes, roots = rate / (1 - b1**count), jnp.sqrt(1 - b2**count)
    new: tuple[list[Array], ...] = ([], [], [], [])
    for i, param in enumerate(params):
        p = _open(param)
        g = _gradient(grads[i], p, weight_decay, decay and not decoupled, maximize)
        if decay and decoupled:
            p = _times(1 - rate * _wide(weight_decay), p)
        mean = _lerp(_open(exp_avgs[i]), g, 1 - b1)
        square = _times(b2, _open(exp_avg_sqs[i])) + _times(1 - b2, g) * g
        top = square
        if max_exp_avg_sqs:
            top = jnp.maximum(_open(max_exp_avg_sqs[i]), square)
            new[3].append(_close(top, max_exp_avg_sqs[i]))
        divisor = jnp.sqrt(top) / roots[i].astype(p.dtype) + _wide(eps).astype(p.dtype)
        new[0].append(_close(p - _times(sizes[i], mean / divisor), param))
        new[1].append(_close(mean, exp_avgs[i]))
        new[2].append(_close(square, exp_avg_sqs[i]))
    return (*new[0], *new[1], *new[2], *new[3], *_next(steps))


@op(wide=True, key="optim.rmsprop", function=False, out=False, differentiable=False)
def rmsprop(
    params: Arrays,
    grads: Arrays,
    square_avgs: Arrays,
    momentum_buffers: Arrays,
    grad_avgs: Arrays,
    steps: Arrays,
    *,
    lr: Operand,
    alpha: Number,
    eps: Number,
    weight_decay: Number,
    momentum: Number,
    decay: bool,
    maximize: bool,
) -> Arrays:
    """RMSprop; with momentum where there are buffers, centered where there are averages of the gradient."""
    rate, keep = _wide(lr), _wide(alpha)
    new: tuple[list[Array], ...] = ([], [], [], [])
    for i, param in enumerate(params):
        p = _open(param)
        g = _gradient(grads[i], p, weight_decay, decay, maximize)
        square = _times(keep, _open(square_avgs[i])) + _times(1 - keep, g) * g
        spread = square
        if grad_avgs:
            mean = _lerp(_open(grad_avgs[i]), g, 1 - keep)
            new[3].append(_close(mean, grad_avgs[i]))
            spread = square - mean * mean
        step = g / (jnp.sqrt(spread) + _wide(eps).astype(p.dtype))
        if momentum_buffers:
            step = _times(_wide(momentum), _open(momentum_buffers[i])) + step
            new[2].append(_close(step, momentum_buffers[i]))
        new[0].append(_close(p - _times(rate, step), param))
        new[1].append(_close(square, square_avgs[i]))
    return (*new[0], *new[1], *new[2], *new[3], *_next(steps))


@op(wide=True, key="optim.adagrad", function=False, out=False, differentiable=False)
def adagrad(
    params: Arrays,
    grads: Arrays,
    sums: Arrays,
    steps: Arrays,
    *,
    lr: Operand,
    lr_decay: Number,
    eps: Number,
    weight_decay: Number,
    decay: bool,
    maximize: bool,
) -> Arrays:
    """Adagrad."""
    rates = _wide(lr) / (1 + (_counts(steps) - 1) * _wide(lr_decay))
    new_params, new_sums = [], []
    for i, param in enumerate(params):
        p = _open(param)
        g = _gradient(grads[i], p, weight_decay, decay, maximize)
        total = _open(sums[i]) + g * g
        new_params.append(_close(p - _times(rates[i], g / (jnp.sqrt(total) + _wide(eps).astype(p.dtype))), param))
        new_sums.append(_close(total, sums[i]))
    return (*new_params, *new_sums, *_next(steps))


@op(wide=True, key="optim.adadelta", function=False, out=False, differentiable=False)
def adadelta(
    params: Arrays,
    grads: Arrays,
    square_avgs: Arrays,
    acc_deltas: Arrays,
    steps: Arrays,
    *,
    lr: Operand,
    rho: Number,
    eps: Number,
    weight_decay: Number,
    decay: bool,
    maximize: bool,
) -> Arrays:
    """Adadelta."""
    keep = _wide(rho)
    new: tuple[list[Array], ...] = ([], [], [])
    for i, param in enumerate(params):
        p = _open(param)
        tiny = _wide(eps).astype(p.dtype)
        g = _gradient(grads[i], p, weight_decay, decay, maximize)
        square = _times(keep, _open(square_avgs[i])) + _times(1 - keep, g) * g
        past = _open(acc_deltas[i])
        delta = jnp.sqrt(past + tiny) / jnp.sqrt(square + tiny) * g
        new[0].append(_close(p - _times(_wide(lr), delta), param))
        new[1].append(_close(square, square_avgs[i]))
        new[2].append(_close(_times(keep, past) + _times(1 - keep, delta) * delta, acc_deltas[i]))
    return (*new[0], *new[1], *new[2], *_next(steps))


@op(wide=True, key="optim.adamax", function=False, out=False, differentiable=False)
def adamax(
    params: Arrays,
    grads: Arrays,
    exp_avgs: Arrays,
    exp_infs: Arrays,
    steps: Arrays,
    *,
    lr: Operand,
    beta1: Number,
    beta2: Number,
    eps: Number,
    weight_decay: Number,
    decay: bool,
    maximize: bool,
) -> Arrays:
    """Adamax: Adam with the infinity norm."""
    b1, b2 = _wide(beta1), _wide(beta2)
    rates = _wide(lr) / (1 - b1 ** _counts(steps))
    new: tuple[list[Array], ...] = ([], [], [])
    for i, param in enumerate(params):
        p = _open(param)
        g = _gradient(grads[i], p, weight_decay, decay, maximize)
        mean = _lerp(_open(exp_avgs[i]), g, 1 - b1)
        top = jnp.maximum(_times(b2, _open(exp_infs[i])), jnp.abs(g) + _wide(eps).astype(p.dtype))
        new[0].append(_close(p - _times(rates[i], mean / top), param))
        new[1].append(_close(mean, exp_avgs[i]))
        new[2].append(_close(top, exp_infs[i]))
    return (*new[0], *new[1], *new[2], *_next(steps))


@op(wide=True, key="optim.nadam", function=False, out=False, differentiable=False)
def nadam(
    params: Arrays,
    grads: Arrays,
    exp_avgs: Arrays,
    exp_avg_sqs: Arrays,
    mu_products: Arrays,
    steps: Arrays,
    *,
    lr: Operand,
    beta1: Number,
    beta2: Number,
    eps: Number,
    weight_decay: Number,
    momentum_decay: Number,
    decay: bool,
    decoupled: bool,
    maximize: bool,
) -> Arrays:
    """Adam with Nesterov momentum on a schedule."""
    rate, b1, b2, count = _wide(lr), _wide(beta1), _wide(beta2), _counts(steps)
    now = b1 * (1 - 0.5 * 0.96 ** (count * _wide(momentum_decay)))
    later = b1 * (1 - 0.5 * 0.96 ** ((count + 1) * _wide(momentum_decay)))
    products = [m * now[i].astype(m.dtype) for i, m in enumerate(mu_products)]
    product = jnp.stack([m.astype(jnp.float64).reshape(()) for m in products])
    by_grad, by_mean = rate * (1 - now) / (1 - product), rate * later / (1 - product * later)
    correction = 1 - b2**count
    new: tuple[list[Array], ...] = ([], [], [])
    for i, param in enumerate(params):
        p = _open(param)
        g = _gradient(grads[i], p, weight_decay, decay and not decoupled, maximize)
        if decay and decoupled:
            p = _times(1 - rate * _wide(weight_decay), p)
        mean = _lerp(_open(exp_avgs[i]), g, 1 - b1)
        square = _times(b2, _open(exp_avg_sqs[i])) + _times(1 - b2, g) * g
        divisor = jnp.sqrt(square / correction[i].astype(p.dtype)) + _wide(eps).astype(p.dtype)
        p = p - _times(by_grad[i], g / divisor) - _times(by_mean[i], mean / divisor)
        new[0].append(_close(p, param))
        new[1].append(_close(mean, exp_avgs[i]))
        new[2].append(_close(square, exp_avg_sqs[i]))
    return (*new[0], *new[1], *new[2], *products, *_next(steps))


@op(wide=True, key="optim.radam", function=False, out=False, differentiable=False)
def radam(
    params: Arrays,
    grads: Arrays,
    exp_avgs: Arrays,
    exp_avg_sqs: Arrays,
    steps: Arrays,
    *,
    lr: Operand,
    beta1: Number,
    beta2: Number,
    eps: Number,
    weight_decay: Number,
    decay: bool,
    decoupled: bool,
    maximize: bool,
) -> Arrays:
    """Adam whose adaptive part waits until its variance can be told."""
    rate, b1, b2, count = _wide(lr), _wide(beta1), _wide(beta2), _counts(steps)
    correction1, correction2 = 1 - b1**count, 1 - b2**count
    limit = 2 / (1 - b2) - 1
    length = limit - 2 * count * b2**count / correction2
    tractable = length > 5
    safe = jnp.where(tractable, length, 6.0)
    rectified = jnp.sqrt((safe - 4) * (safe - 2) * limit / ((limit - 4) * (limit - 2) * safe)) * jnp.sqrt(correction2)
    new: tuple[list[Array], ...] = ([], [], [])
    for i, param in enumerate(params):
        p = _open(param)
        g = _gradient(grads[i], p, weight_decay, decay and not decoupled, maximize)
        if decay and decoupled:
            p = _times(1 - rate * _wide(weight_decay), p)
        mean = _lerp(_open(exp_avgs[i]), g, 1 - b1)
        square = _times(b2, _open(exp_avg_sqs[i])) + _times(1 - b2, g) * g
        adaptive = rectified[i].astype(p.dtype) / (jnp.sqrt(square) + _wide(eps).astype(p.dtype))
        scale = jnp.where(tractable[i], adaptive, jnp.ones((), p.dtype))
        new[0].append(_close(p - _times(rate / correction1[i], mean) * scale, param))
        new[1].append(_close(mean, exp_avgs[i]))
        new[2].append(_close(square, exp_avg_sqs[i]))
    return (*new[0], *new[1], *new[2], *_next(steps))


@op(wide=True, key="optim.asgd", function=False, out=False, differentiable=False)
def asgd(
    params: Arrays,
    grads: Arrays,
    averages: Arrays,
    etas: Arrays,
    mus: Arrays,
    steps: Arrays,
    *,
    lr: Operand,
    lambd: Number,
    alpha: Number,
    t0: Number,
    weight_decay: Number,
    decay: bool,
    maximize: bool,
) -> Arrays:
    """Averaged gradient descent."""
    rate, shrink, count = _wide(lr), _wide(lambd), _counts(steps)
    next_etas = rate / (1 + shrink * rate * count) ** _wide(alpha)
    next_mus = 1 / jnp.maximum(1.0, count - _wide(t0))
    new_params, new_averages = [], []
    for i, param in enumerate(params):
        p = _open(param)
        g = _gradient(grads[i], p, weight_decay, decay, maximize)
        eta, mu = _wide(etas[i]), _wide(mus[i])
        p = _times(1 - shrink * eta, p) - _times(eta, g)
        past = _open(averages[i])
        new_params.append(_close(p, param))
        new_averages.append(_close(jnp.where(mu == 1, p, _lerp(past, p, mu)), averages[i]))
    etas_out = [next_etas[i].astype(e.dtype).reshape(e.shape) for i, e in enumerate(etas)]
    mus_out = [next_mus[i].astype(m.dtype).reshape(m.shape) for i, m in enumerate(mus)]
    return (*new_params, *new_averages, *etas_out, *mus_out, *_next(steps))


@op(wide=True, key="optim.rprop", function=False, out=False, differentiable=False)
def rprop(
    params: Arrays,
    grads: Arrays,
    prevs: Arrays,
    step_sizes: Arrays,
    steps: Arrays,
    *,
    eta_minus: Number,
    eta_plus: Number,
    step_size_min: Number,
    step_size_max: Number,
    maximize: bool,
) -> Arrays:
    """Resilient propagation: step sizes that grow while a gradient keeps its sign, and shrink where it turns."""
    new: tuple[list[Array], ...] = ([], [], [])
    for i, param in enumerate(params):
        p = _open(param)
        g = _gradient(grads[i], p, 0.0, False, maximize)
        turn = g * _open(prevs[i])
        one = jnp.ones((), p.dtype)
        grown, shrunk = _times(_wide(eta_plus), one), _times(_wide(eta_minus), one)
        factor = jnp.where(turn > 0, grown, jnp.where(turn < 0, shrunk, one))
        low, high = _wide(step_size_min).astype(p.dtype), _wide(step_size_max).astype(p.dtype)
        size = jnp.minimum(jnp.maximum(_open(step_sizes[i]) * factor, low), high)
        g = jnp.where(turn < 0, jnp.zeros((), p.dtype), g)
        new[0].append(_close(p - jnp.sign(g) * size, param))
        new[1].append(_close(g, prevs[i]))
        new[2].append(_close(size, step_sizes[i]))
    return (*new[0], *new[1], *new[2], *_next(steps))


@op(wide=True, key="optim.lbfgs_direction", function=False, out=False, differentiable=False)
def lbfgs_direction(grad: Array, changes: Arrays, moves: Arrays, inverses: Arrays, diagonal: Array) -> Array:
    """The inverse Hessian's estimate times -grad, by the two loops over the history, oldest pair first.

    A pair whose inverse curvature is 0 does nothing: the history can be padded, so that few lengths are compiled.
    """
    change, move = jnp.stack(changes), jnp.stack(moves)
    inverse = jnp.stack([i.astype(grad.dtype).reshape(()) for i in inverses])

    def back(vector: Array, pair: tuple[Array, ...]) -> tuple[Array, Array]:
        y, s, rho = pair
        weight = jnp.dot(s, vector) * rho
        return vector - weight * y, weight

    def forth(vector: Array, pair: tuple[Array, ...]) -> tuple[Array, None]:
        y, s, rho, weight = pair
        return vector + s * (weight - jnp.dot(y, vector) * rho), None

    vector, weights = lax.scan(back, -grad, (change, move, inverse), reverse=True)
    vector = vector * diagonal.astype(grad.dtype)
    return lax.scan(forth, vector, (change, move, inverse, weights))[0]
