"""Conversions, copies and writes: the methods of Tensor that are neither operations nor views."""

from __future__ import annotations

import copy as _copy
import operator
from typing import Any

import jax
import numpy as np

from jtorch._autograd.modes import no_grad
from jtorch._ops.specialise import broadcast_shapes
from jtorch._runtime import devices, dtypes, executor
from jtorch._runtime.avals import aval
from jtorch._runtime.executor import T, Value
from jtorch._tensor.base import Tensor, new
from jtorch._tensor.creation import _dense_like, format_strides
from jtorch._tensor.derive import FUNCTIONS, cast, check_in_place, store_in_place, values_of
from jtorch._tensor.from_data import check_number, tensor
from jtorch._tensor.placing import (
    as_dtype,
    channels_last,
    channels_last_3d,
    contiguous_format,
    place,
    preserve_format,
    wrap,
)
from jtorch._tensor.storage import alias, copied_over, detached, storage_of, tag, value_of, write, zeroed


def clone(input: Tensor, *, memory_format=preserve_format) -> Tensor:
    """A copy with memory of its own, part of the graph."""
    r = FUNCTIONS["clone"](input)
    a = input._shape_aval()
    if memory_format in (None, preserve_format):
        r._value = _dense_like(r._value, a)
    elif memory_format is not contiguous_format:
        r._value = alias(r._value, format_strides(tuple(a.shape), memory_format))
    return r


def contiguous(self: Tensor, memory_format=contiguous_format) -> Tensor:
    """This tensor if its strides are the format's, else a copy that has them."""
    if is_contiguous(self, memory_format):
        return self
    if memory_format is preserve_format:
        raise RuntimeError("preserve memory format is unsupported by the contiguous operator")
    return clone(self, memory_format=memory_format)


def is_contiguous(self: Tensor, memory_format=contiguous_format) -> bool:
    """Whether the strides are those of a memory format."""
    a = self._shape_aval()
    if memory_format in (channels_last, channels_last_3d):
        if a.ndim != (4 if memory_format is channels_last else 5):
            return False
        wanted = format_strides(tuple(a.shape), memory_format)
        return all(n == 1 or s == w for n, s, w in zip(a.shape, a.stride(), wanted, strict=True))
    return a.contiguous


# ---- dtype and device ------------------------------------------------------------------------------------------------


def _move(t: Tensor, where: devices.device) -> Tensor:
    """A tensor on another device, part of the graph."""
    v = value_of(t)
    if where is devices.META:
        moved = Value(aval(v.aval.shape, v.aval.dtype, where, v.aval.strides))
    else:
        moved = Value(aval(v.aval.shape, v.aval.dtype, where, v.aval.strides))
        moved.array = jax.device_put(executor.concrete(v), devices.to_jax(where))
    if T.grad and v.node is not None:
        from jtorch._autograd.graph import Edges, node_of

        class ToCopyBackward0(Edges):
            def apply(self, cts):
                return [value_of(_move(wrap(ct), v.aval.device)) if ct is not None else None for ct in cts]

        node = ToCopyBackward0(((node_of(v), v.nr),), 1)
        moved.node = node
    return wrap(moved)


