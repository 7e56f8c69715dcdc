"""A level: the part of the autograd graph that one call of a transformation takes derivatives along.

Its inputs are fresh leaves. What it gives belongs to the graph outside only where it hangs on something of the outside:
on a level around it that still runs, or on a tensor of the user's that requires grad.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator
from typing import Any

from jtorch._autograd.graph import node_of
from jtorch._tensor.storage import value_of
from jtorch._tensor.tensor import Tensor
from jtorch.func import _tree

_own: weakref.WeakSet = weakref.WeakSet()  # the leaf nodes of all levels
_running: list[set] = []  # those of the levels that run, innermost last


class Level:
    """Used as `with Level() as level`; `fresh` and `settled` say what goes in and what comes out."""

    def __init__(self) -> None:
        self._leaves: set = set()

    def __enter__(self) -> Level:
        _running.append(self._leaves)
        return self

    def __exit__(self, *exc: Any) -> None:
        _running[:] = [leaves for leaves in _running if leaves is not self._leaves]

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """A block in which the level counts as ended."""
        self.__exit__()
        try:
            yield
        finally:
            self.__enter__()

    def fresh(self, tree: Any) -> Any:
        """The tensors of a nest as inputs of this level. ValueError for what is no tensor."""
        return _tree.over(self._fresh, tree)

    def _fresh(self, x: Any) -> Tensor:
        if not isinstance(x, Tensor):
            raise ValueError(f"Thing passed to transform API must be Tensor, got {type(x)}")
        if not (x.is_floating_point() or x.is_complex()):
            raise RuntimeError("only Tensors of floating point dtype can require gradients")
        if x.requires_grad:
            return x.view_as(x)
        leaf = x.detach().requires_grad_()
        node = node_of(value_of(leaf))
        _own.add(node)
        self._leaves.add(node)
        return leaf


def outer_leaves(results: list[Tensor]) -> list[Any]:
    """The leaf nodes outside of finished levels that results hang on."""
    found, seen = [], set()
    stack: list[Any] = [node_of(value_of(t)) for t in results if isinstance(t, Tensor) and t.requires_grad]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node.kind == 1 and (node not in _own or any(node in level for level in _running)):
            found.append(node)
        stack += [edge[0] for edge in node.edges if edge is not None]
    return found


def settled(tree: Any) -> Any:
    """The results of a level that has ended."""
    return _tree.over(lambda t: t.detach() if isinstance(t, Tensor) and not outer_leaves([t]) else t, tree)
