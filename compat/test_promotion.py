"""Type promotion: every pair of dtypes, as tensors, 0-d tensors and Python numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from compat import bridge

DTYPES = (
    "bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64", "complex64",
    "complex128",
)  # fmt: skip
UNSIGNED = ("uint16", "uint32", "uint64")
EIGHTS = ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu")
FEW = ("bool", "uint8", "int32", "int64", "float16", "float32", "complex64")  # those whose values are compared too
NUMBERS = (True, 2, 2.5, 1.5 + 2j)
OPERATIONS = {
    "add": lambda t, a, b: a + b,
    "sub": lambda t, a, b: a - b,
    "mul": lambda t, a, b: a * b,
    "div": lambda t, a, b: a / b,
    "floordiv": lambda t, a, b: a // b,
    "mod": lambda t, a, b: a % b,
    "pow": lambda t, a, b: a**b,
    "eq": lambda t, a, b: a == b,
    "lt": lambda t, a, b: a < b,
    "and": lambda t, a, b: a & b,
    "where": lambda t, a, b: t.where(_condition(t, a, b), a, b),
    "maximum": lambda t, a, b: t.maximum(a, b),
    "atan2": lambda t, a, b: t.atan2(a, b),
    "cat": lambda t, a, b: t.cat([a, b]),
    "add_": lambda t, a, b: a.add_(b),
    "mul_": lambda t, a, b: a.mul_(b),
    "copy_": lambda t, a, b: a.copy_(b),
    "result_type": lambda t, a, b: t.result_type(a, b),
}


def _condition(lib: Any, *operands: Any) -> Any:
    device = next(str(x.device) for x in operands if hasattr(x, "device"))
    return lib.tensor([True, False]) if device == "cpu" else lib.empty(2, dtype=lib.bool, device=device)


def _tensor(lib: Any, dtype: str, dims: int, device: str) -> Any:
    if device == "meta" and lib is not torch:
        return lib.empty((2,) * dims, dtype=getattr(lib, dtype), device="meta")
    return lib.tensor([1, 1] if dims else 1, dtype=getattr(lib, dtype))


def _outcome(lib: Any, operation: Any, left: Any, right: Any) -> str:
    """The dtype and values, or the error's type."""
    try:
        result = operation(lib, left(lib), right(lib))
    except Exception as error:
        return type(error).__name__
    if not hasattr(result, "tolist"):
        return str(result)
    return f"{result.dtype} {tuple(result.shape) if result.device.type == 'meta' else result.tolist()}"


def _check(operation: str, lefts: dict[str, Any], rights: dict[str, Any]) -> None:
    wrong = []
    for a, left in lefts.items():
        for b, right in rights.items():
            expected = _outcome(torch, OPERATIONS[operation], left, right)
            got = _outcome(bridge.library(), OPERATIONS[operation], left, right)
            if " (" in got:  # jtorch's was a meta tensor: dtypes only, against what torch does on the CPU
                expected, got = expected.split(" ")[0], got.split(" ")[0]
            # A kernel that torch lacks, and torch's half complex, which jtorch lacks, decide nothing.
            if expected != got and expected != "NotImplementedError" and "complex32" not in expected:
                wrong.append(f"{a} with {b}: torch {expected}, jtorch {got}")
    assert not wrong, f"{len(wrong)} of {len(lefts) * len(rights)} pairs:\n" + "\n".join(wrong[:30])


def _tensors(device: str, dims: int, dtypes: tuple[str, ...] | None = None) -> dict[str, Any]:
    """Makers of tensors: of all dtypes on the meta device (where jtorch compiles nothing), of a few with values."""
    dtypes = dtypes or (DTYPES if device == "meta" else FEW)
    return {f"{d}[{dims}d]": (lambda lib, d=d: _tensor(lib, d, dims, device)) for d in dtypes}


_numbers = {f"{n!r}": (lambda lib, n=n: n) for n in NUMBERS}


