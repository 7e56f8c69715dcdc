"""How a trace runs: kernel by kernel while it is new, as one compiled program once it is met again."""

from __future__ import annotations

import functools
import operator
import sys
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import chain, starmap
from typing import Any

import jax
import numpy as np

from jtorch._runtime import devices, fusing, looping, loops, packs, repeats, sums
from jtorch._runtime.background import Job, worthwhile
from jtorch._runtime.calls import Call, getter
from jtorch._runtime.donation import heirs
from jtorch._runtime.executables import How, find, program
from jtorch._runtime.fingerprint import digest, source
from jtorch._runtime.heap import trim
from jtorch._runtime.jax_internals import direct, put
from jtorch._runtime.looping import Given
from jtorch._runtime.loops import Loop
from jtorch._runtime.packs import Carrier, Part, carriers
from jtorch._runtime.products import options
from jtorch._runtime.reasons import why
from jtorch._runtime.trace import HOT, LOG, Step, T, path, stats

DONATE_BYTES = 1 << 16  # XLA copies a donated input that it also reads late: below this, that costs more than it saves
# Bytes that a trace computes, up to which it has packs. What they save is nothing beside more work than that, and programs
# take longer to compile with them: what XLA finds equal in equal layers, and compiles once, differs when it lies in
# different places of a pack (GPT 3.5 s and 6.7, ResNet-20 4.9 and 7.8).
PACKED_WORK = 1 << 23
ALONE = 2  # references to an array that only the trace holds: its own, and the counting call's


class Plan:
    """How to run the trace that ends at a step, for the values that are held: cold at first, then as one program."""

    __slots__ = ("carried", "cold", "coming", "donating", "end", "plain", "size", "slots", "visits")

    def __init__(self, end: Step, slots: tuple[int, ...]):
        self.end, self.slots = end, slots
        self.carried = _carried()
        self.visits = 0
        self.size = sum(s.kernel is not None for s in path(end))
        self.cold: ColdProgram | None = None
        self.coming: tuple[Job, HotProgram] | None = None  # while that is compiled the cold one goes on
        self.plain: HotProgram | None = None
        self.donating: HotProgram | None = None

    def program(self, arrays: dict):
        """The program for this visit. One that takes inputs' memory is used only when nobody else holds them."""
        self.visits += 1
        coming = self.coming
        if coming is not None:
            self.coming = None  # if there is an error, the next visit begins anew
            job, hot = coming
            if job.done():
                self._has(hot)
            else:
                self.coming = coming
        donating = self.donating
        if donating is not None and all(sys.getrefcount(arrays[slot]) == ALONE for slot in donating.donated):
            return donating
        if self.plain is not None:
            return self.plain
        if self.cold is None:
            self.cold = ColdProgram([s for s in path(self.end) if s.kernel is not None], self.slots)
        if self.visits < T.patience or len(self.cold.steps) < 2 or self.coming is not None:
            return self.cold
        pairs = [] if donating else self._donations(arrays)
        hot = HotProgram(self.end, self.slots, pairs, self.visits, self.carried)
        if T.patience == HOT and T.observer is None and worthwhile(hot.where, self.size) and not hot.find():
            job = Job(hot.make)
            job.done()
            self.coming = job, hot
            self.cold.brief = True
            return self.cold
        self._has(hot)
        return hot

    def _has(self, hot: HotProgram) -> None:
        if hot.donated:
            self.donating = hot
        else:
            self.plain = hot

    def _donations(self, arrays: dict) -> list[tuple[int, int]]:
        """Inputs that nobody else holds, each with the result that takes its memory."""
        steps = path(self.end)
        outs = {slot: a for s in steps for slot, (a, _) in enumerate(s.outs, s.slot)}
        free: dict = {}  # shape and dtype -> results that have no memory yet
        for slot in self.slots:
            free.setdefault((outs[slot].shape, outs[slot].dtype), []).append(slot)
        given = []
        for slot in arrays:
            a = outs.get(slot)
            if a is None or a.numel * a.dtype.itemsize < DONATE_BYTES or (a.shape, a.dtype) not in free:
                continue
            if sys.getrefcount(arrays[slot]) == ALONE:
                given.append(slot)
        pairs = heirs(steps, given, self.slots)
        for i, o in pairs:
            free[outs[i].shape, outs[i].dtype].remove(o)
        for i in given:
            left = free[outs[i].shape, outs[i].dtype]
            if left and all(i != j for j, _ in pairs):
                pairs.append((i, left.pop(0)))
        return pairs