def to(self: Tensor, *args, **kwargs) -> Tensor:
    """This tensor as another dtype and/or on another device: itself where it is that already and `copy` is False."""
    dtype, device, copy = kwargs.get("dtype"), kwargs.get("device"), kwargs.get("copy", False)
    memory_format = kwargs.get("memory_format", preserve_format)
    if args:
        first, *rest = args
        if isinstance(first, dtypes.dtype):
            dtype = first
            rest = [None, *rest]
        elif isinstance(first, Tensor):
            dtype, device = first.dtype, first.device
            rest = [None, *rest]
        elif first is None or isinstance(first, str | int | devices.device):
            device = first if first is not None else device
            if rest and isinstance(rest[0], dtypes.dtype):
                dtype = rest[0]
            elif rest and isinstance(rest[0], bool):
                rest = [None, *rest]
        else:
            raise TypeError(
                "to() received an invalid combination of arguments - got "
                f"({', '.join(type(a).__name__ for a in args)}), but expected one of:\n"
                " * (torch.device device = None, torch.dtype dtype = None, bool non_blocking = False, bool copy = False, *, torch.memory_format memory_format = None)\n"
                " * (torch.dtype dtype, bool non_blocking = False, bool copy = False, *, torch.memory_format memory_format = None)\n"
                " * (Tensor tensor, bool non_blocking = False, bool copy = False, *, torch.memory_format memory_format = None)\n"
            )
        if len(rest) > 2:
            copy = rest[2]
    other = kwargs.get("other")
    if other is not None:
        dtype, device = other.dtype, other.device
    if not isinstance(dtype, dtypes.dtype):
        dtype = as_dtype("to", dtype)
    a = self._shape_aval()
    where = a.device if device is None else devices.canonical(device)
    t = self
    if where is not a.device:
        if a.device is devices.META:
            raise NotImplementedError(
                "Cannot copy out of meta tensor; no data! Please use torch.nn.Module.to_empty() instead of "
                "torch.nn.Module.to() when moving module from meta to a different device."
            )
        t = _move(t, where)
    if dtype is not None and dtype is not a.dtype:
        t = _as_dtype(t, dtype)
    if t is self and copy:
        return clone(self, memory_format=memory_format)
    if memory_format not in (None, preserve_format) and not is_contiguous(t, memory_format):
        t = clone(t, memory_format=memory_format)
    return t


def _as_dtype(t: Tensor, dtype: dtypes.dtype) -> Tensor:
    r = FUNCTIONS["to.dtype"](t, dtype)
    r._value = _dense_like(r._value, t._shape_aval())
    return r


def _caster(name: str, dtype: dtypes.dtype):
    def method(self: Tensor, *, memory_format=preserve_format) -> Tensor:
        return self if self._shape_aval().dtype is dtype else _as_dtype(self, dtype)

    method.__name__ = name
    method.__doc__ = f"This tensor as {dtype!r}; itself if it is that already."
    return method


def cpu(self: Tensor, memory_format=preserve_format) -> Tensor:
    """This tensor in the host's memory; itself if it is there already."""
    return self.to(devices.CPU)


def cuda(self: Tensor, device=None, non_blocking: bool = False, memory_format=preserve_format) -> Tensor:
    """This tensor on a GPU; itself if it is there already."""
    return self.to(devices.canonical("cuda" if device is None else device))


def type_(self: Tensor, dtype=None, non_blocking: bool = False, **kwargs):
    """Without an argument the name of the tensor's type, else this tensor as another."""
    if dtype is None:
        where = "torch.cuda." if self.is_cuda else "torch."
        return f"{where}{dtypes.SCALAR_NAMES[self.dtype]}Tensor"
    if isinstance(dtype, str):
        names = {f"torch.{n}Tensor": d for d, n in dtypes.SCALAR_NAMES.items()}
        if dtype not in names:
            raise ValueError(f"invalid type: '{dtype}'")
        dtype = names[dtype]
    elif not isinstance(dtype, dtypes.dtype):
        if not isinstance(dtype, type):
            raise TypeError("dtype must be a type, str, or dtype object")
        dtype = dtype.dtype if hasattr(dtype, "dtype") else as_dtype("type", dtype)
    return self.to(dtype)


def type_as(self: Tensor, other: Tensor) -> Tensor:
    """This tensor as the dtype and on the device of another."""
    return self.to(other)


# ---- writing ---------------------------------------------------------------------------------------------------------


def copy_(self: Tensor, src, non_blocking: bool = False) -> Tensor:
    """Writes another tensor's elements, broadcast and converted, over this one's."""
    check_in_place(self)
    if not isinstance(src, Tensor):
        if not isinstance(src, np.ndarray | np.generic | jax.Array | int | float | complex):
            raise TypeError(f"copy_(): argument 'other' (position 1) must be Tensor, not {type(src).__name__}")
        src = tensor(src)
    if src.device is not self.device:
        src = src.to(self.device)
    v = value_of(src)
    if v.aval.shape == self.shape:
        v = cast(v, self.dtype)
    else:
        from jtorch._tensor.indexing import _broadcast

        shape = broadcast_shapes([tuple(self.shape), tuple(v.aval.shape)])
        if shape != tuple(self.shape) and v.aval.numel > self.numel():
            raise RuntimeError(f"output with shape {list(self.shape)} doesn't match the broadcast shape {list(shape)}")
        v = _broadcast(v, tuple(self.shape), self.dtype)
    old = value_of(self)
    if T.grad and self._base is None and old.node is not None:
        v = copied_over(old, v)  # what was there before gets a gradient of zeros
    else:
        v = alias(v)
    write(self, v)
    return self


