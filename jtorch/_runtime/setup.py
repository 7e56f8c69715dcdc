"""The process as jtorch needs it.

JAX: 64-bit types, synchronous small calls on the CPU. The C library: freed memory kept.
"""

from __future__ import annotations

import os
import pathlib

import jax

from jtorch._runtime import heap

jax.config.update("jax_enable_x64", True)
# A small call takes half the time when it need not go through a thread.
jax.config.update("jax_cpu_enable_async_dispatch", False)


def cache_folder() -> pathlib.Path | None:
    """Where compiled programs are kept: JTORCH_CACHE (empty: nowhere), else the user's cache folder."""
    told = os.environ.get("JTORCH_CACHE")
    if told is not None:
        return pathlib.Path(told) if told else None
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return pathlib.Path(base) / "jtorch"


heap.keep_freed_memory()
