"""Operations over lists of tensors whose results are written to tensors all at once: optimizer steps, running statistics."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Sequence
from sys import getrefcount

from jtorch._autograd.graph import Overwritten
from jtorch._ops.registry import OPS
from jtorch._runtime import executor
from jtorch._runtime.executor import T, Value
from jtorch._tensor.base import Tensor
from jtorch._tensor.derive import cast, generate
from jtorch._tensor.storage import _dirty, alias, value_of, version_of, write

_assign = Tensor._value.__set__  # type: ignore[attr-defined]
LONG = 8  # steps: from here on an optimizer's step is where the trace is cut, so that every round is the same trace


@functools.cache
def _function(key: str) -> Callable[..., list[Value]]:
    return generate(OPS[key], raw=True)


def run_inplace(key: str, targets: Sequence[Tensor], *args, **kwargs) -> None:
    """`overwrite` as the end of a training step, which is where the trace is cut."""
    overwrite(key, targets, *args, **kwargs)
    if T.region is not None:
        T.region.stepped = True
    elif T.at.depth > LONG:
        executor.flush()


def overwrite(key: str, targets: Sequence[Tensor], *args, **kwargs) -> None:
    """Runs the operation `key` outside the graph and writes its results, in order, over `targets`.

    The write is one step: an interrupt leaves either all targets as they were or all with their new values.
    """
    # These operations are declared not differentiable: their results are outside the graph in any grad mode.
    fresh = _function(key)(*args, **kwargs)
    storages = [t._storage for t in targets]
    for t, s in zip(targets, storages, strict=True):
        if s is not None and not is_sole(t, value_of(t)):
            executor.under(False, lambda: _write_each(targets, fresh), T.inference)
            break
    else:
        _write_alone(targets, storages, fresh)


def _as(v: Value, old: Value) -> Value:
    """A result in the dtype and with the strides of what it replaces."""
    return v if v.aval is old.aval else alias(cast(v, old.aval.dtype), old.aval.strides)


def _write_each(targets: Sequence[Tensor], fresh: list[Value]) -> None:
    for t, v in [(t, _as(v, value_of(t))) for t, v in zip(targets, fresh, strict=True)]:
        write(t, v)


def is_sole(t: Tensor, v: Value) -> bool:
    """Whether a tensor that has a storage is the only one left on it, and covers it."""
    s = t._storage
    if len(s.aliases) > 1:
        s.aliases[:] = [r for r in s.aliases if r() is not None]
    return len(s.aliases) == 1 and s.aval is v.aval and t._offset == 0


def _write_alone(targets: Sequence[Tensor], storages: list, fresh: list[Value]) -> None:
    """Writes to tensors that share their memory with nobody.

    No marks are put into the trace: that its step writes its inputs is a fact of the operation.
    """
    olds = [t._value or value_of(t) for t in targets]
    plain = True  # whether nobody but the trace may ask for what was overwritten
    for i, (old, v) in enumerate(zip(olds, fresh, strict=True)):
        if v.aval is not old.aval:
            fresh[i] = v = _as(v, old)
        node = old.node
        if node is not None:
            if node.kind == 2:
                plain = False
            v.node = node
            if v.slot >= 0:
                T.nodes_in[v.slot] = node, 0
        if old.views is not None:
            plain = False
    old = None
    # One C call: no signal handler comes between two of its assignments.
    deque(map(_assign, targets, fresh), maxlen=0)
    for s, v in zip(storages, fresh, strict=True):
        if s is not None:
            s.value = v
    if plain and max(map(getrefcount, olds), default=0) <= ALONE:
        slots = [v.slot for v in olds]
        word = Overwritten(slots, fresh, targets, [version_of(t) for t in targets])
        T.dirty.update([(slot, word) for slot in slots if slot >= 0])
    else:
        for t, old in zip(targets, olds, strict=True):
            _dirty(old, t, marked=False)
    for t, s in zip(targets, storages, strict=True):
        if s is None:
            t._alone += 1
        else:
            s.version += 1


ALONE = max(map(getrefcount, [object()]))  # what `_write_alone` counts where nobody else holds an old value
