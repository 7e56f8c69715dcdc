"""Derivatives of functions, from the autograd graph that a call of the function leaves."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jtorch
from jtorch._autograd.modes import enable_grad
from jtorch._tensor.backward import grad as gradients
from jtorch._tensor.tensor import Tensor
from jtorch.func import _tree
from jtorch.func._level import Level, settled

ArgNums = int | tuple[int, ...]


def _chosen(args: tuple, argnums: ArgNums) -> Any:
    """The arguments that a derivative is taken of."""
    for n in (argnums,) if isinstance(argnums, int) else argnums:
        if not -len(args) <= n < len(args):
            raise RuntimeError(f"Got argnum={n}, but only {len(args)} positional inputs")
    return args[argnums] if isinstance(argnums, int) else tuple(args[n] for n in argnums)


def _with(args: tuple, argnums: ArgNums, chosen: Any) -> list:
    """The arguments with others in the place of the chosen ones."""
    made = list(args)
    for n, x in [(argnums, chosen)] if isinstance(argnums, int) else zip(argnums, chosen, strict=True):
        made[n] = x
    return made


def _split_aux(result: Any, has_aux: bool, name: str) -> tuple[Any, Any]:
    if not has_aux:
        return result, None
    if not isinstance(result, tuple) or len(result) != 2:
        raise RuntimeError(f"{name}: output of function f should be a tuple: (output, aux) if has_aux is True")
    return result


def _pull(outs: Sequence[Tensor], inputs: Sequence[Tensor], cts: Sequence[Tensor], empty: bool = False) -> list[Any]:
    """The gradients of inputs, part of the graph; zeros (or, if asked, None) where nothing depends on one."""
    pairs = [(o, ct) for o, ct in zip(outs, cts, strict=True) if o.requires_grad]
    found: Sequence[Any] = [None] * len(inputs)
    if pairs and inputs:
        found = gradients(
            [o for o, _ in pairs], inputs, [ct for _, ct in pairs], create_graph=True, allow_unused=True
        )  # fmt: skip
    return [jtorch.zeros_like(x) if g is None and not empty else g for g, x in zip(found, inputs, strict=True)]


def grad_and_value(func: Callable[..., Any], argnums: ArgNums = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function that gives the gradient of a scalar `func`, and its value: (gradient, value), or with aux
    (gradient, (value, aux)).

    argnums: which arguments, each a tensor or a nest of them; a tuple gives a tuple of gradients.
    """

    @functools.wraps(func)
    def run(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        name = "grad_and_value(f)(*args)"
        with Level() as level, enable_grad():
            inputs = level.fresh(_chosen(args, argnums))
            out, aux = _split_aux(func(*_with(args, argnums, inputs), **kwargs), has_aux, name)
            if not isinstance(out, Tensor):
                raise RuntimeError(f"{name}: Expected f(*args) to return a Tensor, got {type(out)}")
            if out.ndim:
                raise RuntimeError(
                    f"{name}: Expected f(*args) to return a scalar Tensor, got tensor with {out.ndim} dims. Maybe you "
                    "wanted to use the vjp or jacrev APIs instead?"
                )
            flat = _tree.leaves(inputs)
            made = _tree.rebuild(inputs, iter(_pull([out], flat, [jtorch.ones_like(out)])))
        value = settled(out)
        return settled(made), (value, settled(aux)) if has_aux else value

    return run


def grad(func: Callable[..., Any], argnums: ArgNums = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function that gives the gradient of a scalar `func`; with aux, (gradient, aux)."""
    both = grad_and_value(func, argnums, has_aux)

    @functools.wraps(func)
    def run(*args: Any, **kwargs: Any) -> Any:
        made, value = both(*args, **kwargs)
        return (made, value[1]) if has_aux else made

    return run


def _only_tensors(out: Any, name: str) -> list[Tensor]:
    flat = _tree.leaves(out)
    for o in flat:
        if not isinstance(o, Tensor):
            raise RuntimeError(f"{name}: expected f(*primals) to return only tensors, got unsupported type {type(o)}")
    return flat


def vjp(func: Callable[..., Any], *primals: Any, has_aux: bool = False) -> tuple[Any, ...]:
    """`func(*primals)`, and a function from cotangents of its result to those of the primals (a tuple); then aux."""
    with Level() as level, enable_grad():
        inputs = level.fresh(primals)
        out, aux = _split_aux(func(*inputs), has_aux, "vjp(f, *primals)")
        outs = _only_tensors(out, "vjp(f, *primals)")
    flat = _tree.leaves(inputs)

    def pull(cotangents: Any, retain_graph: bool = True, create_graph: bool | None = None) -> Any:
        if _tree.form(cotangents) != _tree.form(out):
            raise RuntimeError(
                "Expected pytree structure of cotangents to be the same as pytree structure of outputs to the function. "
                f"cotangents: {_tree.form(cotangents)}, primal output: {_tree.form(out)}"
            )
        with enable_grad():
            made = _pull(outs, flat, _tree.leaves(cotangents))
        return settled(_tree.rebuild(inputs, iter(made)))

    return (settled(out), pull, settled(aux)) if has_aux else (settled(out), pull)


class Pushed:
    """Tangents of a function's results, as the derivative of its vjp, which is linear in the cotangents."""

    def __init__(self, level: Level, outs: list[Tensor], inputs: list[Tensor]):
        self.outs = outs
        self.seeds = [level.fresh(jtorch.zeros_like(o.detach())) for o in outs]
        self.pulled = _pull(outs, inputs, self.seeds, empty=True)
        self.depends = any(g is not None for g in self.pulled)

    def __call__(self, tangents: Sequence[Tensor]) -> list[Tensor]:
        pairs = [(g, t) for g, t in zip(self.pulled, tangents, strict=True) if g is not None]
        return _pull([g for g, _ in pairs], self.seeds, [t for _, t in pairs])


def jvp(
    func: Callable[..., Any], primals: tuple, tangents: tuple, *, strict: bool = False, has_aux: bool = False
) -> tuple[Any, ...]:
    """`func(*primals)`, and its directional derivative along `tangents`; then aux. By two reverse passes."""
    name = "jvp(f, primals, tangents)"
    for what, given in (("primals", primals), ("tangents", tangents)):
        if not isinstance(given, tuple):
            raise RuntimeError(f"{name}: Expected {what} to be a tuple. E.g. it should be valid to call f(*{what}).")
    if _tree.form(primals) != _tree.form(tangents):
        raise RuntimeError(f"{name}: Expected primals and tangents to have the same python structure.")
    for x, t in zip(_tree.leaves(primals), _tree.leaves(tangents), strict=True):
        if x.shape != t.shape:
            raise RuntimeError(
                "Trying to set a forward gradient that has a different size than that of the original Tensor, this is not "
                f"supported. Tensor is of size {list(x.shape)} while the given forward gradient is of size {list(t.shape)}."
            )
    with Level() as level, enable_grad():
        inputs = level.fresh(primals)
        out, aux = _split_aux(func(*inputs), has_aux, name)
        outs = _only_tensors(out, name)
        pushed = Pushed(level, outs, _tree.leaves(inputs))(_tree.leaves(tangents))
    made = settled(out), settled(_tree.rebuild(out, iter(pushed)))
    return (*made, settled(aux)) if has_aux else made


def linearize(func: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[..., Any]]:
    """`func(*primals)`, and the function from tangents of the primals to those of the result."""
    with Level() as level, enable_grad():
        inputs = level.fresh(primals)
        out = func(*inputs)
        pushed = Pushed(level, _only_tensors(out, "linearize(f, *primals)"), _tree.leaves(inputs))

    def push(*tangents: Any) -> Any:
        with enable_grad():
            made = pushed(_tree.leaves(tangents))
        return settled(_tree.rebuild(out, iter(made)))

    return settled(out), push


def _basis(x: Tensor) -> list[Tensor]:
    """The unit tensors of a tensor's shape."""
    return [row.reshape(x.shape) for row in jtorch.eye(x.numel(), dtype=x.dtype, device=x.device)]


def _jacobian(
    func: Callable[..., Any], argnums: ArgNums, has_aux: bool, name: str, rows: Callable
) -> Callable[..., Any]:
    @functools.wraps(func)
    def run(*args: Any, **kwargs: Any) -> Any:
        with Level() as level, enable_grad():
            inputs = level.fresh(_chosen(args, argnums))
            out, aux = _split_aux(func(*_with(args, argnums, inputs), **kwargs), has_aux, name)
            outs, flat = _only_tensors(out, "vjp(f, *primals)"), _tree.leaves(inputs)
            table = rows(level, outs, flat)
            made = _tree.rebuild(out, iter([_tree.rebuild(inputs, iter(row)) for row in table]))
        return (settled(made), settled(aux)) if has_aux else settled(made)

    return run


def _by_rows(level: Level, outs: list[Tensor], inputs: list[Tensor]) -> list[list[Tensor]]:
    table = []
    for o in outs:
        pulled = [_pull([o], inputs, [ct]) for ct in _basis(o)]
        table.append([
            jtorch.stack([p[i] for p in pulled]).reshape(*o.shape, *x.shape) if pulled else x.new_zeros((*o.shape, *x.shape))
            for i, x in enumerate(inputs)
        ])  # fmt: skip
    return table


def _by_columns(level: Level, outs: list[Tensor], inputs: list[Tensor]) -> list[list[Tensor]]:
    push = Pushed(level, outs, inputs)
    table: list[list[Tensor]] = [[] for _ in outs]
    for i, x in enumerate(inputs):
        rest = [jtorch.zeros_like(y) for y in inputs]
        pushed = [push([*rest[:i], t, *rest[i + 1 :]]) for t in _basis(x)]
        for row, (nr, o) in zip(table, enumerate(outs), strict=True):
            if not pushed:
                row.append(o.new_zeros((*o.shape, *x.shape)))
                continue
            columns = jtorch.stack([p[nr] for p in pushed]).reshape(*x.shape, *o.shape)
            row.append(columns.permute(*range(x.ndim, columns.ndim), *range(x.ndim)))
    return table


def jacrev(
    func: Callable[..., Any], argnums: ArgNums = 0, *, has_aux: bool = False, chunk_size: int | None = None,
    _preallocate_and_copy: bool = False,
) -> Callable[..., Any]:  # fmt: skip
    """A function that gives the Jacobian of `func`, result dims first, by reverse mode: a pass for each result element."""
    if chunk_size is not None and chunk_size <= 0:
        raise ValueError("jacrev: `chunk_size` should be greater than 0.")
    return _jacobian(func, argnums, has_aux, "vjp(f, *primals)", _by_rows)


def jacfwd(
    func: Callable[..., Any], argnums: ArgNums = 0, has_aux: bool = False, *, randomness: str = "error"
) -> Callable[..., Any]:
    """A function that gives the Jacobian of `func`, result dims first: a pass for each element of the arguments."""
    return _jacobian(func, argnums, has_aux, "jvp(f, primals, tangents)", _by_columns)


def hessian(func: Callable[..., Any], argnums: ArgNums = 0) -> Callable[..., Any]:
    """A function that gives the second derivatives of `func`."""
    return jacfwd(jacrev(func, argnums), argnums)
