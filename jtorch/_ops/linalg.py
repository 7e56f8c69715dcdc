"""Linear algebra that solves and inverts: det, inv, solve, pinv, lstsq, matrix functions.

As with the decompositions, a singular matrix gives results that are not finite, and the `_ex` variants say so by
`info`.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jtorch._ops._common import Array, Operand, dtype_of, is_complex, scalar_name, wrap_dim
from jtorch._ops.decompositions import adjoint, first_zero, hermitian_of, permutation_of
from jtorch._ops.matmul import product
from jtorch._ops.norms import at_least_matrix, full_precision, inexact, square, tolerance
from jtorch._ops.registry import op

# --- Determinants


def _det(A: Array) -> Array:
    square(A, "linalg.det")
    full_precision(A, "linalg.det")
    # The determinant of nothing is the empty product.
    return jnp.linalg.det(A) if A.size else jnp.ones(A.shape[:-2], A.dtype)


@op(method=True, grad_name="LinalgDetBackward0")
def det(input: Array) -> Array:
    """Determinant of square matrices."""
    return _det(input)


@op(key="linalg.det", name="det", function=False, namespaces=("linalg",), grad_name="LinalgDetBackward0")
def linalg_det(A: Array) -> Array:
    """Determinant of square matrices."""
    return _det(A)


def _slogdet(A: Array, name: str = "linalg.slogdet") -> tuple[Array, Array]:
    square(A, name)
    full_precision(A, name)
    sign, logabs = jnp.linalg.slogdet(A)
    return sign, logabs


@op(method=True, returns=("sign", "logabsdet"), grad_name="LinalgSlogdetBackward0")
def slogdet(input: Array) -> tuple[Array, Array]:
    """Sign (or phase) of the determinant, and the logarithm of its size."""
    return _slogdet(input)


@op(
    key="linalg.slogdet", name="slogdet", function=False, namespaces=("linalg",), returns=("sign", "logabsdet"),
    grad_name="LinalgSlogdetBackward0",
)  # fmt: skip
def linalg_slogdet(A: Array) -> tuple[Array, Array]:
    """Sign (or phase) of the determinant, and the logarithm of its size."""
    return _slogdet(A)


@op(method=True, grad_name="WhereBackward0")
def logdet(input: Array) -> Array:
    """log det: nan where the determinant is negative, -inf where it is zero."""
    sign, logabs = _slogdet(input, "logdet")
    if is_complex(input):
        return jnp.log(sign) + logabs.astype(sign.dtype)
    return jnp.where(sign == -1, np.asarray(np.nan, logabs.dtype), logabs)


# --- Inverses and solutions


def _inv(A: Array, name: str = "linalg.inv") -> Array:
    square(A, name)
    full_precision(A, name)
    return jnp.linalg.inv(A) if A.size else A


@op(method=True, grad_name="LinalgInvExBackward0")
def inverse(input: Array) -> Array:
    """Inverse of square matrices."""
    return _inv(input)


@op(function=False, namespaces=("linalg",), grad_name="LinalgInvExBackward0")
def inv(A: Array) -> Array:
    """Inverse of square matrices."""
    return _inv(A)


@op(function=False, namespaces=("linalg",), returns=("inverse", "info"), grad_name="LinalgInvExBackward0")
def inv_ex(A: Array, *, check_errors: bool = False) -> tuple[Array, Array]:
    """`inv`, and where U of the LU decomposition has its first zero (from 1; 0: invertible)."""
    return _inv(A), first_zero(lax.linalg.lu(A)[0])


def _is_vector(A: Array, B: Array) -> bool:
    """Whether B is a batch of vectors: one dim, or A's shape less its last."""
    return B.ndim == 1 or (A.ndim - 1 == B.ndim and B.shape == A.shape[:-1])


