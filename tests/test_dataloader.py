"""Datasets, samplers, collating, and the DataLoader with and without workers. No torch here."""

from __future__ import annotations

import collections
import os
import pickle
import random
import signal
import sys
import time
import warnings

import numpy as np
import pytest

import jtorch as torch
from jtorch._runtime import seam
from jtorch.utils import data
from jtorch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset, default_collate

Point = collections.namedtuple("Point", "x y")


class Squares(Dataset):
    def __init__(self, size=10):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, i):
        return np.full(3, i * i, np.float32), i


class Doing(Dataset):
    """Does at index i what the i-th word says."""

    def __init__(self, *words):
        self.words = words

    def __len__(self):
        return len(self.words)

    def __getitem__(self, i):
        word = self.words[i]
        if word == "fail":
            raise ValueError(f"bad sample {i}")
        if word == "key":
            raise KeyError("missing")
        if word == "decode":
            raise UnicodeDecodeError("utf8", b"a", 0, 1, "why")
        if word == "exit":
            os._exit(3)
        if word == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if word == "sleep":
            time.sleep(60)
        if word == "slow":
            time.sleep(0.5)
        if word == "local":
            return lambda: None
        return i


class Probe(Dataset):
    """Says what its process is like."""

    def __len__(self):
        return 4

    def __getitem__(self, i):
        info = data.get_worker_info()
        assert info is not None
        used = "_after_load" not in vars(sys.modules["jtorch"])
        return (info.id, info.num_workers, info.seed, random.random(), float(np.random.rand()), os.getpid(), int(used))


class Count(IterableDataset):
    def __init__(self, size=7, shared=False):
        self.size = size
        self.shared = shared

    def __iter__(self):
        info = data.get_worker_info()
        if self.shared and info is not None:
            return iter(range(info.id, self.size, info.num_workers))
        return iter(range(self.size))


class Makes(Dataset):
    """Samples made with jtorch itself, in whichever process asks."""

    def __len__(self):
        return 5

    def __getitem__(self, i):
        return torch.tensor([float(i), 1.0]) * 2, torch.randint(0, 1000, (1,))


def keep(batch):
    return batch


def init_fails(worker_id):
    raise RuntimeError(f"no start for {worker_id}")


def init_marks(worker_id):
    os.environ["MARK"] = str(worker_id)


def as_lists(loader):
    return [batch.tolist() if isinstance(batch, torch.Tensor) else batch for batch in loader]


def shapes(batches):
    return [tuple(batch.shape) for batch in batches]


class TestDatasets:
    def test_combining(self):
        both = Squares(3) + Squares(2)
        assert isinstance(both, data.ConcatDataset)
        assert len(both) == 5 and both[-1][1] == 1 and both.cumulative_sizes == [3, 5]
        with pytest.raises(ValueError, match="absolute value of index should not exceed"):
            both[-6]
        assert list(Count(2) + Count(3)) == [0, 1, 0, 1, 2]
        stacked = data.StackDataset(a=Squares(3), b=range(3))
        assert stacked[2]["b"] == 2
        assert [s["b"] for s in stacked.__getitems__([2, 0])] == [2, 0]
        with pytest.raises(ValueError, match="Size mismatch between datasets"):
            data.StackDataset(Squares(3), Squares(2))
        subset = Subset(range(10), [3, 1])
        assert [subset[i] for i in range(2)] == [3, 1]

    def test_tensor_dataset(self):
        x, y = torch.arange(6).reshape(3, 2), torch.arange(3)
        pair = TensorDataset(x, y)
        assert len(pair) == 3 and pair[1][0].tolist() == [2, 3]
        with pytest.raises(AssertionError, match="Size mismatch between tensors"):
            TensorDataset(x, torch.arange(2))
        with pytest.raises(IndexError):
            list(DataLoader(pair, sampler=[7]))

    def test_abstract(self):
        with pytest.raises(NotImplementedError, match="Subclasses of Dataset should implement __getitem__"):
            Dataset()[0]
        with pytest.raises(TypeError, match="abstract"):
            IterableDataset()

    def test_random_split(self):
        parts = data.random_split(range(10), [0.5, 0.25, 0.25], generator=torch.Generator().manual_seed(1))
        assert [len(p) for p in parts] == [6, 2, 2]
        assert sorted(x for p in parts for x in p) == list(range(10))
        with pytest.raises(ValueError, match="Sum of input lengths does not equal"):
            data.random_split(range(10), [3, 3])
        with pytest.warns(UserWarning, match="Length of split at index 0 is 0"):
            data.random_split(range(5), [0.0, 1.0])


