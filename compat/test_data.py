"""torch.utils.data against the oracle: orders, draws, collated structures, errors."""

from __future__ import annotations

import array
import collections
import importlib
import types
import warnings

import numpy as np
import pytest
import torch as oracle

import jtorch

Point = collections.namedtuple("Point", "x y")


class UserDict(collections.UserDict):
    pass


class UserList(collections.UserList):
    pass


class TupleSub(tuple):
    __slots__ = ()


class NoEmpty(dict):
    """A mapping that cannot be made from a mapping alone."""

    def __init__(self, a, b):
        super().__init__(k=a)


def plain(value):
    """A result of either library as plain data that can be compared, container types included."""
    if isinstance(value, (oracle.Tensor, jtorch.Tensor)):
        return ("tensor", str(value.dtype), tuple(value.shape), value.tolist())
    if isinstance(value, dict) or hasattr(value, "keys"):
        return (type(value).__name__, {key: plain(value[key]) for key in value})
    if isinstance(value, (list, tuple, collections.deque, collections.UserList)):
        return (type(value).__name__, [plain(member) for member in value])
    if isinstance(value, np.ndarray):
        return ("ndarray", value.tolist())
    return value


def outcome(function, library):
    """What a call gives or raises, with its warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = plain(function(library))
        except Exception as error:
            result = (type(error), str(error))
    return result, [(w.category, str(w.message)) for w in caught]


def same(function):
    expected, got = outcome(function, oracle), outcome(function, jtorch)
    assert got == expected


def datasets(torch):
    """A map dataset of n numbers and an iterable one, of that library's classes."""
    data = torch.utils.data

    class Numbers(data.Dataset):
        def __init__(self, n=5):
            self.n = n

        def __len__(self):
            return self.n

        def __getitem__(self, i):
            if not -self.n <= i < self.n:
                raise IndexError(i)
            return i

    class Stream(data.IterableDataset):
        def __iter__(self):
            return iter(range(5))

    return Numbers, Stream


BATCHES = {
    "ints": [1, 2], "floats": [1.0, 2.0], "bools": [True, False], "str": ["a", "b"], "bytes": [b"a", b"b"],
    "int float": [1, 2.5], "float int": [1.0, 2], "str int": ["a", 1], "int str": [1, "a"], "int None": [1, None],
    "float32": [np.float32(1), np.float32(2)], "int8": [np.int8(1), np.int8(3)], "bool_": [np.bool_(True)],
    "mixed scalars": [np.float32(1), np.float64(2)], "float64": [np.float64(1)], "str_": [np.str_("a")] * 2,
    "0-d": [np.array(1.0)] * 2, "0-d str": [np.array("x")] * 2, "objects": [np.array([None])] * 2,
    "uint8": [np.array([1, 2], np.uint8)] * 2, "mixed arrays": [np.array([1], np.int32), np.array([1.0])],
    "unequal arrays": [np.array([1.0]), np.array([1.0, 2.0])], "datetime": [np.datetime64("2020")],
    "reversed": [np.array([1, 2])[::-1]] * 2, "masked": [np.ma.array([1, 2])] * 2,
    "namedtuple": [Point(1, "a"), Point(3, "b")], "tuples": [(1, "a"), (2, "b")], "lists": [[1, 2], [3, 4]],
    "tuple list": [(1, 2), [3, 4]], "unequal tuples": [(1, 2), (3,)], "unequal lists": [[1, 2], [3]],
    "nested": [{"a": 1, "b": [1, (2.0, "x")]}, {"a": 2, "b": [3, (4.0, "y")]}], "empty tuples": [(), ()],
    "UserDict": [UserDict(a=1), UserDict(a=2)], "UserList": [UserList([1, 2]), UserList([3, 4])],
    "OrderedDict": [collections.OrderedDict(a=1)] * 2, "defaultdict": [collections.defaultdict(list, a=1)] * 2,
    "mappingproxy": [types.MappingProxyType({"a": 1})] * 2, "NoEmpty": [NoEmpty(1, 2), NoEmpty(2, 3)],
    "tuple subclass": [TupleSub((1, 2))] * 2, "sets": [{1}, {2}], "None": [None, None], "complex": [1j, 2j],
    "range": [range(2), range(2)], "deque": [collections.deque([1, 2])] * 2, "array": [array.array("i", [1, 2])] * 2,
    "bytearray": [bytearray(b"ab")] * 2, "missing key": [{"a": 1}, {"b": 1}], "more keys": [{"a": 1}, {"a": 1, "b": 2}],
    "empty": [],
}  # fmt: skip

