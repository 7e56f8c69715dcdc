"""Matrix decompositions: Cholesky, QR, LU, singular values, eigenvalues.

Nothing raises on a matrix that cannot be decomposed, as that would need its values: a failed Cholesky factor is nan,
the
inverse of a singular matrix is not finite, and the `_ex` variants tell by `info`.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jtorch._ops._common import Array, dtype_of, is_complex, is_float, scalar_name
from jtorch._ops.matmul import product
from jtorch._ops.norms import at_least_matrix, full_precision, square
from jtorch._ops.registry import op


def adjoint(x: Array) -> Array:
    """Conjugate transpose of the last two dims."""
    return jnp.conj(jnp.swapaxes(x, -1, -2))


def _real_kernel(x: Array, kernel: str) -> None:
    if not is_float(x) and not is_complex(x):
        raise NotImplementedError(f"\"{kernel}\" not implemented for '{scalar_name(x)}'")
    if x.dtype.itemsize == 2:
        raise NotImplementedError(f"\"{kernel}\" not implemented for '{scalar_name(x)}'")


def hermitian_of(A: Array, upper: bool = False) -> Array:
    """The Hermitian matrix that one triangle of A stands for; the gradient is Hermitian too, as torch's is."""
    side = jnp.triu(A, 1) if upper else jnp.tril(A, -1)
    mirrored = side + adjoint(side) + A.real * np.eye(A.shape[-1], dtype=A.real.dtype)
    average = (A + adjoint(A)) / 2
    return average + lax.stop_gradient(mirrored - average)


# --- Cholesky


@jax.custom_jvp
def _as_factor(A: Array, factor: Array) -> Array:
    """The lower factor of A, known already, with its derivative: that of the Hermitian part of A, as torch's is."""
    return factor


@_as_factor.defjvp
def _factor_tangent(primals, tangents):
    # L' = L phi(L^-1 A' L^-H), phi the lower triangle with half the diagonal (Murray, arXiv:1602.07527, eq. 8).
    L, change = _as_factor(*primals), tangents[0]
    change = (change + adjoint(change)) / 2
    half = lax.linalg.triangular_solve(L, change, left_side=True, lower=True)
    inner = lax.linalg.triangular_solve(L, half, lower=True, transpose_a=True, conjugate_a=True)
    n = inner.shape[-1]
    weights = (np.tri(n, n) - np.eye(n) / 2).astype(inner.real.dtype)
    return L, jnp.matmul(L, inner * weights, precision=lax.Precision.HIGHEST)


def _cholesky(A: Array, upper: bool, name: str) -> Array:
    square(A, name)
    full_precision(A, name)
    lower = adjoint(A) if upper else A  # of which no more than the lower triangle is read
    return _known(A, lax.linalg.cholesky(lax.stop_gradient(lower), symmetrize_input=False), upper)


def _known(A: Array, factor: Array, upper: bool) -> Array:
    return adjoint(_as_factor(adjoint(A), factor)) if upper else _as_factor(A, factor)


@op(
    key="linalg.cholesky",
    name="cholesky",
    function=False,
    namespaces=("linalg",),
    grad_name="LinalgCholeskyExBackward0",
)
def linalg_cholesky(A: Array, *, upper: bool = False) -> Array:
    """The triangular L with L L^H = A (or U with U^H U = A) of Hermitian positive-definite matrices; nan for others."""
    return _cholesky(A, upper, "linalg.cholesky")


@op(function=False, out=False, grad_name="LinalgCholeskyExBackward0")
def known_cholesky(A: Array, factor: Array, upper: bool = False) -> Array:
    """`linalg.cholesky` of a matrix whose factor is known already: a backward does not compute it again."""
    return _known(A, lax.stop_gradient(adjoint(factor) if upper else factor), upper)


