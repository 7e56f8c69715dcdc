"""Batch normalization over the optional kernels' sums (`jtorch._native`), where those are there.

    normalize(x, w, b)             the normalization, and each channel's mean and variance
    _tangent(..., dx, dw, db)      its derivative, a linear map of the three
    _cotangent(..., g)             the transpose of that: the backward

The last two are JAX primitives, each the other's transpose, so that a backward takes its sums from the kernels and
differentiation goes on to any order: second derivatives are those of the plain forms. The pointwise part is left to
XLA, which fuses it with what is around it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching

from jtorch import _native
from jtorch._ops._common import Array, Arrays
from jtorch._ops._lowering import lower


def fits(x: Array) -> bool:
    """Whether x (N, C, ...) is normalized here. Without dims after the channels XLA's own sums are as fast."""
    return x.ndim > 2 and x.dtype == jnp.float32 and x.size > 0 and _native.available()


def _wide(v: Array, like: Array) -> Array:
    """A vector of channels against (N, C, ...)."""
    return v.reshape(-1, *(1,) * (like.ndim - 2))


def _each(x: Array) -> np.ndarray:
    """How many values a channel has."""
    return np.asarray(x.size // x.shape[1], x.dtype)


def _sums(x: Array) -> Array:
    return x.sum((0, *range(2, x.ndim)))


def _plain_moments(x: Array) -> Arrays:
    mean = _sums(x) / _each(x)
    return mean, _sums(lax.square(x - _wide(mean, x))) / _each(x)


def _plain_products(g: Array, x: Array, mean: Array) -> Arrays:
    return _sums(g), _sums(g * (x - _wide(mean, x)))


@partial(jax.custom_jvp, nondiff_argnums=(3,))
def normalize(x: Array, w: Array, b: Array, eps: float) -> tuple[Array, Array, Array]:
    """x (N, C, ...) brought to mean 0 and variance 1 a channel, times w (C,), plus b (C,).

    Gives (output, mean, biased variance).
    """
    mean, variance = _moments_p.bind(x)
    spread = lax.rsqrt(variance + np.asarray(eps, x.dtype))
    return (x - _wide(mean, x)) * _wide(spread * w, x) + _wide(b, x), mean, variance


@normalize.defjvp
def _normalize_jvp(eps, primals, tangents):
    x, w, _ = primals
    y, mean, variance = normalize(*primals, eps)
    spread = lax.rsqrt(variance + np.asarray(eps, x.dtype))
    dy = _tangent_p.bind(x, mean, spread, w, *tangents)
    # Of use to second derivatives only: who asks for a gradient of the output has no cotangents of the statistics.
    total, product = _plain_products(tangents[0], x, mean)
    return (y, mean, variance), (dy, total / _each(x), 2 * product / _each(x))


# Both are written in terms of the sums, and used with the kernels' or with XLA's. What they are linear in comes last.


def _tangent(products: Callable, x: Array, mean: Array, spread: Array, w: Array, dx: Array, dw: Array, db: Array):
    total, product = products(dx, x, mean)
    deviation, scale = x - _wide(mean, x), spread * w
    of_deviation = spread * dw - scale * lax.square(spread) * product / _each(x)
    return _wide(scale, x) * dx + _wide(of_deviation, x) * deviation + _wide(db - scale * total / _each(x), x)


def _cotangent(products: Callable, x: Array, mean: Array, spread: Array, w: Array, g: Array) -> Arrays:
    total, product = products(g, x, mean)
    scale = spread * w
    slope = scale * lax.square(spread) * product / _each(x)
    dx = _wide(scale, x) * (g - _wide(total / _each(x), x)) - _wide(slope, x) * (x - _wide(mean, x))
    return dx, product * spread, total


def _primitive(name: str, plain: Callable, on_cpu: Callable, abstract: Callable, several: bool) -> Primitive:
    primitive = Primitive(name)
    primitive.multiple_results = several
    primitive.def_impl(jax.jit(primitive.bind))
    primitive.def_abstract_eval(abstract)
    lower(primitive, plain, on_cpu)

    def batch(operands, dims):
        out = jax.vmap(plain, dims)(*operands)
        return (out, (0,) * len(out)) if several else (out, 0)

    batching.primitive_batchers[primitive] = batch
    return primitive


def _on_cpu(form: Callable) -> Callable:
    return lambda *args, kernels: form(_native.products if kernels else _plain_products, *args)


def _like(x) -> Any:
    return x.update(weak_type=False)


def _vector(x) -> Any:
    return x.update(shape=x.shape[1:2], weak_type=False)


def _linear(name: str, form: Callable, several: bool) -> Primitive:
    plain = partial(form, _plain_products)
    primitive = _primitive(
        name, plain, _on_cpu(form), lambda x, *_: [_like(x), _vector(x), _vector(x)] if several else _like(x), several
    )

    def jvp(primals, tangents):
        parts = []
        if not all(type(t) is ad.Zero for t in tangents[:4]):
            rest = tuple(ad.instantiate_zeros(t) for t in tangents[:4])
            parts.append(jax.jvp(lambda *at: plain(*at, *primals[4:]), primals[:4], rest)[1])
        if not all(type(t) is ad.Zero for t in tangents[4:]):
            parts.append(primitive.bind(*primals[:4], *map(ad.instantiate_zeros, tangents[4:])))
        parts = [list(p) if several else p for p in parts]
        return primitive.bind(*primals), parts[0] if len(parts) == 1 else jax.tree.map(jnp.add, *parts)

    ad.primitive_jvps[primitive] = jvp
    return primitive


_moments_p = _primitive(
    "batch_norm_moments", _plain_moments, lambda x, kernels: (_native.moments if kernels else _plain_moments)(x),
    lambda x: [_vector(x), _vector(x)], True,
)  # fmt: skip
_tangent_p = _linear("batch_norm_tangent", _tangent, False)
_cotangent_p = _linear("batch_norm_cotangent", _cotangent, True)


def _transpose_tangent(g, *args):
    found = _cotangent_p.bind(*args[:4], g)
    return (None,) * 4 + tuple(f if ad.is_undefined_primal(a) else None for f, a in zip(found, args[4:], strict=True))


def _transpose_cotangent(gs, *args):
    x, _, _, w = args[:4]
    given = [
        jnp.zeros(like.shape, like.dtype) if type(g) is ad.Zero else g for g, like in zip(gs, (x, w, w), strict=True)
    ]
    return (None,) * 4 + (_tangent_p.bind(*args[:4], *given),)


ad.primitive_transposes[_tangent_p] = _transpose_tangent
ad.primitive_transposes[_cotangent_p] = _transpose_cotangent
