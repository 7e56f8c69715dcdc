"""Why a trace was compiled, in a line: what sets it apart from those compiled before."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jtorch._runtime.trace import Step


def why(end: Step, slots: tuple[int, ...]) -> str:
    """What sets a trace that is compiled apart from those compiled before, in a line."""
    if end.compiled:
        others = [p for p in end.programs.values() if p.plain is not None or p.donating is not None]
        mine = [p for p in others if p.slots == slots]
        if mine:
            return "the same operations, but others hold (or no longer hold) its inputs"
        if others:
            before = others[-1].slots
            return f"the same operations, but {len(slots)} results are still held (it was {len(before)})"
        return "it is the beginning of a longer trace that was compiled"
    at, below = end, end
    while not at.compiled:
        if at.parent is None:
            return "the first of its kind"
        at, below = at.parent, at
    mine = _describe(below)
    for step in at.children.values():
        if step.compiled:
            return f"after {at.depth} steps in common, {mine} where it was {_describe(step)}"
    return f"it goes on, with {mine}, where a compiled trace ended"


def _describe(step: Step) -> str:
    """A step in words."""
    if step.kind == "in":
        return f"an input {step.aval}" + ("" if step.node is None else " that requires grad")
    if step.kernel is None:
        if step.extra is None:
            return "a change of the grad mode"
        return "the beginning of a compiled function" if step.extra == ("compiled",) else f"a note ({step.extra[0]})"
    results = ", ".join(str(a) for a, _ in step.outs)
    return f"{step.kernel.name} -> {results}"
