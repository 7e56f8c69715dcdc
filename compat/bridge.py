"""From torch's objects to jtorch's equivalents, and back.

Tensors keep values, dtype, strides and `requires_grad`; a tensor met twice in one structure stays one tensor. Functions
of torch become jtorch's function of the same public name, and small Python functions that merely speak about `torch`
(PyTorch's databases are full of them) are rebound to speak about `jtorch`.
"""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import enum
import functools
import importlib
import types
from typing import Any

import ml_dtypes
import numpy as np
import torch

LIBRARY = "jtorch"
SMALL = 200  # elements: what lies around a view in its storage is carried over up to here


class Absent(Exception):
    """jtorch has no such name (yet)."""


class Unconvertible(Absent):
    """What jtorch has no counterpart of: sparse, quantized, nested tensors."""


def library() -> Any:
    """The library under test."""
    return importlib.import_module(LIBRARY)


# ---- names -----------------------------------------------------------------------------------------------------------

_SPACES = (
    "", "nn.functional", "linalg", "special", "fft", "Tensor", "nn", "nn.init", "nn.utils", "signal.windows", "optim",
    "autograd", "masked", "sparse", "utils", "nn.attention", "random",
)  # fmt: skip


def lookup(path: str, root: Any = None) -> Any:
    """What a dotted public name such as "nn.functional.relu" stands for in jtorch. Absent where there is nothing."""
    at = library() if root is None else root
    so_far = at.__name__
    for part in path.split("."):
        so_far += "." + part
        try:
            at = getattr(at, part)
        except AttributeError:
            try:
                at = importlib.import_module(so_far)
            except ImportError:
                raise Absent(f"no {so_far}") from None
    return at


@functools.cache
def _public_names() -> dict[int, str]:
    """The public name of each function and class of torch, by identity."""
    names: dict[int, str] = {}
    for space in _SPACES:
        home = functools.reduce(getattr, space.split("."), torch) if space else torch
        for name in sorted(dir(home), key=lambda name: name.startswith("_")):  # `threshold` before `_threshold`
            if name.startswith("_") and not (space in ("Tensor", "nn.functional") or name.startswith("_safe")):
                continue
            try:
                value = getattr(home, name)
            except Exception:  # properties of the class that refuse to be read
                continue
            if callable(value):
                names.setdefault(id(value), f"{space}.{name}" if space else name)
    return names


def public_name(function: Any) -> str | None:
    """The dotted name under which torch offers this very object, without the leading `torch.`."""
    name = _public_names().get(id(function))
    if name is None and isinstance(function, types.MethodDescriptorType | types.WrapperDescriptorType):
        name = "Tensor." + function.__name__
    return name


# ---- functions -------------------------------------------------------------------------------------------------------


def rebind(function: Any) -> Any:
    """jtorch's counterpart of a function: its namesake, or a copy whose globals say jtorch where torch's say torch."""
    return _rebind(function, {})


def _rebind(function: Any, memo: dict[int, Any]) -> Any:
    name = public_name(function)
    if name is not None:
        return lookup(name)
    if id(function) in memo:
        return memo[id(function)]
    if isinstance(function, functools.partial):
        return functools.partial(
            _rebind(function.func, memo),
            *[_reach(a, memo) for a in function.args],
            **{k: _reach(v, memo) for k, v in function.keywords.items()},
        )
    if isinstance(function, types.MethodType):
        return types.MethodType(_rebind(function.__func__, memo), function.__self__)
    home = getattr(function, "__module__", None) or ""
    if isinstance(function, types.FunctionType) and (
        not home.startswith("torch.") or home.startswith("torch.testing.")
    ):
        if function.__name__ == "freeze_rng_state":  # the suite seeds before each call anyway
            return contextlib.nullcontext
        scope = dict(function.__globals__)
        cells = tuple([types.CellType() for _ in function.__closure__ or ()])
        made = types.FunctionType(function.__code__, scope, function.__name__, function.__defaults__, cells or None)
        memo[id(function)] = made
        for used in _names_used(function.__code__):
            if used in scope:
                scope[used] = _reach(scope[used], memo)
        for cell, original in zip(cells, function.__closure__ or (), strict=True):
            with contextlib.suppress(ValueError):  # an empty cell
                cell.cell_contents = _reach(original.cell_contents, memo)
        made.__kwdefaults__ = function.__kwdefaults__ and {
            k: _reach(v, memo) for k, v in function.__kwdefaults__.items()
        }
        made.__defaults__ = function.__defaults__ and tuple(_reach(v, memo) for v in function.__defaults__)
        return made
    if home.split(".")[0] == "torch" or "torch" in repr(type(function)):
        raise Absent(f"no counterpart of {function!r}")
    return function


