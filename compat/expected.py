"""The failures that are known and accepted, each with its reason. Strict: an entry that passes fails the run.

Keys are (entry's name, check, dtype or "*"); a name is the database's full name: the operation's, with its variant after
a dot. `check` is forward, gradient, second, method, inplace, operator, out, module, optimizer, or "*".
"""

from __future__ import annotations

EXPECTED: dict[tuple[str, str, str], str] = {}


def reason_for(name: str, check: str, dtype: str) -> str | None:
    """Why this check is expected to fail, or None."""
    for key in ((name, check, dtype), (name, check, "*"), (name, "*", dtype), (name, "*", "*")):
        if key in EXPECTED:
            return EXPECTED[key]
    return None
