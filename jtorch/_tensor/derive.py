"""From declared operations to the functions users call.

For each operation a function is generated whose first lines are the fast path: with every tensor's slot at hand, one
look-up in the trace gives the result. All else (first calls, other argument types, `out=`, tensors under JAX's
transformations, errors) goes to `slow`, which binds arguments, makes the kernel and records it.
"""

from __future__ import annotations

import functools
import itertools
from collections import namedtuple
from collections.abc import Callable
from types import CodeType
from typing import Any

import jax
import numpy as np

from jtorch._autograd.graph import written_by
from jtorch._ops.registry import ARRAY, ARRAYS, NUMBER, OPERAND, OPS, OPTIONAL, STATIC, Op
from jtorch._ops.specialise import A, F, I, kernel_of
from jtorch._runtime import devices, dtypes, executor
from jtorch._runtime.executor import LAZY, T, Value
from jtorch._tensor.base import Tensor, new
from jtorch._tensor.storage import alias, value_of, write

FUNCTIONS: dict[str, Callable] = {}  # by operation key
GENERATED: list[Any] = []  # every generated function, for profiles to put themselves in front of
ON_GENERATED: list[Callable[[Any], None]] = []  # told of functions that are made later, as a profile is while it is on
_NUMPY_NAMES = {"dim": "axis", "keepdim": "keepdims"}
_ALIASES = {"axis": "dim", "keepdims": "keepdim", "x": "input", "x1": "input", "x2": "other"}
_RETURN_TYPES: dict[tuple, Any] = {}
_missing = object()


class BindError(TypeError):
    """The arguments are not this operation's. Users get it as a TypeError."""


# Operations that torch has several forms of: a misfit is answered with the forms there are.
_SEVERAL_FORMS = frozenset((
    "all", "any", "argsort", "clamp", "cummax", "cummin", "fill", "kthvalue", "logsumexp", "max", "mean", "median", "min",
    "mode", "norm", "pow", "prod", "quantile", "scatter", "sort", "squeeze", "std", "std_mean", "sum", "var", "var_mean",
    "where",
))  # fmt: skip
_WITH_OUT = frozenset(("fft", "linalg", "special"))  # namespaces whose functions take `out=`
_FUNCTIONAL_WITH_OUT = frozenset(("avg_pool2d", "avg_pool3d", "gelu", "linear", "logsigmoid", "softplus", "softshrink"))
_WORDS = {
    ARRAY: "Tensor", OPTIONAL: "Tensor", ARRAYS: "tuple of Tensors", OPERAND: "Tensor", NUMBER: "Number", "int": "int",
    "bool": "bool", "float": "float", "str": "str", "tuple[int, ...]": "tuple of ints", "DType": "torch.dtype",
}  # fmt: skip


def _form(op: Op) -> str:
    """An operation's parameters as torch's messages write them."""
    words, star = [], False
    for p in op.params:
        if p.keyword_only and not star:
            words.append("*")
            star = True
        kind = _WORDS.get(p.kind) or _WORDS.get(p.annotation.removesuffix(" | None"), p.annotation)
        words.append(f"{kind} {p.name}" + ("" if p.required else f" = {p.default}"))
    return f"({', '.join(words)})"


def misfit(name: str, ops: list[Op], args, kwargs: dict) -> TypeError:
    """The error for arguments that none of several forms takes."""
    given = [type_word(a) for a in args] + [f"{k}={type_word(v)}" for k, v in kwargs.items()]
    forms = "\n".join(f" * {_form(op)}" for op in ops)
    return TypeError(
        f"{name}() received an invalid combination of arguments - got ({', '.join(given)}), but expected one of:\n{forms}\n"
    )


def type_word(x) -> str:
    if isinstance(x, list | tuple):
        return f"{type(x).__name__} of ({', '.join(type_word(e) for e in x)})" if x else type(x).__name__
    kind = type(x)
    if kind is Tensor:
        return "Tensor"
    # A type written in C says where it is from; 1 << 9 marks the others.
    return f"numpy.{kind.__name__}" if kind.__module__ == "numpy" and not kind.__flags__ & 1 << 9 else kind.__name__


