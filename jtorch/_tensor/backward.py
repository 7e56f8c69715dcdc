"""`backward` and `grad` on tensors: torch's argument checks around the engine."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from jtorch._autograd import engine
from jtorch._autograd.graph import Edges, node_of
from jtorch._runtime.avals import Size
from jtorch._runtime.executor import Value
from jtorch._tensor.base import Tensor, wrap
from jtorch._tensor.derive import call, cast
from jtorch._tensor.storage import alias, value_of


class GradientEdge(NamedTuple):
    """A place in the graph: a node and which of its outputs."""

    node: Edges
    output_nr: int
    ownership_token: Any = None


def clear_grads(leaves: Iterable[Tensor], set_to_none: bool) -> None:
    """Drops the gradients of some leaves, or fills them with zeros in place, out of the graph."""
    for t in leaves:
        if set_to_none:
            t.grad = None
        elif t.grad is not None:
            if t.grad.grad_fn is not None:
                t.grad.detach_()
            else:
                t.grad.requires_grad_(False)
            t.grad.zero_()


def _tuple(x) -> tuple:
    return (x,) if isinstance(x, Tensor | GradientEdge) else tuple(x)


def _cotangent(t: Tensor | GradientEdge, g: Tensor | None, index: int) -> Value | None:
    """The cotangent to start from: what was given, checked; None for a scalar that starts from one."""
    if isinstance(t, GradientEdge):
        if g is None:
            raise RuntimeError(
                "If a grad_output is None, the corresponding output must be a Tensor and not a GradientEdge"
            )
        return value_of(g)
    v = value_of(t)
    if g is None:
        if v.node is None:
            return None
        if v.aval.numel != 1:
            raise RuntimeError("grad can be implicitly created only for scalar outputs")
        if not v.aval.dtype.is_floating_point:
            raise RuntimeError(f"grad can be implicitly created only for real scalar outputs but got {t.dtype}")
        return None
    if g.shape != t.shape:
        raise RuntimeError(
            f"Mismatch in shape: grad_output[{index}] has a shape of {g.shape} and output[{index}] has a shape of {t.shape}."
        )
    if g.dtype.is_complex != t.dtype.is_complex:
        raise RuntimeError(
            "For complex Tensors, both grad_output and output are required to have the same dtype. Mismatch in dtype: "
            f"grad_output[{index}] has a dtype of {g.dtype} and output[{index}] has a dtype of {t.dtype}."
        )
    gv = value_of(g)
    if gv.aval.dtype is not t.dtype:
        return cast(gv, t.dtype)
    # A leaf would take what it is given for its grad: that must not be the user's own value.
    return alias(gv) if v.node is not None and v.node.kind == 1 else gv


def _cotangents(roots: tuple, given) -> list[Value | None]:
    grads = (None,) * len(roots) if given is None else _tuple(given)
    for g in grads[: len(roots)]:
        if g is not None and not isinstance(g, Tensor):
            raise TypeError(f"gradients can be either Tensors or None, but got {type(g).__name__}")
    if len(grads) != len(roots):
        raise RuntimeError(f"got {len(roots)} tensors and {len(grads)} gradients")
    cts = [_cotangent(t, g, i) for i, (t, g) in enumerate(zip(roots, grads, strict=True))]
    for i, t in enumerate(roots):
        if not isinstance(t, GradientEdge) and value_of(t).node is None:
            raise RuntimeError(f"element {i} of tensors does not require grad and does not have a grad_fn")
    return cts


def backward(
    tensors, grad_tensors=None, retain_graph: bool | None = None, create_graph: bool = False, grad_variables=None,
    inputs=None,
) -> None:  # fmt: skip
    """Adds the gradients of `tensors` to the grads of the leaves they were computed from.

    inputs: only these leaves' grads (and these other tensors') are added to.
    """
    if grad_variables is not None:
        warnings.warn("`grad_variables` is deprecated. Use `grad_tensors` instead.", FutureWarning, stacklevel=2)
        if grad_tensors is not None:
            raise RuntimeError(
                "`grad_tensors` and `grad_variables` (deprecated) arguments both passed to `backward()`. Please only use "
                "`grad_tensors`."
            )
        grad_tensors = grad_variables
    roots = _tuple(tensors)
    leaves = None if inputs is None else _tuple(inputs)
    if leaves is not None and not leaves:
        raise RuntimeError("`inputs` argument to `backward()` cannot be empty.")
    retain = create_graph if retain_graph is None else retain_graph
    cts = _cotangents(roots, grad_tensors)
    if len(roots) == 1 and leaves is None and not create_graph and isinstance(roots[0], Tensor):
        engine.backward(value_of(roots[0]), cts[0], retain)
        return
    if create_graph:
        _warn_of_cycles()
    starts = _starts(roots, cts)
    if leaves is None:
        engine.run(starts, retain=retain, create=create_graph)
        return
    for t in leaves:
        if isinstance(t, Tensor):
            t.retain_grad()
    places = _places(leaves)
    engine.run(starts, retain=retain, create=create_graph, inputs=places, capture=False)


@functools.cache  # once a process, as torch does
def _warn_of_cycles() -> None:
    warnings.warn(
        "Using backward() with create_graph=True will create a reference cycle between the parameter and its gradient which "
        "can cause a memory leak. We recommend using autograd.grad when creating the graph to avoid this. If you have to "
        "use this function, make sure to reset the .grad fields of your parameters to None after use to break the cycle "
        "and avoid the leak.",
        stacklevel=4,
    )


def _starts(roots, cts):
    starts = []
    for t, ct in zip(roots, cts, strict=True):
        if isinstance(t, GradientEdge):
            starts.append((t.node, t.output_nr, ct))
        else:
            v = value_of(t)
            starts.append((node_of(v), v.nr, ct if ct is not None else engine.ones(v.aval)))
    return starts


def _places(inputs: Sequence[Tensor | GradientEdge]):
    places = []
    for t in inputs:
        if isinstance(t, GradientEdge):
            places.append((t.node, t.output_nr))
            continue
        if not isinstance(t, Tensor):
            raise RuntimeError(f"all inputs have to be Tensors or GradientEdges, but got {type(t).__name__}")
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
) -> tuple[Tensor, ...]:  # fmt: skip
    """The gradients of `outputs` with respect to `inputs`, returned and added to nothing.

    is_grads_batched: the first dim of each of `grad_outputs` counts several cotangents; the results have it too.
    """
    if materialize_grads and allow_unused is False:
        raise ValueError(
            "Expected allow_unused to be True or not passed when materialize_grads=True, but got: allow_unused=False."
        )
    roots, leaves = _tuple(outputs), _tuple(inputs)
    if not leaves:
        raise RuntimeError("`inputs` argument to `grad()` cannot be empty.")
    retain = create_graph if retain_graph is None else retain_graph
    unused = bool(allow_unused or materialize_grads)
    if is_grads_batched:
        return _batched(roots, leaves, grad_outputs, retain, create_graph, unused, materialize_grads)
    cts = _cotangents(roots, grad_outputs)
    grads = engine.run(_starts(roots, cts), retain=retain, create=create_graph, inputs=_places(leaves)) or []
    return _results(leaves, grads, unused, materialize_grads)


def _results(leaves, grads, allow_unused: bool, materialize: bool):
    results: list[Any] = []  # None for an input that nothing depends on, where that is allowed
    for i, (t, g) in enumerate(zip(leaves, grads, strict=True)):
        if g is not None:
            results.append(wrap(g))
            continue
        if not allow_unused:
            raise RuntimeError(
                f"The differentiated Tensor at index {i} appears to not have been used in the graph. Set "
                "allow_unused=True if this is the desired behavior."
            )
        results.append(_zeros(t) if materialize else None)
    return tuple(results)


def _zeros(t: Tensor) -> Tensor:
    from jtorch._tensor.creation import zeros_like

    return zeros_like(t)


def _batched(roots, leaves, given, retain, create, allow_unused, materialize) -> tuple[Any, ...]:
    given = (None,) * len(roots) if given is None else _tuple(given)
    for i, (t, g) in enumerate(zip(roots, given, strict=False)):
        if g is None and t.numel() != 1:
            raise RuntimeError("grad can be implicitly created only for scalar outputs")
        if g is not None and g.shape[1:] != t.shape:
            raise RuntimeError(
                "If `is_grads_batched=True`, we interpret the first dimension of each grad_output as the batch dimension. "
                "The sizes of the remaining dimensions are expected to match the shape of corresponding output, but a "
                f"mismatch was detected: grad_output[{i}] has a shape of {Size(g.shape[2:])} and output[{i}] has a "
                f"shape of {t.shape}. If you only want some tensors in `grad_output` to be considered batched, consider "
                "using vmap."
            )
    count = next((g.shape[0] for g in given if g is not None and g.ndim), 0)
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
