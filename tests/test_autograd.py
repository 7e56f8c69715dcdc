"""Autograd without torch: gradients against jax.grad, graphs over traces, what a steady loop costs."""

from __future__ import annotations

import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jtorch as torch
from jtorch._runtime import executor

MODES = ("eager", "deferred")


@pytest.fixture(params=MODES, autouse=True)
def mode(request):
    with executor.execution(request.param):
        yield request.param


def _model():
    w = (torch.arange(12.0).reshape(4, 3) / 10 - 0.5).requires_grad_()
    v = (torch.arange(4.0) / 5).requires_grad_()
    return w, v, torch.arange(6.0).reshape(2, 3) / 3


def _loss(w, v, x):
    return ((torch.tanh(x @ w.t()) @ v) ** 2).mean()


def test_gradients_are_those_of_jax():
    w, v, x = _model()
    _loss(w, v, x).backward()
    gw, gv = jax.grad(lambda w, v: jnp.mean((jnp.tanh(np.asarray(x) @ w.T) @ v) ** 2), (0, 1))(
        w.detach().numpy(), v.detach().numpy()
    )
    np.testing.assert_allclose(w.grad.numpy(), gw, rtol=1e-6)
    np.testing.assert_allclose(v.grad.numpy(), gv, rtol=1e-6)


def test_steady_loop_records_no_steps_and_compiles_nothing(mode):
    w, v, x = _model()
    opt = torch.optim.SGD([w, v], 0.01)

    def step():
        opt.zero_grad()
        loss = _loss(w, v, x)
        loss.backward()
        opt.step()
        return loss.item()

    for _ in range(6):
        step()
    steps, compiles = executor._nodes_in_trie, executor.stats.compiles
    losses = [step() for _ in range(5)]
    assert losses == sorted(losses, reverse=True)
    assert executor._nodes_in_trie == steps
    assert executor.stats.compiles == compiles


@pytest.mark.parametrize("change", ["retain", "hook", "create_graph", "accumulate", "two losses"])
def test_other_steady_loops_record_no_steps(change, mode):
    w, v, x = _model()
    if change == "hook":
        w.register_hook(lambda g: g * 2)

    def step():
        if change != "accumulate" or w.grad is None:
            w.grad = v.grad = None
        loss = _loss(w, v, x)
        if change == "create_graph":
            (g,) = torch.autograd.grad(loss, w, create_graph=True)
            loss = loss + g.pow(2).sum()
        if change == "two losses":
            loss.backward(retain_graph=True)
        loss.backward(retain_graph=change == "retain")
        return loss.item()

    for _ in range(6):
        step()
    steps, compiles = executor._nodes_in_trie, executor.stats.compiles
    for _ in range(4):
        step()
    assert (executor._nodes_in_trie, executor.stats.compiles) == (steps, compiles)


def test_remembered_backward_knows_that_a_graph_is_freed():
    for keep in (True, False, True, False):
        x = torch.ones(3, requires_grad=True)
        y = (x * x).sum()
        y.backward(retain_graph=keep)
        if keep:
            y.backward()
            assert x.grad.tolist() == [4.0, 4.0, 4.0]
        else:
            with pytest.raises(RuntimeError, match="second time"):
                y.backward()


def test_graph_over_syncs():
    x = torch.ones(3, requires_grad=True)
    y = x.exp()
    y.sum().item()
    z = (y * x).sum()
    z.item()
    z.backward(retain_graph=True)
    x.grad.tolist()
    z.backward()
    np.testing.assert_allclose(x.grad.numpy(), np.full(3, 4 * np.e), rtol=1e-6)


def test_freed_graph_keeps_no_values():
    x = torch.ones(3, requires_grad=True)
    h = x.exp()
    r = weakref.ref(h._value)
    loss = (h * h).sum()
    loss.backward()
    loss.item()
    del h
    gc.collect()
    assert r() is None
    assert loss.grad_fn.name() == "SumBackward0"


def test_interrupt_in_a_hook_leaves_a_state_to_go_on_from():
    w, v, x = _model()

    def interrupt(g):
        raise KeyboardInterrupt

    handle = w.register_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        _loss(w, v, x).backward()
    assert torch.is_grad_enabled()
    handle.remove()
    w.grad = v.grad = None
    _loss(w, v, x).backward()
    first = w.grad.tolist()
    w.grad = None
    _loss(w, v, x).backward()
    assert w.grad.tolist() == first


def test_checkpoint_drops_and_recomputes():
    from jtorch.utils.checkpoint import checkpoint

    runs = []

    def block(t):
        runs.append(1)
        return (t.sin() * t).exp()

    x = torch.full((3,), 0.5, requires_grad=True)
    y = checkpoint(block, x, use_reentrant=False)
    assert y.grad_fn.next_functions[0][0].name() == "torch::autograd::AccumulateGrad"  # nothing in between is kept
    y.sum().backward()
    expected = jax.grad(lambda t: jnp.exp(jnp.sin(t) * t))(0.5)
    np.testing.assert_allclose(x.grad.numpy(), np.full(3, expected), rtol=1e-6)
    assert len(runs) == 2


def test_saved_value_survives_its_operations_own_write():
    x = torch.full((2,), 0.3, requires_grad=True)
    y = x * 1
    y.sin_().pow_(2)
    y.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), np.full(2, 2 * np.sin(0.3) * np.cos(0.3)), rtol=1e-6)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, lambda: torch.set_grad_enabled(False)])
def test_mode_survives_an_interrupt_as_its_block_is_left(mode):
    import sys

    def interrupt(frame, event, arg):
        if event == "call" and frame.f_code.co_name == "__exit__":
            sys.settrace(None)
            raise KeyboardInterrupt

    def block():
        with mode():
            sys.settrace(interrupt)

    try:
        with pytest.raises(KeyboardInterrupt):
            block()
    finally:
        sys.settrace(None)
    gc.collect()
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
    assert (torch.ones(2, requires_grad=True) * 2).requires_grad
