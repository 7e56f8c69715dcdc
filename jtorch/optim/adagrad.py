"""Adagrad."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jtorch._tensor.fused import run_inplace
from jtorch._tensor.tensor import Tensor
from jtorch.optim.optimizer import (
    Optimizer,
    ParamsT,
    check_at_least_zero,
    check_implementation,
    check_lr,
    full,
    has_decay,
    run_closure,
    step_counter,
)


class Adagrad(Optimizer):
    """Adagrad. State, made at construction: step, sum."""

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        check_lr(lr)
        check_at_least_zero(lr_decay, "lr_decay value")
        check_at_least_zero(weight_decay, "weight_decay value")
        check_at_least_zero(initial_accumulator_value, "initial_accumulator_value value")
        check_at_least_zero(eps, "epsilon value")
        check_implementation(fused, foreach, differentiable)
        defaults = dict(
            lr=lr, lr_decay=lr_decay, eps=eps, weight_decay=weight_decay,
            initial_accumulator_value=initial_accumulator_value, foreach=foreach, maximize=maximize,
            differentiable=differentiable, fused=fused,
        )  # fmt: skip
        super().__init__(params, defaults)
        for group in self.param_groups:
            for param in group["params"]:
                self._state_of(param, group["initial_accumulator_value"])

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            for name in ("maximize", "differentiable"):
                group.setdefault(name, False)
            for name in ("foreach", "fused"):
                group.setdefault(name, None)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = run_closure(closure)
        for group in self.param_groups:
            for params in self._updatable(group):
                states = [self._state_of(p, group["initial_accumulator_value"]) for p in params]
                sums = [s["sum"] for s in states]
                steps = [s["step"] for s in states]
                run_inplace(
                    "optim.adagrad",
                    [*params, *sums, *steps],
                    params,
                    [p.grad for p in params],
                    sums,
                    steps,
                    lr=group["lr"],
                    lr_decay=group["lr_decay"],
                    eps=group["eps"],
                    weight_decay=group["weight_decay"],
                    decay=has_decay(group["weight_decay"]),
                    maximize=group["maximize"],
                )
        return loss

    def _state_of(self, param: Tensor, start: float) -> dict[str, Any]:
        state = self.state[param]
        if not state:
            state["step"] = step_counter(param)
            state["sum"] = full(param, complex(start, start) if param.is_complex() else start)
        return state
