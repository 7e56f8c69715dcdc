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


# ---- sharing and writing ---------------------------------------------------------------------------------------------


@case
def two_views_of_one_base(torch):
    x = torch.zeros(4)
    a, b = x[:3], x[1:]
    a.add_(1)
    b.mul_(10)
    return x, a, b


@case
def view_written_then_base_read_then_written(torch):
    x = torch.zeros(2, 2)
    v = x.t()
    v[0, 1] = 3
    s = x.sum()
    x[1, 1] = 4
    return s, v, x.sum()


@case
def setitem_through_view_of_view(torch):
    x = torch.zeros(3, 4)
    x[1:].t()[2:][0, 1] = 8
    x.view(-1)[5] = 6
    x.view(2, 6)[:, ::3] = torch.tensor([[1.0, 2], [3, 4]])
    return x


@case
def setitem_mask_through_view(torch):
    x = torch.arange(6.0)
    v = x.view(2, 3)
    v[v > 3] = 0
    v[:, [0, 2]] = -5
    return x, v


@case
def setitem_tensor_index_through_transpose(torch):
    x = torch.zeros(2, 3)
    x.t()[torch.tensor([0, 2])] = torch.tensor([[1.0, 2], [3, 4]])
    return x


@case
def write_overlapping_regions(torch):
    x = torch.arange(6.0)
    x[1:] = x[:-1].clone()
    return x


@case
def iadd_on_slice(torch):
    x = torch.ones(4)
    x[1:3] += 5
    x[0] -= 2
    x[::2] *= 3
    return x, x._version


@case
def inplace_on_row_in_loop(torch):
    x = torch.zeros(3, 2)
    for i, row in enumerate(x):
        row += i
    return x


@case
def chunk_writes(torch):
    x = torch.zeros(2, 6)
    for i, part in enumerate(x.chunk(3, dim=1)):
        part.fill_(i)
    return x


@case
def unbind_writes(torch):
    x = torch.zeros(2, 3)
    a, b = x.unbind()
    a.add_(1)
    b.copy_(a * 2)
    return x


@case
def copy_from_own_view(torch):
    x = torch.arange(9.0).view(3, 3)
    x.copy_(x.t().clone())
    return x


@case
def copy_broadcasts_and_casts(torch):
    x = torch.zeros(2, 3, dtype=torch.int64)
    x[0].copy_(torch.tensor(2.7))
    x[1:].copy_(torch.tensor([1.9, -1.9, 0.0]))
    return x


@case
def zero_and_fill_on_views(torch):
    x = torch.ones(3, 3)
    x[0].zero_()
    x[:, 1].fill_(4)
    x.diagonal().fill_(torch.tensor(9.0))
    return x


@case
def detach_shares(torch):
    x = torch.ones(2, requires_grad=True)
    d = x.detach()
    d[0] = 7
    return x, d.requires_grad, same_memory(x, d), d.is_leaf, d._version == x._version


@case
def data_shares_but_not_version(torch):
    x = torch.ones(2)
    before = x._version
    x.data.mul_(3)
    return x, x._version - before


@case
def detach_shares_version(torch):
    x = torch.ones(2)
    x.detach().mul_(3)
    return x, x._version


@case
def data_assignment(torch):
    x = torch.ones(2, requires_grad=True)
    y = torch.zeros(3)
    x.data = y
    y.add_(1)
    return x, x.requires_grad, layout(x)


@case
def version_counts(torch):
    x = torch.zeros(3)
    v = x[1:]
    seen = [x._version, v._version]
    x.add_(1)
    seen.append(v._version)
    v.zero_()
    v[0] = 1
    seen += [x._version, v._version, x.clone()._version]
    return seen


@case
def is_view_and_base(torch):
    x = torch.zeros(2, 3)
    v = x.t()[0]
    return x._is_view(), v._is_view(), v._base is x, x._base is None, x.detach()._is_view(), x.clone()._is_view()


@case
def data_ptr_offsets(torch):
    x = torch.zeros(4, 4)
    y = torch.zeros(4, 4, dtype=torch.int16)
    return x[1].data_ptr() - x.data_ptr(), x[:, 2].data_ptr() - x.data_ptr(), y[3, 1].data_ptr() - y.data_ptr()


@case
def data_ptr_differs_between_tensors(torch):
    x, y = torch.zeros(4), torch.zeros(4)
    return x.data_ptr() == y.data_ptr(), x.data_ptr() == x.view(2, 2).data_ptr(), x.data_ptr() == x.clone().data_ptr()


