"""How compiled programs are called: what they are given, and what may not be seen of the arrays that they keep."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from jax.experimental.layout import Format, Layout

import jtorch as torch
from jtorch._runtime import calls, devices, executor
from jtorch._runtime.calls import Call


@pytest.fixture(autouse=True)
def deferred():
    """These tests are about programs of whole traces, made anew for each."""
    with torch.execution("deferred"):
        executor.flush()
        executor.T.new_trie()
        executor.T.reset()
        yield


@pytest.mark.parametrize("past_jax", [True, False])
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((), torch.float32), ((0, 3), torch.float32), ((1,), torch.int64), ((2, 3), torch.bfloat16), ((5,), torch.bool)],
)
def test_new_numbers_from_the_host_at_each_run(shape, dtype, past_jax, monkeypatch):
    """Each run sees its own, and what it gave, its very input among that, stays what it was."""
    if not past_jax:
        monkeypatch.setattr(calls, "executable", lambda compiled: None)
    found, hot = [], executor.stats.hot
    for k in range(6):
        x = torch.tensor(np.full(shape, k).tolist(), dtype=dtype).reshape(shape)
        same, twice, other = x.clone(), x + x, torch.full(shape, k + 1.0) * 1.5
        found.append((x, same, twice + 0, other, twice.tolist()))
    assert executor.stats.hot > hot
    for k, (x, same, twice, other, listed) in enumerate(found):
        n = np.full(shape, k).astype(dtype.np)
        assert x.tolist() == same.tolist() == n.tolist()
        assert twice.tolist() == listed == (n + n).tolist()
        assert other.tolist() == np.full(shape, 1.5 * (k + 1)).tolist()


def test_interrupts_leave_every_run_its_own_numbers(interrupted):
    w = torch.ones(3)
    given: list = []

    def run(k):
        x = torch.tensor([k, k + 1.0, k + 2.0])
        given.append((k, x * w * 2.0 + x.sum()))
        given[-1][1].tolist()

    for k in range(6):
        run(k)
    lines = interrupted(10**9, run, 6)
    assert lines > 50
    for n in range(1, lines):
        interrupted(n, run, 7 + n)
        if n % 3 == 0:
            run(1000 + n)
    for k, y in given:
        assert y.tolist() == [2.0 * (k + i) + 3.0 * k + 3.0 for i in range(3)]


class _Running:
    def is_ready(self):
        return False


def test_a_program_that_still_runs_keeps_what_it_was_given(monkeypatch):
    given = []
    real = calls.executable

    def watched(compiled):
        found = real(compiled)
        assert found is not None
        run, finish, used = found
        return lambda arrays: (given.append(list(arrays)), run(arrays))[1], finish, used

    monkeypatch.setattr(calls, "executable", watched)
    ones = np.ones(3, np.float32)
    jitted = jax.jit(lambda x, y, z: [x + z], keep_unused=False)
    compiled = jitted.lower(ones, ones, ones).compile()
    call = Call(jitted, devices.CPU, compiled, 3)

    def run(n):
        (results,) = call.start((np.full(3, n, np.float32), ones, ones))
        assert results[0].tolist() == [n + 1.0] * 3
        return results

    call.free(run(1.0))
    call.free(run(2.0))
    call.free([_Running()])  # nothing is out
    run(3.0)
    call.free([_Running()])
    run(4.0)
    first, second, third, fourth = given
    assert all(len(arrays) == 2 and ones is not arrays[1] for arrays in given)
    assert [a is b for a, b in zip(first, second, strict=True)] == [True, True]
    assert [a is b for a, b in zip(second, third, strict=True)] == [True, True]
    assert [a is b for a, b in zip(third, fourth, strict=True)] == [False, False]
    assert [a.tolist()[0] for a in third] == [3.0, 1.0]


@pytest.mark.parametrize("kind", ["columns first", "pinned_host"])
def test_arrays_that_jax_keeps_in_another_way(kind):
    """A layout or a memory that a user of JAX chose is none that programs were compiled for."""

    def moved(array):
        (device,) = array.devices()
        if kind == "pinned_host":
            return jax.device_put(array, jax.sharding.SingleDeviceSharding(device, memory_kind=kind))
        return jax.device_put(array, Format(Layout((1, 0)), jax.sharding.SingleDeviceSharding(device)))

    numbers = np.arange(6.0, dtype=np.float32).reshape(2, 3)
    for _ in range(4):
        t = jax.tree.map(moved, torch.tensor(numbers))
        assert ((t + 1).reshape(-1) * 2).tolist() == ((numbers + 1).reshape(-1) * 2).tolist()
