"""Views: writes that their sharers see, other dtypes over the same memory, shapes changed in place, conversions."""

from __future__ import annotations

from compat.battery import Battery, layout, same_memory
from compat.judge import raises

case = Battery()


def _base(torch):
    return torch.arange(24.0).reshape(2, 3, 4)


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


test_views_sharing = case.test()
