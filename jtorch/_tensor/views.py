"""Views: tensors over another's memory. Each is a value computed from its base's, and strides that say where it lies."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from jtorch._ops._common import wrap_dim
from jtorch._runtime import dtypes, executor
from jtorch._runtime.avals import Aval, Size, aval, contiguous_strides
from jtorch._runtime.executor import T, Value
from jtorch._runtime.kernel import Kernel
from jtorch._tensor.base import Tensor, new
from jtorch._tensor.storage import detached, read_view, storage_of, value_of

_KERNELS: dict[tuple, Kernel] = {}


def share(t: Tensor, v: Value, offset: int) -> Tensor:
    """A view of `t`: a value of its own, memory in common."""
    s = t._storage
    if s is None:
        s = storage_of(t)
    r = new(Tensor)
    r._value = v
    r._storage = s
    r._offset = offset
    base = t._base
    r._base = t if base is None else base
    if not T.grad or t._made is not None:
        r._made = (t._made or ("inference" if T.inference else False,))[0], 0, "View"
    s.add(r)
    return r


FEW = 128  # places along a dim of which the first and the last are special
SEVERAL = 64  # as many views are one operation; more are one each


def make_several(t: Tensor, name: str, statics, build) -> tuple[Tensor, ...]:
    """The views that one operation gives: `build` is `make`'s, of a list."""
    v = value_of(t)
    key = (name, v.aval, statics)
    found = _KERNELS.get(key)
    if found is None:
        outs, deltas, fns = zip(*build(v.aval, *statics), strict=True)
        grad_name = name.capitalize() + "Backward0"
        kernel = Kernel(
            name, lambda x: tuple([fn(x) for fn in fns]), (v.aval,), grad_name=grad_name, out=outs, memory="view"
        )
        found = _KERNELS[key] = kernel, deltas  # type: ignore[assignment]
    kernel, deltas = found  # type: ignore[misc]
    made = []
    for nr, (r, delta) in enumerate(zip(executor.record(kernel, (v,)), deltas, strict=True)):
        part = share(t, r, t._offset + delta)
        part._made = True, nr, name.capitalize()
        made.append(part)
    return tuple(made)


def make(t: Tensor, name: str, statics, build, grad_name: str | None = None) -> Tensor:
    """A view: `build(aval, *statics)` gives (aval of the view, offset into `t`, function of the array)."""
    v = value_of(t)
    slot = v.slot
    if slot < 0:
        slot = executor.enter(v)
    step = T.at.children.get((name, slot, statics))
    if step is not None and executor.get_ident() == T.owner:
        r = T.made[step.slot] = Value(step.aval, step.slot, step.node)
        T.at = step
        return share(t, r, t._offset + step.extra)
    key = (name, v.aval, statics)
    found = _KERNELS.get(key)
    if found is None:
        out, delta, fn = build(v.aval, *statics)
        grad_name = grad_name or "".join(p.capitalize() for p in name.split("_")) + "Backward0"
        kernel = Kernel(name, lambda x: (fn(x),), (v.aval,), grad_name=grad_name, out=(out,), memory="view")
        found = _KERNELS[key] = kernel, delta  # type: ignore[assignment]
    kernel, delta = found  # type: ignore[misc]
    r = executor.record(kernel, (v,), (), lambda slots: (name, slots[0], statics))[0]
    if r.slot >= 0:
        T.at.extra = delta
    return share(t, r, t._offset + delta)


def _dynamic(t: Tensor, name: str, statics, build, number: int, delta: int) -> Tensor:
    """A view whose place is a run-time number."""
    v = value_of(t)
    slot = v.slot if v.slot >= 0 else executor.enter(v)
    step = T.at.children.get((name, slot, statics, "dynamic"))
    if step is not None and executor.get_ident() == T.owner:
        T.numbers[step.slot * executor.NUMBERS] = number
        r = T.made[step.slot] = Value(step.aval, step.slot, step.node)
        T.at = step
        return share(t, r, t._offset + delta)
    key = (name, v.aval, statics, "dynamic")
    kernel = _KERNELS.get(key)
    if kernel is None:
        out, fn = build(v.aval, *statics)
        grad_name = name.capitalize() + "Backward0"
        kernel = _KERNELS[key] = Kernel(
            name, lambda x, i: (fn(x, i),), (v.aval,), "i", grad_name=grad_name, out=(out,), memory="view"
        )
    r = executor.record(kernel, (v,), (number,), lambda slots: (name, slots[0], statics, "dynamic"))[0]
    return share(t, r, t._offset + delta)


# ---- reshaping -------------------------------------------------------------------------------------------------------


