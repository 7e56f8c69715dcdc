"""Convolutions of few channels a group on the CPU, as sums of products of shifted slices: no columns are stored.

Each is one elementwise loop, which XLA compiles for vectors of positions:

- so many products at a time that their factors stay in registers;
- an input gradient has a loop for each row of the stride, in which neighbouring positions take different taps;
- a weight gradient sums over some samples, for several taps at a time, so that what is read is read once for all.
"""

from __future__ import annotations

import functools
import itertools
import operator

import jax.numpy as jnp
from jax import lax

from jtorch._ops._common import Array
from jtorch._ops._conv_geometry import Geometry, Ints, apart, slices

# Products a result up to which this beats matrix products.
MOST = 80
# Products of one loop: more factors do not fit into registers.
AT_ONCE = 24
# Of a weight gradient's loop: the taps at most, and the samples, which LLVM then unrolls.
TAPS, SAMPLES = 13, 8


def fits(inner: int, taps: int) -> bool:
    """Whether the sums of so many channels a group and taps are for this."""
    return taps > 1 and (inner == 1 or inner * taps <= MOST)


def summed(w: Ints, at: Geometry) -> int:
    """The elements a sample that a weight gradient of shape w stores on its way."""
    return w[0] * w[1] * at.positions * min(at.taps, TAPS) // SAMPLES


def _pieces(length: int, most: int) -> list[tuple[int, int]]:
    """`length` in equal pieces of no more than `most`."""
    size = -(-length // -(-length // most))
    return [(start, min(start + size, length)) for start in range(0, length, size)]


def _total(terms: list[tuple[Array, Array]]) -> Array:
    """The sum of the products of pairs."""
    y = None
    for start, end in _pieces(len(terms), AT_ONCE):
        found = [a * b for a, b in terms[start:end]]
        y = functools.reduce(operator.add, found if y is None else [*found, apart(y)])
    assert y is not None
    return y


def correlate(x: Array, w: Array, at: Geometry) -> Array:
    """The convolution."""
    batch, channels = x.shape[:2]
    inner, outer = channels // at.groups, w.shape[0] // at.groups
    x = apart(jnp.pad(x, ((0, 0), (0, 0), *at.pads)))
    parts = slices(x.reshape(batch, at.groups, 1, inner, *x.shape[2:]), at, 4)
    factors = w.reshape(at.groups, outer, inner, at.taps, *(1,) * len(at.out))
    y = _total([(part[:, :, :, i], factors[:, :, i, tap]) for i in range(inner) for tap, part in enumerate(parts)])
    return apart(y).reshape(batch, w.shape[0], *at.out)


def spread_back(g: Array, w: Array, at: Geometry) -> Array:
    """The input gradient: position p of the input is row q, phase r of q * stride + r."""
    batch, groups, stride = g.shape[0], at.groups, at.stride
    inner, outer = w.shape[1], w.shape[0] // groups
    rows = [-(-size // s) for size, s in zip(at.spatial, stride, strict=True)]
    # Of each dim and phase: the taps that meet it, and where g's row for row 0 is.
    meets = [
        [[(k, (r + lo - k * d) // s) for k in range(kernel) if (r + lo - k * d) % s == 0] for r in range(s)]
        for kernel, s, (lo, _), d in zip(at.kernel, stride, at.pads, at.dilation, strict=True)
    ]
    starts = [[start for phase in dim for _, start in phase] for dim in meets]
    low = [max(0, -min(dim)) for dim in starts]
    high = [max(0, max(dim) + row - o) for dim, row, o in zip(starts, rows, at.out, strict=True)]
    g = apart(jnp.pad(g, ((0, 0), (0, 0), *zip(low, high, strict=True))))
    g = g.reshape(batch, groups, outer, 1, *g.shape[2:])
    factors = w.reshape(groups, outer, inner, *at.kernel)

    def phase(at_phase: Ints) -> Array:
        terms = []
        for met in itertools.product(*(dim[r] for dim, r in zip(meets, at_phase, strict=True))):
            taps, begin = zip(*met, strict=True)
            cut = tuple(slice(lo + b, lo + b + row) for lo, b, row in zip(low, begin, rows, strict=True))
            factor = factors[(..., *taps)]
            terms += [
                (
                    g[(slice(None), slice(None), o, slice(None), *cut)],
                    factor[:, o].reshape(groups, inner, *(1,) * len(rows)),
                )
                for o in range(outer)
            ]
        return _total(terms) if terms else jnp.zeros((batch, groups, inner, *rows), g.dtype)

    found = []
    for upper in itertools.product(*(range(s) for s in stride[:-1])):
        shape = (batch, groups, inner, *rows, stride[-1])
        place = lax.broadcasted_iota(jnp.int32, shape, len(shape) - 1)
        y = phase((*upper, 0))[..., None]
        for r in range(1, stride[-1]):
            # By the last dim's index: its loop is unrolled, and each phase computed and stored in its places alone.
            y = jnp.where(place == r, phase((*upper, r))[..., None], y)
        found.append(apart(y).reshape(batch, groups * inner, *rows[:-1], -1))
    y = jnp.stack(found, 2).reshape(batch, groups * inner, *stride[:-1], *found[0].shape[2:])
    n = len(rows)
    y = y.transpose(0, 1, *itertools.chain(*((n + 1 + i, 2 + i) for i in range(n - 1))), 2 * n)
    y = y.reshape(batch, groups * inner, *(row * s for row, s in zip(rows, stride, strict=True)))
    return y[(..., *(slice(size) for size in at.spatial))]


def taps_of(x: Array, g: Array, at: Geometry) -> Array:
    """The weight gradient."""
    batch, groups = x.shape[0], at.groups
    inner, outer = x.shape[1] // groups, g.shape[1] // groups
    some = -(-batch // -(-batch // SAMPLES))
    rest = -batch % some
    x = apart(jnp.pad(x, ((0, rest), (0, 0), *at.pads)))
    x = x.reshape(-1, some, groups, 1, inner, *x.shape[2:])
    g = apart(jnp.pad(g, ((0, rest), *((0, 0),) * (g.ndim - 1)))).reshape(-1, some, groups, outer, 1, *g.shape[2:])
    parts, found = slices(x, at, 5), []
    for start, end in _pieces(at.taps, TAPS):
        products = [part * g for part in parts[start:end]]
        zeros = [jnp.zeros((), x.dtype)] * len(products)
        sums = lax.reduce(products, zeros, lambda a, b: [p + q for p, q in zip(a, b, strict=True)], (1,))
        found += [apart(each).sum((0, *range(4, each.ndim))) for each in sums]
    return jnp.stack(found, -1).reshape(groups * outer, inner, *at.kernel)
