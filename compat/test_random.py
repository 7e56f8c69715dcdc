"""The CPU random numbers of jtorch against torch's: same seed, same values, same state afterwards.

Each case is a function of the module under test, `torch` or `jtorch`, run after `manual_seed`; whatever it returns
(tensors, numbers, nested lists of them) must agree, and so must the generator's bytes when it is done.
"""

from __future__ import annotations

import numpy as np
import pytest

import jtorch

torch = pytest.importorskip("torch")

SIZES = (1, 5, 15, 16, 17, 31, 32, 100, 1000, 10007, 100003)
SEEDS = (0, 42, 2**32 + 5, -1)
FLOATS = ("float32", "float64", "float16", "bfloat16")


def _torch_draws_from_its_own_engine() -> bool:
    """False where torch's build hands Bernoulli and exponential draws to a vendor's library instead (Intel CPUs)."""
    g = torch.Generator().manual_seed(0)
    torch.empty(4).bernoulli_(0.5, generator=g)
    return int(g.get_state().numpy().view(np.uint64)[2]) == 8


own_engine = pytest.mark.skipif(
    not _torch_draws_from_its_own_engine(),
    reason="this torch draws Bernoulli and exponential from its vendor's library",
)


def _plain(value):
    """Tensors as NumPy arrays with their dtype's name (bfloat16 widened); containers as lists."""
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, (torch.Tensor, jtorch.Tensor)):
        name = str(value.dtype).removeprefix("torch.")
        value = value.detach()
        if name in ("bfloat16", "float16"):
            value = value.float()
        return name, value.cpu().numpy()
    return value


def _assert_same(expected, actual, ulps: int, where: str = "result"):
    if isinstance(expected, list):
        assert len(expected) == len(actual), where
        for i, (e, a) in enumerate(zip(expected, actual, strict=True)):
            _assert_same(e, a, ulps, f"{where}[{i}]")
    elif isinstance(expected, tuple):
        assert expected[0] == actual[0], f"{where}: dtype {actual[0]}, torch {expected[0]}"
        e, a = expected[1], actual[1]
        assert e.shape == a.shape, f"{where}: shape {a.shape}, torch {e.shape}"
        if ulps and e.dtype.kind == "f":
            np.testing.assert_array_almost_equal_nulp(a, e, ulps)
        else:
            np.testing.assert_array_equal(a, e, err_msg=where)
    else:
        assert expected == actual, where


def check(case, seed: int = 42, ulps: int = 0):
    results, states = [], []
    for module in (torch, jtorch):
        module.manual_seed(seed)
        results.append(_plain(case(module)))
        states.append(module.get_rng_state().numpy())
    _assert_same(*results, ulps)
    np.testing.assert_array_equal(states[1], states[0], err_msg="the generators are not in step afterwards")


def dtype_of(module, name):
    return getattr(module, name)


# -- one kind of draw, many sizes and dtypes


@pytest.mark.parametrize("seed", SEEDS)
def test_seeds(seed):
    check(lambda T: [T.rand(7), T.randn(7), T.randint(0, 1000, (7,)), T.tensor(T.initial_seed() % 2**31)], seed)


@pytest.mark.parametrize("dtype", FLOATS)
def test_rand(dtype):
    check(lambda T: [T.rand(n, dtype=dtype_of(T, dtype)) for n in SIZES])


@pytest.mark.parametrize("dtype", FLOATS)
def test_randn(dtype):
    check(lambda T: [T.randn(n, dtype=dtype_of(T, dtype)) for n in SIZES])


@pytest.mark.parametrize("dtype", FLOATS)
def test_uniform_(dtype):
    check(lambda T: [T.empty(n, dtype=dtype_of(T, dtype)).uniform_(-0.37, 1.9) for n in SIZES])


@pytest.mark.parametrize("dtype", FLOATS)
def test_normal_(dtype):
    check(lambda T: [T.empty(n, dtype=dtype_of(T, dtype)).normal_(0.3, 0.07) for n in SIZES])


@own_engine
@pytest.mark.parametrize("dtype", [*FLOATS, "int64", "uint8", "bool"])
def test_bernoulli_(dtype):
    check(lambda T: [T.empty(n, dtype=dtype_of(T, dtype)).bernoulli_(0.3) for n in SIZES])


