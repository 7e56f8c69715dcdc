"""Record, run cold, compile hot.

Operations are recorded, not run. Each call takes one step in a *trie of traces*: a look-up keyed by the operation, the
slots of its inputs and its static arguments leads to a `Step` that already knows the result's aval. A sync runs what is
pending: a trace met for the first time runs kernel by kernel, one met again is compiled whole.

Slots number the values of a trace: inputs as they enter, results as they are made. A `Value` knows its slot while the
trace it belongs to is being recorded; -1 means that it is not in the trace. Everything static about a value (aval,
whether it requires grad) follows from the path, so it is remembered on the step and costs nothing per call.

The fast paths of operations are generated in `_tensor.derive`; they do what `record` does, by hand.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import operator
import os
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from itertools import starmap
from typing import Any, TypeVar

import jax
import numpy as np

from jtorch._runtime import counts as counts_module
from jtorch._runtime import devices
from jtorch._runtime import kernel as kernel_module
from jtorch._runtime.avals import Aval, of_array
from jtorch._runtime.dtypes import FLOATING
from jtorch._runtime.jax_internals import ArrayImpl, outside_traces
from jtorch._runtime.kernel import MAX_COMPILED, Kernel, compiled, compiler_options, drop_compiled
from jtorch._runtime.reasons import why

ref = weakref.ref
R = TypeVar("R")
get_ident = threading.get_ident
_modes: dict[int, tuple[bool, bool]] = {}  # grad and inference mode of threads that do not own the trace
MAX_TRACE = 2000  # steps: a longer trace is cut
LOOP = 256  # steps: a trace this long is cut where it comes round to the operation it began with
MAX_REGION = 20_000  # steps: what `jtorch.compile` keeps in one trace
MAX_STEPS = 200_000  # steps in the trie before it is thrown away, about 150 MB of them
DONATE_BYTES = 1 << 16  # XLA copies a donated input that it also reads late: below this, that costs more than it saves
HOT = 2  # the visit at which a trace is compiled whole
SCOPE = "jtorch."  # with its place in the trace, each operation's name inside a compiled one: what profiles go by


class _Lazy:
    """The node of a value whose graph is still only in the trace."""

    kind = 2

    def __repr__(self):
        return "<lazy node>"


LAZY = _Lazy()
INFERENCE = -3  # the slot of a value in no trace that inference_mode made: such can't be part of a graph
NUMBERS = 32  # more run-time numbers than any one operation takes


class Value:
    """An immutable array that may be pending.

    array: the jax array (or tracer) once there is one.
    node: what computes its gradient: None where it needs none, LAZY while that is only in the trace.
    nr: which output of `node` this is.
    slot: its place in the trace that is recorded; negative where it is in none, INFERENCE for what inference_mode made.
    dirty: set when the tensor that held it was written in place since; says which version it was.
    """

    array = None
    dirty = None
    nr = 0
    __slots__ = ("__dict__", "__weakref__", "aval", "node", "slot")

    def __init__(self, aval: Aval, slot: int = -1, node=None):
        self.aval = aval
        self.slot = slot
        self.node = node


def of(array, node=None) -> Value:
    """A value that is there already."""
    value = Value(of_array(array), INFERENCE if T.inference else -1, node)
    value.array = array
    return value


class Step:
    """A node of the trie, reached by exactly one sequence of steps before it.

    kernel is None for inputs and marks. `slot` is the first output's; `aval` and `node` are the first output's too, for
    the fast paths.
    """

    __slots__ = (
        "aval", "children", "compiled", "depth", "end", "extra", "grad", "inference", "ins", "jumps", "kernel", "kind", "marked", "node",
        "numbers", "opening", "outs", "parent", "programs", "slot", "tainted",
    )  # fmt: skip

    def __init__(self, parent, kind, kernel=None, ins=(), numbers=(), outs=()):
        self.children: dict = {}
        self.programs: dict = {}
        self.jumps: dict = {}
        self.kernel: Any = kernel  # a Kernel wherever there are results
        self.parent, self.kind, self.ins, self.numbers, self.outs = parent, kind, ins, numbers, outs
        self.slot = parent.end if parent is not None else 0
        self.end = self.slot + len(outs)  # slots in use after this step
        self.depth = parent.depth + 1 if parent is not None else 0
        self.aval, self.node = outs[0] if outs else (None, None)
        # The first kernel of the trace.
        self.opening = kernel if parent is None or parent.opening is None else parent.opening
        # Whether what is recorded below is differentiable: a fact of the path, whatever interrupts a change of mode.
        self.grad = None if parent is None else parent.grad
        self.inference = parent is not None and parent.inference
        self.marked = False  # whether the results are tensors of inference_mode
        self.tainted = parent is not None and parent.tainted  # whether any results so far are
        self.extra = None
        self.compiled = False  # whether a trace that goes through here was compiled whole

    def root(self) -> Step:
        """The step without a parent that this one is below of."""
        at = self
        while at.parent is not None:
            at = at.parent
        return at

    def mark(self) -> None:
        """Notes that the results are tensors of inference_mode."""
        self.marked = self.tainted = True


class Trace:
    """What is being recorded. One at a time; `lock` is held while it runs."""

    __slots__ = (
        "_modes", "arrays", "at", "device", "dirty", "done", "eager", "epoch", "freed", "made", "nodes", "nodes_in", "numbers",
        "observed", "owner", "patience", "pending", "region", "roots",
    )  # fmt: skip

    def __init__(self):
        self.owner = get_ident()
        self._modes = (True, False)
        self.eager = os.environ.get("JTORCH_EXECUTION", "deferred") == "eager"
        self.done: deque = deque()
        self.region: Any = None  # what `jtorch.compile` keeps together: told of each sync, by `cut(why)`
        self.new_trie()
        self.reset()

    @property
    def modes(self) -> tuple[bool, bool]:
        """Whether gradients are recorded, and whether inference_mode is on: each thread has modes of its own."""
        me = get_ident()
        return self._modes if me == self.owner else _modes.get(me, (True, False))

    @modes.setter
    def modes(self, modes: tuple[bool, bool]) -> None:
        me = get_ident()
        if me == self.owner:
            self._modes = modes
        else:
            _modes[me] = modes

    @property
    def grad(self) -> bool:
        """Whether gradients are recorded."""
        return (self._modes if get_ident() == self.owner else self.modes)[0]

    @property
    def inference(self) -> bool:
        """Whether what is made are tensors of inference_mode."""
        return (self._modes if get_ident() == self.owner else self.modes)[1]

    def new_trie(self):
        # A step without children sends every operation to `record`: in the eager mode, and while a run is on.
        self.roots: dict = {None: Step(None, "eager")}
        for mode in itertools.product((True, False), repeat=2):
            self.roots[mode] = root = Step(None, "root")
            root.grad, root.inference = mode

    def reset(self):
        # All by slot, so that a signal between two statements leaves an entry too many at worst, never a shift.
        self.made: dict = {}  # slot -> weak reference to the value
        self.arrays: dict = {}  # slot of an input -> its array
        self.numbers: dict = {}  # NUMBERS * slot of a step + place -> run-time number
        self.nodes_in: dict = {}  # slot -> (node, output number) where the value holds its node itself
        self.nodes: dict = {}  # step -> node, where one was made
        self.freed: list = []  # {slot: step} whose graph a backward has freed
        self.dirty: dict = {}  # slot -> what is known of the in-place write that came after
        self.device = None  # where the trace runs, once something says so
        self.observed = False  # somebody looks at the graph of this trace
        self.patience = HOT  # the visit at which this trace is compiled whole
        self.pending: Any = None  # (end, live) of a run that has begun and whose results are not handed over yet
        self.epoch = object()
        self.done.clear()
        # Last: until then a flush that was interrupted is begun again.
        self.at = self.roots[None if self.eager else self._modes]


T = Trace()
BUSY = Step(None, "busy")  # where the trace is while it runs
ALONE = 2  # references to an array that only the trace holds: its own, and the counting call's
lock = threading.RLock()
# (values) -> bool: makes the graph nodes of LAZY values, says whether they keep others; set by the autograd layer.
materialise: Callable = None  # type: ignore[assignment]


stats = kernel_module.tally = counts_module.stats
# The profile that is on, told of every run: `run(execute, end, live)` runs a trace, `kernel(kernel, args)` one kernel.
observer: Any = None
_nodes_in_trie = 0
_LOG = {part.strip() for part in os.environ.get("JTORCH_LOG", "").split(",")}


# ---- recording -------------------------------------------------------------------------------------------------------


def enter(v: Value) -> int:
    """The slot of a value that is about to be used: an input step where it has none; -2 where it can't be recorded."""
    if v.slot >= 0:
        return v.slot if get_ident() == T.owner else -2
    array = v.array
    if T.eager or type(array) is not ArrayImpl or get_ident() != T.owner or T.at is BUSY:
        return -2
    if v.aval.device is not T.device:
        if T.device is not None:
            return -2  # a trace is one device's; what mixes them runs at once
        T.device = v.aval.device
    node = v.node
    key = ("in", v.aval, 0 if node is None else node.kind)
    if v.slot == INFERENCE:
        key += (INFERENCE,)
    at = T.at
    step = at.children.get(key)
    if step is None:
        step = grow(key, Step(at, "in", outs=((v.aval, node and _KINDS[node.kind]),)))
        if v.slot == INFERENCE:
            step.mark()
    slot = step.slot
    T.made[slot] = ref(v)
    T.arrays[slot] = array
    T.at = step
    if node is not None:
        T.nodes_in[slot] = node, v.nr
    v.slot = slot
    return slot


