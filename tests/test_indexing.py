"""Indexing against NumPy where the two agree, and torch's own ways where they do not. No torch needed."""

from __future__ import annotations

import numpy as np
import pytest

import jtorch as torch


@pytest.fixture(params=["eager", "deferred"], autouse=True)
def mode(request):
    with torch.execution(request.param):
        yield request.param


INDICES = [
    np.s_[1], np.s_[-1, 2], np.s_[..., 0], np.s_[:, None], np.s_[1:, ::2], np.s_[[0, 1, 0]], np.s_[:, [2, 0]],
    np.s_[[[0], [1]], [0, 2]], np.s_[np.array([True, False])], np.s_[:, np.array([True, False, True])],
    np.s_[0, :, [1, 3]],
]  # fmt: skip


def _ours(index):
    if isinstance(index, tuple):
        return tuple(map(_ours, index))
    return torch.tensor(index) if isinstance(index, np.ndarray | list) else index


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_as_numpy(index):
    a = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    t = torch.from_numpy(a)
    expected = a[index]
    if index is INDICES[-1]:
        expected = expected.T  # an integer beside an index tensor does not part the dims in torch
    np.testing.assert_array_equal(t[_ours(index)].numpy(), expected)
    np.testing.assert_array_equal(t[index].numpy(), expected)
    t[_ours(index)] = -1
    a[index] = -1
    np.testing.assert_array_equal(t.numpy(), a)


def test_repeated_index_adds_once_or_each_time():
    x = torch.zeros(3)
    at = torch.tensor([0, 0, 2])
    x[at] += 1
    assert x.tolist() == [1, 0, 1]
    x.index_put_((at,), torch.ones(3), accumulate=True)
    assert x.tolist() == [3, 0, 2]


def test_gradient_of_a_gather():
    x = torch.arange(3.0, requires_grad=True)
    x[torch.tensor([0, 0, 2])].sum().backward()
    assert x.grad.tolist() == [2, 0, 1]


def test_an_integer_index_is_no_part_of_the_program():
    x = torch.arange(10.0)
    assert [x[i].item() for i in range(10)] == list(range(10))


@pytest.mark.parametrize(
    ("index", "words"),
    [
        (3, "index 3 is out of bounds for dimension 0 with size 2"),
        ((0, 0, 0), "too many indices for tensor of dimension 2"),
        (1.5, "only integers, slices"),
        ([5], "index 5 is out of bounds for dimension 0 with size 2"),
    ],
)
def test_errors(index, words):
    with pytest.raises(IndexError, match=words):
        torch.zeros(2, 3)[index]


def test_assignment_of_the_wrong_kind():
    x = torch.zeros(3)
    with pytest.raises(TypeError, match=r"can't assign a str to a torch\.FloatTensor"):
        x[0] = "a"
    with pytest.raises(RuntimeError, match="shape mismatch"):
        x[torch.tensor([0, 1])] = torch.ones(3)
    with pytest.raises(RuntimeError, match="expanded size of the tensor"):
        x[:2] = torch.ones(3)
