"""Memory that tensors share, and writing to it.

A tensor that shares with nobody has no Storage: its value is all there is. The first view of it makes one. From then on
a write through any of the sharers replaces the value of all: the writer's base at once, the others when they are next
used (their `_value` is None until then).

Sharers fall into groups by their autograd base: a view and its base are one group (a write through the view is part of
the base's graph), a detached tensor and its views another. Across groups only the numbers are shared.
"""

from __future__ import annotations

import itertools
import weakref
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jtorch._autograd import graph
from jtorch._autograd.graph import FULL_NAMES, Modified, spread
from jtorch._ops.views import Layout
from jtorch._runtime import dtypes, executor
from jtorch._runtime.avals import Aval, aval
from jtorch._runtime.executor import LAZY, T, Value
from jtorch._runtime.kernel import Kernel

_numbers = itertools.count(1)
_KERNELS: dict[tuple, Kernel] = {}


class Storage:
    """Memory with its sharers: `value` is what it holds, laid out as `aval`; `version` counts writes."""

    __slots__ = ("__weakref__", "aliases", "aval", "limit", "number", "value", "version")

    def __init__(self, value: Value, version: int):
        self.value = value
        self.aval: Aval = value.aval
        self.version = version
        self.aliases: list[weakref.ref] = []
        self.limit = 16
        self.number = next(_numbers)

    def add(self, tensor) -> None:
        """Counts a tensor among the sharers."""
        aliases = self.aliases
        if len(aliases) >= self.limit:
            aliases[:] = [r for r in aliases if r() is not None]
            self.limit = max(16, 2 * len(aliases))
        aliases.append(weakref.ref(tensor))


def storage_of(t) -> Storage:
    """The storage of a tensor, made if it had none."""
    s = t._storage
    if s is None:
        v = value_of(t)
        s = t._storage = Storage(v, t._alone)
        s.add(t)
    return s


def version_of(t) -> int:
    """How often the tensor's memory was written in place."""
    root = t if t._base is None else t._base
    return root._alone if root._unseen or t._storage is None else t._storage.version


def value_of(t) -> Value:
    """The current value of a tensor."""
    v = t._value
    return v if v is not None else _refresh(t)


# ---- kernels ---------------------------------------------------------------------------------------------------------


def alias(v: Value, strides: Any = False) -> Value:
    """The same array under a new value (and, where given, other strides), part of the graph."""
    out = v.aval if strides is False else v.aval.with_strides(strides)
    if v.array is not None and (v.node is None or not T.grad):
        made = Value(out, executor.INFERENCE if executor.inferred(v) else -1)
        made.array = v.array
        return made
    return executor.record(_kernel("alias", v.aval, lambda x: (x,)), (v,), out=(out,))[0]


def _kernel(name: str, a: Aval, fn, *more: Aval, grad_name: str = "AliasBackward0", memory: str = "same") -> Kernel:
    key = (name, a, *more, grad_name)
    found = _KERNELS.get(key)
    if found is None:
        found = _KERNELS[key] = Kernel(name, fn, (a, *more), grad_name=grad_name, memory=memory)
    return found


def detached(v: Value) -> Value:
    """The same array, outside the graph."""
    return executor.under(False, lambda: alias(v))


def copied_over(old: Value, new: Value, grad_name: str = "CopyBackwards") -> Value:
    """New numbers in place of old ones, as torch's graph has it: the old ones' gradient is zeros, not missing."""
    kernel = _kernel("copy", old.aval, lambda x, y: (_over(x, y),), new.aval, grad_name=grad_name, memory="write")
    return executor.record(kernel, (old, new), out=(old.aval,))[0]


def copied(v: Value) -> Value:
    """A copy, part of the graph."""
    kernel = _kernel("copy_of", v.aval, lambda x: (x,), grad_name="CopyBackwards", memory="")
    return executor.record(kernel, (v,), out=(v.aval,))[0]


def zeroed(old: Value) -> Value:
    """Zeros in place of a value."""
    kernel = _kernel("zero", old.aval, lambda x: (jnp.zeros_like(x),), grad_name="ZeroBackward0", memory="write")
    return executor.record(kernel, (old,), out=(old.aval,))[0]


@jax.custom_vjp
def _over(old, new):
    return new


_over.defvjp(lambda old, new: (new, None), lambda _, ct: (jnp.zeros_like(ct), ct))


def with_data(old: Value, new: Value) -> Value:
    """New numbers under an old value's place in the graph."""
    name = _node_name(old) or "AliasBackward0"
    kernel = _kernel("with_data", old.aval, lambda x, y: (_swap(x, y),), new.aval, grad_name=name, memory="write")
    return executor.under(True, lambda: executor.record(kernel, (old, detached(new)), out=(old.aval,))[0])


