"""Views share memory, have torch's strides, and raise torch's errors."""

from __future__ import annotations

from compat.battery import Battery, layout, same_memory
from compat.judge import raises

case = Battery()


def _base(torch):
    return torch.arange(24.0).reshape(2, 3, 4)


# ---- each view function: layout, sharing, and writes both ways -------------------------------------------------------

VIEWS = {
    "view": lambda t, x: x.view(6, 4),
    "view_minus_one": lambda t, x: x.view(-1, 2),
    "view_0d_like": lambda t, x: x.view(1, 24, 1),
    "view_as": lambda t, x: x.view_as(t.empty(4, 6)),
    "reshape": lambda t, x: x.reshape(8, 3),
    "reshape_of_slice": lambda t, x: x[1].reshape(2, 6),
    "flatten": lambda t, x: x.flatten(),
    "flatten_1": lambda t, x: x.flatten(1),
    "unflatten": lambda t, x: x.unflatten(2, (2, 2)),
    "unflatten_minus_one": lambda t, x: x.unflatten(-1, (-1, 2)),
    "ravel": lambda t, x: x.ravel(),
    "squeeze": lambda t, x: x[:, 1:2].squeeze(),
    "squeeze_1": lambda t, x: x[:, 1:2].squeeze(1),
    "squeeze_none": lambda t, x: x.squeeze(1),
    "squeeze_tuple": lambda t, x: x[:1, 1:2].squeeze((0, 1)),
    "unsqueeze_0": lambda t, x: x.unsqueeze(0),
    "unsqueeze_last": lambda t, x: x.unsqueeze(-1),
    "transpose": lambda t, x: x.transpose(0, 2),
    "transpose_negative": lambda t, x: x.transpose(-1, -2),
    "t": lambda t, x: x[0].t(),
    "T": lambda t, x: x[1].T,
    "mT": lambda t, x: x.mT,
    "H": lambda t, x: x[0].H,
    "mH": lambda t, x: x.mH,
    "permute": lambda t, x: x.permute(2, 0, 1),
    "permute_tuple": lambda t, x: t.permute(x, (1, 2, 0)),
    "movedim": lambda t, x: x.movedim(0, -1),
    "movedim_tuple": lambda t, x: x.movedim((0, 1), (2, 0)),
    "moveaxis": lambda t, x: t.moveaxis(x, 1, 0),
    "swapaxes": lambda t, x: x.swapaxes(0, 1),
    "swapdims": lambda t, x: x.swapdims(1, 2),
    "narrow": lambda t, x: x.narrow(2, 1, 2),
    "narrow_negative": lambda t, x: x.narrow(-1, -3, 2),
    "select": lambda t, x: x.select(1, 2),
    "select_negative": lambda t, x: x.select(-1, -1),
    "slice": lambda t, x: x[:, 1:],
    "slice_step": lambda t, x: x[:, ::2, 1::2],
    "ellipsis": lambda t, x: x[..., 1],
    "newaxis": lambda t, x: x[:, None, 1],
    "int": lambda t, x: x[1],
    "ints": lambda t, x: x[1, 2],
    "all_ints": lambda t, x: x[1, 2, 3],
    "diagonal": lambda t, x: x.diagonal(0, 1, 2),
    "diagonal_offset": lambda t, x: x[0].diagonal(1),
    "diagonal_below": lambda t, x: t.diagonal(x, -1, -2, -1),
    "unfold": lambda t, x: x.unfold(2, 2, 2),
    "as_strided": lambda t, x: x.as_strided((3, 2), (4, 1), 5),
    "as_strided_free": lambda t, x: t.as_strided(x, (2, 2), (12, 3)),
    "detach": lambda t, x: x.detach(),
    "data": lambda t, x: x.data,
    "view_int32": lambda t, x: x.view(t.int32).view(t.float32),
    "view_as_complex": lambda t, x: t.view_as_real(t.view_as_complex(x.view(2, 3, 2, 2))),
    "real_of_complex": lambda t, x: t.view_as_complex(x.view(12, 2)).real,
    "imag_of_complex": lambda t, x: t.view_as_complex(x.view(12, 2)).imag,
    "chunk": lambda t, x: x.chunk(2, 2)[1],
    "split": lambda t, x: x.split(2, 1)[0],
    "split_sizes": lambda t, x: x.split([1, 2], 1)[1],
    "tensor_split": lambda t, x: x.tensor_split(3, 2)[1],
    "tensor_split_at": lambda t, x: t.tensor_split(x, (1, 3), 2)[1],
    "unbind": lambda t, x: x.unbind(1)[2],
    "iteration": lambda t, x: list(x)[1],
    "hsplit": lambda t, x: t.hsplit(x, 3)[1],
    "vsplit": lambda t, x: t.vsplit(x, 2)[1],
    "dsplit": lambda t, x: t.dsplit(x, 2)[0],
    "expand_as_is": lambda t, x: x.expand(2, 3, 4),
    "broadcast_to": lambda t, x: t.broadcast_to(x, (2, 3, 4)),
    "chain_transpose_slice": lambda t, x: x.transpose(0, 1)[1:, :, ::3],
    "chain_view_t_select": lambda t, x: x.view(4, 6).t()[2:5].select(1, 3),
    "chain_deep": lambda t, x: x.permute(1, 2, 0)[:, 1:3].unsqueeze(0).squeeze(0).narrow(0, 1, 2),
    "chain_slice_of_slice": lambda t, x: x[:, 1:][:, 1:][..., 2:][..., 1],
    "chain_diagonal_slice": lambda t, x: x.diagonal(0, 1, 2)[:, 1:],
    "chain_unfold_select": lambda t, x: x.unfold(1, 2, 1).select(3, 1),
    "chain_strided_t": lambda t, x: x.as_strided((2, 3), (1, 2), 4).t(),
    "chain_dtype_slice": lambda t, x: x.view(t.int32)[0, 1:].view(t.float32),
}


