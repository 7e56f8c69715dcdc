"""The CPU random streams against values that torch gave for the same seeds (torch 2.13, x86, no torch needed here)."""

from __future__ import annotations

import hashlib
import pickle
import threading

import numpy as np
import pytest

from jtorch._runtime import draws, draws_rejection, dtypes
from jtorch._runtime.generator import Generator, default_generator, fork, resolve
from jtorch._runtime.mt19937 import Engine

HALF, BF16, F32, F64 = np.dtype(np.float16), dtypes.bfloat16.np, np.dtype(np.float32), np.dtype(np.float64)


@pytest.fixture
def g():
    return Generator().manual_seed(42)


def floats(*hexadecimal):
    return np.array([float.fromhex(h) for h in hexadecimal])


def same(actual, expected):
    np.testing.assert_array_equal(np.asarray(actual).astype(np.float64), expected)


@pytest.mark.parametrize(
    ("draw", "expected"),
    [
        (lambda g: draws.uniform(g, (3,), F32), floats("0x1.c3b8ccp-1", "0x1.d47b66p-1", "0x1.880d7p-2")),
        (lambda g: draws.uniform(g, (2,), F64), floats("0x1.dc66cbea3db30p-5", "0x1.01ae177aca870p-4")),
        (lambda g: draws.uniform(g, (3,), F32, -0.37, 1.9), floats("0x1.a1fbfcp+0", "0x1.b501dp+0", "0x1.ff1442p-2")),
        (lambda g: draws.uniform(g, (3,), BF16), floats("0x1.c4p-1", "0x1.d4p-1", "0x1.88p-2")),
        (lambda g: draws.normal(g, (3,), F32), floats("0x1.58c55cp-2", "0x1.07cd3ap-3", "0x1.e02dcep-3")),
        (
            lambda g: draws.normal(g, (17,), F32)[[0, 1, 8, 16]],
            floats("0x1.ed4a52p+0", "-0x1.46db0ap-3", "0x1.6c668ap-2", "-0x1.3d2904p-2"),
        ),
        (lambda g: draws.normal(g, (32,), F32, 0.3, 0.07)[[0, 31]], floats("0x1.bd524p-2", "0x1.70d5acp-2")),
        (lambda g: draws.normal(g, (17,), HALF)[[0, 1, 16]], floats("0x1.ed4p+0", "0x1.a48p+0", "0x1.b84p-1")),
        (lambda g: draws.randint(g, (5,), np.int64, 0, 100), [42, 67, 76, 14, 26]),
        (lambda g: draws.randint(g, (2,), np.int64, -(2**40), 2**40), [-658003837517, 395924837646]),
        (lambda g: draws.randperm(g, 10), [2, 6, 1, 8, 4, 5, 0, 9, 3, 7]),
        (lambda g: draws.randperm(g, 1000)[[0, 1, 500, 998, 999]], [542, 618, 882, 96, 455]),
        (lambda g: draws.bernoulli(g, (8,), F32, 0.3), [1, 1, 1, 1, 0, 0, 0, 0]),
        (lambda g: draws.bernoulli_of(g, np.full(8, 0.3, F32)), [0, 0, 0, 0, 0, 0, 1, 0]),
        (lambda g: draws.geometric(g, (4,), F32, 0.2), [13, 13, 10, 14]),
        (lambda g: draws.multinomial(g, np.arange(1, 7, dtype=F32), 3), [3, 1, 2]),
        (lambda g: draws.multinomial(g, np.arange(1, 7, dtype=F32), 6, True), [1, 1, 1, 1, 4, 4]),
        (lambda g: draws_rejection.poisson(g, np.array([3, 30, 300], F32)), [1, 22, 301]),
        (lambda g: draws_rejection.binomial(g, np.array([10, 100], F32), np.array([0.3, 0.6], F32)), [1, 67]),
    ],
)
def test_values_are_torchs(g, draw, expected):
    same(draw(g), expected)


