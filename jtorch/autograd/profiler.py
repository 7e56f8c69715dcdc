"""Profiles of what runs: `profile`, and `record_function` to mark ranges in them.

`torch.profiler.profile` is the usual way in; this is the one beneath it.

How time is attributed. Operations are recorded at their call and run later (see "How it runs" in the README), so:

- An operation's run counts where it was called: `aten::mm` called inside `record_function("forward")` is a part of
  "forward", wherever the sync was that made it run. A trace's own row, "jtorch::compiled trace (37 operations)", has what
  is left: XLA's overhead, waiting, and what no operation can be named for.
- An operation whose result nobody holds by the next sync is not run at all: it has calls and no time of its own.
- Kernels that run one by one (the eager mode, traces met for the first time) are waited for and timed each.
- A compiled trace is fused, so an operation has no time of its own there. XLA's profile says how long each instruction
  ran; an instruction that several operations were fused into is shared out between them by their elements (a product
  by its multiplications). That is exact for the instruction, an estimate within it. `xla::copy` and the like are
  instructions that XLA added.
- `jtorch::dispatch` is Python's share of operations: recording them or, eagerly, starting their kernels.
  `jtorch::compile` is tracing, lowering and XLA's compilation. `jtorch::sync (item)` is a place where the program
  looked at a value. `jtorch::profiler` is what recording a run costs itself; small programs also run slower while XLA
  takes account of their instructions.
"""

from __future__ import annotations

import functools
import gzip
import json
import os
import re
import threading
import uuid
import warnings
from collections.abc import Callable
from typing import Any

from jtorch._profiling.recorder import Recorder, Span
from jtorch._runtime import executor
from jtorch.autograd.profiler_util import MEMORY_EVENT_NAME as MEMORY_EVENT_NAME
from jtorch.autograd.profiler_util import EventList as EventList
from jtorch.autograd.profiler_util import FunctionEvent as FunctionEvent

DISPATCH = "jtorch::dispatch"
_USER_SCOPE = 7
_STEP = re.compile(r"^ProfilerStep#\d+$")  # all steps are one row of averages


def kineto_available() -> bool:
    """False: profiles are JAX's and jtorch's own."""
    return False


class record_function:
    """Marks a range of code in profiles: `with record_function("forward"): ...`, or a decorator.

    Without a profile it does nothing. args: a word about the range, shown with it in the trace.
    """

    def __init__(self, name: str, args: str | None = None):
        self.name, self.args = name, args
        self._spans: list[Span | None] = []

    def __enter__(self) -> record_function:
        recorder = executor.T.observer
        span = None
        if recorder is not None:
            span = recorder.begin(self.name, "range")
            if self.args is not None:
                span.args["args"] = self.args
        self._spans.append(span)
        return self

    def __exit__(self, *exc: object) -> None:
        span = self._spans.pop()
        recorder = executor.T.observer
        if span is not None and recorder is not None and not span.end:
            recorder.end(span)

    def __call__(self, fn: Callable) -> Callable:
        @functools.wraps(fn)
        def marked(*args: Any, **kwargs: Any) -> Any:
            with record_function(self.name, self.args):
                return fn(*args, **kwargs)

        return marked


