"""Reads an index expression and says what to do: view steps first, then at most one gather.

torch indexes in two stages. Integers, slices, None and `...` become view steps, applied left to right; what is left
(lists, arrays, tensors, masks) indexes the viewed tensor all at once. An integer between two index tensors is therefore
gone before the gather, and does not part them the way it would in NumPy. The plan holds no tensor values of its own:
what the user's tensors contain is for the caller to look at.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

import numpy as np

from .index_values import sequence_to_array, type_name

IsTensor = Callable[[object], bool]
TensorInfo = Callable[[object], tuple[tuple[int, ...], str]]

_INT, _SLICE, _NONE, _ELLIPSIS, _BOOL, _SEQUENCE, _ARRAY, _TENSOR, _INVALID = range(9)
# What a value of each type means as an index. Types met later are added by `_classify`.
_KINDS: dict[type, int] = {
    int: _INT,
    slice: _SLICE,
    type(None): _NONE,
    type(Ellipsis): _ELLIPSIS,
    bool: _BOOL,
    list: _SEQUENCE,
    tuple: _SEQUENCE,
    range: _SEQUENCE,
    str: _SEQUENCE,
    bytes: _SEQUENCE,
    np.ndarray: _ARRAY,
    np.bool_: _INVALID,
    float: _INVALID,
    complex: _INVALID,
}
_MASK_DTYPES = ("bool", "uint8")
_INDEX_DTYPES = ("int64", "int32", "bool", "uint8")
_SELECT_DTYPES = ("int64", "int32", "int16", "int8", "uint16", "uint32", "uint64")

_ZERO_DIM = (
    "invalid index of a 0-dim tensor. Use `tensor.item()` in Python or `tensor.item<T>()` in C++ "
    "to convert a 0-dim tensor to a number"
)
_INVALID_INDEX = (
    "only integers, slices (`:`), ellipsis (`...`), None and long or byte Variables are valid indices (got {})"
)
_BAD_DTYPE = "tensors used as indices must be long, int, byte or bool tensors"
_BYTE_MASK = "indexing with dtype torch.uint8 is now deprecated, please use a dtype torch.bool instead."
_LIST_AS_TUPLE = (
    "Using a non-tuple sequence for multidimensional indexing is deprecated; use x[tuple(seq)] instead of x[seq]."
)

# torch reads a short list that holds a slice, a sequence or a tensor as if it were a tuple.
_LONGEST_LIST_AS_TUPLE = 32


# A true or false scalar is a mask over a dim of size 1: it takes that row or none.
_ONE = np.zeros(1, dtype=np.int64)
_NONE_TAKEN = np.zeros(0, dtype=np.int64)


class Plan:
    """What an index expression asks for.

    views: steps to apply in order, dims counted in the tensor as the steps before left it. Each is
        ("select", dim, i), ("slice", dim, start, stop, step) or ("unsqueeze", dim), with i, start and stop wrapped and
        clamped (0 <= start <= stop <= size). No steps and no gather: the result is the whole tensor, as a new view.
    advanced: (dim, index, mask_dims) in rising order of dim, dims counted after the views. mask_dims is 0 for an
        integer index: an int64 array with values in range and not negative, or a tensor of the user, unchecked. It is
        k for a mask of the user's that covers dims dim..dim+k-1 and stands for its `nonzero` columns; a 0-d mask
        covers the one dim that an unsqueeze made for it. Masks given as lists, arrays or True/False are already
        expanded to int64 arrays here.
    result_front: the broadcast dims of the indices come first in the result; otherwise they stand where
        `advanced[0][0]` is.
    tensor_selects: some "select" step has a 0-d integer tensor of the user's as its i, unchecked. torch reads its
        value there and then, and the result is a view.
    mask: the dtype of the gather's only index where that is a mask over one dim or more.
    """

    __slots__ = ("advanced", "mask", "result_front", "tensor_selects", "views")

    def __init__(
        self,
        views: tuple[tuple[Any, ...], ...],
        advanced: tuple[tuple[int, Any, int], ...] = (),
        result_front: bool = False,
        tensor_selects: bool = False,
        mask: str | None = None,
    ):
        self.views = views
        self.advanced = advanced
        self.result_front = result_front
        self.tensor_selects = tensor_selects
        self.mask = mask

    def __repr__(self) -> str:
        return f"Plan(views={self.views}, advanced={self.advanced}, result_front={self.result_front})"


def plan(index: Any, shape: tuple[int, ...], is_tensor: IsTensor, tensor_info: TensorInfo) -> Plan:
    """The plan of `x[index]` for an `x` of this shape.

    `is_tensor` says whether an object is one of the caller's tensors (answer True for jax arrays too, to keep them
    from being pulled to the host), `tensor_info` gives such an object's shape and dtype name ("int64", "bool" ...).
    Raises IndexError, TypeError, ValueError and RuntimeError where torch does. One difference: list indices out of
    range are an error even if a mask tensor beside them turns out to select nothing.
    """
    kind = type(index)
    if kind is int:
        if not shape:
            raise _zero_dim_error(index)
        return Plan((("select", 0, index if 0 <= index < shape[0] else _wrap(index, 0, shape[0])),))
    if kind is slice:
        step = _slice_step(index, 0, shape[0] if shape else 0)
        if not shape:
            raise IndexError("slice() cannot be applied to a 0-dim tensor.")
        return Plan(() if step is None else (step,))
    if kind is tuple:
        return _plan_basic(index, shape) or _plan_items(index, shape, is_tensor, tensor_info)
    code = _KINDS.get(kind)
    if code is None:
        code = _classify(index, is_tensor)
    if code == _INT and not shape:
        raise _zero_dim_error(index.__index__())
    if isinstance(index, tuple):
        return _plan_items(tuple(index), shape, is_tensor, tensor_info)
    if code == _SEQUENCE and kind is not range and _reads_as_tuple(index, is_tensor):
        warnings.warn(_LIST_AS_TUPLE, UserWarning, stacklevel=3)
        return _plan_items(tuple(index), shape, is_tensor, tensor_info)
    return _plan_items((index,), shape, is_tensor, tensor_info)


def broadcast_shapes(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The shape index tensors of these shapes have together; torch's IndexError where they have none."""
    if len(shapes) == 1:
        return shapes[0]
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        words = ", ".join(str(list(s)) for s in shapes)
        message = f"shape mismatch: indexing tensors could not be broadcast together with shapes {words}"
        raise IndexError(message) from None


