"""NAdam."""

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
    check_lr,
    has_decay,
    run_closure,
    step_counter,
    zeros,
)


class NAdam(Optimizer):
    """Adam with Nesterov momentum. State: step, mu_product, exp_avg, exp_avg_sq."""

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        check_lr(lr)
        check_at_least_zero(eps, "epsilon value")
        check_betas(betas)
        check_at_least_zero(weight_decay, "weight_decay value")
        check_at_least_zero(momentum_decay, "momentum_decay value")
        defaults = dict(
            lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, momentum_decay=momentum_decay,
            decoupled_weight_decay=decoupled_weight_decay, maximize=maximize, foreach=foreach, capturable=capturable,
            differentiable=differentiable,
        )  # fmt: skip
        super().__init__(params, defaults)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            for name in ("maximize", "differentiable", "capturable", "decoupled_weight_decay"):
                group.setdefault(name, False)
            group.setdefault("foreach", None)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = run_closure(closure)
        for group in self.param_groups:
            for params in self._updatable(group):
                states = [self._state_of(p) for p in params]
                means = [s["exp_avg"] for s in states]
                squares = [s["exp_avg_sq"] for s in states]
                products = [s["mu_product"] for s in states]
                steps = [s["step"] for s in states]
                run_inplace(
                    "optim.nadam",
                    [*params, *means, *squares, *products, *steps],
                    params,
                    [p.grad for p in params],
                    means,
                    squares,
                    products,
                    steps,
                    lr=group["lr"],
                    beta1=group["betas"][0],
                    beta2=group["betas"][1],
                    eps=group["eps"],
                    weight_decay=group["weight_decay"],
                    momentum_decay=group["momentum_decay"],
                    decay=has_decay(group["weight_decay"]),
                    decoupled=group["decoupled_weight_decay"],
                    maximize=group["maximize"],
                )
        return loss

    def _state_of(self, param: Tensor) -> dict[str, Any]:
        state = self.state[param]
        if not state:
            state["step"] = step_counter(param)
            state["mu_product"] = step_counter(param, 1)
            state["exp_avg"] = zeros(param)
            state["exp_avg_sq"] = zeros(param)
        return state
