"""Normal numbers from uniform ones, to the last bit of torch's.

torch's vectorised single-precision path takes `log`, `sin` and `cos` from the Cephes library's single-precision
polynomials (S. Moshier), evaluated with fused multiply-adds. Their results differ from correctly rounded ones in a few
percent of the values, so the polynomials are evaluated here in the same steps. A fused step is a double-precision
product and sum rounded to single: the product is exact, so only a double rounding can differ (one step in 2**29).
"""

from __future__ import annotations

import math

import numpy as np

from jtorch._runtime.rounding import affine, libm

LANES = 8
BLOCK = 2 * LANES
# Pairs per pass: the dozen work arrays then stay in a core's own cache.
_CHUNK = 16384

_LOG32 = (
    7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1,
    2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
)  # fmt: skip
_LN2_LOW, _LN2_HIGH = -2.12194440e-4, 0.693359375
_SIN32 = (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)
_COS32 = (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)
# pi/4 in three parts, the first two short enough for exact products with small integers.
_PI4 = (0.78515625, 2.4187564849853515625e-4, 3.77489497744594108e-8)


def _doubles(*values: float) -> tuple[np.ndarray, ...]:
    """Single-precision constants as 0-d doubles: ready for double-precision steps, without a conversion a call."""
    return tuple(np.array(np.float32(v), np.float64) for v in values)


def _ints(*values: int) -> tuple[np.ndarray, ...]:
    return tuple(np.array(v, np.int32) for v in values)


_LOG, _SIN, _COS = _doubles(*_LOG32), _doubles(*_SIN32), _doubles(*_COS32)
_LN2_LOW, _LN2_HIGH, _PI4_LOW, _HALF64 = _doubles(_LN2_LOW, _LN2_HIGH, _PI4[2], 0.5)
_LN2_LOW32, _PI4_1, _PI4_2, _PER_OCTANT, _TWO_PI, _ONE, _HALF, _MINUS_TWO = (
    np.array(v, np.float32) for v in (_LN2_LOW, _PI4[0], _PI4[1], 4 / np.pi, 2 * np.pi, 1, 0.5, -2)
)
_SQRT_HALF_BITS, _MANTISSA = _ints(0x3F3504F3, 0x7FFFFF)
_1, _2, _4, _EVEN, _23, _29, _30, _31 = _ints(1, 2, 4, ~1, 23, 29, 30, 31)


class _Work:
    """Arrays that the passes over the chunks share."""

    def __init__(self, size: int):
        self.a, self.b, self.c, self.d = np.empty((4, size), np.float32)
        self.wide, self.wide2 = np.empty((2, size), np.float64)
        self.i, self.j = np.empty((2, size), np.int32)


def _fma(single: np.ndarray, factor: np.ndarray, addend: np.ndarray, wide: np.ndarray) -> None:
    """single = round(single * factor + addend), `factor` and `addend` in double precision.

    The conversions are passes of their own: NumPy's mixed-precision passes go through buffers and cost more.
    """
    wide[...] = single
    wide *= factor
    wide += addend
    single[...] = wide


def _first(single: np.ndarray, square: np.ndarray, table: tuple[np.ndarray, ...], wide: np.ndarray) -> None:
    """single = round(square * table[0] + table[1]): the first step of a Horner scheme."""
    np.multiply(square, table[0], out=wide)
    wide += table[1]
    single[...] = wide


def _log(x: np.ndarray, w: _Work) -> np.ndarray:
    """Cephes' logf of positive normal numbers; overwrites x, returns a work array."""
    bits, e = x.view(np.int32), w.i
    # Splits into a mantissa in [sqrt(1/2), sqrt(2)) and the exponent that belongs to it.
    bits -= _SQRT_HALF_BITS
    np.right_shift(bits, _23, out=e)
    bits &= _MANTISSA
    bits += _SQRT_HALF_BITS
    x -= _ONE
    y, z, ef, wide, wide_x = w.a, w.b, w.c, w.wide, w.wide2
    wide_x[...] = x
    ef[...] = e
    _first(y, wide_x, _LOG, wide)
    for coefficient in _LOG[2:]:
        _fma(y, wide_x, coefficient, wide)
    np.multiply(x, x, out=z)
    y *= x
    np.multiply(ef, _LN2_LOW32, out=w.d)
    wide[...] = y
    wide_x[...] = z
    wide *= wide_x
    wide_x[...] = w.d
    wide += wide_x
    y[...] = wide
    z *= _HALF
    y -= z
    x += y
    wide[...] = x
    wide_x[...] = ef
    wide_x *= _LN2_HIGH
    wide += wide_x
    y[...] = wide
    return y


