"""torch's distributions over a generator's bits: the same values from the same state.

Every function takes `generator, shape, dtype` (NumPy dtypes, ml_dtypes' bfloat16 among them) and returns a new NumPy
array drawn in C order; each leaves the generator exactly where torch leaves it. Arguments are checked in torch's words.
Draws whose consumption depends on the values drawn (Poisson, gamma, binomial) are in `draws_rejection.py`.

    uniform(g, shape, dtype, low=0, high=1)           rand, rand_like, uniform_
    normal(g, shape, dtype, mean=0, std=1, contiguous=True)      randn, normal_, torch.normal with numbers
    random(g, shape, dtype)                           random_() without bounds
    randint(g, shape, dtype, low, high)               randint, random_(to), random_(from, to); high=None: up to the top
    randperm(g, n, dtype=int64)                       randperm
    bernoulli(g, shape, dtype, p)                     bernoulli_(p), bernoulli(input, p), the dropout masks (with 1 - p)
    bernoulli_of(g, p_array, dtype=None)              bernoulli(p_tensor), bernoulli_(p_tensor)
    exponential, geometric, log_normal, cauchy        the in-place methods of those names
    multinomial(g, probabilities, n, replacement)     multinomial; int64
    rrelu_noise(g, count, dtype, lower, upper)        one draw for each negative input, in order
    memory_order(shape, strides)                      the order of dimensions in which torch fills a strided tensor

torch.normal with tensors draws `normal(g, shape, dtype)`, then multiplies and adds. A complex draw is a real one of
twice the size (`normal` with std / math.sqrt(2)).

What is exact: everything here was compared bit for bit with torch on an x86 processor with AVX2 that is not Intel's.
torch does not agree with itself everywhere: without vector instructions its single-precision normals differ in the last
bits, and where a build hands `bernoulli`, `exponential` and so the dropout masks to a vendor's library (MKL on Intel
processors), those follow that library's engine instead.
`multinomial` without replacement may order equal weights of half precision differently.
"""

from __future__ import annotations

import math
from array import array as PythonArray
from typing import Any

import numpy as np

from jtorch._runtime import dtypes
from jtorch._runtime.box_muller import BLOCK, blocks32, blocks64
from jtorch._runtime.generator import Generator
from jtorch._runtime.rounding import affine, libm, narrow

_MASK63 = np.uint64((1 << 63) - 1)
# Ranges from here on take 64 bits a draw.
_WIDE_RANGE = 1 << 28
# randperm's choice between 32 and 64 bits: small enough that the modulo's bias stays below 5 %.
_WIDE_PERMUTATION = ((1 << 32) - 1) // 20
# Below this a plain loop beats sorting.
_SHORT_PERMUTATION = 256
_DIGITS = {
    np.dtype(d): n for d, n in ((dtypes.float16.np, 11), (dtypes.bfloat16.np, 8), (np.float32, 24), (np.float64, 53))
}
_LARGEST = {d: dtypes.finfo(dtypes.from_numpy(d)).max for d in _DIGITS}
FEW = 16  # draws up to which Python's own arithmetic takes less time than NumPy's calls
_PYTHONS = frozenset((np.dtype(np.float32), np.dtype(np.float64)))  # whose results it gives, rounded once at the end
_C_NAMES = {
    "uint8": "unsigned char", "int8": "signed char", "int16": "short", "int32": "int", "int64": "long", "bool": "bool",
    "uint16": "unsigned short", "uint32": "unsigned int", "uint64": "unsigned long",
    "float16": "c10::Half", "bfloat16": "c10::BFloat16", "float32": "float", "float64": "double",
}  # fmt: skip


def _scalar_name(dtype: np.dtype) -> str:
    return dtypes.SCALAR_NAMES[dtypes.from_numpy(dtype)]


def _floating(dtype, kernel: str) -> np.dtype:
    """The dtype if torch draws such floats. NotImplementedError, naming the kernel, if not."""
    dtype = np.dtype(dtype)
    if dtype not in _DIGITS:
        raise NotImplementedError(f"\"{kernel}\" not implemented for '{_scalar_name(dtype)}'")
    return dtype


