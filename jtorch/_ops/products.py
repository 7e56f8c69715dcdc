"""Products of more than two matrices or other ranks: tensordot, chains, the vector product."""

from __future__ import annotations

import jax.numpy as jnp

from jtorch._ops._common import Array, Arrays, scalar_name, wrap_dim, wrap_dims
from jtorch._ops.matmul import C_NAMES, check_batches, contract, mm, same_scalar
from jtorch._ops.registry import op


@op(key="tensordot", name="tensordot", grad_name="ViewBackward0")
def tensordot(a: Array, b: Array, dims: int | tuple[tuple[int, ...], tuple[int, ...]] = 2) -> Array:
    """Sums products over pairs of dims: the last `dims` of a with the first of b, or the two lists of dims given."""
    if isinstance(dims, int):
        if dims < 0:
            raise RuntimeError(f"tensordot expects dims >= 0, but got dims={dims}")
        if dims > min(a.ndim, b.ndim):
            raise RuntimeError(f"tensordot expects dims < ndim_a or ndim_b, but got dims={dims}")
        left, right = tuple(range(-dims, 0)), tuple(range(dims))
    else:
        left, right = ((d,) if isinstance(d, int) else tuple(d) for d in dims)
    if len(left) != len(right):
        raise RuntimeError("both dimension lists should have same length")
    if a.dtype != b.dtype:
        raise RuntimeError("both inputs should have same dtype")
    axes_a = wrap_dims(left, a.ndim) if left else ()
    axes_b = wrap_dims(right, b.ndim) if right else ()
    for i, j, given_i, given_j in zip(axes_a, axes_b, left, right, strict=True):
        n, m = a.shape[i], b.shape[j]
        # A dim of one broadcasts against its partner, which is summed beforehand.
        if n == 1 and m != 1:
            b = b.sum(j, keepdims=True, dtype=b.dtype)
        elif m == 1 and n != 1:
            a = a.sum(i, keepdims=True, dtype=a.dtype)
        elif n != m:
            raise RuntimeError(
                f"contracted dimensions need to match, but first has size {n} in dim {given_i} and second has size {m} "
                f"in dim {given_j}"
            )
    return contract(a, b, (axes_a, axes_b))


def _chain_cost(sizes: list[int]) -> dict[tuple[int, int], int]:
    """Where to split each span of a matrix chain so that the multiplications are fewest."""
    n = len(sizes) - 1
    cost = {(i, i): 0 for i in range(n)}
    split: dict[tuple[int, int], int] = {}
    for length in range(1, n):
        for i in range(n - length):
            j = i + length
            options = [(cost[i, k] + cost[k + 1, j] + sizes[i] * sizes[k + 1] * sizes[j + 1], k) for k in range(i, j)]
            cost[i, j], split[i, j] = min(options)
    return split


@op(function=False, namespaces=("linalg",), grad_name="MmBackward0")
def multi_dot(tensors: Arrays) -> Array:
    """Product of two or more matrices in the cheapest order. The first and the last may be vectors."""
    if len(tensors) < 2:
        raise RuntimeError(f"multi_dot(): expected at least 2 tensors but got {len(tensors)}")
    last = len(tensors) - 1
    for i, x in enumerate(tensors):
        if i in (0, last):
            if x.ndim not in (1, 2):
                which = "first" if i == 0 else "last"
                raise RuntimeError(f"multi_dot(): the {which} tensor must be 1D or 2D but got {x.ndim}D")
        elif x.ndim != 2:
            raise RuntimeError(f"multi_dot(): tensor {i} must be 2D but got {x.ndim}D")
        if x.dtype != tensors[0].dtype:
            names = [C_NAMES[scalar_name(t)] for t in (tensors[0], x)]
            raise RuntimeError(
                f"multi_dot(): all tensors must have be the same dtype but tensor 0 is {names[0]} and tensor {i} "
                f"{names[1]}"
            )
    mats = list(tensors)
    if mats[0].ndim == 1:
        mats[0] = mats[0][None]
    if mats[-1].ndim == 1:
        mats[-1] = mats[-1][:, None]
    for i in range(last):
        if mats[i].shape[1] != mats[i + 1].shape[0]:
            raise RuntimeError(
                f"multi_dot(): tensors {i} and {i + 1} with shapes {list(mats[i].shape)} and "
                f"{list(mats[i + 1].shape)} cannot be multiplied"
            )
    split = _chain_cost([mats[0].shape[0], *(m.shape[1] for m in mats)])

    def span(i: int, j: int) -> Array:
        return mats[i] if i == j else mm(span(i, split[i, j]), span(split[i, j] + 1, j))

    out = span(0, last)
    keep = (0,) * (tensors[0].ndim == 1), (0,) * (tensors[-1].ndim == 1)
    out = out[0] if keep[0] else out
    return out[..., 0] if keep[1] else out


@op(key="chain_matmul", grad_name="MmBackward0")
def chain_matmul(matrices: Arrays) -> Array:
    """`linalg.multi_dot` under its old name; one matrix is returned as it is."""
    return matrices[0] if len(matrices) == 1 else multi_dot(matrices)


def cross_product(a: Array, b: Array, axis: int) -> Array:
    """The 3-vector product along an axis, other dims broadcast."""
    a, b = jnp.moveaxis(a, axis, 0), jnp.moveaxis(b, axis, 0)
    rows = [a[i] * b[j] - a[j] * b[i] for i, j in ((1, 2), (2, 0), (0, 1))]
    return jnp.stack(rows, axis)


@op(name="cross", key="linalg.cross", function=False, namespaces=("linalg",), grad_name="LinalgCrossBackward0")
def linalg_cross(input: Array, other: Array, *, dim: int = -1) -> Array:
    """Vector product along a dim of size 3; the others broadcast."""
    if input.ndim != other.ndim:
        raise RuntimeError("linalg.cross: inputs must have the same number of dimensions.")
    axis = wrap_dim(dim, input.ndim)
    if input.shape[axis] != 3 or other.shape[axis] != 3:
        raise RuntimeError(
            f"linalg.cross: inputs dimension {dim} must have length 3. Got {input.shape[axis]} and {other.shape[axis]}"
        )
    check_batches(input.shape, other.shape)
    same_scalar(input, other)
    shape = jnp.broadcast_shapes(input.shape, other.shape)
    return cross_product(jnp.broadcast_to(input, shape), jnp.broadcast_to(other, shape), axis)


@op(method=True, grad_name="LinalgCrossBackward0")
def cross(input: Array, other: Array, dim: int | None = None) -> Array:
    """Vector product along `dim`, by default the first dim of size 3."""
    if dim is None:
        threes = [i for i, size in enumerate(input.shape) if size == 3]
        if not threes:
            raise RuntimeError("no dimension of size 3 in input")
        dim = threes[0]
    return linalg_cross(input, other, dim=dim)
