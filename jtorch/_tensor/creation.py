"""Tensors from data and from nothing."""

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
from jtorch._runtime.avals import aval, contiguous_strides, is_dense, on_cpu
from jtorch._runtime.executor import Value
from jtorch._runtime.jax_internals import put
from jtorch._runtime.kernel import Kernel
from jtorch._tensor.base import Tensor, new
from jtorch._tensor.derive import call, copy_out
from jtorch._tensor.storage import alias, detached, storage_of, value_of


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

_KERNELS: dict[tuple, Kernel] = {}


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


# ---- from data -------------------------------------------------------------------------------------------------------


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
    return _number_array([_plain(x) for x in flat], found).reshape(shape), found


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
            raise TypeError(f"'{_full_name(x)}' object cannot be interpreted as an integer")
        return x.item() if isinstance(x, Tensor | jax.Array) else x.__index__()
    if isinstance(x, Tensor | jax.Array | np.bool_):
        return x
    if dtype is dtypes.bool:
        if not hasattr(x, "__index__"):
            raise TypeError(f"'{_full_name(x)}' object cannot be interpreted as an integer")
        return bool(x.__index__())
    if isinstance(x, np.generic):
        return x
    if hasattr(x, "__float__"):
        return float(x)
    if hasattr(x, "__index__"):
        return x.__index__()
    raise TypeError(f"must be real number, not {_full_name(x)}")


def _full_name(x: Any) -> str:
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


def _is_sequence(x) -> bool:
    if isinstance(x, list | tuple):
        return True
    if isinstance(x, str | bytes | dict | set | Tensor | jax.Array):
        return False  # tensors in a list count as their one element
    return hasattr(x, "__len__") and hasattr(x, "__getitem__") and not (isinstance(x, np.ndarray) and x.ndim == 0)


def _nested_shape(data) -> tuple[int, ...]:
    shape = []
    while _is_sequence(data):
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
            raise RuntimeError(f"Could not infer dtype of {_full_name(data)}")
        return
    if not _is_sequence(data):
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
        raise TypeError(f"expected np.ndarray (got {_full_name(ndarray)})")
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


def legacy_tensor(cls, *args, device=None, dtype=None) -> Tensor:
    """`torch.Tensor(...)`: from sizes an uninitialised tensor of the default dtype, else from data."""
    typed = dtype is not None
    dtype = dtype or dtypes.get_default_dtype()
    if len(args) == 1 and isinstance(args[0], Tensor):
        source = args[0]
        if cls is not Tensor:
            return source.as_subclass(cls) if source.requires_grad else Tensor._make_subclass(cls, source)
        if typed and source.dtype is not dtype:
            raise TypeError(f"expected {_type_name(dtype)} (got torch.{dtypes.SCALAR_NAMES[source.dtype]}Tensor)")
        return alias_tensor(source)
    if len(args) == 1 and isinstance(args[0], bool | float | complex | np.floating):
        raise TypeError(f"new(): data must be a sequence (got {type(args[0]).__name__})")
    if not args:
        t = empty((0,), dtype=dtype, device=device)
    elif len(args) == 1 and _is_sequence(args[0]) and not isinstance(args[0], type(aval((), dtype).shape)):
        t = tensor(args[0], dtype=dtype, device=device)
    elif (
        len(args) == 1
        and not isinstance(args[0], tuple)
        and (isinstance(args[0], str) or not hasattr(args[0], "__index__"))
    ):
        if isinstance(args[0], str | bytes):
            raise TypeError(f"new(): invalid data type '{type(args[0]).__name__}'")
        raise TypeError(f"new(): data must be a sequence (got {_full_name(args[0])})")
    else:
        t = empty(*args, dtype=dtype, device=device)
    return t if cls is Tensor else Tensor._make_subclass(cls, t)


def alias_tensor(t: Tensor) -> Tensor:
    """A second tensor over the same memory."""
    from jtorch._tensor.views import alias_of

    return alias_of(t)


def _type_name(dtype) -> str:
    return f"torch.{dtypes.SCALAR_NAMES[dtype]}Tensor"


# ---- from nothing ----------------------------------------------------------------------------------------------------


