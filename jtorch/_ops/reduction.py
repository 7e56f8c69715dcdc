"""Reductions: sums, means, moments, norms, truth. Extremes and order statistics are in `extremes`."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import lax

from jtorch._ops._along import refuse
from jtorch._ops._common import Array, DType, is_complex, is_float, scalar_name, wrap_dims
from jtorch._ops._norms import check_norm_input, vector_norm
from jtorch._ops.registry import op
from jtorch._runtime import dtypes


def _sum_dtype(x: Array, dtype: DType | None) -> np.dtype:
    """What sums and products come in: int64 for integers and bools, unless the caller says."""
    if dtype is not None:
        return dtype.np
    return x.dtype if is_float(x) or is_complex(x) else np.dtype(np.int64)


@op(method=True)
def sum_(
    input: Array, dim: int | tuple[int, ...] | None = None, keepdim: bool = False, *, dtype: DType | None = None
) -> Array:
    """Sum over `dim` (an int, several, or all). Integers and bools sum in int64."""
    to = _sum_dtype(input, dtype)
    return jnp.sum(input.astype(to), axis=wrap_dims(dim, input.ndim), keepdims=keepdim, dtype=to)


@op(method=True)
def nansum(
    input: Array, dim: int | tuple[int, ...] | None = None, keepdim: bool = False, *, dtype: DType | None = None
) -> Array:
    """Sum that counts NaN as 0. RuntimeError for complex input."""
    if is_complex(input):
        raise RuntimeError("nansum on CPU does not support complex inputs")
    x = jnp.where(jnp.isnan(input), jnp.zeros_like(input), input) if is_float(input) else input
    return sum_(x, dim, keepdim, dtype=dtype)


@op(method=True)
def mean(
    input: Array, dim: int | tuple[int, ...] | None = None, keepdim: bool = False, *, dtype: DType | None = None
) -> Array:
    """Mean over `dim`, NaN where there is nothing. RuntimeError unless the result is floating or complex."""
    if dtype is not None:
        if not (dtype.is_floating_point or dtype.is_complex):
            raise RuntimeError(
                "mean(): could not infer output dtype. Optional dtype must be either a floating point or complex "
                f"dtype. Got: {dtypes.SCALAR_NAMES[dtype]}"
            )
    elif not (is_float(input) or is_complex(input)):
        raise RuntimeError(
            "mean(): could not infer output dtype. Input dtype must be either a floating point or complex dtype. "
            f"Got: {scalar_name(input)}"
        )
    to = _sum_dtype(input, dtype)
    return jnp.mean(input.astype(to), axis=wrap_dims(dim, input.ndim), keepdims=keepdim, dtype=to)


@op(method=True, grad_name="DivBackward0")
def nanmean(
    input: Array, dim: int | tuple[int, ...] | None = None, keepdim: bool = False, *, dtype: DType | None = None
) -> Array:
    """Mean of what is not NaN. RuntimeError for integers and bools."""
    if not (is_float(input) or is_complex(input)):
        raise RuntimeError(
            f"nanmean(): expected input to have floating point or complex dtype but got {scalar_name(input)}"
        )
    to = _sum_dtype(input, dtype)
    axes = wrap_dims(dim, input.ndim)
    missing = jnp.isnan(input)
    total = jnp.sum(jnp.where(missing, jnp.zeros_like(input), input).astype(to), axis=axes, keepdims=keepdim, dtype=to)
    return total / jnp.sum(~missing, axis=axes, keepdims=keepdim, dtype=np.int64).astype(to)


@op(method=True, saves="both")
def prod(input: Array, dim: int | None = None, keepdim: bool = False, *, dtype: DType | None = None) -> Array:
    """Product over one dim or all. Integers and bools multiply in int64; the gradient is right at zeros."""
    to = _sum_dtype(input, dtype)
    axes = wrap_dims(dim, input.ndim)
    return jnp.prod(input.astype(to), axis=axes, keepdims=keepdim and dim is not None, dtype=to)


# --- moments -----------------------------------------------------------------------------------------------


def _moments(
    x: Array, dim: int | tuple[int, ...] | None, correction: float | None, keepdim: bool, what: str = "std and var"
) -> tuple[Array, Array]:
    """Variance and mean. Half precision is computed in float32."""
    if not (is_float(x) or is_complex(x)):
        raise RuntimeError(f"{what} only support floating point and complex dtypes")
    axes = wrap_dims(dim, x.ndim)
    dtype = x.dtype
    wide = x.astype(np.float32) if dtype.itemsize < 4 else x
    count = 1
    for a in axes:
        count *= x.shape[a]
    center = jnp.mean(wide, axis=axes, keepdims=True)
    off = wide - center
    square = lax.square(off.real) + lax.square(off.imag) if is_complex(x) else lax.square(off)
    freedom = max(0.0, count - (1 if correction is None else correction))
    variance = jnp.sum(square, axis=axes, keepdims=keepdim) / jnp.asarray(freedom, square.dtype)
    middle = center if keepdim else lax.squeeze(center, axes)
    return variance.astype(dtype) if dtype.itemsize < 4 else variance, middle.astype(dtype)


def _deviation(variance: Array) -> Array:
    """The square root, whose gradient at 0 is 0."""
    flat = variance == 0
    return jnp.where(flat, variance, jnp.sqrt(jnp.where(flat, jnp.ones_like(variance), variance)))


@op(key="var.correction", method=True)
def var(
    input: Array,
    dim: int | tuple[int, ...] | None = None,
    *,
    correction: int | float | None = 1,
    keepdim: bool = False,
) -> Array:
    """Variance over `dim`, divided by max(0, n - correction); real for complex input."""
    return _moments(input, dim, correction, keepdim)[0]


@op(name="var", key="var.unbiased", method=True)
def var_unbiased(
    input: Array, dim: int | tuple[int, ...] | None, unbiased: bool = True, keepdim: bool = False
) -> Array:
    """Variance over `dim` with (`unbiased`) or without Bessel's correction."""
    return _moments(input, dim, int(unbiased), keepdim)[0]


