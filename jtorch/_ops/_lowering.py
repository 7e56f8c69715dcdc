"""How a primitive of ours is lowered: one form for accelerators, one for the CPU, one for the CPU's optional kernels."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from functools import cache, partial

from jax.extend.core import Primitive
from jax.interpreters import mlir

from jtorch import _native
from jtorch._runtime import fingerprint, jax_internals


def lower(primitive: Primitive, elsewhere: Callable, on_cpu: Callable) -> None:
    """Registers the forms. `on_cpu` is told in `kernels` whether it may use the optional kernels.

    Those are not for programs that are exported, because they are known to this process alone, nor for programs on
    several devices, among which XLA could not split them.
    """
    several = primitive.multiple_results
    mlir.register_lowering(primitive, mlir.lower_fun(elsewhere, multiple_results=several))
    rules = {k: mlir.lower_fun(partial(on_cpu, kernels=k), multiple_results=several) for k in (False, True)}

    def rule(context, *operands, **params):
        kernels = jax_internals.lowered_alone(context) and _native.available()
        return rules[kernels](context, *operands, **params)

    mlir.register_lowering(primitive, rule, platform="cpu")
    fingerprint.forms[primitive] = _forms


@cache
def _forms() -> str:
    """What the form that a program is lowered in depends on: a digest of the code of all forms, and which are there."""
    room = pathlib.Path(__file__).parent
    files = sorted([*room.glob("*.py"), *room.with_name("_native").glob("*.*")])
    return f"{fingerprint.source(*map(str, files))} {_native.available()}"
