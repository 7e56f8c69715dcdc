"""Anomaly detection: a backward that makes NaN raises, naming the function."""

from __future__ import annotations

import warnings

from jtorch._autograd import engine


class set_detect_anomaly:
    """Turns anomaly detection on or off; also a context manager."""

    def __init__(self, mode: bool, check_nan: bool = True):
        self._before = engine.anomaly
        engine.anomaly = mode and check_nan

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc) -> None:
        engine.anomaly = self._before


class detect_anomaly(set_detect_anomaly):
    """Anomaly detection for a block."""

    def __init__(self, check_nan: bool = True):
        warnings.warn(
            "Anomaly Detection has been enabled. This mode will increase the runtime and should only be enabled for "
            "debugging.",
            stacklevel=2,
        )
        self._check = check_nan
        self._before = engine.anomaly

    def __enter__(self) -> None:
        self._before = engine.anomaly
        engine.anomaly = self._check