class _Outside:
    """Stands on an input step for a node that the value itself holds."""

    __slots__ = ("kind",)

    def __init__(self, kind):
        self.kind = kind


_KINDS = {1: _Outside(1), 2: _Outside(2)}


def grow(key, step: Step) -> Step:
    """Adds a step below its parent."""
    global _nodes_in_trie
    _nodes_in_trie += 1
    step.parent.children[key] = step
    return step


def mark(*key) -> None:
    """A step that computes nothing but sets this path apart from others."""
    if T.at is T.roots[None] or get_ident() != T.owner:
        return
    room()
    step = T.at.children.get(key)
    if step is None:
        step = grow(key, Step(T.at, "mark"))
        step.extra = key
    T.at = step


def room(kernel: Kernel | None = None) -> None:
    """Makes room for new steps: cuts a trace that is too long, throws away a trie that is too big.

    A loop without a sync is cut between two rounds, if it can be, so that the next trace is the same one again; not one
    whose rounds make one graph, which a backward will want whole.
    """
    global _nodes_in_trie
    if T.at is BUSY:
        flush()
    if (T.at.grad is not T.grad or T.at.inference is not T.inference) and T.at.grad is not None:
        _mark_mode()
    if T.at.depth >= LOOP:
        if T.region is None:
            if T.at.depth >= MAX_TRACE or (T.at.opening is kernel and settled()):
                flush()
        elif T.at.depth >= MAX_REGION:
            flush(f"more than {MAX_REGION} operations")
    if _nodes_in_trie > MAX_STEPS or len(compiled) + stats.hot_programs > MAX_COMPILED:
        flush()
        T.new_trie()
        T.reset()
        _nodes_in_trie = stats.hot_programs = 0
        drop_compiled()


