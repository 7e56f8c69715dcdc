"""`x[index]` and `x[index] = value`."""

from __future__ import annotations

import itertools

import jax
import numpy as np

from jtorch._ops.casting import expand_to as _  # noqa: F401  (declares the operation used below)
from jtorch._ops.specialise import ordered_strides
from jtorch._runtime import devices, dtypes, executor
from jtorch._runtime.avals import Aval, aval
from jtorch._runtime.executor import T, Value
from jtorch._runtime.jax_internals import put
from jtorch._tensor import index_plan
from jtorch._tensor.at_hand import outside
from jtorch._tensor.base import Tensor, new
from jtorch._tensor.creation import full
from jtorch._tensor.derive import FUNCTIONS, cast, check_in_place, values_of
from jtorch._tensor.from_data import cast_array, check_number, tensor
from jtorch._tensor.parts import alias_of, select_at, slice_at
from jtorch._tensor.storage import alias, value_of, write, write_view
from jtorch._tensor.views import too_few_sizes, unsqueeze


def _is_tensor(x) -> bool:
    return isinstance(x, Tensor | jax.Array)


def _info(x):
    if isinstance(x, Tensor):
        return tuple(x.shape), x.dtype.name
    return tuple(x.shape), str(x.dtype)


def getitem(self: Tensor, index) -> Tensor:
    """Basic indices give views, index tensors, lists and masks copies."""
    if index.__class__ is int and (sizes := self._shape_aval().sizes):  # what datasets and loops do most
        place = index if index >= 0 else index + sizes[0]
        if 0 <= place < sizes[0]:
            return select_at(self, 0, place)
    p = index_plan.plan(index, self._shape_aval().shape, _is_tensor, _info)
    t = self
    for step in p.views:
        kind = step[0]
        if kind == "select":
            t = select_at(t, step[1], _place(step[2], t.shape[step[1]], step[1]) if p.tensor_selects else step[2])
        elif kind == "slice":
            t = slice_at(t, *step[1:])
        else:
            t = unsqueeze(t, step[1])
    if p.advanced:
        dims, indices = _indices(p, t)
        return _index(t, indices, dims, p.result_front)
    return alias_of(t) if t is self else t


def _place(i, size: int, dim: int) -> int:
    """A place given by a number or by a 0-d tensor."""
    if isinstance(i, int):
        return i
    i = int(i.item())
    if not -size <= i < size:
        raise IndexError(f"index {i} is out of bounds for dimension {dim} with size {size}")
    return i % size


def _indices(p, t: Tensor) -> tuple[tuple[int, ...], list[Tensor]]:
    """The index tensors with the dims that they index; masks are read for where they are true."""
    dims: list[int] = []
    indices: list[Tensor] = []
    for dim, x, mask_dims in p.advanced:
        if mask_dims:
            mask = x._host() if isinstance(x, Tensor) else np.asarray(x)
            places = np.nonzero(mask.reshape(mask.shape or (1,)))
            for k, at in enumerate(places):
                dims.append(dim + k)
                indices.append(_from_host(at))
        else:
            index = (
                x
                if isinstance(x, Tensor)
                else _from_host(np.asarray(x))
                if isinstance(x, np.ndarray)
                else _wrap(executor.of(x))
            )
            dims.append(dim)
            indices.append(index)
    taken = index_plan.broadcast_shapes([tuple(i.shape) for i in indices])
    if 0 not in taken and not all(t.shape[d] for d in dims):
        raise IndexError("index is out of bounds for dimension with size 0")
    if 0 not in taken and all(n for d, n in enumerate(t.shape) if d not in dims):
        # Else nothing is read, and torch lets any place pass.
        for dim, index in zip(dims, indices, strict=True):
            _check_bounds(index, t.shape[dim], dim)
    return tuple(dims), indices


def _from_host(array: np.ndarray) -> Tensor:
    return _wrap(executor.of(put(np.ascontiguousarray(array), devices.to_jax(devices.CPU))))


def _wrap(v: Value) -> Tensor:
    t = new(Tensor)
    t._value = v
    return t


def _check_bounds(index: Tensor, size: int, dim: int) -> None:
    """IndexError for a place out of range, where the index is at hand without waiting for anything."""
    bad = outside(index, size, -size)
    if bad is not None:
        raise IndexError(f"index {bad} is out of bounds for dimension {dim} with size {size}")