def infer_size(shape: Sequence[int], numel: int) -> tuple[int, ...]:
    """A shape with its -1 worked out. RuntimeError where it can't hold `numel` elements."""
    known, unknown = 1, None
    for i, n in enumerate(shape):
        if n == -1:
            if unknown is not None:
                raise RuntimeError("only one dimension can be inferred")
            unknown = i
        elif n < 0:
            raise RuntimeError(f"invalid shape dimension {n} at index {i} of shape {list(shape)}")
        else:
            known *= n
    if numel == known or (unknown is not None and known > 0 and numel % known == 0):
        if unknown is None:
            return tuple(shape)
        if known == 0:
            raise RuntimeError(
                f"cannot reshape tensor of 0 elements into shape {list(shape)} because the unspecified dimension size "
                "-1 can be any value and is ambiguous"
            )
        return (*shape[:unknown], numel // known, *shape[unknown + 1 :])
    if unknown is not None and known == 0 and numel == 0:
        raise RuntimeError(
            f"cannot reshape tensor of 0 elements into shape {list(shape)} because the unspecified dimension size -1 "
            "can be any value and is ambiguous"
        )
    raise RuntimeError(f"shape '{list(shape)}' is invalid for input of size {numel}")


def view_strides(shape, strides, new_shape) -> tuple[int, ...] | None:
    """The strides of the same memory under another shape, None where no strides do it."""
    if math.prod(shape) == 0:
        return strides if tuple(shape) == tuple(new_shape) else contiguous_strides(tuple(new_shape))
    if not shape:
        return (1,) * len(new_shape)
    # Runs of dims that lie densely in one another are one dim each; the new dims must fall inside the runs. A dim of
    # size 1 belongs to the run inside it, whatever its stride.
    runs: list[list[int]] = []  # [elements, stride of the innermost], from the inside out
    for n, s in zip(reversed(shape), reversed(strides), strict=True):
        if runs and (n == 1 or s == runs[-1][0] * runs[-1][1]):
            runs[-1][0] *= n
        else:
            runs.append([n, s])
    result = [0] * len(new_shape)
    d = len(new_shape) - 1
    for n, s in runs:
        left = n
        while d >= 0 and (left > 1 or new_shape[d] == 1):
            m = new_shape[d]
            if left % m:
                return None
            result[d] = s * (n // left)
            left //= m
            d -= 1
        if left != 1:
            return None
    return tuple(result)


def _ints(args, name: str = "reshape") -> tuple[int, ...]:
    """Sizes given one by one or as a sequence."""
    given = args
    if len(args) == 1 and isinstance(args[0], tuple | list):
        args = args[0]
    try:
        return tuple([n if type(n) is int else n.__index__() for n in args])
    except AttributeError:
        place = next(i for i, n in enumerate(args) if not hasattr(n, "__index__"))
        if given is args and len(args) == 1:
            raise TypeError(
                f"{name}(): argument 'shape' (position 1) must be tuple of ints, not {type(args[0]).__name__}"
            ) from None
        raise TypeError(
            f"{name}(): argument 'shape' failed to unpack the object at pos {place + 1} with error \"type must be tuple of "
            f'ints,but got {type(args[place]).__name__}"'
        ) from None


def _build_view(a: Aval, shape):
    size = infer_size(shape, a.numel)
    strides = view_strides(a.shape, a.stride(), size)
    if strides is None:
        raise RuntimeError(
            "view size is not compatible with input tensor's size and stride (at least one dimension spans across two "
            "contiguous subspaces). Use .reshape(...) instead."
        )
    return aval(size, a.dtype, a.device, strides), 0, lambda x: x.reshape(size)


def _sizes(x) -> bool:
    return isinstance(x, int | tuple | list) or hasattr(x, "__index__")


def view(self: Tensor, *shape, dtype=None, size=None) -> Tensor:
    """The same memory under another shape, or seen as another dtype. RuntimeError where strides can't express it."""
    if dtype is not None or (len(shape) == 1 and isinstance(shape[0], dtypes.dtype)):
        return view_dtype(self, dtype if dtype is not None else shape[0])
    if size is None and (not shape or (len(shape) == 1 and not _sizes(shape[0]))):
        word = type(shape[0]).__name__ if shape else ""
        why = f"      didn't match because some of the arguments have invalid types: (!{word}!)\n" if shape else ""
        raise TypeError(
            f"view() received an invalid combination of arguments - got ({word}), but expected one of:\n"
            f" * (torch.dtype dtype)\n{why} * (tuple of ints size)\n{why}"
        )
    return make(self, "view", (_ints(shape if size is None else (size,), "view"),), _build_view)


def reshape(input: Tensor, *args, shape=None) -> Tensor:
    """The elements under another shape: a view where strides allow, else a copy."""
    if not args:
        if shape is None:
            raise TypeError('reshape() missing 1 required positional arguments: "shape"')
        args = (shape,)
    size = _ints(args)
    a = input._shape_aval()
    if a.strides is None:
        return make(input, "view", (size,), _build_view)
    full = infer_size(size, a.numel)
    if view_strides(a.shape, a.stride(), full) is not None:
        return make(input, "view", (full,), _build_view)
    return make_copy(input, "reshape", lambda x: x.reshape(full), full, "UnsafeViewBackward0")


def make_copy(t: Tensor, name: str, fn, shape, grad_name: str) -> Tensor:
    """A tensor with memory of its own, computed from `t` by a change of layout."""
    v = value_of(t)
    key = (name, v.aval, "copy", tuple(shape))
    kernel = _KERNELS.get(key)
    if kernel is None:
        kernel = _KERNELS[key] = Kernel(name, lambda x: (fn(x),), (v.aval,), grad_name=grad_name)
    r = new(Tensor)
    r._value = executor.record(kernel, (v,))[0]
    return r


def view_as(self: Tensor, other: Tensor) -> Tensor:
    """A view of the shape of `other`."""
    return self.view(other.shape)


def reshape_as(self: Tensor, other: Tensor) -> Tensor:
    """`reshape` to the shape of `other`."""
    return reshape(self, other.shape)


def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Dims start_dim to end_dim as one."""
    shape = input.shape
    n = len(shape)
    start, end = wrap_dim(start_dim, n), wrap_dim(end_dim, n)
    if start > end:
        raise RuntimeError("flatten() has invalid args: start_dim cannot come after end_dim")
    if n == 0:
        return reshape(input, (1,))
    if start == end:
        return input
    return reshape(input, (*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :]))


def ravel(input: Tensor) -> Tensor:
    """All elements in one dim."""
    return reshape(input if input._shape_aval().contiguous else input.contiguous(), (-1,))


def unflatten(input: Tensor, dim: int, sizes) -> Tensor:
    """One dim as several."""
    sizes = tuple(int(n) for n in sizes)
    if not sizes:
        raise RuntimeError("unflatten: sizes must be non-empty")
    shape = input.shape
    try:
        if not shape:
            raise RuntimeError(f"Dimension specified as {dim} but tensor has no dimensions")
        d = wrap_dim(dim, len(shape))
        full = infer_size(sizes, shape[d])
    except RuntimeError as error:
        if "is invalid for input" not in str(error):
            raise RuntimeError(f"unflatten got an unexpected error:\n{error}") from None
        raise RuntimeError(
            f"unflatten: Provided sizes {list(sizes)} don't multiply up to the size of dim {dim} ({shape[d]}) in the input tensor"
        ) from None
    return view(input, (*shape[:d], *full, *shape[d + 1 :]))


def _build_squeeze(a: Aval, dims):
    keep = [d for d in range(a.ndim) if not (d in dims and a.shape[d] == 1)]
    size = tuple(a.shape[d] for d in keep)
    strides = tuple(a.stride()[d] for d in keep)
    return aval(size, a.dtype, a.device, strides), 0, lambda x: x.reshape(size)


def squeeze(input: Tensor, dim: int | tuple[int, ...] | None = None) -> Tensor:
    """Without dims of size 1: all of them, or those given."""
    n = input.ndim
    if dim is None:
        dims, name = tuple(range(n)), "SqueezeBackward0"
    elif isinstance(dim, tuple | list):
        dims, name = tuple(sorted(wrap_dim(d, n) for d in dim)), "SqueezeBackward2"
        for a, b in itertools.pairwise(dims):
            if a == b:
                raise RuntimeError(f"dim {a} appears multiple times in the list of dims")
    else:
        dims, name = (wrap_dim(dim, n),), "SqueezeBackward1"
    return make(input, "squeeze", (dims, name), lambda a, dims, name: _build_squeeze(a, dims), name)


def _build_unsqueeze(a: Aval, d):
    size = (*a.shape[:d], 1, *a.shape[d:])
    strides = a.stride()
    step = a.shape[d] * strides[d] if d < a.ndim else 1
    return aval(size, a.dtype, a.device, (*strides[:d], step, *strides[d:])), 0, lambda x: x.reshape(size)


def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """A dim of size 1 put in before `dim`."""
    n = input.ndim + 1
    if not -n <= dim < n:
        raise IndexError(f"Dimension out of range (expected to be in range of [{-n}, {n - 1}], but got {dim})")
    return make(input, "unsqueeze", (dim % n,), _build_unsqueeze)


# ---- order of dims ---------------------------------------------------------------------------------------------------


def _build_permute(a: Aval, dims):
    strides = a.stride()
    out = aval(tuple(a.shape[d] for d in dims), a.dtype, a.device, tuple(strides[d] for d in dims))
    return out, 0, lambda x: x.transpose(dims)


def permute(input: Tensor, *args, dims=None) -> Tensor:
    """The dims in another order."""
    if not args:
        if dims is None:
            raise TypeError('permute() missing 1 required positional arguments: "dims"')
        args = (dims,)
    order, n = _ints(args, "permute"), input.ndim
    if len(order) != n:
        raise RuntimeError(
            "permute(sparse_coo): number of dimensions in the tensor input does not match the length of the desired "
            f"ordering of dimensions i.e. input.dim() = {n} is not equal to len(dims) = {len(order)}"
        )
    wrapped = tuple([wrap_dim(d, n) for d in order])
    if len(set(wrapped)) != n:
        raise RuntimeError("permute(): duplicate dims are not allowed.")
    return make(input, "permute", (wrapped,), _build_permute)


def _swap(n: int, a: int, b: int) -> tuple[int, ...]:
    order = list(range(n))
    order[a], order[b] = b, a
    return tuple(order)


def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Two dims exchanged."""
    n = input.ndim
    a, b = wrap_dim(dim0, n), wrap_dim(dim1, n)
    return make(input, "transpose", (_swap(n, a, b) if n else (),), _build_permute)


def swapaxes(input: Tensor, axis0: int, axis1: int) -> Tensor:
    """`transpose` under NumPy's name."""
    return transpose(input, axis0, axis1)


def swapdims(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """`transpose` under another name."""
    return transpose(input, dim0, dim1)


def t(input: Tensor) -> Tensor:
    """A matrix transposed; a vector or a number as it is."""
    n = input.ndim
    if n > 2:
        raise RuntimeError(f"t() expects a tensor with <= 2 dimensions, but self is {n}D")
    return make(input, "t", (tuple(range(n))[::-1],), _build_permute)


def _T(self: Tensor) -> Tensor:
    return make(self, "permute", (tuple(range(self.ndim))[::-1],), _build_permute)


def _of_matrices(t: Tensor, name: str) -> Tensor:
    n = t.ndim
    if n == 1:
        raise RuntimeError(f"tensor.{name} is only supported on matrices or batches of matrices. Got 1-D tensor.")
    return transpose(t, -2, -1) if n else t


def adjoint(self: Tensor) -> Tensor:
    """The last two dims exchanged, complex numbers conjugated."""
    r = _of_matrices(self, "adjoint()")
    return r.conj() if self.is_complex() else r


def _mT(self: Tensor) -> Tensor:
    return _of_matrices(self, "mT")


def _mH(self: Tensor) -> Tensor:
    r = _of_matrices(self, "mH")
    return r.conj() if self.is_complex() else r


def _H(self: Tensor) -> Tensor:
    if self.ndim not in (0, 2):
        hint = "" if self.ndim == 1 else " For batches of matrices, consider using tensor.mH"
        raise RuntimeError(f"tensor.H is only supported on matrices (2-D tensors). Got {self.ndim}-D tensor.{hint}")
    return adjoint(self)


def movedim(input: Tensor, source: Any, destination: Any) -> Tensor:
    """Dims moved to other places, the rest in order."""
    n = input.ndim
    src: tuple = (source,) if isinstance(source, int) else tuple(source)
    dst: tuple = (destination,) if isinstance(destination, int) else tuple(destination)
    given = {"source": src, "destination": dst}
    if len(src) != len(dst):
        raise RuntimeError(
            f"movedim: Invalid source or destination dims: source ({list(src)} dims) should contain the same number of "
            f"dims as destination ({list(dst)} dims)"
        )
    src, dst = tuple(wrap_dim(d, n) for d in src), tuple(wrap_dim(d, n) for d in dst)
    if n == 0:
        return alias_of(input)
    for name, dims in (("source", src), ("destination", dst)):
        if len(set(dims)) != len(dims):
            raise RuntimeError(f"movedim: repeated dim in `{name}` ({[*given[name]]})")
    rest = [d for d in range(n) if d not in src]
    order = [0] * n
    for s, d in zip(src, dst, strict=True):
        order[d] = s
    for d in range(n):
        if d not in dst:
            order[d] = rest.pop(0)
    return permute(input, order)


# ---- broadcasting ----------------------------------------------------------------------------------------------------


def _build_expand(a: Aval, size):
    n = len(size)
    if n < a.ndim:
        raise too_few_sizes(a.dtype, a.shape, size)
    lead = n - a.ndim
    strides, full = [0] * n, list(size)
    for d in reversed(range(n)):
        own = a.shape[d - lead] if d >= lead else None
        if own is None:
            if size[d] == -1:
                raise RuntimeError(
                    f"The expanded size of the tensor (-1) isn't allowed in a leading, non-existing dimension {d}"
                )
            if size[d] == 1:
                strides[d] = full[d + 1] * strides[d + 1] if d + 1 < n and a.ndim else 0
        elif size[d] in (-1, own):
            full[d] = own
            strides[d] = a.stride()[d - lead]
        elif own != 1:
            raise RuntimeError(
                f"The expanded size of the tensor ({size[d]}) must match the existing size ({own}) at non-singleton "
                f"dimension {d}.  Target sizes: {list(size)}.  Tensor sizes: {list(a.shape)}"
            )
    shape = tuple(full)
    if min(shape, default=0) < 0:
        raise RuntimeError("numel: integer multiplication overflow")
    return aval(shape, a.dtype, a.device, tuple(strides)), 0, lambda x: jnp.broadcast_to(x, shape)


def too_few_sizes(dtype: dtypes.dtype, shape, size) -> RuntimeError:
    """What `expand` says to fewer sizes than there are dims."""
    word = dtypes.SCALAR_NAMES[dtype]
    legacy = dtype.is_complex or dtype in (dtypes.bool, dtypes.bfloat16)
    return RuntimeError(
        f"expand({f'CPU{word}Type' if legacy else f'torch.{word}Tensor'}{{{list(shape)}}}, size={list(size)}): the number "
        f"of sizes provided ({len(size)}) must be greater or equal to the number of dimensions in the tensor ({len(shape)})"
    )


def expand(self: Tensor, *size, implicit: bool = False) -> Tensor:
    """Dims of size 1 repeated without a copy; -1 keeps a dim as it is."""
    return make(self, "expand", (_ints(size),), _build_expand)


def expand_as(self: Tensor, other: Tensor) -> Tensor:
    """`expand` to the shape of `other`."""
    return make(self, "expand", (tuple(other.shape),), _build_expand)


def broadcast_to(input: Tensor, size) -> Tensor:
    """`expand` to `size`."""
    return make(input, "expand", (_ints((size,)),), _build_expand)


# ---- parts -----------------------------------------------------------------------------------------------------------


def _build_select(a: Aval, d, i):
    strides = a.stride()
    out = aval((*a.shape[:d], *a.shape[d + 1 :]), a.dtype, a.device, (*strides[:d], *strides[d + 1 :]))
    return out, i * strides[d], lambda x: lax.index_in_dim(x, i, d, keepdims=False)


def _build_select_at(a: Aval, d):
    return _build_select(a, d, 0)[0], lambda x, i: lax.dynamic_index_in_dim(x, i, d, keepdims=False)


def select(input: Tensor, dim: int, index: int) -> Tensor:
    """One place along a dim, that dim gone."""
    n = input.ndim
    if n == 0:
        raise IndexError("select() cannot be applied to a 0-dim tensor.")
    d = wrap_dim(dim, n)
    size = input.shape[d]
    i = index.__index__()
    if not -size <= i < size:
        raise IndexError(
            f"select(): index {index} out of range for tensor of size {list(input.shape)} at dimension {d}"
        )
    return select_at(input, d, i % size)


def select_at(t: Tensor, d: int, i: int) -> Tensor:
    """`select` with a dim and an index that are in range.

    Only the first and the last place of short dims are part of the program: of a long one (a dataset's) any is as likely.
    """
    a = t._shape_aval()
    size = a.sizes[d]
    if (i == 0 or i == size - 1) and size <= FEW:
        return make(t, "select", (d, i), _build_select)
    return _dynamic(t, "select", (d,), _build_select_at, i, i * a.steps[d])


def _build_slice(a: Aval, d, start, length, step):
    strides = a.stride()
    size = (*a.shape[:d], length, *a.shape[d + 1 :])
    out = aval(size, a.dtype, a.device, (*strides[:d], strides[d] * step, *strides[d + 1 :]))
    stop = start + (length - 1) * step + 1 if length else start
    return out, start * strides[d], lambda x: lax.slice_in_dim(x, start, max(stop, start), step, d)


def _build_slice_at(a: Aval, d, length):
    return _build_slice(a, d, 0, length, 1)[0], lambda x, i: lax.dynamic_slice_in_dim(x, i, length, d)


def slice_at(t: Tensor, d: int, start: int, stop: int, step: int = 1, fixed: bool = False) -> Tensor:
    """A slice within bounds. One that touches neither end is likely a moving window: its start is a run-time number."""
    a = t._shape_aval()
    size = a.shape[d]
    length = max(0, -(-(stop - start) // step))
    if step == 1 and length == size:
        return make(t, "slice", (d, 0, size, 1), _build_slice)
    if fixed or step != 1 or start == 0 or stop >= size or length == 0:
        return make(t, "slice", (d, start, length, step), _build_slice)
    return _dynamic(t, "slice", (d, length), _build_slice_at, start, start * a.stride()[d])


def slice_(input: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Tensor:
    """A slice along a dim, as indexing with `start:end:step` gives it."""
    if input.ndim == 0:
        raise RuntimeError("slice() cannot be applied to a 0-dim tensor.")
    if step <= 0:
        raise RuntimeError("slice step must be positive")
    d = wrap_dim(dim, input.ndim)
    at, stop, _ = slice(start, end).indices(input.shape[d])
    return slice_at(input, d, at, max(at, stop), step)


def narrow(input: Tensor, dim: int, start, length: int) -> Tensor:
    """`length` places along a dim from `start` on."""
    n = input.ndim
    if n == 0:
        raise RuntimeError("narrow() cannot be applied to a 0-dim tensor.")
    if length < 0:
        raise RuntimeError("narrow(): length must be non-negative.")
    d = wrap_dim(dim, n)
    if isinstance(start, Tensor) and (start.ndim or start.is_floating_point() or start.is_complex()):
        raise RuntimeError("start must be an 0-dim integral Tensor.")
    size, start = input.shape[d], int(start)
    if not -size <= start <= size:
        raise IndexError(f"start out of range (expected to be in range of [{-size}, {size}], but got {start})")
    start = start + size if start < 0 else start
    if start + length > size:
        raise RuntimeError(f"start ({start}) + length ({length}) exceeds dimension size ({size}).")
    return slice_at(input, d, start, start + length)


def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """A view for each place along a dim."""
    d = wrap_dim(dim, input.ndim)
    if input.ndim == 0:
        raise IndexError("Dimension specified as 0 but tensor has no dimensions")
    n = input.shape[d]
    if 0 < n <= SEVERAL:
        return make_several(input, "unbind", (d,), lambda a, d: [_build_select(a, d, i) for i in range(n)])
    return tuple([select_at(input, d, i) for i in range(n)])


def _build_split(a: Aval, d, sections):
    starts = [sum(sections[:i]) for i in range(len(sections))]
    return [_build_slice(a, d, at, n, 1) for at, n in zip(starts, sections, strict=True)]


def split(tensor: Tensor, split_size_or_sections, dim: int = 0) -> tuple[Tensor, ...]:
    """Views of consecutive parts: of one size (the last may be smaller), or of the sizes given."""
    if tensor.ndim == 0:
        raise RuntimeError("split expects at least a 1-dimensional tensor")
    d = wrap_dim(dim, tensor.ndim)
    size = tensor.shape[d]
    if isinstance(split_size_or_sections, int):
        step = split_size_or_sections
        if step < 0:
            raise RuntimeError(f"split expects split_size be non-negative, but got split_size={step}")
        if step == 0 and size != 0:
            raise RuntimeError(f"split_size can only be 0 if dimension size is 0, but got dimension size of {size}")
        sections = [step] * (size // step) + ([size % step] if size % step else []) if step else [0]
        sections = sections or [0]
    else:
        if not isinstance(split_size_or_sections, list | tuple):
            raise TypeError(
                "split_with_sizes(): argument 'split_sizes' (position 2) must be tuple of ints, not "
                + type(split_size_or_sections).__name__
            )
        sections = [int(n) for n in split_size_or_sections]
        if min(sections, default=0) < 0:
            raise RuntimeError(
                f"split_with_sizes expects split_sizes have only non-negative entries, but got split_sizes={sections}"
            )
        if sum(sections) != size:
            raise RuntimeError(
                f"split_with_sizes expects split_sizes to sum exactly to {size} (input tensor's size at dimension {dim}), "
                f"but got split_sizes={sections}"
            )
    if 0 < len(sections) <= SEVERAL:
        return make_several(tensor, "split", (d, tuple(sections)), _build_split)
    parts, at = [], 0
    for n in sections:
        parts.append(slice_at(tensor, d, at, at + n, fixed=True))
        at += n
    return tuple(parts)


def split_with_sizes(input: Tensor, split_sizes, dim: int = 0) -> tuple[Tensor, ...]:
    """Views of consecutive parts of the sizes given."""
    return split(input, list(split_sizes), dim)


def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """Views of at most `chunks` equal parts; the last may be smaller."""
    if input.ndim == 0:
        raise RuntimeError("chunk expects at least a 1-dimensional tensor")
    if chunks <= 0:
        raise RuntimeError(f"chunk expects `chunks` to be greater than 0, got: {chunks}")
    size = input.shape[wrap_dim(dim, input.ndim)]
    if size == 0:
        return split(input, [0] * chunks, dim)
    return split(input, -(-size // chunks), dim)


def _on_its_own(parts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Parts that may be written in place, as the functions called unsafe give them."""
    for part in parts:
        part._made = None
    return parts


def unsafe_split(tensor: Tensor, split_size_or_sections, dim: int = 0) -> tuple[Tensor, ...]:
    """`split` whose parts may be written in place."""
    return _on_its_own(split(tensor, split_size_or_sections, dim))


def unsafe_chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """`chunk` whose parts may be written in place."""
    return _on_its_own(chunk(input, chunks, dim))


def tensor_split(
    input: Tensor,
    indices_or_sections=None,
    dim: int = 0,
    *,
    indices=None,
    sections=None,
    tensor_indices_or_sections=None,
) -> tuple[Tensor, ...]:
    """Views of parts: as many nearly equal ones as said, or cut before the indices given."""
    for other in (indices, sections, tensor_indices_or_sections):
        if other is not None:
            indices_or_sections = other
    if input.ndim == 0:
        raise RuntimeError("tensor_split expected at least a 1-dimensional tensor, but got a tensor with 0 dims")
    d = wrap_dim(dim, input.ndim)
    size = input.shape[d]
    if isinstance(indices_or_sections, Tensor):
        if indices_or_sections.ndim > 1:
            raise RuntimeError(
                "tensor_split expected tensor_indices_or_sections to be a zero-dimensional or one-dimensional tensor, but "
                f"got a tensor with {indices_or_sections.ndim} dims"
            )
        if indices_or_sections.dtype is not dtypes.int64:
            raise RuntimeError(
                "tensor_split expected tensor_indices_or_sections to have dtype of long, but got "
                + dtypes.SCALAR_NAMES[indices_or_sections.dtype]
            )
        indices_or_sections = indices_or_sections.tolist()
    elif not isinstance(indices_or_sections, int | tuple | list):
        raise TypeError(
            f"tensor_split() received an invalid combination of arguments - got ({type(indices_or_sections).__name__}), "
            "but expected one of:\n * (tuple of ints indices, int dim = 0)\n"
            " * (Tensor tensor_indices_or_sections, int dim = 0)\n * (int sections, int dim = 0)\n"
        )
    if isinstance(indices_or_sections, int):
        k = indices_or_sections
        if k <= 0:
            raise RuntimeError(f"number of sections must be larger than 0, got {k}")
        cuts = [i * (size // k) + min(i, size % k) for i in range(1, k)]
    else:
        cuts = [int(i) for i in indices_or_sections]
    ends = [slice(a, b).indices(size)[:2] for a, b in zip([0, *cuts], [*cuts, size], strict=True)]
    return tuple([slice_at(input, d, a, max(a, b), fixed=True) for a, b in ends])


def _needs_dims(name: str, t: Tensor, n: int, sections, dim: int) -> None:
    if t.ndim < n:
        raise RuntimeError(
            f"torch.{name} requires a tensor with at least {n} dimension, but got a tensor with {t.ndim} dimensions!"
        )
    if isinstance(sections, int) and (sections == 0 or t.shape[dim] % sections):
        raise RuntimeError(
            f"torch.{name} attempted to split along dimension {dim}, but the size of the dimension {t.shape[dim]} is not "
            f"divisible by the split_size {sections}!"
        )


def hsplit(input: Tensor, indices_or_sections) -> tuple[Tensor, ...]:
    """`tensor_split` along the second dim (the first of a vector)."""
    _needs_dims("hsplit", input, 1, indices_or_sections, 0 if input.ndim == 1 else 1)
    return tensor_split(input, indices_or_sections, 0 if input.ndim == 1 else 1)


def vsplit(input: Tensor, indices_or_sections) -> tuple[Tensor, ...]:
    """`tensor_split` along the first dim."""
    _needs_dims("vsplit", input, 2, indices_or_sections, 0)
    return tensor_split(input, indices_or_sections, 0)


def dsplit(input: Tensor, indices_or_sections) -> tuple[Tensor, ...]:
    """`tensor_split` along the third dim."""
    _needs_dims("dsplit", input, 3, indices_or_sections, 2)
    return tensor_split(input, indices_or_sections, 2)


def _build_diagonal(a: Aval, k, d1, d2):
    rows, cols = a.shape[d1], a.shape[d2]
    length = max(0, min(rows, cols - k) if k >= 0 else min(rows + k, cols))
    strides = a.stride()
    delta = 0
    if length:
        delta = k * strides[d2] if k >= 0 else -k * strides[d1]
    rest = [d for d in range(a.ndim) if d not in (d1, d2)]
    out = aval(
        (*[a.shape[d] for d in rest], length),
        a.dtype,
        a.device,
        (*[strides[d] for d in rest], strides[d1] + strides[d2]),
    )
    return out, delta, lambda x: jnp.diagonal(x, k, d1, d2)


def diagonal(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """The diagonal of two dims, as the last dim."""
    d1, d2 = wrap_dim(dim1, input.ndim), wrap_dim(dim2, input.ndim)
    if d1 == d2:
        raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    return make(input, "diagonal", (offset, d1, d2), _build_diagonal)


def _build_unfold(a: Aval, d, size, step):
    if a.ndim == 0:
        count, own = (1 - size) // step + 1, 1
        out = aval((size,), a.dtype, a.device, (1,))
        return out, 0, lambda x: x.reshape(1)[:size]
    n = a.shape[d]
    count, own = (n - size) // step + 1, a.stride()[d]
    strides = a.stride()
    out = aval(
        (*a.shape[:d], count, *a.shape[d + 1 :], size),
        a.dtype,
        a.device,
        (*strides[:d], own * step, *strides[d + 1 :], own),
    )

    def fn(x):
        at = jnp.arange(count)[:, None] * step + jnp.arange(size)
        return jnp.moveaxis(jnp.take(x, at, axis=d), d + 1, -1)

    return out, 0, fn


def unfold(self: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """Windows of `size` along a dim, `step` apart, as a new last dim."""
    d = wrap_dim(dimension, self.ndim)
    n = self.shape[d] if self.ndim else 1
    if size < 0:
        raise RuntimeError(f"size is {size} but must be >= 0")
    if size > n:
        raise RuntimeError(f"maximum size for tensor at dimension {d} is {n} but size is {size}")
    if step <= 0:
        raise RuntimeError(f"step is {step} but must be > 0")
    return make(self, "unfold", (d, size, step), _build_unfold)


def _build_alias(a: Aval):
    return a, 0, lambda x: x


def alias_of(t: Tensor) -> Tensor:
    """A view of all of a tensor."""
    return make(t, "alias", (), _build_alias)


def as_strided(input: Tensor, size, stride, storage_offset: int | None = None) -> Tensor:
    """The memory of `input` under any size, strides and offset."""
    size, stride = _ints((size,)), _ints((stride,))
    if len(size) != len(stride):
        raise RuntimeError("mismatch in length of strides and shape")
    s = storage_of(input)
    offset = input._offset if storage_offset is None else storage_offset
    if offset < 0:
        raise RuntimeError(f"Tensor: invalid storage offset {offset}")
    if min(size, default=0) < 0:
        raise RuntimeError(f"Storage size calculation overflowed with sizes={list(size)} and strides={list(stride)}")
    if min(stride, default=0) < 0:
        raise RuntimeError(
            "as_strided: Negative strides are not supported at the moment, "
            f"got strides: [{', '.join(map(str, stride))}]"
        )
    reach = offset + sum((n - 1) * st for n, st in zip(size, stride, strict=True)) + 1 if math.prod(size) else 0
    if reach > s.aval.numel:
        item = input.dtype.itemsize
        raise RuntimeError(
            f"setStorage: sizes {list(size)}, strides {list(stride)}, storage offset {offset}, and itemsize {item} "
            f"requiring a storage size of {reach * item} are out of bounds for storage of size {s.aval.numel * item}"
        )
    from jtorch._tensor.storage import _root_in_storage

    # The gradient is the input's own, as far as the elements are: the input may be a leaf that is a view.
    root = input if input._base is None or (T.grad and value_of(input).node is not None) else input._base
    out = aval(size, input.dtype, input.device, stride)
    return share(input, read_view(_root_in_storage(s, root), out, offset), offset)


# ---- other dtypes over the same memory -------------------------------------------------------------------------------


def _build_part(a: Aval, imag):
    real = a.dtype.to_real()
    out = aval(a.shape, real, a.device, tuple(2 * s for s in a.stride()))
    return out, 0, (jnp.imag if imag else jnp.real)


def real(input: Tensor) -> Tensor:
    """The real parts, as a view; a real tensor itself."""
    if not input.is_complex():
        return input
    r = make(input, "real", (False,), _build_part, "SelectBackward0")
    r._offset = 2 * input._offset
    return r


def imag(input: Tensor) -> Tensor:
    """The imaginary parts, as a view. RuntimeError for real tensors."""
    if not input.is_complex():
        raise RuntimeError("imag is not implemented for tensors with non-complex dtypes.")
    r = make(input, "imag", (True,), _build_part, "SelectBackward0")
    r._offset = 2 * input._offset + 1
    return r


def _build_as_real(a: Aval):
    out = aval((*a.shape, 2), a.dtype.to_real(), a.device, (*[2 * s for s in a.stride()], 1))
    return out, 0, lambda x: jnp.stack([x.real, x.imag], -1)


def view_as_real(input: Tensor) -> Tensor:
    """Complex numbers as pairs of reals in a new last dim, as a view."""
    if not input.is_complex():
        raise RuntimeError("view_as_real is only supported for complex tensors")
    r = make(input, "view_as_real", (), _build_as_real)
    r._offset = 2 * input._offset
    return r


def _build_as_complex(a: Aval):
    out = aval(a.shape[:-1], a.dtype.to_complex(), a.device, tuple(s // 2 for s in a.stride()[:-1]))
    return out, 0, lambda x: lax.complex(x[..., 0], x[..., 1])


def view_as_complex(input: Tensor) -> Tensor:
    """Pairs of reals in the last dim as complex numbers, as a view."""
    a = input._shape_aval()
    if a.dtype.name not in ("float32", "float64", "float16"):
        raise RuntimeError(
            "view_as_complex is only supported for half, float and double tensors, but got a tensor of scalar type: "
            + dtypes.SCALAR_NAMES[a.dtype]
        )
    if a.ndim == 0:
        raise RuntimeError("Input tensor must have one or more dimensions")
    if a.shape[-1] != 2:
        raise RuntimeError("Tensor must have a last dimension of size 2")
    if a.stride()[-1] != 1:
        raise RuntimeError("Tensor must have a last dimension with stride 1")
    if any(s % 2 for s in a.stride()[:-1]):
        raise RuntimeError("Tensor must have a stride divisible by 2 for all but last dimension")
    if input._offset % 2:
        raise RuntimeError("Tensor must have a storage_offset divisible by 2")
    r = make(input, "view_as_complex", (), _build_as_complex)
    r._offset = input._offset // 2
    return r


def view_dtype(t: Tensor, dtype: dtypes.dtype) -> Tensor:
    """The same bytes as another dtype."""
    a = t._shape_aval()
    if a.dtype is dtype:
        return t.detach()
    old, item = a.dtype.itemsize, dtype.itemsize
    strides = a.stride()
    if old == item:
        shape, new_strides, offset = a.shape, strides, t._offset
    elif a.ndim == 0:
        raise RuntimeError(
            f"self.dim() cannot be 0 to view {dtypes.SCALAR_NAMES[a.dtype]} as {dtypes.SCALAR_NAMES[dtype]} (different element sizes)"
        )
    elif old > item:
        k = old // item
        if strides[-1] != 1:
            raise RuntimeError(
                f"self.stride(-1) must be 1 to view {dtypes.SCALAR_NAMES[a.dtype]} as {dtypes.SCALAR_NAMES[dtype]} "
                f"(different element sizes), but got {strides[-1]}"
            )
        shape, new_strides, offset = (
            (*a.shape[:-1], a.shape[-1] * k),
            (*[s * k for s in strides[:-1]], 1),
            t._offset * k,
        )
    else:
        k = item // old
        if a.shape[-1] % k:
            raise RuntimeError(
                f"self.size(-1) must be divisible by {k} to view {dtypes.SCALAR_NAMES[a.dtype]} as "
                f"{dtypes.SCALAR_NAMES[dtype]} (different element sizes), but got {a.shape[-1]}"
            )
        if strides[-1] != 1:
            raise RuntimeError(
                f"self.stride(-1) must be 1 to view {dtypes.SCALAR_NAMES[a.dtype]} as {dtypes.SCALAR_NAMES[dtype]} "
                f"(different element sizes), but got {strides[-1]}"
            )
        if t._offset % k:
            raise RuntimeError(
                f"self.storage_offset() must be divisible by {k} to view {dtypes.SCALAR_NAMES[a.dtype]} as "
                f"{dtypes.SCALAR_NAMES[dtype]} (different element sizes), but got {t._offset}"
            )
        shape, new_strides, offset = (
            (*a.shape[:-1], a.shape[-1] // k),
            (*[s // k for s in strides[:-1]], 1),
            t._offset // k,
        )
    # Outside the graph, and no view to autograd: as `detach` gives.
    r = t.detach()
    r._value = detached(read_view(detached(r._storage.value), aval(shape, dtype, a.device, new_strides), offset))
    r._offset = offset
    return r


FUNCTIONS = {
    f.__name__: f
    for f in (
        reshape, flatten, ravel, unflatten, squeeze, unsqueeze, permute, transpose, swapaxes, swapdims, t, adjoint, movedim, broadcast_to,
        select, narrow, unbind, split, split_with_sizes, chunk, tensor_split, hsplit, vsplit, dsplit, diagonal,
        as_strided, real, imag, view_as_real, view_as_complex,
    )
}  # fmt: skip
FUNCTIONS |= {
    "moveaxis": movedim,
    "unsafe_split": unsafe_split,
    "unsafe_chunk": unsafe_chunk,
}
METHODS = {f.__name__: f for f in (view, view_as, reshape_as, expand, expand_as, unfold)}


def attach() -> None:
    """Gives Tensor its views."""
    for name, f in (FUNCTIONS | METHODS).items():
        if name not in ("real", "imag"):
            setattr(Tensor, name, f)
    Tensor.T = property(_T)
    Tensor.mT = property(_mT)
    Tensor.H = property(_H)
    Tensor.mH = property(_mH)
    Tensor.real = property(real, lambda self, value: self.real.copy_(value))
    Tensor.imag = property(imag, lambda self, value: self.imag.copy_(value))


__all__ = ["FUNCTIONS", "Size", "attach"]
