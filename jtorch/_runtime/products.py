"""Which traces are better off with XLA's own products of matrices than with those of its library.

The library takes 0.3 to 0.6 us more for a small product (8 of 32x16 by 16x32, with what else is in the program, 20.9 us
and 18.1), and up to half as much for a large or a long one (8 of 128x64 by 64x2 31 and 40), or where two elements are
contracted (8 of 16x2 by 2x32 transposed 18 and 44). It is one or the other for a whole program.
"""

from __future__ import annotations

from jtorch._runtime import devices
from jtorch._runtime.kernel import compiler_options
from jtorch._runtime.trace import Step

_OWN = (("xla_cpu_experimental_ynn_fusion_type", "LIBRARY_FUSION_TYPE_REDUCE"),)
MOST = 1 << 16  # multiplications in a product
LONGEST = 96  # dim
THIN = 4  # elements that are contracted, of a second matrix that is transposed
LONG = 64  # operations: a longer trace may have loops, in which many small products become a large one


def options(ops: list[Step], where: devices.device) -> dict | None:
    """XLA's options for a trace that is compiled whole."""
    return compiler_options(where, False, _OWN if where is devices.CPU and _all_small(ops) else ())


def _all_small(ops: list[Step]) -> bool:
    """Whether a trace has products of matrices, and only such as XLA is faster at."""
    found = False
    for kernel in {s.kernel for s in ops} if len(ops) < LONG else ():
        traced = kernel.traced
        if "conv_general_dilated" in traced.primitives():
            return False
        for rows, contracted, columns, plain in traced.products():
            found = True
            thin = not plain and 1 < contracted < THIN
            if thin or max(rows, contracted, columns) > LONGEST or rows * contracted * columns > MOST:
                return False
    return found
