"""The array side of views: reading a strided view out of a base, and writing one back into it.

A base is stored row-major in its logical shape; its strides say what torch's memory would look like. A view is a size,
strides and an offset over that memory. `reader` and `writer` find the cheapest form: a reshape to axes whose strides
are the view's, one dynamic slice (the start is a run-time input), a transpose; else a gather.
"""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
from jax import lax


class Layout:
    """How a view lies in a base. `starts(offset)` are the run-time numbers that the reader and the writer take."""

    __slots__ = ("axes", "base_order", "base_shape", "counts", "dims", "size", "stride", "strides_of_axes")

    def __init__(self, base_shape, base_strides, size, stride, offset):
        self.base_shape = tuple(base_shape)
        self.size, self.stride = tuple(size), tuple(stride)
        order = sorted(range(len(base_shape)), key=lambda d: (-base_strides[d] if base_shape[d] != 1 else 0, d))
        self.base_order = tuple(order)
        total = math.prod(base_shape)
        dims = [(s, n, d) for d, (n, s) in enumerate(zip(size, stride, strict=True)) if n != 1 and s != 0]
        self.dims = sorted(dims, key=lambda t: (-t[0], t[2]))
        self.axes: Any = None  # until _try finds them, as are the other two
        self.counts: Any = None
        self.strides_of_axes: Any = None
        if total and math.prod(size):
            radices = sorted({s for s, _, _ in self.dims} | {1}, reverse=True)
            if len({s for s, _, _ in self.dims}) == len(self.dims):
                self._try(radices, total, offset)

    def _try(self, radices, total, offset):
        axes, above = [], total
        for r in radices:
            if above % r:
                return
            axes.append(above // r)
            above = r
        by_stride = {s: n for s, n, _ in self.dims}
        counts = [by_stride.get(r, 1) for r in radices]
        rest = offset
        for r, extent, count in zip(radices, axes, counts, strict=True):
            digit = rest // r
            rest -= digit * r
            if digit + count > extent:
                return
        self.axes, self.counts, self.strides_of_axes = tuple(axes), tuple(counts), tuple(radices)

    def key(self):
        """What identifies the program: everything but the offset."""
        return self.base_shape, self.base_order, self.size, self.stride, self.axes, self.counts

    def starts(self, offset: int) -> tuple[int, ...]:
        """The offset as run-time numbers: a start along each axis, or the offset itself for a gather."""
        if self.axes is None:
            return (offset,)
        digits = []
        for r in self.strides_of_axes:
            digits.append(offset // r)
            offset -= digits[-1] * r
        return tuple(digits)

    def read(self, base, *starts):
        """The view's elements."""
        flat = self._flat(base)
        if self.axes is None:
            return flat[self._indices(starts[0])]
        part = flat.reshape(self.axes)
        if self.counts != self.axes:
            part = lax.dynamic_slice(part, starts, self.counts)
        # From one axis a stride to the view's own dims, missing ones (size 1, stride 0) put in.
        kept = [i for i, r in enumerate(self.strides_of_axes) if any(s == r for s, _, _ in self.dims)]
        part = part.reshape([self.counts[i] for i in kept])
        by_dim = sorted(range(len(self.dims)), key=lambda i: self.dims[i][2])
        part = part.transpose(by_dim)
        placed = {d: n for _, n, d in self.dims}
        part = part.reshape([placed.get(d, 1) for d in range(len(self.size))])
        return jnp.broadcast_to(part, self.size)

    def write(self, base, new, *starts):
        """The base with the view's elements replaced."""
        flat = self._flat(base)
        if self.axes is None:
            flat = flat.at[self._indices(starts[0])].set(new)
        else:
            placed = {d: n for _, n, d in self.dims}
            part = new.reshape([placed[d] for d in sorted(placed)])
            by_dim = sorted(range(len(self.dims)), key=lambda i: self.dims[i][2])
            inverse = sorted(range(len(by_dim)), key=lambda i: by_dim[i])
            part = part.transpose(inverse).reshape(self.counts)
            flat = part if self.counts == self.axes else lax.dynamic_update_slice(flat.reshape(self.axes), part, starts)
        ordered = [self.base_shape[d] for d in self.base_order]
        inverse = sorted(range(len(self.base_order)), key=lambda i: self.base_order[i])
        return flat.reshape(ordered).transpose(inverse)

    def _flat(self, base):
        return base.transpose(self.base_order).reshape(-1)

    def _indices(self, offset):
        at = jnp.asarray(offset).astype(jnp.int64)
        for d, (n, s) in enumerate(zip(self.size, self.stride, strict=True)):
            steps = lax.broadcasted_iota(jnp.int64, (n,), 0) * s
            at = at + steps.reshape([n if i == d else 1 for i in range(len(self.size))])
        return jnp.broadcast_to(at, self.size)

    def overlaps(self) -> bool:
        """Whether two elements of the view may share memory: those can't be written through."""
        if any(n > 1 and s == 0 for n, s in zip(self.size, self.stride, strict=True)):
            return True
        reach = 0
        for s, n, _ in reversed(self.dims):
            if s <= reach:
                return True
            reach += (n - 1) * s
        return False
