"""The loops of a compiled trace, as they are traced by JAX: what they take, what they keep, and what others read of it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jtorch._runtime.jax_internals import evaluate, is_literal
from jtorch._runtime.loops import Loop


class Given:
    """The run-time numbers inside a program: by kind and place, in which of the arrays each is, and where."""

    def __init__(self, arrays: Sequence[Any], at: dict[tuple[str, int], tuple[int, int]]):
        self.arrays, self.at = arrays, at

    def __call__(self, number: tuple[str, int]) -> Any:
        array, place = self.at[number]
        return self.arrays[array][place]

    def table(self, rows: list[list[tuple[str, int]]]) -> Any:
        """Numbers of one kind as an array of two dims."""
        array = self.arrays[self.at[rows[0][0]][0]]
        at = np.array([[self.at[number][1] for number in row] for row in rows])
        first = at.min()
        for view in (at, at.T):  # as they lie in memory, most of all
            if np.array_equal(view.ravel(), np.arange(first, first + at.size)):
                lying = array[first : first + at.size].reshape(view.shape)
                return lying if view is at else lying.T
        return array[at]


class Stack(NamedTuple):
    """Values of each round of a loop: where the first round's is, and how far it is from there to the next."""

    rows: Any
    first: int = 0
    step: int = 1

    def through(self, first: int, step: int) -> Stack:
        """The same for a loop that goes through these from one of the rounds on, some at a time."""
        return Stack(self.rows, self.first + self.step * first, self.step * step)

    def at(self, r: Any) -> Any:
        """The value of a round; its number is unsigned, of which JAX does not ask whether it is negative."""
        away = np.uint32(abs(self.step)) * r
        at = np.uint32(self.first) + away if self.step > 0 else np.uint32(self.first) - away
        return jax.lax.dynamic_index_in_dim(self.rows, at, 0, False)

    def upwards(self, n: int) -> Any:
        """The first n rounds' values as they lie in memory, which is from the last on if `step` is below 0."""
        ends = self.first, self.first + self.step * (n - 1)
        return jax.lax.slice_in_dim(self.rows, min(ends), max(ends) + 1, abs(self.step))


