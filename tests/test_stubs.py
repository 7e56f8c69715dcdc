"""The type stubs say what there is at run time."""

import ast
import inspect

import jtorch
from jtorch._tensor import stubs


def test_are_current():
    assert not stubs.stale(), "run python -m jtorch._tensor.stubs"


def test_a_stub_names_every_method():
    (attached,) = (n for n in ast.parse((stubs.FOLDER / "tensor.pyi").read_text()).body if isinstance(n, ast.ClassDef))
    named = {n.name for n in attached.body if isinstance(n, ast.FunctionDef)}
    source = ast.parse(inspect.getsource(inspect.getmodule(jtorch.Tensor.__array__)))
    written = next(n for n in source.body if isinstance(n, ast.ClassDef) and n.name == "Tensor")
    named |= {n.name for n in written.body if isinstance(n, ast.FunctionDef)}
    methods = {name for name, f in vars(jtorch.Tensor).items() if inspect.isfunction(f)}
    assert {"add", "add_", "sum", "__add__", "view", "size"} <= methods & named
    assert methods - named <= {"ndimension", "nelement", "is_neg"}  # second names, which the source assigns


def test_are_python_and_within_the_line():
    for name, text in stubs.stubs().items():
        ast.parse(text, name)
        assert max(map(len, text.splitlines())) <= 120


def test_overloads_and_result_types():
    text = stubs.stubs()["top.pyi"]
    assert "def max(input: Tensor, *, out: Tensor | None = None) -> Tensor: ..." in text
    assert "-> return_types.max: ..." in text
    assert "class max(NamedTuple):" in stubs.stubs()["return_types.pyi"]
    assert "def add(input: Tensor | Number, other: Tensor | Number, *, alpha: Number = 1" in text
