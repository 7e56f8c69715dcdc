"""Gets one batch out of a dataset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jtorch.utils.data._utils.collate import default_collate, host_view, to_tensor
from jtorch.utils.data.dataset import Subset, TensorDataset


class DatasetKind:
    """How a loader draws samples from its dataset."""

    Map = 0
    Iterable = 1

    @staticmethod
    def create_fetcher(kind: int, dataset: Any, auto_collation: bool, collate_fn: Any, drop_last: bool) -> Any:
        if kind == DatasetKind.Map:
            return MapFetcher(dataset, auto_collation, collate_fn)
        return IterableFetcher(dataset, auto_collation, collate_fn, drop_last)


def _rows(dataset: Any, indices: Any) -> list[Any] | None:
    """What collating those samples of a TensorDataset gives, as one gather a tensor; None where that may differ."""
    if type(dataset) is Subset and type(dataset.dataset) is TensorDataset:
        try:
            indices = [dataset.indices[i] for i in indices]
        except (IndexError, TypeError):
            return None
        dataset = dataset.dataset
    if type(dataset) is not TensorDataset or not indices or not all(type(i) is int for i in indices):
        return None
    picked = []
    at = np.array(indices)
    for tensor in dataset.tensors:
        view = host_view(tensor)
        if view is None or at.min() < -len(view) or at.max() >= len(view):
            return None
        picked.append(to_tensor(view[at]))
    return picked


class MapFetcher:
    """Samples by index, collated."""

    def __init__(self, dataset: Any, auto_collation: bool, collate_fn: Callable[..., Any]) -> None:
        self.dataset = dataset
        self.auto_collation = auto_collation
        self.collate_fn = collate_fn

    def fetch(self, index: Any) -> Any:
        if not self.auto_collation:
            return self.collate_fn(self.dataset[index])
        if self.collate_fn is default_collate:
            batch = _rows(self.dataset, index)
            if batch is not None:
                return batch
        fetch = getattr(self.dataset, "__getitems__", None)
        return self.collate_fn(fetch(index) if fetch else [self.dataset[i] for i in index])


class IterableFetcher:
    """The next samples of an iterator, collated. StopIteration at the end."""

    def __init__(self, dataset: Any, auto_collation: bool, collate_fn: Callable[..., Any], drop_last: bool) -> None:
        self.iterator = iter(dataset)
        self.auto_collation = auto_collation
        self.collate_fn = collate_fn
        self.drop_last = drop_last
        self.ended = False

    def fetch(self, index: Sequence[Any] | None) -> Any:
        if self.ended:
            raise StopIteration
        if not self.auto_collation or index is None:
            return self.collate_fn(next(self.iterator))
        samples = []
        for _ in index:
            try:
                samples.append(next(self.iterator))
            except StopIteration:
                self.ended = True
                break
        if not samples or (self.drop_last and len(samples) < len(index)):
            raise StopIteration
        return self.collate_fn(samples)
