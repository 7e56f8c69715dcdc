"""The threads that XLA compiles in, and which of them goes first.

XLA for the CPU emits a program loop by loop in one thread; workers make machine code of each. Nothing holds the emitter
back: where it is ahead, each further loop takes a compiler's context of its own, some MB and 10 ms of work, 54 of them
for an LSTM's step. Where it has the lower priority it waits for the workers, and few contexts do for all: an LSTM's
first steps take 345 MB instead of 401, GPT's 456 instead of 583. In JAX 0.12.0.1 there are no such threads: the one that
compiles emits, too.
"""

from __future__ import annotations

import functools
import os
import sys

import jax

MEASURED = "0.10.2"  # the JAX whose threads are known: those without a name of their own emit, and compute nothing
LOWER = 5  # of nice's twenty: a third of a worker's share. With 10 less memory yet, but a tenth, beside others' work as well
_emitters: list[int] = []


def threads() -> dict[int, str]:
    """The names of the process's threads, as Linux has them."""
    found = {}
    for thread in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{thread}/comm") as file:
                found[int(thread)] = file.read().strip()
        except OSError:  # it ended
            continue
    return found


@functools.cache
def begin() -> None:
    """Starts JAX, if nobody has, and notes the threads that it emits programs in."""
    if not sys.platform.startswith("linux") or jax.__version__ != MEASURED:
        return
    before = threads()
    if len(jax.devices()) == 1 and jax.default_backend() == "cpu":
        unnamed = before.get(os.getpid())
        _emitters.extend(thread for thread, name in threads().items() if thread not in before and name == unnamed)


def go_first() -> None:
    """Has the workers go before the emitters, from now on."""
    if not _emitters or jax.config.jax_compilation_cache_dir is not None:  # from JAX's own cache nothing is compiled
        return

    def make_workers():
        """What XLA compiles first: it makes the workers then, with the priority that it is asked with."""
        return 0

    jax.jit(make_workers).lower().compile()
    while _emitters:
        thread = _emitters.pop()
        try:
            os.setpriority(os.PRIO_PROCESS, thread, min(os.getpriority(os.PRIO_PROCESS, thread) + LOWER, 19))
        except OSError:  # it ended, or nobody is allowed to
            continue
