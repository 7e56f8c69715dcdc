"""`torch.special`: derived from the operations declared for it."""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from jtorch._tensor.derive import namespace as _namespace
from jtorch._tensor.tensor import Tensor as Tensor

if _TYPE_CHECKING:
    from jtorch._stubs.special import *  # noqa: F403

globals().update(_namespace("special"))