def _as_type_error(op: Op, error: BindError, args, kwargs: dict) -> TypeError:
    """What a user sees of a BindError."""
    if op.name not in _SEVERAL_FORMS or "missing" in str(error):
        return TypeError(str(error))
    positional = [p for p in op.params if not p.keyword_only]
    given = list(args)
    while given and len(given) <= len(positional) and given[-1] is positional[len(given) - 1].default:
        given.pop()
    defaults = {p.name: p.default for p in op.params}
    named = {k: v for k, v in kwargs.items() if k not in defaults or v is not defaults[k]}
    return misfit(op.name, [o for o in OPS.values() if o.name == op.name and o.function == op.function], given, named)


def return_type(name: str, fields: tuple[str, ...]):
    """The named tuple that an operation with several results gives back."""
    found = _RETURN_TYPES.get((name, fields))
    if found is None:
        found = _RETURN_TYPES[name, fields] = type(
            name,
            (namedtuple(name, fields),),
            {"__repr__": _repr_result, "__slots__": (), "__module__": "jtorch.return_types"},
        )
    return found


def _repr_result(self):
    rows = ",\n".join(f"{field}={value!r}" for field, value in zip(self._fields, self, strict=True))
    return f"torch.return_types.{type(self).__name__}(\n{rows})"


# ---- binding ---------------------------------------------------------------------------------------------------------


def bind(op: Op, args: tuple, kwargs: dict) -> list:
    """The user's object for each parameter. BindError, in torch's words, where they don't fit."""
    params = op.params
    if op.varargs and args:
        at = next(i for i, p in enumerate(params) if p.name == op.varargs)
        if len(args) > at and not isinstance(args[at], tuple | list):
            args = (*args[:at], tuple(args[at:]))
    positional = sum(not p.keyword_only for p in params)
    if len(args) > positional:
        raise BindError(f"{op.name}() takes {positional} positional arguments but {len(args)} were given")
    bound = list(args)
    used = 0
    for p in params[len(args) :]:
        if p.name in kwargs:
            used += 1
            bound.append(kwargs[p.name])
            continue
        other = next((k for k in kwargs if _ALIASES.get(k) == p.name), None)
        if other is not None:
            used += 1
            bound.append(kwargs[other])
        elif p.required:
            raise BindError(f'{op.name}() missing 1 required positional arguments: "{p.name}"')
        else:
            bound.append(_missing)
    if used != len(kwargs):
        names = {p.name for p in params}
        for k in kwargs:
            if k not in names and _ALIASES.get(k) not in names:
                raise BindError(f"{op.name}() got an unexpected keyword argument '{k}'")
        raise BindError(f"{op.name}() got multiple values for argument '{next(iter(kwargs))}'")
    return bound


def _expect(op: Op, name: str, place: int, what: str, got) -> BindError:
    return BindError(f"{op.name}(): argument '{name}' (position {place + 1}) must be {what}, not {type_word(got)}")


