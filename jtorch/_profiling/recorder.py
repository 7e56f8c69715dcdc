"""The recorder: the executor's observer while a profile is on.

Everything that takes time on the host is a `Span` of its thread: a range that the user marked, the call of an operation,
a sync and the run of a trace that it causes, a kernel that ran by itself, a compilation. Spans lie inside each other as
they did in time.

Operations are recorded at their call and run later. Which span was open while a step was recorded is known from `marks`:
the depth of the trace at every beginning and end of a span. So the time that an operation takes when it runs is `Ran`,
and counts where the operation was called.

Kernels that run by themselves are waited for and timed each. A compiled trace is timed as a whole; XLA's own profile of
it (`xla`) says how long its instructions took, and the program's text (`hlo`) which operations they compute.
"""

from __future__ import annotations

import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax

from jtorch._profiling import calls, hlo, names, xla
from jtorch._runtime import devices, executor
from jtorch._runtime.executables import LOADING
from jtorch._runtime.executor import T
from jtorch._runtime.kernel import Kernel
from jtorch._runtime.programs import HotProgram

now = time.perf_counter_ns
_OWN = "jtorch::profiler"  # what recording a run costs itself, where it can be told
_COMPILE = {
    "/jax/core/compile/jaxpr_trace_duration": "jtorch::compile (trace)",
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "jtorch::compile (lower)",
    "/jax/core/compile/backend_compile_duration": "jtorch::compile (XLA)",
    LOADING: "jtorch::compile (load)",
}


class Span:
    """A stretch of a thread's time. kind: range, op, sync, run, kernel or compile."""

    __slots__ = ("args", "end", "kind", "name", "owner", "parent", "shapes", "stack", "start", "thread")

    def __init__(self, name: str, kind: str, parent: Span | None, thread: int):
        self.name, self.kind, self.parent, self.thread = name, kind, parent, thread
        self.owner: Span | None = parent  # where it counts: for kernels, where the operation was called
        self.args: dict[str, Any] = {}
        self.shapes: list = []
        self.stack: list[str] = []
        self.start = self.end = 0


class Ran:
    """An operation that ran: how long (in ns), from when, and for which call."""

    __slots__ = ("duration", "kernel", "memory", "name", "owner", "span", "start", "where")

    def __init__(self, kernel: Kernel, owner: Span | None, start: float, duration: float, memory: int, span: Span):
        self.kernel, self.owner, self.start, self.duration, self.memory = kernel, owner, start, duration, memory
        self.name = names.of_kernel(kernel)
        self.span = span  # inside which it ran
        self.where = kernel.out[0].device.type if kernel.out else "cpu"


class _HotRun:
    """One run of a compiled trace, to be shared out among its operations when XLA's profile is there."""

    __slots__ = ("kept", "number", "owners", "program", "span", "start", "steps")

    def __init__(self, number, span, start, steps, owners, kept, program):
        self.number, self.span, self.start, self.steps, self.owners = number, span, start, steps, owners
        self.kept, self.program = kept, program


class _Thread(threading.local):
    top: Span | None = None