@op(name="var", key="var.all", method=True)
def var_all(input: Array, unbiased: bool) -> Array:
    """Variance of all elements."""
    return _moments(input, None, int(unbiased), False)[0]


@op(key="std.correction", method=True, saves="both")
def std(
    input: Array,
    dim: int | tuple[int, ...] | None = None,
    *,
    correction: int | float | None = 1,
    keepdim: bool = False,
) -> Array:
    """Standard deviation over `dim`; its gradient where it is 0 is 0."""
    return _deviation(_moments(input, dim, correction, keepdim)[0])


@op(name="std", key="std.unbiased", method=True, saves="both")
def std_unbiased(
    input: Array, dim: int | tuple[int, ...] | None, unbiased: bool = True, keepdim: bool = False
) -> Array:
    """Standard deviation over `dim` with (`unbiased`) or without Bessel's correction."""
    return _deviation(_moments(input, dim, int(unbiased), keepdim)[0])


@op(name="std", key="std.all", method=True, saves="both")
def std_all(input: Array, unbiased: bool) -> Array:
    """Standard deviation of all elements."""
    return _deviation(_moments(input, None, int(unbiased), False)[0])


@op(key="var_mean.correction", out=False)
def var_mean(
    input: Array,
    dim: int | tuple[int, ...] | None = None,
    *,
    correction: int | float | None = 1,
    keepdim: bool = False,
) -> tuple[Array, Array]:
    """Variance and mean over `dim`, a plain pair."""
    return _moments(input, dim, correction, keepdim, "var_mean")


@op(name="var_mean", key="var_mean.unbiased", out=False)
def var_mean_unbiased(
    input: Array, dim: int | tuple[int, ...] | None, unbiased: bool = True, keepdim: bool = False
) -> tuple[Array, Array]:
    """Variance and mean over `dim`."""
    return _moments(input, dim, int(unbiased), keepdim, "var_mean")


@op(name="var_mean", key="var_mean.all", out=False)
def var_mean_all(input: Array, unbiased: bool) -> tuple[Array, Array]:
    """Variance and mean of all elements."""
    return _moments(input, None, int(unbiased), False, "var_mean")


