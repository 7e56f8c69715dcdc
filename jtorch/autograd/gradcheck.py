"""Gradients against finite differences."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from jtorch._tensor.backward import grad
from jtorch._tensor.base import Tensor
from jtorch._tensor.creation import from_numpy


class GradcheckError(RuntimeError):
    """A gradient that differs from its finite difference."""


def _tuple(x) -> tuple:
    return x if isinstance(x, tuple) else tuple(x) if isinstance(x, list) else (x,)


def gradcheck(
    func: Callable, inputs, *, eps: float = 1e-6, atol: float = 1e-5, rtol: float = 1e-3, raise_exception: bool = True,
    nondet_tol: float = 0.0, check_undefined_grad: bool = True, check_grad_dtypes: bool = False,
    check_batched_grad: bool = False, check_batched_forward_grad: bool = False, check_forward_ad: bool = False,
    check_backward_ad: bool = True, fast_mode: bool = False, masked: bool | None = None,
) -> bool:  # fmt: skip
    """Whether `func`'s gradients at real `inputs` agree with central differences; raises GradcheckError if not."""
    inputs = _tuple(inputs)
    wanted = [i for i, t in enumerate(inputs) if isinstance(t, Tensor) and t.requires_grad]
    if not wanted:
        raise ValueError("gradcheck expects at least one input tensor to require gradient, but none of the them have requires_grad=True.")
    outputs = [o for o in _tuple(func(*inputs)) if isinstance(o, Tensor) and o.requires_grad]
    for nr, out in enumerate(outputs):
        flat = out.reshape(-1)
        for i in wanted:
            base = np.array(inputs[i].detach().numpy())
            analytical = np.zeros((base.size, flat.numel()))
            for k in range(flat.numel()):
                (g,) = grad(flat[k], inputs[i], retain_graph=True, allow_unused=True)
                if g is not None:
                    analytical[:, k] = g.detach().numpy().reshape(-1)
            numerical = np.zeros_like(analytical)
            for j in range(base.size):
                ends = []
                for sign in (1, -1):
                    moved = base.copy()
                    moved.reshape(-1)[j] += sign * eps
                    at = list(inputs)
                    at[i] = from_numpy(moved).requires_grad_()
                    results = [o for o in _tuple(func(*at)) if isinstance(o, Tensor) and o.requires_grad]
                    ends.append(results[nr].detach().numpy().reshape(-1))
                numerical[j] = (ends[0] - ends[1]) / (2 * eps)
            if not np.allclose(analytical, numerical, rtol, atol):
                if raise_exception:
                    raise GradcheckError(
                        f"Jacobian mismatch for output {nr} with respect to input {i},\nnumerical:{numerical}\nanalytical:{analytical}\n"
                    )
                return False
    return True


def gradgradcheck(func: Callable, inputs, grad_outputs=None, *, eps: float = 1e-6, atol: float = 1e-5, rtol: float = 1e-3, **options) -> bool:
    """`gradcheck` of the gradients themselves."""
    inputs = _tuple(inputs)
    outputs = [o for o in _tuple(func(*inputs)) if isinstance(o, Tensor) and o.requires_grad]
    if grad_outputs is None:
        rng = np.random.default_rng(0)
        grad_outputs = tuple(from_numpy(np.asarray(rng.standard_normal(tuple(o.shape)))).to(o.dtype).requires_grad_() for o in outputs)
    grad_outputs = _tuple(grad_outputs)
    wanted = [i for i, t in enumerate(inputs) if isinstance(t, Tensor) and t.requires_grad]

    def gradients(*args):
        xs, cts = args[: len(inputs)], args[len(inputs) :]
        outs = [o for o in _tuple(func(*xs)) if isinstance(o, Tensor) and o.requires_grad]
        return grad(outs, [xs[i] for i in wanted], cts, create_graph=True, allow_unused=True, materialize_grads=True)

    return gradcheck(gradients, (*inputs, *grad_outputs), eps=eps, atol=atol, rtol=rtol, raise_exception=options.get("raise_exception", True))
