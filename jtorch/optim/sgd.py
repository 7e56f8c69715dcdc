"""Stochastic gradient descent."""

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
    has_decay,
    run_closure,
    zeros,
)


class SGD(Optimizer):
    """Gradient descent, with momentum, Nesterov's too, and L2 decay. State: momentum_buffer."""

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float | Tensor = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        check_lr(lr)
        check_at_least_zero(momentum, "momentum value")
        check_at_least_zero(weight_decay, "weight_decay value")
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")
        check_implementation(fused, foreach, differentiable)
        defaults = dict(
            lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay, nesterov=nesterov,
            maximize=maximize, foreach=foreach, differentiable=differentiable, fused=fused,
        )  # fmt: skip
        super().__init__(params, defaults)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            for name in ("nesterov", "maximize", "differentiable"):
                group.setdefault(name, False)
            for name in ("foreach", "fused"):
                group.setdefault(name, None)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = run_closure(closure)
        for group in self.param_groups:
            for params in self._updatable(group):
                buffers, first = self._buffers(params) if group["momentum"] != 0 else ([], ())
                run_inplace(
                    "optim.sgd",
                    [*params, *buffers],
                    params,
                    [p.grad for p in params],
                    buffers,
                    lr=group["lr"],
                    momentum=group["momentum"],
                    dampening=group["dampening"],
                    weight_decay=group["weight_decay"],
                    decay=has_decay(group["weight_decay"]),
                    nesterov=group["nesterov"],
                    maximize=group["maximize"],
                    # Zeros are as good a start as none unless the gradient is dampened: the same program then.
                    first=first if group["dampening"] != 0 and any(first) else (),
                )
        return loss

    def _buffers(self, params: list[Tensor]) -> tuple[list[Tensor], tuple[bool, ...]]:
        """Momentum buffers, made where missing, and which were."""
        buffers, first = [], []
        for param in params:
            state = self.state[param]
            buffer = state.get("momentum_buffer")
            first.append(buffer is None)
            if buffer is None:
                buffer = state["momentum_buffer"] = zeros(param)
            buffers.append(buffer)
        return buffers, tuple(first)
