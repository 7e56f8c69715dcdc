"""Measurements side by side, as a table."""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence

from jtorch.utils.benchmark.utils import common
from jtorch.utils.benchmark.utils.common import Measurement

_BEST, _GOOD, _BAD, _VERY_BAD = "\033[92m\033[1m", "\033[34m\033[1m", "\033[2m\033[91m", "\033[31m\033[1m"
_PLAIN = "\033[0m\033[0m"
_JOIN = "  |  "


class Colorize(enum.Enum):
    """What times are compared with: those in their column, or those in their row."""

    NONE = "none"
    COLUMNWISE = "columnwise"
    ROWWISE = "rowwise"


def _color(text: str, ratio: float) -> str:
    if ratio <= 1.01:
        return _BEST + text + _PLAIN
    if ratio <= 1.1:
        return _GOOD + text + _PLAIN
    if ratio >= 5:
        return _VERY_BAD + text + _PLAIN
    return _BAD + text + _PLAIN if ratio >= 2 else text


class _Table:
    """The measurements of one label: a row for each task, environment and number of threads, a column a description."""

    def __init__(self, results: list[Measurement], colorize: Colorize, trim: bool, warn: bool):
        self.results, self.colorize, self.trim, self.warn = results, colorize, trim, warn
        self.unit, self.scale = common.select_unit(min(r.median for r in results))
        self.label = results[0].label or ""
        keys = common.ordered_unique([_row(r) for r in results])
        self.rows = sorted(keys, key=lambda k: (k[0], k[1] or ""))  # stable: statements stay in their order
        self.columns = common.ordered_unique([r.description or "" for r in results])
        self.at = {(_row(r), r.description or ""): r for r in results}
        self.warned = False

    def _texts(self, column: str) -> list[str]:
        """The cells of a column, one below the other."""
        found = [self.at.get((row, column)) for row in self.rows]
        there = [r for r in found if r is not None]
        digits = min(_decimals(r, self.scale) for r in there) if self.trim else 1
        numbers, notes = [], []
        for r in found:
            number = note = ""
            if r is not None:
                value = r.median / self.scale
                number = f"{common.trim_sigfig(value, r.significant_figures) if self.trim else value:.{digits}f}"
                if self.warn and r.has_warnings:
                    self.warned = True
                    note = f" (! {r.iqr / r.median * 100:.0f}%)"
            numbers.append(number)
            notes.append(note)
        most, most_note = max(map(len, numbers)), max(map(len, notes))
        return [n.rjust(most) + note.ljust(most_note) for n, note in zip(numbers, notes, strict=True)]

    def _ratio(self, row: tuple, column: str) -> float:
        """How much longer than the best that it is compared with."""
        if self.colorize is Colorize.ROWWISE:
            others = [self.at[row, c] for c in self.columns if (row, c) in self.at]
        else:
            others = [self.at[r, column] for r in self.rows if (r, column) in self.at]
        return self.at[row, column].median / min(o.median for o in others)

    def render(self) -> str:
        texts = {column: self._texts(column) for column in self.columns}
        names = self._names()
        first = max(map(len, names))
        widths = {column: max(len(column), *map(len, texts[column])) for column in self.columns}
        header = _JOIN.join([" " * first] + [column.center(widths[column]) for column in self.columns])
        lines = [f"[{f' {self.label} '.center(len(header) - 2, '-')}]", header]
        threads = None
        for i, (row, name) in enumerate(zip(self.rows, names, strict=True)):
            if row[0] != threads:
                threads = row[0]
                lines.append(f"{threads} threads: ".ljust(len(header), "-"))
            cells = [name.ljust(first)]
            for column in self.columns:
                text = texts[column][i].center(widths[column])
                if self.colorize is not Colorize.NONE and (row, column) in self.at:
                    text = _color(text, self._ratio(row, column))
                cells.append(text)
            lines.append(_JOIN.join(cells))
        lines += ["", f"Times are in {common.unit_to_english(self.unit)}s ({self.unit})."]
        if self.warned:
            lines.append("(! XX%) Measurement has high variance, where XX is the IQR / median * 100.")
        return "\n".join(lines) + "\n"

    def _names(self) -> list[str]:
        """The rows' names, each environment named where its rows begin."""
        width = max(len(env or "") for _, env, _ in self.rows) + 2
        names, before = [], None
        for threads, env, name in self.rows:
            word = f"({env})" if env and (threads, env) != before else ""
            before = threads, env
            names.append(f"  {word.ljust(width)}  {name}")
        return names


def _row(r: Measurement) -> tuple:
    return r.num_threads, r.env, r.as_row_name


def _decimals(r: Measurement, scale: float) -> int:
    value = r.median / scale
    return max(0, r.significant_figures - math.ceil(math.log10(value))) if value > 0 else 1


class Compare:
    """Shows measurements as tables: `Compare(measurements).print()`.

    Measurements of one label share a table. Those of one description share a column, those of one sub-label, number of
    threads and environment a row. Several of one task are merged.
    """

    def __init__(self, results: list[Measurement]) -> None:
        self._results: list[Measurement] = []
        self.extend_results(results)
        self._trim_significant_figures = False
        self._colorize = Colorize.NONE
        self._highlight_warnings = False

    def __str__(self) -> str:
        return "\n".join(self._render())

    def extend_results(self, results: Sequence[Measurement]) -> None:
        """Adds measurements. ValueError for anything else."""
        for r in results:
            if not isinstance(r, Measurement):
                raise ValueError(f"Expected an instance of `Measurement`, got {type(r)} instead.")
        self._results.extend(results)

    def trim_significant_figures(self) -> None:
        """Shows only digits that mean something."""
        self._trim_significant_figures = True

    def colorize(self, rowwise: bool = False) -> None:
        """Colors times by how they compare with the best of their column, or row."""
        self._colorize = Colorize.ROWWISE if rowwise else Colorize.COLUMNWISE

    def highlight_warnings(self) -> None:
        """Marks measurements whose times are spread wide."""
        self._highlight_warnings = True

    def print(self) -> None:
        """Prints the tables."""
        print(str(self))

    def _render(self) -> list[str]:
        merged = Measurement.merge(self._results)
        groups: dict[str | None, list[Measurement]] = {}
        for r in merged:
            groups.setdefault(r.label, []).append(r)
        return [
            _Table(group, self._colorize, self._trim_significant_figures, self._highlight_warnings).render()
            for group in groups.values()
        ]
