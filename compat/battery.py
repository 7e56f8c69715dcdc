"""Batteries: cases written once, as functions of the library, run with both libraries and compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from compat import bridge, judge
from compat import expected as known

Case = Callable[[Any], Any]


class Battery:
    """A list of cases. `@battery` adds a function to it; `battery.test()` is the test that runs them all.

    A case takes the library under the name `torch` and returns what is to be compared. The deferred mode runs each case
    three times, so that its traces are compiled whole too.
    """

    def __init__(self) -> None:
        self.cases: dict[str, Case] = {}

    def __call__(self, case: Case) -> Case:
        name = case.__name__
        assert name not in self.cases, f"two cases are called {name}"
        self.cases[name] = case
        return case

    def add(self, name: str, case: Case) -> None:
        """Adds a case under a name of its own, for families made in a loop."""
        assert name not in self.cases, f"two cases are called {name}"
        self.cases[name] = case

    def test(self, **tolerances: float) -> Callable:
        """The pytest test of all cases."""

        @pytest.mark.parametrize("name", list(self.cases))
        def test_case(name: str, execution_mode: str) -> None:
            case = self.cases[name]
            torch.manual_seed(0)
            expected = case(torch)
            _check(expected, name)
            lib, reason = bridge.library(), known.reason_for(name, "battery", "*")
            try:
                for _ in range(3 if execution_mode == "deferred" else 1):
                    lib.manual_seed(0)
                    judge.compare(expected, case(lib), where=name, **tolerances)
            except Exception:
                if reason is None:
                    raise
                pytest.xfail(reason)
            if reason is not None and lib is not torch:
                pytest.fail(f"passes, but is expected to fail: {reason}")

        return test_case


def _check(expected: Any, name: str) -> None:
    """A case whose call does not fail in torch, or not in those words, is itself wrong."""
    if isinstance(expected, judge.Raised):
        assert expected.says, f"{name}: torch says {expected!r}"
    elif isinstance(expected, tuple | list):
        for part in expected:
            _check(part, name)
    elif isinstance(expected, str):
        assert expected != "nothing was raised", f"{name}: torch raises nothing"


def layout(x: Any) -> tuple:
    """What of a tensor's layout is visible."""
    return tuple(x.shape), x.stride(), x.storage_offset(), x.is_contiguous()


def same_memory(x: Any, y: Any) -> bool:
    """Whether two tensors lie in the same storage."""
    return x.untyped_storage().data_ptr() == y.untyped_storage().data_ptr()
