"""The first thing a worker process runs: readies the interpreter before the user's main module is imported there.

Run by path, not imported, because importing it as part of its package would import what it defers. It puts a module
`jtorch` in place whose own code runs at the first use of one of its names. Until then the process has no JAX; from
then on it has JAX on the host, so that several workers do not each claim an accelerator's memory.

`ROOT` (the package's folder) and `ALIAS` (whether `torch` is a name for it) are set by the parent.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import threading
from types import ModuleType
from typing import Any


class _Deferred(ModuleType):
    """A module whose code has not run yet. `_after_load` holds what to do once it has."""

    def __getattr__(self, name: str) -> Any:
        # `from jtorch import _room` asks for the name before it imports the room: that must not load all the rest.
        private = name.startswith("_") and name != "__version__"
        if private and (name.startswith("__") or importlib.util.find_spec(f"{self.__name__}.{name}")):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        _load(self)
        return getattr(self, name)


_lock = threading.RLock()


def _load(module: ModuleType) -> None:
    with _lock:
        callbacks = vars(module).pop("_after_load", None)
        if callbacks is None:  # another thread has loaded it, or this one is at it
            return
        module.__class__ = ModuleType
        module.__spec__.loader.exec_module(module)  # pyright: ignore[reportOptionalMemberAccess]
        for callback in callbacks:
            callback()


def _prepare(root: str, alias: bool) -> None:
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # Ctrl-C reaches the whole process group; the parent handles it and ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    spec = importlib.util.spec_from_file_location(
        "jtorch", os.path.join(root, "__init__.py"), submodule_search_locations=[root]
    )
    assert spec is not None
    module = _Deferred("jtorch", None)
    vars(module).update(
        __spec__=spec, __loader__=spec.loader, __file__=spec.origin, __path__=[root], __package__="jtorch",
        _after_load=[],
    )  # fmt: skip
    sys.modules["jtorch"] = module
    if alias:
        from jtorch._alias import install

        install()


if "jtorch" not in sys.modules:
    _prepare(globals()["ROOT"], globals()["ALIAS"])