@pytest.fixture(params=["meta", "cpu"])
def device(request) -> str:
    return request.param


@pytest.mark.parametrize("operation", OPERATIONS)
def test_tensor_with_tensor(operation, device):
    _check(operation, _tensors(device, 1), _tensors(device, 1))


@pytest.mark.parametrize("operation", ["add", "mul", "div", "floordiv", "eq", "where", "result_type", "add_"])
def test_tensor_with_zero_dim(operation, device):
    _check(operation, _tensors(device, 1), _tensors(device, 0))


@pytest.mark.parametrize("operation", ["add", "mul", "div", "floordiv", "eq", "where", "result_type"])
def test_zero_dim_with_tensor(operation):
    _check(operation, _tensors("meta", 0), _tensors("meta", 1))


@pytest.mark.parametrize("operation", ["add", "div", "eq", "where", "result_type"])
def test_zero_dim_with_zero_dim(operation):
    _check(operation, _tensors("meta", 0), _tensors("meta", 0))


@pytest.mark.parametrize("operation", [o for o in OPERATIONS if o not in ("maximum", "atan2", "cat", "copy_")])
def test_tensor_with_number(operation, device):
    _check(operation, _tensors(device, 1), _numbers)


@pytest.mark.parametrize(
    "operation", ["add", "sub", "mul", "div", "floordiv", "mod", "pow", "eq", "lt", "where", "result_type"]
)
def test_number_with_tensor(operation, device):
    _check(operation, _numbers, _tensors(device, 1))


@pytest.mark.parametrize("operation", ["add", "mul", "div", "result_type"])
def test_zero_dim_with_number(operation):
    _check(operation, _tensors("meta", 0), _numbers)


@pytest.mark.parametrize("operation", ["add", "eq", "result_type", "copy_"])
def test_rare_dtypes(operation):
    rare, usual = _tensors("meta", 1, (*UNSIGNED, *EIGHTS)), _tensors("meta", 1, FEW)
    _check(operation, rare, {**rare, **usual})
    _check(operation, usual, rare)


@pytest.mark.parametrize("question", ["promote_types", "can_cast"])
def test_of_dtypes(question):
    lib, names, wrong = bridge.library(), (*DTYPES, *UNSIGNED, *EIGHTS), []
    for a in names:
        for b in names:
            outcomes = []
            for t in (torch, lib):
                try:
                    outcomes.append(str(getattr(t, question)(getattr(t, a), getattr(t, b))))
                except Exception as error:
                    outcomes.append(f"{type(error).__name__}: {error}")
            if outcomes[0] != outcomes[1]:
                wrong.append(f"{a}, {b}: torch {outcomes[0]}, jtorch {outcomes[1]}")
    assert not wrong, f"{len(wrong)} pairs:\n" + "\n".join(wrong[:30])


@pytest.mark.parametrize("default", ["float32", "float64"])
def test_default_dtype(default):
    lib = bridge.library()
    kinds = (
        lambda t: t.tensor(1.0).dtype, lambda t: t.tensor([1, 2.0]).dtype, lambda t: t.tensor(1j).dtype,
        lambda t: t.ones(1).dtype, lambda t: (t.tensor([1]) + 1.5).dtype, lambda t: (t.tensor([1]) / 2).dtype,
        lambda t: (t.tensor([True]) * 1j).dtype, lambda t: t.arange(0, 1, 0.5).dtype, lambda t: t.arange(3).dtype,
        lambda t: t.tensor([1]).exp().dtype, lambda t: t.eye(1).dtype, lambda t: t.full((1,), 1.0).dtype,
        lambda t: t.full((1,), 1).dtype, lambda t: t.linspace(0, 1, 2).dtype,
        lambda t: (t.ones(1, dtype=t.float32) + 1.5).dtype, lambda t: t.result_type(t.tensor([1]), 1.5),
    )  # fmt: skip
    try:
        for t in (torch, lib):
            t.set_default_dtype(getattr(t, default))
        got = [[_told(kind, t) for kind in kinds] for t in (torch, lib)]
    finally:
        for t in (torch, lib):
            t.set_default_dtype(t.float32)
    assert got[0] == got[1]


