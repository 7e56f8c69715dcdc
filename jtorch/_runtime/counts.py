"""What jtorch counts of its own doing: `jtorch.stats()`."""

from __future__ import annotations

from typing import NamedTuple


class Counts(NamedTuple):
    """What jtorch has done since the process began, or since the counts were last reset."""

    operations: int  # that were run, recorded or at once
    at_once: int  # of them: outside any trace (the eager mode, other threads, JAX's own transformations)
    syncs: int  # runs of a trace: because a value was needed, a step ended, or the trace grew too long
    cold: int  # of them: operation by operation
    hot: int  # of them: as one compiled program
    replays: int  # calls of compiled functions whose Python did not run
    compiles: int  # traces compiled whole
    kernels: int  # operations compiled one by one
    compile_seconds: float  # of the traces, their first run with it
    run_seconds: float  # in programs, the compiling of kernels and traces with it

    def __str__(self) -> str:
        return "\n".join(
            f"{name.replace('_', ' '):16}{value:12.3f}"
            if isinstance(value, float)
            else f"{name.replace('_', ' '):16}{value:8}"
            for name, value in self._asdict().items()
        )


class Stats:
    """The running counts."""

    def __init__(self):
        self.reset()

    hot_programs = 0  # held now

    def reset(self):
        self.operations = self.at_once = self.syncs = self.compiles = self.cold = self.hot = self.replays = (
            self.kernels
        ) = 0
        self.compile_seconds = self.run_seconds = 0.0


stats = Stats()


def counts(reset: bool = False) -> Counts:
    """How often jtorch recorded, ran and compiled, and how long that took. `print` it for a table.

    reset: begins to count anew.
    """
    found = Counts(**{name: getattr(stats, name) for name in Counts._fields})
    if reset:
        stats.reset()
    return found