def _carried() -> list[tuple[int, int]]:
    """The values of this trace that were written over, and the values that took their place, by slot."""
    words = {id(word): word for word in T.dirty.values() if hasattr(word, "fresh")}.values()
    return [(old, new.slot) for word in words for old, new in zip(word.slots, word.fresh, strict=True)]


class ColdProgram:
    """A trace run kernel by kernel, each value dropped after its last use."""

    __slots__ = ("brief", "last", "slots", "steps")
    spread = list

    def __init__(self, steps: list[Step], slots: tuple[int, ...]):
        self.steps, self.slots = steps, slots
        self.brief = False  # a compiled program is on its way: no kernel is compiled anew for speed
        self.last: dict[int, int] = {}
        for place, s in enumerate(steps):
            for i in s.ins:
                self.last[i] = place
        for i in slots:
            self.last[i] = len(steps)

    def prepare(self, arrays, numbers):
        where = devices.to_jax(self.steps[0].kernel.out[0].device)
        alone = {i: a[0].placed(a[1]) if type(a) is Part else a for i, a in arrays.items()}
        return {i: put(a, where) if type(a) is np.ndarray else a for i, a in alone.items()}, numbers

    def start(self, arrays, numbers):
        """An iterator that runs the trace when it is asked for its only element."""
        return starmap(self.call, (self.prepare(arrays, numbers),))

    def ran(self, results):
        stats.cold += 1

    def call(self, env, numbers):
        last = self.last
        for place, s in enumerate(self.steps):
            args = [env[i] for i in s.ins]
            args += [np.float64(numbers[i]) if k == "f" else np.int64(numbers[i]) for k, i in s.numbers]
            if T.observer is not None:
                results = T.observer.kernel(s.kernel, args)
            else:
                results = ((self.brief and s.kernel.ready) or s.kernel.run)(*args)
            for slot, r in enumerate(results, s.slot):
                env[slot] = r
            for i in s.ins:
                if last[i] == place:
                    env.pop(i, None)
        return [env[i] for i in self.slots]


def _with_backwards(ops: list[Step]) -> dict[Step, Step]:
    """The operations with a loop whose backward is in the same trace, each with that."""
    found: dict[Step, Step] = {}
    for b in ops:
        if b.kernel.shares is None:
            continue
        kernel, _, _, kept = b.kernel.shares
        for f in ops:
            same = f.kernel is kernel and f.numbers == b.numbers and tuple(f.ins[i] for i in kept) == b.ins[: len(kept)]
            if same and f not in found:
                found[f] = b
                break
    return found


def body(ops: list[Step], wanted: Collection[int]) -> Callable[[dict, Given], None]:
    """What a compiled trace computes: given the inputs by slot, and the run-time numbers, adds the results that are wanted."""

    def compute(env: dict, number: Given) -> None:
        backwards = _with_backwards(ops)
        forwards = {b: f for f, b in backwards.items()}
        where = ops[0].kernel.out[0].device
        # Barriers that are kept to the end are an option of XLA for the CPU (see `kernel._HOT`).
        apart = fusing.kept(ops) if where is devices.CPU else set()
        found: dict[int, Loop] = {}
        if where is devices.CPU and devices.is_only(where):  # elsewhere it was not measured
            found = loops.loops(ops, backwards.keys() | forwards.keys(), wanted)
        pulls: dict = {}
        running = looping.Looping(env, number)
        until = 0
        for at, s in enumerate(ops):
            if at in found:
                running.run(found[at])
                until = found[at].one.rounds.stop
            if at < until:
                continue
            args = [env[i] for i in s.ins]
            numbers = [number(n) for n in s.numbers]
            with jax.named_scope(loops.scope(at)):
                if s in backwards:
                    results, pulls[s] = s.kernel.with_pull(*backwards[s].kernel.shares[1:3], args, numbers)
                elif s in forwards:
                    results = pulls.pop(forwards[s])(args[len(s.kernel.shares[3]) :])
                else:
                    results = s.kernel.fn(*args, *numbers)
                if s in apart:
                    results = jax.lax.optimization_barrier(results)
            env.update(enumerate(results, s.slot))

    return compute


