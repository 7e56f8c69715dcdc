"""Optional kernels for XLA's CPU programs, on oneDNN: convolutions, and the sums that batch normalization takes.

Nothing needs them. With `pip install 'jtorch-xla[onednn]'` oneDNN is there; the first program that can use the kernels
has a C++17 compiler make them (`_native.build`, some seconds, once). `JTORCH_NATIVE=0` leaves them out, and
`python -m jtorch._native` says whether they are used, and if not, why.

The kernels take activations channels last in memory. They ask XLA for that layout, which then holds for the pointwise
work between them as well.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import warnings
from collections.abc import Sequence

import jax
import numpy as np

CONVOLUTION, MOMENTS, PRODUCTS = TARGETS = "jtorch_convolution", "jtorch_moments", "jtorch_products"

_lock = threading.Lock()
_found: list[ctypes.CDLL | None] = []


def available() -> bool:
    """Whether the kernels are there. The first call looks for them, and makes and loads them where that is possible."""
    return bool(_found and _found[0]) or _load() is not None


def _load() -> ctypes.CDLL | None:
    from jtorch._native import build  # what is needed once, where oneDNN is

    with _lock:
        if not _found:
            why = why_not()
            library = None
            if why is None:
                try:
                    library = _open(str(build.made()))
                except (build.Failed, OSError) as error:
                    why = f"jtorch goes on without its oneDNN kernels (JTORCH_NATIVE=0 does so silently): {error}"
                    warnings.warn(why, RuntimeWarning, stacklevel=2)
            _found.append(library)
        return _found[0]


def why_not() -> str | None:
    """Why the kernels are not even looked for; None where they are."""
    if os.environ.get("JTORCH_NATIVE", "1") == "0":
        return "JTORCH_NATIVE=0"
    from jtorch._native import build

    if build.onednn() is None:
        return "oneDNN is not installed: pip install 'jtorch-xla[onednn]'"
    return None


def _open(path: str) -> ctypes.CDLL:
    """Loads the kernels and names them to XLA."""
    # Threads of OpenMP that have nothing to do must sleep: XLA's own need the cores. It reads this when it is loaded.
    quiet = sys.platform == "linux" and "OMP_WAIT_POLICY" not in os.environ and "GOMP_SPINCOUNT" not in os.environ
    if quiet:
        os.environ["OMP_WAIT_POLICY"] = "passive"
    try:
        library = ctypes.CDLL(path)
    finally:
        if quiet:
            del os.environ["OMP_WAIT_POLICY"]
    for target in TARGETS:
        jax.ffi.register_ffi_target(target, jax.ffi.pycapsule(library[target]), platform="cpu")
    library.jtorch_convolution_name.restype = ctypes.c_char_p
    return library


def _last(ndim: int) -> tuple[int, ...]:
    """The order of dims in memory, outermost first, of an activation (N, C, ...)."""
    return (0, *range(2, ndim), 1)


def _float(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, np.dtype(np.float32))


def convolution_name(map: int, x: Sequence[int], w: Sequence[int], at) -> str:
    """The name of oneDNN's implementation of one of a convolution's maps, of an input's and a weight's shape."""
    library = _load()
    assert library is not None
    low, high = zip(*at.pads, strict=True)
    facts = [*x, *w, x[0], w[0], *at.out, *at.stride, *at.dilation, *low, *high]
    numbers = (ctypes.c_int64 * len(facts))(*facts)
    told = library.jtorch_convolution_name(
        ctypes.c_int64(map), ctypes.c_int64(len(at.spatial)), ctypes.c_int64(at.groups), numbers
    )
    return told.decode()


def convolution(map: int, a: jax.Array, b: jax.Array, out: tuple[int, ...], at) -> jax.Array:
    """One of a convolution's maps (0 forward, 1 input gradient, 2 weight gradient) of float32 arrays."""
    last, plain = _last(len(out)), tuple(range(len(out)))
    call = jax.ffi.ffi_call(
        CONVOLUTION, _float(*out), input_layouts=(last, last if map == 2 else plain),
        output_layouts=plain if map == 2 else last,
    )  # fmt: skip
    low, high = zip(*at.pads, strict=True)
    stride, dilation, low, high = (np.array(v, np.int64) for v in (at.stride, at.dilation, low, high))
    return call(
        a, b, map=np.int64(map), groups=np.int64(at.groups), stride=stride, dilation=dilation, low=low, high=high
    )


def moments(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The mean and the biased variance (C,) of each channel of a float32 x (N, C, ...)."""
    c = x.shape[1]
    call = jax.ffi.ffi_call(
        MOMENTS, (_float(c), _float(c)), input_layouts=(_last(x.ndim),), output_layouts=((0,), (0,))
    )
    mean, variance = call(x)
    return mean, variance


def products(g: jax.Array, x: jax.Array, mean: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The sums (C,) of g and of g * (x - mean) over each channel of g and x (N, C, ...), mean (C,)."""
    c, last = x.shape[1], _last(x.ndim)
    call = jax.ffi.ffi_call(
        PRODUCTS, (_float(c), _float(c)), input_layouts=(last, last, (0,)), output_layouts=((0,), (0,))
    )
    total, product = call(g, x, mean)
    return total, product
