"""From a declared operation and the facts of one call to a kernel: promotion, broadcasting checks, argument layout."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from jtorch._ops.grad_names import grad_name, names_of, places_of, settings_of
from jtorch._ops.registry import ARRAYS, NUMBER, OPERAND, STATIC, Op
from jtorch._runtime import devices, dtypes
from jtorch._runtime.avals import Aval, is_dense
from jtorch._runtime.kernel import Kernel

# A call's layout: one entry a parameter. ("a",) an array; ("l", n) n arrays; ("f",) and ("i",) run-time numbers;
# ("s", value) a static, or a number that is part of the program.
A = ("a",)
F = ("f",)
I = ("i",)


def kernel_of(op: Op, layout: tuple, inputs: tuple[Aval, ...]) -> Kernel:
    """The kernel of an operation for a layout of arguments and the avals of its arrays, made once."""
    key = (layout, inputs, dtypes.get_default_dtype())
    found = op.cache.get(key)
    if found is None:
        found = op.cache[key] = _build(op, layout, inputs)
    return found


def broadcast_shapes(shapes) -> tuple[int, ...]:
    """The shape that all broadcast to. RuntimeError, in torch's words, where they don't."""
    result: list[int] = []
    for shape in shapes:
        if len(shape) > len(result):
            result = [1] * (len(shape) - len(result)) + result
        for i in range(1, len(shape) + 1):
            if shape[-i] != 1:
                if result[-i] == 1:
                    result[-i] = shape[-i]
                elif result[-i] != shape[-i]:
                    raise RuntimeError(
                        f"The size of tensor a ({result[-i]}) must match the size of tensor b ({shape[-i]}) at "
                        f"non-singleton dimension {len(result) - i}"
                    )
    return tuple(result)


def is_channels_last(a: Aval) -> bool:
    """Whether the memory of a 4-d tensor runs over the second dim first; dims of size 1 don't count."""
    _, c, h, w = a.shape
    wanted = c * h * w, 1, c * w, c
    return all(n == 1 or s == x for n, s, x in zip(a.shape, a.stride(), wanted, strict=True))


def elementwise_strides(shape, inputs, numbers: bool = False) -> tuple[int, ...] | None:
    """The strides torch gives the result of a pointwise operation, None for row-major.

    numbers: whether Python numbers take part, which torch counts as tensors without dims.
    """
    if all(a.strides is None and a.shape == shape for a in inputs):
        return None
    if all(a.shape == shape for a in inputs) and not (numbers and shape):
        if all(a.contiguous for a in inputs):
            return None
        if len(shape) == 4 and all(map(is_channels_last, inputs)):
            _, c, h, w = shape
            return c * h * w, 1, c * w, c
        if all(a.strides == inputs[0].strides for a in inputs) and is_dense(inputs[0]):
            return inputs[0].strides
    operands = []
    for a in inputs:
        lead = len(shape) - a.ndim
        own = a.stride()
        operands.append([0] * lead + [0 if n == 1 and shape[lead + d] != 1 else own[d] for d, n in enumerate(a.shape)])
    return ordered_strides(shape, operands)


def ordered_strides(shape, operands: list) -> tuple[int, ...]:
    """Strides of a result whose dims keep the order that they have in the operands' memory.

    The first operand that tells two dims apart decides: where it is broadcast along one of them (its stride is 0) it
    has no say.
    """

    def compare(inner: int, outer: int) -> int:
        for strides in operands:
            one, other = strides[inner], strides[outer]
            if one and other:
                if one != other:
                    return 1 if one > other else -1
                if shape[inner] > shape[outer]:
                    return 1
        return 0

    order = list(reversed(range(len(shape))))  # innermost first
    for i in range(1, len(order)):
        at = i
        for before in reversed(range(i)):
            verdict = compare(order[before], order[at])
            if verdict > 0:
                order[before], order[at] = order[at], order[before]
                at = before
            elif verdict < 0:
                break
    strides, step = [0] * len(shape), 1
    for d in order:
        strides[d] = step
        step *= shape[d]
    return tuple(strides)


def common_device(inputs: tuple[Aval, ...]):
    """Where the result lives; RuntimeError where the inputs disagree. 0-d CPU tensors go along with any device."""
    where = None
    for a in inputs:
        if a.device is not where:
            if where is None:
                where = a.device
            elif a.device is devices.CPU and a.ndim == 0:
                continue
            elif where is devices.CPU and all(b.ndim == 0 for b in inputs if b.device is devices.CPU):
                where = a.device
            else:
                raise RuntimeError(
                    "Expected all tensors to be on the same device, but found at least two devices, "
                    f"{where} and {a.device}!"
                )
    return where


