"""`torch` as a name for jtorch: jtorch.install() and `python -m jtorch`. Subprocesses, so as few as will do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def python(*args, cwd, code=None, **options):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    return subprocess.run(
        [sys.executable, *args], cwd=cwd, input=code, capture_output=True, text=True, env=environment, timeout=120,
        **options,
    )  # fmt: skip


SCRIPT = """\
import importlib, importlib.metadata, importlib.util, sys
import torch
import jtorch
import torch.nn.functional as F
import torch.utils.data.dataset as by_name
from torch.utils.data import DataLoader, Dataset
from torch import nn

assert torch is jtorch is sys.modules["torch"]
assert nn is jtorch.nn is sys.modules["jtorch.nn"] is importlib.import_module("torch.nn")
assert by_name is sys.modules["jtorch.utils.data.dataset"] and by_name.Dataset is Dataset
assert torch.__spec__.name == "jtorch" and nn.__spec__.name == "jtorch.nn" and torch.__name__ == "jtorch"
assert importlib.metadata.version("torch") == "2.13.0" and torch.__version__.startswith("2.13.0")
assert importlib.util.find_spec("torch") is not None
assert importlib.util.find_spec("torch.nn.functional") is not None
assert importlib.util.find_spec("torch.no_such_part") is None
try:
    import torch.no_such_part
except ModuleNotFoundError as error:
    assert error.name == "torch.no_such_part", error.name
else:
    raise AssertionError
for statement, kind in (("from torch import no_such_name", ImportError), ("torch.no_such_name", AttributeError)):
    try:
        exec(statement)
    except kind:
        pass
    else:
        raise AssertionError(statement)
jtorch.install()  # again changes nothing
assert F.relu(torch.tensor([-1.0, 2.0])).tolist() == [0, 2]

import helper  # from beside the script
if __name__ == "__main__":  # a worker imports this file too, under another name
    assert sys.modules["__main__"].helper is helper
    assert __file__ == sys.argv[0] and __spec__ is None and __package__ is None
    print(sys.argv[1:])

class Local(Dataset):
    def __len__(self):
        return 3

    def __getitem__(self, i):
        return i

if __name__ == "__main__" and sys.argv[1:] == ["workers"]:
    print([b.tolist() for b in DataLoader(Local(), num_workers=1)])
if sys.argv[1:] == ["exit"]:
    sys.exit(7)
if sys.argv[1:] == ["fail"]:
    def inner():
        raise ValueError("on purpose")
    inner()
if sys.argv[1:] == ["wait"]:
    print("waiting", flush=True)
    import time
    time.sleep(60)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("scripts")
    (path / "script.py").write_text(SCRIPT)
    (path / "helper.py").write_text("")
    (path / "bad.py").write_text("x = 1\nx ==== 2\n")
    package = path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(
        "import sys, torch\nprint(__name__, __package__, __spec__.name, sys.argv[1:], torch.__name__)\n"
    )
    return path


def test_script(folder, tmp_path):
    done = python("-m", "jtorch", str(folder / "script.py"), "--flag", "-m", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "['--flag', '-m']\n"


def test_exit_code_and_workers(folder):
    done = python("-m", "jtorch", "script.py", "exit", cwd=folder)
    assert (done.returncode, done.stderr) == (7, "")
    done = python("-m", "jtorch", "script.py", "workers", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[[0], [1], [2]]"


def test_traceback(folder):
    done = python("-m", "jtorch", "script.py", "fail", cwd=folder)
    lines = done.stderr.splitlines()
    assert done.returncode == 1
    assert lines[0] == "Traceback (most recent call last):" and lines[-1] == "ValueError: on purpose"
    assert next(line for line in lines if "File" in line).startswith('  File "script.py", line ')
    assert "jtorch" not in done.stderr and "runpy" not in done.stderr


def test_module_and_code(folder):
    done = python("-m", "jtorch", "-m", "package", "a", cwd=folder)
    assert done.stdout == "__main__ package package.__main__ ['a'] jtorch\n", done.stderr
    done = python("-m", "jtorch", "-c", "import sys, torch, helper; print(sys.argv, torch.__name__)", "b", cwd=folder)
    assert done.stdout == "['-c', 'b'] jtorch\n", done.stderr


def test_what_cannot_run(folder):
    done = python("-m", "jtorch", "nothing.py", cwd=folder)
    assert done.returncode == 2 and "can't open file" in done.stderr and "No such file" in done.stderr
    done = python("-m", "jtorch", "bad.py", cwd=folder)
    assert done.returncode == 1 and done.stderr.lstrip().startswith('File "bad.py", line 2'), done.stderr
    assert "SyntaxError" in done.stderr
    assert python("-m", "jtorch", cwd=folder).returncode == 2


def test_interrupt(folder):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    process = subprocess.Popen(
        [sys.executable, "-m", "jtorch", "script.py", "wait"], cwd=folder, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    while "waiting" not in process.stdout.readline():
        assert process.poll() is None
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT and errors.splitlines()[-1] == "KeyboardInterrupt"


def test_another_torch_is_there(tmp_path):
    (tmp_path / "torch.py").write_text("")
    code = """
        import torch, jtorch
        try:
            jtorch.install()
        except RuntimeError as error:
            assert "imported already" in str(error) and "torch.py" in str(error)
            print("refused")
    """
    done = python("-c", textwrap.dedent(code), cwd=tmp_path)
    assert done.stdout == "refused\n", done.stderr
