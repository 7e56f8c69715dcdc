"""Replaying a compiled function: from the place in the trace where its call began straight to where it ended.

A `Replay` is made of one watched call. It knows where each input of the trace came from (an argument, a place in the
state, a draw of random numbers, a constant the function made) and where each result went. To replay, it checks its
guards, puts the inputs into the trace, moves the trace to its end, and writes the results back. Nothing else of the
function runs.
"""

from __future__ import annotations

import gc
import operator
import sys
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from jtorch._autograd import graph
from jtorch._autograd.graph import Modified
from jtorch._runtime import devices, dtypes, executor, generator
from jtorch._runtime.avals import Aval
from jtorch._runtime.executor import ARRAYS, LAZY, Step, T, Value
from jtorch._tensor.at_hand import span_of
from jtorch._tensor.base import Tensor
from jtorch._tensor.fused import is_sole
from jtorch._tensor.methods import user_state
from jtorch._tensor.storage import _dirty, value_of, version_of
from jtorch.compiler._guard import guard
from jtorch.compiler._state import Entry, Opaque, State
from jtorch.compiler._tree import Tree, containers
from jtorch.nn import Module
from jtorch.optim import optimizer

_assign = Tensor._value.__set__  # type: ignore[attr-defined]
new = object.__new__
ref = executor.ref


def ambient() -> tuple:
    """The settings that decide what an operation does."""
    return (
        T.modes, T.eager, dtypes.get_default_dtype(), devices.default(), len(graph.saved_hooks), graph.anomaly.on,
        graph.leaves_hooked, Module._hooked, optimizer.hooked(),
    )  # fmt: skip