# torch says more, or names its own types, where the type of the error is what counts.
WORDS_DIFFER = {"int str", "int None", "datetime", "reversed"}


@pytest.mark.parametrize("name", BATCHES)
def test_default_collate(name):
    def collated(torch):
        return torch.utils.data.default_collate(BATCHES[name])

    if name in WORDS_DIFFER:
        expected, got = outcome(collated, oracle)[0], outcome(collated, jtorch)[0]
        assert got[0] == expected[0]
    else:
        same(collated)


@pytest.mark.parametrize("name", sorted(set(BATCHES) - WORDS_DIFFER - {"array", "bytearray"}))
def test_default_convert(name):
    same(lambda torch: [torch.utils.data.default_convert(sample) for sample in BATCHES[name]])


@pytest.mark.parametrize(
    "make",
    [
        lambda torch: [torch.zeros(2), torch.ones(2)],
        lambda torch: [torch.tensor(1), torch.tensor(2)],
        lambda torch: [torch.zeros(2), torch.zeros(3)],
        lambda torch: [torch.zeros(2), torch.zeros(2, dtype=torch.int64)],
        lambda torch: [torch.zeros(0, 3)] * 2,
        lambda torch: [torch.zeros(2, dtype=torch.bfloat16)] * 2,
        lambda torch: [torch.zeros(2, dtype=torch.complex64)] * 2,
        lambda torch: [torch.arange(6).reshape(2, 3).t()] * 2,
        lambda torch: [(torch.tensor([1.0]), {"y": torch.tensor(True)})] * 3,
    ],
)
def test_collate_tensors(make):
    same(lambda torch: torch.utils.data.default_collate(make(torch)))


class TestDraws:
    """The same seed: the same orders, and the generator left in the same state."""

    @pytest.mark.parametrize("own", [False, True], ids=["global", "generator"])
    @pytest.mark.parametrize(
        "make",
        {
            "random": lambda d, g: d.RandomSampler(range(10), generator=g),
            "more": lambda d, g: d.RandomSampler(range(5), num_samples=13, generator=g),
            "replacement": lambda d, g: d.RandomSampler(range(10), replacement=True, generator=g),
            "chunks": lambda d, g: d.RandomSampler(range(10), replacement=True, num_samples=70, generator=g),
            "subset": lambda d, g: d.SubsetRandomSampler([7, 3, 5, 1], generator=g),
            "weighted": lambda d, g: d.WeightedRandomSampler([0.1, 0.7, 0.2], 9, generator=g),
            "weighted once": lambda d, g: d.WeightedRandomSampler([0.1, 0.7, 0.2], 3, False, generator=g),
            "loader": lambda d, g: d.DataLoader(range(11), batch_size=3, shuffle=True, generator=g),
            "no batches": lambda d, g: d.DataLoader(range(11), batch_size=None, shuffle=True, generator=g),
            "in order": lambda d, g: d.DataLoader(range(4), batch_size=3, generator=g),
            "with sampler": lambda d, g: d.DataLoader(range(8), sampler=d.RandomSampler(range(8), generator=g)),
        }.items(),
        ids=lambda item: item[0],
    )
    def test_samplers(self, make, own):
        def drawn(torch):
            torch.manual_seed(11)
            generator = torch.Generator().manual_seed(12) if own else None
            source = make[1](torch.utils.data, generator)
            epochs = [list(source), list(source)]
            left = torch.randint(0, 2**31, (3,), generator=generator), torch.randint(0, 2**31, (3,))
            return epochs, left

        same(drawn)

    @pytest.mark.parametrize("lengths", [[3, 7], [0.5, 0.5], [0.3, 0.3, 0.2, 0.2], [0.05, 0.95], [1.0], [10]])
    def test_random_split(self, lengths):
        def split(torch):
            torch.manual_seed(4)
            split = torch.utils.data.random_split
            own = split(range(10), lengths, generator=torch.Generator().manual_seed(5))
            return [list(part) for part in split(range(10), lengths)], [list(part) for part in own]

        same(split)

    @pytest.mark.parametrize("replicas", [2, 3, 12])
    @pytest.mark.parametrize("drop_last", [False, True])
    def test_distributed(self, replicas, drop_last):
        def shares(torch):
            found = []
            for rank in range(replicas):
                for shuffle in (False, True):
                    sampler = torch.utils.data.DistributedSampler(
                        range(10), replicas, rank, shuffle=shuffle, seed=3, drop_last=drop_last
                    )
                    sampler.set_epoch(2)
                    found.append((len(sampler), list(sampler)))
            return found

        same(shares)

    def test_left_early(self):
        def drawn(torch):
            torch.manual_seed(1)
            iterator = iter(torch.utils.data.DataLoader(range(10), batch_size=2, shuffle=True))
            before = torch.rand(1)  # a pass draws its seed when it starts, its order when it is first advanced
            return before, next(iterator), torch.rand(1)

        same(drawn)


