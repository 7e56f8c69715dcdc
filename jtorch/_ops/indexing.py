"""Whole slices by index (index_select and its siblings), flat positions (take, put), and advanced indexing."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from jtorch._ops._along import IN_BOUNDS, across, narrow_index, take_along, take_at
from jtorch._ops._common import Array, Arrays, Number, Operand, is_complex, scalar_name, wrap_dim
from jtorch._ops.registry import op
from jtorch._ops.scattering import add_at, overwrite, reduce_at


def _need_vector(index: Array, name: str) -> None:
    if index.ndim > 1:
        raise IndexError(f"{name}(): Index is supposed to be a vector")


def _need_long(index: Array, name: str) -> None:
    if index.dtype != np.int64:
        raise RuntimeError(f"{name}(): Expected a long tensor for index, but got {scalar_name(index)}")


def _wrapped(index: Array, size: int) -> Array:
    """Positions from the front for positions that may count from the back."""
    return jnp.where(index < 0, index + size, index)


def _slices(dim: int, index: Array, shape: tuple[int, ...]) -> tuple:
    return (slice(None),) * dim + (narrow_index(index, shape),)


@op(method=True)
def index_select(input: Array, dim: int, index: Array) -> Array:
    """The slices of input at a 1-d `index` along `dim`. Indices must be in bounds, from the front: unchecked."""
    axis = wrap_dim(dim, input.ndim)
    _need_vector(index, "index_select")
    if index.dtype not in (np.int32, np.int64):
        raise RuntimeError("index_select(): Expected dtype int32/int64 for index")
    index = index.reshape(-1)
    if input.ndim == 0:
        if index.size != 1:
            raise RuntimeError(f"index_select(): Index to scalar can have only 1 value, got {index.size} value(s)")
        return input
    return take_at(input, index, axis)


def _source(x: Array, axis: int, index: Array, source: Array, name: str, error: type[Exception]) -> tuple:
    """Everything with at least one dim, source's other dims checked against x's."""
    index = index.reshape(-1)
    x, source = jnp.atleast_1d(x), jnp.atleast_1d(source)
    if source.shape[axis if source.ndim > axis else 0] != index.size:
        size = source.shape[axis if source.ndim > axis else 0]
        tail = f": ({size}), for dim: {axis}" if error is RuntimeError else f" ({size})"
        raise error(f"{name}(): Number of indices ({index.size}) should be equal to source.size(dim){tail}")
    if source.shape[:axis] + source.shape[axis + 1 :] != x.shape[:axis] + x.shape[axis + 1 :]:
        if name == "index_add_":
            raise RuntimeError(
                "source tensor shape must match self tensor shape, excluding the specified dimension. Got self.shape = "
                f"{list(x.shape)} source.shape = {list(source.shape)}"
            )
        raise RuntimeError(
            f"{name}(): Source/destination tensor must have same slice shapes. Destination slice shape: "
            f"{list(x.shape[:axis] + x.shape[axis + 1 :])} at dimension {axis} and source slice shape: "
            f"{list(source.shape[:axis] + source.shape[axis + 1 :])} at dimension 0."
        )
    return x, index, source


@op(method=True, inplace=True)
def index_add(input: Array, dim: int, index: Array, source: Array, *, alpha: Number = 1) -> Array:
    """input with alpha * source's slices added at a 1-d `index` along `dim`."""
    axis = wrap_dim(dim, input.ndim)
    if index.dtype not in (np.int32, np.int64):
        raise RuntimeError(f"index_add_(): Expected dtype int32/int64 for index but got: {scalar_name(index)}")
    if input.dtype != source.dtype:
        raise RuntimeError(
            f"index_add_(): self ({scalar_name(input)}) and source ({scalar_name(source)}) must have the same "
            "scalar type"
        )
    if index.ndim > 1:
        raise IndexError(
            f"index_add_(): Index is supposed to be a vector, but got dim: {index.ndim} with type: "
            f"{scalar_name(index)} and size: {list(index.shape)}"
        )
    x, index, source = _source(input, axis, index, source, "index_add_", RuntimeError)
    source = source * jnp.asarray(alpha).astype(x.dtype)
    where = _slices(axis, index, x.shape)
    return add_at(x, where, source).reshape(input.shape)


