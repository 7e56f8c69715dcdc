"""The forms that a convolution and its two transposes take.

The plain forms are XLA's own convolution: right everywhere, fast on accelerators. On the CPU the form is chosen by
static shape, from measurements (`compat/bench/convolution.py`):

- one tap, few channels: products over the columns (im2col), a sample at a time, so that nothing is transposed;
- groups of few channels, depthwise among them: `_conv_direct`; other groups: each as a convolution of its own;
- windows that touch and do not overlap: a matrix product of their elements;
- one or three spatial dims: two, with the kernel's depth among the channels, since XLA has a fast one for those alone,
  and with few results several positions as one, since it has none for few channels;
- the input gradient of a strided convolution falls into phases, one convolution without holes for each remainder of
  the position by the stride, where XLA's own multiplies with the zeros between the positions.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator

import jax
import jax.numpy as jnp
from jax import lax

from jtorch import _native
from jtorch._ops import _conv_direct as direct
from jtorch._ops._common import Array
from jtorch._ops._conv_geometry import Geometry, Ints, apart, slices
from jtorch._ops.matmul import contract

# Channels that are too few for XLA's convolution, results that make up for it in the weight gradient, the length of a
# column whose sum back into place takes less, and the elements of the largest column matrix that then beats it.
FEW, WIDE, LIGHT, SMALL = 4, 32, 27, 1 << 22
# Positions from which a product a sample beats one over all samples, which has to transpose them.
LONG = 64
# The fast convolution is for more channels than this, of the input or the result; most of them that positions make.
NARROW = 16
# Elements of a result's gradient that its weight gradient takes at a time, if they are many more, and the most pieces.
PIECE, MANY, PIECES = 1 << 17, 1 << 19, 8
# Groups up to which each has its own convolution in the program; of more, one is called for each.
APIECE = 8


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


def _columns(x: Array, at: Geometry, wide: bool = False) -> tuple[Array, Ints]:
    """The slices of x one below the other, (N, groups, taps * channels, positions), and the spatial dims of a row.

    wide: rows may be wider than the result, with what the kernel meets where it runs over the edge. Slices without a
    stride are then one piece of memory a channel.
    """
    batch, channels = x.shape[:2]
    x = jnp.pad(x, ((0, 0), (0, 0), *at.pads))
    split = batch, at.groups, channels // at.groups
    if not wide or at.taps == 1 or any(s > 1 for s in at.stride):
        return jnp.concatenate([part.reshape(*split, -1) for part in slices(x, at, 2)], 2), at.out
    rows = at.out[0], *x.shape[3:]
    starts = [
        sum(k * d * math.prod(x.shape[i:]) for i, (k, d) in enumerate(zip(tap, at.dilation, strict=True), 3))
        for tap in itertools.product(*(range(k) for k in at.kernel))
    ]
    size, length = math.prod(x.shape[2:]), math.prod(rows)
    x = jnp.pad(x.reshape(*split, size), ((0, 0), (0, 0), (0, 0), (0, max(starts[-1] + length - size, 0))))
    return jnp.concatenate([lax.slice_in_dim(x, start, start + length, axis=3) for start in starts], 2), rows


def _sample_by_sample(inner: int, outer: int, at: Geometry) -> bool:
    """Whether products are taken sample by sample. The weight is then there once a sample."""
    return at.groups > 1 or LONG <= at.positions >= min(inner * at.taps, outer)


def by_columns(x: Array, w: Array, at: Geometry, wide: bool = False) -> Array:
    """Products of the weight with the columns of x."""
    groups = at.groups
    batch, channels = x.shape[:2]
    inner, outer = channels // groups, w.shape[0] // groups
    if inner == 1 and outer == 1:
        # Depthwise: a multiply-add a tap, fused into one loop; no columns are stored.
        factors = w.reshape(channels, at.taps, *(1,) * len(at.out))
        parts = slices(jnp.pad(x, ((0, 0), (0, 0), *at.pads)), at, 2)
        return functools.reduce(operator.add, [part * factors[:, tap] for tap, part in enumerate(parts)])
    columns, rows = _columns(x, at, wide)
    matrix = jnp.swapaxes(w.reshape(groups, outer, inner, at.taps), 2, 3).reshape(groups, outer, at.taps * inner)
    if _sample_by_sample(inner, outer, at):
        # With more than a few to sum over, the library is faster where their dim is the weight's outer one.
        along = 3
        if at.taps * inner >= NARROW:
            matrix, along = jnp.swapaxes(matrix, 1, 2), 2
        y = contract(jnp.broadcast_to(matrix, (batch, *matrix.shape)), columns, ((along,), (2,)), ((0, 1), (0, 1)))
    else:
        y = jnp.swapaxes(contract(matrix[0], columns[:, 0], ((1,), (1,))), 0, 1)
    y = y.reshape(batch, w.shape[0], *rows)
    return y if rows == at.out else y[(slice(None), slice(None), *(slice(o) for o in at.out))]


def columns_back(g: Array, w: Array, at: Geometry) -> Array:
    """The input gradient of `by_columns`: a product, and the sum of its rows moved into place."""
    like = jax.ShapeDtypeStruct((g.shape[0], w.shape[1] * at.groups, *at.spatial), g.dtype)
    return jax.linear_transpose(lambda x: by_columns(x, w, at), like)(g)[0]


def taps_by_columns(x: Array, g: Array, at: Geometry) -> Array:
    """The weight gradient of `by_columns`."""
    groups, batch = at.groups, x.shape[0]
    inner, outer = x.shape[1] // groups, g.shape[1] // groups
    columns = _columns(x, at)[0]
    g = g.reshape(batch, groups, outer, at.positions)
    if _sample_by_sample(inner, outer, at):
        w = contract(columns, g, ((3,), (3,)), ((0, 1), (0, 1))).sum(0)
    else:
        w = contract(columns, g, ((0, 3), (0, 3)), ((1,), (1,)))
    w = w.reshape(groups, at.taps, inner, outer).transpose(0, 3, 2, 1)
    return w.reshape(groups * outer, inner, *at.kernel)


# ---- forms of groups -------------------------------------------------------------------------------------------------


def _group_by_group(form, a: Array, b: Array, at: Geometry, weight: bool) -> Array:
    """What `form` gives of each group of a and of b, whose channels, or of the weight results, are in groups."""
    one = at._replace(groups=1)
    if at.groups <= APIECE:
        pairs = zip(jnp.split(a, at.groups, 1), jnp.split(b, at.groups, 1 - weight), strict=True)
        return jnp.concatenate([form(*pair, one, False) for pair in pairs], int(weight))
    each = [
        c.reshape(at.groups, -1, *c.shape[1:]) if dim == 0
        else jnp.moveaxis(c.reshape(c.shape[0], at.groups, -1, *c.shape[2:]), 1, 0)
        for c, dim in ((a, 1), (b, 1 - weight))
    ]  # fmt: skip
    y = lax.map(lambda pair: form(*pair, one, False), tuple(each))
    return jnp.moveaxis(y, 0, 1).reshape(a.shape[0], -1, *y.shape[3:]) if weight else y.reshape(-1, *y.shape[2:])


def _some_at_a_time(form, x: Array, g: Array, elements: int) -> Array:
    """The sum of form(x, g) of as many samples at a time as keep within SMALL, at so many elements each."""
    batch = x.shape[0]
    room = max(SMALL // max(elements, 1), direct.SAMPLES)
    some = max(b for b in range(1, batch + 1) if batch % b == 0 and b <= room)
    if some == batch:
        return form(x, g)
    pieces = tuple(a.reshape(batch // some, some, *a.shape[1:]) for a in (x, g))
    start = jnp.zeros_like(jax.eval_shape(form, *(a[0] for a in pieces)))
    return lax.scan(lambda total, now: (total + form(*now), None), start, pieces)[0]


# ---- forms of patches -------------------------------------------------------------------------------------------------


def _in_patches(at: Geometry) -> bool:
    """Whether the windows touch, do not overlap, and are all of the input, one that covers it among them."""
    return at.taps > 1 and at.groups == 1 and all(
        not any(pad) and d == 1 and size == o * k and (o == 1 or s == k)
        for size, k, s, pad, d, o in zip(*at[:-1], at.out, strict=True)
    )  # fmt: skip


def _patches(x: Array, at: Geometry) -> Array:
    """x (N, C, *spatial) as (N, *out, C, *kernel)."""
    n = len(at.spatial)
    x = x.reshape(*x.shape[:2], *itertools.chain(*zip(at.out, at.kernel, strict=True)))
    return x.transpose(0, *range(2, 2 + 2 * n, 2), 1, *range(3, 3 + 2 * n, 2))


def by_patches(x: Array, w: Array, at: Geometry) -> Array:
    """Products of the weight with the patches of x."""
    rows = _patches(x, at).reshape(x.shape[0], at.positions, -1)
    y = contract(rows, w.reshape(w.shape[0], -1), ((2,), (1,)))
    return jnp.swapaxes(y, 1, 2).reshape(x.shape[0], w.shape[0], *at.out)


def patches_back(g: Array, w: Array, at: Geometry) -> Array:
    """The input gradient of `by_patches`."""
    n = len(at.spatial)
    x = contract(g.reshape(*g.shape[:2], -1), w.reshape(w.shape[0], -1), ((1,), (0,)))
    x = x.reshape(g.shape[0], *at.out, *w.shape[1:])
    x = x.transpose(0, n + 1, *itertools.chain(*((1 + i, n + 2 + i) for i in range(n))))
    return x.reshape(g.shape[0], w.shape[1], *at.spatial)


def taps_by_patches(x: Array, g: Array, at: Geometry) -> Array:
    """The weight gradient of `by_patches`."""
    rows = _patches(x, at).reshape(x.shape[0], at.positions, -1)
    w = contract(g.reshape(*g.shape[:2], -1), rows, ((0, 2), (0, 1)))
    return w.reshape(g.shape[1], x.shape[1], *at.kernel)


# ---- XLA's convolution of two dims -----------------------------------------------------------------------------------


def _flat(x: Array, at: Geometry) -> tuple[Array, Geometry]:
    """x and the geometry with one spatial dim more of one position, or with one less.

    Less: (N, C, D, H, W) as the (N * depth, taps * C, H, W) that the kernel's depth meets.
    """
    if len(at.spatial) == 1:
        one = (1,)
        wide = Geometry(
            one + at.spatial, one + at.kernel, one + at.stride, ((0, 0), *at.pads), one + at.dilation, at.groups
        )
        return x[:, :, None], wide
    x = jnp.pad(jnp.moveaxis(x, 2, 1), ((0, 0), at.pads[0], *((0, 0),) * 3))
    depth = Geometry(x.shape[1:2], at.kernel[:1], at.stride[:1], ((0, 0),), at.dilation[:1], 1)
    x = jnp.concatenate(slices(x, depth, 1), 2)
    rest = Geometry(at.spatial[1:], at.kernel[1:], at.stride[1:], at.pads[1:], at.dilation[1:], 1)
    return x.reshape(-1, *x.shape[2:]), rest


def _last(x: Array, w: Array, stride: Ints, pads, dilation: Ints) -> Array:
    """XLA's convolution, transposed to channels last as XLA itself would: profiles then know whose it is."""
    y = lax.conv_general_dilated(
        jnp.moveaxis(x, 1, -1), jnp.transpose(w, (2, 3, 1, 0)), stride, pads, rhs_dilation=dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"), precision=lax.Precision.HIGHEST,
    )  # fmt: skip
    return jnp.moveaxis(y, -1, 1)


