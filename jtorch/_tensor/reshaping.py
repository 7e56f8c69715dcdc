"""What is made of views: in-place changes of shape, copies of views, and copies with a part replaced."""

from __future__ import annotations

import functools

import numpy as np

from jtorch._runtime.executor import T
from jtorch._tensor import parts, views
from jtorch._tensor.base import Tensor
from jtorch._tensor.creation import _OutOp
from jtorch._tensor.derive import check_in_place, copy_out
from jtorch._tensor.parts import alias_of
from jtorch._tensor.storage import storage_of, tag, value_of


def _become(self: Tensor, view: Tensor) -> Tensor:
    """Makes a tensor the view of itself that is given: its memory stays, its shape and place in the graph change."""
    check_in_place(self)
    old, s = value_of(self), storage_of(self)
    new = value_of(view)
    if not T.grad and old.node is not None:
        new = tag(new, old.node, old.nr)
    self._value, self._offset = new, view._offset
    s.version += 1
    return self


def _in_place(name: str):
    f = views.FUNCTIONS[name]

    @functools.wraps(f)
    def method(self: Tensor, *args, **kwargs) -> Tensor:
        if name == "t" and self.ndim > 2:
            raise RuntimeError(f"t_() expects a tensor with <= 2 dimensions, but self is {self.ndim}D")
        return _become(self, f(self, *args, **kwargs))

    method.__name__ = method.__qualname__ = name + "_"
    method.__doc__ = f"`{name}` of this very tensor: its memory stays, its shape changes."
    return method


# ---- copies of views -------------------------------------------------------------------------------------------------


def _contiguous_copy(t: Tensor) -> Tensor:
    from jtorch._tensor.methods import clone
    from jtorch._tensor.placing import contiguous_format

    return clone(t, memory_format=contiguous_format)


def _copying(name: str, f):
    @functools.wraps(f)
    def copy(*args, out=None, **kwargs):
        made = f(*args, **kwargs)
        result = tuple(map(_contiguous_copy, made)) if isinstance(made, tuple) else _contiguous_copy(made)
        return result if out is None else copy_out(result, out, _OutOp(name))

    copy.__name__ = copy.__qualname__ = name
    copy.__doc__ = f"`{name.removesuffix('_copy')}` with memory of its own."
    return copy


_VIEWS = {
    name: views.FUNCTIONS[name]
    for name in (
        "as_strided", "diagonal", "narrow", "permute", "select", "split", "split_with_sizes", "squeeze", "t", "transpose",
        "unbind", "unsqueeze", "view_as_complex", "view_as_real",
    )
} | {"slice": parts.slice_, "expand": views.expand, "view": views.view, "unfold": parts.unfold, "alias": alias_of, "detach": Tensor.detach}  # fmt: skip
COPIES = {f"{name}_copy": _copying(f"{name}_copy", f) for name, f in _VIEWS.items()}


# ---- copies with a part replaced -------------------------------------------------------------------------------------


def _with_part(input: Tensor, part, src: Tensor) -> Tensor:
    made = _contiguous_copy(input)
    place = part(made)
    if place.shape != src.shape:
        raise RuntimeError(
            f"expected src to have a size equal to the slice of self. src size = {list(src.shape)}, slice size = "
            f"{list(place.shape)}"
        )
    place.copy_(src)
    return made


def select_scatter(input: Tensor, src: Tensor, dim: int, index: int) -> Tensor:
    """A copy of `input` with `src` in one place along a dim."""
    return _with_part(input, lambda t: t.select(dim, index), src)


def slice_scatter(
    input: Tensor, src: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Tensor:
    """A copy of `input` with `src` in a slice along a dim."""

    def part(t):
        return parts.slice_(t, dim, start, end, step)

    return _with_part(input, part, src)


def diagonal_scatter(input: Tensor, src: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """A copy of `input` with `src` on a diagonal."""
    return _with_part(input, lambda t: t.diagonal(offset, dim1, dim2), src)


def as_strided_scatter(input: Tensor, src: Tensor, size, stride, storage_offset: int | None = None) -> Tensor:
    """A copy of `input` with `src` where a size and strides say."""
    return _with_part(input, lambda t: t.as_strided(size, stride, storage_offset), src)


def fill_diagonal_(self: Tensor, fill_value, wrap: bool = False) -> Tensor:
    """Writes a number on the main diagonal, begun anew below it in tall matrices where `wrap` is set."""
    if self.ndim < 2:
        raise RuntimeError("dimensions must larger than 1")
    if self.ndim > 2 and len(set(self.shape)) > 1:
        raise RuntimeError("all dimensions of input must be of equal length")
    rows, cols = self.shape[0], self.shape[1]
    if wrap and self.ndim == 2 and rows > cols:
        row, col = divmod(np.arange(0, rows * cols, cols + 1), cols)
        self[row, col] = fill_value
        return self
    parts.as_strided(self, (min(self.shape),), (sum(self.stride()),), self._offset).fill_(fill_value)
    return self


def is_set_to(self: Tensor, tensor: Tensor) -> bool:
    """Whether both are the same place of the same memory under the same shape and strides."""
    same = storage_of(self) is storage_of(tensor) and self._offset == tensor._offset
    return same and self.shape == tensor.shape and self.stride() == tensor.stride()


SCATTERS = {f.__name__: f for f in (select_scatter, slice_scatter, diagonal_scatter, as_strided_scatter)}
FUNCTIONS = COPIES | SCATTERS | {"as_strided_": _in_place("as_strided")}


def attach() -> None:
    """Gives Tensor its in-place changes of shape."""
    for name in ("as_strided", "squeeze", "swapaxes", "swapdims", "t", "transpose", "unsqueeze"):
        setattr(Tensor, name + "_", _in_place(name))
    for name, f in SCATTERS.items():
        setattr(Tensor, name, f)
    Tensor.narrow_copy = COPIES["narrow_copy"]  # type: ignore[attr-defined]
    Tensor.fill_diagonal_ = fill_diagonal_  # type: ignore[attr-defined]
    Tensor.is_set_to = is_set_to  # type: ignore[attr-defined]
