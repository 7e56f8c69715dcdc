"""What a function can reach: the tensors it may read or write, and the Python state its behaviour hangs on.

`State` walks from a function's closure, globals and arguments through containers, modules, optimizers and the user's
objects. Every container on the way becomes a guard (the same entries, by identity), every tensor a cell that a program
may take its input from and write its result to. What cannot be looked into (a file, an iterator, an array of NumPy's)
raises `Opaque`: such a function is recorded anew at each call, never replayed.
"""

from __future__ import annotations

import enum
import functools
import re
import sys
import types
import weakref
from collections import deque
from itertools import chain
from operator import is_, methodcaller
from typing import Any

import numpy as np

from jtorch._runtime import dtypes
from jtorch._runtime.avals import Size
from jtorch._runtime.devices import device
from jtorch._runtime.generator import Generator
from jtorch._tensor.tensor import Tensor
from jtorch.compiler._watch import trusted
from jtorch.nn import Module
from jtorch.optim import Optimizer

LIMIT = 50_000  # entries: a function that can reach more is not replayed
_MISSING = object()
_LEAVES = (
    int, float, str, bytes, complex, type(None), type(Ellipsis), type(NotImplemented), enum.Enum, range, slice, re.Pattern,
    np.generic, np.dtype, dtypes.dtype, device, Size, weakref.ref, property, staticmethod, classmethod, Generator,
)  # fmt: skip
_STDLIB = sys.stdlib_module_names
# Of Python's library, the modules whose functions do the same each time and keep nothing.
_PURE = frozenset((
    "abc", "builtins", "cmath", "collections", "contextlib", "copy", "dataclasses", "enum", "functools", "itertools", "math",
    "numbers", "operator", "types", "typing",
))  # fmt: skip
WRAPPERS: set[type] = set()  # classes around a function `_fn` whose own state does not count


class Opaque(Exception):
    """Something whose state cannot be told; its text says what."""


class Entry:
    """A place that holds a tensor or a number: an entry of a dict or list, or a closure's cell."""

    __slots__ = ("container", "key")

    def __init__(self, container, key):
        self.container, self.key = container, key

    def get(self) -> Any:
        """What is there now; None where there is nothing."""
        c = self.container
        if type(c) is types.CellType:
            return c.cell_contents
        try:
            return c[self.key]
        except (KeyError, IndexError):
            return None

    def set(self, t) -> None:
        """Puts a tensor there."""
        c = self.container
        if type(c) is types.CellType:
            c.cell_contents = t
        else:
            c[self.key] = t


