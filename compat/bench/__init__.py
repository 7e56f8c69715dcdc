"""Training steps of common models, side by side: `python -m compat.bench`."""