def _names_used(code: types.CodeType) -> set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _names_used(constant)
    return names


def _reach(value: Any, memo: dict[int, Any]) -> Any:
    """What a rebound function finds where the original found `value`."""
    if isinstance(value, types.ModuleType):
        path = value.__name__.split(".")
        if path[0] != "torch" or path[1:2] == ["testing"]:
            return value
        try:
            return lookup(".".join(path[1:])) if len(path) > 1 else library()
        except Absent:
            return _Missing(value.__name__)
    if isinstance(
        value, types.FunctionType | types.BuiltinFunctionType | types.MethodDescriptorType | functools.partial
    ):
        module = getattr(value, "__module__", None) or ""
        if public_name(value) is None and module.split(".")[0] not in ("torch", ""):
            return value
        try:
            return _rebind(value, memo)
        except Absent:
            return _Missing(getattr(value, "__name__", "?"))
    if isinstance(value, type):
        if value.__module__.split(".")[0] == "torch" and not value.__module__.startswith("torch.testing"):
            try:
                return _class(value)
            except Absent:
                return _Missing(value.__name__)
        return value
    try:
        return convert(value)
    except Absent:
        return _Missing(repr(value)[:60])


class _Missing:
    """Stands for something jtorch lacks; using it says so."""

    def __init__(self, name: str):
        self._name = name

    def __call__(self, *args, **kwargs):
        raise Absent(f"no {self._name}")

    def __getattr__(self, name: str):
        raise Absent(f"no {self._name}.{name}")


def _class(value: type) -> Any:
    name = public_name(value)
    if name is None:
        name = f"{value.__module__}.{value.__qualname__}".removeprefix("torch.")
    return lookup(name)


# ---- values ----------------------------------------------------------------------------------------------------------


def convert(value: Any, memo: dict[int, Any] | None = None) -> Any:
    """The jtorch form of a structure of torch objects, numbers and strings."""
    memo = {} if memo is None else memo
    kind = type(value)
    if value is None or kind in (bool, int, float, complex, str, bytes, slice, range) or value is Ellipsis:
        return value if kind is not slice else slice(*[convert(v, memo) for v in (value.start, value.stop, value.step)])
    if id(value) in memo:
        return memo[id(value)][0]
    made = _convert(value, memo)
    memo[id(value)] = made, value  # the original is held so that its id stays its own
    return made


def _convert(value: Any, memo: dict[int, Any]) -> Any:
    if isinstance(value, torch.Tensor):
        return tensor(value)
    if isinstance(value, torch.dtype):
        return dtype(value)
    if isinstance(value, torch.device):
        return library().device(str(value))
    if isinstance(value, torch.layout | torch.memory_format):
        return lookup(str(value).removeprefix("torch."))
    if isinstance(value, torch.Size):
        return tuple(value)
    if isinstance(value, torch.Generator):
        made = library().Generator()
        made.set_state(tensor(value.get_state()))
        return made
    if isinstance(value, torch.nn.Module):
        raise Unconvertible(f"a module {type(value).__name__}")
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*[convert(v, memo) for v in value])
    if isinstance(value, tuple | list):
        return type(value)([convert(v, memo) for v in value])
    if isinstance(value, collections.abc.Mapping):
        made = type(value)() if not isinstance(value, types.MappingProxyType) else {}
        for k, v in value.items():
            made[k] = convert(v, memo)  # type: ignore[index]
        return made
    if isinstance(value, np.ndarray | np.generic | enum.Enum | collections.abc.Iterator) or dataclasses.is_dataclass(
        value
    ):
        return value
    if isinstance(value, type):
        return _class(value) if value.__module__.startswith("torch") else value
    if callable(value):
        return rebind(value)
    raise Unconvertible(f"{type(value).__name__}")


def dtype(value: torch.dtype) -> Any:
    """jtorch's dtype of the same name."""
    name = str(value).removeprefix("torch.")
    try:
        return getattr(library(), name)
    except AttributeError:
        raise Unconvertible(f"no dtype {name}") from None


