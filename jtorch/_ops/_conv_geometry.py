"""What is static of a convolution, and the pieces of arrays that all its forms are made of."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

from jax import lax

from jtorch._ops._common import Array

Ints = tuple[int, ...]

# Elements from which an array is kept apart from what computes it and what reads it.
APART = 1 << 16


class Geometry(NamedTuple):
    """What is static of a convolution, a tuple entry a spatial dim."""

    spatial: Ints
    kernel: Ints
    stride: Ints
    pads: tuple[tuple[int, int], ...]
    dilation: Ints
    groups: int

    @property
    def out(self) -> Ints:
        """The result's spatial sizes."""
        return tuple(
            (size + lo + hi - d * (k - 1) - 1) // s + 1
            for size, k, s, (lo, hi), d in zip(
                self.spatial, self.kernel, self.stride, self.pads, self.dilation, strict=True
            )
        )

    @property
    def taps(self) -> int:
        return math.prod(self.kernel)

    @property
    def positions(self) -> int:
        return math.prod(self.out)


def slices(x: Array, at: Geometry, first: int) -> list[Array]:
    """The kernel's shifted, strided slices of a padded x, whose spatial dims start at `first`."""
    found = []
    for tap in itertools.product(*(range(k) for k in at.kernel)):
        start, limit, step = [0] * x.ndim, list(x.shape), [1] * x.ndim
        for i, (k, d, o, s) in enumerate(zip(tap, at.dilation, at.out, at.stride, strict=True), first):
            start[i], limit[i], step[i] = k * d, k * d + (o - 1) * s + 1, s
        found.append(lax.slice(x, start, limit, step))
    return found


def apart(x: Array) -> Array:
    """Keeps what computes x and what reads it out of each other's loops, where x is large.

    Fused, all that is computed is computed again for each time that an element is read.
    """
    return lax.optimization_barrier(x) if x.size >= APART else x
