"""Tensors as objects: creation, dtypes, conversion, copying, JAX and NumPy at the edges. No torch needed."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jtorch as torch
from jtorch._tensor.derive import overloaded


@pytest.fixture(params=["eager", "deferred"], autouse=True)
def mode(request):
    with torch.execution(request.param):
        yield request.param


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        (1, torch.int64), (1.5, torch.float32), (True, torch.bool), (1j, torch.complex64), ([1, 2.5], torch.float32),
        ([], torch.float32), ([True, 2], torch.int64), (np.float64(1), torch.float64), ([np.int8(1)], torch.int8),
        (np.arange(3, dtype=np.int16), torch.int16), ([np.int8(1), np.float64(2)], torch.float64),
    ],
)  # fmt: skip
def test_inferred_dtype(data, dtype):
    assert torch.tensor(data).dtype is dtype


def test_promotion_of_categories():
    x = torch.ones(2, dtype=torch.int8)
    assert (x + 300).dtype is torch.int8
    assert (x + 1.5).dtype is torch.float32
    assert (x + torch.tensor(1, dtype=torch.int64)).dtype is torch.int8
    assert (x + torch.ones(2, dtype=torch.uint8)).dtype is torch.int16
    assert (torch.ones(2, dtype=torch.float16) + torch.ones(2, dtype=torch.bfloat16)).dtype is torch.float32
    assert (np.float64(2) * torch.ones(2)).dtype is torch.float32


def test_casts_wrap_as_c_does():
    x = torch.tensor([300.5, -1.5, 130.0])
    assert x.to(torch.uint8).tolist() == [44, 255, 130]
    assert x.to(torch.int8).tolist() == [44, -1, -126]
    assert torch.tensor([float("nan"), float("inf")]).int().tolist() == [-(2**31)] * 2


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: torch.add("a", 1), TypeError, r"argument 'input' \(position 1\) must be Tensor, not str"),
        (lambda: torch.ones(2).sum("a"), TypeError, "received an invalid combination of arguments"),
        (lambda: torch.zeros(2, 1.5), TypeError, "failed to unpack the object at pos 2"),
        (lambda: torch.tensor([[1], [1, 2]]), ValueError, r"expected sequence of length 1 at dim 1 \(got 2\)"),
        (lambda: torch.tensor(2**63), ValueError, "Overflow when unpacking long long"),
        (lambda: torch.full((2,), 300, dtype=torch.uint8), RuntimeError, "cannot be converted to type uint8_t"),
        (lambda: torch.ones(2, 3) + torch.ones(2), RuntimeError, r"size of tensor a \(3\) must match"),
        (lambda: torch.ones(2).long().add_(1.5), RuntimeError, "can't be cast to the desired output type Long"),
        (lambda: torch.tensor([True]) - 1, RuntimeError, "with a bool tensor is not supported"),
        (lambda: torch.tensor([1]) // 0, RuntimeError, "ZeroDivisionError"),
        (lambda: torch.add(torch.tensor([1]), 1, alpha=1.5), RuntimeError, "alpha must not be a floating point"),
        (lambda: bool(torch.ones(2)), RuntimeError, "more than one value is ambiguous"),
        (lambda: torch.ones(2).add_(torch.ones(3, 2)), RuntimeError, "doesn't match the broadcast shape"),
    ],
)  # fmt: skip
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_numpy_spelling_of_dims():
    x = torch.arange(6.0).view(2, 3)
    assert torch.equal(torch.sum(x, axis=1, keepdims=True), x.sum(1, keepdim=True))
    assert torch.softmax(x, axis=1).shape == (2, 3)


def test_in_place_functions():
    x = torch.tensor([-1.0, 2.0])
    assert torch.relu_(x) is x
    assert x.tolist() == [0, 2]
    assert torch.selu_(x) is x


def test_out_is_resized_and_cast():
    out = torch.empty(0, dtype=torch.float64)
    assert torch.add(torch.ones(2), 1, out=out) is out
    assert out.tolist() == [2, 2]
    with pytest.raises(RuntimeError, match="can't be cast"):
        torch.add(torch.ones(2), 1, out=torch.empty(2, dtype=torch.int32))


def test_strides_of_results_follow_the_operands():
    x = torch.zeros(2, 3, 4).permute(2, 0, 1)
    assert x.exp().stride() == x.stride()
    assert (torch.zeros(4, 1, 3) * x).stride() == (3, 12, 1)
    assert torch.where(x > 0, torch.zeros(4, 2, 3), 1.0).stride() == x.stride()


def test_deepcopy_keeps_sharing():
    x = torch.arange(3.0)
    y, v = copy.deepcopy([x, x[1:]])
    v[0] = 9
    assert y.tolist() == [0, 9, 2]
    assert x.tolist() == [0, 1, 2]


def test_pickle():
    x = torch.arange(6.0).view(2, 3).t().requires_grad_()
    y = pickle.loads(pickle.dumps(x))
    assert torch.equal(x, y)
    assert y.stride() == (1, 3)
    assert y.requires_grad


def test_data_is_unseen_by_autograd():
    x = torch.ones(2, requires_grad=True)
    y = (x * x).sum()
    x.data.mul_(2)
    assert x._version == 0
    y.backward()
    assert x.tolist() == [2, 2]


def test_size_is_a_tuple_of_ints():
    assert torch.Size([1, 2]) + (3,) == (1, 2, 3)
    assert type((3,) + torch.Size([1])) is torch.Size
    assert torch.Size([2, 3]).numel() == 6
    with pytest.raises(TypeError, match="item 1 is 'float'"):
        torch.Size([1, 1.5])


def test_meta_tensors_have_shapes_only():
    x = torch.ones(2, 3, device="meta")
    assert (x @ x.t() + 1).shape == (2, 2)
    assert repr(x) == "tensor(..., device='meta', size=(2, 3))"
    with pytest.raises(RuntimeError, match="cannot be called on meta"):
        x[0, 0].item()


def test_transformations_of_jax():
    x = torch.tensor([1.0, 2.0])
    assert type(jax.jit(lambda t: t.clone().mul_(3)[0])(x)) is torch.Tensor
    assert jax.grad(lambda t: jnp.asarray((t * t).sum()))(x).tolist() == [2, 4]
    assert jax.vmap(lambda a, b: a @ b)(x.view(1, 2), x.view(1, 2)).tolist() == [5]
    assert jax.eval_shape(lambda t: t[0] + 1, x).shape == ()
    assert type(x * jnp.ones(2)) is torch.Tensor
    np.testing.assert_allclose(jnp.sin(x), np.sin(x.numpy()), rtol=1e-6)


def test_numpy_functions_give_tensors():
    x = torch.tensor([1.0, 4.0])
    assert torch.equal(np.sqrt(x), x.sqrt())
    assert np.asarray(x).dtype == np.float32
    assert torch.from_numpy(np.arange(6).reshape(2, 3).T).stride() == (1, 3)


def test_stack_of_new_tensors_is_a_copy_and_no_constant():
    """Small new tensors are stacked on the host; not where a gradient, another shape or a compiled function asks for more."""
    a, b = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])
    rows, columns = torch.stack([a, b]), torch.stack((a, b), -1)
    a.add_(5)
    assert (rows.tolist(), columns.tolist()) == ([[1, 2], [3, 4]], [[1, 3], [2, 4]])
    assert torch.stack([a, b]).tolist() == [[6, 7], [3, 4]]
    assert torch.stack([torch.tensor(1), torch.tensor(2)]).tolist() == [1, 2]
    with pytest.raises(RuntimeError, match="stack expects each tensor to be equal size"):
        torch.stack([b, torch.tensor([1.0])])
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    torch.stack([w, b]).sum().backward()
    assert w.grad is not None and w.grad.tolist() == [1, 1]
    pairs = torch.compile(lambda x, y: torch.stack([x, y]) * 2)
    assert [pairs(torch.tensor(k), torch.tensor(1)).tolist() for k in range(6)] == [[2 * k, 2] for k in range(6)]


def test_choosing_an_overload_keeps_nothing():
    """The first call of a function with several forms tries them: what that raises must not keep the arguments."""
    choose = overloaded("max", list(torch.max.ops))
    x = torch.ones(2, 3)
    gone = weakref.ref(x)
    gc.disable()
    try:
        choose(x, 1)
        del x
        assert gone() is None
    finally:
        gc.enable()