@own_engine
@pytest.mark.parametrize("dtype", FLOATS)
def test_exponential_(dtype):
    check(lambda T: [T.empty(n, dtype=dtype_of(T, dtype)).exponential_(0.7) for n in SIZES])


@pytest.mark.parametrize("dtype", ["int64", "int32", "int16", "int8", "uint8", "bool", *FLOATS])
def test_random_(dtype):
    check(lambda T: [T.empty(n, dtype=dtype_of(T, dtype)).random_() for n in SIZES])


@pytest.mark.parametrize("dtype", ["int64", "int32", "int8", "uint8", "float32", "float16"])
def test_randint_dtypes(dtype):
    check(lambda T: [T.randint(3, 90, (n,), dtype=dtype_of(T, dtype)) for n in SIZES])


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (0, 2),
        (-5, 5),
        (0, 2**28 - 1),
        (0, 2**28),
        (-(2**31), 2**31),
        (0, 2**32 + 1),
        (-(2**62), 2**62),
        (-(2**63), 2**63 - 1),
    ],
)
def test_randint_ranges(low, high):
    check(lambda T: T.randint(low, high, (33,)))


@pytest.mark.parametrize("low", [-(2**63), -5, 7])
def test_random_from(low):
    check(lambda T: T.empty(33, dtype=T.int64).random_(low, None))


@pytest.mark.parametrize("n", [0, 1, 2, 5, 17, 256, 257, 1000, 10007, 60000])
def test_randperm(n):
    check(lambda T: T.randperm(n))


@pytest.mark.parametrize("dtype", ["int32", "uint8", "float32", "float16"])
def test_randperm_dtypes(dtype):
    check(lambda T: T.randperm(100, dtype=dtype_of(T, dtype)))


def _rrelu_gradient(T, dtype):
    x = (T.arange(-100, 100) / 32).to(dtype).requires_grad_()
    y = T.nn.functional.rrelu(x, training=True)
    y.backward((T.arange(200) / 64).to(dtype))
    return [y, x.grad, y.grad_fn.name()]


