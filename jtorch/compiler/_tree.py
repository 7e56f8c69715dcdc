"""Arguments and results as a structure and the tensors in it."""

from __future__ import annotations

from typing import Any

from jtorch._tensor.tensor import Tensor

_PLAIN = (int, float, bool, str, bytes, complex, type(None))


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

    def build(self, leaves: list) -> Any:
        """The structure with other tensors in it."""
        return _join(self.shape, iter(leaves))


def _split(x, leaves: list, others: list):
    kind = type(x)
    if isinstance(x, Tensor):
        leaves.append(x)
        return _HOLE, _HOLE
    if kind in _PLAIN:
        return x, (kind, x if x else repr(x))  # 0.0 and -0.0 are equal, but not the same
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
        return {k: p[0] for k, p in parts.items()}, (dict, *((k, p[1]) for k, p in parts.items()))
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
