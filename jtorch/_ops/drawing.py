"""Draws as functions of their parameters: constant, so that the gradients are zeros, as torch has them; and rrelu."""

from __future__ import annotations

import jax

from jtorch._ops._common import Array
from jtorch._ops.registry import op


@op(key="_drawn_of_one", function=False, out=False, grad_name="BernoulliBackward0")
def _drawn_of_one(draw: Array, input: Array) -> Array:
    """The draw."""
    return draw


@op(key="_drawn_of_mean", function=False, out=False, grad_name="NormalBackward1")
def _drawn_of_mean(draw: Array, mean: Array) -> Array:
    """The draw."""
    return draw


@op(key="_drawn_of_std", function=False, out=False, grad_name="NormalBackward2")
def _drawn_of_std(draw: Array, std: Array) -> Array:
    """The draw."""
    return draw


@op(key="_drawn_of_both", function=False, out=False, grad_name="NormalBackward3")
def _drawn_of_both(draw: Array, mean: Array, std: Array) -> Array:
    """The draw."""
    return draw


@jax.custom_jvp
def _leaked(slopes: Array, x: Array) -> Array:
    return (x.astype(slopes.dtype) * slopes).astype(x.dtype)


@_leaked.defjvp
def _leaked_jvp(primals, tangents):
    slopes, x = primals
    # The backward has the slopes as torch keeps them: in the input's dtype.
    return _leaked(slopes, x), tangents[1] * slopes.astype(x.dtype)


@op(key="_rrelu_with_noise", function=False, out=False, grad_name="RreluWithNoiseBackward0")
def rrelu_with_noise(slopes: Array, input: Array) -> Array:
    """input * slopes, rounded once; slopes are constants, of the dtype that the product is worked out in."""
    return _leaked(slopes, input)
