"""The few things of JAX that have no public name, in one place, each with what it is for.

ArrayImpl is the concrete array's class: one type comparison tells it from a tracer.
"""

from __future__ import annotations

import contextlib
import functools
import math
import operator
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax._src import config, core, lib, pjit
from jax._src.array import ArrayImpl as ArrayImpl
from jax._src.interpreters import partial_eval
from jax._src.lib import xla_client
from jax.extend.core import ClosedJaxpr
from jax.sharding import SingleDeviceSharding

_SHARDINGS: dict[Any, SingleDeviceSharding] = {}


def single_device(device: Any) -> SingleDeviceSharding:
    """The sharding of arrays that are on one device, one object for each."""
    found = _SHARDINGS.get(device)
    if found is None:
        found = _SHARDINGS[device] = SingleDeviceSharding(device)
    return found


def put(array: np.ndarray, device: Any) -> jax.Array:
    """A copy of a host array on a device: `jax.device_put` without its generality, which costs ten times the copy."""
    sharding = single_device(device)
    aval = core.ShapedArray(array.shape, array.dtype)
    stays = _stays(device)
    try:
        return xla_client.batched_device_put(aval, sharding, [array], [device], stays, True)  # a copy
    except (AttributeError, TypeError):  # a JAX whose inside is another
        return jax.device_put(array, device if stays else None, may_alias=False)


@functools.cache
def _stays(device: Any) -> bool:
    """Whether what is put on a device is bound to it ("committed"). Where JAX would put it anyway it is not, if there are
    other devices: beside an array that is spread over them it is spread, too.
    """
    return len(jax.devices()) == 1 or device != jax.devices()[0]


class Traced:
    """A function traced once, called by running what was traced: Python's part of it is not paid for again.

    It takes what a function does, tracers of any transformation included, and gives a tuple.
    """

    __slots__ = ("__weakref__", "closed")

    def __init__(self, closed):
        self.closed = closed

    def __call__(self, *args) -> tuple:
        return tuple(core.eval_jaxpr(self.closed.jaxpr, self.closed.consts, *args))

    def _equations(self) -> Iterator[Any]:
        """Its equations, seen through nested calls."""
        stack = [self.closed.jaxpr]
        while stack:
            for eqn in stack.pop().eqns:
                yield eqn
                stack.extend(core.jaxprs_in_params(eqn.params))

    def primitives(self) -> set[str]:
        """The names of JAX's operations in it, seen through nested calls."""
        return {eqn.primitive.name for eqn in self._equations()}

    def products(self) -> list[tuple[int, int, int, bool]]:
        """Of each product of matrices in it: rows (of all batches), elements contracted, columns, whether these lie in the
        second matrix one after the other."""
        found = []
        for eqn in self._equations():
            if eqn.primitive.name == "dot_general":
                (contracted, others), _ = eqn.params["dimension_numbers"]
                left, right = (v.aval for v in eqn.invars)
                inner = math.prod(left.shape[i] for i in contracted)
                rows = left.size // max(inner, 1)
                columns = eqn.outvars[0].aval.size // max(rows, 1)
                found.append((rows, inner, columns, right.ndim - 1 not in others))
        return found

    def same(self) -> list[tuple[str, int]]:
        """For each result the ("input", number) or the first ("output", number) that it is."""
        inputs, results = self.closed.jaxpr.invars, self.closed.jaxpr.outvars
        first: dict = {v: ("input", i) for i, v in enumerate(inputs)}
        return [
            ("output", i) if isinstance(v, core.Literal) else first.setdefault(v, ("output", i))
            for i, v in enumerate(results)
        ]

    def loops(self) -> bool:
        """Whether there is a loop in it."""
        return not self.primitives().isdisjoint(("scan", "while"))


def unfolded() -> contextlib.AbstractContextManager:
    """While a program is traced: under `jax.ensure_compile_time_eval` what depends on no input would be made a constant."""
    return config.eager_constant_folding(False)


def trace(fn, structs) -> tuple[Traced, list]:
    """A function traced for arguments of some shapes and dtypes, and what it gives: its results' shapes and dtypes."""
    with unfolded():
        closed = jax.make_jaxpr(fn)(*structs)
    return Traced(closed), closed.out_avals


def trace_used(fn, structs, maybe: int, each: bool = False) -> tuple[Traced, list[bool], list[list[bool]]]:
    """The same without those of the first `maybe` inputs that the results do not depend on.

    What the traced function takes is the rest of the inputs. Also gives which of all inputs the results depend on, seen
    through nested calls; then, if asked, for each result alone.
    """
    with unfolded():
        closed = jax.make_jaxpr(fn)(*structs)
    n = len(closed.jaxpr.outvars)
    alone = [list(partial_eval.dce_jaxpr(closed.jaxpr, [i == k for i in range(n)])[1]) for k in range(n if each else 0)]
    keep = [False] * maybe + [True] * (len(structs) - maybe)
    jaxpr, used = partial_eval.dce_jaxpr(closed.jaxpr, [True] * n, instantiate=keep)
    return Traced(ClosedJaxpr(jaxpr, closed.consts)), list(used), alone


