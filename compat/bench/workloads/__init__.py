"""The workloads: plain torch code that is given `torch` and knows nothing else.

`build(torch, compile)` seeds, makes model and data, and returns `step`; `step()` runs one step and returns its loss.
`compile.model` wraps what users of torch.compile wrap, `compile.step` the whole step. EVERY says at which steps the
loss is read on the host, as a script that logs would: each one, unless the module says otherwise.
"""

from __future__ import annotations

import importlib
from types import ModuleType

# Those that are bound by dispatch come first: many small operations, little arithmetic.
DISPATCH = ("mlp_tiny", "gru", "ode", "policy")
CONVOLUTIONS = ("cnn", "resnet20", "dcgan", "vit")
NAMES = (
    *DISPATCH, "mlp", "vae", "lstm", "recommender", "gp", "gpt", "cnn", "resnet20", "dcgan", "vit", "loader",
)  # fmt: skip


def load(name: str) -> ModuleType:
    """The module of a workload."""
    return importlib.import_module(f"{__name__}.{name}")
