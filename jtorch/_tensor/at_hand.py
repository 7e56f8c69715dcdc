"""Looking at values that lie ready in the host's memory, for checks of indices. Nothing is waited for."""

from __future__ import annotations

from typing import Any

import numpy as np

from jtorch._runtime import devices, dtypes
from jtorch._runtime.jax_internals import ArrayImpl
from jtorch._tensor import placing
from jtorch._tensor.base import Tensor
from jtorch._tensor.storage import value_of


def span(index: Any) -> tuple[int, int] | None:
    """The least and the greatest element of a tensor whose values are at hand on the CPU, else None."""
    return span_of(value_of(index)) if isinstance(index, Tensor) else None


def span_of(v) -> tuple[int, int] | None:
    """The same of a value."""
    array = v.array
    held = array.__class__ is np.ndarray
    if not held and array.__class__ is not ArrayImpl or not v.aval.numel or v.aval.device is not devices.CPU:
        return None
    if v.aval.dtype.category > dtypes.INTEGRAL:
        return None  # no index at all: the operation says so
    found = v.__dict__.get("span")
    if found is None:
        if not held and not array.is_ready():
            return None
        host = np.asarray(array)
        found = v.span = (int(host.min()), int(host.max()))
    return found


def outside(index: Any, size: int, low: int = 0) -> int | None:
    """An element of an index tensor that is not in [low, size), if that can be told without waiting."""
    found = span(index)
    if placing.log is not None and isinstance(index, Tensor):
        placing.log.bounds.append((index._value, low, size))
    if found is None or (found[0] >= low and found[1] < size):
        return None
    return found[0] if found[0] < low else found[1]