def tensor(t: torch.Tensor) -> Any:
    """A jtorch tensor of the same values, dtype, strides and requires_grad, over memory of its own."""
    if t.layout is not torch.strided or t.is_quantized or t.is_nested:
        raise Unconvertible(f"a tensor of layout {t.layout}")
    lib = library()
    source = t.detach()
    if source.device.type == "meta":
        made = lib.empty(tuple(t.shape), dtype=dtype(t.dtype), device="meta")
    else:
        made = _strided(source.resolve_conj().resolve_neg(), lib)
    if isinstance(t, torch.nn.Parameter):
        return lib.nn.Parameter(made, requires_grad=t.requires_grad)
    return made.requires_grad_() if t.requires_grad else made


def _strided(t: torch.Tensor, lib: Any) -> Any:
    if t.numel() == 0:
        return _dense(t.contiguous(), lib)
    if t.is_contiguous():
        held = t.untyped_storage().nbytes() // t.element_size()
        if t.storage_offset() == 0 or held > SMALL:
            return _dense(t, lib)
        whole = _dense(torch.as_strided(t, (held,), (1,), 0), lib)
        return whole.as_strided(tuple(t.shape), t.stride(), t.storage_offset())
    order = sorted(range(t.ndim), key=lambda d: -t.stride(d))
    permuted = t.permute(order)
    if permuted.is_contiguous():
        return _dense(permuted, lib).permute([order.index(d) for d in range(t.ndim)])
    if 0 in t.stride() and all(n > 1 for n, s in zip(t.shape, t.stride(), strict=True) if s == 0):
        small = t[tuple(slice(0, 1) if s == 0 else slice(None) for s in t.stride())]
        if small.is_contiguous():
            return _dense(small, lib).expand(tuple(t.shape))
    span = 1 + sum((n - 1) * s for n, s in zip(t.shape, t.stride(), strict=True))
    flat = torch.as_strided(t, (t.storage_offset() + span,), (1,), 0)
    return _dense(flat, lib).as_strided(tuple(t.shape), t.stride(), t.storage_offset())


def _dense(t: torch.Tensor, lib: Any) -> Any:
    return lib.tensor(to_numpy(t), dtype=dtype(t.dtype)) if t.dtype not in _WIDENED else _narrow(t, lib)


_WIDENED = {
    torch.bfloat16: ml_dtypes.bfloat16,
    torch.float8_e4m3fn: ml_dtypes.float8_e4m3fn,
    torch.float8_e5m2: ml_dtypes.float8_e5m2,
}


def _narrow(t: torch.Tensor, lib: Any) -> Any:
    """Tensors of dtypes that NumPy lacks go by way of float32, which holds all their values."""
    return lib.tensor(to_numpy(t.to(torch.float32))).to(dtype(t.dtype))


def to_numpy(t: torch.Tensor) -> np.ndarray:
    """A NumPy copy of a tensor."""
    return np.array(t.detach().numpy())


def is_tensor(value: Any) -> bool:
    """Whether it is a tensor of the library under test."""
    return isinstance(value, library().Tensor)


def restore(value: Any) -> Any:
    """The torch form of what jtorch returned: tensors, and everything they are nested in."""
    if isinstance(value, torch.Tensor):
        return value
    if is_tensor(value):
        return restore_tensor(value)
    if isinstance(value, library().dtype):
        return getattr(torch, value.name)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*[restore(v) for v in value])
    if type(value).__name__ == "Size":
        return torch.Size(value)
    if isinstance(value, tuple | list):
        return tuple(map(restore, value)) if isinstance(value, tuple) else list(map(restore, value))
    if isinstance(value, collections.abc.Mapping):
        return {k: restore(v) for k, v in value.items()}
    if isinstance(value, library().device):
        return torch.device(str(value))
    return value


def restore_tensor(value: Any) -> torch.Tensor:
    """The torch form of one jtorch tensor, detached."""
    name = str(value.dtype).removeprefix("torch.")
    if value.device.type == "meta":
        return torch.empty(tuple(value.shape), dtype=getattr(torch, name), device="meta")
    host = np.asarray(value.detach().__jax_array__())
    wanted = getattr(torch, name)
    if wanted in _WIDENED:
        return torch.from_numpy(host.astype(np.float32)).to(wanted)
    made = torch.from_numpy(np.array(host, order="C"))
    if made.dtype is not wanted:
        raise AssertionError(f"jtorch says {name}, its array is {host.dtype}")
    return made.reshape(tuple(value.shape)) if made.shape == tuple(value.shape) else made