def lay_out(op: Op, bound: list):
    """Splits bound arguments into the layout of the kernel, values, numbers and the fast path's key entries."""
    layout, values, numbers, entries = [], [], [], []
    for place, (p, x) in enumerate(zip(op.params, bound, strict=True)):
        kind = p.kind
        if x is _missing and p.required:
            raise BindError(f'{op.name}() missing 1 required positional arguments: "{p.name}"')
        if x is _missing or (x is p.default and not p.required and not isinstance(x, str)):
            layout.append(("s", p.default))
            entries.append(p.default)
        elif isinstance(x, Tensor):
            if kind == STATIC:
                x = static_of(op, p, place, x)
                layout.append(("s", x))
                entries.append(_missing)
            elif kind in (NUMBER, ARRAYS):
                if kind == ARRAYS:
                    raise _expect(op, p.name, place, "tuple of Tensors", x)
                layout.append(F if x.dtype.category >= dtypes.FLOATING else I)
                numbers.append(x.item())
                entries.append(_missing)
            else:
                layout.append(A)
                values.append(value_of(x))
                entries.append(A)
        elif kind == STATIC:
            x = static_of(op, p, place, x)
            layout.append(("s", x))
            entries.append(x)
        elif kind == ARRAYS:
            if isinstance(x, list | tuple) and all(isinstance(t, Tensor) for t in x):
                layout.append(("l", len(x)))
                values.extend(value_of(t) for t in x)
                entries.append(len(x))
            elif isinstance(x, list | tuple):
                i, bad = next((i, t) for i, t in enumerate(x) if not isinstance(t, Tensor))
                raise BindError(f"expected Tensor as element {i} in argument {place}, but got {type_word(bad)}")
            else:
                raise _expect(op, p.name, place, "tuple of Tensors", x)
        elif x is None and (kind == OPTIONAL or p.default is None and not p.required):
            layout.append(("s", None))
            entries.append(None)
        elif isinstance(x, jax.Array) and (kind != NUMBER or isinstance(x, jax.core.Tracer)):
            layout.append(A)
            values.append(executor.of(x))
            entries.append(_missing)
        elif kind in (OPERAND, NUMBER):
            _lay_number(op, p, place, x, layout, numbers, entries)
        else:
            raise _expect(op, p.name, place, "Tensor", x)
    if not values and op.name not in _OF_NUMBERS and sum(p.kind == OPERAND for p in op.params) > 1:
        given = ", ".join(type(x).__name__ for x in bound if x is not _missing)
        raise BindError(f"{op.name}() received an invalid combination of arguments - got ({given})")
    return tuple(layout), values, numbers, entries


# These alone take numbers for all of their operands.
_OF_NUMBERS = frozenset(("add", "sub", "mul", "div", "true_divide", "floor_divide", "subtract", "multiply", "divide"))


def _lay_number(op, p, place, x, layout, numbers, entries):
    kind = type(x)
    if kind is not float and kind is not int:
        if isinstance(x, np.generic):
            x = (
                float(x) if isinstance(x, np.bool_) else x.item()
            )  # NumPy's bools are no Python bools: torch reads a float
        elif isinstance(x, jax.Array) and x.ndim == 0 and not isinstance(x, jax.core.Tracer):
            x = x.item()
    if isinstance(x, bool | complex):
        layout.append(("s", x))
        entries.append((type(x), x))
    elif isinstance(x, float):
        layout.append(F)
        numbers.append(float(x))
        entries.append("f" if kind is float else _missing)
    elif isinstance(x, int):
        if not -(2**63) <= x < 2**63:
            if x < 2**64:
                layout.append(("s", x))
                entries.append(_missing)
                return
            raise RuntimeError("Overflow when unpacking long long")
        layout.append(I)
        numbers.append(int(x))
        entries.append("i" if kind is int else _missing)
    else:
        raise _expect(op, p.name, place, "Tensor" if p.kind == OPERAND else "Number", x)


def static_of(op: Op, p, place: int, x):
    """A static argument as the operation sees it: hashable, tensors and NumPy scalars as Python numbers."""
    kind = type(x)
    if kind is int or kind is str or kind is bool or kind is float or x is None:
        if kind in (int, float, bool) or kind is str:
            _check_static(op, p, place, x)
        return x
    if isinstance(x, list | tuple):
        if p.annotation in ("int", "int | None"):
            raise _expect(op, p.name, place, "int", x)
        return tuple(static_of(op, _FREE, place, e) for e in x)
    if isinstance(x, np.generic):
        return x.item()
    if isinstance(x, Tensor):
        if p.annotation.startswith(("int", "float", "bool")) or p is _FREE:
            return x.item()
        raise _expect(op, p.name, place, p.annotation, x)
    return x


class _Free:
    annotation = ""
    name = ""
    default = None


_FREE = _Free()


def _check_static(op: Op, p, place: int, x) -> None:
    wants = p.annotation
    kind = type(x)
    if not wants or kind is bool and "bool" in wants:
        return
    if wants.startswith("int") and (kind is bool or kind is float and "float" not in wants):
        raise _expect(op, p.name, place, "int", x)
    if wants.startswith(("int", "float", "bool", "tuple")) and kind is str and "str" not in wants:
        raise _expect(op, p.name, place, wants.split(" ")[0].split("[")[0], x)
    if wants.startswith("DType") and x is not None:
        raise _expect(op, p.name, place, "torch.dtype", x)
    if wants.startswith("str") and kind is not str and "int" not in wants and "bool" not in wants:
        raise _expect(op, p.name, place, "str", x)


