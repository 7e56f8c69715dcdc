"""Samplers that try until they accept, so that what they consume depends on what they drew.

Where an element's draws start is known only after the element before it, so these run element by element over plain
Python floats (about a microsecond a try); the uniforms under them are drawn in blocks, and the stream is then set to
just behind the last one used. The algorithms are the published ones: Knuth's product and Hörmann's transformed
rejection (PTRS, 1993) for Poisson, Hörmann's BTRS and sums of geometrics for binomial, Marsaglia and Tsang (2000) for
gamma.

    poisson(g, rates)              torch.poisson
    gamma(g, concentrations)       torch._standard_gamma (distributions.Gamma, Beta, Chi2, StudentT)
    dirichlet(g, concentrations)   torch._sample_dirichlet (last dimension sums to one)
    binomial(g, counts, probs)     torch.binomial
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from jtorch._runtime import dtypes
from jtorch._runtime.draws import _floating, _pair, _scalar_name
from jtorch._runtime.generator import Generator
from jtorch._runtime.rounding import narrow


class _Stream:
    """Double-precision uniforms one at a time, out of blocks, and normals in torch's pairs."""

    def __init__(self, generator: Generator, expected: int):
        self._generator = generator
        self._mark = generator.engine.mark()
        self._block: list[float] = []
        self._next = self._used_before = 0
        self._ask = max(4, expected)

    def uniform(self) -> float:
        if self._next == len(self._block):
            self._used_before += self._next
            self._block = self._generator.engine.unit53(self._ask).tolist()
            self._next = 0
            self._ask = min(2 * self._ask, 1 << 16)
        value = self._block[self._next]
        self._next += 1
        return value

    def normal(self) -> float:
        spare = self._generator.spare_normal
        if spare is not None:
            self._generator.spare_normal = None
            return spare
        turn = self.uniform()
        value, self._generator.spare_normal = _pair(turn, self.uniform())
        return value

    def close(self) -> None:
        """Leaves the generator behind the last uniform used."""
        self._generator.engine.rewind(self._mark, 2 * (self._used_before + self._next))


def _each(generator: Generator, sample: Callable, expected: int, *parameters: np.ndarray) -> np.ndarray:
    """`sample(stream, *values)` for the elements in C order, float64, flat."""
    columns = [p.astype(np.float64).ravel().tolist() for p in parameters]
    with generator.lock:
        stream = _Stream(generator, expected * len(columns[0]))
        try:
            return np.array([sample(stream, *values) for values in zip(*columns, strict=True)], np.float64)
        finally:
            stream.close()


def _poisson(stream: _Stream, rate: float) -> float:
    if rate >= 10:
        return _poisson_transformed(stream, rate)
    if rate == 0:
        return 0
    bound, product, events = math.exp(-rate), 1.0, 0
    while True:
        product *= stream.uniform()
        if product <= bound:
            return events
        events += 1


def _poisson_transformed(stream: _Stream, rate: float) -> float:
    b = 0.931 + 2.53 * math.sqrt(rate)
    a = -0.059 + 0.02483 * b
    inverse_alpha = 1.1239 + 1.1328 / (b - 3.4)
    v_r = 0.9277 - 3.6224 / (b - 2)
    log_rate = math.log(rate)
    while True:
        u, v = stream.uniform() - 0.5, stream.uniform()
        us = 0.5 - abs(u)
        if us == 0.0:
            continue
        k = math.floor((2 * a / us + b) * u + rate + 0.43)
        if us >= 0.07 and v <= v_r:
            return k
        if k < 0 or (us < 0.013 and v > us):
            continue
        proposal = _log(v) + math.log(inverse_alpha) - math.log(a / (us * us) + b)
        if proposal <= -rate + k * log_rate - math.lgamma(k + 1):
            return k


def _log(x: float) -> float:
    return math.log(x) if x > 0 else -math.inf


def poisson(generator: Generator, rates: np.ndarray) -> np.ndarray:
    """A Poisson count for each rate, in the rates' shape and dtype."""
    rates = np.asarray(rates)
    dtype = _floating(rates.dtype, "poisson_cpu")
    if not (rates >= 0).all():
        raise RuntimeError("invalid Poisson rate, expected rate to be non-negative")
    if not np.isfinite(rates).all():
        raise ValueError("invalid Poisson rate: it is infinite")
    return narrow(_each(generator, _poisson, 3, rates), dtype).reshape(rates.shape)


# torch's third has single precision, also for double-precision samples.
_THIRD = float(np.float32(1.0 / 3.0))


def _same(value: float) -> float:
    return value


def _to_single(value: float) -> float:
    return float(np.float32(value))


def _gamma(stream: _Stream, alpha: float, rounded: Callable[[float], float] = _same) -> float:
    """One gamma number; `rounded` is applied to the steps that torch takes in the sample's own precision."""
    scale = 1.0
    if alpha < 1.0:
        if alpha == 0.0:
            return 0.0
        # A power of a uniform takes a sample at alpha + 1 down to alpha.
        scale = (1 - stream.uniform()) ** rounded(1.0 / alpha)
        alpha = rounded(alpha + 1.0)
    d = rounded(alpha - _THIRD)
    if not d > 0.0:
        return 0.0
    c = 1.0 / math.sqrt(9.0 * d)
    while True:
        x = y = 0.0
        while y <= 0.0:
            x = stream.normal()
            y = 1.0 + c * x
        v = y * y * y
        u = 1 - stream.uniform()
        xx = x * x
        if u < 1.0 - 0.0331 * xx * xx or math.log(u) < 0.5 * xx + d * (1.0 - v + math.log(v)):
            return scale * d * v


