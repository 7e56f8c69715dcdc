"""Adam and AMSGrad, their decay part of the gradient or decoupled from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jtorch._tensor.fused import run_inplace
from jtorch._tensor.tensor import Tensor
from jtorch.optim.optimizer import (
    Optimizer,
    ParamsT,
    check_at_least_zero,
    check_betas,
    check_implementation,
    check_lr,
    has_decay,
    run_closure,
    step_counter,
    zeros,
)


class Adam(Optimizer):
    """Adam. State: step, exp_avg, exp_avg_sq, and max_exp_avg_sq with amsgrad."""

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float | Tensor, float | Tensor] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ) -> None:
        if isinstance(lr, Tensor) and foreach and not capturable:
            raise ValueError("lr as a Tensor is not supported for capturable=False and foreach=True")
        check_lr(lr)
        check_at_least_zero(eps, "epsilon value")
        check_betas(betas)
        check_at_least_zero(weight_decay, "weight_decay value")
        if isinstance(betas[0], Tensor) != isinstance(betas[1], Tensor):
            raise ValueError("betas must be either both floats or both Tensors")
        check_implementation(fused, foreach, differentiable)
        defaults = dict(
            lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad, maximize=maximize, foreach=foreach,
            capturable=capturable, differentiable=differentiable, fused=fused,
            decoupled_weight_decay=decoupled_weight_decay,
        )  # fmt: skip
        super().__init__(params, defaults)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            for name in ("amsgrad", "maximize", "capturable", "differentiable", "decoupled_weight_decay"):
                group.setdefault(name, False)
            for name in ("foreach", "fused"):
                group.setdefault(name, None)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = run_closure(closure)
        for group in self.param_groups:
            for params in self._updatable(group):
                states = [self._state_of(p, group["amsgrad"]) for p in params]
                means = [s["exp_avg"] for s in states]
                squares = [s["exp_avg_sq"] for s in states]
                maxima = [s["max_exp_avg_sq"] for s in states] if group["amsgrad"] else []
                steps = [s["step"] for s in states]
                run_inplace(
                    "optim.adam",
                    [*params, *means, *squares, *maxima, *steps],
                    params,
                    [p.grad for p in params],
                    means,
                    squares,
                    maxima,
                    steps,
                    lr=group["lr"],
                    beta1=group["betas"][0],
                    beta2=group["betas"][1],
                    eps=group["eps"],
                    weight_decay=group["weight_decay"],
                    decay=has_decay(group["weight_decay"]),
                    decoupled=group["decoupled_weight_decay"],
                    maximize=group["maximize"],
                )
        return loss

    def _state_of(self, param: Tensor, amsgrad: bool) -> dict[str, Any]:
        state = self.state[param]
        if not state:
            state["step"] = step_counter(param)
            state["exp_avg"] = zeros(param)
            state["exp_avg_sq"] = zeros(param)
            if amsgrad:
                state["max_exp_avg_sq"] = zeros(param)
        return state
