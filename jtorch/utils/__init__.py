"""`torch.utils`: data loading, checkpointing and benchmarks."""

from __future__ import annotations

import importlib
from typing import Any

from jtorch.utils import data as data

__all__ = ["data"]

# Imported at first use, not here: a loader's worker process imports this package for `data` alone, and must not be
# made to import the array library by the rest.
_LAZY = ("benchmark", "checkpoint")


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
