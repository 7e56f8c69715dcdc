"""The named tuples that operations with several results give back."""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from jtorch._tensor.derive import OPS as _OPS
from jtorch._tensor.derive import return_type as _return_type

if _TYPE_CHECKING:
    from jtorch._stubs.return_types import *  # noqa: F403

globals().update({op.name: _return_type(op.name, op.returns) for op in _OPS.values() if op.returns})
