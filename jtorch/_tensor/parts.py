"""Views of a part: places, slices, splits, diagonals, windows, whatever strides say."""

from __future__ import annotations

import math

import jax.numpy as jnp
from jax import lax

from jtorch._ops._common import wrap_dim
from jtorch._runtime import dtypes
from jtorch._runtime.avals import Aval, aval
from jtorch._runtime.executor import T
from jtorch._tensor.base import Tensor
from jtorch._tensor.sharing import dynamic, ints, make, make_several, share
from jtorch._tensor.storage import read_view, storage_of, value_of

FEW = 128  # places along a dim of which the first and the last are special
SEVERAL = 64  # as many views are one operation; more are one each


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
    return dynamic(t, "select", (d,), _build_select_at, i, i * a.steps[d])


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
    return dynamic(t, "slice", (d, length), _build_slice_at, start, start * a.stride()[d])


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
    size, stride = ints((size,)), ints((stride,))
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