def _read_layout(name):
    def run(torch):
        x = _base(torch)
        v = VIEWS[name](torch, x)
        return v, layout(v), same_memory(v, x), v.data_ptr() == x.data_ptr(), v.numel()

    return run


def _write_view(name):
    def run(torch):
        x = _base(torch)
        v = VIEWS[name](torch, x)
        v.mul_(-2)
        v.add_(0.5)
        return x, v, x._version, v._version

    return run


def _write_base(name):
    def run(torch):
        x = _base(torch)
        v = VIEWS[name](torch, x)
        x.add_(100)
        first = v.clone()
        x[1, 1:] = -1
        return first, v, x, v.sum()

    return run


for _name in VIEWS:
    case.add(f"layout_{_name}", _read_layout(_name))
    case.add(f"write_view_{_name}", _write_view(_name))
    case.add(f"write_base_{_name}", _write_base(_name))


# ---- non-contiguous ones ---------------------------------------------------------------------------------------------


@case
def reshape_copies_where_it_must(torch):
    x = torch.arange(6.0).view(2, 3)
    r = x.t().reshape(6)
    r.fill_(-1)
    return x, same_memory(r, x), layout(r)


@case
def reshape_of_noncontiguous_that_can_stay(torch):
    x = torch.arange(24.0).view(4, 6)
    r = x[:, :4].reshape(2, 2, 4)
    r[0, 0, 0] = 99
    return x, layout(r), same_memory(r, x)


@case
def view_of_noncontiguous_that_can_stay(torch):
    x = torch.arange(24.0).view(4, 6)[:, :4]
    v = x.view(2, 2, 4)
    v.zero_()
    return x, layout(v)


@case
def flatten_of_noncontiguous(torch):
    x = torch.arange(6.0).view(2, 3).t()
    f = x.flatten()
    return f, same_memory(f, x), layout(f)


@case
def contiguous_is_self_or_a_copy(torch):
    x = torch.arange(6.0).view(2, 3)
    c = x.t().contiguous()
    c.zero_()
    return x.contiguous() is x, x, layout(c), same_memory(c, x)


@case
def clone_keeps_strides_of_dense(torch):
    x = torch.arange(6.0).view(2, 3).t()
    c = x.clone()
    return layout(c), c, same_memory(c, x), layout(x.clone(memory_format=torch.contiguous_format))


