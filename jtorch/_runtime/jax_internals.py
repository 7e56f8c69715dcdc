"""The few things of JAX that have no public name, in one place, each with what it is for."""

from __future__ import annotations

import jax
from jax._src import core
from jax._src.interpreters import partial_eval

ArrayImpl = type(jax.numpy.zeros(()))  # the concrete array's class: one type comparison tells it from a tracer


def used_inputs(fn, structs, each: bool = False) -> tuple[list[bool], list[list[bool]]]:
    """Which inputs of `fn` its outputs depend on, seen through nested calls; then, if asked, for each output alone."""
    jaxpr = jax.make_jaxpr(fn)(*structs).jaxpr
    n = len(jaxpr.outvars)
    wanted = [[True] * n] + [[i == k for i in range(n)] for k in range(n if each else 0)]
    used, *alone = [list(partial_eval.dce_jaxpr(jaxpr, w)[1]) for w in wanted]
    return used, alone


def outside_traces() -> bool:
    """Whether no JAX transformation is being traced: inside one, JAX would stage even what has concrete inputs."""
    return core.trace_state_clean()
