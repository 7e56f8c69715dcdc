"""Running a graph backwards.

The general way walks nodes and records each one's vjp. Where a backward's whole graph lies in the trace being recorded
and nobody looks at its middle, the walk is remembered as a jump: the same trace always records the same steps, so the
next time the trace moves to their end at once, at no cost per operation.
"""

from __future__ import annotations

import heapq
import itertools
import warnings

import jax.numpy as jnp

from jtorch._autograd import graph
from jtorch._autograd.graph import AccumulateGrad, node_of
from jtorch._runtime import executor
from jtorch._runtime.avals import Aval
from jtorch._runtime.dtypes import SCALAR_NAMES
from jtorch._runtime.executor import LAZY, T, Value
from jtorch._runtime.kernel import Kernel

_ONES: dict[Aval, Kernel] = {}
_ADD: dict[Aval, Kernel] = {}
_order = itertools.count()
partial = False  # whether the backward that runs is one towards given inputs
running: set = set()  # the nodes of the backward that runs: a new set each time


def ones(a: Aval) -> Value:
    """A value of ones."""
    kernel = _ONES.get(a)
    if kernel is None:
        shape, dtype = a.shape, a.dtype.np
        kernel = _ONES[a] = Kernel("ones", lambda: (jnp.ones(shape, dtype),), (), out=(a.with_strides(None),))
    return executor.record(kernel, ())[0]


def add(x: Value, y: Value) -> Value:
    """The sum of two gradients of one tensor."""
    a = x.aval.with_strides(None)
    kernel = _ADD.get(a)
    if kernel is None:
        kernel = _ADD[a] = Kernel("add", lambda x, y: (x + y,), (a, a), grad_name="AddBackward0")
    return executor.record(kernel, (x, y))[0]


class _Jump:
    """Where a remembered backward leads, and what it makes."""

    __slots__ = ("end", "freed", "leaves")

    def __init__(self, end, leaves, freed):
        self.end, self.leaves, self.freed = end, leaves, freed


def backward(root: Value, ct: Value | None, retain: bool) -> None:
    """The gradients of one value with respect to all leaves, added to their grads."""
    mine = executor.get_ident() == T.owner
    if root.node is LAZY and mine and not T.observed and not graph.anomaly.on and not graph.saved_hooks:
        if ct is None:
            key = (root.slot, retain)
        else:
            key = (root.slot, ct.slot if ct.slot >= 0 else executor.enter(ct), retain)
        jump = T.at.jumps.get(key)
        if jump is not None and not (graph.leaves_hooked and _hooked(jump)):
            if not retain:
                T.freed.append(jump.freed)
                for step in T.nodes:
                    if jump.freed.get(step.slot) is step:
                        T.nodes[step].release()
            grads = []
            for leaf, slot, aval in jump.leaves:
                grad = Value(aval, slot)
                T.made[slot] = grad
                grads.append((T.nodes_in[leaf][0], grad))
            T.at = jump.end
            for node, grad in grads:
                graph.accumulate(node, grad, False)
            return
        executor.room()
        if root.node is LAZY:
            _walk_and_remember(root, ct, retain, key)
            return
    run([(node_of(root), root.nr, ct if ct is not None else ones(root.aval))], retain=retain)


def _has_hooks(node) -> bool:
    return bool(node.tensor_hooks or node.pre_hooks or node.post_hooks)


def _hooked(jump: _Jump) -> bool:
    return any(_has_hooks(T.nodes_in[leaf][0]) for leaf, _, _ in jump.leaves)


