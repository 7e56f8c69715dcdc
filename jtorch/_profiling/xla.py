"""XLA's profile of the programs that ran: which instruction took how long, and when."""

from __future__ import annotations

import pathlib
import shutil
import tempfile
import warnings
from collections import deque
from typing import NamedTuple

import jax

WINDOW = "jtorch run "  # and a number: what marks a run of ours in the profile
_END = "end: "  # and a name: where XLA on the CPU marks that an instruction is done, on whichever thread it was
_APART = 2000  # ns from the end of an instruction's event to that mark that say that it went on by itself


class Instruction(NamedTuple):
    """One execution of an instruction, in ns from the start of its window."""

    name: str
    thread: int
    lane: str
    start: float
    end: float


class XlaTrace:
    """A session of JAX's profiler. `on` is False where one cannot be had: another one runs already."""

    def __init__(self):
        self.on = False
        self._folder = ""

    def start(self) -> None:
        options = jax.profiler.ProfileOptions()
        options.python_tracer_level = 0  # it would time every Python call, and slow all of them down
        self._folder = tempfile.mkdtemp(prefix="jtorch-profile-")
        try:
            jax.profiler.start_trace(self._folder, profiler_options=options)
            self.on = True
        except RuntimeError:  # only one can be on, and somebody has one
            shutil.rmtree(self._folder, ignore_errors=True)

    def stop(self) -> dict[int, list[Instruction]]:
        """The instructions of each window, by its number."""
        if not self.on:
            return {}
        self.on = False
        try:
            jax.profiler.stop_trace()
            files = sorted(pathlib.Path(self._folder).rglob("*.xplane.pb"))
            with warnings.catch_warnings():
                # Of how jaxlib makes the class of `event.stats`. Made an error inside of that, it ends the process.
                warnings.filterwarnings("ignore", "builtin type .* has no __module__", DeprecationWarning)
                return _read(jax.profiler.ProfileData.from_file(str(files[-1]))) if files else {}
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)


def _read(data) -> dict[int, list[Instruction]]:
    windows: list[tuple[float, float, int]] = []
    ran: list[tuple[float, float, str, int, str]] = []
    ended: dict[str, list[float]] = {}
    lanes = 0
    for plane in data.planes:
        for line in plane.lines:
            lanes += 1
            for event in line.events:
                name = event.name
                if name.startswith(WINDOW):
                    windows.append((event.start_ns, event.end_ns, int(name.removeprefix(WINDOW))))
                elif name.startswith(_END):
                    ended.setdefault(name.removeprefix(_END), []).append(event.start_ns)
                elif not name.startswith("Threadpool"):
                    instruction = dict(event.stats).get("hlo_op")
                    if instruction is not None:
                        ran.append((event.start_ns, event.end_ns, str(instruction), lanes, line.name))
    windows.sort()
    ran.sort()
    ends = {name: deque(sorted(times)) for name, times in ended.items()}
    found: dict[int, list[Instruction]] = {number: [] for _, _, number in windows}
    at = 0
    for start, end, name, lane, lane_name in ran:
        while at < len(windows) and windows[at][1] < start:
            at += 1
        if at == len(windows):
            break
        first, last, number = windows[at]
        if start < first:
            continue
        marks = ends.get(name, ())
        while marks and marks[0] < start:
            marks.popleft()
        if marks and end + _APART < marks[0] < last:  # it went on in other threads, and this one went on to the next
            lanes += 1
            lane, end = lanes, marks[0]
        found[number].append(Instruction(name, lane, lane_name, start - first, min(end, last) - first))
    return found
