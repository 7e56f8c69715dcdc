"""`profile` with a schedule: a program is profiled in cycles of waiting, warming up and recording."""

from __future__ import annotations

import enum
import json
import os
import socket
import time
import warnings
from collections.abc import Callable, Iterable
from typing import Any

from jtorch._runtime import devices
from jtorch.autograd import profiler as prof
from jtorch.autograd.profiler_util import EventList


class ProfilerAction(enum.Enum):
    """What a profile does in a step."""

    NONE = 0
    WARMUP = 1
    RECORD = 2
    RECORD_AND_SAVE = 3
    DEVICE_STOPPED = 4


class ProfilerActivity(enum.Enum):
    """Whose time is asked for. Both are recorded wherever they are."""

    CPU = 0
    XPU = 1
    MTIA = 2
    CUDA = 3
    HPU = 4
    PrivateUse1 = 5


def supported_activities() -> set[ProfilerActivity]:
    """The host, and an accelerator where JAX has one."""
    found = {ProfilerActivity.CPU}
    if devices.jax_devices("cuda"):
        found.add(ProfilerActivity.CUDA)
    return found


def schedule(
    *, wait: int, warmup: int, active: int, repeat: int = 0, skip_first: int = 0, skip_first_wait: int = 0
) -> Callable[[int], ProfilerAction]:
    """For `profile(schedule=...)`: after `skip_first` steps, cycles of `wait`, `warmup` and `active` steps.

    repeat: the number of cycles, 0 for no end. skip_first_wait: not 0 to leave out the first cycle's wait.
    """
    if min(wait, warmup, repeat, skip_first) < 0 or active <= 0:
        raise AssertionError(
            f"Invalid profiler schedule arguments. Got wait={wait} (need >= 0), warmup={warmup} (need >= 0), "
            f"active={active} (need > 0), repeat={repeat} (need >= 0), skip_first={skip_first} (need >= 0)."
        )
    if warmup == 0:
        warnings.warn("Profiler won't be using warmup, this can skew profiler results", stacklevel=2)
    cycle = wait + warmup + active

    def action(step: int) -> ProfilerAction:
        if step < 0:
            raise AssertionError(f"Step must be non-negative. Got {step}.")
        if step < skip_first:
            return ProfilerAction.NONE
        step -= skip_first
        if skip_first_wait:
            step += wait
        if repeat and step // cycle >= repeat:
            return ProfilerAction.NONE
        at = step % cycle
        if at < wait:
            return ProfilerAction.NONE
        if at < wait + warmup:
            return ProfilerAction.WARMUP
        return ProfilerAction.RECORD_AND_SAVE if at == cycle - 1 else ProfilerAction.RECORD

    return action


def _always(_: int) -> ProfilerAction:
    return ProfilerAction.RECORD


def tensorboard_trace_handler(
    dir_name: str, worker_name: str | None = None, use_gzip: bool = False, use_python_export: bool = False
) -> Callable[[Any], None]:
    """For `profile(on_trace_ready=...)`: writes each cycle's timeline into a folder, a file each."""

    def handler(profiler: profile) -> None:
        os.makedirs(dir_name, exist_ok=True)
        worker = worker_name or f"{socket.gethostname()}_{os.getpid()}"
        ending = ".pt.trace.json" + (".gz" if use_gzip else "")
        profiler.export_chrome_trace(os.path.join(dir_name, f"{worker}.{time.time_ns()}{ending}"))

    return handler


