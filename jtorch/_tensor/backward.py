"""`backward` and `grad` on tensors: torch's argument checks around the engine."""

from __future__ import annotations

from collections.abc import Sequence

from jtorch._autograd import engine
from jtorch._autograd.graph import node_of
from jtorch._runtime.executor import Value
from jtorch._tensor.base import Tensor, wrap
from jtorch._tensor.derive import cast
from jtorch._tensor.storage import value_of


def _tuple(x) -> tuple:
    return (x,) if isinstance(x, Tensor) else tuple(x)


def _cotangent(t: Tensor, g: Tensor | None, create: bool) -> Value | None:
    """The cotangent to start from: what was given, checked; None for a scalar that starts from one."""
    v = value_of(t)
    if g is None:
        if v.node is None:
            return None
        if v.aval.numel != 1:
            raise RuntimeError("grad can be implicitly created only for scalar outputs")
        if not v.aval.dtype.is_floating_point:
            raise RuntimeError(f"grad can be implicitly created only for real scalar outputs but got {t.dtype}")
        return None
    if not isinstance(g, Tensor):
        raise TypeError(f"gradients can be either Tensors or None, but got {type(g).__name__}")
    if g.shape != t.shape:
        raise RuntimeError(
            f"Mismatch in shape: grad_output[0] has a shape of {g.shape} and output[0] has a shape of {t.shape}."
        )
    if g.dtype.is_complex != t.dtype.is_complex:
        raise RuntimeError(
            "For complex Tensors, both grad_output and output are required to have the same dtype. Mismatch in dtype: "
            f"grad_output[0] has a dtype of {g.dtype} and output[0] has a dtype of {t.dtype}."
        )
    gv = value_of(g)
    return cast(gv, t.dtype) if gv.aval.dtype is not t.dtype else gv


_NO_GRAPH = "element {} of tensors does not require grad and does not have a grad_fn"


def backward(tensors, grad_tensors=None, retain_graph: bool | None = None, create_graph: bool = False, grad_variables=None, inputs=None) -> None:
    """Adds the gradients of `tensors` to the grads of the leaves they were computed from.

    inputs: only these leaves' grads (and these other tensors') are added to.
    """
    if grad_tensors is None:
        grad_tensors = grad_variables
    roots = _tuple(tensors)
    if inputs is not None and not isinstance(inputs, Tensor) and not len(inputs):
        raise RuntimeError("`inputs` argument to `backward()` cannot be empty.")
    given = (None,) * len(roots) if grad_tensors is None else _tuple(grad_tensors)
    retain = create_graph if retain_graph is None else retain_graph
    cts = [_cotangent(t, g, create_graph) for t, g in zip(roots, given, strict=True)]
    for i, t in enumerate(roots):
        if value_of(t).node is None:
            raise RuntimeError(_NO_GRAPH.format(i))
    if len(roots) == 1 and inputs is None and not create_graph:
        engine.backward(value_of(roots[0]), cts[0], retain)
        return
    starts = _starts(roots, cts)
    if inputs is None:
        engine.run(starts, retain=retain, create=create_graph)
        return
    leaves = _tuple(inputs)
    grads = engine.run(starts, retain=retain, create=create_graph, inputs=_places(leaves))
    from jtorch._autograd.graph import AccumulateGrad, accumulate

    for t, g in zip(leaves, grads or (), strict=True):
        if g is not None:
            node = value_of(t).node
            if type(node) is AccumulateGrad:
                accumulate(node, g)
            else:
                t._grad = wrap(g) if t._grad is None else wrap(engine.add(value_of(t._grad), g))


def _starts(roots, cts):
    return [
        (node_of(value_of(t)), value_of(t).nr, ct if ct is not None else engine.ones(value_of(t).aval))
        for t, ct in zip(roots, cts, strict=True)
    ]


def _places(inputs: Sequence[Tensor]):
    places = []
    for t in inputs:
        v = value_of(t)
        node = node_of(v)
        if node is None:
            raise RuntimeError("One of the differentiated Tensors does not require grad")
        places.append((node, v.nr))
    return places


def grad(
    outputs, inputs, grad_outputs=None, retain_graph: bool | None = None, create_graph: bool = False,
    only_inputs: bool = True, allow_unused: bool | None = None, is_grads_batched: bool = False,
    materialize_grads: bool = False,
) -> tuple[Tensor | None, ...]:  # fmt: skip
    """The gradients of `outputs` with respect to `inputs`, returned and added to nothing.

    is_grads_batched: the first dim of each of `grad_outputs` counts several cotangents; the results have it too.
    """
    roots, leaves = _tuple(outputs), _tuple(inputs)
    given = (None,) * len(roots) if grad_outputs is None else _tuple(grad_outputs)
    retain = create_graph if retain_graph is None else retain_graph
    if materialize_grads and allow_unused is False:
        raise ValueError("Expected allow_unused to be True or not passed when materialize_grads=True, but got: allow_unused=False.")
    if is_grads_batched:
        return _batched(roots, leaves, given, retain, create_graph, bool(allow_unused or materialize_grads), materialize_grads)
    cts = [_cotangent(t, g, create_graph) for t, g in zip(roots, given, strict=True)]
    for i, t in enumerate(roots):
        if value_of(t).node is None:
            raise RuntimeError(_NO_GRAPH.format(i))
    grads = engine.run(_starts(roots, cts), retain=retain, create=create_graph, inputs=_places(leaves)) or []
    return _results(leaves, grads, bool(allow_unused or materialize_grads), materialize_grads)


def _results(leaves, grads, allow_unused: bool, materialize: bool):
    results = []
    for t, g in zip(leaves, grads, strict=True):
        if g is None:
            if not allow_unused:
                raise RuntimeError(
                    "One of the differentiated Tensors appears to not have been used in the graph. Set allow_unused=True "
                    "if this is the desired behavior."
                )
            if materialize:
                from jtorch._tensor.creation import zeros_like

                results.append(zeros_like(t))
                continue
        results.append(None if g is None else wrap(g))
    return tuple(results)


def _batched(roots, leaves, given, retain, create, allow_unused, materialize):
    from jtorch._tensor.derive import call

    count = next(g.shape[0] for g in given if g is not None)
    rows = []
    for i in range(count):
        last = i == count - 1
        rows.append(
            grad(
                roots, leaves, [None if g is None else g[i] for g in given], retain_graph=retain or not last,
                create_graph=create, allow_unused=allow_unused, materialize_grads=materialize,
            )
        )  # fmt: skip
    return tuple(None if column[0] is None else call("stack", list(column)) for column in zip(*rows, strict=True))