class State:
    """What was reached from some roots, as it was when it was walked."""

    def __init__(self, names: set[str]):
        self.names = names
        self.every = "getattr" in names or "__dict__" in names or "vars" in names
        self.containers: list[tuple[Any, tuple, tuple]] = []  # (dict, list or deque; its keys; its values)
        self.singles: list[tuple[Any, Any, Any]] = []  # (a namespace, name, value)
        self.spaces: list[tuple[Any, Any, int]] = []  # (a namespace, names that are looked up in it, how many it has)
        self.cells: list[tuple[Any, Any]] = []  # (closure cell, contents)
        self.tensors: list[Tensor] = []
        self.optimizers: list[Optimizer] = []
        self._seen: dict[int, Any] = {}

    # ---- walking -----------------------------------------------------------------------------------------------------

    def walk(self, root) -> None:
        """Takes in all that can be reached from an object."""
        stack = [root]
        while stack:
            x = stack.pop()
            if isinstance(x, _LEAVES) or type(x) is object or id(x) in self._seen:
                continue
            self._seen[id(x)] = x
            if len(self._seen) > LIMIT:
                raise Opaque(f"it can reach more than {LIMIT} objects")
            stack.extend(self._into(x))

    def walk_code(self, codes: dict) -> None:
        """Takes in the globals that code which ran looks up."""
        for code, scope in codes.items():
            self._seen[id(scope)] = scope
            for value in self._space(scope, frozenset(code.co_names)):
                self.walk(value)

    def _into(self, x):
        kind = type(x)
        if isinstance(x, Tensor):
            self.tensors.append(x)
            return () if x._grad is None else (x._grad,)
        if isinstance(x, dict):
            return self._container(x, tuple(x), tuple(x.values()))
        if isinstance(x, list | deque):
            return self._container(x, (), tuple(x))
        if isinstance(x, tuple):
            return x
        if isinstance(x, set | frozenset):
            return self._container(x, (), tuple(x)) if all(isinstance(e, _LEAVES) for e in x) else _opaque(x)
        if kind is types.FunctionType:
            return self._function(x)
        if kind is types.MethodType:
            return x.__func__, x.__self__
        if kind is types.CellType:
            try:
                contents = x.cell_contents
            except ValueError:
                return ()
            self.cells.append((x, contents))
            return (contents,)
        if kind is functools.partial:
            return x.func, x.args, x.keywords
        if kind in WRAPPERS:
            return (x._fn,)
        if isinstance(x, type):
            return self._class(x)
        if kind is types.ModuleType:
            return self._module(x)
        if kind in (types.BuiltinFunctionType, types.WrapperDescriptorType, types.MethodDescriptorType):
            home = (getattr(x, "__module__", None) or "builtins").partition(".")[0]
            return () if home in _STDLIB else _opaque(x)
        return self._instance(x)

    def _container(self, x, keys, values):
        self.containers.append((x, keys, values))
        return values

    def _space(self, space, names) -> list:
        """What a namespace has under the names that are looked up in it. That it has no others is guarded as well."""
        there = names & space.keys()
        self.spaces.append((space, names, len(there)))
        self.singles += [(space, name, space[name]) for name in there]
        return [space[name] for name in there]

    def _function(self, f):
        if trusted(f.__code__):
            return f.__closure__ or ()
        return (*(f.__closure__ or ()), *(f.__defaults__ or ()), *(f.__kwdefaults__ or {}).values())

    def _class(self, c):
        if c.__module__.partition(".")[0] in _STDLIB or c.__module__.partition(".")[0] in ("jtorch", "jax", "numpy"):
            return ()
        found = self._space(vars(c), self.names)
        return [f.__func__ if isinstance(f, staticmethod | classmethod) else f for f in found]

    def _module(self, m):
        home = m.__name__.partition(".")[0]
        if home in _PURE or home in ("jtorch", "jax"):
            return ()
        if home in _STDLIB and home != "__main__":
            raise Opaque(f"it uses the module {m.__name__}")
        return self._space(vars(m), self.names)

    def _instance(self, x):
        if isinstance(x, Optimizer):
            self.optimizers.append(x)
        space = getattr(x, "__dict__", None)
        if space is None or type(x).__module__.partition(".")[0] in ("numpy", "jax", "jaxlib"):
            return _opaque(x)
        if isinstance(x, Module | Optimizer) or self.every or trusted_type(type(x)):
            return (type(x), *self._container(space, tuple(space), tuple(space.values())))
        return (type(x), *self._space(space, self.names))

    def replaced(self, d: dict, key, value) -> None:
        """Notes that an entry of a dict was replaced by an equal one."""
        for i, (x, keys, values) in enumerate(self.containers):
            if x is d:
                values = tuple(value if k == key else v for k, v in zip(keys, values, strict=True))
                self.containers[i] = x, keys, values

    def reached(self, x) -> bool:
        """Whether an object was reached."""
        return id(x) in self._seen or isinstance(x, _LEAVES)

    # ---- comparing ---------------------------------------------------------------------------------------------------

    def changes(self) -> list[tuple[Entry, Any, Any]]:
        """The places whose contents are others now: (place, before, now)."""
        found = []
        for x, keys, values in self.containers:
            if len(x) != len(values):
                raise Opaque(f"it changes the size of a {type(x).__name__}")
            if isinstance(x, dict):
                if not all(map(is_, x, keys)):
                    raise Opaque("it changes the keys of a dict")
                found += [(Entry(x, k), v, x[k]) for k, v in zip(keys, values, strict=True) if x[k] is not v]
            elif isinstance(x, list):
                found += [(Entry(x, i), v, x[i]) for i, v in enumerate(values) if x[i] is not v]
            elif not all(map(is_, x, values)):
                raise Opaque(f"it changes a {type(x).__name__}")
        for space, name, value in self.singles:
            now = _lookup(space, name)
            if now is not value:
                if isinstance(space, types.MappingProxyType):
                    raise Opaque(f"it changes the class attribute {name!r}")
                found.append((Entry(space, name), value, now))
        for cell, value in self.cells:
            if cell.cell_contents is not value:
                found.append((Entry(cell, None), value, cell.cell_contents))
        return found


class Guard:
    """Tells whether Python's state is as it was when it was walked. `but` are (id of container, key) that may differ.

    Looked at in a few passes that run in C: calls wait for it.
    """

    __slots__ = ("cells", "containers", "dicts", "entries", "expected", "lists", "sizes", "spaces")

    def __init__(self, state: State, but: set[tuple[int, Any]]):
        loose = {container for container, _ in but}
        whole = [(x, v) for x, _, v in state.containers if id(x) not in loose]
        self.entries = [(s, n, v) for s, n, v in state.singles if (id(s), n) not in but]
        for x, keys, values in state.containers:
            if id(x) in loose:
                places = keys if isinstance(x, dict) else range(len(values))
                self.entries += [(x, k, v) for k, v in zip(places, values, strict=True) if (id(x), k) not in but]
        self.cells = [(c, v) for c, v in state.cells if (id(c), None) not in but]
        self.spaces = state.spaces
        self.containers = [x for x, _ in whole]
        self.sizes = [len(v) for _, v in whole]
        filled = [(x, v) for x, v in whole if v]
        self.dicts = [x for x, _ in filled if isinstance(x, dict)]
        self.lists = [x for x, _ in filled if not isinstance(x, dict)]
        self.expected = [e for x, v in filled if isinstance(x, dict) for e in v]
        self.expected += [e for x, v in filled if not isinstance(x, dict) for e in v]

    def holds(self) -> bool:
        """Whether everything is as it was."""
        if list(map(len, self.containers)) != self.sizes:
            return False
        now = chain(chain.from_iterable(map(_values, self.dicts)), chain.from_iterable(self.lists))
        if not all(map(is_, now, self.expected)):
            return False
        for space, names, there in self.spaces:
            if len(names & space.keys()) != there:
                return False
        for space, name, value in self.entries:
            if _lookup(space, name) is not value:
                return False
        for cell, value in self.cells:  # noqa: SIM110  (a loop, for speed)
            if cell.cell_contents is not value:
                return False
        return True


_values = methodcaller("values")


def _lookup(space, name):
    if isinstance(space, list):
        return space[name] if name < len(space) else _MISSING
    return space.get(name, _MISSING)


def trusted_type(kind: type) -> bool:
    """Whether a class is jtorch's own."""
    return kind.__module__.partition(".")[0] == "jtorch"


def _opaque(x):
    raise Opaque(f"it can reach a {type(x).__module__}.{type(x).__qualname__}, whose state cannot be told")
