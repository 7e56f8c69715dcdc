"""Tensors from nothing: of a size, of the size of another, and from parts."""

from __future__ import annotations

import warnings

import jax.numpy as jnp
import numpy as np

from jtorch._runtime import devices, dtypes, executor
from jtorch._runtime.avals import aval, contiguous_strides, is_dense
from jtorch._runtime.executor import Value
from jtorch._runtime.kernel import Kernel
from jtorch._tensor.base import Tensor
from jtorch._tensor.derive import call, copy_out
from jtorch._tensor.from_data import check_number, full_name, is_sequence, tensor
from jtorch._tensor.placing import alias_tensor, as_dtype, channels_last, channels_last_3d, plain, preserve_format, wrap
from jtorch._tensor.storage import alias, value_of

_KERNELS: dict[tuple, Kernel] = {}


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
    elif len(args) == 1 and is_sequence(args[0]) and not isinstance(args[0], type(aval((), dtype).shape)):
        t = tensor(args[0], dtype=dtype, device=device)
    elif (
        len(args) == 1
        and not isinstance(args[0], tuple)
        and (isinstance(args[0], str) or not hasattr(args[0], "__index__"))
    ):
        if isinstance(args[0], str | bytes):
            raise TypeError(f"new(): invalid data type '{type(args[0]).__name__}'")
        raise TypeError(f"new(): data must be a sequence (got {full_name(args[0])})")
    else:
        t = empty(*args, dtype=dtype, device=device)
    return t if cls is Tensor else Tensor._make_subclass(cls, t)


def _type_name(dtype) -> str:
    return f"torch.{dtypes.SCALAR_NAMES[dtype]}Tensor"


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
    value = plain(fill_value)
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
        zeros,
        ones,
        empty,
        empty_permuted,
        empty_strided,
        full,
        zeros_like,
        ones_like,
        empty_like,
        full_like,
        complex_,
        polar,
        scalar_tensor,
    )
}


def attach() -> None:
    """Gives Tensor its `new_*` methods."""
    for f in (zeros, ones, empty, full):
        setattr(Tensor, "new_" + f.__name__, _new(f))
    Tensor.new_tensor = new_tensor  # type: ignore[attr-defined]
    Tensor.new = new_legacy  # type: ignore[attr-defined]
    Tensor.new_empty_strided = lambda self, size, stride, **k: empty_strided(  # type: ignore[attr-defined]
        size, stride, **{"dtype": self.dtype, "device": self.device, **k}
    )
