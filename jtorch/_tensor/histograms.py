"""histogram and histogramdd."""

from __future__ import annotations

import math
from collections.abc import Sequence

from jtorch._runtime import dtypes
from jtorch._tensor.base import Tensor
from jtorch._tensor.derive import OPS, call, copy_out, return_type

_RETURNS = ("hist", "bin_edges")
_NAMES = {dtypes.float32: "float", dtypes.float64: "double"}


def _edges(input: Tensor, column: Tensor, bins: int | Tensor, range, dim: int) -> Tensor:
    if isinstance(bins, Tensor):
        if bins.ndim != 1:
            raise RuntimeError(
                "torch.histogramdd: bins tensor should have one dimension, but got "
                f"{bins.ndim} dimensions in the bins tensor for dimension {dim}"
            )
        if bins.dtype is not input.dtype:
            mine, theirs = (_NAMES.get(t.dtype, t.dtype.name) for t in (input, bins))
            raise RuntimeError(
                "torch.histogramdd: input tensor and bins tensors should have the same dtype, but got input with dtype "
                f"{mine} and bins for dimension {dim} with dtype {theirs}"
            )
        return bins
    if bins <= 0:
        raise RuntimeError(f"torch.histogram(): bins must be > 0, but got {bins} for dimension {dim}")
    if range is not None:
        low, high = map(float, range)
        if not (math.isfinite(low) and math.isfinite(high)):
            raise RuntimeError(f"torch.histogramdd: dimension {dim}'s range [{low:g}, {high:g}] is not finite")
        if low > high:
            raise RuntimeError(
                f"torch.histogramdd: min should not exceed max, but got min {low:g} max {high:g} for dimension {dim}"
            )
        range = (low, high)
    return call("_histogram_edges", column, bins, range)


def _histogram(input: Tensor, bins: Sequence, range, weight: Tensor | None, density: bool):
    """The counts of (N, D) and the edges of each dim."""
    if input.dtype not in (dtypes.float32, dtypes.float64):
        raise NotImplementedError(f"\"histogramdd\" not implemented for '{dtypes.SCALAR_NAMES[input.dtype]}'")
    if weight is not None and weight.dtype is not input.dtype:
        raise RuntimeError(
            "torch.histogramdd: if weight tensor is provided, input tensor and weight tensor should have the same "
            "dtype, but got input(float), and weight(double)"
        )
    input = input.detach()
    edges = [
        _edges(input, input[:, d], b, None if range is None else range[2 * d : 2 * d + 2], d)
        for d, b in enumerate(bins)
    ]
    weight = None if weight is None else weight.detach().reshape(-1)
    return call("_histogram_counts", input, edges, weight, density), edges


def histogram(
    input: Tensor,
    bins: int | Tensor,
    *,
    range: tuple[float, float] | None = None,
    weight: Tensor | None = None,
    density: bool = False,
    out=None,
):
    """How many elements lie in each bin, and the edges of the bins: their number, or the edges themselves.

    The range is by default that of the elements. `weight` counts each element by its own weight; `density` makes the
    integral 1. Differs from torch: a range that is not finite because of the elements does not raise.
    """
    counts, edges = _histogram(input.reshape(-1, 1), [bins], range, weight, density)
    made = return_type("histogram", _RETURNS)(counts, edges[0])
    if out is None:
        return made
    for result, given in zip(made, out, strict=True):
        copy_out(result, given, OPS["_histogram_counts"])
    return type(made)(*out)


def histogramdd(
    input: Tensor,
    bins: int | Sequence[int] | Sequence[Tensor],
    range: Sequence[float] | None = None,
    weight: Tensor | None = None,
    density: bool = False,
):
    """The histogram of the rows of input (..., D), and the edges of each dim."""
    if input.ndim < 2:
        raise RuntimeError("torch.histogramdd: input tensor should have at least 2 dimensions")
    depth = input.shape[-1]
    each = [bins] * depth if isinstance(bins, int) else list(bins)
    if len(each) != depth:
        raise RuntimeError(
            f"torch.histogramdd: expected {depth} sequences of bin edges for a {depth}-dimensional histogram but got "
            f"{len(each)}"
        )
    counts, edges = _histogram(input.reshape(-1, depth), each, range, weight, density)
    return return_type("histogramdd", _RETURNS)(counts, tuple(edges))


FUNCTIONS = {"histogram": histogram, "histogramdd": histogramdd}


def attach() -> None:
    """Gives Tensor its method among these."""
    Tensor.histogram = histogram  # type: ignore[attr-defined]
