"""Checkpointing: parts of a model whose intermediate values are not kept for the backward but computed again there.

A checkpointed call runs its function once and keeps of its graph only the border: the places where gradients leave it
(the arguments, and whatever else the function used that requires grad). The backward runs the function a second time,
behind a barrier that keeps XLA from seeing that the work is the same, and differentiates that run.
"""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import jax
from jax import lax

from jtorch._autograd import engine, graph
from jtorch._autograd.graph import AccumulateGrad, Edges, node_of, observe
from jtorch._autograd.modes import enable_grad
from jtorch._runtime import executor
from jtorch._runtime.avals import Aval
from jtorch._runtime.dtypes import FLOATING
from jtorch._runtime.executor import T, Value
from jtorch._runtime.generator import Generator as HostGenerator
from jtorch._runtime.kernel import Kernel
from jtorch._tensor import backward as _backward
from jtorch._tensor import random as _random
from jtorch._tensor.base import Tensor, new
from jtorch._tensor.storage import detached, tag, value_of
from jtorch.autograd.function import Function

__all__ = [
    "CheckpointError", "CheckpointFunction", "checkpoint", "checkpoint_sequential", "noop_context_fn",
    "set_checkpoint_debug_enabled", "set_checkpoint_early_stop",
]  # fmt: skip


class CheckpointError(RuntimeError):
    """The second run of a checkpointed function differs from the first."""


def noop_context_fn() -> tuple:
    """The contexts of the two runs, where none are wanted."""
    return contextlib.nullcontext(), contextlib.nullcontext()


@contextlib.contextmanager
def set_checkpoint_early_stop(enable: bool):
    """Accepts torch's setting. Differs from torch: the second run is always whole; XLA drops what nobody needs."""
    yield


@contextlib.contextmanager
def set_checkpoint_debug_enabled(enabled: bool | None):
    """Accepts torch's setting: the errors here say all there is to say anyway."""
    yield


class _RandomState:
    """The state of all default random streams."""

    def __init__(self):
        self.host = HostGenerator.get_state(_random.default_generator)
        self.others = {w: (HostGenerator.get_state(g), g._draws) for w, g in _random._accelerator.items()}

    @contextlib.contextmanager
    def restored(self):
        """Runs a block from this state, and puts back the one before."""
        with _random.fork_rng():
            HostGenerator.set_state(_random.default_generator, self.host)
            for where, (held, draws) in self.others.items():
                HostGenerator.set_state(_random._accelerator[where], held)
                _random._accelerator[where]._draws = draws
            yield


# ---- arguments and results of any nesting ----------------------------------------------------------------------------


def _map(fn: Callable, tree: Any) -> Any:
    """The same lists, tuples and dicts with `fn` of each tensor."""
    return jax.tree_util.tree_map(
        lambda x: fn(x) if isinstance(x, Tensor) else x, tree, is_leaf=lambda x: isinstance(x, Tensor)
    )


def _tensors(tree: Any) -> list[Tensor]:
    leaves = jax.tree_util.tree_leaves(tree, is_leaf=lambda x: isinstance(x, Tensor))
    return [x for x in leaves if isinstance(x, Tensor)]


_BARRIERS: dict[tuple[Aval, bool], Kernel] = {}


def _entrance(t: Tensor, barrier: bool) -> Tensor:
    """The argument as the function gets it: the same numbers, behind a node that is the border of its graph."""
    v = value_of(t)
    if v.node is None or v.aval.dtype.category < FLOATING:
        return t
    kernel = _BARRIERS.get((v.aval, barrier))
    if kernel is None:
        body = (lambda x: (lax.optimization_barrier(x),)) if barrier else (lambda x: (x,))
        kernel = _BARRIERS[v.aval, barrier] = Kernel(
            "recompute" if barrier else "alias", body, (v.aval,), grad_name="AliasBackward0", out=(v.aval,)
        )
    made = new(Tensor)
    made._value = executor.record(kernel, (v,))[0]
    return made


# ---- without reentering the engine -----------------------------------------------------------------------------------


