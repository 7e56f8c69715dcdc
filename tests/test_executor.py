"""The executor: what is recorded, when it runs, what it compiles, and what an interrupt leaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jtorch as torch
from jtorch._runtime import devices, donation, executor, kernel, programs
from jtorch._runtime.executor import T, path
from jtorch._tensor import fused
from jtorch._tensor.storage import value_of


@pytest.fixture(autouse=True)
def deferred():
    """These tests are about the deferred mode, whichever mode the rest of the suite runs in."""
    with torch.execution("deferred"):
        executor.flush()
        yield


def training_step(n_in=6, lr=0.1):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(n_in, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    opt = torch.optim.SGD(net.parameters(), lr, momentum=0.9)
    x, y = torch.randn(16, n_in), torch.randn(16, 1)

    def step():
        opt.zero_grad()
        loss = torch.nn.functional.mse_loss(net(x), y)
        loss.backward()
        opt.step()
        return loss.item()

    return net, opt, step


def test_nothing_runs_until_a_value_is_needed():
    x = torch.ones(3) * 2 + 1
    assert value_of(x).array is None
    assert x.shape == (3,)
    assert x.tolist() == [3.0, 3.0, 3.0]
    assert value_of(x).array is not None


def test_a_trace_met_again_is_one_program():
    before = executor.stats.compiles
    for _ in range(5):
        x = torch.arange(17.0)
        for _ in range(4):
            x = x * 1.5 - 0.25
        x.sum().item()
    assert executor.stats.compiles == before + 1


def test_a_steady_loop_makes_no_new_steps_and_compiles_nothing():
    _, _, step = training_step()
    losses = [step() for _ in range(4)]
    steps, compiles = executor._nodes_in_trie, executor.stats.compiles
    losses += [step() for _ in range(10)]
    assert (executor._nodes_in_trie, executor.stats.compiles) == (steps, compiles)
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize(
    ("make", "n"),
    [
        (torch.zeros, 37),
        (torch.empty, 38),
        (lambda n: torch.randn(n).fill_(2), 39),
        (lambda n: torch.randn(n).zero_(), 40),
    ],
)
def test_what_a_program_gives_fits_it_again(make, n):
    """State that was made of nothing is bound to its device as the results are that replace it."""
    state, data = make(n), torch.tensor([1.0, 2.0])
    state.sum().item()
    compiles = []

    def note(event, seconds, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            compiles.append(event)

    def step():
        state.mul_(0.5).add_(1.0).clamp_(max=3.0)
        return (data * 2).sum().item()

    for _ in range(2):
        step()
    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        for _ in range(3):
            step()
    finally:
        jax.monitoring.unregister_event_duration_listener(note)
    assert not compiles


def test_what_programs_were_compiled_from_is_dropped():
    from jaxlib.mlir import ir

    if not hasattr(ir.Context, "_get_live_count") or jax.device_count("cpu") > 1:
        pytest.skip("this JAX does not say, or arrays may be spread over devices")
    before = ir.Context._get_live_count()
    x = torch.ones(3)
    for n in range(2, 8):
        for _ in range(3):
            (x.repeat(n) * 2 + 1).sum().item()
    assert ir.Context._get_live_count() <= before + 1


def test_numbers_and_indices_are_inputs():
    _, opt, step = training_step()
    data = torch.arange(200.0).reshape(20, 10)
    for i in range(3, 7):
        opt.param_groups[0]["lr"] = 0.1 / (i + 1)
        step()
        (data[i].sum() * (1.0 + i)).item()
        (data[i : i + 3].sum() * i).item()
    compiles, steps = executor.stats.compiles, executor._nodes_in_trie
    for i in range(7, 15):
        opt.param_groups[0]["lr"] = 0.1 / (i + 1)
        step()
        # Not inside the assert: pytest keeps what its expressions make, and a held value is a result of the program.
        one = (data[i].sum() * (1.0 + i)).item()
        three = (data[i : i + 3].sum() * i).item()
        assert one == data._host()[i].sum() * (1 + i)
        assert three == data._host()[i : i + 3].sum() * i
    assert (executor.stats.compiles, executor._nodes_in_trie) == (compiles, steps)


def test_a_kernel_is_traced_once_for_each_shape():
    seen = chex.assert_max_traces(lambda x: x + 1, n=1)
    five = value_of(torch.ones(5)).aval
    kernel = executor.Kernel("probe", lambda x: (seen(x),), (five,), out=(five,))
    for _ in range(4):
        (v,) = executor.record(kernel, (value_of(torch.ones(5)),))
        np.testing.assert_array_equal(executor.concrete(v), np.full(5, 2.0))
        if executor.stats.hot:
            break


def test_long_traces_are_cut(monkeypatch):
    monkeypatch.setattr(executor, "MAX_TRACE", 20)
    monkeypatch.setattr(executor, "LOOP", 20)
    x = torch.zeros(4)
    for _ in range(100):
        x = x + 1
        assert T.at.depth <= 25
    assert x.tolist() == [100.0] * 4


def test_loops_without_a_sync_settle_on_few_programs():
    x = torch.full((3,), 0.5)
    for _ in range(2000):
        x = (x * 0.99 + 0.01).tanh()
    compiles = executor.stats.compiles
    for _ in range(2000):
        x = (x * 0.99 + 0.01).tanh()
    assert executor.stats.compiles - compiles <= 1
    assert T.at.depth <= executor.LOOP + 4


def test_the_trie_is_bounded(monkeypatch):
    monkeypatch.setattr(executor, "MAX_STEPS", 300)
    for n in range(1, 60):
        x = torch.ones(n, device="cpu")
        assert (x * 2 + n).sum().item() == n * (2 + n)
        assert executor._nodes_in_trie <= 330


def test_dead_inputs_are_donated_and_held_ones_are_not():
    held = torch.ones(300, 300)
    executor.flush()
    for _ in range(4):
        held = (held * 0.5 + 0.5) * 1.0
        executor.flush()
    kept = held
    for _ in range(3):
        fresh = (kept * 2.0 - 1.0) * 1.0
        executor.flush()
        assert kept.mean().item() == 1.0
        assert fresh.mean().item() == 1.0


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, lambda p: torch.optim.SGD(p, 0.1, momentum=0.9)])
def test_a_parameter_takes_its_own_memory_and_not_its_gradients(optimizer, monkeypatch):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(256, 256), torch.nn.ReLU(), torch.nn.Linear(256, 256))
    opt = optimizer(net.parameters())
    x = torch.randn(64, 256)

    def step():
        opt.zero_grad()
        net(x).square().mean().backward()
        opt.step()

    for _ in range(4):
        step()
    executor.flush()
    held = [
        net[0].weight,
        net[2].weight,
        *(v for s in opt.state.values() for v in s.values() if v.numel() == 256 * 256),
    ]
    olds = [value_of(v) for v in held]
    monkeypatch.setattr(fused, "LONG", 1000)  # so that the trace is still there to be looked at
    step()
    pairs = {v.slot: value_of(t).slot for v, t in zip(olds, held, strict=True)}
    grads = [value_of(p.grad).slot for p in net.parameters()]
    assert dict(donation.heirs(path(T.at), sorted(pairs), sorted([*pairs.values(), *grads]))) == pairs


def test_errors_come_where_the_call_is_written():
    a, b = torch.ones(2, 3), torch.ones(4, 5)
    with pytest.raises(RuntimeError, match="mat1 and mat2 shapes cannot be multiplied"):
        a @ b
    with pytest.raises(RuntimeError, match=r"The size of tensor a \(3\) must match the size of tensor b \(5\)"):
        a + b
    assert (a + 1).sum().item() == 12


@pytest.mark.parametrize("mode", ["eager", "deferred"])
def test_an_interrupted_step_happens_or_does_not(mode, interrupted):
    """An interrupt at any line of a step leaves all parameters updated, or none, and the next step works."""
    with torch.execution(mode):
        net, _, step = training_step()
        for _ in range(14):
            step()
        lines = interrupted(10**9, step)
        assert lines > 100
        for n in range(1, lines, 11):
            before = [p.detach().clone().tolist() for p in net.parameters()]
            interrupted(n, step)
            torch.set_grad_enabled(True)  # it may have come in the very statement that turns it on again
            after = [p.detach().clone().tolist() for p in net.parameters()]
            assert len({a == b for a, b in zip(after, before, strict=True)}) == 1, n
            assert all(np.isfinite(np.asarray(a)).all() for a in after)
        assert step() < 0.1


def test_an_interrupted_run_is_taken_up_again(monkeypatch):
    x = torch.ones(3) * 3
    real = programs.ColdProgram.call
    calls = []

    def interrupted(self, *args):
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return real(self, *args)

    monkeypatch.setattr(programs.ColdProgram, "call", interrupted)
    with pytest.raises(KeyboardInterrupt):
        x.tolist()
    assert x.tolist() == [3.0] * 3


def test_tensors_are_pytrees_and_arrays():
    t = torch.arange(6.0).reshape(2, 3)
    doubled = jax.jit(lambda x: x * 2 + 1)(t)
    assert isinstance(doubled, torch.Tensor)
    np.testing.assert_array_equal(doubled.numpy(), np.arange(6.0).reshape(2, 3) * 2 + 1)
    np.testing.assert_allclose(jnp.sin(t), np.sin(np.arange(6.0).reshape(2, 3)), rtol=1e-6)
    rows = jax.vmap(lambda row: (row * row).sum())(t)
    assert rows.tolist() == [5.0, 50.0]
    chex.assert_trees_all_equal(jax.tree.map(lambda x: x, {"a": t})["a"].numpy(), t.numpy())
    gradient = jax.grad(lambda x: (x**3).sum().__jax_array__())(t)
    np.testing.assert_allclose(gradient.numpy(), 3 * np.arange(6.0).reshape(2, 3) ** 2)


def test_values_of_a_trace_do_not_leak_into_jax_traces():
    pending = torch.ones(3) * 4
    assert jax.jit(lambda x: x * pending)(torch.full((3,), 2.0)).tolist() == [8.0] * 3


def test_backward_works_inside_jax_jit():
    w = torch.ones(3)

    def gradient(x):
        leaf = (x * 1.0).detach().requires_grad_()
        ((leaf * w) ** 2).sum().backward()
        return leaf.grad

    assert jax.jit(gradient)(torch.arange(3.0)).tolist() == [0.0, 2.0, 4.0]
    assert (w + 1).tolist() == [2.0] * 3


def test_the_mode_is_a_choice():
    with torch.execution("eager"):
        assert value_of(torch.ones(2) + 1).array is not None
    assert value_of(torch.ones(2) + 1).array is None
    with pytest.raises(ValueError, match="execution mode"):
        executor.set_execution("lazy")


def test_fused_writes_reach_views_and_keep_leaves():
    p = torch.nn.Parameter(torch.ones(4))
    row = p.detach()[1:3]
    p.grad = torch.full((4,), 2.0)
    fused.run_inplace(
        "optim.sgd", [p], [p], [p.grad], [], lr=0.5, momentum=0.0, dampening=0.0, weight_decay=0.0, decay=False,
        nesterov=False, maximize=False, first=(),
    )  # fmt: skip
    assert p.tolist() == [0.0] * 4
    assert row.tolist() == [0.0, 0.0]
    assert p.requires_grad
    assert p.is_leaf


def test_a_number_may_have_any_name():
    """A run-time number goes into a trace that is there whatever its parameter is called."""
    x = torch.tensor([2.0, 0.5])
    for n, want in ((3, [26.0, -1.0]), (3, [26.0, -1.0]), (2, [7.0, -0.5]), (3, [26.0, -1.0])):
        assert torch.special.chebyshev_polynomial_t(x, n).tolist() == want


def test_options_that_xla_does_not_know_are_left_out(monkeypatch):
    monkeypatch.setattr(kernel, "MEASURED", ())
    monkeypatch.setitem(kernel._QUICK, "xla_cpu_no_such_option", True)
    kernel.compiler_options.cache_clear()
    try:
        options = kernel.compiler_options(devices.CPU, True)
        assert options is not None
        assert "xla_cpu_no_such_option" not in options
        assert "xla_backend_optimization_level" in options
    finally:
        kernel.compiler_options.cache_clear()


def test_arrays_spread_over_devices():
    """A step on a batch of which each device has a part: forward, backward, update, the same as on one device."""
    script = """
