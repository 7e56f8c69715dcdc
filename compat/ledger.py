"""What a test notes down: one row per check and dtype, and what pytest is told in the end."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

import pytest

from compat import bridge, expected, judge

PASSED, FAILED, ABSENT, EXPECTED, EMPTY = "passed", "failed", "absent", "expected", "empty"


class Ledger:
    """Rows of (check, dtype, outcome, detail) for one database entry in one mode."""

    def __init__(self, request: pytest.FixtureRequest, name: str, mode: str):
        self.request, self.name, self.mode = request, name, mode
        self.rows: list[tuple[str, str, str, str]] = []
        self.wrong: list[str] = []

    def judge(self, check: str, dtype: str, cases: list[tuple[str, Callable[[], Any]]]) -> None:
        """Runs the cases of one check; each returns normally if jtorch agrees. At most two failures are told."""
        failures, absent, ran = [], None, 0
        for label, run in cases:
            try:
                run()
                ran += 1
            except bridge.Absent as error:
                absent = str(error)
            except judge.Mismatch as error:
                failures.append(f"{label}: {error}")
            except Exception as error:
                if judge.is_absence(error):
                    absent = f"{type(error).__name__}: {error}"
                else:
                    at = traceback.extract_tb(error.__traceback__)[-1]
                    failures.append(f"{label}: {type(error).__name__}: {str(error)[:400]} ({at.filename}:{at.lineno})")
        reason = expected.reason_for(self.name, check, dtype)
        if failures:
            self.note(check, dtype, EXPECTED if reason else FAILED, reason or failures[0])
            if not reason:
                self.wrong += [f"{check} {dtype}: {f}" for f in failures[:2]]
                if len(failures) > 2:
                    self.wrong.append(f"{check} {dtype}: {len(failures)} of {len(cases)} samples fail")
        elif ran:
            self.note(check, dtype, PASSED, "")
            if reason:
                self.wrong.append(f"{check} {dtype} passes, but is expected to fail: {reason}")
        elif absent is not None:
            self.note(check, dtype, ABSENT, absent[:200])

    def note(self, check: str, dtype: str, outcome: str, detail: str) -> None:
        """One row of the report."""
        self.rows.append((check, dtype, outcome, detail))
        self.request.node.user_properties.append(
            ("compat", [self.name, self.mode, check, dtype, outcome, " ".join(detail.split())[:300]])
        )

    def close(self) -> None:
        """Fails, skips or passes the test."""
        if self.wrong:
            pytest.fail("\n".join(self.wrong), pytrace=False)
        outcomes = {row[2] for row in self.rows}
        if EXPECTED in outcomes and PASSED not in outcomes:
            pytest.xfail(next(row[3] for row in self.rows if row[2] == EXPECTED))
        if PASSED not in outcomes and EXPECTED not in outcomes:
            pytest.skip("absent: " + self.rows[0][3] if self.rows else "nothing to compare")