# ---- calling ---------------------------------------------------------------------------------------------------------


def slow(op: Op, args: tuple, kwargs: dict, out=None):
    """An operation on user arguments, the general way."""
    try:
        return perform(op, bind(op, args, kwargs), out)
    except BindError as error:
        raise _as_type_error(op, error, args, kwargs) from None


def perform(op: Op, bound: list, out=None):
    """An operation on bound arguments."""
    results = [_tensor(v) for v in _perform(op, bound)]
    result = results[0] if len(results) == 1 and op.returns is None else _several(op, results)
    return result if out is None else copy_out(result, out, op)


def _perform(op: Op, bound: list) -> list[Value]:
    layout, values, numbers, entries = lay_out(op, bound)
    kernel = kernel_of(op, layout, tuple([v.aval for v in values]))
    key = None
    if _missing not in entries:

        def key_of(slots):
            slot = iter(slots)
            made: list[Any] = [op.id]
            for p, e in zip(op.params, entries, strict=True):
                if e is A:
                    made.append(next(slot))
                elif p.kind == ARRAYS:
                    made.append(tuple(itertools.islice(slot, e)))
                else:
                    made.append(e)
            return tuple(made)

        key = key_of

    if any(v.aval.device is not kernel.out[0].device for v in values):
        values = [_along(v, kernel.out[0].device) for v in values]
    return executor.record(kernel, values, numbers, key)


def _along(v: Value, device):
    """A 0-d CPU value taken to where the other operands are."""
    if v.aval.device is device or device is devices.META:
        return v
    moved = executor.of(jax.device_put(executor.concrete(v), devices.to_jax(device)))
    moved.node = v.node
    return moved


def _several(op: Op, results):
    if op.returns is None:
        return tuple(results)
    name = f"linalg_{op.name}" if not op.function and "linalg" in op.namespaces else op.name
    return return_type(name, op.returns)(*results)


def _tensor(v: Value) -> Tensor:
    t = new(Tensor)
    t._value = v
    return t


def values_of(key: str, *args, **kwargs) -> list[Value]:
    """An operation's results as values, for layers that write them somewhere."""
    return slow_values(OPS[key], args, kwargs)


def call(key: str, *args, **kwargs):
    """The operation declared under a key, on tensors."""
    return FUNCTIONS[key](*args, **kwargs)


def copy_out(result, out, op: Any) -> Any:
    """Puts a result into the tensor (or tuple of tensors) given as `out=`."""
    if isinstance(result, tuple):
        for r, o in zip(result, out, strict=True):
            copy_out(r, o, op)
        return type(result)(*out) if op.returns is not None else tuple(out)
    if not isinstance(out, Tensor):
        raise BindError(f"{op.name}(): argument 'out' must be Tensor, not {type_word(out)}")
    if out.requires_grad or (result.requires_grad and T.grad):
        raise RuntimeError(
            f"{op.name}(): functions with out=... arguments don't support automatic differentiation, but one of the "
            "arguments requires grad."
        )
    if not can_cast(result.dtype, out.dtype):
        raise RuntimeError(
            f"result type {dtypes.SCALAR_NAMES[result.dtype]} can't be cast to the desired output type "
            f"{dtypes.SCALAR_NAMES[out.dtype]}"
        )
    if out.shape != result.shape:
        out.resize_(result.shape)
    write(out, cast(value_of(result), out.dtype))
    return out


def can_cast(source: dtypes.dtype, target: dtypes.dtype) -> bool:
    """Whether a result of one dtype may be stored as another: to the same or a higher category."""
    return source.category <= target.category or (source.category == target.category)


def cast(v: Value, dtype: dtypes.dtype) -> Value:
    """A value as another dtype, part of the graph."""
    if v.aval.dtype is dtype:
        return v
    return values_of("to.dtype", _tensor(v), dtype)[0]


