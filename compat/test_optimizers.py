"""Every optimizer of PyTorch's own database that jtorch has: five steps, parameters and state; and schedulers."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch.testing._internal.common_optimizers import OptimizerInfo, optim_db

from compat import bridge, judge
from compat.ledger import Ledger

ENTRIES = {info.optim_cls.__name__: info for info in optim_db}
SHAPES = ((3, 4), (4,), ())
STEPS = 5


@pytest.fixture(params=sorted(ENTRIES))
def entry(request) -> OptimizerInfo:
    return ENTRIES[request.param]


def test_optimizer(entry, request, execution_mode):
    name = entry.optim_cls.__name__
    ledger = Ledger(request, f"optim.{name}", execution_mode)
    try:
        theirs = bridge.lookup(f"optim.{name}")
    except bridge.Absent as error:
        ledger.note("optimizer", "float32", "absent", str(error))
    else:
        cases = []
        for given in entry.optim_inputs_func(device="cpu"):
            label = f"{given.desc} {given.kwargs}"
            cases.append((label, functools.partial(_compare, entry.optim_cls, theirs, name, given.kwargs, False)))
        if entry.supports_param_groups and name not in ("Muon", "LBFGS"):
            cases.append(("param groups", functools.partial(_compare, entry.optim_cls, theirs, name, {}, True)))
        ledger.judge("optimizer", "float32", cases)
    ledger.close()


def _steps(lib: Any, kind: Any, name: str, kwargs: dict[str, Any], groups: bool) -> Any:
    """Parameters and state after some steps; the gradients are the same in both libraries."""
    generator = torch.Generator().manual_seed(4)
    shapes = [(3, 4), (5, 2)] if name == "Muon" else SHAPES
    make = (lambda t: t) if lib is torch else bridge.convert
    params = [lib.nn.Parameter(make(torch.randn(s, generator=generator))) for s in shapes]
    if groups:
        given: Any = [{"params": params[:1], "lr": 0.02}, {"params": params[1:]}]
    else:
        given = params
    optimizer = kind(given, **{k: make(v) if isinstance(v, torch.Tensor) else v for k, v in kwargs.items()})
    losses = []
    for _ in range(STEPS):
        if name == "LBFGS":

            def closure():
                optimizer.zero_grad()
                loss = sum(((p - 1) ** 2).sum() + (p**4).sum() for p in params)
                loss.backward()
                return loss

            losses.append(optimizer.step(closure))
            continue
        for p in params:
            g = torch.randn(tuple(p.shape), generator=generator)
            p.grad = g.to_sparse() if name == "SparseAdam" else make(g)
        losses.append(optimizer.step())
    state = optimizer.state_dict()
    state["state"] = {
        k: dict(sorted(v.items())) for k, v in state["state"].items()
    }  # the order of keys is nobody's promise
    return list(params), state, losses


def _compare(kind: Any, theirs: Any, name: str, kwargs: dict[str, Any], groups: bool) -> None:
    if name == "SparseAdam":
        raise bridge.Unconvertible("sparse gradients")
    params, state, losses = _steps(torch, kind, name, kwargs, groups)
    got_params, got_state, got_losses = _steps(bridge.library(), theirs, name, kwargs, groups)
    judge.compare([p.detach() for p in params], got_params, where="params", rtol=2e-5, atol=2e-6)
    judge.compare(losses, got_losses, where="losses", rtol=1e-4)
    judge.compare(state["state"], got_state["state"], where="state", rtol=1e-4, atol=1e-5)
    judge.compare(state["param_groups"], got_state["param_groups"], where="param_groups")


SCHEDULERS = {
    "StepLR": lambda s, o: s.StepLR(o, 3, gamma=0.5),
    "MultiStepLR": lambda s, o: s.MultiStepLR(o, [2, 5], gamma=0.1),
    "ConstantLR": lambda s, o: s.ConstantLR(o, factor=0.5, total_iters=3),
    "LinearLR": lambda s, o: s.LinearLR(o, total_iters=4),
    "ExponentialLR": lambda s, o: s.ExponentialLR(o, 0.9),
    "PolynomialLR": lambda s, o: s.PolynomialLR(o, total_iters=6, power=2.0),
    "CosineAnnealingLR": lambda s, o: s.CosineAnnealingLR(o, T_max=5, eta_min=0.01),
    "CosineAnnealingWarmRestarts": lambda s, o: s.CosineAnnealingWarmRestarts(o, T_0=3, T_mult=2),
    "CyclicLR": lambda s, o: s.CyclicLR(o, 0.01, 0.1, step_size_up=3, mode="triangular2"),
    "OneCycleLR": lambda s, o: s.OneCycleLR(o, max_lr=0.3, total_steps=12),
    "LambdaLR": lambda s, o: s.LambdaLR(o, lambda e: 0.95**e),
    "MultiplicativeLR": lambda s, o: s.MultiplicativeLR(o, lambda e: 0.9),
    "SequentialLR": lambda s, o: s.SequentialLR(o, [s.ConstantLR(o, 0.1, 2), s.ExponentialLR(o, 0.9)], milestones=[3]),
    "ChainedScheduler": lambda s, o: s.ChainedScheduler([s.ConstantLR(o, 0.1, 2), s.ExponentialLR(o, 0.9)]),
    "ReduceLROnPlateau": lambda s, o: s.ReduceLROnPlateau(o, patience=1, factor=0.3),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_scheduler(name, request, execution_mode):
    """The learning rates of ten steps, with momentum where a scheduler moves it, and the scheduler's own state."""
    ledger = Ledger(request, f"optim.lr_scheduler.{name}", execution_mode)

    def run(lib: Any) -> Any:
        p = lib.nn.Parameter(lib.ones(2))
        optimizer = lib.optim.SGD([p], lr=0.1, momentum=0.9)
        schedulers = lib.optim.lr_scheduler if lib is torch else bridge.lookup("optim.lr_scheduler")
        bridge.lookup(f"optim.lr_scheduler.{name}") if lib is not torch else None
        scheduler = SCHEDULERS[name](schedulers, optimizer)
        seen = []
        for k in range(10):
            p.grad = lib.ones(2)
            optimizer.step()
            scheduler.step(*([1.0 / (1 + min(k, 3))] if name == "ReduceLROnPlateau" else []))
            group = optimizer.param_groups[0]
            seen.append((group["lr"], group["momentum"], scheduler.get_last_lr()))
        keys = sorted(k for k in scheduler.state_dict() if not k.startswith("_sched"))
        return seen, keys, p.detach()

    ledger.judge("scheduler", "float32", [(name, lambda: judge.compare(run(torch), run(bridge.library()), where=name))])
    ledger.close()