class Number:
    """A run-time number that an operation was given, kept for its backward."""

    __slots__ = ("epoch", "index", "kind", "value")

    def __init__(self, value, kind: str, index: int = -1, epoch=None):
        self.value, self.kind, self.index, self.epoch = value, kind, index, epoch


def _number_ref(n, index: int) -> tuple[str, int]:
    """Kind and place of a number in the trace: where it is already, or `index`."""
    if type(n) is Number:
        if n.epoch is T.epoch:
            return n.kind, n.index
        n = n.value
    T.numbers[index] = n
    return ("f", index) if isinstance(n, float) else ("i", index)


def requires(kernel: Kernel, values) -> bool:
    """Whether the results of a kernel on these values require grad."""
    at = T.at
    grad, inference = (at.grad, at.inference) if at.grad is not None and get_ident() == T.owner else T.modes
    if grad and not inference and kernel.differentiable:
        for v in values:
            if v.node is not None and v.aval.dtype.category >= FLOATING:
                return True
    return False


def record(kernel: Kernel, values, numbers=(), key=None, out: tuple[Aval, ...] | None = None) -> list[Value]:
    """Records a kernel on values and Python numbers (or `Number`s), or runs it where recording can't be.

    key: from slots to what a fast path looks the step up by. out: avals of the results where strides differ from the kernel's.
    """
    if get_ident() != T.owner and not take_over():
        return run_now(kernel, values, numbers, out)
    room(kernel)
    slots = tuple([v.slot if v.slot >= 0 else enter(v) for v in values])
    if -2 in slots or T.eager or (not slots and not _joins(kernel)):
        return run_now(kernel, values, numbers, out)
    first = T.at.end * NUMBERS
    refs = tuple([_number_ref(n, first + i) for i, n in enumerate(numbers)])
    own = (kernel, slots, refs) if out is None else (kernel, slots, refs, out)
    at = T.at
    step = at.children.get(own)
    if step is None:
        lazy = requires(kernel, values)
        if lazy and at.tainted:
            refuse_saved(kernel, values)
        outs = tuple(
            (a, LAZY if lazy and a.dtype.category >= FLOATING else None) for a in (kernel.out if out is None else out)
        )
        step = Step(at, "op", kernel, slots, refs, outs)
        if (at.inference or at.tainted) and _of_inference(kernel, values, at.inference):
            step.mark()
        grow(own, step)
    if key is not None:
        at.children[key(slots)] = step
    made = []
    for slot, (a, node) in enumerate(step.outs, step.slot):
        v = Value(a, slot, node)
        T.made[slot] = ref(v)
        made.append(v)
    T.at = step
    return made