def _first_minor(A: Array) -> Array:
    """The order of the first leading minor that is not positive, 0 where all are: by elimination without exchanges."""
    n = A.shape[-1]
    place = jnp.arange(n)

    def step(k, state):
        rest, found = state
        column = lax.dynamic_index_in_dim(rest, k, -1, keepdims=False)
        row = lax.dynamic_index_in_dim(rest, k, -2, keepdims=False)
        pivot = lax.dynamic_index_in_dim(row, k, -1, keepdims=False).real
        found = jnp.where((found == 0) & ~(pivot > 0), k + 1, found)
        factor = jnp.where(place > k, column / jnp.where(pivot > 0, pivot, 1)[..., None], 0)
        return rest - factor[..., :, None] * row[..., None, :], found

    start = jnp.zeros(A.shape[:-2], jnp.int32)
    return lax.fori_loop(0, n, lambda k, s: step(k.astype(jnp.int32), s), (A, start))[1]


@op(function=False, namespaces=("linalg",), returns=("L", "info"), grad_name="LinalgCholeskyExBackward0")
def cholesky_ex(A: Array, *, upper: bool = False, check_errors: bool = False) -> tuple[Array, Array]:
    """`cholesky`, and the order of the first leading minor that is not positive (0: positive-definite; int32).

    Where there is one, the factor is nan, of which torch gives the part that it got to.
    """
    factor = _cholesky(A, upper, "linalg.cholesky_ex")
    exact = lax.stop_gradient(A)
    if not A.size:
        return factor, jnp.zeros(A.shape[:-2], jnp.int32)
    failed = jnp.isnan(lax.stop_gradient(factor)).any((-2, -1))
    info = lax.cond(
        failed.any(),
        lambda a: _first_minor(hermitian_of(a, upper)),
        lambda a: jnp.zeros(failed.shape, jnp.int32),
        exact,
    )
    return factor, jnp.where(failed, info, 0)


@op(method=True)
def cholesky(input: Array, upper: bool = False) -> Array:
    """`linalg.cholesky` under its old name."""
    return _cholesky(input, upper, "cholesky")


# --- QR


def _qr(A: Array, mode: str) -> tuple[Array, Array]:
    rows, columns = A.shape[-2:]
    if rows < columns and mode != "r":
        # The first square block fixes Q; that form also has a derivative.
        q, left = jnp.linalg.qr(A[..., :rows], mode="reduced")
        return q, jnp.concatenate([left, product(adjoint(q), A[..., rows:])], -1)
    if mode == "r":
        return jnp.zeros(0, A.dtype), jnp.linalg.qr(A, mode="r")
    q, r = jnp.linalg.qr(A, mode="complete" if mode == "complete" and rows > columns else "reduced")
    return q, r


@op(
    key="linalg.qr",
    name="qr",
    function=False,
    namespaces=("linalg",),
    returns=("Q", "R"),
    grad_name="LinalgQrBackward0",
)
def linalg_qr(A: Array, mode: str = "reduced") -> tuple[Array, Array]:
    """A = Q R with orthonormal columns in Q and R upper triangular.

    Mode 'complete' of tall matrices has no gradient.
    """
    at_least_matrix(A, "linalg.qr")
    full_precision(A, "linalg.qr")
    if mode not in ("reduced", "complete", "r"):
        raise RuntimeError(
            f"qr received unrecognized mode '{mode}' but expected one of 'reduced' (default), 'r', or 'complete'"
        )
    return _qr(A, mode)


@op(method=True, returns=("Q", "R"), grad_name="LinalgQrBackward0")
def qr(input: Array, some: bool = True) -> tuple[Array, Array]:
    """`linalg.qr` under its old name; `some=False` is mode 'complete'."""
    return linalg_qr(input, "reduced" if some else "complete")


# --- Singular values


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _svd(A: Array, full: bool) -> tuple[Array, Array, Array]:
    return tuple(jnp.linalg.svd(A, full_matrices=full))


