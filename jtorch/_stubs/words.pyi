"""Made by `python -m jtorch._tensor.stubs`."""

from typing import TypeAlias

from jtorch._runtime.devices import device

Number: TypeAlias = int | float | complex
Device: TypeAlias = device | str | int | None
