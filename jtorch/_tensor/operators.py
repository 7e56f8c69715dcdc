"""Python's operators on tensors."""

from __future__ import annotations

import functools

import jax
import numpy as np

from jtorch._runtime import dtypes
from jtorch._runtime.dtypes import INTEGRAL
from jtorch._tensor import derive
from jtorch._tensor.base import Tensor
from jtorch._tensor.derive import FUNCTIONS, OPS, generate
from jtorch._tensor.from_data import tensor

# Exponents that are part of the program: x * x and its like run far faster than a general power.
_STATIC_EXPONENTS = frozenset((0, 1, 2, 3, 4, -1, -2, 0.5, -0.5, 1.5))


def _checked(f):
    """A division that torch refuses for integers by 0. Zeros in a tensor are not looked for: that would have to wait."""

    @functools.wraps(f)
    def divide(input, other, **options):
        whole = (other.__class__ is int or other.__class__ is bool) and isinstance(input, Tensor)
        if whole and not other and input.dtype.category <= INTEGRAL:
            raise RuntimeError("ZeroDivisionError")
        return f(input, other, **options)

    return divide


def _reflected(f):
    def operator(self, other) -> Tensor:
        return f(other, self)

    return operator


_OPERANDS = (Tensor, jax.Array, int, float, complex, np.generic)


def _divided_into(self, other) -> Tensor:
    """`other / self`, as torch computes it: by way of the reciprocal."""
    if isinstance(other, _OPERANDS):
        return FUNCTIONS["reciprocal"](self) * other
    return NotImplemented


def _subtracted_from(self, other) -> Tensor:
    if isinstance(other, _OPERANDS):
        return FUNCTIONS["rsub"](self, other)
    return NotImplemented


def _in_place(name: str):
    def operator(self, other) -> Tensor:
        if isinstance(other, _OPERANDS):
            return getattr(self, name)(other)
        if isinstance(other, np.ndarray):
            return getattr(self, name)(tensor(other))
        return NotImplemented

    return operator


def pow_(input, exponent, *, out=None) -> Tensor:
    """`input ** exponent`, either of them a number."""
    kind = type(exponent)
    if isinstance(input, Tensor):
        if (kind is int or kind is float) and exponent in _STATIC_EXPONENTS:
            if kind is int and exponent < 0 and input.dtype.category <= 1:
                raise RuntimeError("Integers to negative integer powers are not allowed.")
            r = FUNCTIONS["pow.static"](input, exponent)
        elif kind is bool and input.dtype is dtypes.bool:
            r = input.clone() if exponent else FUNCTIONS["logical_or"](input, ~input)
        else:
            r = FUNCTIONS["pow"](input, exponent)
    elif isinstance(exponent, Tensor):
        r = FUNCTIONS["pow"](input, exponent)
    else:
        raise derive.misfit("pow", [OPS["pow"]], (input, exponent), {})
    return r if out is None else derive.copy_out(r, out, OPS["pow"])


def _pow_in_place(self, exponent) -> Tensor:
    derive.check_in_place(self)
    derive.store_in_place(self, derive.value_of(pow_(self, exponent)), "pow_")
    return self


def _power(general):
    def operator(self, exponent) -> Tensor:
        kind = type(exponent)
        if kind is bool or (kind is int or kind is float) and exponent in _STATIC_EXPONENTS:
            return pow_(self, exponent)
        return general(self, exponent)

    return operator


_BINARY = {
    "add": "add", "sub": "sub", "mul": "mul", "truediv": "div", "floordiv": "floor_divide", "mod": "remainder",
    "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor", "lshift": "bitwise_left_shift",
    "rshift": "bitwise_right_shift",
}  # fmt: skip
_DIVISIONS = ("floor_divide", "remainder", "fmod")


def attach() -> None:
    """Gives Tensor its operators."""
    for name, key in _BINARY.items():
        f = generate(OPS[key], operator=True)
        if key in _DIVISIONS:
            f = _checked(f)
        setattr(Tensor, f"__{name}__", f)
        setattr(Tensor, f"__r{name}__", _reflected(f))
        setattr(Tensor, f"__i{name}__", _in_place(OPS[key].name + "_"))
    for key in _DIVISIONS:
        setattr(Tensor, key, _checked(getattr(Tensor, key)))
        setattr(Tensor, key + "_", _checked(getattr(Tensor, key + "_")))
    Tensor.__rtruediv__ = _divided_into
    Tensor.__rsub__ = _subtracted_from
    Tensor.__div__ = Tensor.__truediv__
    Tensor.__rdiv__ = _divided_into
    for name in ("eq", "ne", "lt", "le", "gt", "ge"):
        setattr(Tensor, f"__{name}__", generate(OPS[name], operator=True))
    matmul = generate(OPS["matmul"], operator=True)
    Tensor.__matmul__ = matmul
    Tensor.__rmatmul__ = _reflected(matmul)
    Tensor.__imatmul__ = lambda self, other: self.copy_(self @ other)  # pyright: ignore[reportOperatorIssue]  # torch's check is matmul's
    power = generate(OPS["pow"], operator=True)
    Tensor.__pow__ = _power(power)
    Tensor.__rpow__ = _reflected(power)
    Tensor.__ipow__ = _pow_in_place
    Tensor.pow = pow_
    Tensor.pow_ = _pow_in_place
    Tensor.__neg__ = FUNCTIONS["neg"]
    Tensor.__pos__ = FUNCTIONS["positive"]
    Tensor.__abs__ = FUNCTIONS["abs"]
    Tensor.__invert__ = _invert
    Tensor.__hash__ = lambda self: id(self)


def _invert(self) -> Tensor:
    if self.dtype.category > INTEGRAL:
        raise TypeError("~ (operator.invert) is only implemented on integer and Boolean-type tensors")
    return FUNCTIONS["bitwise_not"](self)


def divisions() -> dict:
    """The top-level functions of division that refuse integers by the number 0."""
    return {key: _checked(FUNCTIONS[key]) for key in _DIVISIONS}
