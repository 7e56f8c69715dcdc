"""The named tuples that operations with several results give back."""

from jtorch._tensor.derive import OPS as _OPS
from jtorch._tensor.derive import return_type as _return_type

globals().update({op.name: _return_type(op.name, op.returns) for op in _OPS.values() if op.returns})
