"""Index expressions and the plans made of them."""

from __future__ import annotations

import numpy as np
import pytest

from jtorch._tensor.index_plan import broadcast_shapes, check_bounds, plan

pytestmark = pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")


class Fake:
    """Stands for a tensor: a shape, a dtype, and a value where one is asked for."""

    def __init__(self, array, dtype=None):
        self.array = np.asarray(array)
        self.dtype = dtype or self.array.dtype.name

    def item(self):
        return self.array.item()


def make(index, shape):
    return plan(index, shape, lambda x: isinstance(x, Fake), lambda x: (x.array.shape, x.dtype))


def gathered(p):
    return [(dim, index.tolist() if isinstance(index, np.ndarray) else index, k) for dim, index, k in p.advanced]


@pytest.mark.parametrize(
    ("index", "views"),
    [
        (1, [("select", 0, 1)]),
        (-1, [("select", 0, 1)]),
        (np.int32(1), [("select", 0, 1)]),
        (np.array(1), [("select", 0, 1)]),
        (slice(None), []),
        (slice(1, None), [("slice", 0, 1, 2, 1)]),
        (slice(5, 1), [("slice", 0, 2, 2, 1)]),
        (slice(-9, 9, 2), [("slice", 0, 0, 2, 2)]),
        (None, [("unsqueeze", 0)]),
        (..., []),
        ((), []),
        ((1, slice(0, 2)), [("select", 0, 1), ("slice", 0, 0, 2, 1)]),
        ((slice(None), -1), [("select", 1, 2)]),
        ((..., 0), [("select", 2, 0)]),
        ((None, ..., None, 3), [("unsqueeze", 0), ("unsqueeze", 3), ("select", 4, 3)]),
        ([slice(0, 1), 0], [("slice", 0, 0, 1, 1), ("select", 1, 0)]),
        ([..., 0], [("select", 2, 0)]),
    ],
)
def test_views(index, views):
    p = make(index, (2, 3, 4))
    assert list(p.views) == views
    assert p.advanced == ()


@pytest.mark.parametrize(
    ("index", "advanced", "front"),
    [
        ([0, -1], [(0, [0, 1], 0)], False),
        ([[0, 1], [0, 2]], [(0, [0, 1], 0), (1, [0, 2], 0)], False),
        ((slice(None), [0, 1]), [(1, [0, 1], 0)], False),
        (([0, 1], slice(None), [0, 1]), [(0, [0, 1], 0), (2, [0, 1], 0)], True),
        (([0, 1], 0, [0, 3]), [(0, [0, 1], 0), (1, [0, 3], 0)], False),
        (([0, 1], None, [0, 1]), [(0, [0, 1], 0), (2, [0, 1], 0)], True),
        ([True, False], [(0, [0], 0)], False),
        (range(2), [(0, [0, 1], 0)], False),
        ([], [(0, [], 0)], False),
        ([0.9, 1.9], [(0, [0, 1], 0)], False),
        (True, [(0, [0], 0)], False),
        (False, [(0, [], 0)], False),
        (np.array([[True, False, True]] * 2), [(0, [0, 0, 1, 1], 0), (1, [0, 2, 0, 2], 0)], False),
    ],
)
def test_gathers(index, advanced, front):
    p = make(index, (2, 3, 4))
    assert gathered(p) == advanced
    assert p.result_front is front


def test_tensors_stay_as_they_are():
    ints, mask, zero = Fake([0, 1]), Fake(np.ones((3, 4), dtype=bool)), Fake(1)
    assert make(ints, (2, 3)).advanced == ((0, ints, 0),)
    assert make((slice(None), mask), (2, 3, 4)).advanced == ((1, mask, 2),)
    p = make((slice(None), zero), (2, 3))
    assert p.views == (("select", 1, zero),)
    assert p.tensor_selects


