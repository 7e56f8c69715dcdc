"""From a list of samples to a batch: arrays are stacked, containers are collated member by member."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping, MutableMapping, MutableSequence, Sequence
from typing import Any

import numpy as np

import jtorch as torch

_Registry = dict[Any, Callable[..., Any]]
_NUMERIC = frozenset(map(np.dtype, ("?", "b", "h", "i", "q", "B", "H", "I", "Q", "e", "f", "d", "F", "D")))
_UNFIT = "default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; found {}"


class Packed:
    """An array that becomes a tensor when it is unpickled: how a worker returns one without holding JAX."""

    __slots__ = ("array",)

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpack, (self.array,)


def _unpack(array: np.ndarray) -> Any:
    return torch.from_numpy(array)


_packing = False


@contextlib.contextmanager
def packing() -> Iterator[None]:
    """Within, batches are made of Packed arrays instead of tensors. For workers whose result is sent as it is."""
    global _packing
    _packing = True
    try:
        yield
    finally:
        _packing = False


def to_tensor(array: np.ndarray) -> Any:
    """A tensor over a fresh array (or a Packed one in a worker)."""
    return Packed(array) if _packing else torch.from_numpy(array)


def host_view(tensor: Any) -> np.ndarray | None:
    """The tensor's memory as an array, for reading, where it lies on the host and no gradient flows; else None.

    None too for a tensor still to be computed, unless its batch is for another process, and for element types that NumPy
    has not of its own (bfloat16, float8).
    """
    if type(tensor) is not torch.Tensor or tensor.requires_grad or tensor.device.type != "cpu":
        return None
    if tensor._pending() and not _packing:
        return None
    array = tensor._host()
    return array if array.dtype in _NUMERIC else None


def _alike(arrays: Sequence[Any]) -> bool:
    first = arrays[0]
    return first.dtype in _NUMERIC and all(a.shape == first.shape and a.dtype == first.dtype for a in arrays)


def _collate_tensors(batch: Sequence[Any], *, collate_fn_map: _Registry | None = None) -> Any:
    # One NumPy stack and one placement, instead of a program over N small inputs; samples that are still to be computed
    # are stacked where they are.
    views = []
    for tensor in batch:
        view = host_view(tensor) if type(tensor) is torch.Tensor else None
        if view is None:
            return torch.stack(batch, 0)
        views.append(view)
    return to_tensor(np.stack(views)) if _alike(views) else torch.stack(batch, 0)


def _collate_arrays(batch: Sequence[Any], *, collate_fn_map: _Registry | None = None) -> Any:
    first = batch[0]
    if first.dtype.kind in "SUO":
        raise TypeError(_UNFIT.format(first.dtype))
    plain = all(type(a) is np.ndarray and all(stride >= 0 for stride in a.strides) for a in batch)
    if plain and _alike(batch):
        return to_tensor(np.stack(batch))
    if first.shape == ():
        return torch.as_tensor(batch)
    return collate([torch.as_tensor(a) for a in batch], collate_fn_map=collate_fn_map)


def _collate_numpy_scalars(batch: Sequence[Any], *, collate_fn_map: _Registry | None = None) -> Any:
    if batch[0].dtype in _NUMERIC and all(type(x) is type(batch[0]) for x in batch):
        return to_tensor(np.array(batch))
    return torch.as_tensor(batch)


def _collate_floats(batch: Sequence[Any], *, collate_fn_map: _Registry | None = None) -> Any:
    if all(type(x) is float for x in batch):
        return to_tensor(np.array(batch, np.float64))
    return torch.tensor(batch, dtype=torch.float64)


def _collate_ints(batch: Sequence[Any], *, collate_fn_map: _Registry | None = None) -> Any:
    kind = type(batch[0])
    if kind in (int, bool) and all(type(x) is kind and -(2**63) <= x < 2**63 for x in batch):
        return to_tensor(np.array(batch, np.int64 if kind is int else np.bool_))
    return torch.tensor(batch)


def _collate_text(batch: Sequence[Any], *, collate_fn_map: _Registry | None = None) -> Any:
    return batch


_WITHOUT_TENSORS: _Registry = {
    np.ndarray: _collate_arrays,
    (np.bool_, np.number, np.object_): _collate_numpy_scalars,
    float: _collate_floats,
    int: _collate_ints,
    str: _collate_text,
    bytes: _collate_text,
}


def __getattr__(name: str) -> Any:
    # Made at first use, because the key for tensors needs the Tensor class.
    if name == "default_collate_fn_map":
        registry = globals()[name] = {torch.Tensor: _collate_tensors, **_WITHOUT_TENSORS}
        return registry
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _registry() -> _Registry:
    # In a worker that has not loaded jtorch there are no tensors, and asking for their class would load it.
    if "_after_load" in vars(torch):
        return _WITHOUT_TENSORS
    return globals().get("default_collate_fn_map") or __getattr__("default_collate_fn_map")


def _is_namedtuple(data: Any) -> bool:
    return isinstance(data, tuple) and hasattr(data, "_fields")


def _like_mapping(original: Any, content: dict[Any, Any]) -> Any:
    """`content` in a mapping of the original's type where that can be made, else the plain dict."""
    try:
        if isinstance(original, MutableMapping):
            made = copy.copy(original)
            made.update(content)
            return made
        return type(original)(content)
    except TypeError:
        return content