def _size(shape) -> int:
    return math.prod(shape)


def uniform(generator: Generator, shape, dtype, low: float = 0.0, high: float = 1.0) -> np.ndarray:
    """Uniform numbers in [low, high)."""
    dtype = _floating(dtype, "check_uniform_bounds")
    most = _LARGEST[dtype]
    for label, bound in (("from", low), ("to", high)):
        if not -most <= bound <= most:
            raise RuntimeError(f"{label} is out of bounds for {_C_NAMES[dtype.name]}")
    if low > high:
        raise RuntimeError(f"uniform_ expects to return a [from, to) range, but found from={low:g} > to={high:g}")
    if high - low > most:
        raise RuntimeError(
            f"uniform_ expects to-from <= std::numeric_limits<{_scalar_name(dtype)}>::max(), but found to={high:g} "
            f"and from={low:g} which result in to-from to exceed the limit"
        )
    engine, count = generator.engine, _size(shape)
    if dtype == np.float64:
        with generator.lock:
            unit = engine.unit53(count)
        out = affine(unit, high - low, low)
        _exclude(out, high, low)
        return out.reshape(shape)
    with generator.lock:
        unit = engine.unit24(count)
    first, last = np.float32(low), np.float32(high)
    out = affine(unit, float(last - first), float(first))
    if dtype != np.float32:
        out = out.astype(dtype)
    elif first == 0.0 and last == 1.0:
        return out.reshape(shape)
    _exclude(out, high, low)
    return out.reshape(shape)


def _exclude(out: np.ndarray, high: float, low: float) -> None:
    """Rounding may reach the upper bound, which is not part of the range: torch puts the lower one there."""
    reached = out >= np.asarray(high, out.dtype)
    if reached.any():
        out[reached] = low


def _pair(turn: float, depth: float) -> tuple[float, float]:
    """Two standard normals of two uniforms (Box and Muller), the cosine's first."""
    radius, angle = math.sqrt(-2.0 * math.log1p(-depth)), 2.0 * math.pi * turn
    return radius * math.cos(angle), radius * math.sin(angle)


