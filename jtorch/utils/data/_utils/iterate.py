"""One pass over a DataLoader: in this process, or with workers."""

from __future__ import annotations

import os
import signal
import time
import warnings
from abc import ABC, abstractmethod
from collections import deque
from multiprocessing.connection import Connection, wait
from pickle import dumps
from typing import Any, NoReturn
from weakref import WeakKeyDictionary

import jtorch as torch
from jtorch.utils.data._utils.fetch import DatasetKind
from jtorch.utils.data._utils.launch import start_worker
from jtorch.utils.data._utils.worker import ExceptionWrapper, Job, receive

_JOIN_GRACE = 5.0  # seconds that a worker has to end by itself


class BaseIterator(ABC):
    """What both kinds share. Each iterator draws one seed from the loader's generator (or the global one)."""

    _profile_name: str  # what profiles call the fetching of a batch: torch's name of the class

    def __init__(self, loader: Any) -> None:
        self._loader = loader
        self._dataset = loader.dataset
        self._kind = loader._dataset_kind
        self._index_sampler = loader._index_sampler
        # torch's order: the sampler's iterator is made first (most draw only when advanced), then the seed is drawn.
        self._sampler_iter = iter(self._index_sampler)
        self._base_seed = torch.empty((), dtype=torch.int64).random_(generator=loader.generator).item()
        self._num_yielded = 0
        if loader.pin_memory and not torch.cuda.is_available():
            warnings.warn(
                "'pin_memory' argument is set as true but no accelerator is found, then device pinned memory won't "
                "be used.",
                stacklevel=4,
            )

    def __iter__(self) -> BaseIterator:
        return self

    def _reset(self, loader: Any) -> None:
        self._sampler_iter = iter(self._index_sampler)
        self._num_yielded = 0

    @abstractmethod
    def _next_data(self) -> Any:
        """The next batch."""

    def __next__(self) -> Any:
        with torch.autograd.profiler.record_function(self._profile_name):
            data = self._next_data()
        self._num_yielded += 1
        claimed = self._loader._iterable_length
        if self._kind == DatasetKind.Iterable and claimed is not None and self._num_yielded > claimed:
            message = (
                f"Length of IterableDataset {self._dataset} was reported to be {claimed} (when accessing "
                f"len(dataloader)), but {self._num_yielded} samples have been fetched. "
            )
            if self._loader.num_workers > 0:
                message += (
                    "For multiprocessing data-loading, this could be caused by not properly configuring the "
                    "IterableDataset replica at each worker. See get_worker_info()."
                )
            warnings.warn(message, stacklevel=2)
        return data

    def __len__(self) -> int:
        return len(self._index_sampler)


_seams: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()  # by loader: not its own, so that no copy of it has one


def _seam_of(loader: Any) -> Any:
    """Between a loader's batches, put together operation by operation in this process, and what is done with them."""
    found = _seams.get(loader)
    if found is None:
        from jtorch._runtime.seam import Seam  # not above: a worker that loads this file starts without JAX

        found = _seams[loader] = Seam()
    return found


class SingleProcessIterator(BaseIterator):
    """Fetches in this process, each batch when it is asked for.

    Not one ahead: a dataset's side effects (prints, draws from the global generator) would then come in another order
    than torch's. Placing a batch on the device does not block, so nothing waits for that either way.
    """

    _profile_name = "enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__"

    def __init__(self, loader: Any) -> None:
        super().__init__(loader)
        if loader.timeout != 0:
            raise AssertionError("_SingleProcessDataLoaderIter requires timeout == 0")
        self._fetcher = DatasetKind.create_fetcher(
            self._kind, self._dataset, loader._auto_collation, loader.collate_fn, loader.drop_last
        )
        self._seam = _seam_of(loader)

    def _next_data(self) -> Any:
        data = self._fetcher.fetch(next(self._sampler_iter))
        self._seam.cross()
        return data


class _Worker:
    def __init__(self, process: Any, connection: Connection) -> None:
        self.process = process
        self.connection = connection
        self.active = True  # False once its share of an iterable dataset has ended


