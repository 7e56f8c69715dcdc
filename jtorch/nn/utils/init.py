"""Modules without initial values."""

from __future__ import annotations

import inspect
from typing import Any

import jtorch

__all__ = ["skip_init"]


def skip_init(module_cls: type, *args: Any, **kwargs: Any) -> Any:
    """A module whose parameters are left uninitialized. The class must take `device`. RuntimeError if it is none."""
    if not issubclass(module_cls, jtorch.nn.Module):
        raise RuntimeError(f"Expected a Module; got {module_cls}")
    if "device" not in inspect.signature(module_cls).parameters:
        raise RuntimeError("Module must support a 'device' arg to skip initialization")
    final_device = kwargs.pop("device", "cpu")
    return module_cls(*args, **{**kwargs, "device": "meta"}).to_empty(device=final_device)
