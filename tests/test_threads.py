"""Threads: pending values may cross them, each has its own grad mode, and a loop may run in any."""

from __future__ import annotations

import queue
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import jtorch as torch
from jtorch import nn
from jtorch._runtime import executor
from jtorch._runtime.executor import T


def elsewhere(fn):
    """The result of a function that runs in another thread, while this one waits."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(fn).result()


@pytest.fixture(autouse=True)
def _mine():
    executor.flush()
    assert executor.get_ident() == T.owner or executor.take_over()
    yield
    executor.flush()
    assert executor.get_ident() == T.owner or executor.take_over()


def test_a_pending_value_is_read_elsewhere_and_goes_on_here():
    x = torch.arange(4.0)
    y = x * 2 + 1
    assert elsewhere(y.tolist) == [1, 3, 5, 7]
    assert (y + 1).tolist() == [2, 4, 6, 8]


def test_operations_elsewhere_on_pending_values():
    x = torch.arange(3.0, requires_grad=True)
    y = (x * x).sum()

    def work():
        z = y * 3
        z.backward()
        return z.item(), x.grad.tolist()

    assert elsewhere(work) == (15, [0, 6, 12])
    assert (y + 1).item() == 6


def test_grad_modes_are_a_threads_own():
    with torch.no_grad():
        assert elsewhere(torch.is_grad_enabled)
        assert not torch.is_grad_enabled()

    def off():
        with torch.no_grad():
            return torch.is_grad_enabled(), (torch.ones(1, requires_grad=True) * 2).requires_grad

    assert elsewhere(off) == (False, False)
    assert torch.is_grad_enabled()


def test_many_threads_at_once():
    """A producer hands on pending values while it goes on recording; others read, compute and differentiate."""
    q: queue.Queue = queue.Queue()
    results = {}

    def consume():
        while (item := q.get()) is not None:
            i, v, w = item
            loss = (v * w).sum()
            (grad,) = torch.autograd.grad(loss, w)
            results[i] = loss.item(), grad.tolist()

    threads = [threading.Thread(target=consume) for _ in range(3)]
    for t in threads:
        t.start()
    w = torch.ones(3, requires_grad=True)
    x = torch.arange(3.0)
    for i in range(60):
        v = x * i
        for _ in range(10):
            v = v + 1
        q.put((i, v, w))
        if i % 7 == 0:
            v.sum().item()
    for _ in threads:
        q.put(None)
    for t in threads:
        t.join(60)
    for i in range(60):
        want = np.arange(3.0) * i + 10
        assert results[i] == (want.sum(), want.tolist())


def test_training_in_a_thread_of_its_own():
    def train():
        torch.manual_seed(0)
        net = nn.Linear(4, 1)
        opt = torch.optim.SGD(net.parameters(), 0.1)
        losses = []
        for _ in range(5):
            opt.zero_grad()
            loss = (net(torch.ones(2, 4)) - 1).square().mean()
            loss.backward()
            opt.step()
            losses.append(loss.item())
        return losses, executor.get_ident() == T.owner

    want, _ = train()
    got, owned = elsewhere(train)
    assert owned  # it recorded, as the main thread would have
    assert got == pytest.approx(want)
    assert (torch.ones(2) + 1).tolist() == [2, 2]
