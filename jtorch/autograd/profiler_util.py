"""Events of profiles, their averages, and the table of them."""

from __future__ import annotations

import enum
import json
from collections.abc import Iterable
from typing import Any, NamedTuple

MEMORY_EVENT_NAME = "[memory]"
OUT_OF_MEMORY_EVENT_NAME = "[OutOfMemory]"


class DeviceType(enum.Enum):
    """Where the time of an event was spent."""

    CPU = 0
    CUDA = 1

    def __repr__(self) -> str:
        return f"DeviceType.{self.name}"

    __str__ = __repr__


class Interval:
    """A stretch of time, in microseconds."""

    __slots__ = ("end", "start")

    def __init__(self, start: float, end: float):
        self.start, self.end = start, end

    def elapsed_us(self) -> float:
        """Its length."""
        return self.end - self.start


class Kernel(NamedTuple):
    """What an operation ran on an accelerator, for how many microseconds."""

    name: str
    device: int
    duration: float


def _time(us: float) -> str:
    if us >= 1e6:
        return f"{us / 1e6:.3f}s"
    return f"{us / 1e3:.3f}ms" if us >= 1e3 else f"{us:.3f}us"


def _time_in(us: float, unit: str) -> str:
    divisor = {"s": 1e6, "ms": 1e3}.get(unit)
    return f"{us:.3f}us" if divisor is None else f"{us / divisor:.3f}{unit}"


def _memory(nbytes: float) -> str:
    for power, unit in ((3, "GB"), (2, "MB"), (1, "KB")):
        if abs(nbytes) >= 1024**power:
            return f"{nbytes / 1024**power:.2f} {unit}"
    return f"{int(nbytes)} B"


def _share(part: float, whole: float) -> str:
    if whole == 0:
        if part != 0:
            raise AssertionError(f"Expected time to be 0 but got {part}")
        return "NaN"
    return f"{part * 100 / whole:.2f}%"


class _Times:
    """The times that follow from the totals, and times as text."""

    count: int
    cpu_time_total: float
    device_time_total: float

    @property
    def cpu_time(self) -> float:
        """Microseconds a call, with what it called."""
        return 0.0 if self.count == 0 else self.cpu_time_total / self.count

    @property
    def device_time(self) -> float:
        """Microseconds a call on the accelerator."""
        return 0.0 if self.count == 0 else self.device_time_total / self.count

    cuda_time = device_time

    def __getattr__(self, name: str) -> str:
        if name.endswith("_str") and name.startswith(("cpu_time", "device_time", "self_")):
            return _time(getattr(self, name.removesuffix("_str")))
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")