@op(method=True, inplace=True)
def index_copy(input: Array, dim: int, index: Array, source: Array) -> Array:
    """input with source's slices written at a 1-d `index` along `dim`."""
    axis = wrap_dim(dim, input.ndim)
    _need_vector(index, "index_copy_")
    if input.dtype != source.dtype:
        raise RuntimeError(
            "index_copy_(): self and source expected to have the same dtype, but got (self) "
            f"{scalar_name(input)} and (source) {scalar_name(source)}"
        )
    _need_long(index, "index_copy_")
    x, index, source = _source(input, axis, index, source, "index_copy_", IndexError)
    return overwrite(x, _slices(axis, index, x.shape), source).reshape(input.shape)


@op(method=True, inplace=True)
def index_fill(input: Array, dim: int, index: Array, value: Operand) -> Array:
    """input with one value written to its slices at a 1-d `index` along `dim`, which may count from the back."""
    axis = wrap_dim(dim, input.ndim)
    if index.dtype != np.int64:
        raise IndexError("index_fill_(): Expected dtype int64 for index.")
    if index.ndim > 1:
        raise RuntimeError("Index has to be a vector/scalar")
    if value.ndim:
        raise RuntimeError(
            f"index_fill_ only supports a 0-dimensional value tensor, but got tensor with {value.ndim} dimension(s)."
        )
    if is_complex(value) and not is_complex(input):
        raise RuntimeError("index_fill_(): Converting complex Scalar to non-complex type is not supported")
    x = jnp.atleast_1d(input)
    hit = jnp.zeros(x.shape[axis], np.bool_)
    hit = hit.at[_wrapped(index.reshape(-1), x.shape[axis])].set(True, mode=IN_BOUNDS, wrap_negative_indices=False)
    # A mask along the dim fuses, and its gradient is a select, not a scatter.
    hit = hit.reshape(tuple(-1 if d == axis else 1 for d in range(x.ndim)))
    return jnp.where(hit, value.astype(x.dtype), x).reshape(input.shape)


@op(method=True, inplace=True)
def index_reduce(
    input: Array, dim: int, index: Array, source: Array, reduce: str, *, include_self: bool = True
) -> Array:
    """input reduced with source's slices at a 1-d `index` along `dim`: "prod", "mean", "amax" or "amin"."""
    axis = wrap_dim(dim, input.ndim)
    if reduce not in ("prod", "mean", "amax", "amin"):
        raise RuntimeError(f"index_reduce(): Expected reduce to be one of prod, mean, amax or amin but got {reduce}.")
    _need_vector(index, "index_reduce")
    if index.dtype not in (np.int32, np.int64):
        raise RuntimeError("index_reduce(): Expected dtype int32/int64 for index")
    if input.dtype != source.dtype:
        raise RuntimeError("index_reduce(): self and source must have the same scalar type")
    x, index, source = _source(input, axis, index, source, "index_reduce", RuntimeError)
    if source.size == 0:
        return input
    return reduce_at(x, across(x.shape, axis, index), source, reduce, include_self).reshape(input.shape)


# --- flat positions ----------------------------------------------------------------------------------------------


@op(method=True)
def take(input: Array, index: Array) -> Array:
    """Elements of the flattened input at `index` (any shape), which may count from the back."""
    _need_long(index, "take")
    if input.size == 0 and index.size:
        raise IndexError("take(): tried to take from an empty tensor")
    return take_at(input.reshape(-1), _wrapped(index, input.size), 0)


@op(method=True, inplace=True, out=False)
def put(input: Array, index: Array, source: Array, accumulate: bool = False) -> Array:
    """input with source's elements written (or added) at flat positions `index`, which may count from the back."""
    _need_long(index, "put_")
    if input.dtype != source.dtype:
        raise RuntimeError(
            "put_(): self and source expected to have the same dtype, but got self.dtype = "
            f"{scalar_name(input)} and source.dtype = {scalar_name(source)}"
        )
    if source.size != index.size:
        raise IndexError(
            "put_(): Expected source and index to have the same number of elements, but got source.numel() = "
            f"{source.size}, index.numel() = {index.size}"
        )
    if input.size == 0 or index.size == 0:
        if index.size:
            raise IndexError("put_(): Tried to put elements into an empty tensor")
        return input
    flat, source = input.reshape(-1), source.reshape(-1)
    where = (_wrapped(index.reshape(-1), flat.size),)
    out = add_at(flat, where, source) if accumulate else overwrite(flat, where, source)
    return out.reshape(input.shape)


