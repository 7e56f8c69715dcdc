"""One comparison of what torch gave and what jtorch gave: structure, dtype, shape, values."""

from __future__ import annotations

import collections.abc
import math
import re
from typing import Any

import numpy as np
import torch

from compat import bridge

# (rtol, atol) by dtype. XLA's transcendentals and sums differ from torch's in the last few ulps, no more.
TOLERANCES = {
    torch.float64: (1e-9, 1e-9),
    torch.complex128: (1e-9, 1e-9),
    torch.float32: (1e-5, 2e-6),
    torch.complex64: (2e-5, 4e-6),
    torch.float16: (2e-3, 1e-3),
    torch.bfloat16: (1.6e-2, 1e-2),
    torch.float8_e4m3fn: (0.13, 1e-2),
    torch.float8_e5m2: (0.26, 1e-2),
}
# Gradients go through two programs, so through twice the rounding.
GRADIENT_FACTOR = 10.0


class Mismatch(AssertionError):
    """jtorch's answer is not torch's."""


def compare(
    expected: Any, got: Any, *, where: str = "", rtol: float | None = None, atol: float | None = None,
    values: bool = True, factor: float = 1.0,
) -> None:  # fmt: skip
    """Raises Mismatch unless `got` (jtorch's) equals `expected` (torch's).

    rtol, atol: at least these; the dtype's own where larger. values: False compares shapes and dtypes only.
    """
    options = {"rtol": rtol, "atol": atol, "values": values, "factor": factor}
    at = where or "result"
    if isinstance(expected, torch.Tensor):
        if not bridge.is_tensor(got) and not isinstance(got, torch.Tensor):
            raise Mismatch(f"{at}: torch gives a tensor, jtorch {type(got).__name__}")
        compare_tensors(expected, got, at, **options)
    elif isinstance(expected, tuple) and hasattr(expected, "_fields"):
        if getattr(type(got), "_fields", None) != expected._fields:
            raise Mismatch(f"{at}: torch gives fields {expected._fields}, jtorch {type(got).__name__}")
        for name, e, g in zip(expected._fields, expected, got, strict=True):
            compare(e, g, where=f"{at}.{name}", **options)
    elif isinstance(expected, torch.Size):
        if tuple(expected) != tuple(got):
            raise Mismatch(f"{at}: torch gives {expected}, jtorch {got}")
    elif isinstance(expected, tuple | list):
        _compare_sequences(expected, got, at, options)
    elif isinstance(expected, collections.abc.Mapping):
        if not isinstance(got, collections.abc.Mapping) or list(expected) != list(got):
            raise Mismatch(
                f"{at}: torch has keys {list(expected)}, jtorch {list(got) if hasattr(got, 'keys') else got!r}"
            )
        for k, v in expected.items():
            compare(v, got[k], where=f"{at}[{k!r}]", **options)
    else:
        _compare_plain(expected, got, at, rtol, atol)


def _compare_sequences(expected: Any, got: Any, at: str, options: dict[str, Any]) -> None:
    fields = getattr(type(expected), "n_sequence_fields", None)
    if not isinstance(got, tuple | list):
        raise Mismatch(f"{at}: torch gives {type(expected).__name__}, jtorch {type(got).__name__}")
    if fields is None and isinstance(got, list) != isinstance(expected, list):
        raise Mismatch(f"{at}: torch gives {type(expected).__name__}, jtorch {type(got).__name__}")
    if len(expected) != len(got):
        raise Mismatch(f"{at}: torch gives {len(expected)} items, jtorch {len(got)}")
    if fields is not None:  # torch's return types are structseqs: their fields are attributes of the class
        names = [n for n in dir(type(expected)) if type(getattr(type(expected), n)).__name__ == "member_descriptor"]
        for name in names:
            if not hasattr(got, name):
                raise Mismatch(
                    f"{at}: torch's {type(expected).__name__} has a field {name}, jtorch's {type(got).__name__} not"
                )
            compare(getattr(expected, name), getattr(got, name), where=f"{at}.{name}", **options)
    for i, (e, g) in enumerate(zip(expected, got, strict=True)):
        compare(e, g, where=f"{at}[{i}]", **options)


def compare_tensors(
    expected: torch.Tensor, got: Any, at: str, *, rtol: float | None, atol: float | None, values: bool, factor: float
) -> None:
    """Raises Mismatch unless dtype, shape and values agree."""
    dtype = got.dtype if isinstance(got, torch.Tensor) else getattr(torch, str(got.dtype).removeprefix("torch."))
    if dtype is not expected.dtype:
        raise Mismatch(f"{at}: torch gives {expected.dtype}, jtorch {got.dtype}")
    if tuple(got.shape) != tuple(expected.shape):
        raise Mismatch(f"{at}: torch gives shape {list(expected.shape)}, jtorch {list(got.shape)}")
    if str(got.device) != str(expected.device):
        raise Mismatch(f"{at}: torch's is on {expected.device}, jtorch's on {got.device}")
    if not values or expected.device.type == "meta":
        return
    if expected.layout is not torch.strided:
        raise bridge.Unconvertible(f"a result of layout {expected.layout}")
    mine = bridge.restore(got)
    theirs = expected.detach().resolve_conj().resolve_neg()
    if mine.shape != theirs.shape:
        raise Mismatch(f"{at}: jtorch says shape {list(got.shape)}, its array has {list(mine.shape)}")
    if theirs.numel() == 0:
        return
    problem = difference(theirs, mine, rtol, atol, factor)
    if problem:
        raise Mismatch(f"{at}: {problem}")