def test_zero_dim_masks_add_a_dim():
    flag = Fake(True)
    p = make((0, flag), (2, 3))
    assert p.views == (("select", 0, 0), ("unsqueeze", 0))
    assert p.advanced == ((0, flag, 1),)
    assert make(True, ()).views == (("unsqueeze", 0),)


def test_list_of_tensors_is_a_tuple():
    a, b = Fake([0, 1]), Fake([1, 0])
    assert make([a, b], (2, 3)).advanced == ((0, a, 0), (1, b, 0))


def test_nested_list_of_one_element_tensors():
    assert gathered(make(([Fake(0), Fake([1])], 0), (2, 3))) == [(0, [0, 1], 0)]


def test_list_as_tuple_warns():
    with pytest.warns(UserWarning, match="Using a non-tuple sequence"):
        make([slice(0, 1), 0], (2, 3))


def test_byte_mask_warns():
    with pytest.warns(UserWarning, match="uint8 is now deprecated"):
        assert gathered(make(np.array([1, 0], dtype=np.uint8), (2, 3))) == [(0, [0], 0)]


@pytest.mark.parametrize(
    ("index", "shape", "error", "words"),
    [
        (0, (), IndexError, "invalid index of a 0-dim tensor"),
        (slice(None), (), IndexError, "slice() cannot be applied to a 0-dim tensor."),
        (5, (3,), IndexError, "index 5 is out of bounds for dimension 0 with size 3"),
        ((0, -4), (2, 3), IndexError, "index -4 is out of bounds for dimension 1 with size 3"),
        ((0, 0, 0), (2, 3), IndexError, "too many indices for tensor of dimension 2"),
        (slice(None, None, -1), (3,), ValueError, "step must be greater than zero"),
        (slice(None, None, 0), (3,), ValueError, "slice step cannot be zero"),
        ([7], (3,), IndexError, "index 7 is out of bounds for dimension 0 with size 3"),
        ([0], (0, 3), IndexError, "index is out of bounds for dimension with size 0"),
        ([True, False], (3,), IndexError, ("The shape of the mask [2] at index 0 does not match the shape of the "
         "indexed tensor [3] at index 0")),
        (Fake([True, False]), (3,), IndexError, "The shape of the mask [2] at index 0"),
        (([0, 1], [0, 1, 2]), (2, 3), IndexError, "could not be broadcast together with shapes [2], [3]"),
        (Fake([0.5]), (3,), IndexError, "tensors used as indices must be long, int, byte or bool tensors"),
        (Fake([1], "int16"), (3,), IndexError, "tensors used as indices must be long, int, byte or bool tensors"),
        (1.5, (3,), IndexError, "None and long or byte Variables are valid indices (got float)"),
        (np.True_, (3,), IndexError, "(got numpy.bool"),
        ({}, (3,), IndexError, "(got dict)"),
        ("a", (3,), TypeError, "new(): invalid data type 'str'"),
        ((0, [None]), (3, 3), RuntimeError, "Could not infer dtype of NoneType"),
        (([[0, 1], [1]],), (3,), ValueError, "expected sequence of length 2 at dim 1 (got 1)"),
        (2**63, (3,), ValueError, "Overflow when unpacking long long"),
        ([2**63], (3,), ValueError, "Overflow when unpacking long long"),
    ],
)  # fmt: skip
def test_errors(index, shape, error, words):
    with pytest.raises(error) as raised:
        make(index, shape)
    assert words in str(raised.value)


def test_nothing_gathered_lets_any_value_pass():
    assert gathered(make([9], (2, 0))) == [(0, [0], 0)]


def test_long_lists_are_tensors():
    assert make([[0]] * 40, (2, 3)).advanced[0][1].shape == (40, 1)


def test_helpers():
    assert broadcast_shapes([(2, 1), (3,)]) == (2, 3)
    assert check_bounds(np.array([-1, 0]), 3, 0).tolist() == [2, 0]
    with pytest.raises(IndexError, match="index 3 is out of bounds for dimension 1 with size 3"):
        check_bounds(np.array([3]), 3, 1)
