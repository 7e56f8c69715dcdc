"""Window functions of `M` places: symmetric ones, or (`sym=False`) one period of them.

Each takes `dtype` (float32 or float64, by default the default one), `layout`, `device` and `requires_grad`. M = 0 gives
an empty tensor, M = 1 a one. `beta`, `tau`, `std` and the like are named in each one's own signature.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterable
from typing import Any

from jtorch._runtime import dtypes
from jtorch._runtime.dtypes import dtype as _dtype
from jtorch._tensor import creation, from_data, placing, ranges
from jtorch._tensor.tensor import Tensor

__all__ = [
    "bartlett", "blackman", "cosine", "exponential", "gaussian", "general_cosine", "general_hamming", "hamming",
    "hann", "kaiser", "nuttall",
]  # fmt: skip

Shape = tuple[float, float, Callable[[Tensor], Tensor]]  # the first place, the last, and the window's height over them


def _window(name: str = "", shortest: int = 2) -> Callable[[Callable[..., Shape]], Callable[..., Tensor]]:
    """Makes a window of a function of M, `sym` and the window's own parameters that gives its shape.

    name: what torch's errors call it, by default its own name. shortest: with fewer places than that they are ones.
    """

    def declare(shape_of: Callable[..., Shape]) -> Callable[..., Tensor]:
        called = name or shape_of.__name__

        @functools.wraps(shape_of)
        def window(
            M: int,
            *,
            sym: bool = True,
            dtype: _dtype | None = None,
            layout: Any = None,
            device: Any = None,
            requires_grad: bool = False,
            **own: Any,
        ) -> Tensor:
            dtype = dtype or dtypes.get_default_dtype()
            if M < 0:
                raise ValueError(f"{called} requires non-negative window length, got M={M}")
            if layout is not None and layout is not placing.strided:
                raise ValueError(f"{called} is implemented for strided tensors only, got: {layout}")
            if dtype not in (dtypes.float32, dtypes.float64):
                raise ValueError(f"{called} expects float32 or float64 dtypes, got: {dtype}")
            first, last, shape = shape_of(M, sym, **own)
            options: dict[str, Any] = {"dtype": dtype, "device": device, "requires_grad": requires_grad}
            if shortest > M:
                return creation.ones((M,), **options)
            return shape(ranges.linspace(first, last, M, **options))

        common = inspect.signature(window, follow_wrapped=False).parameters.values()
        place, *shared = [p for p in common if p.kind is not inspect.Parameter.VAR_KEYWORD]
        own = list(inspect.signature(shape_of).parameters.values())[2:]
        window.__signature__ = inspect.Signature([place, *own, *shared], return_annotation=Tensor)  # type: ignore[attr-defined]
        return window

    return declare


def _span(M: int, sym: bool) -> int:
    """Places in a period."""
    return M if M > 1 and not sym else M - 1


@_window()
def bartlett(M: int, sym: bool) -> Shape:
    """A triangle, zero at both ends."""
    return -1, -1 + 2 * (M - 1) / _span(M, sym) if M > 1 else 0.0, lambda x: 1 - x.abs()


@_window()
def cosine(M: int, sym: bool) -> Shape:
    """Half a period of a sine."""
    step = math.pi / (M if sym else M + 1) if M > 1 else 0.0
    return step / 2, (M - 0.5) * step, lambda x: x.sin()


@_window(shortest=1)
def exponential(M: int, sym: bool, *, center: float | None = None, tau: float = 1.0) -> Shape:
    """Decays from the center on, by e each `tau` places. A symmetric window has its center in the middle."""
    if tau <= 0:
        raise ValueError(f"Tau must be positive, got: {tau} instead.")
    if sym and center is not None:
        raise ValueError("Center must be None for symmetric windows")
    middle = (_span(M, sym) / 2 if center is None else center) / tau
    return -middle, (M - 1) / tau - middle, lambda x: (-x.abs()).exp()


@_window()
def gaussian(M: int, sym: bool, *, std: float = 1.0) -> Shape:
    """A bell of standard deviation `std`, in places."""
    if std <= 0:
        raise ValueError(f"Standard deviation must be positive, got: {std} instead.")
    scale = 1 / (std * math.sqrt(2))
    middle = _span(M, sym) / 2
    return -middle * scale, (M - 1 - middle) * scale, lambda x: (-(x**2)).exp()


@_window()
def kaiser(M: int, sym: bool, *, beta: float = 12.0) -> Shape:
    """A Bessel function over a half circle; a larger `beta` is narrower."""
    if beta < 0:
        raise ValueError(f"beta must be non-negative, got: {beta} instead.")

    def shape(x: Tensor) -> Tensor:
        top = from_data.tensor(beta, dtype=x.dtype, device=x.device)
        return (top * top - x * x).clamp(min=0).sqrt().i0() / top.i0()

    return -beta, beta * (-1 + 2 * (M - 1) / _span(M, sym)) if M > 1 else 0.0, shape


def _cosines(M: int, sym: bool, weights: list[float]) -> Shape:
    """weights[i] * cos(i * x) with alternating signs, summed, x over a full turn."""

    def shape(x: Tensor) -> Tensor:
        signed = from_data.tensor([(-1) ** i * w for i, w in enumerate(weights)], dtype=x.dtype, device=x.device)
        multiples = ranges.arange(len(weights), dtype=x.dtype, device=x.device)
        return (signed.unsqueeze(-1) * (multiples.unsqueeze(-1) * x).cos()).sum(0)

    return 0, 2 * math.pi * (M - 1) / _span(M, sym) if M > 1 else 0.0, shape


@_window()
def general_cosine(M: int, sym: bool, *, a: Iterable[float]) -> Shape:
    """The sum of a[i] * cos(i * x) with alternating signs, x over a full turn."""
    if M < 2:
        return _cosines(M, sym, [])  # the coefficients are not looked at, nor checked
    if not isinstance(a, Iterable):
        raise TypeError("Coefficients must be a list/tuple")
    weights = list(a)
    if not weights:
        raise ValueError("Coefficients cannot be empty")
    return _cosines(M, sym, weights)


@_window("general_cosine")
def general_hamming(M: int, sym: bool, *, alpha: float = 0.54) -> Shape:
    """A cosine raised by `alpha`."""
    return _cosines(M, sym, [alpha, 1.0 - alpha])


@_window("general_cosine")
def hamming(M: int, sym: bool) -> Shape:
    """A cosine raised by 0.54."""
    return _cosines(M, sym, [0.54, 1.0 - 0.54])


@_window("general_cosine")
def hann(M: int, sym: bool) -> Shape:
    """A cosine raised by a half."""
    return _cosines(M, sym, [0.5, 0.5])


@_window()
def blackman(M: int, sym: bool) -> Shape:
    """Three cosines: 0.42, 0.5, 0.08."""
    return _cosines(M, sym, [0.42, 0.5, 0.08])


@_window("general_cosine")
def nuttall(M: int, sym: bool) -> Shape:
    """Four cosines, of small side lobes."""
    return _cosines(M, sym, [0.3635819, 0.4891775, 0.1365995, 0.0106411])