def _pairs(generator: Generator, count: int, *, exact: bool) -> np.ndarray:
    """Standard normals one after the other, in double precision, as torch draws them singly. Called under the lock.

    Unless `exact` the last bits may differ from torch's, as they may where the result is rounded to a narrower dtype.
    """
    out = np.empty(count, np.float64)
    start = 0
    if generator.spare_normal is not None and count:
        out[0], start, generator.spare_normal = generator.spare_normal, 1, None
    need = count - start
    if need <= 0:
        return out
    unit = generator.engine.unit53(need + need % 2).reshape(-1, 2)
    if exact or need <= BLOCK:
        # Exactly the C library's; or so few that the overhead of array passes would be most of the time.
        normals = [z for turn, depth in unit.tolist() for z in _pair(turn, depth)]
        out[start:] = normals[:need]
        if need % 2:
            generator.spare_normal = normals[-1]
        return out
    radius = np.sqrt(-2.0 * np.log1p(-unit[:, 1]))
    angle = (2.0 * np.pi) * unit[:, 0]
    out[start::2] = radius * np.cos(angle)
    sines = radius * np.sin(angle)
    out[start + 1 :: 2] = sines[: need // 2]
    if need % 2:
        # The next draw may be a double one.
        generator.spare_normal = _pair(*unit[-1].tolist())[1]
    return out


def _singly(generator: Generator, count: int, mean: float, std: float, *, exact: bool) -> np.ndarray:
    with generator.lock:
        return affine(_pairs(generator, count, exact=exact), std, mean)


def normal(
    generator: Generator, shape, dtype, mean: float = 0.0, std: float = 1.0, *, contiguous: bool = True
) -> np.ndarray:
    """Normal numbers. `contiguous=False` is the stream of a tensor that is not contiguous, which torch draws singly.

    Differences from torch: none; note that the stream depends on the size (from 16 elements on, blocks of 16).
    """
    dtype = _floating(dtype, "normal_kernel_cpu")
    if not std >= 0.0:
        raise RuntimeError(f"normal expects std >= 0.0, but found std {std:g}")
    count = _size(shape)
    if count < BLOCK or not contiguous:
        return narrow(_singly(generator, count, mean, std, exact=dtype == np.float64), dtype).reshape(shape)
    tail = count % BLOCK
    engine = generator.engine
    wide = dtype == np.float64
    draw, blocks = (engine.unit53, blocks64) if wide else (engine.unit24, blocks32)
    with generator.lock:
        if wide or dtype == np.float32:
            # All elements get a uniform first; a last block is then drawn afresh over the last 16.
            unit = draw(count)[: count - tail]
        else:
            unit = draw(count - tail)
        last = draw(BLOCK) if tail else None
    out = np.empty(count, dtype)
    out[: count - tail] = blocks(unit, mean, std)
    if last is not None:
        out[-BLOCK:] = blocks(last, mean, std)
    return out.reshape(shape)


def random(generator: Generator, shape, dtype) -> np.ndarray:
    """Integers over all that the dtype can hold exactly and that is not negative; bools for bool."""
    dtype = np.dtype(dtype)
    engine, count = generator.engine, _size(shape)
    with generator.lock:
        if dtype == np.int64:
            return (engine.raw64(count) & _MASK63).view(np.int64).reshape(shape)
        if dtype == np.float64:
            return (engine.raw64(count) % np.uint64((1 << 53) + 1)).astype(dtype).reshape(shape)
        if dtype == np.bool_:
            return (engine.raw32(count) & np.uint32(1)).astype(dtype).reshape(shape)
        if dtype in _DIGITS:
            top = (1 << _DIGITS[dtype]) + 1
        elif dtype.name in ("uint8", "int8", "int16", "int32"):
            top = int(np.iinfo(dtype).max) + 1
        else:
            raise NotImplementedError(f"\"random_kernel_cpu\" not implemented for '{_scalar_name(dtype)}'")
        return (engine.raw32(count) % np.uint32(top)).astype(dtype).reshape(shape)


def _integer_bounds(dtype: np.dtype) -> tuple[int, int]:
    if dtype == np.bool_:
        return 0, 1
    if dtype in _DIGITS:
        return -int(_LARGEST[dtype]), int(_LARGEST[dtype])
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)


def randint(generator: Generator, shape, dtype, low: int, high: int | None) -> np.ndarray:
    """Integers in [low, high), of any real dtype; high=None: from `low` to the largest the dtype holds exactly."""
    dtype = np.dtype(dtype)
    least, most = _integer_bounds(dtype)
    whole = high is None and dtype == np.int64 and low == least
    if high is None:
        high = ((1 << _DIGITS[dtype]) if dtype in _DIGITS else most) + 1
    if low >= high:
        raise RuntimeError(f"random_ expects 'from' to be less than 'to', but got from={low} >= to={high}")
    for label, bound in (("from", low), ("to - 1", high - 1)):
        if not least <= bound <= most:
            raise RuntimeError(f"{label} is out of bounds for {_C_NAMES[dtype.name]}")
    span = high - low
    if whole:
        # All 64 bits of each draw, as they are.
        span, low = 1 << 64, 0
    engine, count = generator.engine, _size(shape)
    with generator.lock:
        bits = engine.raw64(count) if span >= _WIDE_RANGE else engine.raw32(count)
    if span < 1 << 64:
        bits %= bits.dtype.type(span)
    # Modular arithmetic in 64 bits: a range over the whole of int64 wraps where it should.
    values = bits.astype(np.uint64, copy=False)
    values += np.uint64(low & 0xFFFFFFFFFFFFFFFF)
    return (values if dtype == np.uint64 else values.view(np.int64)).astype(dtype, copy=False).reshape(shape)