class profile:
    """Records what runs in a block.

    record_shapes: the shapes that operations were given. profile_memory: the bytes of operations' results; inside a
    compiled trace only of those that leave it (that memory is given back is not seen). with_stack: where operations
    were called. with_flops: the operations that XLA counts for each. use_device, use_cuda: an accelerator's time has
    columns of its own wherever one was used. Differs from torch: with_modules, use_kineto, use_cpu,
    experimental_config and post_processing_timeout_s are accepted without effect.
    """

    def __init__(
        self,
        enabled: bool = True,
        *,
        use_cuda: bool = False,
        use_device: str | None = None,
        record_shapes: bool = False,
        with_flops: bool = False,
        profile_memory: bool = False,
        with_stack: bool = False,
        with_modules: bool = False,
        use_kineto: bool = False,
        use_cpu: bool = True,
        experimental_config: Any = None,
        acc_events: bool = False,
        custom_trace_id_callback: Callable[[], str] | None = None,
        post_processing_timeout_s: float | None = None,
        activity_filters: Any = None,
    ):
        self.enabled = enabled
        self.entered = False
        self.use_device = use_device
        self.record_shapes = record_shapes or with_flops
        self.with_flops, self.profile_memory, self.with_stack = with_flops, profile_memory, with_stack
        self.with_modules, self.acc_events = with_modules, acc_events
        self.custom_trace_id_callback = custom_trace_id_callback
        self.trace_id = ""
        self._recorder: Recorder | None = None
        self._events: EventList | None = None
        self._before: list[FunctionEvent] = []  # of earlier cycles, where they are kept

    # ---- on and off ----

    def __enter__(self) -> profile | None:
        if not self.enabled:
            return None
        if self.entered:
            raise RuntimeError("Profiler context manager is not reentrant")
        self._start_trace()
        return self

    def __exit__(self, *exc: object) -> None:
        if self.enabled:
            self._stop_trace()

    def _start_trace(self) -> None:
        self.entered = True
        self.trace_id = self.create_trace_id()
        if executor.T.observer is not None:
            warnings.warn("Profiler is already enabled, this one records nothing", stacklevel=3)
            return
        self._recorder = Recorder(shapes=self.record_shapes, stacks=self.with_stack)
        self._recorder.start()

    def _stop_trace(self) -> None:
        recorder = self._recorder
        if recorder is None:
            return
        recorder.stop()
        before = list(self._events or ()) if self.acc_events else []
        self._events = EventList(
            before + _events(recorder, flops=self.with_flops),
            use_device=self.use_device,
            profile_memory=self.profile_memory,
            with_flops=self.with_flops,
        )

    def default_trace_id(self) -> str:
        """A fresh id."""
        return uuid.uuid4().hex.upper()

    def create_trace_id(self) -> str:
        """The id of a trace: what the user's function gives, or a fresh one."""
        return self.custom_trace_id_callback() if self.custom_trace_id_callback else self.default_trace_id()

    # ---- what it found ----

    @property
    def function_events(self) -> EventList:
        """The events, none until the profile has ended."""
        return self._ended()

    def _ended(self) -> EventList:
        return EventList() if self._events is None else self._events

    def __repr__(self) -> str:
        return repr(self._ended())

    def __str__(self) -> str:
        return str(self._ended())

    def table(
        self,
        sort_by: str | None = None,
        row_limit: int = 100,
        max_src_column_width: int = 75,
        max_name_column_width: int = 55,
        max_shapes_column_width: int = 80,
        header: str | None = None,
        top_level_events_only: bool = False,
    ) -> str:
        """The events as a table: see `EventList.table`."""
        return self._ended().table(
            sort_by, row_limit, max_src_column_width, max_name_column_width, max_shapes_column_width, header,
            top_level_events_only,
        )  # fmt: skip

    def key_averages(
        self, group_by_input_shape: bool = False, group_by_stack_n: int = 0, group_by_overload_name: bool = False
    ) -> EventList:
        """The events of each name together: see `EventList.key_averages`."""
        return self._ended().key_averages(group_by_input_shape, group_by_stack_n, group_by_overload_name)

    def total_average(self):
        """All events together."""
        return self._ended().total_average()

    @property
    def self_cpu_time_total(self) -> float:
        """The sum of the events' own times, in microseconds."""
        return self._ended().self_cpu_time_total

    def export_stacks(self, path: str, metric: str = "self_cpu_time_total") -> None:
        """Writes stacks for flame graphs."""
        events = self._ended()
        if not self.with_stack:
            raise AssertionError("export_stacks() requires with_stack=True")
        events.export_stacks(path, metric)

    def export_chrome_trace(self, path: str, metadata: dict | None = None, use_python_export: bool = False) -> None:
        """Writes the timeline for chrome://tracing and Perfetto, compressed if the path ends in ".gz"."""
        if self._recorder is None or not self._recorder.ended:
            raise RuntimeError("Profiler didn't finish running")
        document = _chrome(self._recorder, self.trace_id) | (metadata or {})
        if str(path).endswith(".gz"):
            with gzip.open(path, "wt") as f:
                json.dump(document, f)
        else:
            with open(path, "w") as f:
                json.dump(document, f)


class emit_nvtx:
    """Not there, and says so when it is entered: `jax.profiler.trace` makes profiles that show an accelerator's kernels."""

    _missing: Exception = AssertionError("Torch not compiled with CUDA enabled")

    def __init__(self, enabled: bool = True, record_shapes: bool = False):
        self.enabled = enabled

    def __enter__(self) -> emit_nvtx:
        if self.enabled:
            raise self._missing
        return self

    def __exit__(self, *exc: object) -> None:
        pass


class emit_itt(emit_nvtx):
    """Not there either."""

    _missing = RuntimeError("ITT functions not installed. Are you sure you have a ITT build?")


# ---- from what was recorded to events --------------------------------------------------------------------------------