def _told(kind: Any, lib: Any) -> str:
    try:
        return str(kind(lib))
    except Exception as error:
        return type(error).__name__


@pytest.mark.parametrize("dims", [(1, 0), (0, 1), (0, 0)])
def test_result_type_of_few(dims):
    """The dtypes that hardly promote, as tensors with and without dims."""
    wrong = []
    for a in (*DTYPES, *UNSIGNED, *EIGHTS):
        for b in (*UNSIGNED, *EIGHTS):
            outcomes = []
            for lib in (torch, bridge.library()):
                try:
                    pair = [lib.empty((1,) * n, dtype=getattr(lib, d)) for n, d in zip(dims, (a, b), strict=True)]
                    outcomes.append(str(lib.result_type(*pair)))
                except Exception as error:
                    outcomes.append(f"{type(error).__name__}: {error}")
            if outcomes[0] != outcomes[1]:
                wrong.append(f"{a} with {b}: torch {outcomes[0]}, jtorch {outcomes[1]}")
    assert not wrong, "\n".join(wrong)


UNARY = {
    "neg": lambda t, a: -a, "abs": lambda t, a: abs(a), "invert": lambda t, a: ~a, "exp": lambda t, a: a.exp(),
    "sqrt": lambda t, a: a.sqrt(), "sum": lambda t, a: a.sum(), "prod": lambda t, a: a.prod(), "mean": lambda t,
    a: a.mean(), "cumsum": lambda t, a: a.cumsum(0), "max": lambda t, a: a.max(), "argmax": lambda t, a: a.argmax(),
    "any": lambda t, a: a.any(), "all": lambda t, a: a.all(), "sort": lambda t, a: a.sort()[0], "floor": lambda t,
    a: a.floor(), "sign": lambda t, a: a.sign(), "sigmoid": lambda t, a: a.sigmoid(), "softmax": lambda t,
    a: a.softmax(0), "var": lambda t, a: a.var(), "norm": lambda t, a: a.norm(), "square": lambda t, a: a.square(),
    "pow2": lambda t, a: a**2, "rpow": lambda t, a: 2**a, "reciprocal": lambda t, a: 1 / a, "clamp": lambda t,
    a: a.clamp(0, 1), "matmul": lambda t, a: a @ a, "isnan": lambda t, a: a.isnan(), "angle": lambda t, a: a.angle(),
    "real": lambda t, a: a.real, "nansum": lambda t, a: a.nansum(), "median": lambda t, a: a.median(),
    "round": lambda t, a: a.round(), "relu": lambda t, a: a.relu(), "zeros_like": lambda t, a: t.zeros_like(a),
    "float": lambda t, a: a.float(), "cumprod": lambda t, a: a.cumprod(0), "logical_not": lambda t, a: a.logical_not(),
    "bincount": lambda t, a: a.bincount(), "diff": lambda t, a: a.diff(), "count_nonzero": lambda t,
    a: a.count_nonzero(),
}  # fmt: skip


@pytest.mark.parametrize("operation", UNARY)
def test_of_one_tensor(operation):
    """What each dtype gives, or refuses."""
    wrong = []
    for d in DTYPES:
        outcomes = [
            _outcome(t, lambda t, a, _: UNARY[operation](t, a), lambda t, d=d: _tensor(t, d, 1, "cpu"), lambda t: None)
            for t in (torch, bridge.library())
        ]
        dtypes = [o.split(" ")[0] for o in outcomes]
        refused = [o.endswith("Error") for o in dtypes]  # by which exception is not the matter here
        if dtypes[0] != dtypes[1] and not all(refused):
            wrong.append(f"{d}: torch {outcomes[0]}, jtorch {outcomes[1]}")
    assert not wrong, "\n".join(wrong)