@pytest.mark.parametrize(
    ("draw", "expected"),
    [
        (lambda g: draws.normal(g, (16,), F64)[[0, 15]], floats("0x1.32bee22ccb503p-2", "-0x1.7df87a7384c38p+0")),
        (lambda g: draws.exponential(g, (2,), F32, 0.7), floats("0x1.5e9524p-4", "0x1.7c3404p-4")),
        (lambda g: draws.log_normal(g, (2,), F32), floats("0x1.55214cp+2", "0x1.c22e42p+1")),
        (lambda g: draws.cauchy(g, (2,), F32), floats("-0x1.5a6632p+2", "-0x1.3f98ccp+2")),
        (lambda g: draws_rejection.gamma(g, np.array([0.5, 3], F32)), floats("0x1.8f0ddcp+0", "0x1.805decp+1")),
        (
            lambda g: draws_rejection.dirichlet(g, np.array([0.5, 3, 1], F32)),
            floats("0x1.1e923ep-2", "0x1.140622p-1", "0x1.72c2fap-3"),
        ),
    ],
)
def test_values_with_the_c_librarys_functions_are_torchs_to_an_ulp(g, draw, expected):
    actual = draw(g)
    np.testing.assert_array_almost_equal_nulp(actual, expected.astype(actual.dtype), 1)


def test_sixty_four_bit_draws_of_the_dataloader(g):
    values = draws.random(g, (2,), np.int64)
    assert values.tolist() == [6909045637428952499, 8314211556539077902]
    assert draws.random(g, (), np.int64).shape == ()


def test_mixed_draws_stay_in_step(g):
    mixed = [
        draws.normal(g, (1,), F32), draws.uniform(g, (1,), F32), draws.normal(g, (2,), F32),
        draws.randint(g, (1,), F32, 0, 9), draws.normal(g, (16,), F32)[-1:],
    ]  # fmt: skip
    expected = floats("0x1.58c55cp-2", "0x1.8fd1a8p-2", "0x1.07cd3ap-3", "0x1.4d91e6p-2", "0x1p+1", "0x1.4be25ep+0")
    same(np.concatenate(mixed), expected)


def test_few_numbers_at_a_time_are_those_of_the_stream(g):
    """Draws of a few numbers look ahead after a while. Whatever comes in between finds the stream where it should be."""
    plain = Generator().manual_seed(g.initial_seed())
    between = [
        lambda g: draws.uniform(g, (3,), F32).tolist(),
        lambda g: draws.normal(g, (2,), np.float64).tolist(),
        lambda g: g.get_state().tolist(),
        lambda g: g.clone_state().engine.unit53(2).tolist(),
        lambda g: g.set_state(g.get_state()) and None,
        lambda g: draws_rejection.poisson(g, np.full(3, 2.0)).tolist(),
        lambda g: g.manual_seed(5) and None,
    ]
    for n, other in enumerate(between * 2):
        for k in range(200 * n):
            count = k % 5
            assert g.engine.few53(count) == plain.engine.unit53(count).tolist()
        assert other(g) == other(plain)
        assert g.engine.few53(3) == plain.engine.unit53(3).tolist()


def test_state_is_torchs_bytes(g):
    draws.normal(g, (700,), F32)
    draws.normal(g, (1,), F32)
    state = g.get_state()
    assert state.dtype == np.uint8
    assert state.shape == (5056,)
    # The bytes of torch.get_rng_state() after the same draws; they hold the spare normal of the pair as well.
    digest = "840e958bdb2eca2191d14a14c94a1d3d456f6e0ae6647c48f483a6cc06b838dc"
    assert hashlib.sha256(state.tobytes()).hexdigest() == digest
    same(draws.uniform(g, (1,), F32), floats("0x1.7c6ac4p-2"))


def test_negative_seed_is_taken_modulo_two_to_the_64():
    g = Generator().manual_seed(-1)
    assert g.initial_seed() == 2**64 - 1
    same(draws.uniform(g, (1,), F32), floats("0x1.fcd346p-1"))


@pytest.mark.parametrize("before", [0, 1, 623, 624, 625, 1248])
def test_state_round_trip(before):
    g = Generator().manual_seed(7)
    draws.uniform(g, (before,), F32)
    draws.normal(g, (before % 2,), F32)
    copies = [Generator().set_state(g.get_state()), g.clone_state(), pickle.loads(pickle.dumps(g))]
    expected = draws.normal(g, (9,), F32)
    for copy in copies:
        assert copy.initial_seed() == 7
        same(draws.normal(copy, (9,), F32), expected)
        np.testing.assert_array_equal(copy.get_state(), g.get_state())


@pytest.mark.parametrize("n", [257, 300, 1000, 4097])
def test_fast_permutation_is_the_plain_one(n):
    offsets = Engine(n).raw32(n - 1) % np.arange(n, 1, -1, dtype=np.uint32)
    offsets[::5] = 0
    plain = draws._swap(offsets, n)
    np.testing.assert_array_equal(draws._shuffle(offsets.astype(np.int64), n), plain)


