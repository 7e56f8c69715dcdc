"""The example scripts, each run under PyTorch and under jtorch from the same seed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]


def run(*arguments, cwd, under):
    command = [sys.executable, *(["-m", "jtorch"] if under == "jtorch" else []), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_tutorial(tmp_path):
    script = ROOT / "examples" / "tutorial.py"
    # Its own assertions check each value; what it prints are drawn numbers, losses and shuffles.
    assert run(script, cwd=tmp_path, under="jtorch") == run(script, cwd=tmp_path, under="torch")


def test_digits_cnn(tmp_path):
    curves = {}
    for under in ("torch", "jtorch"):
        picture, losses = tmp_path / f"{under}.png", tmp_path / f"{under}.json"
        arguments = ("--no-progress", "--out", picture, "--losses", losses)
        shown = run(ROOT / "examples" / "digits_cnn.py", *arguments, cwd=tmp_path, under=under)
        curves[under] = json.loads(losses.read_text())
        assert "DigitNet(" in shown
        assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 20_000
        assert curves[under]["epochs"][-1]["test_accuracy"] >= 0.97
    ours, theirs = (np.array(curves[under]["steps"]) for under in ("jtorch", "torch"))
    assert len(ours) == len(theirs)
    # The first loss has no rounding of an earlier step in it: the same weights, the same batch, the same dropout.
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-5)
    # From then on each step builds on the rounding of those before it.
    np.testing.assert_allclose(ours[:46], theirs[:46], rtol=1e-4)
    np.testing.assert_allclose(ours, theirs, rtol=0.25, atol=5e-3)
