"""Calling a compiled program, on the host in the least time.

JAX's own call looks at each argument anew: what it is, on which device, in which layout. A trace knows that already, so
its arrays go straight to XLA's executable. NumPy arrays, which JAX would place at some 2 us each, are copied into arrays
that the program keeps for them; the copy is made again only where another array comes.
"""

from __future__ import annotations

import ctypes
import operator
from collections.abc import Callable, Iterator, Sequence
from itertools import starmap
from typing import Any

import jax
import numpy as np

from jtorch._runtime import devices
from jtorch._runtime.jax_internals import ArrayImpl, executable, put
from jtorch._runtime.packs import alone


class _Kept:
    """An array on the host that a program keeps for an input, and the NumPy array or part of a pack that is in it.

    XLA reads the memory anew at each run and gives results memory of their own, so it may be written in between.
    """

    __slots__ = ("array", "elements", "last")

    def __init__(self, first: Any, where: Any):
        self.last = first
        first = np.asarray(alone(first))
        self.array = put(first, where)
        address = self.array.unsafe_buffer_pointer() if first.nbytes else 0
        memory: Any = (ctypes.c_char * first.nbytes).from_address(address)
        self.elements = np.ndarray(first.shape, first.dtype, memory)

    def hold(self, given: Any) -> None:
        """Takes the elements of another. Nobody writes to one that was given."""
        self.elements[...] = alone(given)
        self.last = given


_PLAIN = frozenset((ArrayImpl,))


def getter(keys: Sequence) -> Callable[[Any], tuple]:
    """What takes some entries out of a dict or a sequence."""
    if len(keys) > 1:
        return operator.itemgetter(*keys)
    return (lambda found: (found[keys[0]],)) if keys else lambda found: ()


class Call:
    """A program called with a flat sequence of arrays.

    `start` gives an iterator over its one list of results. Until that is asked for nothing has run, and all that happens
    then happens in C, where no signal handler comes between. `free` is to follow.
    """

    __slots__ = ("_finish", "_kept", "_run", "_taken", "_takes", "_where", "compiled", "jax")

    def __init__(
        self, call: Callable, where: devices.device, compiled: jax.stages.Compiled | None = None, inputs: int = 0
    ):
        """`call` is JAX's own; `compiled` what it calls where that is one program; `inputs` how many arrays are given."""
        self.jax, self.compiled, self._where = call, compiled, devices.to_jax(where)
        self._run, self._finish, self._takes = call, None, None
        self._kept: dict[int, _Kept] = {}  # by place among what the program takes
        self._taken: dict[int, _Kept] | None = None  # the same while a run may still read them
        past = compiled is not None and where is devices.CPU and devices.is_only(where)
        found = executable(compiled) if past else None  # type: ignore[arg-type]
        if found is not None:
            self._run, self._finish, used = found
            if len(used) != inputs:  # the program has no use for some
                self._takes = getter(used)

    def start(self, given: Sequence) -> Iterator[list]:
        """An iterator that runs the program on some arrays when it is asked for its only element."""
        others = not _PLAIN.issuperset(map(type, given))
        if self._finish is None:
            return starmap(self._run, (list(map(alone, given)) if others else given,))
        if self._takes is not None:
            given = self._takes(given)
        self._taken = None
        if others:
            given, kept, self._kept = list(given), self._kept, {}  # a run that is cut off by an interrupt keeps them
            for i, a in enumerate(given):
                if a.__class__ is not ArrayImpl:
                    mine = kept.get(i)
                    if mine is None:
                        mine = kept[i] = _Kept(a, self._where)
                    elif mine.last is not a:
                        mine.hold(a)
                    given[i] = mine.array
            self._taken = kept
        return map(self._finish, map(self._run, (given,)))

    def free(self, results: Sequence) -> None:
        """Takes back what a run was given, if it is over: on the host it is, unless an input was still to come."""
        if self._taken is not None and results[0].is_ready():
            self._kept, self._taken = self._taken, None
