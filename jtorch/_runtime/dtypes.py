"""torch's dtypes, their promotion, and what each is in NumPy and JAX.

A `dtype` is one object per name, compared by identity. `np` is the NumPy (or ml_dtypes) type that stores it.
"""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np

# Promotion picks a category first (bool < integer < floating < complex), a width second.
BOOL, INTEGRAL, FLOATING, COMPLEX = range(4)


class dtype:
    """A torch data type: `torch.float32` and its siblings."""

    __slots__ = ("__weakref__", "category", "is_complex", "is_floating_point", "is_signed", "itemsize", "name", "np")

    def __init__(self, name: str, np_type, category: int):
        self.name = name
        self.np = np.dtype(np_type)
        self.category = category
        self.itemsize = self.np.itemsize
        self.is_floating_point = category == FLOATING
        self.is_complex = category == COMPLEX
        self.is_signed = category >= FLOATING or (category == INTEGRAL and self.np.kind == "i")

    def __repr__(self) -> str:
        return f"torch.{self.name}"

    def __reduce__(self) -> str:
        return self.name

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        return self

    def to_real(self) -> dtype:
        """The dtype of this one's real part."""
        return _REAL.get(self, self)

    def to_complex(self) -> dtype:
        """The complex dtype whose parts have this precision."""
        return _COMPLEX.get(self, self)


bool = dtype("bool", np.bool_, BOOL)
uint8 = dtype("uint8", np.uint8, INTEGRAL)
int8 = dtype("int8", np.int8, INTEGRAL)
int16 = dtype("int16", np.int16, INTEGRAL)
int32 = dtype("int32", np.int32, INTEGRAL)
int64 = dtype("int64", np.int64, INTEGRAL)
uint16 = dtype("uint16", np.uint16, INTEGRAL)
uint32 = dtype("uint32", np.uint32, INTEGRAL)
uint64 = dtype("uint64", np.uint64, INTEGRAL)
float16 = dtype("float16", np.float16, FLOATING)
bfloat16 = dtype("bfloat16", ml_dtypes.bfloat16, FLOATING)
float32 = dtype("float32", np.float32, FLOATING)
float64 = dtype("float64", np.float64, FLOATING)
float8_e4m3fn = dtype("float8_e4m3fn", ml_dtypes.float8_e4m3fn, FLOATING)
float8_e5m2 = dtype("float8_e5m2", ml_dtypes.float8_e5m2, FLOATING)
float8_e4m3fnuz = dtype("float8_e4m3fnuz", ml_dtypes.float8_e4m3fnuz, FLOATING)
float8_e5m2fnuz = dtype("float8_e5m2fnuz", ml_dtypes.float8_e5m2fnuz, FLOATING)
float8_e8m0fnu = dtype("float8_e8m0fnu", ml_dtypes.float8_e8m0fnu, FLOATING)
complex64 = dtype("complex64", np.complex64, COMPLEX)
complex128 = dtype("complex128", np.complex128, COMPLEX)

ALL = (
    bool, uint8, int8, int16, int32, int64, uint16, uint32, uint64,
    float16, bfloat16, float32, float64, float8_e4m3fn, float8_e5m2, float8_e4m3fnuz, float8_e5m2fnuz, float8_e8m0fnu,
    complex64, complex128,
)  # fmt: skip
FROM_NUMPY = {d.np: d for d in ALL}
ALIASES = {
    "half": float16, "float": float32, "double": float64, "short": int16, "int": int32, "long": int64,
    "cfloat": complex64, "cdouble": complex128,
}  # fmt: skip
_REAL = {complex64: float32, complex128: float64}
_COMPLEX = {float32: complex64, float64: complex128, float16: complex64, bfloat16: complex64}

# Dtypes that hardly promote with others.
_WIDE_UNSIGNED = (uint16, uint32, uint64)
EIGHTS = (float8_e4m3fn, float8_e5m2, float8_e4m3fnuz, float8_e5m2fnuz, float8_e8m0fnu)
_FLOAT_RANK = {float16: 1, bfloat16: 1, float32: 2, float64: 3}


def from_numpy(np_dtype) -> dtype:
    """The dtype of a NumPy type. TypeError, in torch's words, for one that torch lacks."""
    try:
        return FROM_NUMPY[np.dtype(np_dtype)]
    except KeyError:
        raise TypeError(
            f"can't convert np.ndarray of type {np.dtype(np_dtype).type.__module__}.{np.dtype(np_dtype).type.__name__}. "
            "The only supported types are: float64, float32, float16, complex64, complex128, int64, int32, int16, "
            "int8, uint64, uint32, uint16, uint8, and bool."
        ) from None


def promote_types(type1: dtype, type2: dtype) -> dtype:
    """The smallest dtype that both convert to without losing their category, as torch has it."""
    result = _PROMOTED.get((type1, type2))
    if result is None:
        result = _PROMOTED[type1, type2] = _promote(type1, type2)
    return result


_PROMOTED: dict[tuple[dtype, dtype], dtype] = {}


