"""The few things of JAX that have no public name, in one place, each with what it is for."""

from __future__ import annotations

import jax
from jax._src import core
from jax._src.interpreters import partial_eval

ArrayImpl = type(jax.numpy.zeros(()))  # the concrete array's class: one type comparison tells it from a tracer


def used_inputs(fn, structs) -> list[bool]:
    """Which inputs of `fn` its outputs depend on, seen through nested calls."""
    closed = jax.make_jaxpr(fn)(*structs)
    _, used = partial_eval.dce_jaxpr(closed.jaxpr, [True] * len(closed.jaxpr.outvars))
    return list(used)


def outside_traces() -> bool:
    """Whether no JAX transformation is being traced: inside one, JAX would stage even what has concrete inputs."""
    return core.trace_state_clean()
