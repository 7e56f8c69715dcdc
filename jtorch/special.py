"""`torch.special`: derived from the operations declared for it."""

from jtorch._tensor.derive import namespace as _namespace
from jtorch._tensor.tensor import Tensor as Tensor

globals().update(_namespace("special"))