def _promote(a: dtype, b: dtype) -> dtype:
    if a is b:
        return a
    given = f"{_scalar_name(a)} and {_scalar_name(b)}"
    if a.category > b.category:
        a, b = b, a
    if a in EIGHTS or b in EIGHTS:
        raise RuntimeError(f"Promotion for Float8 Types is not supported, attempted to promote {given}")
    if (a in _WIDE_UNSIGNED or b in _WIDE_UNSIGNED) and b.category != FLOATING:
        raise RuntimeError(f"Promotion for uint16, uint32, uint64 types is not supported, attempted to promote {given}")
    if b.category == COMPLEX:
        if a.category < FLOATING:
            return b
        real, own = a.to_real(), b.to_real()
        return complex128 if float64 in (real, own) else complex64
    if b.category == FLOATING:
        if a.category < FLOATING:
            return b
        if _FLOAT_RANK[a] == _FLOAT_RANK[b]:
            return float32  # half and bfloat16 hold neither each other's range nor precision
        return a if _FLOAT_RANK[a] > _FLOAT_RANK[b] else b
    if a is bool:
        return b
    if a.is_signed == b.is_signed:
        return a if a.itemsize >= b.itemsize else b
    signed = b if b.is_signed else a
    return signed if signed.itemsize > 1 else int16


def _scalar_name(d: dtype) -> str:
    """The name error messages use: torch calls its scalar types Float, Long, Half and so on."""
    return SCALAR_NAMES[d]


SCALAR_NAMES = {
    bool: "Bool", uint8: "Byte", int8: "Char", int16: "Short", int32: "Int", int64: "Long",
    uint16: "UInt16", uint32: "UInt32", uint64: "UInt64", float16: "Half", bfloat16: "BFloat16", float32: "Float",
    float64: "Double", float8_e4m3fn: "Float8_e4m3fn", float8_e5m2: "Float8_e5m2",
    float8_e4m3fnuz: "Float8_e4m3fnuz", float8_e5m2fnuz: "Float8_e5m2fnuz", float8_e8m0fnu: "Float8_e8m0fnu",
    complex64: "ComplexFloat", complex128: "ComplexDouble",
}  # fmt: skip

_default = float32


def get_default_dtype() -> dtype:
    """The floating dtype of `torch.tensor(1.0)` and of factories that are given none."""
    return _default


def set_default_dtype(d: dtype, /) -> None:
    """Sets the default floating dtype. TypeError unless it is a floating one."""
    global _default
    if not isinstance(d, dtype):
        raise TypeError("invalid dtype object")
    if not d.is_floating_point:
        raise TypeError("only floating-point types are supported as the default type")
    _default = d


def of_number(value) -> dtype:
    """The dtype a Python number has by itself."""
    kind = type(value)
    if kind is float or isinstance(value, float):
        return _default
    if isinstance(value, (np.bool_,)) or value is True or value is False:
        return bool
    if isinstance(value, complex):
        return _default.to_complex()
    return int64


def result_type_of(dim_dtypes, zero_dim_dtypes, number_categories) -> dtype:
    """Promotion over an operation's operands.

    Tensors with dimensions decide; a 0-d tensor, and after it a Python number, counts only where its category is
    higher than all that went before. `number_categories` holds BOOL, INTEGRAL, FLOATING or COMPLEX.
    """
    best = None
    for d in dim_dtypes:
        best = d if best is None else promote_types(best, d)
    zero = None
    for d in zero_dim_dtypes:
        zero = d if zero is None else promote_types(zero, d)
    if zero is not None:
        best = zero if best is None else _lift(best, zero)
    if number_categories:
        top = max(number_categories)
        number = (bool, int64, _default, _default.to_complex())[top]
        best = number if best is None else _lift(best, number)
    assert best is not None
    return best


def _lift(base: dtype, other: dtype) -> dtype:
    """`base`, unless `other` is of a higher category."""
    if other.category <= base.category:
        return base
    if other.category == COMPLEX:
        if base in EIGHTS:
            raise RuntimeError(f"Unknown Complex ScalarType for {_scalar_name(base)}")
        # A complex scalar makes a real tensor complex at the tensor's own precision.
        return base.to_complex() if base.category == FLOATING else other
    return promote_types(base, other)


class finfo:
    """Limits of a floating (or complex: of its parts) dtype: bits, eps, max, min, tiny, resolution."""

    def __init__(self, type: dtype | None = None):
        d = _default if type is None else type
        if not isinstance(d, dtype) or d.category < FLOATING:
            raise TypeError(
                f"torch.finfo() requires a floating point input type. Use torch.iinfo to handle '{'torch.finfo'}'"
            )
        real = d.to_real()
        info = ml_dtypes.finfo(real.np)
        self.bits = real.itemsize * 8
        self.eps = float(info.eps)
        self.max = float(info.max)
        self.min = float(info.min)
        self.tiny = self.smallest_normal = float(info.tiny)
        # The decimal digits that survive a round trip, which torch counts without rounding up.
        self.resolution = float(f"1e-{math.floor((info.nmant) * math.log10(2))}")
        self.dtype = real.name

    def __repr__(self) -> str:
        return (
            f"finfo(resolution={self.resolution:g}, min={self.min:g}, max={self.max:g}, eps={self.eps:g}, "
            f"smallest_normal={self.smallest_normal:g}, tiny={self.tiny:g}, dtype={self.dtype})"
        )


class iinfo:
    """Limits of an integer dtype: bits, max, min."""

    def __init__(self, type: dtype | None = None):
        if type is None:
            raise TypeError('iinfo() missing 1 required positional arguments: "type"')
        if not isinstance(type, dtype) or type.category >= FLOATING:
            raise TypeError(
                f"torch.iinfo() requires an integer input type. Use torch.finfo to handle '{'torch.iinfo'}'"
            )
        if type is bool:
            raise TypeError("torch.bool is not supported by torch.iinfo")
        info = np.iinfo(type.np)
        self.bits, self.min, self.max = info.bits, int(info.min), int(info.max)
        self.dtype = type.name

    def __repr__(self) -> str:
        return f"iinfo(min={self.min:g}, max={self.max:g}, dtype={self.dtype})"
