"""Functions made of others, or that look at values."""

from __future__ import annotations

from typing import Any

import numpy as np

from jtorch._autograd.graph import underived
from jtorch._ops._common import wrap_dim
from jtorch._ops.specialise import broadcast_shapes
from jtorch._runtime import dtypes
from jtorch._runtime.avals import Size
from jtorch._runtime.executor import T
from jtorch._tensor import parts, sharing
from jtorch._tensor.base import Tensor
from jtorch._tensor.creation import _OutOp
from jtorch._tensor.derive import FUNCTIONS as OP
from jtorch._tensor.derive import call, can_cast, check_in_place, copy_out
from jtorch._tensor.placing import place, wrap
from jtorch._tensor.storage import tag, value_of, write


def host(t: Tensor, array: np.ndarray, dtype: dtypes.dtype | None = None) -> Tensor:
    """A NumPy result as a tensor on the device of `t`."""
    return wrap(place(array, dtype or dtypes.from_numpy(array.dtype), t.device))


# ---- results whose shape depends on values -----------------------------------------------------------------------------


def nonzero(input: Tensor, *, out=None, as_tuple: bool = False) -> Any:
    """The indices of what is not zero: one row each, or one tensor a dim."""
    found = np.nonzero(np.atleast_1d(input._host()))
    if as_tuple:
        return tuple(host(input, f) for f in found)
    if input.ndim == 0:
        rows = np.zeros((len(found[0]), 0), np.int64)
    else:
        rows = np.stack(found, 1)
    r = host(input, rows)
    return r if out is None else copy_out(r, out, _OutOp("nonzero"))


def nonzero_static(input: Tensor, *, size: int, fill_value: int = -1) -> Tensor:
    """The first `size` rows of `nonzero`, filled up where there are fewer."""
    rows = nonzero(input)
    if len(rows) >= size:
        return rows[:size]
    return call("cat", [rows, rows.new_full((size - len(rows), input.ndim), fill_value)])


def unravel_index(indices: Tensor, shape) -> tuple[Tensor, ...]:
    """Places in a flat array as one index tensor a dim of `shape`."""
    if indices.dtype.category != dtypes.INTEGRAL:
        raise ValueError(f"expected 'indices' to be integer dtype, but got {indices.dtype!r}")
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    if any(n < 0 for n in shape):
        raise ValueError(f"'shape' cannot have negative values, but got {shape}")
    found, rest = [], indices
    for n in reversed(shape):
        found.append(rest % n)
        rest = rest // n
    return tuple(reversed(found))


def argwhere(input: Tensor) -> Tensor:
    """The indices of what is not zero, one row each."""
    return nonzero(input)


def masked_select(input: Tensor, mask: Tensor, *, out=None) -> Tensor:
    """The elements where a mask is true, in one dim."""
    if mask.dtype is not dtypes.bool:
        raise RuntimeError("masked_select: expected BoolTensor for mask")
    shape = broadcast_shapes([tuple(input.shape), tuple(mask.shape)])
    at = host(input, np.flatnonzero(np.broadcast_to(mask._host(), shape)))
    r = call("index_select", input.expand(shape).reshape(-1), 0, at)
    return r if out is None else copy_out(r, out, _OutOp("masked_select"))