LOADER_OPTIONS = [
    {"num_workers": -1}, {"timeout": -1}, {"timeout": 5}, {"prefetch_factor": 2}, {"persistent_workers": True},
    {"num_workers": 1, "prefetch_factor": -1}, {"shuffle": True, "sampler": [0]}, {"batch_size": None},
    {"batch_sampler": [[0]], "batch_size": 2}, {"batch_sampler": [[0]], "shuffle": True}, {"batch_sampler": [[0, 3]]},
    {"batch_sampler": [[0]], "drop_last": True}, {"batch_size": None, "drop_last": True}, {"batch_size": 0},
    {"batch_size": True}, {"batch_size": 1.5}, {"batch_size": "a"}, {"drop_last": 1},
    {"multiprocessing_context": "spawn"},
    {"num_workers": 1, "multiprocessing_context": "bogus"}, {"num_workers": 1, "multiprocessing_context": 3},
    {"num_workers": 99}, {"pin_memory": True}, {"batch_size": 2, "drop_last": True}, {"sampler": [9]},
    {"batch_size": 2, "collate_fn": tuple}, {"sampler": [4, 0, 0]},
]  # fmt: skip


@pytest.mark.parametrize("options", LOADER_OPTIONS, ids=str)
@pytest.mark.parametrize("iterable", [False, True], ids=["map", "iterable"])
def test_loader_options(options, iterable):
    def used(torch):
        loader = torch.utils.data.DataLoader(datasets(torch)[iterable](), **options)
        return [] if loader.num_workers else list(loader)

    same(used)


