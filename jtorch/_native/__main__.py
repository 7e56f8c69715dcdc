"""`python -m jtorch._native`: makes the optional kernels if need be, and says whether they are used."""

from __future__ import annotations

import sys
import warnings

from jtorch import _native
from jtorch._native import build


def main() -> int:
    """0 where the kernels are used; else says why they are not."""
    why = _native.why_not()
    if why is None:
        try:
            print(f"oneDNN kernels: {build.made()}")
        except build.Failed as error:
            why = str(error)
        else:
            warnings.simplefilter("error")
            _native.available()
    if why is not None:
        print(f"no oneDNN kernels: {why}", file=sys.stderr)
    return int(why is not None)


if __name__ == "__main__":
    sys.exit(main())
