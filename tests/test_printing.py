"""The text of tensors, against the letters torch prints."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest

from jtorch._runtime import dtypes
from jtorch._tensor import printing
from jtorch._tensor.printing import format_tensor


@pytest.fixture(autouse=True)
def fresh_options():
    printing.set_printoptions(profile="default")
    yield
    printing.set_printoptions(profile="default")


def text(values, dtype=dtypes.float32, **facts):
    return format_tensor(np.asarray(values, dtype=dtype.np), dtype=dtype, **facts)


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        (1.5, dtypes.float32, "tensor(1.5000)"),
        (-0.0, dtypes.float32, "tensor(-0.)"),
        ([1, 2.5], dtypes.float32, "tensor([1.0000, 2.5000])"),
        ([1, 2], dtypes.float64, "tensor([1., 2.], dtype=torch.float64)"),
        ([math.nan, math.inf, 1.5], dtypes.float32, "tensor([   nan,    inf, 1.5000])"),
        ([math.nan, -math.inf, 0], dtypes.float32, "tensor([nan, -inf, 0.])"),
        ([1e-5, 1e-5], dtypes.float32, "tensor([1.0000e-05, 1.0000e-05])"),
        ([-1.0, 1e5], dtypes.float32, "tensor([-1.0000e+00,  1.0000e+05])"),
        ([1000.0, 1.5], dtypes.float32, "tensor([1000.0000,    1.5000])"),
        ([1, -200, 3], dtypes.int64, "tensor([   1, -200,    3])"),
        ([200, 1], dtypes.uint8, "tensor([200,   1], dtype=torch.uint8)"),
        ([True, False], dtypes.bool, "tensor([ True, False])"),
        (1 + 2j, dtypes.complex64, "tensor(1.+2.j)"),
        ([1 + 2j, 3.5 - 1e-9j], dtypes.complex64, "tensor([1.0000+2.0000e+00j, 3.5000-1.0000e-09j])"),
        ([], dtypes.float32, "tensor([])"),
        ([], dtypes.bool, "tensor([], dtype=torch.bool)"),
        (np.empty((0, 3)), dtypes.int32, "tensor([], size=(0, 3), dtype=torch.int32)"),
        ([1.5], dtypes.bfloat16, "tensor([1.5000], dtype=torch.bfloat16)"),
        ([1.5, 448], dtypes.float8_e4m3fn, "tensor([  1.5000, 448.0000], dtype=torch.float8_e4m3fn)"),
        ([[1, 2], [3, 4]], dtypes.int64, "tensor([[1, 2],\n        [3, 4]])"),
        (np.zeros((2, 1, 2)), dtypes.float32, "tensor([[[0., 0.]],\n\n        [[0., 0.]]])"),
        (np.arange(1001), dtypes.int64, "tensor([   0,    1,    2,  ...,  998,  999, 1000])"),
    ],
)
def test_values(values, dtype, expected):
    assert text(values, dtype) == expected


def test_summarised_rows():
    expected = "tensor([[1., 1., 1.],\n        [1., 1., 1.],\n        [1., 1., 1.],\n        ...,\n"
    expected += "        [1., 1., 1.],\n        [1., 1., 1.],\n        [1., 1., 1.]])"
    assert text(np.ones((2000, 3))) == expected


def test_suffixes():
    assert text([1, 2], grad_fn="AddBackward0", requires_grad=True) == "tensor([1., 2.], grad_fn=<AddBackward0>)"
    assert text([1, 2], requires_grad=True) == "tensor([1., 2.], requires_grad=True)"
    assert text([1, 2], device="cuda:0") == "tensor([1., 2.], device='cuda:0')"
    meta = format_tensor(None, shape=(2, 3), device="meta", dtype=dtypes.int64)
    assert meta == "tensor(..., device='meta', size=(2, 3), dtype=torch.int64)"


def test_suffix_moves_to_a_new_line():
    line = "tensor([" + ", ".join(["2."] * 17) + "]"
    assert text([2] * 17, grad_fn="AddBackward0") == line + ",\n       grad_fn=<AddBackward0>)"


def test_default_dtype():
    assert text([1], dtypes.float64, default_dtype=dtypes.float64) == "tensor([1.])"
    assert text([1], default_dtype=dtypes.float64) == "tensor([1.], dtype=torch.float32)"
    assert text([1j], dtypes.complex64, default_dtype=dtypes.bfloat16) == "tensor([0.+1.j])"


def test_prefix_and_contents():
    assert text([1, 2], prefix="Sub(") == "Sub([1., 2.])"
    assert text([1, 2], dtypes.float64, contents="...") == "tensor(..., dtype=torch.float64)"


def test_precision_and_scientific():
    printing.set_printoptions(precision=2, sci_mode=True)
    assert text([1, 2.5]) == "tensor([1.00e+00, 2.50e+00])"
    printing.set_printoptions(sci_mode=False)
    assert text([1e10, 1.5]) == "tensor([10000000000.00,           1.50])"
    printing.set_printoptions()
    assert printing.get_printoptions()["sci_mode"] is None


def test_linewidth_and_edges():
    printing.set_printoptions(linewidth=8)
    assert text([1, 2, 3], dtypes.int64) == "tensor([1,\n        2,\n        3])"
    printing.set_printoptions(profile="default", threshold=3, edgeitems=1)
    assert text([1, 2, 3, 4], dtypes.int64) == "tensor([1,  ..., 4])"
    printing.set_printoptions(edgeitems=0)
    assert text([1, 2, 3, 4], dtypes.int64) == "tensor([...], size=(4,))"


def test_profiles():
    printing.set_printoptions(profile="short")
    assert text([1.5]) == "tensor([1.50])"
    printing.set_printoptions(profile="full")
    assert printing.get_printoptions() == {
        "precision": 4, "threshold": math.inf, "edgeitems": 3, "linewidth": 80, "sci_mode": None,
    }  # fmt: skip


def test_context_restores():
    with printing.printoptions(precision=1):
        assert text([1.5]) == "tensor([1.5])"
    assert text([1.5]) == "tensor([1.5000])"


def test_values_of_ml_dtypes_are_exact():
    array = np.array([0.1], dtype=ml_dtypes.bfloat16)
    assert format_tensor(array, dtype=dtypes.bfloat16) == "tensor([0.1001], dtype=torch.bfloat16)"
