"""Random tensors: torch's own numbers on the CPU, JAX's keys elsewhere. A draw enters programs as an input."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jtorch._ops.specialise import broadcast_shapes
from jtorch._runtime import devices, draws, draws_rejection, dtypes, generator
from jtorch._runtime.generator import Generator as HostGenerator
from jtorch._runtime.generator import default_generator
from jtorch._tensor import creation, placing
from jtorch._tensor.base import Tensor
from jtorch._tensor.creation import _like, given_size, sizes
from jtorch._tensor.creation import _OutOp as OutOp
from jtorch._tensor.derive import call, check_in_place, copy_out, store_in_place, type_word
from jtorch._tensor.placing import place, wrap
from jtorch._tensor.storage import copied_over, value_of


class Generator(HostGenerator):
    """A stream of random numbers. On the CPU the same seed gives torch's own numbers."""

    def __init__(self, device: Any = "cpu"):
        super().__init__(devices.canonical(device))
        self._draws = 0

    def get_state(self) -> Tensor:
        """The state, as a uint8 tensor of torch's own layout."""
        return wrap(place(super().get_state(), dtypes.uint8, devices.CPU))

    def set_state(self, new_state: Tensor):
        """Restores a state that `get_state` gave."""
        if not isinstance(new_state, Tensor):
            raise TypeError(f"expected a torch.ByteTensor, but got {type(new_state).__name__}")
        if new_state.dtype is not dtypes.uint8:
            raise TypeError("RNG state must be a torch.ByteTensor")
        return super().set_state(new_state._host())

    def key(self):
        """A fresh JAX key, for draws on an accelerator."""
        self._draws += 1
        return jax.random.fold_in(jax.random.key(self.initial_seed() % 2**63), self._draws)


_accelerator: dict = {}
_seed = [default_generator.initial_seed()]


def _stream(g, where) -> HostGenerator:
    if placing.log is not None:  # what draws is not `_drawn`: it could not be made again
        placing.log.stray = True
    if g is not None:
        if not isinstance(g, HostGenerator):
            raise TypeError(f"expected a torch.Generator, but got {type(g).__name__}")
        kind = getattr(g.device, "type", "cpu")
        if kind != where.type:
            raise RuntimeError(f"Expected a '{where.type}' device type for generator but found '{kind}'")
        return g
    if where.type in ("cpu", "meta"):
        return default_generator
    if where not in _accelerator:
        _accelerator[where] = Generator(where).manual_seed(_seed[0])
    return _accelerator[where]


def manual_seed(seed) -> HostGenerator:
    """Restarts all default streams from a seed; gives the CPU's."""
    seed = int(seed)
    default_generator.manual_seed(seed)
    _seed[0] = default_generator.initial_seed()
    for g in _accelerator.values():
        g.manual_seed(seed)
        g._draws = 0
    return default_generator


def seed() -> int:
    """Restarts all default streams from a fresh random seed, and gives it."""
    fresh = default_generator.seed()
    _seed[0] = fresh
    for g in _accelerator.values():
        g.manual_seed(fresh)
    return fresh


def initial_seed() -> int:
    """The seed of the CPU's default stream."""
    return default_generator.initial_seed()


def get_rng_state() -> Tensor:
    """The state of the CPU's default stream, as a uint8 tensor."""
    return wrap(place(HostGenerator.get_state(default_generator), dtypes.uint8, devices.CPU))


def set_rng_state(new_state: Tensor) -> None:
    """Restores the CPU's default stream."""
    if not isinstance(new_state, Tensor):
        raise TypeError(f"expected a torch.ByteTensor, but got {type(new_state).__name__}")
    HostGenerator.set_state(default_generator, new_state._host())


@contextlib.contextmanager
def fork_rng(
    devices=None,
    enabled: bool = True,
    _caller: str = "fork_rng",
    _devices_kw: str = "devices",
    device_type: str = "cuda",
):
    """Leaves the random streams as they were when the block ends."""
    if not enabled:
        yield
        return
    state = HostGenerator.get_state(default_generator)
    others = {where: (HostGenerator.get_state(g), g._draws) for where, g in _accelerator.items()}
    try:
        yield
    finally:
        HostGenerator.set_state(default_generator, state)
        for where, (held, count) in others.items():
            HostGenerator.set_state(_accelerator[where], held)
            _accelerator[where]._draws = count