def inferred(v: Value) -> bool:
    """Whether a value is one that inference_mode made."""
    slot = v.slot
    if slot < 0:
        return slot == INFERENCE
    at = T.at if T.at is not BUSY or T.pending is None else T.pending[0]
    if at.tainted:
        while at.parent is not None:
            if at.slot <= slot < at.end:
                return at.marked
            at = at.parent
    return False


def _of_inference(kernel: Kernel, values, mode: bool) -> bool:
    """Whether the results of a kernel are tensors of inference_mode: what lies in another's memory is what that is."""
    return inferred(values[0]) if kernel.memory and values else mode


def refuse_saved(kernel: Kernel, values) -> None:
    """RuntimeError where the backward of a kernel would keep a value that inference_mode made."""
    needs = tuple([v.node is not None and v.aval.dtype.category >= FLOATING for v in values])
    if any(read and inferred(v) for v, read in zip(values, kernel.reads(needs), strict=True)):
        raise RuntimeError(NOT_SAVED)


NOT_SAVED = (
    "Inference tensors cannot be saved for backward. Please do not use Tensors created in inference mode in computation "
    "tracked by autograd. To work around this, you can make a clone to get a normal tensor and use it in autograd, or use "
    "`torch.no_grad()` instead of `torch.inference_mode()`."
)


def _joins(kernel: Kernel) -> bool:
    """Whether a kernel without inputs may be part of the trace."""
    where = kernel.out[0].device
    if get_ident() != T.owner or where is devices.META or T.device not in (None, where):
        return False
    T.device = where
    return True


viewed: Callable = None  # type: ignore[assignment]  # (base, view) -> None: set by the autograd layer
make_node: Callable = None  # type: ignore[assignment]  # (kernel, values, numbers, results) -> None: set by the autograd layer


