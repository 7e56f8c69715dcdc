"""Orthogonal polynomials of torch.special: each by the recurrence that links three neighbours."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax.numpy as jnp
from jax import lax

from jtorch._ops._common import Array, Operand
from jtorch._ops._numeric import check_broadcast, refuse, refuse_half
from jtorch._ops.registry import op
from jtorch._runtime.dtypes import COMPLEX

# The degree-one polynomial of x, and the next one from k, x, the k-th and the one before.
_First = Callable[[Array], Array]
_Next = Callable[[Array, Array, Array, Array], Array]


def _declare(name: str, first: _First, following: _Next) -> None:
    def polynomial(x: Operand, n: Operand) -> Array:
        refuse(f"{name}_cpu", x, COMPLEX)
        refuse_half(f"{name}_cpu", x)
        check_broadcast(x, n)
        x, n = jnp.broadcast_arrays(x, n)
        # A degree with a fraction is cut; below zero the value is zero.
        degree = jnp.trunc(n)
        one, line = jnp.ones_like(x), first(x)
        value = jnp.where(degree == 0, one, jnp.where(degree == 1, line, 0))

        def step(state):
            k, value, before, this = state
            then = following(k, x, this, before)
            return k + 1, jnp.where(degree == k + 1, then, value), this, then

        last = jnp.max(degree, initial=0)
        state = lax.while_loop(lambda s: s[0] < last, step, (jnp.ones((), x.dtype), value, one, line))
        return state[1]

    polynomial.__name__ = name
    polynomial.__doc__ = f"The {name.replace('_polynomial_', ' polynomial ')} of degree n at x; no gradient."
    facts = {"promote": "float", "function": False, "namespaces": ("special",), "differentiable": False}
    op(key=f"special.{name}", name=name, **facts)(polynomial)


def _doubled(k: Array, x: Array, this: Array, before: Array) -> Array:
    return 2 * x * this - before


# The four kinds of Chebyshev differ in the first degree only.
for _kind, _first in {
    "t": lambda x: x, "u": lambda x: 2 * x, "v": lambda x: 2 * x - 1, "w": lambda x: 2 * x + 1,
}.items():  # fmt: skip
    _declare(f"chebyshev_polynomial_{_kind}", _first, _doubled)
    _declare(
        f"shifted_chebyshev_polynomial_{_kind}",
        functools.partial(lambda first, x: first(2 * x - 1), _first),
        lambda k, x, this, before: _doubled(k, 2 * x - 1, this, before),
    )

_declare("hermite_polynomial_h", lambda x: 2 * x, lambda k, x, this, before: 2 * x * this - 2 * k * before)
_declare("hermite_polynomial_he", lambda x: x, lambda k, x, this, before: x * this - k * before)
_declare(
    "laguerre_polynomial_l",
    lambda x: 1 - x,
    lambda k, x, this, before: ((2 * k + 1 - x) * this - k * before) / (k + 1),
)
_declare(
    "legendre_polynomial_p",
    lambda x: x,
    lambda k, x, this, before: ((2 * k + 1) * x * this - k * before) / (k + 1),
)
