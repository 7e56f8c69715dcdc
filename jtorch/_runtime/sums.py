"""What a loop adds up round by round, as a backward does the gradients of weights, from what it adds up: after the loop, of
all rounds at once. A sum of products is one product then, of longer rows."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jtorch._runtime.jax_internals import evaluate, is_literal

_LINEAR = frozenset(
    ("reduce_sum", "reshape", "transpose", "squeeze", "neg")
)  # of one input, and each sum goes through them


class Addend(NamedTuple):
    """What is added to a sum in each round: the product that `last` is, or what comes of one variable by `linear`."""

    last: Any
    product: Any
    linear: tuple
    operands: tuple


class Sums:
    """The equations of a round by what they give, to find sums in."""

    def __init__(self, jaxpr: Any):
        self.by = {v: eqn for eqn in jaxpr.eqns for v in eqn.outvars}
        self.jaxpr = jaxpr
        self.uses = Counter(a for eqn in jaxpr.eqns for a in eqn.invars if not is_literal(a))

    def of(self, total: Any, before: Any) -> list[Addend] | None:
        """What is added to `before` to give `total`, where it is used for nothing else. None where it is no such sum."""
        if self.uses[before] != 1 or self.uses[total]:
            return None
        addends = []
        for v in self._terms(total, before) or ():
            addend = self._addend(v)
            if addend is None:
                return None
            addends.append(addend)
        return addends or None

    def _terms(self, v: Any, before: Any) -> list | None:
        if v is before:
            return []
        eqn = None if is_literal(v) or self.uses[v] > 1 else self.by.get(v)
        if eqn is None or eqn.primitive.name not in ("add", "add_any"):
            return None
        for first, second in (eqn.invars, eqn.invars[::-1]):
            found = self._terms(first, before)
            if found is not None and not is_literal(second) and second.aval.shape == v.aval.shape:
                return [*found, second]
        return None

    def _addend(self, v: Any) -> Addend | None:
        linear: list = []
        at = v
        while self.uses[at] == 1 and at in self.by:
            eqn = self.by[at]
            if eqn.primitive.name == "dot_general" and not any(map(is_literal, eqn.invars)):
                return Addend(v, eqn, tuple(reversed(linear)), tuple(eqn.invars))
            if eqn.primitive.name not in _LINEAR or is_literal(eqn.invars[0]):
                break
            linear.append(eqn)
            at = eqn.invars[0]
        return Addend(v, None, tuple(reversed(linear)), (at,)) if linear else None

    def all_rounds(self, addend: Addend, rows: list) -> Any:
        """The sum of an addend, given its operands' values of all rounds, stacked."""
        if addend.product is None:
            at, total = addend.operands[0], jnp.sum(rows[0], 0, dtype=rows[0].dtype)
        else:
            at, told = addend.product.outvars[0], addend.product.params
            (left, right), (batch_left, batch_right) = told["dimension_numbers"]
            left, right, batch_left, batch_right = (
                [d + 1 for d in dims] for dims in (left, right, batch_left, batch_right)
            )
            total = jax.lax.dot_general(
                rows[0], rows[1], (([0, *left], [0, *right]), (batch_left, batch_right)), told["precision"],
                told["preferred_element_type"],
            )  # fmt: skip
        return evaluate(self.jaxpr, addend.linear, [at], [addend.last], [total])[0]