def check_bounds(values: np.ndarray, size: int, position: int) -> np.ndarray:
    """`values` with negative ones wrapped, for a dim of `size` that is the `position`-th indexed one.

    IndexError names the first value that is out of range.
    """
    if values.size == 0:
        return values
    low, high = int(values.min()), int(values.max())
    if low >= 0 and high < size:
        return values
    if low < -size or high >= size:
        flat = values.ravel()
        bad = int(flat[(flat < -size) | (flat >= size)][0])
        raise IndexError(f"index {bad} is out of bounds for dimension {position} with size {size}")
    return np.where(values < 0, values + size, values)


def _zero_dim_error(i: int) -> IndexError:
    return IndexError(f"index {i} is out of bounds for dimension 0 with size 0" if i else _ZERO_DIM)


def _wrap(i: int, place: int, size: int) -> int:
    """A position from the front. What torch calls the dimension in its error is the place in the expression."""
    if 0 <= i < size:
        return i
    if -size <= i < 0:
        return i + size
    if not -(2**63) <= i < 2**63:
        raise ValueError("Overflow when unpacking long long")
    raise IndexError(f"index {i} is out of bounds for dimension {place} with size {size}")


def _slice_step(index: slice, dim: int, size: int) -> tuple[Any, ...] | None:
    """The view step of a slice, or None if it takes everything."""
    start, stop, step = index.indices(size)
    if step < 1:
        raise ValueError("step must be greater than zero")
    if step == 1 and start == 0 and stop == size:
        return None
    return ("slice", dim, start, stop if stop > start else start, step)


def _plan_basic(items: tuple[Any, ...], shape: tuple[int, ...]) -> Plan | None:
    """The plan of a tuple of plain integers, slices, None and at most one `...`; None where it is anything else.

    The common case, so one pass and nothing stored. `_plan_items` gives the same answer.
    """
    ndim = len(shape)
    views: list[tuple[Any, ...]] = []
    axis = dim = 0
    ellipsis_seen = False
    for item in items:
        kind = type(item)
        if kind is int:
            if axis >= ndim:
                return None
            size = shape[axis]
            if not 0 <= item < size:
                if not -size <= item < 0:
                    return None  # an error, but which one depends on the other items
                item += size
            views.append(("select", dim, item))
            axis += 1
        elif kind is slice:
            if axis >= ndim:
                return None
            if item.start is not None or item.stop is not None or item.step is not None:
                size = shape[axis]
                start, stop, step = item.indices(size)
                if step < 1:
                    return None
                if step != 1 or start != 0 or stop != size:
                    views.append(("slice", dim, start, stop if stop > start else start, step))
            axis += 1
            dim += 1
        elif item is None:
            views.append(("unsqueeze", dim))
            dim += 1
        elif item is Ellipsis and not ellipsis_seen:
            ellipsis_seen = True
            skipped = ndim - len(items)
            for other in items:
                if other is None or other is Ellipsis:
                    skipped += 1
            if skipped < 0:
                return None
            axis += skipped
            dim += skipped
        else:
            return None
    return Plan(tuple(views))