@pytest.mark.parametrize(
    "act",
    {
        "set batch_size": lambda d, n, s: setattr(d.DataLoader(n()), "batch_size", 2),
        "set dataset": lambda d, n, s: setattr(d.DataLoader(n()), "dataset", 2),
        "len iterable": lambda d, n, s: len(d.DataLoader(s())),
        "empty shuffle": lambda d, n, s: d.DataLoader(n(0), shuffle=True),
        "empty": lambda d, n, s: list(d.DataLoader(n(0))),
        "lens": lambda d, n, s: [len(d.DataLoader(n(7), b, drop_last=x)) for b in (2, 7, 9) for x in (False, True)],
        "len no batch": lambda d, n, s: len(d.DataLoader(n(7), None)),
        "iterator": lambda d, n, s: len(iter(d.DataLoader(n(7), 2))),
        "replacement": lambda d, n, s: d.RandomSampler(n(), replacement=1),
        "num_samples": lambda d, n, s: d.RandomSampler(n(), num_samples=2.0),
        "weights": lambda d, n, s: d.WeightedRandomSampler([[1.0]], 2),
        "weights count": lambda d, n, s: d.WeightedRandomSampler([1.0], True),
        "weights replacement": lambda d, n, s: d.WeightedRandomSampler([1.0], 2, 1),
        "batch sampler": lambda d, n, s: list(d.BatchSampler(range(5), 2, False)),
        "batch sampler drop": lambda d, n, s: d.BatchSampler(range(5), 2, 0),
        "rank": lambda d, n, s: d.DistributedSampler(n(), 2, 5),
        "split sum": lambda d, n, s: d.random_split(n(), [2, 2]),
        "split fraction": lambda d, n, s: d.random_split(n(), [-0.5, 1.5]),
        "stack none": lambda d, n, s: d.StackDataset(),
        "stack both": lambda d, n, s: d.StackDataset(n(), a=n()),
        "stack sizes": lambda d, n, s: d.StackDataset(n(), n(3)),
        "stack": lambda d, n, s: [d.StackDataset(n(), n())[1], d.StackDataset(a=n())[2], len(d.StackDataset(n()))],
        "stack many": lambda d, n, s: d.StackDataset(a=n(), b=d.Subset(n(), [4, 3, 2, 1, 0])).__getitems__([0, 3]),
        "concat none": lambda d, n, s: d.ConcatDataset([]),
        "concat iterable": lambda d, n, s: d.ConcatDataset([s()]),
        "concat": lambda d, n, s: [list(n() + n(3)), (n() + n(3))[-1], (n() + n(3)).cummulative_sizes],
        "concat far": lambda d, n, s: (n() + n(3))[-9],
        "chain": lambda d, n, s: list(s() + s()),
        "chain map": lambda d, n, s: list(d.ChainDataset([n()])),
        "subset": lambda d, n, s: [list(d.Subset(n(), [3, 1])), d.Subset(n(), [3, 1]).__getitems__([1, 0])],
        "abstract": lambda d, n, s: d.Dataset()[0],
        "sampler": lambda d, n, s: iter(d.Sampler()),
        "worker info": lambda d, n, s: d.get_worker_info(),
    }.items(),
    ids=lambda item: item[0],
)
def test_behaviour(act):
    same(lambda torch: act[1](torch.utils.data, *datasets(torch)))


@pytest.mark.parametrize("indices", [None, [3, 3, 0], [-1, 1], [9], []], ids=str)
@pytest.mark.parametrize("subset", [False, True])
def test_tensor_dataset(indices, subset):
    """The loader's short cut for tensors gives what the samples one by one would."""

    def loaded(torch):
        data = torch.utils.data
        dataset = data.TensorDataset(torch.arange(12.0).reshape(6, 2), torch.arange(6, dtype=torch.uint8))
        if subset:
            dataset = data.Subset(dataset, [5, 2, 4, 1])
        return list(data.DataLoader(dataset, batch_size=2, sampler=indices))

    same(loaded)


class Seeds:
    """A dataset of no library: what a worker's random state is at its start."""

    def __len__(self):
        return 4

    def __getitem__(self, i):
        import random

        return random.random(), float(np.random.rand())


def test_worker_seeds():
    """Workers seed `random` and NumPy as torch's do, and a pass with workers draws what torch's draws."""

    def loaded(torch):
        torch.manual_seed(9)
        loader = torch.utils.data.DataLoader(
            Seeds(), batch_size=None, num_workers=2, persistent_workers=True, shuffle=True
        )
        first = list(loader)
        seen = torch.rand(1)
        return first, len(list(loader)), seen, torch.rand(1)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = plain(loaded(oracle))
    assert plain(loaded(jtorch)) == expected


@pytest.mark.parametrize("path", ["utils.data", "utils.data.dataset", "utils.data.sampler", "utils.data.dataloader"])
def test_names(path):
    """What jtorch names here exists in torch under the same name."""
    ours = importlib.import_module(f"jtorch.{path}")
    theirs = importlib.import_module(f"torch.{path}")
    own = [n for n, v in vars(ours).items() if getattr(v, "__module__", None) == ours.__name__ and n[0] != "_"]
    assert own is not None
    assert [name for name in own if not hasattr(theirs, name)] == []
