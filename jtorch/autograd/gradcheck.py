"""Gradients against finite differences."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np

from jtorch._autograd.modes import enable_grad
from jtorch._runtime.dtypes import FLOATING
from jtorch._tensor.backward import grad
from jtorch._tensor.base import Tensor
from jtorch._tensor.from_data import from_numpy, tensor


class GradcheckError(RuntimeError):
    """A gradient that differs from its finite difference."""


def _tuple(x) -> tuple:
    return x if isinstance(x, tuple) else tuple(x) if isinstance(x, list) else (x,)


def _floating_outputs(func: Callable, inputs) -> list[Tensor]:
    with enable_grad():
        return [o for o in _tuple(func(*inputs)) if isinstance(o, Tensor) and o.dtype.category >= FLOATING]


def _unit(out: Tensor, k: int, value: complex) -> Tensor:
    """A cotangent that is `value` at element k and 0 elsewhere."""
    ct = np.zeros(out.numel(), np.complex128 if out.is_complex() else np.float64)
    ct[k] = value if out.is_complex() else value.real
    return tensor(ct.reshape(tuple(out.shape)), dtype=out.dtype, device=out.device)


def _reals(x: np.ndarray) -> np.ndarray:
    """The real numbers that an array is made of: real and imaginary parts side by side."""
    flat = x.reshape(-1)
    return flat.view(flat.real.dtype) if np.iscomplexobj(flat) else flat


def _analytical(out: Tensor, x: Tensor) -> np.ndarray:
    """Rows: the real parameters of x. Columns: the real numbers of the output."""
    parts = (1.0, 1.0j) if out.is_complex() else (1.0,)
    columns = []
    for k in range(out.numel()):
        for part in parts:
            g = (
                grad(out, x, _unit(out, k, part), retain_graph=True, allow_unused=True)[0]
                if out.requires_grad
                else None
            )
            columns.append(
                np.zeros(x.numel() * (2 if x.is_complex() else 1))
                if g is None
                else _reals(np.array(g.detach().numpy()))
            )
    return np.stack(columns, 1) if columns else np.zeros((x.numel(), 0))


def _numerical(func: Callable, inputs: tuple, at: int, nr: int, eps: float) -> np.ndarray:
    base = np.array(inputs[at].detach().numpy())
    rows = []
    for j in range(_reals(base).size):
        ends = []
        for sign in (1, -1):
            moved = base.copy()
            _reals(moved)[j] += sign * eps
            args = list(inputs)
            args[at] = from_numpy(moved).requires_grad_()
            ends.append(_reals(np.array(_floating_outputs(func, args)[nr].detach().numpy())))
        rows.append((ends[0] - ends[1]) / (2 * eps))
    return np.stack(rows) if rows else np.zeros((0, 0))


def gradcheck(
    func: Callable, inputs, *, eps: float = 1e-6, atol: float = 1e-5, rtol: float = 1e-3, raise_exception: bool = True,
    nondet_tol: float = 0.0, check_undefined_grad: bool = True, check_grad_dtypes: bool = False,
    check_batched_grad: bool = False, check_batched_forward_grad: bool = False, check_forward_ad: bool = False,
    check_backward_ad: bool = True, fast_mode: bool = False, masked: bool | None = None,
) -> bool:  # fmt: skip
    """Whether `func`'s gradients at `inputs` agree with central differences; raises GradcheckError if not.

    Real and complex inputs and outputs; the options after `raise_exception` are accepted, the whole Jacobian is compared.
    """
    inputs = _tuple(inputs)
    wanted = [i for i, t in enumerate(inputs) if isinstance(t, Tensor) and t.requires_grad]
    if not wanted:
        raise ValueError(
            "gradcheck expects at least one input tensor to require gradient, but none of them have requires_grad=True."
        )
    for i in wanted:
        if inputs[i].dtype.name not in ("float64", "complex128"):
            warnings.warn(
                f"Input #{i} requires gradient and is not a double precision floating point or complex. This check will "
                "likely fail if all the inputs are not of double precision floating point or complex. ",
                stacklevel=2,
            )
    outputs = _floating_outputs(func, inputs)
    for nr, out in enumerate(outputs):
        for i in wanted:
            analytical, numerical = _analytical(out, inputs[i]), _numerical(func, inputs, i, nr, eps)
            if np.allclose(analytical, numerical, rtol, atol):
                continue
            if not raise_exception:
                return False
            if not any(o.requires_grad for o in outputs):
                raise GradcheckError("Numerical gradient for function expected to be zero")
            raise GradcheckError(
                f"Jacobian mismatch for output {nr} with respect to input {i},\nnumerical:{tensor(numerical)}\n"
                f"analytical:{tensor(analytical)}\n"
            )
    return True


def gradgradcheck(
    func: Callable, inputs, grad_outputs=None, *, eps: float = 1e-6, atol: float = 1e-5, rtol: float = 1e-3,
    gen_non_contig_grad_outputs: bool = False, raise_exception: bool = True, **options,
) -> bool:  # fmt: skip
    """`gradcheck` of the gradients themselves, as functions of the inputs and of the cotangents."""
    inputs = _tuple(inputs)
    outputs = [o for o in _floating_outputs(func, inputs) if o.requires_grad]
    if grad_outputs is None:
        rng = np.random.default_rng(0)
        draws = [rng.standard_normal((2, *o.shape)) for o in outputs]
        grad_outputs = tuple(
            tensor(d[0] + 1j * d[1] if o.is_complex() else d[0], dtype=o.dtype).requires_grad_()
            for o, d in zip(outputs, draws, strict=True)
        )
    grad_outputs = _tuple(grad_outputs)
    wanted = [i for i, t in enumerate(inputs) if isinstance(t, Tensor) and t.requires_grad]

    def gradients(*args):
        xs, cts = args[: len(inputs)], args[len(inputs) :]
        outs = [o for o in _floating_outputs(func, xs) if o.requires_grad]
        return grad(outs, [xs[i] for i in wanted], cts, create_graph=True, allow_unused=True, materialize_grads=True)

    return gradcheck(
        gradients, (*inputs, *grad_outputs), eps=eps, atol=atol, rtol=rtol, raise_exception=raise_exception, **options
    )
