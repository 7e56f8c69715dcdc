"""Python's operators on tensors."""

from __future__ import annotations

from jtorch._tensor import derive
from jtorch._tensor.base import Tensor
from jtorch._tensor.derive import FUNCTIONS, BindError

# Exponents that are part of the program: x * x and its like run far faster than a general power.
_STATIC_EXPONENTS = frozenset((0, 1, 2, 3, 4, -1, -2, 0.5, -0.5, 1.5))


def _forward(key: str):
    f = FUNCTIONS[key]

    def operator(self, other):
        try:
            return f(self, other)
        except BindError:
            return NotImplemented

    return operator


def _reflected(key: str):
    f = FUNCTIONS[key]

    def operator(self, other):
        try:
            return f(other, self)
        except BindError:
            return NotImplemented

    return operator


def _in_place(name: str):
    def operator(self, other):
        try:
            return getattr(self, name)(other)
        except BindError:
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
        else:
            r = FUNCTIONS["pow"](input, exponent)
    else:
        r = FUNCTIONS["pow"](input, exponent)
    return r if out is None else derive.copy_out(r, out, derive.OPS["pow"])


def _pow_in_place(self, exponent):
    derive.check_in_place(self)
    derive.store_in_place(self, derive.value_of(pow_(self, exponent)), "pow_")
    return self


def _pow(self, exponent):
    try:
        return pow_(self, exponent)
    except BindError:
        return NotImplemented


def _rpow(self, base):
    try:
        return pow_(base, self)
    except BindError:
        return NotImplemented


_BINARY = {
    "add": "add", "sub": "sub", "mul": "mul", "truediv": "div", "floordiv": "floor_divide", "mod": "remainder",
    "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor", "lshift": "bitwise_left_shift",
    "rshift": "bitwise_right_shift",
}  # fmt: skip


def attach() -> None:
    """Gives Tensor its operators."""
    for name, key in _BINARY.items():
        setattr(Tensor, f"__{name}__", _forward(key))
        setattr(Tensor, f"__r{name}__", _reflected(key))
        setattr(Tensor, f"__i{name}__", _in_place(FUNCTIONS[key].__name__ + "_"))
    # The hottest operators skip the wrapper: their fallback raises where others would give NotImplemented.
    for name, key in (("add", "add"), ("sub", "sub"), ("mul", "mul"), ("truediv", "div")):
        setattr(Tensor, f"__{name}__", derive.generate(derive.OPS[key], operator=True))
    Tensor.__div__ = Tensor.__truediv__
    for name in ("eq", "ne", "lt", "le", "gt", "ge"):
        setattr(Tensor, f"__{name}__", _forward(name))
    Tensor.__matmul__ = _forward("matmul")
    Tensor.__rmatmul__ = _reflected("matmul")
    Tensor.__imatmul__ = _in_place("matmul_")
    Tensor.__pow__ = _pow
    Tensor.__rpow__ = _rpow
    Tensor.__ipow__ = _pow_in_place
    Tensor.pow = pow_
    Tensor.pow_ = _pow_in_place
    Tensor.__neg__ = FUNCTIONS["neg"]
    Tensor.__pos__ = FUNCTIONS["positive"]
    Tensor.__abs__ = FUNCTIONS["abs"]
    Tensor.__invert__ = FUNCTIONS["bitwise_not"]
    Tensor.__hash__ = lambda self: id(self)