@case
def clone_of_gaps_is_contiguous(torch):
    return layout(torch.arange(6.0).view(2, 3)[:, :2].clone()), layout(torch.ones(3, 1).expand(3, 4).clone())


@case
def elementwise_keeps_permuted_strides(torch):
    x = torch.arange(24.0).view(2, 3, 4).permute(2, 0, 1)
    return layout(x + 1), layout(x.exp()), layout(x * x), layout(torch.zeros_like(x)), layout(x.to(torch.float64))


@case
def channels_last(torch):
    x = torch.arange(48.0).view(2, 3, 4, 2).contiguous(memory_format=torch.channels_last)
    return x, layout(x), x.is_contiguous(memory_format=torch.channels_last), layout(x + 1), layout(x.contiguous())


@case
def expand_layout(torch):
    x = torch.arange(3.0).view(3, 1)
    e = x.expand(3, 4)
    x[1] = 9
    return (
        e,
        layout(e),
        layout(x.expand(2, -1, 4)),
        layout(torch.tensor(1.0).expand(2, 2)),
        e.data_ptr() == x.data_ptr(),
    )


@case
def expand_write_raises(torch):
    e = torch.zeros(1, 3).expand(2, 3)
    return raises(lambda: e.add_(1), "unsupported operation"), raises(
        lambda: e.mul_(2), "more than one element of the written-to"
    )


@case
def expand_element_write(torch):
    x = torch.zeros(1, 3)
    e = x.expand(2, 3)
    e[0, 1] = 5
    return x, e


@case
def expand_fill_fails_or_not(torch):
    x = torch.zeros(3, 1)
    e = x.expand(3, 2)
    return raises(lambda: e.copy_(torch.ones(3, 2)), "unsupported operation")


@case
def unfold_overlaps(torch):
    x = torch.arange(7.0)
    u = x.unfold(0, 3, 2)
    x[2] = -1
    return u, layout(u)


@case
def unfold_write_through_window(torch):
    x = torch.arange(7.0)
    x.unfold(0, 3, 2)[1].fill_(9)
    return x


@case
def as_strided_overlap_reads(torch):
    x = torch.arange(6.0)
    w = x.as_strided((4, 3), (1, 1))
    x[2] = 50
    return w, layout(w)


@case
def as_strided_of_a_view_sees_the_storage(torch):
    x = torch.arange(12.0)
    v = x[4:8]
    return v.as_strided((3,), (2,)), v.as_strided((3,), (2,), 0), layout(v.as_strided((2,), (1,)))


@case
def as_strided_write(torch):
    x = torch.zeros(8)
    x.as_strided((2, 2), (4, 1), 1).copy_(torch.tensor([[1.0, 2], [3, 4]]))
    return x


@case
def as_strided_(torch):
    x = torch.arange(8.0)
    x.as_strided_((2, 2), (4, 1))
    return x, layout(x)


@case
def diagonal_write(torch):
    x = torch.zeros(3, 3)
    x.diagonal().copy_(torch.tensor([1.0, 2, 3]))
    x.diagonal(1).fill_(7)
    return x


@case
def fill_diagonal(torch):
    x = torch.zeros(3, 4)
    x.fill_diagonal_(2.0)
    return x, torch.zeros(7, 3).fill_diagonal_(5, wrap=True)


# ---- errors ----------------------------------------------------------------------------------------------------------


@case
def view_errors(torch):
    x = torch.arange(6.0).view(2, 3)
    return (
        raises(lambda: x.t().view(6), "view size is not compatible with input tensor's size and stride"),
        raises(lambda: x.view(4), "shape '[4]' is invalid for input of size 6"),
        raises(lambda: x.view(-1, -1), "only one dimension can be inferred"),
        raises(lambda: x.view(-1, 4), "shape '[-1, 4]' is invalid for input of size 6"),
        raises(lambda: x.view(-2, 3), "invalid shape dimension -2"),
        raises(lambda: x.reshape(7), "shape '[7]' is invalid for input of size 6"),
        raises(lambda: torch.zeros(0).view(-1, 0), "cannot reshape tensor of 0 elements into shape [-1, 0]"),
    )