def randperm(generator: Generator, n: int, dtype: Any = np.int64) -> np.ndarray:
    """A random order of 0 .. n-1."""
    dtype = np.dtype(dtype)
    if n < 0:
        raise RuntimeError(f"Trying to create tensor with negative dimension {n}: [{n}]")
    if dtype.name in ("bool", "uint16", "uint32", "uint64") or dtype.kind == "c":
        raise NotImplementedError(f"\"randperm\" not implemented for '{_scalar_name(dtype)}'")
    if dtype.kind == "i" or dtype == np.uint8:
        if n > np.iinfo(dtype).max:
            raise RuntimeError(f"value cannot be converted to type {dtype.name}_t without overflow")
    elif n > (1 << _DIGITS[dtype]) + 1:
        raise RuntimeError(f"n cannot be greater than {(1 << _DIGITS[dtype]) + 1} for {_scalar_name(dtype)} type.")
    if n < 2:
        return np.arange(n, dtype=dtype)
    with generator.lock:
        bits = generator.engine.raw64(n - 1) if n >= _WIDE_PERMUTATION else generator.engine.raw32(n - 1)
    bits %= np.arange(n, 1, -1, dtype=bits.dtype)
    if n <= _SHORT_PERMUTATION:
        return _swap(bits, n).astype(dtype)
    return _shuffle(bits.astype(np.int64), n).astype(dtype, copy=False)


def _swap(offsets: np.ndarray, n: int) -> np.ndarray:
    """Swaps place i with place i + offsets[i], for each i in turn."""
    order = list(range(n))
    for i, j in enumerate((offsets.astype(np.int64) + np.arange(n - 1)).tolist()):
        x = order[i]
        order[i] = order[j]
        order[j] = x
    return np.array(order, np.int64)


def _shuffle(offsets: np.ndarray, n: int) -> np.ndarray:
    """What `_swap` gives, without a loop over the elements.

    Place i is final after swap i, and holds what its partner j held then: what the last swap before i with the same
    partner moved there, namely that swap's own place; or j itself if there was none. What place t holds at swap t is
    in turn decided by the last swap before t whose partner is t. So the values hang in trees, whose roots are found by
    repeatedly replacing each link by the link's own link.
    """
    places = np.arange(n, dtype=np.int64)
    partners = places.copy()
    partners[:-1] += offsets
    # The last swap (s < t) with partner t. NumPy lets the last of several writes to one place win.
    link = places.copy()
    moving = np.flatnonzero(offsets)
    link[partners[moving]] = moving
    while True:
        further = link[link]
        if np.array_equal(further, link):
            break
        link = further
    # The previous swap with the same partner: neighbours once swaps are sorted by partner, then by time.
    shift = np.int64(n.bit_length())
    keys = np.sort(partners << shift | places)
    swaps, partner = keys & ((np.int64(1) << shift) - 1), keys >> shift
    origin = partner.copy()
    same = partner[1:] == partner[:-1]
    origin[1:][same] = link[swaps[:-1][same]]
    # A place swapped with itself keeps what it holds.
    still = swaps == partner
    origin[still] = link[swaps[still]]
    order = np.empty(n, np.int64)
    order[swaps] = origin
    return order


def bernoulli(generator: Generator, shape, dtype, p: float = 0.5) -> np.ndarray:
    """Ones with probability p, else zeros, of any dtype."""
    if not 0 <= p <= 1:
        raise RuntimeError(f"bernoulli_ expects p to be in [0, 1], but got p={p:g}")
    with generator.lock:
        unit = generator.engine.unit53(_size(shape))
    return (unit < p).astype(dtype).reshape(shape)


def bernoulli_of(generator: Generator, p: np.ndarray, dtype=None) -> np.ndarray:
    """One Bernoulli draw for each probability in `p`; of p's dtype unless told."""
    p = np.asarray(p)
    precision = _floating(p.dtype, "bernoulli_tensor_cpu_p_")
    if not ((p >= 0) & (p <= 1)).all():
        raise RuntimeError("Expected p_in >= 0 && p_in <= 1 to be true, but got false.")
    engine = generator.engine
    with generator.lock:
        unit = engine.unit53(p.size) if precision == np.float64 else engine.unit24(p.size)
    return (unit.reshape(p.shape) < p.astype(unit.dtype, copy=False)).astype(p.dtype if dtype is None else dtype)


