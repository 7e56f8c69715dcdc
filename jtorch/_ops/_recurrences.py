"""A recurrent layer's states over time, and their derivative in a form that makes good loops.

Differentiated as it stands, a loop adds up its weight's gradient step by step, one thin product each. The derivative
written here is a linear recurrence in which only the state's own part is inside the loop: what the weight's tangent adds
is one product over all steps. The backward is its transpose, and so has that form too.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero

from jtorch._ops._common import Array

States = tuple[Array, ...]


class Cell(ABC):
    """One step of a network, elementwise: the products with the weights come from outside.

    States begin with the hidden one. `given` is the step's input after its product, `fed` the hidden state after its own.
    Methods but `step` may be called on all steps at once.
    """

    summed = True  # whether `given` and `fed` count by their sum alone

    @abstractmethod
    def step(self, given: Array, fed: Array, states: States) -> tuple[States, States]:
        """The new states, and what `slopes` wants to know of the step."""

    @abstractmethod
    def slopes(self, before: States, after: States, kept: States) -> States:
        """The derivatives that `drive` and `advance` multiply with."""

    @abstractmethod
    def drive(self, slopes: States, given: Array | None, fed: Array | None) -> Array:
        """What tangents of `given` and of `fed`, as far as it does not come from the state, add to a step."""

    @abstractmethod
    def advance(self, slopes: States, drive: Array | None, fed: Array, states: States) -> States:
        """The tangents of the new states."""


class Plain(Cell):
    """h = f(given + fed), with a derivative that h tells."""

    def __init__(self, activation: Callable[[Array], Array], slope: Callable[[Array], Array]):
        self.activation, self.slope = activation, slope

    def step(self, given, fed, states):
        return (self.activation(given + fed),), ()

    def slopes(self, before, after, kept):
        return (self.slope(after[0]),)

    def drive(self, slopes, given, fed):
        return _sum(given, fed)

    def advance(self, slopes, drive, fed, states):
        return (slopes[0] * _sum(drive, fed),)


class LongShort(Cell):
    """The LSTM's h and c, with gates in the order i, f, g, o."""

    def step(self, given, fed, states):
        gates = self._gates(given + fed)
        i, f, g, o = jnp.split(gates, 4, axis=-1)
        c = f * states[1] + i * g
        return (o * jnp.tanh(c), c), (gates,)

    @staticmethod
    def _gates(z: Array) -> Array:
        """Sigmoids and g's tanh, as one tanh of the whole: XLA's loops over parts of rows don't use vectors."""
        n = z.shape[-1] // 4
        factor = np.repeat(np.array((0.5, 0.5, 1, 0.5), z.dtype), n)
        shift = np.repeat(np.array((0.5, 0.5, 0, 0.5), z.dtype), n)
        return jnp.tanh(z * factor) * factor + shift

    @staticmethod
    def unprojected(c: Array, kept: States) -> Array:
        """h as `step` gave it."""
        return kept[0][..., -c.shape[-1] :] * jnp.tanh(c)

    def slopes(self, before, after, kept):
        i, f, g, o = jnp.split(kept[0], 4, axis=-1)
        t = jnp.tanh(after[1])
        return _joined(g * i * (1 - i), before[1] * f * (1 - f), i * (1 - g * g), t * o * (1 - o)), o * (1 - t * t), f

    def drive(self, slopes, given, fed):
        return _sum(given, fed)

    def advance(self, slopes, drive, fed, states):
        by_gate, of_cell, kept = slopes
        i, f, g, o = jnp.split(_sum(drive, fed) * by_gate, 4, axis=-1)
        c = kept * states[1] + (i + f + g)
        return o + of_cell * c, c