import jax, numpy as np
import jtorch as torch
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from jtorch._runtime import executor
from jtorch._tensor.base import wrap

mesh = Mesh(np.array(jax.devices()), ("d",))
numbers = np.arange(64, dtype=np.float32).reshape(8, 8) / 64

def losses(x, place, make):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.BatchNorm1d(4), torch.nn.Dropout(0.5))
    for p in (*net.parameters(), *net.buffers()):
        place(p)
    opt = make(net.parameters())
    found = []
    for _ in range(3):
        opt.zero_grad()
        loss = net(x).square().mean()
        loss.backward()
        opt.step()
        found.append(loss.item())
    return found

def everywhere(p):
    p._value.array = jax.device_put(executor.concrete(p._value), NamedSharding(mesh, P()))

spread = wrap(executor.of(jax.device_put(numbers, NamedSharding(mesh, P("d")))))
for make in (lambda p: torch.optim.SGD(p, 0.1, momentum=0.9), lambda p: torch.optim.Adam(p, 0.01)):
    print(losses(torch.tensor(numbers), lambda p: None, make) + losses(spread, everywhere, make))
"""
    env = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        found = json.loads(line)
        assert found[:3] == pytest.approx(found[3:], rel=1e-3)
        assert len(set(found[:3])) == 3