class Looping:
    """A program's values by slot, `env`, and in it those of the loops that have run."""

    def __init__(self, env: dict[int, Any], number: Given):
        self.env, self.number = env, number
        self.outer: dict[Loop, dict] = {}  # the values of variables that are the same in all rounds
        self.stacks: dict[tuple[Loop, Any], Stack] = {}

    def run(self, loop: Loop) -> None:
        """Adds what others read of a loop to the values."""
        env, one, n = self.env, loop.one, loop.one.rounds.rounds
        own = self._given(loop)
        outer = self.outer[loop]
        ways = {v: self.stacks[way.loop, there].through(way.first, way.step) for v, (way, there) in loop.rows.items()}
        summed = {v for addends in loop.sums.values() for addend in addends for v in addend.operands}
        # Stacks that are multiplied with ones that are gone through backwards are made backwards.
        back = any(stack.step < 0 for v, stack in ways.items() if v in summed)
        after, before = [one.results[key] for key in loop.carried], [one.carried[key] for key in loop.carried]
        begin = [env[one.rounds.carried[key]] for key in loop.carried]
        taken = dict(zip(before, begin, strict=True))
        # What is stacked both as a round's result and as what the next takes is in one stack, which begins with what the
        # first takes.
        firsts: dict[Any, Any] = {}
        for v, earlier in zip(after, before, strict=True):
            if v in loop.stacked and earlier in loop.stacked and v not in before and not back:
                firsts.setdefault(v, earlier)
        stacked = [v for v in loop.stacked if v not in firsts.values()]
        variables = [*outer, *before, *own, *loop.rows, *loop.again]
        kept = [*after, *loop.last, *stacked]
        readers = {a: eqn for eqn in reversed(loop.live) for a in eqn.invars if not is_literal(a)}
        n_carried, n_single = len(after), len(after) + len(loop.last)

        def step(state):
            i, carried, _, rows = state
            r = i.astype(np.uint32)
            read = []
            for v, stack in [*((v, self.stacks[loop, v]) for v in own), *ways.items()]:
                with _named(readers.get(v)):
                    read.append(stack.at(r))
            read += [self._again(way.loop, v, way.first, way.step, r) for way, v in loop.again.values()]
            made = evaluate(one.jaxpr, loop.live, variables, kept, [*outer.values(), *carried, *read])
            made = [jax.lax.convert_element_type(x, x.dtype) for x in made]  # of a dtype that is not weak
            at = np.uint32(n - 1) - r if back else r
            new = []
            for v, some, x in zip(stacked, rows, made[n_single:], strict=True):
                with _named(one.sums.by.get(v)):
                    new.append(_put(some, x, at + np.uint32(v in firsts)))
            return i + 1, made[:n_carried], made[n_carried:n_single], new

        rows = [jnp.zeros((n + (v in firsts), *v.aval.shape), v.aval.dtype) for v in stacked]
        rows = [_put(some, taken[firsts[v]], 0) if v in firsts else some for v, some in zip(stacked, rows, strict=True)]
        blank = [jnp.zeros(v.aval.shape, v.aval.dtype) for v in loop.last]
        _, carried, ends, rows = jax.lax.while_loop(lambda state: state[0] < n, step, (np.int32(0), begin, blank, rows))

        for v, some in zip(stacked, rows, strict=True):
            self.stacks[loop, v] = Stack(some, n - 1, -1) if back else Stack(some, int(v in firsts))
            if v in firsts:
                self.stacks[loop, firsts[v]] = Stack(some)
        final, single = dict(zip(loop.carried, carried, strict=True)), dict(zip(loop.last, ends, strict=True))
        for key in loop.sums:
            final[key] = self._sum(loop, key, ways)
        env |= {slot: final[key] for slot, key in loop.final.items()}
        for slot, (v, r) in loop.read.items():
            env[slot] = self.stacks[loop, v].at(np.uint32(r)) if v in loop.stacked else single[v]

    def _given(self, loop: Loop) -> list:
        """Notes the values that are the same in all rounds, and stacks those that are not: the variables of these."""
        env, one, n = self.env, loop.one, loop.one.rounds.rounds
        outer = self.outer[loop] = dict(zip(one.jaxpr.constvars, one.constants, strict=True))
        outer |= {v: env[slot] for v, slot in one.always.items()}
        for v, slots in loop.gathered.items():
            back = slots[0] > slots[-1]  # XLA sees what lies next to each other only in its order
            rows = jnp.stack([env[slot] for slot in (reversed(slots) if back else slots)])
            self.stacks[loop, v] = Stack(rows, n - 1, -1) if back else Stack(rows)
        tables: dict[str, list] = {"f": [], "i": []}
        for v, every in one.numbers.items():
            if len(set(every)) == 1:
                outer[v] = self.number(every[0])
            else:
                tables[every[0][0]].append((v, every))
        for varying in tables.values():
            if varying:
                table = self.number.table([every for _, every in varying])
                self.stacks |= {(loop, v): Stack(rows) for (v, _), rows in zip(varying, table, strict=True)}
        outer |= _outside(loop, outer)
        return [*loop.gathered, *(v for varying in tables.values() for v, _ in varying)]

    def _again(self, loop: Loop, v: Any, first: int, step: int, r: Any) -> Any:
        """What a simple variable of an earlier loop was, for one that goes through its rounds."""
        outer, eqns = self.outer[loop], loop.simple(v)
        wanted = {a for eqn in eqns for a in eqn.invars if not is_literal(a)} - {w for eqn in eqns for w in eqn.outvars}
        values = {a: outer[a] if a in outer else self.stacks[loop, a].through(first, step).at(r) for a in wanted}
        return evaluate(loop.one.jaxpr, eqns, list(values), [v], list(values.values()))[0]

    def _sum(self, loop: Loop, key: tuple[int, int], ways: dict[Any, Stack]) -> Any:
        """A sum over all rounds."""
        one, n = loop.one, loop.one.rounds.rounds
        total = self.env[one.rounds.carried[key]]
        for addend in loop.sums[key]:
            stacks = [ways.get(v) or self.stacks[loop, v] for v in addend.operands]
            alike = len({stack.step > 0 for stack in stacks}) == 1
            rows = [stack.upwards(n) if alike or stack.step > 0 else stack.upwards(n)[::-1] for stack in stacks]
            with _named(one.sums.by[addend.last]):
                total = total + one.sums.all_rounds(addend, rows)
        return total


def _named(eqn: Any) -> contextlib.AbstractContextManager:
    """While what goes with an equation is traced: profiles count it to the operation that the equation is of."""
    return contextlib.nullcontext() if eqn is None else jax.named_scope(str(eqn.source_info.name_stack))


def _outside(loop: Loop, outer: dict) -> dict:
    """What is dear and the same in all rounds, computed once."""
    if not loop.outside:
        return {}
    same, once = set(outer), []
    for eqn in loop.one.jaxpr.eqns:
        if all(is_literal(a) or a in same for a in eqn.invars):
            once.append(eqn)
            same.update(eqn.outvars)
    made = evaluate(loop.one.jaxpr, once, list(outer), loop.outside, list(outer.values()))
    return dict(zip(loop.outside, made, strict=True))


def _put(rows: Any, x: Any, row: Any) -> Any:
    return jax.lax.dynamic_update_index_in_dim(rows, x, row, 0)
