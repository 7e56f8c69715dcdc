"""Looking at and into the graph: saved-tensor hooks, nodes, edges, hooks on several tensors."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from jtorch._autograd import engine as _engine
from jtorch._autograd import graph as _graph
from jtorch._autograd.graph import Edges as Node  # noqa: F401 (torch.autograd.graph.Node)
from jtorch._autograd.graph import RemovableHandle, node_of
from jtorch._tensor.backward import GradientEdge as GradientEdge
from jtorch._tensor.base import Tensor
from jtorch._tensor.storage import value_of


class saved_tensors_hooks:
    """In the block, what the graph keeps of a tensor is `pack_hook(tensor)`; the backward gets it by `unpack_hook`."""

    def __init__(self, pack_hook: Callable[[Tensor], Any], unpack_hook: Callable[[Any], Tensor]):
        self.pack_hook, self.unpack_hook = pack_hook, unpack_hook

    def __enter__(self) -> None:
        from jtorch._runtime import executor

        executor.flush()  # what was recorded before is kept as it is
        _graph.saved_hooks.append((self.pack_hook, self.unpack_hook))
        self._mode = executor.execution("eager")  # hooks run as operations are called
        self._mode.__enter__()

    def __exit__(self, *exc: object) -> None:
        self._mode.__exit__(None, None, None)
        _graph.saved_hooks.pop()


class save_on_cpu(saved_tensors_hooks):
    """What the graph keeps of tensors is kept in the host's memory."""

    def __init__(self, pin_memory: bool = False, device_type: str = "cuda"):
        super().__init__(lambda t: (t.device, t.detach().cpu()), lambda kept: kept[1].to(kept[0]))


@contextlib.contextmanager
def disable_saved_tensors_hooks(error_message: str):
    """In the block, setting saved-tensor hooks is an error."""
    kept = saved_tensors_hooks.__enter__

    def refuse(self):
        raise RuntimeError(error_message)

    saved_tensors_hooks.__enter__ = refuse  # type: ignore[method-assign]
    try:
        yield
    finally:
        saved_tensors_hooks.__enter__ = kept  # type: ignore[method-assign]


def get_gradient_edge(tensor: Tensor) -> GradientEdge:
    """The place in the graph where a tensor's gradient is."""
    if not tensor.requires_grad:
        raise RuntimeError("It is not possible to get the gradient edge for a Tensor that does not require gradients")
    v = value_of(tensor)
    node = node_of(v)
    assert node is not None
    return GradientEdge(node, v.nr)


class _MultiHandle(RemovableHandle):
    """What takes the hooks on several tensors away."""

    def __init__(self, handles: Sequence[RemovableHandle]):
        self.handles = tuple(handles)

    def remove(self) -> None:
        for handle in self.handles:
            handle.remove()


def register_multi_grad_hook(tensors: Sequence[Tensor], fn: Callable, *, mode: str = "all"):
    """Calls `fn` when the gradients of all tensors are there (`mode="all"`: with a list), or with the first ("any")."""
    if mode not in ("all", "any"):
        raise ValueError(f"Expects mode to be one of ('all', 'any') but got {mode}")
    nodes = [node_of(value_of(t)) for t in tensors]
    assert all(node is not None for node in nodes), "Expected gradient function to be set"
    found: dict[int, Any] = {}
    run: list[Any] = [None]  # the backward that the gradients found belong to

    def hook(i):
        def one(grad):
            fresh = run[0] is not _engine.running
            if fresh:
                run[0] = _engine.running
                found.clear()
            found[i] = grad
            if mode == "any":
                if fresh:
                    fn(grad)
            elif len(found) == sum(node in _engine.running for node in nodes):
                fn([found.get(k) for k in range(len(tensors))])

        return one

    return _MultiHandle([t.register_hook(hook(i)) for i, t in enumerate(tensors)])


@contextlib.contextmanager
def allow_mutation_on_saved_tensors():
    """In the block, tensors the backward keeps may be written in place: it keeps values, so this costs nothing."""
    if _graph.mutation_allowed:
        raise RuntimeError("allow_mutation_on_saved_tensors contexts cannot be nested")
    _graph.mutation_allowed = True
    try:
        yield
    finally:
        _graph.mutation_allowed = False


def increment_version(tensor: Tensor | Sequence[Tensor]) -> None:
    """Counts a write to a tensor's memory that autograd did not see."""
    from jtorch._tensor.storage import _dirty

    for t in (tensor,) if isinstance(tensor, Tensor) else tensor:
        _dirty(value_of(t), t)
        if t._storage is None:
            t._alone += 1
        else:
            t._storage.version += 1