def sizes(args, name: str = "empty") -> tuple[int, ...]:
    """Sizes given one by one or as a sequence, checked."""
    if len(args) == 1 and isinstance(args[0], tuple | list):
        args = args[0]
    elif len(args) == 1 and not hasattr(args[0], "__index__"):
        raise TypeError(f"{name}(): argument 'size' (position 1) must be tuple of ints, not {type(args[0]).__name__}")
    found = []
    for place_, n in enumerate(args):
        if not hasattr(n, "__index__") or isinstance(n, bool):
            raise TypeError(
                f"{name}(): argument 'size' failed to unpack the object at pos {place_ + 1} with error \"type must be tuple "
                f'of ints,but got {type(n).__name__}"'
            )
        found.append(n.__index__())
        if found[-1] >= 2**63:
            raise TypeError(
                f"{name}(): argument 'size' failed to unpack the object at pos {place_ + 1} with error \"Overflow when "
                'unpacking long long"'
            )
    for n in found:
        if n < 0:
            if name == "zeros":
                raise RuntimeError("zeros: Dimension size must be non-negative.")
            raise RuntimeError(f"Trying to create tensor with negative dimension {n}: {found}")
    return tuple(found)


def check_size(shape, dtype: dtypes.dtype) -> None:
    """RuntimeError where a tensor's bytes can't be counted in 64 bits; XLA would end the process."""
    count, overflowed = 1, False
    for n in shape:
        count *= n
        overflowed = overflowed or count >= 2**63
    if overflowed or count * dtype.itemsize >= 2**63:
        raise RuntimeError(f"Storage size calculation overflowed with sizes={list(shape)}")


_PYTHON_TYPES = {float: dtypes.float64, int: dtypes.int64, bool: dtypes.bool, complex: dtypes.complex128}


def as_dtype(name: str, dtype) -> dtypes.dtype | None:
    """A dtype argument: a dtype, Python's own number types, or None."""
    if dtype is None or isinstance(dtype, dtypes.dtype):
        return dtype
    found = _PYTHON_TYPES.get(dtype) if isinstance(dtype, type) else None
    if found is None:
        raise TypeError(f"{name}(): argument 'dtype' must be torch.dtype, not {type(dtype).__name__}")
    return found


def make(
    name: str,
    shape,
    dtype: dtypes.dtype | None,
    device,
    build,
    *statics,
    numbers=(),
    requires_grad=False,
    out=None,
    strides=None,
) -> Tensor:
    """A tensor that a kernel without array inputs computes: `build(shape, np dtype, *statics)` gives its function."""
    dtype = as_dtype(name, dtype) or (out.dtype if out is not None else dtypes.get_default_dtype())
    where = devices.canonical(device)
    kinds = "".join("f" if isinstance(n, float) else "i" for n in numbers)
    key = (name, shape, dtype, where, statics, kinds)
    kernel = _KERNELS.get(key)
    if kernel is None:
        check_size(shape, dtype)
        fn = build(shape, dtype.np, *statics)
        kernel = _KERNELS[key] = Kernel(
            name, lambda *n: (fn(*n),), (), kinds, out=(aval(shape, dtype, where),), differentiable=False
        )
    t = wrap(executor.record(kernel, (), numbers)[0], requires_grad)
    if strides is not None:
        t._value = alias(t._value, strides)
    return t if out is None else copy_out(t, out, _OutOp(name))


class _OutOp:
    returns = None

    def __init__(self, name):
        self.name = name


def _constant(value):
    return lambda shape, dtype: lambda: jnp.full(shape, value, dtype)


_ZEROS, _ONES = _constant(0), _constant(1)


def given_size(name: str, args: tuple, size) -> tuple[int, ...]:
    """The sizes that a factory was given, by position or by name."""
    if size is not None:
        args = (size,)
    elif not args:
        raise TypeError(f'{name}() missing 1 required positional arguments: "size"')
    return sizes(args, name)


def zeros(
    *args, size=None, out=None, dtype=None, layout=None, device=None, requires_grad=False, pin_memory=False
) -> Tensor:
    """Zeros of a shape."""
    shape = given_size("zeros", args, size)
    return make("zeros", shape, dtype, device, _ZEROS, requires_grad=requires_grad, out=out)


def ones(
    *args, size=None, out=None, dtype=None, layout=None, device=None, requires_grad=False, pin_memory=False
) -> Tensor:
    """Ones of a shape."""
    return make("ones", given_size("ones", args, size), dtype, device, _ONES, requires_grad=requires_grad, out=out)


def empty(
    *args,
    size=None,
    out=None,
    dtype=None,
    layout=None,
    device=None,
    requires_grad=False,
    pin_memory=False,
    memory_format=None,
) -> Tensor:
    """A tensor of a shape whose elements mean nothing (they are zeros)."""
    shape = given_size("empty", args, size)
    t = make("empty", shape, dtype, device, _ZEROS, requires_grad=requires_grad, out=out)
    return _formatted(t, memory_format)