def fill_(self: Tensor, value) -> Tensor:
    """Writes one number over all elements."""
    check_in_place(self)
    if isinstance(value, Tensor) and value.ndim:
        raise RuntimeError(f"fill_ only supports 0-dimension value tensor but got tensor with {value.ndim} dimensions.")
    if isinstance(value, int | float | complex):
        check_number(value, self.dtype)
    write(self, values_of("fill", self, value)[0])
    return self


def zero_(self: Tensor) -> Tensor:
    """Writes zeros over all elements."""
    check_in_place(self)
    write(self, zeroed(value_of(self)))
    return self


def masked_fill_(self: Tensor, mask: Tensor, value) -> Tensor:
    """Writes a number where a mask is true."""
    check_in_place(self)
    if isinstance(value, int | float | complex):
        check_number(value, self.dtype)
    store_in_place(self, values_of("masked_fill", self, mask, value)[0], "masked_fill_")
    return self


def apply_(self: Tensor, callable) -> Tensor:
    """Replaces each element by what a Python function of it gives. Slow: one call an element."""
    return copy_(
        self, tensor([callable(x) for x in self.detach().reshape(-1).tolist()], dtype=self.dtype).reshape(self.shape)
    )


def map_(self: Tensor, other: Tensor, callable) -> Tensor:
    """Replaces each element by what a Python function of it and of the other tensor's gives. Slow: one call an element."""
    pairs = zip(self.detach().reshape(-1).tolist(), other.detach().expand(self.shape).reshape(-1).tolist(), strict=True)
    return copy_(self, tensor([callable(x, y) for x, y in pairs], dtype=self.dtype).reshape(self.shape))


def set_(self: Tensor, source=None, storage_offset: int = 0, size=None, stride=None) -> Tensor:
    """Makes this tensor share another's memory, with a size, strides and offset."""
    if source is None:
        from jtorch._tensor.creation import empty

        source = empty(0, dtype=self.dtype, device=self.device)
    from jtorch._tensor.storage_api import TypedStorage, UntypedStorage

    node = value_of(self).node
    if isinstance(source, TypedStorage):
        source = source.untyped()
    if isinstance(source, UntypedStorage):
        source = source.as_tensor(self.dtype)
        if size is None:
            size = (source.numel(),)
    with no_grad():
        target = (
            source.detach()
            if size is None
            else source.detach().as_strided(
                size, stride if stride is not None else aval(tuple(size), self.dtype).stride(), storage_offset
            )
        )
    v = value_of(target)
    if node is not None and node.kind == 1:
        v = tag(detached(v), node)
    self._value, self._storage, self._offset, self._base = v, storage_of(target), target._offset, None
    self._storage.add(self)
    return self


def resize_(self: Tensor, *sizes, memory_format=contiguous_format) -> Tensor:
    """Gives this tensor another size, keeping the first elements in memory; new ones are zeros."""
    from jtorch._tensor.sharing import ints

    size = ints(sizes, "resize_")
    if size == tuple(self.shape):
        return self
    if min(size, default=0) < 0:
        raise RuntimeError("numel: integer multiplication overflow")
    if self.requires_grad:
        raise RuntimeError("cannot resize variables that require grad")
    with no_grad():
        s = storage_of(self)
        count = int(np.prod(size, dtype=np.int64))
        if self._offset + count <= s.aval.numel:
            t = self.as_strided(size, aval(size, self.dtype).stride(), self._offset)
            self._value = detached(value_of(t))
        else:
            flat = wrap(detached(s.value)).reshape(-1)[self._offset :]
            more = FUNCTIONS["cat"]([flat, flat.new_zeros(count - flat.numel())])
            self._value = value_of(more.reshape(size).clone())
            self._storage = None
            self._offset = 0
            self._base = None
        _count_write(self)
    return self