def in_place(op: Op, function: Callable) -> Callable:
    """`f_`: the function's result written over its first argument."""

    def f_(self, *args, **kwargs):
        check_in_place(self)
        result = value_of(function(self, *args, **kwargs))
        store_in_place(self, result, op.name + "_")
        return self

    f_.__name__ = f_.__qualname__ = op.name + "_"
    f_.__doc__ = f"In-place `{op.name}`."
    f_.ops = function.ops  # type: ignore[attr-defined]
    return f_


def check_in_place(t: Tensor, view: bool = False) -> None:
    """RuntimeError where autograd forbids writing to a tensor, or (`view`) to a view of it."""
    if not T.inference and executor.inferred(value_of(t)):
        raise RuntimeError(
            "Inplace update to inference tensor outside InferenceMode is not allowed.You can make a clone to get a normal "
            "tensor before doing inplace update.See https://github.com/pytorch/rfcs/pull/17 for more details."
        )
    if T.grad and not T.inference:
        node = value_of(t).node
        if node is not None and node.kind == 1:
            if view:
                raise RuntimeError(
                    "a view of a leaf Variable that requires grad is being used in an in-place operation."
                )
            raise RuntimeError("a leaf Variable that requires grad is being used in an in-place operation.")
        if t._base is not None:
            base = value_of(t._base).node
            if base is not None and base.kind == 1:
                raise RuntimeError(
                    "a view of a leaf Variable that requires grad is being used in an in-place operation."
                )


def store_in_place(t: Tensor, result: Value, name: str) -> None:
    """Writes a result over a tensor, with torch's checks of shape and dtype."""
    a = value_of(t).aval
    if result.aval.shape != a.shape:
        raise RuntimeError(
            f"output with shape {list(a.shape)} doesn't match the broadcast shape {list(result.aval.shape)}"
        )
    if result.aval.dtype is not a.dtype:
        if not can_cast(result.aval.dtype, a.dtype):
            raise RuntimeError(
                f"result type {dtypes.SCALAR_NAMES[result.aval.dtype]} can't be cast to the desired output type "
                f"{dtypes.SCALAR_NAMES[a.dtype]}"
            )
        result = cast(result, a.dtype)
    elif result is value_of(t):
        result = alias(result)
    old = value_of(t)
    write(t, result)
    written_by(old, result)
    if old.node is not None and old.node is not LAZY and T.grad:
        t._keep_retaining(old)


# ---- generated functions ---------------------------------------------------------------------------------------------


