"""What is true of the GPUs that JAX sees."""

from __future__ import annotations

import contextlib
from typing import Any

from jtorch._runtime import devices, executor
from jtorch._runtime.devices import device as _device

_current = [0]


def is_available() -> bool:
    """Whether JAX has a GPU."""
    return bool(devices.jax_devices("cuda"))


def device_count() -> int:
    """The number of GPUs."""
    return len(devices.jax_devices("cuda"))


def is_initialized() -> bool:
    """Whether a GPU is there and ready."""
    return is_available()


def init() -> None:
    """Raises where there is no GPU."""
    _need()


def _need() -> None:
    if not is_available():
        raise devices.no_device("cuda")


def _index(device: Any = None) -> int:
    _need()
    if device is None:
        return _current[0]
    if isinstance(device, int):
        return device if device >= 0 else _current[0]
    found = _device(device)
    if found.type != "cuda":
        raise ValueError(f"Expected a cuda device, but got: {found}")
    return _current[0] if found.index is None else found.index


def current_device() -> int:
    """The index of the GPU in use."""
    return _index()


def set_device(device: Any) -> None:
    """Chooses the GPU in use."""
    _current[0] = _index(device)


def get_device_name(device: Any = None) -> str:
    """A GPU's name."""
    return devices.jax_devices("cuda")[_index(device)].device_kind


def get_device_capability(device: Any = None) -> tuple[int, int]:
    """A GPU's compute capability."""
    told = str(getattr(devices.jax_devices("cuda")[_index(device)], "compute_capability", "0.0"))
    major, _, minor = told.partition(".")
    return int(major), int(minor or 0)


class _Properties:
    def __init__(self, index: int):
        self.name = get_device_name(index)
        self.major, self.minor = get_device_capability(index)
        self.total_memory = _stats(index).get("bytes_limit", 0)
        self.multi_processor_count = getattr(devices.jax_devices("cuda")[index], "core_count", 0)

    def __repr__(self) -> str:
        return (
            f"_CudaDeviceProperties(name='{self.name}', major={self.major}, minor={self.minor}, "
            f"total_memory={self.total_memory // 2**20}MB)"
        )


def get_device_properties(device: Any = None) -> _Properties:
    """Name, capability and memory of a GPU."""
    return _Properties(_index(device))


def synchronize(device: Any = None) -> None:
    """Runs what is pending and waits for it."""
    index = _index(device)
    executor.flush()
    import jax

    jax.device_put(0, devices.jax_devices("cuda")[index]).block_until_ready()


def _stats(device: Any = None) -> dict:
    return devices.jax_devices("cuda")[_index(device)].memory_stats() or {} if is_available() else {}


def memory_allocated(device: Any = None) -> int:
    """Bytes in use; 0 without a GPU."""
    return _stats(device).get("bytes_in_use", 0)


def max_memory_allocated(device: Any = None) -> int:
    """The most bytes that were in use; 0 without a GPU."""
    return _stats(device).get("peak_bytes_in_use", 0)


def memory_reserved(device: Any = None) -> int:
    """Bytes that JAX holds; 0 without a GPU."""
    return _stats(device).get("pool_bytes", _stats(device).get("bytes_reserved", 0))


def max_memory_reserved(device: Any = None) -> int:
    """The most bytes that JAX held; 0 without a GPU."""
    return _stats(device).get("peak_pool_bytes", memory_reserved(device))


def mem_get_info(device: Any = None) -> tuple[int, int]:
    """(free, total) bytes of a GPU."""
    _need()
    limit = _stats(device).get("bytes_limit", 0)
    return limit - memory_allocated(device), limit


def empty_cache() -> None:
    """Returns memory that nothing uses. JAX's allocator keeps its own counsel: pending work is run, no more."""
    executor.flush()


def reset_peak_memory_stats(device: Any = None) -> None:
    """JAX's peaks can't be reset: this only checks the device."""
    if is_available():
        _index(device)


def manual_seed(seed: int) -> None:
    """Restarts the random streams of the GPU in use."""
    from jtorch._tensor import random

    if is_available():
        where = devices.canonical(f"cuda:{_current[0]}")
        random._accelerator[where] = random.Generator(where).manual_seed(seed)


def manual_seed_all(seed: int) -> None:
    """Restarts the random streams of all GPUs."""
    from jtorch._tensor import random

    for i in range(device_count()):
        where = devices.canonical(f"cuda:{i}")
        random._accelerator[where] = random.Generator(where).manual_seed(seed)


class device(contextlib.ContextDecorator):
    """The GPU in use for a block."""

    def __init__(self, device: Any):
        self.idx = _index(device) if is_available() else -1

    def __enter__(self):
        self._before = _current[0]
        if self.idx >= 0:
            _current[0] = self.idx
        return self

    def __exit__(self, *exc: object) -> None:
        _current[0] = self._before


def is_bf16_supported(including_emulation: bool = True) -> bool:
    """Whether the GPU computes bfloat16."""
    return is_available()