class FunctionEvent(_Times):
    """One call: of an operation, of a range that the user marked, or of what jtorch itself does.

    own_us: the time that is the event's own; without it, what its children leave of its time range. An operation that
    is recorded at one time and runs at another has its run counted in its own time, not where it ran.
    """

    def __init__(
        self,
        id: int,
        name: str,
        thread: int,
        start_us: float,
        end_us: float,
        overload_name: str | None = None,
        fwd_thread: int | None = None,
        input_shapes: list | None = None,
        stack: list[str] | None = None,
        scope: int = 0,
        use_device: str | None = None,
        cpu_memory_usage: int = 0,
        device_memory_usage: int = 0,
        is_async: bool = False,
        is_remote: bool = False,
        sequence_nr: int = -1,
        node_id: int = -1,
        device_type: DeviceType = DeviceType.CPU,
        device_index: int = 0,
        is_legacy: bool = False,
        flops: int | None = None,
        is_user_annotation: bool = False,
        own_us: float | None = None,
    ):
        self.id, self.name, self.thread = id, name, thread
        self.trace_name, self.overload_name = name, overload_name
        self.time_range = Interval(start_us, end_us)
        self.fwd_thread = fwd_thread
        self.input_shapes = input_shapes
        self.stack = [] if stack is None else stack
        self.scope, self.use_device = scope, use_device
        self.self_cpu_memory_usage, self.self_device_memory_usage = cpu_memory_usage, device_memory_usage
        self.is_async, self.is_remote, self.sequence_nr, self.node_id = is_async, is_remote, sequence_nr, node_id
        self.device_type, self.device_index, self.is_legacy = device_type, device_index, is_legacy
        self.flops, self.is_user_annotation = flops, is_user_annotation
        self.own_us = own_us
        self.concrete_inputs: list = []
        self.kwinputs: dict = {}
        self.count = 1
        self.kernels: list[Kernel] = []
        self.cpu_children: list[FunctionEvent] = []
        self.cpu_parent: FunctionEvent | None = None

    def append_kernel(self, name: str, device: int, duration: float) -> None:
        """Adds what the call ran on an accelerator."""
        self.kernels.append(Kernel(name, device, duration))

    def append_cpu_child(self, child: FunctionEvent) -> None:
        """Adds a call that this one made."""
        self.cpu_children.append(child)

    def set_cpu_parent(self, parent: FunctionEvent) -> None:
        """Says which call made this one."""
        self.cpu_parent = parent

    @property
    def key(self) -> str:
        return self.name

    @property
    def cpu_time_total(self) -> float:
        """Microseconds, with those of the calls it made."""
        if self.own_us is None:
            return self.time_range.elapsed_us()
        return self.own_us + sum(child.cpu_time_total for child in self.cpu_children)

    @property
    def self_cpu_time_total(self) -> float:
        """Microseconds without those of the calls it made."""
        if self.own_us is None:
            return self.time_range.elapsed_us() - sum(child.cpu_time_total for child in self.cpu_children)
        return self.own_us

    @property
    def self_device_time_total(self) -> float:
        """Microseconds on the accelerator."""
        return sum(kernel.duration for kernel in self.kernels)

    @property
    def device_time_total(self) -> float:
        """Microseconds on the accelerator, with those of the calls it made."""
        return self.self_device_time_total + sum(child.device_time_total for child in self.cpu_children)

    @property
    def cpu_memory_usage(self) -> int:
        """Bytes of results, with those of the calls it made."""
        return self.self_cpu_memory_usage + sum(child.cpu_memory_usage for child in self.cpu_children)

    @property
    def device_memory_usage(self) -> int:
        """Bytes of results on the accelerator, with those of the calls it made."""
        return self.self_device_memory_usage + sum(child.device_memory_usage for child in self.cpu_children)

    cuda_time_total = device_time_total
    self_cuda_time_total = self_device_time_total
    self_cuda_memory_usage = property(lambda self: self.self_device_memory_usage)

    def __repr__(self) -> str:
        device = self.use_device
        return (
            f"<FunctionEvent id={self.id} name={self.name} overload_name={self.overload_name} "
            f"device_type={self.device_type} node_id={self.node_id} cpu_time={self.cpu_time_str} "
            f"start_us={self.time_range.start} end_us={self.time_range.end} "
            f"cpu_children={[child.id for child in self.cpu_children]} {device}_time={self.device_time_str} "
            f"name={self.name} thread={self.thread} input_shapes={self.input_shapes} "
            f"cpu_memory_usage={self.cpu_memory_usage} {device}_memory_usage={self.device_memory_usage} "
            f"is_async={self.is_async} is_remote={self.is_remote} seq_nr={self.sequence_nr} is_legacy={self.is_legacy}>"
        )


_SUMMED = (
    "cpu_time_total", "device_time_total", "self_cpu_time_total", "self_device_time_total", "cpu_memory_usage",
    "device_memory_usage", "self_cpu_memory_usage", "self_device_memory_usage", "count",
)  # fmt: skip


class FunctionEventAvg(_Times):
    """All calls of one name (and shapes, and stack, if events are grouped by those) together."""

    def __init__(self) -> None:
        self.key: str | None = None
        self.count = self.node_id = self.flops = 0
        self.is_async = self.is_remote = self.is_legacy = self.is_user_annotation = False
        self.use_device: str | None = None
        self.cpu_time_total = self.device_time_total = self.self_cpu_time_total = self.self_device_time_total = 0.0
        self.cpu_memory_usage = self.device_memory_usage = self.self_cpu_memory_usage = 0
        self.self_device_memory_usage = 0
        self.input_shapes: Any = None
        self.overload_name: str | None = None
        self.stack: list | None = None
        self.scope: int | None = None
        self.cpu_children: list[FunctionEvent] | None = None
        self.cpu_parent: FunctionEvent | None = None
        self.device_type = DeviceType.CPU

    def add(self, other: FunctionEvent | FunctionEventAvg) -> FunctionEventAvg:
        """Takes one more call in."""
        if self.key is None:
            self.key = other.key
            for name in ("node_id", "is_async", "is_remote", "cpu_parent", "cpu_children", "overload_name", "input_shapes",
                         "stack", "scope", "device_type", "is_legacy", "use_device", "is_user_annotation"):  # fmt: skip
                setattr(self, name, getattr(other, name))
        if self.key != other.key:
            raise AssertionError(f"Expected keys to match, but got {self.key} vs {other.key}")
        for name in _SUMMED:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.flops += other.flops or 0
        self.use_device = self.use_device or other.use_device
        return self

    __iadd__ = add

    @property
    def cuda_time_total(self) -> float:
        return self.device_time_total

    @property
    def self_cuda_time_total(self) -> float:
        return self.self_device_time_total

    def __repr__(self) -> str:
        device = self.use_device or "cuda"
        return (
            f"<FunctionEventAvg key={self.key} self_cpu_time={self.self_cpu_time_total_str} cpu_time={self.cpu_time_str} "
            f" self_{device}_time={self.self_device_time_total_str} {device}_time={self.device_time_str} "
            f"input_shapes={self.input_shapes} cpu_memory_usage={self.cpu_memory_usage} "
            f"{device}_memory_usage={self.device_memory_usage}>"
        )


