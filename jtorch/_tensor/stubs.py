"""Type stubs of what exists only at run time: `python -m jtorch._tensor.stubs` writes them, `--check` compares.

Operations become functions and methods when jtorch is imported, where no type checker sees them. A stub in
`jtorch/_stubs` lists what a namespace, or Tensor, holds at run time and does not bind in its source. The source imports
it under TYPE_CHECKING; so what is written out by hand is typed where it stands, and only there.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import importlib.util
import inspect
import json
import math
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from jtorch._ops.registry import ARRAYS, NUMBER, OPERAND, Op
from jtorch._runtime.dtypes import dtype
from jtorch._tensor.tensor import Tensor

FOLDER = Path(__file__).parents[1] / "_stubs"
NAMESPACES = {
    "top": "jtorch", "functional": "jtorch.nn.functional", "linalg": "jtorch.linalg", "special": "jtorch.special",
    "fft": "jtorch.fft",
}  # fmt: skip
_HEADER = '''"""Made by `python -m jtorch._tensor.stubs`."""

'''
_IMPORTS = {
    "Any": "typing", "Self": "typing", "overload": "typing", "NamedTuple": "typing", "TypeAlias": "typing",
    "Callable": "collections.abc", "Iterable": "collections.abc", "Sequence": "collections.abc",
    "Number": "jtorch._stubs.words", "Device": "jtorch._stubs.words", "return_types": "jtorch._stubs",
    "Tensor": "jtorch._tensor.base", "Generator": "jtorch._tensor.random", "layout": "jtorch._tensor.placing",
    "memory_format": "jtorch._tensor.placing", "Size": "jtorch._runtime.avals", "dtype": "jtorch._runtime.dtypes",
    "device": "jtorch._runtime.devices",
}  # fmt: skip
_WORDS = """
from typing import TypeAlias

from jtorch._runtime.devices import device

