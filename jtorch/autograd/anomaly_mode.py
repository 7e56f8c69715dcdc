"""Anomaly detection: an error in a backward names the forward call that it comes from, and NaN counts as one."""

from __future__ import annotations

import warnings

from jtorch._autograd.graph import anomaly
from jtorch._runtime import executor


class set_detect_anomaly:
    """Turns anomaly detection on or off; also a context manager."""

    def __init__(self, mode: bool, check_nan: bool = True):
        self._before = anomaly.on, anomaly.check_nan
        self._wanted = mode, check_nan
        _switch(*self._wanted)

    def __enter__(self) -> None:
        _switch(*self._wanted)

    def __exit__(self, *exc) -> None:
        _switch(*self._before)


class detect_anomaly(set_detect_anomaly):
    """Anomaly detection for a block."""

    def __init__(self, check_nan: bool = True):
        self._wanted = True, check_nan
        warnings.warn(
            "Anomaly Detection has been enabled. This mode will increase the runtime and should only be enabled for "
            "debugging.",
            stacklevel=2,
        )

    def __enter__(self) -> None:
        self._before = anomaly.on, anomaly.check_nan
        super().__enter__()


def _switch(on: bool, check_nan: bool) -> None:
    if on and not anomaly.on:
        # Where an operation was called is known only while it is called: nothing is deferred.
        executor.flush()
        anomaly.deferred = not executor.T.eager
        executor.set_execution("eager")
    elif anomaly.on and not on and anomaly.deferred:
        executor.set_execution("deferred")
    anomaly.on, anomaly.check_nan = on, check_nan


def is_anomaly_enabled() -> bool:
    """Whether anomaly detection is on."""
    return anomaly.on


def is_anomaly_check_nan_enabled() -> bool:
    """Whether anomaly detection looks for NaN."""
    return anomaly.check_nan
