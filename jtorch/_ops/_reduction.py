"""What the losses share: reductions, their legacy spelling, and shape checks in torch's words."""

from __future__ import annotations

import warnings

import jax.numpy as jnp
import numpy as np

from jtorch._ops._common import Array, dtype_of, is_complex, is_float, scalar_name
from jtorch._runtime import dtypes

_BY_NUMBER = ("none", "mean", "sum")


def resolve_reduction(
    reduction: str | int, size_average: bool | None = None, reduce: bool | None = None, extra: tuple[str, ...] = ()
) -> str:
    """The reduction's name, the legacy flags taken into account. ValueError for a name that is not one."""
    if size_average is not None or reduce is not None:
        averaged, reduced = size_average in (None, True), reduce in (None, True)
        reduction = ("mean" if averaged else "sum") if reduced else "none"
        warnings.warn(
            f"size_average and reduce args will be deprecated, please use reduction='{reduction}' instead.",
            stacklevel=3,
        )
    if isinstance(reduction, int) and 0 <= reduction < 3:
        return _BY_NUMBER[reduction]
    if reduction == "elementwise_mean":
        warnings.warn("reduction='elementwise_mean' is deprecated. Please use reduction='mean' instead.", stacklevel=3)
        return "mean"
    if reduction not in _BY_NUMBER and reduction not in extra:
        raise ValueError(f"{reduction} is not a valid value for reduction")
    return reduction


def reduce_loss(loss: Array, reduction: str) -> Array:
    """`loss` as it is, its mean, or its sum. Half types are summed in float32."""
    if reduction == "none":
        return loss
    if reduction == "sum":
        wide = np.dtype(np.int64) if not (is_float(loss) or is_complex(loss)) else loss.dtype
        return jnp.sum(loss, dtype=wide)
    if not (is_float(loss) or is_complex(loss)):
        raise RuntimeError(
            "mean(): could not infer output dtype. Input dtype must be either a floating point or complex dtype. "
            f"Got: {scalar_name(loss)}"
        )
    return jnp.mean(loss)


def accumulate_dtype(x: Array) -> np.dtype:
    """The type sums over `x` are taken in: float32 for the half types."""
    return np.dtype(np.float32) if x.dtype.itemsize < 4 else np.dtype(x.dtype)


def clamp_min0(x: Array) -> Array:
    """max(x, 0) whose gradient at 0 is 1, as torch's `clamp_min` has it; NaN stays."""
    return jnp.where(x < 0, jnp.zeros((), x.dtype), x)


def common_dtype(*arrays: Array) -> np.dtype:
    """The promoted type of tensors that all have the same right to decide it."""
    found = dtype_of(arrays[0])
    for x in arrays[1:]:
        found = dtypes.promote_types(found, dtype_of(x))
    return found.np


def size_text(shape: tuple[int, ...]) -> str:
    """A shape as torch prints it: torch.Size([2, 3])."""
    return f"torch.Size({list(shape)})"


def check_broadcast(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    """RuntimeError, in torch's words, unless the two shapes broadcast together."""
    span = max(len(a), len(b))
    for back in range(1, min(len(a), len(b)) + 1):
        if a[-back] != b[-back] and 1 not in (a[-back], b[-back]):
            raise RuntimeError(
                f"The size of tensor a ({a[-back]}) must match the size of tensor b ({b[-back]}) "
                f"at non-singleton dimension {span - back}"
            )


def warn_unequal_sizes(input: Array, target: Array) -> None:
    """torch's warning for a regression loss that is about to broadcast."""
    if input.shape != target.shape:
        warnings.warn(
            f"Using a target size ({size_text(target.shape)}) that is different to the input size "
            f"({size_text(input.shape)}). This will likely lead to incorrect results due to broadcasting. "
            "Please ensure they have the same size.",
            stacklevel=3,
        )


def refuse_integers(x: Array, kernel: str) -> None:
    """NotImplementedError for a loss that torch has for floating types only."""
    if not is_float(x):
        raise NotImplementedError(f"\"{kernel}\" not implemented for '{scalar_name(x)}'")