def empty_permuted(
    size, physical_layout, *, dtype=None, layout=None, device=None, requires_grad=False, pin_memory=False
) -> Tensor:
    """`empty` whose dims lie in memory in the order given."""
    shape, order = sizes((size,)), tuple(physical_layout)
    if len(order) != len(shape):
        raise RuntimeError(
            f"Number of dimensions in size does not match the length of the physical_layout; i.e. len(size) = {len(shape)} "
            f"is not equal to len(physical_layout) = {len(order)}"
        )
    for place, d in enumerate(order):
        if not 0 <= d < len(shape):
            raise RuntimeError(
                f"Dimension out of range (expected to be between 0 and {len(shape) - 1}, but got {d} at index {place}).  "
                "NB: negative dims not currently supported; file an issue if you want it."
            )
    if len(set(order)) < len(order):
        raise RuntimeError("Duplicate dim not allowed")
    inner = contiguous_strides(tuple(shape[d] for d in order))
    strides = tuple(inner[order.index(d)] for d in range(len(shape)))
    return make("empty", shape, dtype, device, _ZEROS, requires_grad=requires_grad, strides=strides)


def empty_strided(
    size, stride, *, dtype=None, layout=None, device=None, requires_grad=False, pin_memory=False
) -> Tensor:
    """`empty` with strides."""
    return make("empty", sizes((size,)), dtype, device, _ZEROS, requires_grad=requires_grad, strides=tuple(stride))


def full(
    size,
    fill_value,
    *,
    out=None,
    dtype=None,
    layout=None,
    device=None,
    requires_grad=False,
    pin_memory=False,
) -> Tensor:
    """A tensor of one number, of the number's own dtype unless told."""
    if not isinstance(size, tuple | list):
        raise TypeError(f"full(): argument 'size' (position 1) must be tuple of ints, not {type(size).__name__}")
    shape = sizes((size,))
    value = _plain(fill_value)
    if not isinstance(value, bool | int | float | complex):
        raise TypeError(f"full(): argument 'fill_value' (position 2) must be Number, not {type(fill_value).__name__}")
    dtype = as_dtype("full", dtype) or (out.dtype if out is not None else dtypes.of_number(value))
    check_number(value, dtype)
    if isinstance(value, complex) and not dtype.is_complex and dtype is not dtypes.bool:
        value = value.real
    if isinstance(value, bool | complex) or isinstance(value, int) and not -(2**63) <= value < 2**63:
        return make(
            "full",
            shape,
            dtype,
            device,
            lambda s, d, v: lambda: jnp.full(s, v, d),
            value,
            requires_grad=requires_grad,
            out=out,
        )
    return make(
        "full", shape, dtype, device, lambda s, d: lambda n: jnp.full(s, n.astype(d), d), numbers=(value,),
        requires_grad=requires_grad, out=out,
    )  # fmt: skip


def _formatted(t: Tensor, memory_format) -> Tensor:
    if memory_format in (channels_last, channels_last_3d):
        t._value = alias(value_of(t), format_strides(tuple(t.shape), memory_format))
    return t


def format_strides(shape, memory_format) -> tuple[int, ...]:
    """The strides of a memory format."""
    if memory_format in (channels_last, channels_last_3d):
        if len(shape) != (4 if memory_format is channels_last else 5):
            raise RuntimeError(
                f"required rank {4 if memory_format is channels_last else 5} tensor to use {memory_format.name} format"
            )
        order = [0, *range(2, len(shape)), 1]
        inner = contiguous_strides(tuple(shape[d] for d in order))
        strides = [0] * len(shape)
        for d, s in zip(order, inner, strict=True):
            strides[d] = s
        return tuple(strides)
    return contiguous_strides(tuple(shape))


def _like(make_one, input: Tensor, dtype, device, requires_grad, memory_format, *args) -> Tensor:
    if not isinstance(input, Tensor):
        raise TypeError(
            f"{make_one.__name__}_like(): argument 'input' (position 1) must be Tensor, not {type(input).__name__}"
        )
    a = input._shape_aval()
    t = make_one(tuple(a.shape), *args, dtype=dtype or a.dtype, device=device if device is not None else a.device)
    if memory_format in (None, preserve_format):
        t._value = _dense_like(t._value, a)
    else:
        t = _formatted(t, memory_format)
    if requires_grad:
        t.requires_grad = True
    return t