def _sincos(x: np.ndarray, w: _Work) -> tuple[np.ndarray, np.ndarray]:
    """Cephes' sinf and cosf of numbers in [0, 2 pi]; overwrites x, returns work arrays."""
    s, c, z, wide, square = w.b, w.c, w.d, w.wide, w.wide2
    octant = w.i
    np.multiply(x, _PER_OCTANT, out=z)
    octant[...] = z
    octant += _1
    octant &= _EVEN
    z[...] = octant
    np.multiply(z, _PI4_1, out=s)
    x -= s
    np.multiply(z, _PI4_2, out=s)
    x -= s
    wide[...] = z
    wide *= _PI4_LOW
    square[...] = x
    square -= wide
    x[...] = square

    np.multiply(x, x, out=z)
    square[...] = z
    _first(s, square, _SIN, wide)
    _fma(s, square, _SIN[2], wide)
    s *= z
    _first(c, square, _COS, wide)
    _fma(c, square, _COS[2], wide)
    c *= z
    wide[...] = c
    wide *= square
    square *= _HALF64
    wide -= square
    c[...] = wide
    c += _ONE
    wide[...] = s
    square[...] = x
    wide *= square
    wide += square
    s[...] = wide

    # In the second and fourth quarter sine and cosine change places; the rest is signs. All of it on the bits.
    mask, differing = w.j, z.view(np.int32)
    s_bits, c_bits = s.view(np.int32), c.view(np.int32)
    np.left_shift(octant, _30, out=mask)
    mask >>= _31
    np.bitwise_xor(s_bits, c_bits, out=differing)
    differing &= mask
    s_bits ^= differing
    c_bits ^= differing
    np.bitwise_and(octant, _4, out=mask)
    mask <<= _29
    s_bits ^= mask
    octant += _2
    octant &= _4
    octant <<= _29
    c_bits ^= octant
    return s, c


def blocks32(unit: np.ndarray, mean: float, std: float) -> np.ndarray:
    """Normals from float32 uniforms in [0, 1), whose count is a multiple of 16; float32.

    In a block of 16 the first eight uniforms give the radii, the last eight the angles, and the cosines come first.
    """
    out = np.empty(unit.size, np.float32)
    pairs, result = unit.reshape(-1, 2, LANES), out.reshape(-1, 2, LANES)
    rows = _CHUNK // LANES
    work = None
    scale = None if mean == 0.0 and std == 1.0 else _doubles(std, mean)
    for start in range(0, len(pairs), rows):
        chunk = pairs[start : start + rows]
        size = len(chunk) * LANES
        if work is None or work.a.size != size:
            work = _Work(size)
        x = np.subtract(_ONE, chunk[:, 0]).reshape(-1)
        radius = _log(x, work)
        radius *= _MINUS_TWO
        np.sqrt(radius, out=radius)
        angle = np.multiply(chunk[:, 1], _TWO_PI).reshape(-1)
        sine, cosine = _sincos(angle, work)
        for lane, wave in ((0, cosine), (1, sine)):
            wave *= radius
            if scale is not None:
                _fma(wave, scale[0], scale[1], work.wide)
            result[start : start + rows, lane] = wave.reshape(-1, LANES)
    return out


def blocks64(unit: np.ndarray, mean: float, std: float) -> np.ndarray:
    """As `blocks32`, in double precision."""
    pairs = unit.reshape(-1, 2, LANES)
    radius = np.sqrt(-2.0 * libm(math.log, 1.0 - pairs[:, 0]))
    angle = (2.0 * np.pi) * pairs[:, 1]
    out = np.empty_like(pairs)
    np.multiply(radius, libm(math.cos, angle), out=out[:, 0])
    np.multiply(radius, libm(math.sin, angle), out=out[:, 1])
    return affine(out.reshape(-1), std, mean)