@op(key="std_mean.correction", out=False)
def std_mean(
    input: Array,
    dim: int | tuple[int, ...] | None = None,
    *,
    correction: int | float | None = 1,
    keepdim: bool = False,
) -> tuple[Array, Array]:
    """Standard deviation and mean over `dim`, a plain pair."""
    variance, middle = _moments(input, dim, correction, keepdim, "std_mean")
    return _deviation(variance), middle


@op(name="std_mean", key="std_mean.unbiased", out=False)
def std_mean_unbiased(
    input: Array, dim: int | tuple[int, ...] | None, unbiased: bool = True, keepdim: bool = False
) -> tuple[Array, Array]:
    """Standard deviation and mean over `dim`."""
    return std_mean(input, dim, correction=int(unbiased), keepdim=keepdim)


@op(name="std_mean", key="std_mean.all", out=False)
def std_mean_all(input: Array, unbiased: bool) -> tuple[Array, Array]:
    """Standard deviation and mean of all elements."""
    return std_mean(input, correction=int(unbiased))


# --- truth and counts ----------------------------------------------------------------------------------------


def _truth(x: Array, out: Array) -> Array:
    """torch answers bytes with bytes, everything else with bools."""
    return out.astype(np.uint8) if x.dtype == np.uint8 else out


@op(name="all", method=True, differentiable=False)
def all_(input: Array, dim: int | tuple[int, ...] | None = None, keepdim: bool = False) -> Array:
    """Whether every element is nonzero; bool, or uint8 for uint8 input."""
    return _truth(input, jnp.all(input != 0, axis=wrap_dims(dim, input.ndim), keepdims=keepdim))


@op(name="any", method=True, differentiable=False)
def any_(input: Array, dim: int | tuple[int, ...] | None = None, keepdim: bool = False) -> Array:
    """Whether some element is nonzero; bool, or uint8 for uint8 input."""
    return _truth(input, jnp.any(input != 0, axis=wrap_dims(dim, input.ndim), keepdims=keepdim))


@op(method=True, out=False, differentiable=False)
def count_nonzero(input: Array, dim: int | tuple[int, ...] | None = None) -> Array:
    """How many elements are nonzero, int64."""
    return jnp.sum(input != 0, axis=wrap_dims(dim, input.ndim), dtype=np.int64)


# --- norms and the like --------------------------------------------------------------------------------------


@op(method=True, promote="float", namespaces=("special",), saves="both")
def logsumexp(input: Array, dim: int | tuple[int, ...], keepdim: bool = False) -> Array:
    """log(sum(exp(input))) over `dim`, without overflow."""
    axes = wrap_dims(dim, input.ndim)
    if input.size == 0 and any(input.shape[a] == 0 for a in axes):
        return jnp.log(jnp.sum(jnp.exp(input), axis=axes, keepdims=keepdim))
    top = jnp.max(lax.stop_gradient(input.real), axis=axes, keepdims=True)
    top = jnp.where(jnp.isfinite(top), top, jnp.zeros_like(top))
    out = jnp.log(jnp.sum(jnp.exp(input - top), axis=axes, keepdims=True)) + top
    return out if keepdim else lax.squeeze(out, axes)


@op(method=True, promote="same")
def dist(input: Array, other: Array, p: float = 2) -> Array:
    """The p-norm of input - other, a 0-d tensor."""
    if not (is_float(input) or is_complex(input)):
        raise RuntimeError(
            f"norm(): input dtype should be either floating point or complex. Got {scalar_name(input)} instead."
        )
    off = input - other
    if off.size == 0:
        return jnp.zeros((), off.real.dtype)
    return vector_norm(off, p, tuple(range(off.ndim)), False)


@op(method=True)
def trace(input: Array) -> Array:
    """Sum of a matrix's diagonal; integers sum in int64."""
    if input.ndim != 2:
        raise RuntimeError(f"trace: expected a matrix, but got tensor with dim {input.ndim}")
    if input.dtype == np.bool_:
        refuse(input, "trace")
    return jnp.trace(input, dtype=_sum_dtype(input, None))


# --- covariance ----------------------------------------------------------------------------------------------