def _dense_like(v: Value, a) -> Value:
    """The value under the strides that a new tensor like one of aval `a` has."""
    if a.strides is None:
        return v
    from jtorch._ops.specialise import elementwise_strides

    strides = a.strides if is_dense(a) else elementwise_strides(a.shape, (a,))
    return v if strides == v.aval.strides else alias(v, strides)


def zeros_like(
    input: Tensor, *, dtype=None, layout=None, device=None, requires_grad=False, memory_format=None, pin_memory=False
) -> Tensor:
    """Zeros of another tensor's shape, dtype and device."""
    return _like(zeros, input, dtype, device, requires_grad, memory_format)


def ones_like(
    input: Tensor, *, dtype=None, layout=None, device=None, requires_grad=False, memory_format=None, pin_memory=False
) -> Tensor:
    """Ones of another tensor's shape, dtype and device."""
    return _like(ones, input, dtype, device, requires_grad, memory_format)


def empty_like(
    input: Tensor, *, dtype=None, layout=None, device=None, requires_grad=False, memory_format=None, pin_memory=False
) -> Tensor:
    """An `empty` of another tensor's shape, dtype and device."""
    return _like(empty, input, dtype, device, requires_grad, memory_format)


def full_like(
    input: Tensor,
    fill_value,
    *,
    dtype=None,
    layout=None,
    device=None,
    requires_grad=False,
    memory_format=None,
    pin_memory=False,
) -> Tensor:
    """One number in another tensor's shape, dtype and device."""
    return _like(full, input, dtype, device, requires_grad, memory_format, fill_value)


def _new(make_one):
    def method(
        self: Tensor, *args, dtype=None, device=None, requires_grad=False, layout=None, pin_memory=False, **named
    ) -> Tensor:
        if make_one is not full:
            args, named = (given_size(method.__name__, args, named.pop("size", None)),), named
        return make_one(
            *args, dtype=dtype or self.dtype, device=device if device is not None else self.device,
            requires_grad=requires_grad, **named,
        )  # fmt: skip

    method.__name__ = "new_" + make_one.__name__
    method.__doc__ = f"`torch.{make_one.__name__}` with this tensor's dtype and device."
    return method


def new_tensor(
    self: Tensor, data, *, dtype=None, device=None, requires_grad=False, layout=None, pin_memory=False
) -> Tensor:
    """`torch.tensor` with this tensor's dtype and device."""
    if isinstance(data, Tensor):
        data = data.detach()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return tensor(data, dtype=dtype or self.dtype, device=device or self.device, requires_grad=requires_grad)
    return tensor(data, dtype=dtype or self.dtype, device=device or self.device, requires_grad=requires_grad)


def new_legacy(self: Tensor, *args, device=None) -> Tensor:
    """`torch.Tensor(...)` with this tensor's dtype and device."""
    return legacy_tensor(Tensor, *args, dtype=self.dtype, device=device or self.device)


def _plain(n):
    return n.item() if isinstance(n, Tensor | np.generic | jax.Array) else n


_NO_ARANGE = {"uint16", "uint32", "uint64"} | {d.name for d in dtypes.SCALAR_NAMES if d.name.startswith("float8")}


