"""Knowing of every call of an operation, at no cost while nobody asks.

While a profile is on, the generated functions get other code, which tells the recorder and calls the function as it was.
The function objects stay the same ones, so this reaches every reference that a user may hold.
"""

from __future__ import annotations

from types import FunctionType
from typing import Any

from jtorch._ops.registry import Op
from jtorch._profiling import names
from jtorch._runtime import executor
from jtorch._tensor.base import Tensor
from jtorch._tensor.derive import GENERATED, ON_GENERATED


def _front() -> Any:
    scope: dict[str, Any] = {}
    source = "def operation(*args, **kwargs):\n    return _called(OP, _plain, args, kwargs)\n"
    exec(compile(source, "<jtorch operation in a profile>", "exec"), scope)
    return scope["operation"].__code__


_FRONT = _front()
_names: dict[Op, str] = {}


def _called(op: Op, plain: FunctionType, args: tuple, kwargs: dict) -> Any:
    recorder = executor.T.observer
    if recorder is None:
        return plain(*args, **kwargs)
    name = _names.get(op)
    if name is None:
        name = _names[op] = names.of_op(op)
    span = recorder.begin(name, "op")
    if recorder.shapes:
        span.shapes = [_shape(a) for a in (*args, *kwargs.values()) if _counts(a)]
    try:
        return plain(*args, **kwargs)
    finally:
        recorder.end(span)


def _counts(x: Any) -> bool:
    return x is not None and not isinstance(x, str)


def _shape(x: Any) -> list:
    if isinstance(x, Tensor):
        return list(x.shape)
    if isinstance(x, list | tuple) and any(isinstance(t, Tensor) for t in x):
        return [_shape(t) for t in x]
    return []


def _cover(f: Any) -> None:
    scope = f.__globals__
    if "_plain" not in scope:
        plain = FunctionType(f.__code__, scope, f.__name__, f.__defaults__, f.__closure__)
        plain.__kwdefaults__, plain.__qualname__ = f.__kwdefaults__, f.__qualname__
        scope["_plain"], scope["_called"] = plain, _called
    f.__code__ = _FRONT


def put_in_front() -> None:
    """Has every operation's calls told to the recorder, also of those operations that are made from now on."""
    for f in GENERATED:
        _cover(f)
    ON_GENERATED.append(_cover)


def take_away() -> None:
    """Leaves the operations as they were."""
    ON_GENERATED.remove(_cover)
    for f in GENERATED:
        f.__code__ = f.__globals__["_plain"].__code__