@_svd.defjvp
def _svd_jvp(full, primals, tangents):
    # JAX has no rule for full matrices of a rectangular A. The extra vectors span a fixed complement: tangent zero.
    (A,), (dA,) = primals, tangents
    U, S, Vh = _svd(A, full)
    k = S.shape[-1]
    u, v = U[..., :, :k], adjoint(Vh[..., :k, :])
    inner = product(product(adjoint(u), dA), v)
    eye = jnp.eye(k, dtype=S.dtype)
    s, s2 = S[..., None, :], S * S
    gap = s2[..., None, :] - s2[..., :, None] + eye
    inverse = jnp.where(eye == 1, 0, 1 / gap).astype(A.dtype)
    s = s.astype(A.dtype)
    left = inverse * (inner * s + jnp.swapaxes(s, -1, -2) * adjoint(inner))
    right = inverse * (jnp.swapaxes(s, -1, -2) * inner + adjoint(inner) * s)
    if is_complex(A):
        # The one free phase of a pair of vectors: half the imaginary diagonal goes to each side.
        phase = (inner - adjoint(inner)) / 4 * eye / jnp.where(s == 0, 1, s)
        left, right = left + phase, right - phase
    du, dv = product(u, left), product(v, right)
    m, n = A.shape[-2:]
    if m > k:
        du = du + (product(dA, v) - product(u, product(adjoint(u), product(dA, v)))) / s
    if n > k:
        across = product(adjoint(dA), u)
        dv = dv + (across - product(v, product(adjoint(v), across))) / s
    dS = jnp.diagonal(inner, axis1=-2, axis2=-1).real
    dU = jnp.zeros_like(U).at[..., :, :k].set(du)
    dVh = jnp.zeros_like(Vh).at[..., :k, :].set(adjoint(dv))
    return (U, S, Vh), (dU, dS, dVh)


@op(
    key="linalg.svd", name="svd", function=False, namespaces=("linalg",), returns=("U", "S", "Vh"),
    grad_name="LinalgSvdBackward0",
)  # fmt: skip
def linalg_svd(A: Array, full_matrices: bool = True, *, driver: str | None = None) -> tuple[Array, Array, Array]:
    """A = U diag(S) Vh, S descending. `driver` is torch's choice among CUDA libraries and changes nothing here."""
    at_least_matrix(A, "linalg.svd")
    full_precision(A, "linalg.svd")
    return _svd(A, full_matrices and A.shape[-1] != A.shape[-2])


@op(method=True, returns=("U", "S", "V"), grad_name="LinalgSvdBackward0")
def svd(input: Array, some: bool = True, compute_uv: bool = True) -> tuple[Array, Array, Array]:
    """`linalg.svd` under its old name: V itself, not its adjoint; without `compute_uv`, U and V are zeros."""
    U, S, Vh = linalg_svd(input, not some)
    if not compute_uv:
        m, n = input.shape[-2:]
        batch = input.shape[:-2]
        return jnp.zeros((*batch, m, m), input.dtype), S, jnp.zeros((*batch, n, n), input.dtype)
    return U, S, adjoint(Vh)


@op(function=False, namespaces=("linalg",), grad_name="LinalgSvdBackward0")
def svdvals(A: Array, *, driver: str | None = None) -> Array:
    """Singular values, descending."""
    at_least_matrix(A, "linalg.svdvals")
    full_precision(A, "linalg.svd")
    return jnp.linalg.svd(A, compute_uv=False)


# --- Eigenvalues


def _eigh(A: Array, UPLO: str) -> tuple[Array, Array]:
    square(A, "linalg.eigh")
    _real_kernel(A, "linalg_eigh_cpu")
    if UPLO.upper() not in ("L", "U"):
        raise RuntimeError(f"Expected UPLO argument to be 'L' or 'U', but got {UPLO}")
    if 0 in A.shape:
        return jnp.zeros(A.shape[:-1], dtype_of(A).to_real().np), A
    vectors, values = lax.linalg.eigh(hermitian_of(A, UPLO.upper() == "U"), symmetrize_input=False)
    return values, vectors