Number: TypeAlias = int | float | complex
Device: TypeAlias = device | str | int | None
"""
# Names of the annotations in the source, as a user's types. What functions take as a tuple may be a list as well.
_TYPES = (
    (r"\b(dtypes\.dtype|DType)\b", "dtype"), (r"\bdevices\.device\b", "device"), (r"\bInts\b", "tuple[int, ...]"),
    (r"\bHostGenerator\b", "Generator"),
    (r"\bArrays\b", "tuple[Tensor, ...]"), (r"\bArray\b", "Tensor"),
)  # fmt: skip
_TUPLE = re.compile(r"tuple\[([^\[\],]+)(?:, [^\[\],]+)*\]")
# What parameters without an annotation take, by name.
_NAMED = {
    "other": "Tensor | Number", "out": "Tensor | None", "dtype": "dtype | None", "device": "Device",
    "layout": "layout | None", "memory_format": "memory_format | None", "generator": "Generator | None",
    "requires_grad": "bool", "pin_memory": "bool", "exponent": "Tensor | Number",
}  # fmt: skip


def _type(annotation: Any) -> str:
    if not isinstance(annotation, str):
        return getattr(annotation, "__name__", str(annotation))
    for pattern, word in _TYPES:
        annotation = re.sub(pattern, word, annotation)
    return annotation


def _taken(annotation: str) -> str:
    """The type of an argument: sequences where the function gets a tuple."""
    while (simpler := _TUPLE.sub(r"Sequence[\1]", annotation)) != annotation:
        annotation = simpler
    return annotation


def _default(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(value)
    return repr(value) if value is None or isinstance(value, bool | int) or _is_finite(value) else "..."


def _is_finite(value: Any) -> bool:
    return isinstance(value, float) and math.isfinite(value)


def _parameter(name: str, annotation: str, required: bool, default: Any) -> str:
    typed = f"{name}: {annotation}" if annotation else name
    if required:
        return typed
    return f"{typed} = {_default(default)}" if annotation else f"{name}={_default(default)}"


def _of_op(op: Op, method: bool, name: str) -> Iterator[tuple[list[str], str]]:
    """Parameters and result of an operation: once more where a tuple may be given as plain positionals."""
    result = _type(op.fn.__annotations__["return"])
    if op.returns is not None:
        result = f"return_types.{op.name}"
    several = result != "Tensor"
    operator = method and name.startswith("__")
    if method and not operator and name.endswith("_") and not several:
        result = "Self"
    for spread in (False, True) if op.varargs else (False,):
        params, star = [], False
        for i, p in enumerate(op.params):
            if i == 0 and method:
                params.append("self")
                continue
            if operator and not p.required:
                continue
            kind = {OPERAND: "Tensor | Number", NUMBER: "Number", ARRAYS: "Sequence[Tensor]"}.get(p.kind)
            if kind and p.kind != ARRAYS and "None" in p.annotation:
                kind += " | None"
            kind = kind or _taken(_type(p.annotation))
            if not p.required and p.default is None and "None" not in kind:
                kind += " | None"
            if name in ("__eq__", "__ne__"):
                kind = "Any"
            if spread and p.name == op.varargs:
                params.append(f"*{p.name}: int")
                star = True
                continue
            if p.keyword_only and not star:
                params.append("*")
                star = True
            params.append(_parameter(p.name, kind, p.required, p.default))
        if op.out and op.function and not method:
            params += ([] if star else ["*"]) + [f"out: {'Sequence[Tensor]' if several else 'Tensor'} | None = None"]
        yield params, result


def _of_function(f: Callable, method: bool) -> tuple[list[str], str]:
    """Parameters and result of a function that is written by hand."""
    signature = inspect.signature(f)
    params, star = [], False
    for i, p in enumerate(signature.parameters.values()):
        if i == 0 and method and p.kind is not p.VAR_POSITIONAL:
            params.append("self")
            continue
        annotation = "" if p.annotation is p.empty else _taken(_type(p.annotation))
        if not annotation and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY):
            annotation = _NAMED.get(p.name, "")
            if annotation and p.default is None and "None" not in annotation:
                annotation += " | None"
        if p.kind is p.KEYWORD_ONLY and not star:
            params.append("*")
            star = True
        name = {p.VAR_POSITIONAL: "*", p.VAR_KEYWORD: "**"}.get(p.kind, "") + p.name
        star = star or p.kind is p.VAR_POSITIONAL
        params.append(_parameter(name, annotation, p.default is p.empty, p.default))
    returns = signature.return_annotation
    return params, "" if returns is signature.empty else _type(returns)


def _lines(head: str, params: list[str], tail: str) -> list[str]:
    """A signature, laid out as the formatter has it."""
    line = f"{head}({', '.join(params)}){tail}"
    if len(line) <= 120:
        return [line]
    indent = head[: len(head) - len(head.lstrip())]
    inner = f"{indent}    {', '.join(params)}"
    if len(inner) <= 120:
        return [f"{head}(", inner, f"{indent}){tail}"]
    return [f"{head}(", *(f"{indent}    {p}," for p in params), f"{indent}){tail}"]


def _function(name: str, f: Callable, method: bool, hidden: re.Pattern[str]) -> list[str]:
    ops = getattr(f, "ops", ())
    forms = [form for op in ops for form in _of_op(op, method, name)] or [_of_function(f, method)]
    forms = [form for i, form in enumerate(forms) if form not in forms[:i]]
    indent = "    " if method else ""
    lines = []
    for params, result in forms:
        lines += [f"{indent}@overload"] if len(forms) > 1 else []
        params = [hidden.sub(r"\1_\2", p) for p in params]
        tail = hidden.sub(r"\1_\2", f" -> {result}") if result else ""
        lines += _lines(f"{indent}def {name}", params, f"{tail}: ...")
    return lines


def _bound(body: list[ast.stmt]) -> set[str]:
    """The names that statements bind."""
    names = set()
    for statement in body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            names |= {(a.asname or a.name).split(".")[0] for a in statement.names}
        elif isinstance(statement, ast.FunctionDef | ast.ClassDef):
            names.add(statement.name)
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            names |= {n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)}
        elif isinstance(statement, ast.For):
            names |= {n.id for n in ast.walk(statement.target) if isinstance(n, ast.Name)} | _bound(statement.body)
    return names


def _derived(owner: Any) -> dict[str, Any]:
    """What a module or class holds and its source does not name."""
    if inspect.isclass(owner):
        # Found by a method: `Tensor` itself says that it is of the top namespace.
        tree = ast.parse(Path(inspect.getfile(owner.__array__)).read_text(encoding="utf-8")).body
        body = next(n.body for n in tree if isinstance(n, ast.ClassDef) and n.name == owner.__name__)
        special = {
            "__dict__", "__weakref__", "__slots__", "__module__", "__doc__", "__annotations__", *owner.__slots__,
            "__firstlineno__", "__static_attributes__",  # since Python 3.13
            "__annotate_func__", "__annotations_cache__",  # since 3.14
        }  # fmt: skip
    else:
        body = ast.parse(Path(owner.__file__).read_text(encoding="utf-8")).body
        special = {name for name in vars(owner) if name.startswith("__")}
    bound = _bound(body) | special
    return {
        name: value
        for name, value in sorted(vars(owner).items())
        if name not in bound and not (inspect.ismodule(value) and not inspect.isclass(owner))
    }


def _text(name: str, owner: Any) -> str:
    """The stub of a namespace, or of Tensor."""
    method = inspect.isclass(owner)
    held = _derived(owner)
    # Tensor.float and torch.float hide the built-in from the annotations around them.
    builtin = [key for key in held if key in vars(builtins)]
    hidden = re.compile(rf"(: |\[|\| |-> )({'|'.join(builtin) or '(?!)'})\b")
    values, classes, functions = [], [], []
    for key, value in held.items():
        if isinstance(value, property):
            values.append(f"    {key}: {_type(value.fget.__annotations__['return'])}")
        elif isinstance(value, dtype):
            values.append(f"{key}: dtype")
        elif isinstance(value, type):
            classes.append(f"class {key}(Tensor): ...")
        else:
            functions += _function(key, value, method, hidden)
    parts = [["class Attached:", *values, *functions]] if method else [values, classes, functions]
    text = "\n\n".join("\n".join(part) for part in parts if part) + "\n"
    lines = [f"from builtins import {key} as _{key}" for key in builtin if re.search(rf"\b_{key}\b", text)]
    used = {word for word in _IMPORTS if re.search(rf"(?<![\w.]){word}\b(?!=|:(?! \.\.\.))", text)}
    by_module: dict[str, list[str]] = {}
    for word in sorted(used, key=lambda word: (_IMPORTS[word].startswith("jtorch"), _IMPORTS[word], word)):
        by_module.setdefault(_IMPORTS[word], []).append(word)
    for module, words in by_module.items():
        lines.append(f"from {module} import {', '.join(words)}")
    standard = [line for line in lines if " jtorch" not in line]
    third = ["import numpy as np"] if "np." in text else []
    blocks = [standard, third, lines[len(standard) :]]
    return _HEADER + "\n\n".join("\n".join(block) for block in blocks if block) + "\n\n" + text


def _return_types() -> str:
    rows = []
    for name, cls in sorted(_derived(importlib.import_module("jtorch.return_types")).items()):
        rows += [f"class {name}(NamedTuple):", *(f"    {field}: Tensor" for field in cls._fields), ""]
    return _HEADER + "from typing import NamedTuple\n\nfrom jtorch._tensor.base import Tensor\n\n" + "\n".join(rows)


def stubs() -> dict[str, str]:
    """The text of each stub, by file name."""
    made = {"words": _HEADER + _WORDS.lstrip(), "return_types": _return_types(), "tensor": _text("tensor", Tensor)}
    for name, module in NAMESPACES.items():
        if importlib.util.find_spec(module) is not None:
            owner = importlib.import_module(module)
            if _derived(owner):
                made[name] = _text(name, owner)
    return {f"{name}.pyi": text for name, text in made.items()}


def stale() -> list[str]:
    """The names of stubs that are not what they should be."""
    wanted = stubs()
    there = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.pyi")}
    return sorted(name for name in wanted.keys() | there.keys() if wanted.get(name) != there.get(name))


def main(arguments: list[str]) -> int:
    """Writes the stubs; with `--check` only says which are stale."""
    names = stale()
    if arguments == ["--check"]:
        for name in names:
            print(f"jtorch/_stubs/{name} is stale: run python -m jtorch._tensor.stubs", file=sys.stderr)
        return bool(names)
    wanted = stubs()
    for name in names:
        if name in wanted:
            (FOLDER / name).write_text(wanted[name], encoding="utf-8")
        else:
            (FOLDER / name).unlink()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
