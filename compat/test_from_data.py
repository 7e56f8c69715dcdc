"""Tensors out of Python data and arrays: values, dtypes, strides and refusals, as torch has them."""

from __future__ import annotations

import numpy as np
import pytest

import jtorch

torch = pytest.importorskip("torch")


class Index:
    def __index__(self):
        return 3


class Real:
    def __float__(self):
        return 3.5


class Sequence:
    def __len__(self):
        return 3

    def __getitem__(self, i):
        if i >= 3:
            raise IndexError
        return 2 * i


def outcome(fn, T):
    """What a function gives, in words: dtype, shape, strides and values, or the error's type and first line."""
    try:
        t = fn(T)
    except Exception as e:
        return type(e).__name__, str(e).splitlines()[0].replace("jtorch", "torch")
    return str(t.dtype).replace("jtorch", "torch"), tuple(t.shape), t.stride(), str(t.tolist())


def same(fn):
    assert outcome(fn, jtorch) == outcome(fn, torch)


LEAVES = {
    "None": lambda: None,
    "index": Index,
    "real": Real,
    "indices": lambda: [Index(), Index()],
    "range": lambda: range(4),
    "sequence": Sequence,
    "bytes": lambda: b"ab",
    "dict": dict,
    "ragged": lambda: [1, [2]],
    "first empty": lambda: [[], [1]],
    "numpy numbers": lambda: [np.float32(1), np.float32(2)],
    "numpy bools": lambda: [np.bool_(True)],
    "halves": lambda: [1.5, 2.5],
    "negative": lambda: [-1],
    "infinite": lambda: [float("nan"), float("inf"), -float("inf")],
    "past 64 bits": lambda: [2**64],
    "mixed": lambda: [1, 2.5, -3],
    "rows": lambda: [[1.5, 2.0], (3, 4)],
    "deep": lambda: ([[1], [2]], [[3], [4]]),
    "rows of nothing": lambda: [[], []],
    "depths": lambda: [[1], 2],
    "truths": lambda: [True, False],
    "truth and number": lambda: [True, 2],
    "past float32": lambda: [1e300, -1e300, 1.0],
    "past float64": lambda: [10**400, 1.0],
    "number past float32": lambda: 1e300,
    "largest": lambda: [1e9, -1e9, 449.0, 464.0, 465.0],
}
DTYPES = (None, "float32", "int64", "bool", "uint8", "uint64", "complex64", "float8_e4m3fn", "float8_e5m2")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LEAVES)
def test_leaves(name, dtype):
    same(lambda T: T.tensor(LEAVES[name](), dtype=dtype and getattr(T, dtype)))


@pytest.mark.parametrize("name", ["None", "real", "range", "sequence", "bytes", "dict", "halves"])
def test_legacy_constructors(name):
    same(lambda T: T.Tensor(LEAVES[name]()))


ARRAYS = {
    "transposed": np.arange(6).reshape(2, 3).T,
    "permuted": np.arange(24.0).reshape(2, 3, 4).transpose(2, 0, 1),
    "every other": np.arange(12).reshape(3, 4)[:, ::2],
    "big-endian": np.arange(3, dtype=">i4"),
    "dates": np.array(["2020-01-01"], "datetime64[D]"),
    "long double": np.zeros(2, np.longdouble),
    "records": np.zeros(2, [("a", "i4")]),
    "past float8": np.array([1e9, -500.0, np.nan, np.inf, 1.0]),
}


@pytest.mark.parametrize("dtype", [None, "float32", "float8_e4m3fn"])
@pytest.mark.parametrize("maker", ["tensor", "as_tensor", "asarray"])
@pytest.mark.parametrize("name", ARRAYS)
def test_arrays(name, maker, dtype):
    if name == "every other" and maker != "tensor" and dtype is None:
        pytest.skip("torch shares the array's memory, and with it its strides")
    same(lambda T: getattr(T, maker)(ARRAYS[name], dtype=dtype and getattr(T, dtype)))


@pytest.mark.parametrize("options", [{}, {"count": 0}, {"count": 1}, {"count": 9}, {"offset": 1}, {"offset": 100}])
@pytest.mark.parametrize("buffer", [bytearray(b"abcdefgh"), bytearray(), "text"])
def test_frombuffer(buffer, options):
    same(lambda T: T.frombuffer(buffer, dtype=T.int32, **options))


@pytest.mark.parametrize("obj", [bytearray(b"abc"), bytearray(b"abcd"), [1, 2], 2.5, np.float32(1)])
@pytest.mark.parametrize("copy", [None, False, True])
def test_asarray(obj, copy):
    same(lambda T: T.asarray(obj, copy=copy))
    if not isinstance(obj, np.generic):
        same(lambda T: T.asarray(obj, copy=copy, dtype=T.uint8))


@pytest.mark.parametrize(
    "dtype", ["bool", "complex64", "uint16", "uint32", "uint64", "float8_e5m2", "uint8", "float16"]
)
def test_arange_dtypes(dtype):
    same(lambda T: T.arange(4, dtype=getattr(T, dtype)))


@pytest.mark.parametrize("shape", [(2**62, 2**62), (2**62, 8), (2**62, 4, 0), (2**63,)])
@pytest.mark.parametrize("name", ["zeros", "ones", "empty", "rand", "randn"])
def test_sizes_past_64_bits(name, shape):
    got, expected = (outcome(lambda T: getattr(T, name)(shape), T) for T in (jtorch, torch))
    assert got[0] == expected[0]
    assert got[1].startswith(expected[1])


@pytest.mark.parametrize("key", [0, slice(None), [True, False, True]])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("value", [1e9, 1e39])
def test_assigning_a_number_past_the_range(key, dtype, value):
    def fn(T):
        x = T.zeros(3, dtype=getattr(T, dtype))
        x[T.tensor(key) if isinstance(key, list) else key] = value
        return x

    same(fn)