# ---- drawing ---------------------------------------------------------------------------------------------------------


def _drawn(where, shape, dtype, g, host, key_draw, requires_grad=False) -> Tensor:
    """A tensor drawn on a device: `host(generator)` gives NumPy numbers, `key_draw(key)` JAX ones."""
    if placing.log is not None:
        return _logged(lambda: _drawn(where, shape, dtype, g, host, key_draw), requires_grad)
    stream = _stream(g, where)
    creation.check_size(shape, dtype)
    if where.type == "cpu":
        with stream.lock:
            return wrap(place(host(stream), dtype, where), requires_grad)
    if where.type == "meta":
        return wrap(place(np.zeros(shape, dtype.np), dtype, where), requires_grad)
    from jtorch._runtime import executor

    array = jax.device_put(key_draw(stream.key()), devices.to_jax(where))  # type: ignore[attr-defined]
    return wrap(executor.of(array), requires_grad)


def _logged(draw: Callable[[], Tensor], requires_grad: bool) -> Tensor:
    """A draw of which a watched function's replay is told how to make it again."""
    watcher, placing.log = placing.log, None
    try:
        t = draw()
    finally:
        placing.log = watcher
    watcher.draws.append((t._value, lambda: draw()._value))
    if requires_grad:
        t.requires_grad = True
    return t


def _floating(dtype, out=None) -> dtypes.dtype:
    return dtype or (out.dtype if out is not None else dtypes.get_default_dtype())


def _finish(t: Tensor, out, name: str) -> Tensor:
    return t if out is None else copy_out(t, out, OutOp(name))  # type: ignore[arg-type]


def rand(
    *args,
    size=None,
    generator=None,
    out=None,
    dtype=None,
    layout=None,
    device=None,
    requires_grad=False,
    pin_memory=False,
) -> Tensor:
    """Uniform numbers in [0, 1)."""
    shape, d, where = given_size("rand", args, size), _floating(dtype, out), devices.canonical(device)
    if d.category < dtypes.FLOATING:
        raise NotImplementedError(f"\"check_uniform_bounds\" not implemented for '{dtypes.SCALAR_NAMES[d]}'")
    if d.is_complex:
        pair = rand(*shape, 2, generator=generator, dtype=d.to_real(), device=where)
        from jtorch._tensor.dtype_views import view_as_complex

        t = view_as_complex(pair).clone()
        return t.requires_grad_() if requires_grad else t
    t = _drawn(
        where,
        shape,
        d,
        generator,
        lambda g: draws.uniform(g, shape, d.np),
        lambda k: jax.random.uniform(k, shape, d.np),
        requires_grad,
    )
    return _finish(t, out, "rand")


def randn(
    *args,
    size=None,
    generator=None,
    out=None,
    dtype=None,
    layout=None,
    device=None,
    requires_grad=False,
    pin_memory=False,
) -> Tensor:
    """Normal numbers of mean 0 and variance 1."""
    shape, d, where = given_size("randn", args, size), _floating(dtype, out), devices.canonical(device)
    if d.category < dtypes.FLOATING:
        raise NotImplementedError(f"\"normal_kernel_cpu\" not implemented for '{dtypes.SCALAR_NAMES[d]}'")
    if d.is_complex:
        pair = randn(*shape, 2, generator=generator, dtype=d.to_real(), device=where) * (0.5**0.5)
        from jtorch._tensor.dtype_views import view_as_complex

        t = view_as_complex(pair).clone()
        return t.requires_grad_() if requires_grad else t
    t = _drawn(
        where,
        shape,
        d,
        generator,
        lambda g: draws.normal(g, shape, d.np),
        lambda k: jax.random.normal(k, shape, d.np),
        requires_grad,
    )
    return _finish(t, out, "randn")


def _range_and_size(args: tuple, named: dict) -> tuple:
    """low, high and size of `randint`, of which low may be left out."""
    names = ("high", "size") if len(args) + len(named) < 3 else ("low", "high", "size")
    given = dict(zip(names, args, strict=False)) | named
    if len(args) > len(names) or given.keys() != {*names} or not isinstance(given["size"], tuple | list):
        words = [type_word(a) for a in args] + [f"{k}={type_word(v)}" for k, v in named.items()]
        raise TypeError(
            f"randint() received an invalid combination of arguments - got ({', '.join(words)}), but expected one of:\n"
            " * (int high, tuple of ints size, *, torch.Generator generator, Tensor out = None)\n"
            " * (int low, int high, tuple of ints size, *, torch.Generator generator, Tensor out = None)\n"
        )
    for place_, name in enumerate(names[:-1]):
        if not hasattr(given[name], "__index__"):
            kind = type_word(given[name])
            raise TypeError(f"randint(): argument '{name}' (position {place_ + 1}) must be int, not {kind}")
    return int(given.get("low", 0)), int(given["high"]), given["size"]


