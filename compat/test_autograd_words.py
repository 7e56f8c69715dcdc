"""What autograd says and shows: the whole of its messages, names of nodes, what inference_mode forbids."""

from __future__ import annotations

import warnings

import pytest
import torch

from compat import bridge, judge


def _leaf(lib, *values):
    return lib.tensor(list(values) or [1.0, 2.0, 3.0], requires_grad=True)


def _said(function):
    """The result of a call, or the type and all words of its error."""
    try:
        return function()
    except Exception as error:
        return type(error).__name__, str(error).replace("jtorch", "torch")


def _both(case, *args) -> None:
    expected = [_said(lambda: case(torch, *args))]
    for _ in range(3):
        judge.compare(expected, [_said(lambda: case(bridge.library(), *args))], where=case.__name__)


def _call(names, name, lib):
    return names[name](lib)


_ERRORS = {
    "list of numbers": lambda lib: (_leaf(lib) * 2).backward([1.0, 2.0, 3.0]),
    "inputs without grad": lambda lib: (_leaf(lib) * 2).sum().backward(inputs=[lib.ones(2)]),
    "both spellings": lambda lib: lib.autograd.backward(
        _leaf(lib).sum(), grad_tensors=lib.ones(()), grad_variables=lib.ones(())
    ),
    "input no tensor": lambda lib: lib.autograd.grad(_leaf(lib).sum(), "x"),
    "batched shape": lambda lib: lib.autograd.grad(x := _leaf(lib), x, lib.ones(2), is_grads_batched=True),
    "batched without": lambda lib: lib.autograd.grad(x := _leaf(lib), x, is_grads_batched=True),
    "grad of other dtype": lambda lib: setattr(_leaf(lib), "grad", lib.ones(3, dtype=lib.bfloat16)),
    "grad on other device": lambda lib: setattr(_leaf(lib), "grad", lib.ones(3, device="meta")),
    "flag no bool": lambda lib: setattr(_leaf(lib), "requires_grad", 1),
    "flag of middle": lambda lib: setattr(_leaf(lib) * 2, "requires_grad", True),
    "flag of integers": lambda lib: setattr(lib.ones(2, dtype=lib.int64), "requires_grad", True),
    "parameter of integers": lambda lib: lib.nn.Parameter(lib.ones(2, dtype=lib.int64)),
    "mode no bool": lambda lib: lib.set_grad_enabled("a"),
    "item of a leaf": lambda lib: _leaf(lib).__setitem__(0, 1.0),
    "mask of a leaf": lambda lib: _leaf(lib).__setitem__(lib.tensor([True, False, True]), 1.0),
}


@pytest.mark.parametrize("name", list(_ERRORS))
def test_errors(name: str, execution_mode: str) -> None:
    def case(lib):
        return _ERRORS[name](lib)

    _both(case)


_READS = {
    "square": lambda y: y * y,
    "matrix": lambda y: y @ y,
    "function of view": lambda y: y[:2] ** 2,
    "linear of views": lambda y: y.view(3, 1) * y.view(1, 3),
    "not read": lambda y: y + 1,
}


@pytest.mark.parametrize("write", ["add_", "setitem", "view"])
@pytest.mark.parametrize("name", list(_READS))
def test_written_after_it_was_read(name: str, write: str, execution_mode: str) -> None:
    def case(lib):
        x = _leaf(lib)
        y = x * 1
        z = _READS[name](y).sum()
        if write == "add_":
            y.add_(1)
        elif write == "setitem":
            y[0] = 5.0
        else:
            y.view(-1)[0].zero_()
        z.backward()
        return x.grad

    _both(case)


@pytest.mark.parametrize(
    "name",
    ["exp", "relu", "sigmoid", "tanh", "sqrt", "cumprod", "norm", "std", "prod", "logsumexp", "amax", "neg", "sin"],
)
def test_result_written(name: str, execution_mode: str) -> None:
    def case(lib):
        x = _leaf(lib)
        args = (0,) if name in ("cumprod", "logsumexp", "amax") else ()
        z = getattr(x * 1, name)(*args)
        w = z.sum()
        z.add_(1)
        w.backward()
        return x.grad

    _both(case)


def _inference(lib):
    x = _leaf(lib)
    normal = lib.ones(3)
    with lib.inference_mode():
        made = x * 2, lib.zeros(3), x.clone(), lib.tensor([1.0, 2.0])
        views = x[:2], normal.view(3, 1), made[0][1:], made[1].detach()
        normal.add_(1)
        made[1].add_(3)
        inside = lib.is_inference_mode_enabled(), lib.is_grad_enabled()
    y = made[0]
    (normal * x).sum().backward()
    facts = [t.is_inference() for t in (*made, *views, normal, y + 1, y.clone(), y[:1], y.view(3, 1), y.detach())]
    errors = [
        _said(f)
        for f in (
            lambda: y.add_(1), lambda: y.__setitem__(0, 1.0), lambda: y[:1].mul_(2), lambda: y._version, lambda: y.requires_grad_(),
            lambda: y * x, lambda: lib.stack([y, y]).is_inference(), lambda: (x + y).requires_grad, lambda: (y @ x),
        )
    ]  # fmt: skip
    k = made[2].clone().requires_grad_()
    (k * k).sum().backward()
    return inside, facts, errors, k.grad, x.grad, normal, normal._version, made[1] + 1, made[1].is_inference()


