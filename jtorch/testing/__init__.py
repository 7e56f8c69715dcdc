"""Comparison of tensors in tests."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jtorch._runtime import dtypes
from jtorch._tensor.from_data import as_tensor
from jtorch._tensor.tensor import Tensor

_RELATIVE = {
    dtypes.float16: 1e-3, dtypes.bfloat16: 1.6e-2, dtypes.float32: 1.3e-6, dtypes.float64: 1e-7,
    dtypes.complex64: 1.3e-6, dtypes.complex128: 1e-7,
}  # fmt: skip
_ABSOLUTE = {d: 1e-7 if d in (dtypes.float64, dtypes.complex128) else 1e-5 for d in _RELATIVE}


def assert_close(
    actual: Any, expected: Any, *, allow_subclasses: bool = True, rtol: float | None = None, atol: float | None = None,
    equal_nan: bool = False, check_device: bool = True, check_dtype: bool = True, check_layout: bool = True,
    check_stride: bool = False, msg: Any = None,
) -> None:  # fmt: skip
    """Raises AssertionError unless two tensors, numbers, or sequences or mappings of them are close.

    Elements are close where |actual - expected| <= atol + rtol * |expected|; the defaults depend on the dtype.
    """
    if (rtol is None) != (atol is None):
        raise ValueError(
            f"Both 'rtol' and 'atol' must be either specified or unspecified, but got no {'rtol' if rtol is None else 'atol'}"
        )
    problem = _difference(actual, expected, "", rtol, atol, equal_nan, check_device, check_dtype, check_stride)
    if problem:
        raise AssertionError(msg(problem) if callable(msg) else msg or problem)


def _difference(actual, expected, where, rtol, atol, equal_nan, check_device, check_dtype, check_stride) -> str | None:
    """What is wrong, None if nothing."""
    options = (rtol, atol, equal_nan, check_device, check_dtype, check_stride)
    if isinstance(actual, Mapping) and isinstance(expected, Mapping):
        if actual.keys() != expected.keys():
            return f"The keys of the mappings do not match:\n{sorted(map(str, actual))} != {sorted(map(str, expected))}"
        for k in actual:
            problem = _difference(actual[k], expected[k], f"{where}[{k!r}]", *options)
            if problem:
                return problem
        return None
    if _is_sequence(actual) and _is_sequence(expected):
        if len(actual) != len(expected):
            return f"The length of the sequences mismatch: {len(actual)} != {len(expected)}"
        for i, (a, e) in enumerate(zip(actual, expected, strict=True)):
            problem = _difference(a, e, f"{where}[{i}]", *options)
            if problem:
                return problem
        return None
    at = f"\n\nThe failure occurred for item {where}" if where else ""
    if actual is None or expected is None:
        return None if actual is expected else f"None mismatch: {actual} is not {expected}{at}"
    scalar = isinstance(actual, numbers.Number | bool) and isinstance(expected, numbers.Number | bool)
    a, e = as_tensor(actual), as_tensor(expected)
    if a.shape != e.shape:
        return f"The values for attribute 'shape' do not match: {a.shape} != {e.shape}.{at}"
    if check_device and a.device != e.device:
        return f"The values for attribute 'device' do not match: {a.device} != {e.device}.{at}"
    if check_dtype and not scalar and a.dtype is not e.dtype:
        return f"The values for attribute 'dtype' do not match: {a.dtype} != {e.dtype}.{at}"
    if check_stride and a.stride() != e.stride():
        return f"The values for attribute 'stride()' do not match: {a.stride()} != {e.stride()}.{at}"
    relative = max(_RELATIVE.get(a.dtype, 0.0), _RELATIVE.get(e.dtype, 0.0)) if rtol is None else rtol
    absolute = max(_ABSOLUTE.get(a.dtype, 0.0), _ABSOLUTE.get(e.dtype, 0.0)) if atol is None else atol
    return _mismatch(a, e, relative, absolute, equal_nan, scalar, at)


def _mismatch(a: Tensor, e: Tensor, rtol: float, atol: float, equal_nan: bool, scalar: bool, at: str) -> str | None:
    wide = np.complex128 if a.is_complex() or e.is_complex() else np.float64
    integral = not (a.is_floating_point() or a.is_complex() or e.is_floating_point() or e.is_complex())
    if integral:
        x, y = a.detach()._host().astype(object), e.detach()._host().astype(object)
        close = np.asarray(x == y, bool) if rtol == atol == 0 else np.abs(x - y) <= atol + rtol * np.abs(y)
        close = np.asarray(close, bool)
        x, y = x.astype(np.float64), y.astype(np.float64)
    else:
        x, y = a.detach()._host().astype(wide), e.detach()._host().astype(wide)
        close = np.isclose(x, y, rtol, atol, equal_nan)
    if close.all():
        return None
    with np.errstate(invalid="ignore", divide="ignore"):
        apart = np.where(close, 0, np.abs(x - y))
        share = np.where(close, 0, np.abs((x - y) / y))
    kind = "equal" if rtol == atol == 0 else "close"
    if scalar or a.ndim == 0:
        what = "Scalars" if scalar or a.ndim == 0 else "Tensor-likes"
        if kind == "equal":
            return f"{what} are not equal!\n\nExpected {e.item()} but got {a.item()}.\nAbsolute difference: {float(apart)}\nRelative difference: {float(share)}{at}"
        return (
            f"{what} are not close!\n\nExpected {e.item()} but got {a.item()}.\n"
            f"Absolute difference: {float(apart)} (up to {atol} allowed)\n"
            f"Relative difference: {float(share)} (up to {rtol} allowed){at}"
        )
    bad = int((~close).sum())
    first, second = (tuple(map(int, np.unravel_index(np.nanargmax(d), d.shape))) for d in (apart, share))
    allowed = ("", "") if kind == "equal" else (f" (up to {atol} allowed)", f" (up to {rtol} allowed)")
    return (
        f"Tensor-likes are not {kind}!\n\nMismatched elements: {bad} / {close.size} ({100 * bad / close.size:.1f}%)\n"
        f"Greatest absolute difference: {float(np.nanmax(apart))} at index {first}{allowed[0]}\n"
        f"Greatest relative difference: {float(np.nanmax(share))} at index {second}{allowed[1]}{at}"
    )


def _is_sequence(x: Any) -> bool:
    return isinstance(x, Sequence) and not isinstance(x, str | bytes)
