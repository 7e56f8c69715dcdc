"""What everything stands on: dtypes, devices, pending values, the executor, random state."""

from jtorch._runtime import setup as setup
