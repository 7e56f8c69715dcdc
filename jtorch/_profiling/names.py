"""What operations are called in a profile: as torch calls them, as far as it has them."""

from __future__ import annotations

from jtorch._ops.registry import OPS, Op
from jtorch._runtime.kernel import Kernel

# Where torch's dispatcher knows an operation by another name than users do.
_ATEN = {
    "cross_entropy": "cross_entropy_loss",
    "logsigmoid": "log_sigmoid",
    "multilabel_margin_loss": "multilabel_margin_loss",
    "nll_loss": "nll_loss_nd",
    "unfold": "im2col",
    "fold": "col2im",
}
_PREFIXED = ("linalg", "fft", "special")


def of_op(op: Op) -> str:
    """`aten::mm`; `jtorch::optim.sgd` for what torch does not have as one operation."""
    if op.key.startswith("optim."):
        return "jtorch::" + op.key
    if not op.function and not op.method:
        for room in _PREFIXED:
            if room in op.namespaces:
                return f"aten::{room}_{op.name}"
        if "nn.functional" in op.namespaces:
            return "aten::" + _ATEN.get(op.name, op.name)
    return "aten::" + op.name


def of_kernel(kernel: Kernel) -> str:
    """The name of what a kernel computes: `AddmmBackward0` for the backward of `aten::addmm`."""
    if kernel.backward:
        return kernel.backward
    op = OPS.get(kernel.name)
    return "aten::" + kernel.name.partition(".")[0] if op is None else of_op(op)
