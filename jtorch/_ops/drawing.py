"""Draws as functions of their parameters: constant, so that the gradients are zeros, as torch has them."""

from __future__ import annotations

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
