"""One pure JAX function an operation, with the facts about it. Start at `registry`."""
