"""The declaration of an operation, and the table of all that are declared.

An operation is a pure function of JAX arrays. Its parameters' annotations say what each is:

=================  ==================================================================================
`Array`            a tensor; the function sees a jax array
`Array | None`     an optional tensor
`Arrays`           a list or tuple of tensors (a gradient flows to each)
`Operand`          a tensor or a Python number; a number is a run-time input of programs (a 0-d array)
`Number`           a Python number that is a run-time input (learning rates, alpha): a 0-d array
`Number | None`    the same, or None
anything else      static: hashable, part of the program's identity (dims, flags, eps, modes, shapes)
=================  ==================================================================================

The function runs at the call (abstractly) as well as inside programs, so the checks at its head raise where the user
wrote the call, in torch's words. It must not look at a value.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

ARRAY, OPTIONAL, ARRAYS, OPERAND, NUMBER, STATIC = "array", "optional", "arrays", "operand", "number", "static"
_KINDS = {
    "Array": ARRAY,
    "Array | None": OPTIONAL,
    "Arrays": ARRAYS,
    "Operand": OPERAND,
    "Operand | None": OPERAND,
    "Number": NUMBER,
    "Number | None": NUMBER,
}

OPS: dict[str, Op] = {}


class Param:
    """One parameter of an operation: its name, kind, default, and whether it takes the rest of the positionals."""

    __slots__ = ("annotation", "default", "keyword_only", "kind", "name", "required")

    def __init__(self, parameter: inspect.Parameter):
        self.name = parameter.name
        self.annotation = str(parameter.annotation)
        self.kind = _KINDS.get(self.annotation, STATIC)
        self.required = parameter.default is inspect.Parameter.empty
        self.default = None if self.required else parameter.default
        self.keyword_only = parameter.kind is inspect.Parameter.KEYWORD_ONLY


class Op:
    """A declared operation. `key` is unique; `name` is public and may be shared by overloads."""

    __slots__ = (
        "cache", "check", "differentiable", "elementwise", "fn", "function", "grad_name", "id", "inplace", "key", "method", "name", "namespaces",
        "out", "params", "promote", "promote_args", "returns", "saves", "varargs", "wide",
    )  # fmt: skip

    def __init__(self, fn: Callable[..., Any], key: str, **facts: Any):
        self.fn = fn
        self.key = key
        self.id = len(OPS)
        self.params = tuple(Param(p) for p in inspect.signature(fn).parameters.values())
        self.cache: dict[Any, Any] = {}
        for name, value in facts.items():
            setattr(self, name, value)

    def __repr__(self) -> str:
        return f"<op {self.key}>"


def op(
    *,
    name: str | None = None,
    key: str | None = None,
    promote: str | None = None,
    promote_args: tuple[str, ...] | None = None,
    elementwise: bool = True,
    function: bool = True,
    method: bool = False,
    inplace: bool = False,
    out: bool = True,
    namespaces: tuple[str, ...] = (),
    returns: tuple[str, ...] | None = None,
    grad_name: str | None = None,
    differentiable: bool = True,
    saves: str | None = None,
    varargs: str | None = None,
    wide: bool = False,
    check: Callable[[dict[str, Any]], None] | None = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declares the decorated pure function as an operation, and gives the function back unchanged.

    name: public name, by default the function's own without a trailing underscore.
    key: unique key, by default the name; give one to each overload of a name.
    promote: "same" brings the tensor and number arguments to their common dtype before the call; "float" does too, and
        integers go to the default float dtype; "double" brings them to float64, or complex128 where any is complex.
    promote_args: the arguments that take part, by default every Array, Arrays and Operand one.
    elementwise: for promoting operations, whether those arguments must broadcast with each other.
    function, method, inplace, out: which of `torch.f`, `Tensor.f`, `Tensor.f_` and `out=` there are.
    namespaces: further public homes, such as "nn.functional" or "linalg". An operation of these alone says
        function=False.
    returns: field names of the result tuple, for operations with several results that torch returns as a named tuple.
    grad_name: what torch prints as grad_fn where it is not CamelCase(name) + "Backward0".
    differentiable: False for results that never require grad (comparisons, indices).
    saves: "output" where torch keeps the result for the backward (exp, tanh, softmax ...): an in-place write on the
        result is then the error; "both" where it keeps the arguments, too. By default what the vjp really reads is what is kept.
    wide: run-time numbers arrive in float64, whatever the tensors' dtype: for factors that are worked out first.
    varargs: name of the static tuple parameter that also takes plain positionals: `x.permute(2, 0, 1)`.
    check: for promoting operations, refuses arguments by what they were before promotion: gets by parameter name the
        dtype of each tensor and number, raises or does nothing.
    """

    def declare(fn: Callable[..., Any]) -> Callable[..., Any]:
        public = name or fn.__name__.rstrip("_")
        unique = key or public
        if unique in OPS:
            raise ValueError(f"operation {unique!r} is declared twice")
        camel = "".join(part[:1].upper() + part[1:] for part in public.split("_"))
        OPS[unique] = Op(
            fn, unique, name=public, promote=promote, promote_args=promote_args, elementwise=elementwise, function=function, method=method,
            inplace=inplace, out=out, namespaces=namespaces, returns=returns,
            grad_name=grad_name or camel + "Backward0", differentiable=differentiable, saves=saves, varargs=varargs, wide=wide,
            check=check,
        )  # fmt: skip
        return fn

    return declare
