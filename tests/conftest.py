"""What the tests share."""

from __future__ import annotations

import dis
import linecache
import sys
from collections.abc import Callable

import pytest


@pytest.fixture
def interrupted():
    return _interrupted


def _interrupted(n: int, fn: Callable[..., object], *args: object) -> int | None:
    """Calls fn with a KeyboardInterrupt at the n-th line of jtorch's own code, as a signal might bring it. The lines that
    ran where it came to its end before, else None.

    The line of a `with` is traced again where its block is left, and that of a `try` inside one is in no block at all. No
    signal is handled there: the block would never be left. Nor would it where a tracer, not a signal, raises at a round of
    a comprehension, from Python 3.12 on.
    """
    lines, came = 0, False

    def line(frame, event, arg):
        nonlocal lines, came
        if event == "line":
            lines += 1
            if lines >= n and not came and not (_between_blocks(frame) or _at_a_round(frame)):
                came = True
                raise KeyboardInterrupt
        return line

    def call(frame, event, arg):
        return line if "jtorch" in frame.f_code.co_filename else None

    sys.settrace(call)
    try:
        fn(*args)
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(None)
    return None if came else lines


def _between_blocks(frame) -> bool:
    return linecache.getline(frame.f_code.co_filename, frame.f_lineno).lstrip().startswith(("with ", "try:"))


def _at_a_round(frame) -> bool:
    return sys.version_info >= (3, 12) and dis.opname[frame.f_code.co_code[frame.f_lasti]] in (
        "FOR_ITER",
        "JUMP_BACKWARD",
    )
