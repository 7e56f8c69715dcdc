"""Forward-mode differentiation: dual tensors, which carry a tangent along.

Here the tangents are worked out when they are asked for, as the derivative of the reverse mode's gradients, which is
linear in what it starts from. So until its level ends a dual tensor, and what is computed of it, says that it requires
grad; and what runs under no_grad has no tangent.
"""

from __future__ import annotations

import contextlib
from typing import Any, NamedTuple

from jtorch._autograd.modes import enable_grad
from jtorch._tensor.tensor import Tensor
from jtorch.func._derivatives import Pushed
from jtorch.func._level import Level, settled


class UnpackedDualTensor(NamedTuple):
    """A tensor's own part, and its tangent, None where it has none."""

    primal: Tensor
    tangent: Tensor | None


class _Duals:
    """The level that is on, and the dual tensors made in it with their tangents."""

    level: Level | None = None
    made: tuple[tuple[Tensor, Tensor], ...] = ()


def enter_dual_level() -> int:
    """Begins the level, 0. RuntimeError where one is on: levels don't nest."""
    if _Duals.level is not None:
        raise RuntimeError("Nested forward mode AD is not supported at the moment")
    _Duals.level = Level().__enter__()
    return 0


def exit_dual_level(*, level: int | None = None) -> None:
    """Ends the level: tensors made in it have no tangents any more."""
    if _Duals.level is None and level is None:
        raise RuntimeError("Dual level must be a positive number.")
    if _Duals.level is None or level not in (None, 0):
        raise RuntimeError(
            "Trying to exit a forward AD level that was not the last one that was created. This is not supported."
        )
    ended, _Duals.level, _Duals.made = _Duals.level, None, ()
    ended.__exit__()


class dual_level(contextlib.ContextDecorator):
    """A block in which dual tensors can be made."""

    def __enter__(self) -> int:
        return enter_dual_level()

    def __exit__(self, *exc: Any) -> None:
        exit_dual_level()


def make_dual(tensor: Tensor, tangent: Tensor, *, level: int | None = None) -> Tensor:
    """A tensor of the same elements that carries `tangent`, of the same shape.

    ValueError for integers; RuntimeError outside of a level, for another shape, for a tensor that has a tangent.
    """
    if _Duals.level is None:
        raise RuntimeError(
            "Trying to create a dual Tensor for forward AD but no level exists, make sure to enter_dual_level() first."
        )
    if level not in (None, 0):
        raise RuntimeError("Invalid level given to _make_dual")
    for what, t in (("primal", tensor), ("tangent", tangent)):
        if not (t.is_floating_point() or t.is_complex()):
            raise ValueError(
                f"Expected {what} to be floating point or complex, but got: {t.dtype}".replace("jtorch", "torch")
            )
    if tensor.shape != tangent.shape:
        raise RuntimeError(
            "Trying to set a forward gradient that has a different size than that of the original Tensor, this is not "
            f"supported. Tensor is of size {list(tensor.shape)} while the given forward gradient is of size "
            f"{list(tangent.shape)}."
        )
    if any(d is tensor for d, _ in _Duals.made):
        raise RuntimeError(
            "Making a dual Tensor based on a Tensor that already has a forward gradient at the same level 0 is not supported."
        )
    with enable_grad():
        dual = _Duals.level.fresh(tensor)
    _Duals.made = (*_Duals.made, (dual, tangent))
    return dual


def unpack_dual(tensor: Tensor, *, level: int | None = None) -> UnpackedDualTensor:
    """The tensor without its tangent, and the tangent."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"_unpack_dual(): argument 'dual' (position 1) must be Tensor, not {type(tensor).__name__}")
    if level not in (None, 0):
        raise RuntimeError("Invalid level given to _fw_primal")
    found = None
    if _Duals.level is not None and _Duals.made and tensor.requires_grad:
        with enable_grad():
            pushed = Pushed(_Duals.level, [tensor], [d for d, _ in _Duals.made])
            if pushed.depends:
                (found,) = pushed([t for _, t in _Duals.made])
    if _Duals.level is None:
        return UnpackedDualTensor(settled(tensor), None)
    with _Duals.level.paused():
        return UnpackedDualTensor(settled(tensor.view_as(tensor)), settled(found))