def randint(
    *args,
    generator=None,
    out=None,
    dtype=None,
    layout=None,
    device=None,
    requires_grad=False,
    pin_memory=False,
    **named,
) -> Tensor:
    """Integers of [low, high): `randint(high, size)` or `randint(low, high, size)`."""
    low, high, size = _range_and_size(args, named)
    d, where = dtype or dtypes.int64, devices.canonical(device)
    shape = sizes((size,))
    if low >= high:
        raise RuntimeError(f"random_ expects 'from' to be less than 'to', but got from={low} >= to={high}")
    t = _drawn(
        where, shape, d, generator, lambda g: draws.randint(g, shape, d.np, int(low), int(high)),
        lambda k: jax.random.randint(k, shape, low, high, np.int64).astype(d.np), requires_grad,
    )  # fmt: skip
    return _finish(t, out, "randint")


def randperm(
    n: int, *, generator=None, out=None, dtype=None, layout=None, device=None, requires_grad=False, pin_memory=False
) -> Tensor:
    """The integers below n in random order."""
    if n < 0:
        raise RuntimeError(f"Trying to create tensor with negative dimension {n}: [{n}]")
    d, where = dtype or dtypes.int64, devices.canonical(device)
    t = _drawn(
        where, (n,), d, generator, lambda g: draws.randperm(g, n, d.np),
        lambda k: jax.random.permutation(k, n).astype(d.np), requires_grad,
    )  # fmt: skip
    return _finish(t, out, "randperm")


def rand_like(
    input: Tensor,
    *,
    generator=None,
    dtype=None,
    layout=None,
    device=None,
    requires_grad=False,
    memory_format=None,
    pin_memory=False,
) -> Tensor:
    """`rand` of another tensor's shape, dtype and device."""
    return _like(lambda s, **k: rand(s, generator=generator, **k), input, dtype, device, requires_grad, memory_format)


def randn_like(
    input: Tensor,
    *,
    generator=None,
    dtype=None,
    layout=None,
    device=None,
    requires_grad=False,
    memory_format=None,
    pin_memory=False,
) -> Tensor:
    """`randn` of another tensor's shape, dtype and device."""
    return _like(lambda s, **k: randn(s, generator=generator, **k), input, dtype, device, requires_grad, memory_format)


def randint_like(
    input: Tensor,
    *args,
    generator=None,
    dtype=None,
    layout=None,
    device=None,
    requires_grad=False,
    memory_format=None,
    **named,
) -> Tensor:
    """`randint` of another tensor's shape, dtype and device."""
    return _like(
        lambda s, **k: randint(*args, s, generator=generator, **named, **k),
        input,
        dtype,
        device,
        requires_grad,
        memory_format,
    )


def _fill(t: Tensor, name: str, host, key_draw, g) -> Tensor:
    """Draws over a tensor, in place, in the order its memory has."""
    check_in_place(t)
    a = value_of(t).aval
    shape = tuple(a.shape)
    order = None if a.contiguous else draws.memory_order(shape, a.strides)
    if order is None or order == tuple(range(len(shape))):
        drawn = _drawn(a.device, shape, a.dtype, g, lambda s: host(s, shape), lambda k: key_draw(k, shape))
    else:
        inner = tuple(shape[d] for d in order)
        back = np.argsort(order)
        drawn = _drawn(
            a.device, shape, a.dtype, g, lambda s: host(s, inner).transpose(back), lambda k: key_draw(k, shape)
        )
    v = value_of(drawn)
    from jtorch._autograd.modes import no_grad

    if t.requires_grad and not t.is_leaf:
        store_in_place(t, copied_over(value_of(t), v, name.capitalize().replace("_", "Backward0")), name)
    else:
        with no_grad():
            store_in_place(t, v, name)
    return t