def _solve(A: Array, B: Array, left: bool, name: str) -> Array:
    square(A, name)
    full_precision(A, name)
    if A.dtype != B.dtype:
        raise RuntimeError(
            f"{name}: Expected A and B to have the same dtype, but found A of type {scalar_name(A)} and B of type "
            f"{scalar_name(B)} instead"
        )
    vector = _is_vector(A, B)
    if vector and not left:
        raise RuntimeError(f"{name}: Vector broadcasting of the left hand side is not supported for left=False.")
    if vector:
        B = B[..., None]
    if A.shape[-1] != B.shape[-2 if left else -1]:
        equation = "AX = B" if left else "XA = B"
        raise RuntimeError(
            f"{name}: Incompatible shapes of A and B for the equation {equation} "
            f"({A.shape[-2]}x{A.shape[-1]} and {B.shape[-2]}x{B.shape[-1]})"
        )
    batch = jnp.broadcast_shapes(A.shape[:-2], B.shape[:-2])
    B = jnp.broadcast_to(B, (*batch, *B.shape[-2:]))
    if 0 in A.shape or 0 in B.shape:
        out = jnp.zeros_like(B)
    else:
        A = jnp.broadcast_to(A, (*batch, *A.shape[-2:]))
        out = jnp.linalg.solve(A, B) if left else jnp.swapaxes(_transposed_solve(A, B), -1, -2)
    return out[..., 0] if vector else out


def _transposed_solve(A: Array, B: Array) -> Array:
    return jnp.linalg.solve(jnp.swapaxes(A, -1, -2), jnp.swapaxes(B, -1, -2))


@op(function=False, namespaces=("linalg",), grad_name="LinalgSolveExBackward0")
def solve(A: Array, B: Array, *, left: bool = True) -> Array:
    """X with A X = B (or X A = B). B holds vectors where it is 1-D or shaped like A without its last dim."""
    return _solve(A, B, left, "linalg.solve")


@op(function=False, namespaces=("linalg",), returns=("result", "info"), grad_name="LinalgSolveExBackward0")
def solve_ex(A: Array, B: Array, *, left: bool = True, check_errors: bool = False) -> tuple[Array, Array]:
    """`solve`, and where U of A's LU decomposition has its first zero (from 1; 0: invertible)."""
    return _solve(A, B, left, "linalg.solve"), first_zero(lax.linalg.lu(A)[0])


def _triangular(A: Array, B: Array, upper: bool, left: bool, unit: bool, transpose: bool = False) -> Array:
    batch = jnp.broadcast_shapes(A.shape[:-2], B.shape[:-2])
    A = jnp.broadcast_to(A, (*batch, *A.shape[-2:]))
    B = jnp.broadcast_to(B, (*batch, *B.shape[-2:]))
    if not A.size or not B.size:
        return B
    return lax.linalg.triangular_solve(A, B, left_side=left, lower=not upper, transpose_a=transpose, unit_diagonal=unit)


@op(function=False, namespaces=("linalg",))
def solve_triangular(A: Array, B: Array, *, upper: bool, left: bool = True, unitriangular: bool = False) -> Array:
    """X with A X = B (or X A = B) for triangular A, of which the other triangle is not read."""
    name = "linalg.solve_triangular"
    square(A, name)
    at_least_matrix(B, name, "B")
    if A.dtype != B.dtype:
        raise RuntimeError(
            f"{name}: Expected A and B to have the same dtype, but found A of type {scalar_name(A)} and B of type "
            f"{scalar_name(B)} instead"
        )
    if A.shape[-1] != B.shape[-2 if left else -1]:
        equation = "AX = B" if left else "XA = B"
        raise RuntimeError(
            f"{name}: Incompatible shapes of A and B for the equation {equation} "
            f"({A.shape[-2]}x{A.shape[-1]} and {B.shape[-2]}x{B.shape[-1]})"
        )
    return _triangular(A, B, upper, left, unitriangular)


@op(method=True, returns=("solution", "cloned_coefficient"))
def triangular_solve(
    input: Array, A: Array, upper: bool = True, transpose: bool = False, unitriangular: bool = False
) -> tuple[Array, Array]:
    """X with A X = input for triangular A, and A."""
    square(A, "triangular_solve")
    batch = jnp.broadcast_shapes(A.shape[:-2], input.shape[:-2])
    return (
        _triangular(A, input, upper, True, unitriangular, transpose),
        jnp.broadcast_to(A, (*batch, *A.shape[-2:])),
    )


