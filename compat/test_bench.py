"""The benchmark's workloads give the same losses under both libraries, and the command that times them works."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from compat import bridge
from compat.bench import child, workloads


def losses(library, name: str) -> list[float]:
    step = workloads.load(name).build(library, SimpleNamespace(model=child.same, step=child.same))
    return [child.read(step()) for _ in range(3)]


LONG = ("lstm", "gpt", "resnet20", "dcgan", "vit")  # to compile: left to the full run


@pytest.mark.parametrize("name", workloads.NAMES)
def test_losses_agree(name, samples):
    if name in LONG and samples < 2:
        pytest.skip("only with --samples 2 and more")
    assert losses(bridge.library(), name) == pytest.approx(losses(torch, name), rel=2e-4, abs=1e-5)


@pytest.mark.one_mode
def test_command(tmp_path):
    """Two workloads, each implementation in a process of its own."""
    command = [sys.executable, "-m", "compat.bench", "--quick", "--only", "mlp_tiny,gp", "--impl", "torch,jtorch"]
    cores = min(os.sched_getaffinity(0))
    root = Path(__file__).parent.parent
    ran = subprocess.run([*command, "--cores", str(cores)], capture_output=True, text=True, timeout=600, cwd=root)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "| mlp_tiny | jtorch |" in ran.stdout and "| gp | torch |" in ran.stdout
