"""Which rounds in a trace are compiled as a loop, and what of them is kept.

XLA compiles the round of a loop once, and fuses nothing across rounds.

In one straight program it fuses what each round adds into longer and longer chains, no two of which are the same: compiling
them takes more than linear time, and a chain that is read in each round is computed anew in each.

A later loop that reads what an earlier one made round by round, as a backward does, takes it from stacks. What is dear and
was computed there already, as the gradients' kernels compute their forward, is taken from there as well: in a straight
program XLA sees that it is the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jtorch._runtime.jax_internals import is_literal, literal, unfolded, unnested
from jtorch._runtime.repeats import Rounds, find
from jtorch._runtime.sums import Addend, Sums
from jtorch._runtime.trace import Step

SCOPE = "jtorch."  # with its place in the trace, each operation's name inside a compiled one: what profiles go by
ROUNDS = 16  # fewer are not worth a loop
STACKED = 1 << 16  # bytes a round that may be kept so that sums are done after the loop
COPIED = 4  # nor are those where more than one in so many of a round's bytes is copied into stacks first, or out of them after

# What XLA computes again rather than keeps.
_CHEAP = frozenset((
    "abs", "add", "add_any", "and", "broadcast_in_dim", "clamp", "concatenate", "convert_element_type", "copy", "copy_p", "div",
    "dynamic_slice", "eq", "expand_dims", "floor", "ge", "gt", "imag", "integer_pow", "iota", "le", "lt", "max", "min", "mul",
    "ne", "neg", "not", "or", "pad", "real", "reshape", "rev", "select_n", "sign", "slice", "split", "square", "squeeze", "stop_gradient",
    "sub", "transpose", "xor",
))  # fmt: skip
# What it fuses with anything, of which no copy is made: rounds of nothing else it makes into one pass over the memory.
_POINTWISE = _CHEAP | {
    "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "ceil", "conj", "cos", "cosh", "erf", "erf_inv", "erfc", "exp",
    "exp2", "expm1", "is_finite", "log", "log1p", "logistic", "nextafter", "pow", "rem", "round", "rsqrt", "sin", "sinh", "sqrt", "tan", "tanh",
}  # fmt: skip


class Round:
    """What a round computes, traced once: its variables by what they stand for."""

    def __init__(self, ops: Sequence[Step], rounds: Rounds):
        self.rounds = rounds
        members = ops[rounds.start : rounds.start + rounds.length]
        sources = [source for sources in rounds.sources for source in sources]
        always = sorted({source[1] for source in sources if source[0] == "always"})
        each = list(dict.fromkeys(source[1] for source in sources if source[0] == "each"))
        keys = [(slot,) for slot in always] + list(rounds.carried) + [(slots,) for slots in each]
        structs: dict[Any, Any] = {}
        for s, wanted in zip(members, rounds.sources, strict=True):
            structs |= {source[1:]: a.struct for source, a in zip(wanted, s.kernel.inputs, strict=True)}
        numbers = [
            (
                [o.numbers[k] for o in ops[rounds.start + place : rounds.stop : rounds.length]],
                s.kernel.structs[len(s.ins) + k],
            )
            for place, s in enumerate(members)
            for k in range(len(s.numbers))
        ]

        def one(*given):
            at = dict(zip(keys, given[: len(keys)], strict=True))
            left = iter(given[len(keys) :])
            made: dict[tuple[int, int], Any] = {}
            for place, (s, wanted) in enumerate(zip(members, rounds.sources, strict=True)):
                args = [made[w[1:]] if w[0] == "made" else at[w[1:]] for w in wanted]
                args += [next(left) for _ in s.numbers]
                with jax.named_scope(scope(rounds.start + place, rounds)):
                    made |= {(place, o): x for o, x in enumerate(unnested(s.kernel.traced, args))}
            return list(made.values())

        with unfolded():
            closed = jax.make_jaxpr(one)(*[structs[k] for k in keys], *[struct for _, struct in numbers])
        self.jaxpr, self.constants = closed.jaxpr, closed.consts
        left = iter(self.jaxpr.invars)
        self.always = {next(left): slot for slot in always}
        self.carried = {key: next(left) for key in rounds.carried}
        self.each = {next(left): slots for slots in each}
        self.numbers = {v: every for v, (every, _) in zip(left, numbers, strict=True)}  # each round's kind and place
        names = [(place, o) for place, s in enumerate(members) for o in range(len(s.outs))]
        self.results = dict(zip(names, self.jaxpr.outvars, strict=True))
        self.bytes = sum(a.numel * a.dtype.itemsize for s in members for a in s.kernel.out)
        self.sums = Sums(self.jaxpr)

    def constant(self) -> bool:
        """Whether a result is a number written out, which is no variable."""
        return any(map(is_literal, self.results.values()))


def scope(at: int, rounds: Rounds | None = None) -> str:
    """The name of an operation inside a program by its place in the trace; in a loop, also how far it is to the next
    round's, and how many there are."""
    return f"{SCOPE}{at}" if rounds is None else f"{SCOPE}{at}.{rounds.length}.{rounds.rounds}"


