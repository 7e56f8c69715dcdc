"""Gradients where a function bends, where elements are equal, and at what is no number; gradients of high order."""

from __future__ import annotations

import itertools

import pytest
import torch

from compat import bridge, judge

_NAN, _INF = float("nan"), float("inf")
_VALUES = [0.0, 1.0, -1.0, 2.0, _NAN, _INF, -_INF]
_PAIRS = list(zip(*itertools.product(_VALUES, _VALUES), strict=True))

_OF_TWO = {
    "amax": lambda lib, x, y: lib.stack([x, y]).amax(0),
    "aminmax": lambda lib, x, y: lib.aminmax(lib.stack([x, y]), dim=0)[0],
    "clamp": lambda lib, x, y: lib.clamp(x, y, lib.ones_like(y)),
    "clamp both": lambda lib, x, y: lib.clamp(x, lib.ones_like(y), y) + lib.clamp(x, x, y),
    "clamp_max": lambda lib, x, y: x.clamp_max(y),
    "clamp_min": lambda lib, x, y: x.clamp_min(y),
    "copysign": lambda lib, x, y: lib.copysign(x, y),
    "fmax": lambda lib, x, y: lib.fmax(x, y),
    "max": lambda lib, x, y: lib.stack([x, y]).max(0)[0],
    "maximum": lambda lib, x, y: lib.maximum(x, y),
    "norm(inf)": lambda lib, x, y: lib.stack([x, y]).norm(_INF, dim=0),
    "norm(-inf)": lambda lib, x, y: lib.stack([x, y]).norm(-_INF, dim=0),
    "norm(1)": lambda lib, x, y: lib.stack([x, y]).norm(1, dim=0),
    "pow": lambda lib, x, y: lib.pow(x, y),
    "xlog1py": lambda lib, x, y: lib.special.xlog1py(x, y),
    "xlogy": lambda lib, x, y: lib.xlogy(x, y),
}


@pytest.mark.parametrize("name", list(_OF_TWO))
def test_of_two(name: str, execution_mode: str) -> None:
    def case(lib):
        x, y = (lib.tensor(v, requires_grad=True) for v in _PAIRS)
        result = _OF_TWO[name](lib, x, y)
        result.mul(lib.arange(1.0, len(_PAIRS[0]) + 1)).sum().backward()
        return result.detach(), x.grad, y.grad

    judge.compare(case(torch), case(bridge.library()), where=name)


_OF_ONE = {
    "celu": lambda lib, x: lib.nn.functional.celu(x),
    "clamp": lambda lib, x: x.clamp(-1, 1),
    "elu": lambda lib, x: lib.nn.functional.elu(x),
    "hardsigmoid": lambda lib, x: lib.nn.functional.hardsigmoid(x),
    "hardswish": lambda lib, x: lib.nn.functional.hardswish(x),
    "softshrink": lambda lib, x: lib.nn.functional.softshrink(x),
    "xlogy": lambda lib, x: lib.xlogy(x, x),
}


@pytest.mark.parametrize("name", list(_OF_ONE))
def test_of_one(name: str, execution_mode: str) -> None:
    def case(lib):
        x = lib.tensor([*_VALUES, 3.0, -3.0, 0.5, -0.5], requires_grad=True)
        _OF_ONE[name](lib, x).sum().backward()
        return x.grad

    judge.compare(case(torch), case(bridge.library()), where=name)


@pytest.mark.parametrize("power", [4, 2, 1, 0, 3.0, 2.5, -1, "square"])
def test_gradients_of_powers(power, execution_mode: str) -> None:
    """Which of them hang on the leaf yet: the last but one, a constant, does."""

    def case(lib):
        x = lib.tensor([1.0, 2.0, 3.0], requires_grad=True)
        y = x.square() if power == "square" else x**power
        found = []
        while y.requires_grad and len(found) < 6:
            (y,) = lib.autograd.grad(y.sum(), x, create_graph=True)
            found.append((y.detach() + 0, y.requires_grad, y.is_leaf))
        return found

    judge.compare(case(torch), case(bridge.library()), where=str(power))