class TestSamplers:
    def test_random(self):
        torch.manual_seed(7)
        first, second = list(data.RandomSampler(range(50))), list(data.RandomSampler(range(50)))
        assert sorted(first) == list(range(50)) and first != second
        torch.manual_seed(7)
        assert list(data.RandomSampler(range(50))) == first
        assert len(list(data.RandomSampler(range(3), num_samples=8))) == 8
        drawn = list(data.RandomSampler(range(3), replacement=True, num_samples=70))
        assert len(drawn) == 70 and set(drawn) <= {0, 1, 2}

    def test_others(self):
        assert sorted(data.SubsetRandomSampler([4, 8, 2])) == [2, 4, 8]
        assert set(data.WeightedRandomSampler([0.0, 1.0, 0.0], 5)) == {1}
        assert list(data.BatchSampler(range(5), 2, False)) == [[0, 1], [2, 3], [4]]
        assert list(data.BatchSampler(range(5), 2, True)) == [[0, 1], [2, 3]]
        assert len(data.BatchSampler(range(5), 2, False)) == 3

    def test_distributed(self):
        shares = [list(data.DistributedSampler(range(5), 2, rank)) for rank in range(2)]
        assert [len(s) for s in shares] == [3, 3] and set(shares[0] + shares[1]) == set(range(5))
        with pytest.raises(ValueError, match="Invalid rank 2"):
            data.DistributedSampler(range(5), 2, 2)

    def test_refused(self):
        with pytest.raises(ValueError, match="num_samples should be a positive integer value, but got num_samples=0"):
            data.RandomSampler([])
        with pytest.raises(TypeError, match="replacement should be a boolean"):
            data.RandomSampler([1], replacement=1)
        with pytest.raises(ValueError, match="batch_size should be a positive integer value"):
            data.BatchSampler([1], True, False)


class TestCollate:
    @pytest.mark.parametrize(
        ("batch", "dtype", "values"),
        [
            ([1, 2], "int64", [1, 2]),
            ([1.0, 2.0], "float64", [1.0, 2.0]),
            ([1.0, 2], "float64", [1.0, 2.0]),
            ([True, False], "bool", [True, False]),
            ([np.int8(3), np.int8(4)], "int8", [3, 4]),
            ([np.arange(2, dtype=np.uint8)] * 2, "uint8", [[0, 1], [0, 1]]),
            ([np.array(1.5), np.array(2.5)], "float64", [1.5, 2.5]),
        ],
    )
    def test_leaves(self, batch, dtype, values):
        got = default_collate(batch)
        assert got.dtype == getattr(torch, dtype) and got.tolist() == values

    def test_tensors(self):
        rows = [torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])]
        assert default_collate(rows).tolist() == [[1, 2], [3, 4]]
        grown = default_collate([row.requires_grad_() for row in rows])
        grown.sum().backward()
        assert rows[0].grad.tolist() == [1, 1]
        with pytest.raises(RuntimeError, match="stack expects each tensor to be equal size"):
            default_collate([torch.zeros(2), torch.zeros(3)])
        kept = default_collate([torch.zeros(2), torch.zeros(2)])
        kept += 1  # a batch is memory of its own
        assert kept.tolist() == [[1, 1], [1, 1]]

    def test_containers(self):
        got = default_collate([{"p": Point(1, "a"), "l": [1, (2.0,)]}, {"p": Point(2, "b"), "l": [3, (4.0,)]}])
        assert got["p"].x.tolist() == [1, 2] and got["p"].y == ("a", "b")
        assert got["l"][0].tolist() == [1, 3] and got["l"][1][0].tolist() == [2.0, 4.0]
        assert type(default_collate([(1, 2), (3, 4)])) is list
        ordered = default_collate([collections.OrderedDict(a=1)] * 2)
        assert type(ordered) is collections.OrderedDict

    def test_refused(self):
        with pytest.raises(
            TypeError, match="must contain tensors, numpy arrays, numbers, dicts or lists; found <class"
        ):
            default_collate([{1}, {2}])
        with pytest.raises(TypeError, match="found object"):
            default_collate([np.array([None])])
        with pytest.raises(RuntimeError, match="each element in list of batch should be of equal size"):
            default_collate([(1, 2), (1,)])

    def test_registry(self):
        from jtorch.utils.data._utils.collate import collate, default_collate_fn_map

        def joined(batch, *, collate_fn_map=None):
            return "".join(batch)

        assert collate(["a", "b"], collate_fn_map={**default_collate_fn_map, str: joined}) == "ab"

    def test_convert(self):
        got = data.default_convert({"a": np.arange(2), "b": (1, "x"), "c": np.array("s")})
        assert got["a"].tolist() == [0, 1] and got["b"] == [1, "x"] and isinstance(got["c"], np.ndarray)


