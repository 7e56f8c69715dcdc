"""`torch.linalg`: derived from the operations declared for it."""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from jtorch._tensor.composites import LINALG as _LINALG
from jtorch._tensor.derive import namespace as _namespace
from jtorch._tensor.tensor import Tensor as Tensor

if _TYPE_CHECKING:
    from jtorch._stubs.linalg import *  # noqa: F403

globals().update(_namespace("linalg") | _LINALG)