def _taps_last(x: Array, g: Array, at: Geometry) -> Array:
    """`taps_of`, as a convolution of x with g whose channels are the samples, transposed as XLA itself would."""
    pads = tuple(
        (lo, d * (k - 1) + s * (o - 1) + 1 - size - lo)
        for size, k, s, (lo, _), d, o in zip(*at[:-1], at.out, strict=True)
    )
    if any(hi < 0 for _, hi in pads):
        cut = [(0, 0, 0), (0, 0, 0), *((0, min(hi, 0), 0) for _, hi in pads)]
        x = lax.pad(x, jnp.zeros((), x.dtype), cut)
        pads = tuple((lo, max(hi, 0)) for lo, hi in pads)
    y = lax.conv_general_dilated(
        jnp.transpose(x, (1, 2, 3, 0)), jnp.transpose(g, (2, 3, 0, 1)), at.dilation, pads, rhs_dilation=at.stride,
        dimension_numbers=("NHWC", "HWIO", "NHWC"), precision=lax.Precision.HIGHEST,
    )  # fmt: skip
    return jnp.transpose(y, (3, 0, 1, 2))


def _taps_in_pieces(x: Array, g: Array, at: Geometry) -> Array:
    """The weight gradient of `_dense`: with many samples, the sum of what some give at a time, which stay in the cache."""
    x, g = apart(x), apart(g)
    batch, pieces = x.shape[0], 1
    if g.size >= MANY and g.shape[1] > NARROW:
        # Each piece makes a whole result: together they are to be no more than what is read.
        most = min(PIECES, x.size // max(x.shape[1] * g.shape[1] * at.taps, 1))
        enough = [p for p in range(1, most + 1) if batch % p == 0]
        pieces = next((p for p in enough if g.size <= p * PIECE), enough[-1] if enough else 1)
    found = [_taps_last(a, b, at) for a, b in zip(jnp.split(x, pieces), jnp.split(g, pieces), strict=True)]
    return functools.reduce(operator.add, found)


def _dense(x: Array, w: Array, at: Geometry) -> Array:
    """XLA's convolution, as one of two spatial dims and not too few results."""
    if len(at.spatial) != 2:
        flat, within = _flat(x, at)
        w = jnp.moveaxis(w, 2, 1) if len(at.spatial) == 3 else w
        y = correlate_on_cpu(flat, w.reshape(w.shape[0], flat.shape[1], *within.kernel), within, False)
        y = y.reshape(x.shape[0], -1, *y.shape[1:])
        return jnp.moveaxis(y, 1, 2).reshape(x.shape[0], w.shape[0], *at.out)
    x, outer, last = apart(x), w.shape[0], at.out[1]
    many = max((m for m in (1, 2, 4) if last % m == 0 and m * outer <= 2 * NARROW), default=1)
    if many == 1 or max(x.shape[1], outer) > NARROW or at.dilation[1] > 1 or at.taps == 1:
        return apart(_last(x, w, at.stride, at.pads, at.dilation))
    # Each of the positions that become one has its own copy of the kernel, moved to where it is.
    step = at.stride[1]
    w = jnp.stack([jnp.pad(w, ((0, 0),) * 3 + ((i * step, (many - 1 - i) * step),)) for i in range(many)], 1)
    y = _last(x, w.reshape(-1, *w.shape[2:]), (at.stride[0], many * step), at.pads, at.dilation)
    y = y.reshape(x.shape[0], outer, many, *y.shape[2:])
    return apart(jnp.moveaxis(y, 2, 4).reshape(x.shape[0], outer, *at.out))


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
    y = _padded(g, w, pads, (1,) * n)
    y = y.reshape(g.shape[0], inner, *at.stride, *rows)
    return _interleaved(y, at, [lo for lo, _ in at.pads])


def _phase_by_phase(g: Array, w: Array, at: Geometry) -> Array:
    """One convolution a phase: position h is row q, phase r of q * stride + r."""
    rows = [-(-size // s) for size, s in zip(at.spatial, at.stride, strict=True)]
    shape = (g.shape[0], w.shape[1], *rows)
    flipped = _flipped(w)
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
            found.append(_padded(g, flipped[tuple(cut)], pads, tuple(dilation)))
            continue
        found.append(jnp.zeros(shape, g.dtype))
    y = jnp.stack(found, 2).reshape(*shape[:2], *at.stride, *rows)
    return _interleaved(y, at, [0] * len(rows))


def _flipped(w: Array) -> Array:
    """(O, C, *kernel) as the (C, O, *kernel) that leads back, every spatial dim reversed."""
    return jnp.swapaxes(lax.rev(w, tuple(range(2, w.ndim))), 0, 1)


def _padded(g: Array, w: Array, pads: list[tuple[int, int]], dilation: Ints) -> Array:
    """A convolution whose padding may be negative: XLA's fast one takes no such."""
    if any(p < 0 for pair in pads for p in pair):
        cut = [(min(lo, 0), min(hi, 0), 0) for lo, hi in pads]
        g = lax.pad(g, jnp.zeros((), g.dtype), [(0, 0, 0), (0, 0, 0), *cut])
        pads = [(max(lo, 0), max(hi, 0)) for lo, hi in pads]
    at = Geometry(g.shape[2:], w.shape[2:], (1,) * len(pads), tuple(pads), dilation, 1)
    return by_columns(g, w, at) if at.taps == 1 else _dense(g, w, at)


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


# ---- the choice on the CPU -------------------------------------------------------------------------------------------


def _in_columns(batch: int, channels: int, w_shape: Ints, at: Geometry) -> bool:
    if at.taps == 1:
        return True
    return at.taps <= 49 and channels <= FEW and batch * channels * at.positions * at.taps <= SMALL


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
    if 0 in x or 0 in w or 0 in at.out or len(at.spatial) > 3:
        return False
    if at.positions == 1 and (at.taps == 1 or _in_patches(at)):  # a product of two matrices
        return False
    if x[1] <= FEW and (map == 1 or at.stride == at.kernel):
        return False  # gradients of images, and patches of them
    name = _native.convolution_name(map, x, w, at)
    if at.groups > 1 and w[1] == 1 and at.taps > 1:
        return "dw" in name  # oneDNN's others for a channel a group fill the rest of a block with zeros
    return not name.startswith(("ref", "gemm"))


@_on_cpu(0)
def correlate_on_cpu(x: Array, w: Array, geometry: Geometry) -> Array:
    """The convolution, in the form that is fastest on the CPU."""
    at = geometry
    if _in_patches(at):
        return by_patches(x, w, at)
    if at.groups > 1:
        if direct.fits(w.shape[1], at.taps):
            return direct.correlate(x, w, at)
        return by_columns(x, w, at) if at.taps == 1 else _group_by_group(correlate_on_cpu, x, w, at, True)
    if _in_columns(x.shape[0], x.shape[1], w.shape, at):
        return by_columns(x, w, at, True)
    return _dense(x, w, at)


@_on_cpu(1)
def spread_back_on_cpu(g: Array, w: Array, geometry: Geometry) -> Array:
    """The input gradient, in the form that is fastest on the CPU."""
    at = geometry
    shape = (g.shape[0], w.shape[1] * at.groups, *at.spatial)
    if _in_patches(at):
        return patches_back(g, w, at)
    if at.groups > 1:
        if direct.fits(w.shape[0] // at.groups, at.taps):
            return direct.spread_back(g, w, at)
        return columns_back(g, w, at) if at.taps == 1 else _group_by_group(spread_back_on_cpu, g, w, at, True)
    if all(s == 1 for s in at.stride):
        if at.taps > 1 and shape[1] * at.taps <= LIGHT and _in_columns(shape[0], shape[1], w.shape, at):
            return columns_back(g, w, at)
        pads = [
            (d * (k - 1) - lo, size + lo - o)
            for d, k, (lo, _), size, o in zip(at.dilation, at.kernel, at.pads, at.spatial, at.out, strict=True)
        ]
        return _padded(g, _flipped(w), pads, at.dilation)
    if all(d == 1 for d in at.dilation):
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
    if _in_patches(at):
        return taps_by_patches(x, g, at)
    if at.groups > 1:
        if direct.fits(shape[1], at.taps):
            elements = direct.summed(shape, at)
            return _some_at_a_time(lambda x, g: direct.taps_of(x, g, at), x, g, elements)
        return taps_by_columns(x, g, at) if at.taps == 1 else _group_by_group(taps_of_on_cpu, x, g, at, False)
    if at.taps == 1 or (g.shape[1] >= WIDE and _in_columns(x.shape[0], x.shape[1], shape, at)):
        return taps_by_columns(x, g, at)
    if len(at.spatial) != 2:
        flat, within = _flat(x, at)
        g = jnp.moveaxis(g, 2, 1) if len(at.spatial) == 3 else g
        w = taps_of_on_cpu(flat, g.reshape(flat.shape[0], shape[0], *within.out), within, False)
        w = w.reshape(shape[0], -1, shape[1], *within.kernel)
        return jnp.moveaxis(w, 1, 2).reshape(shape)
    return _taps_in_pieces(x, g, at)
