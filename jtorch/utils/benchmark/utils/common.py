"""Tasks, what was measured of them, and numbers as text."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

import jtorch

_SIGNIFICANT = 4  # digits that are given at most
_TIMER_NOISE = 25e-9  # seconds a run
_Z90 = 1.645  # standard deviations to either side that hold 90 % of a normal distribution
_IQR_WARNING, _IQR_GROSS = 0.1, 0.25  # of the median: from where a warning is given, and a stronger one
_UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1}
_ENGLISH = {"ns": "nanosecond", "us": "microsecond", "ms": "millisecond", "s": "second"}


@dataclasses.dataclass(init=True, repr=False, eq=True, frozen=True)
class TaskSpec:
    """What is timed: the statement and all that tells one measurement from another."""

    stmt: str
    setup: str
    global_setup: str = ""
    label: str | None = None
    sub_label: str | None = None
    description: str | None = None
    env: str | None = None
    num_threads: int = 1

    @property
    def title(self) -> str:
        """The label, or the statement, with the sub-label."""
        if self.label is not None:
            return self.label + (f": {self.sub_label}" if self.sub_label else "")
        if "\n" not in self.stmt:
            return self.stmt + (f": {self.sub_label}" if self.sub_label else "")
        sub = f"{self.sub_label}\n" if self.sub_label else ""
        return f"stmt:{f' ({sub.rstrip()})' if sub else ''}\n{textwrap.indent(self.stmt, '  ')}"

    def setup_str(self) -> str:
        """The setup as it is shown: nothing where there is none."""
        if self.setup == "pass" or not self.setup:
            return ""
        if "\n" in self.setup:
            return f"setup:\n{textwrap.indent(self.setup, '  ')}"
        return f"setup: {self.setup}"

    def summarize(self) -> str:
        """Title, description and setup, a line each."""
        sections = [self.title, self.description or "", self.setup_str()]
        return "\n".join(f"{s}\n" if "\n" in s else s for s in sections if s)


@dataclasses.dataclass(init=True, repr=False)
class Measurement:
    """The times that were measured of a task.

    raw_times: seconds of each measurement, which is `number_per_run` runs of the statement.
    """

    number_per_run: int
    raw_times: list[float]
    task_spec: TaskSpec
    metadata: dict[Any, Any] | None = None

    def __getattr__(self, name: str) -> Any:
        # The task's label, sub_label and so on are the measurement's too. Not before there is one: unpickling looks here.
        if not name.startswith("__") and "task_spec" in self.__dict__ and hasattr(TaskSpec, name) or name in _FIELDS:
            return getattr(self.__dict__["task_spec"], name)
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    @property
    def times(self) -> list[float]:
        """Seconds a run of the statement."""
        return [t / self.number_per_run for t in self.raw_times]

    def _checked(self) -> np.ndarray:
        if not self.raw_times:
            raise ValueError("a measurement without times")
        return np.asarray(self.times)

    @property
    def median(self) -> float:
        return float(np.median(self._checked()))

    @property
    def mean(self) -> float:
        return float(np.mean(self._checked()))

    @property
    def iqr(self) -> float:
        """The range between the quartiles."""
        low, high = self._quartiles()
        return high - low

    def _quartiles(self) -> tuple[float, float]:
        low, high = np.quantile(self._checked(), (0.25, 0.75))
        return float(low), float(high)

    @property
    def significant_figures(self) -> int:
        """How many digits of the times mean something, from 1 to 4.

        The middle half of the times says how far the median may be off (at 90 % confidence, no less than 25 ns); digits
        below that are noise.
        """
        times = np.sort(self._checked())
        middle = times[len(times) // 4 : math.ceil(3 * len(times) / 4)]
        interval = max(_Z90 * float(np.std(middle)) / math.sqrt(len(middle)), _TIMER_NOISE)
        digits = -math.log10(interval / self.median) if self.median > 0 else 0.0
        return min(max(math.floor(digits), 1), _SIGNIFICANT)

    @property
    def has_warnings(self) -> bool:
        """Whether the times are spread so far that they deserve distrust."""
        return bool(self._warning())

    def meets_confidence(self, threshold: float = _IQR_WARNING) -> bool:
        """Whether the interquartile range is within this share of the median."""
        return self.iqr / self.median < threshold

    @property
    def title(self) -> str:
        return self.task_spec.title

    @property
    def as_row_name(self) -> str:
        return self.task_spec.sub_label or self.task_spec.stmt or "[Unknown]"

    def _warning(self) -> str:
        share = self.iqr / self.median if self.median else 0.0
        if share <= _IQR_WARNING:
            return ""
        reason = (
            "This suggests significant environmental influence."
            if share >= _IQR_GROSS
            else "This could indicate system fluctuation."
        )
        return f"  WARNING: Interquartile range is {share * 100:.1f}% of the median measurement.\n           {reason}"

    def __repr__(self) -> str:
        n = len(self.raw_times)
        unit, scale = select_unit(self.median)
        figures = 2
        lines = [f"<{type(self).__module__.replace('jtorch', 'torch', 1)}.Measurement object at {id(self):#x}>"]
        lines.append(self.task_spec.summarize())
        if n == 1:
            lines.append(f"  {self.median / scale:.{figures}f} {unit}")
            lines.append(f"  1 measurement, {self.number_per_run} runs ")
        else:
            lines.append(f"  Median: {self.median / scale:.{figures}f} {unit}")
            if n > 3:
                low, high = self._quartiles()
                lines.append(
                    f"  IQR:    {self.iqr / scale:.{figures}f} {unit} "
                    f"({low / scale:.{figures}f} to {high / scale:.{figures}f})"
                )
            lines.append(f"  {n} measurements, {self.number_per_run} runs per measurement")
        threads = self.task_spec.num_threads
        lines[-1] += f", {threads} thread{'s' if threads > 1 else ''}"
        warning = self._warning()
        if warning:
            lines.append(warning)
        return "\n".join(lines)

    @staticmethod
    def merge(measurements: Iterable[Measurement]) -> list[Measurement]:
        """The measurements of one task each made into one, of one run a measurement."""
        groups: dict[TaskSpec, list[Measurement]] = {}
        for m in measurements:
            groups.setdefault(m.task_spec, []).append(m)
        return [Measurement(1, [t for m in ms for t in m.times], spec) for spec, ms in groups.items()]


_FIELDS = frozenset(f.name for f in dataclasses.fields(TaskSpec))


def select_unit(t: float) -> tuple[str, float]:
    """The unit that suits a time in seconds, and its length."""
    power = math.floor(round(math.log10(t) / 3, 9)) if t > 0 else 0
    unit = {-1: "ms", -2: "us", -3: "ns"}.get(power, "s")
    return unit, _UNITS[unit]


def unit_to_english(u: str) -> str:
    """The unit's full name."""
    return _ENGLISH[u]


def trim_sigfig(x: float, n: int) -> float:
    """x with n significant digits, in float32."""
    if x == 0:
        return 0.0
    scale = np.float32(10.0 ** (math.ceil(math.log10(abs(x))) - n))
    return float(np.round(np.float32(x) / scale) * scale)


def ordered_unique(elements: Iterable[Any]) -> list[Any]:
    """Each element once, in the order of the first ones."""
    return list(dict.fromkeys(elements))


@contextlib.contextmanager
def set_torch_threads(n: int) -> Iterator[None]:
    """Asks for a number of threads for a block. XLA takes its threads when it starts: see `set_num_threads`."""
    before = jtorch.get_num_threads()
    try:
        jtorch.set_num_threads(n)
        yield
    finally:
        jtorch.set_num_threads(before)