class Way(NamedTuple):
    """How a loop goes through the stacks of an earlier one: from the row `first` on, `step` rows a round."""

    loop: Loop
    first: int
    step: int


class Loop:
    """What of a round is computed in a loop, and what is kept of it."""

    def __init__(self, one: Round):
        self.one = one
        self.ids: dict[Any, int] = {}  # of the variables: the same only where they have the same value
        self.computed: dict[tuple, list] = {}  # what an equation computes from which values -> its results
        self.invariant: set[int] = set()  # those of values that are the same in all rounds
        self.rows: dict[Any, tuple[Way, Any]] = {}  # what is in an earlier loop's stacks, by its variable there
        self.outside: list[Any] = []  # what is dear and the same in all rounds
        self.stacked: dict[Any, None] = {}  # of which each round's value is kept
        self.read: dict[int, tuple[Any, int]] = {}  # what others than loops read: slot -> variable, and the round
        self.final: dict[int, tuple[int, int]] = {}  # slot -> that of which it is the last, if that is carried
        self.taken: list[Any] = []  # what is taken out of a stack for them
        self.apart: set[Any] = set()  # what was in one array before
        self.last: list[Any] = []  # what is read of the last round alone, and not carried
        self._simple: dict[Any, list] = {}
        # Found by `trim`:
        self.live: list = []
        self.carried: list[tuple[int, int]] = []
        self.gathered: dict[Any, tuple[int, ...]] = {}  # what has to be stacked first
        self.again: dict[Any, tuple[Way, Any]] = {}  # what is computed as the earlier loop did
        self.sums: dict[tuple[int, int], list[Addend]] = {}  # what is carried only to be added to: that is done after

    def compare(self, known: dict, invariant: set[int], rows: dict[int, dict[Way, int]], choices: dict) -> None:
        """Numbers the values, and finds those that an earlier loop has computed.

        known: the numbers by what they are of, in all loops. invariant: those that are the same in all rounds.
        rows: of values in stacks, by the ways that lead to them, the numbers that they have in the loops there.
        """

        def id_of(*key) -> int:
            return known.setdefault(key, len(known))

        def fixed(*key) -> int:
            found = id_of(*key)
            invariant.add(found)
            return found

        def in_rows(inner: dict[Way, int]) -> int:
            way, there = next(iter(inner.items()))
            if there in invariant:
                return there
            found = id_of("row", way, there)
            rows.setdefault(found, {}).update(inner)
            return found

        one, ids, self.invariant = self.one, self.ids, invariant
        ids |= {v: fixed("slot", slot) for v, slot in one.always.items()}
        ids |= {v: fixed("constant", id(c)) for v, c in zip(one.jaxpr.constvars, one.constants, strict=True)}
        ids |= {v: id_of(self, v) for v in (*one.carried.values(), *one.each)}
        for v, every in one.numbers.items():
            ids[v] = fixed("number", every[0]) if len(set(every)) == 1 else id_of(self, v)
        for v, found in choices.items():
            self.rows[v] = found[0]
            ids[v] = in_rows({way: way.loop.ids[w] for way, w in found})
        # What can be computed before the loop: not what is taken from an earlier one's stacks, though it is the same there.
        before = {*one.always.values(), *one.jaxpr.constvars, *(v for v, n in one.numbers.items() if len(set(n)) == 1)}
        for eqn in one.jaxpr.eqns:
            early = all(is_literal(a) or a in before for a in eqn.invars)
            if early:
                before.update(eqn.outvars)
            inputs = [fixed("literal", a.aval, literal(a)) if is_literal(a) else ids[a] for a in eqn.invars]
            told = _hashable(eqn.params)
            if told is None:
                ids |= {v: id_of(self, v) for v in eqn.outvars}
                continue
            kind = eqn.primitive, told
            key = *kind, *inputs
            varying = [i for i in inputs if i not in invariant]
            if not varying:
                ids |= {v: fixed(*key, k) for k, v in enumerate(eqn.outvars)}
                if early and _dear(eqn):
                    self.outside += eqn.outvars
                continue
            ids |= {v: id_of(self, *key, k) for k, v in enumerate(eqn.outvars)}
            for way in rows.get(varying[0], ()):
                if all(way in rows.get(i, ()) for i in varying):
                    there = way.loop.computed.get((*kind, *(i if i in invariant else rows[i][way] for i in inputs)))
                    if there:
                        ids |= {v: in_rows({way: way.loop.ids[w]}) for v, w in zip(eqn.outvars, there, strict=True)}
                        if _dear(eqn):
                            self.rows |= {v: (way, w) for v, w in zip(eqn.outvars, there, strict=True)}
                        break
            self.computed.setdefault(key, eqn.outvars)

    def keep(self, ops: Sequence[Step], read: Collection[int], joined: set[int]) -> None:
        """Finds what is to be kept for slots that others than loops read.

        joined: those that one operation has put together, or taken apart. XLA sees that it is what is in a stack.
        """
        rounds = self.one.rounds
        for key, v in self.one.results.items():
            for r, slot in enumerate(rounds.slots(ops, *key)):
                if slot in read:
                    if r < rounds.rounds - 1:
                        self.stacked[v] = None
                    if r == rounds.rounds - 1 and key in rounds.carried:
                        self.final[slot] = key
                    else:
                        self.read[slot] = v, r
        self.taken = [v for slot, (v, r) in self.read.items() if r < rounds.rounds - 1 and slot not in joined]
        self.apart = {v for v, slots in self.one.each.items() if joined.issuperset(slots)}
        self.last = list(dict.fromkeys(v for v, _ in self.read.values() if v not in self.stacked))

    def trim(self) -> None:
        """Finds what is to be computed for what is kept, and has earlier loops keep what this one takes."""
        one = self.one
        elsewhere = self.rows.keys() | set(self.outside)
        self.sums = self._sums()
        carried = dict.fromkeys(key for key in self.final.values() if key not in self.sums)
        while True:
            summed = [v for addends in self.sums.values() for addend in addends for v in addend.operands]
            wanted = [*self.stacked, *self.last, *summed, *(one.results[key] for key in carried)]
            need = set(wanted)
            live = []
            for eqn in reversed(one.jaxpr.eqns):
                if any(v in need and v not in elsewhere for v in eqn.outvars):
                    live.append(eqn)
                    need |= {a for a in eqn.invars if not is_literal(a)}
            more = [key for key, v in one.carried.items() if v in need and key not in carried]
            if not more:
                break
            for key in more:
                self.sums.pop(key, None)
            carried |= dict.fromkeys(more)
        self.live, self.carried = live[::-1], list(carried)
        rows = {v: found for v, found in self.rows.items() if v in need}
        self.again = {v: (way, w) for v, (way, w) in rows.items() if way.loop.simple(w)}
        self.rows = {v: found for v, found in rows.items() if v not in self.again}
        self.outside = [v for v in self.outside if v in need]
        self.gathered = {v: slots for v, slots in one.each.items() if v in need and v not in rows}
        self.stacked |= {v: None for v in summed if v not in self.rows}
        for v in self.gathered:
            self.stacked.pop(v, None)
        for way, v in self.rows.values():
            way.loop.stacked[v] = None

    def _sums(self) -> dict[tuple[int, int], list[Addend]]:
        """What is carried that can be added up after the loop, where it takes less to keep what it is made of."""
        one, found = self.one, {}
        kept = {*self.stacked, *self.last, *(one.results[key] for key in one.carried)}
        there = {*self.stacked, *(v for v, (way, w) in self.rows.items() if not way.loop.simple(w))}
        for key in dict.fromkeys(self.final.values()):
            total, before = one.results[key], one.carried[key]
            addends = (
                one.sums.of(total, before) if before not in kept and total not in (*self.stacked, *self.last) else None
            )
            operands = {v for addend in addends or () for v in addend.operands}
            if (
                not addends
                or any(a.last in kept for a in addends)
                or any(self.ids[v] in self.invariant for v in operands)
            ):
                continue
            if sum(map(_bytes, operands - there)) <= max(STACKED, 4 * _bytes(total)):
                found[key] = addends
                there |= operands
        return found

    def simple(self, v: Any) -> list:
        """The equations that give a variable, where it is cheap and the round's number and what never changes are enough."""
        if v not in self._simple:
            one, need, found = self.one, {v}, []
            for eqn in reversed(one.jaxpr.eqns):
                if any(w in need for w in eqn.outvars):
                    need |= {a for a in eqn.invars if not is_literal(a)}
                    found.append(eqn)
            leaves = need & {*one.carried.values(), *one.each}
            self._simple[v] = [] if leaves or any(map(_dear, found)) else found[::-1]
        return self._simple[v]

    def pays(self) -> bool:
        """Whether there is more to it than XLA would make into one pass, and than what is copied for it."""
        n = self.one.rounds.rounds
        copied = self.taken + [v for v in self.gathered if v not in self.apart for _ in range(n)]
        more = self.sums or any(eqn.primitive.name not in _POINTWISE for eqn in self.live)
        return bool(more) and sum(map(_bytes, copied)) * COPIED <= self.one.bytes * n


