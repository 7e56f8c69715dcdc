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
from collections import Counter, OrderedDict, defaultdict, deque
from operator import attrgetter, is_
from types import CodeType
from typing import Any

import numpy as np

from jtorch._runtime import dtypes
from jtorch._runtime.avals import Size
from jtorch._runtime.devices import device
from jtorch._runtime.generator import Generator
from jtorch._tensor.methods import user_state
from jtorch._tensor.tensor import Tensor
from jtorch.compiler._watch import trusted
from jtorch.nn import Module
from jtorch.nn.modules.module import _HOOK_TABLES as _TABLES
from jtorch.optim import Optimizer

# What of a module and of an optimizer only `state_dict` and its kind read, and the call of a module that has hooks.
_SPARED = frozenset((
    *_TABLES, "_non_persistent_buffers_set", "_is_full_backward_hook", "_optimizer_state_dict_pre_hooks",
    "_optimizer_state_dict_post_hooks", "_optimizer_load_state_dict_pre_hooks", "_optimizer_load_state_dict_post_hooks",
))  # fmt: skip
_READS_THEM = frozenset((
    *_SPARED, "state_dict", "load_state_dict", "register_state_dict_pre_hook", "register_state_dict_post_hook",
    "register_load_state_dict_pre_hook", "register_load_state_dict_post_hook", "_register_state_dict_hook",
    "_register_load_state_dict_pre_hook",
))  # fmt: skip
LIMIT = 50_000  # entries: a function that can reach more is not replayed
_MISSING = object()
_LEAVES = (
    int, float, str, bytes, complex, type(None), type(Ellipsis), type(NotImplemented), enum.Enum, range, slice, re.Pattern,
    np.generic, np.dtype, dtypes.dtype, device, Size, Generator,
)  # fmt: skip
_CONTAINERS = (dict, OrderedDict, defaultdict, Counter, list, deque, tuple, set, frozenset)
# What looks attributes up under names that it is given.
_DYNAMIC = frozenset((
    "getattr", "hasattr", "vars", "dir", "__dict__", "__getattribute__", "attrgetter", "methodcaller", "asdict", "astuple", "fields",
    "replace", "getmembers", "copy", "deepcopy", "__reduce__", "__getstate__", "format_map",
))  # fmt: skip
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

    def __init__(self, codes: dict[CodeType, dict]):
        self.codes = codes
        self.names = frozenset(name for code in codes for name in names_in(code))
        self.methods = self.names | {code.co_name for code in codes}
        # Attributes may be looked up under names that no code spells out.
        self.every = not self.names.isdisjoint(_DYNAMIC)
        self.spared = _SPARED if not self.every and self.names.isdisjoint(_READS_THEM) else frozenset()
        self.containers: list[tuple[Any, tuple, tuple]] = []  # (dict, list, set or deque; its keys; its values)
        self.objects: list[tuple[dict, int, tuple, tuple]] = []  # attributes; how many; names, values of what counts
        self.singles: list[tuple[Any, Any, Any]] = []  # (a namespace, name, value)
        self.spaces: list[tuple[Any, Any, int]] = []  # (a namespace, names that are looked up in it, how many it has)
        self.cells: list[tuple[Any, Any]] = []  # (closure cell, contents)
        self.functions: list[tuple[Any, tuple]] = []  # (function, what it is made of)
        self.kinds: list[tuple[Any, type, dict]] = []  # (object, its class, its attributes)
        self.marks: list[tuple[Tensor, dict]] = []  # (tensor, what the user put on it)
        self.tensors: list[Tensor] = []
        self.optimizers: list[Optimizer] = []
        self.given: list[tuple[Any, tuple]] = []  # (a container among the arguments, what was in it)
        self._seen: dict[int, Any] = {}

    # ---- walking -----------------------------------------------------------------------------------------------------

    def walk(self, root) -> None:
        """Takes in all that can be reached from an object."""
        stack = [root]
        while stack:
            x = stack.pop()
            if is_leaf(x) or type(x) is object or id(x) in self._seen:
                continue
            self._seen[id(x)] = x
            if len(self._seen) > LIMIT:
                raise Opaque(f"it can reach more than {LIMIT} objects")
            stack.extend(self._into(x))

    def walk_code(self) -> None:
        """Takes in the globals that the code which ran looks up."""
        for code, scope in self.codes.items():
            self._seen[id(scope)] = scope
            for value in self._space(scope, frozenset(code.co_names)):
                self.walk(value)

    def walk_argument(self, t: Tensor) -> None:
        """Takes in a tensor that is an argument; nothing was put on it."""
        if id(t) not in self._seen:
            self._seen[id(t)] = t
            self.tensors.append(t)
            if t._grad is not None:
                self.walk(t._grad)

    def walk_arguments(self, x: Any) -> None:
        """Notes the containers among the arguments: what is put into them would be lost."""
        if isinstance(x, list | dict):
            if self.reached(x):
                raise Opaque("it is given a container that it can reach by itself")
            self.given.append((x, (*x, *x.values()) if isinstance(x, dict) else tuple(x)))
        if isinstance(x, list | tuple | dict):
            for e in x.values() if isinstance(x, dict) else x:
                self.walk_arguments(e)

    def _into(self, x):
        kind = type(x)
        if isinstance(x, Tensor):
            self.tensors.append(x)
            return (*self._marked(x), *(() if x._grad is None else (x._grad,)))
        if isinstance(x, _CONTAINERS):
            if kind not in _CONTAINERS:
                return self._own_container(x)
            return self._contents(x)
        if kind is types.FunctionType:
            return self._function(x)
        if kind is types.MethodType:
            return x.__func__, x.__self__
        if kind is types.CellType:
            try:
                contents = x.cell_contents
            except ValueError:
                return _opaque(x)
            self.cells.append((x, contents))
            return (contents,)
        if kind is functools.partial:
            return x.func, x.args, x.keywords
        if kind is property:
            return x.fget, x.fset
        if kind in (staticmethod, classmethod):
            return (x.__func__,)
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

    def _contents(self, x):
        if isinstance(x, dict):
            self.containers.append((x, tuple(x), tuple(x.values())))
            return (*x.keys(), *x.values())
        if isinstance(x, tuple):
            return x
        if isinstance(x, set | frozenset) and not all(map(is_leaf, x)):
            return _opaque(x)
        values = tuple(x)
        self.containers.append((x, (), values))
        return values

    def _own_container(self, x):
        """A container of a class of the user's, which may have attributes, and must not have its own idea of its contents."""
        kind = type(x)
        base = next(c for c in kind.__mro__ if c in _CONTAINERS)
        for name in ("__len__", "__iter__", "__getitem__", "keys", "values", "items"):
            if getattr(kind, name, None) is not getattr(base, name, None):
                return _opaque(x)
        return (*self._contents(x), *(self._instance(x) if hasattr(x, "__dict__") else ()))

    def _marked(self, t: Tensor):
        """What the user put on a tensor."""
        own = user_state(t)
        if own or self.every:
            self.marks.append((t, own))
        return own.values()

    def _space(self, space, names) -> list:
        """What a namespace has under the names that are looked up in it. That it has no others is guarded as well."""
        there = sorted(names & space.keys())  # the same order in every process, that programs are found again
        self.spaces.append((space, names, len(there)))
        self.singles += [(space, name, space[name]) for name in there]
        return [space[name] for name in there]

    def _attributes(self, space: dict, spared: frozenset = frozenset()):
        """All of an object's attributes but some."""
        names = tuple([name for name in space if name not in spared])
        values = tuple([space[name] for name in names])
        self.objects.append((space, len(space), names, values))
        return values

    def _function(self, f):
        closure = f.__closure__ or ()
        if trusted(f.__code__):
            return closure
        self.functions.append((f, parts(f)))
        made_of = f.__defaults__ or (), f.__kwdefaults__ or ()
        return (*closure, *made_of, *self._attributes(f.__dict__))

    def _class(self, c):
        home = c.__module__.partition(".")[0]
        if home in _STDLIB and home != "__main__" or home in ("jtorch", "jax", "numpy"):
            return ()
        if any(base.__dict__.get("__slots__") for base in c.__mro__):
            slots = base_slots(c)
            if slots - {"__dict__", "__weakref__"}:
                return _opaque(c)
        return (*self._space(vars(c), self.methods), *c.__bases__, type(c))

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
        if isinstance(x, functools._lru_cache_wrapper):
            return _opaque(x)
        self.kinds.append((x, type(x), space))
        if isinstance(x, Module):
            # A module that has hooks says so in an attribute, else its calls do not look for any.
            return (type(x), *self._attributes(space, frozenset() if "_hooked" in space else self.spared))
        if isinstance(x, Optimizer) or self.every or trusted_type(type(x)):
            return (type(x), *self._attributes(space, self.spared if isinstance(x, Optimizer) else frozenset()))
        return (type(x), *self._space(space, self.names))

    def replaced(self, d: dict, key, value) -> None:
        """Notes that an entry of a dict was replaced by an equal one."""
        for i, (x, keys, values) in enumerate(self.containers):
            if x is d:
                values = tuple(value if k == key else v for k, v in zip(keys, values, strict=True))
                self.containers[i] = x, keys, values

    def reached(self, x) -> bool:
        """Whether an object was reached."""
        return id(x) in self._seen or is_leaf(x)

    def owners(self) -> Counter:
        """How many places hold each object, by id."""
        held = Counter(id(v) for _, _, values in self.containers for v in values)
        held.update(id(v) for *_, values in self.objects for v in values)
        held.update(id(v) for *_, v in (*self.singles, *self.cells))
        return held

    # ---- comparing ---------------------------------------------------------------------------------------------------

    def changes(self) -> list[tuple[Entry, Any, Any]]:
        """The places whose contents are others now: (place, before, now)."""
        found = []
        for x, values in self.given:
            now = (*x, *x.values()) if isinstance(x, dict) else tuple(x)
            if len(now) != len(values) or not all(map(is_, now, values)):
                raise Opaque(f"it changes a {type(x).__name__} that it is given")
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
        for space, size, names, values in self.objects:
            if len(space) != size or not all(name in space for name in names):
                raise Opaque("it changes which attributes an object has")
            found += [(Entry(space, k), v, space[k]) for k, v in zip(names, values, strict=True) if space[k] is not v]
        for space, name, value in self.singles:
            now = lookup(space, name)
            if now is not value:
                if isinstance(space, types.MappingProxyType):
                    raise Opaque(f"it changes the class attribute {name!r}")
                found.append((Entry(space, name), value, now))
        for space, names, there in self.spaces:
            if len(names & space.keys()) != there:
                raise Opaque("it makes or takes away a name that it looks up")
        for cell, value in self.cells:
            if cell.cell_contents is not value:
                found.append((Entry(cell, None), value, cell.cell_contents))
        if any(not all(map(is_, parts(f), made_of)) for f, made_of in self.functions):
            raise Opaque("it changes a function")
        if any(type(x) is not kind or x.__dict__ is not space for x, kind, space in self.kinds):
            raise Opaque("it changes the class of an object")
        if any(not same_marks(t, own) for t, own in self.marks):
            raise Opaque("it changes what is put on a tensor")
        return found