def test_inference_mode(execution_mode: str) -> None:
    _both(_inference)


def _function(lib, forward, backward):
    return type("F", (lib.autograd.Function,), {"forward": staticmethod(forward), "backward": staticmethod(backward)})


_FUNCTIONS = {
    "list of gradients": (lambda ctx, a: a * 2, lambda ctx, g: [g], ()),
    "one for two": (lambda ctx, a, k: a * k, lambda ctx, g: g, (3,)),
    "one for a number": (lambda ctx, a, k: a * k, lambda ctx, g: (g, g), (3,)),
    "default counts": (lambda ctx, a, k=2: a * k, lambda ctx, g: (g, None), ()),
    "dirty not returned": (lambda ctx, a: (ctx.mark_dirty(a), a * 1)[1], lambda ctx, g: g, ()),
}


@pytest.mark.parametrize("name", list(_FUNCTIONS))
def test_function(name: str, execution_mode: str) -> None:
    def case(lib):
        forward, backward, more = _FUNCTIONS[name]
        x = _leaf(lib)
        _function(lib, forward, backward).apply(x * 1, *more).sum().backward()
        return x.grad

    _both(case)


def _multi_hooks(lib):
    x, y, z = _leaf(lib), _leaf(lib, 4.0), _leaf(lib, 5.0)
    seen: list = []
    register = lib.autograd.graph.register_multi_grad_hook
    with register((x, y, z), lambda gs: seen.append([g is not None for g in gs])):
        (x.sum() * y + z).sum().backward()
        (x.sum() * y).sum().backward()
    with register((x, y), lambda g: seen.append(g), mode="any"):
        (x.sum() * y).sum().backward()
        (x.sum() * y).sum().backward()
    return seen, _said(lambda: register((lib.ones(1),), print))


def _hook_results(lib):
    said = []
    for given in (1, lib.ones(3)):
        x = _leaf(lib)
        x.register_post_accumulate_grad_hook(lambda p, given=given: given)
        said.append(_said(lambda x=x: (x * 2).sum().backward()))
    for given in (5, [lib.ones(3)]):
        y = _leaf(lib) * 2
        y.grad_fn.register_prehook(lambda gs, given=given: given)
        said.append(_said(lambda y=y: y.sum().backward()))
    return said


def _retained_over_a_write(lib):
    x = _leaf(lib)
    y = x * 3
    y.retain_grad()
    y.mul_(2)
    y.sum().backward()
    return y.retains_grad, y.grad, x.grad


def _mutation_allowed(lib):
    x = _leaf(lib)
    with lib.autograd.graph.allow_mutation_on_saved_tensors():
        y = x * 1
        z = y**2
        y.zero_()
        z.sum().backward()
    return x.grad


def _drawn_over(lib):
    y = _leaf(lib) * 1
    y.normal_()
    return type(y.grad_fn).__name__, y.requires_grad


def _nodes(lib):
    x = _leaf(lib)
    y = x * 2
    n = y.grad_fn
    (x**3).sum().backward(create_graph=True)
    return (
        n(lib.ones(3))[0], (x**2).grad_fn._saved_exponent, x.softmax(0).grad_fn._saved_dim, x.view(1, 3).sum(1).grad_fn._saved_dim,
        x.view(1, 3).sum(1).grad_fn._saved_keepdim, y.sum().grad_fn._saved_self_sym_sizes, x.grad.grad_fn.name(),
    )  # fmt: skip


_CASES = [_multi_hooks, _hook_results, _retained_over_a_write, _mutation_allowed, _drawn_over, _nodes]


@pytest.mark.parametrize("case", _CASES, ids=lambda c: c.__name__)
def test_case(case, execution_mode: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of cycles, once a process
        _both(case)


_SECOND = {
    "pow": lambda x: x**3,
    "exp": lambda x: x.exp(),
    "sin": lambda x: x.sin(),
    "mul": lambda x: x * x.detach(),
    "log": lambda x: x.log(),
    "tanh": lambda x: x.tanh(),
    "sigmoid": lambda x: x.sigmoid(),
    "sqrt": lambda x: x.sqrt(),
    "relu": lambda x: x.relu(),
    "softmax": lambda x: x.softmax(0),
    "cumsum": lambda x: x.cumsum(0),
    "clamp": lambda x: x.clamp(0, 2),
}


@pytest.mark.parametrize("name", list(_SECOND))
def test_names_of_second_gradients(name: str, execution_mode: str) -> None:
    def case(lib):
        x = _leaf(lib)
        y = _SECOND[name](x)
        (g,) = lib.autograd.grad(y, x, lib.ones(3).requires_grad_(), create_graph=True)
        return g.grad_fn.name(), g

    _both(case)


def test_grad_of_middle_warns(execution_mode: str) -> None:
    for lib in (torch, bridge.library()):
        y = _leaf(lib) * 2
        with pytest.warns(UserWarning, match="not a leaf Tensor is being accessed"):
            assert y.grad is None


@pytest.mark.parametrize("name", ["maximum", "minimum", "max", "min"])
def test_gradient_beside_nan(name: str, execution_mode: str) -> None:
    def case(lib):
        x, y = _leaf(lib, 1.0, 2.0, float("nan"), 4.0), _leaf(lib, 1.0, 3.0, 1.0, float("nan"))
        getattr(lib, name)(x, y).sum().backward()
        return x.grad, y.grad

    _both(case)
