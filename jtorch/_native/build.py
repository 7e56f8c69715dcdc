"""Finds oneDNN, and compiles the kernels into the user's cache folder, once for each version of what they are made of."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from typing import NamedTuple

import jax
import jaxlib

SOURCE = pathlib.Path(__file__).with_name("kernels.cc")
PACKAGE = "onednn-cpu-gomp"  # oneDNN on OpenMP, on PyPI; its headers are in a package of their own
_LIBRARY, _HEADER = "libdnnl.so.3", pathlib.Path("oneapi", "dnnl", "dnnl.hpp")


class Failed(Exception):
    """The kernels can't be made. Says why."""


class OneDNN(NamedTuple):
    """Where oneDNN is: the folders of its library and its headers, and a word for which it is."""

    library: pathlib.Path
    headers: pathlib.Path
    version: str


def onednn() -> OneDNN | None:
    """The oneDNN to use: ONEDNN_ROOT (a folder with lib/ and include/), else the installed package's. None: no such."""
    root = os.environ.get("ONEDNN_ROOT")
    if root:
        folder = pathlib.Path(root).resolve()
        size = (folder / "lib" / _LIBRARY).stat().st_size if (folder / "lib" / _LIBRARY).exists() else 0
        return OneDNN(folder / "lib", folder / "include", f"{folder} {size}")
    try:
        found = importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return None
    for file in found.files or ():
        if file.name == _LIBRARY:
            folder = pathlib.Path(os.path.abspath(file.locate())).parent
            return OneDNN(folder, folder.parent / "include", f"{found.version} {folder}")
    return None


def target(of: OneDNN) -> pathlib.Path:
    """The compiled kernels' file: a name for each source, JAX and oneDNN."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    facts = SOURCE.read_bytes() + f"{jax.__version__} {jaxlib.__version__} {of.version}".encode()
    return pathlib.Path(base, "jtorch", "native", f"kernels-{hashlib.sha256(facts).hexdigest()[:16]}.so")


def made() -> pathlib.Path:
    """The compiled kernels' file, made now if need be. Raises Failed."""
    of = onednn()
    if of is None:
        raise Failed(f"{PACKAGE} is not installed")
    path = target(of)
    if not path.exists():
        _make(of, path)
    return path


def _make(of: OneDNN, path: pathlib.Path) -> None:
    for needed in (of.library / _LIBRARY, of.headers / _HEADER):
        if not needed.exists():
            raise Failed(f"{needed} does not exist; pip install 'jtorch-xla[onednn]' brings it")
    compiler = os.environ.get("CXX") or next(filter(shutil.which, ("c++", "g++", "clang++")), None)
    if compiler is None:
        raise Failed("there is no C++ compiler (c++, g++ or clang++, or what CXX names)")
    print("jtorch: compiling its oneDNN kernels, once", file=sys.stderr)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            new = os.path.join(folder, path.name)
            command = [
                *compiler.split(), "-std=c++17", "-O3", "-fPIC", "-shared", "-fopenmp", "-DNDEBUG", "-w",
                f"-I{of.headers}", f"-I{jax.ffi.include_dir()}", str(SOURCE), "-o", new,
                f"-L{of.library}", f"-l:{_LIBRARY}", f"-Wl,-rpath,{of.library}",
            ]  # fmt: skip
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            if done.returncode:
                raise Failed(f"{' '.join(command)} failed:\n{done.stderr.strip()[-2000:]}")
            os.replace(new, path)  # two processes may make it at once
    except OSError as error:
        raise Failed(str(error)) from error
