"""torch.func: derivatives as functions, vmap, modules as functions of their parameters."""

from __future__ import annotations

import pytest
import torch

from compat import bridge, judge


def _x(lib, *values):
    return lib.tensor(list(values) or [1.0, 2.0, 3.0])


def _said(function):
    try:
        return function()
    except Exception as error:
        return type(error).__name__, str(error).replace("jtorch", "torch")


def _pulled(lib, function, *primals, cotangents, **options):
    out, pull, *aux = lib.func.vjp(function, *primals, **options)
    return out, pull(cotangents), aux


def _without_grad(lib, x):
    with lib.no_grad():
        y = x * 2
    return (x * y).sum()


_CASES = {
    "grad of no scalar": lambda lib: lib.func.grad(lambda x: x)(_x(lib)),
    "grad of a missing argument": lambda lib: lib.func.grad(lambda x: x.sum(), argnums=1)(_x(lib)),
    "grad of no tensor": lambda lib: lib.func.grad(lambda x: 3.0)(_x(lib)),
    "grad with respect to a number": lambda lib: lib.func.grad(lambda x: x)(3.0),
    "grad of integers": lambda lib: lib.func.grad(lambda x: x.sum())(lib.arange(3)),
    "grad with aux": lambda lib: lib.func.grad(lambda x: ((x**2).sum(), x * 3), has_aux=True)(_x(lib)),
    "grad of two": lambda lib: lib.func.grad(lambda x, y: (x * y).sum(), argnums=(0, 1))(_x(lib), _x(lib)),
    "grad of a dict": lambda lib: lib.func.grad(lambda d: (d["b"] * 2).sum())({"b": _x(lib), "a": _x(lib)}),
    "grad past detach": lambda lib: lib.func.grad(lambda x: (x.detach() * x).sum())(_x(lib)),
    "grad past no_grad": lambda lib: lib.func.grad(lambda x: _without_grad(lib, x))(_x(lib)),
    "grad thrice": lambda lib: lib.func.grad(lib.func.grad(lib.func.grad(lib.sin)))(lib.tensor(2.0)),
    "grad_and_value": lambda lib: lib.func.grad_and_value(lambda x: (x**2).sum())(_x(lib)),
    "vjp": lambda lib: _pulled(lib, lambda x, y: (x * y, x), _x(lib), _x(lib), cotangents=(_x(lib), _x(lib))),
    "vjp with aux": lambda lib: _pulled(lib, lambda x: (x.sin(), x), _x(lib), cotangents=_x(lib), has_aux=True),
    "vjp of a wrong shape": lambda lib: _pulled(lib, lib.sin, _x(lib), cotangents=lib.ones(2)),
    "jvp": lambda lib: lib.func.jvp(lambda x, y: (x * y, x.sum()), (_x(lib), _x(lib)), (_x(lib), lib.ones(3))),
    "jvp of no tuple": lambda lib: lib.func.jvp(lib.sin, _x(lib), _x(lib)),
    "jvp of a wrong shape": lambda lib: lib.func.jvp(lib.sin, (_x(lib),), (lib.ones(2),)),
    "linearize": lambda lib: lib.func.linearize(lib.sin, _x(lib))[1](lib.ones(3)),
    "jacrev": lambda lib: lib.func.jacrev(lambda x: (x.view(3, 1) * x[:2], x.sum()))(_x(lib)),
    "jacfwd": lambda lib: lib.func.jacfwd(lambda x: x.view(3, 1) * x[:2])(_x(lib)),
    "jacrev of two": lambda lib: lib.func.jacrev(lambda x, y: x * y, argnums=(0, 1))(_x(lib), _x(lib)),
    "jacrev of no tensor": lambda lib: lib.func.jacrev(lambda x: 3)(_x(lib)),
    "hessian": lambda lib: lib.func.hessian(lambda x, y: (x * y**2).sum(), argnums=(0, 1))(_x(lib), _x(lib)),
    "mixed jacobians": lambda lib: lib.func.jacrev(lib.func.jacfwd(lambda x: (x**3).sum()))(_x(lib)),
    "vmap": lambda lib: lib.vmap(lib.dot, in_dims=(0, None))(lib.ones(2, 3), _x(lib)),
    "vmap of vmap": lambda lib: lib.vmap(lib.vmap(lib.dot, (0, None)), (None, 0))(lib.ones(2, 3), lib.ones(4, 3)) * 2,
    "vmap of grad": lambda lib: lib.vmap(lib.func.grad(lambda x: x**2))(_x(lib)),
    "vmap of hessian": lambda lib: lib.vmap(lib.func.hessian(lambda x: (x**3).sum()))(lib.ones(2, 3)).clone(),
    "vmap of dicts": lambda lib: lib.vmap(lambda d: {"s": d["a"] + d["b"]}, ({"a": 0, "b": None},))(
        {"a": _x(lib), "b": lib.ones(2)}
    ),
    "vmap, results elsewhere": lambda lib: lib.vmap(lambda x: (x, x + 1), out_dims=(0, 1))(lib.ones(2, 3)),
    "vmap in chunks": lambda lib: lib.vmap(lambda x: x * 2, chunk_size=2)(_x(lib)),
    "vmap of sizes": lambda lib: lib.vmap(lib.dot)(lib.ones(2, 3), lib.ones(3, 3)),
    "vmap of a missing dim": lambda lib: lib.vmap(lambda x: x, in_dims=1)(_x(lib)),
    "vmap to a number": lambda lib: lib.vmap(lambda x: 3)(_x(lib)),
    "vmap of a number": lambda lib: lib.vmap(lambda x: x)(3),
    "vmap of chance": lambda lib: lib.vmap(lambda x: lib.randn(()))(_x(lib)),
    "vmap of item": lambda lib: lib.vmap(lambda x: x.item())(_x(lib)),
    "vmap of a branch": lambda lib: lib.vmap(lambda x: x if x > 0 else -x)(_x(lib)),
}


