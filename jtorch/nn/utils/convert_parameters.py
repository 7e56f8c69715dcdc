"""All parameters as one vector, and back."""

from __future__ import annotations

from collections.abc import Iterable

import jtorch
from jtorch._tensor.tensor import Tensor

__all__ = ["parameters_to_vector", "vector_to_parameters"]


def _same_device(param: Tensor, first: Tensor | None) -> Tensor:
    if first is not None and param.device != first.device:
        raise TypeError("Found two parameters on different devices, this is currently not supported.")
    return param if first is None else first


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """The elements of all parameters in one dim. TypeError where they are on several devices."""
    first, parts = None, []
    for param in parameters:
        first = _same_device(param, first)
        parts.append(param.view(-1))
    return jtorch.cat(parts)


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Makes each parameter's data a view of its slice of the vector."""
    if not isinstance(vec, Tensor):
        raise TypeError(f"expected torch.Tensor, but got: {type(vec).__name__}")
    first, start = None, 0
    for param in parameters:
        first = _same_device(param, first)
        stop = start + param.numel()
        param.data = vec[start:stop].view_as(param).data
        start = stop
