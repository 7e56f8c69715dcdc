"""Rounds in a trace: a Python loop leaves the same kernels over and over, wired alike."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from jtorch._runtime.trace import Step

TRIES = 256  # places at which a first round is looked for

# Where a round's input comes from: what is the same in all rounds ("always", slot), a result of the round ("made", place,
# output), one of the round before ("carried", place, output), or another value in each round ("each", their slots).
Source = tuple


class Rounds:
    """`rounds` times `length` operations from `start` on: the same kernels, and the same sources of each one's inputs.

    carried: what is taken from the round before, by its place in the round and output, each with the first round's slot.
    """

    __slots__ = ("carried", "length", "rounds", "sources", "start")

    def __init__(self, start: int, length: int, rounds: int):
        self.start, self.length, self.rounds = start, length, rounds
        self.sources: list[list[Source]] = []
        self.carried: dict[tuple[int, int], int] = {}

    @property
    def stop(self) -> int:
        """The place after the last operation."""
        return self.start + self.length * self.rounds

    def slots(self, ops: Sequence[Step], place: int, output: int) -> list[int]:
        """The slots of a result, round by round."""
        return [s.slot + output for s in ops[self.start + place : self.stop : self.length]]


def find(ops: Sequence[Step], apart: Collection[Step], least: int) -> list[list[Rounds]]:
    """Where at least so many rounds follow each other, in the order of the trace. Those in `apart` are in no round.

    Where a round begins is not to be seen: of the ways to cut that give as many rounds and carry as little, the first and
    the last three. (What makes a first or last round another one than the rest is mostly near a round's begin.)
    """
    names: dict = {}
    kinds = np.array([names.setdefault(id(s) if s in apart else s.kernel, len(names)) for s in ops])
    candidates = []
    for length in range(1, len(ops) // least + 1):
        same = np.concatenate(([False], kinds[length:] == kinds[:-length], [False]))
        edges = np.flatnonzero(same[1:] != same[:-1])
        for first, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            if end - first >= length * (least - 1):
                candidates.append((first - end - length, length, first))
    made = {slot: at for at, s in enumerate(ops) for slot in range(s.slot, s.slot + len(s.outs))}
    taken = np.zeros(len(ops), bool)
    found = []
    for extent, length, first in sorted(candidates):
        if not taken[first : first - extent].any():
            cuts = _wired(ops, made, first, first - extent, length, least)
            if cuts:
                taken[cuts[0].start : cuts[-1].stop] = True
                found.append(cuts)
    return sorted(found, key=lambda cuts: cuts[0].start)


def _wired(ops, made: dict[int, int], first: int, end: int, length: int, least: int) -> list[Rounds]:
    """The ways to cut what is between two places."""
    cuts: list[Rounds] = []
    for start in range(first, min(first + 3 * length, first + TRIES, end)):
        n = (end - start) // length
        if n < least or (cuts and n < cuts[0].rounds):
            break
        rounds = Rounds(start, length, n)
        if _wire(ops, made, rounds):
            if cuts and len(rounds.carried) < len(cuts[0].carried):
                cuts.clear()
            if not cuts or len(rounds.carried) == len(cuts[0].carried):
                cuts = [*cuts[:1], *cuts[1:][-2:], rounds]
    return cuts


def _wire(ops, made: dict[int, int], rounds: Rounds) -> bool:
    """Finds the sources; whether all rounds have them in common."""
    start, length = rounds.start, rounds.length
    for place in range(length):
        members = ops[start + place : rounds.stop : length]
        sources: list[Source] = []
        for slots in zip(*(s.ins for s in members), strict=True):
            at = [made.get(slot, -1) for slot in slots]
            if not any(start <= a < rounds.stop for a in at):
                sources.append(("always", slots[0]) if len(set(slots)) == 1 else ("each", slots))
                continue
            # From the second round on the same way back, and the same output of what is there.
            places = {a - start - length * r for r, a in enumerate(at[1:], 1)}
            outputs = {slot - ops[a].slot for slot, a in zip(slots[1:], at[1:], strict=True)}
            if len(places) > 1 or len(outputs) > 1:
                return False
            back, output = places.pop(), outputs.pop()
            if 0 <= back < length and at[0] - start == back and slots[0] - ops[at[0]].slot == output:
                sources.append(("made", back, output))
            elif -length <= back < 0 and at[0] < start:
                key = back + length, output
                if rounds.carried.setdefault(key, slots[0]) != slots[0]:
                    return False
                sources.append(("carried", *key))
            else:
                return False
        rounds.sources.append(sources)
    return True