class Recording:
    """One call of a function, watched for what it takes in and what becomes of its results."""

    def __init__(self, state: State, arguments: list[Tensor]):
        self.state = state
        self.arguments = arguments
        self.ambient = ambient()
        self.held = list({id(t): t for t in (*arguments, *state.tensors)}.values())
        for t in self.held:
            value_of(t)  # a tensor written through another is brought up to date
        self.values = [t._value for t in self.held]
        self.versions = [version_of(t) for t in self.held]
        self.grads = [t._grad for t in self.held]
        # What Python may ask of a tensor and hang on, whether its numbers are used or not.
        self.facts = [
            (v.aval, v.node and v.node.kind, g is not None) for v, g in zip(self.values, self.grads, strict=True)
        ]
        self.at, self.epoch = T.at, T.epoch
        self.freed = len(T.freed)
        self.nodes = len(T.nodes)
        self.dirty = dict(T.dirty)
        self.looks = generator.looks[0]
        self.stray = False  # whether random numbers were drawn that are not among `draws`
        self.bounds: list[tuple[Value, int, int]] = []  # what index tensors were found to be within
        self.rates: dict[int, Entry] = {}
        self.made: list[Value] = []
        self.draws: list[tuple[Value, Callable[[], Value]]] = []

    def replay(self, result, breaks: int) -> Replay:
        """What was learnt; `Opaque` where it is not all."""
        if self.stray:
            raise Opaque("it draws random numbers that hang on values")
        if generator.looks[0] != self.looks:
            raise Opaque("it sets or saves the state of a random stream")
        if T.epoch is not self.epoch or T.at is executor.BUSY or breaks:
            raise Opaque("it needs a value in its middle")
        if self.ambient != ambient():
            raise Opaque("it changes a setting such as the grad mode")
        if T.observed or len(T.nodes) != self.nodes or T.eager:
            raise Opaque("its graph is looked at")
        made = Replay(self.at, T.at)
        made.ambient = self.ambient
        self.changes = self.state.changes()
        self.moving = {id(before): entry for entry, before, _ in self.changes if isinstance(before, Tensor)}
        grads = {id(g) for g in self.grads if g is not None}
        made.tensors = [t for t in self.held if not self._is_argument(t) and id(t) not in grads]
        made.reached = frozenset(map(id, made.tensors))
        facts = dict(zip(map(id, self.held), self.facts, strict=True))
        made.facts = [facts[id(t)] for t in self.arguments]
        made.known = [facts[id(t)][:2] for t in made.tensors]
        self._inputs(made)
        self._outputs(made, result)
        made.freed = T.freed[self.freed :]
        made.device = T.device
        return made

    def release(self) -> None:
        """Lets go of the values that were there before the call."""
        self.values, self.grads, self.made, self.draws, self.bounds = [], [], [], [], []
        self.held, self.arguments, self.changes, self.moving = [], [], [], {}

    def _steps(self) -> list[Step]:
        steps: list[Step] = []
        at: Any = T.at
        while at is not self.at:
            steps.append(at)
            at = at.parent
        return steps[::-1]

    # ---- inputs ------------------------------------------------------------------------------------------------------

    def _inputs(self, made: Replay) -> None:
        source: dict[int, Any] = {}
        arguments = {id(t): i for i, t in enumerate(self.arguments)}
        grads = {id(t._grad): t for t in self.held if t._grad is not None}
        for t, g in zip(self.held, self.grads, strict=True):
            if g is not None:
                grads[id(g)] = t
        for t, v in zip(self.held, self.values, strict=True):
            if id(v) in source:
                source[id(v)] = None  # two tensors of one value: nothing tells which was meant
            elif id(t) in arguments:
                source[id(v)] = ("argument", arguments[id(t)])
            elif id(t) in self.moving:
                source[id(v)] = ("entry", self.moving[id(t)])
            elif id(t) in grads:
                owner = grads[id(t)]
                source[id(v)] = None if self._is_argument(owner) else ("grad", owner)
            else:
                source[id(v)] = ("tensor", t)
        fresh = {id(v) for v in self.made}
        drawn = {id(v): draw for v, draw in self.draws}
        steps = self._steps()
        used = {i for s in steps for i in s.ins}
        begin = self.at.end
        by_slot = {v.slot: v for v in self.values if 0 <= v.slot < begin}
        for slot in sorted(i for i in used if i < begin):  # what was in the trace before the call
            v = by_slot.get(slot)
            found = source.get(id(v)) if v is not None else None
            if found is None:
                raise Opaque("it uses a tensor that jtorch cannot find again")
            made.standing.append((found, slot))
        for s in steps:
            if s.kind == "in":
                made.inputs.append((self._source(s, source, fresh, drawn), s.slot, s.aval, s.node and s.node.kind))
                made.bounds.append([b[1:] for b in self.bounds if b[0] is T.entered[s.slot]()])
        if len(drawn) != sum(kind == "draw" for (kind, _), *_ in made.inputs):
            raise Opaque("it draws random numbers that its results do not hang on")
        read = {id(t) for (kind, what), *_ in made.inputs if (t := find(kind, what, self.arguments)) is not None}
        grads = {id(g) for g in self.grads if g is not None}
        made.aside = [
            (self._place(t), aval, node)
            for t, (aval, node, _) in zip(self.held, self.facts, strict=True)
            if id(t) not in read and id(t) not in grads
        ]
        made.bare = self.state.every
        made.draws = [draw for _, draw in self.draws]
        place = {id(v): i for i, (v, _) in enumerate(self.draws)}
        made.inputs = [
            ((kind, place[id(what)]) if kind == "draw" else (kind, what), *facts)
            for (kind, what), *facts in made.inputs
        ]
        first, last = self.at.end * executor.NUMBERS, T.at.end * executor.NUMBERS
        for i, n in T.numbers.items():
            if first <= i < last:
                rate = self.rates.get(id(n))
                if rate is not None:
                    made.rates.append((rate, i))
                else:
                    made.numbers[i] = n

    def _source(self, step: Step, source, fresh, drawn):
        r = T.entered.get(step.slot)
        v = r() if r is not None else None
        if v is None:
            raise Opaque("it uses a tensor that is gone")
        found = source.get(id(v))
        if found is not None:
            return found
        if id(v) in drawn:
            return ("draw", v)
        if id(v) in fresh and v.node is None:
            return ("constant", executor.placed(v))
        raise Opaque("it uses a tensor that jtorch cannot find again")

    # ---- outputs -----------------------------------------------------------------------------------------------------

    def _outputs(self, made: Replay, result) -> None:
        covered: set[int] = set()
        for t, before, version in zip(self.held, self.values, self.versions, strict=True):
            v = t._value
            if v is before:
                continue
            if v is None or any(t is g for g in self.grads) and not any(t is u._grad for u in self.held):
                continue  # a grad that was dropped
            self._pending(v, covered)
            if not (t._storage is None or is_sole(t, v)):
                raise Opaque("it writes to a tensor that shares its memory")
            node = v.node
            if node is not None and node.kind != 1:
                raise Opaque("it writes to a tensor as a part of the graph")
            made.writes.append((self._place(t), v.slot, v.aval, node is not None, version_of(t) - version))
        held = {id(t) for t in self.held}
        for t, g in zip(self.held, self.grads, strict=True):
            now = t._grad
            if now is g:
                continue
            if self._is_argument(t):
                raise Opaque("it changes the grad of an argument")
            if now is None:
                made.dropped.append(t)
                continue
            if id(now) in held or type(now) is not Tensor or now._storage is not None or now._value.node is not None:
                raise Opaque("a grad is a tensor of the user's own")
            self._pending(now._value, covered)
            made.grads.append((t, now._value.slot, now._value.aval))
        made.has_grad = [
            (t, g is not None) for t, g in zip(self.held, self.grads, strict=True) if id(t) in made.reached
        ]
        but: set[tuple[int, Any]] = set()
        for entry, before, now in self.changes:
            if not (isinstance(before, Tensor) and isinstance(now, Tensor)) or id(now) in held:
                raise Opaque(f"it changes Python state ({entry.key!r})")
            self._fresh(now, covered)
            made.entries.append(entry)
            made.rest.append((now._value.slot, now._value.aval, now._value.node is not None))
            but.add((id(entry.container), entry.key))
        made.placed = [(entry, type(before)) for entry, before, _ in self.changes]
        for rate, _ in made.rates:
            but.add((id(rate.container), rate.key))
        made.guard = guard(self.state, but)
        made.result = Tree.of(result)
        if any(not self.state.reached(x) for x in made.result.others):
            raise Opaque("it gives an object of its own")
        given = {id(x) for x, _ in self.state.given}
        if any(id(x) in given or self.state.reached(x) for x in containers(result)):
            raise Opaque("it gives a container that was there already")
        if len({id(t) for t in made.result.leaves}) != len(made.result.leaves):
            raise Opaque("it gives a tensor twice")
        numbers = {id(t): i for i, t in enumerate(self.held)}
        for t in made.result.leaves:
            if id(t) in numbers:
                made.results.append(("same", self._place(t)))
            else:
                self._fresh(t, covered)
                made.results.append(("new", None))
                made.rest.append((t._value.slot, t._value.aval, t._value.node is not None))
        made.result.leaves = []
        made.slots = [w[1] for w in made.writes] + [g[1] for g in made.grads] + [r[0] for r in made.rest]
        self._all_seen(covered)
        if any(lazy and not any(slot in f for f in T.freed[self.freed :]) for slot, _, lazy in made.rest):
            made.goes_on = True
            # The graph goes on: what is known of in-place writes has to be known again.
            made.dirty = [
                (slot, graph.word_at(slot)) for slot, word in T.dirty.items() if word is not self.dirty.get(slot)
            ]

    def _is_argument(self, t) -> bool:
        return any(t is a for a in self.arguments)

    def _place(self, t: Tensor):
        for i, a in enumerate(self.arguments):
            if a is t:
                return ("argument", i)
        if id(t) in self.moving:
            return ("entry", self.moving[id(t)])
        for u in self.held:
            if u._grad is t:
                if self._is_argument(u):
                    raise Opaque("it changes the grad of an argument")
                return ("grad", u)
        return ("tensor", t)

    def _fresh(self, t: Tensor, covered: set[int]) -> None:
        if type(t) is not Tensor or t._base is not None or t._grad is not None:
            raise Opaque("it gives a tensor that is a view or a parameter")
        v = value_of(t)
        s = t._storage
        if s is not None:
            if not is_sole(t, v):
                raise Opaque("it gives a tensor that shares its memory")
            t._alone, t._storage = s.version, None  # nobody else is left that shares it
        if v.node is not None and v.node is not LAZY:
            raise Opaque("it gives a tensor whose graph is looked at")
        self._pending(v, covered)

    def _pending(self, v: Value, covered: set[int]) -> None:
        if v.array is not None or v.slot < self.at.end:
            raise Opaque("it gives a tensor that it did not compute")
        covered.add(v.slot)

    def _all_seen(self, covered: set[int]) -> None:
        """Every pending result that somebody holds has to be one that is written back."""
        for last in (False, True):
            rest = [v for v in executor.held() if v.slot >= self.at.end and v.slot not in covered]
            if not rest:
                return
            if not last:
                gc.collect()
        raise Opaque("it keeps a tensor where jtorch cannot find it")