class MultiProcessIterator(BaseIterator):
    """Sends indices to workers round robin and hands out their batches, by default in the order of the indices.

    Batches become tensors on arrival, so those that wait for their turn are on the device already. Each worker has a
    pipe of its own: one that dies holds no lock that another needs, and its end of the pipe closing is the news of it.
    """

    _profile_name = "enumerate(DataLoader)#_MultiProcessingDataLoaderIter.__next__"

    def __init__(self, loader: Any) -> None:
        self._workers: list[_Worker] = []
        self._owner = os.getpid()
        if loader.prefetch_factor <= 0:
            raise AssertionError("prefetch_factor must be greater than 0")
        super().__init__(loader)
        self._persistent = loader.persistent_workers
        self._timeout = loader.timeout
        try:
            for worker_id in range(loader.num_workers):
                job = Job(
                    self._kind, self._dataset, loader._auto_collation, loader.collate_fn, loader.drop_last,
                    self._base_seed, loader.worker_init_fn, worker_id, loader.num_workers,
                )  # fmt: skip
                self._workers.append(_Worker(*start_worker(job)))
            self._begin()
        except BaseException:
            self._shutdown_workers()
            raise

    def _begin(self) -> None:
        self._sent = 0
        self._turn = 0
        self._next_worker = 0
        self._at: dict[int, _Worker] = {}  # tasks under way, and the worker that has each
        self._arrived: dict[int, Any] = {}
        self._ended: set[int] = set()  # tasks that a worker answered with the end of its share
        self._order: deque[int] = deque()  # arrivals, for in_order=False
        for worker in self._workers:
            worker.active = True
        for _ in range(self._loader.prefetch_factor * len(self._workers)):
            self._assign()

    def _reset(self, loader: Any) -> None:
        while self._at:  # an epoch that was left early: what is under way belongs to it
            self._receive()
        super()._reset(loader)
        waiting = list(self._workers)
        for worker in waiting:
            self._post(worker, ("resume",))
        while waiting:
            ready = self._wait(waiting)
            kind, _, _ = self._read(ready)
            if kind == "resumed":
                waiting.remove(ready)
        self._begin()

    def _assign(self) -> None:
        """Gives the next index to the next worker that is still active, if there is one of each."""
        active = [worker for worker in self._workers if worker.active]
        if not active:
            return
        try:
            index = next(self._sampler_iter)
        except StopIteration:
            return
        while not (worker := self._workers[self._next_worker]).active:
            self._next_worker = (self._next_worker + 1) % len(self._workers)
        self._next_worker = (self._next_worker + 1) % len(self._workers)
        self._at[self._sent] = worker
        self._post(worker, ("index", self._sent, index))
        self._sent += 1

    def _post(self, worker: _Worker, message: tuple[Any, ...]) -> None:
        try:
            worker.connection.send_bytes(dumps(message))
        except OSError:
            self._fail(worker)

    def _wait(self, workers: list[_Worker]) -> _Worker:
        """The first of the workers that has something to say. RuntimeError at the timeout or where one has died."""
        by_handle: dict[Any, _Worker] = {}
        for worker in workers:
            by_handle[worker.connection] = by_handle[worker.process.sentinel] = worker
        ready = wait(list(by_handle), self._timeout or None)
        if not ready:
            self._shutdown_workers(grace=0)
            raise RuntimeError(f"DataLoader timed out after {self._timeout} seconds")
        for handle in ready:
            if not isinstance(handle, int):  # a connection; sentinels are file descriptors
                return by_handle[handle]
        worker = by_handle[ready[0]]
        if not worker.connection.poll():
            self._fail(worker)
        return worker

    def _read(self, worker: _Worker) -> tuple[Any, ...]:
        try:
            return receive(worker.connection)
        except (EOFError, OSError):
            self._fail(worker)

    def _fail(self, worker: _Worker) -> NoReturn:
        """Raises for a worker that has died."""
        worker.process.join(_JOIN_GRACE)
        code = worker.process.exitcode
        how = f" with exit code {code}"
        if code is not None and code < 0:
            how = f": killed by signal {signal.Signals(-code).name}"
        self._shutdown_workers(grace=0)
        hint = (
            " Its own message, if it left one, is above. A script that iterates a DataLoader with workers needs "
            "`if __name__ == '__main__':` around its running part; num_workers=0 gives the plainest traceback."
            if code == 1
            else ""
        )
        raise RuntimeError(f"DataLoader worker (pid(s) {worker.process.pid}) exited unexpectedly{how}.{hint}")

    def _receive(self) -> None:
        """Takes in one message of a worker that has a task under way."""
        worker = self._wait(list(dict.fromkeys(self._at.values())))
        kind, task, content = self._read(worker)
        del self._at[task]
        if kind == "end":
            worker.active = False
            self._ended.add(task)
            self._assign()
            return
        self._arrived[task] = content
        self._order.append(task)

    def _next_data(self) -> Any:
        if not self._workers:
            raise StopIteration
        while True:
            task = None
            if self._loader.in_order:
                while self._turn in self._ended:
                    self._ended.discard(self._turn)
                    self._turn += 1
                if self._turn in self._arrived:
                    task = self._turn
                    self._turn += 1
            elif self._order:
                task = self._order.popleft()
            if task is not None:
                break
            if not self._at:
                if not self._persistent:
                    self._shutdown_workers()
                raise StopIteration
            self._receive()
        content = self._arrived.pop(task)
        self._assign()
        if isinstance(content, ExceptionWrapper):
            content.reraise()
        return content

    def _shutdown_workers(self, grace: float = _JOIN_GRACE) -> None:
        if os.getpid() != self._owner:  # a process forked from ours: they are not its children
            return
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.connection.close()
        deadline = time.monotonic() + grace
        for worker in workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            if worker.process.is_alive():
                worker.process.terminate()
                worker.process.join(_JOIN_GRACE)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()

    def __del__(self) -> None:
        self._shutdown_workers()