def _unit53(generator: Generator, count: int) -> np.ndarray:
    with generator.lock:
        return generator.engine.unit53(count)


def exponential(generator: Generator, shape, dtype, rate: float = 1.0) -> np.ndarray:
    """Exponential numbers with the given rate."""
    dtype = np.dtype(dtype)
    if dtype not in _DIGITS:
        raise RuntimeError(
            "Exponential distribution is a continuous probability distribution. dtype must be a floating point but you "
            f"specified {_scalar_name(dtype)}"
        )
    if not rate > 0:
        raise RuntimeError(f"exponential_ expects lambda > 0.0, but found lambda={rate:g}")
    count = _size(shape)
    if count <= FEW and dtype in _PYTHONS and rate > 1e-30:  # beyond, float32 overflows
        with generator.lock:
            units = generator.engine.few53(count)
        factor = -1.0 / rate
        return np.array([math.log1p(-u) * factor for u in units], dtype).reshape(shape)
    out = -_unit53(generator, count)
    out = libm(math.log1p, out) if dtype == np.float64 else np.log1p(out)
    out *= -1.0 / rate
    return narrow(out, dtype).reshape(shape)


def geometric(generator: Generator, shape, dtype, p: float) -> np.ndarray:
    """How many trials of probability p until the first success, from 1 on; any real dtype but bool."""
    dtype = np.dtype(dtype)
    if not 0 < p < 1:
        raise RuntimeError(f"geometric_ expects p to be in (0, 1), but got p={p:g}")
    if dtype.kind in "bc" or dtype.name in ("uint16", "uint32", "uint64"):
        raise NotImplementedError(f"\"geometric_cpu\" not implemented for '{_scalar_name(dtype)}'")
    with np.errstate(divide="ignore"):
        out = np.ceil(np.log(_unit53(generator, _size(shape))) / np.log(1.0 - p))
    return narrow(out, dtype).reshape(shape)


def log_normal(generator: Generator, shape, dtype, mean: float = 1.0, std: float = 2.0) -> np.ndarray:
    """exp of normal numbers with the given mean and deviation."""
    dtype = _floating(dtype, "log_normal_cpu")
    if not std > 0:
        raise RuntimeError(f"log_normal_ expects std > 0.0, but found std={std:g}")
    normals = _singly(generator, _size(shape), mean, std, exact=dtype == np.float64)
    with np.errstate(over="ignore"):
        out = np.exp(normals)
    if dtype == np.float64:
        # `math.exp` raises where C overflows.
        finite = np.isfinite(out)
        out[finite] = libm(math.exp, normals[finite])
    return narrow(out, dtype).reshape(shape)


def cauchy(generator: Generator, shape, dtype, median: float = 0.0, sigma: float = 1.0) -> np.ndarray:
    """Cauchy numbers about `median`, of scale `sigma`."""
    dtype = np.dtype(dtype)
    if dtype not in _DIGITS:
        raise RuntimeError(
            "Cauchy distribution is a continuous probability distribution. dtype must be a floating point but you "
            f"specified {_C_NAMES.get(dtype.name, dtype.name)}"
        )
    if not sigma > 0:
        raise RuntimeError(f"cauchy_ expects sigma > 0.0, but found sigma={sigma:g}")
    unit = _unit53(generator, _size(shape))
    angle = np.pi * (unit - 0.5)
    tangent = libm(math.tan, angle) if dtype == np.float64 else np.tan(angle)
    return narrow(affine(tangent, sigma, median), dtype).reshape(shape)


