"""Tensor with all that belongs to it attached. Import it from here."""

from __future__ import annotations

import importlib
import pkgutil

import jtorch._ops as _families
from jtorch._tensor.base import Tensor as Tensor

for _module in pkgutil.iter_modules(_families.__path__):
    importlib.import_module(f"{_families.__name__}.{_module.name}")

from jtorch._tensor import (  # noqa: E402
    composites,
    creation,
    derive,
    functions,
    indexing,
    methods,
    operators,
    random,
    reshaping,
    views,
)

derive.attach()
for _room in (views, functions, creation, random, indexing, methods, operators, reshaping, composites):
    _room.attach()


def _seal(name: str, fact: property) -> property:
    """The property with torch's words for the attempt to set or delete it."""

    def refuse(self, *value) -> None:
        raise AttributeError(f"attribute '{name}' of 'torch._C.TensorBase' objects is not writable")

    return property(fact.fget, refuse, refuse, fact.__doc__)


for _name, _fact in list(vars(Tensor).items()):
    if isinstance(_fact, property) and _fact.fset is None:
        setattr(Tensor, _name, _seal(_name, _fact))

__all__ = ["Tensor"]