class _Region(Edges):
    """The node of a checkpointed call. Each of its edges leads out of the function's graph."""

    def __init__(self, rerun: Callable[[], tuple], n_outputs: int, shown: str):
        super().__init__((), n_outputs)
        self.rerun: Callable[[], tuple] | None = rerun
        self.shown = shown
        self.entered: list[int | None] = []  # for each edge the argument it is, None for what the function found itself
        self.avals: list[Aval] = []
        self.check = True

    def name(self) -> str:
        return self.shown

    def release(self) -> None:
        self.rerun = None

    def apply(self, cts: list[Value | None]) -> list[Value | None]:
        if self.rerun is None:
            raise RuntimeError(graph.FREED)
        create = T.grad
        with enable_grad():
            outputs, entrances = self.rerun()
        values = [value_of(t) for t in outputs]
        if self.check:
            self._compare(values)
        roots = [
            (node_of(v), v.nr, ct) for v, ct in zip(values, cts, strict=True) if ct is not None and v.node is not None
        ]
        places = []
        for edge, i in zip(self.edges, self.entered, strict=True):
            if i is None:
                places.append(edge)
            else:
                v = value_of(entrances[i])
                places.append((node_of(v), v.nr))
        if not roots:
            return [None] * len(places)
        grads = engine.run(roots, retain=create, create=create, inputs=places)
        return list(grads or ())

    def _compare(self, values: list[Value]) -> None:
        words = "torch.utils.checkpoint: "
        if len(values) != len(self.avals):
            raise CheckpointError(
                f"{words}A different number of tensors was saved during the original forward and recomputation.\n"
                f"Number of tensors saved during forward: {len(self.avals)}\n"
                f"Number of tensors saved during recomputation: {len(values)}."
            )
        wrong = [
            f"tensor at position {i}:\nsaved metadata: {_facts(a)}\nrecomputed metadata: {_facts(v.aval)}\n"
            for i, (a, v) in enumerate(zip(self.avals, values, strict=True))
            if (a.shape, a.dtype, a.device) != (v.aval.shape, v.aval.dtype, v.aval.device)
        ]
        if wrong:
            raise CheckpointError(
                f"{words}Recomputed values for the following tensors have different metadata than during the forward "
                f"pass.\n{''.join(wrong)}"
            )


@functools.cache
def _region_class(name: str) -> type[_Region]:
    """The class of regions that go by the name of the last operation in them."""
    return type(name, (_Region,), {})


def _facts(a: Aval) -> dict:
    return {"shape": a.shape, "dtype": a.dtype, "device": a.device}


def _border(roots, entrances: dict, started: int) -> list[tuple]:
    """The places where gradients leave a graph that was begun at node number `started`."""
    found: dict[tuple, None] = {}
    seen = set()
    stack = list(roots)
    while stack:
        place = stack.pop()
        node = place[0]
        if place in entrances or type(node) is AccumulateGrad or node.sequence < started:
            found[place] = None
        elif node not in seen:
            seen.add(node)
            stack.extend(e for e in node.edges if e is not None)
    return list(found)


def _without_reentering(function, args, kwargs, preserve: bool, context_fn, check: bool):
    first, second = context_fn()
    state = _RandomState() if preserve else None
    # All nodes that are there by now count as outside.
    graph.materialise(executor.held())
    started = next(graph._sequence)
    given = _tensors((args, kwargs))
    inner_args, inner_kwargs = _map(lambda t: _entrance(t, False), (args, kwargs))
    entrances = {}
    for i, (t, e) in enumerate(zip(given, _tensors((inner_args, inner_kwargs)), strict=True)):
        if e is not t:
            v = value_of(e)
            entrances[node_of(v), v.nr] = i
    with first:
        output = function(*inner_args, **inner_kwargs)
    results = _tensors(output)
    at = [i for i, t in enumerate(results) if t.requires_grad]
    if not at:
        return output
    places = [(node_of(value_of(results[i])), value_of(results[i]).nr) for i in at]

    def rerun() -> tuple:
        with state.restored() if state is not None else contextlib.nullcontext(), second:
            # What the function was given, at its values of now: a write in between is not noticed.
            again_args, again_kwargs = _map(lambda t: _entrance(t, True), (args, kwargs))
            made = _tensors(function(*again_args, **again_kwargs))
        if len(made) != len(results):
            return made, _tensors((again_args, again_kwargs))
        return [made[i] for i in at], _tensors((again_args, again_kwargs))

    first: Any = places[0][0]
    region = _region_class(type(first).__name__)(rerun, len(at), first.name())
    region.check = check
    border = _border(places, entrances, started)
    region.edges = tuple(
        (node_of(value_of(given[entrances[p]])), value_of(given[entrances[p]]).nr) if p in entrances else p
        for p in border
    )
    region.entered = [entrances.get(p) for p in border]
    region.avals = [value_of(results[i]).aval for i in at]
    for nr, i in enumerate(at):
        t = results[i]
        t._value = tag(detached(value_of(t)), region, nr)
    observe()
    return output


# ---- reentering the engine -------------------------------------------------------------------------------------------


