"""What torch calls the backward of an operation, where that depends on how the operation was called.

torch has one function for each overload, numbered in the name (`SumBackward0` of all elements, `SumBackward1` along
dims), and composes some operations of others, whose names then show.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jtorch._ops.registry import Op
from jtorch._runtime.avals import Aval
from jtorch._runtime.dtypes import FLOATING
from jtorch._runtime.kernel import vjp_names

# Operations that torch gives a second tensor even where it got a number: the backward has a place for it, left empty.
_NUMBER_HAS_PLACE = frozenset(("add", "sub", "mul", "div", "true_divide", "multiply", "divide", "subtract"))


def grad_name(op: Op, layout: tuple, inputs: tuple[Aval, ...]) -> str:
    """The name that `grad_fn` prints."""
    rule = _RULES.get(op.key)
    if rule is None:
        return op.grad_name
    entries = {p.name: entry for p, entry in zip(op.params, layout, strict=True)}
    return rule(entries, inputs) or op.grad_name


def names_of(op: Op, layout: tuple) -> tuple[str, ...]:
    """The name of each array, as torch's saved attributes have it."""
    names: list[str] = []
    for p, entry in zip(op.params, layout, strict=True):
        if entry[0] == "a":
            names.append("self" if p.name == "input" else p.name)
        elif entry[0] == "l":
            names += [p.name] * entry[1]
    return tuple(names)


def settings_of(op: Op, layout: tuple) -> dict[str, tuple[str, Any]]:
    """What an operation was called with besides arrays: for each parameter its kind ("f" and "i": a run-time number)
    and what it is.
    """
    found: dict[str, tuple[str, Any]] = {}
    for p, entry in zip(op.params, layout, strict=True):
        if entry[0] in ("f", "i"):
            found[p.name] = entry[0], None
        elif entry[0] == "s":
            along = p.name == "dim" and type(entry[1]) is int and op.name in _DIMS
            found[p.name] = "s", (entry[1],) if along else entry[1]
    return found


# Reductions that torch always has a tuple of dims of.
_DIMS = frozenset(("amax", "amin", "logsumexp", "mean", "norm", "std", "sum", "var", "vector_norm"))


def places_of(op: Op, layout: tuple, inputs: tuple[Aval, ...]) -> tuple[int | None, ...] | None:
    """Which array each place of torch's backward is, None for a number; None for just the arrays in order.

    Indices and masks have no place there.
    """
    if op.key in _NUMBER_HAS_PLACE and sum(entry[0] == "a" for entry in layout) == 1:
        return (0, None)  # the number comes second, also where it was written first
    places: list[int | None] = []
    at = 0
    for p, entry in zip(op.params, layout, strict=True):
        joins = op.promote is not None and (op.promote_args is None or p.name in op.promote_args)
        for _ in range({"a": 1, "l": entry[-1]}.get(entry[0], 0)):
            if joins or inputs[at].dtype.category >= FLOATING:
                places.append(at)
            at += 1
    return None if len(places) == len(inputs) else tuple(places)


def _is_number(entry: tuple) -> bool:
    return entry[0] in ("f", "i") or (entry[0] == "s" and isinstance(entry[1], int | float | complex))


def _along(name: str, of_all: str, of_dims: str, param: str = "dim") -> Callable:
    def rule(entries, inputs):
        return name + (of_all if entries[param] == ("s", None) else of_dims)

    return rule


def _matmul(entries, inputs):
    a, b = (x.ndim for x in inputs)
    if b == 1:
        return {1: "DotBackward0", 2: "MvBackward0"}.get(a, "UnsafeViewBackward0")
    if a == 1:
        return "SqueezeBackward4" if b == 2 else "UnsafeViewBackward0"
    return "MmBackward0" if a == b == 2 else "UnsafeViewBackward0"


def _linear(entries, inputs):
    a, bias = inputs[0].ndim, entries["bias"][0] == "a"
    if inputs[1].ndim == 1:
        return None
    if not bias:
        return {1: "SqueezeBackward4", 2: "MmBackward0"}.get(a, "UnsafeViewBackward0")
    return {1: "ViewBackward0", 2: "AddmmBackward0"}.get(a, "ViewBackward0")


def _div(entries, inputs):
    mode = entries.get("rounding_mode", ("s", None))
    return "DivBackward0" if mode == ("s", None) else "DivBackward2"


def _clamp(entries, inputs):
    return "ClampBackward0" if any(entries[k][0] == "a" for k in ("min", "max")) else "ClampBackward1"


def _pad(entries, inputs):
    word = {"reflect": "ReflectionPad", "replicate": "ReplicationPad", "circular": "Copy"}.get(entries["mode"][1])
    if word is None:
        return None
    return "CopySlices" if word == "Copy" else f"{word}{len(entries['pad'][1]) // 2}DBackward0"


def _interpolate(entries, inputs):
    mode, dims = entries["mode"][1], inputs[0].ndim - 2
    word = {"nearest": "Nearest", "nearest-exact": "NearestExact", "linear": "Linear", "bilinear": "Bilinear",
            "trilinear": "Trilinear", "bicubic": "Bicubic"}.get(mode)  # fmt: skip
    return None if word is None else f"Upsample{word}{dims}DBackward0"


def _adaptive(dims: int) -> Callable:
    def rule(entries, inputs):
        size = entries["output_size"][1]
        ones = all(n == 1 for n in (size if isinstance(size, tuple) else (size,)))
        return "MeanBackward1" if ones else f"AdaptiveAvgPool{dims}DBackward0"

    return rule


