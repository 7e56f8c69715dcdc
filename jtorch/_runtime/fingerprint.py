"""What tells one traced program from another, whichever process traced it."""

from __future__ import annotations

import enum
import functools
import hashlib
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jax.extend import core

# Parameters of primitives that say how to differentiate: what is compiled has no more use for them.
_RULES = frozenset(("jvp_jaxpr_fun", "jvp_jaxpr_thunk", "fwd_jaxpr_thunk", "bwd", "symbolic_zeros", "optimize_remat"))
# Primitives of ours that are lowered in one form or another: what the choice depends on, and what the forms are.
forms: dict[core.Primitive, Callable[[], str]] = {}


class _Unknown(Exception):
    """Something that does not say what it is, as a host's function in a callback."""


def fingerprint(program: core.ClosedJaxpr) -> str | None:
    """A digest of what a program computes; None where something in it does not say what it is."""
    said: list[str] = []
    try:
        _say(said, program)
    except _Unknown:
        return None
    return digest(said)


def digest(*plain: Any) -> str:
    """A digest of numbers, strings and tuples of such."""
    return hashlib.sha256(repr(plain).encode()).hexdigest()


@functools.cache
def source(*files: str) -> str:
    """A digest of code, for what depends on how a program is put together from what it computes; "" where it is not there."""
    try:
        return hashlib.sha256(b"".join(pathlib.Path(file).read_bytes() for file in files)).hexdigest()
    except OSError:  # as of an installation without the sources
        return ""


def _say(said: list[str], x: Any) -> None:
    """Adds an account of `x` that no other thing has."""
    kind = type(x)
    if x is None or kind in _PLAIN:
        said.append(repr(x))
    elif isinstance(x, tuple | list):
        said.append(f"{kind.__name__} {len(x)}")
        for y in x:
            _say(said, y)
    elif isinstance(x, core.ClosedJaxpr):
        _say(said, list(x.consts))
        _say_jaxpr(said, x.jaxpr)
    elif isinstance(x, core.Jaxpr):
        _say_jaxpr(said, x)
    elif isinstance(x, Mapping):
        said.append(f"mapping {len(x)}")
        for key, y in x.items():
            _say(said, key)
            _say(said, y)
    elif hasattr(x, "__array__") and hasattr(x, "dtype") and hasattr(x, "shape"):
        said.append(_array(x))
    elif isinstance(x, enum.Enum):
        said.append(str(x))
    else:
        words = repr(x)
        if " at 0x" in words or "..." in words:  # an address is another next time; what is left out may be anything
            raise _Unknown(words)
        said.append(f"{kind.__name__} {words}")


_PLAIN = {bool, int, float, complex, str, bytes, np.dtype}


def _say_jaxpr(said: list[str], jaxpr: core.Jaxpr) -> None:
    numbers: dict[Any, int] = {}

    def name(v: Any) -> str:
        if isinstance(v, core.Literal):
            return f"{v.val!r}:{_aval(v.aval)}" if v.aval.shape == () else _array(v.val)
        return str(numbers[v])

    def bind(variables: Any) -> str:
        for v in variables:
            numbers[v] = len(numbers)
        return " ".join([_aval(v.aval) for v in variables])

    said.append(f"{bind(jaxpr.constvars)}; {bind(jaxpr.invars)}")
    for eqn in jaxpr.eqns:
        primitive, ctx = eqn.primitive, eqn.ctx
        taken = " ".join([name(v) for v in eqn.invars])
        said.append(f"{primitive.name} {taken} -> {bind(eqn.outvars)} {eqn.source_info.name_stack}")
        if ctx.compute_type is not None or ctx.xla_metadata is not None:
            _say(said, (ctx.compute_type, ctx.xla_metadata))
        if primitive in forms:
            said.append(forms[primitive]())
        for key, value in eqn.params.items():
            if key not in _RULES:
                said.append(key)
                _say(said, value)
    said.append(" ".join([name(v) for v in jaxpr.outvars]))


def _aval(a: Any) -> str:
    if not hasattr(a, "dtype"):
        raise _Unknown(repr(a))
    return f"{a.dtype.name}{a.shape}{'*' if a.weak_type else ''}"


def _array(x: Any) -> str:
    at = np.asarray(x)
    return f"array {at.dtype} {at.shape} {hashlib.sha256(at.tobytes()).hexdigest()}"
