"""What is known of an array before it is computed: shape, dtype, device, strides."""

from __future__ import annotations

import functools
import math
from typing import Any, SupportsIndex, overload

import jax

from jtorch._runtime import devices, dtypes


class Size(tuple[int, ...]):
    """The shape of a tensor: a tuple of ints with `numel()`, and torch's repr."""

    __slots__ = ()
    __module__ = "jtorch"

    def __new__(cls, sizes=()):
        made = tuple.__new__(cls, sizes)
        for n in made:
            if type(n) is not int:
                return _checked(cls, made)
        return made

    def __repr__(self) -> str:
        return f"torch.Size([{', '.join(map(repr, self))}])"

    def numel(self) -> int:
        """The number of elements of a tensor of this size."""
        return math.prod(self)

    def __add__(self, other):
        return Size(tuple.__add__(self, tuple(other))) if isinstance(other, tuple) else NotImplemented

    def __radd__(self, other):
        return Size((*other, *self)) if isinstance(other, tuple) else NotImplemented

    def __mul__(self, other):
        return Size(tuple.__mul__(self, other))

    __rmul__ = __mul__

    @overload
    def __getitem__(self, index: SupportsIndex) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> Size: ...
    def __getitem__(self, index: Any) -> Any:
        got = tuple.__getitem__(self, index)
        return Size(got) if type(index) is slice else got

    def __reduce__(self):
        return Size, (tuple(self),)


def _checked(cls, sizes: tuple) -> Size:
    """A Size of what is no plain int: TypeError unless it counts as one."""
    for at, n in enumerate(tuple(sizes)):
        if not hasattr(n, "__index__"):
            raise TypeError(f"torch.Size() takes an iterable of 'int' (item {at} is '{type(n).__name__}')")
    return tuple.__new__(cls, tuple(n.__index__() for n in sizes))


class Aval:
    """Shape, dtype, device and strides; one object for each combination, so that identity is equality.

    `strides` is None for row-major. Arrays are row-major whatever the strides say: the strides are torch's account of
    the layout (what `stride()` answers, what `view` may do), which XLA keeps to itself. `contiguous` says whether they
    are row-major where it matters: those of dims of size 1 and of empty tensors are only remembered.
    """

    __slots__ = (
        "contiguous",
        "device",
        "dtype",
        "entries",
        "ndim",
        "numel",
        "shape",
        "sizes",
        "steps",
        "strides",
        "struct",
    )

    def __init__(self, shape: Size, dtype: dtypes.dtype, device: devices.device, strides: tuple[int, ...] | None):
        self.shape, self.dtype, self.device, self.strides = shape, dtype, device, strides
        self.ndim = len(shape)
        self.numel = math.prod(shape)
        self.contiguous = strides is None or is_contiguous(shape, strides)
        self.struct = jax.ShapeDtypeStruct(shape, dtype.np)
        # What the entry of such an array into a trace is looked up by, for each kind of node that it may have.
        self.entries = tuple(("in", self, kind) for kind in range(3))
        # `shape` and `stride()` as plain tuples, which take less time to look into.
        self.sizes = tuple(shape)
        self.steps = contiguous_strides(self.sizes) if strides is None else strides

    def __repr__(self) -> str:
        layout = "" if self.strides is None else f" strides={self.strides}"
        return f"{self.dtype.name}{list(self.shape)}@{self.device}{layout}"

    def stride(self) -> tuple[int, ...]:
        """Elements to skip for one step along each dim."""
        return self.steps

    def with_strides(self, strides: tuple[int, ...] | None) -> Aval:
        return aval(self.shape, self.dtype, self.device, strides)


_AVALS: dict[tuple, Aval] = {}


def aval(
    shape, dtype: dtypes.dtype, device: devices.device = devices.CPU, strides: tuple[int, ...] | None = None
) -> Aval:
    """The one Aval of these facts."""
    key = (tuple(shape), dtype, device, strides)
    found = _AVALS.get(key)
    if found is None:
        if strides is not None and strides == contiguous_strides(key[0]):
            found = aval(shape, dtype, device)
        else:
            found = Aval(Size(key[0]), dtype, device, strides)
        _AVALS[key] = found
    return found


_PLAIN: dict[tuple, Aval] = {}


def on_cpu(shape: tuple[int, ...], dtype: dtypes.dtype) -> Aval:
    """The one Aval of a row-major array on the CPU: `aval` in less time."""
    found = _PLAIN.get((shape, dtype))
    if found is None:
        found = _PLAIN[shape, dtype] = aval(shape, dtype)
    return found


def of_array(array) -> Aval:
    """The aval of a jax array (or tracer, which counts as on the CPU)."""
    where = devices.CPU
    if isinstance(array, jax.Array) and not isinstance(array, jax.core.Tracer):
        held = array.devices()
        if len(held) == 1:
            where = devices.from_jax(next(iter(held)))
        else:
            where = devices.from_jax(min(held, key=lambda d: d.id))
    return aval(array.shape, dtypes.from_numpy(array.dtype), where)


@functools.lru_cache(maxsize=4096)
def contiguous_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Row-major strides; a dim of size 0 counts as 1, as torch does."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


def is_contiguous(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Whether the strides are row-major where they matter: dims of size 1 and empty tensors don't."""
    if 0 in shape:
        return True
    expected = 1
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size != 1:
            if stride != expected:
                return False
            expected *= size
    return True


def is_dense(a: Aval) -> bool:
    """Whether a tensor's elements fill their stretch of memory, in whatever order of dims."""
    if a.contiguous:
        return True
    expected = 1
    for stride, size in sorted((s, n) for n, s in zip(a.shape, a.stride(), strict=True) if n != 1):
        if stride != expected:
            return False
        expected *= size
    return True