def _bytes(v: Any) -> int:
    return v.aval.size * v.aval.dtype.itemsize


def _dear(eqn: Any) -> bool:
    """Whether what an equation gives is kept rather than computed again. Random keys cannot be."""
    return eqn.primitive.name not in _CHEAP and all(isinstance(v.aval.dtype, np.dtype) for v in eqn.outvars)


def _hashable(params: dict) -> Any:
    """What tells one equation of a kind from another; None where that cannot be told."""
    told = tuple(sorted(params.items()))
    try:
        hash(told)
    except TypeError:
        return None
    return told


def loops(ops: Sequence[Step], apart: Collection[Step], wanted: Collection[int]) -> dict[int, Loop]:
    """The loops in a trace by where they begin. `apart` are in none; `wanted` are the slots that are asked for at the end."""
    found = find(ops, apart, ROUNDS)
    cuts = [[one for rounds in some if not (one := Round(ops, rounds)).constant()] for some in found]
    cuts = [some for some in cuts if some]
    while cuts:
        chosen = [some[0] for some in cuts]
        best = _planned(ops, chosen, wanted)
        for k, some in enumerate(cuts):
            for other in some[1:]:
                chosen[k], before = other, chosen[k]
                plan = _planned(ops, chosen, wanted)
                if _cost(plan) < _cost(best):
                    best = plan
                else:
                    chosen[k] = before
        bad = [k for k, loop in enumerate(best) if not loop.pays()]
        if not bad:
            return {loop.one.rounds.start: loop for loop in best}
        del cuts[bad[-1]]  # what goes on before it may be worth a loop only with it, or only without
    return {}


