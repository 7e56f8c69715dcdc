"""The C library's heap, where that is glibc's: when freed memory is kept, and when it goes back to the system."""

from __future__ import annotations

import ctypes
import os
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # of malloc.h
_library = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
_mallopt, _malloc_trim = getattr(_library, "mallopt", None), getattr(_library, "malloc_trim", None)


def keep_freed_memory() -> None:
    """Has glibc's malloc keep large blocks that are freed, for the next program to run.

    A program on the CPU takes its working memory in one piece at each call. Past 32 MB glibc would ask the system for
    fresh pages each time and give them back, a quarter of ResNet-20's step. What the user's environment says of malloc
    is left as it is.
    """
    told = " ".join([*os.environ, os.environ.get("GLIBC_TUNABLES", "")]).lower()
    if "mmap_threshold" in told or "mmap_max" in told or "trim_threshold" in told or _mallopt is None:
        return
    if not _mallopt(_MMAP_THRESHOLD, 1 << 30):  # an older glibc takes no such size
        _mallopt(_MMAP_MAX, 0)
    _mallopt(_TRIM_THRESHOLD, (1 << 31) - 1)


def trim() -> None:
    """Gives what is free now back to the system: some ms, for before and after what takes much memory once."""
    if _malloc_trim is not None:
        _malloc_trim(0)