@pytest.mark.parametrize("name", list(_CASES))
def test_func(name: str, execution_mode: str) -> None:
    expected = _said(lambda: _CASES[name](torch))
    for _ in range(2):
        judge.compare(expected, _said(lambda: _CASES[name](bridge.library())), where=name)


def _weights(lib, of):
    """Gradients of a tensor that the function has from elsewhere, and of its argument."""
    w, x = lib.full((3,), 2.0, requires_grad=True), _x(lib).requires_grad_()
    of(w, x).sum().backward()
    return w.grad, x.grad


_OUTSIDE = {
    "grad": lambda lib, w, x: lib.func.grad(lambda a: ((a * w) ** 3).sum())(x),
    "hessian": lambda lib, w, x: lib.func.hessian(lambda a: ((a * w) ** 4).sum())(x),
    "jvp": lambda lib, w, x: lib.func.jvp(lambda a: (a * w) ** 3, (x,), (lib.ones(3),))[1],
    "vmap": lambda lib, w, x: lib.vmap(lambda a: (a * w) ** 2)(x),
    "vmap, argument for all": lambda lib, w, x: lib.vmap(lambda a, b: a * b * w, (0, None))(lib.ones(2, 3), x),
    "second gradient": lambda lib, w, x: lib.autograd.grad(lib.vmap(lambda a: a**3 * w)(x).sum(), x, create_graph=True)[
        0
    ],
}


@pytest.mark.parametrize("name", list(_OUTSIDE))
def test_gradients_from_outside(name: str, execution_mode: str) -> None:
    found = [_weights(lib, lambda w, x, lib=lib: _OUTSIDE[name](lib, w, x)) for lib in (torch, bridge.library())]
    judge.compare(*found, where=name)


def test_ensembles_and_gradients_of_single_examples(execution_mode: str) -> None:
    def case(lib):
        func = lib.func
        models = [lib.nn.Linear(3, 2) for _ in range(3)]
        with lib.no_grad():
            for i, m in enumerate(models):
                for p in m.parameters():
                    p.copy_(lib.arange(float(p.numel())).view(p.shape) + i)
        state, buffers = func.stack_module_state(models)
        x = lib.arange(12.0).view(4, 3)
        out = lib.vmap(lambda p, b, x: func.functional_call(models[0], (p, b), (x,)), (0, 0, None))(state, buffers, x)
        out.sum().backward()
        own = {name: p.detach() for name, p in models[0].named_parameters()}
        single = lib.vmap(func.grad(lambda p, x: func.functional_call(models[0], p, x).square().sum()), (None, 0))(
            own, x
        )
        said = [
            _said(lambda: func.functional_call(models[0], {"weight": x}, x, strict=True)),
            _said(lambda: func.stack_module_state([])),
            func.functional_call(models[0], {"other": x}, x).detach(),
        ]
        return out.detach(), {n: (p.grad, p.requires_grad) for n, p in state.items()}, list(single), single, said

    judge.compare(case(torch), case(bridge.library()))


def test_forward_ad(execution_mode: str) -> None:
    def case(lib):
        ad = lib.autograd.forward_ad
        x, w = _x(lib), lib.full((3,), 2.0, requires_grad=True)
        found = [_said(lambda: ad.make_dual(x, x)), _said(lambda: ad.exit_dual_level())]
        with ad.dual_level() as level:
            d = ad.make_dual(x, lib.ones(3))
            e = ad.make_dual(x * 2, x)
            found += [level, ad.unpack_dual(d * d), ad.unpack_dual(x), ad.unpack_dual(d.sin().sum() * e)]
            found += [ad.unpack_dual(d.clone().mul_(d))[1], ad.unpack_dual(d.detach())[1], ad.unpack_dual(d)]
            found += [_said(lambda: ad.make_dual(d, x)), _said(lambda: ad.make_dual(x, lib.ones(2)))]
            found += [_said(lambda: ad.make_dual(lib.arange(3), x)), _said(ad.enter_dual_level)]
            primal, tangent = ad.unpack_dual(d * d * w)
            found += [primal.detach(), primal.requires_grad, tangent.detach(), lib.autograd.grad(tangent.sum(), w)[0]]
        return [*found, ad.unpack_dual(d)[1]]

    judge.compare(case(torch), case(bridge.library()))