def _plan_items(items: tuple[Any, ...], shape: tuple[int, ...], is_tensor: IsTensor, tensor_info: TensorInfo) -> Plan:
    ndim = len(shape)
    kinds = []
    specified = 0
    for item in items:
        code = _KINDS.get(type(item))
        if code is None:
            code = _classify(item, is_tensor)
        kinds.append(code)
        if code <= _SLICE:
            specified += 1
        elif code == _TENSOR:
            item_shape, dtype = tensor_info(item)
            specified += len(item_shape) if dtype in _MASK_DTYPES else 1
        elif code >= _SEQUENCE:
            specified += 1
    if specified > ndim:
        raise IndexError(f"too many indices for tensor of dimension {ndim}")
    views: list[tuple[Any, ...]] = []
    pending: list[tuple[int, Any, tuple[int, ...], str]] = []  # dim, index, its shape and dtype
    tensor_selects = False
    axis = dim = 0  # of the tensor as it came, and of the result of the views so far
    for place, (item, code) in enumerate(zip(items, kinds, strict=True)):
        if code in (_INT, _SLICE):
            if axis >= ndim:  # only a mask in a list or a second `...` can bring us here
                raise IndexError(f"too many indices for tensor of dimension {ndim}")
            if code == _INT:
                i = item if type(item) is int else item.__index__()
                size = shape[axis]
                views.append(("select", dim, i if 0 <= i < size else _wrap(i, place, size)))
            else:
                step = _slice_step(item, dim, shape[axis])
                if step is not None:
                    views.append(step)
                dim += 1
            axis += 1
        elif axis > ndim and (code in (_NONE, _BOOL)):
            rank = dim - (axis - ndim)
            raise IndexError(
                f"Dimension out of range (expected to be in range of [{-rank - 1}, {rank}], but got {dim})"
            )
        elif code == _NONE:
            views.append(("unsqueeze", dim))
            dim += 1
        elif code == _ELLIPSIS:
            axis += ndim - specified
            dim += ndim - specified
        elif code == _BOOL:
            views.append(("unsqueeze", dim))
            pending.append((dim, _ONE if item else _NONE_TAKEN, (1,) if item else (0,), "int64"))
            dim += 1
        elif code == _INVALID:
            raise IndexError(_INVALID_INDEX.format(type_name(item)))
        else:
            if code == _TENSOR:
                item_shape, dtype = tensor_info(item)
            else:
                item = _to_array(item, code, is_tensor, tensor_info)
                item_shape, dtype = item.shape, item.dtype.name
            if not item_shape and dtype in _MASK_DTYPES:
                views.append(("unsqueeze", dim))
                if code == _TENSOR:
                    pending.append((dim, item, (1,), dtype))
                else:
                    index = _ONE if item else _NONE_TAKEN
                    pending.append((dim, index, index.shape, "int64"))
                dim += 1
                continue
            taken = len(item_shape) if dtype in _MASK_DTYPES else 1
            if axis + taken > ndim:
                raise IndexError(f"too many indices for tensor of dimension {ndim}")
            axis += taken
            if not item_shape and dtype in _SELECT_DTYPES:
                if code == _TENSOR:
                    tensor_selects = True
                    views.append(("select", dim, item))
                else:
                    views.append(("select", dim, _wrap(int(item), place, shape[axis - 1])))
            else:
                pending.append((dim, item, item_shape, dtype))
                dim += taken
    if not pending:
        return Plan(tuple(views), (), False, tensor_selects)
    advanced, front = _plan_gather(pending, _shape_after(shape, views))
    mask = None
    if len(pending) == 1 and pending[0][3] in _MASK_DTYPES:
        _, index, _, dtype = pending[0]
        mask = dtype if isinstance(index, np.ndarray) or tensor_info(index)[0] else None
    return Plan(tuple(views), advanced, front, tensor_selects, mask)


