"""Which results a compiled trace keeps in memory, though XLA would rather compute them anew wherever they are read.

XLA for the CPU fuses pointwise work into each of its readers. A sum that grows and is read at every length, such as a
gradient that flows back through the steps of a loop, is then in the last reader's code as a whole: the code grows with
the square of the steps, and with it the time and the memory that compiling takes.
"""

from __future__ import annotations

from typing import Any

from jtorch._runtime.kernel import Kernel
from jtorch._runtime.trace import Step

CHAIN = 16  # operations that may be computed anew in each reader
# What XLA fuses into none of its readers: the results are in memory anyway.
_IN_MEMORY = {
    "cholesky", "cond", "conv_general_dilated", "dot_general", "eigh", "fft", "ffi_call", "lu", "optimization_barrier", "qr",
    "scan", "sort", "svd", "top_k", "triangular_solve", "while",
}  # fmt: skip
_IN_MEMORY_KINDS = ("arg", "cum", "reduce_", "scatter")


class _Facts:
    """Of a kernel: whether it computes anything, whether pointwise, and which result is an input, or another result."""

    __slots__ = ("idle", "pointwise", "same")

    def __init__(self, kernel: Kernel):
        names = kernel.traced.primitives()
        self.idle = not names
        self.pointwise = not any(n in _IN_MEMORY or n.startswith(_IN_MEMORY_KINDS) for n in names)
        self.same = kernel.traced.same()


def kept(ops: list[Step]) -> set[Step]:
    """The operations whose results are to be kept: those that end a long chain of pointwise work and have several readers."""
    known: dict[Kernel, _Facts] = {}
    value: dict[Any, Any] = {}  # slot -> the first slot with the same value
    readers: dict[Any, int] = {}
    for s in ops:
        facts = known.get(s.kernel)
        if facts is None:
            facts = known[s.kernel] = _Facts(s.kernel)
        ins = [value.get(i, i) for i in s.ins]
        if not facts.idle:
            for i in set(ins):
                readers[i] = readers.get(i, 0) + 1
        for slot, (kind, at) in enumerate(facts.same, s.slot):
            if kind == "input" and at < len(ins):
                value[slot] = ins[at]
            elif kind == "output":
                value[slot] = s.slot + at
    length: dict[Any, int] = {}  # value -> operations that each of its readers does anew
    found = set()
    for s in ops:
        facts = known[s.kernel]
        if facts.idle or not facts.pointwise:
            continue
        size = 1 + sum(length.get(i, 0) for i in {value.get(i, i) for i in s.ins})
        if size >= CHAIN and any(readers.get(i, 0) > 1 for i in range(s.slot, s.end)):
            found.add(s)
        else:
            length.update(dict.fromkeys(range(s.slot, s.end), size))
    return found