_DEVICE_NAMES = {"cuda": "CUDA", "xpu": "XPU", "tpu": "TPU", "xla": "XLA"}
_STACK_METRICS = [
    "self_cpu_time_total",
    "self_cuda_time_total",
    "self_xpu_time_total",
    "self_privateuse1_time_total",
]


class EventList(list):
    """A list of events or of averages; printed, it is a table."""

    def __init__(
        self,
        events: Iterable = (),
        *,
        use_device: str | None = None,
        profile_memory: bool = False,
        with_flops: bool = False,
    ):
        super().__init__(events)
        self._use_device, self._profile_memory, self._with_flops = use_device, profile_memory, with_flops

    def __str__(self) -> str:
        return self.table()

    @property
    def self_cpu_time_total(self) -> float:
        """The sum of the events' own times, in microseconds."""
        return sum(event.self_cpu_time_total for event in self)

    def table(
        self,
        sort_by: str | None = None,
        row_limit: int = 100,
        max_src_column_width: int | None = 75,
        max_name_column_width: int | None = 55,
        max_shapes_column_width: int | None = 80,
        header: str | None = None,
        top_level_events_only: bool = False,
        time_unit: str | None = None,
    ) -> str:
        """The events as a table.

        sort_by: "cpu_time", "self_cpu_time_total", "cpu_memory_usage", "count" or another attribute, largest first.
        row_limit: rows to show, -1 for all. time_unit: "s", "ms" or "us"; without it, what suits each time.
        """
        from jtorch.autograd._profile_table import table

        return table(
            self, sort_by, row_limit, max_src_column_width, max_name_column_width, max_shapes_column_width, header,
            top_level_events_only, time_unit,
        )  # fmt: skip

    def key_averages(
        self, group_by_input_shapes: bool = False, group_by_stack_n: int = 0, group_by_overload_name: bool = False
    ) -> EventList:
        """The events of each name together; of each name and input shapes, and innermost stack entries, if wanted."""
        groups: dict[tuple, FunctionEventAvg] = {}
        for event in self:
            key = [event.key, event.node_id, event.device_type, event.is_legacy, event.is_user_annotation]
            if group_by_overload_name:
                key.append(event.overload_name)
            if group_by_input_shapes:
                key.append(str(event.input_shapes))
            if group_by_stack_n > 0:
                key += event.stack[:group_by_stack_n]
            groups.setdefault(tuple(key), FunctionEventAvg()).add(event)
        averages = EventList(
            groups.values(),
            use_device=self._use_device,
            profile_memory=self._profile_memory,
            with_flops=self._with_flops,
        )
        for average in averages:
            average.stack = (average.stack or [])[:group_by_stack_n] if group_by_stack_n > 0 else []
            if not group_by_input_shapes:
                average.input_shapes = ""
            if not group_by_overload_name:
                average.overload_name = ""
        return averages

    def total_average(self) -> FunctionEventAvg:
        """All events together, under the name "Total"."""
        total = FunctionEventAvg()
        for event in self:
            total.key = None
            total.add(event)
        total.key = "Total"
        return total

    def supported_export_stacks_metrics(self) -> list[str]:
        """What `export_stacks` can weigh stacks by."""
        return list(_STACK_METRICS)

    def export_stacks(self, path: str, metric: str) -> None:
        """Writes stacks with what was spent under each, in the form that flame graphs are made from."""
        if metric not in _STACK_METRICS:
            raise ValueError(f"metric should be one of: {_STACK_METRICS}")
        plain = str.maketrans(" ;\t\n", "____")
        with open(path, "w") as f:
            for event in self:
                value = int(getattr(event, metric.replace("xpu", "device").replace("privateuse1", "device")))
                if event.stack and value > 0:
                    f.write(f"{';'.join(frame.translate(plain) for frame in reversed(event.stack))} {value}\n")

    def export_chrome_trace(self, path: str) -> None:
        """Writes the events for chrome://tracing and Perfetto."""
        rows = [
            {
                "ph": "X", "cat": "user_annotation" if e.is_user_annotation else "cpu_op", "name": e.name, "pid": 0,
                "tid": e.thread, "ts": e.time_range.start, "dur": e.time_range.elapsed_us(), "args": {"External id": e.id},
            }
            for e in self
        ]  # fmt: skip
        with open(path, "w") as f:
            json.dump({"traceEvents": rows}, f)