def _walk_and_remember(root: Value, ct: Value | None, retain: bool, key) -> None:
    at, epoch = T.at, T.epoch
    node = node_of(root)
    before = at.end, len(T.arrays), len(T.numbers)
    steps = {n: s for s, n in T.nodes.items()}
    arrived: list[tuple[AccumulateGrad, Value]] = []
    ran: list = []
    executor.under(
        False,
        lambda: run(
            [(node, root.nr, ct if ct is not None else ones(root.aval))],
            retain=retain,
            accumulate=lambda leaf, value: arrived.append((leaf, value)),
            ran=ran,
        ),
    )
    if not retain:
        # The same steps with the graph kept lead elsewhere: there, a second backward is no error.
        executor.mark("freed")
    leaf_slots = {id(held[0]): slot for slot, held in T.nodes_in.items()}
    same = (
        T.epoch is epoch
        and not T.observed
        and (len(T.arrays), len(T.numbers)) == before[1:]
        and all(n in steps if type(n) is not AccumulateGrad else not _has_hooks(n) for n in ran)
        and all(id(leaf) in leaf_slots and v.slot >= before[0] and v.array is None for leaf, v in arrived)
        and len({v.slot for _, v in arrived}) == len(arrived)
    )
    if same:
        freed = {}
        for n in ran:
            s = steps.get(n)
            if s is not None:
                for slot in range(s.slot, s.end):
                    freed[slot] = s
        leaves = [(leaf_slots[id(leaf)], v.slot, v.aval) for leaf, v in arrived]
        at.jumps[key] = _Jump(T.at, leaves, freed)
    for leaf, value in arrived:
        graph.accumulate(leaf, value, False)


def run(
    roots, *, retain: bool, create: bool = False, inputs=None, capture: bool = True, accumulate=None, ran=None
) -> list[Value | None] | None:
    """Runs the graph from (node, output number, cotangent) roots.

    inputs: (node, output number) pairs whose gradients are wanted; only nodes that lead to them run. None: all do.
    capture: the gradients of `inputs` are returned, and no leaf is touched. False: leaves among them accumulate.
    create: the backward is recorded itself.
    accumulate: takes what arrives at leaves, in place of adding it to their grads.
    """
    global partial, running
    outer = partial, running
    try:
        partial = inputs is not None
        return executor.under(create, lambda: _run(roots, retain, inputs, capture, accumulate or graph.accumulate, ran))
    finally:
        partial, running = outer
        if not retain and ran is None:
            executor.mark("freed")


def _run(roots, retain, inputs, capture, accumulate, ran):
    dependencies: dict = {}
    seen = set()
    stack = [node for node, _, _ in roots]
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        for edge in node.edges:
            if edge is not None:
                dependencies[edge[0]] = dependencies.get(edge[0], 0) + 1
                stack.append(edge[0])
    global running
    running = seen
    needed = targets = None
    if inputs is not None:
        targets = {node for node, _ in inputs}
        needed = _leading(seen, targets)
        running = needed | (targets & seen)
    captured: dict = {}
    buffers: dict = {}
    ready: list = []
    queued = set()
    for node, nr, ct in roots:
        _put(buffers, node, nr, ct)
        if not dependencies.get(node) and node not in queued:
            queued.add(node)
            heapq.heappush(ready, (-node.sequence, next(_order), node))
    while ready:
        node = heapq.heappop(ready)[2]
        cts = buffers.pop(node, None) or [None] * node.n_outputs
        leaf = node.kind == 1
        runs = needed is None or node in needed or (leaf and node in targets and not capture)
        grads = ()
        if targets is not None and node in targets:
            if not runs:
                cts = _seen(node, cts)
            if capture:  # of a tensor that the backward goes on through: before its hooks
                for nr, ct in enumerate(cts):
                    captured[node, nr] = ct
        if runs and any(ct is not None for ct in cts):
            cts = _before(node, cts)
            if leaf:
                if cts[0] is not None:
                    accumulate(node, cts[0])
            else:
                grads = _apply(node, cts)
            if node.post_hooks:
                grads = _after(node, grads, cts)
        if runs:
            if ran is not None:
                ran.append(node)
            if not retain:
                node.release()
        for edge, grad in itertools.zip_longest(node.edges, grads):
            if edge is None:
                continue
            target, nr = edge
            if grad is not None:
                _put(buffers, target, nr, grad)
            dependencies[target] -= 1
            if not dependencies[target]:
                heapq.heappush(ready, (-target.sequence, next(_order), target))
    if inputs is not None:
        return [captured.get(pair) for pair in inputs]
    return None


def _apply(node, cts):
    if not graph.anomaly.on:
        return node.apply(cts)
    try:
        grads = node.apply(cts)
        if graph.anomaly.check_nan:
            _check_nan(node, grads)
        return grads
    except Exception:
        where = node.metadata.get("traceback_")
        if where is None:
            warnings.warn(
                f"Error detected in {node.name()}. No forward pass information available. Enable detect anomaly during "
                "forward pass for more information.",
                stacklevel=2,
            )
        else:
            warnings.warn(
                f"Error detected in {node.name()}. Traceback of forward call that caused the error:\n{''.join(where)}",
                stacklevel=2,
            )
        raise