class profile:
    """Records what runs in a block, all of it or the steps that a schedule says.

    activities: the host's and the accelerator's time are both recorded wherever they are. on_trace_ready is called with
    the profile at the end of every cycle, and at the end. acc_events keeps the events of earlier cycles. The rest is as
    in `jtorch.autograd.profiler.profile`, which also says how time is attributed.
    """

    def __init__(
        self,
        *,
        activities: Iterable[ProfilerActivity | dict[ProfilerActivity, list[str]]] | None = None,
        schedule: Callable[[int], ProfilerAction] | None = None,
        on_trace_ready: Callable[..., Any] | None = None,
        record_shapes: bool = False,
        profile_memory: bool = False,
        with_stack: bool = False,
        with_flops: bool = False,
        with_modules: bool = False,
        experimental_config: Any = None,
        execution_trace_observer: Any = None,
        acc_events: bool = False,
        use_cuda: bool | None = None,
        custom_trace_id_callback: Callable[[], str] | None = None,
        post_processing_timeout_s: float | None = None,
    ) -> None:
        wanted = set(supported_activities()) if activities is None else {_activity(a) for a in activities}
        if not wanted:
            raise AssertionError("No valid profiler activities found")
        if ProfilerActivity.CUDA in wanted and ProfilerActivity.CUDA not in supported_activities():
            warnings.warn("CUDA is not available, disabling CUDA profiling", stacklevel=2)
            wanted.discard(ProfilerActivity.CUDA)
        self.activities = wanted
        self.schedule = schedule or _always
        self._scheduled = schedule is not None
        self.on_trace_ready = on_trace_ready
        self.record_shapes, self.profile_memory, self.with_stack = record_shapes, profile_memory, with_stack
        self.with_flops, self.with_modules, self.acc_events = with_flops, with_modules, acc_events
        self.custom_trace_id_callback = custom_trace_id_callback
        self.step_num = 0
        self.current_action = self.schedule(0)
        self.profiler: prof.profile | None = None
        self._step: prof.record_function | None = None
        self._metadata: dict[str, Any] = {}
        self._running = False

    def __enter__(self) -> profile:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    # ---- the course of it ----

    def start(self) -> None:
        """Begins, with what the schedule says for the first step."""
        if not self.activities:
            raise AssertionError("No activities specified for the profiler")
        self._begin(ProfilerAction.NONE, self.current_action)
        self._open_step()

    def stop(self) -> None:
        """Ends; what a cycle has recorded so far is handed to `on_trace_ready`."""
        self._close_step()
        recorded = self._running and self.current_action is not ProfilerAction.WARMUP
        self._finish()
        if recorded and self.on_trace_ready:
            self.on_trace_ready(self)
        self.current_action = ProfilerAction.NONE if recorded or not self._scheduled else self.current_action

    def step(self) -> None:
        """Says that the next step of the program begins."""
        self._close_step()
        before = self.current_action
        self.step_num += 1
        self.current_action = self.schedule(self.step_num)
        self._begin(before, self.current_action)
        self._open_step()

    def _begin(self, before: ProfilerAction, now: ProfilerAction) -> None:
        recording = (ProfilerAction.RECORD, ProfilerAction.RECORD_AND_SAVE)
        if self._running and (before is ProfilerAction.RECORD_AND_SAVE or now not in recording):
            if before in recording and now not in recording and before is not ProfilerAction.RECORD_AND_SAVE:
                warnings.warn(
                    "Incorrect schedule: RECORD followed by " + now.name,
                    stacklevel=3,
                )
            self._finish()
            if before is ProfilerAction.RECORD_AND_SAVE and self.on_trace_ready:
                self.on_trace_ready(self)
        if now in recording and not self._running:
            self.start_trace()

    def start_trace(self) -> None:
        """Begins to record, whatever the schedule."""
        self.profiler = prof.profile(
            record_shapes=self.record_shapes,
            with_flops=self.with_flops,
            profile_memory=self.profile_memory,
            with_stack=self.with_stack,
            with_modules=self.with_modules,
            acc_events=self.acc_events,
            custom_trace_id_callback=self.custom_trace_id_callback,
        ) if self.profiler is None or not self.acc_events else self.profiler  # fmt: skip
        self.profiler._start_trace()
        self._running = True

    def stop_trace(self) -> None:
        """Ends recording, whatever the schedule."""
        if self.profiler is None:
            raise AssertionError("Profiler must be initialized before stopping trace")
        self._finish()

    def _finish(self) -> None:
        if self.profiler is None:
            raise AssertionError("Profiler must be initialized before stopping trace")
        if self._running:
            self._running = False
            self.profiler._stop_trace()

    def _open_step(self) -> None:
        if self._scheduled:
            self._step = prof.record_function(f"ProfilerStep#{self.step_num}")
            self._step.__enter__()

    def _close_step(self) -> None:
        if self._step is not None:
            self._step.__exit__(None, None, None)
            self._step = None

    # ---- what it found ----

    def _found(self, doing: str) -> prof.profile:
        if self.profiler is None:
            raise AssertionError(f"Profiler must be initialized before {doing}")
        return self.profiler

    def events(self) -> EventList:
        """All events of the cycle."""
        return self._found("accessing events")._ended()

    def key_averages(
        self, group_by_input_shape: bool = False, group_by_stack_n: int = 0, group_by_overload_name: bool = False
    ) -> EventList:
        """The events of each name together, for `.table(sort_by="self_cpu_time_total")`."""
        return self._found("getting key averages").key_averages(
            group_by_input_shape, group_by_stack_n, group_by_overload_name
        )

    def export_chrome_trace(self, path: str, use_python_export: bool = False) -> None:
        """Writes the timeline for chrome://tracing and Perfetto, compressed if the path ends in ".gz"."""
        self._found("exporting chrome trace").export_chrome_trace(path, self._metadata)

    def export_stacks(self, path: str, metric: str = "self_cpu_time_total") -> None:
        """Writes stacks for flame graphs, weighed by "self_cpu_time_total" or "self_cuda_time_total"."""
        self._found("exporting stacks").export_stacks(path, metric)

    def add_metadata(self, key: str, value: str) -> None:
        """Adds a word to the timeline that is written."""
        self._metadata[key] = value

    def add_metadata_json(self, key: str, value: str) -> None:
        """Adds a value, given as JSON, to the timeline that is written."""
        self._metadata[key] = json.loads(value)

    preset_metadata_json = add_metadata_json

    def get_trace_id(self) -> str | None:
        """The id of the timeline."""
        return None if self.profiler is None else self.profiler.trace_id

    def set_custom_trace_id_callback(self, callback: Callable[[], str]) -> None:
        """A function that gives the ids of timelines."""
        self.custom_trace_id_callback = callback


def _activity(a: ProfilerActivity | dict[ProfilerActivity, list[str]]) -> ProfilerActivity:
    chosen = next(iter(a)) if isinstance(a, dict) else a
    if not isinstance(chosen, ProfilerActivity):
        raise AssertionError("No valid profiler activities found")
    return chosen
