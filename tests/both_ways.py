"""Scenarios that must see the same with `jtorch.compile` as without."""

from __future__ import annotations

import numpy as np

import jtorch as torch

N = 5  # calls after which a function is replayed, and its replay follows itself


def one(value=1.0):
    return torch.full((2,), value)


def seen(x):
    if isinstance(x, torch.Tensor):
        return np.asarray(x.detach().tolist()), x.requires_grad, str(x.dtype)
    if isinstance(x, dict):
        return {k: seen(v) for k, v in x.items()}
    return [seen(v) for v in x] if isinstance(x, list | tuple) else x


def same(a, b):
    if isinstance(a, np.ndarray):
        return np.allclose(a, b, rtol=1e-5, atol=1e-6, equal_nan=True)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(v, b[k]) for k, v in a.items())
    return a == b


def changes(f, change, *rest, args=lambda: (one(),), after=N):
    """What f gives, call after call, with a change in between; then with each other change."""
    found = [f(*args()) for _ in range(after)]
    for c in (change, *rest):
        c()
        found += [f(*args()) for _ in range(3)]
    return found


def check(scenario, execution: str) -> None:
    """Compares what a scenario gives that is handed nothing, and `torch.compile`, to wrap its functions with."""
    torch.compiler.reset()
    with torch.execution(execution):
        torch.manual_seed(0)
        plain = seen(scenario(lambda f: f))
        torch.manual_seed(0)
        compiled = seen(scenario(torch.compile))
    assert same(plain, compiled), f"{plain}\n{compiled}"


def scenarios():
    """A dict of scenarios by name, and the decorator that puts one in."""
    found: dict = {}

    def scenario(f):
        found[f.__name__] = f
        return f

    return found, scenario
