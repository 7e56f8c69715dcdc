"""`torch.compile`, and `torch.compiler`'s switches around it.

jtorch compiles what it sees twice without being asked. `compile` says more: that a function's operations are one program
from the first call on, and that calling it again need not run its Python at all.

A call of a compiled function is recorded as one trace, however long, and compiled whole at its first visit. Python runs
each time, so that nothing it does is lost, until it is known to do nothing but tensor operations: its calls are watched,
and where every input and every result can be found again (parameters, buffers, gradients, optimizer state, random
numbers, learning rates) later calls are replayed without it, as long as all Python state it can reach is as it was.
"""

from __future__ import annotations

from jtorch.compiler._compiled import OptimizedModule as OptimizedModule
from jtorch.compiler._compiled import Unsupported as Unsupported
from jtorch.compiler._compiled import assume_constant_result as assume_constant_result
from jtorch.compiler._compiled import compile as compile
from jtorch.compiler._compiled import disable as disable
from jtorch.compiler._compiled import is_compiling as is_compiling
from jtorch.compiler._compiled import is_dynamo_compiling as is_dynamo_compiling
from jtorch.compiler._compiled import list_backends as list_backends
from jtorch.compiler._compiled import reset as reset

__all__ = [
    "OptimizedModule", "Unsupported", "assume_constant_result", "compile", "disable", "is_compiling", "is_dynamo_compiling",
    "list_backends", "reset",
]  # fmt: skip
