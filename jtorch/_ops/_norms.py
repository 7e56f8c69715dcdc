"""The p-norm of vectors, for every operation that measures one."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
from jax import lax

from jtorch._ops._along import spread
from jtorch._ops._common import Array, is_complex, is_float, scalar_name
from jtorch._ops._numeric import absolute


def check_norm_input(x: Array) -> None:
    """RuntimeError unless x is floating or complex."""
    if not (is_float(x) or is_complex(x)):
        raise RuntimeError(
            f"linalg.vector_norm: Expected a floating point or complex tensor as input. Got {scalar_name(x)}"
        )


def vector_norm(x: Array, p: float, axes: tuple[int, ...], keepdim: bool) -> Array:
    """The p-norm over `axes`, of x's real dtype. Its gradient is 0 where the norm (or, for p < 2, the element) is 0."""
    p = float(p)
    check_norm_input(x)
    if math.isinf(p) or p < 0:
        empty = [a for a in axes if x.shape[a] == 0]
        if empty or (x.size == 0 and len(axes) == x.ndim):
            where = "tensor" if len(axes) == x.ndim else f"dimension {empty[0]}"
            raise RuntimeError(
                f"linalg.vector_norm cannot compute the {p:g} norm on an empty {where} because the operation "
                "does not have an identity"
            )
    dtype = x.real.dtype
    if dtype.itemsize < 4:  # half precision is summed in float32, as a sum of it is
        wide = vector_norm(x.astype(np.float32), p, axes, keepdim)
        return wide.astype(dtype)
    if p == 0:
        return jnp.sum(x != 0, axis=axes, keepdims=keepdim, dtype=dtype)
    if p == math.inf or p == -math.inf:
        out = spread(_size(x), _amax if p > 0 else _amin, axes, True)
        return out if keepdim else lax.squeeze(out, axes)
    if p == 1:
        return jnp.sum(_size(x), axis=axes, keepdims=keepdim)
    if p == 2:
        square = lax.square(x.real) + lax.square(x.imag) if is_complex(x) else lax.square(x)
        return _root(jnp.sum(square, axis=axes, keepdims=keepdim), 0.5)
    size = _size(x)
    if p < 2:
        # |x|^p has no finite slope at 0 for p < 1 and a kink at 1: torch counts such elements as flat.
        zero = size == 0
        powers = jnp.where(zero, jnp.power(jnp.zeros_like(size), p), jnp.power(jnp.where(zero, 1, size), p))
    else:
        powers = jnp.power(size, p)
    return _root(jnp.sum(powers, axis=axes, keepdims=keepdim), 1 / p)


def _size(x: Array) -> Array:
    """Absolute values, flat at 0 and at nan."""
    return jnp.abs(x) if is_complex(x) else absolute(x)


def _root(x: Array, exponent: float) -> Array:
    """x ** exponent, flat at 0."""
    flat = x == 0
    safe = jnp.where(flat, jnp.ones_like(x), x)
    root = jnp.sqrt(safe) if exponent == 0.5 else jnp.power(safe, exponent)
    return jnp.where(flat, jnp.zeros_like(x) if exponent > 0 else jnp.full_like(x, jnp.inf), root)


def _amax(x: Array, axes: tuple[int, ...]) -> Array:
    return jnp.max(x, axis=axes, keepdims=True)


def _amin(x: Array, axes: tuple[int, ...]) -> Array:
    return jnp.min(x, axis=axes, keepdims=True)
