"""A replay that follows itself.

What the last replay left is where it left it, unless somebody wrote there since: a few comparisons, each in one pass that
runs in C, tell. So nothing is looked for and nothing enters the trace.

The small arrays (biases, moments, counters, gradients) are not even made one by one: they lie end to end in one array a
dtype, go into the next run as that, and are taken apart when somebody looks at one. An array costs XLA's caller about two
microseconds on its way in and out, which is most of a small step's time.

The tensors keep their values from run to run, too. A value (`Late`) says where in a `Run` its array is; as long as nobody
else holds it and nobody looked, the run that it refers to may be done again and the value stands for what that gives. The
references are counted: a value that somebody holds, or that was looked at, is left what it is, and new ones are made.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import chain, repeat
from operator import attrgetter, is_
from typing import Any

import jax
import numpy as np

from jtorch._autograd import graph
from jtorch._runtime import executor, packs
from jtorch._runtime.avals import Aval
from jtorch._runtime.calls import Call
from jtorch._runtime.executables import How, program
from jtorch._runtime.executor import T, Value
from jtorch._runtime.fingerprint import digest, source
from jtorch._runtime.jax_internals import outside_traces
from jtorch._runtime.kernel import compiler_options
from jtorch._runtime.packs import SMALL, Layout, alone, by_dtype
from jtorch._runtime.products import options
from jtorch._runtime.programs import (
    ALONE,
    DONATE_BYTES,
    body,
    compile_apart,
    known,
    run_time_numbers,
)
from jtorch._runtime.trace import LOG, lock, path, stats
from jtorch._tensor.base import Tensor
from jtorch._tensor.fused import is_sole
from jtorch._tensor.methods import user_state
from jtorch._tensor.storage import _dirty, value_of
from jtorch.compiler._replay import ARRAYS, HELD, Replay, find, tensor, within

SEVERAL = 2  # arrays from which on a pack pays, where nothing else is done with them between the runs
LONG = 64  # operations: a longer program is not worth compiling again
PATIENCE = 32  # replays of a function in a row, after which its program is made resident
DEBT = 8  # times that packs may be made or taken apart, more often than one in four runs, before packing is given up

new = object.__new__
_assign = Tensor._value.__set__  # type: ignore[attr-defined]
_value_in = Tensor._value.__get__  # type: ignore[attr-defined]
_storage_of, _grad_of, _node_of = attrgetter("_storage"), attrgetter("_grad"), attrgetter("node")
_aliases_of, _dict_of = attrgetter("aliases"), attrgetter("__dict__")
_ONE = 1


class _Taken:
    """The array of a `Late` value, taken out of its run. What comes out of a pack is kept with the value."""

    def __get__(self, v: Any, owner: type) -> Any:
        if v is None:
            return None
        place = v.place
        if place.__class__ is int:
            return v.run.go()[place]
        v.array = found = v.run.take(*place)
        return found


class Late(Value):
    """A value that is somewhere in what a run gave: an output's number, or a pack's and the place in it."""

    __slots__ = ("place", "run")
    array: Any = _Taken()


def _late(aval: Aval, node: Any, run: Run, place: Any) -> Late:
    v = new(Late)
    v.aval, v.slot, v.node, v.run, v.place = aval, -1, node, run, place
    return v


class Run:
    """One run of a resident program. An interrupt leaves it either to be done, at the first look, or done."""

    __slots__ = ("apart", "call", "given", "resident", "results")

    def __init__(self, resident: Resident):
        self.resident = resident
        self.call: Any = None
        self.given: list = []
        self.results: deque = deque()
        self.apart: dict[int, list] = {}  # packs that were taken apart

    def begin(self, call: Call, given: list) -> None:
        """What is to be done next. What the values that refer to this run stand for is, from now on, what comes of it."""
        self.call, self.given = call, given
        self.apart.clear()
        self.results.clear()

    def go(self) -> list:
        """What the program gives, by running it if that is still to be done."""
        results = self.results
        if not results:
            with lock:
                if not results:
                    if outside_traces():
                        self.do()
                    else:
                        with jax.ensure_compile_time_eval():
                            self.do()
        return results[0]

    def do(self) -> list:
        """Runs the program. The caller holds the lock, and JAX traces nothing."""
        # Donated inputs are gone from here on: the call and the storing of what it gives are one step in C.
        self.results.extend(self.call.start(self.given))
        results = self.results[0]
        self.call.free(results)
        self.given = []
        return results

    def take(self, pack: int, at: int) -> Any:
        """An array out of a pack."""
        if pack not in self.apart:
            results = self.go()
            with lock, jax.ensure_compile_time_eval():
                self.apart[pack] = self.resident.packs[pack].take_apart(results[pack])
            self.resident.debt += 4
        return self.apart[pack][at]


class Packing(Layout):
    """A layout of which programs, on any device, make packs and take them apart."""

    __slots__ = ("_apart", "_made", "where")

    def __init__(self, avals: list[Aval]):
        super().__init__(avals)
        self.where = avals[0].device
        self._made: Any = None  # until they are compiled
        self._apart: Any = None

    def made(self, arrays: list) -> Any:
        """`join`, compiled."""
        if self._made is None:
            self._made = self._program(self.join, arrays, "join")
        return self._made(arrays)

    def take_apart(self, flat: Any) -> list:
        """`split`, compiled."""
        if self._apart is None:
            self._apart = self._program(self.split, flat, "split")
        return self._apart(flat)

    def _program(self, fn: Callable, given: Any, name: str) -> Callable:
        known = digest(name, self.shapes, source(__file__, packs.__file__))
        return program(fn, How((given,), self.where, compiler_options(self.where, True), known))[0]


class Resident:
    """A replay's program with its state: the tensors it writes, and the values that it left in them."""

    def __init__(self, replay: Replay, packing: bool = True):
        self.replay = replay
        self.debt = 0  # what making packs and taking them apart has cost, in runs that saved it
        writes = replay.writes
        sources = {id(what): slot for (kind, what), slot, *_ in replay.inputs if kind == "tensor"}
        self.moved: list[Tensor] = [place[1] for place, *_ in writes]
        self.passed = [passed for *_, passed in writes]
        moved = {id(t) for t in self.moved}
        self.kept = [t for t in replay.tensors if id(t) not in moved]  # what is read at most
        self.owners, self.graded = [t for t, _ in replay.has_grad], [not given for _, given in replay.has_grad]
        given = {id(t) for t, given in replay.has_grad if given}
        self.grad_owners = [t for t, *_ in replay.grads]
        self.attached = [id(t) in given for t in self.grad_owners]  # whether the grad of before is there when it begins
        self.values: list[Value] = []  # of what is moved
        self.nodes: list = []
        self.grads: list[Tensor] = []
        self.grad_values: list[Value] = []
        self.ours: list = []  # all of these values and grads
        self.run: Run | None = None  # what the values refer to
        # Results, in the order of the program: what is moved, then grads, then the rest.
        n = len(writes)
        self.avals = [a for _, _, a, *_ in writes] + [a for _, _, a in replay.grads]
        slots = [slot for _, slot, *_ in writes] + [slot for _, slot, _ in replay.grads]
        read = [id(t) in sources for t in self.moved]
        # What other traces read, too, has an array for itself: it would be taken out of the pack each time.
        may = [packing and value_of(t).node not in T.read for t in self.moved] + [packing for _ in replay.grads]
        small = [i for i, a in enumerate(self.avals) if may[i] and a.numel * a.dtype.itemsize <= SMALL]
        self.carried = by_dtype([i for i in small if i < n and read[i]], self.avals, SEVERAL)
        groups = self.carried + by_dtype([i for i in small if i >= n or not read[i]], self.avals, SEVERAL)
        self.packs = [Packing([self.avals[i] for i in places]) for places in groups]
        self.places: list = [None] * len(self.avals)
        for p, members in enumerate(groups):
            for k, i in enumerate(members):
                self.places[i] = (p, k)
        self.large = [i for i in range(n) if self.places[i] is None and read[i]]  # carried from run to run one by one
        # Those that are donated come first among the results of the program, in the same order: JAX goes by it.
        rest = set(self.large)
        alone = self.large + [i for i in range(len(self.avals)) if self.places[i] is None and i not in rest]
        for at, i in enumerate(alone, len(groups)):
            self.places[i] = at
        self.first_rest = len(groups) + len(alone)
        self.one = replay.result.is_one() and replay.results[0][0] == "new"  # whether a new tensor is the result
        # The steps of the results that require grad.
        lazy = [graph.freed_step(replay.freed, slot) if lazy else None for slot, _, lazy in replay.rest]
        self.lazy = lazy if any(lazy) else []
        self.lazy_outputs = [step and slot - step.slot for step, (slot, *_) in zip(lazy, replay.rest, strict=True)]
        self.sources = sources
        self.freed: list = []  # the nodes of the results, where no argument is among what they lead to
        self.leaves: dict[int, tuple] = {}  # slot -> what `T.nodes_in` has of the inputs that are state
        self._inputs(sources)
        self._compile(groups, [slots[i] for i in alone], [sources.get(id(t)) for t in self.moved], slots)

    def _inputs(self, sources: dict) -> None:
        replay = self.replay
        facts = {id(t): fact for t, fact in zip(replay.tensors, replay.known, strict=True)}
        self.kept_facts = [facts[id(t)] for t in self.kept]
        self.fixed = [(i, sources[id(t)]) for i, t in enumerate(self.kept) if id(t) in sources]  # (place, slot)
        self.taken: list[tuple[int, int]] = []  # (argument, slot)
        self.drawn: list[tuple[int, int]] = []
        self.constants: list[tuple[Any, int]] = []
        for (kind, what), slot, *_ in replay.inputs:
            if kind == "argument":
                self.taken.append((what, slot))
            elif kind == "draw":
                self.drawn.append((what, slot))
            elif kind == "constant":
                self.constants.append((what, slot))
        self.bounds = [
            (source, bounds) for (source, *_), bounds in zip(replay.inputs, replay.bounds, strict=True) if bounds
        ]

    def _compile(self, groups: list[list[int]], alone: list[int], read: list, slots: list[int]) -> None:
        replay = self.replay
        ops = [s for s in path(replay.end) if s.kernel is not None]
        self.size = len(ops)
        there = replay.numbers.keys() | {i for _, i in replay.rates}
        self.where = ops[0].kernel.out[0].device
        self.kinds, number = run_time_numbers((n for s in ops for n in s.numbers if n[1] in there), self.where)
        self.numbers, self.rates = dict(replay.numbers), []
        self.tail: list | None = None  # constants, and the numbers as arrays
        carried, packings = len(self.carried), self.packs
        single = [read[i] for i in self.large]
        single += [s for inputs in (self.fixed, self.taken, self.drawn, self.constants) for _, s in inputs]
        rest = [slot for slot, *_ in replay.rest]
        compute = body(ops, {*slots, *rest})

        def step(*given):
            env: dict = {}
            for p in range(carried):
                arrays = packings[p].split(given[p])
                env.update({read[i]: a for i, a in zip(groups[p], arrays, strict=True)})
            env.update(zip(single, given[carried:], strict=False))
            compute(env, number(given[carried + len(single) :]))
            joined = [p.join([env[slots[i]] for i in places]) for p, places in zip(packings, groups, strict=True)]
            return [*joined, *(env[slot] for slot in alone), *(env[slot] for slot in rest)]

        self.donated = tuple(at for at, i in enumerate(self.large, carried) if self._bytes(i) >= DONATE_BYTES)
        self.fn = step
        # The last inputs are the numbers, which `known` tells of.
        self.known = known(ops, carried, groups, read, single, alone, rest, slots, source(__file__))
        self.options = options(ops, self.where)
        self.plain: Call | None = None  # until they are compiled
        self.donating: Call | None = None
        self.later = Call(self._uncompiled, self.where)

    def _bytes(self, i: int) -> int:
        return self.avals[i].numel * self.avals[i].dtype.itemsize

    # ---- between the runs --------------------------------------------------------------------------------------------

    def catch(self) -> None:
        """Takes up what a replay that went the long way has left."""
        self.values = list(map(_value_in, self.moved))
        self.nodes = [v and v.node for v in self.values]
        self.storages = list(map(_storage_of, self.moved))
        self.stores = [s for s in self.storages if s is not None]
        self.alone = [(t, n) for t, s, n in zip(self.moved, self.storages, self.passed, strict=True) if s is None]
        self.shared = [(s, n) for s, n in zip(self.storages, self.passed, strict=True) if s is not None]
        # References to a value that only two lists here, its tensor and the storage hold, and the counting call; the same
        # of the grads' values, which have no storage, and of the grads, which the parameter may hold.
        values = [4 + (s is not None) for s in self.storages]
        self.counts = [*values, *(4 for _ in self.attached), *(3 + there for there in self.attached)]
        self.run, self.grads, self.grad_values, self.ours = None, [], [], []
        state = ((t, value_of(t)) for t in (*self.moved, *self.kept))
        self.freed = []
        self.leaves = {self.sources[id(t)]: (v.node, v.nr) for t, v in state if v.node and id(t) in self.sources}

    def follow(self, arguments: list[Tensor]) -> tuple[bool, Any]:
        """One more replay; whether everything is as it was left, and then the function's result."""
        replay = self.replay
        if (
            T.at is not replay.begin
            or T.observer is not None
            or self.debt > DEBT
            or not all(map(is_, map(_value_in, self.moved), self.values))
            or not all(map(is_, map(_node_of, self.values), self.nodes))
            or [t._grad is None for t in self.owners] != self.graded
            or list(map(_storage_of, self.moved)) != self.storages
            or not (all(map(_ONE.__eq__, map(len, map(_aliases_of, self.stores)))) or self._sole())
            or not replay.here()
        ):
            return False, None
        reached, bare = replay.reached, replay.bare
        arrays = []
        for t, (a, kind, graded) in zip(arguments, replay.facts, strict=True):
            v = t._value
            if v is None:
                v = value_of(t)
            node = v.node
            if (
                v.aval is not a
                or v.slot != -1
                or v.__class__ is not Value
                or v.array.__class__ not in ARRAYS
                or (node and node.kind) is not kind
                or (t._grad is not None) is not graded
                or id(t) in reached
                or (bare and user_state(t))
            ):
                return False, None
            arrays.append(executor.lent(v) if v.array.__class__ is np.ndarray else v.array)
        kept = self._kept() if self.kept else []
        if kept is None:
            return False, None
        for (kind, what), bounds in self.bounds:
            t = find(kind, what, arguments)
            if t is None or not within(value_of(t), bounds):
                return False, None
        rates = [entry.get() for entry, _ in replay.rates]
        for r in rates:
            if r.__class__ is not float:
                return False, None
        return True, self._go(arguments, arrays, kept, rates)

    def _sole(self) -> bool:
        """Whether nobody else is left in the memory of the tensors that are written."""
        return all(s is None or is_sole(t, t._value) for t, s in zip(self.moved, self.storages, strict=True))

    def _kept(self) -> list | None:
        """The arrays of the tensors that are read at most; None where one is not what it was."""
        arrays = []
        for t, (a, kind) in zip(self.kept, self.kept_facts, strict=True):
            v = value_of(t)
            if v.aval is not a or v.slot != -1 or (v.node and v.node.kind) is not kind:
                return None
        for i, _ in self.fixed:
            v = value_of(self.kept[i])
            if v.array.__class__ not in ARRAYS:
                return None
            arrays.append(executor.placed(v))
        return arrays

    def _again(self) -> bool:
        """Whether nobody holds the values, nor has looked at them, so that they may stand for what comes next."""
        return (
            self.run is not None
            and list(map(sys.getrefcount, self.ours)) == self.counts
            and not any(map(_dict_of, self.ours))
            and list(map(is_, map(_grad_of, self.grad_owners), self.grads)) == self.attached
            and all(map(is_, map(_value_in, self.grads), self.grad_values))
        )

    def _go(self, arguments: list[Tensor], arrays: list, kept: list, rates: list) -> Any:
        began = time.perf_counter()
        replay = self.replay
        if self.tail is None or not (all(map(is_, rates, self.rates)) and all(n.placed for n in self.kinds)):
            self.rates = rates
            self.numbers.update((at, rate) for (_, at), rate in zip(replay.rates, rates, strict=True))
            constants = [array for array, _ in self.constants]
            self.tail = [*constants, *[n(self.numbers) for n in self.kinds]]
        given = self._carry()
        if kept:
            given += kept
        given += [arrays[i] for i, _ in self.taken]
        if self.drawn:
            drawn = [draw().array for draw in replay.draws]
            given += [drawn[i] for i, _ in self.drawn]
        given += self.tail
        rest = [Value(a) for _, a, _ in replay.rest]
        if self.lazy:
            self._attach(rest, arguments)
        same = () if self.one else replay.same(arguments)
        if self._again():
            run: Any = self.run
            run.begin(self.plain or self.later, given)
            for t, g in zip(self.grad_owners, self.grads, strict=True):
                t._grad = g
        else:
            run = self._renew(given)
        for t, passed in self.alone:
            t._alone += passed
        for s, passed in self.shared:
            s.version += passed
        for t in replay.dropped:
            t._grad = None
        call, donate = self.plain, ()
        if self.donated and all(sys.getrefcount(given[at]) == ALONE for at in self.donated):
            call, donate = self.donating, self.donated
        if call is None:
            results = self._first(run, donate)
        else:
            run.call = call
            with lock:
                results = run.do()
        for v, array in zip(rest, results[self.first_rest :], strict=True):
            v.array = array
        del results[self.first_rest :]
        stats.syncs += 1
        stats.hot += 1
        stats.operations += self.size
        stats.run_seconds += time.perf_counter() - began
        if self.one:
            return tensor(rest[0])
        tensors = map(tensor, rest)
        return replay.result.build([next(tensors) if t is None else t for t in same])

    def _attach(self, rest: list[Value], arguments: list[Tensor]) -> None:
        """Gives results the nodes of the graph that a backward in the function has freed. It was in no trace of `T`'s."""
        more = {slot: (v.node, v.nr) for i, slot in self.taken if (v := value_of(arguments[i])).node is not None}
        nodes = self._nodes(self.leaves | more) if more or not self.freed else self.freed
        for v, node, nr in zip(rest, nodes, self.lazy_outputs, strict=True):
            v.node = node
            if nr:
                v.nr = nr
        self.freed = [] if more else nodes

    def _nodes(self, inputs: dict[int, tuple]) -> list:
        family: dict = {}
        for step in self.lazy:
            if step is not None and step not in family:
                family[step] = graph.FreedNode(step, family, inputs, self.replay.numbers)
        return [step and family[step] for step in self.lazy]

    def _how(self, given: Sequence, donate: tuple[int, ...] = ()) -> How:
        return How(given, self.where, self.options, self.known, donate)

    def _uncompiled(self, *given: Any) -> list:
        """What stands for the program in a run that is looked at before it is compiled, as after an interrupt."""
        return compile_apart(self.fn, self._how(given)).jax(*given)

    def _first(self, run: Run, donate: tuple[int, ...]) -> list:
        """Runs a program that is to be compiled first."""
        began = time.perf_counter()
        run.call = call = compile_apart(self.fn, self._how(list(map(alone, run.given)), donate))
        if donate:
            self.donating = call
        else:
            self.plain = call
        results = run.go()
        seconds = time.perf_counter() - began
        stats.hot_programs += 1
        stats.compiles += 1
        stats.compile_seconds += seconds
        if "recompiles" in LOG:
            name = f"{self.size} operations with the state that they leave"
            print(f"jtorch: compiled {name} in {seconds:.2f} s: replayed {PATIENCE} times in a row", file=sys.stderr)
        return results

    def _carry(self) -> list:
        """The packs that go into the next run, and what goes in beside them."""
        if self.run is not None:
            results = self.run.go()
            if self.debt:
                self.debt -= 1
            n = len(self.packs)
            given = results[: len(self.carried)]
            return given + results[n : n + len(self.large)] if self.large else given
        values = self.values
        given = [
            pack.made([executor.placed(values[i]) for i in places])
            for pack, places in zip(self.packs, self.carried, strict=False)
        ]
        self.debt += 4 if given else 0
        return given + [values[i].array for i in self.large]

    def _renew(self, given: list) -> Run:
        """A run with values of its own, which are put in place of those that were there."""
        olds, n = self.values, len(self.moved)
        run = Run(self)
        run.begin(self.plain or self.later, given)
        fresh: list[Value] = list(map(_late, self.avals, chain(self.nodes, repeat(None)), repeat(run), self.places))
        self.values, self.run = fresh[:n], run
        self.grad_values = fresh[n:]
        self.grads = list(map(tensor, self.grad_values))
        self.ours = [*fresh, *self.grads]
        # One C call: no signal handler comes between two of its assignments.
        deque(map(_assign, self.moved, fresh), maxlen=0)
        for s, v in zip(self.storages, fresh, strict=False):
            if s is not None:
                s.value = v
        if any(map(HELD.__lt__, map(sys.getrefcount, olds))):
            for t, old in zip(self.moved, olds, strict=True):
                _dirty(old, t, marked=False)  # a backward may have kept it
        for t, g in zip(self.grad_owners, self.grads, strict=True):
            t._grad = g
        return run


def resident(replay: Replay, packing: bool = True) -> Resident | None:
    """The resident form of a replay, where it has one."""
    kinds = {source[0] for source, *_ in replay.inputs}
    if (
        not replay.ends
        or replay.standing
        or replay.entries
        or replay.dirty
        or kinds - {"tensor", "argument", "draw", "constant"}
        or any(place[0] != "tensor" for place, *_ in replay.writes)
        or not (replay.writes or replay.grads)
        or sum(s.kernel is not None for s in path(replay.end)) > LONG
    ):
        return None
    return Resident(replay, packing)
