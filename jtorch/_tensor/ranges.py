"""Tensors of sequences: ranges, evenly spaced numbers, the identity, indices of triangles."""

from __future__ import annotations

import math
import warnings
from typing import Any

import jax.numpy as jnp
import numpy as np

from jtorch._runtime import dtypes
from jtorch._tensor.base import Tensor
from jtorch._tensor.creation import make
from jtorch._tensor.placing import as_dtype, place, plain, wrap

_NO_ARANGE = {"uint16", "uint32", "uint64"} | {d.name for d in dtypes.SCALAR_NAMES if d.name.startswith("float8")}


def arange(
    start=0, end=None, step=1, *, out=None, dtype=None, layout=None, device=None, requires_grad=False, pin_memory=False
) -> Tensor:
    """start, start + step ... up to but without end; int64 if all are integers, else the default dtype."""
    if end is None:
        start, end = 0, start
    start, end, step = plain(start), plain(end), plain(step)
    for place_, (name, n) in enumerate((("start", start), ("end", end), ("step", step))):
        if not isinstance(n, int | float):
            raise TypeError(
                f"arange(): argument '{name}' (position {max(place_, 1)}) must be Number, not {type(n).__name__}"
            )
    whole = all(isinstance(n, int) for n in (start, end, step))
    dtype = as_dtype("arange", dtype) or (
        out.dtype if out is not None else dtypes.int64 if whole else dtypes.get_default_dtype()
    )
    if not (dtypes.INTEGRAL <= dtype.category <= dtypes.FLOATING) or dtype.name in _NO_ARANGE:
        raise NotImplementedError(f"\"arange_cpu\" not implemented for '{dtypes.SCALAR_NAMES[dtype]}'")
    if step == 0:
        raise RuntimeError("step must be nonzero")
    if not (math.isfinite(start) and math.isfinite(end)):
        raise RuntimeError(f"unsupported range: {start} -> {end}")
    if (step > 0 and start > end) or (step < 0 and start < end):
        raise RuntimeError("upper bound and lower bound inconsistent with step sign")
    if dtype.category == dtypes.INTEGRAL:
        # Of an integer dtype the step is an integer too; only int64 cuts the ends before it counts.
        first, by = int(start), int(step)
        if by == 0:
            raise RuntimeError("step must be nonzero")
        if whole or dtype is dtypes.int64:
            length = max(0, -((first - int(end)) // by))
        else:
            length = max(0, math.ceil((end - start) / step))
        build = lambda s, d: lambda a, by: (a + by * jnp.arange(s[0], dtype=np.int64)).astype(d)  # noqa: E731
        numbers: tuple = (first, by)
    else:
        length = max(0, math.ceil((end - start) / step))
        build = lambda s, d: lambda a, by: (a + by * jnp.arange(s[0], dtype=np.float64)).astype(d)  # noqa: E731
        numbers = (float(start), float(step))
    return make("arange", (length,), dtype, device, build, numbers=numbers, requires_grad=requires_grad, out=out)


def range_(start: Any = 0, end: Any = None, step: Any = 1, **options) -> Tensor:
    """`arange` with the end included, of the default dtype."""
    warnings.warn(
        "torch.range is deprecated and will be removed in a future release because its behavior is inconsistent with "
        "Python's range builtin. Instead, use torch.arange, which produces values in [start, end).",
        UserWarning,
        stacklevel=2,
    )
    if step == 0:
        raise RuntimeError("step must be nonzero")
    count = math.floor((end - start) / step) + 1
    options.setdefault("dtype", dtypes.get_default_dtype())
    return arange(0, count, **options) * step + start


def _count(name: str, steps) -> int:
    if not isinstance(steps, int | np.integer | Tensor) or isinstance(steps, bool):
        raise TypeError(
            f"{name}() received an invalid combination of arguments: argument 'steps' (position 3) must be int, not {type(steps).__name__}"
        )
    if steps < 0:
        raise RuntimeError("number of steps must be non-negative")
    return int(steps)


def linspace(
    start, end, steps: int, *, out=None, dtype=None, layout=None, device=None, requires_grad=False, pin_memory=False
) -> Tensor:
    """`steps` numbers evenly from start to end, both included."""
    steps = _count("linspace", steps)
    start, end = plain(start), plain(end)
    if isinstance(start, complex) or isinstance(end, complex):
        dtype = dtype or dtypes.get_default_dtype().to_complex()
        return make(
            "linspace",
            (steps,),
            dtype,
            device,
            lambda s, d, a, b: lambda: jnp.linspace(a, b, s[0]).astype(d),
            start,
            end,
            requires_grad=requires_grad,
            out=out,
        )

    def build(s, d):
        n = s[0]

        def fn(a, b):
            if n == 1:
                return a.astype(d).reshape(1)
            if np.issubdtype(d, np.integer):
                step = (b - a) / (n - 1)
                i = jnp.arange(n)
                return jnp.where(i < n // 2, jnp.trunc(a + step * i), jnp.trunc(b - step * (n - 1 - i))).astype(d)
            wide = np.float64 if d == np.float64 else np.float32
            a, b = a.astype(wide), b.astype(wide)
            step = ((b - a) / (n - 1)).astype(np.float64)
            # float32 products in float64 and rounded once, as torch's fused multiply-add does.
            i = jnp.arange(n).astype(np.float64)
            return jnp.where(i < n // 2, a + step * i, b - step * (n - 1 - i)).astype(d)

        return fn

    return make(
        "linspace",
        (steps,),
        dtype,
        device,
        build,
        numbers=(float(start), float(end)),
        requires_grad=requires_grad,
        out=out,
    )


def logspace(
    start,
    end,
    steps: int,
    base: float = 10.0,
    *,
    out=None,
    dtype=None,
    layout=None,
    device=None,
    requires_grad=False,
    pin_memory=False,
) -> Tensor:
    """base to the powers of `linspace`."""
    steps = _count("logspace", steps)

    def build(s, d):
        def fn(a, b, c):
            return jnp.power(c, jnp.linspace(a, b, s[0])).astype(d)

        return fn

    numbers = (float(plain(start)), float(plain(end)), float(base))
    return make("logspace", (steps,), dtype, device, build, numbers=numbers, requires_grad=requires_grad, out=out)


def eye(
    n: int,
    m: int | None = None,
    *,
    out=None,
    dtype=None,
    layout=None,
    device=None,
    requires_grad=False,
    pin_memory=False,
) -> Tensor:
    """Ones on the diagonal of an n by m matrix, zeros elsewhere."""
    m = n if m is None else m
    if n < 0 or m < 0:
        raise RuntimeError(f"{'n' if n < 0 else 'm'} must be greater or equal to 0, got {n if n < 0 else m}")
    return make(
        "eye", (n, m), dtype, device, lambda s, d: lambda: jnp.eye(*s, dtype=d), requires_grad=requires_grad, out=out
    )


def _indices_of(name, host):
    def fn(row: int, col: int, offset: int = 0, *, dtype=None, layout=None, device=None, pin_memory=False) -> Tensor:
        found = np.stack(host(row, offset, col))
        return wrap(place(found.astype((dtype or dtypes.int64).np), dtype or dtypes.int64, device))

    fn.__name__ = name
    fn.__doc__ = f"Rows and columns of the {'lower' if 'l' in name[:4] and name[2] == 'i' and name[3] == 'l' else 'upper'} triangle, as two rows."
    return fn


tril_indices = _indices_of("tril_indices", np.tril_indices)
triu_indices = _indices_of("triu_indices", np.triu_indices)


FUNCTIONS = {f.__name__.rstrip("_"): f for f in (arange, range_, linspace, logspace, eye, tril_indices, triu_indices)}