def _leading(seen, targets) -> set:
    """The nodes that must run for gradients to reach the targets: those with an edge towards one."""
    done: set = set()
    needed: set = set()
    stack = [(n, False) for n in seen]
    while stack:
        node, expanded = stack.pop()
        if expanded:
            if any(e is not None and (e[0] in needed or e[0] in targets) for e in node.edges):
                needed.add(node)
            continue
        if node in done:
            continue
        done.add(node)
        stack.append((node, True))
        stack.extend((e[0], False) for e in node.edges if e is not None and e[0] not in done)
    return needed


def _put(buffers, node, nr: int, ct: Value) -> None:
    cts = buffers.get(node)
    if cts is None:
        cts = buffers[node] = [None] * node.n_outputs
    cts[nr] = ct if cts[nr] is None else add(cts[nr], ct)


def _seen(node, cts):
    """The incoming gradients as the hooks on tensors leave them; tensors that retain theirs get it."""
    if node.tensor_hooks:
        cts = list(cts)
        for nr, hooks in node.tensor_hooks.items():
            for fn in list(hooks.values()):
                ct = cts[nr]
                if ct is not None:
                    given = graph.wrap(ct)
                    result = fn(given)
                    # A hook may also have written the gradient in place.
                    cts[nr] = graph.unwrap(given) if result is None else replacement(fn, result, ct)
    if node.retain:
        for nr, keep in node.retain.items():
            if cts[nr] is not None:
                keep(cts[nr])
    return cts


def _before(node, cts):
    """Runs what looks at a node's incoming gradients: hooks on tensors, retained grads, the node's own hooks."""
    cts = _seen(node, cts)
    if node.pre_hooks:
        for fn in list(node.pre_hooks.values()):
            given = tuple([None if ct is None else graph.wrap(ct) for ct in cts])
            result = fn(given)
            if result is not None:
                cts = _replaced(fn, result, cts)
    return cts


def _after(node, grads, cts):
    """Runs the hooks on what a node gave."""
    for fn in list(node.post_hooks.values()):
        result = fn(
            tuple(node.all_places([None if g is None else graph.wrap(g) for g in grads], None)),
            tuple([None if ct is None else graph.wrap(ct) for ct in cts]),
        )
        if result is not None:
            grads = node.own_places(_replaced(fn, result, node.all_places(grads, None)))
    return grads


def _replaced(fn, result, old) -> list[Value | None]:
    if not isinstance(result, tuple):
        raise TypeError(f"expected tuple, but hook returned '{type(result).__name__}'")
    if len(result) != len(old):
        raise RuntimeError(
            f"hook '{_hook_name(fn)}' has returned an incorrect number of values (got {len(result)}, but expected {len(old)})"
        )
    return [
        None if r is None else graph.unwrap(r) if o is None else replacement(fn, r, o)
        for r, o in zip(result, old, strict=True)
    ]


def _hook_name(fn) -> str:
    return getattr(fn, "__name__", type(fn).__name__)


def _type_name(v: Value) -> str:
    return f"torch.{SCALAR_NAMES[v.aval.dtype]}Tensor"


def replacement(fn, result, old: Value) -> Value:
    """The value of what a hook gives in place of a gradient, checked to be of its kind."""
    if not hasattr(result, "_value"):
        raise TypeError(f"expected Variable, but hook returned '{type(result).__name__}'")
    v = graph.unwrap(result)
    if v.aval.dtype is not old.aval.dtype:
        raise RuntimeError(
            f"hook '{_hook_name(fn)}' has changed the type of value (was {_type_name(old)} got {_type_name(v)})"
        )
    if v.aval.shape != old.aval.shape:
        raise RuntimeError(f"hook '{_hook_name(fn)}' has changed the size of value")
    return v


def _check_nan(node, grads) -> None:
    for nr, grad in enumerate(grads):
        if grad is not None and bool(jnp.isnan(executor.concrete(grad)).any()):
            raise RuntimeError(f"Function '{node.name()}' returned nan values in its {nr}th output.")
