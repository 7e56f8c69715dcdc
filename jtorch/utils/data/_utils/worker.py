"""A worker process: receives lists of indices, sends back batches."""

from __future__ import annotations

import os
import pickle
import queue
import random
import threading
import time
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

import jtorch as torch
from jtorch.utils.data._utils.collate import default_collate, default_convert, packing
from jtorch.utils.data._utils.fetch import DatasetKind

_ORPHAN_GRACE = 10.0  # seconds that a sample under way has once the parent is gone


@dataclass(frozen=True)
class WorkerInfo:
    """What a worker process knows about itself."""

    id: int
    num_workers: int
    seed: int
    dataset: Any
    rng: Any = None
    worker_method: str = "multiprocessing"


_worker_info: WorkerInfo | None = None


def get_worker_info() -> WorkerInfo | None:
    """In a worker process its WorkerInfo (id, num_workers, seed, its copy of the dataset); in the main process None."""
    return _worker_info


class KeyErrorMessage(str):
    """A KeyError shows its message's repr: this one keeps the line breaks."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


class ExceptionWrapper:
    """An exception on its way to the parent: its type, and its traceback as text."""

    def __init__(self, error: BaseException, where: str) -> None:
        # The innermost frames are the user's; those before them are the loader's own, and kept: they say what it did.
        self.text = "".join(traceback.format_exception(error))
        self.kind: Any = type(error)
        self.name = type(error).__name__
        self.where = where
        try:
            pickle.dumps(self.kind)
        except Exception:  # a class local to a function: the parent cannot have it, its name is in the text
            self.kind = None

    def reraise(self) -> None:
        """Raises the same type with the worker's traceback as its message; RuntimeError where that type refuses."""
        message = f"Caught {self.name} {self.where}.\nOriginal {self.text}"
        if self.kind is KeyError:
            raise KeyError(KeyErrorMessage(message))
        try:
            error = self.kind(message)
        except Exception:
            raise RuntimeError(message) from None
        raise error


@dataclass
class Job:
    """All that a worker needs to know, as it is sent when the process starts."""

    kind: int
    dataset: Any
    auto_collation: bool
    collate_fn: Any
    drop_last: bool
    base_seed: int
    init_fn: Any
    worker_id: int
    num_workers: int


# Messages. To the worker: ("index", task, index), ("resume",); closing the pipe tells it to stop.
# To the parent: ("data", task, batch), ("error", task, wrapper), ("end", task, None), ("resumed", None, None).
def send(connection: Connection, message: tuple[Any, ...]) -> None:
    """Sends a message with its arrays' memory apart, so that they are copied once on each side."""
    buffers: list[pickle.PickleBuffer] = []
    body = pickle.dumps(message, protocol=5, buffer_callback=buffers.append)
    views = [buffer.raw() for buffer in buffers]
    connection.send_bytes(pickle.dumps([view.nbytes for view in views]))
    connection.send_bytes(body)
    for view in views:
        if view.nbytes:
            connection.send_bytes(view)


def receive(connection: Connection) -> tuple[Any, ...]:
    """The other end of `send`. EOFError where the peer is gone."""
    sizes = pickle.loads(connection.recv_bytes())
    body = connection.recv_bytes()
    buffers = []
    for size in sizes:
        memory = np.empty(size, np.uint8)
        if size:
            connection.recv_bytes_into(memory)  # pyright: ignore[reportArgumentType]
        buffers.append(memory)
    return pickle.loads(body, buffers=buffers)


def _seed(base_seed: int, worker_id: int) -> int:
    seed = base_seed + worker_id
    random.seed(seed)
    words = [worker_id, base_seed & 0xFFFFFFFF, base_seed >> 32, 0]
    np.random.seed(np.random.SeedSequence(words).generate_state(4))
    deferred = vars(torch).get("_after_load")
    if deferred is None:
        torch.manual_seed(seed)
    else:  # seeding it now would load JAX for a dataset that may never use it
        deferred.append(lambda: torch.manual_seed(seed))
    return seed


def _listen(connection: Connection, tasks: queue.SimpleQueue[tuple[Any, ...]]) -> None:
    """Moves tasks off the pipe at once, so that the parent never blocks on sending while this process does."""
    try:
        while True:
            tasks.put(pickle.loads(connection.recv_bytes()))
    except (EOFError, OSError):
        tasks.put(("stop",))
        time.sleep(_ORPHAN_GRACE)
        os._exit(1)


def _sends_packed(job: Job) -> bool:
    """Whether the batch goes to the parent just as the collate function leaves it."""
    return job.collate_fn in (default_collate, default_convert)


def worker_loop(job: Job, connection: Connection) -> None:
    """The worker's life: until it is told to stop or its parent is gone."""
    global _worker_info
    where = f"in DataLoader worker process {job.worker_id}"
    seed = _seed(job.base_seed, job.worker_id)
    _worker_info = WorkerInfo(job.worker_id, job.num_workers, seed, job.dataset)
    tasks: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(connection, tasks), daemon=True).start()

    failure: ExceptionWrapper | None = None
    fetcher: Any = None
    try:
        if job.init_fn is not None:
            job.init_fn(job.worker_id)
    except Exception as error:
        failure = ExceptionWrapper(error, where)
    try:
        while True:
            message = tasks.get()
            if message[0] == "stop":
                return
            if message[0] == "resume":
                fetcher = None
                send(connection, ("resumed", None, None))
                continue
            _, task, index = message
            if failure is not None:
                send(connection, ("error", task, failure))
                failure = None
                continue
            try:
                if fetcher is None:
                    fetcher = DatasetKind.create_fetcher(
                        job.kind, job.dataset, job.auto_collation, job.collate_fn, job.drop_last
                    )
                if _sends_packed(job):
                    with packing():
                        batch = fetcher.fetch(index)
                else:
                    batch = fetcher.fetch(index)
                reply = ("data", task, batch)
            except Exception as error:
                if isinstance(error, StopIteration) and job.kind == DatasetKind.Iterable:
                    reply = ("end", task, None)
                else:
                    reply = ("error", task, ExceptionWrapper(error, where))
            try:
                send(connection, reply)
            except (BrokenPipeError, ConnectionResetError):
                return
            except Exception as error:  # the batch does not pickle; nothing has been sent yet
                send(connection, ("error", task, ExceptionWrapper(error, where)))
    except (BrokenPipeError, ConnectionResetError):
        return
