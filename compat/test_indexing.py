"""Random index expressions, read and written, against torch. A failure names its seed and expression."""

from __future__ import annotations

import random
import warnings

import numpy as np
import pytest
import torch

import jtorch

pytestmark = pytest.mark.filterwarnings("ignore")
SEEDS, EACH = 22, 25


def _numbers(rng, n, size):
    """Mostly valid positions along a dim of this size."""
    high = max(size, 1)
    return [rng.randrange(-high, high) if rng.random() > 0.02 else rng.randrange(-6, 7) for _ in range(n)]


def _nested(rng, shape, size):
    if not shape:
        return _numbers(rng, 1, size)[0]
    return [_nested(rng, shape[1:], size) for _ in range(shape[0])]


def _index_shape(rng):
    return rng.choice([(2,), (1,), (2,), (2, 2), (1, 2), (2, 1), (0,), (1,)])


def _mask(rng, shape):
    if not shape:
        return rng.random() < 0.6
    return [_mask(rng, shape[1:]) for _ in range(shape[0])]


def _item(rng, shape, axis):
    """The source of one index and the number of dims it uses up."""
    size = shape[axis] if axis < len(shape) else 2
    kind = rng.randrange(22)
    if kind < 4:
        return repr(_numbers(rng, 1, size)[0]), 1
    if kind < 9:
        ends = [rng.choice(["", "", rng.randrange(-5, 6)]) for _ in range(2)]
        return "slice({}, {}, {})".format(*(e if e != "" else None for e in ends), rng.choice([None, 1, 2, 3])), 1
    if kind < 11:
        return rng.choice(["None", "...", "None", "True", "False"]), 0
    if kind < 13:
        return repr(_nested(rng, _index_shape(rng), size)), 1
    if kind < 16:
        dtype = rng.choice(["int64", "int64", "int32"])
        return f"T({_nested(rng, _index_shape(rng), size)}, dtype=torch.{dtype})", 1
    if kind == 16:
        return f"T({_numbers(rng, 1, size)[0]})", 1
    if kind == 17:
        return f"np.array({_nested(rng, _index_shape(rng), size)}, dtype=np.int64)", 1
    if kind == 18:
        return f"{_mask(rng, (size,))}", 1
    if kind == 19:
        return f"range({min(size, 2)})", 1
    covered = tuple(shape[axis : axis + rng.choice([1, 1, 2])])
    if rng.random() < 0.05:
        covered = (2,) * len(covered)
    return f"T({_mask(rng, covered)}, dtype=torch.bool)", len(covered)


def _case(rng):
    sizes = [1, 2, 3, 4] if rng.random() < 0.9 else [0, 1, 2]
    shape = tuple(rng.choice(sizes) for _ in range(rng.randrange(5)))
    wanted, axis, items = rng.choice([1, 1, 2, 2, 3, 4]), 0, []
    while len(items) < wanted:
        item, used = _item(rng, shape, axis)
        if axis + used > len(shape) and items and rng.random() < 0.9:
            item, used = rng.choice(["None", "True", "..."]), 0
        if item == "..." and "..." in items:
            continue
        items.append(item)
        axis += used
    if len(items) == 1 and rng.random() < 0.6:
        return shape, items[0]
    return shape, "(" + ", ".join(items) + ",)"


def _outcome(lib, shape, source, action):
    """The array that comes of it, or the type of the error."""
    x = lib.arange(int(np.prod(shape)), dtype=lib.float32).reshape(shape)
    try:
        index = eval(source, {"T": lib.tensor, "torch": lib, "np": np})
        return action(lib, x, index), None
    except Exception as error:
        return None, error


def _read(lib, x, index):
    return x[index].numpy()


def _write_number(lib, x, index):
    x[index] = -1.5
    return x.numpy()


def _write_rows(lib, x, index):
    """Writes distinct values where no element is written twice, equal ones otherwise."""
    taken = x[index].numpy()
    values = np.full(taken.shape, -2.0, dtype=np.float32)
    if len(np.unique(taken)) == taken.size:
        values -= np.arange(taken.size, dtype=np.float32).reshape(taken.shape)
    x[index] = lib.tensor(values)
    return x.numpy()


@pytest.mark.parametrize("action", [_read, _write_number, _write_rows], ids=["get", "set_number", "set_tensor"])
@pytest.mark.parametrize("seed", range(SEEDS))
def test_random_expressions(seed, action):
    rng = random.Random(seed)
    wrong = []
    for _ in range(EACH):
        shape, source = _case(rng)
        expected, expected_error = _outcome(torch, shape, source, action)
        got, error = _outcome(jtorch, shape, source, action)
        if expected_error is not None or error is not None:
            if type(error) is not type(expected_error):
                wrong.append(f"x{list(shape)}[{source}]: torch {expected_error!r}, jtorch {error!r}")
        elif expected.shape != got.shape or not np.array_equal(expected, got):
            wrong.append(f"x{list(shape)}[{source}]: torch {expected.shape}, jtorch {got.shape}, or other values")
    assert not wrong, f"seed {seed}, {len(wrong)} of {EACH}:\n" + "\n".join(wrong)


@pytest.mark.parametrize(
    "source",
    [
        "1", "slice(0, 1)", "None", "...", "(slice(None), 1)", "(..., None, 0)", "T(1)", "(T(1), T(0))",
        "[slice(0, 1)]", "[..., 0]", "np.int64(1)", "np.array(1)", "(slice(None, None, 2), slice(1, None))",
    ],
)  # fmt: skip
def test_views_share_memory(source):
    """Writing through what basic indexing gives shows in the tensor."""

    def write(lib, x, index):
        x[index].fill_(-1.0)
        return x.numpy()

    expected, expected_error = _outcome(torch, (2, 3, 4), source, write)
    got, error = _outcome(jtorch, (2, 3, 4), source, write)
    assert expected_error is None
    assert error is None
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    "source",
    [
        "5", "(0, 0, 0, 0)", "slice(None, None, -1)", "[7]", "T([7])", "T([True, False, True])", "T([1.0])", "1.5",
        "'a'", "{}", "np.True_", "(T([0, 1]), T([0, 1, 2]))", "[True]", "T(9)", "2**63", "T([1], dtype=torch.int16)",
    ],
)  # fmt: skip
def test_error_words(source):
    _, expected = _outcome(torch, (2, 3, 4), source, _read)
    _, error = _outcome(jtorch, (2, 3, 4), source, _read)
    assert type(error) is type(expected)
    assert str(error) == str(expected)


@pytest.mark.parametrize("source", ["0", "slice(None)", "T(0)", "(None, 0)", "[0]", "(0, 0)"])
def test_error_words_of_zero_dims(source):
    _, expected = _outcome(torch, (), source, _read)
    _, error = _outcome(jtorch, (), source, _read)
    assert type(error) is type(expected)
    assert str(error) == str(expected)


@pytest.mark.parametrize("lib", [torch, jtorch], ids=["torch", "jtorch"])
def test_byte_masks_warn(lib):
    x = lib.arange(3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert x[lib.tensor([1, 0, 1], dtype=lib.uint8)].tolist() == [0, 2]
    assert any("uint8 is now deprecated" in str(w.message) for w in caught)