@jax.custom_vjp
def _swap(old, new):
    return new


_swap.defvjp(lambda old, new: (new, new), lambda new, ct: (ct, jnp.zeros_like(new)))


def tag(v: Value, node, nr: int = 0) -> Value:
    """Makes `node` what computes a fresh value's gradient (an accumulation node: makes it a leaf's value)."""
    v.node = node
    v.nr = nr
    if v.slot >= 0:
        T.nodes_in[v.slot] = node, nr
        executor.mark("tag", v.slot, node.kind)
    return v


_LAYOUTS: dict[tuple, Layout] = {}


def _layout(base: Aval, view: Aval, offset: int) -> Layout:
    key = (base.shape, base.stride(), view.shape, view.stride(), offset)
    found = _LAYOUTS.get(key)
    if found is None:
        if len(_LAYOUTS) > 20_000:
            _LAYOUTS.clear()
        found = _LAYOUTS[key] = Layout(*key)
    return found


def covers(base: Aval, view: Aval, offset: int) -> bool:
    """Whether a view is all of its base, in the same order."""
    if offset or view.shape != base.shape or view.dtype is not base.dtype:
        return False
    return view.strides == base.strides or (view.contiguous and base.contiguous)


def read_view(base: Value, view: Aval, offset: int, name: str = "AsStridedBackward0") -> Value:
    """A view's elements out of its base's value."""
    if covers(base.aval, view, offset):
        return alias(base, view.strides)
    if view.dtype is not base.aval.dtype:
        return _read_bits(base, view, offset)
    layout = _layout(base.aval, view, offset)
    starts = layout.starts(offset)
    key = ("read", base.aval, view, layout.key())
    kernel = _KERNELS.get(key)
    if kernel is None:
        kernel = _KERNELS[key] = Kernel(
            "as_strided",
            lambda x, *at: (layout.read(x, *at),),
            (base.aval,),
            "i" * len(starts),
            grad_name=name,
            out=(view,),
            memory="view",
        )
    return executor.record(kernel, (base,), starts)[0]


def write_view(base: Value, new: Value, view: Aval, offset: int) -> Value:
    """The base's value with a view's elements replaced."""
    if covers(base.aval, view, offset):
        if base.node is not None and T.grad:
            return copied_over(base, new)  # what was there before gets a gradient of zeros
        return alias(new, base.aval.strides)
    if not view.numel:
        return alias(base)
    if view.dtype is not base.aval.dtype:
        return _write_bits(base, new, view, offset)
    layout = _layout(base.aval, view, offset)
    if layout.overlaps():
        raise RuntimeError(
            "unsupported operation: more than one element of the written-to tensor refers to a single memory location. "
            "Please clone() the tensor before performing the operation."
        )
    starts = layout.starts(offset)
    key = ("write", base.aval, view, new.aval.dtype, layout.key())
    kernel = _KERNELS.get(key)
    if kernel is None:
        kernel = _KERNELS[key] = Kernel(
            "copy_slices",
            lambda x, y, *at: (layout.write(x, y.astype(x.dtype), *at),),
            (base.aval, new.aval),
            "i" * len(starts),
            grad_name="CopySlices",
            out=(base.aval,),
            memory="write",
        )
    return executor.record(kernel, (base, new), starts)[0]


# A view of another dtype reads the same bytes: bitcasts, and the parts of complex numbers.


def _unit(a: dtypes.dtype, b: dtypes.dtype):
    """The dtype both are made of: the part of a complex number, else bytes."""
    if a.is_complex and b is a.to_real():
        return b
    if b.is_complex and a is b.to_real():
        return a
    return dtypes.uint8


def _as_units(x, unit):
    """A flat array of units from an array, row-major."""
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        if unit.is_floating_point:
            return jnp.stack([x.real, x.imag], -1).reshape(-1)
        x = jnp.stack([x.real, x.imag], -1)
    if x.dtype == bool:
        x = x.astype("uint8")
    return lax.bitcast_convert_type(x, unit.np).reshape(-1) if x.dtype != unit.np else x.reshape(-1)


def _from_units(flat, dtype, shape):
    if dtype.is_complex:
        real = dtype.to_real()
        parts = flat if flat.dtype == real.np else lax.bitcast_convert_type(flat.reshape(-1, real.itemsize), real.np)
        parts = parts.reshape(*shape, 2)
        return lax.complex(parts[..., 0], parts[..., 1])
    if flat.dtype == dtype.np:
        return flat.reshape(shape)
    if dtype.itemsize == 1:
        return (flat != 0 if dtype is dtypes.bool else lax.bitcast_convert_type(flat, dtype.np)).reshape(shape)
    return lax.bitcast_convert_type(flat.reshape(*shape, dtype.itemsize), dtype.np)


