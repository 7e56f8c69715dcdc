"""Compiling while the script goes on.

A long trace takes XLA seconds to compile, in which the script can do many steps kernel by kernel. Which step is the first
one that the compiled program runs is then a matter of time, and with it the last bit of what comes after. So this is not
done where results are to be the same from run to run, nor where it would take the only core from the script.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from jtorch._runtime import devices
from jtorch._runtime.kernel import cores

LONG = 64  # operations: what is shorter is compiled before anybody notices
deterministic = False  # whether each run has to be like the last one, to the last bit
_ALLOWED = os.environ.get("JTORCH_BACKGROUND", "1") != "0"


class Job(threading.Thread):
    """The compiling of a program, one at a time. It is no daemon: a process does not end in the middle of XLA's work."""

    _running: Job | None = None

    def __init__(self, make: Callable[[], None]):
        super().__init__(name="jtorch compile")
        self.make = make
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.make()
        except BaseException as error:  # which the script is told of where it would have compiled the program
            self.error = error

    def done(self) -> bool:
        """Whether the program is there. Raises what compiling it has raised. Begins it, if it was still to wait."""
        if self.ident is None:
            if Job._running is None or not Job._running.is_alive():
                Job._running = self
                self.start()
        elif not self.is_alive():
            if self.error is not None:
                raise self.error
            return True
        return False


def worthwhile(where: devices.device, size: int) -> bool:
    """Whether a program of so many operations is to be compiled in the background."""
    return (
        size >= LONG
        and _ALLOWED
        and not deterministic
        and cores() > 1
        and devices.is_only(where)
        and threading.main_thread().is_alive()
    )
