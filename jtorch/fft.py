"""`torch.fft`: derived from the operations declared for it, and the frequencies that belong to them."""

from __future__ import annotations

from typing import TYPE_CHECKING as _TYPE_CHECKING

import jax.numpy as jnp

from jtorch._tensor.creation import make
from jtorch._tensor.derive import namespace as _namespace
from jtorch._tensor.tensor import Tensor as Tensor

if _TYPE_CHECKING:
    from jtorch._stubs.fft import *  # noqa: F403

globals().update(_namespace("fft"))


def _frequencies(name: str, count: int, middle: int, n: int, d: float, options: dict) -> Tensor:
    def build(shape, dtype, count, middle):
        def fn(step):
            place = jnp.arange(count, dtype=dtype)
            return jnp.where(place < middle, place, place - jnp.asarray(n, dtype)) * step.astype(dtype)

        return fn

    dtype, device = options.pop("dtype", None), options.pop("device", None)
    kept = {k: options.pop(k) for k in ("out", "requires_grad") if k in options}
    for ignored in ("layout", "pin_memory"):
        options.pop(ignored, None)
    if options:
        raise TypeError(f"{name}() got an unexpected keyword argument '{next(iter(options))}'")
    step = 1.0 / (n * d) if n else 0.0
    return make(name, (count,), dtype, device, build, count, middle, numbers=(step,), **kept)


def fftfreq(n: int, d: float = 1.0, **options) -> Tensor:
    """The frequencies of the n values of a transform, for samples `d` apart: those below zero come last."""
    return _frequencies("fft_fftfreq", n, (n + 1) // 2, n, d, options)


def rfftfreq(n: int, d: float = 1.0, **options) -> Tensor:
    """The frequencies of the values of `rfft`, for samples `d` apart."""
    return _frequencies("fft_rfftfreq", n // 2 + 1, n // 2 + 1, n, d, options)
