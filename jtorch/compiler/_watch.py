"""Running a function while watching what it does besides computing tensors.

A compiled function may be replayed without running its Python only if running it again would do nothing but the same
tensor operations. So its first calls are watched: which Python functions ran, and which C functions they called. What
such a call might do to the world outside (print, draw a random number, tell the time) forbids the replay. Python state
that changes is found by comparing snapshots (see `_state`), so methods of lists and dicts are no obstacle.

jtorch's own frames, and JAX's, are taken on trust.
"""

from __future__ import annotations

import builtins
import math
import os
import sys
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from types import CodeType
from typing import Any

import jax
import numpy as np

_HERE = os.path.dirname(os.path.dirname(__file__)) + os.sep
_SITES = {os.path.dirname(os.path.dirname(str(module.__file__))) for module in (jax, np)}
# What jtorch is built on, and what that is built on.
_TRUSTED = tuple(
    os.path.join(site, package) + os.sep
    for site in _SITES
    for package in ("jax", "jaxlib", "numpy", "ml_dtypes", "opt_einsum", "scipy")
) + (_HERE, "<jtorch", "<frozen")  # fmt: skip
_STDLIB = os.path.dirname(os.__file__) + os.sep
_CONTAINERS = (list, dict, set, frozenset, tuple, str, bytes, int, float, complex, deque, OrderedDict, defaultdict)
_PURE = frozenset((
    "abs", "all", "any", "callable", "chr", "divmod", "format", "getattr", "hasattr", "hash", "id", "isinstance", "issubclass",
    "iter", "len", "max", "min", "ord", "pow", "repr", "round", "setattr", "sorted", "sum",
))  # fmt: skip
_trusted: dict[str, bool] = {}


def trusted(code: CodeType) -> bool:
    """Whether code is jtorch's own, or of what jtorch is built on."""
    name = code.co_filename
    found = _trusted.get(name)
    if found is None:
        found = _trusted[name] = name.startswith(_TRUSTED)
    return found


def _users(frame) -> bool:
    """Whether a frame is the user's: not jtorch's, nor one that jtorch called, nor one of a module being imported."""
    inner = True  # still in Python's library, on the way out to whoever called it
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith("<frozen importlib"):
            return False
        if inner:
            if trusted(frame.f_code):
                return False
            # Code made from text, such as a dataclass's methods, is whose it is that calls it.
            inner = name == "<string>" or (name.startswith(_STDLIB) and "site-packages" not in name)
        frame = frame.f_back
    return True


class Watch:
    """What was seen: the user's code objects with their globals, and the first thing that forbids a replay."""

    def __init__(self):
        self.codes: dict[CodeType, dict] = {}
        self.reason: str | None = None

    def __call__(self, frame, event: str, arg) -> None:
        if event == "call":
            if not trusted(frame.f_code) and frame.f_code not in self.codes and _users(frame):
                self.codes.setdefault(frame.f_code, frame.f_globals)
        elif (
            event == "c_call"
            and self.reason is None
            and not trusted(frame.f_code)
            and not _is_pure(arg)
            and _users(frame)
        ):
            name = getattr(arg, "__qualname__", repr(arg))
            self.reason = f"it calls {name}() at {frame.f_code.co_filename}:{frame.f_lineno}"

    def run(self, fn: Callable, args: tuple, kwargs: dict) -> Any:
        """Calls the function, watched."""
        if sys.getprofile() is not None:
            self.reason = "a profiler is watching already"
            return fn(*args, **kwargs)
        sys.setprofile(self)
        try:
            return fn(*args, **kwargs)
        finally:
            sys.setprofile(None)


def _is_pure(fn) -> bool:
    owner = getattr(fn, "__self__", None)
    if owner is None:  # an unbound method of a C type
        owner = getattr(fn, "__objclass__", None)
    if owner is builtins:
        return fn.__name__ in _PURE
    if owner is math or owner is object or fn is sys.setprofile:
        return True
    return owner in _CONTAINERS if isinstance(owner, type) else isinstance(owner, _CONTAINERS)


def user_line() -> str:
    """Where in the user's code we are: `file:line` of the innermost frame that is not jtorch's."""
    frame = sys._getframe()
    while frame is not None and trusted(frame.f_code):
        frame = frame.f_back
    return "?" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"
