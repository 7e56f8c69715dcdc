"""Arithmetic rounded where torch's compiled loops round."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

# Elements per pass of `libm`: bounds the Python numbers alive at once.
_CHUNK = 1 << 14


def libm(function: Callable[[float], float], x: np.ndarray) -> np.ndarray:
    """One of `math`'s functions of each element of a float64 array.

    torch's scalar loops call the C library, as `math` does. NumPy's loops are chosen by the processor, and some are off
    by an ulp. So where double precision is the result's own this pays its 50 ns an element; what is rounded to less
    takes NumPy's.
    """
    flat, out = x.reshape(-1), np.empty(x.shape, np.float64)
    result = out.reshape(-1)
    for start in range(0, flat.size, _CHUNK):
        part = flat[start : start + _CHUNK]
        result[start : start + _CHUNK] = np.fromiter(map(function, part.tolist()), np.float64, part.size)
    return out


def fma64(x: np.ndarray, factor: float, addend: float) -> np.ndarray:
    """x * factor + addend rounded once, in double precision."""
    product = x * factor
    # The product's rounding error, by splitting both factors into halves (Dekker).
    split = x * 134217729.0
    high = split - (split - x)
    low = x - high
    f_split = factor * 134217729.0
    f_high = f_split - (f_split - factor)
    f_low = factor - f_high
    error = ((high * f_high - product) + high * f_low + low * f_high) + low * f_low
    total = product + addend
    # And the sum's (Knuth).
    part = total - product
    error += (product - (total - part)) + (addend - part)
    return total + error


def affine(unit: np.ndarray, factor: float, addend: float) -> np.ndarray:
    """unit * factor + addend as the fused instruction gives it, in unit's own precision."""
    if factor == 1.0 and addend == 0.0:
        return unit
    if unit.dtype == np.float64:
        return fma64(unit, factor, addend)
    wide = unit * np.float64(factor)
    wide += addend
    return wide.astype(np.float32)


def narrow(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Double-precision results in `dtype`; to the half types by way of single precision, as torch has it."""
    if values.dtype == dtype:
        return values
    with np.errstate(over="ignore"):
        if dtype.itemsize == 2 and dtype.kind not in "iu":
            values = values.astype(np.float32)
        return values.astype(dtype)
