"""Host arrays as tensors on devices, and the words that factories take: layouts, memory formats, dtypes."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from jtorch._runtime import devices, dtypes, executor
from jtorch._runtime.avals import aval, on_cpu
from jtorch._runtime.executor import Value
from jtorch._runtime.jax_internals import put
from jtorch._tensor.base import Tensor, new


class _Named:
    """A constant with torch's repr: layouts and memory formats."""

    def __init__(self, name: str):
        self.name = name

    def __repr__(self) -> str:
        return f"torch.{self.name}"

    def __reduce__(self):
        return self.name


layout = memory_format = _Named
strided = _Named("strided")
sparse_coo = _Named("sparse_coo")
sparse_csr = _Named("sparse_csr")
contiguous_format = _Named("contiguous_format")
preserve_format = _Named("preserve_format")
channels_last = _Named("channels_last")
channels_last_3d = _Named("channels_last_3d")


def wrap(v: Value, requires_grad: bool = False) -> Tensor:
    """A tensor of a value, a leaf that requires grad where asked."""
    t = new(Tensor)
    t._value = v
    if requires_grad:
        if v.aval.dtype.category < dtypes.FLOATING:
            raise RuntimeError("Only Tensors of floating point and complex dtype can require gradients")
        t.requires_grad = True
    return t


log: Any = None  # while a compiled function is watched: takes note of what it makes out of Python data, and of draws


# A host array up to this size is handed to programs as it is: they take it in less time than placing it takes, and most
# small ones are used once or twice.
HELD_BYTES = 4096


def place(array, dtype: dtypes.dtype, device, own: bool = False) -> Value:
    """A host array as a value on a device: a copy, but of a small row-major one that nobody else has (`own`)."""
    where = device if device is devices.CPU else devices.canonical(device)
    v = Value(
        on_cpu(array.shape, dtype) if where is devices.CPU else aval(array.shape, dtype, where),
        executor.INFERENCE if executor.T.inference else -1,
    )
    if where is devices.CPU and array.nbytes <= HELD_BYTES and devices.is_only(devices.CPU):
        v.array = array if own else np.array(array, order="C")
    elif where is not devices.META:
        v.array = put(np.ascontiguousarray(array).reshape(array.shape), devices.to_jax(where))
    if log is not None:
        log.made.append(v)
    return v


_PYTHON_TYPES = {float: dtypes.float64, int: dtypes.int64, bool: dtypes.bool, complex: dtypes.complex128}


def as_dtype(name: str, dtype) -> dtypes.dtype | None:
    """A dtype argument: a dtype, Python's own number types, or None."""
    if dtype is None or isinstance(dtype, dtypes.dtype):
        return dtype
    found = _PYTHON_TYPES.get(dtype) if isinstance(dtype, type) else None
    if found is None:
        raise TypeError(f"{name}(): argument 'dtype' must be torch.dtype, not {type(dtype).__name__}")
    return found


def alias_tensor(t: Tensor) -> Tensor:
    """A second tensor over the same memory."""
    from jtorch._tensor.parts import alias_of

    return alias_of(t)


def plain(n):
    """A number as one of Python's own."""
    return n.item() if isinstance(n, Tensor | np.generic | jax.Array) else n