def run_now(kernel: Kernel, values, numbers=(), out=None) -> list[Value]:
    """Runs a kernel at once: the eager mode, values under JAX's own transformations, meta tensors."""
    avals = kernel.out if out is None else out
    lazy = requires(kernel, values)
    if lazy:
        for v in values:
            if v.slot == INFERENCE:
                refuse_saved(kernel, values)
    if any(a.device is devices.META for a in avals):
        made = [Value(a) for a in avals]
    else:
        args: list[Any] = [concrete(v) for v in values]
        traced = any(type(a) is not ArrayImpl for a in args)
        stats.at_once += 1
        stats.operations += 1
        for n, k in zip(numbers, kernel.numbers, strict=True):
            plain = n.value if type(n) is Number else n
            args.append(np.float64(plain) if k == "f" else np.int64(plain))
        if traced:
            results = kernel.fn(*args)
        elif values and outside_traces():
            results = kernel.run(*args) if observer is None else observer.kernel(kernel, args)
        else:
            with _at_once(avals[0].device):
                results = kernel.run(*args) if observer is None else observer.kernel(kernel, args)
        made = []
        for a, r in zip(avals, results, strict=True):
            v = Value(a)
            v.array = r
            made.append(v)
    if kernel.memory == "view":
        for v in made:
            viewed(values[0], v)
    if lazy:
        make_node(kernel, values, numbers, made)
    if _of_inference(kernel, values, T.inference):
        for v in made:
            v.slot = INFERENCE
    return made


# ---- running ---------------------------------------------------------------------------------------------------------


def concrete(v: Value):
    """The array of a value, running what is pending if need be."""
    if v.array is None:
        if v.aval.device is devices.META:
            raise NotImplementedError("Cannot copy out of meta tensor; no data!")
        if get_ident() != T.owner:
            return _look(v)
        flush()
        if v.array is None:
            raise RuntimeError("a pending value was lost: the trace that held it was cut off by an error")
    elif T.region is not None and get_ident() == T.owner:
        T.region.cut("a value was needed on the host")
    return v.array


def path(end: Step) -> list[Step]:
    """The steps from the root to `end`."""
    steps, at = [], end
    while at.parent is not None:
        steps.append(at)
        at = at.parent
    steps.reverse()
    return steps


def flush(why: str = "a value was needed on the host") -> None:
    """Runs what is pending. `why` is what a compiled region, cut here, tells its user.

    Nothing is lost if this is interrupted: from the moment a run begins nothing is recorded (`T.at` is BUSY), its results
    are stored by one C call, and handing them to the values can be begun again; the next flush goes on where this one
    was cut off.
    """
    with lock:
        if T.at is not BUSY:
            if T.at.parent is None or get_ident() != T.owner:
                return
            T.done.clear()
            if T.region is not None:
                T.region.cut(why)
            T.pending = T.at, _live()
            T.at = BUSY
        pending: Any = T.pending or (None, None)  # None where a reset was interrupted
        end, live = pending
        if live and not T.done:
            try:
                if observer is None:
                    _execute(end, live)
                else:
                    observer.run(_execute, end, live)
            except Exception:
                _forget_slots(end)
                T.reset()
                raise
        if live:
            for (_, v), array in zip(live, T.done[0], strict=True):
                v.array = array
        _forget_slots(end)
        T.reset()


def _execute(end: Step, live) -> _ColdProgram | _HotProgram:
    began = time.perf_counter()
    slots = tuple([slot for slot, _ in live])
    plan = end.programs.get(slots)
    if plan is None:
        plan = end.programs[slots] = Plan(end, slots)
    program = plan.program(T.arrays)
    args = program.prepare(T.arrays, T.numbers)
    # From here on donated inputs are gone: the call and the storing of its results are one step in C, which no signal
    # handler can come between.
    if (T.arrays or _only_cpu()) and outside_traces():
        T.done.extend(starmap(program.call, (args,)))
    else:
        with _at_once(T.device or devices.CPU):
            T.done.extend(starmap(program.call, (args,)))
    program.ran()
    stats.syncs += 1
    stats.operations += plan.size
    stats.run_seconds += time.perf_counter() - began
    return program