def test_complex_gradient_of_a_real_input(execution_mode: str) -> None:
    def case(lib):
        class Twice(lib.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                return x * 2

            @staticmethod
            def backward(ctx, g):
                return g.to(lib.complex64)

        x = lib.ones(2, requires_grad=True)
        with pytest.raises(RuntimeError) as error:
            Twice.apply(x).sum().backward()
        return str(error.value)

    assert case(torch) == case(bridge.library())


@pytest.mark.parametrize("name", ["T", "grad_fn", "is_leaf", "output_nr", "requires_grad", "retains_grad", "shape"])
def test_facts_that_cannot_be_set(name: str) -> None:
    def case(lib):
        x = lib.ones(2, requires_grad=True) * 2
        with pytest.raises((AttributeError, RuntimeError)) as error:
            setattr(x, name, True) if name != "requires_grad" else setattr(x, name, False)
        return type(error.value), str(error.value)

    assert case(torch) == case(bridge.library())


def test_as_strided_of_a_leaf_that_is_a_view(execution_mode: str) -> None:
    def case(lib):
        found = []
        for x in (lib.arange(6.0).view(2, 3), lib.arange(12.0)[2:8], lib.arange(6.0).view(2, 3).t()):
            x.requires_grad_()
            y = x.as_strided((2, 2), (2, 1))
            (y * lib.arange(4.0).view(2, 2)).sum().backward()
            found += [y.detach(), type(y.grad_fn).__name__, x.grad]
        return found

    for _ in range(3):  # also where the graph was freed before anyone looked at it
        judge.compare(case(torch), case(bridge.library()))


def test_second_gradient_through_a_write_in_place(execution_mode: str) -> None:
    def case(lib):
        x = lib.tensor([1.0, 2.0, 3.0], requires_grad=True)
        y = x.clone()
        y.mul_(x).sin_()
        (g,) = lib.autograd.grad(y.sum(), x, create_graph=True)
        (h,) = lib.autograd.grad(g.sum(), x, create_graph=True)
        return g.detach(), h.detach(), lib.autograd.grad(h.sum(), x)

    for _ in range(3):
        judge.compare(case(torch), case(bridge.library()))


_UNDERIVED = {
    "unique": lambda lib, x: x.unique(),
    "unique with inverse": lambda lib, x: lib.unique(x, return_inverse=True)[0],
    "unique rows": lambda lib, x: lib.unique(x.view(3, 1), dim=0),
    "unique_consecutive": lambda lib, x: x.unique_consecutive(),
}


@pytest.mark.parametrize("name", list(_UNDERIVED))
def test_what_has_no_derivative(name: str, execution_mode: str) -> None:
    def case(lib):
        y = _UNDERIVED[name](lib, lib.tensor([1.0, 2.0, 2.0], requires_grad=True))
        with pytest.raises(NotImplementedError) as error:
            (y * 2).sum().backward()
        return y.detach(), y.requires_grad, type(y.grad_fn).__name__, str(error.value)

    judge.compare(case(torch), case(bridge.library()))


@pytest.mark.parametrize("shape", [(4, 8), (2, 4, 8), (1, 2, 4, 8)])
def test_names_of_attention(shape) -> None:
    def case(lib):
        q = lib.ones(shape, requires_grad=True)
        f = lib.nn.functional.scaled_dot_product_attention
        return [type(y.grad_fn).__name__ for y in (f(q, q, q), f(q, q, q, dropout_p=0.1), lib.kron(q, q))]

    assert case(torch) == case(bridge.library())


def test_functional_in_strict_mode_and_hooks_that_give_no_tensor(execution_mode: str) -> None:
    def case(lib):
        functional = lib.autograd.functional
        x, y = lib.tensor([1.0, 2.0]), lib.tensor([3.0, 4.0])
        found = []
        for call in (
            lambda: functional.hessian(lambda a, b: (a**2 * b).sum(), (x, y), strict=True),
            lambda: functional.jacobian(lambda a: lib.ones(2), x, strict=True, vectorize=True),
            lambda: functional.jacobian(lambda a: a * 2, x, strict=True, vectorize=True),
        ):
            with pytest.raises(RuntimeError) as error:
                call()
            found.append(str(error.value))
        x.requires_grad_()
        with lib.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: 1):
            z = (x * x).sum()
        with pytest.raises(TypeError) as error:
            z.backward()
        return [*found, str(error.value)]

    assert case(torch) == case(bridge.library())


def test_gradients_that_do_not_hang_on_an_input(execution_mode: str) -> None:
    def case(lib):
        a, b = (lib.tensor([1.0, 2.0], requires_grad=True) for _ in range(2))
        ga, gb = lib.autograd.grad((a**2 * b).sum(), (a, b), create_graph=True)
        found = [lib.autograd.grad(ga.sum(), (a, b), retain_graph=True)]
        found += [lib.autograd.grad(gb.sum(), (a, b), retain_graph=True, allow_unused=True)]
        with pytest.raises(RuntimeError) as error:
            lib.autograd.grad(gb.sum(), b)
        return [*found, str(error.value)]

    for _ in range(3):
        judge.compare(case(torch), case(bridge.library()))


_LISTED = {
    "add": lambda lib, x: lib.add(x, x, alpha=2),
    "clamp": lambda lib, x: x.clamp(0, 1),
    "div": lambda lib, x: x / x,
    "exp": lambda lib, x: x.exp(),
    "log": lambda lib, x: x.log(),
    "log_softmax": lambda lib, x: x.log_softmax(0),
    "pow": lambda lib, x: x**2,
    "relu": lambda lib, x: x.relu(),
    "where": lambda lib, x: lib.where(x > 1, x, x),
}


@pytest.mark.parametrize("name", list(_LISTED))
def test_what_nodes_list(name: str, execution_mode: str) -> None:
    def case(lib):
        node = _LISTED[name](lib, lib.tensor([[1.0, 2.0]], requires_grad=True)).grad_fn
        names = [n for n in dir(node) if n.startswith("_saved") or n in ("name", "metadata", "next_functions")]
        return names, node.requires_grad, [type(getattr(node, n)).__name__ for n in names if n[0] == "_"]

    assert case(torch) == case(bridge.library())


def test_saved_indices(execution_mode: str) -> None:
    def case(lib):
        return lib.tensor([[1.0, 2.0], [4.0, 3.0]], requires_grad=True).max(1)[0].grad_fn._saved_indices

    judge.compare(case(torch), case(bridge.library()))


def test_write_to_a_view_made_in_inference_mode(execution_mode: str) -> None:
    def case(lib):
        y = lib.ones(3, requires_grad=True) * 2
        plain = lib.ones(3)
        with lib.inference_mode():
            views = [y[:2], y[:2][:1]]
            part = plain[:2]
        found = []
        for v in views:
            with pytest.raises(RuntimeError) as error:
                v.add_(1)
            found.append(str(error.value))
        part.add_(1)
        return [*found, plain]

    judge.compare(case(torch), case(bridge.library()))
