"""The threads that XLA compiles in."""

from __future__ import annotations

import os
import subprocess
import sys

import jax
import pytest

from jtorch._runtime import workers


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of threads")
@pytest.mark.skipif(jax.__version__ != workers.MEASURED, reason="another JAX may have other threads")
def test_workers_go_before_emitters():
    script = """
import os, jtorch as torch
from jtorch._runtime import workers
workers.begin()
noted = set(workers._emitters)
x = torch.ones(3)
for _ in range(3):
    ((x + 1) * 2).sum().item()
lowered = {t for t in workers.threads() if os.getpriority(os.PRIO_PROCESS, t) > os.getpriority(os.PRIO_PROCESS, os.getpid())}
assert lowered == noted and 0 < len(noted) < len(workers.threads()) - 1, (lowered, noted, workers.threads())
"""
    env = os.environ | {"JAX_PLATFORMS": "cpu", "JTORCH_CACHE": ""}  # with a cache it might compile nothing
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=env, timeout=600)
    assert said.returncode == 0, said.stderr
