"""Tensors from data: numbers, nested sequences, arrays, buffers."""

from __future__ import annotations

import itertools
import math
import warnings
from array import array as PythonArray
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jtorch._runtime import devices, dtypes, executor
from jtorch._tensor.base import Tensor
from jtorch._tensor.placing import as_dtype, place, plain, wrap
from jtorch._tensor.storage import alias, detached, value_of

_NO_SUCH_ARRAY = (
    "can't convert np.ndarray of type numpy.{}. The only supported types are: float64, float32, float16, complex64, "
    "complex128, int64, int32, int16, int8, uint64, uint32, uint16, uint8, and bool."
)


def _host_array(data, dtype: dtypes.dtype | None) -> tuple[np.ndarray, dtypes.dtype]:
    """Python data as a NumPy array of the dtype torch would give it."""
    if isinstance(data, np.ndarray | np.generic):
        array = np.asarray(data)
        if not array.dtype.isnative:
            raise ValueError(
                "given numpy array has byte order different from the native byte order. Conversion between byte orders "
                "is currently not supported."
            )
        if array.dtype.kind not in "biufcV" or array.dtype.fields or array.dtype.char in "gG":
            raise TypeError(_NO_SUCH_ARRAY.format(array.dtype.type.__name__))
        if any(n < 0 for n in array.strides):
            raise ValueError(
                "At least one stride in the given numpy array is negative, and tensors with negative strides are not "
                "currently supported. (You can probably work around this by making a copy of your array  with array.copy().) "
            )
        found = dtype or dtypes.from_numpy(array.dtype)
        return cast_array(array, found), found
    kind = type(data)
    if kind is float or kind is int or kind is bool or kind is complex:
        found = dtype or dtypes.of_number(data)
        return _number_array(data, found), found
    shape = _nested_shape(data)
    flat: list = []
    _flatten_into(data, shape, 0, flat, dtype)
    found = dtype or _infer(flat)
    return _number_array([plain(x) for x in flat], found).reshape(shape), found


_LISTS = {list}, {tuple}, {list, tuple}


def _from_numbers(data: Any, dtype: dtypes.dtype | None) -> tuple[np.ndarray, dtypes.dtype] | None:
    """`_host_array` for what most callers give: a number, or numbers of one kind in lists of one length. None for all else."""
    shape: Any = None
    if data.__class__ in _NUMBERS:
        data, shape = [data], ()
    kinds = set(map(type, data))
    if kinds in _LISTS:
        shape = [len(data)]
        while kinds in _LISTS:
            lengths = set(map(len, data))
            if len(lengths) != 1:
                return None
            shape.append(lengths.pop())
            data = list(itertools.chain.from_iterable(data))
            kinds = set(map(type, data))
    if kinds and kinds <= _REAL and (dtype or dtypes.get_default_dtype()) in _FLOATS and (dtype or float in kinds):
        found = dtype or dtypes.get_default_dtype()
        if not (max(data) < 1e38 and min(data) > -1e38):
            return None  # NumPy would warn of what is past the range
    elif kinds == {int} and (dtype is None or dtype is dtypes.int64):
        found = dtypes.int64
        if not (max(data) < 1 << 63 and min(data) >= -1 << 63):
            return None
    elif kinds == {bool} and (dtype is None or dtype is dtypes.bool):
        found = dtypes.bool
    else:
        return None
    array = np.array(data, found.np)
    return array if shape is None else array.reshape(shape), found


_FLOATS = frozenset((dtypes.float32, dtypes.float64))
_REAL = frozenset((int, float))
_NUMBERS = _REAL | {bool}
_PLAIN = _NUMBERS | {list, tuple}


def cast_array(array: np.ndarray, dtype: dtypes.dtype) -> np.ndarray:
    """A host array in another dtype, with torch's result where it is past the dtype's range."""
    if dtype is dtypes.float8_e4m3fn and array.dtype != dtype.np:
        # Of the 8-bit floats this one alone has no infinity: what is past its range, infinity too, is its largest.
        limit = dtypes.finfo(dtype).max
        array = np.clip(array.real, -limit, limit)
    with np.errstate(over="ignore", invalid="ignore"):
        return array.astype(dtype.np)


