"""What `jtorch.stats()` counts, what JTORCH_LOG says of compiles, and that programs are not held without end."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import jtorch as torch
from jtorch._runtime import executor
from jtorch._runtime.kernel import MAX_COMPILED


def run(script: str, **env: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=os.environ | env, timeout=600, check=True
    )


def test_counts():
    with torch.execution("deferred"):
        x = torch.ones(3)
        x.tolist()
        torch.stats(reset=True)
        for _ in range(3):
            ((x + 1) * 2).tolist()
        counts = torch.stats(reset=True)
    assert (counts.operations, counts.syncs, counts.at_once) == (6, 3, 0)
    assert (counts.cold, counts.hot) == (1, 2) or counts.cold == 0  # another test may have made it hot already
    assert counts.run_seconds > 0
    assert "operations" in str(counts)
    assert torch.stats().operations == 0
    with torch.execution("eager"):
        (x + 1).tolist()
    assert torch.stats().at_once == 1


def test_recompiles_are_explained():
    script = """
import jtorch as torch
for n in (2, 2, 3, 3):
    ((torch.ones(n) + 1) * 2).tolist()
x = torch.ones(2)
x.tolist()
for k in (1.0, 2.0, 3.0):
    ((x + k) * k).tolist()
"""
    said = run(script, JTORCH_LOG="recompiles", JTORCH_EXECUTION="deferred").stderr.splitlines()
    assert [line.rpartition(": ")[2] for line in said] == [
        "the first of its kind",
        "after 0 steps in common, ones -> float32[3]@cpu where it was ones -> float32[2]@cpu",
        "after 0 steps in common, an input float32[2]@cpu where it was ones -> float32[2]@cpu",
    ]


@pytest.mark.skipif(executor.T.eager, reason="the eager mode compiles no traces")
def test_numbers_and_indices_compile_nothing():
    x = torch.arange(64.0)

    def use(i):
        return ((x[i] + i * 0.5) ** 2 / (i + 1.0)).item()

    for i in range(3):
        use(i)
    torch.stats(reset=True)
    for i in range(3, 40):
        use(i)
    counts = torch.stats()
    assert (counts.compiles, counts.kernels, counts.cold) == (0, 0, 0)


def churn(shapes: int, programs: int) -> tuple[int, int]:
    """The most programs held, and the most memory in MiB, of a process that meets many shapes once each."""
    script = f"""
import resource, jtorch as torch
from jtorch._runtime import executor, kernel
executor.MAX_COMPILED = {programs}
most = 0
for i in range({shapes}):
    a, b = i % 100 + 1, i // 100 + 1
    x = torch.zeros(a, b) + 1
    assert x.sum().item() == a * b
    most = max(most, len(kernel.compiled) + executor.stats.hot_programs)
print(most, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""
    most, mib = run(script, JTORCH_EXECUTION="deferred", JTORCH_CACHE="").stdout.split()
    return int(most), int(mib)


def test_programs_are_dropped():
    most, _ = churn(60, 50)
    assert most <= 60


@pytest.mark.skipif("JTORCH_SLOW_TESTS" not in os.environ, reason="ten minutes: set JTORCH_SLOW_TESTS")
def test_ten_thousand_shapes():
    """About 0.2 MB a program, 1500 programs at most, and what a process begins with: 530 MiB, and half as much to spare."""
    most, mib = churn(10_000, MAX_COMPILED)
    assert most <= MAX_COMPILED + 10
    assert mib < 800