class TestLoader:
    def test_batches(self):
        loader = DataLoader(Squares(5), batch_size=2)
        batches = list(loader)
        assert len(loader) == 3 and shapes(b[0] for b in batches) == [(2, 3), (2, 3), (1, 3)]
        assert len(DataLoader(Squares(5), batch_size=2, drop_last=True)) == 2
        assert list(DataLoader([1, 2], batch_size=None)) == [1, 2]
        assert as_lists(DataLoader(range(4), batch_sampler=[[3, 1], [0]])) == [[3, 1], [0]]
        assert list(DataLoader(range(3), batch_size=2, collate_fn=keep)) == [[0, 1], [2]]

    def test_shuffle_reproduces(self):
        torch.manual_seed(3)
        loader = DataLoader(range(20), batch_size=4, shuffle=True)
        epochs = as_lists(loader), as_lists(loader)
        torch.manual_seed(3)
        assert (as_lists(loader), as_lists(loader)) == epochs and epochs[0] != epochs[1]

    def test_fetches_lazily(self):
        asked = []

        class Asked(Squares):
            def __getitem__(self, i):
                asked.append(i)
                return i

        iterator = iter(DataLoader(Asked(4), batch_size=2))
        assert asked == []
        next(iterator)
        assert asked == [0, 1]

    @pytest.mark.parametrize("subset", [False, True])
    def test_tensor_rows(self, subset):
        whole = TensorDataset(torch.arange(12.0).reshape(6, 2), torch.arange(6))
        dataset = Subset(whole, [5, 4, 3, 2]) if subset else whole
        for x, y in DataLoader(dataset, batch_size=3):
            assert (x[:, 0] / 2).tolist() == y.tolist()
            x += 1  # must not reach the dataset
        assert whole.tensors[0][0].tolist() == [0, 1]

    def test_iterable(self):
        assert as_lists(DataLoader(Count(5), batch_size=2)) == [[0, 1], [2, 3], [4]]
        assert as_lists(DataLoader(Count(5), batch_size=2, drop_last=True)) == [[0, 1], [2, 3]]

        class Wrong(Count):
            def __len__(self):
                return 2

        loader = DataLoader(Wrong(5))
        assert len(loader) == 2
        with pytest.warns(UserWarning, match="was reported to be 2"):
            list(loader)

    def test_refused(self):
        with pytest.raises(ValueError, match="sampler option is mutually exclusive with shuffle"):
            DataLoader(range(3), shuffle=True, sampler=[0])
        with pytest.raises(ValueError, match="batch_sampler option is mutually exclusive"):
            DataLoader(range(3), batch_sampler=[[0]], batch_size=2)
        with pytest.raises(ValueError, match="num_workers option should be non-negative"):
            DataLoader(range(3), num_workers=-1)
        with pytest.raises(ValueError, match="batch_size attribute should not be set after DataLoader is initialized"):
            DataLoader(range(3)).batch_size = 2
        with pytest.raises(ValueError, match="multiprocessing_context can only be used with multi-process loading"):
            DataLoader(range(3), multiprocessing_context="spawn")
        with pytest.raises(ValueError, match="expected unspecified shuffle option"):
            DataLoader(Count(), shuffle=True)

    def test_pin_memory(self):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            list(DataLoader(range(2), pin_memory=True))
        if not torch.cuda.is_available():
            assert "no accelerator is found" in str(caught[0].message)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a machine of one core