@contextlib.contextmanager
def _at_once(where: devices.device):
    """Runs programs on a device though nothing of theirs is there, and now though JAX is tracing."""
    with jax.default_device(devices.to_jax(where)), jax.ensure_compile_time_eval():
        yield


@functools.cache
def _only_cpu() -> bool:
    return jax.default_backend() == "cpu"


def _live() -> list[tuple[int, Value]]:
    """The pending values that somebody holds, with what their graph nodes hold."""
    live, lazy = _held()
    if lazy and materialise(lazy):
        live, _ = _held()
    return live


_slot = operator.itemgetter(0)


def settled() -> bool:
    """Whether no pending value has a graph that goes on: running the trace now costs nothing but the run."""
    return T.at is BUSY or not _held()[1]


def _held():
    live, lazy = [], []
    end = T.at.end
    for slot, r in T.made.items():
        v = r()
        if v is not None and v.array is None and slot < end:
            live.append((slot, v))
            if v.node is LAZY:
                lazy.append(v)
    live.sort(key=_slot)  # the same values are the same program, in whatever order they were made
    return live, lazy


def _forget_slots(end: Step | None):
    for r in T.made.values():
        v = r()
        if v is not None:
            v.slot = -1
    if end is not None and end.tainted:
        for step in path(end):
            for slot in range(step.slot, step.end) if step.marked else ():
                v = T.made[slot]() if slot in T.made else None
                if v is not None:
                    v.slot = INFERENCE


class Plan:
    """How to run the trace that ends at a step, for the values that are held: cold at first, then as one program."""

    __slots__ = ("cold", "donating", "end", "plain", "size", "slots", "visits")

    def __init__(self, end: Step, slots: tuple[int, ...]):
        self.end, self.slots = end, slots
        self.visits = 0
        self.size = sum(s.kernel is not None for s in path(end))
        self.cold: _ColdProgram | None = None
        self.plain: _HotProgram | None = None
        self.donating: _HotProgram | None = None

    def program(self, arrays: dict):
        """The program for this visit. One that takes inputs' memory is used only when nobody else holds them."""
        self.visits += 1
        donating = self.donating
        if donating is not None and all(sys.getrefcount(arrays[slot]) == ALONE for slot in donating.donated):
            return donating
        if self.plain is not None:
            return self.plain
        if self.cold is None:
            self.cold = _ColdProgram([s for s in path(self.end) if s.kernel is not None], self.slots)
        if self.visits < T.patience or len(self.cold.steps) < 2:
            return self.cold
        if self.donating is None:
            donated = self._donations(arrays)
            if donated:
                self.donating = _HotProgram(self.end, self.slots, donated, self.visits)
                return self.donating
        self.plain = _HotProgram(self.end, self.slots, [], self.visits)
        return self.plain

    def _donations(self, arrays: dict) -> list[int]:
        """Inputs that nobody else holds, as far as results can use their memory."""
        wanted: dict = {}
        outs = {slot: a for s in path(self.end) for slot, (a, _) in enumerate(s.outs, s.slot)}
        for i in self.slots:
            kind = outs[i].shape, outs[i].dtype
            wanted[kind] = wanted.get(kind, 0) + 1
        donated = []
        for slot in arrays:
            a = outs.get(slot)
            if a is None or a.numel * a.dtype.itemsize < DONATE_BYTES or not wanted.get((a.shape, a.dtype)):
                continue
            if sys.getrefcount(arrays[slot]) == ALONE:
                wanted[a.shape, a.dtype] -= 1
                donated.append(slot)
        return donated


