"""Views of the same memory as another dtype: parts of complex numbers, bits."""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax

from jtorch._runtime import dtypes
from jtorch._runtime.avals import Aval, aval
from jtorch._tensor.base import Tensor
from jtorch._tensor.sharing import make
from jtorch._tensor.storage import detached, read_view


def _build_part(a: Aval, imag):
    real = a.dtype.to_real()
    out = aval(a.shape, real, a.device, tuple(2 * s for s in a.stride()))
    return out, 0, (jnp.imag if imag else jnp.real)


def real(input: Tensor) -> Tensor:
    """The real parts, as a view; a real tensor itself."""
    if not input.is_complex():
        return input
    r = make(input, "real", (False,), _build_part, "SelectBackward0")
    r._offset = 2 * input._offset
    return r


def imag(input: Tensor) -> Tensor:
    """The imaginary parts, as a view. RuntimeError for real tensors."""
    if not input.is_complex():
        raise RuntimeError("imag is not implemented for tensors with non-complex dtypes.")
    r = make(input, "imag", (True,), _build_part, "SelectBackward0")
    r._offset = 2 * input._offset + 1
    return r


def _build_as_real(a: Aval):
    out = aval((*a.shape, 2), a.dtype.to_real(), a.device, (*[2 * s for s in a.stride()], 1))
    return out, 0, lambda x: jnp.stack([x.real, x.imag], -1)


def view_as_real(input: Tensor) -> Tensor:
    """Complex numbers as pairs of reals in a new last dim, as a view."""
    if not input.is_complex():
        raise RuntimeError("view_as_real is only supported for complex tensors")
    r = make(input, "view_as_real", (), _build_as_real)
    r._offset = 2 * input._offset
    return r


def _build_as_complex(a: Aval):
    out = aval(a.shape[:-1], a.dtype.to_complex(), a.device, tuple(s // 2 for s in a.stride()[:-1]))
    return out, 0, lambda x: lax.complex(x[..., 0], x[..., 1])


def view_as_complex(input: Tensor) -> Tensor:
    """Pairs of reals in the last dim as complex numbers, as a view."""
    a = input._shape_aval()
    if a.dtype.name not in ("float32", "float64", "float16"):
        raise RuntimeError(
            "view_as_complex is only supported for half, float and double tensors, but got a tensor of scalar type: "
            + dtypes.SCALAR_NAMES[a.dtype]
        )
    if a.ndim == 0:
        raise RuntimeError("Input tensor must have one or more dimensions")
    if a.shape[-1] != 2:
        raise RuntimeError("Tensor must have a last dimension of size 2")
    if a.stride()[-1] != 1:
        raise RuntimeError("Tensor must have a last dimension with stride 1")
    if any(s % 2 for s in a.stride()[:-1]):
        raise RuntimeError("Tensor must have a stride divisible by 2 for all but last dimension")
    if input._offset % 2:
        raise RuntimeError("Tensor must have a storage_offset divisible by 2")
    r = make(input, "view_as_complex", (), _build_as_complex)
    r._offset = input._offset // 2
    return r


def view_dtype(t: Tensor, dtype: dtypes.dtype) -> Tensor:
    """The same bytes as another dtype."""
    a = t._shape_aval()
    if a.dtype is dtype:
        return t.detach()
    old, item = a.dtype.itemsize, dtype.itemsize
    strides = a.stride()
    if old == item:
        shape, new_strides, offset = a.shape, strides, t._offset
    elif a.ndim == 0:
        raise RuntimeError(
            f"self.dim() cannot be 0 to view {dtypes.SCALAR_NAMES[a.dtype]} as {dtypes.SCALAR_NAMES[dtype]} (different element sizes)"
        )
    elif old > item:
        k = old // item
        if strides[-1] != 1:
            raise RuntimeError(
                f"self.stride(-1) must be 1 to view {dtypes.SCALAR_NAMES[a.dtype]} as {dtypes.SCALAR_NAMES[dtype]} "
                f"(different element sizes), but got {strides[-1]}"
            )
        shape, new_strides, offset = (
            (*a.shape[:-1], a.shape[-1] * k),
            (*[s * k for s in strides[:-1]], 1),
            t._offset * k,
        )
    else:
        k = item // old
        if a.shape[-1] % k:
            raise RuntimeError(
                f"self.size(-1) must be divisible by {k} to view {dtypes.SCALAR_NAMES[a.dtype]} as "
                f"{dtypes.SCALAR_NAMES[dtype]} (different element sizes), but got {a.shape[-1]}"
            )
        if strides[-1] != 1:
            raise RuntimeError(
                f"self.stride(-1) must be 1 to view {dtypes.SCALAR_NAMES[a.dtype]} as {dtypes.SCALAR_NAMES[dtype]} "
                f"(different element sizes), but got {strides[-1]}"
            )
        if t._offset % k:
            raise RuntimeError(
                f"self.storage_offset() must be divisible by {k} to view {dtypes.SCALAR_NAMES[a.dtype]} as "
                f"{dtypes.SCALAR_NAMES[dtype]} (different element sizes), but got {t._offset}"
            )
        shape, new_strides, offset = (
            (*a.shape[:-1], a.shape[-1] // k),
            (*[s // k for s in strides[:-1]], 1),
            t._offset // k,
        )
    # Outside the graph, and no view to autograd: as `detach` gives.
    r = t.detach()
    r._value = detached(read_view(detached(r._storage.value), aval(shape, dtype, a.device, new_strides), offset))
    r._offset = offset
    return r