def _count_write(t: Tensor) -> None:
    if t._storage is None:
        t._alone += 1
    else:
        t._storage.version += 1


def dim_order(self: Tensor) -> tuple[int, ...]:
    """The dims in the order of memory, the outermost first."""
    strides = self.stride()
    return tuple(sorted(range(self.ndim), key=lambda d: (-strides[d], d)))


def resize_as_(self: Tensor, the_template: Tensor, memory_format=contiguous_format) -> Tensor:
    """`resize_` to another tensor's size."""
    return resize_(self, the_template.shape)


def swap_tensors(t1: Tensor, t2: Tensor) -> None:
    """Exchanges two tensors' contents and attributes."""
    t1._value, t2._value = t2._value, t1._value
    t1.__dict__, t2.__dict__ = t2.__dict__, t1.__dict__


# ---- copying and pickling --------------------------------------------------------------------------------------------


def _rebuild(array: np.ndarray, dtype: dtypes.dtype, device: str, strides, requires_grad: bool, state: dict) -> Tensor:
    t = wrap(place(array.view(dtype.np) if array.dtype != dtype.np else array, dtype, device))
    if strides is not None:
        t._value = alias(t._value, strides)
    if requires_grad:
        t.requires_grad = True
    t.__dict__.update(state)
    return t


_INTERNAL = frozenset((
    "_storage", "_offset", "_base", "_aval", "_old", "_alone", "_grad", "_backward_hooks", "_made", "_unseen", "_view_name",
))  # fmt: skip


def user_state(t: Tensor) -> dict:
    """What the user put on a tensor."""
    return {k: v for k, v in t.__dict__.items() if k not in _INTERNAL}


def reduce_ex(self: Tensor, protocol):
    """Pickles through NumPy. Sharing of memory between tensors is not kept."""
    a = self._shape_aval()
    if a.device is devices.META:
        array = np.broadcast_to(np.zeros((), a.dtype.np), a.shape)
    else:
        array = self._host()
    if array.dtype.kind == "V" or a.dtype.name.startswith(("bfloat", "float8")):
        array = array.view(np.uint16 if a.dtype.itemsize == 2 else np.uint8)
    leaf = self.requires_grad and self.is_leaf
    return _rebuild, (
        np.array(array),
        a.dtype,
        str(a.device),
        a.strides if not _overlaps(a) else None,
        leaf,
        user_state(self),
    )


def _overlaps(a) -> bool:
    return a.strides is not None and any(s == 0 and n > 1 for n, s in zip(a.shape, a.strides, strict=True))


def deepcopy(self: Tensor, memo) -> Tensor:
    """A copy with memory of its own; tensors that share memory share it again in the copy."""
    if not self.is_leaf:
        raise RuntimeError(
            "Only Tensors created explicitly by the user (graph leaves) support the deepcopy protocol at the moment.  If "
            "you were attempting to deepcopy a module, this may be because of a torch.nn.utils.weight_norm usage, see "
            "https://github.com/pytorch/pytorch/pull/103001"
        )
    if id(self) in memo:
        return memo[id(self)]
    r = new(type(self))
    with no_grad():
        s = self._storage
        live = [u for u in (ref() for ref in s.aliases) if u is not None] if s is not None else []
        if s is not None and len(live) > 1:
            key = ("storage", id(s))
            whole = memo.get(key)
            if whole is None:
                memo[key] = whole = wrap(alias(detached(s.value)))
                whole._value = value_of(FUNCTIONS["clone"](whole))
                whole._value = alias(whole._value, s.aval.strides)
            a = self._shape_aval()
            view = whole.view(a.dtype) if a.dtype is not s.aval.dtype else whole
            part = view.as_strided(a.shape, a.stride(), self._offset)
            r._value, r._storage, r._offset = detached(value_of(part)), part._storage, part._offset
            part._storage.add(r)
        else:
            r._value = value_of(clone(self.detach() if self._storage is not None else wrap(detached(value_of(self)))))
    if self.requires_grad:
        r.requires_grad = True
    memo[id(self)] = r
    if self._grad is not None:
        r._grad = _copy.deepcopy(self._grad, memo)
    for k, v in user_state(self).items():
        r.__dict__[k] = _copy.deepcopy(v, memo)
    return r


