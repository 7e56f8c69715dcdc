"""RMSprop."""

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


class RMSprop(Optimizer):
    """RMSprop. State: step, square_avg, momentum_buffer with momentum, grad_avg with centered."""

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        check_lr(lr)
        check_at_least_zero(eps, "epsilon value")
        check_at_least_zero(momentum, "momentum value")
        check_at_least_zero(weight_decay, "weight_decay value")
        check_at_least_zero(alpha, "alpha value")
        defaults = dict(
            lr=lr, momentum=momentum, alpha=alpha, eps=eps, centered=centered, weight_decay=weight_decay,
            capturable=capturable, foreach=foreach, maximize=maximize, differentiable=differentiable,
        )  # fmt: skip
        super().__init__(params, defaults)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            group.setdefault("momentum", 0)
            for name in ("centered", "maximize", "differentiable", "capturable"):
                group.setdefault(name, False)
            group.setdefault("foreach", None)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = run_closure(closure)
        for group in self.param_groups:
            for params in self._updatable(group):
                states = [self._state_of(p, group) for p in params]
                squares = [s["square_avg"] for s in states]
                buffers = [s["momentum_buffer"] for s in states] if group["momentum"] > 0 else []
                means = [s["grad_avg"] for s in states] if group["centered"] else []
                steps = [s["step"] for s in states]
                run_inplace(
                    "optim.rmsprop",
                    [*params, *squares, *buffers, *means, *steps],
                    params,
                    [p.grad for p in params],
                    squares,
                    buffers,
                    means,
                    steps,
                    lr=group["lr"],
                    alpha=group["alpha"],
                    eps=group["eps"],
                    weight_decay=group["weight_decay"],
                    momentum=group["momentum"],
                    decay=has_decay(group["weight_decay"]),
                    maximize=group["maximize"],
                )
        return loss

    def _state_of(self, param: Tensor, group: dict[str, Any]) -> dict[str, Any]:
        state = self.state[param]
        if not state:
            state["step"] = step_counter(param)
            state["square_avg"] = zeros(param)
            if group["momentum"] > 0:
                state["momentum_buffer"] = zeros(param)
            if group["centered"]:
                state["grad_avg"] = zeros(param)
        return state
