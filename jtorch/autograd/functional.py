"""Jacobians, Hessians and products with them, by repeated backwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jtorch._autograd.modes import enable_grad
from jtorch._tensor.backward import grad
from jtorch._tensor.base import Tensor
from jtorch._tensor.creation import zeros_like
from jtorch._tensor.derive import call

_LINEAR = (
    "While computing the {}, found that the jacobian of the user-provided function with respect to input {} is independent of "
    "the input. This is not allowed in strict mode. You should ensure that your function is twice differentiable and that the "
    "jacobian depends on the inputs (this would be violated by a linear function for example)."
)


def _as_tuple(x: Any, what: str, caller: str) -> tuple[bool, tuple[Tensor, ...]]:
    """Whether several were given, and all of them. TypeError for what is no tensor."""
    several = isinstance(x, tuple)
    items = x if several else (x,)
    for i, t in enumerate(items):
        if not isinstance(t, Tensor):
            whose = f"Value {i} of the {what} has type" if several else f"the given {what} has type"
            raise TypeError(
                f"The {what} given to {caller} must be either a Tensor or a tuple of Tensors but {whose} {type(t)}."
            )
    return several, items


def _prepare(inputs, create_graph: bool, caller: str):
    several, tensors = _as_tuple(inputs, "inputs", caller)
    fresh = [t.view_as(t) if create_graph and t.requires_grad else t.detach().requires_grad_() for t in tensors]
    return several, tuple(fresh)


def _outputs(func: Callable, inputs, caller: str, strict: bool):
    several, outs = _as_tuple(func(*inputs), "outputs of the user-provided function", caller)
    if strict:
        for i, y in enumerate(outs):
            if not y.requires_grad:
                raise RuntimeError(
                    f"Output {i} of the user-provided function does not require gradients. The outputs must be computed in a "
                    "differentiable manner from the input when running in strict mode."
                )
    return several, outs


def _vector(v, like: tuple[Tensor, ...], several: bool, whose: str, caller: str) -> tuple[Tensor, ...]:
    """The vector to multiply with, checked against what it multiplies."""
    if v is None:
        if len(like) != 1 or like[0].numel() != 1:
            raise RuntimeError(f"The vector v can only be None if {whose} a single Tensor with a single element.")
        return (like[0].detach().new_ones(like[0].shape),)
    _, vs = _as_tuple(v, "v", caller)
    if len(vs) != len(like):
        if several:
            raise RuntimeError(f"v is a tuple of invalid length: should be {len(like)} but got {len(vs)}.")
        raise RuntimeError("The given v should contain a single Tensor.")
    for i, (a, b) in enumerate(zip(vs, like, strict=True)):
        if a.shape != b.shape:
            entry = f"Entry {i} in v" if several else "v"
            raise RuntimeError(f"{entry} has invalid size: should be {b.shape} but got {a.shape}.")
    return vs


def _finish(t: Tensor, create_graph: bool) -> Tensor:
    return t if create_graph else t.detach()


def _gradients(ys, xs, vs, create_graph: bool, retain: bool | None = None) -> list[Tensor | None]:
    """vᵀJ; None where an input has no part in it."""
    used = [(y, v) for y, v in zip(ys, vs, strict=True) if y.requires_grad]
    if not used:
        return [None] * len(xs)
    return list(grad([y for y, _ in used], xs, [v for _, v in used], retain, create_graph, allow_unused=True))


def _filled(gs, xs, strict_words: str | None) -> list[Tensor]:
    """The gradients, zeros where there is none; RuntimeError in strict mode."""
    for i, g in enumerate(gs):
        if g is None and strict_words is not None:
            raise RuntimeError(strict_words.format(i))
    return [zeros_like(x) if g is None else g for g, x in zip(gs, xs, strict=True)]


def jacobian(
    func: Callable, inputs, create_graph: bool = False, strict: bool = False, vectorize: bool = False,
    strategy: str = "reverse-mode",
):  # fmt: skip
    """The Jacobian of `func` at `inputs`: for each output and input, a tensor of the shapes of both.

    vectorize, strategy: accepted; row by row is how it is done.
    """
    _check_strategy(strategy, vectorize)
    with enable_grad():
        many_in, xs = _prepare(inputs, create_graph, "jacobian")
        many_out, ys = _outputs(func, xs, "jacobian", strict)
        if vectorize and strict:
            raise RuntimeError(
                "torch.autograd.functional.jacobian: `strict=True` and `vectorized=True` are not supported together. Please "
                "either set `strict=False` or `vectorize=False`."
            )
        rows = []
        for nr, y in enumerate(ys):
            words = None
            if strict:
                words = f"Output {nr} of the user-provided function is independent of input {{}}. This is not allowed in strict mode."
            flat = y.reshape(-1)
            columns: list[list[Tensor]] = [[] for _ in xs]
            for i in range(flat.numel()):
                gs = _gradients((flat[i],), xs, (None,), create_graph, True)
                for column, g in zip(columns, _filled(gs, xs, words), strict=True):
                    column.append(g)
            rows.append(
                tuple(
                    _finish(_stacked(c, x).reshape((*y.shape, *x.shape)), create_graph)
                    for c, x in zip(columns, xs, strict=True)
                )
            )
    table = tuple(r if many_in else r[0] for r in rows)
    return table if many_out else table[0]


def _stacked(rows: list[Tensor], x: Tensor) -> Tensor:
    return call("stack", rows) if rows else x.new_zeros((0,))


def _check_strategy(strategy: str, vectorize: bool) -> None:
    if strategy not in ("forward-mode", "reverse-mode"):
        raise AssertionError(
            'Expected strategy to be either "forward-mode" or "reverse-mode". Hint: If your function has more outputs than '
            'inputs, "forward-mode" tends to be more performant. Otherwise, prefer to use "reverse-mode".'
        )
    if strategy == "forward-mode" and not vectorize:
        raise NotImplementedError(
            "Computing Jacobian using forward-AD or forward-over-reverse Hessian isonly implemented for `vectorize=True`."
        )


def _single(y: Any, caller: str) -> Tensor:
    if not isinstance(y, Tensor):
        raise RuntimeError(f"The function given to {caller} should return a single Tensor")
    if y.numel() != 1:
        raise RuntimeError(f"The Tensor returned by the function given to {caller} should contain a single element")
    return y.reshape(())


def hessian(
    func: Callable, inputs, create_graph: bool = False, strict: bool = False, vectorize: bool = False,
    outer_jacobian_strategy: str = "reverse-mode",
):  # fmt: skip
    """The Hessian of a scalar function at `inputs`: for each pair of inputs, a tensor of the shapes of both."""
    many, given = _as_tuple(inputs, "inputs", "hessian")

    def gradient(*xs):
        y = _single(func(*xs), "hessian")
        if strict:
            _outputs(lambda: y, (), "hessian", True)
        gs = _gradients((y,), xs, (None,), True)
        words = (
            "The output of the user-provided function is independent of input {}. This is not allowed in strict mode."
        )
        gs = _filled(gs, xs, words if strict else None)
        for i, g in enumerate(gs):
            if strict and not g.requires_grad:
                raise RuntimeError(_LINEAR.format("hessian", i))
        return tuple(gs)

    rows = jacobian(gradient, given, create_graph, strict, vectorize, outer_jacobian_strategy)
    return rows if many else rows[0][0]


def vjp(func: Callable, inputs, v=None, create_graph: bool = False, strict: bool = False):
    """(outputs, vᵀJ)."""
    with enable_grad():
        many_in, xs = _prepare(inputs, create_graph, "vjp")
        many_out, ys = _outputs(func, xs, "vjp", strict)
        vs = _vector(v, ys, many_out, "the user-provided function returns", "vjp")
        words = (
            "The output of the user-provided function is independent of input {}. This is not allowed in strict mode."
        )
        gs = _filled(_gradients(ys, xs, vs, create_graph), xs, words if strict else None)
    done = tuple(_finish(g, create_graph) for g in gs)
    outs = tuple(_finish(y, create_graph) for y in ys)
    return (outs if many_out else outs[0]), (done if many_in else done[0])


def jvp(func: Callable, inputs, v=None, create_graph: bool = False, strict: bool = False):
    """(outputs, Jv), by differentiating the vjp with respect to its cotangent."""
    with enable_grad():
        many_in, xs = _prepare(inputs, create_graph, "jvp")
        vs = _vector(v, xs, many_in, "the input to the user-provided function is", "jvp")
        many_out, ys = _outputs(func, xs, "jvp", strict)
        duals = tuple(zeros_like(y).requires_grad_() for y in ys)
        gs = _gradients(ys, xs, duals, True)
        used = [(g, t) for g, t in zip(gs, vs, strict=True) if g is not None]
        js = _gradients([g for g, _ in used], duals, [t for _, t in used], create_graph)
        words = (
            "Output {} of the user-provided function is independent of the inputs. This is not allowed in strict mode."
        )
        js = _filled(js, ys, words if strict else None)
    done = tuple(_finish(j, create_graph) for j in js)
    outs = tuple(_finish(y, create_graph) for y in ys)
    return (outs if many_out else outs[0]), (done if many_out else done[0])


def _second(func: Callable, inputs, v, create_graph: bool, strict: bool, caller: str):
    with enable_grad():
        many, xs = _prepare(inputs, True, caller)
        vs = _vector(v, xs, many, "the input to the user-provided function is", caller)
        y = func(*xs)
        flat = _single(y, caller)
        if strict:
            _outputs(lambda: flat, (), caller, True)
        gs = _gradients((flat,), xs, (None,), True)
        kept = [(g, t) for g, t in zip(gs, vs, strict=True) if g is not None and g.requires_grad]
        hs = _gradients([g for g, _ in kept], xs, [t for _, t in kept], create_graph)
        done = tuple(
            _finish(h, create_graph) for h in _filled(hs, xs, _LINEAR.replace("{}", "hessian", 1) if strict else None)
        )
    return _finish(y, create_graph), (done if many else done[0])


def vhp(func: Callable, inputs, v=None, create_graph: bool = False, strict: bool = False):
    """(output, vᵀH) of a scalar function."""
    return _second(func, inputs, v, create_graph, strict, "vhp")


def hvp(func: Callable, inputs, v=None, create_graph: bool = False, strict: bool = False):
    """(output, Hv) of a scalar function; the Hessian is symmetric."""
    return _second(func, inputs, v, create_graph, strict, "hvp")
