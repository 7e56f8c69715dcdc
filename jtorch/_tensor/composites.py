"""Functions made of operations: those that check values which are at hand, and numerical recipes.

An operation sees no values, so what torch refuses for its values (an index out of range, a singular matrix) is refused
here. Indices are looked at where they lie ready in the host's memory, and never waited for. The factorizations whose
failure torch reports do wait, as torch does on a GPU; their `_ex` forms don't.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jtorch._autograd.modes import no_grad
from jtorch._ops._common import wrap_dim
from jtorch._ops.registry import OPS
from jtorch._runtime import dtypes
from jtorch._runtime.executor import T
from jtorch._tensor import parts, placing, views
from jtorch._tensor.at_hand import outside
from jtorch._tensor.base import Tensor
from jtorch._tensor.derive import FUNCTIONS as OP
from jtorch._tensor.derive import call, in_place
from jtorch._tensor.derive import functions as derived
from jtorch._tensor.random import FUNCTIONS as RANDOM
from jtorch._tensor.storage import value_of

# ---- indices ---------------------------------------------------------------------------------------------------------


def _along(input: Tensor, dim: int) -> tuple[int, int]:
    d = wrap_dim(dim, input.ndim)
    return d, input.shape[d] if input.ndim else 1


def _check_along(input: Tensor, dim: int, index: Any) -> None:
    d, size = _along(input, dim)
    bad = outside(index, size)
    if bad is not None and all(k == d or m <= n for k, (m, n) in enumerate(zip(index.shape, input.shape))):
        raise RuntimeError(f"index {bad} is out of bounds for dimension {d} with size {size}")


def _check_select(input: Tensor, dim: int, index: Any) -> None:
    _, size = _along(input, dim)
    bad = outside(index, size)
    if bad is not None:
        raise RuntimeError(f"INDICES element is out of DATA bounds, id={bad} axis_dim={size}")


def _check_add(input: Tensor, dim: int, index: Any) -> None:
    if outside(index, _along(input, dim)[1]) is not None:
        raise IndexError("index out of range in self")


def _check_fill(input: Tensor, dim: int, index: Any, prefix: str = "", low: int = 0) -> None:
    d, size = _along(input, dim)
    bad = outside(index, size, -size if low else 0)
    if bad is not None:
        raise IndexError(f"{prefix}index {bad} is out of bounds for dimension {d} with size {size}")


def _check_copy(input: Tensor, dim: int, index: Any) -> None:
    _check_fill(input, dim, index, "index_copy_(): ")


def _check_either_way(input: Tensor, dim: int, index: Any) -> None:
    _check_fill(input, dim, index, low=1)


def _check_take(input: Tensor, index: Any) -> None:
    n = input.numel()
    bad = outside(index, n, -n)
    if bad is not None:
        raise IndexError(f"out of range: tried to access index {bad} on a tensor of {n} elements.")


def _checked(f: Callable, check: Callable, names: tuple[str, ...]) -> Callable:
    """A function whose index argument is looked at first, where it is at hand."""
    places = {name: i for i, name in enumerate(names)}
    at = places["index"]

    @functools.wraps(f)
    def function(*args, **kwargs):
        index: Any = args[at] if len(args) > at else kwargs.get("index")
        if index.__class__ is Tensor and index._value.array is not None:
            try:  # the usual case in a few steps: indices met before, inside
                low, high = index._value.span
                sure = placing.log is None and low >= 0 and high < args[0]._value.aval.shape[args[1]]
            except (AttributeError, IndexError, TypeError):
                sure = False
            if not sure:
                given = [args[i] if i < len(args) else kwargs.get(name) for name, i in places.items()]
                if all(g is not None for g in given):
                    check(*given)
        return f(*args, **kwargs)

    return function


_BY_DIM = ("input", "dim", "index")
_CHECKS: dict[str, tuple[Callable, tuple[str, ...]]] = {
    "gather": (_check_along, _BY_DIM),
    "scatter": (_check_along, _BY_DIM),
    "scatter_add": (_check_along, _BY_DIM),
    "scatter_reduce": (_check_along, _BY_DIM),
    "index_select": (_check_select, _BY_DIM),
    "index_add": (_check_add, _BY_DIM),
    "index_reduce": (_check_add, _BY_DIM),
    "index_copy": (_check_copy, _BY_DIM),
    "index_fill": (_check_either_way, _BY_DIM),
    "take": (_check_take, ("input", "index")),
}

# ---- small tensors that are in the host's memory only ----------------------------------------------------------------


def _stack_held(tensors: Any, dim: Any = 0) -> Tensor | None:
    """`stack` of new tensors that no program took yet: one host array instead of as many inputs. None for others."""
    a = tensors[0]._value.aval
    arrays = []
    for t in tensors:
        v = t._value if t.__class__ is Tensor else None
        if v is None or v.aval is not a or v.array.__class__ is not np.ndarray or v.node is not None or v.slot != -1:
            return None
        arrays.append(v.array)
    whole = len(arrays) * a.numel * a.dtype.itemsize <= placing.HELD_BYTES and a.strides is None
    # A compiled function's replay, a profile and inference_mode's marks go by what is recorded.
    if not whole or T.region is not None or T.observer is not None or T.inference:
        return None
    if dim.__class__ is not int or not -a.ndim - 1 <= dim <= a.ndim:
        return None
    if dim == 0 and a.ndim:
        made = np.concatenate(arrays).reshape(len(arrays), *a.shape)
    else:
        made = np.stack(arrays, dim)
    return placing.wrap(placing.place(made, a.dtype, a.device, own=True))


def _stack(f: Callable) -> Callable:
    @functools.wraps(f)
    def stack(*args, **kwargs):
        tensors = args[0] if args else ()
        if (
            not kwargs
            and len(args) < 3
            and tensors.__class__ in (list, tuple)
            and tensors
            and tensors[0].__class__ is Tensor
        ):
            v = tensors[0]._value
            if v is not None and v.array.__class__ is np.ndarray:
                made = _stack_held(*args)
                if made is not None:
                    return made
        return f(*args, **kwargs)

    return stack


# ---- factorizations that can fail ------------------------------------------------------------------------------------


class LinAlgError(RuntimeError):
    """A matrix that an algorithm of linear algebra cannot take."""


LinAlgError.__name__ = LinAlgError.__qualname__ = "_LinAlgError"


def _traced(t: Tensor) -> bool:
    return t.is_meta or isinstance(value_of(t).array, jax.core.Tracer)


def _refuse(info: Tensor, name: str, words: Callable[[int], str], kind: type[Exception]) -> None:
    """Raises where an `_ex` function's info is not zero, naming the first matrix of a batch that failed."""
    found = info._host()
    if found.any():
        first = int(np.flatnonzero(found)[0])
        batch = f"(Batch element {first}): " if found.ndim else ""
        raise kind(f"{name}: {batch}{words(int(found.reshape(-1)[first]))}")


