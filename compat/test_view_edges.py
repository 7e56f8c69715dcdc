"""Views of tensors without elements and with dims of size 1, their names and errors; what assignment accepts."""

from __future__ import annotations

import numpy as np

from compat.battery import Battery, layout
from compat.judge import raises

case = Battery()

BASES = {
    "0d": lambda t: t.tensor(3.0),
    "empty": lambda t: t.zeros(2, 0, 3),
    "empty_slice": lambda t: t.arange(12.0).view(3, 4)[:, 2:2].t(),
    "row": lambda t: t.arange(4.0).view(1, 4),
    "middle_one": lambda t: t.arange(24.0).view(2, 1, 3, 4).transpose(1, 3),
    "steps": lambda t: t.arange(48.0).view(2, 3, 8)[:, 1:, ::2],
}
VIEWS = {
    "unsqueeze": lambda t, x: x.unsqueeze(0),
    "swap": lambda t, x: x.swapaxes(axis0=0, axis1=-1) if x.ndim else x.mT,
    "last": lambda t, x: x[..., 1:] if x.ndim else x[None],
    "stepped": lambda t, x: x[::2] if x.ndim else x.movedim(0, -1),
    "view_as": lambda t, x: x.view_as(x),
    "leading": lambda t, x: x.expand(1, *x.shape),
    "ravel": lambda t, x: x.ravel(),
    "reshape": lambda t, x: x.reshape(shape=(-1,)),
    "clone": lambda t, x: x.clone(),
    "split": lambda t, x: x.tensor_split(sections=2, dim=-1)[-1] if x.ndim else x.flatten(),
    "sum": lambda t, x: x + x,
    "sum_number": lambda t, x: x * 2 + 1,
}


def _edge(base, view):
    def run(torch):
        x = BASES[base](torch)
        v = VIEWS[view](torch, x)
        before = v.clone(), layout(v), v._is_view()
        v.add_(1)
        return before, x, x._version, v._version

    return run


for _base in BASES:
    for _view in VIEWS:
        case.add(f"{_view}_of_{_base}", _edge(_base, _view))


@case
def other_dtype_is_outside_the_graph(torch):
    x = torch.zeros(4, requires_grad=True)
    v = (x * 1).view(torch.int32)
    return v._is_view(), v.requires_grad, x.view(torch.float32).requires_grad


@case
def dim_order(torch):
    x = torch.zeros(2, 3, 4)
    return x.dim_order(), x.permute(2, 0, 1).dim_order(), x[0].t().dim_order(), torch.tensor(1.0).dim_order()


@case
def resize_counts_as_a_write(torch):
    x = torch.zeros(2, 2)
    same = x.resize_(2, 2)._version
    return same, x.resize_(1)._version


@case
def words(torch):
    x, s, m = torch.zeros(2, 3), torch.tensor(1.0), torch.zeros(5)[1:].view(2, 2)
    return (
        raises(lambda: x.view(2, -2), "invalid shape dimension -2 at index 1 of shape [2, -2]"),
        raises(lambda: x.squeeze((0, -2)), "dim 0 appears multiple times in the list of dims"),
        raises(lambda: x.permute(), 'missing 1 required positional arguments: "dims"'),
        raises(lambda: x.split([3, -1]), "have only non-negative entries"),
        raises(lambda: x.expand(4, 4), "The expanded size of the tensor (4) must match the existing size (3)"),
        raises(lambda: x.unfold(0, -1, 1), "size is -1 but must be >= 0"),
        raises(lambda: x.as_strided((2,), (1,), -1), "invalid storage offset -1"),
        raises(lambda: s.unflatten(0, (1,)), "unflatten got an unexpected error"),
        raises(lambda: torch.view_as_complex(m), "storage_offset divisible by 2"),
        raises(lambda: x[..., 5], "index 5 is out of bounds for dimension 1 with size 3"),
        raises(lambda: x[:, None, 5], "index 5 is out of bounds for dimension 2 with size 3"),
    )


@case
def assignment_of_other_dtypes(torch):
    x = torch.zeros(3, dtype=torch.int64)
    x[:2] = torch.tensor([1.9, 2.9])
    x[torch.tensor([False, False, True])] = torch.tensor([7.5])
    x[0] = np.int32(4)
    return (
        x,
        raises(lambda: x.__setitem__([0, 1], torch.tensor(1.5)), "source and destination dtypes match, got Long"),
        raises(lambda: x.__setitem__([0, 1], torch.ones(3)), "shape mismatch: value tensor of shape [3]"),
        raises(lambda: x.__setitem__(0, np.array(1)), "can't assign a numpy.ndarray to a torch.LongTensor"),
        raises(lambda: x.__setitem__(torch.ones(3).byte(), 1), "masked_fill_ only supports boolean masks"),
    )


@case
def assignment_counts_as_a_write(torch):
    x = torch.zeros(2, 3)
    seen = []
    for index in (slice(5, 7), [], False, True, (False,)):
        x[index] = 1.0
        seen.append(x._version)
    return seen, x


@case
def assignment_over_everything_stops_the_gradient(torch):
    x = torch.ones(3, requires_grad=True)
    y, v = x * 2, torch.ones(3, requires_grad=True)
    y[:] = v
    y.sum().backward()
    return x.grad, v.grad


@case
def gathers_keep_the_order_of_memory(torch):
    x = torch.arange(24.0).view(2, 3, 4).permute(2, 1, 0)
    return layout(x[[0, 1]]), layout(x[:, [0, 2]]), layout(x[:, :, torch.tensor([[0, 1], [1, 0]])])


@case
def writes_under_no_grad_keep_the_order_of_memory(torch):
    seen = []
    for view in (lambda b: b.t(), lambda b: b[:, ::2], lambda b: b.permute(1, 0)[1:]):
        leaf = torch.arange(12.0).view(3, 4).requires_grad_()
        b = leaf * 1
        v = view(b)
        with torch.no_grad():
            v.masked_fill_(v > 2, -1.0)
        seen += [layout(v), b.detach(), torch.autograd.grad((b * b.detach()).sum(), leaf)[0]]
    return seen


test_view_edges = case.test()
