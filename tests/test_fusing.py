"""Long chains of pointwise work in compiled programs."""

from __future__ import annotations

import pytest

import jtorch as torch
from jtorch._runtime import executor, programs

deferred = pytest.mark.skipif(executor.T.eager, reason="the eager mode compiles no traces")


def unrolled(steps: int) -> float:
    """A loop whose state each step reads and adds to: the gradient that it gives."""
    w, bias = (torch.eye(4) * 0.1).requires_grad_(), torch.ones(4, requires_grad=True)
    y, path = torch.ones(3, 4), []
    for _ in range(steps):
        a = torch.tanh(torch.nn.functional.linear(y, w, bias))
        b = torch.tanh(torch.nn.functional.linear(y + 0.5 * a, w, bias))
        y = y + 0.1 * (a + 2 * b)
        path.append(y)
    torch.stack(path).abs().mean().backward()
    executor.flush()
    return w.grad.sum().item()


@deferred
def test_what_many_read_is_not_computed_anew_by_each(monkeypatch):
    made = []
    make = programs.HotProgram.make
    monkeypatch.setattr(programs.HotProgram, "make", lambda program: made.append(program) or make(program))
    monkeypatch.setattr(programs, "worthwhile", lambda program, size: False)

    def length(steps):
        results = [unrolled(steps) for _ in range(2)]  # operation by operation, then as one program
        torch.testing.assert_close(results[0], results[1])
        return made[-1].text().count(" = ")

    short, long = length(10), length(20)
    assert len(made) == 2
    assert long < 2.3 * short