class TestWorkers:
    """Few, because every worker is a process that starts from nothing."""

    def test_order_and_persistence(self):
        torch.manual_seed(5)
        loader = DataLoader(Squares(9), batch_size=2, shuffle=True, num_workers=2, persistent_workers=True)
        epochs = [[y.tolist() for _, y in loader] for _ in range(2)]
        pids = [worker.process.pid for worker in loader._iterator._workers]
        for _ in loader:  # left early, and started again
            break
        again = [x for x, _ in loader]
        assert shapes(again) == [(2, 3)] * 4 + [(1, 3)] and isinstance(again[0], torch.Tensor)
        assert [worker.process.pid for worker in loader._iterator._workers] == pids
        assert (
            all(sorted(y for batch in epoch for y in batch) == list(range(9)) for epoch in epochs)
            and epochs[0] != epochs[1]
        )
        torch.manual_seed(5)
        alone = [y.tolist() for _, y in DataLoader(Squares(9), batch_size=2, shuffle=True)]
        assert alone == epochs[0]

    def test_processes_without_jax(self):
        rows = list(DataLoader(Probe(), batch_size=None, num_workers=2))
        assert [row[0] for row in rows] == [0, 1, 0, 1] and {row[1] for row in rows} == {2}
        assert rows[1][2] == rows[0][2] + 1  # the seed is the base's plus the worker's number
        assert len({row[3] for row in rows}) == 4 and len({row[4] for row in rows}) == 4
        assert os.getpid() not in {row[5] for row in rows}
        assert not any(row[6] for row in rows), "the dataset used no jtorch, and yet the worker loaded it"
        assert data.get_worker_info() is None

    def test_tensors_made_in_workers(self):
        torch.manual_seed(1)
        loader = DataLoader(Makes(), batch_size=2, num_workers=1)
        drawn = []
        for _ in range(2):
            torch.manual_seed(1)
            batches = list(loader)
            assert [x[:, 0].tolist() for x, _ in batches] == [[0, 2], [4, 6], [8]]
            drawn.append([y.tolist() for _, y in batches])
        assert drawn[0] == drawn[1]

    def test_iterable_shares(self):
        loader = DataLoader(Count(7, shared=True), batch_size=2, num_workers=2)
        assert as_lists(loader) == [[0, 2], [1, 3], [4, 6], [5]]

    def test_errors_come_back(self):
        loader = DataLoader(Doing("fine", "fail", "key", "decode", "local"), batch_size=None, num_workers=1)
        iterator = iter(loader)
        assert next(iterator) == 0
        with pytest.raises(ValueError, match=r"(?s)Caught ValueError in DataLoader worker process 0\..*bad sample 1"):
            next(iterator)
        with pytest.raises(KeyError, match="Caught KeyError in DataLoader worker process 0"):
            next(iterator)
        with pytest.raises(RuntimeError, match="Caught UnicodeDecodeError in DataLoader worker process 0"):
            next(iterator)
        with pytest.raises(Exception, match="DataLoader worker process 0"):
            next(iterator)
        with pytest.raises(StopIteration):
            next(iterator)
        with pytest.raises(RuntimeError, match="no start for 0"):
            list(DataLoader(Squares(2), num_workers=1, worker_init_fn=init_fails))

    @pytest.mark.parametrize("how", ["exit", "kill"])
    def test_death(self, how):
        with pytest.raises(RuntimeError, match=r"DataLoader worker \(pid\(s\) \d+\) exited unexpectedly"):
            list(DataLoader(Doing("fine", how), batch_size=None, num_workers=1))

    def test_timeout(self):
        began = time.monotonic()
        with pytest.raises(RuntimeError, match="DataLoader timed out after 2 seconds"):
            list(DataLoader(Doing("sleep"), num_workers=1, timeout=2))
        assert time.monotonic() - began < 30

    def test_out_of_order(self):
        loader = DataLoader(Doing("slow", "b", "c", "d"), batch_size=None, num_workers=2, in_order=False)
        assert sorted(loader) == [0, 1, 2, 3]

    def test_does_not_pickle(self):
        with pytest.raises(pickle.PicklingError, match="num_workers=0"):
            list(DataLoader(Squares(2), num_workers=1, collate_fn=lambda batch: batch))

    def test_fork_is_not_taken(self):
        with pytest.warns(UserWarning, match="spawned, not forked"):
            DataLoader(Squares(2), num_workers=1, multiprocessing_context="fork")


class Turned(Dataset):
    """Row i of a table, computed in a way of its own for each number in `ways`."""

    def __init__(self, ways):
        self.x = torch.arange(32.0).view(8, 4)
        self.ways = ways

    def __len__(self):
        return len(self.ways)

    def __getitem__(self, i):
        row = self.x[i % 8] * 0.5
        for k in range(5):
            if self.ways[i] >> k & 1:
                row = row.flip(0) if k % 2 else row + k
        return row, self.x[i % 8]


class TestSamplesToBeComputed:
    """Samples that are recorded: stacked in the trace, which goes on into the training step or not."""

    def _train(self, loader, weight, rounds):
        for _ in range(rounds):
            for x, y in loader:
                weight = (weight + (x * y).mean(0)).tanh()
            weight.tolist()
        return weight

    def test_same_each_time(self):
        loader = DataLoader(Turned([0] * 4), batch_size=2)
        with torch.execution("deferred"):
            weight = self._train(loader, torch.ones(4), 6)
            torch.stats(reset=True)
            self._train(loader, weight, 4)
            counts = torch.stats()
        assert (counts.syncs, counts.compiles) == (4, 0)  # one an epoch: where its result is read

    def test_many_sorts(self):
        loader = DataLoader(Turned(range(32)), batch_size=1)
        with torch.execution("deferred"):
            torch.stats(reset=True)
            weight = torch.ones(4)
            for _ in range(6):
                for x, y in loader:
                    weight = (weight + (x * y).mean(0)).tanh()
                    weight.tolist()
            compiles = torch.stats().compiles
        # Each sort of sample is compiled once, and the step by itself, and with the few sorts that came first.
        assert compiles <= 32 + 1 + seam.FEW

    def test_batch_is_a_copy(self):
        dataset = Turned([1] * 4)
        for _ in range(4):
            (x, y), *_ = DataLoader(dataset, batch_size=4)
            before = dataset.x[:4].tolist()
            dataset.x += 1
            assert y.tolist() == before
            assert x.tolist() == [[v * 0.5 for v in row] for row in before]