def _like_sequence(original: Any, content: list[Any]) -> Any:
    """`content` in a sequence of the original's type where that can be made, else the plain list."""
    try:
        if isinstance(original, MutableSequence):
            made = copy.copy(original)
            for position, value in enumerate(content):
                made[position] = value
            return made
        return type(original)(content)
    except TypeError:
        return content


def collate(batch: Any, *, collate_fn_map: _Registry | None = None) -> Any:
    """Collates by the first sample's type: looked up in `collate_fn_map`, then as a container.

    Each function of the map is called as `fn(batch, collate_fn_map=...)`. Mappings, namedtuples and sequences are
    collated member by member; types not found raise TypeError, sequences of unequal length RuntimeError.
    """
    first = batch[0]
    kind = type(first)
    if collate_fn_map is not None:
        if kind in collate_fn_map:
            return collate_fn_map[kind](batch, collate_fn_map=collate_fn_map)
        for key, fn in collate_fn_map.items():
            if isinstance(first, key):
                return fn(batch, collate_fn_map=collate_fn_map)
    if isinstance(first, Mapping):
        members = {key: collate([d[key] for d in batch], collate_fn_map=collate_fn_map) for key in first}
        return _like_mapping(first, members)
    if _is_namedtuple(first):
        columns = zip(*batch, strict=False)
        return kind(*(collate(column, collate_fn_map=collate_fn_map) for column in columns))
    if isinstance(first, Sequence):
        if any(len(sample) != len(first) for sample in batch):
            raise RuntimeError("each element in list of batch should be of equal size")
        columns = zip(*batch, strict=True)
        members = [collate(column, collate_fn_map=collate_fn_map) for column in columns]
        return members if isinstance(first, tuple) else _like_sequence(first, members)
    raise TypeError(_UNFIT.format(kind))


def default_collate(batch: Any) -> Any:
    """A list of samples as one batch with a new first dimension.

    Tensors, NumPy arrays and numbers become tensors (Python floats float64, ints int64); strings and bytes stay as
    they are; mappings, namedtuples and sequences are collated member by member, tuples becoming lists.
    """
    return collate(batch, collate_fn_map=_registry())


def default_convert(data: Any) -> Any:
    """NumPy arrays and scalars as tensors, inside containers too; everything else as it is."""
    if isinstance(data, np.ndarray):
        # As in torch, NumPy's own arrays only: a masked or otherwise special array stays what it is.
        if data.dtype.kind in "SUO" or type(data).__module__ != "numpy":
            return data
        if _packing and data.dtype in _NUMERIC and all(stride >= 0 for stride in data.strides):
            return Packed(data)
        return torch.as_tensor(data)
    if isinstance(data, (np.bool_, np.number)):
        return to_tensor(np.array(data)) if data.dtype in _NUMERIC else torch.as_tensor(data)
    if isinstance(data, Mapping):
        return _like_mapping(data, {key: default_convert(data[key]) for key in data})
    if _is_namedtuple(data):
        return type(data)(*(default_convert(member) for member in data))
    if isinstance(data, tuple):
        return [default_convert(member) for member in data]
    if isinstance(data, Sequence) and not isinstance(data, (str, bytes)):
        return _like_sequence(data, [default_convert(member) for member in data])
    return data