def _cholesky_solve(B: Array, L: Array, upper: bool) -> Array:
    factor = adjoint(L) if upper else L
    half = _triangular(factor, B, False, True, False)
    return _triangular(adjoint(factor), half, True, True, False)


@op(method=True)
def cholesky_solve(input: Array, L: Array, upper: bool = False) -> Array:
    """X with (L L^H) X = input; with `upper`, L holds the factor U of U^H U."""
    if input.ndim < 2:
        raise RuntimeError(f"b should have at least 2 dimensions, but has {input.ndim} dimensions instead")
    if L.ndim < 2:
        raise RuntimeError(f"u should have at least 2 dimensions, but has {L.ndim} dimensions instead")
    square(L, "cholesky_solve")
    return _cholesky_solve(input, L, upper)


@op(method=True)
def cholesky_inverse(L: Array, upper: bool = False) -> Array:
    """Inverse of L L^H, or of U^H U with `upper`."""
    square(L, "cholesky_inverse")
    return _cholesky_solve(jnp.broadcast_to(jnp.eye(L.shape[-1], dtype=L.dtype), L.shape), L, upper)


def _lu_solve(LU: Array, pivots: Array, B: Array, left: bool, adjoint_: bool) -> Array:
    """X with A X = B, A^H X = B, X A = B or X A^H = B, from A's LU decomposition."""
    if not left:
        return adjoint(_lu_solve(LU, pivots, adjoint(B), True, not adjoint_))
    batch = jnp.broadcast_shapes(LU.shape[:-2], B.shape[:-2])
    B = jnp.broadcast_to(B, (*batch, *B.shape[-2:]))
    order = jnp.broadcast_to(permutation_of(pivots, LU.shape[-1]), (*batch, LU.shape[-1]))
    if not adjoint_:
        B = jnp.take_along_axis(B, order[..., None], -2)
        return _triangular(LU, _triangular(LU, B, False, True, True), True, True, False)
    half = _triangular(adjoint(LU), B, False, True, False)
    out = _triangular(adjoint(LU), half, True, True, True)
    return jnp.take_along_axis(out, jnp.argsort(order, axis=-1)[..., None], -2)


@op(key="linalg.lu_solve", name="lu_solve", function=False, namespaces=("linalg",), grad_name="LinalgLuSolveBackward0")
def linalg_lu_solve(LU: Array, pivots: Array, B: Array, *, left: bool = True, adjoint: bool = False) -> Array:
    """Solves with `lu_factor`'s results: A X = B, X A = B, and with `adjoint` the same of A^H."""
    square(LU, "torch.linalg.lu_solve")
    return _lu_solve(LU, pivots, B, left, adjoint)


@op(method=True, grad_name="LinalgLuSolveBackward0")
def lu_solve(input: Array, LU_data: Array, LU_pivots: Array) -> Array:
    """`linalg.lu_solve` under its old name and argument order."""
    square(LU_data, "torch.linalg.lu_solve")
    return _lu_solve(LU_data, LU_pivots, input, True, False)


# --- Pseudo-inverse and least squares


@jax.custom_jvp
def _pinv(A: Array, atol: Array, rtol: Array) -> Array:
    U, S, Vh = jnp.linalg.svd(A, full_matrices=False)
    keep = tolerance(S, A.shape, atol, rtol)[..., None] < S
    inverse = jnp.where(keep, 1 / jnp.where(keep, S, 1), 0).astype(A.dtype)
    return product(adjoint(Vh) * inverse[..., None, :], adjoint(U))


@_pinv.defjvp
def _pinv_jvp(primals, tangents):
    # The derivative at constant rank, free of the decomposition's own (which fails at equal singular values).
    A, atol, rtol = primals
    dA = tangents[0]
    P = _pinv(A, atol, rtol)
    Ph, dAh = adjoint(P), adjoint(dA)
    out = -product(product(P, dA), P)
    row = product(product(P, Ph), dAh)
    out = out + row - product(product(row, A), P)
    column = product(dAh, product(Ph, P))
    return P, out + column - product(P, product(A, column))


