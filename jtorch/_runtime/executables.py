"""Compiled programs, kept in a folder from process to process.

JAX's own cache goes by the text that a program is lowered to. To lower a small program and to look that up takes ten
times what it takes to load its machine code. So this one goes by what its users know a program by before it is traced.
"""

from __future__ import annotations

import functools
import hashlib
import os
import pathlib
import pickle
import platform
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jaxlib
from jax.experimental import serialize_executable
from jax.experimental.compilation_cache import compilation_cache

from jtorch._runtime import devices, workers
from jtorch._runtime.fingerprint import digest, source
from jtorch._runtime.jax_internals import constants, direct, forget, single_device, unfolded
from jtorch._runtime.setup import cache_folder

FORMAT = 1  # of the files
LOADING = "/jtorch/load_duration"  # the event that `jax.monitoring` is told of


class How(NamedTuple):
    """How a function is compiled: for which arguments (arrays or avals), for which device, with which options of XLA's.

    known: what tells the function from any other that gives something else; None where nothing does. It is kept by that.
    donate: which arguments give their memory to results.
    """

    args: Sequence
    where: devices.device
    options: dict | None
    known: str | None
    donate: tuple[int, ...] = ()


def program(fn: Callable, how: How) -> tuple[Callable, jax.stages.Compiled | None]:
    """What calls a function that is compiled, and what was compiled.

    Results are bound to the device ("committed") as the inputs are. JAX does not bind what depends on no input, and
    compiles programs anew when such an input of theirs is replaced by a result of their own. Told where its inputs are, a
    program is the same whether one comes as a NumPy array or placed.

    Where JAX has several devices of the kind, arrays may be spread over them: it is JAX then that compiles, for each way
    that they come, and keeps the programs.
    """
    if not devices.is_only(how.where):
        _have_jax_keep_them()
        # What depends on no input goes with any, so it is bound to none. But no input is left out as if there were none.
        return jax.jit(fn, compiler_options=how.options, donate_argnums=how.donate, keep_unused=True), None
    device = devices.to_jax(how.where)
    path = _path(how)
    found = path and _read(path, device)
    if found is None:
        workers.go_first()
        at = single_device(device)
        jitted = jax.jit(fn, compiler_options=how.options, donate_argnums=how.donate, in_shardings=at, out_shardings=at)
        with unfolded():
            found = jitted.lower(*how.args).compile()
        forget(fn)
        if path is not None:
            _write(path, found)
    return direct(found), found


def find(how: How) -> jax.stages.Compiled | None:
    """What an earlier process has compiled."""
    path = _path(how)
    return path and _read(path, devices.to_jax(how.where))


def _path(how: How) -> pathlib.Path | None:
    folder = _folder()
    if folder is None or how.known is None:
        return None
    like = [(a.shape, str(a.dtype)) for a in jax.tree.leaves(how.args)]
    random = jax.config.jax_threefry_partitionable  # by which JAX's random numbers are lowered
    return folder / digest(how.known, like, how.options, how.donate, random, _machine(devices.to_jax(how.where)))


@functools.cache
def _folder() -> pathlib.Path | None:
    folder = cache_folder() if source(__file__) else None  # programs are known by the code that makes them, too
    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            warnings.warn(f"compiled programs are not kept: {error}", RuntimeWarning, stacklevel=2)
            return None
    return folder


@functools.cache
def _have_jax_keep_them() -> None:
    folder = _folder()
    if folder is not None and jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
        compilation_cache.reset_cache()  # it may have found already that there is none


@functools.cache
def _machine(device: Any) -> tuple[str, ...]:
    """What machine code depends on besides the program."""
    flags = [os.environ.get(name, "") for name in ("XLA_FLAGS", "LIBTPU_INIT_ARGS")]
    return (
        str(FORMAT), jax.__version__, jaxlib.__version__, device.platform, device.device_kind, device.client.platform_version, *flags,
        platform.machine(), _processor(),
    )  # fmt: skip


def _processor() -> str:
    """What instructions this machine's processor has, a digest."""
    try:
        with open("/proc/cpuinfo", "rb") as file:
            first = file.read(1 << 14).partition(b"\n\n")[0].splitlines()
    except OSError:
        return platform.processor()
    told = [line for line in first if line.startswith((b"model name", b"flags", b"Features", b"CPU part"))]
    return hashlib.sha256(b"\n".join(told)).hexdigest()


@functools.cache
def _find_lapack() -> None:
    """Has JAX look LAPACK's functions up, as it does where a program that calls them is lowered. Until then they are null."""
    jax.jit(jax.numpy.linalg.cholesky).lower(jax.ShapeDtypeStruct((1, 1), "float32"))


def _read(path: pathlib.Path, device: Any) -> jax.stages.Compiled | None:
    began = time.perf_counter()
    try:
        stored = path.read_bytes()
        if b"lapack_" in stored:
            _find_lapack()
        found = serialize_executable.deserialize_and_load(
            *pickle.loads(stored), backend=device.client, execution_devices=[device]
        )
        jax.monitoring.record_event_duration_secs(LOADING, time.perf_counter() - began)
        return found
    except FileNotFoundError:
        return None
    except Exception as error:  # whatever is wrong with the file: it can be made again
        warnings.warn(f"{path} can not be loaded, so it is made again: {error}", RuntimeWarning, stacklevel=2)
        return None


def _write(path: pathlib.Path, program: jax.stages.Compiled) -> None:
    if constants(program):  # JAX would lose them
        return
    part = None
    try:
        data = pickle.dumps(serialize_executable.serialize(program))
        # Other processes see all of the file or none.
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix="part-", delete=False) as file:
            part = pathlib.Path(file.name)
            file.write(data)
        part.replace(path)
    except (OSError, ValueError) as error:  # ValueError: this device's programs can't be stored
        if part is not None:
            part.unlink(missing_ok=True)
        warnings.warn(f"a compiled program is not kept: {error}", RuntimeWarning, stacklevel=2)
