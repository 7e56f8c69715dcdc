"""Views share memory, keep strides, and write through. No torch needed."""

from __future__ import annotations

import numpy as np
import pytest

import jtorch as torch


@pytest.fixture(params=["eager", "deferred"], autouse=True)
def mode(request):
    with torch.execution(request.param):
        yield request.param


VIEWS = {
    "view": lambda a: a.reshape(4, 6), "transpose": lambda a: a.T, "slice": lambda a: a[:, 1:, ::2],
    "select": lambda a: a[1], "squeeze": lambda a: a[None], "diagonal": lambda a: np.diagonal(a, 0, 0, 1),
    "chain": lambda a: a.T[1:3][0],
}  # fmt: skip
OURS = {
    "view": lambda t: t.view(4, 6), "transpose": lambda t: t.permute(2, 1, 0), "slice": lambda t: t[:, 1:, ::2],
    "select": lambda t: t[1], "squeeze": lambda t: t.unsqueeze(0), "diagonal": lambda t: t.diagonal(0, 0, 1),
    "chain": lambda t: t.permute(2, 1, 0)[1:3][0],
}  # fmt: skip


@pytest.mark.parametrize("name", VIEWS)
def test_writes_go_both_ways(name):
    a = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    t = torch.from_numpy(a)
    theirs, ours = VIEWS[name](a), OURS[name](t)
    assert ours.stride() == tuple(s // 4 for s in theirs.strides) or name == "squeeze"
    a[1] += 10
    t[1] += 10
    np.testing.assert_array_equal(ours.numpy(), theirs)
    if theirs.flags.writeable:
        theirs *= 2
        ours.mul_(2)
        np.testing.assert_array_equal(t.numpy(), a)


def test_view_refuses_what_strides_cannot_say():
    with pytest.raises(RuntimeError, match="view size is not compatible"):
        torch.zeros(2, 3).t().view(6)
    x = torch.zeros(2, 3)
    assert x.t().reshape(6).untyped_storage() != x.untyped_storage()


def test_other_dtypes_over_the_same_memory():
    x = torch.tensor([1.0, 2.0])
    x.view(torch.int32)[0] = 0
    assert x.tolist() == [0, 2]
    z = torch.zeros(2, dtype=torch.complex64)
    torch.view_as_real(z)[0, 1] = 3
    z.real[1] = 2
    assert z.tolist() == [3j, 2 + 0j]


def test_changes_of_shape_in_place():
    x = torch.arange(6.0).view(2, 3)
    flat = x.view(-1)
    assert x.t_() is x
    assert (x.shape, x.stride()) == ((3, 2), (1, 3))
    x[2, 0] = 9
    assert flat.tolist() == [0, 1, 9, 3, 4, 5]


def test_expanded_rows_are_one():
    e = torch.zeros(1, 3).expand(2, 3)
    e[0, 1] = 5
    assert e.tolist() == [[0, 5, 0]] * 2
    with pytest.raises(RuntimeError, match="more than one element of the written-to tensor"):
        e.add_(1)


def test_copies_and_scatters():
    x = torch.zeros(2, 2)
    assert torch.select_scatter(x, torch.ones(2), 0, 1).tolist() == [[0, 0], [1, 1]]
    assert torch.diagonal_scatter(x, torch.ones(2)).tolist() == [[1, 0], [0, 1]]
    torch.t_copy(x).add_(1)
    assert x.sum().item() == 0


def test_gradient_through_a_written_view():
    x = torch.ones(3, requires_grad=True)
    y = x * 2
    y[1:].mul_(3)
    y.sum().backward()
    assert x.grad.tolist() == [2, 6, 6]