def _plan_gather(
    pending: list[tuple[int, Any, tuple[int, ...], str]], shape: tuple[int, ...]
) -> tuple[tuple[tuple[int, Any, int], ...], bool]:
    """Checks the indices of the gather against the viewed shape and expands the masks whose values are at hand."""
    for entry in pending:
        if entry[3] not in _INDEX_DTYPES:
            raise IndexError(_BAD_DTYPE)
    if len(pending) == 1 and pending[0][3] not in _MASK_DTYPES:
        dim, index, _, _ = pending[0]
        if type(index) is np.ndarray and index.size and 0 not in shape:
            index = check_bounds(index, shape[dim], 0)
            return ((dim, index, 0),), False
    advanced: list[tuple[int, Any, int]] = []
    shapes: list[tuple[int, ...]] = []
    dims: list[int] = []
    counts_known = True
    for dim, index, index_shape, dtype in pending:
        if dtype not in _MASK_DTYPES:
            advanced.append((dim, index, 0))
            shapes.append(index_shape)
            dims.append(dim)
            continue
        if dtype == "uint8":
            warnings.warn(_BYTE_MASK, UserWarning, stacklevel=4)
        for j, size in enumerate(index_shape):
            if size != shape[dim + j]:
                raise IndexError(
                    f"The shape of the mask {list(index_shape)} at index {j} does not match the shape of the "
                    f"indexed tensor {list(shape)} at index {dim + j}"
                )
        covered = len(index_shape)
        dims.extend(range(dim, dim + covered))
        if isinstance(index, np.ndarray):
            for j, column in enumerate(np.nonzero(index.reshape(index_shape))):
                advanced.append((dim + j, column.astype(np.int64, copy=False), 0))
                shapes.append(column.shape)
        else:
            counts_known = False
            advanced.append((dim, index, covered))
    if len(shapes) > 1 and counts_known:
        broadcast = broadcast_shapes(shapes)
    else:
        broadcast = shapes[0] if shapes else ()
    if any(isinstance(index, np.ndarray) for _, index, _ in advanced):
        advanced = _check_host(advanced, dims, shape, broadcast, counts_known)
    elif counts_known and math.prod(broadcast) and not all(shape[d] for d in dims):
        raise IndexError("index is out of bounds for dimension with size 0")
    front = dims[-1] - dims[0] != len(dims) - 1
    return tuple(advanced), front


def _check_host(
    advanced: list[tuple[int, Any, int]],
    dims: list[int],
    shape: tuple[int, ...],
    broadcast: tuple[int, ...],
    counts_known: bool,
) -> list[tuple[int, Any, int]]:
    """Wraps the int64 arrays, and refuses values out of range unless nothing is gathered at all."""
    gathered = math.prod(broadcast)
    if counts_known and gathered and not all(shape[d] for d in dims):
        raise IndexError("index is out of bounds for dimension with size 0")
    nothing = not gathered or any(size == 0 and d not in dims for d, size in enumerate(shape))
    position = 0
    checked = []
    for dim, index, covered in advanced:
        if isinstance(index, np.ndarray):
            # Nothing is read where the result is empty, and torch lets any value pass then.
            index = np.zeros_like(index) if nothing else check_bounds(index, shape[dim], position)
        checked.append((dim, index, covered))
        position += covered or 1
    return checked


def _shape_after(shape: tuple[int, ...], views: list[tuple[Any, ...]]) -> tuple[int, ...]:
    sizes = list(shape)
    for step in views:
        if step[0] == "select":
            del sizes[step[1]]
        elif step[0] == "slice":
            _, dim, start, stop, stride = step
            sizes[dim] = -((start - stop) // stride)
        else:
            sizes.insert(step[1], 1)
    return tuple(sizes)


def _to_array(item: Any, code: int, is_tensor: IsTensor, tensor_info: TensorInfo) -> np.ndarray:
    """A list, array or other sequence as the bool, uint8 or int64 array it indexes as."""
    if code == _SEQUENCE:
        return sequence_to_array(item, is_tensor, tensor_info)
    array = np.asarray(item)
    if array.dtype.kind == "b" or array.dtype == np.uint8 or array.dtype == np.int64:
        return array
    if array.dtype.kind not in "iufc":
        raise TypeError(
            f"can't convert np.ndarray of type numpy.{array.dtype.type.__name__}. The only supported types are: "
            "float64, float32, float16, complex64, complex128, int64, int32, int16, int8, uint64, uint32, uint16, "
            "uint8, and bool."
        )
    return (array.real if array.dtype.kind == "c" else array).astype(np.int64)


def _reads_as_tuple(index: Any, is_tensor: IsTensor) -> bool:
    if len(index) >= _LONGEST_LIST_AS_TUPLE:
        return False
    for item in index:
        code = _KINDS.get(type(item))
        if code is None:
            code = _classify(item, is_tensor)
        if code != _INT and code != _BOOL and code != _INVALID:
            return True
    return False


def _classify(item: Any, is_tensor: IsTensor) -> int:
    """What an object of a type not met before means as an index. Remembered by type, but for the invalid ones."""
    kind = type(item)
    if is_tensor(item):
        code = _TENSOR
    elif isinstance(item, np.ndarray):
        code = _ARRAY
    elif isinstance(item, np.generic):
        code = _SEQUENCE if isinstance(item, str | bytes) else _INT if isinstance(item, np.integer) else _INVALID
    elif hasattr(kind, "__array__"):
        code = _ARRAY
    elif isinstance(item, int) or hasattr(kind, "__index__"):
        code = _INT
    elif hasattr(kind, "__getitem__") and hasattr(kind, "__len__") and not isinstance(item, Mapping | Set | type):
        code = _SEQUENCE
    else:
        return _INVALID
    _KINDS[kind] = code
    return code