def pseudo_inverse(A: Array, atol: Operand, rtol: Operand) -> Array:
    """The inverse on the span of the singular values above max(atol, rtol * largest)."""
    if 0 in A.shape:
        return jnp.zeros((*A.shape[:-2], A.shape[-1], A.shape[-2]), A.dtype)
    real = dtype_of(A).to_real().np
    default = np.asarray(np.finfo(real).eps * max(A.shape[-2:]), real)
    if rtol is None:
        rtol = default if atol is None else jnp.where(jnp.asarray(atol) > 0, np.asarray(0, real), default)
    atol = np.asarray(0, real) if atol is None else atol
    return _pinv(A, jnp.asarray(atol).astype(real), jnp.asarray(rtol).astype(real))


@op(function=False, namespaces=("linalg",), grad_name="LinalgPinvBackward0")
def pinv(
    A: Array, rcond: Operand | None = None, *, atol: Operand | None = None, rtol: Operand | None = None,
    hermitian: bool = False,
) -> Array:  # fmt: skip
    """Moore-Penrose inverse. `hermitian` promises A = A^H, of which the lower triangle is then read."""
    if A.ndim < 2 or not jnp.issubdtype(A.dtype, jnp.inexact) or A.dtype.itemsize == 2:
        raise RuntimeError(
            f"linalg.pinv({scalar_name(A)}{{{list(A.shape)}}}): expected a tensor with 2 or more dimensions of float, "
            "double, cfloat or cdouble types"
        )
    if hermitian:
        square(A, "linalg.pinv")
        A = hermitian_of(A)
    return pseudo_inverse(A, atol, rcond if rtol is None else rtol)


@op(method=True, grad_name="LinalgPinvBackward0")
def pinverse(input: Array, rcond: Operand = 1e-15) -> Array:
    """`linalg.pinv` with a relative tolerance alone."""
    return pinv(input, rcond)


@op(
    function=False, namespaces=("linalg",), returns=("solution", "residuals", "rank", "singular_values"),
    grad_name="LinalgLstsqBackward0",
)  # fmt: skip
def lstsq(
    A: Array, B: Array, rcond: Operand | None = None, *, driver: str | None = None
) -> tuple[Array, Array, Array, Array]:
    """X that minimises |A X - B|, of least norm where there are many.

    Residuals are given for tall A whatever its rank (torch leaves them out where a matrix lacks full rank), except by
    driver 'gelsy' (the default), which never has them; rank is empty for 'gels', singular values for all but 'gelss'
    and
    'gelsd'.
    """
    name = "torch.linalg.lstsq"
    for label, x in (("input", A), ("other", B)):
        if x.ndim < (2 if label == "input" else 1):
            raise RuntimeError(f"{name}: {label} must have at least {2 if label == 'input' else 1} dimensions.")
    if driver not in (None, "gels", "gelsy", "gelsd", "gelss"):
        raise RuntimeError(f"{name}: parameter `driver` should be one of (gels, gelsy, gelsd, gelss)")
    if A.dtype != B.dtype:
        raise RuntimeError(
            f"{name}: Expected input and other to have the same dtype, but got input's dtype {scalar_name(A)} and "
            f"other's dtype {scalar_name(B)}"
        )
    full_precision(A, "linalg.lstsq")
    vector = A.ndim - 1 == B.ndim and B.shape == A.shape[:-1]
    if vector:
        B = B[..., None]
    if A.shape[-2] != B.shape[-2]:
        raise RuntimeError(f"{name}: input.size(-2) should match other.size(-2)")
    driver = driver or "gelsy"
    solution = product(pseudo_inverse(A, None, rcond), B)
    real = dtype_of(A).to_real().np
    empty = jnp.zeros(0, real)
    residuals, rank, values = empty, jnp.zeros(0, jnp.int64), empty
    if driver != "gelsy" and A.shape[-2] > A.shape[-1]:
        error = product(A, solution) - B
        residuals = (error * jnp.conj(error)).real.sum(-2, dtype=real)
    if driver != "gels":
        found = jnp.linalg.svd(A, compute_uv=False)
        cut = tolerance(found, A.shape, None, rcond)
        rank = (found > cut[..., None]).sum(-1, dtype=jnp.int64)
        if driver != "gelsy":
            values = found
    return (solution[..., 0] if vector else solution), residuals, rank, values