def _index(t: Tensor, indices: list[Tensor], dims, front: bool) -> Tensor:
    first = dims[0]
    adjacent = all(b - a == 1 for a, b in itertools.pairwise(dims))
    r = FUNCTIONS["index"](t, indices, tuple(dims))
    width = max(i.ndim for i in indices)
    if front and adjacent and first:
        order = [*range(first, first + width), *range(first), *range(first + width, r.ndim)]
        r = _wrap(alias(value_of(r.permute(order)), None))
    a = t._shape_aval()
    if a.strides is not None or any(i._shape_aval().strides is not None for i in indices):
        place = 0 if front else first
        own = [s for d, s in enumerate(a.stride()) if d not in dims]
        operands = [own[:place] + [0] * width + own[place:]]
        for i in indices:
            lead = width - i.ndim
            steps = [0] * lead + [0 if n == 1 else s for n, s in zip(i.shape, i.stride(), strict=True)]
            operands.append([0] * place + steps + [0] * (r.ndim - width - place))
        r._value = alias(r._value, ordered_strides(tuple(r.shape), operands))
    return r


def _region(shape, steps) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    """Size, strides and offset, in a row-major tensor, of what basic steps select."""
    a = aval(shape, dtypes.float32)
    size, strides, offset = list(a.shape), list(a.stride()), 0
    for step in steps:
        kind, d = step[0], step[1]
        if kind == "select":
            offset += step[2] * strides[d]
            del size[d], strides[d]
        elif kind == "slice":
            start, stop, by = step[2], step[3], step[4]
            offset += start * strides[d] if start < size[d] else 0
            size[d] = max(0, -(-(stop - start) // by))
            strides[d] *= by
        else:
            strides.insert(d, size[d] * strides[d] if d < len(size) else 1)
            size.insert(d, 1)
    return tuple(size), tuple(strides), offset


def setitem(self: Tensor, index, value) -> None:
    """Writes a tensor or a number over what the index selects, in place."""
    a = self._shape_aval()
    if isinstance(index, Tensor) and index.dtype is dtypes.bool and index.shape == a.shape and _is_number(value):
        check_in_place(self)
        write(self, values_of("masked_fill", self, index, _number_for(self, value))[0])
        return
    given = _as_value(self, value, a)
    if index is False:
        return
    p = index_plan.plan(index, a.shape, _is_tensor, _info)
    check_in_place(self, view=bool(p.views) or not p.advanced)
    steps = p.views
    if p.tensor_selects:
        steps = _read_selects(steps, list(a.shape))
    size, strides, offset = _region(a.shape, steps)
    dense = a.with_strides(None)
    region = aval(size, a.dtype, a.device, strides)
    v = value_of(self)
    advanced = p.advanced if index is not True else ()
    if not advanced and any(s == 0 and n > 1 for n, s in zip(a.shape, a.stride(), strict=True)):
        # An expanded tensor: what is selected may still be written, in the memory that all its rows share.
        part = _part(self, steps)
        write(part, _broadcast(given, size, a.dtype))
        return
    if advanced:
        part = _part(self, steps)
        dims, indices = _indices(p, part)
        new_part = _put(part, indices, dims, p, given, words=_without_ones(given.aval.shape))
        if not steps:
            write(self, new_part)
            return
    else:
        new_part = _broadcast(given, size, a.dtype)
    write(self, write_view(_dense(v, dense), new_part, region, offset))


def _without_ones(shape) -> list[int]:
    """A shape without its leading dims of size 1: what torch's errors call the shape of the value."""
    return list(itertools.dropwhile(lambda n: n == 1, shape))


def _same_dtype(p, v: Value, dtype: dtypes.dtype) -> Value:
    """What is to be written at index tensors. One number over one mask may be of any dtype, as in `masked_fill_`."""
    if p.mask is not None and v.aval.numel == 1:
        if p.mask == "uint8":
            raise RuntimeError("masked_fill_ only supports boolean masks, but got mask with dtype unsigned char")
        return cast(v, dtype)
    if v.aval.dtype is not dtype:
        raise RuntimeError(
            f"Index put requires the source and destination dtypes match, got {dtypes.SCALAR_NAMES[dtype]} for the "
            f"destination and {dtypes.SCALAR_NAMES[v.aval.dtype]} for the source."
        )
    return v


def _part(t: Tensor, steps) -> Tensor:
    """The view that basic steps select."""
    for step in steps:
        if step[0] == "select":
            t = select_at(t, step[1], step[2])
        elif step[0] == "slice":
            t = slice_at(t, *step[1:])
        else:
            t = unsqueeze(t, step[1])
    return t if steps else alias_of(t)


def _dense(v: Value, a: Aval) -> Value:
    if v.aval is a:
        return v
    return alias(v, None)


def _read_selects(steps, shape):
    read = []
    for step in steps:
        if step[0] == "select":
            step = ("select", step[1], _place(step[2], shape[step[1]], step[1]))
            del shape[step[1]]
        elif step[0] == "slice":
            shape[step[1]] = max(0, -(-(step[3] - step[2]) // step[4]))
        else:
            shape.insert(step[1], 1)
        read.append(step)
    return tuple(read)


def _is_number(value) -> bool:
    return isinstance(value, bool | int | float | complex) or (isinstance(value, Tensor) and value.ndim == 0)


def _number_for(t: Tensor, value):
    if isinstance(value, Tensor):
        return value
    if not t.dtype.is_floating_point or t.dtype.itemsize >= 4:
        check_number(value, t.dtype)
        return value
    # torch makes a double of it first, so the narrow floats take an infinity for what is past their range.
    check_number(value, dtypes.float64)
    return float(cast_array(np.array(value.real, np.float64), t.dtype))


def _as_value(t: Tensor, value, a: Aval) -> Value:
    """What is assigned: a tensor as it is, a number as the tensor's dtype."""
    if not isinstance(value, Tensor):
        if isinstance(value, np.integer):
            value = int(value)
        if type(value) is int and not -(2**63) <= value < 2**64:
            raise ValueError("Overflow when unpacking long long")
        if isinstance(value, bool | int | float) or type(value) is complex:
            return value_of(full((), _number_for(t, value), dtype=a.dtype, device=a.device))
        if not isinstance(value, jax.Array):
            kind = index_plan.type_name(value).replace("ndarray", "numpy.ndarray")
            raise TypeError(f"can't assign a {kind} to a torch.{dtypes.SCALAR_NAMES[a.dtype]}Tensor")
        value = tensor(value, device=a.device)
    return value_of(value)


def _broadcast(v: Value, size, dtype: dtypes.dtype) -> Value:
    """`v` as a dtype, expanded to a size; leading dims of size 1 too many are dropped, as torch does."""
    shape = tuple(v.aval.shape)
    if shape == size:
        return cast(v, dtype)
    t = _wrap(v)
    while len(shape) > len(size) and shape[0] == 1:
        t, shape = t.squeeze(0), shape[1:]
    lead = len(size) - len(shape)
    if lead < 0 or any(n not in (1, size[lead + i]) for i, n in enumerate(shape)):
        if lead < 0:
            raise too_few_sizes(v.aval.dtype, v.aval.shape, size)
        i = next(i for i in reversed(range(len(shape))) if shape[i] not in (1, size[lead + i]))
        raise RuntimeError(
            f"The expanded size of the tensor ({size[lead + i]}) must match the existing size ({shape[i]}) at "
            f"non-singleton dimension {lead + i}.  Target sizes: {list(size)}.  Tensor sizes: {_without_ones(v.aval.shape)}"
        )
    return values_of("expand_to", _wrap(cast(value_of(t), dtype)), tuple(size))[0]


def _put(t: Tensor, indices: list[Tensor], dims, p, v: Value, accumulate: bool = False, words=None) -> Value:
    """The value of `t` with `v` written at index tensors; `words` is the shape of `v` in the error."""
    value, front = _wrap(v), p.result_front
    where = index_plan.broadcast_shapes([tuple(i.shape) for i in indices])
    rest = [n for d, n in enumerate(t.shape) if d not in dims]
    adjacent = all(b - a == 1 for a, b in itertools.pairwise(dims))
    first = dims[0]
    if adjacent and not front:
        result = (*rest[:first], *where, *rest[first:])
    else:
        result = (*where, *rest)
    while value.ndim > len(result) and value.shape[0] == 1:
        value = value.squeeze(0)
    lead = len(result) - value.ndim
    if lead < 0 or any(n not in (1, result[lead + i]) for i, n in enumerate(value.shape)):
        raise RuntimeError(
            f"shape mismatch: value tensor of shape {list(v.aval.shape) if words is None else words} cannot be broadcast to indexing result of "
            f"shape {list(result)}"
        )
    value = _wrap(_same_dtype(p, value_of(value), t.dtype))
    if front and adjacent and first:
        value = value.expand(result)
        width = len(where)
        order = [*range(width, width + first), *range(width), *range(width + first, len(result))]
        value = value.permute(order)
    return values_of("index_put.dims", t, indices, value, tuple(dims), accumulate)[0]


def index_put(input: Tensor, indices, values: Tensor, accumulate: bool = False) -> Tensor:
    """`input` with `values` written (or added) where index tensors say; None leaves a dim whole."""
    index = tuple(slice(None) if i is None else i for i in indices)
    p = index_plan.plan(index, tuple(input.shape), _is_tensor, _info)
    dims, where = _indices(p, input)
    return _wrap(_put(input, where, dims, p, value_of(values), accumulate))


def index_put_(self: Tensor, indices, values: Tensor, accumulate: bool = False) -> Tensor:
    """In-place `index_put`."""
    check_in_place(self)
    write(self, value_of(index_put(self, indices, values, accumulate)))
    return self


def attach() -> None:
    """Gives Tensor its indexing."""
    Tensor.__getitem__ = getitem  # type: ignore[attr-defined]
    Tensor.__setitem__ = setitem  # type: ignore[attr-defined]
    Tensor.index_put = index_put  # type: ignore[attr-defined]
    Tensor.index_put_ = index_put_  # type: ignore[attr-defined]


__all__ = ["T", "attach", "getitem", "index_put", "setitem"]