@op(method=True, grad_name="GatherBackward0")
def take_along_dim(input: Array, indices: Array, dim: int | None = None) -> Array:
    """input at `indices` along `dim`, the other dims broadcast; without `dim`, in the flattened input."""
    if indices.size and indices.dtype not in (np.int32, np.int64):
        raise RuntimeError(f"torch.take_along_dim(): dtype of indices should be Long but got {scalar_name(indices)}")
    if dim is None:
        flat, indices = input.reshape(-1), indices.reshape(-1)
        return take_along(flat, _wrapped(indices, flat.size), 0)
    if input.ndim != indices.ndim:
        raise RuntimeError(
            "torch.take_along_dim(): input and indices should have the same number of dimensions, but got "
            f"{input.ndim} dimensions for input, and {indices.ndim} dimensions for indices"
        )
    axis = wrap_dim(dim, input.ndim)
    if input.ndim == 0:
        return input
    for d, (n, m) in enumerate(zip(input.shape, indices.shape, strict=True)):
        if d != axis and n != m and 1 not in (n, m):
            raise RuntimeError(
                f"The size of tensor a ({n}) must match the size of tensor b ({m}) at non-singleton dimension {d}"
            )
    return take_along(input, _wrapped(indices, input.shape[axis]), axis)


# --- advanced indexing ---------------------------------------------------------------------------------------------


def _places(x: Array, indices: Arrays, dims: tuple[int, ...]) -> tuple:
    """An indexing tuple: index arrays at their dims, whole slices elsewhere."""
    where: list = [slice(None)] * x.ndim
    for d, index in zip(dims, indices, strict=True):
        if index.dtype not in (np.int32, np.int64) and index.size:
            raise IndexError("tensors used as indices must be long, int, byte or bool tensors")
        where[d] = narrow_index(_wrapped(index, x.shape[d]), x.shape)
    return tuple(where)


@op(function=False, out=False)
def index(input: Array, indices: Arrays, dims: tuple[int, ...]) -> Array:
    """input[...] with index tensors at `dims`, broadcast together; negative ones count from the back.

    Index dims stand in place of adjacent `dims`, else in front.
    """
    return input.at[_places(input, indices, dims)].get(mode=IN_BOUNDS, wrap_negative_indices=False)


@op(name="index_put", key="index_put.dims", function=False, out=False)
def index_put(input: Array, indices: Arrays, values: Array, dims: tuple[int, ...], accumulate: bool = False) -> Array:
    """input with values, broadcast, written (or added) where `index` would read."""
    if values.dtype != input.dtype:
        raise RuntimeError(
            f"Index put requires the source and destination dtypes match, got {scalar_name(input)} for the "
            f"destination and {scalar_name(values)} for the source."
        )
    where = _places(input, indices, dims)
    shape = _result_shape(input, indices, dims)
    if not _broadcasts(values.shape, shape):
        raise RuntimeError(
            f"shape mismatch: value tensor of shape {list(values.shape)} cannot be broadcast to indexing result of "
            f"shape {list(shape)}"
        )
    return (add_at if accumulate else overwrite)(input, where, values)


def _result_shape(x: Array, indices: Arrays, dims: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of `index`'s result."""
    front = np.broadcast_shapes(*(i.shape for i in indices))
    ordered = sorted(dims)
    first = ordered[0] if ordered[-1] - ordered[0] == len(ordered) - 1 else 0
    rest = [n for d, n in enumerate(x.shape) if d not in dims]
    return tuple(rest[:first]) + front + tuple(rest[first:])


def _broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    lead = len(shape) - len(to)
    if any(n != 1 for n in shape[: max(lead, 0)]):
        return False
    own = shape[max(lead, 0) :]
    return all(n in (1, m) for n, m in zip(own[::-1], to[::-1], strict=False))


@op(
    name="one_hot", key="one_hot.static", function=False, out=False, namespaces=("nn.functional",),
    differentiable=False,
)  # fmt: skip
def one_hot(input: Array, num_classes: int) -> Array:
    """0 everywhere but 1 at the class, int64, in a new last dim. The classes' range is not checked."""
    if input.dtype != np.int64:
        raise RuntimeError("one_hot is only applicable to index tensor of type LongTensor.")
    if num_classes < 1:
        raise RuntimeError("Class values must be smaller than num_classes.")
    return (input[..., None] == jnp.arange(num_classes, dtype=np.int64)).astype(np.int64)