# The code that says how a program is put together of kernels, besides this file.
_MADE_BY = tuple(str(module.__file__) for module in (fusing, repeats, loops, sums, looping, packs))


def known(ops: list[Step], *beside: Any) -> str | None:
    """What tells a trace's program from any other; `beside` is what is done with the results of `body`."""
    kernels = [s.kernel.known for s in ops]
    if None in kernels:
        return None
    wires = [(s.ins, s.numbers, s.slot) for s in ops]
    return digest(kernels, wires, beside, source(__file__, *_MADE_BY))


def compile_apart(fn: Callable, how: How) -> Call:
    """`program`, called by the flat sequence of its arguments.

    Compiling is apart from the first run so that neither takes memory beside what the other left free.
    """
    trim()
    call, compiled = program(fn, how)
    trim()
    return Call(call, how.where, compiled, len(how.args))


class Numbers:
    """The run-time numbers of one kind that a program takes, as one array.

    Where they are the very objects of the last run, which most are, the array on the device is that of the last run, too.
    """

    __slots__ = ("array", "dtype", "get", "last", "n", "placed", "where")

    def __init__(self, keys: list[int], dtype, where: devices.device):
        self.get, self.n, self.dtype, self.where = getter(keys), len(keys), dtype, where
        self.last: tuple = ()
        self.array: Any = None
        self.placed = False

    @property
    def struct(self) -> Any:
        """The shape and dtype of the array."""
        return jax.ShapeDtypeStruct((self.n,), self.dtype)

    def __call__(self, numbers: dict) -> Any:
        found = self.get(numbers)
        if len(found) != len(self.last) or not all(map(operator.is_, found, self.last)):
            # Beside arrays that may be spread over several devices, one that is on none goes with them.
            self.last, self.array, self.placed = found, np.array(found, self.dtype), not devices.is_only(self.where)
        elif not self.placed:
            self.array, self.placed = put(self.array, devices.to_jax(self.where)), True
        return self.array


def run_time_numbers(
    places: Iterable[tuple[str, int]], where: devices.device
) -> tuple[list[Numbers], Callable[[Sequence], Given]]:
    """The numbers of a program, by kind and place, and what makes of their arrays in it what `body` takes."""
    made, at = [], {}
    wanted = sorted(set(places))
    for kind, dtype in (("f", np.float64), ("i", np.int64)):
        keys = [i for k, i in wanted if k == kind]
        at.update({(kind, i): (len(made), n) for n, i in enumerate(keys)})
        if keys:
            made.append(Numbers(keys, dtype, where))

    return made, lambda arrays: Given(arrays, at)


def _work(ops: list[Step]) -> int:
    """The bytes of all that a trace computes."""
    return sum(a.numel * a.dtype.itemsize for s in ops for a, _ in s.outs)


def _packs(
    avals: dict[int, Any], inputs: set[int], results: list[int], carried: list[tuple[int, int]]
) -> list[Carrier]:
    """The packs of this trace. What other traces read, too, is in none: it would be taken out of it each time."""
    leaves = {i: node for i, (node, _) in T.nodes_in.items() if i in inputs and node.kind == 1}
    shared = {new for old, new in carried if leaves.get(old) in T.read}
    moving = {new: old for old, new in carried if old in inputs}
    T.read.update(leaves[i] for i in leaves.keys() - {old for old, _ in carried})
    return carriers(avals, [i for i in results if i not in shared], moving, getter)


def _spread(out: list[Carrier], alone: int, order: Callable, results: list) -> Sequence:
    """The results by slot, those in packs as parts."""
    arrays = results[:alone]
    for carrier, pack in zip(out, results[alone:], strict=True):
        arrays += carrier.spread(pack)
    return order(arrays)