def _as_number(x: Any, dtype: dtypes.dtype) -> Any:
    """A leaf as a number by the protocol that torch asks for when it is told the dtype."""
    if isinstance(x, int | float | complex):
        return x
    if dtype.category == dtypes.INTEGRAL:
        inexact = isinstance(x, Tensor) and x.dtype.category >= dtypes.FLOATING
        if dtype is dtypes.uint64:
            raise TypeError("an integer is required")
        if inexact:
            raise TypeError("only integer tensors of a single element can be converted to an index")
        if not hasattr(x, "__index__"):
            raise TypeError(f"'{full_name(x)}' object cannot be interpreted as an integer")
        return x.item() if isinstance(x, Tensor | jax.Array) else x.__index__()
    if isinstance(x, Tensor | jax.Array | np.bool_):
        return x
    if dtype is dtypes.bool:
        if not hasattr(x, "__index__"):
            raise TypeError(f"'{full_name(x)}' object cannot be interpreted as an integer")
        return bool(x.__index__())
    if isinstance(x, np.generic):
        return x
    if hasattr(x, "__float__"):
        return float(x)
    if hasattr(x, "__index__"):
        return x.__index__()
    raise TypeError(f"must be real number, not {full_name(x)}")


def full_name(x: Any) -> str:
    """A type's name as C has it: with its module where it is written in C and not built in."""
    name, at = type(x).__name__, type(x).__module__.partition(".")[0]
    if at == "jtorch":
        return f"torch.{name}"
    return f"numpy.{name}" if isinstance(x, np.generic | np.ndarray) else name


def _number_array(data, dtype: dtypes.dtype) -> np.ndarray:
    """A number or a flat list of numbers as an array of a dtype, refused where torch refuses."""
    if dtype.category == dtypes.INTEGRAL:
        values = data if isinstance(data, list) else [data]
        info = np.iinfo(dtype.np)
        for x in values:
            if dtype is dtypes.uint64:
                if not isinstance(x, int):
                    raise TypeError("an integer is required")
                if not 0 <= x < 2**64:
                    raise OverflowError("can't convert negative int to unsigned" if x < 0 else "int too big to convert")
                continue
            if isinstance(x, complex):
                raise TypeError("'complex' object cannot be interpreted as an integer")
            if isinstance(x, int) and not -(2**63) <= x < 2**63:
                raise ValueError("Overflow when unpacking long long")
            if (
                not math.isfinite(x)
                or not info.min <= x <= info.max
                and not (not dtype.is_signed and -info.max <= x < 0)
            ):
                raise RuntimeError(f"value cannot be converted to type {dtype.name} without overflow")
        if dtype is dtypes.uint64:
            array = np.array(values, np.uint64)
        else:
            array = np.array([int(x) for x in values], np.int64).astype(dtype.np)
        return array if isinstance(data, list) else array.reshape(())
    if dtype.category == dtypes.FLOATING:
        if any(isinstance(x, complex) for x in (data if isinstance(data, list) else [data])):
            raise TypeError("must be real number, not complex")
        return cast_array(np.array(data, np.float64), dtype)
    return np.array(data, dtype.np)


_C_NAMES = {
    "uint8": "uint8_t", "int8": "int8_t", "int16": "int16_t", "int32": "int", "int64": "int64_t", "uint16": "uint16_t",
    "uint32": "uint32_t", "uint64": "uint64_t", "float32": "float", "float64": "double", "float16": "c10::Half",
    "bfloat16": "c10::BFloat16",
}  # fmt: skip


def check_number(value, dtype: dtypes.dtype) -> None:
    """RuntimeError where a number can't be stored as a dtype: out of range, or complex for a real one."""
    if dtype.is_complex or dtype is dtypes.bool:
        return
    fits = True
    if isinstance(value, complex):
        fits, value = value.imag == 0, value.real
    if dtype.is_floating_point:
        if isinstance(value, int) and abs(value) > 2**64:
            raise ValueError("Overflow when unpacking long long")
        fits = fits and (not math.isfinite(value) or abs(value) <= dtypes.finfo(dtype).max)
    else:
        info = np.iinfo(dtype.np)
        low = info.min if dtype.is_signed else -info.max
        if isinstance(value, int) and not -(2**63) <= value < 2**64:
            raise ValueError("Overflow when unpacking long long")
        fits = fits and math.isfinite(value) and low <= value <= info.max
    if not fits:
        raise RuntimeError(f"value cannot be converted to type {_C_NAMES.get(dtype.name, dtype.name)} without overflow")


def _infer(flat: list) -> dtypes.dtype:
    """The dtype that holds all of a list's numbers: tensors and NumPy numbers count with their own."""
    found = None
    for kind in {type(x) if type(x) in (int, float, bool, complex) else _own_dtype(x) for x in flat}:
        own = kind if isinstance(kind, dtypes.dtype) else dtypes.of_number(kind())
        found = own if found is None else dtypes.promote_types(found, own)
    return dtypes.get_default_dtype() if found is None else found


