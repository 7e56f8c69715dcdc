"""Discrete Fourier transforms: `torch.fft`, over XLA's."""

from __future__ import annotations

import jax.numpy as jnp

from jtorch._ops._common import Array, dtype_of, is_complex, scalar_name, wrap_dim, wrap_dims
from jtorch._ops.padding import pad
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


def _plan(
    x: Array, s: tuple[int, ...] | None, dim: tuple[int, ...] | None, half: bool = False
) -> tuple[list[int], list[int]]:
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


# --- short-time transforms


def _window(window: Array | None, n_fft: int, win_length: int, dtype, name: str) -> Array:
    """The window, ones by default, in the middle of n_fft places."""
    if window is None:
        window = jnp.ones(win_length, dtype)
    elif window.ndim != 1 or window.shape[0] != win_length:
        raise RuntimeError(
            f"{name}: expected a 1D window tensor of size equal to win_length={win_length}, but got window with size "
            f"{list(window.shape)}"
        )
    left = (n_fft - win_length) // 2
    return jnp.pad(window, (left, n_fft - win_length - left))


def _check_frames(name: str, length: int, n_fft: int, hop: int, win_length: int) -> None:
    if n_fft <= 0 or n_fft > length:
        raise RuntimeError(f"{name}: expected 0 < n_fft <= {length}, but got n_fft={n_fft}")
    if hop <= 0:
        raise RuntimeError(f"{name}: expected hop_length > 0, but got hop_length={hop}")
    if not 0 < win_length <= n_fft:
        raise RuntimeError(f"{name}: expected 0 < win_length <= n_fft, but got win_length={win_length}")


@op(method=True, out=False, grad_name="TransposeBackward0")
def stft(
    input: Array,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Array | None = None,
    center: bool = True,
    pad_mode: str = "reflect",
    normalized: bool = False,
    onesided: bool | None = None,
    return_complex: bool | None = None,
    align_to_window: bool | None = None,
) -> Array:
    """Transforms of windowed frames of (..., L), `hop_length` apart (n_fft // 4): (..., frequencies, frames).

    center: frame t is centered at t * hop_length, the signal padded by `pad_mode`. onesided: the first half of the
    frequencies alone, the default for real input. return_complex=False gives real and imaginary parts in a last dim.
    """
    name = "stft"
    hop = n_fft // 4 if hop_length is None else hop_length
    win = n_fft if win_length is None else win_length
    made_complex = is_complex(input) or (window is not None and is_complex(window))
    if return_complex is None:
        if not made_complex:
            raise RuntimeError(
                "stft requires the return_complex parameter be given for real inputs, and will further require that "
                "return_complex=True in a future PyTorch release."
            )
        return_complex = True
    if dtype_of(input).category < dtypes.FLOATING:
        raise RuntimeError(
            f"stft({scalar_name(input)}{{{list(input.shape)}}}): expected a tensor of floating point or complex values"
        )
    if input.ndim not in (1, 2):
        raise RuntimeError(f"stft: expected a 1D or 2D tensor, but got {input.ndim}D")
    if center and align_to_window is not None:
        raise RuntimeError("stft align_to_window should only be set when center = false.")
    x = input if input.ndim == 2 else input[None]
    if center:
        half = n_fft // 2
        x = pad(x[:, None], (half, half), pad_mode)[:, 0]
    elif align_to_window:
        side = (n_fft - win) // 2
        x = jnp.pad(x, ((0, 0), (side, side)))
    _check_frames(name, x.shape[1], n_fft, hop, win)
    frames = 1 + (x.shape[1] - n_fft) // hop
    place = jnp.arange(frames)[:, None] * hop + jnp.arange(n_fft)[None, :]
    pieces = x[:, place] * _window(window, n_fft, win, x.dtype, name)
    mode = "ortho" if normalized else "backward"
    if onesided is None:
        onesided = not made_complex
    if onesided and made_complex:
        raise RuntimeError("Cannot have onesided output if window or input is complex")
    result = jnp.fft.rfft(pieces, norm=mode) if onesided else jnp.fft.fft(_complex(pieces), norm=mode)
    result = jnp.swapaxes(result, 1, 2)
    result = result if input.ndim == 2 else result[0]
    return result if return_complex else jnp.stack([result.real, result.imag], -1)


@op(method=True, out=False, grad_name="SliceBackward0")
def istft(
    input: Array,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Array | None = None,
    center: bool = True,
    normalized: bool = False,
    onesided: bool | None = None,
    length: int | None = None,
    return_complex: bool = False,
) -> Array:
    """The signal of least squared error whose `stft` is given: frames added up, over the sum of squared windows.

    Where the windows leave a gap the result is not finite (torch raises).
    """
    name = "istft"
    hop = n_fft // 4 if hop_length is None else hop_length
    win = n_fft if win_length is None else win_length
    if not is_complex(input):
        raise RuntimeError(
            "istft requires a complex-valued input tensor matching the output from stft with return_complex=True."
        )
    if not input.size:
        raise RuntimeError("istft input tensor cannot be empty.")
    if input.ndim not in (2, 3):
        raise RuntimeError(f"istft: expected a tensor with 2 or 3 dimensions, but got {input.ndim}")
    x = input if input.ndim == 3 else input[None]
    if onesided is None:
        onesided = x.shape[1] != n_fft
    wanted = n_fft // 2 + 1 if onesided else n_fft
    if x.shape[1] != wanted:
        words = (
            f"match n_fft / 2 + 1 when onsided=True, but got {x.shape[1]}"
            if onesided
            else f"match n_fft when onsided=False, but got {x.shape[1]}"
        )
        raise RuntimeError(f"istft: expected the frequency dimension (3rd to the last) of the input tensor to {words}")
    if not 0 < hop <= win:
        raise RuntimeError("istft: expected 0 < hop_length <= win_length")
    if not 0 < win <= n_fft:
        raise RuntimeError("istft: expected 0 < win_length <= n_fft")
    if return_complex and onesided:
        raise RuntimeError("cannot have onesided output if window or input is complex")
    mode = "ortho" if normalized else "backward"
    spectra = jnp.swapaxes(x, 1, 2)
    if return_complex:
        pieces = jnp.fft.ifft(spectra, norm=mode)
    else:
        pieces = jnp.fft.irfft(spectra[..., : n_fft // 2 + 1], n_fft, norm=mode)
    shape = _window(window, n_fft, win, pieces.real.dtype, name)
    frames = pieces.shape[1]
    total = n_fft + hop * (frames - 1)
    place = (jnp.arange(frames)[:, None] * hop + jnp.arange(n_fft)[None, :]).reshape(-1)
    summed = jnp.zeros((x.shape[0], total), pieces.dtype).at[:, place].add((pieces * shape).reshape(x.shape[0], -1))
    weight = jnp.zeros(total, shape.dtype).at[place].add(jnp.tile(shape * shape, frames))
    start = n_fft // 2 if center else 0
    end = start + length if length is not None else total - n_fft // 2 if center else total
    stop = min(end, total)
    result = summed[:, start:stop] / weight[start:stop]
    if length is not None and end > total:
        result = jnp.pad(result, ((0, 0), (0, end - total)))
    return result if input.ndim == 3 else result[0]
