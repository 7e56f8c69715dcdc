"""What all tests share."""

from __future__ import annotations

import os

# The reference is torch on the host. To test on an accelerator, say JAX_PLATFORMS=cuda,cpu.
os.environ.setdefault("JAX_PLATFORMS", "cpu")


def pytest_report_header() -> str:
    return f"jtorch execution: {os.environ.get('JTORCH_EXECUTION', 'deferred')}, jax: {os.environ['JAX_PLATFORMS']}"