@op(function=False, namespaces=("linalg",), returns=("eigenvalues", "eigenvectors"), grad_name="LinalgEighBackward0")
def eigh(A: Array, UPLO: str = "L") -> tuple[Array, Array]:
    """Eigenvalues (real, ascending) and vectors of Hermitian matrices, of which one triangle is read."""
    return _eigh(A, UPLO)


@op(function=False, namespaces=("linalg",), grad_name="LinalgEighBackward0")
def eigvalsh(A: Array, UPLO: str = "L") -> Array:
    """Eigenvalues of Hermitian matrices, ascending."""
    return _eigh(A, UPLO)[0]


@jax.custom_jvp
def _eig(A: Array) -> tuple[Array, Array]:
    values, vectors = jnp.linalg.eig(A)
    return values, vectors


@_eig.defjvp
def _eig_jvp(primals, tangents):
    (A,), (dA,) = primals, tangents
    values, V = _eig(A)
    inner = jnp.linalg.solve(V, product(dA.astype(V.dtype), V))
    eye = jnp.eye(A.shape[-1], dtype=V.dtype)
    gap = values[..., None, :] - values[..., :, None] + eye
    turn = jnp.where(eye == 1, 0, inner / gap)
    moved = product(V, turn)
    # Vectors keep length one: what a tangent adds along its own vector is taken out.
    along = (jnp.conj(V) * moved).sum(-2, keepdims=True).real
    return (values, V), (jnp.diagonal(inner, axis1=-2, axis2=-1), moved - V * along.astype(V.dtype))


@op(function=False, namespaces=("linalg",), returns=("eigenvalues", "eigenvectors"), grad_name="LinalgEigBackward0")
def eig(A: Array) -> tuple[Array, Array]:
    """Eigenvalues and unit vectors of square matrices, complex. XLA has it on the CPU."""
    square(A, "linalg.eig")
    full_precision(A, "linalg.eig")
    return _eig(A)


@op(function=False, namespaces=("linalg",), grad_name="LinalgEigBackward0")
def eigvals(A: Array) -> Array:
    """Eigenvalues of square matrices, complex."""
    square(A, "linalg.eigvals")
    full_precision(A, "linalg.eigvals")
    return _eig(A)[0]


# --- LU


def _check_lu(A: Array, pivot: bool, name: str) -> None:
    if A.ndim < 2:
        raise RuntimeError(f"{name}: Expected tensor with 2 or more dimensions. Got size: {list(A.shape)} instead")
    _real_kernel(A, "lu_cpu")
    if not pivot:
        raise RuntimeError(f"{name}: LU without pivoting is not implemented on the CPU")


def first_zero(lu: Array) -> Array:
    """Where U has its first zero on the diagonal, counted from 1; 0 where there is none. int32."""
    zero = jnp.diagonal(lu, axis1=-2, axis2=-1) == 0
    if not zero.shape[-1]:
        return jnp.zeros(zero.shape[:-1], jnp.int32)
    return jnp.where(zero.any(-1), zero.argmax(-1) + 1, 0).astype(jnp.int32)


@op(function=False, namespaces=("linalg",), returns=("LU", "pivots"), grad_name="LinalgLuFactorExBackward0")
def lu_factor(A: Array, *, pivot: bool = True) -> tuple[Array, Array]:
    """L (below the diagonal, which is 1) and U in one matrix, and the row swaps, counted from 1 (int32)."""
    _check_lu(A, pivot, "torch.lu_factor")
    lu, pivots, _ = lax.linalg.lu(A)
    return lu, pivots + np.int32(1)


