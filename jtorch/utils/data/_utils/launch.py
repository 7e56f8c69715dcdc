"""Starting a worker process from the parent."""

from __future__ import annotations

import multiprocessing
import operator
import os
import pickle
import runpy
import sys
from multiprocessing.connection import Connection
from typing import Any

from jtorch.utils.data._utils import worker

_HERE = os.path.dirname(os.path.abspath(__file__))
_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(_HERE)))


class _Globals:
    """Pickles as the result of running bootstrap.py."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self) -> tuple[Any, ...]:
        alias = "torch" in sys.modules and sys.modules["torch"] is sys.modules.get("jtorch")
        state = {"ROOT": _ROOT, "ALIAS": alias, "PROCESS_NAME": self.name}
        return runpy.run_path, (os.path.join(_HERE, "bootstrap.py"), state)


class _ProcessName(str):
    """A process name that prepares the interpreter it is unpickled in.

    A spawned process unpickles its name, then imports the user's main module, then unpickles its target. The first of
    these is the one place from which `import torch` in that main module can be got ready.
    """

    __slots__ = ()

    def __reduce__(self) -> tuple[Any, ...]:
        return operator.getitem, (_Globals(str(self)), "PROCESS_NAME")


def start_worker(job: worker.Job) -> tuple[Any, Connection]:
    """A running worker process and the parent's end of the pipe to it.

    PicklingError where the dataset or a function does not pickle; RuntimeError where a worker would start while a
    worker's own main module is still being imported (a script without the `__main__` guard).
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise RuntimeError(
            "DataLoader with num_workers > 0 is iterated while a worker process imports the main module. Workers start "
            "by importing it afresh, so the part of the script that runs has to stand under "
            "`if __name__ == '__main__':`. Or use num_workers=0."
        )
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=True)
    name = _ProcessName(f"DataLoaderWorker-{job.worker_id}")
    process = context.Process(target=worker.worker_loop, args=(job, theirs), name=name, daemon=True)
    try:
        process.start()
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        ours.close()
        raise pickle.PicklingError(
            "DataLoader worker processes start afresh (spawn), so the dataset, collate_fn and worker_init_fn travel to "
            f"them by pickle, and this one cannot: {error}. Lambdas, and functions and classes defined inside a "
            "function, do not pickle: define them at the top level of a module, or use num_workers=0."
        ) from error
    finally:
        theirs.close()
    return process, ours