# --- Functions of matrices


def _power(A: Array, n: int) -> Array:
    square(A, "linalg.matrix_power")
    if n < 0:
        inexact(A, "linalg.inv")
        return _power(_inv(A), -n)
    if n == 0:
        return jnp.broadcast_to(jnp.eye(A.shape[-1], dtype=A.dtype), A.shape)
    result, factor = None, A
    while True:
        if n & 1:
            result = factor if result is None else product(result, factor)
        n >>= 1
        if result is not None and not n:
            return result
        factor = product(factor, factor)


@op(method=True, grad_name="MmBackward0")
def matrix_power(input: Array, n: int) -> Array:
    """The n-th power by repeated squaring; of the inverse for negative n."""
    return _power(input, n)


@op(key="linalg.matrix_power", name="matrix_power", function=False, namespaces=("linalg",), grad_name="MmBackward0")
def linalg_matrix_power(A: Array, n: int) -> Array:
    """The n-th power by repeated squaring; of the inverse for negative n."""
    return _power(A, n)


def _expm(A: Array) -> Array:
    square(A, "linalg.matrix_exp")
    inexact(A, "linalg.matrix_exp")
    if not A.size:
        return A
    wide = A.astype(jnp.float32) if A.dtype.itemsize == 2 else A
    return jax.scipy.linalg.expm(wide, max_squarings=64).astype(A.dtype)


@op(method=True, out=False, grad_name="LinalgMatrixExpBackward0")
def matrix_exp(input: Array) -> Array:
    """Exponential of square matrices."""
    return _expm(input)


@op(
    key="linalg.matrix_exp", name="matrix_exp", function=False, namespaces=("linalg",), out=False,
    grad_name="LinalgMatrixExpBackward0",
)  # fmt: skip
def linalg_matrix_exp(A: Array) -> Array:
    """Exponential of square matrices."""
    return _expm(A)


@op(function=False, namespaces=("linalg",), grad_name="ViewBackward0")
def tensorinv(A: Array, ind: int = 2) -> Array:
    """Inverse of A as a map from its dims after `ind` to those before."""
    if ind <= 0:
        raise RuntimeError(f"Expected a strictly positive integer for 'ind', but got {ind}")
    head, tail = A.shape[:ind], A.shape[ind:]
    if math.prod(head) != math.prod(tail):
        raise RuntimeError(
            "Expected self to satisfy the requirement prod(self.shape[ind:]) == prod(self.shape[:ind]), but got "
            f"{math.prod(tail)} != {math.prod(head)}"
        )
    return _inv(A.reshape(math.prod(head), math.prod(tail))).reshape(*tail, *head)


@op(function=False, namespaces=("linalg",), grad_name="ViewBackward0")
def tensorsolve(A: Array, B: Array, dims: tuple[int, ...] | None = None) -> Array:
    """X with tensordot(A, X, X.ndim) = B; `dims` of A are moved to its end first."""
    if dims is not None:
        moved = [wrap_dim(d, A.ndim) for d in dims]
        A = jnp.moveaxis(A, moved, range(A.ndim - len(moved), A.ndim))
    tail = A.shape[B.ndim :]
    head = math.prod(A.shape[: B.ndim])
    if math.prod(tail) != head:
        raise RuntimeError(
            "Expected self to satisfy the requirement prod(self.shape[other.ndim:]) == prod(self.shape[:other.ndim]), "
            f"but got {math.prod(tail)} != {head}"
        )
    return _solve(A.reshape(head, head), B.reshape(head), True, "linalg.solve").reshape(tail)
