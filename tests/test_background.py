"""Long traces are compiled while the script goes on."""

from __future__ import annotations

import threading

import pytest

import jtorch as torch
from jtorch._runtime import background, executables
from jtorch._runtime.programs import HotProgram


@pytest.fixture(autouse=True)
def setting(monkeypatch):
    """Two cores, nothing that was compiled earlier."""
    monkeypatch.setattr(background, "cores", lambda: 2)
    monkeypatch.setattr(executables, "_folder", lambda: None)
    with torch.execution("deferred"):
        torch.stats(reset=True)
        yield
    job = background.Job._running
    if job is not None:
        job.join()


@pytest.fixture
def held(monkeypatch):
    """An event without which no compiling goes on."""
    go, make = threading.Event(), HotProgram.make

    def wait(self):
        assert go.wait(60)
        make(self)

    monkeypatch.setattr(HotProgram, "make", wait)
    yield go
    go.set()


def script(n: int):
    """A step of more than 64 operations, a trace of its own for each size."""
    x = torch.arange(float(n))
    y = x.clone()
    for i in range(40):
        y = (y * (1 + i % 3)).clamp(max=10.5) + x
    return y.sum().item()


def ran() -> tuple[int, int]:
    counts = torch.stats()
    return counts.cold, counts.hot


def join():
    background.Job._running.join(60)  # type: ignore[union-attr]


def test_the_script_goes_on(held):
    expected = script(10)
    for n in range(2, 6):
        assert script(10) == expected
        assert ran() == (n, 0)
    kernels = torch.stats().kernels
    for _ in range(20):
        script(10)
    assert torch.stats().kernels == kernels  # none is compiled anew for speed meanwhile
    held.set()
    join()
    assert script(10) == pytest.approx(expected)
    assert ran() == (25, 1)
    assert torch.stats().compiles == 1


def test_one_at_a_time(held):
    for _ in range(3):
        script(11), script(12)
    assert ran() == (6, 0)
    first = background.Job._running
    held.set()
    join()
    script(11)
    assert ran() == (6, 1)
    script(12)  # begins now
    assert background.Job._running is not first
    join()
    script(12)
    assert ran() == (7, 2)


def test_errors_come_where_it_would_have_been_compiled(monkeypatch):
    make = HotProgram.make

    def fail(self):
        raise RuntimeError("XLA has no more memory")

    monkeypatch.setattr(HotProgram, "make", fail)
    expected = [script(13) for _ in range(2)]
    join()
    with pytest.raises(RuntimeError, match="XLA has no more memory"):
        script(13)
    monkeypatch.setattr(HotProgram, "make", make)
    expected += [script(13)]
    join()
    expected += [script(13)]
    assert expected == pytest.approx([expected[0]] * 4)
    assert torch.stats().hot == 1


def test_not_where_each_run_is_to_be_like_the_last(held):
    held.set()
    assert not torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.are_deterministic_algorithms_enabled()
        script(14), script(14)
        assert ran() == (1, 1)
    finally:
        torch.use_deterministic_algorithms(False)


def test_short_traces_are_compiled_at_once(held):
    held.set()
    for _ in range(2):
        (torch.arange(5.0) * 1.5 + 2).exp().sum().item()
    assert ran() == (1, 1)


def test_memory_is_only_taken_where_nobody_holds_it(held):
    """A program that takes its inputs' memory, ready at a visit at which somebody holds them."""
    w = torch.ones(200, 200)

    def step():
        nonlocal w
        for _ in range(70):
            w = w * 0.99 + 0.001
        return w.sum().item()

    for _ in range(3):
        step()
    held.set()
    join()
    before = w.numpy().copy()
    kept = w
    step()
    assert (kept.numpy() == before).all()
    del kept
    if torch.stats().hot == 0:
        join()  # the program that takes none
    step()
    assert torch.stats().hot > 0