def uniform_(self: Tensor, from_: float = 0, to: float = 1, *, generator=None, **named) -> Tensor:
    """Fills with uniform numbers of [from, to)."""
    low, high = float(named.get("from", from_)), float(to)
    d = self.dtype
    if low > high:
        raise RuntimeError(f"uniform_ expects to return a [from, to) range, but found from={_g(low)} > to={_g(high)}")
    if d.category < dtypes.FLOATING:
        raise NotImplementedError(f"\"check_uniform_bounds\" not implemented for '{dtypes.SCALAR_NAMES[d]}'")
    return _fill(
        self, "uniform_", lambda g, s: draws.uniform(g, s, d.np, low, high),
        lambda k, s: jax.random.uniform(k, s, d.np, low, high), generator,
    )  # fmt: skip


def _g(x: float) -> str:
    return f"{x:g}"


def normal_(self: Tensor, mean: float = 0, std: float = 1, *, generator=None) -> Tensor:
    """Fills with normal numbers."""
    mean, std, d = float(mean), float(std), self.dtype
    if std < 0:
        raise RuntimeError(f"normal expects std >= 0.0, but found std {_g(std)}")
    if d.category < dtypes.FLOATING:
        raise NotImplementedError(f"\"normal_kernel_cpu\" not implemented for '{dtypes.SCALAR_NAMES[d]}'")
    contiguous = value_of(self).aval.contiguous
    return _fill(
        self, "normal_", lambda g, s: draws.normal(g, s, d.np, mean, std, contiguous=contiguous),
        lambda k, s: jax.random.normal(k, s, d.np) * std + mean, generator,
    )  # fmt: skip


def random_(self: Tensor, *args, generator=None, **named) -> Tensor:
    """Fills with integers: of the dtype's whole range, of [0, to), or of [from, to)."""
    d = self.dtype
    args = [int(a) if a is not None else None for a in args]
    low = named.get("from", args[0] if len(args) > 1 else (args[0] if args and "to" in named else None))
    high = named.get(
        "to", args[1] if len(args) > 1 else (args[0] if args and "to" not in named and "from" not in named else None)
    )
    if low is None and high is None:
        top = {"float32": 2**24, "float64": 2**53, "float16": 2**11, "bfloat16": 2**8, "bool": 1}.get(d.name)
        return _fill(
            self, "random_", lambda g, s: draws.random(g, s, d.np),
            lambda k, s: jax.random.randint(k, s, 0, (top or np.iinfo(d.np).max), np.int64).astype(d.np), generator,
        )  # fmt: skip
    low = 0 if low is None else low
    if high is not None and low >= high:
        raise RuntimeError(f"random_ expects 'from' to be less than 'to', but got from={low} >= to={high}")
    return _fill(
        self, "random_", lambda g, s: draws.randint(g, s, d.np, low, high),
        lambda k, s: jax.random.randint(k, s, low, np.iinfo(np.int64).max if high is None else high, np.int64).astype(d.np), generator,
    )  # fmt: skip


def bernoulli_(self: Tensor, p=0.5, *, generator=None) -> Tensor:
    """Fills with ones of probability p (a number, or a tensor of them) and zeros."""
    d = self.dtype
    if isinstance(p, Tensor):
        chances = np.broadcast_to(p._host(), tuple(self.shape))
        return _fill(
            self, "bernoulli_", lambda g, s: draws.bernoulli_of(g, chances, d.np),
            lambda k, s: jax.random.bernoulli(k, jnp.asarray(chances), s).astype(d.np), generator,
        )  # fmt: skip
    p = float(p)
    if not 0 <= p <= 1:
        raise RuntimeError(f"bernoulli_ expects p to be in [0, 1], but got p={_g(p)}")
    return _fill(
        self, "bernoulli_", lambda g, s: draws.bernoulli(g, s, d.np, p),
        lambda k, s: jax.random.bernoulli(k, p, s).astype(d.np), generator,
    )  # fmt: skip


def bernoulli(input: Tensor, p: float | None = None, *, generator=None, out=None) -> Tensor:
    """Ones with the probabilities of `input` (or p), zeros elsewhere."""
    if p is not None:
        t = _like(_empty, input, None, None, False, None)
        return _finish(bernoulli_(t, p, generator=generator), out, "bernoulli")
    d, a = input.dtype, input._shape_aval()
    if d.category < dtypes.FLOATING:
        raise NotImplementedError(f"\"bernoulli_tensor_cpu_p_\" not implemented for '{dtypes.SCALAR_NAMES[d]}'")
    chances = input.detach()._host()
    t = _drawn(
        a.device, tuple(a.shape), d, generator, lambda g: draws.bernoulli_of(g, chances, d.np),
        lambda k: jax.random.bernoulli(k, jnp.asarray(chances)).astype(d.np),
    )  # fmt: skip
    return _finish(_of(t, "_drawn_of_one", input), out, "bernoulli")


