"""The forms that a convolution and its two transposes take.

The plain forms are XLA's own convolution: right everywhere, fast on accelerators. On the CPU the form is chosen by
static shape, from measurements (`compat/bench/convolution.py`):

- one tap: a matrix product; depthwise: a multiply-add a tap; few channels: a product over the columns (im2col);
- the input gradient of a strided convolution falls into phases, one convolution without holes for each remainder of
  the position by the stride, where XLA's own multiplies with the zeros between the positions;
- the weight gradient of few channels is a product over the columns, in pieces that stay in the cache.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jtorch import _native
from jtorch._ops._common import Array
from jtorch._ops.matmul import contract

Ints = tuple[int, ...]

# Channels that are too few for XLA's convolution, and the elements of the largest column matrix that then beats it.
FEW, SMALL = 4, 1 << 22
# Elements of a piece of a column matrix: half of a core's cache.
PIECE = 1 << 18
# For weight gradients: channels in times channels out that are too few, and the elements from which it shows.
NARROW, MANY = 512, 1 << 20


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


def _numbers(n: int) -> tuple[str, str, str]:
    letters = "DHW"[-n:]
    return f"NC{letters}", f"OI{letters}", f"NC{letters}"


def _xla(x: Array, w: Array, stride: Ints, pads, dilation: Ints, groups: int) -> Array:
    return lax.conv_general_dilated(
        x, w, stride, pads, rhs_dilation=dilation, feature_group_count=groups,
        dimension_numbers=_numbers(w.ndim - 2), precision=lax.Precision.HIGHEST,
    )  # fmt: skip


# ---- the plain forms -------------------------------------------------------------------------------------------------


def correlate(x: Array, w: Array, geometry: Geometry) -> Array:
    """XLA's convolution."""
    at = geometry
    return _xla(x, w, at.stride, at.pads, at.dilation, at.groups)


def spread_back(g: Array, w: Array, geometry: Geometry) -> Array:
    """XLA's convolution of g with holes."""
    like = jax.ShapeDtypeStruct((g.shape[0], w.shape[1] * geometry.groups, *geometry.spatial), g.dtype)
    return jax.linear_transpose(lambda x: correlate(x, w, geometry), like)(g)[0]


