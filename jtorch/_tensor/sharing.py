"""How a tensor over another's memory is made: a value computed from its base's, and strides that say where it lies."""

from __future__ import annotations

from jtorch._runtime import executor
from jtorch._runtime.executor import T, Value
from jtorch._runtime.kernel import Kernel
from jtorch._tensor.base import Tensor, new
from jtorch._tensor.storage import storage_of, value_of

_KERNELS: dict[tuple, Kernel] = {}


def share(t: Tensor, v: Value, offset: int) -> Tensor:
    """A view of `t`: a value of its own, memory in common."""
    s = t._storage
    if s is None:
        s = storage_of(t)
    r = new(Tensor)
    r._value = v
    r._storage = s
    r._offset = offset
    base = t._base
    r._base = t if base is None else base
    if not T.grad or t._made is not None:
        r._made = (t._made or ("inference" if T.inference else False,))[0], 0, "View"
    s.add(r)
    return r


def make_several(t: Tensor, name: str, statics, build) -> tuple[Tensor, ...]:
    """The views that one operation gives: `build` is `make`'s, of a list."""
    v = value_of(t)
    key = (name, v.aval, statics)
    found = _KERNELS.get(key)
    if found is None:
        outs, deltas, fns = zip(*build(v.aval, *statics), strict=True)
        grad_name = name.capitalize() + "Backward0"
        kernel = Kernel(
            name, lambda x: tuple([fn(x) for fn in fns]), (v.aval,), grad_name=grad_name, out=outs, memory="view"
        )
        found = _KERNELS[key] = kernel, deltas  # type: ignore[assignment]
    kernel, deltas = found  # type: ignore[misc]
    made = []
    for nr, (r, delta) in enumerate(zip(executor.record(kernel, (v,)), deltas, strict=True)):
        part = share(t, r, t._offset + delta)
        part._made = True, nr, name.capitalize()
        made.append(part)
    return tuple(made)


def make(t: Tensor, name: str, statics, build, grad_name: str | None = None) -> Tensor:
    """A view: `build(aval, *statics)` gives (aval of the view, offset into `t`, function of the array)."""
    v = value_of(t)
    slot = v.slot
    if slot < 0:
        slot = executor.enter(v)
    step = T.at.children.get((name, slot, statics))
    if step is not None and executor.get_ident() == T.owner:
        r = T.made[step.slot] = Value(step.aval, step.slot, step.node)
        T.at = step
        return share(t, r, t._offset + step.extra)
    key = (name, v.aval, statics)
    found = _KERNELS.get(key)
    if found is None:
        out, delta, fn = build(v.aval, *statics)
        grad_name = grad_name or "".join(p.capitalize() for p in name.split("_")) + "Backward0"
        kernel = Kernel(name, lambda x: (fn(x),), (v.aval,), grad_name=grad_name, out=(out,), memory="view")
        found = _KERNELS[key] = kernel, delta  # type: ignore[assignment]
    kernel, delta = found  # type: ignore[misc]
    r = executor.record(kernel, (v,), (), lambda slots: (name, slots[0], statics))[0]
    if r.slot >= 0:
        T.at.extra = delta
    return share(t, r, t._offset + delta)


def dynamic(t: Tensor, name: str, statics, build, number: int, delta: int) -> Tensor:
    """A view whose place is a run-time number."""
    v = value_of(t)
    slot = v.slot if v.slot >= 0 else executor.enter(v)
    step = T.at.children.get((name, slot, statics, "dynamic"))
    if step is not None and executor.get_ident() == T.owner:
        T.numbers[step.slot * executor.NUMBERS] = number
        r = T.made[step.slot] = Value(step.aval, step.slot, step.node)
        T.at = step
        return share(t, r, t._offset + delta)
    key = (name, v.aval, statics, "dynamic")
    kernel = _KERNELS.get(key)
    if kernel is None:
        out, fn = build(v.aval, *statics)
        grad_name = name.capitalize() + "Backward0"
        kernel = _KERNELS[key] = Kernel(
            name, lambda x, i: (fn(x, i),), (v.aval,), "i", grad_name=grad_name, out=(out,), memory="view"
        )
    r = executor.record(kernel, (v,), (number,), lambda slots: (name, slots[0], statics, "dynamic"))[0]
    return share(t, r, t._offset + delta)


def ints(args, name: str = "reshape") -> tuple[int, ...]:
    """Sizes given one by one or as a sequence."""
    given = args
    if len(args) == 1 and isinstance(args[0], tuple | list):
        args = args[0]
    try:
        return tuple([n if type(n) is int else n.__index__() for n in args])
    except AttributeError:
        place = next(i for i, n in enumerate(args) if not hasattr(n, "__index__"))
        if given is args and len(args) == 1:
            raise TypeError(
                f"{name}(): argument 'shape' (position 1) must be tuple of ints, not {type(args[0]).__name__}"
            ) from None
        raise TypeError(
            f"{name}(): argument 'shape' failed to unpack the object at pos {place + 1} with error \"type must be tuple of "
            f'ints,but got {type(args[place]).__name__}"'
        ) from None
