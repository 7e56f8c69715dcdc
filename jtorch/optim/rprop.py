"""Resilient propagation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jtorch._tensor.fused import run_inplace
from jtorch._tensor.tensor import Tensor
from jtorch.optim.optimizer import (
    Optimizer,
    ParamsT,
    check_lr,
    run_closure,
    step_counter,
    zeros,
)


class Rprop(Optimizer):
    """Resilient propagation. State: step, prev (the last gradient), step_size."""

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50),
        *,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        check_lr(lr)
        if not 0.0 < etas[0] < 1.0 < etas[1]:
            raise ValueError(f"Invalid eta values: {etas[0]}, {etas[1]}")
        defaults = dict(
            lr=lr, etas=etas, step_sizes=step_sizes, foreach=foreach, maximize=maximize, differentiable=differentiable,
            capturable=capturable,
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
                prevs = [s["prev"] for s in states]
                sizes = [s["step_size"] for s in states]
                steps = [s["step"] for s in states]
                run_inplace(
                    "optim.rprop",
                    [*params, *prevs, *sizes, *steps],
                    params,
                    [p.grad for p in params],
                    prevs,
                    sizes,
                    steps,
                    eta_minus=group["etas"][0],
                    eta_plus=group["etas"][1],
                    step_size_min=group["step_sizes"][0],
                    step_size_max=group["step_sizes"][1],
                    maximize=group["maximize"],
                )
        return loss

    def _state_of(self, param: Tensor, lr: float | Tensor) -> dict[str, Any]:
        state = self.state[param]
        if not state:
            state["step"] = step_counter(param)
            state["prev"] = zeros(param)
            # A complex parameter is updated as a pair of reals, each with its own step size.
            state["step_size"] = zeros(param) + lr * (complex(1, 1) if param.is_complex() else 1)
        return state
