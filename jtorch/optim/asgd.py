"""Averaged stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jtorch._tensor.fused import run_inplace
from jtorch._tensor.tensor import Tensor
from jtorch.optim.optimizer import (
    Optimizer,
    ParamsT,
    check_at_least_zero,
    check_lr,
    has_decay,
    run_closure,
    step_counter,
    zeros,
)


class ASGD(Optimizer):
    """Averaged gradient descent. State: step, eta, mu, ax (the average)."""

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ) -> None:
        check_lr(lr)
        check_at_least_zero(weight_decay, "weight_decay value")
        defaults = dict(
            lr=lr, lambd=lambd, alpha=alpha, t0=t0, weight_decay=weight_decay, foreach=foreach, maximize=maximize,
            differentiable=differentiable, capturable=capturable,
        )  # fmt: skip
        super().__init__(params, defaults)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            for name in ("maximize", "differentiable", "capturable"):
                group.setdefault(name, False)
            group.setdefault("foreach", None)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = run_closure(closure)
        for group in self.param_groups:
            for params in self._updatable(group):
                states = [self._state_of(p, group["lr"]) for p in params]
                averages = [s["ax"] for s in states]
                etas = [s["eta"] for s in states]
                mus = [s["mu"] for s in states]
                steps = [s["step"] for s in states]
                run_inplace(
                    "optim.asgd",
                    [*params, *averages, *etas, *mus, *steps],
                    params,
                    [p.grad for p in params],
                    averages,
                    etas,
                    mus,
                    steps,
                    lr=group["lr"],
                    lambd=group["lambd"],
                    alpha=group["alpha"],
                    t0=group["t0"],
                    weight_decay=group["weight_decay"],
                    decay=has_decay(group["weight_decay"]),
                    maximize=group["maximize"],
                )
        return loss

    def _state_of(self, param: Tensor, lr: float | Tensor) -> dict[str, Any]:
        state = self.state[param]
        if not state:
            state["step"] = step_counter(param)
            state["eta"] = step_counter(param) + (lr.detach() if isinstance(lr, Tensor) else lr)
            state["mu"] = step_counter(param, 1)
            state["ax"] = zeros(param)
        return state