def _own_dtype(x):
    if isinstance(x, Tensor):
        return x.dtype
    if isinstance(x, np.generic | jax.Array):
        return dtypes.from_numpy(x.dtype)
    return next(kind for kind in (bool, int, float, complex) if isinstance(x, kind))


def is_sequence(x) -> bool:
    if isinstance(x, list | tuple):
        return True
    if isinstance(x, str | bytes | dict | set | Tensor | jax.Array):
        return False  # tensors in a list count as their one element
    return hasattr(x, "__len__") and hasattr(x, "__getitem__") and not (isinstance(x, np.ndarray) and x.ndim == 0)


def _nested_shape(data) -> tuple[int, ...]:
    shape = []
    while is_sequence(data):
        if isinstance(data, np.ndarray):
            return (*shape, *data.shape)
        shape.append(len(data))
        if not len(data):
            break
        data = data[0]
    return tuple(shape)


def _flatten_into(data, shape, depth: int, flat: list, dtype: dtypes.dtype | None = None) -> None:
    if depth == len(shape):
        if isinstance(data, int | float | complex):
            flat.append(data)
        elif dtype is not None and not isinstance(data, str | bytes | list | tuple):
            if isinstance(data, Tensor | jax.Array) and math.prod(data.shape) != 1:
                raise ValueError("only one element tensors can be converted to Python scalars")
            flat.append(_as_number(data, dtype))
        elif isinstance(data, np.generic):
            flat.append(data)
        elif isinstance(data, Tensor | jax.Array):
            if math.prod(data.shape) != 1:
                raise ValueError("only one element tensors can be converted to Python scalars")
            flat.append(data)
        elif isinstance(data, list | tuple):
            counts = isinstance(flat[0], int) and not isinstance(flat[0], bool) if flat else False
            if dtype is dtypes.uint64:
                raise TypeError("an integer is required")
            if counts if dtype is None else dtype.category <= dtypes.INTEGRAL:
                raise TypeError(f"'{type(data).__name__}' object cannot be interpreted as an integer")
            raise TypeError(f"must be real number, not {type(data).__name__}")
        elif isinstance(data, bytes):
            raise TypeError("new(): invalid data type 'bytes'")
        elif isinstance(data, str):
            # torch takes a string for a sequence, but only where it looks for the shape: at the first leaf.
            if depth and not flat:
                raise ValueError("too many dimensions 'str'")
            raise TypeError("new(): invalid data type 'str'")
        else:
            raise RuntimeError(f"Could not infer dtype of {full_name(data)}")
        return
    if not is_sequence(data):
        raise TypeError("not a sequence")
    if isinstance(data, np.ndarray):
        if tuple(data.shape) != tuple(shape[depth:]):
            raise ValueError(f"expected sequence of length {shape[depth]} at dim {depth} (got {len(data)})")
        flat.extend(data.reshape(-1) if dtype is None else [_as_number(x, dtype) for x in data.reshape(-1)])
        return
    if len(data) != shape[depth] and 0 not in shape:
        raise ValueError(f"expected sequence of length {shape[depth]} at dim {depth} (got {len(data)})")
    if shape[depth] == 0:
        return
    for x in data:
        _flatten_into(x, shape, depth + 1, flat, dtype)


def tensor(
    data: Any, *, dtype: dtypes.dtype | None = None, device=None, requires_grad: bool = False, pin_memory: bool = False
) -> Tensor:
    """A new leaf tensor of Python numbers, nested sequences, arrays or another tensor's elements: always a copy."""
    dtype = as_dtype("tensor", dtype)
    if data.__class__ in _PLAIN:
        made = _from_numbers(data, dtype)
        if made is not None:
            return wrap(place(*made, device, own=True), requires_grad)
    if isinstance(data, Tensor):
        warnings.warn(
            "To copy construct from a tensor, it is recommended to use sourceTensor.detach().clone() or "
            "sourceTensor.detach().clone().requires_grad_(True), rather than torch.tensor(sourceTensor).",
            UserWarning,
            stacklevel=2,
        )
        v = detached(value_of(data.detach().clone()))
        t = wrap(v)
        if dtype is not None or device is not None:
            t = t.to(device=device if device is not None else t.device, dtype=dtype or t.dtype)
        return wrap(detached(value_of(t)), requires_grad)
    if isinstance(data, jax.Array):
        t = wrap(executor.of(data))
        t = t.to(device=devices.canonical(device), dtype=dtype or t.dtype)
        return wrap(detached(value_of(t)), requires_grad)
    array, found = _host_array(data, dtype)
    t = wrap(place(array, found, device), requires_grad)
    if isinstance(data, np.ndarray):
        _lay_out_as(data, t)
    return t


