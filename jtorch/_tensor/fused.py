"""Operations over lists of tensors whose results are written to tensors all at once: optimizer steps."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from jtorch._runtime import executor
from jtorch._runtime.executor import T, Value
from jtorch._tensor.base import Tensor
from jtorch._tensor.derive import cast, values_of
from jtorch._tensor.storage import _dirty, alias, value_of, write

_assign = Tensor._value.__set__  # type: ignore[attr-defined]
LONG = 64  # steps: from here on an optimizer's step is a good place to cut the trace


def run_inplace(key: str, targets: Sequence[Tensor], *args, **kwargs) -> None:
    """Runs the operation `key` outside the graph and writes its results, in order, over `targets`.

    The write is one step: an interrupt leaves either all targets as they were or all with their new values.
    """
    enabled = T.grad
    executor.set_grad(False)
    try:
        results = values_of(key, *args, **kwargs)
        fresh: list[Value] = []
        for t, v in zip(targets, results, strict=True):
            old = value_of(t)
            if v.aval is not old.aval:
                v = alias(cast(v, old.aval.dtype), old.aval.strides)
            fresh.append(v)
        if all(t._storage is None for t in targets):
            _write_alone(targets, fresh)
        else:
            for t, v in zip(targets, fresh, strict=True):
                write(t, v)
    finally:
        executor.set_grad(enabled)
    if T.at.depth > LONG:
        executor.flush()


def _write_alone(targets: Sequence[Tensor], fresh: list[Value]) -> None:
    """Writes to tensors that share their memory with nobody."""
    leaves = []
    for t, v in zip(targets, fresh, strict=True):
        old = t._value
        node = old.node
        if node is not None:
            v.node = node
            if v.slot >= 0:
                T.nodes_in[v.slot] = node, 0
                leaves.append(v.slot)
        if old.slot >= 0 or node is not None:
            _dirty(old, t)
    if leaves:
        executor.mark("leaves", *leaves)
    # One C call: no signal handler comes between two of its assignments.
    deque(map(_assign, targets, fresh), maxlen=0)
    for t in targets:
        t._alone += 1