def masked_scatter(input: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """`input` with the places where a mask is true filled, in order, from `source`."""
    if mask.dtype is not dtypes.bool:
        raise RuntimeError(
            "masked_scatter_ only supports boolean masks, but got mask with dtype " + dtypes.SCALAR_NAMES[mask.dtype]
        )
    if input.dtype is not source.dtype:
        raise RuntimeError(
            f"masked_scatter: expected self and source to have same dtypes but got {dtypes.SCALAR_NAMES[input.dtype]} and "
            f"{dtypes.SCALAR_NAMES[source.dtype]}"
        )
    shape = broadcast_shapes([tuple(input.shape), tuple(mask.shape)])
    at = host(input, np.flatnonzero(np.broadcast_to(mask._host(), shape)))
    if at.numel() > source.numel():
        raise RuntimeError(
            "mask_scatter: expected number of elements in source to be at least the number of ones in mask"
        )
    flat = input.expand(shape).reshape(-1)
    return flat.index_put((at,), source.reshape(-1)[: at.numel()]).reshape(shape)


def masked_scatter_(self: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """In-place `masked_scatter`."""
    check_in_place(self)
    write(self, value_of(masked_scatter(self, mask, source)))
    return self


def _mark_underived(result: Tensor, input: Tensor, what: str, name: str) -> None:
    """Lets a result require grad as torch has it, though a backward through it raises."""
    if T.grad and input.requires_grad:
        result._value = tag(value_of(result), underived(value_of(input), what, name))


def unique(
    input: Tensor,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
):
    """The distinct elements (or slices along a dim), sorted; where each went and how many, if asked."""
    array = input.detach()._host()
    if dim is not None:
        dim = wrap_dim(dim, input.ndim)
    equal_nan: dict[str, Any] = {} if dim is not None else {"equal_nan": False}
    values, inverse, counts = np.unique(array, return_inverse=True, return_counts=True, axis=dim, **equal_nan)
    inverse = inverse.reshape(array.shape if dim is None else (array.shape[dim],))
    result = [host(input, values.astype(array.dtype), input.dtype)]
    if dim is None:
        _mark_underived(result[0], input, "_unique2", "Unique2Backward0")
    else:
        _mark_underived(result[0], input, "unique_dim", "UniqueDimBackward0")
    if return_inverse:
        result.append(host(input, inverse.astype(np.int64)))
    if return_counts:
        result.append(host(input, counts.astype(np.int64)))
    return result[0] if len(result) == 1 else tuple(result)


def unique_consecutive(
    input: Tensor, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
):
    """Runs of equal elements (or slices along a dim) as one each."""
    array = input.detach()._host()
    axis = 0 if dim is None else wrap_dim(dim, input.ndim)
    rows = array.reshape(-1) if dim is None else np.moveaxis(array, axis, 0)
    n = len(rows)
    flat = rows.reshape(n, -1)
    starts = np.ones(n, bool)
    if n:
        starts[1:] = (flat[1:] != flat[:-1]).any(1)
    first = np.flatnonzero(starts)
    values = rows[first] if dim is None else np.moveaxis(rows[first], 0, axis)
    result = [host(input, values, input.dtype)]
    _mark_underived(result[0], input, "unique_consecutive", "UniqueConsecutiveBackward0")
    if return_inverse:
        inverse = np.cumsum(starts) - 1
        result.append(host(input, inverse.reshape(array.shape if dim is None else (n,)).astype(np.int64)))
    if return_counts:
        result.append(host(input, np.diff(np.append(first, n)).astype(np.int64)))
    return result[0] if len(result) == 1 else tuple(result)


def bincount(input: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    """How often each number occurs in a vector of non-negative integers, or the sum of its weights."""
    if input.dtype.category != dtypes.INTEGRAL:
        raise NotImplementedError(f"\"bincount_cpu\" not implemented for '{dtypes.SCALAR_NAMES[input.dtype]}'")
    if input.ndim != 1:
        raise RuntimeError("bincount only supports 1-d non-negative integral inputs.")
    array = input._host()
    if array.size and array.min() < 0:
        raise RuntimeError("bincount only supports 1-d non-negative integral inputs.")
    if minlength < 0:
        raise RuntimeError("minlength should be >= 0")
    if weights is None:
        return host(input, np.bincount(array, minlength=minlength).astype(np.int64))
    if weights.shape != input.shape:
        raise RuntimeError("weights should be 1-d and have the same length as input")
    counted = np.bincount(array, weights._host(), minlength)
    return host(input, counted.astype(np.float32 if weights.dtype is dtypes.float32 else np.float64))


def repeat_interleave(input: Tensor, repeats=None, dim: int | None = None, *, output_size: int | None = None) -> Tensor:
    """Each element (or slice along a dim) repeated; with one tensor, its indices repeated as often as it says."""
    if repeats is None:
        counts = input._host()
        return host(input, np.repeat(np.arange(counts.size), counts))
    if isinstance(repeats, int):
        return call("repeat_interleave.int", input, repeats, dim)
    if dim is None:
        input, dim = input.reshape(-1), 0
    counts = repeats._host() if isinstance(repeats, Tensor) else np.asarray(repeats)
    if (counts < 0).any():
        raise RuntimeError("repeats can not be negative")
    d = wrap_dim(dim, input.ndim)
    if counts.size not in (1, input.shape[d]):
        raise RuntimeError(
            f"repeats must have the same size as input along dim, but got repeats.size(0) = {counts.size} and "
            f"input.size({d}) = {input.shape[d]}"
        )
    at = np.repeat(np.arange(input.shape[d]), np.broadcast_to(counts.reshape(-1), (input.shape[d],)))
    return call("index_select", input, d, host(input, at.astype(np.int64)))


def where(condition, input=None, other=None, *, out=None):
    """`input` where a condition holds, else `other`; alone, the indices of what is true."""
    if input is None and other is None:
        return nonzero(condition, as_tuple=True)
    r = OP["where"](condition, input, other)
    return r if out is None else copy_out(r, out, _OutOp("where"))


def _where_method(self: Tensor, condition: Tensor, other) -> Tensor:
    return OP["where"](condition, self, other)


# ---- shapes ------------------------------------------------------------------------------------------------------------


def broadcast_tensors(*tensors: Tensor) -> tuple[Tensor, ...]:
    """All expanded to their common shape."""
    if len(tensors) == 1 and isinstance(tensors[0], list | tuple):
        tensors = tuple(tensors[0])
    shape = broadcast_shapes([tuple(t.shape) for t in tensors])
    return tuple(t if t.shape == shape else t.expand(shape) for t in tensors)


def broadcast_shapes_(*shapes) -> Size:
    """The shape that all broadcast to."""
    return Size(broadcast_shapes([(s,) if isinstance(s, int) else tuple(s) for s in shapes]))


def _at_least(n: int, grow):
    def fn(*tensors):
        if len(tensors) == 1 and isinstance(tensors[0], list | tuple):
            tensors = tuple(tensors[0])
            return tuple(grow(t) for t in tensors)
        return grow(tensors[0]) if len(tensors) == 1 else tuple(grow(t) for t in tensors)

    fn.__name__ = f"atleast_{n}d"
    fn.__doc__ = f"With dims of size 1 put in until there are {n}."
    return fn


atleast_1d = _at_least(1, lambda t: t.reshape(1) if t.ndim == 0 else t)
atleast_2d = _at_least(2, lambda t: t.reshape(1, 1) if t.ndim == 0 else t.unsqueeze(0) if t.ndim == 1 else t)
atleast_3d = _at_least(
    3,
    lambda t: (
        t.reshape(1, 1, 1)
        if t.ndim == 0
        else t.unsqueeze(0).unsqueeze(-1)
        if t.ndim == 1
        else t.unsqueeze(-1)
        if t.ndim == 2
        else t
    ),
)


def meshgrid(*tensors: Tensor, indexing: str | None = None) -> tuple[Tensor, ...]:
    """Grids of the coordinates in vectors, as views."""
    if len(tensors) == 1 and isinstance(tensors[0], list | tuple):
        tensors = tuple(tensors[0])
    if indexing not in (None, "ij", "xy"):
        raise RuntimeError(f'torch.meshgrid: indexing must be one of "xy" or "ij", but received: {indexing}')
    swap = indexing == "xy" and len(tensors) > 1
    if swap:
        tensors = (*tensors[1::-1], *tensors[2:])
    shape = tuple(t.numel() for t in tensors)
    grids = []
    for i, t in enumerate(tensors):
        if t.ndim > 1:
            raise RuntimeError(f"torch.meshgrid: Expected 0D or 1D tensor in the tensor list but got: {t}")
        grids.append(t.reshape([-1 if d == i else 1 for d in range(len(shape))]).expand(shape))
    if swap:
        grids[0], grids[1] = grids[1], grids[0]
    return tuple(grids)


def sum_to_size(self: Tensor, *size) -> Tensor:
    """The sum over the dims that broadcasting from `size` would have made."""
    size = sharing.ints(size)
    lead = self.ndim - len(size)
    if lead < 0 or any(n not in (1, self.shape[lead + i]) for i, n in enumerate(size)):
        raise RuntimeError(f"size {{{list(size)}}} is not expandable to size {{{list(self.shape)}}}.")
    dims = [*range(lead), *[lead + i for i, n in enumerate(size) if n == 1 and self.shape[lead + i] != 1]]
    if dims:
        return self.sum(dims, keepdim=True).reshape(size)
    return (
        self.view(size) if size or self.dtype.category >= dtypes.FLOATING else self.sum()
    )  # torch sums a number, to int64


def diag(input: Tensor, diagonal: int = 0, *, out=None) -> Tensor:
    """The diagonal of a matrix, or a matrix of a diagonal."""
    if input.ndim == 1:
        r = call("diag.embed", input, diagonal)
    elif input.ndim == 2:
        r = parts.diagonal(input, diagonal).clone()
    else:
        raise RuntimeError(f"diag(): Supports 1D or 2D tensors. Got {input.ndim}D")
    return r if out is None else copy_out(r, out, _OutOp("diag"))


# ---- facts and comparisons -----------------------------------------------------------------------------------------------


def is_tensor(obj) -> bool:
    """Whether an object is a tensor."""
    return isinstance(obj, Tensor)


def numel(input: Tensor) -> int:
    """The number of elements."""
    return input.numel()


def is_floating_point(input: Tensor) -> bool:
    """Whether the dtype is a floating one."""
    return input.dtype.is_floating_point


def is_complex(input: Tensor) -> bool:
    """Whether the dtype is complex."""
    return input.dtype.is_complex


def _fact(name: str, doc: str):
    def fn(input: Tensor):
        return getattr(input, name)()

    fn.__name__ = fn.__qualname__ = name
    fn.__doc__ = doc
    return fn


is_signed = _fact("is_signed", "Whether the dtype has negative values.")
is_conj = _fact("is_conj", "Whether a tensor is a lazy conjugate: never here.")
is_neg = _fact("is_neg", "Whether a tensor is a lazy negative: never here.")
is_inference = _fact("is_inference", "Whether a tensor was made under inference_mode.")
get_device = _fact("get_device", "The index of a tensor's GPU, -1 on the CPU.")
detach = _fact("detach", "The same memory, outside the graph.")
detach_ = _fact("detach_", "Takes a tensor itself out of the graph.")


def is_nonzero(input: Tensor) -> bool:
    """Whether the one element is not zero."""
    if input.numel() != 1:
        raise RuntimeError(
            f"Boolean value of Tensor with {'no values' if not input.numel() else 'more than one value'} is ambiguous"
        )
    return bool(input.item())


def is_same_size(input: Tensor, other: Tensor) -> bool:
    """Whether the shapes are equal."""
    return input.shape == other.shape


def equal(input: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same shape and elements."""
    if not isinstance(other, Tensor):
        raise TypeError(f"equal(): argument 'other' (position 2) must be Tensor, not {type(other).__name__}")
    if input.device is not other.device:
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found at least two devices, {input.device} and {other.device}!"
        )
    return input.shape == other.shape and bool((input == other).all().item())


def allclose(input: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> bool:
    """Whether all elements are close."""
    return bool(call("isclose", input, other, rtol, atol, equal_nan).all().item())


def result_type(tensor1, tensor2) -> dtypes.dtype:
    """The dtype that arithmetic on two tensors or numbers has."""
    dims, zeros_, numbers = [], [], []
    if not isinstance(tensor1, Tensor | int | float | complex) or not isinstance(
        tensor2, Tensor | int | float | complex
    ):
        given = ", ".join("Tensor" if isinstance(x, Tensor) else type(x).__name__ for x in (tensor1, tensor2))
        raise TypeError(
            f"result_type() received an invalid combination of arguments - got ({given}), but expected one of:\n"
            " * (Tensor tensor, Tensor other)\n * (Number scalar, Tensor tensor)\n * (Tensor tensor, Number other)\n"
            " * (Number scalar1, Number scalar2)\n"
        )
    for x in (tensor1, tensor2):
        if isinstance(x, Tensor):
            (dims if x.ndim else zeros_).append(x.dtype)
        else:
            numbers.append(dtypes.of_number(x).category)
    return dtypes.result_type_of(dims, zeros_, numbers)


def can_cast_(from_: dtypes.dtype, to: dtypes.dtype) -> bool:
    """Whether promotion allows a conversion: not down from complex to real, floating to integer, or anything to bool."""
    return can_cast(from_, to) and not (to is dtypes.bool and from_ is not dtypes.bool)


# ---- arithmetic -----------------------------------------------------------------------------------------------------------


def einsum(*args) -> Tensor:
    """Einstein summation: an equation and operands, or operands each with its list of subscripts."""
    if not args:
        raise ValueError(
            "einsum(): must specify the equation string and at least one operand, or at least one operand and its subscripts list"
        )
    if isinstance(args[0], Tensor):
        operands, letters = [], []
        rest = list(args)
        while len(rest) > 1:
            operands.append(rest.pop(0))
            letters.append(_letters(rest.pop(0)))
        equation = ",".join(letters) + ("->" + _letters(rest[0]) if rest else "")
        return call("einsum.static", equation, operands)
    equation, *operands = args
    if len(operands) == 1 and isinstance(operands[0], list | tuple):
        operands = list(operands[0])
    return call("einsum.static", equation, operands)


def _letters(subscripts) -> str:
    return "".join(
        "..." if s is Ellipsis else chr(ord("A") + s) if s < 26 else chr(ord("a") + s - 26) for s in subscripts
    )


def conj(input: Tensor) -> Tensor:
    """The complex conjugate; a real tensor itself."""
    return call("conj_physical", input) if input.is_complex() else input


def resolve_conj(input: Tensor) -> Tensor:
    """The tensor itself: conjugates are never lazy here."""
    return input


FUNCTIONS = {
    f.__name__.rstrip("_"): f
    for f in (
        nonzero, nonzero_static, unravel_index, argwhere, masked_select, masked_scatter, unique, unique_consecutive, bincount, repeat_interleave, where,
        broadcast_tensors, broadcast_shapes_, atleast_1d, atleast_2d, atleast_3d, meshgrid, diag, is_tensor, numel,
        is_floating_point, is_complex, is_nonzero, is_same_size, equal, allclose, result_type, can_cast_, einsum, conj,
        resolve_conj, is_signed, is_conj, is_neg, is_inference, get_device, detach,
    )
}  # fmt: skip
FUNCTIONS["resolve_neg"] = resolve_conj
FUNCTIONS["detach_"] = detach_


def attach() -> None:
    """Gives Tensor the methods among these."""
    for name in (
        "nonzero", "argwhere", "masked_select", "masked_scatter", "unique", "unique_consecutive", "bincount",
        "repeat_interleave", "diag", "nonzero_static", "is_nonzero", "is_same_size", "equal", "allclose", "conj", "resolve_conj", "resolve_neg",
    ):  # fmt: skip
        setattr(Tensor, name, FUNCTIONS[name])
    Tensor.masked_scatter_ = masked_scatter_  # type: ignore[attr-defined]
    Tensor.sum_to_size = sum_to_size  # type: ignore[attr-defined]
    Tensor.where = _where_method  # type: ignore[attr-defined]
