"""What the tests share."""

from __future__ import annotations

import linecache

import pytest


@pytest.fixture
def interrupt_at():
    return _interrupt_at


def _interrupt_at(n: int):
    """A tracer that raises KeyboardInterrupt at the n-th line of jtorch's own code, as a signal might; and what is left of n.

    The line of a `with` is traced again where its block is left, and that of a `try` inside one is in no block at all. No
    signal is handled there: the block would never be left.
    """
    left = [n]

    def line(frame, event, arg):
        if event == "line":
            left[0] -= 1
            if left[0] <= 0 and not _between_blocks(frame):
                left[0] = 1 << 62
                raise KeyboardInterrupt
        return line

    def call(frame, event, arg):
        return line if "jtorch" in frame.f_code.co_filename else None

    return call, left


def _between_blocks(frame) -> bool:
    return linecache.getline(frame.f_code.co_filename, frame.f_lineno).lstrip().startswith(("with ", "try:"))