class Gated(Cell):
    """The GRU's h, with gates in the order reset, update, new."""

    summed = False

    def step(self, given, fed, states):
        n = 2 * (given.shape[-1] // 3)
        both = jnp.tanh((given[..., :n] + fed[..., :n]) * 0.5) * 0.5 + 0.5
        reset, update = jnp.split(both, 2, axis=-1)
        new = jnp.tanh(given[..., n:] + reset * fed[..., n:])
        return ((states[0] - new) * update + new,), (both, new, fed[..., n:])

    def slopes(self, before, after, kept):
        both, new, fed_new = kept
        reset, update = jnp.split(both, 2, axis=-1)
        by_new = (1 - update) * (1 - new * new)
        by_reset = by_new * fed_new * reset * (1 - reset)
        by_update = (before[0] - new) * update * (1 - update)
        return _joined(by_reset, by_update, by_new * reset), by_new, update

    def drive(self, slopes, given, fed):
        by_fed, by_new, _ = slopes
        n = 2 * by_new.shape[-1]
        parts = []
        if given is not None:
            parts = [*jnp.split(given[..., :n] * by_fed[..., :n], 2, axis=-1), given[..., n:] * by_new]
        if fed is not None:
            parts += jnp.split(fed * by_fed, 3, axis=-1)
        return functools.reduce(jnp.add, parts)

    def advance(self, slopes, drive, fed, states):
        by_fed, _, update = slopes
        return (functools.reduce(_sum, [update * states[0], drive, *jnp.split(fed * by_fed, 3, axis=-1)]),)


def _sum(a: Array | None, b: Array | None) -> Any:
    return b if a is None else a if b is None else a + b


def _joined(*parts: Array) -> Array:
    return jnp.concatenate(parts, axis=-1)


def times(x: Array, w: Array, bias: Array | None = None) -> Array:
    """x w^T + bias."""
    result = jnp.matmul(x, w.T)
    return result if bias is None else result + bias


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def recur(
    cell: Cell,
    reverse: bool,
    given: Array,
    w_hh: Array,
    b_hh: Array | None,
    w_hr: Array | None,
    start: States,
    alive: Array | None,
) -> tuple[Array, States]:
    """The hidden states after each step, and all states after the last.

    given: (T, B, G). start: states, (B, H) each. alive: (T, B, 1), None for all; elsewhere a state stands still.
    """
    return _run(cell, reverse, given, w_hh, b_hh, w_hr, start, alive)[:2]


def _run(
    cell: Cell, reverse: bool, given, w_hh, b_hh, w_hr, start, alive, keep: bool = False
) -> tuple[Array, States, Any]:
    """`recur`, and with `keep` the other states after each step and what the cell kept of it."""

    def step(states, now):
        x, live = now
        new, kept = cell.step(x, times(states[0], w_hh, b_hh), states)
        if w_hr is not None:
            new = (times(new[0], w_hr), *new[1:])
        new = _where(live, new, states)
        return new, (new[0], (new[1:], kept) if keep else None)

    final, (hidden, more) = lax.scan(step, start, (given, alive), reverse=reverse)
    return hidden, final, more


def _where(live: Array | None, new: States, old: States) -> States:
    return new if live is None else tuple(jnp.where(live, n, o) for n, o in zip(new, old, strict=True))


def _without_zeros(tangents) -> Any:
    """None for the tangents that are zero for certain."""
    return jax.tree.map(lambda t: None if _is_zero(t) else t, tangents, is_leaf=_is_zero)


def _is_zero(x: Any) -> bool:
    return isinstance(x, SymbolicZero)


def _tangent(cell: Cell, reverse: bool, primals, tangents):
    given, w_hh, _, w_hr, start, alive = primals
    given_t, w_t, b_t, r_t, start_t, _ = _without_zeros(tangents)
    hidden, final, (others, kept) = _run(cell, reverse, *primals, keep=True)
    after = (hidden, *others)
    before = tuple(
        jnp.concatenate([s[1:], first[None]] if reverse else [first[None], s[:-1]])
        for s, first in zip(after, start, strict=True)
    )
    slopes = cell.slopes(before, after, kept)
    fed_t = _sum(None if w_t is None else times(before[0], w_t), b_t)
    drive = None
    if given_t is not None or fed_t is not None:
        drive = cell.drive(slopes, given_t, fed_t if fed_t is None else jnp.broadcast_to(fed_t, given.shape))
    raw_t = None if r_t is None else times(LongShort.unprojected(after[1], kept), r_t)

    def step(states, now):
        slopes, drive, raw, live = now
        # Not `times`: its transpose would be a product with the weight transposed, the slower kind of a thin one.
        fed = lax.dot_general(states[0], w_hh, (((1,), (1,)), ((), ())))
        new = cell.advance(slopes, drive, fed, states)
        if w_hr is not None:
            new = (_sum(raw, times(new[0], w_hr)), *new[1:])
        new = _where(live, new, states)
        return new, new[0]

    first = tuple(jnp.zeros_like(s) if t is None else t for s, t in zip(start, start_t, strict=True))
    final_t, hidden_t = lax.scan(step, first, (slopes, drive, raw_t, alive), reverse=reverse)
    return (hidden, final), (hidden_t, final_t)


recur.defjvp(_tangent, symbolic_zeros=True)