def _build(op: Op, layout: tuple, inputs: tuple[Aval, ...]) -> Kernel:
    kinds = "".join(entry[0] for entry in layout if entry in (F, I))
    where = common_device(inputs)
    joins = [
        op.promote is not None and (p.name in op.promote_args if op.promote_args else p.kind not in (STATIC, NUMBER))
        for p in op.params
    ]
    parts = list(zip(joins, op.params, layout, strict=True))
    # Python numbers that take part like tensors.
    numbers = any(join and p.kind == OPERAND and entry[0] in "fis" for join, p, entry in parts)
    target = compute = None
    strides = None
    if op.promote is not None:
        if op.check is not None:
            op.check(_given(op, layout, inputs))
        target, joined = _common(op, layout, inputs, joins)
        if op.elementwise:
            shape = broadcast_shapes([a.shape for a in joined])
            strides = elementwise_strides(shape, _spread(inputs, shape, joined), numbers)
        compute = target.np
        if target in (dtypes.float16, dtypes.bfloat16) and numbers:
            compute = np.dtype(np.float32)  # a Python number takes part at full precision, the result is rounded once
    real = np.dtype(np.float64) if op.wide else _number_dtype(inputs, target)
    back = target.np if compute is not None and compute != target.np else None

    def fn(*flat):
        arrays, rest = iter(flat), iter(flat[len(inputs) :])
        args, kwargs = [], {}
        for join, p, entry in parts:
            tag = entry[0]
            if tag == "a":
                value = next(arrays)
                if join:
                    value = value.astype(compute)
            elif tag == "l":
                value = tuple(next(arrays) for _ in range(entry[1]))
                if join:
                    value = tuple(v.astype(compute) for v in value)
            elif tag in ("f", "i"):
                value = next(rest)
                value = value.astype(compute if join else (real if tag == "f" or op.promote else value.dtype))
            else:
                value = entry[1]
                if p.kind == OPERAND and value is not None:
                    value = jnp.asarray(value, compute if join else None)
            if p.keyword_only:
                kwargs[p.name] = value
            else:
                args.append(value)
        result = op.fn(*args, **kwargs)
        result = tuple(result) if isinstance(result, tuple | list) else (result,)
        if back is not None:
            result = tuple(r.astype(back) if r.dtype == compute else r for r in result)
        return result

    return Kernel(
        op.key,
        fn,
        inputs,
        kinds,
        grad_name=grad_name(op, layout, inputs),
        differentiable=op.differentiable,
        saves_output=op.saves is not None,
        saves_both=op.saves == "both",
        settings=settings_of(op, layout),
        device=where,
        strides=strides,
        names=names_of(op, layout),
        places=places_of(op, layout, inputs),
    )


def _number_dtype(inputs, target):
    """What a run-time number is computed in: the promoted dtype, else the widest of the floating inputs'."""
    if target is not None:
        return np.float32 if target in (dtypes.float16, dtypes.bfloat16) else target.np
    best = None
    for a in inputs:
        if a.dtype.category >= dtypes.FLOATING:
            real = a.dtype.to_real().np
            if best is None or real.itemsize > best.itemsize:
                best = real
    if best is None:
        return np.dtype(np.float64)
    return best if best.itemsize >= 4 else np.dtype(np.float32)


def _spread(inputs: tuple[Aval, ...], shape, joined):
    """The inputs that are spread over the result: all of them (`where`'s condition too) if their shapes allow it."""
    fits = all(
        a.ndim <= len(shape) and all(n in (1, m) for n, m in zip(reversed(a.shape), reversed(shape), strict=False))
        for a in inputs
    )
    return inputs if fits else joined


def _given(op: Op, layout, inputs) -> dict[str, dtypes.dtype]:
    """The dtype of each tensor and number that an operation was given, by parameter name."""
    arrays, found = iter(inputs), {}
    for p, entry in zip(op.params, layout, strict=True):
        tag = entry[0]
        if tag == "a":
            found[p.name] = next(arrays).dtype
        elif tag == "l":
            for _ in range(entry[1]):
                next(arrays)
        elif tag == "f":
            found[p.name] = dtypes.get_default_dtype()
        elif tag == "i":
            found[p.name] = dtypes.int64
        elif p.kind in (OPERAND, NUMBER) and isinstance(entry[1], bool | int | float | complex):
            found[p.name] = dtypes.of_number(entry[1])
    return found


def _common(op: Op, layout, inputs, joins):
    arrays = iter(inputs)
    joined, numbers = [], []
    for p, entry, join in zip(op.params, layout, joins, strict=True):
        tag = entry[0]
        if tag in ("a", "l"):
            taken = [next(arrays) for _ in range(entry[1] if tag == "l" else 1)]
            if join:
                joined.extend(taken)
        elif join and p.kind in (OPERAND, ARRAYS):
            if tag == "f":
                numbers.append(dtypes.FLOATING)
            elif tag == "i":
                numbers.append(dtypes.INTEGRAL)
            elif entry[1] is not None and isinstance(entry[1], bool | int | float | complex):
                numbers.append(dtypes.of_number(entry[1]).category)
    target = dtypes.result_type_of(
        [a.dtype for a in joined if a.ndim], [a.dtype for a in joined if not a.ndim], numbers
    )
    if op.promote == "float" and target.category < dtypes.FLOATING:
        target = dtypes.get_default_dtype()
    elif op.promote == "double":
        target = dtypes.complex128 if target.is_complex else dtypes.float64
    return target, joined
