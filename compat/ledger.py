"""What a test notes down: one row per check and dtype, and what pytest is told in the end."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

import pytest

from compat import bridge, expected, judge

SAMPLES = 2  # as many as are taken unless --samples says otherwise
PASSED, FAILED, ABSENT, EXPECTED, COUNTED = "passed", "failed", "absent", "expected", "counted"


class Nothing(Exception):
    """There is nothing to compare in this case."""


class Ledger:
    """Rows of (check, dtype, outcome, detail) for one database entry in one mode."""

    def __init__(self, request: pytest.FixtureRequest, name: str, mode: str):
        self.request, self.name, self.mode = request, name, mode
        # With fewer samples than usual, those that differ may not be among them.
        self.whole = request.config.getoption("--samples") >= SAMPLES
        self.rows: list[tuple[str, str, str, str]] = []
        self.wrong: list[str] = []

    def judge(self, check: str, dtype: str, cases: list[tuple[str, Callable[[], Any]]]) -> None:
        """Runs the cases of one check; each returns normally if jtorch agrees. At most two failures are told.

        A check passes where all cases do that can be put to jtorch at all; it is absent where none runs because jtorch
        lacks something. A case that lacks something where others run is a failure.
        """
        failures: list[str] = []
        absent: list[str] = []
        ran = 0
        for label, run in cases:
            try:
                run()
                ran += 1
            except (Nothing, bridge.Unconvertible):
                continue
            except judge.Mismatch as error:
                failures.append(f"{label}: {error}")
            except Exception as error:
                if judge.is_absence(error):
                    absent.append(f"{label}: {type(error).__name__}: {error}")
                else:
                    at = traceback.extract_tb(error.__traceback__)[-1]
                    failures.append(f"{label}: {type(error).__name__}: {str(error)[:400]} ({at.filename}:{at.lineno})")
        if ran or failures:
            failures += absent
        reason = expected.reason_for(self.name, check, dtype)
        if failures:
            self.note(check, dtype, EXPECTED if reason else FAILED, reason or failures[0])
            if not reason:
                self.wrong += [f"{check} {dtype}: {f}" for f in failures[:2]]
                if len(failures) > 2:
                    self.wrong.append(f"{check} {dtype}: {len(failures)} of {len(cases)} samples fail")
        elif ran:
            self.note(check, dtype, PASSED, "")
            if reason and self.whole:
                self.wrong.append(f"{check} {dtype} passes, but is expected to fail: {reason}")
        elif absent:
            self.note(check, dtype, ABSENT, absent[0][:200])

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
        if not outcomes & {PASSED, EXPECTED, COUNTED}:
            pytest.skip("absent: " + self.rows[0][3] if self.rows else "nothing to compare")


class Tally:
    """Counts how many calls agree in something that is not a pass mark; one row of the report."""

    def __init__(self, ledger: Ledger, check: str, dtype: str):
        self.ledger, self.check, self.dtype = ledger, check, dtype
        self.agree = self.total = 0
        self.first = ""

    def count(self, agrees: bool, difference: str) -> None:
        """One call; `difference` says how it differs if it does not agree."""
        self.total += 1
        self.agree += agrees
        if not agrees and not self.first:
            self.first = difference

    def close(self) -> None:
        """Notes the row down, if anything was counted."""
        if self.total:
            self.ledger.note(self.check, self.dtype, COUNTED, f"{self.agree}/{self.total} {self.first}")