class _ColdProgram:
    """A trace run kernel by kernel, each value dropped after its last use."""

    __slots__ = ("last", "slots", "steps")

    def __init__(self, steps: list[Step], slots: tuple[int, ...]):
        self.steps, self.slots = steps, slots
        self.last: dict[int, int] = {}
        for place, s in enumerate(steps):
            for i in s.ins:
                self.last[i] = place
        for i in slots:
            self.last[i] = len(steps)

    def prepare(self, arrays, numbers):
        return dict(arrays), numbers

    def ran(self):
        stats.cold += 1

    def call(self, env, numbers):
        last = self.last
        for place, s in enumerate(self.steps):
            args = [env[i] for i in s.ins]
            args += [np.float64(numbers[i]) if k == "f" else np.int64(numbers[i]) for k, i in s.numbers]
            results = s.kernel.run(*args) if observer is None else observer.kernel(s.kernel, args)
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


class _HotProgram:
    """A trace as one compiled program. The inputs in the slots `donated` give their memory to results."""

    __slots__ = ("began", "call", "donated", "floats", "ints", "kept", "name", "visits", "why")

    def __init__(self, end: Step, slots: tuple[int, ...], donated: list[int], visits: int):
        self.visits = visits
        self.began: float | None = 0.0
        steps = path(end)
        ops = [s for s in steps if s.kernel is not None]
        self.name = f"{len(ops)} operations ({ops[0].kernel.name} ... {ops[-1].kernel.name})"
        self.why = why(end, slots) if "recompiles" in _LOG else ""
        for s in (end.root(), *steps):
            s.compiled = True
        self.donated = donated
        self.kept = [s.slot for s in steps if s.kind == "in" and s.slot not in set(donated)]
        self.floats = sorted({i for s in ops for k, i in s.numbers if k == "f"})
        self.ints = sorted({i for s in ops for k, i in s.numbers if k == "i"})
        given, kept = self.donated, self.kept
        backwards = _with_backwards(ops)
        forwards = {b: f for f, b in backwards.items()}
        place = {("f", i): n for n, i in enumerate(self.floats)} | {("i", i): n for n, i in enumerate(self.ints)}

        def trace(given_arrays, kept_arrays, floats, ints):
            env = dict(zip(given, given_arrays, strict=True)) | dict(zip(kept, kept_arrays, strict=True))
            pulls = {}
            for at, s in enumerate(ops):
                args = [env[i] for i in s.ins]
                numbers = [(floats if n[0] == "f" else ints)[place[n]] for n in s.numbers]
                with jax.named_scope(f"{SCOPE}{at}"):
                    if s in backwards:
                        results, pulls[s] = s.kernel.with_pull(*backwards[s].kernel.shares[1:3], args, numbers)
                    elif s in forwards:
                        results = pulls.pop(forwards[s])(args[len(s.kernel.shares[3]) :])
                    else:
                        results = s.kernel.fn(*args, *numbers)
                for slot, r in enumerate(results, s.slot):
                    env[slot] = r
            return [env[i] for i in slots]

        where = ops[0].kernel.out[0].device
        stats.hot_programs += 1
        self.call = jax.jit(trace, donate_argnums=(0,), compiler_options=compiler_options(where, False))

    def prepare(self, arrays, numbers):
        if self.began is not None:
            self.began = time.perf_counter()
        return (
            [arrays[k] for k in self.donated],
            [arrays[k] for k in self.kept],
            np.array([numbers[i] for i in self.floats], np.float64),
            np.array([numbers[i] for i in self.ints], np.int64),
        )

    def ran(self):
        stats.hot += 1
        if self.began is not None:
            seconds = time.perf_counter() - self.began
            self.began = None
            stats.compiles += 1
            stats.compile_seconds += seconds
            if "recompiles" in _LOG:
                print(
                    f"jtorch: compiled {self.name} at visit {self.visits} in {seconds:.2f} s: {self.why}",
                    file=sys.stderr,
                )