def _lay_out_as(array: np.ndarray, t: Tensor) -> None:
    """Gives a new tensor of a dense array its order in memory; of another, the usual one stays."""
    if array.ndim > 1 and array.size and not array.flags.c_contiguous:
        order = sorted(range(array.ndim), key=lambda d: -array.strides[d])
        if array.transpose(order).flags.c_contiguous:
            t._value = alias(t._value, tuple(n // array.itemsize for n in array.strides))


def as_tensor(data: Any, dtype: dtypes.dtype | None = None, device=None) -> Tensor:
    """`data` as a tensor; a tensor of that dtype and device is itself. NumPy arrays are copied."""
    if isinstance(data, Tensor):
        return data.to(device=device if device is not None else data.device, dtype=dtype or data.dtype)
    return tensor(data, dtype=dtype, device=device)


def asarray(obj: Any, *, dtype=None, device=None, copy: bool | None = None, requires_grad: bool = False) -> Tensor:
    """`obj` as a tensor, with or without a copy."""
    if isinstance(obj, bytes | bytearray | memoryview | PythonArray):
        t = frombuffer(obj, dtype=dtype or dtypes.get_default_dtype()).to(devices.canonical(device))
    else:
        if copy is False and isinstance(obj, np.generic):
            raise RuntimeError("can't alias NumPy scalars. Either remove copy=False or transform it in a ndarray. ")
        if copy is False and not isinstance(obj, Tensor | jax.Array | np.ndarray):
            raise ValueError("can't alias arbitrary sequence into a tensor.")
        t = as_tensor(obj, dtype, device)
    if copy and t is obj:
        t = t.clone()
    if requires_grad and not t.requires_grad:
        return wrap(value_of(t.detach()), True)
    return t if requires_grad or not t.requires_grad else t.detach()


def from_numpy(ndarray: np.ndarray) -> Tensor:
    """A NumPy array's elements as a tensor. Differs from torch: a copy, so later writes to either stay apart."""
    if not isinstance(ndarray, np.ndarray):
        raise TypeError(f"expected np.ndarray (got {full_name(ndarray)})")
    array, dtype = _host_array(ndarray, None)
    t = wrap(place(array, dtype, devices.CPU))
    _lay_out_as(ndarray, t)
    return t


def frombuffer(
    buffer, *, dtype: dtypes.dtype | None = None, count: int = -1, offset: int = 0, requires_grad: bool = False
) -> Tensor:
    """A 1-d tensor of the bytes of a buffer, as a copy."""
    if dtype is None:
        raise TypeError('frombuffer() missing 1 required positional arguments: "dtype"')
    try:
        length = memoryview(buffer).nbytes
    except TypeError:
        raise ValueError("object does not implement Python buffer protocol.") from None
    size = dtype.itemsize
    if not length or not count:
        raise ValueError(f"both buffer length ({length}) and count ({count}) must not be 0")
    if not 0 <= offset < length:
        raise ValueError(
            f"offset ({offset} bytes) must be non-negative and no greater than buffer length ({length} bytes) minus 1"
        )
    if count < 0 and (length - offset) % size:
        raise ValueError(
            f"buffer length ({length - offset} bytes) after offset ({offset} bytes) must be a multiple of element size "
            f"({size})"
        )
    if count > 0 and offset + count * size > length:
        raise ValueError(
            f"requested buffer length ({count} * {size} bytes) after offset ({offset} bytes) must not be greater than "
            f"actual buffer length ({length} bytes)"
        )
    array = np.frombuffer(buffer, dtype.np, count, offset)
    return wrap(place(array, dtype, devices.CPU), requires_grad)


def from_dlpack(ext_tensor) -> Tensor:
    """A tensor of another library's array. Shares its memory where JAX can, but writes do not reach it."""
    return wrap(executor.of(jnp.array(jax.dlpack.from_dlpack(ext_tensor), copy=True)))


FUNCTIONS = {f.__name__.rstrip("_"): f for f in (tensor, as_tensor, asarray, from_numpy, frombuffer, from_dlpack)}
