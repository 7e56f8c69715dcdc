"""The process as jtorch needs it.

JAX: 64-bit types, synchronous small calls on the CPU, programs kept across processes. The C library: freed memory kept.
"""

from __future__ import annotations

import ctypes
import os
import pathlib
import sys

import jax

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


if jax.config.jax_compilation_cache_dir is None:
    _folder = cache_folder()
    if _folder is not None:
        jax.config.update("jax_compilation_cache_dir", str(_folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def keep_freed_memory() -> None:
    """Has glibc's malloc keep large blocks that are freed, for the next program to run.

    A program on the CPU takes its working memory in one piece at each call. Past 32 MB glibc would ask the system for
    fresh pages each time and give them back, a quarter of ResNet-20's step. What the user's environment says of malloc
    is left as it is.
    """
    if not sys.platform.startswith("linux"):
        return
    told = " ".join([*os.environ, os.environ.get("GLIBC_TUNABLES", "")]).lower()
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if "mmap_threshold" in told or "mmap_max" in told or "trim_threshold" in told or mallopt is None:
        return
    if not mallopt(_MMAP_THRESHOLD, 1 << 30):  # an older glibc takes no such size
        mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, (1 << 31) - 1)


_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # of malloc.h

keep_freed_memory()