def taps_of(x: Array, g: Array, geometry: Geometry) -> Array:
    """XLA's convolution with g as the kernel."""
    like = jax.ShapeDtypeStruct((g.shape[1], x.shape[1] // geometry.groups, *geometry.kernel), x.dtype)
    return jax.linear_transpose(lambda w: correlate(x, w, geometry), like)(g)[0]


# ---- forms of columns ------------------------------------------------------------------------------------------------


def _slices(x: Array, at: Geometry, first: int) -> list[Array]:
    """The kernel's shifted, strided slices of a padded x, whose spatial dims start at `first`."""
    found = []
    for tap in itertools.product(*(range(k) for k in at.kernel)):
        start, limit, step = [0] * x.ndim, list(x.shape), [1] * x.ndim
        for i, (k, d, o, s) in enumerate(zip(tap, at.dilation, at.out, at.stride, strict=True), first):
            start[i], limit[i], step[i] = k * d, k * d + (o - 1) * s + 1, s
        found.append(lax.slice(x, start, limit, step))
    return found


def by_columns(x: Array, w: Array, at: Geometry) -> Array:
    """The slices of x side by side, and one product with the weight."""
    n, groups = w.ndim - 2, at.groups
    batch, channels = x.shape[:2]
    # Channels first: the columns are then one (channels * kernel, batch * positions) matrix a group, without a copy.
    parts = _slices(jnp.pad(jnp.swapaxes(x, 0, 1), ((0, 0), (0, 0), *at.pads)), at, 2)
    taps, inner, outer = len(parts), channels // groups, w.shape[0] // groups
    if inner == 1 and outer == 1:
        # Depthwise: a multiply-add a tap, fused into one loop; no columns are stored.
        factors = w.reshape(channels, taps, *(1,) * (n + 1))
        y = sum(part * factors[:, tap] for tap, part in enumerate(parts))
    else:
        positions = batch * at.positions
        columns = jnp.stack([part.reshape(groups, inner, positions) for part in parts], 1)
        columns = columns.reshape(groups, taps * inner, positions)
        matrix = jnp.swapaxes(w.reshape(groups, outer, inner, taps), 2, 3).reshape(groups, outer, taps * inner)
        if groups == 1:
            y = contract(matrix[0], columns[0], ((1,), (0,)))
        else:
            y = contract(matrix, columns, ((2,), (1,)), ((0,), (0,)))
    return jnp.swapaxes(y.reshape(w.shape[0], batch, *at.out), 0, 1)


def _taps_in_pieces(x: Array, g: Array, at: Geometry) -> Array:
    """The weight gradient as a sum of products over the columns of some samples at a time, channels last."""
    batch, inner, outer = x.shape[0], x.shape[1], g.shape[1]
    room = max(PIECE // (inner * at.taps * at.positions), 1)
    some = max(b for b in range(1, batch + 1) if batch % b == 0 and b <= room)
    x, g = jnp.moveaxis(x, 1, -1), jnp.moveaxis(g, 1, -1)

    def piece(x, g):
        x = jnp.pad(x, ((0, 0), *at.pads, (0, 0)))
        columns = jnp.concatenate(_slices(x, at, 1), -1).reshape(-1, at.taps * inner)
        return contract(columns, g.reshape(-1, outer), ((0,), (0,)))

    if some == batch:
        total = piece(x, g)
    else:
        pieces = [a.reshape(batch // some, some, *a.shape[1:]) for a in (x, g)]
        start = jnp.zeros((at.taps * inner, outer), x.dtype)
        total, _ = lax.scan(lambda total, now: (total + piece(*now), None), start, tuple(pieces))
    return jnp.moveaxis(total.reshape(*at.kernel, inner, outer), (-1, -2), (0, 1))


# ---- forms of phases -------------------------------------------------------------------------------------------------


def _phases_at_once(g: Array, w: Array, at: Geometry) -> Array:
    """All phases as the channels of one convolution: position p + h is row q, phase r of q * stride + r."""
    n, (outer, inner) = w.ndim - 2, w.shape[:2]
    rows = [-(-(size + lo) // s) for size, (lo, _), s in zip(at.spatial, at.pads, at.stride, strict=True)]
    kernel = [-(-k // s) for k, s in zip(at.kernel, at.stride, strict=True)]
    w = jnp.pad(w, ((0, 0), (0, 0), *((0, r * s - k) for r, s, k in zip(kernel, at.stride, at.kernel, strict=True))))
    w = w.reshape(outer, inner, *itertools.chain(*zip(kernel, at.stride, strict=True)))
    spatial = range(2, 2 + 2 * n, 2)
    w = lax.rev(w, tuple(spatial)).transpose(1, *(i + 1 for i in spatial), 0, *spatial)
    w = w.reshape(-1, outer, *kernel)
    pads = [(k - 1, q - o) for k, q, o in zip(kernel, rows, at.out, strict=True)]
    y = _padded(g, w, pads, (1,) * n, 1)
    y = y.reshape(g.shape[0], inner, *at.stride, *rows)
    return _interleaved(y, at, [lo for lo, _ in at.pads])


def _phase_by_phase(g: Array, w: Array, at: Geometry) -> Array:
    """One convolution a phase: position h is row q, phase r of q * stride + r."""
    rows = [-(-size // s) for size, s in zip(at.spatial, at.stride, strict=True)]
    shape = (g.shape[0], w.shape[1] * at.groups, *rows)
    flipped = _flipped(w, at.groups)
    found = []
    for phase in itertools.product(*(range(s) for s in at.stride)):
        cut, pads, dilation = [slice(None)] * 2, [], []
        for i, r in enumerate(phase):
            k, s, d = at.kernel[i], at.stride[i], at.dilation[i]
            taps = [a for a in range(k) if (a * d - r - at.pads[i][0]) % s == 0]
            if not taps:
                break
            common = math.gcd(s, d)
            # Of g, the row of the last tap is where the window starts.
            start = (r + at.pads[i][0] - taps[-1] * d) // s
            end = rows[i] - 1 + start + (len(taps) - 1) * (d // common) + 1
            cut.append(slice(k - 1 - taps[-1], k - taps[0], s // common))
            pads.append((-start, end - at.out[i]))
            dilation.append(d // common)
        else:
            found.append(_padded(g, flipped[tuple(cut)], pads, tuple(dilation), at.groups))
            continue
        found.append(jnp.zeros(shape, g.dtype))
    y = jnp.stack(found, 2).reshape(*shape[:2], *at.stride, *rows)
    return _interleaved(y, at, [0] * len(rows))


def _flipped(w: Array, groups: int) -> Array:
    """(O, C / groups, *kernel) as the (C, O / groups, *kernel) that leads back, every spatial dim reversed."""
    outer, inner = w.shape[:2]
    w = lax.rev(w, tuple(range(2, w.ndim))).reshape(groups, outer // groups, inner, *w.shape[2:])
    return jnp.swapaxes(w, 1, 2).reshape(groups * inner, outer // groups, *w.shape[3:])


def _padded(g: Array, w: Array, pads: list[tuple[int, int]], dilation: Ints, groups: int) -> Array:
    """A convolution whose padding may be negative: XLA's fast one takes no such."""
    if any(p < 0 for pair in pads for p in pair):
        cut = [(min(lo, 0), min(hi, 0), 0) for lo, hi in pads]
        g = lax.pad(g, jnp.zeros((), g.dtype), [(0, 0, 0), (0, 0, 0), *cut])
        pads = [(max(lo, 0), max(hi, 0)) for lo, hi in pads]
    if math.prod(w.shape[2:]) == 1 and groups == 1 and not any(p for pair in pads for p in pair):
        return _product(g, w)
    return _xla(g, w, (1,) * len(pads), pads, dilation, groups)


def _interleaved(y: Array, at: Geometry, start: list[int]) -> Array:
    """(N, C, *stride, *rows) as (N, C, *spatial), from position `start` on."""
    n = len(start)
    y = y.transpose(0, 1, *itertools.chain(*((2 + n + i, 2 + i) for i in range(n))))
    rows = [a * b for a, b in zip(y.shape[2::2], y.shape[3::2], strict=True)]
    y = y.reshape(*y.shape[:2], *rows)
    ends = [lo + size - r for lo, size, r in zip(start, at.spatial, rows, strict=True)]
    if any(start) or any(ends):
        pads = [(-lo, end, 0) for lo, end in zip(start, ends, strict=True)]
        y = lax.pad(y, jnp.zeros((), y.dtype), [(0, 0, 0), (0, 0, 0), *pads])
    return y


def _product(x: Array, w: Array) -> Array:
    """A convolution of one tap and one group."""
    y = contract(w.reshape(w.shape[:2]), x, ((1,), (1,)))
    return jnp.moveaxis(y, 0, 1)


# ---- the choice on the CPU -------------------------------------------------------------------------------------------


def _depthwise(w_shape: Ints, groups: int) -> bool:
    return groups > 1 and w_shape[1] == 1 and w_shape[0] == groups


def _in_columns(batch: int, channels: int, w_shape: Ints, at: Geometry) -> bool:
    if at.taps == 1:
        return True
    if at.taps > 49:
        return False
    few = at.groups > 1 or channels <= FEW
    return _depthwise(w_shape, at.groups) or (few and batch * channels * at.positions * at.taps <= SMALL)


def _whole(at: Geometry) -> bool:
    """Whether the kernel covers the input once: each sample is one row of a matrix product."""
    return (
        at.groups == 1
        and at.kernel == at.spatial
        and at.positions == 1
        and not any(p for pair in at.pads for p in pair)
    )


def _on_cpu(map: int):
    """Half types are computed in float32 and rounded once: XLA's loops for them are slow on the CPU.

    float32 goes to the optional kernels where they may be used and win, else to the decorated form.
    """

    def declare(form):
        def chosen(a: Array, b: Array, geometry: Geometry, kernels: bool) -> Array:
            if a.dtype.itemsize == 2:
                return chosen(a.astype(jnp.float32), b.astype(jnp.float32), geometry, kernels).astype(a.dtype)
            if kernels and a.dtype == jnp.float32:
                x, w, y = _shapes(map, a.shape, b.shape, geometry)
                if _by_kernel(map, x, w, geometry):
                    return _native.convolution(map, a, b, (y, x, w)[map], geometry)
            return form(a, b, geometry)

        return chosen

    return declare


def _shapes(map: int, a: Ints, b: Ints, at: Geometry) -> tuple[Ints, Ints, Ints]:
    """Of a map's arguments (0 convolution, 1 input gradient, 2 weight gradient): the input's, weight's, result's shape."""
    if map == 2:
        return a, (b[1], a[1] // at.groups, *at.kernel), b
    y = (a[0], b[0], *at.out)
    return (a if map == 0 else (a[0], b[1] * at.groups, *at.spatial)), b, y


def _by_kernel(map: int, x: Ints, w: Ints, at: Geometry) -> bool:
    """Whether a map goes to the optional kernels."""
    if 0 in x or 0 in w or 0 in at.out or len(at.spatial) > 3 or _whole(at):
        return False
    if x[1] <= FEW and (map == 1 or at.stride == at.kernel):
        return False  # gradients of images, and patches of them
    return not _native.convolution_name(map, x, w, at).startswith(("ref", "gemm"))


@_on_cpu(0)
def correlate_on_cpu(x: Array, w: Array, geometry: Geometry) -> Array:
    """The convolution, in the form that is fastest on the CPU."""
    if _whole(geometry):
        y = contract(x.reshape(x.shape[0], -1), w.reshape(w.shape[0], -1), ((1,), (1,)))
        return y.reshape(*y.shape, *geometry.out)
    if _in_columns(x.shape[0], x.shape[1], w.shape, geometry):
        return by_columns(x, w, geometry)
    return correlate(x, w, geometry)


@_on_cpu(1)
def spread_back_on_cpu(g: Array, w: Array, geometry: Geometry) -> Array:
    """The input gradient, in the form that is fastest on the CPU."""
    at = geometry
    shape = (g.shape[0], w.shape[1] * at.groups, *at.spatial)
    if _whole(at):
        return contract(g.reshape(g.shape[:2]), w.reshape(w.shape[0], -1), ((1,), (0,))).reshape(shape)
    if (
        at.taps > 1
        and (_depthwise(w.shape, at.groups) or shape[1] <= FEW)
        and _in_columns(shape[0], shape[1], w.shape, at)
    ):
        return jax.linear_transpose(lambda x: by_columns(x, w, at), jax.ShapeDtypeStruct(shape, g.dtype))(g)[0]
    if all(s == 1 for s in at.stride):
        pads = [
            (d * (k - 1) - lo, size + lo - o)
            for d, k, (lo, _), size, o in zip(at.dilation, at.kernel, at.pads, at.spatial, at.out, strict=True)
        ]
        return _padded(g, _flipped(w, at.groups), pads, at.dilation, at.groups)
    if at.groups == 1 and all(d == 1 for d in at.dilation):
        waste = math.prod(
            -(-(size + lo) // s) * s / size * (-(-k // s)) * s / k
            for size, (lo, _), s, k in zip(at.spatial, at.pads, at.stride, at.kernel, strict=True)
        )
        if waste < 1.2 or math.prod(at.stride) > 27:
            return _phases_at_once(g, w, at)
    if math.prod(at.stride) <= 27:
        return _phase_by_phase(g, w, at)
    return spread_back(g, w, at)


@_on_cpu(2)
def taps_of_on_cpu(x: Array, g: Array, geometry: Geometry) -> Array:
    """The weight gradient, in the form that is fastest on the CPU."""
    at = geometry
    shape = (g.shape[1], x.shape[1] // at.groups, *at.kernel)
    if _whole(at):
        return contract(g.reshape(g.shape[:2]), x.reshape(x.shape[0], -1), ((0,), (0,))).reshape(shape)
    if at.groups > 1:
        form = by_columns if _in_columns(x.shape[0], x.shape[1], shape, at) else correlate
        return jax.linear_transpose(lambda w: form(x, w, at), jax.ShapeDtypeStruct(shape, x.dtype))(g)[0]
    narrow = x.shape[1] * g.shape[1] <= NARROW
    if at.taps == 1 or (narrow and x.shape[0] * x.shape[1] * at.positions * at.taps >= MANY):
        return _taps_in_pieces(x, g, at)
    return taps_of(x, g, at)