@pytest.mark.parametrize("dtype", [HALF, BF16])
def test_uniform_halves_stay_below_the_upper_bound(g, dtype):
    values = draws.uniform(g, (20000,), dtype).astype(F64)
    assert 0 <= values.min() <= values.max() < 1


@pytest.mark.parametrize("dtype", [F32, F64, HALF, BF16])
def test_normal_moments(g, dtype):
    values = draws.normal(g, (20000,), dtype, 1.0, 2.0).astype(F64)
    assert abs(values.mean() - 1) < 0.05
    assert abs(values.std() - 2) < 0.05


def test_chunks_do_not_show(g):
    """A draw over several passes of the block transformation equals the blocks one by one."""
    many = draws.normal(g, (3 * 16384 + 32,), F32)
    g.manual_seed(42)
    same(np.concatenate([draws.normal(g, (16,), F32) for _ in range(64)]), many[:1024])
    assert np.isfinite(many).all()


def test_shapes_and_empty_draws(g):
    state = g.get_state()
    assert draws.normal(g, (0, 3), F32).shape == (0, 3)
    assert draws.uniform(g, (2, 0), F64).shape == (2, 0)
    assert draws.randperm(g, 0).shape == (0,)
    assert draws.randperm(g, 1).tolist() == [0]
    np.testing.assert_array_equal(g.get_state(), state)
    assert draws.normal(g, (), F32).shape == ()


def test_fork_leaves_no_trace(g):
    state = g.get_state()
    with fork(g) as inner:
        draws.uniform(inner, (10,), F32)
    np.testing.assert_array_equal(g.get_state(), state)
    assert resolve(None) is default_generator
    assert resolve(g) is g


def test_threads_share_a_generator_without_losing_draws(g):
    parts: list[float] = []

    def draw():
        for _ in range(50):
            parts.extend(draws.uniform(g, (10,), F32).tolist())

    threads = [threading.Thread(target=draw) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    g.manual_seed(42)
    assert sorted(parts) == sorted(draws.uniform(g, (2000,), F32).tolist())


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda g: g.manual_seed(1.5), RuntimeError, "manual_seed expected a long, but got float"),
        (lambda g: g.manual_seed(2**64), ValueError, "Overflow when unpacking long"),
        (lambda g: g.set_state(np.zeros(10, np.uint8)), RuntimeError, "Expected a CPUGeneratorImplState of size 5056"),
        (lambda g: g.set_state(np.zeros(5056, np.uint8)), RuntimeError, "Invalid mt19937 state"),
        (lambda g: g.set_state(np.zeros(5056)), TypeError, "RNG state must be a torch.ByteTensor"),
        (lambda g: draws.uniform(g, (2,), F32, 1, 0), RuntimeError, r"found from=1 > to=0"),
        (lambda g: draws.uniform(g, (2,), np.int64), NotImplementedError, "not implemented for 'Long'"),
        (lambda g: draws.normal(g, (2,), F32, 0, -1), RuntimeError, "normal expects std >= 0.0, but found std -1"),
        (lambda g: draws.randint(g, (2,), np.int64, 3, 3), RuntimeError, "got from=3 >= to=3"),
        (lambda g: draws.randint(g, (2,), np.uint8, 0, 300), RuntimeError, "to - 1 is out of bounds for unsigned char"),
        (lambda g: draws.bernoulli(g, (2,), F32, 2), RuntimeError, r"p to be in \[0, 1\], but got p=2"),
        (lambda g: draws.exponential(g, (2,), F32, 0), RuntimeError, "expects lambda > 0.0, but found lambda=0"),
        (lambda g: draws.geometric(g, (2,), F32, 1), RuntimeError, r"p to be in \(0, 1\), but got p=1"),
        (lambda g: draws.multinomial(g, np.ones(3, F32), 4), RuntimeError, "without replacement"),
        (lambda g: draws.multinomial(g, np.zeros(3, F32), 1), RuntimeError, "sum of probabilities <= 0"),
        (lambda g: draws_rejection.poisson(g, np.array([-1.0])), RuntimeError, "invalid Poisson rate"),
    ],
)
def test_errors_use_torchs_words(g, call, error, words):
    with pytest.raises(error, match=words):
        call(g)
