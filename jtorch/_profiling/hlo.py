"""From a compiled program's text to the operations that each of its instructions computes.

Operations of a compiled trace are traced inside a named scope each (`loops.scope`), which XLA keeps as
`metadata={op_name="jit(trace)/jtorch.12/dot_general"}`. A fusion computes several operations at once: it is shared out
between them by the elements that each of their instructions reads or writes, a product's multiplications counting in full.
What is computed in a loop, "jtorch.12.5.20", is shared out between its rounds' operations: 20 of them, each 5 after the last.
"""

from __future__ import annotations

import math
import re

from jtorch._runtime.loops import SCOPE

_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*)$")
_OPCODE = re.compile(r"(?:^|[\s)}\]])([a-z][\w\-]*)\(")
_SHAPE = re.compile(r"\b[a-z]\w*\[([\d,]*)\]")
_OPERAND = re.compile(r"%([\w.\-]+)")
_PLACE = re.compile(re.escape(SCOPE) + r"(\d+)(?:\.(\d+)\.(\d+))?\b")
_CALLED = re.compile(r"\b(?:calls|to_apply|body)=%?([\w.\-]+)")
_CONTRACTING = re.compile(r"lhs_contracting_dims=\{([\d,]*)\}")
_FREE = frozenset(("parameter", "constant", "bitcast", "tuple", "get-tuple-element"))

Shares = dict[int, float]  # place of an operation in the trace -> its share, all together 1; empty if nobody's


def _dims(text: str) -> list[int]:
    return [int(n) for n in text.split(",") if n]


def _weight(opcode: str, rest: str, shapes: dict[str, list[int]]) -> float:
    """How much work an instruction is, in elements."""
    if opcode in _FREE:
        return 0.0
    head, _, tail = rest.partition(opcode + "(")
    own = max([math.prod(_dims(m)) for m in _SHAPE.findall(head)], default=1)
    operands = [shapes[n] for n in _OPERAND.findall(tail.partition(")")[0]) if n in shapes]
    if opcode == "dot" and operands:
        contracting = _CONTRACTING.search(tail)
        return own * math.prod([operands[0][d] for d in _dims(contracting[1])] if contracting else [1])
    return max([own, *[math.prod(o) for o in operands]])


def shares(text: str) -> dict[str, tuple[str, Shares]]:
    """For each instruction of a program, by name, what it does ("dot", "copy") and the operations that it computes."""
    work: dict[str, dict[int, float]] = {}  # of each computation
    found: dict[str, tuple[str, Shares]] = {}
    computation: dict[int, float] = {}
    shapes: dict[str, list[int]] = {}
    for line in text.splitlines():
        header = _COMPUTATION.match(line)
        if header:
            computation, shapes = {}, {}
            work[header[1]] = computation
            continue
        instruction = _INSTRUCTION.match(line)
        if instruction is None:
            continue
        name, rest = instruction.groups()
        code = _OPCODE.search(rest)
        shape = _SHAPE.search(rest)
        if code is None or shape is None:
            continue
        shapes[name] = _dims(shape[1])
        place = _PLACE.search(rest)
        called = _CALLED.search(rest)
        inner = work.get(called[1]) if called and code[1] in ("fusion", "call") else None
        weight = _weight(code[1], rest, shapes)
        if inner:
            total = sum(inner.values())
            found[name] = code[1], {p: w / total for p, w in inner.items()}
            for p, w in inner.items():
                computation[p] = computation.get(p, 0.0) + w
        elif place is not None:
            first, apart, rounds = (int(n or 1) for n in place.groups())
            found[name] = code[1], {first + apart * r: 1 / rounds for r in range(rounds)}
            if weight:
                for p, share in found[name][1].items():
                    computation[p] = computation.get(p, 0.0) + weight * share
        else:
            found[name] = code[1], {}
    return found


def exclusive(events: list[tuple[int, float, float]]) -> list[float]:
    """The time that each of (thread, start, end) has to itself, in order; where n run at once each gets an n-th.

    Of two on one thread, one inside the other, the inner one counts.
    """
    times = [0.0] * len(events)
    edges = sorted(
        [(start, 1, i) for i, (_, start, _) in enumerate(events)]
        + [(end, 0, i) for i, (_, _, end) in enumerate(events)]
    )
    open_on: dict[int, list[int]] = {}
    before = 0.0
    for at, opens, i in edges:
        tops = [stack[-1] for stack in open_on.values() if stack]
        for top in tops:
            times[top] += (at - before) / len(tops)
        before = at
        stack = open_on.setdefault(events[i][0], [])
        if opens:
            stack.append(i)
        elif i in stack:
            stack.remove(i)
    return times