def _source(op: Op, raw: bool) -> str:
    """The text of an operation's function."""
    params, keyed, enter, after, aliases = [], [], [], [], []
    star = optional = False
    for i, p in enumerate(op.params):
        if p.keyword_only and not star:
            params.append("*")
            star = True
        name = p.name
        if name in _NUMPY_NAMES and p.kind == STATIC:
            aliases.append((_NUMPY_NAMES[name], name))
            optional = True  # it may come under its other name, so that Python can't tell whether it is missing
        if p.required:
            params.append(f"{name}=_missing" if optional and not p.keyword_only else name)
        else:
            params.append(f"{name}=_d{i}")
        if p.kind in (ARRAY, OPTIONAL):
            get = [f"s{i} = {name}._value.slot", f"if s{i} < 0: s{i} = enter({name}._value)"]
            if p.kind == OPTIONAL:
                enter += [f"if {name} is None: s{i} = None", "else:", *["    " + g for g in get]]
            else:
                enter += get
            keyed.append(f"s{i}")
        elif p.kind == ARRAYS:
            enter.append(f"s{i} = tuple([t._value.slot if t._value.slot >= 0 else enter(t._value) for t in {name}])")
            keyed.append(f"s{i}")
        elif p.kind in (OPERAND, NUMBER):
            enter.append(f"k{i} = {name}.__class__")
            branches = [] if p.required else [(f"{name} is _d{i}", f"s{i} = {name}")]
            branches += [(f"k{i} is float", f"s{i} = 'f'"), (f"k{i} is int", f"s{i} = 'i'")]
            for word, (test, then) in zip(itertools.chain(["if"], itertools.repeat("elif")), branches):
                enter.append(f"{word} {test}: {then}")
            enter += ["else:", f"    s{i} = {name}._value.slot", f"    if s{i} < 0: s{i} = enter({name}._value)"]
            after.append((f"s{i} == 'f' or s{i} == 'i'", name))
            keyed.append(f"s{i}")
        else:
            keyed.append(name)
    has_out = op.out and (op.function or not _WITH_OUT.isdisjoint(op.namespaces)) or op.name in _FUNCTIONAL_WITH_OUT
    extra = ["out=None"] if has_out else []
    extra += [f"{other}=_missing" for other, _ in aliases]
    if extra:
        params += extra if star else ["*", *extra]
    args = ", ".join(p.name for p in op.params if not p.keyword_only)
    if args:
        args += ","
    kwargs = ", ".join(f"'{p.name}': {p.name}" for p in op.params if p.keyword_only)
    fallback = f"return slow(OP, ({args}), {{{kwargs}}}{', out' if has_out else ''})"
    several = raw or op.returns is not None
    lines = [f"def operation({', '.join(params)}):", "    try:", "        if get_ident() != T.owner: raise TypeError"]
    if has_out:
        lines.append("        if out is not None: raise TypeError")
    lines += [f"        if {other} is not _missing: {name} = {other}" for other, name in aliases]
    lines += ["        " + e for e in enter]
    lines += [
        f"        step = T.at.children.get((ID, {''.join(k + ', ' for k in keyed)}))",
        "    except (AttributeError, TypeError):",
        "        step = None",
        "    if step is None:",
        f"        {fallback}",
    ]
    # Entries by slot first, the step last: a signal in between leaves the trace as it was.
    if len(after) == 1:
        test, name = after[0]
        lines.append(f"    if {test}: T.numbers[step.slot * {executor.NUMBERS}] = {name}")
    elif after:
        lines.append(f"    _at = step.slot * {executor.NUMBERS}")  # a parameter may be called `n`
        for test, name in after:
            lines += [f"    if {test}:", f"        T.numbers[_at] = {name}", "        _at += 1"]
    if several:
        lines.append("    return several(step)")
    else:
        lines += [
            "    a = step.aval",
            "    if a is None: return several(step)",
            "    slot = step.slot",
            "    v = T.made[slot] = new(Value)",  # what `Value(...)` does, without the call
            "    v.aval = a",
            "    v.slot = slot",
            "    v.node = step.node",
            "    v.array = None",
            "    t = new(Tensor)",
            "    t._value = v",
            "    T.at = step",
            "    return t",
        ]
    return "\n".join(lines)


@functools.cache
def _code(source: str) -> CodeType:
    """The compiled text of a function: operations of the same parameters share it."""
    return compile(source, "<jtorch operation>", "exec")


def slow_operator(op: Op, args: tuple, kwargs: dict, out=None):
    """`slow` for Python's operators: what does not fit is left to the other operand."""
    try:
        return perform(op, bind(op, args, kwargs), out)
    except BindError:
        return NotImplemented


def slow_values(op: Op, args: tuple, kwargs: dict, out=None) -> list[Value]:
    """`slow`, but what it gives are values."""
    try:
        return _perform(op, bind(op, args, kwargs))
    except BindError as error:
        raise _as_type_error(op, error, args, kwargs) from None


def values(step) -> list[Value]:
    """What a step that was found gives."""
    made, into = [], T.made
    for slot, (a, node) in enumerate(step.outs, step.slot):
        into[slot] = v = Value(a, slot, node)
        made.append(v)
    T.at = step
    return made


def generate(op: Op, operator: bool = False, raw: bool = False) -> Callable:
    """The function of an operation; with `operator`, as one of Python's operators; with `raw`, giving values."""

    def several(step):
        made = [_tensor(v) for v in values(step)]
        return made[0] if len(made) == 1 and op.returns is None else _several(op, made)

    scope: dict[str, Any] = {
        "OP": op, "ID": op.id, "T": T, "Tensor": Tensor, "Value": Value, "enter": executor.enter, "get_ident": executor.get_ident, "new": new,
        "several": values if raw else several,
        "slow": slow_values if raw else slow_operator if operator else slow, "_missing": _missing,
    }  # fmt: skip
    for i, p in enumerate(op.params):
        scope[f"_d{i}"] = p.default
    exec(_code(_source(op, raw)), scope)
    f = scope["operation"]
    GENERATED.append(f)
    for tell in ON_GENERATED:
        tell(f)
    if op.varargs:
        f = _spread(op, f)
    f.__name__ = f.__qualname__ = op.name
    f.__doc__ = op.fn.__doc__
    f.__module__ = "jtorch"
    f.ops = (op,)  # what the type stubs are made from
    return f