@op(method=True, out=False, promote="float", promote_args=("input",), grad_name="SqueezeBackward0")
def cov(input: Array, *, correction: int = 1, fweights: Array | None = None, aweights: Array | None = None) -> Array:
    """Covariance of variables (rows) over observations (columns), weighted by counts and by importances."""
    if input.ndim > 2:
        raise RuntimeError(
            f"cov(): expected input to have two or fewer dimensions but got an input with {input.ndim} dimensions"
        )
    x = input.reshape(1, -1) if input.ndim < 2 else input
    count = x.shape[1]
    for name, w in (("fweights", fweights), ("aweights", aweights)):
        if w is None:
            continue
        if w.ndim > 1:
            raise RuntimeError(
                f"cov(): expected {name} to have one or fewer dimensions but got {name} with {w.ndim} dimensions"
            )
        if name == "fweights" and not jnp.issubdtype(w.dtype, np.integer):
            raise RuntimeError(
                f"cov(): expected fweights to have integral dtype but got fweights with {scalar_name(w)} dtype"
            )
        if name == "aweights" and not is_float(w):
            raise RuntimeError(
                f"cov(): expected aweights to have floating point dtype but got aweights with {scalar_name(w)} dtype"
            )
        if w.size != count:
            raise RuntimeError(
                f"cov(): expected {name} to have the same numel as there are observations in the input but got "
                f"{w.size} != {count}"
            )
    real = x.real.dtype
    weight = None
    if fweights is not None:
        weight = fweights.reshape(-1).astype(real)
    if aweights is not None:
        importance = aweights.reshape(-1).astype(real)
        weight = importance if weight is None else weight * importance
    if weight is None:
        middle = jnp.mean(x, axis=1, keepdims=True)
        freedom = jnp.asarray(max(0, count - correction), real)
    else:
        total = jnp.sum(weight)
        middle = jnp.sum(x * weight, axis=1, keepdims=True) / total
        if aweights is None or correction == 0:
            freedom = total - correction
        else:
            freedom = total - correction * jnp.sum(weight * importance) / total
        freedom = jnp.where(freedom > 0, freedom, jnp.zeros_like(freedom))
    off = x - middle
    left = off if weight is None else off * weight
    out = jnp.matmul(left, jnp.conj(off).T, precision=lax.Precision.HIGHEST) / freedom
    return jnp.squeeze(out)


@op(method=True, out=False, promote="float")
def corrcoef(input: Array) -> Array:
    """Pearson's correlation of the variables in rows, its parts clipped to [-1, 1]."""
    if input.ndim > 2:
        raise RuntimeError(
            f"corrcoef(): expected input to have two or fewer dimensions but got an input with {input.ndim} dimensions"
        )
    c = cov(input)
    if c.ndim == 0:
        return c / c
    deviation = jnp.sqrt(jnp.diagonal(c).real)
    c = c / deviation[:, None] / deviation[None, :]
    if is_complex(c):
        return lax.complex(_clip(c.real), _clip(c.imag))
    return _clip(c)


def _clip(x: Array) -> Array:
    one = jnp.ones_like(x)
    return jnp.where(x > 1, one, jnp.where(x < -1, -one, x))


@op(method=True, grad_name="LinalgVectorNormBackward0", saves="both")
def norm(
    input: Array,
    p: int | float | str | None = "fro",
    dim: int | tuple[int, ...] | None = None,
    keepdim: bool = False,
    dtype: DType | None = None,
) -> Array:
    """The p-norm of the elements over `dim`; "fro" is the 2-norm, "nuc" the sum of the singular values of matrices."""
    check_norm_input(input)
    x = input if dtype is None else input.astype(dtype.np)
    if isinstance(p, str) and p not in ("fro", "nuc"):
        raise RuntimeError(f"linalg.matrix_norm: Order {p} not supported.")
    axes = wrap_dims(dim, x.ndim)
    if p == "nuc":
        if len(axes) != 2:
            raise RuntimeError(f"linalg.matrix_norm: dim must be a 2-tuple. Got {len(axes)} dims")
        total = jnp.sum(jnp.linalg.svd(jnp.moveaxis(x, axes, (-2, -1)), compute_uv=False), axis=-1)
        return jnp.expand_dims(total, axes) if keepdim else total
    return vector_norm(x, 2.0 if p is None or p == "fro" else p, axes, keepdim)