def difference(
    expected: torch.Tensor, got: torch.Tensor, rtol: float | None, atol: float | None, factor: float = 1.0
) -> str | None:
    """Where and by how much two tensors of the same dtype and shape differ, or None."""
    if expected.dtype not in TOLERANCES:
        equal = expected == got
        if bool(equal.all()):
            return None
    else:
        own_r, own_a = TOLERANCES[expected.dtype]
        own_r, own_a = own_r * factor, own_a * factor
        rtol, atol = max(own_r, rtol or 0.0), max(own_a, atol or 0.0)
        wide = torch.complex128 if expected.dtype.is_complex else torch.float64
        expected, got = expected.to(wide), got.to(wide)
        finite = expected.abs()[torch.isfinite(expected)]
        scale = max(1.0, float(finite.max())) if finite.numel() else 1.0
        equal = torch.isclose(got, expected, rtol=rtol, atol=atol * min(scale, 1e6), equal_nan=True)
        if bool(equal.all()):
            return None
        if wide is torch.complex128:  # an infinite complex number is one value, however its parts say so
            equal = equal | (torch.isinf(expected) & torch.isinf(got)) | (_broken(expected) & _broken(got))
            if bool(equal.all()):
                return None
    wrong = (~equal).nonzero()
    first = tuple(wrong[0].tolist())
    theirs, mine = expected[first].item(), got[first].item()
    return f"{len(wrong)} of {equal.numel()} elements differ, first at {list(first)}: torch {theirs!r}, jtorch {mine!r}"


def _broken(t: torch.Tensor) -> torch.Tensor:
    return torch.isnan(t)


def _compare_plain(expected: Any, got: Any, at: str, rtol: float | None, atol: float | None) -> None:
    if isinstance(expected, torch.dtype | torch.device | torch.layout | torch.memory_format):
        if str(expected) != str(got):
            raise Mismatch(f"{at}: torch gives {expected}, jtorch {got}")
        return
    if isinstance(expected, np.ndarray):
        np.testing.assert_allclose(got, expected, rtol=rtol or 1e-6, atol=atol or 1e-7, err_msg=at)
        return
    if type(expected) is not type(got):
        raise Mismatch(
            f"{at}: torch gives {expected!r} ({type(expected).__name__}), jtorch {got!r} ({type(got).__name__})"
        )
    if isinstance(expected, float | complex):
        if expected == got or (expected != expected and got != got):
            return
        if not math.isclose(
            abs(expected - got), 0.0, abs_tol=max(atol or 0.0, 1e-6) + max(rtol or 0.0, 1e-5) * abs(expected)
        ):
            raise Mismatch(f"{at}: torch gives {expected!r}, jtorch {got!r}")
    elif expected != got:
        raise Mismatch(f"{at}: torch gives {expected!r}, jtorch {got!r}")


# ---- errors ----------------------------------------------------------------------------------------------------------


def is_absence(error: BaseException) -> bool:
    """Whether an exception of jtorch says that a name or a feature is not there, rather than wrong."""
    if isinstance(error, bridge.Absent | NotImplementedError):
        return True
    if isinstance(error, AttributeError):
        return bool(
            re.search(
                r"(module|type object) '[^']*' has no attribute|'(Tensor|Parameter|Generator)' object has no attribute",
                str(error),
            )
        )
    return isinstance(error, ImportError) and bridge.LIBRARY in str(error)


def same_error(expected: BaseException, got: BaseException, phrase: str | None = None) -> bool:
    """Whether two exceptions are of one type (by name) and, where a pattern is given, both say it."""
    if type(expected).__name__ != type(got).__name__:
        return False
    return phrase is None or re.search(phrase, str(got), re.DOTALL) is not None


class Raised:
    """That a call raised: the type's name, and whether the message says the phrase."""

    def __init__(self, error: BaseException, phrase: str):
        self.kind = type(error).__name__
        self.message = str(error)
        self.says = phrase in self.message
        self.phrase = phrase

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Raised) and (self.kind, self.says) == (other.kind, other.says)

    def __repr__(self) -> str:
        return f"{self.kind}({self.message[:160]!r}{'' if self.says else f' without {self.phrase!r}'})"

    __hash__ = None  # type: ignore[assignment]


def raises(function: Any, phrase: str = "") -> Any:
    """What a battery's case records of a call that should raise: a `Raised`, or that nothing was raised."""
    try:
        function()
    except Exception as error:
        if is_absence(error):
            raise
        return Raised(error, phrase)
    return "nothing was raised"