def _spread(op: Op, f: Callable) -> Callable:
    """Lets the tuple parameter `varargs` be given as plain positionals too."""
    at = next(i for i, p in enumerate(op.params) if p.name == op.varargs)

    def spread(*args, **kwargs):
        if len(args) > at and not isinstance(args[at], tuple | list):
            args = (*args[:at], tuple(args[at:]))
        return f(*args, **kwargs)

    return spread


def overloaded(name: str, ops: list[Op]) -> Callable:
    """One function for all operations of a name, chosen by the arguments' types."""
    chosen: dict[tuple, Callable] = {}

    def function(*args, **kwargs):
        key = (tuple(map(type, args)), tuple(zip(kwargs, map(type, kwargs.values()), strict=True)))
        f = chosen.get(key)
        if f is not None:
            return f(*args, **kwargs)
        problem = ""  # in words: an error that is kept keeps its frames, and what they hold, until the next collection
        out = kwargs.get("out")
        plain = {k: v for k, v in kwargs.items() if k != "out"}
        for op in ops:
            try:
                lay_out(op, bind(op, args, plain))
            except BindError as error:
                problem = problem or str(error)
                continue
            if not (out is not None and not op.out):
                chosen[key] = FUNCTIONS[op.key]
                return FUNCTIONS[op.key](*args, **kwargs)
        if name in _SEVERAL_FORMS:
            raise misfit(name, ops, args, kwargs)
        raise TypeError(problem)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = "\n\n".join(op.fn.__doc__ or "" for op in ops)
    function.__module__ = "jtorch"
    function.ops = tuple(ops)  # type: ignore[attr-defined]
    return function


def _groups(wanted: Callable[[Op], bool]) -> dict[str, list[Op]]:
    groups: dict[str, list[Op]] = {}
    for op in OPS.values():
        if wanted(op):
            groups.setdefault(op.name, []).append(op)
    return groups


def _public(groups: dict[str, list[Op]]) -> dict[str, Callable]:
    return {name: FUNCTIONS[ops[0].key] if len(ops) == 1 else overloaded(name, ops) for name, ops in groups.items()}


def namespace(name: str) -> dict[str, Callable]:
    """The functions of a public namespace such as "nn.functional", by name."""
    return _public(_groups(lambda op: name in op.namespaces))


# torch has `torch.f_` of operations of one tensor, and of these.
_WRITTEN_BY_FUNCTION = frozenset((
    "addmv", "clamp", "clamp_max", "clamp_min", "clip", "fill", "gcd", "lcm", "ldexp", "logit", "xlogy",
))  # fmt: skip


def functions() -> dict[str, Callable]:
    """The top-level functions, by name; the in-place ones of operations of one tensor among them."""
    found = _public(_groups(lambda op: op.function))
    for name, ops in _groups(lambda op: op.inplace and op.function).items():
        if len(ops[0].params) < 2 or ops[0].params[1].kind in (STATIC, NUMBER) or name in _WRITTEN_BY_FUNCTION:
            found[name + "_"] = getattr(Tensor, name + "_")
    for name in ("celu", "selu", "threshold"):  # these are functions only: their in-place forms are no methods
        found[name + "_"] = in_place(
            _groups(lambda op, name=name: op.name == name and op.function)[name][0], found[name]
        )
    return found


def attach() -> None:
    """Generates every operation's function, and Tensor's methods."""
    for op in OPS.values():
        if op.key not in FUNCTIONS:
            FUNCTIONS[op.key] = generate(op)
    for name, f in _public(_groups(lambda op: op.method)).items():
        setattr(Tensor, name, f)
    for name, ops in _groups(lambda op: op.inplace).items():
        f = FUNCTIONS[ops[0].key] if len(ops) == 1 else overloaded(name, ops)
        setattr(Tensor, name + "_", in_place(ops[0], f))
