"""Lists, tuples, ranges and other sequences used as an index, as the array they index as."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Set
from typing import Any

import numpy as np

_LOWEST, _HIGHEST = -(2**63), 2**63 - 1


def type_name(value: object) -> str:
    """The name of a value's type as torch's messages give it: NumPy's come with their module."""
    kind = type(value)
    return f"numpy.{kind.__name__}" if isinstance(value, np.generic) else kind.__name__


def sequence_to_array(
    sequence: Any,
    is_tensor: Callable[[object], bool],
    tensor_info: Callable[[object], tuple[tuple[int, ...], str]],
) -> np.ndarray:
    """A bool array if every number in the (nested) sequence is a bool, else an int64 one; floats lose their fraction.

    Tensors of one element count as their value. Errors are torch's: ValueError for ragged lists and for integers
    beyond 64 bits, TypeError for text, RuntimeError for objects that are no numbers.
    """
    if isinstance(sequence, range):
        return np.arange(sequence.start, sequence.stop, sequence.step, dtype=np.int64)
    if isinstance(sequence, list | tuple):
        kinds = set(map(type, sequence))
        if kinds == {bool}:
            return np.array(sequence, dtype=np.bool_)
        if kinds == {int}:
            return _int64(sequence)
    shape = _shape_of(sequence)
    leaves: list[Any] = []
    _collect(sequence, shape, 0, leaves)
    values = [_number(leaf, is_tensor, tensor_info) for leaf in leaves]
    if values and all(type(value) is bool for value in values):
        return np.array(values, dtype=np.bool_).reshape(shape)
    return _int64([_truncated(value) for value in values]).reshape(shape)


def _int64(values: Any) -> np.ndarray:
    try:
        return np.array(values, dtype=np.int64)
    except OverflowError:
        raise ValueError("Overflow when unpacking long long") from None


def _is_sequence(value: Any) -> bool:
    if isinstance(value, str | bytes):
        raise TypeError(f"new(): invalid data type '{'str' if isinstance(value, str) else 'bytes'}'")
    if isinstance(value, list | tuple | range):
        return True
    if isinstance(value, np.ndarray):
        return value.ndim > 0
    kind = type(value)
    # Arrays of other libraries (jax's, tensors) are told apart from sequences of numbers by having an `item`.
    return (
        hasattr(kind, "__getitem__")
        and hasattr(kind, "__len__")
        and not hasattr(kind, "item")
        and not isinstance(value, Mapping | Set)
    )


def _shape_of(sequence: Any) -> tuple[int, ...]:
    shape = []
    while _is_sequence(sequence):
        shape.append(len(sequence))
        if not shape[-1]:
            break
        sequence = sequence[0]
    return tuple(shape)


def _collect(value: Any, shape: tuple[int, ...], depth: int, leaves: list[Any]) -> None:
    if depth == len(shape):
        if _is_sequence(value):
            raise TypeError(f"'{type_name(value)}' object cannot be interpreted as an integer")
        leaves.append(value)
        return
    if not _is_sequence(value):
        raise TypeError("not a sequence")
    if len(value) != shape[depth]:
        raise ValueError(f"expected sequence of length {shape[depth]} at dim {depth} (got {len(value)})")
    for part in value:
        _collect(part, shape, depth + 1, leaves)


def _number(leaf: Any, is_tensor: Callable[[object], bool], tensor_info: Callable[..., Any]) -> bool | int | float:
    if isinstance(leaf, bool | np.bool_):
        return bool(leaf)
    if isinstance(leaf, int | np.integer):
        return int(leaf)
    if isinstance(leaf, float | np.floating):
        return float(leaf)
    if is_tensor(leaf):
        shape, dtype = tensor_info(leaf)
        if math.prod(shape) != 1 or not (dtype == "bool" or "int" in dtype):
            raise TypeError("only integer tensors of a single element can be converted to an index")
        return leaf.item()
    if isinstance(leaf, np.ndarray):
        return _number(leaf.item(), is_tensor, tensor_info)
    if isinstance(leaf, complex | np.complexfloating):
        raise TypeError("'complex' object cannot be interpreted as an integer")
    raise RuntimeError(f"Could not infer dtype of {type_name(leaf)}")


def _truncated(value: float) -> int:
    if isinstance(value, float):
        if not (math.isfinite(value) and _LOWEST <= value <= _HIGHEST):
            raise RuntimeError("value cannot be converted to type int64 without overflow")
        return int(value)
    return int(value)
