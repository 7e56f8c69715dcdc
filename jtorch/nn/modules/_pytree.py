"""Modules as JAX pytrees.

A module's children are its parameters, then its buffers, each once, in `named_parameters` and `named_buffers` order;
a tied parameter is one child. All the rest is static: the classes, the tree of submodules, training flags and
every other attribute.

When are two treedefs equal, so that `jax.jit` reuses a program? When the static parts have the same *structure*: the
same classes at the same places, the same names for the same children, and plain attributes that are of the same type
and compare equal. Containers (list, tuple, dict, set) are compared item by item and copied when the module is
flattened, so that a later change of a list makes a different treedef instead of silently changing an old one. A tensor
in a plain attribute is a constant of the program: it is compared by identity and version, so that writing to it
compiles anew. Any other object is equal where its own `==` says True, and otherwise only to itself. A reference from a
plain attribute to one of the module's own parameters, buffers or submodules (`self.layers_by_name["a"]`) is kept as a
reference, and points into the copy after unflattening.
"""

from __future__ import annotations

import types
from collections import OrderedDict, defaultdict, deque
from typing import Any

import jax
import numpy as np

from jtorch._tensor.tensor import Tensor
from jtorch.nn.parameter import Parameter

_CONTAINERS = (list, tuple, dict, set, OrderedDict, defaultdict, deque)
_ATOMS = frozenset({int, float, bool, str, type(None), bytes, complex, type, types.FunctionType})
_STORES = ("_parameters", "_buffers", "_modules")


class _Leaf:
    """Stands for the child at this index."""

    __slots__ = ("index",)

    def __init__(self, index: int):
        self.index = index


class _Sub:
    """Stands for the submodule at this index."""

    __slots__ = ("index",)

    def __init__(self, index: int):
        self.index = index


class _Pinned:
    """A tensor that is a constant of the program, as it was at this version."""

    __slots__ = ("tensor", "version")

    def __init__(self, tensor: Tensor):
        self.tensor, self.version = tensor, tensor._version


class _Method:
    """A method bound to one of the tree's modules."""

    __slots__ = ("function", "index")

    def __init__(self, index: int, function: Any):
        self.index, self.function = index, function


class Skeleton:
    """The static part of a flattened module: one (class, attributes, stores) record for each distinct module."""

    __slots__ = ("_hash", "names", "records")

    def __init__(self, names: tuple[str, ...], records: list):
        self.names, self.records, self._hash = names, records, None

    def __hash__(self) -> int:
        if self._hash is None:
            flags = tuple((record[0], record[1].get("training")) for record in self.records)
            self._hash = hash((self.names, flags))
        return self._hash

    def __eq__(self, other: Any) -> bool:
        if self is other:
            return True
        if type(other) is not Skeleton or self.names != other.names or len(self.records) != len(other.records):
            return False
        return all(_same(a, b) for a, b in zip(self.records, other.records, strict=True))

    def __repr__(self) -> str:
        return f"{self.records[0][0].__name__}(...)"


def _same(a: Any, b: Any) -> bool:
    if a is b:
        return True
    kind = type(a)
    if kind is not type(b):
        return False
    if kind in _ATOMS:
        return a == b
    if kind is _Leaf or kind is _Sub:
        return a.index == b.index
    if kind is _Pinned:
        return a.tensor is b.tensor and a.version == b.version
    if kind is _Method:
        return a.index == b.index and a.function is b.function
    if isinstance(a, (list, tuple, deque)):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, dict):
        # Order counts: it is the order of submodules and of hooks.
        return len(a) == len(b) and all(x == y and _same(a[x], b[y]) for x, y in zip(a, b, strict=True))
    if isinstance(a, (np.ndarray, jax.Array)):
        return False
    return bool(a == b)