class CheckpointFunction(Function):
    """A call that runs its function without a graph, and again, with one, in the backward."""

    @staticmethod
    def forward(ctx: Any, run_function: Callable, preserve_rng_state: bool, *args: Any) -> Any:
        """Runs the function; keeps the arguments and the random state."""
        if not any(isinstance(a, Tensor) and a.requires_grad for a in args):
            warnings.warn("None of the inputs have requires_grad=True. Gradients will be None", stacklevel=4)
        ctx.run_function = run_function
        ctx.state = _RandomState() if preserve_rng_state else None
        ctx.others = [None if isinstance(a, Tensor) else a for a in args]
        ctx.places = [i for i, a in enumerate(args) if isinstance(a, Tensor)]
        ctx.save_for_backward(*[args[i] for i in ctx.places])
        return run_function(*args)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple:
        """Runs the function again and a backward through that run: leaves that it found itself get theirs there."""
        if engine.partial:
            raise RuntimeError(
                "When use_reentrant=True, torch.utils.checkpoint is incompatible with .grad() or passing an `inputs` "
                "parameter to .backward(). To resolve this error, you can either set use_reentrant=False, or call "
                ".backward() without passing the `inputs` argument."
            )
        args = list(ctx.others)
        for i, t in zip(ctx.places, ctx.saved_tensors, strict=True):
            args[i] = t.detach().requires_grad_(t.requires_grad)
        with ctx.state.restored() if ctx.state is not None else contextlib.nullcontext(), enable_grad():
            output = ctx.run_function(*args)
        output = (output,) if isinstance(output, Tensor) else tuple(output)
        roots = [(o, g) for o, g in zip(output, grads, strict=True) if isinstance(o, Tensor) and o.requires_grad]
        if not roots:
            raise RuntimeError("none of output has requires_grad=True, this checkpoint() is not necessary")
        _backward.backward([o for o, _ in roots], [g for _, g in roots])
        return None, None, *[a.grad if isinstance(a, Tensor) else None for a in args]


# ---- the functions that users call -----------------------------------------------------------------------------------


def checkpoint(
    function: Callable, *args: Any, use_reentrant: bool | None = None,
    context_fn: Callable[[], tuple] = noop_context_fn,
    determinism_check: str = "default", debug: bool = False, early_stop: bool = True, **kwargs: Any,
) -> Any:  # fmt: skip
    """`function(*args, **kwargs)`, whose intermediate values are computed again in the backward instead of being kept.

    use_reentrant: False (recommended) works with everything; True needs an argument that requires grad and a plain
        `backward()`. None warns, and is True.
    preserve_rng_state: (keyword, default True) the second run draws the same random numbers as the first.
    context_fn: gives the contexts that the two runs are in.
    determinism_check: "default" raises CheckpointError where the second run's results have another shape, dtype or
        device; "none" does not look.
    """
    if use_reentrant is None:
        warnings.warn(
            "torch.utils.checkpoint: the use_reentrant parameter should be passed explicitly. use_reentrant=False is "
            "recommended; leaving it out means use_reentrant=True.",
            stacklevel=2,
        )
        use_reentrant = True
    preserve = kwargs.pop("preserve_rng_state", True)
    if use_reentrant:
        if kwargs:
            raise ValueError("Unexpected keyword arguments: " + ",".join(kwargs))
        if context_fn is not noop_context_fn or debug is not False:
            raise ValueError("Passing `context_fn` or `debug` is only supported when use_reentrant=False.")
        return CheckpointFunction.apply(function, preserve, *args)
    if determinism_check not in ("default", "none"):
        raise ValueError(f"determinism_check should be one of ['default', 'none'], but got {determinism_check}")
    if not T.grad:
        return function(*args, **kwargs)
    return _without_reentering(function, args, kwargs, preserve, context_fn, determinism_check == "default")


def checkpoint_sequential(
    functions: Iterable[Callable], segments: int, input: Any, use_reentrant: bool | None = None, **kwargs: Any
) -> Any:
    """A sequence of modules cut into `segments`, each but the last one checkpointed.

    functions: a `Sequential`, or a list of functions, each taking what the one before gives.
    """
    if use_reentrant is None:
        warnings.warn(
            "torch.utils.checkpoint.checkpoint_sequential: the use_reentrant parameter should be passed explicitly. "
            "use_reentrant=False is recommended; leaving it out means use_reentrant=True.",
            stacklevel=2,
        )
        use_reentrant = True
    preserve = kwargs.pop("preserve_rng_state", True)
    if kwargs:
        raise ValueError("Unexpected keyword arguments: " + ",".join(kwargs))
    layers = list(functions.children()) if hasattr(functions, "children") else list(functions)
    size = len(layers) // segments

    def part(start: int, end: int) -> Callable:
        def forward(x: Any) -> Any:
            for layer in layers[start:end]:
                x = layer(x)
            return x

        return forward

    at = 0
    for _ in range(segments - 1):
        input = checkpoint(part(at, at + size), input, use_reentrant=use_reentrant, preserve_rng_state=preserve)
        at += size
    return part(at, len(layers))(input)
