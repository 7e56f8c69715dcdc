"""What the pointwise families share: which element types an operation takes, working precision, aliases."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jtorch._ops._common import Array, dtype_of, scalar_name
from jtorch._ops.registry import OPS, op
from jtorch._runtime import dtypes
from jtorch._runtime.dtypes import BOOL, COMPLEX, FLOATING, INTEGRAL

_HALVES = (dtypes.float16.np, dtypes.bfloat16.np)

# torch's older checks call element types by their C++ names.
_CPP_NAMES = {
    "Bool": "bool", "Byte": "unsigned char", "Char": "signed char", "Short": "short int", "Int": "int",
    "Long": "long int", "Half": "c10::Half", "BFloat16": "c10::BFloat16", "Float": "float", "Double": "double",
    "ComplexFloat": "c10::complex<float>", "ComplexDouble": "c10::complex<double>",
}  # fmt: skip


def category(x: Array) -> int:
    """BOOL, INTEGRAL, FLOATING or COMPLEX."""
    return dtype_of(x).category


def cpp_name(x: Array) -> str:
    """The C++ name of the element type."""
    return _CPP_NAMES.get(scalar_name(x), scalar_name(x))


def refuse(kernel: str, x: Array, *categories: int) -> None:
    """NotImplementedError, in torch's words, where the element type is of one of the categories."""
    if category(x) in categories:
        raise NotImplementedError(f"\"{kernel}\" not implemented for '{scalar_name(x)}'")


def refuse_half(kernel: str, x: Array) -> None:
    """NotImplementedError for the 16-bit floats."""
    if x.dtype in _HALVES:
        raise NotImplementedError(f"\"{kernel}\" not implemented for '{scalar_name(x)}'")


def need_float(kernel: str, x: Array) -> None:
    """NotImplementedError unless the elements are real floats."""
    refuse(kernel, x, BOOL, INTEGRAL, COMPLEX)


def need_integer(kernel: str, x: Array) -> None:
    """NotImplementedError unless the elements are integers."""
    refuse(kernel, x, BOOL, FLOATING, COMPLEX)


def to_float(x: Array) -> Array:
    """Integers and bools as the default float dtype; the rest as they are."""
    return x if category(x) >= FLOATING else x.astype(dtypes.get_default_dtype().np)


def is_nan(x: Array) -> Array:
    """Where `x` is nan, for any element type."""
    return jnp.isnan(x) if category(x) >= FLOATING else jnp.zeros((), bool)


def constant(value: Any, x: Array) -> Array:
    """A number as a 0-d array of `x`'s dtype."""
    return jnp.asarray(value).astype(x.dtype)


def direction(x: Array) -> Array:
    """The sign of real numbers (0 for nan, as torch has it); of complex ones `x / |x|`, and 0 for 0."""
    if category(x) == COMPLEX:
        size = jnp.abs(x)
        # The inner choice keeps 0/0 out of the gradient.
        return jnp.where(size == 0, 0, x / jnp.where(size == 0, 1, size))
    if not dtype_of(x).is_signed:
        return (x != 0).astype(x.dtype)
    return (x > 0).astype(x.dtype) - (x < 0).astype(x.dtype)


@jax.custom_jvp
def absolute(x: Array) -> Array:
    """|x|, real. Its gradient at 0 is 0, where JAX's own is 1."""
    return jnp.abs(x)


@absolute.defjvp
def _absolute_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    slope = direction(x)
    return absolute(x), (jnp.conj(slope) * dx).real if category(x) == COMPLEX else slope * dx


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def static_power(x: Array, exponent: float) -> Array:
    """`x ** exponent`, with the gradient of each power one on the power below."""
    if exponent == 0.5:
        return lax.sqrt(x)
    if exponent == -0.5:
        return lax.rsqrt(x)
    if category(x) == INTEGRAL or (abs(exponent) <= 16 and exponent == int(exponent)):
        return lax.integer_pow(x, int(exponent))
    return lax.pow(x, constant(exponent, x))


@static_power.defjvp
def static_power_jvp(exponent, primals, tangents):
    (x,), (dx,) = primals, tangents
    result = static_power(x, exponent)
    if exponent == 0:
        return result, jnp.zeros_like(dx)
    # The power 0 is kept as one: the gradient of `x ** 1` hangs on x in torch, too.
    return result, constant(exponent, x) * static_power(x, exponent - 1) * dx


def in_float32(fn: Callable[..., Array]) -> Callable[..., Array]:
    """Runs `fn` in float32 where its arrays are 16-bit floats, and rounds the result once, as torch's kernels do."""

    @functools.wraps(fn)
    def run(*args: Any, **kwargs: Any) -> Array:
        low = next((a.dtype for a in (*args, *kwargs.values()) if _is_half(a)), None)
        if low is None:
            return fn(*args, **kwargs)
        return fn(*map(_widen, args), **{name: _widen(a) for name, a in kwargs.items()}).astype(low)

    return run


def _is_half(a: Any) -> bool:
    return isinstance(a, (jax.Array, np.ndarray)) and a.dtype in _HALVES


def _widen(a: Any) -> Any:
    return a.astype(np.float32) if _is_half(a) else a


def check_broadcast(*arrays: Array) -> None:
    """RuntimeError, in torch's words, unless the shapes broadcast together."""
    shape: tuple[int, ...] = ()
    for x in arrays:
        ndim = max(len(shape), x.ndim)
        a, b = (1,) * (ndim - len(shape)) + shape, (1,) * (ndim - x.ndim) + x.shape
        for d in reversed(range(ndim)):
            if a[d] != b[d] and a[d] != 1 and b[d] != 1:
                raise RuntimeError(
                    f"The size of tensor a ({a[d]}) must match the size of tensor b ({b[d]}) "
                    f"at non-singleton dimension {d}"
                )
        shape = tuple(n if m == 1 else m for m, n in zip(a, b, strict=True))


_FACTS = (
    "promote", "promote_args", "function", "method", "inplace", "out", "namespaces", "returns", "grad_name",
    "check", "differentiable", "saves", "varargs",
)  # fmt: skip


def alias(name: str, of: str, *, key: str | None = None, **changes: Any) -> None:
    """Declares `name` as another public name of the operation whose key is `of`; `changes` are facts that differ."""
    original = OPS[of]
    facts = {fact: getattr(original, fact) for fact in _FACTS}
    op(name=name, key=key or name, **(facts | changes))(original.fn)