class Replay:
    """From `begin` to `end` in the trace, without running the function."""

    __slots__ = (
        "again", "ambient", "aside", "bare", "begin", "bounds", "device", "dirty", "draws", "dropped", "end", "ends", "entries", "facts", "freed", "goes_on", "grads",
        "guard", "has_grad", "inputs", "known", "numbers", "others", "placed", "rates", "reached", "resident", "rest", "result", "results", "slots",
        "standing", "tensors", "writes",
    )  # fmt: skip

    def __init__(self, begin: Step, end: Step):
        self.begin, self.end = begin, end
        self.again = 0  # how often it was run, none of another in between
        self.resident: Any = None  # its form for following itself; False where there is none
        self.facts: list[tuple] = []  # of the arguments: aval, kind of the node, whether there is a grad
        self.known: list[tuple[Aval, Any]] = []  # of `tensors`
        self.aside: list = []  # (place, aval, kind of the node) of the tensors whose numbers are not used
        self.bare = False  # whether something put on an argument might be looked at
        self.ends = False  # nothing goes on from here: the trace is run at once
        self.inputs: list = []  # (source, slot, aval, kind of its node) of what enters the trace
        self.bounds: list[list] = []  # of each of them: what its values are within, where they were looked at
        self.others: list = []  # the arguments that count by identity: held, so that no other object can take it over
        self.standing: list = []  # (source, slot) of what is in it already
        self.draws: list[Callable[[], Value]] = []
        self.numbers: dict = {}
        self.rates: list[tuple[Entry, int]] = []  # numbers that are looked up anew: learning rates
        self.writes: list = []  # (place, slot, aval, whether a leaf, versions passed)
        self.grads: list[tuple[Tensor, int, Aval]] = []
        self.dropped: list[Tensor] = []  # whose grad goes
        self.rest: list[tuple[int, Aval, bool]] = []  # (slot, aval, requires grad) of the new tensors that follow
        self.entries: list[Entry] = []  # where the first of them are put
        self.placed: list[tuple[Entry, type]] = []
        self.goes_on = False  # a result's graph is not freed yet
        self.results: list = []
        self.tensors: list[Tensor] = []  # what the function reaches by itself, and their ids
        self.reached: frozenset[int] = frozenset()
        self.slots: list[int] = []  # of the writes, the grads and the rest
        self.dirty: list[tuple[int, Modified]] = []
        self.result: Any = None
        self.guard: Callable[[], bool] = bool  # whether Python's state is as it was

    def here(self) -> bool:
        """Whether the settings and Python's state are as they were."""
        return ambient() == self.ambient and self.guard()

    def run(self, arguments: list[Tensor]) -> tuple[bool, Any]:
        """Whether everything is as it was, and then the function's result."""
        if not self.here() or not self.reached.isdisjoint(map(id, arguments)):
            return False, None
        for t, (_, _, given) in zip(arguments, self.facts, strict=True):
            if (t._grad is not None) is not given or (self.bare and user_state(t)):
                return False, None
        for t, given in self.has_grad:
            if (t._grad is not None) is not given:
                return False, None
        for entry, before in self.placed:
            if type(entry.get()) is not before:
                return False, None
        for (kind, what), a, node in self.aside:
            t = find(kind, what, arguments)
            if t is None or (v := value_of(t)).aval is not a or (v.node and v.node.kind) is not node:
                return False, None
        values = self._gather(arguments)
        if values is None:
            return False, None
        targets = self._targets(arguments)
        if targets is None:
            return False, None
        rates = [entry.get() for entry, _ in self.rates]
        if not all(type(r) is float for r in rates) or T.at is not self.begin:
            return False, None
        drawn = [draw() for draw in self.draws]
        return True, self._go(arguments, values, drawn, targets, rates)

    def same(self, arguments) -> list[Tensor | None]:
        """For each result the tensor that was there already, None for a new one."""
        return [find(what[0], what[1], arguments) if kind == "same" else None for kind, what in self.results]

    def _gather(self, arguments) -> list[Value | None] | None:
        """The values of the inputs, None for what is a draw or a constant; None where one is not what it was."""
        for (kind, what), slot in self.standing:
            t = find(kind, what, arguments)
            if t is None or t._value is None or t._value.slot != slot:
                return None
        values: list[Value | None] = []
        for ((kind, what), _, a, node), bounds in zip(self.inputs, self.bounds, strict=True):
            if kind in ("draw", "constant"):
                values.append(None)
                continue
            t = find(kind, what, arguments)
            if t is None:
                return None
            v = value_of(t)
            if v.aval is not a or v.slot != -1 or type(v.array) not in ARRAYS or (v.node and v.node.kind) is not node:
                return None
            if bounds and not within(v, bounds):
                return None  # Python runs, and says what is wrong
            values.append(v)
        real = [id(v) for v in values if v is not None]
        return values if len(set(real)) == len(real) else None

    def _targets(self, arguments) -> list[Tensor] | None:
        targets = []
        for (kind, what), _, a, leaf, _ in self.writes:
            t = what if kind == "tensor" else find(kind, what, arguments)
            if t is None:
                return None
            v = value_of(t)
            if v.aval is not a or (v.node is not None) is not leaf or not (t._storage is None or is_sole(t, v)):
                return None
            targets.append(t)
        return targets

    def _go(self, arguments, values, drawn, targets, rates):
        results = self.same(arguments)
        arrays, ends = T.arrays, self.ends
        for (source, slot, *_), v in zip(self.inputs, values, strict=True):
            if v is None:
                if source[0] == "constant":
                    arrays[slot] = source[1]
                    continue
                v = drawn[source[1]]
            elif v.node is not None:
                T.nodes_in[slot] = v.node, v.nr
            arrays[slot] = executor.lent(v) if type(v.array) is np.ndarray else v.array
            if not ends:
                T.entered[slot] = ref(v)
        T.numbers.update(self.numbers)
        for (_, i), rate in zip(self.rates, rates, strict=True):
            T.numbers[i] = rate
        T.device = self.device
        for slot, word in self.dirty:
            T.dirty[slot] = word.again(T.epoch)
        # A trace that ends here is run at once: no value is ever in it, what is computed is handed over.
        fresh = [
            Value(a, -1 if ends else slot, t._value.node if leaf else None)
            for t, (_, slot, a, leaf, _) in zip(targets, self.writes, strict=True)
        ]
        grads = [Value(a, -1 if ends else slot) for _, slot, a in self.grads]
        rest = [Value(a, -1 if ends else slot, LAZY if lazy else None) for slot, a, lazy in self.rest]
        out = fresh + grads + rest
        if ends:
            # What `flush` would find out: the results that are held, and the nodes of those whose graph was freed.
            for v, (slot, _, lazy) in zip(rest, self.rest, strict=True):
                if lazy:
                    v.node = graph.freed_node(self.freed, slot)
                    v.nr = slot - graph.freed_step(self.freed, slot).slot
            slots, live = zip(*sorted(zip(self.slots, out, strict=True), key=_first), strict=True) if out else ((), ())
            T.pending = self.end, slots, live
            T.at = executor.BUSY
        else:
            for v in out:
                T.made[v.slot] = v
            for v, (_, slot, _, leaf, _) in zip(fresh, self.writes, strict=True):
                if leaf:
                    T.nodes_in[slot] = v.node, 0
            T.at = self.end  # from here on the operations are in the trace
            T.freed.extend(self.freed)
            for (_, slot, *_), v in zip(self.inputs, values, strict=True):
                if v is not None:
                    v.slot = slot
                    if self.dirty and slot in T.dirty:
                        v.dirty = graph.word_at(slot)
        olds = [t._value for t in targets]
        values.clear()
        # One C call: no signal handler comes between two of its assignments.
        deque(map(_assign, targets, fresh), maxlen=0)
        for t, v in zip(targets, fresh, strict=True):
            if t._storage is not None:
                t._storage.value = v
        if any(map(HELD.__lt__, map(sys.getrefcount, olds))):
            for t, old in zip(targets, olds, strict=True):
                _dirty(old, t, marked=False)  # a backward may have kept it
        for t, (_, _, _, _, passed) in zip(targets, self.writes, strict=True):
            if t._storage is None:
                t._alone += passed
            else:
                t._storage.version += passed
        for t in self.dropped:
            t._grad = None
        for (t, _, _), v in zip(self.grads, grads, strict=True):
            t._grad = tensor(v)
        tensors = iter([tensor(v) for v in rest])
        for entry in self.entries:
            entry.set(next(tensors))
        return self.result.build([next(tensors) if t is None else t for t in results])


_first = operator.itemgetter(0)
HELD = 2  # references to a value that only a list of old ones holds: its own, and the counting call's


def within(v: Value, bounds: list[tuple[int, int]]) -> bool:
    """Whether the elements of an index tensor are known to be where a call found them to be."""
    found = span_of(v)
    return found is not None and all(found[0] >= low and found[1] < high for low, high in bounds)


def tensor(v: Value) -> Tensor:
    """A tensor of a value."""
    t = new(Tensor)
    t._value = v
    return t


def find(kind: str, what, arguments) -> Tensor | None:
    """The tensor at a place: an argument, an entry of a container, a grad, or a tensor itself; None where there is none."""
    if kind == "argument":
        return arguments[what]
    if kind == "grad":
        return what._grad
    if kind == "entry":
        return what.get()
    return what
