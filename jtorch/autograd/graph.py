"""Looking at and into the graph: saved-tensor hooks, nodes, edges, hooks on several tensors."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from jtorch._autograd import graph as _graph
from jtorch._autograd.graph import Edges as Node  # noqa: F401 (torch.autograd.graph.Node)
from jtorch._autograd.graph import node_of
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
        raise RuntimeError("It is not possible to get the gradient edge for a Tensor that does not require gradients.")
    v = value_of(tensor)
    node = node_of(v)
    assert node is not None
    return GradientEdge(node, v.nr)


def register_multi_grad_hook(tensors: Sequence[Tensor], fn: Callable, *, mode: str = "all"):
    """Calls `fn` when the gradients of all tensors are there (`mode="all"`: with a list), or with the first ("any")."""
    if mode not in ("all", "any"):
        raise ValueError(f"Expects mode to be one of ('all', 'any') but got {mode}")
    found: dict[int, Any] = {}
    fired = [False]

    def hook(i):
        def one(grad):
            if mode == "any":
                if not fired[0]:
                    fired[0] = True
                    fn(grad)
                return
            found[i] = grad
            if len(found) == len(tensors):
                grads = [found.get(k) for k in range(len(tensors))]
                found.clear()
                fn(grads)

        return one

    handles = [t.register_hook(hook(i)) for i, t in enumerate(tensors)]

    class Handle:
        def remove(self) -> None:
            for h in handles:
                h.remove()

        def __enter__(self):
            return self

        def __exit__(self, *exc: object) -> None:
            self.remove()

    return Handle()


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