def shallow(self: Tensor) -> Tensor:
    """`copy.copy`: another tensor object over the same memory."""
    r = new(type(self))
    s = storage_of(self)
    v = value_of(self)
    r._value = v if v.node is not None and v.node.kind == 2 else detached(v)
    if v.node is not None and v.node.kind == 1:
        r.requires_grad = True
    r._storage, r._offset, r._base = s, self._offset, self._base
    s.add(r)
    r._grad = self._grad
    r.__dict__.update(user_state(self))
    return r


def pin_memory(self: Tensor, device=None) -> Tensor:
    """This tensor: JAX moves from ordinary memory."""
    return self


def share_memory_(self: Tensor) -> Tensor:
    """This tensor: processes exchange copies."""
    return self


_OPERATORS = {
    np.add: operator.add, np.subtract: operator.sub, np.multiply: operator.mul, np.divide: operator.truediv,
    np.floor_divide: operator.floordiv, np.remainder: operator.mod, np.power: operator.pow, np.equal: operator.eq,
    np.not_equal: operator.ne, np.less: operator.lt, np.less_equal: operator.le, np.greater: operator.gt,
    np.greater_equal: operator.ge, np.bitwise_and: operator.and_, np.bitwise_or: operator.or_, np.bitwise_xor: operator.xor,
    np.left_shift: operator.lshift, np.right_shift: operator.rshift,
}  # fmt: skip


def numpy_ufunc(self: Tensor, ufunc, method: str, *inputs: Any, **kwargs: Any):
    """NumPy functions of tensors work on their NumPy copies and give tensors."""
    if method == "__call__" and len(inputs) == 2 and ufunc in _OPERATORS and not kwargs:
        left = inputs[0]
        if isinstance(left, np.generic) or isinstance(left, np.ndarray) and not left.ndim:
            # A NumPy scalar on the left of an operator counts as a Python number (its bools, as in torch, as floats).
            number = float(left) if left.dtype == bool else left.item()
            return _OPERATORS[ufunc](number, inputs[1])
    arrays = [x.numpy() if isinstance(x, Tensor) else x for x in inputs]
    if kwargs.get("out") is not None:
        kwargs["out"] = tuple(o.numpy() if isinstance(o, Tensor) else o for o in kwargs["out"])
    result = getattr(ufunc, method)(*arrays, **kwargs)
    from jtorch._tensor.from_data import from_numpy

    if isinstance(result, tuple):
        return tuple(from_numpy(np.asarray(r)) for r in result)
    return from_numpy(np.asarray(result))


def attach() -> None:
    """Gives Tensor these methods."""
    for f in (
        clone, contiguous, is_contiguous, to, cpu, cuda, type_as, apply_, map_, copy_, fill_, zero_, masked_fill_, set_, resize_,
        resize_as_, dim_order, pin_memory, share_memory_,
    ):  # fmt: skip
        setattr(Tensor, f.__name__, f)
    Tensor.type = type_  # type: ignore[attr-defined]
    for name, d in {
        "half": dtypes.float16, "float": dtypes.float32, "double": dtypes.float64, "bfloat16": dtypes.bfloat16,
        "int": dtypes.int32, "long": dtypes.int64, "short": dtypes.int16, "char": dtypes.int8, "byte": dtypes.uint8,
        "bool": dtypes.bool, "cfloat": dtypes.complex64, "cdouble": dtypes.complex128,
    }.items():  # fmt: skip
        setattr(Tensor, name, _caster(name, d))
    Tensor.__reduce_ex__ = reduce_ex  # type: ignore[assignment]
    Tensor.__deepcopy__ = deepcopy  # type: ignore[attr-defined]
    Tensor.__copy__ = shallow  # type: ignore[attr-defined]
    Tensor.__array_ufunc__ = numpy_ufunc  # type: ignore[attr-defined]


__all__ = ["attach", "swap_tensors"]
