"""Timing statements."""

from __future__ import annotations

import ast
import enum
import textwrap
import timeit
from collections.abc import Callable
from typing import Any, NoReturn

from jtorch import cuda
from jtorch._runtime import executor
from jtorch.utils.benchmark.utils import common
from jtorch.utils.benchmark.utils.common import Measurement, TaskSpec

_BLOCK_OVERHEAD = 1e-4  # of a block's time that may go to starting and stopping the clock


def timer() -> float:
    """Seconds on a clock that has waited for what is pending: its work is within the time that is measured."""
    if cuda.is_available():
        cuda.synchronize()
    executor.flush()  # programs on the host are waited for where they run
    return timeit.default_timer()


class _KeepResults(ast.NodeTransformer):
    """Has the values of expression statements kept until the statement that is timed has ended.

    A pending value that nobody holds is never computed: of `x @ y` alone, only the recording would be timed.
    """

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        if isinstance(node.value, ast.Constant | ast.Yield | ast.YieldFrom | ast.Await):
            return node
        keep = ast.Attribute(ast.Name(_KEPT, ast.Load()), "append", ast.Load())
        return ast.Expr(ast.Call(keep, [node.value], []))

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return node

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return node


_KEPT, _DONE = "_jtorch_kept", "_jtorch_done"


def _computed(stmt: str) -> str:
    """A statement that ends when its results are computed."""
    return f"{ast.unparse(_KeepResults().visit(ast.parse(stmt, '<timeit-src>')))}\n{_DONE}()"


class Language(enum.Enum):
    """The language of a statement."""

    PYTHON = 0
    CPP = 1


class Timer:
    """Times a statement: `Timer("x @ y", globals={"x": x, "y": y}).blocked_autorange()`.

    setup runs once ahead of each timing. label, sub_label, description and env say what is timed, for `Compare`.
    num_threads is shown with the result; XLA takes its threads when it starts. Each run of the statement ends with its
    results computed (on an accelerator: under way), those of expressions that nobody keeps too: what a program pays that
    looks at them each time. A program that does not may pay less. C++ statements do not exist here.
    """

    _timer_cls = timeit.Timer

    def __init__(
        self,
        stmt: str = "pass",
        setup: str = "pass",
        global_setup: str = "",
        timer: Callable[[], float] = timer,
        globals: dict[str, Any] | None = None,
        label: str | None = None,
        sub_label: str | None = None,
        description: str | None = None,
        env: str | None = None,
        num_threads: int = 1,
        language: Language | str = Language.PYTHON,
    ) -> None:
        if not isinstance(stmt, str):
            raise ValueError("Currently only a `str` stmt is supported.")
        if language in (Language.CPP, "cpp", "c++"):
            raise NotImplementedError("C++ statements are not supported: jtorch has no C++ API")
        if language not in (Language.PYTHON, "py", "python"):
            raise ValueError(f"Invalid language `{language}`.")
        if global_setup:
            raise ValueError(
                f"global_setup is C++ only, got `{global_setup}`. Most likely this code can simply be moved to `setup`."
            )
        # What is indented as a whole is none the less a statement.
        stmt, setup = textwrap.dedent(stmt).strip("\n ").rstrip(), textwrap.dedent(setup).strip("\n ").rstrip()
        self._globals = dict(globals or {})
        if globals is None or "torch" not in self._globals:
            import jtorch

            self._globals.setdefault("torch", jtorch)
        kept: list[Any] = []

        def done() -> None:
            executor.flush()
            kept.clear()

        self._globals |= {_KEPT: kept, _DONE: done}
        self._timer = self._timer_cls(stmt=_computed(stmt), setup=setup, timer=timer, globals=self._globals)
        self._task_spec = TaskSpec(
            stmt=stmt, setup=setup, global_setup="", label=label, sub_label=sub_label, description=description, env=env,
            num_threads=num_threads,
        )  # fmt: skip

    def _timeit(self, number: int) -> float:
        # A clock that stood still would make endless loops of those that go by it.
        return max(self._timer.timeit(number), 1e-9)

    def _measured(self, number: int, times: list[float]) -> Measurement:
        return Measurement(number_per_run=number, raw_times=times, task_spec=self._task_spec)

    def timeit(self, number: int = 1000000) -> Measurement:
        """One measurement of `number` runs, after a few to warm up."""
        with common.set_torch_threads(self._task_spec.num_threads):
            self._timeit(number=max(number // 100, 2))
            return self._measured(number, [self._timeit(number)])

    def repeat(self, repeat: int = -1, number: int = -1) -> NoReturn:
        """Not there: `blocked_autorange` repeats."""
        raise NotImplementedError("See `Timer.blocked_autorange.`")

    def autorange(self, callback: Callable[[int, float], NoReturn] | None = None) -> NoReturn:
        """Not there: `blocked_autorange` finds the number of runs."""
        raise NotImplementedError("See `Timer.blocked_autorange.`")

    def _block_size(self, min_run_time: float) -> int:
        """Runs a block, so many that the clock's own time does not count."""
        overhead = sorted(self._timeit(0) for _ in range(5))[2]
        number = 1
        while True:
            taken = self._timeit(number)
            if overhead / taken <= _BLOCK_OVERHEAD and taken >= min_run_time / 1000:
                return number
            if taken > min_run_time:
                return number
            number *= 10

    def blocked_autorange(
        self, callback: Callable[[int, float], NoReturn] | None = None, min_run_time: float = 0.2
    ) -> Measurement:
        """Measurements of as many runs as the clock's precision asks for, for `min_run_time` seconds in all.

        callback(number, seconds) is called after each.
        """
        with common.set_torch_threads(self._task_spec.num_threads):
            number = self._block_size(min_run_time)
            times: list[float] = []
            total = 0.0
            while total < min_run_time:
                taken = self._timeit(number)
                total += taken
                times.append(taken)
                if callback is not None:
                    callback(number, taken)
            return self._measured(number, times)

    def adaptive_autorange(
        self,
        threshold: float = 0.1,
        *,
        min_run_time: float = 0.01,
        max_run_time: float = 10.0,
        callback: Callable[[int, float], NoReturn] | None = None,
    ) -> Measurement:
        """Measurements until their interquartile range is within `threshold` of the median, four at least."""
        with common.set_torch_threads(self._task_spec.num_threads):
            number = self._block_size(0.05)
            times: list[float] = []
            total = 0.0
            while total < max_run_time:
                taken = self._timeit(number)
                total += taken
                times.append(taken)
                if callback is not None:
                    callback(number, taken)
                found = self._measured(number, times)
                if len(times) > 3 and total >= min_run_time and found.meets_confidence(threshold):
                    break
            return self._measured(number, times)

    def collect_callgrind(
        self,
        number: int = 100,
        *,
        repeats: int | None = None,
        collect_baseline: bool = True,
        retain_out_file: bool = False,
    ) -> NoReturn:
        """Not there: instructions are XLA's, compiled at run time, which Callgrind cannot name."""
        raise NotImplementedError(
            "collect_callgrind is not supported: jtorch runs programs that XLA compiles, which Callgrind cannot count by "
            "function. See jtorch.profiler for where time goes."
        )