def arange(
    start=0, end=None, step=1, *, out=None, dtype=None, layout=None, device=None, requires_grad=False, pin_memory=False
) -> Tensor:
    """start, start + step ... up to but without end; int64 if all are integers, else the default dtype."""
    if end is None:
        start, end = 0, start
    start, end, step = _plain(start), _plain(end), _plain(step)
    for place_, (name, n) in enumerate((("start", start), ("end", end), ("step", step))):
        if not isinstance(n, int | float):
            raise TypeError(
                f"arange(): argument '{name}' (position {max(place_, 1)}) must be Number, not {type(n).__name__}"
            )
    whole = all(isinstance(n, int) for n in (start, end, step))
    dtype = as_dtype("arange", dtype) or (
        out.dtype if out is not None else dtypes.int64 if whole else dtypes.get_default_dtype()
    )
    if not (dtypes.INTEGRAL <= dtype.category <= dtypes.FLOATING) or dtype.name in _NO_ARANGE:
        raise NotImplementedError(f"\"arange_cpu\" not implemented for '{dtypes.SCALAR_NAMES[dtype]}'")
    if step == 0:
        raise RuntimeError("step must be nonzero")
    if not (math.isfinite(start) and math.isfinite(end)):
        raise RuntimeError(f"unsupported range: {start} -> {end}")
    if (step > 0 and start > end) or (step < 0 and start < end):
        raise RuntimeError("upper bound and lower bound inconsistent with step sign")
    if dtype.category == dtypes.INTEGRAL:
        # Of an integer dtype the step is an integer too; only int64 cuts the ends before it counts.
        first, by = int(start), int(step)
        if by == 0:
            raise RuntimeError("step must be nonzero")
        if whole or dtype is dtypes.int64:
            length = max(0, -((first - int(end)) // by))
        else:
            length = max(0, math.ceil((end - start) / step))
        build = lambda s, d: lambda a, by: (a + by * jnp.arange(s[0], dtype=np.int64)).astype(d)  # noqa: E731
        numbers: tuple = (first, by)
    else:
        length = max(0, math.ceil((end - start) / step))
        build = lambda s, d: lambda a, by: (a + by * jnp.arange(s[0], dtype=np.float64)).astype(d)  # noqa: E731
        numbers = (float(start), float(step))
    return make("arange", (length,), dtype, device, build, numbers=numbers, requires_grad=requires_grad, out=out)


def range_(start: Any = 0, end: Any = None, step: Any = 1, **options) -> Tensor:
    """`arange` with the end included, of the default dtype."""
    warnings.warn(
        "torch.range is deprecated and will be removed in a future release because its behavior is inconsistent with "
        "Python's range builtin. Instead, use torch.arange, which produces values in [start, end).",
        UserWarning,
        stacklevel=2,
    )
    if step == 0:
        raise RuntimeError("step must be nonzero")
    count = math.floor((end - start) / step) + 1
    options.setdefault("dtype", dtypes.get_default_dtype())
    return arange(0, count, **options) * step + start


def _count(name: str, steps) -> int:
    if not isinstance(steps, int | np.integer | Tensor) or isinstance(steps, bool):
        raise TypeError(
            f"{name}() received an invalid combination of arguments: argument 'steps' (position 3) must be int, not {type(steps).__name__}"
        )
    if steps < 0:
        raise RuntimeError("number of steps must be non-negative")
    return int(steps)


def linspace(
    start, end, steps: int, *, out=None, dtype=None, layout=None, device=None, requires_grad=False, pin_memory=False
) -> Tensor:
    """`steps` numbers evenly from start to end, both included."""
    steps = _count("linspace", steps)
    start, end = _plain(start), _plain(end)
    if isinstance(start, complex) or isinstance(end, complex):
        dtype = dtype or dtypes.get_default_dtype().to_complex()
        return make(
            "linspace",
            (steps,),
            dtype,
            device,
            lambda s, d, a, b: lambda: jnp.linspace(a, b, s[0]).astype(d),
            start,
            end,
            requires_grad=requires_grad,
            out=out,
        )

    def build(s, d):
        n = s[0]

        def fn(a, b):
            if n == 1:
                return a.astype(d).reshape(1)
            if np.issubdtype(d, np.integer):
                step = (b - a) / (n - 1)
                i = jnp.arange(n)
                return jnp.where(i < n // 2, jnp.trunc(a + step * i), jnp.trunc(b - step * (n - 1 - i))).astype(d)
            wide = np.float64 if d == np.float64 else np.float32
            a, b = a.astype(wide), b.astype(wide)
            step = ((b - a) / (n - 1)).astype(np.float64)
            # float32 products in float64 and rounded once, as torch's fused multiply-add does.
            i = jnp.arange(n).astype(np.float64)
            return jnp.where(i < n // 2, a + step * i, b - step * (n - 1 - i)).astype(d)

        return fn

    return make(
        "linspace",
        (steps,),
        dtype,
        device,
        build,
        numbers=(float(start), float(end)),
        requires_grad=requires_grad,
        out=out,
    )


def logspace(
    start,
    end,
    steps: int,
    base: float = 10.0,
    *,
    out=None,
    dtype=None,
    layout=None,
    device=None,
    requires_grad=False,
    pin_memory=False,
) -> Tensor:
    """base to the powers of `linspace`."""
    steps = _count("logspace", steps)

    def build(s, d):
        def fn(a, b, c):
            return jnp.power(c, jnp.linspace(a, b, s[0])).astype(d)

        return fn

    numbers = (float(_plain(start)), float(_plain(end)), float(base))
    return make("logspace", (steps,), dtype, device, build, numbers=numbers, requires_grad=requires_grad, out=out)


def eye(
    n: int,
    m: int | None = None,
    *,
    out=None,
    dtype=None,
    layout=None,
    device=None,
    requires_grad=False,
    pin_memory=False,
) -> Tensor:
    """Ones on the diagonal of an n by m matrix, zeros elsewhere."""
    m = n if m is None else m
    if n < 0 or m < 0:
        raise RuntimeError(f"{'n' if n < 0 else 'm'} must be greater or equal to 0, got {n if n < 0 else m}")
    return make(
        "eye", (n, m), dtype, device, lambda s, d: lambda: jnp.eye(*s, dtype=d), requires_grad=requires_grad, out=out
    )


def _indices_of(name, host):
    def fn(row: int, col: int, offset: int = 0, *, dtype=None, layout=None, device=None, pin_memory=False) -> Tensor:
        found = np.stack(host(row, offset, col))
        return wrap(place(found.astype((dtype or dtypes.int64).np), dtype or dtypes.int64, device))

    fn.__name__ = name
    fn.__doc__ = f"Rows and columns of the {'lower' if 'l' in name[:4] and name[2] == 'i' and name[3] == 'l' else 'upper'} triangle, as two rows."
    return fn


tril_indices = _indices_of("tril_indices", np.tril_indices)
triu_indices = _indices_of("triu_indices", np.triu_indices)


def _check_parts(name: str, **parts: Tensor) -> None:
    """That both parts of a complex tensor are tensors of one real dtype."""
    for place, (argument, t) in enumerate(parts.items()):
        if not isinstance(t, Tensor):
            raise TypeError(
                f"{name}(): argument '{argument}' (position {place + 1}) must be Tensor, not {type(t).__name__}"
            )
    first, second = (t.dtype for t in parts.values())
    names = [dtypes.SCALAR_NAMES[d] for d in (first, second)]
    if any(d.name not in ("float16", "float32", "float64") for d in (first, second)):
        raise RuntimeError(
            f"Expected both inputs to be Half, Float or Double tensors but got {names[0]} and {names[1]}"
        )
    if first is not second:
        raise RuntimeError(
            f"Expected object of scalar type {names[0]} but got scalar type {names[1]} for second argument"
        )


def complex_(real: Tensor, imag: Tensor, *, out=None) -> Tensor:
    """Complex numbers of real and imaginary parts."""
    _check_parts("complex", real=real, imag=imag)
    return _complex_out(call("complex.parts", real, imag), out, "complex")


def _complex_out(r: Tensor, out: Tensor | None, name: str) -> Tensor:
    if out is None:
        return r
    if out.dtype is not r.dtype:
        raise RuntimeError(
            f"Expected object of scalar type {dtypes.SCALAR_NAMES[r.dtype]} but got scalar type "
            f"{dtypes.SCALAR_NAMES[out.dtype]} for argument 'out'"
        )
    return copy_out(r, out, _OutOp(name))


def polar(abs: Tensor, angle: Tensor, *, out=None) -> Tensor:
    """Complex numbers of absolute values and angles."""
    _check_parts("polar", abs=abs, angle=angle)
    return _complex_out(call("complex.parts", abs * angle.cos(), abs * angle.sin()), out, "polar")


def scalar_tensor(s, *, dtype=None, layout=None, device=None, requires_grad=False, pin_memory=False) -> Tensor:
    """A 0-d tensor of a number, of the default dtype unless told."""
    return full((), s, dtype=dtype or dtypes.get_default_dtype(), device=device, requires_grad=requires_grad)


FUNCTIONS = {
    f.__name__.rstrip("_"): f
    for f in (
        tensor, as_tensor, asarray, from_numpy, frombuffer, from_dlpack, zeros, ones, empty, empty_permuted, empty_strided, full, zeros_like,
        ones_like, empty_like, full_like, arange, range_, linspace, logspace, eye, tril_indices, triu_indices, complex_,
        polar, scalar_tensor,
    )
}  # fmt: skip


def attach() -> None:
    """Gives Tensor its `new_*` methods."""
    for f in (zeros, ones, empty, full):
        setattr(Tensor, "new_" + f.__name__, _new(f))
    Tensor.new_tensor = new_tensor  # type: ignore[attr-defined]
    Tensor.new = new_legacy  # type: ignore[attr-defined]
    Tensor.new_empty_strided = lambda self, size, stride, **k: empty_strided(  # type: ignore[attr-defined]
        size, stride, **{"dtype": self.dtype, "device": self.device, **k}
    )


__all__ = ["FUNCTIONS", "attach", "storage_of"]