def passed_on(traced: Traced, device: Any, fill: bool) -> Callable | None:
    """What gives the results of a program with nothing to compute: inputs as they are, and, if `fill`, memory filled with a
    number.
    """
    jaxpr = traced.closed.jaxpr
    if not fill and (jaxpr.eqns or any(isinstance(v, core.Literal) for v in jaxpr.outvars)):
        return None
    made: dict[Any, Callable] = {v: operator.itemgetter(i) for i, v in enumerate(jaxpr.invars)}
    for eqn in jaxpr.eqns:
        if eqn.primitive.name != "broadcast_in_dim" or not all(isinstance(v, core.Literal) for v in eqn.invars):
            return None
        made[eqn.outvars[0]] = _filled(eqn.invars[0].val, eqn.outvars[0].aval, device)
    gives: list[Callable] = []
    for v in jaxpr.outvars:
        give = _filled(v.val, v.aval, device) if isinstance(v, core.Literal) else made.get(v)
        if give is None:  # a constant
            return None
        gives.append(give)
    return lambda *args: [give(args) for give in gives]


def _filled(number: Any, aval: Any, device: Any) -> Callable:
    return lambda args: put(np.full(aval.shape, number, aval.dtype), device)


# Calls of what was traced apart, which mean no more than what is in them.
_CALLS = frozenset(("jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call"))


def unnested(traced: Traced, args) -> list:
    """What a traced function gives, computed without the calls that nest in it."""
    return _unnested(traced.closed.jaxpr, traced.closed.consts, args)


def _unnested(jaxpr, consts, args) -> list:
    env = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))

    def read(atom):
        return atom.val if is_literal(atom) else env[atom]

    for eqn in jaxpr.eqns:
        inner = eqn.params.get("jaxpr") or eqn.params.get("call_jaxpr")
        if eqn.primitive.name in _CALLS and isinstance(inner, ClosedJaxpr):
            results = _unnested(inner.jaxpr, inner.consts, [read(a) for a in eqn.invars])
        else:
            at = list(dict.fromkeys(a for a in eqn.invars if not is_literal(a)))
            results = evaluate(jaxpr, [eqn], at, eqn.outvars, [env[v] for v in at])
        env.update(zip(eqn.outvars, results, strict=True))
    return [read(a) for a in jaxpr.outvars]


def evaluate(jaxpr, eqns, variables, wanted, values) -> list:
    """Some results of some equations of a jaxpr, given the values of variables that these need, or more."""
    part = jaxpr.replace(eqns=list(eqns), constvars=[], invars=list(variables), outvars=list(wanted))
    return core.eval_jaxpr(part, (), *values)


def is_literal(atom) -> bool:
    """Whether an input of an equation is a constant written out."""
    return isinstance(atom, core.Literal)


def literal(atom) -> bytes:
    """The value of such a constant, to compare it by."""
    return np.asarray(atom.val).tobytes()


def forget(fn) -> None:
    """Lets go of what JAX keeps of a jitted function besides the program it runs.

    That is the traced function and the MLIR module it was lowered to, more than 1 MB each with its context. A call that
    the program is not for traces the function again.
    """
    for cache in _STAGED:
        cache.evict_weakref(fn)


def _staged() -> list:
    caches = [getattr(pjit, "_infer_params_cached", None), getattr(partial_eval, "trace_to_jaxpr", None)]
    return [c for c in caches if hasattr(c, "evict_weakref")]


_STAGED = _staged()  # caches whose entries go by the function and hold what was traced: empty in a JAX that has others


def direct(compiled: jax.stages.Compiled) -> Callable:
    """What calls a compiled program with no Python in between."""
    try:
        return compiled._executable.create_cpp_call(compiled._params) or compiled  # type: ignore[attr-defined]
    except AttributeError:
        return compiled


def executable(compiled: jax.stages.Compiled) -> tuple[Callable, Callable, list[int]] | None:
    """How to run a compiled program past JAX's call of it, which looks at each argument: what runs it on a list of arrays,
    what makes arrays of what that gives, both in C, and the places of the arguments that it takes.

    None where JAX's call does more than call it, or in a JAX whose inside is another.
    """
    try:
        call = compiled._executable.unsafe_call  # type: ignore[attr-defined]
        effects = call.ordered_effects or call.has_unordered_effects or call.has_host_callbacks or call.mut
        constants = compiled._params.const_args  # type: ignore[attr-defined]
        if effects or constants or call.pgle_profiler or not hasattr(_RESULTS, "consume_with_handlers"):
            return None
        finish = operator.methodcaller("consume_with_handlers", call.out_handler.handlers)
        return call.xla_executable.execute_sharded, finish, sorted(call.kept_var_idx)
    except AttributeError:
        return None


_RESULTS = getattr(getattr(lib, "_jax", None), "ExecuteResults", None)


def usual(array: Any) -> Any:
    """A jax array on the host as programs take one to be, row-major and in ordinary memory: a copy of any other."""
    if type(array) is not ArrayImpl or array.is_deleted() or len(array.devices()) != 1:
        return array
    (device,) = array.devices()
    if device.platform != "cpu":
        return array
    layout: Any = array.format.layout
    order = layout.major_to_minor
    if order == tuple(range(array.ndim)) and array.sharding.memory_kind == device.default_memory().kind:
        return array
    return put(np.ascontiguousarray(array), device)


def constants(compiled: jax.stages.Compiled) -> bool:
    """Whether a program takes arrays that JAX took out of what was traced, and passes at each call."""
    return bool(getattr(getattr(compiled, "_params", None), "const_args", ()))


def outside_traces() -> bool:
    """Whether no JAX transformation is being traced: inside one, JAX would stage even what has concrete inputs."""
    return core.trace_state_clean()


def lowered_alone(context: Any) -> bool:
    """Whether a lowering rule's program is to run here and on one device: not exported, and not split over several."""
    module = context.module_context
    devices = getattr(module.axis_context, "num_devices", None)
    return devices == 1 and not getattr(module.lowering_parameters, "for_export", True)
