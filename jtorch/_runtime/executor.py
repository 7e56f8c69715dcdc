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
import operator
import os
import sys
import time
from collections.abc import Callable
from sys import getrefcount
from typing import Any, TypeVar

import jax
import numpy as np

from jtorch._runtime import devices, workers
from jtorch._runtime.avals import Aval
from jtorch._runtime.dtypes import FLOATING
from jtorch._runtime.jax_internals import ArrayImpl, outside_traces, put
from jtorch._runtime.kernel import MAX_COMPILED, Kernel, compiled, drop_compiled
from jtorch._runtime.packs import Part, alone
from jtorch._runtime.programs import ColdProgram, HotProgram, Plan
from jtorch._runtime.trace import BUSY as BUSY
from jtorch._runtime.trace import INFERENCE as INFERENCE
from jtorch._runtime.trace import LAZY as LAZY
from jtorch._runtime.trace import NUMBERS as NUMBERS
from jtorch._runtime.trace import Step as Step
from jtorch._runtime.trace import T as T
from jtorch._runtime.trace import Value as Value
from jtorch._runtime.trace import get_ident as get_ident
from jtorch._runtime.trace import lock as lock
from jtorch._runtime.trace import of as of
from jtorch._runtime.trace import path as path
from jtorch._runtime.trace import ref as ref
from jtorch._runtime.trace import stats as stats
from jtorch._runtime.trace import thread_modes

R = TypeVar("R")
ARRAYS = frozenset((ArrayImpl, np.ndarray, Part))  # what may be put into a trace
MAX_TRACE = 2000  # steps: a longer trace is cut
LOOP = 256  # steps: a trace this long is cut where it comes round to the operation it began with
MAX_REGION = 20_000  # steps: what `jtorch.compile` keeps in one trace
MAX_STEPS = 200_000  # steps in the trie before it is thrown away, about 150 MB of them
# (values) -> bool: makes the graph nodes of LAZY values, says whether they keep others; set by the autograd layer.
materialise: Callable = None  # type: ignore[assignment]
_nodes_in_trie = 0


# ---- recording -------------------------------------------------------------------------------------------------------


def enter(v: Value) -> int:
    """The slot of a value that is about to be used: an input step where it has none; -2 where it can't be recorded."""
    if v.slot >= 0:
        return v.slot if get_ident() == T.owner else -2
    array, a, node = v.array, v.aval, v.node
    # Where nothing is recorded (the eager mode, while a run is on) the trace's place has no children.
    step = T.at.children.get(a.entries[0 if node is None else node.kind])
    if step is None or v.slot == INFERENCE or a.device is not T.device or get_ident() != T.owner:
        step = _entrance(v)
        if step is None:
            return -2
    if type(array) is not ArrayImpl:
        if type(array) is np.ndarray:
            array = lent(v)
        elif type(array) is not Part:
            return -2
    slot = step.slot
    T.entered[slot] = ref(v)
    T.arrays[slot] = array
    T.at = step
    if node is not None:
        T.nodes_in[slot] = node, v.nr
    v.slot = slot
    return slot


def _entrance(v: Value) -> Step | None:
    """The step by which a value enters the trace, None where it can't."""
    if T.eager or type(v.array) not in ARRAYS or get_ident() != T.owner or T.at is BUSY:
        return None
    if v.aval.device is not T.device:
        if T.device is not None:
            return None  # a trace is one device's; what mixes them runs at once
        T.device = v.aval.device
    node = v.node
    key = v.aval.entries[0 if node is None else node.kind]
    if v.slot == INFERENCE:
        key += (INFERENCE,)
    at = T.at
    step = at.children.get(key)
    if step is None:
        step = grow(key, Step(at, "in", outs=((v.aval, node and _KINDS[node.kind]),)))
        if v.slot == INFERENCE:
            step.mark()
    return step


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
        v = T.made[slot] = Value(a, slot, node)
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
            results = kernel.run(*args) if T.observer is None else T.observer.kernel(kernel, args)
        else:
            with _at_once(avals[0].device):
                results = kernel.run(*args) if T.observer is None else T.observer.kernel(kernel, args)
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


