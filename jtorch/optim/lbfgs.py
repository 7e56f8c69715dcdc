"""L-BFGS, with a fixed step or a line search for the strong Wolfe conditions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jtorch
from jtorch._autograd.modes import enable_grad, no_grad
from jtorch._runtime.executor import execution
from jtorch._tensor.derive import call
from jtorch._tensor.tensor import Tensor
from jtorch.optim.optimizer import Optimizer, ParamsT, check_lr


class LBFGS(Optimizer):
    """Limited-memory BFGS over all parameters as one vector; a single parameter group.

    `step` needs a closure and calls it many times: max_eval at most, max_iter * 1.25 by default. line_search_fn is None
    or "strong_wolfe".
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ) -> None:
        check_lr(lr)
        defaults = dict(
            lr=lr, max_iter=max_iter, max_eval=max_iter * 5 // 4 if max_eval is None else max_eval,
            tolerance_grad=tolerance_grad, tolerance_change=tolerance_change, history_size=history_size,
            line_search_fn=line_search_fn,
        )  # fmt: skip
        super().__init__(params, defaults)
        if len(self.param_groups) != 1:
            raise ValueError("LBFGS doesn't support per-parameter options (parameter groups)")
        self._params = self.param_groups[0]["params"]

    def step(self, closure: Callable[[], Any]) -> Any:  # type: ignore[override]
        """Up to max_iter iterations. Returns the loss at the start, as the closure gave it."""
        with no_grad():
            return self._minimise(closure)

    def _minimise(self, closure: Callable[[], Any]) -> Any:
        group = self.param_groups[0]
        lr = float(group["lr"])
        tolerance_change = group["tolerance_change"]
        search = group["line_search_fn"]
        if search not in (None, "strong_wolfe"):
            raise RuntimeError("only 'strong_wolfe' is supported")
        state = self.state[self._params[0]]
        state.setdefault("func_evals", 0)
        state.setdefault("n_iter", 0)

        original = self._evaluate(closure)
        loss = float(original)
        evaluations = 1
        state["func_evals"] += 1
        grad = self._flat_grad()
        if float(grad.abs().max()) <= group["tolerance_grad"]:
            return original

        direction, length = state.get("d"), state.get("t")
        previous_grad, previous_loss = state.get("prev_flat_grad"), state.get("prev_loss")
        iterations = 0
        while iterations < group["max_iter"]:
            iterations += 1
            state["n_iter"] += 1
            if state["n_iter"] == 1:
                direction = grad.neg()
                state.update(old_dirs=[], old_stps=[], ro=[], H_diag=1)
            else:
                _remember(state, grad - previous_grad, direction * length, group["history_size"])
                direction = _descent(state, grad)
            previous_grad, previous_loss = grad.clone(), loss
            length = min(1.0, 1.0 / float(grad.abs().sum())) * lr if state["n_iter"] == 1 else lr
            slope = float(grad.dot(direction))
            if slope > -tolerance_change:
                break

            within = False
            calls = 0
            if search == "strong_wolfe":
                start = [p.clone() for p in self._params]
                loss, grad, length, calls = _strong_wolfe(
                    lambda t: self._probe(closure, start, t, direction),  # noqa: B023 - used up within the iteration
                    length, direction, loss, grad, slope,
                )  # fmt: skip
                self._move(length, direction)
                within = float(grad.abs().max()) <= group["tolerance_grad"]
            else:
                self._move(length, direction)
                if iterations != group["max_iter"]:
                    loss = float(self._evaluate(closure))
                    grad = self._flat_grad()
                    within = float(grad.abs().max()) <= group["tolerance_grad"]
                    calls = 1
            evaluations += calls
            state["func_evals"] += calls
            if (
                within
                or evaluations >= group["max_eval"]
                or float((direction * length).abs().max()) <= tolerance_change
                or abs(loss - previous_loss) < tolerance_change
            ):
                break
        state.update(d=direction, t=length, prev_flat_grad=previous_grad, prev_loss=previous_loss)
        return original

    def _evaluate(self, closure: Callable[[], Any]) -> Any:
        with enable_grad():
            return closure()

    def _flat_grad(self) -> Tensor:
        return jtorch.cat([_flat(p.new_zeros(tuple(p.shape)) if p.grad is None else p.grad) for p in self._params])

    def _move(self, length: float, direction: Tensor) -> None:
        """Adds length * direction to the parameters."""
        begin = 0
        for param in self._params:
            target = jtorch.view_as_real(param) if param.is_complex() else param
            end = begin + target.numel()
            target.add_(direction[begin:end].view(tuple(target.shape)), alpha=length)
            begin = end

    def _probe(
        self, closure: Callable[[], Any], start: list[Tensor], length: float, direction: Tensor
    ) -> tuple[float, Tensor]:
        """Loss and gradient at start + length * direction; the parameters are put back."""
        self._move(length, direction)
        loss = float(self._evaluate(closure))
        grad = self._flat_grad()
        for param, value in zip(self._params, start, strict=True):
            param.copy_(value)
        return loss, grad


