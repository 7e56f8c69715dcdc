"""Adadelta."""

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


class Adadelta(Optimizer):
    """Adadelta. State: step, square_avg, acc_delta."""

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        capturable: bool = False,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        check_lr(lr)
        if not 0.0 <= rho <= 1.0:
            raise ValueError(f"Invalid rho value: {rho}")
        check_at_least_zero(eps, "epsilon value")
        check_at_least_zero(weight_decay, "weight_decay value")
        defaults = dict(
            lr=lr, rho=rho, eps=eps, weight_decay=weight_decay, maximize=maximize, capturable=capturable,
            foreach=foreach, differentiable=differentiable,
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
                states = [self._state_of(p) for p in params]
                squares = [s["square_avg"] for s in states]
                deltas = [s["acc_delta"] for s in states]
                steps = [s["step"] for s in states]
                run_inplace(
                    "optim.adadelta",
                    [*params, *squares, *deltas, *steps],
                    params,
                    [p.grad for p in params],
                    squares,
                    deltas,
                    steps,
                    lr=group["lr"],
                    rho=group["rho"],
                    eps=group["eps"],
                    weight_decay=group["weight_decay"],
                    decay=has_decay(group["weight_decay"]),
                    maximize=group["maximize"],
                )
        return loss

    def _state_of(self, param: Tensor) -> dict[str, Any]:
        state = self.state[param]
        if not state:
            state["step"] = step_counter(param)
            state["square_avg"] = zeros(param)
            state["acc_delta"] = zeros(param)
        return state
