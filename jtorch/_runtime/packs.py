"""Small arrays end to end in one.

An array costs XLA's caller about a microsecond on its way out of a program, and more to be freed: most of a small step's
time, where parameters, moments and gradients are many. So a compiled trace gives its small results in packs, and takes
those that its last run left for this one as the pack that they lie in.

A value in a pack has for its array a pair, the `Pack` and its number there: a tuple, because one is made for each result
of each run. Who wants the array alone gets it as NumPy's view of the pack's memory, so this is for the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import repeat
from operator import is_
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jtorch._runtime import devices
from jtorch._runtime.avals import Aval
from jtorch._runtime.dtypes import FLOATING
from jtorch._runtime.jax_internals import put

SMALL = 1 << 14  # bytes: larger arrays are not worth copying
FEW = 4  # arrays from which on a pack pays
Part = tuple  # (Pack, number in it)


class Layout:
    """The places of arrays of one dtype in a pack."""

    __slots__ = ("dtype", "numbers", "shapes", "spans")

    def __init__(self, avals: Sequence[Aval]):
        self.dtype = avals[0].dtype
        self.shapes = tuple(a.shape for a in avals)
        self.numbers = range(len(avals))
        self.spans: list[tuple[int, int]] = []
        start = 0
        for shape in self.shapes:
            self.spans.append((start, start + math.prod(shape)))
            start += math.prod(shape)

    def same(self, other: Layout) -> bool:
        """Whether the packs of another are laid out in the same way."""
        return other is self or (other.shapes == self.shapes and other.dtype is self.dtype)

    @property
    def struct(self) -> jax.ShapeDtypeStruct:
        """The shape and dtype of a pack."""
        return jax.ShapeDtypeStruct((self.spans[-1][1],), self.dtype.np)

    def split(self, flat: Any) -> list:
        """The arrays out of a pack, in a trace."""
        return [
            jax.lax.slice(flat, (start,), (stop,)).reshape(shape)
            for (start, stop), shape in zip(self.spans, self.shapes, strict=True)
        ]

    def join(self, arrays: Sequence) -> Any:
        """A pack of arrays, in a trace."""
        return jnp.concatenate([a.reshape(-1) for a in arrays])


class Pack:
    """An array with others in it."""

    __slots__ = ("_alone", "_host", "array", "layout")

    def __init__(self, array: Any, layout: Layout):
        self.array, self.layout = array, layout
        self._host: Any = None
        self._alone: dict[int, Any] = {}

    def parts(self) -> tuple:
        """All its arrays."""
        return tuple(zip(repeat(self), self.layout.numbers, strict=False))

    def alone(self, i: int) -> Any:
        """An array for itself: a NumPy view of the pack, unless it was `placed`."""
        found = self._alone.get(i)
        if found is None:
            if self._host is None:
                self._host = np.asarray(self.array)
            start, stop = self.layout.spans[i]
            found = self._alone[i] = self._host[start:stop].reshape(self.layout.shapes[i])
        return found

    def placed(self, i: int) -> jax.Array:
        """An array for itself as one of JAX's."""
        array = self.alone(i)
        if type(array) is np.ndarray:
            array = self._alone[i] = put(array, devices.to_jax(devices.CPU))
        return array


_PARTS = frozenset((Part,))


def alone(array: Any) -> Any:
    """An array that may be in a pack, for itself."""
    return array[0].alone(array[1]) if array.__class__ is Part else array


def _join(arrays: Sequence) -> np.ndarray:
    return np.concatenate([np.asarray(alone(a)).reshape(-1) for a in arrays])


class Carrier:
    """What a program gives in one pack, and takes in one.

    made: the slots of the results in the pack. takes: those of the inputs that the first of them take the place of.
    """

    __slots__ = ("get", "layout", "left", "made", "takes")

    def __init__(self, made: Sequence[int], takes: Sequence[int], avals: dict[int, Aval], getter: Callable):
        self.made, self.takes = made, takes
        self.layout = Layout([avals[i] for i in made])
        self.get = getter(takes)
        self.left: tuple = ()  # what the last run gave, which the next one mostly takes

    def take(self, arrays: dict) -> Any:
        """The pack for a run, out of its inputs by slot: made anew if somebody else wrote one of them."""
        given = self.get(arrays)
        if self.left and all(map(is_, given, self.left)):
            return self.left[0][0].array
        if _PARTS.issuperset(map(type, given)):
            pack = given[0][0]
            if given == pack.parts() and self.layout.same(pack.layout):
                return pack.array
        return _join(given)

    def spread(self, array: Any) -> tuple:
        """The parts of a pack that a run gave."""
        parts = Pack(array, self.layout).parts()
        if self.takes:
            self.left = parts
        return parts


def carriers(avals: dict[int, Aval], results: list[int], source: dict[int, int], getter: Callable) -> list[Carrier]:
    """The packs for some results of a program. source: of those that take the place of an input, which."""
    small = [i for i in results if _fits(avals[i])]
    moving = [i for i in small if i in source and _same(avals[i], avals[source[i]])]
    found = [Carrier(made, [source[i] for i in made], avals, getter) for made in by_dtype(moving, avals, FEW)]
    rest = [i for i in small if not any(i in c.made for c in found)]
    return found + [Carrier(made, (), avals, getter) for made in by_dtype(rest, avals, FEW)]


def _fits(a: Aval) -> bool:
    """Whether an array may lie in a pack. Those of integers are looked at in their place, as indices."""
    return a.device is devices.CPU and a.dtype.category == FLOATING and a.numel * a.dtype.itemsize <= SMALL


def _same(a: Aval, b: Aval) -> bool:
    return a.shape == b.shape and a.dtype is b.dtype


def by_dtype(places: Sequence[int], avals: Any, least: int) -> list[list[int]]:
    """Places in `avals` that are of one dtype, where there are so many of it at least."""
    kinds: dict[Any, list[int]] = {}
    for i in places:
        kinds.setdefault(avals[i].dtype, []).append(i)
    return [members for members in kinds.values() if len(members) >= least]