class _Flattener:
    """One walk over a module: numbers its modules and leaves, then takes the snapshot."""

    def __init__(self, module: Any):
        self.modules = list(dict.fromkeys(module.modules()))
        self.module_index = {id(m): i for i, m in enumerate(self.modules)}
        named = [*_named(module, "_parameters"), *_named(module, "_buffers")]
        self.leaf_index: dict[int, int] = {}
        self.leaves: list[Any] = []
        names = []
        for name, leaf in named:
            if id(leaf) not in self.leaf_index:
                self.leaf_index[id(leaf)] = len(self.leaves)
                self.leaves.append(leaf)
                names.append(name)
        self.names = tuple(names)

    def snapshot(self, value: Any) -> Any:
        kind = type(value)
        if kind in _ATOMS:
            return value
        if id(value) in self.leaf_index:
            return _Leaf(self.leaf_index[id(value)])
        if id(value) in self.module_index:
            return _Sub(self.module_index[id(value)])
        if kind in _CONTAINERS:
            return _rebuilt(value, self.snapshot)
        if isinstance(value, Tensor):
            return _Pinned(value)
        if kind is types.MethodType and id(value.__self__) in self.module_index:
            return _Method(self.module_index[id(value.__self__)], value.__func__)
        return value

    def skeleton(self) -> Skeleton:
        records = [(type(m), {name: self.snapshot(value) for name, value in m.__dict__.items()}) for m in self.modules]
        return Skeleton(self.names, records)


def _named(module: Any, store: str) -> list[tuple[str, Any]]:
    """(dotted name, value) of what the stores hold, values of any type: a leaf may be a spec or a gradient."""
    return [
        (f"{prefix}.{name}" if prefix else name, value)
        for prefix, m in module.named_modules()
        for name, value in m.__dict__[store].items()
        if value is not None
    ]


def _rebuilt(value: Any, fn: Any) -> Any:
    """A copy of a container with `fn` applied to its items. Empty ones, the common case, are copied as they are."""
    kind = type(value)
    if not value:
        return value.copy() if kind is not tuple else value
    if kind is tuple or kind is list:
        return kind([fn(v) for v in value])
    if kind is set:
        return value.copy()
    if kind is deque:
        return deque((fn(v) for v in value), value.maxlen)
    copy = value.copy()  # keeps a defaultdict's factory
    for key, item in value.items():
        copy[key] = fn(item)
    return copy


def _flatten(module: Any) -> tuple[list, Skeleton]:
    walk = _Flattener(module)
    return walk.leaves, walk.skeleton()


def _flatten_with_keys(module: Any) -> tuple[list, Skeleton]:
    walk = _Flattener(module)
    keys = [jax.tree_util.GetAttrKey(name) for name in walk.names]
    return list(zip(keys, walk.leaves, strict=True)), walk.skeleton()


def _unflatten(skeleton: Skeleton, leaves: Any) -> Any:
    leaves = list(leaves)
    modules = [object.__new__(cls) for cls, _ in skeleton.records]

    def restore(value: Any) -> Any:
        kind = type(value)
        if kind in _ATOMS:
            return value
        if kind is _Leaf:
            return leaves[value.index]
        if kind is _Sub:
            return modules[value.index]
        if kind is _Pinned:
            return value.tensor
        if kind is _Method:
            return types.MethodType(value.function, modules[value.index])
        if kind in _CONTAINERS:
            return _rebuilt(value, restore)
        return value

    # A leaf in a parameter's place that came back as a plain tensor becomes a Parameter again, once for all references.
    for _, attributes in skeleton.records:
        for ref in attributes["_parameters"].values():
            if ref is not None and type(leaves[ref.index]) is Tensor:
                leaves[ref.index] = _as_parameter(leaves[ref.index])
    for module, (_, attributes) in zip(modules, skeleton.records, strict=True):
        module.__dict__.update({name: restore(value) for name, value in attributes.items()})
    return modules[0]


def _as_parameter(tensor: Tensor) -> Parameter:
    floating = tensor.is_floating_point() or tensor.is_complex()
    return Parameter(tensor, requires_grad=floating)


def register(cls: type) -> None:
    """Makes the Module subclass a pytree node."""
    jax.tree_util.register_pytree_with_keys(cls, _flatten_with_keys, _unflatten, _flatten)
