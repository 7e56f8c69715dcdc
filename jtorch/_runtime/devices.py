"""torch.device, and which JAX device each names."""

from __future__ import annotations

import functools
import re
import threading

import jax

from jtorch._runtime import workers

_TYPES = ("cpu", "cuda", "meta", "mps", "xpu", "xla", "tpu")
_BACKENDS = {"cpu": "cpu", "cuda": "gpu", "xla": None, "tpu": "tpu"}


class _Local(threading.local):
    # Of a thread that set none. Found on the class: to miss an attribute costs an exception.
    default: device | None = None


_local = _Local()


class device:
    """Where a tensor lives: `torch.device("cuda", 1)`, `torch.device("cuda:1")`, `torch.device(1)`.

    Also a context manager, and a decorator, under which factories place what they make here.
    """

    __slots__ = ("_outer", "index", "type")

    def __init__(self, type: str | int | device = "cpu", index: int | None = None):
        if isinstance(type, device):
            type, index = type.type, type.index
        elif isinstance(type, int) and not isinstance(type, bool):
            type, index = "cuda", type
        elif isinstance(type, str):
            match = re.fullmatch(r"([a-z_]+)(?::(\d+))?", type)
            if not match or match[1] not in _TYPES:
                raise RuntimeError(
                    "Expected one of cpu, cuda, ipu, xpu, mkldnn, opengl, opencl, ideep, hip, ve, fpga, maia, xla, lazy, "
                    "vulkan, mps, meta, hpu, mtia, privateuseone device type at start of device string: "
                    f"{type.split(':')[0]}"
                )
            if match[2] is not None:
                if index is not None:
                    raise RuntimeError(
                        f"type (string) must not include an index because index was passed explicitly: {type}"
                    )
                index = int(match[2])
            type = match[1]
        else:
            raise TypeError(f"device(): argument 'type' (position 1) must be str, not {type.__class__.__name__}")
        self.type: str = type
        self.index: int | None = index
        self._outer: list[device | None] = []

    def __repr__(self) -> str:
        return (
            f"device(type='{self.type}')" if self.index is None else f"device(type='{self.type}', index={self.index})"
        )

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, device) and self.type == other.type and self.index == other.index

    def __hash__(self) -> int:
        return hash((self.type, self.index))

    def __reduce__(self):
        return device, (self.type, self.index)

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        return self

    def __enter__(self) -> device:
        self._outer.append(_local.default)
        set_default(self)
        return self

    def __exit__(self, *exc) -> None:
        _local.default = self._outer.pop()

    def __call__(self, fn):
        @functools.wraps(fn)
        def under(*args, **kwargs):
            with device(self):
                return fn(*args, **kwargs)

        return under


CPU = device("cpu")
META = device("meta")
_CANONICAL: dict = {None: CPU}


def default() -> device:
    """The device of factories that are given none."""
    return _local.default or CPU


def set_default(d) -> None:
    """Sets the default device; None is the CPU again."""
    _local.default = None if d is None else canonical(d)


def canonical(d) -> device:
    """A device with its index where its kind counts them, one object per device. RuntimeError if it is not there."""
    if d is None:
        return default()
    found = _CANONICAL.get(d)
    if found is None:
        found = device(d)
        if found.type == "cpu":
            found = CPU if found.index in (None, 0) else found
        elif found.type == "meta":
            found = META
        else:
            count = len(jax_devices(found.type))
            if not count:
                raise no_device(found.type)
            found = device(found.type, found.index or 0)
            if (found.index or 0) >= count:
                raise RuntimeError("CUDA error: invalid device ordinal")
        _CANONICAL[d] = found
        found = _CANONICAL.setdefault(found, found)
    return found


def no_device(kind: str) -> Exception:
    """What torch raises for a kind of device that is not there."""
    if kind == "cuda":
        return AssertionError("Torch not compiled with CUDA enabled")
    return RuntimeError(f"PyTorch is not linked with support for {kind} devices")


@functools.lru_cache
def jax_devices(kind: str) -> tuple:
    """JAX's devices of a torch device type; empty where there is no such backend."""
    workers.begin()
    try:
        return tuple(jax.devices(_BACKENDS[kind]))
    except (RuntimeError, KeyError):
        return ()


@functools.lru_cache
def to_jax(d: device):
    """The JAX device that holds a torch device's arrays."""
    return jax_devices(d.type)[d.index or 0]


@functools.cache
def is_only(d: device) -> bool:
    """Whether JAX has no other device of a device's kind, so that no array can be spread over several."""
    return len(jax_devices(d.type)) == 1


@functools.lru_cache
def from_jax(d) -> device:
    """The torch device of a JAX device."""
    kind = {"cpu": "cpu", "gpu": "cuda", "cuda": "cuda", "rocm": "cuda", "tpu": "xla"}.get(d.platform, "xla")
    return CPU if kind == "cpu" else canonical(f"{kind}:{jax_devices(kind).index(d)}")
