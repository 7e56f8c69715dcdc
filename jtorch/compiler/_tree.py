"""Arguments and results as a structure and the tensors in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from jtorch._tensor.tensor import Tensor

_PLAIN = (int, float, bool, str, bytes, complex, type(None))


_flat: dict[tuple, bool] = {}  # types of arguments -> whether all are tensors


class _Hole:
    """Stands where a tensor was."""


_HOLE = _Hole()


class Tree:
    """Nested tuples, lists and dicts: `key` says what they are like, `leaves` are the tensors in order, `others` the objects."""

    __slots__ = ("key", "leaves", "others", "shape")

    @classmethod
    def of(cls, x: Any) -> Tree:
        """Takes a structure apart. What is neither a container, a tensor nor a plain value counts by its identity."""
        t = cls()
        t.leaves, t.others = [], []
        t.shape, t.key = _split(x, t.leaves, t.others)
        places: dict[int, int] = {}
        same = [places.setdefault(id(leaf), i) for i, leaf in enumerate(t.leaves)]
        if len(places) != len(same):  # a tensor that is there twice is a structure of its own
            t.key = (t.key, *same)
        return t

    @classmethod
    def of_call(cls, args: tuple, kwargs: dict) -> Tree:
        """Takes a call's arguments apart; at once where they are so many tensors."""
        kinds = tuple(map(type, args))
        flat = _flat.get(kinds)
        if flat is None:
            flat = _flat[kinds] = all(issubclass(kind, Tensor) for kind in kinds)
        if not flat or kwargs or len(set(map(id, args))) != len(args):
            return cls.of((args, kwargs))
        t = cls()
        t.key, t.leaves, t.others = kinds, list(args), []
        return t

    def is_one(self) -> bool:
        """Whether the structure is a tensor and nothing else."""
        return self.shape is _HOLE

    def build(self, leaves: list) -> Any:
        """The structure with other tensors in it."""
        return _join(self.shape, iter(leaves))


def _split(x, leaves: list, others: list):
    kind = type(x)
    if isinstance(x, Tensor):
        leaves.append(x)
        return _HOLE, kind
    if kind in _PLAIN:
        return x, (kind, x if x and kind is not complex else repr(x))  # 0.0 and -0.0 are equal, but not the same
    if isinstance(x, tuple):
        parts = [_split(e, leaves, others) for e in x]
        shape = (
            tuple(p[0] for p in parts) if kind is tuple or not hasattr(x, "_fields") else kind(*(p[0] for p in parts))
        )
        return shape, (kind, *(p[1] for p in parts))
    if kind is list:
        parts = [_split(e, leaves, others) for e in x]
        return [p[0] for p in parts], (list, *(p[1] for p in parts))
    if kind is dict:
        parts = {k: _split(v, leaves, others) for k, v in x.items()}
        return {k: p[0] for k, p in parts.items()}, (dict, *((type(k), k, p[1]) for k, p in parts.items()))
    others.append(x)
    return x, (id(x),)


def _join(shape, leaves):
    if shape is _HOLE:
        return next(leaves)
    kind = type(shape)
    if isinstance(shape, tuple):
        parts = [_join(e, leaves) for e in shape]
        return kind(*parts) if hasattr(shape, "_fields") else tuple(parts)
    if kind is list:
        return [_join(e, leaves) for e in shape]
    if kind is dict:
        return {k: _join(v, leaves) for k, v in shape.items()}
    return shape


def containers(x: Any) -> Iterator[list | dict]:
    """The lists and dicts in a structure."""
    if isinstance(x, list | dict):
        yield x
    if isinstance(x, tuple | list | dict):
        for e in x.values() if isinstance(x, dict) else x:
            yield from containers(e)
