"""Views of all of a tensor: other shapes, orders of dims, sizes; and all functions that give views."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from jtorch._ops._common import wrap_dim
from jtorch._runtime import dtypes, executor
from jtorch._runtime.avals import Aval, Size, aval, contiguous_strides
from jtorch._runtime.kernel import Kernel
from jtorch._tensor.base import Tensor, new
from jtorch._tensor.dtype_views import imag, real, view_as_complex, view_as_real, view_dtype
from jtorch._tensor.parts import (
    alias_of,
    as_strided,
    chunk,
    diagonal,
    dsplit,
    hsplit,
    narrow,
    select,
    split,
    split_with_sizes,
    tensor_split,
    unbind,
    unfold,
    unsafe_chunk,
    unsafe_split,
    vsplit,
)
from jtorch._tensor.sharing import ints, make
from jtorch._tensor.storage import value_of

_KERNELS: dict[tuple, Kernel] = {}


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
    return make(self, "view", (ints(shape if size is None else (size,), "view"),), _build_view)


def reshape(input: Tensor, *args, shape=None) -> Tensor:
    """The elements under another shape: a view where strides allow, else a copy."""
    if not args:
        if shape is None:
            raise TypeError('reshape() missing 1 required positional arguments: "shape"')
        args = (shape,)
    size = ints(args)
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
    order, n = ints(args, "permute"), input.ndim
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
    return make(self, "expand", (ints(size),), _build_expand)


def expand_as(self: Tensor, other: Tensor) -> Tensor:
    """`expand` to the shape of `other`."""
    return make(self, "expand", (tuple(other.shape),), _build_expand)


def broadcast_to(input: Tensor, size) -> Tensor:
    """`expand` to `size`."""
    return make(input, "expand", (ints((size,)),), _build_expand)


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
