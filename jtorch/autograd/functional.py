"""Jacobians, Hessians and products with them, by repeated backwards."""

from __future__ import annotations

from collections.abc import Callable

from jtorch._autograd.modes import enable_grad
from jtorch._tensor.backward import grad
from jtorch._tensor.base import Tensor
from jtorch._tensor.creation import zeros_like
from jtorch._tensor.derive import call


def _prepare(inputs, create_graph: bool):
    several = isinstance(inputs, tuple)
    tensors = inputs if several else (inputs,)
    return several, tuple(t.view_as(t) if create_graph and t.requires_grad else t.detach().requires_grad_() for t in tensors)


def _outputs(func, inputs):
    out = func(*inputs)
    return (True, out) if isinstance(out, tuple) else (False, (out,))


def _finish(t: Tensor, create_graph: bool) -> Tensor:
    return t if create_graph else t.detach()


def jacobian(func: Callable, inputs, create_graph: bool = False, strict: bool = False, vectorize: bool = False, strategy: str = "reverse-mode"):
    """The Jacobian of `func` at `inputs`: for each output and input, a tensor of both their shapes."""
    with enable_grad():
        many_in, xs = _prepare(inputs, create_graph)
        many_out, ys = _outputs(func, xs)
        rows = []
        for y in ys:
            flat = y.reshape(-1)
            columns: list[list[Tensor]] = [[] for _ in xs]
            for i in range(flat.numel()):
                gs = grad(flat[i], xs, retain_graph=True, create_graph=create_graph, allow_unused=True) if flat.requires_grad else [None] * len(xs)
                for column, g, x in zip(columns, gs, xs, strict=True):
                    if g is None and strict:
                        raise RuntimeError("Output of the user-provided function is independent of an input. This is not allowed in strict mode.")
                    column.append(zeros_like(x) if g is None else g)
            rows.append(
                tuple(
                    _finish(call("stack", c).reshape((*y.shape, *x.shape)) if c else zeros_like(x).reshape((*y.shape, *x.shape)), create_graph)
                    for c, x in zip(columns, xs, strict=True)
                )
            )
    table = tuple(r if many_in else r[0] for r in rows)
    return table if many_out else table[0]


def hessian(func: Callable, inputs, create_graph: bool = False, strict: bool = False, vectorize: bool = False, outer_jacobian_strategy: str = "reverse-mode"):
    """The Hessian of a scalar function at `inputs`."""
    many = isinstance(inputs, tuple)

    def gradient(*xs):
        y = func(*xs)
        if not isinstance(y, Tensor) or y.numel() != 1:
            raise RuntimeError("The Tensor returned by the function given to hessian should contain a single element")
        gs = grad(y.reshape(()), xs, create_graph=True, allow_unused=True)
        gs = tuple(zeros_like(x) if g is None else g for g, x in zip(gs, xs, strict=True))
        return gs if many else gs[0]

    return jacobian(gradient, inputs, create_graph, strict)


def vjp(func: Callable, inputs, v=None, create_graph: bool = False, strict: bool = False):
    """(outputs, vᵀJ)."""
    with enable_grad():
        many_in, xs = _prepare(inputs, create_graph)
        many_out, ys = _outputs(func, xs)
        vs = (None,) * len(ys) if v is None else (v if isinstance(v, tuple) else (v,))
        gs = grad(ys, xs, vs, create_graph=create_graph, allow_unused=True, materialize_grads=True)
    gs = tuple(_finish(g, create_graph) for g in gs)
    ys = tuple(_finish(y, create_graph) for y in ys)
    return (ys if many_out else ys[0]), (gs if many_in else gs[0])


def jvp(func: Callable, inputs, v=None, create_graph: bool = False, strict: bool = False):
    """(outputs, Jv), by differentiating the vjp with respect to its cotangent."""
    with enable_grad():
        _, xs = _prepare(inputs, create_graph)
        vs = tuple(x.new_ones(x.shape) for x in xs) if v is None else (v if isinstance(v, tuple) else (v,))
        many_out, ys = _outputs(func, xs)
        duals = tuple(zeros_like(y).requires_grad_() for y in ys)
        gs = grad(ys, xs, duals, create_graph=True, allow_unused=True, materialize_grads=True)
        used = [(g, t) for g, t in zip(gs, vs, strict=True) if g.requires_grad]
        if used:
            js = grad([g for g, _ in used], duals, [t for _, t in used], create_graph=create_graph, allow_unused=True, materialize_grads=True)
        else:
            js = tuple(zeros_like(y) for y in ys)
    js = tuple(_finish(j, create_graph) for j in js)
    ys = tuple(_finish(y, create_graph) for y in ys)
    return (ys if many_out else ys[0]), (js if many_out else js[0])


def vhp(func: Callable, inputs, v=None, create_graph: bool = False, strict: bool = False):
    """(output, vᵀH) of a scalar function."""
    with enable_grad():
        many, xs = _prepare(inputs, True)
        y = func(*xs)
        gs = grad(y.reshape(()), xs, create_graph=True, allow_unused=True, materialize_grads=True)
        vs = tuple(x.new_ones(x.shape) for x in xs) if v is None else (v if isinstance(v, tuple) else (v,))
        kept = [(g, t) for g, t in zip(gs, vs, strict=True) if g.requires_grad]
        hs = grad([g for g, _ in kept], xs, [t for _, t in kept], create_graph=create_graph, allow_unused=True, materialize_grads=True) if kept else tuple(zeros_like(x) for x in xs)
    hs = tuple(_finish(h, create_graph) for h in hs)
    return _finish(y, create_graph), (hs if many else hs[0])


def hvp(func: Callable, inputs, v=None, create_graph: bool = False, strict: bool = False):
    """(output, Hv) of a scalar function; the Hessian is symmetric."""
    return vhp(func, inputs, v, create_graph, strict)