def _flat(grad: Tensor) -> Tensor:
    return (jtorch.view_as_real(grad) if grad.is_complex() else grad).reshape(-1)


def _remember(state: dict[str, Any], change: Tensor, move: Tensor, history_size: int) -> None:
    """Takes a pair of gradient change and move into the history, unless the curvature along it is too small."""
    curvature = change.dot(move)
    if float(curvature) <= 1e-10:
        return
    if len(state["old_dirs"]) == history_size:
        for name in ("old_dirs", "old_stps", "ro"):
            state[name].pop(0)
    state["old_dirs"].append(change)
    state["old_stps"].append(move)
    state["ro"].append(1.0 / curvature)
    state["H_diag"] = curvature / change.dot(change)


def _descent(state: dict[str, Any], grad: Tensor) -> Tensor:
    """The quasi-Newton direction. The history is padded to a power of two: a program each, not one for every length."""
    count = len(state["ro"])
    if not count:
        return grad.neg() * state["H_diag"]
    missing = (1 << (count - 1).bit_length()) - count
    nothing = [grad.new_zeros(tuple(grad.shape))] * missing
    inverses = [*state["ro"], *([grad.new_zeros(())] * missing)]
    # At once, since as a part of a recorded trace every length of the history would be a program of its own again.
    with execution("eager"):
        return call(
            "optim.lbfgs_direction",
            grad,
            [*state["old_dirs"], *nothing],
            [*state["old_stps"], *nothing],
            inverses,
            state["H_diag"],
        )


class _Point(NamedTuple):
    """A step length, the loss and gradient there, and the slope along the direction."""

    t: float
    loss: float
    grad: Tensor
    slope: float


def _strong_wolfe(
    probe: Callable[[float], tuple[float, Tensor]],
    t: float,
    direction: Tensor,
    loss: float,
    grad: Tensor,
    slope: float,
    c1: float = 1e-4,
    c2: float = 0.9,
    tolerance: float = 1e-9,
    limit: int = 25,
) -> tuple[float, Tensor, float, int]:
    """Loss, gradient and length of a step that meets the strong Wolfe conditions, and how often `probe` was called.

    First steps grow until they enclose such a length, then the enclosure shrinks by cubic interpolation.
    """

    def at(length: float) -> _Point:
        value, gradient = probe(length)
        return _Point(length, value, gradient, float(gradient.dot(direction)))

    origin = _Point(0, loss, grad, slope)
    widest = float(direction.abs().max())
    before, here = origin, at(t)
    calls, rounds, met = 1, 0, False
    ends: list[_Point] = []
    while rounds < limit:
        if here.loss > loss + c1 * here.t * slope or (rounds > 1 and here.loss >= before.loss):
            ends = [before, here]
        elif abs(here.slope) <= -c2 * slope:
            ends, met = [here], True
        elif here.slope >= 0:
            ends = [before, here]
        if ends:
            break
        bounds = (here.t + 0.01 * (here.t - before.t), here.t * 10)
        before, here = here, at(_cubic_minimum(before, here, bounds))
        calls += 1
        rounds += 1
    ends = ends or [origin, here]

    stalled = False
    low, high = (0, 1) if ends[0].loss <= ends[-1].loss else (1, 0)
    while not met and rounds < limit:
        left, right = min(e.t for e in ends), max(e.t for e in ends)
        if (right - left) * widest < tolerance:
            break
        t = _cubic_minimum(ends[0], ends[1])
        # A point too near an end makes no progress: the second time in a row it is pushed inside.
        margin = 0.1 * (right - left)
        if min(right - t, t - left) < margin:
            if stalled or t >= right or t <= left:
                t = right - margin if abs(t - right) < abs(t - left) else left + margin
                stalled = False
            else:
                stalled = True
        else:
            stalled = False
        here = at(t)
        calls += 1
        rounds += 1
        if here.loss > loss + c1 * t * slope or here.loss >= ends[low].loss:
            ends[high] = here
            low, high = (0, 1) if ends[0].loss <= ends[1].loss else (1, 0)
        else:
            if abs(here.slope) <= -c2 * slope:
                met = True
            elif here.slope * (ends[high].t - ends[low].t) >= 0:
                ends[high] = ends[low]
            ends[low] = here
    best = ends[low if len(ends) > 1 else 0]
    return best.loss, best.grad, best.t, calls


def _cubic_minimum(a: _Point, b: _Point, bounds: tuple[float, float] | None = None) -> float:
    """Where the cubic through two points and their slopes is least, within the bounds (the points by default)."""
    left, right = bounds or (min(a.t, b.t), max(a.t, b.t))
    if a.t == b.t:
        return (left + right) / 2
    theta = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.t - b.t)
    square = theta**2 - a.slope * b.slope
    if not square >= 0:
        return (left + right) / 2
    root = math.sqrt(square)
    first, last = (a, b) if a.t <= b.t else (b, a)
    bottom = last.slope - first.slope + 2 * root
    if bottom == 0:
        return (left + right) / 2
    least = last.t - (last.t - first.t) * ((last.slope + root - theta) / bottom)
    return min(max(least, left), right)
