"""Discrete Fourier transforms: `torch.fft`, over XLA's."""

from __future__ import annotations

import jax.numpy as jnp

from jtorch._ops._common import Array, dtype_of, is_complex, scalar_name, wrap_dim, wrap_dims
from jtorch._ops.registry import op
from jtorch._runtime import dtypes

_FFT = {"function": False, "namespaces": ("fft",)}
_AT_ONCE = 3  # dims that one XLA transform takes
_OTHER_WAY = {"backward": "forward", "forward": "backward", "ortho": "ortho"}


def _mode(norm: str | None) -> str:
    if norm is None:
        return "backward"
    if norm not in _OTHER_WAY:
        raise RuntimeError(f'Invalid normalization mode: "{norm}"')
    return norm


def _wide(x: Array) -> Array:
    """The input as a type that can be transformed: integers in the default float type. Half types are refused."""
    if dtype_of(x).category < dtypes.FLOATING:
        return x.astype(dtypes.get_default_dtype().np)
    if x.dtype.itemsize < 4:
        raise RuntimeError(f"Unsupported dtype {scalar_name(x)}")
    return x


def _complex(x: Array) -> Array:
    x = _wide(x)
    return x.astype(dtype_of(x).to_complex().np)


def _real(x: Array, name: str, word: str) -> Array:
    if is_complex(x):
        raise RuntimeError(f"{name} expects a {word} input tensor, but got {scalar_name(x)}")
    return _wide(x)


def _checked(n: int) -> int:
    if n < 1:
        raise RuntimeError(f"Invalid number of data points ({n}) specified")
    return n


def _axis(x: Array, dim: int) -> int:
    if x.ndim == 0:
        raise IndexError(f"Dimension specified as {dim} but tensor has no dimensions")
    return wrap_dim(dim, x.ndim)


def _plan(x: Array, s: tuple[int, ...] | None, dim: tuple[int, ...] | None, half: bool = False) -> tuple[list[int], list[int]]:
    """The sizes of the signal and the dims it lies in. half: the last dim holds the first half of a Hermitian one."""
    s = (s,) if isinstance(s, int) else s
    dim = (dim,) if isinstance(dim, int) else dim
    if dim is not None:
        axes = [_axis(x, d) for d in dim]
        if len(set(axes)) < len(axes):
            raise RuntimeError("FFT dims must be unique")
        if s is not None and len(s) != len(axes):
            raise RuntimeError("When given, dim and shape arguments must have the same length")
    elif s is not None:
        if len(s) > x.ndim:
            raise RuntimeError(f"Got shape with {len(s)} values but input tensor only has {x.ndim} dimensions.")
        axes = list(range(x.ndim - len(s), x.ndim))
    else:
        axes = list(range(x.ndim))
    sizes = [x.shape[a] if s is None or s[i] == -1 else s[i] for i, a in enumerate(axes)]
    if half and axes and (s is None or s[-1] == -1):
        sizes[-1] = 2 * (x.shape[axes[-1]] - 1)
    return [_checked(n) for n in sizes], axes


def _transform(x: Array, sizes: list[int], axes: list[int], inverse: bool, norm: str) -> Array:
    """Complex to complex, over any number of dims."""
    run = jnp.fft.ifftn if inverse else jnp.fft.fftn
    for i in range(0, len(axes), _AT_ONCE):
        x = run(x, s=sizes[i : i + _AT_ONCE], axes=axes[i : i + _AT_ONCE], norm=norm)
    return x


def _to_half(x: Array, sizes: list[int], axes: list[int], norm: str, name: str) -> Array:
    """Real to one half of the Hermitian result."""
    if not axes:
        raise RuntimeError(f"{name} must transform at least one axis")
    if len(axes) <= _AT_ONCE:
        return jnp.fft.rfftn(x, s=sizes, axes=axes, norm=norm)
    x = jnp.fft.rfft(x, n=sizes[-1], axis=axes[-1], norm=norm)
    return _transform(x, sizes[:-1], axes[:-1], False, norm)


def _from_half(x: Array, sizes: list[int], axes: list[int], norm: str, name: str) -> Array:
    """One half of a Hermitian signal to its real transform back."""
    if not axes:
        raise RuntimeError(f"{name} must transform at least one axis")
    x = _transform(x, sizes[:-1], axes[:-1], True, norm)
    return jnp.fft.irfft(x, n=sizes[-1], axis=axes[-1], norm=norm)


# --- one dim


@op(**_FFT, grad_name="FftC2CBackward0")
def fft(input: Array, n: int | None = None, dim: int = -1, norm: str | None = None) -> Array:
    """The transform along `dim`, of the first `n` elements or zeros beyond the last. Complex."""
    axis = _axis(input, dim)
    return jnp.fft.fft(_complex(input), _checked(input.shape[axis] if n is None else n), axis, _mode(norm))


@op(**_FFT, grad_name="FftC2CBackward0")
def ifft(input: Array, n: int | None = None, dim: int = -1, norm: str | None = None) -> Array:
    """The inverse of `fft`."""
    axis = _axis(input, dim)
    return jnp.fft.ifft(_complex(input), _checked(input.shape[axis] if n is None else n), axis, _mode(norm))


@op(**_FFT, grad_name="FftR2CBackward0")
def rfft(input: Array, n: int | None = None, dim: int = -1, norm: str | None = None) -> Array:
    """The first n // 2 + 1 values of a real signal's transform; the rest are their conjugates."""
    x = _real(input, "rfft", "real")
    axis = _axis(x, dim)
    return jnp.fft.rfft(x, _checked(x.shape[axis] if n is None else n), axis, _mode(norm))