def _of(t: Tensor, key: str, *parameters: Tensor) -> Tensor:
    """A draw, in the graph where its parameters require grad: torch's gradients of them are zeros."""
    return call(key, t, *parameters) if any(p.requires_grad for p in parameters) else t


def _empty(*args, **kwargs):
    from jtorch._tensor.creation import empty

    return empty(*args, **kwargs)


def exponential_(self: Tensor, lambd: float = 1, *, generator=None) -> Tensor:
    """Fills with exponential numbers of rate lambd."""
    d = self.dtype
    if lambd <= 0:
        raise RuntimeError(f"exponential_ expects lambda > 0.0, but found lambda={_g(lambd)}")
    return _fill(
        self, "exponential_", lambda g, s: draws.exponential(g, s, d.np, float(lambd)),
        lambda k, s: jax.random.exponential(k, s, d.np) / lambd, generator,
    )  # fmt: skip


def geometric_(self: Tensor, p: float, *, generator=None) -> Tensor:
    """Fills with the number of tries until success of probability p."""
    d = self.dtype
    if not 0 < p < 1:
        raise RuntimeError(f"geometric_ expects p to be in (0, 1), but got p={_g(p)}")
    return _fill(
        self, "geometric_", lambda g, s: draws.geometric(g, s, d.np, float(p)),
        lambda k, s: jax.random.geometric(k, p, s).astype(d.np), generator,
    )  # fmt: skip


def log_normal_(self: Tensor, mean: float = 1, std: float = 2, *, generator=None) -> Tensor:
    """Fills with exponentials of normal numbers."""
    d = self.dtype
    if std <= 0:
        raise RuntimeError(f"log_normal_ expects std > 0.0, but found std={_g(std)}")
    return _fill(
        self, "log_normal_", lambda g, s: draws.log_normal(g, s, d.np, float(mean), float(std)),
        lambda k, s: jnp.exp(jax.random.normal(k, s, d.np) * std + mean), generator,
    )  # fmt: skip


def cauchy_(self: Tensor, median: float = 0, sigma: float = 1, *, generator=None) -> Tensor:
    """Fills with Cauchy numbers."""
    d = self.dtype
    if sigma <= 0:
        raise RuntimeError(f"cauchy_ expects sigma > 0.0, but found sigma={_g(sigma)}")
    return _fill(
        self, "cauchy_", lambda g, s: draws.cauchy(g, s, d.np, float(median), float(sigma)),
        lambda k, s: jax.random.cauchy(k, s, d.np) * sigma + median, generator,
    )  # fmt: skip


def normal(
    mean,
    std=1.0,
    size=None,
    *,
    generator=None,
    out=None,
    dtype=None,
    layout=None,
    device=None,
    requires_grad=False,
    pin_memory=False,
) -> Tensor:
    """Normal numbers whose mean and standard deviation are numbers (then with a size) or tensors."""
    if size is not None:
        t = _empty(sizes((size,)), dtype=_floating(dtype, out), device=device)
        normal_(t, mean, std, generator=generator)
        return _finish(t.requires_grad_() if requires_grad else t, out, "normal")
    if isinstance(std, Tensor) and std.numel() and float(std._host().min()) < 0:
        raise RuntimeError("normal expects all elements of std >= 0.0")
    if isinstance(mean, Tensor) and isinstance(std, Tensor):
        shape = broadcast_shapes((tuple(mean.shape), tuple(std.shape)))
    else:
        shape = tuple((mean if isinstance(mean, Tensor) else std).shape)
    model = mean if isinstance(mean, Tensor) else std
    t = _empty(shape, dtype=model.dtype, device=model.device)
    normal_(t, 0, 1, generator=generator)
    t = (t * std + mean).detach()
    given = [p for p in (mean, std) if isinstance(p, Tensor)]
    key = "both" if len(given) == 2 else "mean" if given[0] is mean else "std"
    t = _of(t, f"_drawn_of_{key}", *given)
    return _finish(t, out, "normal")