parts = attrgetter("__code__", "__defaults__", "__kwdefaults__")


def same_marks(t: Tensor, own: dict) -> bool:
    """Whether what the user put on a tensor is what it was."""
    now = user_state(t)
    return now.keys() == own.keys() and all(now[k] is v for k, v in own.items())


def lookup(space, name) -> Any:
    """What a namespace or list has under a name or at a place."""
    if isinstance(space, list):
        return space[name] if name < len(space) else _MISSING
    return space.get(name, _MISSING)


def is_leaf(x: Any) -> bool:
    """Whether an object has no state that anything could hang on."""
    if not isinstance(x, _LEAVES):
        return False
    return type(x) in _LEAVES or trusted_type(type(x)) or not hasattr(x, "__dict__")


def base_slots(c: type) -> set[str]:
    """The names of the slots that a class of the user's and its bases have."""
    found: set[str] = set()
    for base in c.__mro__:
        slots = base.__dict__.get("__slots__", ())
        if not trusted_type(base):
            found.update((slots,) if isinstance(slots, str) else slots)
    return found


def names_in(code: CodeType) -> set[str]:
    """The names under which code looks something up, those it has only as text among them."""
    found = set(code.co_names)
    stack: list[Any] = list(code.co_consts)
    while stack:
        x = stack.pop()
        if isinstance(x, str):
            found.update(part for part in re.split(r"\W+", x) if part.isidentifier()) if len(x) < 80 else None
        elif isinstance(x, tuple | frozenset):
            stack.extend(x)
    return found


def trusted_type(kind: type) -> bool:
    """Whether a class is jtorch's own."""
    return kind.__module__.partition(".")[0] == "jtorch"


def _opaque(x):
    raise Opaque(f"it can reach a {type(x).__module__}.{type(x).__qualname__}, whose state cannot be told")
