"""Compiled programs that outlive the process: what is kept, by what it is found again, and what happens to a bad file."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jtorch as torch
from jtorch._runtime import executables
from jtorch._runtime.fingerprint import fingerprint
from jtorch._runtime.kernel import WARM

SCRIPT = """
import jax
compiled = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, seconds, fun_name="", **_: compiled.append(fun_name)
    if event.endswith("backend_compile_duration") and "make_workers" not in fun_name
    else None
)
import jtorch as torch
torch.manual_seed(0)
nn = torch.nn
layers = [nn.Flatten(), nn.Linear(64, 3)] if COMPILE else [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)]
net = nn.Sequential(*layers)
opt = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
x, y = torch.randn(2, 1, 8, 8), torch.tensor([0, 2])

def step():
    opt.zero_grad()
    weight = layers[-1].weight
    factor = torch.linalg.cholesky_ex(weight @ weight.mT + torch.eye(3)).L  # calls LAPACK, which has to be found first
    loss = nn.functional.cross_entropy(net(x), y) + 0.01 * factor.diagonal().log().sum()
    loss.backward()
    opt.step()
    return loss

if COMPILE:
    step = torch.compile(step)
print([step().item() for _ in range(40)])
print(len(compiled))
"""


@pytest.fixture
def run(tmp_path_factory):
    """What a script in a process of its own gives with a folder: losses, how many programs XLA compiled, warnings."""
    script = tmp_path_factory.mktemp("script") / "train.py"  # what was typed at a prompt is compiled in another way
    return functools.partial(_run, script)


def _run(script: Path, folder: Path | str, compile: bool = False) -> tuple[str, int, str]:
    env = os.environ | {"JTORCH_CACHE": str(folder), "JTORCH_EXECUTION": "deferred", "JAX_PLATFORMS": "cpu"}
    env["PYTHONPATH"] = str(Path(__file__).parent.parent)
    env.pop("XLA_FLAGS", None)  # one device
    script.write_text(SCRIPT.replace("COMPILE", str(compile)))
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    losses, compiled = done.stdout.splitlines()
    return losses, int(compiled), done.stderr


@pytest.mark.parametrize("compile", [False, True])
def test_another_process_compiles_nothing(tmp_path, run, compile):
    """Not with the kernels of the first visits, not with whole traces, not with a compiled step and its state."""
    losses, compiled, _ = run(tmp_path, compile)
    assert compiled > 1
    assert run(tmp_path, compile) == (losses, 0, "")


def test_a_bad_file_is_made_again(tmp_path, run):
    losses, _, _ = run(tmp_path)
    files = sorted(tmp_path.iterdir())
    files[0].write_bytes(b"")
    files[1].write_bytes(files[1].read_bytes()[:-100])
    again, twice, said = run(tmp_path)
    assert (again, twice) == (losses, 2)
    assert said.count("RuntimeWarning") == 2
    assert run(tmp_path) == (losses, 0, "")


def test_what_can_not_be_written_leaves_nothing_behind(tmp_path, monkeypatch):
    compiled = jax.jit(jnp.sin).lower(1.0).compile()
    executables._write(tmp_path / "kept", compiled)
    (tmp_path / "folder").mkdir()
    with pytest.warns(RuntimeWarning, match="is not kept"):
        executables._write(tmp_path / "folder", compiled)

    def refuse(program):
        raise ValueError("Compilation does not support serialization")

    monkeypatch.setattr(executables.serialize_executable, "serialize", refuse)
    with pytest.warns(RuntimeWarning, match="does not support"):
        executables._write(tmp_path / "other", compiled)
    assert {file.name for file in tmp_path.iterdir()} == {"kept", "folder"}


def test_where_nothing_can_be_kept(tmp_path, run):
    folder = tmp_path / "file"
    folder.write_text("")
    losses, compiled, said = run(folder)
    assert said.count("compiled programs are not kept") == 1
    assert run("") == (losses, compiled, "")


def known(fn, *args):
    return fingerprint(jax.make_jaxpr(fn)(*args))


x = np.arange(6.0)
SAME = {
    "operations": lambda c: lambda x: jnp.sin(x) * c,
    "constants": lambda c: lambda x: x + np.full(6, c),
    "large constants": lambda c: lambda x: x.sum() + np.r_[np.zeros(5000), c, np.zeros(5000)].sum() * jnp.arange(10001.0),
    "parameters": lambda c: lambda x: jax.lax.slice(x, (c,), (c + 2,)),
    "branches": lambda c: lambda x: jax.lax.cond(x[0] > 0, lambda: x * c, lambda: x),
    "loops": lambda c: lambda x: jax.lax.fori_loop(0, c + 1, lambda i, x: x * 2, x),
    "rules of derivatives": lambda c: lambda x: jax.nn.relu(x) + c,
    "nested programs": lambda c: lambda x: jax.jit(lambda x: x * c)(x),
    "the order of inputs": lambda c: lambda x: jax.lax.sub(*(x, x * 2)[:: 1 if c else -1]),
    "the order of results": lambda c: lambda x: [x, x * 2][:: 1 if c else -1],
}  # fmt: skip


@pytest.mark.parametrize("what", SAME)
def test_what_a_program_is_known_by(what):
    make = SAME[what]
    assert known(make(0), x) == known(make(0), x) is not None
    assert known(make(0), x) != known(make(1), x)


def test_shapes_and_dtypes_are_a_part_of_it():
    found = {known(jnp.sin, np.zeros(s, d)) for s in [(), (1,), (2,), (1, 2)] for d in (np.float32, np.float64)}
    assert len(found) == 8


def test_a_function_of_the_host_is_not_known():
    assert known(lambda x: jax.pure_callback(lambda x: x, x, x), x) is None


@pytest.mark.parametrize("make", [
    lambda: torch.ones(3, 11), lambda: torch.ones((), dtype=torch.float16), lambda: torch.zeros(0, 11),
    lambda: torch.full((11,), True), lambda: torch.ones(11, dtype=torch.bfloat16), lambda: torch.full((11, 1), 1 + 2j),
    lambda: torch.ones(13).detach(),
])  # fmt: skip
def test_what_computes_nothing_is_not_compiled(make):
    """Memory that is filled with a number, and inputs that are passed on."""
    with torch.execution("eager"):
        torch.stats(reset=True)
        x = make()
        assert torch.stats().kernels == 0
    with torch.execution("deferred"):
        y = make() + 0 if x.dtype is not torch.bool else make() | False
        assert (x.shape, x.dtype, x.tolist()) == (y.shape, y.dtype, y.tolist())


def test_filling_is_compiled_where_it_is_large_or_goes_on():
    with torch.execution("eager"):
        torch.stats(reset=True)
        torch.zeros(600, 601)
        assert torch.stats().kernels == 1
        for _ in range(WARM - 1):
            torch.ones(17, 2)
        assert torch.stats().kernels == 1
        assert torch.ones(17, 2).sum().item() == 34
        assert torch.stats().kernels >= 2