def _not_positive(order: int) -> str:
    return (
        "The factorization could not be completed because the input is not positive-definite (the leading minor of "
        f"order {order} is not positive-definite)."
    )


def _not_invertible(place: int) -> str:
    return (
        f"The diagonal element {place} is zero, the inversion could not be completed because the input matrix is "
        "singular."
    )


def _not_solvable(place: int) -> str:
    return "The solver failed because the input matrix is singular."


def _zero_on_diagonal(place: int) -> str:
    return (
        f"U[{place},{place}] is zero and using it on lu_solve would result in a division by zero. If you still want to "
        "perform the factorization, consider calling linalg.lu(A, pivot) or linalg.lu_factor_ex(A, pivot)"
    )


def _firm(
    key: str, ex: str, name: str, words: Callable[[int], str], upper: bool = False, kind: type[Exception] = LinAlgError,
    known: str = "",
):  # fmt: skip
    """An operation that raises where it failed. What failed is asked only of results that are not finite.

    known: the operation that makes the result, once it was looked at, part of the graph.
    """
    f = OP[key]

    @functools.wraps(f)
    def function(A: Tensor, *args, **kwargs):
        if known and isinstance(A, Tensor) and A.requires_grad and T.grad and not _traced(A):
            with no_grad():
                found = function(A, *args, **kwargs)
            return call(known, A, found, *args, **kwargs)
        r = f(A, *args, **kwargs)
        main = r[0] if isinstance(r, tuple) else r
        if not (_traced(main) or _traced(A)) and not _all_finite(main, ex):
            options = {}
            if upper:
                options["upper"] = kwargs.get("upper", bool(args and args[0]))
            _refuse(call(ex, A.detach(), **options)[-1], name, words, kind)
        return r

    return function


def _all_finite(r: Tensor, ex: str) -> bool:
    r = r.detach()
    if ex == "lu_factor_ex":  # a zero on the diagonal is finite
        return bool((parts.diagonal(r, 0, -2, -1) != 0).all().item())
    return bool(call("isfinite", r).all().item())


def _with_errors(key: str, name: str, words: Callable[[int], str]):
    """An `_ex` operation that raises where it is asked to."""
    f = OP[key]

    @functools.wraps(f)
    def function(*args, check_errors: bool = False, **kwargs):
        r = f(*args, **kwargs)
        if check_errors and not _traced(r[-1]):
            _refuse(r[-1], name, words, LinAlgError)
        return r

    return function