@op(**_FFT, grad_name="FftC2RBackward0")
def irfft(input: Array, n: int | None = None, dim: int = -1, norm: str | None = None) -> Array:
    """The inverse of `rfft`: `n` real values, by default an even number of them."""
    axis = _axis(input, dim)
    return jnp.fft.irfft(_complex(input), _checked(2 * (input.shape[axis] - 1) if n is None else n), axis, _mode(norm))


@op(**_FFT, grad_name="FftC2RBackward0")
def hfft(input: Array, n: int | None = None, dim: int = -1, norm: str | None = None) -> Array:
    """The transform of a Hermitian signal, given by its first half: `n` real values."""
    return irfft(jnp.conj(_complex(input)), n, dim, _OTHER_WAY[_mode(norm)])


@op(**_FFT, grad_name="FftR2CBackward0")
def ihfft(input: Array, n: int | None = None, dim: int = -1, norm: str | None = None) -> Array:
    """The inverse of `hfft`: the first n // 2 + 1 values of a Hermitian signal."""
    return jnp.conj(rfft(_real(input, "ihfft", "real"), n, dim, _OTHER_WAY[_mode(norm)]))


# --- several dims


@op(**_FFT, grad_name="FftC2CBackward0")
def fftn(
    input: Array, s: tuple[int, ...] | None = None, dim: tuple[int, ...] | None = None, norm: str | None = None
) -> Array:
    """The transform over several dims, of sizes `s`; -1 leaves a size as it is."""
    return _transform(_complex(input), *_plan(input, s, dim), False, _mode(norm))


@op(**_FFT, grad_name="FftC2CBackward0")
def ifftn(
    input: Array, s: tuple[int, ...] | None = None, dim: tuple[int, ...] | None = None, norm: str | None = None
) -> Array:
    """The inverse of `fftn`."""
    return _transform(_complex(input), *_plan(input, s, dim), True, _mode(norm))


@op(**_FFT, grad_name="FftR2CBackward0")
def rfftn(
    input: Array, s: tuple[int, ...] | None = None, dim: tuple[int, ...] | None = None, norm: str | None = None
) -> Array:
    """The transform of a real signal over several dims; in the last of them the first half alone."""
    return _to_half(_real(input, "rfftn", "real-valued"), *_plan(input, s, dim), _mode(norm), "rfftn")


@op(**_FFT, grad_name="FftC2RBackward0")
def irfftn(
    input: Array, s: tuple[int, ...] | None = None, dim: tuple[int, ...] | None = None, norm: str | None = None
) -> Array:
    """The inverse of `rfftn`. Real."""
    return _from_half(_complex(input), *_plan(input, s, dim, True), _mode(norm), "irfftn")


@op(**_FFT, grad_name="FftC2RBackward0")
def hfftn(
    input: Array, s: tuple[int, ...] | None = None, dim: tuple[int, ...] | None = None, norm: str | None = None
) -> Array:
    """The transform of a signal that is Hermitian in the last dim, given by its first half there. Real."""
    way = _OTHER_WAY[_mode(norm)]
    return _from_half(jnp.conj(_complex(input)), *_plan(input, s, dim, True), way, "hfftn")


@op(**_FFT, grad_name="FftR2CBackward0")
def ihfftn(
    input: Array, s: tuple[int, ...] | None = None, dim: tuple[int, ...] | None = None, norm: str | None = None
) -> Array:
    """The inverse of `hfftn`."""
    plan = _plan(input, s, dim)
    if is_complex(input):
        raise RuntimeError(f"Only supports floating-point dtypes, but found: {scalar_name(input)}")
    return jnp.conj(_to_half(_wide(input), *plan, _OTHER_WAY[_mode(norm)], "ihfftn"))


def _declare_2d(whole) -> None:
    def over_two(
        input: Array, s: tuple[int, ...] | None = None, dim: tuple[int, ...] = (-2, -1), norm: str | None = None
    ) -> Array:
        return whole(input, s, dim, norm)

    name = whole.__name__.removesuffix("n") + "2"
    over_two.__name__ = over_two.__qualname__ = name
    over_two.__doc__ = f"`{whole.__name__}` over the last two dims, or two others."
    kind = "C2C" if "r" not in name and "h" not in name else "C2R" if name in ("irfft2", "hfft2") else "R2C"
    op(**_FFT, grad_name=f"Fft{kind}Backward0")(over_two)


for _whole in (fftn, ifftn, rfftn, irfftn, hfftn, ihfftn):
    _declare_2d(_whole)


# --- order


def _shift(x: Array, dim: tuple[int, ...] | int | None, up: bool) -> Array:
    axes = wrap_dims(dim, x.ndim)
    return jnp.roll(x, [x.shape[a] // 2 if up else -(x.shape[a] // 2) for a in axes], axes) if axes else x


@op(**_FFT, out=False, grad_name="RollBackward0")
def fftshift(input: Array, dim: int | tuple[int, ...] | None = None) -> Array:
    """Moves the zero frequency to the middle."""
    return _shift(input, dim, True)


@op(**_FFT, out=False, grad_name="RollBackward0")
def ifftshift(input: Array, dim: int | tuple[int, ...] | None = None) -> Array:
    """The inverse of `fftshift`."""
    return _shift(input, dim, False)