@case
def data_ptr_survives_writes(torch):
    x = torch.zeros(4)
    before = x.data_ptr()
    x.add_(1)
    x[1] = 3
    return x.data_ptr() == before


@case
def storage_size(torch):
    x = torch.zeros(4, 4)[1:]
    return x.untyped_storage().nbytes(), x.untyped_storage().size(), x.storage_offset(), x.element_size()


@case
def empty_data_ptr(torch):
    return torch.zeros(0).data_ptr(), torch.zeros(0, 3).stride(), torch.zeros(2, 0).stride()


# ---- dtype views -----------------------------------------------------------------------------------------------------


@case
def view_dtype_same_size(torch):
    x = torch.tensor([1.0, -2.0])
    v = x.view(torch.int32)
    v[0] = 0
    return v, x, layout(v)


@case
def view_dtype_smaller(torch):
    x = torch.tensor([[1, 2], [3, 4]], dtype=torch.int32)
    v = x.view(torch.int16)
    v[0, 0] = 7
    return v, x, layout(v)


@case
def view_dtype_larger(torch):
    x = torch.tensor([1, 0, 2, 0], dtype=torch.int32)
    v = x.view(torch.int64)
    v[1] = 5
    return v, x, layout(v)


@case
def view_dtype_uint8(torch):
    return torch.tensor([1.5], dtype=torch.float64).view(torch.uint8), torch.tensor([True, False]).view(torch.uint8)


@case
def view_dtype_errors(torch):
    x = torch.zeros(3, dtype=torch.int32)
    return (
        raises(lambda: x.view(torch.int64), "self.size(-1) must be divisible by 2"),
        raises(lambda: torch.zeros(2, 2).t().view(torch.float64), "self.stride(-1) must be 1"),
        raises(lambda: torch.tensor(1.0).view(torch.float64), "self.dim() cannot be 0"),
    )


@case
def complex_parts_write(torch):
    z = torch.tensor([1 + 2j, 3 - 4j])
    z.real.mul_(10)
    z.imag[0] = -1
    return z, layout(z.real), layout(z.imag)


@case
def view_as_real_write(torch):
    z = torch.tensor([1 + 2j, 3 - 4j])
    torch.view_as_real(z)[1, 1] = 0
    return z, layout(torch.view_as_real(z))


@case
def view_as_complex_write(torch):
    x = torch.arange(6.0).view(3, 2)
    torch.view_as_complex(x)[1] = 9 + 9j
    return x


@case
def real_of_real_is_self(torch):
    x = torch.ones(2)
    return same_memory(x.real, x), raises(lambda: x.imag, "imag is not implemented for tensors with non-complex dtypes")


@case
def conj_is_lazy_view(torch):
    z = torch.tensor([1 + 2j, 3 - 4j])
    c = z.conj()
    seen = c.clone()
    return (
        seen,
        c.is_conj(),
        c.resolve_conj().is_conj(),
        torch.ones(2).conj().is_conj(),
        z.mH if z.ndim > 1 else z.conj().real,
    )


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


# ---- changing a tensor's own shape -----------------------------------------------------------------------------------


@case
def inplace_shape_methods(torch):
    x = torch.arange(6.0).view(2, 3)
    y = x.view(-1)
    x.t_()
    first = x.clone(), layout(x)
    x.unsqueeze_(0)
    x.squeeze_()
    x.transpose_(0, 1)
    x[0, 0] = 9
    return first, layout(x), y


@case
def resize_within_storage(torch):
    x = torch.arange(6.0)
    x.resize_(2, 2)
    small = x.clone(), layout(x)
    x.resize_(6)
    return small, x


@case
def resize_larger_keeps_values(torch):
    x = torch.arange(3.0)
    x.resize_(2, 3)
    return x.view(-1)[:3], layout(x)


@case
def set_shares(torch):
    x, y = torch.zeros(2), torch.arange(4.0)
    x.set_(y)
    x[0] = 9
    return x, y, layout(x), same_memory(x, y)


@case
def set_storage(torch):
    y = torch.arange(6.0)
    x = torch.empty(0)
    x.set_(y.untyped_storage(), 2, (2, 2), (2, 1))
    x[0, 0] = -1
    return x, y, layout(x)


@case
def is_set_to(torch):
    x = torch.zeros(2, 2)
    return x.is_set_to(x.view(2, 2)), x.is_set_to(x.view(4)), x.is_set_to(torch.zeros(2, 2))


# ---- conversions that share or copy ----------------------------------------------------------------------------------