def _cost(plan: list[Loop]) -> int:
    """How much of what is dear is computed, and how much is stacked, most of all to be read."""
    cost = 0
    for loop in plan:
        dear = sum(map(_dear, loop.live))
        cost += loop.one.rounds.rounds * (4 * dear + 4 * len(loop.gathered) + len(loop.stacked))
    return cost


def _planned(ops: Sequence[Step], rounds: Sequence[Round], wanted: Collection[int]) -> list[Loop]:
    """The loops for some rounds in the order of the trace, each with what the later ones take from it."""
    plan: list[Loop] = []
    stacks: dict[int, list[tuple[Loop, Any, int]]] = {}  # slot -> the stacks that it can be in, and where
    known: dict = {}
    invariant: set[int] = set()
    rows: dict[int, dict[Way, int]] = {}
    inside = {at for one in rounds for at in range(one.rounds.start, one.rounds.stop)}
    others = [s for at, s in enumerate(ops) if at not in inside]
    read = set(wanted).union(*(s.ins for s in others))
    joined = set().union(*(part for s in others for part in _parts(s) if len(part) >= ROUNDS))
    for one in rounds:
        loop = Loop(one)
        plan.append(loop)
        loop.compare(known, invariant, rows, _ways(one, stacks))
        read |= {*one.always.values(), *one.rounds.carried.values()}
        entered = [(v, one.rounds.slots(ops, *key)) for key, v in one.results.items()]
        entered += [(v, [one.rounds.carried[key], *one.rounds.slots(ops, *key)[:-1]]) for key, v in one.carried.items()]
        for v, slots in one.each.items():
            if v not in loop.rows:
                read |= set(slots)
                entered.append((v, list(slots)))
        for v, slots in entered:
            for r, slot in enumerate(slots):
                stacks.setdefault(slot, []).append((loop, v, r))
    for loop in plan:
        loop.keep(ops, read, joined)
    for loop in reversed(plan):
        loop.trim()
    return plan


def _parts(s: Step) -> list[Sequence[int]]:
    """The slots that an operation puts together in one array, or makes of one."""
    ins, outs = ([a.numel for a in avals] for avals in (s.kernel.inputs, s.kernel.out))
    return ([s.ins] if sum(ins) == max(outs, default=0) else []) + (
        [range(s.slot, s.end)] if sum(outs) == max(ins, default=0) else []
    )


def _ways(one: Round, stacks: dict[int, list[tuple[Loop, Any, int]]]) -> dict[Any, list[tuple[Way, Any]]]:
    """For what is another value in each round: the stacks it is in, and the ways through them.

    The same value may be in two, as one round's result and as what the next takes. What most go by comes first.
    """
    found: dict[Any, list[tuple[Way, Any]]] = {}
    for v, slots in one.each.items():
        at = [{(loop, w): r for loop, w, r in stacks.get(slot, ())} for slot in slots]
        for (loop, w), first in at[0].items():
            step = at[1].get((loop, w), first) - first
            if step and all(row.get((loop, w)) == first + step * r for r, row in enumerate(at)):
                found.setdefault(v, []).append((Way(loop, first, step), w))
    votes = Counter(way for some in found.values() for way in {way for way, _ in some})
    return {v: sorted(some, key=lambda choice: -votes[choice[0]]) for v, some in found.items()}