def _events(recorder: Recorder, *, flops: bool) -> list[FunctionEvent]:
    """The events of a recording, in order of their beginnings."""
    inside: dict[Span | None, float] = {}  # ns of a span that are other spans', and of runs that are operations'
    for span in recorder.spans:
        inside[span.parent] = inside.get(span.parent, 0) + (span.end - span.start)
    for ran in recorder.ran:
        if ran.span.kind != "kernel":
            inside[ran.span] = inside.get(ran.span, 0) + ran.duration
    for _, span, _, duration in recorder.extra:
        inside[span] = inside.get(span, 0) + duration
    made: dict[Span, FunctionEvent] = {}
    events: list[FunctionEvent] = []
    threads: dict[int, int] = {}

    def add(
        name: str, thread: int, start: float, end: float, own: float, parent: Span | None, **facts
    ) -> FunctionEvent:
        event = FunctionEvent(
            len(events) + 1, name, threads.setdefault(thread, len(threads) + 1), (start - recorder.began) / 1e3,
            (end - recorder.began) / 1e3, own_us=own / 1e3, overload_name="", **facts,
        )  # fmt: skip
        event.cpu_parent = made.get(parent) if parent is not None else None
        if event.cpu_parent is not None:
            event.cpu_parent.append_cpu_child(event)
        events.append(event)
        return event

    for span in sorted(recorder.spans, key=lambda s: (s.start, -s.end)):
        own = span.end - span.start - inside.get(span, 0)
        if span.kind == "kernel":
            continue
        parent = span.parent
        if parent is not None and parent.kind == "kernel":
            parent = parent.owner  # what a kernel had to compile counts where the operation was called
        call = span.kind == "op"
        made[span] = add(
            _STEP.sub("ProfilerStep*", span.name), span.thread, span.start, span.end, 0 if call else own, parent, input_shapes=span.shapes,
            stack=span.stack, flops=0, is_user_annotation=span.kind == "range",
            scope=_USER_SCOPE if span.kind == "range" else 0,
        )  # fmt: skip
        made[span].trace_name = span.name
        if call:
            add(DISPATCH, span.thread, span.start, span.end, own, span, input_shapes=[], flops=0)
    for ran in recorder.ran:
        duration = ran.duration if ran.span.kind != "kernel" else ran.duration - inside.get(ran.span, 0)
        owner = ran.owner
        if owner is not None and owner.kind == "op" and owner.name == ran.name:
            event = made[owner]
        else:
            shapes = [list(a.shape) for a in ran.kernel.inputs] if recorder.shapes else []
            end = ran.start + ran.duration
            event = add(ran.name, ran.span.thread, ran.start, end, 0, owner, input_shapes=shapes, flops=0)
        if ran.where == "cpu":
            event.own_us = (event.own_us or 0.0) + duration / 1e3
            event.self_cpu_memory_usage += ran.memory
        else:
            event.use_device = ran.where
            event.append_kernel(ran.name, 0, duration / 1e3)
            event.self_device_memory_usage += ran.memory
        if flops:
            event.flops = (event.flops or 0) + _flops(ran.kernel)
    for name, span, start, duration in recorder.extra:
        add(name, span.thread, start, start + duration, duration, span, input_shapes=[], flops=0)
    events.sort(key=lambda e: e.time_range.start)
    return events


@functools.lru_cache(maxsize=4096)
def _flops(kernel) -> int:
    """XLA's count of a kernel's floating-point operations."""
    from jtorch._runtime.kernel import cost

    return int(cost(kernel).get("flops", 0))


_CATEGORIES = {"range": "user_annotation", "op": "cpu_op", "kernel": "cpu_op"}


def _chrome(recorder: Recorder, trace_id: str) -> dict[str, Any]:
    """The timeline in the trace event format: what happened on the host where it happened, XLA's instructions beside it."""
    pid = os.getpid()
    main = threading.main_thread().ident
    rows: list[dict[str, Any]] = [
        {"ph": "M", "name": "process_name", "pid": pid, "tid": 0, "args": {"name": "python"}},
    ]
    tids: dict[Any, int] = {}

    def tid(key: Any, name: str) -> int:
        if key not in tids:
            tids[key] = len(tids) + 1
            rows.append({"ph": "M", "name": "thread_name", "pid": pid, "tid": tids[key], "args": {"name": name}})
        return tids[key]

    def row(name: str, category: str, lane: int, start: float, end: float, args: dict) -> None:
        rows.append({
            "ph": "X", "cat": category, "name": name, "pid": pid, "tid": lane, "ts": start / 1e3,
            "dur": (end - start) / 1e3, "args": args,
        })  # fmt: skip

    for span in sorted(recorder.spans, key=lambda s: (s.start, -s.end)):
        lane = tid(span.thread, "main thread" if span.thread == main else f"thread {span.thread}")
        args = dict(span.args)
        if span.shapes:
            args["Input Dims"] = span.shapes
        if span.stack:
            args["Call stack"] = ";".join(span.stack)
        if span.kind == "kernel" and span.owner is not span.parent and span.owner is not None:
            args["called in"] = span.owner.name
        row(span.name, _CATEGORIES.get(span.kind, "jtorch"), lane, span.start, span.end, args)
    for name, operations, start, end, instruction in recorder.lanes:
        row(operations, "kernel", tid(("xla", name), f"XLA {name}"), start, end, {"hlo_op": instruction})
    return {
        "schemaVersion": 1, "trace_id": trace_id, "displayTimeUnit": "ms", "traceName": "jtorch", "traceEvents": rows,
    }  # fmt: skip
