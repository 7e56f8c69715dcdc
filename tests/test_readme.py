"""The README's Python blocks run, each in a process state of its own where it changes one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def test_there_are_blocks():
    assert len(BLOCKS) >= 5


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_block_runs(number, capsys):
    block = BLOCKS[number]
    if "install()" in block:
        done = subprocess.run(
            [sys.executable, "-c", block], cwd=ROOT, env=dict(os.environ), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return
    exec(compile(block, f"README.md block {number}", "exec"), {"__name__": "readme"})
    shown = capsys.readouterr().out.splitlines()
    promised = [line.split("  # ")[1] for line in block.splitlines() if "print(" in line and "  # " in line]
    for line, promise in zip(shown, promised, strict=bool(promised)):  # a block may print and promise nothing
        assert promise.startswith(line)


def test_links_are_files():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target
