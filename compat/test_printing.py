"""`repr` of tensors, letter for letter against torch's."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch

import jtorch

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def defaults():
    yield
    for lib in (torch, jtorch):
        lib.set_printoptions(profile="default")
        lib.set_default_dtype(lib.float32)


def _both(source: str) -> tuple[str, str]:
    """The texts that an expression gives in torch and in jtorch."""
    names = {"np": np, "nan": float("nan"), "inf": float("inf")}
    texts = []
    for lib in (torch, jtorch):
        value = eval(source, {**names, "torch": lib, "T": lib.tensor})
        texts.append(value if isinstance(value, str) else repr(value))
    return texts[0], texts[1]


SPECIAL = """
T([])
T([], dtype=torch.int64)
T([], dtype=torch.bool)
T([], dtype=torch.complex64)
torch.empty(0, 3)
torch.empty(2, 0, dtype=torch.int64)
torch.empty(0, requires_grad=True)
T(1)
T(1, dtype=torch.int32)
T(True)
T([True, False])
T([[True], [False]])
T(1.0)
T(1.5)
T(-0.0)
T([-0.0, 0.0])
T([-0.0, 1.5])
T([-0.001, 0.5])
T([nan, inf, 1.0])
T([nan, inf, 1.5])
T([nan, -inf, 0.0])
T(inf)
T([nan, nan])
T([1e10, 1.5])
T([1e-10, 1.5])
T([1000.0, 1.5])
T([1001.5, 1.0])
T([1e8, 1.0])
T([1e-4, 1e-4])
T([1e-5, 1e-5])
T([1.0, 1e6])
T([1.0, 999.0])
T([0.1, 1e30])
T(3.4e38)
T([0.99999, 0.5])
T([1, -200, 3])
T(2**62)
T([200, 1], dtype=torch.uint8)
T([-128, 127], dtype=torch.int8)
T([1, 2], dtype=torch.int16)
T([65504.0], dtype=torch.float16)
T([1e-7, 1.0], dtype=torch.float16)
T([1.5, 2.5], dtype=torch.bfloat16)
T([0.1, 1000.0], dtype=torch.bfloat16)
T([1.0, 2.0], dtype=torch.float64)
T(1 + 2j)
T([1 + 2j, 3.5 - 1e-9j])
T([1 + 2j, 3.5 - 1e9j])
T([1 + 0j, 1e9 + 1j])
T([complex(nan, nan), 1.5 + 3j])
T([complex(0, -inf), 1.5 + 3j])
T([1 + 2j], dtype=torch.complex128)
T([[1.5 + 2j, 3], [0, -1j]])
torch.zeros(2, 3, 4)
torch.ones(2, 2, 2, 2)
torch.ones(1, 1, 1)
torch.arange(1000)
torch.arange(1001)
torch.arange(1000.0).view(10, 100)
torch.arange(10000.0).view(100, 100)
torch.arange(2000).view(2, 1000)
torch.arange(1001) * 1e-3
torch.ones(2000, 3, dtype=torch.float64)
torch.arange(2 * 30 * 40).view(2, 30, 40)
torch.arange(8 * 3 * 60).view(8, 3, 60) * 0.5
torch.ones(2, requires_grad=True)
torch.ones(2, requires_grad=True) + 1
torch.ones(15, requires_grad=True) + 1
torch.ones(17, requires_grad=True) + 1
torch.ones(20, requires_grad=True) + 1
torch.ones(3, 3, requires_grad=True).exp()
(torch.ones(3, requires_grad=True) * 2).sum()
torch.ones(3, dtype=torch.float64, requires_grad=True) * 1.5
torch.ones(2, requires_grad=True).detach()
[torch.ones(2), torch.zeros(1)]
torch.empty(2, 3, device="meta")
torch.empty(2, 3, device="meta", dtype=torch.int32)
torch.empty((), device="meta")
torch.empty(0, device="meta")
str(T([1.5]))
f"{T([1.5])}"
f"{T(3)}"
f"{T(1.5)}"
f"{T(1.5):.2f}"
f"{T(True)}"
T([1.5]).__repr__(tensor_contents="abc")
""".strip().splitlines()


@pytest.mark.parametrize("source", SPECIAL)
def test_special(source):
    expected, got = _both(source)
    assert got == expected


FACTS = """
torch.finfo(torch.float16)
torch.finfo(torch.bfloat16)
torch.finfo(torch.float8_e4m3fn)
torch.finfo(torch.float8_e5m2)
torch.finfo(torch.float8_e4m3fnuz)
torch.finfo(torch.float8_e8m0fnu)
type(torch.ones(2))
type(torch.ones(2).shape)
torch.no_grad
torch.linalg.eigh(torch.eye(2))
torch.linalg.slogdet(torch.eye(2))
torch.slogdet(torch.eye(2))
[T([1.0, 2.5, -3, inf, 449, 500, 0]).to(d) for d in (torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz)]
T([1.0, 2.5, -3, 1e6, nan]).to(torch.float8_e8m0fnu).float()
torch.ones(2, requires_grad=True) % torch.ones(2)
(torch.ones(2, requires_grad=True) * 1).fill_(2)
torch.nn.Conv1d(4, 2, [1, 2])
torch.iinfo()
torch.nn.Linear(3, 2)(torch.ones(2, 3).double())
torch.nn.Conv2d(3, 2, 3)(torch.ones(1, 3, 5, 5).double())
torch.nn.Conv2d(3, 2, 3, bias=False)(torch.ones(1, 3, 5, 5).long())
torch.nn.functional.cross_entropy(torch.ones(2, 3), T([[0, 1]]))
torch.nn.Hardtanh(2, 1)
torch.ones(2, names=("a",))
torch.add(T(1), np.ones(1))
torch.maximum(T(1), np.float32(1))
torch.set_rng_state(3)
torch.manual_seed("a")
torch.manual_seed(1.5).initial_seed()
torch.randint(3.5, (2,))
torch.normal(torch.zeros(2), torch.ones(3))
""".strip().splitlines()


@pytest.mark.parametrize("source", FACTS)
def test_facts(source):
    """The reprs of what is no tensor, and errors in torch's words."""
    texts = []
    for lib in (torch, jtorch):
        try:
            found = eval(source, {"torch": lib, "T": lib.tensor, "inf": math.inf, "nan": math.nan, "np": np})
            texts.append(repr(found).split(" object at")[0])
        except Exception as error:
            texts.append(f"{type(error).__name__}: {error}")
    assert texts[1].replace("jtorch", "torch") == texts[0]