def _attention(entries, inputs):
    if inputs[0].ndim == 4 and entries["dropout_mask"] == ("s", None):
        return "ScaledDotProductFlashAttentionForCpuBackward0"
    return "MmBackward0" if inputs[0].ndim == 2 else "UnsafeViewBackward0"


_RULES: dict[str, Callable] = {
    "adaptive_avg_pool2d": _adaptive(2),
    "adaptive_avg_pool3d": _adaptive(3),
    "avg_pool2d": lambda entries, inputs: "AvgPool2DBackward0",
    "avg_pool3d": lambda entries, inputs: "AvgPool3DBackward0",
    "block_diag": lambda entries, inputs: "BlockDiagBackward0",
    "interpolate": _interpolate,
    "pad": _pad,
    "clamp": _clamp,
    "sum": _along("SumBackward", "0", "1"),
    "mean": _along("MeanBackward", "0", "1"),
    "prod": _along("ProdBackward", "0", "1"),
    "rsub": lambda entries, inputs: "RsubBackward1" if _is_number(entries["other"]) else "RsubBackward0",
    "pow": lambda entries, inputs: (
        "PowBackward2"
        if _is_number(entries["input"])
        else "PowBackward0"
        if _is_number(entries["exponent"])
        else "PowBackward1"
    ),
    "fill": lambda entries, inputs: "FillBackward2" if _is_number(entries["value"]) else "FillBackward3",  # in place
    "remainder": lambda entries, inputs: None if _is_number(entries["other"]) else "RemainderBackward1",
    "fmod": lambda entries, inputs: None if _is_number(entries["other"]) else "FmodBackward1",
    "lerp": lambda entries, inputs: "LerpBackward0" if _is_number(entries["weight"]) else "LerpBackward1",
    "div": _div,
    "divide": _div,
    "true_divide": _div,
    "matmul": _matmul,
    "linalg.matmul": _matmul,
    "linear": _linear,
    "kron": lambda entries, inputs: "UnsafeViewBackward0",
    "nn.scaled_dot_product_attention": _attention,
}

# What torch composes the backward of an operation of: the last of these operations names the gradient's own grad_fn.
_COMPOSED = {
    "CatBackward0": "Split:0",
    "ConstantPadNdBackward0": "ConstantPadNd:0",
    "DiagonalBackward0": "DiagEmbed:0",
    "DivBackward0": "Atan:0 Atanh:0 Cumprod:0 Div:0 Hypot:0 Log10:0 Log1P:0 Log2:0 Log:0 Logaddexp2:0 Logaddexp:0 Sqrt:0",
    "DivBackward1": "Mean:0 Mean:1",
    "EluBackwardBackward0": "Celu:0",
    "EmbeddingDenseBackwardBackward0": "Embedding:0",
    "ExpandBackward0": "Sum:0 Sum:1",
    "FlipBackward0": "Cumsum:0 Flip:0",
    "IndexAddBackward0": "IndexSelect:0",
    "IndexFillBackward0": "IndexFill:0",
    "IndexPutImplBackward0": "Index:0",
    "LogSoftmaxBackwardDataBackward0": "LogSoftmax:0",
    "MaskedFillBackward0": "Fmax:0 Fmin:0 MaskedFill:0 Maximum:0 Minimum:0 Xlogy:0",
    "MaskedFillBackward1": "Max:1 Median:0 Nanmedian:0",
    "MaskedScatterBackward0": "MaskedSelect:0",
    "MulBackward0": "Abs:0 Acos:0 Amax:0 Aminmax:0 Asin:0 Asinh:0 Atan2:0 Copysign:0 Cos:0 Cosh:0 Digamma:0 Erf:0 Erfc:0 Erfinv:0 Exp:0 Expm1:0 I0:0 Lgamma:0 LinalgVectorNorm:0 Logsumexp:0 Mish:0 Mul:0 NanToNum:0 Pow:0 Pow:2 Prod:0 Prod:1 Reciprocal:0 Rsqrt:0 Silu:0 Sin:0 Sinh:0 Std:0 Tan:0 Var:0",
    "MulBackward1": "Deg2Rad:0 Exp2:0 Rad2Deg:0",
    "NegBackward0": "Neg:0 Rsub:1",
    "PermuteBackward0": "Permute:0",
    "PutBackward0": "Take:0",
    "RollBackward0": "Roll:0",
    "Rot90Backward0": "Rot90:0",
    "ScatterAddBackward0": "Cummax:0 Gather:0",
    "ScatterBackward0": "Kthvalue:0 Max:0 Mode:0 Sort:0 Topk:0",
    "SoftmaxBackwardDataBackward0": "Softmax:0",
    "SqueezeBackward1": "Unsqueeze:0",
    "StackBackward0": "Unbind:0",
    "SubBackward0": "Logcumsumexp:0",
    "SumBackward1": "Repeat:0",
    "TBackward0": "T:0",
    "ThresholdBackwardBackward0": "Relu:0",
    "ToCopyBackward0": "ToCopy:0",
    "TransposeBackward0": "Transpose:0",
    "TrilBackward0": "Tril:0",
    "TriuBackward0": "Triu:0",
    "ViewBackward0": "Expand:0 Trace:0 View:0",
    "WhereBackward0": "Clamp:1 Logit:0 Pow:1 Renorm:0 Sinc:0",
}
vjp_names.update(
    (name.replace(":", "Backward"), composed) for composed, names in _COMPOSED.items() for name in names.split()
)