class Recorder:
    """Records from `start` to `stop`. Only one can be on."""

    def __init__(self, *, shapes: bool = False, stacks: bool = False):
        self.shapes, self.stacks = shapes, stacks
        self.spans: list[Span] = []
        self.ran: list[Ran] = []
        self.lanes: list[tuple[str, str, float, float, str]] = []  # (lane, operations, start, end, instruction)
        self.extra: list[
            tuple[str, Span, float, float]
        ] = []  # (name, run, start, ns) of what XLA added: copies, mostly
        self.began = self.ended = 0
        self._hot: list[_HotRun] = []
        self._shares: dict[Any, dict[str, tuple[str, hlo.Shares]]] = {}
        self._thread = _Thread()
        self._marks: list[tuple[int, Span | None]] = []
        self._epoch: object = None
        self._queue: Iterator | None = (
            None  # what runs kernel by kernel: (span that owns it, whether its results are kept)
        )
        self._xla = xla.XlaTrace()
        self._ending = ""

    # ---- on and off ----

    def start(self) -> None:
        """Runs what is pending, which is not the profile's, and begins."""
        if executor.T.observer is not None:
            raise RuntimeError("Profiler is already enabled on this thread")
        executor.flush()
        calls.put_in_front()
        jax.monitoring.register_event_duration_secs_listener(self._compiled)
        self._xla.start()
        self.began = now()
        executor.T.observer = self

    def stop(self) -> None:
        """Runs what is pending, which is the profile's, and ends."""
        try:
            self._ending = "end of profile"
            executor.flush()
        finally:
            self.ended = now()
            executor.T.observer = None
            jax.monitoring.unregister_event_duration_listener(self._compiled)
            calls.take_away()
            instructions = self._xla.stop()
        for span in self.spans:  # of ranges that are left open
            span.end = span.end or self.ended
        self._share_out(instructions)

    # ---- spans ----

    def begin(self, name: str, kind: str) -> Span:
        """Opens a span inside the one that is open on this thread."""
        local = self._thread
        before = local.top
        span = Span(name, kind, before, threading.get_ident())
        if span.thread == T.owner:
            self._mark(before, span)
        if self.stacks and kind in ("op", "range"):
            span.stack = _stack()
        self.spans.append(span)
        local.top = span
        span.start = now()  # last, as `end` takes the time first: what recording costs is nobody's
        return span

    def end(self, span: Span) -> None:
        """Closes a span, and any that were left open in it."""
        span.end = now()
        if span.thread == T.owner:
            self._mark(span, span.parent)
        self._thread.top = span.parent

    @contextmanager
    def range(self, name: str) -> Iterator[Span]:
        """A span of the user's."""
        span = self.begin(name, "range")
        try:
            yield span
        finally:
            self.end(span)

    def _mark(self, before: Span | None, after: Span | None) -> None:
        if T.at is executor.BUSY:
            return
        if T.epoch is not self._epoch:
            self._new_trace(before)
        self._marks.append((T.at.depth, after))

    def _new_trace(self, top: Span | None) -> None:
        self._epoch = T.epoch
        self._marks = [(0, top)]

    def _owners(self, steps) -> list[Span | None]:
        """The span that was open when each step was recorded."""
        if T.epoch is not self._epoch:
            self._new_trace(self._thread.top)
        owners, at, marks = [], 0, self._marks
        for step in steps:
            while at + 1 < len(marks) and marks[at + 1][0] < step.depth:
                at += 1
            owners.append(marks[at][1])
        return owners

    # ---- what the executor tells ----

    def run(self, execute: Callable, end, slots) -> None:
        """Runs a trace."""
        own = self.begin(_OWN, "run")
        steps = [s for s in executor.path(end) if s.kernel is not None]
        owners = self._owners(steps)
        wanted = set(slots)
        kept = [sum(_bytes(a) for slot, (a, _) in enumerate(s.outs, s.slot) if slot in wanted) for s in steps]
        cause = self._ending or _cause()
        self.end(own)
        sync = self.begin(f"jtorch::sync ({cause})", "sync")
        span = self.begin("jtorch::run", "run")
        self._queue = iter(owners)
        try:
            number = len(self.spans)
            with jax.profiler.TraceAnnotation(f"{xla.WINDOW}{number}"):
                start = now()
                program = execute(end, slots)
                jax.block_until_ready(T.done[0])
            hot = isinstance(program, HotProgram)
            how = "compiled trace" if hot else "trace, run one by one"
            span.name = f"jtorch::{how} ({len(steps)} operation{'' if len(steps) == 1 else 's'})"
        finally:
            self._queue = None
            self.end(span)
            self.end(sync)
        if hot:
            own = self.begin(_OWN, "run")
            self._hot.append(_HotRun(number, span, start, steps, owners, kept, program))
            self.end(own)

    def kernel(self, kernel: Kernel, args) -> tuple:
        """Runs one kernel and waits for it. One that had to be compiled runs twice: the second time is its own."""
        span = self.begin(names.of_kernel(kernel), "kernel")
        if self._queue is not None and span.thread == T.owner:
            span.owner = next(self._queue)
        known = len(self.spans)
        try:
            run = kernel.run
            results = run(*args)
            jax.block_until_ready(results)
            if len(self.spans) > known:
                self._note_compile("jtorch::compile", now() - span.start)
                results = run(*args)
                jax.block_until_ready(results)
        finally:
            self.end(span)
        memory = sum(_bytes(a) for a in kernel.out)
        self.ran.append(Ran(kernel, span.owner, span.start, span.end - span.start, memory, span))
        return results

    def _compiled(self, event: str, duration_secs: float, **_: Any) -> None:
        name = _COMPILE.get(event)
        if name is not None:
            self._note_compile(name, int(duration_secs * 1e9))

    def _note_compile(self, name: str, duration: int) -> None:
        """Adds a span that ends now."""
        span = Span(name, "compile", self._thread.top, threading.get_ident())
        span.end = now()
        span.start = max(span.end - duration, span.parent.start if span.parent else self.began)
        for inner in reversed(self.spans):  # what was traced on the way came first
            if inner.start < span.start:
                break
            if inner.kind == "compile" and inner.parent is span.parent and inner.thread == span.thread:
                inner.parent = inner.owner = span
        self.spans.append(span)

    # ---- compiled traces ----

    def _shares_of(self, program: HotProgram) -> dict[str, tuple[str, hlo.Shares]]:
        """Which operations each instruction of a program computes."""
        found = self._shares.get(program)
        if found is None:
            found = self._shares[program] = hlo.shares(program.text())
        return found

    def _share_out(self, instructions: dict[int, list[xla.Instruction]]) -> None:
        if self._hot and not instructions:
            warnings.warn(
                "compiled traces are shown as a whole: another profile of XLA is on, or it gave no account of its instructions",
                stacklevel=4,
            )
        for run in self._hot:
            ran = instructions.get(run.number, [])
            shares = self._shares_of(run.program)
            times = hlo.exclusive([(i.thread, i.start, i.end) for i in ran])
            durations: dict[int, float] = {}
            starts: dict[int, float] = {}
            for instruction, duration in zip(ran, times, strict=True):
                what, places = shares.get(instruction.name, ("", {}))
                start = run.start + instruction.start
                for place, share in places.items():
                    durations[place] = durations.get(place, 0.0) + share * duration
                    starts.setdefault(place, instruction.start)
                if what and not places:
                    self.extra.append((f"xla::{what}", run.span, start, duration))
                shown = sorted({names.of_kernel(run.steps[place].kernel) for place in places})
                label = ", ".join(shown) or f"xla::{what}"
                self.lanes.append((instruction.lane, label, start, run.start + instruction.end, instruction.name))
            for place, (step, owner) in enumerate(zip(run.steps, run.owners, strict=True)):
                start = run.start + starts.get(place, 0.0)
                self.ran.append(Ran(step.kernel, owner, start, durations.get(place, 0.0), run.kept[place], run.span))


def _bytes(a) -> int:
    return 0 if a.device is devices.META else a.numel * a.dtype.itemsize


_PACKAGE = __name__.partition(".")[0]


def _cause() -> str:
    """Which public function of ours made the executor run what is pending: the outermost one of the call."""
    frame = sys._getframe(2)
    cause = "flush"
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module.partition(".")[0] == _PACKAGE:
            if not module.startswith((f"{_PACKAGE}._runtime", f"{_PACKAGE}._profiling")):
                cause = frame.f_code.co_name
        else:
            break
        frame = frame.f_back
    return cause


def _stack() -> list[str]:
    """The user's frames, innermost first."""
    lines, frame = [], sys._getframe(2)
    while frame is not None:
        code = frame.f_code
        ours = frame.f_globals.get("__name__", "").partition(".")[0] == _PACKAGE
        if not ours and not code.co_filename.startswith("<jtorch"):
            lines.append(f"{code.co_filename}({frame.f_lineno}): {code.co_name}")
        frame = frame.f_back
    return lines
