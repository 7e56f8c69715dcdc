"""Which result of a trace takes over the memory of which input.

XLA gives a donated input's memory to any result of its shape. Where that is written before the input was read for the
last time, XLA copies one of them. The result that an input turns into, element by element (a parameter's new value, a
moment's), needs no copy.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from jtorch._runtime.avals import Aval
from jtorch._runtime.jax_internals import Traced
from jtorch._runtime.kernel import Kernel
from jtorch._runtime.trace import Step

# What gives results of its input's shape and yet needs more of it than the element in the same place.
_MIXES = frozenset((
    "dot_general", "conv_general_dilated", "transpose", "rev", "sort", "scan", "while", "cond", "fft", "cumsum", "cumprod", "cummax",
    "cummin", "cumlogsumexp", "cholesky", "triangular_solve", "reduce_window", "gather", "scatter", "concatenate",
))  # fmt: skip


def heirs(steps: Sequence[Step], given: Sequence[int], wanted: Sequence[int]) -> list[tuple[int, int]]:
    """Pairs (input of `given`, result of `wanted`) by slot, no slot twice: the result is what became of the input."""
    avals: dict[int, Aval] = {slot: a for s in steps for slot, (a, _) in enumerate(s.outs, s.slot)}
    become = {slot: 1 << bit for bit, slot in enumerate(given)}  # slot -> of which inputs it may be what became of them
    turning = functools.cache(_turning)
    for s in steps:
        if s.kernel is None:
            continue
        for slot, turns in enumerate(turning(s.kernel), s.slot):
            found = 0
            for place, i in enumerate(s.ins):
                if turns >> place & 1 and avals[i].shape == avals[slot].shape:
                    found |= become.get(i, 0)
            become[slot] = found
    pairs, taken = [], 0
    # Those with the fewest inputs to choose from first. A parameter hangs on its moments, these not on it.
    for o in sorted(wanted, key=lambda o: (become.get(o, 0).bit_count(), -o)):
        for bit, i in enumerate(given):
            same = avals[i].shape == avals[o].shape and avals[i].dtype is avals[o].dtype
            if same and become.get(o, 0) >> bit & 1 and not taken >> bit & 1:
                taken |= 1 << bit
                pairs.append((i, o))
                break
    return pairs


def _turning(kernel: Kernel) -> list[int]:
    """For each result of a kernel the array inputs, as bits, that it may be computed from element by element."""
    if kernel.backward or not isinstance(kernel.fn, Traced):
        return [0] * len(kernel.out)  # a gradient takes the place of nothing
    jaxpr = kernel.fn.closed.jaxpr
    return _through(jaxpr, [1 << i for i in range(len(jaxpr.invars))])


def _through(jaxpr, masks: list[int]) -> list[int]:
    known = dict(zip(jaxpr.invars, masks, strict=True))

    def mask(atom, shape) -> int:
        return known.get(atom, 0) if not hasattr(atom, "val") and atom.aval.shape == shape else 0

    for eqn in jaxpr.eqns:
        inner = eqn.params.get("jaxpr") or eqn.params.get("call_jaxpr")
        inner = getattr(inner, "jaxpr", inner)
        if inner is not None and len(inner.invars) == len(eqn.invars) and eqn.primitive.name not in _MIXES:
            found = _through(inner, [mask(a, a.aval.shape) for a in eqn.invars])
        elif eqn.primitive.name in _MIXES:
            found = [0] * len(eqn.outvars)
        else:
            found = []
            for out in eqn.outvars:
                bits = 0
                for a in eqn.invars:
                    bits |= mask(a, out.aval.shape)
                found.append(bits)
        known.update(zip(eqn.outvars, found, strict=True))
    return [mask(a, a.aval.shape) for a in jaxpr.outvars]