OTHERS = {
    "bernoulli_input": lambda T: T.bernoulli(T.linspace(0, 1, 50)),
    "bernoulli_input_p": lambda T: T.bernoulli(T.zeros(50), 0.2),
    "bernoulli_method_tensor": lambda T: T.empty(50).bernoulli_(T.linspace(0, 1, 50)),
    "geometric_": lambda T: T.empty(50).geometric_(0.2),
    "geometric_int": lambda T: T.empty(50, dtype=T.int64).geometric_(0.2),
    "log_normal_": lambda T: T.empty(50).log_normal_(0.3, 0.7),
    "cauchy_": lambda T: T.empty(50).cauchy_(0.3, 0.7),
    "poisson": lambda T: T.poisson(T.linspace(0, 40, 300)),
    "multinomial": lambda T: T.multinomial(T.arange(1.0, 40.0), 5, replacement=True),
    "multinomial_rows": lambda T: T.multinomial(T.arange(1.0, 41.0).view(4, 10), 7, replacement=True),
    "normal_numbers": lambda T: T.normal(2.0, 3.0, (5, 7)),
    "normal_mean_tensor": lambda T: T.normal(T.arange(20.0), 2.0),
    "normal_std_tensor": lambda T: T.normal(1.0, T.arange(5.0)),
    "normal_both_tensors": lambda T: T.normal(T.arange(20.0), T.arange(20.0)),
    "rand_like": lambda T: T.rand_like(T.zeros(3, 5)),
    "randn_like": lambda T: T.randn_like(T.zeros(6, 5)),
    "randint_like": lambda T: T.randint_like(T.zeros(6, 5), 3, 12),
    "zero_dim": lambda T: [T.randn(()), T.rand(()), T.randint(0, 9, ())],
    "empty": lambda T: [T.randn(0), T.rand(2, 0), T.randint(0, 9, (0,)), T.randn(3)],
    "shapes": lambda T: [T.randn(4, 4), T.randn(2, 3, 4), T.randn(3, 5), T.rand(4, 1, 2)],
    "complex": lambda T: [T.view_as_real(T.randn(20, dtype=T.complex64)), T.view_as_real(T.rand(3, dtype=T.complex64))],
    "transposed": lambda T: [
        T.empty(4, 6).t().uniform_(),
        T.empty(4, 6).t().normal_(),
        T.empty(8, 6)[::2, 1:4].normal_(),
    ],
    "rrelu": lambda T: T.nn.functional.rrelu(T.linspace(-3, 3, 41), training=True),
    "rrelu_": lambda T: T.nn.functional.rrelu_(T.linspace(-3, 3, 24).view(4, 6).t(), training=True),
    "rrelu_double": lambda T: T.nn.functional.rrelu(T.linspace(-3, 3, 41).double(), 0.1, 0.9, training=True),
    "rrelu_bfloat16": lambda T: _rrelu_gradient(T, T.bfloat16),
    "rrelu_gradient": lambda T: _rrelu_gradient(T, T.float32),
    "rrelu_special": lambda T: T.nn.functional.rrelu(
        T.tensor([float("nan"), -float("inf"), -0.0, 0.0, -1.0]), training=True
    ),
    "standard_gamma": lambda T: T._standard_gamma(T.linspace(0.3, 9, 40)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_others(name):
    check(OTHERS[name])


@pytest.mark.parametrize("dtype", ["float16", "int64", "complex64"])
def test_rrelu_refuses(dtype):
    """Another dtype is refused before any number is drawn, and so is a bound that is not finite."""

    def words(T):
        T.manual_seed(0)
        out = []
        for x, bounds in ((T.ones(3).neg().to(dtype_of(T, dtype)), ()), (T.ones(3), (0.0, float("inf")))):
            with pytest.raises((NotImplementedError, RuntimeError)) as e:
                T.nn.functional.rrelu(x, *bounds, training=True)
            out.append((e.type.__name__, str(e.value)))
        return [*map(str, out), T.rand(2)]

    check(words)


@own_engine
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "weights", [[0.3, 0.7], [0.0, 2.0, 1e-30, 5.0], [3e4, 6e4], [1e30, 1e38], [1.0], [3.0] * 17, [[1.0, 2.0]]]
)
def test_multinomial_of_few(weights, dtype):
    """Few weights take a way of their own: the draws among others, and where they leave the stream."""

    def draws(T):
        T.manual_seed(5)
        w = T.tensor(weights, dtype=T.float64).to(getattr(T, dtype))
        found = [T.multinomial(w, 1).tolist() for _ in range(30)]
        found.append(T.rand(700).tolist())
        found += [T.multinomial(w, min(2, w.shape[-1]), replacement).tolist() for replacement in (False, True)]
        return [*found, T.empty(3).exponential_(1e-37).tolist(), T.randn(3).tolist()]

    assert draws(jtorch) == draws(torch)


@pytest.mark.parametrize("weights", [[-1.0, 3.0], [float("nan"), 1.0], [float("inf"), 1.0], [0.0, 0.0], [-0.0, 1.0]])
def test_multinomial_of_what_is_no_distribution(weights):
    def outcome(T):
        T.manual_seed(1)
        try:
            return T.multinomial(T.tensor(weights), 1).tolist()
        except RuntimeError as error:
            return str(error), T.rand(1).item()

    assert outcome(jtorch) == outcome(torch)


@pytest.mark.parametrize("shape", [(0,), (2, 0)])
def test_multinomial_without_categories(shape):
    for module in (torch, jtorch):
        with pytest.raises(RuntimeError, match=r"invalid multinomial distribution \(sum of probabilities <= 0\)"):
            module.multinomial(module.ones(shape), 2, replacement=True)


RACES = {
    "multinomial_one": lambda T: T.multinomial(T.arange(1.0, 40.0), 1),
    "multinomial_without": lambda T: T.multinomial(T.arange(1.0, 41.0).view(4, 10), 7),
    "dropout": lambda T: T.nn.functional.dropout(T.ones(17, 3), 0.3),
    "dropout_module": lambda T: T.nn.Dropout(0.5)(T.arange(100.0)),
    "dropout2d": lambda T: T.nn.functional.dropout2d(T.ones(3, 5, 2, 2), 0.4),
    "alpha_dropout": lambda T: T.nn.functional.alpha_dropout(T.linspace(-1, 1, 40), 0.3, training=True),
    "gumbel_softmax": lambda T: T.nn.functional.gumbel_softmax(T.linspace(-1, 1, 40), hard=True),
    "weighted_sampler": lambda T: list(T.utils.data.WeightedRandomSampler([0.1, 0.5, 0.4], 9)),
}


@own_engine
@pytest.mark.parametrize("name", RACES)
def test_bernoulli_and_exponential_users(name):
    check(RACES[name], ulps=8)


# -- what trains: initial weights, shuffles, splits


def _parameters(module):
    return list(module.parameters())


MODULES = {
    "linear": lambda T: T.nn.Linear(20, 30),
    "conv2d": lambda T: T.nn.Conv2d(3, 8, 3),
    "conv_transpose": lambda T: T.nn.ConvTranspose1d(3, 8, 3),
    "embedding": lambda T: T.nn.Embedding(50, 7),
    "lstm": lambda T: T.nn.LSTM(5, 6, num_layers=2),
    "attention": lambda T: T.nn.MultiheadAttention(8, 2),
    "bilinear": lambda T: T.nn.Bilinear(3, 4, 5),
    "stack": lambda T: T.nn.Sequential(T.nn.Linear(4, 9), T.nn.ReLU(), T.nn.Linear(9, 2)),
    "encoder_layer": lambda T: T.nn.TransformerEncoderLayer(8, 2, 16),
}


@pytest.mark.parametrize("name", MODULES)
def test_initial_weights(name):
    # The bounds are computed by each side in its own way before they scale the draws.
    check(lambda T: _parameters(MODULES[name](T)), ulps=2)


INITS = {
    "uniform_": lambda T, x: T.nn.init.uniform_(x, -0.2, 0.3),
    "normal_": lambda T, x: T.nn.init.normal_(x, 0.1, 0.02),
    "xavier_uniform_": lambda T, x: T.nn.init.xavier_uniform_(x),
    "xavier_normal_": lambda T, x: T.nn.init.xavier_normal_(x),
    "kaiming_uniform_": lambda T, x: T.nn.init.kaiming_uniform_(x, a=5**0.5),
    "kaiming_normal_": lambda T, x: T.nn.init.kaiming_normal_(x, nonlinearity="relu"),
    "sparse_": lambda T, x: T.nn.init.sparse_(x, 0.3),
}


@pytest.mark.parametrize("name", INITS)
def test_init(name):
    check(lambda T: INITS[name](T, T.empty(13, 17)), ulps=2)


def test_init_trunc_normal():
    results = []
    for module in (torch, jtorch):
        module.manual_seed(42)
        results.append(module.nn.init.trunc_normal_(module.empty(40, 9), std=0.02).numpy())
    # The inverse error function is each side's own.
    np.testing.assert_allclose(results[1], results[0], rtol=2e-5, atol=1e-7)


def _orders(T, **options):
    data = T.utils.data.TensorDataset(T.arange(23))
    loader = T.utils.data.DataLoader(data, batch_size=4, shuffle=True, **options)
    return [[batch[0] for batch in loader] for _ in range(3)]


def test_dataloader_shuffle():
    check(_orders)


def test_dataloader_shuffle_with_generator():
    check(lambda T: _orders(T, generator=T.Generator().manual_seed(3)))


def test_dataloader_without_shuffle_consumes_the_same():
    def case(T):
        loader = T.utils.data.DataLoader(T.utils.data.TensorDataset(T.arange(9)), batch_size=4)
        return [[batch[0] for batch in loader], T.rand(3)]

    check(case)


def test_random_split():
    check(lambda T: [list(part.indices) for part in T.utils.data.random_split(range(23), [10, 8, 5])])


def test_random_split_fractions():
    def case(T):
        g = T.Generator().manual_seed(5)
        return [list(part.indices) for part in T.utils.data.random_split(range(23), [0.5, 0.3, 0.2], generator=g)]

    check(case)


def test_samplers():
    check(
        lambda T: [
            list(T.utils.data.RandomSampler(range(11))),
            list(T.utils.data.RandomSampler(range(11), replacement=True, num_samples=40)),
            list(T.utils.data.SubsetRandomSampler(range(3, 14))),
        ]
    )


# -- sequences and state


def test_mixed_sequence():
    check(
        lambda T: [
            T.randn(3), T.rand(2), T.randn(1), T.randint(0, 10, (3,)), T.randn(16), T.randn(2), T.randperm(7),
            T.rand(5, dtype=T.float64), T.randn(1), T.randn(33), T.randn(()), T.empty(3).log_normal_(),
            T.poisson(T.full((4,), 20.0)), T.randn(5, dtype=T.float64),
        ],
        ulps=2,
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_long_random_sequence(seed):
    """A hundred draws of random kinds and sizes: one word too many anywhere would show in all that follow."""
    kinds = (
        lambda T, n: T.randn(n),
        lambda T, n: T.rand(n),
        lambda T, n: T.randint(0, 1000, (n,)),
        lambda T, n: T.randperm(n),
        lambda T, n: T.rand(n, dtype=T.float64),
        lambda T, n: T.empty(n).normal_(1, 2),
        lambda T, n: T.empty(n, dtype=T.int64).random_(),
        lambda T, n: T.bernoulli(T.full((n,), 0.5)),
    )
    plan = np.random.default_rng(seed).integers(0, (len(kinds), 40), (100, 2)).tolist()
    check(lambda T: [kinds[kind](T, n) for kind, n in plan], seed)


def test_generator_objects_are_independent():
    def case(T):
        a, b = T.Generator().manual_seed(1), T.Generator().manual_seed(1)
        first = T.randn(20, generator=a)
        T.randn(7)
        return [first, T.randn(20, generator=b), T.randperm(9, generator=a), T.rand(3, generator=b), T.rand(3)]

    check(case)


def test_generator_before_any_seed():
    check(lambda T: [T.rand(3, generator=T.Generator()), T.Generator().initial_seed()])


def test_state_save_and_restore():
    def case(T):
        T.randn(5)
        state = T.get_rng_state()
        first = T.randn(5)
        T.rand(100)
        T.set_rng_state(state)
        return [first, T.randn(5), state]

    check(case)


def test_generator_state():
    def case(T):
        g = T.Generator().manual_seed(9)
        T.randn(3, generator=g)
        state = g.get_state()
        first = T.randn(3, generator=g)
        other = T.Generator()
        other.set_state(state)
        return [first, T.randn(3, generator=other), state, other.initial_seed(), str(g.device)]

    check(case)


def test_fork_rng():
    def case(T):
        before = T.rand(2)
        with T.random.fork_rng():
            T.manual_seed(7)
            inside = T.randn(20)
        return [before, inside, T.rand(2)]

    check(case)


@pytest.mark.parametrize("draws", [0, 1, 3, 623, 624, 625])
def test_states_cross_over(draws):
    """A state saved by either loads in the other."""
    torch.manual_seed(11)
    torch.rand(draws)
    torch.randn(1)
    jtorch.set_rng_state(jtorch.tensor(torch.get_rng_state().numpy()))
    np.testing.assert_array_equal(jtorch.randn(9).numpy(), torch.randn(9).numpy())
    jtorch.rand(draws)
    torch.set_rng_state(torch.tensor(jtorch.get_rng_state().numpy()))
    np.testing.assert_array_equal(jtorch.randn(9).numpy(), torch.randn(9).numpy())
    assert jtorch.initial_seed() == torch.initial_seed()


def test_manual_seed_returns_the_generator():
    assert jtorch.manual_seed(3).initial_seed() == 3 == jtorch.default_generator.initial_seed()


@pytest.mark.parametrize(
    "case",
    [
        lambda T: T.empty(2).uniform_(1, 0),
        lambda T: T.empty(2).normal_(0, -1),
        lambda T: T.randint(3, 3, (2,)),
        lambda T: T.empty(2, dtype=T.uint8).random_(0, 300),
        lambda T: T.empty(2).bernoulli_(2.0),
        lambda T: T.empty(2).exponential_(0.0),
        lambda T: T.empty(2).geometric_(1.0),
        lambda T: T.multinomial(T.ones(3), 4),
        lambda T: T.multinomial(T.zeros(3), 1),
        lambda T: T.poisson(T.tensor([-1.0])),
        lambda T: T.randn(3, dtype=T.int64),
        lambda T: T.Generator().set_state(T.zeros(10, dtype=T.uint8)),
        lambda T: T.Generator().manual_seed(2**64),
    ],
)
def test_errors(case):
    with pytest.raises(Exception) as expected:
        case(torch)
    with pytest.raises(type(expected.value)):
        case(jtorch)