@case
def dim_errors(torch):
    x = torch.zeros(2, 3)
    return (
        raises(lambda: x.transpose(0, 2), "Dimension out of range (expected to be in range of [-2, 1], but got 2)"),
        raises(lambda: x.unsqueeze(4), "Dimension out of range"),
        raises(lambda: x.squeeze(5), "Dimension out of range"),
        raises(lambda: x.permute(0, 0), "duplicate dims"),
        raises(lambda: x.permute(0), "number of dimensions"),
        raises(lambda: torch.zeros(2, 2, 2).t(), "t() expects a tensor with <= 2 dimensions"),
        raises(lambda: x.movedim(0, 3), "Dimension out of range"),
    )


@case
def select_narrow_errors(torch):
    x = torch.zeros(2, 3)
    return (
        raises(lambda: x.select(0, 2), "select(): index 2 out of range for tensor of size [2, 3] at dimension 0"),
        raises(lambda: x[2], "index 2 is out of bounds for dimension 0 with size 2"),
        raises(lambda: x.narrow(0, 1, 2), "start (1) + length (2) exceeds dimension size (2)."),
        raises(lambda: x.narrow(0, 0, -1), "narrow(): length must be non-negative."),
        raises(lambda: torch.tensor(1.0).select(0, 0), "select() cannot be applied to a 0-dim tensor."),
        raises(lambda: x.unfold(1, 4, 1), "maximum size for tensor at dimension 1 is 3 but size is 4"),
        raises(lambda: x.unfold(1, 1, 0), "step is 0 but must be > 0"),
        raises(lambda: x.diagonal(0, 0, 0), "diagonal dimensions cannot be identical 0, 0"),
    )


@case
def expand_errors(torch):
    x = torch.zeros(2, 3)
    return (
        raises(lambda: x.expand(4, 3), "The expanded size of the tensor (4) must match the existing size (2)"),
        raises(
            lambda: x.expand(3), "the number of sizes provided (1) must be greater or equal to the number of dimensions"
        ),
        raises(lambda: x.expand(-1, 2, 3), "isn't allowed in a leading, non-existing dimension 0"),
        raises(lambda: torch.broadcast_to(x, (2, 2)), "The expanded size of the tensor (2) must match"),
    )


@case
def split_errors(torch):
    x = torch.zeros(4)
    return (
        raises(lambda: x.split([1, 2]), "split_with_sizes expects split_sizes to sum exactly to 4"),
        raises(lambda: x.chunk(0), "chunk expects `chunks` to be greater than 0"),
        raises(lambda: torch.tensor(1.0).chunk(2), "chunk expects at least a 1-dimensional tensor"),
        raises(lambda: x.unflatten(0, (3, 2)), "don't multiply up to the size of dim 0 (4)"),
        raises(lambda: torch.hsplit(torch.tensor(1.0), 2), "torch.hsplit requires a tensor with at least 1 dimension"),
    )


@case
def as_strided_errors(torch):
    x = torch.zeros(4)
    return (
        raises(lambda: x.as_strided((5,), (1,)), "out of bounds for storage of size 16"),
        raises(lambda: x.as_strided((2, 2), (1,)), "mismatch in length of strides and shape"),
        raises(lambda: x.as_strided((2,), (-1,)), "Negative strides are not supported"),
    )


@case
def inplace_shape_errors(torch):
    x = torch.zeros(3)
    return (
        raises(lambda: x.add_(torch.ones(2, 3)), "output with shape [3] doesn't match the broadcast shape [2, 3]"),
        raises(lambda: x.copy_(torch.ones(2)), "The size of tensor a (3) must match the size of tensor b (2)"),
        raises(lambda: torch.zeros(2, dtype=torch.int64).add_(0.5), "can't be cast to the desired output type Long"),
        x,
    )


@case
def view_as_complex_errors(torch):
    return (
        raises(lambda: torch.view_as_complex(torch.zeros(3)), "Tensor must have a last dimension of size 2"),
        raises(lambda: torch.view_as_real(torch.zeros(3)), "view_as_real is only supported for complex tensors"),
        raises(
            lambda: torch.view_as_complex(torch.zeros(2, dtype=torch.int64)), "view_as_complex is only supported for"
        ),
    )


test_views = case.test()
