"""Window functions of `M` places: symmetric ones, or (`sym=False`) one period of them.

Each takes `dtype` (float32 or float64, by default the default one), `layout`, `device` and `requires_grad`. M = 0 gives
an empty tensor, M = 1 a one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from jtorch._runtime import dtypes
from jtorch._runtime.dtypes import dtype as _dtype
from jtorch._tensor import creation
from jtorch._tensor.tensor import Tensor

__all__ = [
    "bartlett", "blackman", "cosine", "exponential", "gaussian", "general_cosine", "general_hamming", "hamming",
    "hann", "kaiser", "nuttall",
]  # fmt: skip


def _window(
    name: str,
    M: int,
    first: float,
    last: float,
    shape: Callable[[Tensor], Tensor],
    dtype,
    layout,
    device,
    requires_grad,
) -> Tensor:
    """`shape` of M places from `first` to `last`, after torch's checks."""
    dtype = dtype or dtypes.get_default_dtype()
    if M < 0:
        raise ValueError(f"{name} requires non-negative window length, got M={M}")
    if layout is not None and layout is not creation.strided:
        raise ValueError(f"{name} is implemented for strided tensors only, got: {layout}")
    if dtype not in (dtypes.float32, dtypes.float64):
        raise ValueError(f"{name} expects float32 or float64 dtypes, got: {dtype}")
    options: dict[str, Any] = {"dtype": dtype, "device": device, "requires_grad": requires_grad}
    if M < 2:
        return creation.ones((M,), **options)
    return shape(creation.linspace(first, last, M, **options))


def bartlett(
    M: int,
    *,
    sym: bool = True,
    dtype: _dtype | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """A triangle, zero at both ends."""
    last = -1 + 2 * (M - 1) / (M - 1 if sym else M) if M > 1 else 0.0
    return _window("bartlett", M, -1, last, lambda x: 1 - x.abs(), dtype, layout, device, requires_grad)


def blackman(
    M: int,
    *,
    sym: bool = True,
    dtype: _dtype | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Three cosines: 0.42, 0.5, 0.08."""
    return general_cosine(
        M, a=[0.42, 0.5, 0.08], sym=sym, dtype=dtype, layout=layout, device=device, requires_grad=requires_grad
    )


def cosine(
    M: int,
    *,
    sym: bool = True,
    dtype: _dtype | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Half a period of a sine."""
    step = math.pi / (M if sym else M + 1) if M > 1 else 0.0
    return _window("cosine", M, step / 2, (M - 0.5) * step, lambda x: x.sin(), dtype, layout, device, requires_grad)


def exponential(
    M: int,
    *,
    center: float | None = None,
    tau: float = 1.0,
    sym: bool = True,
    dtype: _dtype | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Decays from the center on, by e each `tau` places. A symmetric window has its center in the middle."""
    if tau <= 0:
        raise ValueError(f"Tau must be positive, got: {tau} instead.")
    if sym and center is not None:
        raise ValueError("Center must be None for symmetric windows")
    middle = ((M - 1 if sym else M) / 2 if center is None else center) / tau
    return _window(
        "exponential",
        M,
        -middle,
        (M - 1) / tau - middle,
        lambda x: (-x.abs()).exp(),
        dtype,
        layout,
        device,
        requires_grad,
    )


def gaussian(
    M: int,
    *,
    std: float = 1.0,
    sym: bool = True,
    dtype: _dtype | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """A bell of standard deviation `std`, in places."""
    if std <= 0:
        raise ValueError(f"Standard deviation must be positive, got: {std} instead.")
    scale = 1 / (std * math.sqrt(2))
    middle = (M - 1 if sym else M) / 2
    return _window(
        "gaussian",
        M,
        -middle * scale,
        (M - 1 - middle) * scale,
        lambda x: (-(x**2)).exp(),
        dtype,
        layout,
        device,
        requires_grad,
    )


def general_cosine(
    M,
    *,
    a: Iterable,
    sym: bool = True,
    dtype: _dtype | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """The sum of a[i] * cos(i * x) with alternating signs, x over a full turn."""
    if not isinstance(a, Iterable):
        raise TypeError("Coefficients must be a list/tuple")
    weights = list(a)
    if not weights:
        raise ValueError("Coefficients cannot be empty")
    last = 2 * math.pi * (M - 1) / (M - 1 if sym else M) if M > 1 else 0.0

    def shape(x: Tensor) -> Tensor:
        signed = creation.tensor([(-1) ** i * w for i, w in enumerate(weights)], dtype=x.dtype, device=x.device)
        multiples = creation.arange(len(weights), dtype=x.dtype, device=x.device)
        return (signed.unsqueeze(-1) * (multiples.unsqueeze(-1) * x).cos()).sum(0)

    return _window("general_cosine", M, 0, last, shape, dtype, layout, device, requires_grad)


def general_hamming(
    M,
    *,
    alpha: float = 0.54,
    sym: bool = True,
    dtype: _dtype | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """A cosine raised by `alpha`."""
    return general_cosine(
        M, a=[alpha, 1.0 - alpha], sym=sym, dtype=dtype, layout=layout, device=device, requires_grad=requires_grad
    )


def hamming(
    M: int,
    *,
    sym: bool = True,
    dtype: _dtype | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """A cosine raised by 0.54."""
    return general_hamming(M, sym=sym, dtype=dtype, layout=layout, device=device, requires_grad=requires_grad)


def hann(
    M: int,
    *,
    sym: bool = True,
    dtype: _dtype | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """A cosine raised by a half."""
    return general_hamming(
        M, alpha=0.5, sym=sym, dtype=dtype, layout=layout, device=device, requires_grad=requires_grad
    )


def kaiser(
    M: int,
    *,
    beta: float = 12.0,
    sym: bool = True,
    dtype: _dtype | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """A Bessel function over a half circle; a larger `beta` is narrower."""
    if beta < 0:
        raise ValueError(f"beta must be non-negative, got: {beta} instead.")
    last = beta * (-1 + 2 * (M - 1) / (M - 1 if sym else M)) if M > 1 else 0.0

    def shape(x: Tensor) -> Tensor:
        top = creation.tensor(beta, dtype=x.dtype, device=x.device)
        return (top * top - x * x).clamp(min=0).sqrt().i0() / top.i0()

    return _window("kaiser", M, -beta, last, shape, dtype, layout, device, requires_grad)


def nuttall(
    M: int,
    *,
    sym: bool = True,
    dtype: _dtype | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Four cosines, of small side lobes."""
    return general_cosine(
        M,
        a=[0.3635819, 0.4891775, 0.1365995, 0.0106411],
        sym=sym,
        dtype=dtype,
        layout=layout,
        device=device,
        requires_grad=requires_grad,
    )