@op(function=False, namespaces=("linalg",), returns=("LU", "pivots", "info"), grad_name="LinalgLuFactorExBackward0")
def lu_factor_ex(A: Array, *, pivot: bool = True, check_errors: bool = False) -> tuple[Array, Array, Array]:
    """`lu_factor` and `info`: the first zero on U's diagonal, from 1, or 0.

    `check_errors` is for the caller to act on.
    """
    lu, pivots = lu_factor(A, pivot=pivot)
    return lu, pivots, first_zero(lu)


def permutation_of(pivots: Array, size: int) -> Array:
    """Row order that swaps counted from 1 lead to."""
    return lax.linalg.lu_pivots_to_permutation(pivots.astype(jnp.int32) - np.int32(1), size)


def _unpack(lu: Array) -> tuple[Array, Array]:
    m, n = lu.shape[-2:]
    k = min(m, n)
    return jnp.tril(lu[..., :, :k], -1) + jnp.eye(m, k, dtype=lu.dtype), jnp.triu(lu[..., :k, :])


def _permutation_matrix(order: Array, dtype: np.dtype) -> Array:
    return (jnp.arange(order.shape[-1], dtype=order.dtype)[:, None] == order[..., None, :]).astype(dtype)


@op(
    key="linalg.lu",
    name="lu",
    function=False,
    namespaces=("linalg",),
    returns=("P", "L", "U"),
    grad_name="LinalgLuBackward0",
)
def linalg_lu(A: Array, *, pivot: bool = True) -> tuple[Array, Array, Array]:
    """A = P L U."""
    _check_lu(A, pivot, "linalg.lu")
    lu, _, order = lax.linalg.lu(A)
    L, U = _unpack(lu)
    return _permutation_matrix(order, A.dtype), L, U


@op(returns=("P", "L", "U"), grad_name="LuUnpackBackward0")
def lu_unpack(
    LU_data: Array, LU_pivots: Array, unpack_data: bool = True, unpack_pivots: bool = True
) -> tuple[Array, Array, Array]:
    """P, L and U from `lu_factor`'s results; what is not unpacked is empty."""
    if unpack_pivots and LU_pivots.dtype != jnp.int32:
        raise RuntimeError(
            "torch.lu_unpack: LU_pivots is expected to be a contiguous tensor of torch.int32 dtype.\n"
            "Note: this function is intended to be used with the output produced by torch.linalg.lu_factor"
        )
    empty = jnp.zeros(0, LU_data.dtype)
    P, L, U = empty, empty, empty
    if unpack_pivots:
        P = _permutation_matrix(permutation_of(LU_pivots, LU_data.shape[-2]), LU_data.dtype)
    if unpack_data:
        L, U = _unpack(LU_data)
    return P, L, U


@op(function=False, namespaces=("linalg",), grad_name="LinalgHouseholderProductBackward0")
def householder_product(input: Array, tau: Array) -> Array:
    """The first columns of a product of Householder reflections, as `geqrf` leaves them."""
    at_least_matrix(input, "torch.linalg.householder_product", "input")
    if input.shape[-2] < input.shape[-1]:
        raise RuntimeError(
            "torch.linalg.householder_product: input.shape[-2] must be greater than or equal to input.shape[-1]"
        )
    m, n = input.shape[-2:]
    k = tau.shape[-1]
    vectors = jnp.tril(input, -1) + jnp.eye(m, n, dtype=input.dtype)
    start = jnp.broadcast_to(jnp.eye(m, n, dtype=input.dtype), input.shape)

    def reflect(Q: Array, step: tuple[Array, Array]) -> tuple[Array, None]:
        v, factor = step
        along = product(jnp.conj(v)[..., None, :], Q)
        return Q - factor[..., None, None] * v[..., :, None] * along, None

    # The last reflection acts first.
    steps = jnp.moveaxis(vectors[..., :k], -1, 0), jnp.moveaxis(tau, -1, 0)
    return lax.scan(reflect, start, steps, reverse=True)[0]
