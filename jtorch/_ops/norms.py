"""Norms of vectors and matrices, and what is read off singular values: rank, condition number."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
import numpy as np

from jtorch._ops._common import Array, DType, Operand, dtype_of, is_complex, is_float, scalar_name, wrap_dim, wrap_dims
from jtorch._ops.distances import magnitude, p_norm
from jtorch._ops.registry import op
from jtorch._runtime import dtypes

Order = int | float | str | None


def inexact(x: Array, name: str) -> None:
    """Raises unless x is floating or complex."""
    if not is_float(x) and not is_complex(x):
        raise RuntimeError(f"{name}: Expected a floating point or complex tensor as input. Got {scalar_name(x)}")


def at_least_matrix(x: Array, name: str, label: str = "A") -> None:
    if x.ndim < 2:
        raise RuntimeError(f"{name}: The input tensor {label} must have at least 2 dimensions.")


def square(x: Array, name: str) -> None:
    """Raises unless x is square matrices."""
    at_least_matrix(x, name)
    if x.shape[-1] != x.shape[-2]:
        raise RuntimeError(
            f"{name}: A must be batches of square matrices, but they are {x.shape[-2]} by {x.shape[-1]} matrices"
        )


def full_precision(x: Array, name: str) -> None:
    """Raises unless x is a type the decompositions take: no halves."""
    inexact(x, name)
    if x.dtype.itemsize == 2:
        raise RuntimeError(f"{name}: Low precision dtypes not supported. Got {scalar_name(x)}")


def _cast(x: Array, dtype: DType | None, name: str) -> tuple[Array, np.dtype]:
    """x as it is computed with, and the real dtype of the result."""
    inexact(x, name)
    if dtype is not None:
        if dtype.category < dtypes.FLOATING:
            raise RuntimeError(
                f"{name}: dtype should be floating point or complex, but got {dtypes.SCALAR_NAMES[dtype]}"
            )
        if is_complex(x) and not dtype.is_complex:
            raise RuntimeError(
                f"{name}: dtype should be complex for complex inputs, but got {dtypes.SCALAR_NAMES[dtype]}"
            )
        if not is_complex(x) and dtype.is_complex:
            raise RuntimeError(f"{name}: dtype should be real for real inputs, but got {dtypes.SCALAR_NAMES[dtype]}")
        x = x.astype(dtype.np)
    result = dtype_of(x).to_real().np
    return (x.astype(jnp.float32) if x.dtype.itemsize == 2 else x), result


def _vector_norm(
    x: Array, order: float, dim: int | tuple[int, ...] | None, keepdim: bool, dtype: DType | None, name: str
) -> Array:
    x, result = _cast(x, dtype, name)
    axes = wrap_dims(dim, x.ndim)
    if (order < 0 or order == math.inf) and any(x.shape[a] == 0 for a in axes):
        shown = {math.inf: "inf", -math.inf: "-inf"}.get(order, order)
        raise RuntimeError(
            f"{name} cannot compute the {shown} norm on an empty tensor because the operation does not have an identity"
        )
    if x.ndim == 0:
        return p_norm(x[None], order, 0).astype(result)
    return p_norm(x, order, axes, keepdim).astype(result)


@op(function=False, namespaces=("linalg",), grad_name="LinalgVectorNormBackward0", saves="both")
def vector_norm(
    x: Array,
    ord: float = 2,
    dim: int | tuple[int, ...] | None = None,
    keepdim: bool = False,
    *,
    dtype: DType | None = None,
) -> Array:
    """(sum |x|^ord)^(1/ord) over the dims, all by default. The result is real."""
    return _vector_norm(x, float(ord), dim, keepdim, dtype, "linalg.vector_norm")


def _singular_values(x: Array) -> Array:
    return jnp.linalg.svd(x, compute_uv=False)


def _matrix_norm(A: Array, order: Any, dim: Any, keepdim: bool, dtype: DType | None) -> Array:
    name = "linalg.matrix_norm"
    at_least_matrix(A, name)
    if len(dim) != 2:
        raise RuntimeError(f"{name}: dim must be a 2-tuple. Got {' '.join(map(str, dim))}")
    rows, columns = (wrap_dim(d, A.ndim) for d in dim)
    if rows == columns:
        raise RuntimeError(f"{name}: dims must be different. Got ({dim[0]}, {dim[1]})")
    if order == "fro":
        return _vector_norm(A, 2.0, (rows, columns), keepdim, dtype, name)
    if (isinstance(order, str) and order != "nuc") or (
        not isinstance(order, str) and abs(order) not in (1, 2, math.inf)
    ):
        raise RuntimeError(f"{name}: Order {order} not supported.")
    x, result = _cast(A, dtype, name)
    if order in ("nuc", 2, -2):
        values = _singular_values(jnp.moveaxis(x, (rows, columns), (-2, -1)))
        if isinstance(order, str):
            out = values.sum(-1, dtype=values.dtype)
        else:
            out = values.max(-1) if order > 0 else values.min(-1)
        if keepdim:
            out = jnp.expand_dims(out, (rows, columns))
        return out.astype(result)
    assert not isinstance(order, str)
    along, over = (rows, columns) if abs(order) == 1 else (columns, rows)
    total = magnitude(x).sum(along, keepdims=True)
    out = total.max(over, keepdims=True) if order > 0 else total.min(over, keepdims=True)
    return (out if keepdim else jnp.squeeze(out, (rows, columns))).astype(result)


@op(function=False, namespaces=("linalg",), grad_name="LinalgVectorNormBackward0")
def matrix_norm(
    A: Array,
    ord: int | float | str = "fro",
    dim: tuple[int, int] = (-2, -1),
    keepdim: bool = False,
    *,
    dtype: DType | None = None,
) -> Array:
    """'fro', 'nuc', or the operator norms 1, -1, 2, -2, inf, -inf over two dims."""
    return _matrix_norm(A, ord, dim, keepdim, dtype)


@op(key="linalg.norm", name="norm", function=False, namespaces=("linalg",), grad_name="LinalgVectorNormBackward0")
def linalg_norm(
    input: Array,
    ord: int | float | str | None = None,
    dim: int | tuple[int, ...] | None = None,
    keepdim: bool = False,
    *,
    dtype: DType | None = None,
) -> Array:
    """A vector norm where one dim (or no order) is given, a matrix norm where there are two."""
    dims = (dim,) if isinstance(dim, int) else dim
    if dims is not None and ord is not None and len(dims) not in (1, 2):
        raise RuntimeError(f"linalg.norm: If dim is specified, it must be of length 1 or 2. Got {list(dims)}")
    if dims is None and ord is not None:
        if input.ndim not in (1, 2):
            raise RuntimeError(
                f"linalg.norm: If dim is not specified but ord is, the input must be 1D or 2D. Got {input.ndim}D."
            )
        if isinstance(ord, str):
            at_least_matrix(input, "linalg.matrix_norm")
        dims = (-2, -1) if input.ndim == 2 else (0,)
    if isinstance(ord, str) or (ord is not None and dims is not None and len(dims) == 2):
        return _matrix_norm(input, ord, dims, keepdim, dtype)
    return _vector_norm(input, 2.0 if ord is None else float(ord), dims, keepdim, dtype, "linalg.vector_norm")


def tolerance(values: Array, shape: tuple[int, ...], atol: Operand, rtol: Operand) -> Array:
    """The cut below which singular (or absolute eigen-) values count as zero: max(atol, rtol * largest)."""
    dtype = values.dtype
    default = np.asarray(np.finfo(dtype).eps * max(shape[-2:]), dtype)
    if rtol is None:
        # An absolute tolerance switches the relative default off, unless it is 0.
        rtol = default if atol is None else jnp.where(jnp.asarray(atol) > 0, np.asarray(0, dtype), default)
    atol = np.asarray(0, dtype) if atol is None else jnp.asarray(atol).astype(dtype)
    largest = values.max(-1) if values.shape[-1] else jnp.zeros(values.shape[:-1], dtype)
    return jnp.maximum(atol, jnp.asarray(rtol).astype(dtype) * largest)


@op(function=False, namespaces=("linalg",), differentiable=False)
def matrix_rank(
    A: Array, *, atol: Operand | None = None, rtol: Operand | None = None, hermitian: bool = False
) -> Array:
    """How many singular values exceed max(atol, rtol * the largest): int64."""
    at_least_matrix(A, "torch.linalg.matrix_rank", "input")
    full_precision(A, "linalg.matrix_rank")
    if 0 in A.shape[-2:]:
        return jnp.zeros(A.shape[:-2], jnp.int64)
    values = jnp.abs(jnp.linalg.eigvalsh(A, symmetrize_input=False)) if hermitian else _singular_values(A)
    cut = tolerance(values, A.shape, atol, rtol)
    return (values > cut[..., None]).sum(-1, dtype=jnp.int64)


@op(function=False, namespaces=("linalg",), grad_name="SqueezeBackward1")
def cond(A: Array, p: int | float | str | None = None) -> Array:
    """Condition number: the norm of A times that of its inverse, by singular values for p None, 2 and -2."""
    if A.ndim < 2:
        raise RuntimeError("linalg.cond: The input tensor must have at least 2 dimensions.")
    full_precision(A, "linalg.cond")
    if p in (None, 2, -2):
        if 0 in A.shape[-2:]:
            return jnp.zeros(A.shape[:-2], dtype_of(A).to_real().np)
        values = _singular_values(A)
        return values[..., -1] / values[..., 0] if p == -2 else values[..., 0] / values[..., -1]
    square(A, f"linalg.cond(ord={p})")
    if A.shape[-1] == 0:
        return jnp.zeros(A.shape[:-2], dtype_of(A).to_real().np)
    inverse = jnp.linalg.inv(A)
    result = _matrix_norm(A, p, (-2, -1), False, None) * _matrix_norm(inverse, p, (-2, -1), False, None)
    # A singular matrix has an infinite condition number.
    return jnp.where(jnp.isfinite(inverse).all((-2, -1)), result, np.asarray(np.inf, result.dtype))