# ---- numerical recipes -----------------------------------------------------------------------------------------------


def vander(x: Tensor, *, N: int | None = None) -> Tensor:
    """Rows of powers 0 to N - 1 of the elements of (..., n)."""
    if N is not None and N <= 1:
        raise RuntimeError(f"N must be greater than 1. Got {N}")
    x = x.reshape(1) if x.ndim == 0 else x
    n = x.shape[-1] if N is None else N
    if x.dtype.category < dtypes.FLOATING and x.dtype is dtypes.bool:
        x = x.to(dtypes.int64)
    powers = views.expand(x.unsqueeze(-1), (*x.shape, n - 1)).cumprod(-1)
    ones = call("ones_like", powers[..., :1]) if n > 1 and "ones_like" in OP else powers.new_ones((*x.shape, 1))
    return call("cat", [ones, powers], -1)


def linalg_diagonal(A: Tensor, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """The diagonal of the last two dims, or two others, as a view."""
    return parts.diagonal(A, offset, dim1, dim2)


def constant_pad_nd(input: Tensor, pad, value: float = 0) -> Tensor:
    """Elements of one value put before and after the last dims."""
    return call("pad", input, tuple(pad), "constant", value)


def _slice(t: Tensor, dim: int, start: int, length: int) -> Tensor:
    return t.narrow(dim, start, length)


def _along_dim(t: Tensor, like: Tensor, dim: int) -> Tensor:
    return t.reshape([-1 if d == dim else 1 for d in range(like.ndim)])


def _slopes(f: Tensor, d: int, spacing, edge_order: int) -> Tensor:
    n = f.shape[d]
    if isinstance(spacing, Tensor) and spacing.ndim:
        steps = spacing.diff().to(f.dtype if f.dtype.category >= dtypes.FLOATING else dtypes.get_default_dtype())
        left, right = _along_dim(steps[:-1], f, d), _along_dim(steps[1:], f, d)
        before, at, after = _slice(f, d, 0, n - 2), _slice(f, d, 1, n - 2), _slice(f, d, 2, n - 2)
        inner = (
            before * (-right / (left * (left + right)))
            + at * ((right - left) / (left * right))
            + after * (left / (right * (left + right)))
        )
        h0: Any = steps[0]
        h1: Any = steps[1] if n > 2 else None
        k1: Any = steps[-2] if n > 2 else None
        k0: Any = steps[-1]
    else:
        inner = (_slice(f, d, 2, n - 2) - _slice(f, d, 0, n - 2)) / (2 * spacing)
        h0 = h1 = k1 = k0 = spacing
    if edge_order == 1:
        first = (_slice(f, d, 1, 1) - _slice(f, d, 0, 1)) / h0
        last = (_slice(f, d, n - 1, 1) - _slice(f, d, n - 2, 1)) / k0
    else:
        first = (
            _slice(f, d, 0, 1) * (-(2 * h0 + h1) / (h0 * (h0 + h1)))
            + _slice(f, d, 1, 1) * ((h0 + h1) / (h0 * h1))
            - _slice(f, d, 2, 1) * (h0 / (h1 * (h0 + h1)))
        )
        last = (
            _slice(f, d, n - 3, 1) * (k0 / (k1 * (k0 + k1)))
            - _slice(f, d, n - 2, 1) * ((k0 + k1) / (k0 * k1))
            + _slice(f, d, n - 1, 1) * ((2 * k0 + k1) / (k0 * (k0 + k1)))
        )
    return call("cat", [first, inner, last], d)


def gradient(input: Tensor, *, spacing=1, dim=None, edge_order: int = 1) -> tuple[Tensor, ...]:
    """Slopes along dims by central differences, one-sided of `edge_order` at the ends.

    spacing: the step, one a dim, or the places themselves as vectors.
    """
    if edge_order not in (1, 2):
        raise RuntimeError("torch.gradient only supports edge_order=1 and edge_order=2.")
    if dim is None:
        given = len(spacing) if isinstance(spacing, list | tuple) else input.ndim
        dims = list(range(given if given != input.ndim else input.ndim))
    else:
        dims = [wrap_dim(d, input.ndim) for d in ((dim,) if isinstance(dim, int) else dim)]
    if len(set(dims)) < len(dims):
        twice = next(d for d in dims if dims.count(d) > 1)
        raise RuntimeError(f"dim {twice} appears multiple times in the list of dims")
    spacing = 1 if spacing is None else spacing
    steps = list(spacing) if isinstance(spacing, list | tuple) else [spacing] * len(dims)
    if len(steps) != len(dims):
        raise RuntimeError(
            "torch.gradient expected spacing to be unspecified, a scalar or a list of length equal to 'self.dim() = "
            f"{input.ndim}', since dim argument was not given, but got a list of length {len(steps)}"
        )
    for d in dims:
        if input.shape[d] < edge_order + 1:
            raise RuntimeError("torch.gradient expected each dimension size to be at least edge_order+1")
    return tuple(_slopes(input, d, h, edge_order) for d, h in zip(dims, steps, strict=True))


def norm_except_dim(v: Tensor, pow: int = 2, dim: int = 0) -> Tensor:
    """The norm over all dims but one, which keep size 1; dim -1: over all, to a number."""
    if dim == -1:
        return call("norm", v, pow)
    dims = tuple(d for d in range(v.ndim) if d != dim)
    return call("norm", v, pow, dims, True)


def nuclear_norm(input: Tensor, dim=None, keepdim: bool = False) -> Tensor:
    """The sum of a matrix's singular values."""
    return call("norm", input, "nuc", (-2, -1) if dim is None else tuple(dim), keepdim)


def frobenius_norm(input: Tensor, dim: int | tuple[int, ...], keepdim: bool = False) -> Tensor:
    """The root of the sum of squares over the dims given; all for ()."""
    return call("norm", input, "fro", dim if isinstance(dim, int) else tuple(dim) or None, keepdim)


def native_batch_norm(
    input: Tensor, weight: Tensor | None, bias: Tensor | None, running_mean: Tensor | None, running_var: Tensor | None,
    training: bool, momentum: float, eps: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """`batch_norm`, and the mean and inverse deviation of each channel it used (empty outside training)."""
    if not training:
        r = call("batch_norm.eval", input, running_mean, running_var, weight, bias, eps)
        return r, input.new_empty(0), input.new_empty(0)
    r, mean, var = call("batch_norm.train", input, weight, bias, eps)
    mean, var = mean.detach(), var.detach()
    kept = input if weight is None else weight
    for running, batch in ((running_mean, mean), (running_var, var)):
        if running is not None:
            running.mul_(1 - momentum).add_(batch.to(running.dtype), alpha=momentum)
    count = input.numel() // max(input.shape[1], 1)
    spread = (var * ((count - 1) / max(count, 1)) + eps).rsqrt()
    return r, mean.to(kept.dtype), spread.to(kept.dtype)


def native_layer_norm(
    input: Tensor, normalized_shape, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """`layer_norm`, and the mean and inverse deviation it used."""
    r, mean, spread = call("native_layer_norm", input, tuple(normalized_shape), weight, bias, eps)
    return r, mean.detach(), spread.detach()


def _range_of(A: Tensor, q: int, niter: int) -> Tensor:
    """An orthonormal basis of about the q strongest directions of A's range (Halko et al. 2009, algorithm 4.4)."""
    probe = RANDOM["randn"](A.shape[-1], q, dtype=A.dtype, device=A.device)
    basis = call("linalg.qr", call("matmul", A, probe))[0]
    back = A.mH
    for _ in range(niter):
        basis = call("linalg.qr", call("matmul", back, basis))[0]
        basis = call("linalg.qr", call("matmul", A, basis))[0]
    return basis


def svd_lowrank(
    A: Tensor, q: int | None = 6, niter: int | None = 2, M: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """U, S and V of about the q greatest singular values of A - M, by random projection."""
    q, niter = 6 if q is None else q, 2 if niter is None else niter
    if M is not None:
        A = A - views.expand(M, A.shape)
    wide = A.shape[-2] < A.shape[-1]
    if wide:
        A = A.mH
    basis = _range_of(A, q, niter)
    u, s, vh = call("linalg.svd", call("matmul", basis.mH, A), False)
    u, v = call("matmul", basis, u), vh.mH
    return (v, s, u) if wide else (u, s, v)


def pca_lowrank(A: Tensor, q: int | None = None, center: bool = True, niter: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """`svd_lowrank` of a matrix of observations in rows, by default less their mean."""
    most = min(A.shape[-2:])
    q = min(6, most) if q is None else q
    if not 0 <= q <= most:
        raise ValueError(f"q(={q}) must be non-negative integer and not greater than min(m, n)={most}")
    if niter < 0:
        raise ValueError(f"niter(={niter}) must be non-negative integer")
    return svd_lowrank(A - A.mean(-2, keepdim=True) if center else A, q, niter)


def unsafe_split_with_sizes(input: Tensor, split_sizes, dim: int = 0) -> tuple[Tensor, ...]:
    """`split` by sizes."""
    return views.FUNCTIONS["split_with_sizes"](input, split_sizes, dim)


def float_power_(self: Tensor, exponent) -> Tensor:
    """In-place `float_power`: of tensors that are of the result's dtype, float64 or complex128, alone."""
    complex_ = self.is_complex() or (
        exponent.is_complex() if isinstance(exponent, Tensor) else isinstance(exponent, complex)
    )
    wanted = dtypes.complex128 if complex_ else dtypes.float64
    if self.dtype is not wanted:
        raise RuntimeError(
            f"the base given to float_power_ has dtype {dtypes.SCALAR_NAMES[self.dtype]} but the operation's result "
            f"requires dtype {dtypes.SCALAR_NAMES[wanted]}"
        )
    return self.pow_(exponent)


_INTERPOLATIONS = ("bilinear", "nearest", "bicubic")
_PADDINGS = ("zeros", "border", "reflection")


def grid_sampler(
    input: Tensor, grid: Tensor, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> Tensor:
    """`nn.functional.grid_sample`, its modes by number."""
    mode, padding = _INTERPOLATIONS[interpolation_mode], _PADDINGS[padding_mode]
    return call("grid_sample", input, grid, mode, padding, align_corners)


def grid_sampler_2d(
    input: Tensor, grid: Tensor, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> Tensor:
    """`grid_sampler` of images."""
    return grid_sampler(input, grid, interpolation_mode, padding_mode, align_corners)


def grid_sampler_3d(
    input: Tensor, grid: Tensor, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> Tensor:
    """`grid_sampler` of volumes."""
    return grid_sampler(input, grid, interpolation_mode, padding_mode, align_corners)


FUNCTIONS: dict[str, Callable] = {
    f.__name__: f
    for f in (
        constant_pad_nd, gradient, norm_except_dim, nuclear_norm, frobenius_norm, native_batch_norm, native_layer_norm,
        svd_lowrank, pca_lowrank, unsafe_split_with_sizes, grid_sampler, grid_sampler_2d, grid_sampler_3d,
    )
}  # fmt: skip
LINALG: dict[str, Callable] = {"vander": vander, "diagonal": linalg_diagonal, "LinAlgError": LinAlgError}


def attach() -> None:
    """Makes the functions that check, and gives Tensor its methods among them."""
    found = derived()
    for name, (check, names) in _CHECKS.items():
        f = _checked(found[name], check, names)
        FUNCTIONS[name] = f
        setattr(Tensor, name, f)
        op = next(o for o in OPS.values() if o.name == name)
        if op.inplace:
            setattr(Tensor, name + "_", in_place(op, f))
    FUNCTIONS["stack"] = _stack(found["stack"])
    Tensor.float_power_ = float_power_  # type: ignore[attr-defined]
    LINALG.update(
        cholesky=_firm(
            "linalg.cholesky", "cholesky_ex", "linalg.cholesky", _not_positive, upper=True, known="known_cholesky"
        ),
        inv=_firm("inv", "inv_ex", "linalg.inv", _not_invertible),
        solve=_firm_solve(),
        lu_factor=_firm("lu_factor", "lu_factor_ex", "torch.linalg.lu_factor", _zero_on_diagonal, kind=RuntimeError),
        lstsq=_lstsq(),
        cholesky_ex=_with_errors("cholesky_ex", "linalg.cholesky_ex", _not_positive),
        inv_ex=_with_errors("inv_ex", "linalg.inv_ex", _not_invertible),
        solve_ex=_with_errors("solve_ex", "torch.linalg.solve_ex", _not_solvable),
    )
    FUNCTIONS["inverse"] = Tensor.inverse = _firm("inverse", "inv_ex", "linalg.inv", _not_invertible)  # type: ignore[attr-defined]
    FUNCTIONS["cholesky"] = Tensor.cholesky = _firm("cholesky", "cholesky_ex", "cholesky", _not_positive, upper=True)  # type: ignore[attr-defined]


def _firm_solve() -> Callable:
    f = OP["solve"]

    @functools.wraps(f)
    def solve(A: Tensor, B: Tensor, **kwargs):
        r = f(A, B, **kwargs)
        if not (_traced(r) or _traced(A)) and not _all_finite(r, ""):
            _refuse(call("inv_ex", A.detach())[-1], "torch.linalg.solve", _not_solvable, LinAlgError)
        return r

    return solve


def _lstsq() -> Callable:
    f = OP["lstsq"]

    @functools.wraps(f)
    def lstsq(*args, **kwargs):
        r = f(*args, **kwargs)
        return type(r)(*r[:3], r[3].detach())

    return lstsq