def multinomial(input: Tensor, num_samples: int, replacement: bool = False, *, generator=None, out=None) -> Tensor:
    """Indices drawn with the probabilities of each row of `input`."""
    a = input._shape_aval()
    if a.dtype.category != dtypes.FLOATING:
        raise RuntimeError(
            "multinomial only supports floating-point dtypes for input, got: " + dtypes.SCALAR_NAMES[a.dtype]
        )
    if num_samples <= 0:
        raise RuntimeError("cannot sample n_sample <= 0 samples")
    if out is not None and out.dtype is not dtypes.int64:
        raise RuntimeError(f"multinomial expects Long tensor out, got: {dtypes.SCALAR_NAMES[out.dtype]}")
    if not 1 <= a.ndim <= 2:
        raise RuntimeError("prob_dist must be 1 or 2 dim")
    if not replacement and num_samples > a.shape[-1]:
        raise RuntimeError("cannot sample n_sample > prob_dist.size(-1) samples without replacement")
    picked = draws.multinomial(_stream(generator, devices.CPU), input._host(), num_samples, replacement)
    return _finish(wrap(place(picked, dtypes.int64, a.device, own=picked.flags.owndata)), out, "multinomial")


def rrelu_slopes(input: Tensor, lower: float, upper: float) -> Tensor:
    """Slopes of [lower, upper] where `input` is not positive, ones elsewhere; in float32 for a bfloat16 input."""
    d, a = input.dtype, input._shape_aval()
    if d.category != dtypes.FLOATING or d is dtypes.float16:
        raise NotImplementedError(f"\"rrelu_with_noise_out_cpu\" not implemented for '{dtypes.SCALAR_NAMES[d]}'")
    for name, bound in (("lower", lower), ("upper", upper)):
        if not math.isfinite(bound):
            raise RuntimeError(f"rrelu: {name} bound must be finite, got {_g(bound)}")
    kind = dtypes.float32 if d is dtypes.bfloat16 else d
    shape = tuple(a.shape)

    def host(g):
        leaks = input.detach()._host() <= 0
        slopes = np.ones(shape, kind.np)
        slopes[leaks] = draws.rrelu_noise(g, int(leaks.sum()), kind.np, lower, upper)
        return slopes

    def key_draw(key):
        leaks = jnp.asarray(input.detach()._host()) <= 0
        return jnp.where(leaks, jax.random.uniform(key, shape, kind.np, lower, upper), 1)

    return _drawn(a.device, shape, kind, None, host, key_draw)


def _from_parameters(name, sample):
    def draw(input: Tensor, generator=None) -> Tensor:
        stream = _stream(generator, devices.CPU)
        with stream.lock:
            drawn = sample(stream, input.detach()._host())
        return wrap(place(np.asarray(drawn).astype(input.dtype.np), input.dtype, input.device))

    draw.__name__ = name
    draw.__doc__ = f"Numbers drawn from the {name.strip('_')} distributions of the parameters in `input`."
    return draw


poisson = _from_parameters("poisson", draws_rejection.poisson)
_standard_gamma = _from_parameters("_standard_gamma", draws_rejection.gamma)
_sample_dirichlet = _from_parameters("_sample_dirichlet", draws_rejection.dirichlet)


def binomial(count: Tensor, prob: Tensor, generator=None) -> Tensor:
    """Numbers of successes in `count` tries of probability `prob`."""
    stream = _stream(generator, devices.CPU)
    with stream.lock:
        drawn = draws_rejection.binomial(stream, count._host(), prob._host())
    return wrap(place(np.asarray(drawn).astype(count.dtype.np), count.dtype, count.device))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    f.__name__: f
    for f in (
        manual_seed, seed, initial_seed, get_rng_state, set_rng_state, rand, randn, randint, randperm, rand_like, randn_like,
        randint_like, bernoulli, normal, multinomial, poisson, _standard_gamma, _sample_dirichlet, binomial,
    )
}  # fmt: skip


def attach() -> None:
    """Gives Tensor its filling draws."""
    for f in (
        uniform_,
        normal_,
        random_,
        bernoulli_,
        exponential_,
        geometric_,
        log_normal_,
        cauchy_,
        bernoulli,
        multinomial,
    ):
        setattr(Tensor, f.__name__, f)


__all__ = ["FUNCTIONS", "Generator", "attach", "fork_rng", "generator"]