@case
def to_same_is_self(torch):
    x = torch.ones(2)
    return x.to(torch.float32) is x, x.float() is x, x.to("cpu") is x, x.to(torch.float32, copy=True) is x, x.cpu() is x


@case
def type_as_and_contiguous_identity(torch):
    x = torch.ones(2)
    return x.type_as(torch.zeros(1)) is x, x.contiguous() is x, x.view(2) is x, x.expand(2) is x, x.squeeze() is x


@case
def asarray_and_as_tensor_share(torch):
    x = torch.zeros(2)
    y = torch.as_tensor(x)
    z = torch.asarray(x)
    y[0] = 1
    w = torch.tensor(x)
    w[1] = 5
    return y is x, x, z, same_memory(z, x), same_memory(w, x)


@case
def atleast_and_broadcast_share(torch):
    x = torch.tensor(3.0)
    a = torch.atleast_2d(x)
    a.mul_(2)
    b, c = torch.broadcast_tensors(torch.arange(3.0), torch.zeros(2, 1))
    return x, layout(a), layout(b), layout(c), torch.atleast_1d(a) is a


@case
def meshgrid_are_views(torch):
    a, b = torch.meshgrid(torch.arange(2.0), torch.arange(3.0), indexing="ij")
    return a, b, layout(a), layout(b)


@case
def flip_and_roll_copy(torch):
    x = torch.arange(4.0)
    x.flip(0).zero_()
    x.roll(1).zero_()
    torch.rot90(x.view(2, 2)).zero_()
    return x


@case
def advanced_index_copies(torch):
    x = torch.arange(4.0)
    x[[0, 1]].zero_()
    x[x > 1].zero_()
    return x


@case
def narrow_copy_and_friends(torch):
    x = torch.arange(4.0)
    n = x.narrow_copy(0, 1, 2)
    n.zero_()
    return x, same_memory(n, x)


@case
def out_writes_through_view(torch):
    x = torch.zeros(2, 3)
    torch.add(torch.ones(3), 1, out=x[1])
    torch.mul(torch.ones(2), 5, out=x[:, 0])
    return x


@case
def out_resizes(torch):
    o = torch.empty(0)
    r = torch.add(torch.ones(2, 2), 1, out=o)
    return r is o, o, layout(o)


@case
def out_is_input(torch):
    x = torch.arange(3.0)
    torch.add(x, x, out=x)
    return x


@case
def swap_through_temporaries(torch):
    x = torch.arange(4.0)
    x[0], x[3] = x[3].clone(), x[0].clone()
    x[[1, 2]] = x[[2, 1]]
    return x


@case
def pickle_and_deepcopy_of_views(torch):
    import copy

    x = torch.arange(6.0)
    pair = copy.deepcopy([x, x[2:4]])
    pair[1].zero_()
    shallow = copy.copy(x)
    return pair[0], same_memory(pair[0], pair[1]), same_memory(shallow, x), x


@case
def zero_dim_writes(torch):
    x = torch.zeros(2)
    e = x[1]
    e += 5
    e.fill_(e.item() * 2)
    x[0] = e
    return x, e, layout(e)


@case
def empty_slices(torch):
    x = torch.arange(4.0)
    e = x[2:2]
    e.add_(1)
    x[4:] = 7
    x[3:1] = torch.zeros(0)
    return x, layout(e), layout(x[4:]), layout(torch.zeros(2, 0, 3).transpose(0, 2))


@case
def writes_between_reads(torch):
    x = torch.zeros(3)
    v = x[1:]
    seen = []
    for k in range(3):
        v += k
        seen.append(x.sum().item())
        x *= 2
        seen.append(v.tolist())
    return seen, x


@case
def values_taken_before_a_write_stay(torch):
    x = torch.ones(3)
    y = x + 1
    c = x.clone()
    v = x[:2]
    x.mul_(5)
    return y, c, v, x


@case
def many_views_dropped(torch):
    x = torch.zeros(4)
    for k in range(4):
        x[k] = k
        x[k:].add_(1)
    return x


@case
def inplace_bool_and_logical(torch):
    m = torch.tensor([True, False, True, False]).view(2, 2)
    m.t()[0].logical_not_()
    m[1] &= True
    m |= torch.tensor([False, True])
    return m


@case
def inplace_int_division(torch):
    x = torch.tensor([7, -7, 3])
    x[:2] //= 2
    x[1:] %= 4
    x <<= 1
    return x, raises(lambda: x.div_(2), "can't be cast to the desired output type Long")


test_views = case.test()
