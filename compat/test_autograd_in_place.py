"""Autograd as torch's: in-place writes."""

from __future__ import annotations

from compat.battery import Battery, layout
from compat.graphs import leaf
from compat.judge import raises

case = Battery()


# ---- in place --------------------------------------------------------------------------------------------------------


@case
def leaf_in_place_error(torch):
    x = leaf(torch)
    message = "a leaf Variable that requires grad is being used in an in-place operation"
    return (
        raises(lambda: x.add_(1), message),
        raises(lambda: x.zero_(), message),
        raises(lambda: x.__setitem__(0, 1.0), "leaf Variable that requires grad"),
        raises(lambda: x[:2].mul_(2), "a view of a leaf Variable that requires grad is being used in an in-place"),
        x,
    )  # fmt: skip


@case
def modified_saved_input(torch):
    x = leaf(torch)
    y = x * 1
    z = (y * y).sum()
    y.add_(1)
    return raises(
        z.backward, "one of the variables needed for gradient computation has been modified by an inplace operation"
    )


@case
def modified_saved_output(torch):
    x = leaf(torch)
    y = x.exp()
    y.mul_(2)
    return raises(y.sum().backward, "modified by an inplace operation")


@case
def modified_version_in_message(torch):
    x = leaf(torch)
    y = x.exp()
    y.mul_(2)
    return raises(y.sum().backward, "is at version 1; expected version 0 instead")


@case
def modified_plain_operand(torch):
    x, w = leaf(torch), torch.ones(3)
    y = (x * w).sum()
    w.add_(1)
    return raises(y.backward, "modified by an inplace operation")


@case
def modified_by_view_write(torch):
    x, w = leaf(torch), torch.ones(3)
    y = (x * w).sum()
    w[1:].zero_()
    return raises(y.backward, "modified by an inplace operation")


@case
def modified_but_not_needed(torch):
    x = leaf(torch)
    y = x * 2
    z = y + 1
    y.mul_(5)
    z.sum().backward()
    return x.grad


@case
def data_write_goes_unseen(torch):
    x = leaf(torch)
    y = x * 1
    z = (y * y).sum()
    y.data.zero_()
    z.backward()
    return x.grad


@case
def in_place_chain(torch):
    x = leaf(torch)
    y = x * 2
    y.add_(3).mul_(4)
    y += x
    y.sum().backward()
    return x.grad, y.grad_fn.name(), y._version


@case
def in_place_on_view_of_middle(torch):
    x = leaf(torch)
    y = x * 2
    y[1:].mul_(10)
    (y * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    return x.grad, y


@case
def in_place_on_base_seen_by_view(torch):
    x = leaf(torch)
    y = x * 2
    v = y[:2]
    y.mul_(3)
    v.sum().backward()
    return x.grad, v.grad_fn.name()


@case
def in_place_view_grad_fn_names(torch):
    x = torch.ones(2, 2, requires_grad=True)
    y = x * 2
    v = y[0]
    before = v.grad_fn.name(), y.grad_fn.name()
    v.mul_(3)
    return before, v.grad_fn.name(), y.grad_fn.name(), y.requires_grad


@case
def in_place_makes_plain_base_require_grad(torch):
    x = leaf(torch)
    y = torch.zeros(2, 3)
    y[1] = x * 2
    y[0].add_(x)
    (y * y).sum().backward()
    return x.grad, y.requires_grad, y.grad_fn.name()


@case
def setitem_gradients(torch):
    x, w = leaf(torch), leaf(torch, 7.0)
    y = x.clone()
    y[1] = w[0] * 3
    y[torch.tensor([True, False, False])] = 0.0
    (y * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    return x.grad, w.grad


@case
def setitem_views_and_reads(torch):
    x = torch.arange(6.0).view(2, 3).requires_grad_()
    y = x.clone()
    y.t()[1] = x[0, 1] * 2
    y[:, 2:] *= y[:, :1].clone()
    (y**2).sum().backward()
    return x.grad


@case
def copy_gradients(torch):
    x, y = leaf(torch), leaf(torch, 5.0, 6.0, 7.0)
    z = x * 2
    z.copy_(y)
    z.sum().backward()
    return x.grad, y.grad


@case
def copy_into_slice_broadcasts(torch):
    s = torch.tensor(2.0, requires_grad=True)
    b = torch.zeros(3, 2)
    b[1:].copy_(s)
    (b * torch.arange(6.0).view(3, 2)).sum().backward()
    return s.grad


@case
def fill_and_zero_stop_gradients(torch):
    x = leaf(torch)
    y = x * 2
    y[0].zero_()
    y[1:2].fill_(5)
    y.sum().backward()
    return x.grad


@case
def masked_fill_in_place(torch):
    x = leaf(torch)
    y = x * x
    y.masked_fill_(x > 2, -1.0)
    y.sum().backward()
    return x.grad


@case
def relu_in_place(torch):
    x = leaf(torch, -1.0, 0.0, 2.0)
    y = x * 3
    torch.nn.functional.relu(y, inplace=True)
    y.sum().backward()
    return x.grad, y


@case
def clamp_in_place_on_diagonal(torch):
    x = torch.arange(9.0).view(3, 3).requires_grad_()
    y = x * 1
    y.diagonal().clamp_(max=5)
    y.pow(2).sum().backward()
    return x.grad


@case
def in_place_under_no_grad_keeps_leaf(torch):
    x = leaf(torch)
    (x * x).sum().backward()
    with torch.no_grad():
        x -= 0.5 * x.grad
    x.grad = None
    (x * x).sum().backward()
    return x, x.grad, x.is_leaf


@case
def multi_view_in_place_error(torch):
    x = leaf(torch)
    a, _, _ = (x * 2).unbind()
    return raises(lambda: a.add_(1), "is a view and is being modified inplace")


@case
def no_grad_view_in_place_error(torch):
    x = leaf(torch)
    y = x * 2
    with torch.no_grad():
        v = y[:2]
    return raises(
        lambda: v.mul_(2), "A view was created in no_grad mode and is being modified inplace with grad mode enabled"
    )


@case
def chunk_view_in_place_error(torch):
    x = leaf(torch)
    a = (x * 2).chunk(3)[0]
    return raises(lambda: a.mul_(2), "is a view and is being modified inplace")


@case
def gradient_through_views(torch):
    x = torch.arange(12.0).view(3, 4).requires_grad_()
    y = x.t()[1:3].reshape(2, 3, 1).expand(2, 3, 2).permute(2, 0, 1).diagonal(0, 1, 2)
    (y * torch.arange(4.0).view(2, 2)).sum().backward()
    z = x.unfold(1, 2, 1) * x.as_strided((3, 3, 2), (4, 1, 1)).detach()
    z.sum().backward()
    return x.grad


@case
def as_strided_overlap_gradient(torch):
    x = leaf(torch, 1.0, 2.0, 3.0, 4.0)
    w = x.as_strided((3, 2), (1, 1))
    (w * torch.arange(6.0).view(3, 2)).sum().backward()
    return x.grad


@case
def grad_layout(torch):
    x = torch.arange(6.0).view(2, 3).t().detach().requires_grad_()
    (x * 2).sum().backward()
    return layout(x.grad), x.grad


test_autograd_in_place = case.test()