# ---- threads ---------------------------------------------------------------------------------------------------------
#
# One thread at a time records. The others run each operation at once; what is pending in the owner's trace they compute
# for themselves, from a snapshot of it, without touching it. A thread takes the trace over when nothing is pending and
# its owner is not inside jtorch, so that a training loop may as well run in a thread of its own.


IDLE = 16  # operations of other threads, none of the owner's in between, after which what it left pending is run
_seen: list[Any] = [None, 0]  # where the owner was at another thread's last operation, and how often


def take_over() -> bool:
    """Makes the calling thread the one that records, if that is safe now."""
    me, owner = get_ident(), T.owner
    if T.region is not None or not lock.acquire(blocking=False):
        return False
    try:
        if T.at.parent is not None and owner in sys._current_frames():
            _seen[1] = _seen[1] + 1 if _seen[0] is T.at else 1
            _seen[0] = T.at
            if _seen[1] < IDLE:
                return False
        T.owner = me  # claimed: the owner's next operation will see it. One that it is in the middle of may not.
        frame = sys._current_frames().get(owner)
        while frame is not None:
            if frame.f_code.co_filename.startswith(_OWN):
                T.owner = owner
                return False
            frame = frame.f_back
        flush()
        _modes[owner], T._modes = T._modes, _modes.pop(me, (True, False))
        T.reset()
        return True
    finally:
        lock.release()


_OWN = (os.path.dirname(os.path.dirname(__file__)) + os.sep, "<jtorch")


def _look(v: Value):
    """The array of a value that is pending in another thread's trace, which goes on as it was."""
    with lock:  # while it is held the owner can record, but not run
        if T.at is BUSY:
            flush()
        end = T.at
        if v.array is None:
            if not 0 <= v.slot < end.end:
                raise RuntimeError("a pending value was lost: the trace that held it was cut off by an error")
            arrays, numbers = dict(T.arrays), dict(T.numbers)
            needed, steps = {v.slot}, []
            for s in reversed(path(end)):
                if s.kernel is not None and not needed.isdisjoint(range(s.slot, s.end)):
                    steps.append(s)
                    needed.update(s.ins)
            steps.reverse()
            (v.array,) = _ColdProgram(steps, (v.slot,)).call(arrays, numbers)
    return v.array


# ---- modes -----------------------------------------------------------------------------------------------------------


def set_grad(enabled: bool) -> None:
    """Turns recording of gradients on or off. A change is a step of the trace."""
    set_mode(enabled, T.inference)


def set_mode(grad: bool, inference: bool) -> None:
    """Whether gradients are recorded, and whether what is made are tensors of inference_mode."""
    modes = grad, inference
    if get_ident() != T.owner:
        T.modes = modes
    elif modes != T._modes:
        T._modes = modes
        if not T.eager:
            if T.at is BUSY:
                flush()
            _mark_mode()


def under(grad: bool, fn: Callable[[], R], inference: bool = False) -> R:
    """What a function gives that is called under a mode."""
    before = T.modes
    try:
        set_mode(grad, inference)
        return fn()
    finally:
        try:
            set_mode(*before)
        except BaseException:  # an interrupt may come at the very call
            set_mode(*before)
            raise


def _mark_mode() -> None:
    """Brings the trace to the mode that is set."""
    at, modes = T.at, T._modes
    if at.parent is None:
        T.at = T.roots[modes]
        return
    key = "mode", *modes
    step = at.children.get(key)
    if step is None:
        step = Step(at, "mark")
        step.grad, step.inference = modes
        grow(key, step)
    T.at = step


def set_execution(mode: str) -> None:
    """`"eager"` or `"deferred"`."""
    if mode not in ("eager", "deferred"):
        raise ValueError(f"the execution mode is 'eager' or 'deferred', not {mode!r}")
    flush()
    T.eager = mode == "eager"
    T.reset()


@contextlib.contextmanager
def execution(mode: str):
    """Runs a block in one execution mode: `with jtorch.execution("eager"): ...`."""
    before = "eager" if T.eager else "deferred"
    set_execution(mode)
    try:
        yield
    finally:
        set_execution(before)