class HotProgram:
    """A trace as one compiled program.

    pairs: an input that gives its memory away, the result that takes it. carried: an input that is written over, the
    result that takes its place; the small ones go from run to run in packs, and other small results come in packs, too.

    What `start` gives, `spread` brings into the order of `slots`: JAX gives a donated input's memory to the first result
    of its kind, so those that take come first.
    """

    __slots__ = (
        "call", "donated", "fn", "get", "how", "name", "new", "numbers", "packs", "seconds", "spread", "visits", "where", "why",
    )  # fmt: skip

    def __init__(
        self,
        end: Step,
        slots: tuple[int, ...],
        pairs: list[tuple[int, int]],
        visits: int,
        carried: list[tuple[int, int]],
    ):
        self.visits = visits
        self.new = True
        self.seconds = 0.0  # of compiling
        steps = path(end)
        ops = [s for s in steps if s.kernel is not None]
        self.name = f"{len(ops)} operations ({ops[0].kernel.name} ... {ops[-1].kernel.name})"
        self.why = why(end, slots) if "recompiles" in LOG else ""
        for s in (end.root(), *steps):
            s.compiled = True
        self.donated = [i for i, _ in pairs]
        takers = [o for _, o in pairs]
        self.where = where = ops[0].kernel.out[0].device
        avals = {slot: a for s in steps for slot, (a, _) in enumerate(s.outs, s.slot)}
        results = [i for i in slots if i not in set(takers)]
        ins = {s.slot for s in steps if s.kind == "in"} - {*self.donated}
        small = where is devices.CPU and devices.is_only(where) and _work(ops) <= PACKED_WORK
        self.packs = _packs(avals, ins, results, carried) if small else []
        taken, packed = [p.takes for p in self.packs if p.takes], [p.made for p in self.packs]
        kept = [i for i in sorted(ins) if not any(i in members for members in taken)]
        made = takers + [i for i in results if not any(i in members for members in packed)]
        order = [*made, *chain.from_iterable(packed)]
        # One result needs no order, and an itemgetter of one place gives no tuple.
        self.spread = list if order == list(slots) else operator.itemgetter(*(order.index(slot) for slot in slots))
        if self.packs:  # not a method: with one of its own a program would hold itself
            self.spread = functools.partial(_spread, self.packs, len(made), self.spread)
        self.numbers, number = run_time_numbers((n for s in ops for n in s.numbers), where)
        inputs = self.donated + kept
        self.get = getter(inputs)
        args = [avals[i].struct for i in inputs]
        args += [*(p.layout.struct for p in self.packs if p.takes), *(n.struct for n in self.numbers)]
        layouts, first = [p.layout for p in self.packs], len(inputs) + len(taken)
        compute = body(ops, order)

        def trace(*given):
            env = dict(zip(inputs, given, strict=False))
            for layout, members, flat in zip(layouts, taken, given[len(inputs) : first], strict=False):
                env.update(zip(members, layout.split(flat), strict=True))
            compute(env, number(given[first:]))
            joined = [layout.join([env[i] for i in members]) for layout, members in zip(layouts, packed, strict=True)]
            return [*(env[i] for i in made), *joined]

        stats.hot_programs += 1
        self.fn = trace
        which = known(ops, inputs, taken, made, packed)
        self.how = How(args, where, options(ops, where), which, tuple(range(len(self.donated))))
        self.call: Call | None = None  # until it is compiled

    def find(self) -> bool:
        """Whether an earlier process has compiled it. Then it has that."""
        compiled = find(self.how)
        if compiled is not None:
            self.call = Call(direct(compiled), self.where, compiled, len(self.how.args))
        return compiled is not None

    def make(self) -> None:
        """Compiles it, or finds it compiled."""
        began = time.perf_counter()
        call = compile_apart(self.fn, self.how)
        self.seconds = time.perf_counter() - began
        self.call = call

    def start(self, arrays, numbers):
        """An iterator that runs the program when it is asked for its only element."""
        given = self.get(arrays)
        if self.packs:
            given = *given, *[p.take(arrays) for p in self.packs if p.takes]
        if self.numbers:
            given = *given, *[n(numbers) for n in self.numbers]
        if self.call is None:
            self.make()
        return self.call.start(given)  # type: ignore[union-attr]

    def text(self) -> str:
        """XLA's form of the program."""
        compiled = self.call and self.call.compiled
        return (compiled and compiled.as_text()) or ""

    def ran(self, results):
        self.call.free(results)  # type: ignore[union-attr]
        stats.hot += 1
        if self.new:
            self.new = False
            stats.compiles += 1
            stats.compile_seconds += self.seconds
            if "recompiles" in LOG:
                print(
                    f"jtorch: compiled {self.name} at visit {self.visits} in {self.seconds:.2f} s: {self.why}",
                    file=sys.stderr,
                )