def _gamma_single(stream: _Stream, alpha: float) -> float:
    return _gamma(stream, alpha, _to_single)


def gamma(generator: Generator, concentrations: np.ndarray) -> np.ndarray:
    """A gamma number of unit rate for each concentration; float32 or float64, never zero."""
    concentrations = np.asarray(concentrations)
    dtype = concentrations.dtype
    if dtype not in (np.float32, np.float64):
        raise NotImplementedError(f"\"gamma_cpu\" not implemented for '{_scalar_name(dtype)}'")
    sample = _gamma_single if dtype == np.float32 else _gamma
    out = narrow(_each(generator, sample, 4, concentrations), dtype)
    return np.fmax(out, np.finfo(dtype).tiny).reshape(concentrations.shape)


def dirichlet(generator: Generator, concentrations: np.ndarray) -> np.ndarray:
    """Points of the simplex: the last dimension of the result sums to one."""
    concentrations = np.asarray(concentrations)
    dtype = concentrations.dtype
    if dtype not in (np.float32, np.float64):
        raise NotImplementedError(f"\"dirichlet\" not implemented for '{_scalar_name(dtype)}'")
    parts = _each(generator, _gamma, 4, concentrations).reshape(concentrations.shape)
    np.fmax(parts, np.finfo(np.float64).tiny, out=parts)
    limits = np.finfo(dtype)
    shares = narrow(parts / _lane_sum(parts), dtype)
    return np.clip(shares, limits.tiny, dtype.type(1) - limits.epsneg)


def _lane_sum(parts: np.ndarray) -> np.ndarray:
    """Sums of the last dimension in the order torch adds short rows up: what four lanes leave over, then each lane.

    Rows of 16 and more may differ from torch's sum in the last bit of a double.
    """
    even = parts.shape[-1] - parts.shape[-1] % 4
    runs = [parts[..., even:], *(parts[..., lane:even:4] for lane in range(4))]
    sums = [run.cumsum(-1)[..., -1:] for run in runs if run.shape[-1]]
    total = sums[0]
    for part in sums[1:]:
        total = total + part
    return total


def _binomial(stream: _Stream, count: float, prob: float) -> float:
    if count <= 0 or prob <= 0:
        return 0
    if prob >= 1:
        return count
    if prob > 0.5:
        return count - _binomial(stream, count, 1 - prob)
    if math.isnan(prob):
        return math.nan
    return _binomial_transformed(stream, count, prob) if count * prob >= 10 else _binomial_waiting(stream, count, prob)


def _binomial_waiting(stream: _Stream, count: float, prob: float) -> float:
    """Counts successes by the trials between them."""
    log_miss, trials, successes = math.log1p(-prob), 0.0, 0
    while True:
        trials += math.ceil(math.log(u) / log_miss) if (u := stream.uniform()) > 0 else math.inf
        if trials > count:
            return successes
        successes += 1


_STIRLING = (
    0.0810614667953272, 0.0413406959554092, 0.0276779256849983, 0.02079067210376509, 0.0166446911898211,
    0.0138761288230707, 0.0118967099458917, 0.0104112652619720, 0.00925546218271273, 0.00833056343336287,
)  # fmt: skip


def _stirling_tail(k: float) -> float:
    """log k! minus Stirling's formula at k + 1."""
    if k <= 9:
        return _STIRLING[int(k)]
    square = (k + 1) * (k + 1)
    return (1.0 / 12 - (1.0 / 360 - 1.0 / 1260 / square) / square) / (k + 1)


def _binomial_transformed(stream: _Stream, count: float, prob: float) -> float:
    deviation = math.sqrt(count * prob * (1 - prob))
    b = 1.15 + 2.53 * deviation
    a = -0.0873 + 0.0248 * b + 0.01 * prob
    c = count * prob + 0.5
    v_r = 0.92 - 4.2 / b
    odds = prob / (1 - prob)
    alpha = (2.83 + 5.1 / b) * deviation
    m = math.floor((count + 1) * prob)
    while True:
        u, v = stream.uniform() - 0.5, stream.uniform()
        us = 0.5 - abs(u)
        if us == 0.0:
            continue
        k = math.floor((2 * a / us + b) * u + c)
        if us >= 0.07 and v <= v_r:
            return k
        if k < 0 or k > count:
            continue
        bound = (
            (m + 0.5) * math.log((m + 1) / (odds * (count - m + 1)))
            + (count + 1) * math.log((count - m + 1) / (count - k + 1))
            + (k + 0.5) * math.log(odds * (count - k + 1) / (k + 1))
            + _stirling_tail(m) + _stirling_tail(count - m) - _stirling_tail(k) - _stirling_tail(count - k)
        )  # fmt: skip
        if _log(v * alpha / (a / (us * us) + b)) <= bound:
            return k


def binomial(generator: Generator, counts: np.ndarray, probs: np.ndarray) -> np.ndarray:
    """Successes in `counts` trials of probability `probs`, broadcast together; in counts' dtype."""
    counts, probs = np.broadcast_arrays(counts, probs)
    if counts.dtype != probs.dtype:
        found, expected = (dtypes.SCALAR_NAMES[dtypes.from_numpy(a.dtype)] for a in (probs, counts))
        raise RuntimeError(f"Found dtype {found} but expected {expected}")
    dtype = counts.dtype
    if dtype not in (np.float32, np.float64):
        raise NotImplementedError(f"\"binomial_cpu\" not implemented for '{_scalar_name(dtype)}'")
    return narrow(_each(generator, _binomial, 4, counts, probs), dtype).reshape(counts.shape)
