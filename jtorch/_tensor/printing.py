"""The text of a tensor, letter for letter torch's: `tensor([1.0000, 2.5000], dtype=torch.float64)`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .._runtime import dtypes

PARAMETER_PREFIX = "Parameter containing:\n"

# Numbers further apart than this, or beyond these sizes, are printed with exponents.
_SCIENTIFIC_RATIO, _SCIENTIFIC_ABOVE, _SCIENTIFIC_BELOW = 1000.0, 1.0e8, 1.0e-4


@dataclass
class _PrintOptions:
    precision: int = 4
    threshold: float = 1000
    edgeitems: int = 3
    linewidth: int = 80
    sci_mode: bool | None = None


_options = _PrintOptions()
_PROFILES: dict[str, dict[str, Any]] = {
    "default": {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80},
    "short": {"precision": 2, "threshold": 1000, "edgeitems": 2, "linewidth": 80},
    "full": {"precision": 4, "threshold": math.inf, "edgeitems": 3, "linewidth": 80},
}


def set_printoptions(
    precision: int | None = None,
    threshold: float | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> None:
    """Sets how tensors are printed; what is None stays as it is, except `sci_mode`.

    precision: digits after the point (4). threshold: the number of elements above which the middle is left out (1000).
    edgeitems: how many are shown at each end then (3). linewidth: characters a line (80). profile: "default", "short"
    or "full", the base that the others refine. sci_mode: exponents always (True), never (False) or where the values
    call for them (None); every call sets it, so a call without it goes back to None.
    """
    for name, value in _PROFILES.get(profile or "", {}).items():
        setattr(_options, name, value)
    given = {"precision": precision, "threshold": threshold, "edgeitems": edgeitems, "linewidth": linewidth}
    for name, value in given.items():
        if value is not None:
            setattr(_options, name, value)
    _options.sci_mode = sci_mode


def get_printoptions() -> dict[str, Any]:
    """The options in force, as `set_printoptions` takes them (without a profile)."""
    return asdict(_options)


@contextmanager
def printoptions(**options: Any) -> Iterator[None]:
    """Inside the `with` block tensors print with these options; afterwards as before."""
    before = get_printoptions()
    set_printoptions(**options)
    try:
        yield
    finally:
        set_printoptions(**before)


def format_tensor(
    array: np.ndarray | None,
    *,
    dtype: dtypes.dtype,
    default_dtype: dtypes.dtype | None = None,
    device: str = "cpu",
    shape: tuple[int, ...] | None = None,
    requires_grad: bool = False,
    grad_fn: str | None = None,
    extra: Sequence[str] = (),
    prefix: str = "tensor(",
    indent: int = 0,
    contents: str | None = None,
) -> str:
    """What `repr` of a tensor says.

    array: the values; None on the meta device, with `shape` given. default_dtype: by default the one in force.
    device: named in the text unless it is "cpu". grad_fn: the node's name, as "AddBackward0". extra: more suffixes,
    each as it shall read. prefix: opens the text, for subclasses "Name(". indent: columns that stand to the left of
    the text. contents: used in place of the values.
    """
    if default_dtype is None:
        default_dtype = dtypes.get_default_dtype()
    if array is not None:
        shape = array.shape
    elif shape is None:
        raise TypeError("format_tensor() needs a shape where there is no array")
    indent += len(prefix)
    suffixes: list[str] = []
    if device not in ("cpu", "meta"):
        suffixes.append(f"device='{device}'")
    empty = math.prod(shape) == 0
    shown = dtype in (default_dtype, _default_complex(default_dtype), dtypes.int64, dtypes.bool)
    if array is None:
        suffixes = [f"device='{device}'", f"size={_size(shape)}"]
        shown = dtype is default_dtype  # without values to tell by, everything else is said
        body = "..."
    elif empty:
        if len(shape) != 1:
            suffixes.append(f"size={_size(shape)}")
        shown = dtype is default_dtype  # an empty list reads as floats, so everything else is said
        body = "[]"
    else:
        if not _options.edgeitems:
            suffixes.append(f"size={_size(shape)}")
        body = _body(array, dtype, indent) if contents is None else ""
    if contents is not None:
        body = contents
    if not shown:
        suffixes.append(f"dtype={dtype!r}")
    if grad_fn is not None:
        suffixes.append(f"grad_fn=<{grad_fn}>")
    elif requires_grad:
        suffixes.append("requires_grad=True")
    return _with_suffixes(prefix + body, (*suffixes, *extra), indent)


def _default_complex(default_dtype: dtypes.dtype) -> dtypes.dtype:
    return dtypes.complex128 if default_dtype is dtypes.float64 else dtypes.complex64


def _size(shape: tuple[int, ...]) -> str:
    return str(tuple(int(n) for n in shape))


def _with_suffixes(text: str, suffixes: Sequence[str], indent: int) -> str:
    parts = [text]
    column = len(text) - text.rfind("\n") + 1  # two past the last line's end: torch's count, and so its line breaks
    for suffix in suffixes:
        if column + len(suffix) + 2 > _options.linewidth:
            parts.append(",\n" + " " * indent + suffix)
            column = indent + len(suffix)
        else:
            parts.append(", " + suffix)
            column += len(suffix) + 2
    return "".join(parts) + ")"


def _body(array: np.ndarray, dtype: dtypes.dtype, indent: int) -> str:
    edge = _options.edgeitems if array.size > _options.threshold else None
    if edge == 0 and array.shape:
        return "[...]"
    # Widths and exponents are decided by the numbers that are shown, not by all there are.
    sample = array if edge is None else _ends_only(array, edge)
    show: Callable[[Any], str]
    if dtype.is_complex:
        real, imaginary = _NumberFormat(sample.real), _NumberFormat(sample.imag)
        width = real.width + imaginary.width + 1

        def show_complex(value: complex) -> str:
            tail = imaginary(value.imag).lstrip()
            return f"{real(value.real)}{'' if tail[0] in '+-' else '+'}{tail}j"

        show = show_complex
    elif dtype.is_floating_point:
        show = _NumberFormat(sample)
        width = show.width
    else:
        width = max(len(str(value)) for value in sample.ravel().tolist())

        def show_whole(value: Any) -> str:
            return str(value).rjust(width)

        show = show_whole

    if not array.shape:
        return show(_numbers(array)[0])
    return _rows(array, indent, width, show, edge)


def _numbers(array: np.ndarray) -> list[Any]:
    """The values as Python numbers. NumPy gives none for bfloat16 and float8, so floats go through float64."""
    if array.dtype.kind not in "biuc":
        array = array.astype(np.float64)
    return array.ravel().tolist()


def _ends_only(array: np.ndarray, edge: int) -> np.ndarray:
    for axis, size in enumerate(array.shape):
        if size > 2 * edge:
            array = np.take(array, [*range(edge), *range(size - edge, size)], axis=axis)
    return array


def _rows(array: np.ndarray, indent: int, width: int, show: Callable[[Any], str], edge: int | None) -> str:
    """The bracketed text of an array of one dim or more; `edge` entries at each end, or all if it is None."""
    cut = edge is not None and len(array) > 2 * edge
    last = len(array) - (edge or 0)
    if array.ndim > 1:
        parts: list[str] = []
        for part in (array[:edge], None, array[last:]) if cut else (array,):
            if part is None:
                parts.append("...")
            else:
                parts.extend(_rows(row, indent + 1, width, show, edge) for row in part)
        return "[" + (("," + "\n" * (array.ndim - 1)) + " " * (indent + 1)).join(parts) + "]"
    if cut:
        shown = [*map(show, _numbers(array[:edge])), " ...", *map(show, _numbers(array[last:]))]
    else:
        shown = [show(value) for value in _numbers(array)]
    per_line = max(1, math.floor((_options.linewidth - indent) / (width + 2)))
    lines = [", ".join(shown[at : at + per_line]) for at in range(0, len(shown), per_line)]
    return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"


class _NumberFormat:
    """How the real numbers of one tensor are written: `1.`, `1.0000` or `1.0000e+00`, and how wide."""

    def __init__(self, array: np.ndarray):
        values = array.astype(np.float64).ravel()
        values = values[np.isfinite(values) & (values != 0)]
        self.whole = bool(np.all(values == np.ceil(values)))
        self.scientific = False
        self.width = 1
        if not values.size:
            return
        sizes = np.abs(values)
        high, low = float(sizes.max()), float(sizes.min())
        if _options.sci_mode is not None:
            self.scientific = _options.sci_mode
        else:
            self.scientific = (
                high / low > _SCIENTIFIC_RATIO
                or high > _SCIENTIFIC_ABOVE
                or (not self.whole and low < _SCIENTIFIC_BELOW)
            )
        self.width = max(len(self._text(value)) for value in values.tolist())

    def _text(self, value: float) -> str:
        if self.scientific:
            return f"{value:.{_options.precision}e}"
        if self.whole:
            return f"{value:.0f}." if math.isfinite(value) else f"{value:.0f}"
        return f"{value:.{_options.precision}f}"

    def __call__(self, value: float) -> str:
        return self._text(value).rjust(self.width)
