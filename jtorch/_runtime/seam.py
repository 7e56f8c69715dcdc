"""Places where a program's trace is cut, unless it always comes the same way."""

from __future__ import annotations

from jtorch._runtime import executor
from jtorch._runtime.executor import T

FEW = 8  # ways to a seam that are kept together with what comes after it


class Seam:
    """Between what varies from round to round and what does not: the samples of a batch, and the training step.

    One program of both saves a run each round where both are always the same. Where there are many sorts of samples, each
    would have the step compiled for it anew: so only the first few ways to come here go on, and all others end here.
    """

    __slots__ = ("_roots", "_ways")

    def __init__(self):
        self._roots: dict = {}
        self._ways: set = set()

    def cross(self) -> None:
        """Runs what is pending, unless that came the same way before."""
        at = T.at
        if at.parent is None or T.region is not None or executor.get_ident() != T.owner:
            return
        if self._roots is not T.roots:  # another trie since
            self._roots = T.roots
            self._ways.clear()
        if at in self._ways:
            return
        if len(self._ways) < FEW:
            self._ways.add(at)
        executor.flush()
