"""Operations over lists of tensors whose results are written to tensors all at once: optimizer steps."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from jtorch._runtime import executor
from jtorch._runtime.executor import T, Value
from jtorch._tensor.base import Tensor
from jtorch._tensor.derive import FUNCTIONS, cast
from jtorch._tensor.storage import _dirty, alias, value_of, write

_assign = Tensor._value.__set__  # type: ignore[attr-defined]
LONG = 8  # steps: from here on an optimizer's step is where the trace is cut, so that every round is the same trace


def run_inplace(key: str, targets: Sequence[Tensor], *args, **kwargs) -> None:
    """Runs the operation `key` outside the graph and writes its results, in order, over `targets`.

    The write is one step: an interrupt leaves either all targets as they were or all with their new values.
    """
    # These operations are declared not differentiable: their results are outside the graph in any grad mode.
    results = FUNCTIONS[key](*args, **kwargs)
    fresh: list[Value] = []
    alone = True
    for t, r in zip(targets, results if isinstance(results, tuple) else (results,), strict=True):
        old, v = value_of(t), r._value
        if v.aval is not old.aval:
            v = alias(cast(v, old.aval.dtype), old.aval.strides)
        fresh.append(v)
        alone = alone and (t._storage is None or is_sole(t, old))
    if alone:
        _write_alone(targets, fresh)
    else:
        executor.under(False, lambda: [write(t, v) for t, v in zip(targets, fresh, strict=True)], T.inference)
    if T.region is not None:
        T.region.stepped = True
    elif T.at.depth > LONG:
        executor.flush()


def is_sole(t: Tensor, v: Value) -> bool:
    """Whether a tensor that has a storage is the only one left on it, and covers it."""
    s = t._storage
    if len(s.aliases) > 1:
        s.aliases[:] = [r for r in s.aliases if r() is not None]
    return len(s.aliases) == 1 and s.aval is v.aval and t._offset == 0


def _write_alone(targets: Sequence[Tensor], fresh: list[Value]) -> None:
    """Writes to tensors that share their memory with nobody.

    No marks are put into the trace: that its step writes its inputs is a fact of the operation.
    """
    olds = [t._value for t in targets]
    for old, v in zip(olds, fresh, strict=True):
        node = old.node
        if node is not None:
            v.node = node
            if v.slot >= 0:
                T.nodes_in[v.slot] = node, 0
    # One C call: no signal handler comes between two of its assignments.
    deque(map(_assign, targets, fresh), maxlen=0)
    for t, v, old in zip(targets, fresh, olds, strict=True):
        _dirty(old, t, marked=False)
        s = t._storage
        if s is None:
            t._alone += 1
        else:
            s.value = v
            s.version += 1
