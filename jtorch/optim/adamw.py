"""AdamW: Adam with decoupled weight decay."""

from __future__ import annotations

from typing import Any

from jtorch._tensor.tensor import Tensor
from jtorch.optim.adam import Adam
from jtorch.optim.optimizer import ParamsT


class AdamW(Adam):
    """Adam whose decay shrinks the parameters by lr * weight_decay, apart from the gradient's moments."""

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float | Tensor, float | Tensor] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params, lr, betas, eps, weight_decay, amsgrad, foreach=foreach, maximize=maximize, capturable=capturable,
            differentiable=differentiable, fused=fused, decoupled_weight_decay=True,
        )  # fmt: skip

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        # A state saved by an AdamW of older days does not say so.
        for group in self.param_groups:
            group["decoupled_weight_decay"] = True