LENT = 3  # programs that take a value's NumPy array as it is before it is placed: what that costs them more comes to the placing


def lent(v: Value):
    """The array of a value that is in the host's memory only, for a program to take."""
    v.lent += 1
    return v.array if v.lent <= LENT else placed(v)


def placed(v: Value):
    """The jax array of a value that has an array, which is put on the device if it was not."""
    array = v.array
    if type(array) is np.ndarray:
        array = v.array = put(array, devices.to_jax(v.aval.device))
    elif type(array) is Part:
        array = array[0].placed(array[1])
    return array


def host(v: Value) -> np.ndarray:
    """The elements of a value as a NumPy array that is only to be read, running what is pending if need be."""
    array = v.array
    if type(array) is not ArrayImpl or T.region is not None:
        array = concrete(v, place=False)
        if type(array) is np.ndarray:
            return array
    return np.asarray(array)


def concrete(v: Value, place: bool = True) -> Any:
    """The array of a value, running what is pending if need be. Unless `place` it may be a NumPy array (see `lent`)."""
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
    if place:
        return placed(v)
    return alone(v.array)


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
            live = _live()
            T.pending = T.at, tuple([v.slot for v in live]), live
            T.at = BUSY
        pending: Any = T.pending or (None, (), ())  # None where a reset was interrupted
        end, slots, live = pending
        if live and not T.done:
            try:
                if T.observer is None:
                    _execute(end, slots)
                else:
                    T.observer.run(_execute, end, slots)
            except Exception:
                _forget_slots(end)
                T.reset()
                raise
        if live:
            for v, array in zip(live, T.program.spread(T.done[0]), strict=True):
                v.array = array
        _forget_slots(end)
        T.reset()


def _execute(end: Step, slots: tuple[int, ...]) -> ColdProgram | HotProgram:
    began = time.perf_counter()
    plan = end.programs.get(slots)
    if plan is None:
        plan = end.programs[slots] = Plan(end, slots)
    program = T.program = plan.program(T.arrays)
    # From here on donated inputs are gone: the call and the storing of its results are one step in C, which no signal
    # handler can come between.
    if (T.arrays or _only_cpu()) and outside_traces():
        T.done.extend(program.start(T.arrays, T.numbers))
    else:
        with _at_once(T.device or devices.CPU):
            T.done.extend(program.start(T.arrays, T.numbers))
    program.ran(T.done[0])
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
    workers.begin()
    return jax.default_backend() == "cpu"


def _live() -> list[Value]:
    """The pending values that somebody holds, with what their graph nodes hold."""
    live = held()
    lazy = [v for v in live if v.node is LAZY]
    if lazy and materialise(lazy):
        live = held()
    return live


_slot = operator.attrgetter("slot")


def settled() -> bool:
    """Whether no pending value has a graph that goes on: running the trace now costs nothing but the run."""
    return T.at is BUSY or not any(v.node is LAZY for v in held())


def held() -> list[Value]:
    """The pending values of the trace that somebody besides it holds, by slot."""
    found = [v for v in T.made.values() if getrefcount(v) > ALONE and v.array is None]
    found.sort(key=_slot)  # the same values are the same program, in whatever order they were made
    if found and found[-1].slot >= T.at.end:  # a signal came between two statements
        found = [v for v in found if v.slot < T.at.end]
    return found


def _counts(made: dict) -> list[int]:
    return [getrefcount(v) for v in made.values()]


(ALONE,) = _counts({0: object()})  # what `held` counts where the trace alone has a value


def _forget_slots(end: Step | None):
    for v in T.made.values():
        v.slot = -1
    for r in T.entered.values():
        v = r()
        if v is not None:
            v.slot = -1
    if end is not None and end.tainted:
        for step in path(end):
            for slot in range(step.slot, step.end) if step.marked else ():
                v = T.made.get(slot) or (T.entered[slot]() if slot in T.entered else None)
                if v is not None:
                    v.slot = INFERENCE


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
        thread_modes[owner], T._modes = T._modes, thread_modes.pop(me, (True, False))
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
            program = ColdProgram(steps, (v.slot,))
            (v.array,) = program.call(*program.prepare(arrays, numbers))
    return placed(v)


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