def rrelu_noise(generator: Generator, count: int, dtype, lower: float, upper: float) -> np.ndarray:
    """The slopes of `count` negative inputs, in the order of the input's elements; of float32 for a bfloat16 input."""
    low, high = (float(np.asarray(bound, dtype)) for bound in (lower, upper))
    slopes = _unit53(generator, count)
    slopes *= high - low
    slopes += low
    return narrow(slopes, np.dtype(dtype))


def _one_of_few(generator: Generator, numbers: list[float], kind: str) -> int | None:
    """The one index that `multinomial` draws from a row of float32 ("f") or float64 ("d") weights, in Python's numbers.

    None, and nothing is drawn, where they are no distribution.
    """
    if not (min(numbers) >= 0 and 0 < sum(numbers) < math.inf):
        return None
    with generator.lock:
        units = generator.engine.few53(len(numbers))
    # Rounded as arrays of that dtype are: a quotient of two singles in double precision rounds to the single it would be.
    clocks = PythonArray(kind, [-math.log1p(-u) for u in units])
    race = PythonArray(kind, [w / c if c else w * math.inf for w, c in zip(numbers, clocks, strict=True)]).tolist()
    return race.index(max(race))


def multinomial(
    generator: Generator, probabilities: np.ndarray, num_samples: int, replacement: bool = False
) -> np.ndarray:
    """Indices drawn by weight from each row: (n,) or (m, n) weights, int64 (num_samples,) or (m, num_samples)."""
    weights = np.asarray(probabilities)
    if num_samples == 1 and weights.ndim == 1 and 0 < weights.size <= FEW and weights.dtype.char in "fd":
        picked = _one_of_few(generator, weights.tolist(), weights.dtype.char)
        if picked is not None:
            return np.array([picked])
    if weights.dtype not in _DIGITS:
        raise RuntimeError(
            f"multinomial only supports floating-point dtypes for input, got: {_scalar_name(weights.dtype)}"
        )
    if weights.ndim not in (1, 2):
        raise RuntimeError("prob_dist must be 1 or 2 dim")
    categories = weights.shape[-1]
    if num_samples <= 0:
        raise RuntimeError("cannot sample n_sample <= 0 samples")
    if not replacement and num_samples > categories:
        raise RuntimeError("cannot sample n_sample > prob_dist.size(-1) samples without replacement")
    if categories > 1 << 24:
        raise RuntimeError("number of categories cannot exceed 2^24")
    if weights.ndim == 2 and not len(weights):
        return np.empty((*weights.shape[:-1], num_samples), np.int64)
    if not (np.isfinite(weights) & (weights >= 0)).all():
        raise RuntimeError("probability tensor contains either `inf`, `nan` or element < 0")
    if (weights.sum(-1, dtype=np.float64) == 0).any():
        raise RuntimeError("invalid multinomial distribution (sum of probabilities <= 0)")
    if not replacement or num_samples == 1:
        # A race of exponential clocks: the fastest are a sample without replacement.
        clocks = exponential(generator, weights.shape, weights.dtype)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            race = weights / clocks
        if num_samples == 1:
            return race.argmax(-1, keepdims=True)
        return np.argsort(-race, axis=-1, kind="stable")[..., :num_samples]
    rows = weights.reshape(-1, categories)
    picks = _unit53(generator, len(rows) * num_samples).reshape(-1, num_samples)
    out = np.empty(picks.shape, np.int64)
    for row, pick, chosen in zip(rows, picks, out, strict=True):
        cumulated = np.cumsum(row, dtype=np.float64 if row.dtype == np.float64 else np.float32)
        cumulated /= cumulated[-1]
        cumulated[-1] = 1
        chosen[...] = np.searchsorted(cumulated.astype(np.float64), pick)
    return out.reshape(*weights.shape[:-1], num_samples)


def memory_order(shape, strides) -> tuple[int, ...]:
    """The dimensions, slowest first, in which torch fills a strided tensor: by falling stride.

    Draw for the shape so permuted, then permute back.
    """
    return tuple(sorted(range(len(shape)), key=lambda d: (-abs(strides[d]), d)))