def _bits_layout(base: Aval, view: Aval, offset: int):
    """The layout of a view's units in the base's units."""
    unit = _unit(base.dtype, view.dtype)
    per_base, per_view = base.dtype.itemsize // unit.itemsize, view.dtype.itemsize // unit.itemsize
    order = sorted(range(base.ndim), key=lambda d: -base.stride()[d])
    flat = aval((base.numel * per_base,), unit, base.device)
    strides = tuple(s * per_view for s in view.stride())
    seen = aval((*view.shape, per_view), unit, base.device, (*strides, 1))
    return unit, order, flat, seen, _layout(flat, seen, offset * per_view)


def _read_bits(base: Value, view: Aval, offset: int) -> Value:
    unit, order, _, _, layout = _bits_layout(base.aval, view, offset)
    at = offset * (view.dtype.itemsize // unit.itemsize)
    starts = layout.starts(at)
    key = ("read bits", base.aval, view, layout.key())
    kernel = _KERNELS.get(key)
    if kernel is None:

        def fn(x, *at):
            units = layout.read(_as_units(x.transpose(order), unit), *at)
            return (_from_units(units.reshape(-1), view.dtype, view.shape),)

        name = "ViewAsRealBackward0" if base.aval.dtype.is_complex else "ViewAsComplexBackward0"
        kernel = _KERNELS[key] = Kernel(
            "view_dtype", fn, (base.aval,), "i" * len(starts), grad_name=name, out=(view,), memory="view"
        )
    return executor.record(kernel, (base,), starts)[0]


def _write_bits(base: Value, new: Value, view: Aval, offset: int) -> Value:
    unit, order, _, seen, layout = _bits_layout(base.aval, view, offset)
    at = offset * (view.dtype.itemsize // unit.itemsize)
    starts = layout.starts(at)
    key = ("write bits", base.aval, view, layout.key())
    kernel = _KERNELS.get(key)
    if kernel is None:
        inverse = sorted(range(len(order)), key=lambda i: order[i])
        ordered = [base.aval.shape[d] for d in order]

        def fn(x, y, *at):
            units = _as_units(x.transpose(order), unit)
            units = layout.write(units, _as_units(y, unit).reshape(seen.shape), *at)
            return (_from_units(units, base.aval.dtype, ordered).transpose(inverse),)

        kernel = _KERNELS[key] = Kernel(
            "copy_slices",
            fn,
            (base.aval, new.aval),
            "i" * len(starts),
            grad_name="CopySlices",
            out=(base.aval,),
            memory="write",
        )
    return executor.record(kernel, (base, new), starts)[0]


# ---- writing ---------------------------------------------------------------------------------------------------------


def write(t, new: Value) -> None:
    """Replaces all elements of a tensor, in place: everyone who shares its memory sees them.

    `new` has the tensor's shape and dtype. Under no_grad the tensor keeps its place in the graph.
    """
    old = value_of(t)
    if new.aval is not old.aval:
        new = alias(new, old.aval.strides)
    if (T.inference or new.slot == executor.INFERENCE) and executor.inferred(new) is not executor.inferred(old):
        # The tensor stays what it was, an ordinary one or one of inference_mode.
        kernel = _kernel("rewritten", old.aval, lambda x, y: (y,), new.aval, memory="write")
        new = executor.record(kernel, (old, new), out=(old.aval,))[0]
    if not T.grad and old.node is not None:
        new = tag(new, old.node) if old.node.kind == 1 else with_data(old, new)
    s = t._storage
    if s is None:
        _dirty(old, t)
        t._alone += 1
        t._value = new
        return
    root = t._base if t._base is not None else t
    if t._made is not None and T.grad:
        check_view(t, old, new)
    seen = not root._unseen
    if root is t and covers(s.aval, new.aval, t._offset):
        whole = new
    else:
        whole = _write_through(s, root, t, new)
    for r in s.aliases if seen else ():
        u = r()
        if u is not None and u._value is not None:
            _dirty(u._value, u)
    for r in s.aliases:
        u = r()
        if u is None or u is t:
            continue
        if u is root:
            full = covers(s.aval, u._shape_aval(), u._offset)
            u._aval = u._shape_aval()
            fresh = whole if full else _in_graph(lambda u=u, whole=whole: read_view(whole, u._aval, u._offset))
            place = u._value if u._value is not None else u._old
            if not T.grad and place is not None and place.node is not None:
                # The write is not part of the graph: the root keeps its place in it.
                fresh = tag(alias(fresh), place.node) if place.node.kind == 1 else with_data(place, fresh)
                u._old = None
            u._value = fresh
        elif u._value is not None:
            if u._base is None and u._value.node is not None:
                u._old = u._value
            u._aval = u._value.aval
            u._value = None
    if seen:
        s.version += 1
    else:
        root._alone += 1
    s.value = whole
    if root is not t and whole.node is not None and T.grad:
        t._aval, t._value = new.aval, None  # from now on it is computed from its base, as a part of that
    else:
        t._value = new


def check_view(t, old: Value, new: Value) -> None:
    """RuntimeError for a write that autograd could not follow: to one of several views, to one made under
    no_grad or by a custom function.
    """
    if old.node is None and new.node is None and (t._base is None or value_of(t._base).node is None):
        return
    many, nr, name = t._made
    if many == "function":
        raise RuntimeError(
            f"Output {nr} of {name} is a view and is being modified inplace. This view was created inside a custom Function "
            "(or because an input was returned as-is) and the autograd logic to handle view+inplace would override the "
            "custom backward associated with the custom Function, leading to incorrect gradients. This behavior is "
            "forbidden. You can fix this by cloning the output of the custom Function."
        )
    if many == "inference":
        raise RuntimeError(
            "A view was created in inference mode and is being modified inplace in normal mode. Given that this use case is "
            "ambiguous and error-prone, it is forbidden. You can clarify your code by moving both the view and the inplace "
            "either both inside the inference_mode block (if you don't want the inplace to be tracked) or both outside (if "
            "you want the inplace to be tracked)."
        )
    words = "A view was created in no_grad mode and is being modified inplace with grad mode enabled. "
    if not many:
        raise RuntimeError(
            words
            + "Given that this use case is ambiguous and error-prone, it is forbidden. You can clarify your code by "
            "moving both the view and the inplace either both inside the no_grad block (if you don't want the inplace to be "
            "tracked) or both outside (if you want the inplace to be tracked)."
        )
    if old.node is not None:
        words = f"Output {nr} of {name} is a view and is being modified inplace. "
    raise RuntimeError(
        words
        + "This view is the output of a function that returns multiple views. Such functions do not allow the output "
        "views to be modified inplace. You should replace the inplace operation by an out-of-place one."
    )


def _write_through(s: Storage, root, t, new: Value) -> Value:
    if root is t:
        base = s.value if s.value.node is None else detached(s.value)
    else:
        base = _root_in_storage(s, root)
    return write_view(base, new, new.aval, t._offset)


def _root_in_storage(s: Storage, root) -> Value:
    """The storage's contents as the root's part of the graph."""
    rv = value_of(root)
    if covers(s.aval, rv.aval, root._offset):
        return rv
    raw = s.value if s.value.node is None else detached(s.value)
    return write_view(raw, rv, rv.aval, root._offset)


def _in_graph(fn):
    return executor.under(True, fn)


def _refresh(t) -> Value:
    """The value of a tensor whose memory was written through another."""
    s, root = t._storage, t._base
    if root is not None:
        v = _in_graph(lambda: read_view(_root_in_storage(s, root), t._aval, t._offset))
    else:
        v = detached(read_view(detached(s.value), t._aval, t._offset))
        old = t._old
        if old is not None:
            v = tag(v, old.node) if old.node.kind == 1 else with_data(old, v)
            t._old = None
    t._value = v
    return v


def _dirty(v: Value, t, marked: bool = True) -> None:
    """Leaves word on a value that its tensor moved on, for backwards that kept it."""
    name, node = None, v.node
    if node is not None and node.kind == 2:
        name = _node_name(v)
        if node is LAZY:
            node = T.nodes.get(_step_of(v.slot))
    word = v.dirty = Modified(v.aval, version_of(t), weakref.ref(t), name, v.nr)
    if v.views is not None:
        spread(word, v)
    if v.slot >= 0:
        T.dirty[v.slot] = word
        if marked:
            executor.mark("dirty", v.slot)
    if node is not None and node is not LAZY:
        node.wrote(word)


def _node_name(v: Value, full: bool = False) -> str | None:
    """The name of the node of a value that is no leaf."""
    node: Any = v.node
    name: Any = None
    if node is LAZY:
        step = _step_of(v.slot)
        name = step.kernel.grad_name if step is not None else None
    elif node is not None and node.kind == 2:
        name = node.name().rpartition("::")[2]
    return FULL_NAMES.get(name, name) if full else name


graph.present_name = lambda t: _node_name(value_of(t), full=True)


def _step_of(slot: int):
    at = T.at
    while at.parent is not None:
        if at.slot <= slot < at.end:
            return at
        at = at.parent
    return None