@pytest.mark.parametrize("source", ["Parameter(torch.ones(2))", "Parameter(T(3), requires_grad=False)"])
def test_parameter(source):
    if not hasattr(getattr(jtorch, "nn", None), "Parameter"):
        pytest.skip("no nn.Parameter")
    expected, got = _both("torch.nn." + source)
    assert got == expected


OPTIONS = [
    {"precision": 2}, {"precision": 8}, {"precision": 0}, {"sci_mode": True}, {"sci_mode": False}, {"linewidth": 40},
    {"linewidth": 120}, {"linewidth": 10}, {"profile": "short"}, {"profile": "full"}, {"threshold": 10},
    {"threshold": 10, "edgeitems": 1}, {"threshold": 0}, {"threshold": 5, "edgeitems": 0},
    {"profile": "short", "precision": 6, "sci_mode": False},
]  # fmt: skip
UNDER_OPTIONS = [
    "T(1.5)", "T([1.0, 2.0, nan])", "T([1e-10, 1.0])", "T([1.0, 10000.0])", "T([0.5, 10000.0, -inf])",
    "T([1 + 1e-9j, 2.5])", "torch.arange(12)", "torch.arange(24.0).view(2, 3, 4) / 8", "torch.zeros(0, 3)",
    "torch.ones(3, 30, dtype=torch.float64)", "torch.arange(40, dtype=torch.int32) * 100",
]  # fmt: skip


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_printoptions(options):
    for lib in (torch, jtorch):
        lib.set_printoptions(profile="default")
        lib.set_printoptions(**options)
    for source in UNDER_OPTIONS:
        expected, got = _both(source)
        assert got == expected, source


@pytest.mark.parametrize("default", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "complex64", "complex128", "int64"])
def test_default_dtype(default, dtype):
    for lib in (torch, jtorch):
        lib.set_default_dtype(getattr(lib, default))
    for source in (f"torch.ones(2, dtype=torch.{dtype})", f"torch.empty(0, dtype=torch.{dtype})"):
        expected, got = _both(source)
        assert got == expected


SHAPES = [(), (1,), (5,), (17,), (40,), (1001,), (2, 3), (30, 40), (600, 2), (2, 2, 3), (3, 1, 1, 2), (7, 6, 5, 7)]
DTYPES = ["float32"] * 4 + ["float64", "float16", "bfloat16", "complex64", "int64", "int32", "uint8", "bool"]


def _random_array(rng: random.Random, shape: tuple[int, ...]) -> np.ndarray:
    x = np.random.RandomState(rng.randrange(10**6)).standard_normal(shape)
    kind = rng.randrange(6)
    if kind == 0:
        return np.asarray(np.round(x * rng.choice([3, 100, 300, 2000])))
    if kind == 1:
        return np.asarray(x * 10.0 ** rng.choice([-7, -5, -4, -3, 2, 3, 4]))
    if kind == 2:
        return np.asarray(np.exp(x * rng.choice([0.1, 1.0, 3.0])))
    if kind == 3:
        special = rng.choice([np.nan, np.inf, -np.inf, 0.0, -0.0])
        return np.where(x > 0.8, special, np.round(x * 3) if rng.random() < 0.5 else x)
    return np.asarray(x)


@pytest.mark.parametrize("seed", range(60))
def test_random(seed):
    rng = random.Random(seed)
    for _ in range(3):
        shape, dtype = rng.choice(SHAPES), rng.choice(DTYPES)
        values = _random_array(rng, shape)
        if dtype == "complex64":
            values = values + 1j * _random_array(rng, shape)
        elif dtype in ("int64", "int32", "uint8", "bool"):
            values = np.clip(np.nan_to_num(values), 0 if dtype == "uint8" else -100, 100).round()
        texts = []
        for lib in (torch, jtorch):
            value = lib.tensor(values, dtype=getattr(lib, dtype))
            texts.append(repr(value))
        assert texts[1] == texts[0], f"seed {seed}: {dtype} {shape}"
