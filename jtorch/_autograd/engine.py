"""Running a graph backwards.

The general way walks nodes and records each one's vjp. Where a backward's whole graph lies in the trace being recorded
and nobody looks at its middle, the walk is remembered as a jump: the same trace always records the same steps, so the
next time the trace moves to their end at once, at no cost per operation.
"""

from __future__ import annotations

import heapq

import jax.numpy as jnp

from jtorch._autograd import graph
from jtorch._autograd.graph import AccumulateGrad, node_of
from jtorch._runtime import executor
from jtorch._runtime.avals import Aval
from jtorch._runtime.executor import LAZY, T, Value
from jtorch._runtime.kernel import Kernel

_ONES: dict[Aval, Kernel] = {}
_ADD: dict[Aval, Kernel] = {}
anomaly = False


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
    if root.node is LAZY and not T.observed and not anomaly and not graph.saved_hooks:
        if ct is None:
            key = (root.slot, retain)
        else:
            key = (root.slot, ct.slot if ct.slot >= 0 else executor.enter(ct), retain)
        jump = T.at.jumps.get(key)
        if jump is not None and not (graph.leaves_hooked and _hooked(jump)):
            if not retain:
                T.freed.append(jump.freed)
            grads = []
            for leaf, slot, aval in jump.leaves:
                grad = Value(aval, slot)
                T.made[slot] = executor.ref(grad)
                grads.append((T.nodes_in[leaf][0], grad))
            T.at = jump.end
            for node, grad in grads:
                graph.accumulate(node, grad)
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
    enabled = T.grad
    executor.set_grad(False)
    try:
        run(
            [(node, root.nr, ct if ct is not None else ones(root.aval))],
            retain=retain,
            accumulate=lambda leaf, value: arrived.append((leaf, value)),
            ran=ran,
        )
    finally:
        executor.set_grad(enabled)
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
        graph.accumulate(leaf, value)


def run(roots, *, retain: bool, create: bool = False, inputs=None, accumulate=None, ran=None) -> list[Value | None] | None:
    """Runs the graph from (node, output number, cotangent) roots.

    inputs: (node, output number) pairs whose gradients are wanted: they are returned, and no leaf is touched; only
        nodes that lead to them run. None: leaves accumulate.
    create: the backward is recorded itself.
    accumulate: takes what arrives at leaves, in place of adding it to their grads.
    """
    enabled = T.grad
    executor.set_grad(create)
    try:
        return _run(roots, retain, inputs, accumulate or graph.accumulate, ran)
    finally:
        executor.set_grad(enabled)


def _run(roots, retain, inputs, accumulate, ran):
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
    leads = _leading(seen, inputs) if inputs is not None else None
    captured: dict = {}
    wanted = {} if inputs is None else {(node, nr) for node, nr in inputs}
    buffers: dict = {}
    ready = []
    for node, nr, ct in roots:
        _put(buffers, node, nr, ct)
        if not dependencies.get(node) and all(r[2] is not node for r in ready):
            heapq.heappush(ready, (-node.sequence, id(node), node))
    while ready:
        node = heapq.heappop(ready)[2]
        cts = buffers.pop(node, None) or [None] * node.n_outputs
        if leads is None or node in leads:
            if any(ct is not None for ct in cts):
                cts = _before(node, cts)
            for nr, ct in enumerate(cts):
                if (node, nr) in wanted:
                    captured[node, nr] = ct
            if type(node) is AccumulateGrad:
                grads = []
                if inputs is None and cts[0] is not None:
                    accumulate(node, cts[0])
            elif inputs is not None and node not in leads.get("inner", ()):
                grads = [None] * len(node.edges)
            elif all(ct is None for ct in cts):
                grads = [None] * len(node.edges)
            else:
                grads = node.apply(cts)
                if anomaly:
                    _check_nan(node, grads)
            if ran is not None:
                ran.append(node)
            if node.post_hooks:
                grads = _after(node, grads, cts)
            if not retain and type(node) is not AccumulateGrad:
                node.release()
        else:
            grads = [None] * len(node.edges)
        for edge, grad in zip(node.edges, grads, strict=True):
            if edge is None:
                continue
            target, nr = edge
            if grad is not None:
                _put(buffers, target, nr, grad)
            dependencies[target] -= 1
            if not dependencies[target]:
                heapq.heappush(ready, (-target.sequence, id(target), target))
    if inputs is not None:
        return [captured.get(pair) for pair in inputs]
    return None


def _leading(seen, inputs) -> dict:
    """The nodes on a way to the inputs; under "inner" those that must run, not only hand over."""
    targets = {node for node, _ in inputs}
    order, done, stack = [], set(), [(n, False) for n in seen]
    while stack:
        node, expanded = stack.pop()
        if expanded:
            order.append(node)
            continue
        if node in done:
            continue
        done.add(node)
        stack.append((node, True))
        stack.extend((e[0], False) for e in node.edges if e is not None and e[0] not in done)
    inner: set = set()
    for node in order:
        if any(e is not None and (e[0] in inner or e[0] in targets) for e in node.edges):
            inner.add(node)
    leads: dict = dict.fromkeys(inner | targets, True)
    leads["inner"] = inner
    return leads


def _put(buffers, node, nr: int, ct: Value) -> None:
    cts = buffers.get(node)
    if cts is None:
        cts = buffers[node] = [None] * node.n_outputs
    cts[nr] = ct if cts[nr] is None else add(cts[nr], ct)


def _before(node, cts):
    """Runs what looks at a node's incoming gradients: hooks on tensors, retained grads, the node's own hooks."""
    if node.tensor_hooks:
        for nr, hooks in node.tensor_hooks.items():
            for fn in list(hooks.values()):
                if cts[nr] is not None:
                    result = fn(graph.wrap(cts[nr]))
                    if result is not None:
                        cts[nr] = graph.unwrap(result)
    if node.retain:
        for nr, keep in node.retain.items():
            if cts[nr] is not None:
                keep(cts[nr])
    if node.pre_hooks:
        for fn in list(node.pre_hooks.values()):
            result = fn(tuple(None if ct is None else graph.wrap(ct) for ct in cts))
            if result is not None:
                cts = [None if r is None else graph.unwrap(r) for r in result]
    return cts


def _after(node, grads, cts):
    for fn in list(node.post_hooks.values()):
        result = fn(
            tuple(None if g is None else graph.wrap(g) for g in grads),
            tuple(None if ct is None else graph.wrap(ct) for ct in cts),
        )
        if result is not None:
            result = result if isinstance(result, tuple) else (result,)
            grads = [None if r is None else graph.unwrap(r) for r in result]
    return grads


def _check_nan(node, grads) -> None:
    for nr, grad in enumerate(grads):
        if grad is not None and bool(jnp.isnan(executor.concrete(grad)).any()):
            raise RuntimeError(f"Function '{node.name()}' returned nan values in its {nr}th output.")
