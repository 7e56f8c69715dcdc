"""`python -m jtorch script.py args`: runs a script as python does, with `import torch` meaning jtorch."""

from __future__ import annotations

import importlib.util
import io
import os
import runpy
import sys
import types
from importlib.machinery import SourceFileLoader
from typing import Any, NoReturn

from jtorch._alias import install

_USAGE = """usage: python -m jtorch script.py [args ...]
       python -m jtorch -m module [args ...]
       python -m jtorch -c code [args ...]

Runs the script, module or code with `import torch` meaning jtorch."""


def _fail(message: str, code: int) -> NoReturn:
    print(message, file=sys.stderr)
    sys.exit(code)


def _fresh_main(**names: Any) -> types.ModuleType:
    """A new `__main__` in the place of this one, as python would set it up for the script."""
    module = types.ModuleType("__main__")
    vars(module).update({"__builtins__": __builtins__, "__loader__": None, "__spec__": None, **names})
    sys.modules["__main__"] = module
    return module


def _run(code: types.CodeType, module: types.ModuleType) -> None:
    """Runs the code; a traceback that reaches the top is shown without the frames that brought it here."""
    try:
        exec(code, vars(module))
    except SystemExit:
        raise
    except BaseException:
        show = sys.excepthook

        def hook(kind: Any, error: Any, trace: Any) -> None:
            while trace is not None and trace.tb_frame.f_code is not code:
                trace = trace.tb_next
            show(kind, error.with_traceback(trace), trace)

        sys.excepthook = hook
        raise


def _compile(source: str | bytes, filename: str) -> types.CodeType:
    try:
        return compile(source, filename, "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        show = sys.excepthook
        sys.excepthook = lambda kind, value, trace: show(kind, value.with_traceback(None), None)
        raise error from None


def _set_path(entry: str) -> None:
    # `python -m` has put the working directory first, which is not what a script gets.
    if not sys.flags.safe_path:
        sys.path[0] = entry


def _script(path: str) -> None:
    if os.path.isdir(path) or path.endswith((".zip", ".pyz")):
        if not sys.flags.safe_path:
            del sys.path[0]  # run_path puts the folder or archive there
        runpy.run_path(path, run_name="__main__")
        return
    try:
        with io.open_code(os.path.abspath(path)) as file:
            source = file.read()
    except OSError as error:
        reason = f"[Errno {error.errno}] {error.strerror}"
        _fail(f"{sys.executable}: can't open file {os.path.abspath(path)!r}: {reason}", 2)
    _set_path(os.path.dirname(os.path.realpath(path)))
    module = _fresh_main(__file__=path, __cached__=None, __loader__=SourceFileLoader("__main__", path))
    _run(_compile(source, path), module)


def _module(name: str) -> None:
    try:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            name += ".__main__"
            spec = importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        _fail(f"{sys.executable}: Error while finding module specification for {name!r} ({error})", 1)
    if spec is None:
        _fail(f"{sys.executable}: No module named {name}", 1)
    loader: Any = spec.loader
    code = loader.get_code(name) if hasattr(loader, "get_code") else None
    if code is None:
        _fail(f"{sys.executable}: No code object available for {name}", 1)
    sys.argv[0] = spec.origin or name
    module = _fresh_main(
        __file__=spec.origin, __cached__=spec.cached, __loader__=loader, __spec__=spec, __package__=spec.parent
    )
    _run(code, module)


def main() -> None:
    """Reads python's own three forms of command line, and runs what they name."""
    arguments = sys.argv[1:]
    if not arguments:
        _fail(_USAGE, 2)
    first, rest = arguments[0], arguments[1:]
    if first in ("-h", "--help"):
        print(_USAGE)
        return
    if first[:2] in ("-m", "-c") and (len(first) > 2 or rest):
        what = first[2:] or rest.pop(0)
        sys.argv = [first[:2], *rest]
        install()
        if first[:2] == "-m":
            _module(what)
        else:
            _set_path("")
            _run(_compile(what, "<string>"), _fresh_main())
        return
    if first.startswith("-") and first != "-":
        _fail(f"unknown option {first}\n{_USAGE}", 2)
    sys.argv = arguments
    install()
    if first == "-":
        _set_path("")
        _run(_compile(sys.stdin.read(), "<stdin>"), _fresh_main())
    else:
        _script(first)


if __name__ == "__main__":
    main()
