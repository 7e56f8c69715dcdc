"""The judge of jtorch against real torch: run with `pytest compat`."""
