"""The autograd graph.

A `Node` holds an operation's kernel and the values its vjp reads. Nodes of recorded operations are not made when the
operation is called: the trace itself is the graph. They are made (`materialise`) when someone looks at the graph, when a
backward walks it for the first time, or when the trace ends while a value that requires grad is still held.
"""

from __future__ import annotations

import itertools
import re
import traceback
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, ClassVar

from jtorch._runtime import executor
from jtorch._runtime.dtypes import FLOATING, SCALAR_NAMES
from jtorch._runtime.executor import LAZY, Number, Step, T, Value
from jtorch._runtime.kernel import Kernel

_sequence = itertools.count()
LAST = 1 << 62

# How hooks see values: set by the tensor layer.
wrap: Callable[[Value], Any] = None  # type: ignore[assignment]
unwrap: Callable[[Any], Value] = None  # type: ignore[assignment]

FREED = (
    "Trying to backward through the graph a second time (or directly access saved tensors after they have already been "
    "freed). Saved intermediate values of the graph are freed when you call .backward() or autograd.grad(). Specify "
    "retain_graph=True if you need to backward through the graph a second time or if you need to access saved tensors "
    "after calling backward."
)


class RemovableHandle:
    """What registering a hook gives back: `remove()` takes the hook away; also a context manager."""

    __module__ = "jtorch.utils.hooks"
    _next = itertools.count()

    def __init__(self, hooks: dict, *, extra_dict: Any = None):
        self.id = next(RemovableHandle._next)
        self._hooks = weakref.ref(hooks) if isinstance(hooks, weakref.ReferenceType | OrderedDict) else (lambda: hooks)
        self._extra = () if extra_dict is None else (extra_dict if isinstance(extra_dict, list) else [extra_dict])

    def remove(self) -> None:
        """Removes the hook; again is no error."""
        hooks = self._hooks()
        if hooks is not None:
            hooks.pop(self.id, None)
        for extra in self._extra:
            extra.pop(self.id, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exc) -> None:
        self.remove()


# Of a node's attributes those that torch's have, too.
_SHOWN = frozenset(
    ("metadata", "name", "next_functions", "register_hook", "register_prehook", "requires_grad", "_sequence_nr")
)


class Edges:
    """What every kind of node has: edges to the nodes of its inputs, hooks, a name, metadata."""

    kind = 2
    __slots__ = (
        "__weakref__", "_metadata", "edges", "n_outputs", "post_hooks", "pre_hooks", "retain", "sequence", "tensor_hooks"
    )  # fmt: skip

    def __init__(self, edges, n_outputs: int):
        self.edges = edges
        self.n_outputs = n_outputs
        self.sequence = next(_sequence)
        self.pre_hooks = self.post_hooks = self.tensor_hooks = self.retain = self._metadata = None
        if anomaly.on:
            self._metadata = {"traceback_": traceback.format_stack()[:-1]}

    def name(self) -> str:
        """The name that torch prints: `AddBackward0`."""
        return type(self).__name__

    @property
    def metadata(self) -> dict:
        """A dict for whatever the user wants to keep with the node."""
        if self._metadata is None:
            self._metadata = {}
        return self._metadata

    @property
    def next_functions(self) -> tuple:
        """The nodes of the inputs, each with the number of its output."""
        return tuple(self.all_places([(None, 0) if e is None else e for e in self.edges], (None, 0)))

    def all_places(self, entries, missing) -> list:
        """One entry for each place that torch's node has: `missing` where an operation was given a number."""
        return list(entries)

    def own_places(self, entries) -> list:
        """The inverse: one entry for each edge."""
        return list(entries)

    def register_hook(self, fn) -> RemovableHandle:
        """Calls `fn(grad_inputs, grad_outputs)` after the node ran; a tuple that it returns replaces grad_inputs."""
        if self.post_hooks is None:
            self.post_hooks = {}
        handle = RemovableHandle(self.post_hooks)
        self.post_hooks[handle.id] = fn
        observe()
        return handle

    def register_prehook(self, fn) -> RemovableHandle:
        """Calls `fn(grad_outputs)` before the node runs; a tuple that it returns replaces grad_outputs."""
        if self.pre_hooks is None:
            self.pre_hooks = {}
        handle = RemovableHandle(self.pre_hooks)
        self.pre_hooks[handle.id] = fn
        observe()
        return handle

    def add_tensor_hook(self, nr: int, fn) -> RemovableHandle:
        """A hook on the gradient of one output, run once that is complete."""
        if self.tensor_hooks is None:
            self.tensor_hooks = {}
        hooks = self.tensor_hooks.setdefault(nr, {})
        handle = RemovableHandle(hooks)
        hooks[handle.id] = fn
        observe()
        return handle

    def __call__(self, *grads):
        """The gradients of the inputs from those of the results."""
        made = self.apply([None if g is None else unwrap(g) for g in grads])
        found = tuple(self.all_places([None if v is None else wrap(v) for v in made], None))
        return found[0] if len(found) == 1 else found

    requires_grad = True

    def _sequence_nr(self) -> int:
        """The node's place in the order that nodes were made in."""
        return self.sequence

    def _saved_names(self) -> list[str]:
        """What is kept, by torch's names."""
        return []

    def __dir__(self) -> list[str]:
        return [*(n for n in object.__dir__(self) if n in _SHOWN or n.startswith("__")), *self._saved_names()]

    def release(self) -> None:
        """Drops what is kept for the backward."""

    def wrote(self, word: Modified) -> None:
        """Takes note of an in-place write on one of the results."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} object at {id(self):#x}>"


class Anomaly:
    """Whether anomaly detection is on: where nodes were made is then kept, and gradients may be looked at for NaN."""

    def __init__(self):
        self.on = False
        self.check_nan = True
        self.deferred = False  # the execution mode to go back to


anomaly = Anomaly()
# Whose numbers torch keeps as tensors: a second backward finds them freed.
_KEEPS_NUMBERS = frozenset(("mul", "multiply", "div", "divide", "true_divide"))
FULL_NAMES = {name: f"torch::autograd::{name}" for name in ("CopySlices", "CopyBackwards")}


def keeps(kernel: Kernel, needs: tuple[bool, ...]) -> bool:
    """Whether a kernel's backward keeps anything that freeing the graph drops."""
    return any(kernel.reads(needs)) or (bool(kernel.numbers) and kernel.name in _KEEPS_NUMBERS)


class Node(Edges):
    """The backward of one operation. Each `grad_fn` name has a class of its own, made at its first use."""

    __slots__ = ("kernel", "modified", "needs", "numbers", "own", "saved")

    def __init__(self, kernel: Kernel, edges, needs, saved, numbers):
        super().__init__(edges, len(kernel.out))
        self.kernel, self.needs, self.saved, self.numbers = kernel, needs, saved, numbers
        self.modified = None  # the in-place write on a result that the backward needs
        self.own = None  # the in-place write that this operation itself is: the value before it is kept, not the memory

    def name(self) -> str:
        name = self.kernel.grad_name
        return FULL_NAMES.get(name, name)

    def all_places(self, entries, missing) -> list:
        places = self.kernel.places
        return list(entries) if places is None else [missing if i is None else entries[i] for i in places]

    def own_places(self, entries) -> list:
        places = self.kernel.places
        if places is None:
            return list(entries)
        own = [None] * len(self.edges)
        for entry, i in zip(entries, places, strict=True):
            if i is not None:
                own[i] = entry
        return own

    def release(self) -> None:
        if self.saved is not None and keeps(self.kernel, self.needs):
            self.saved = None

    def wrote(self, word: Modified) -> None:
        self.modified = word

    def __getattr__(self, name: str):
        if name.startswith("_saved_"):
            return saved_attribute(self, name.removeprefix("_saved_").removeprefix("_raw_"))
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def _saved_names(self) -> list[str]:
        kernel, saved = self.kernel, self.saved or ()
        names = {n for n, s in zip(kernel.names or (), saved, strict=False) if s is not None}
        if kernel.saves_output:
            names = (names if kernel.saves_both else set()) | {"result"}
        names |= {n for n, setting in (kernel.settings or {}).items() if setting != ("s", None)}
        return sorted(f"_saved_{n}" for n in names)

    def _check_unwritten(self) -> None:
        """RuntimeError where what the backward reads was written in place since."""
        kernel, saved = self.kernel, self.saved or ()
        if kernel.saves_output:
            if self.modified is not None:
                raise modified_error(self.modified, output=True)
            if not kernel.saves_both:
                return
        written = [i for i, v in enumerate(saved) if v is not None and v.dirty is not None and v.dirty is not self.own]
        if written:
            # torch looks at what it kept in the order of the names.
            names = kernel.names or ("",) * len(saved)
            raise modified_error(saved[min(written, key=names.__getitem__)].dirty)

    def apply(self, cts: list[Value | None]) -> list[Value | None]:
        """The gradients of the inputs, None where there is none."""
        if self.saved is None:
            raise RuntimeError(FREED)
        if not mutation_allowed:
            self._check_unwritten()
        given = tuple([ct is not None for ct in cts])
        kernel, used = self.kernel.vjp(self.needs, given)
        values = [unpack(s) for s, u in zip(self.saved, used, strict=True) if u] + [ct for ct in cts if ct is not None]
        made = executor.record(kernel, values, self.numbers)
        if self.own is not None and T.grad:
            self.own.spare(made[0])  # the gradient's own backward reads the value before the write, too
        if kernel.dead:
            made = [None if dead else g for g, dead in zip(made, kernel.dead, strict=True)]
        grads = iter(made)
        return [next(grads) if need else None for need in self.needs]


class Underived(Edges):
    """The node of an operation that has no derivative: a backward that comes to it raises."""

    __slots__ = ("what",)

    def __init__(self, edges, what: str):
        super().__init__(edges, 1)
        self.what = what

    def apply(self, cts):
        raise NotImplementedError(f"the derivative for '{self.what}' is not implemented.")


def underived(v: Value, what: str, name: str) -> Underived:
    """A node called `name` for what has no derivative with respect to a value."""
    return type(name, (Underived,), {"__slots__": ()})(((node_of(v), v.nr),), what)


_CLASSES: dict[str, type[Node]] = {}


def new_node(kernel: Kernel, edges, needs, saved, numbers) -> Node:
    """A node of the class that its name asks for."""
    cls = _CLASSES.get(kernel.grad_name)
    if cls is None:
        cls = _CLASSES[kernel.grad_name] = type(kernel.grad_name, (Node,), {"__slots__": ()})
    return cls(kernel, edges, needs, saved, numbers)


def saved_attribute(node: Node, name: str):
    """`grad_fn._saved_<name>`: a tensor argument of the operation, or its result, as far as the backward keeps it."""
    if node.saved is None:
        raise RuntimeError(FREED)
    kernel = node.kernel
    if name in ("result", "result0") and kernel.saves_output and all(s is not None for s in node.saved):
        return wrap(executor.record(kernel, [unpack(s) for s in node.saved], node.numbers)[0])
    if name == "indices" and len(kernel.out) == 2 and all(s is not None for s in node.saved):
        return wrap(executor.record(kernel, [unpack(s) for s in node.saved], node.numbers)[1])
    place = kernel.names.index(name) if kernel.names is not None and name in kernel.names else -1
    if place < 0 and name == "self" and node.saved:
        place = 0
    if place < 0:
        settings = settings_of(node)
        if name in settings:
            return settings[name]
    if place < 0 or place >= len(node.saved) or node.saved[place] is None:
        raise AttributeError(f"'{type(node).__name__}' object has no attribute '_saved_{name}'")
    return wrap(unpack(node.saved[place]))


def settings_of(node: Node) -> dict[str, Any]:
    """What an operation was called with besides tensors, and the shape of its first one, under torch's names."""
    kernel = node.kernel
    found: dict[str, Any] = {}
    numbers = iter(node.numbers)
    for name, (tag, setting) in (kernel.settings or {}).items():
        found[name] = next(numbers).value if tag in ("f", "i") else setting
    if kernel.inputs:
        found["self_sym_sizes"] = tuple(kernel.inputs[0].shape)
        found["self_sym_numel"] = kernel.inputs[0].numel
    return found


class AccumulateGrad(Edges):
    """The end of the graph at a leaf: adds what arrives to the tensor's grad."""

    kind = 1
    __slots__ = ("post_accumulate", "tensor")

    def __init__(self, tensor):
        super().__init__((), 1)
        self.tensor = weakref.ref(tensor)
        self.sequence = LAST  # of all that is ready it runs first
        self.post_accumulate = None

    def name(self) -> str:
        return "torch::autograd::AccumulateGrad"

    @property
    def variable(self):
        """The leaf itself."""
        return self.tensor()

    def apply(self, cts: list[Value | None]) -> list:
        if cts[0] is not None:
            accumulate(self, cts[0])
        return []


accumulate: Callable[..., None] = None  # type: ignore[assignment]  # set by the tensor layer


present_name: Callable[[Any], str | None] = None  # type: ignore[assignment]  # set by the tensor layer


class Modified:
    """An in-place write that came after a value was made: the tensor's version then, and the tensor, which knows it now.

    by: (epoch, slot) of each operation whose backward may go on using the value before: the one whose own the write is,
        and its gradients.
    name: of the node that the value had. view: whether the value is a view of the one that was written.
    """

    __slots__ = ("aval", "by", "expected", "name", "nr", "tensor", "view")

    def __init__(self, aval, expected: int, tensor: weakref.ref, name: str | None, nr: int, view: bool = False):
        self.aval, self.expected, self.tensor, self.name, self.nr, self.view = aval, expected, tensor, name, nr, view
        self.by: tuple = ()

    def spare(self, made: Value) -> None:
        """Lets the backward of the operation that made a value go on using what was there before the write."""
        if isinstance(made.node, Node):
            made.node.own = self
        elif made.slot >= 0:
            self.by = *self.by, (T.epoch, made.slot)

    def version(self) -> int:
        """The tensor's version now."""
        t = self.tensor()
        return self.expected + 1 if t is None else t._version

    def now(self) -> str | None:
        """The name of the tensor's node now."""
        t = None if self.view else self.tensor()
        return None if t is None else present_name(t)

    def of_view(self, view: Value) -> Modified:
        """The same write as one on a view of the value."""
        word = Modified(view.aval, self.expected, self.tensor, "AsStridedBackward0", 0, True)
        word.by = self.by
        return word

    def again(self, epoch) -> Modified:
        """The same word in another trace that took the same way."""
        word = Modified(self.aval, self.expected, self.tensor, self.name, self.nr, self.view)
        word.by = tuple([(epoch, slot) for _, slot in self.by])
        return word


class Overwritten:
    """The writes of one operation over many leaves, in what slots their values were; few are ever asked for."""

    __slots__ = ("fresh", "slots", "targets", "versions")

    def __init__(self, slots: list[int], fresh: list[Value], targets, versions: list[int]):
        self.slots, self.fresh, self.targets, self.versions = slots, fresh, targets, versions

    def word(self, slot: int) -> Modified:
        """What is to be known of one of them."""
        i = self.slots.index(slot)
        return Modified(self.fresh[i].aval, self.versions[i], weakref.ref(self.targets[i]), None, 0)


def word_at(slot: int) -> Modified | None:
    """What is known of the write that made the value in a slot out of date."""
    word = T.dirty.get(slot)
    if type(word) is Overwritten:
        word = T.dirty[slot] = word.word(slot)
    return word


def modified_error(m: Modified, output: bool = False) -> RuntimeError:
    """The error for a backward that needs what was overwritten: an operation's result, or what it read."""
    kind = SCALAR_NAMES[m.aval.dtype]
    name = m.name if output else m.now() or m.name
    where = f", which is output {m.nr} of {re.sub(r'Backward[0-9]*$', '', name)}," if name else ""
    hint = (
        "the backtrace further above shows the operation that failed to compute its gradient. The variable in question was "
        "changed in there or anywhere later. Good luck!"
        if anomaly.on
        else "enable anomaly detection to find the operation that failed to compute its gradient, with "
        "torch.autograd.set_detect_anomaly(True, check_nan=False)."
    )
    return RuntimeError(
        "one of the variables needed for gradient computation has been modified by an inplace operation: "
        f"[torch.{kind}Tensor {list(m.aval.shape)}]{where} is at version {m.version()}; expected version "
        f"{m.expected} instead. Hint: {hint}"
    )


mutation_allowed = False  # a backward then takes the values that it kept, whatever was written since


def viewed(base: Value, view: Value) -> None:
    """Notes that a value is a view of another: what is written there later is written here, too."""
    views = base.views
    if views is None:
        views = base.views = []
    if len(views) >= 8:
        views[:] = [r for r in views if r() is not None]
    views.append(weakref.ref(view))


def spread(word: Modified, v: Value) -> None:
    """Leaves word of a write on the views of a value."""
    for r in v.views or ():
        view = r()
        if view is not None:
            if view.dirty is None:
                view.dirty = word.of_view(view)
            spread(word, view)


# Saved-tensor hooks (pack, unpack) pairs, innermost last.
saved_hooks: list[tuple[Callable, Callable]] = []


class Packed:
    """A saved value that a user's pack hook turned into something else."""

    __slots__ = ("dirty", "packed", "unpack")

    def __init__(self, packed, unpack):
        self.packed, self.unpack, self.dirty = packed, unpack, None


def pack(v: Value):
    """What a node keeps of a value: itself, or what the user's hook makes of it."""
    if saved_hooks:
        packer, unpacker = saved_hooks[-1]
        return Packed(packer(wrap(v)), unpacker)
    return v


def unpack(s) -> Value:
    """The value of what a node keeps."""
    if type(s) is not Packed:
        return s
    t = s.unpack(s.packed)
    if not hasattr(t, "_value"):
        raise TypeError(
            f"Output of saved tensor unpack_hook expected to be a Tensor but got result of type {type(t).__name__}"
        )
    return unwrap(t)


leaves_hooked = False  # whether any leaf ever had a hook: backwards then look at each


def observe() -> None:
    """Notes that somebody looks at this trace's graph: its backward must walk the nodes."""
    global leaves_hooked
    T.observed = leaves_hooked = True


# ---- nodes of recorded operations ------------------------------------------------------------------------------------


def node_of(v: Value):
    """The graph node of a value, made now if it is only in the trace."""
    if v.node is LAZY:
        materialise([v])
    return v.node


def materialise(values: list[Value]) -> bool:
    """Makes the nodes of LAZY values, and of all they hang on in this trace. False if none of them keeps anything."""
    with executor.lock:  # another thread may look at the graph while its owner records
        return _materialise([v for v in values if v.node is LAZY])


def _materialise(values: list[Value]) -> bool:
    pending = []
    for v in values:
        for freed in T.freed:
            step = freed.get(v.slot)
            if step is not None:
                _attach(v, freed_node(T.freed, v.slot), v.slot - step.slot)
                break
        else:
            pending.append(v)
    if not pending:
        return False
    producers = {}
    for s in executor.path(T.at):
        for slot in range(s.slot, s.end):
            producers[slot] = s
    missing: dict[int, Step] = {}
    stack = [producers[v.slot] for v in pending]
    while stack:
        s = stack.pop()
        if s.slot in missing or s in T.nodes:
            continue
        missing[s.slot] = s
        if any(s.slot in freed for freed in T.freed):
            continue
        for i in s.ins:
            p = producers[i]
            if i not in T.nodes_in and p.kernel is not None and p.outs[i - p.slot][1] is LAZY:
                stack.append(p)
    for slot in sorted(missing):
        s = missing[slot]
        freed = any(slot in f for f in T.freed)
        if freed:
            _freed_node(s)
        else:
            T.nodes[s] = _make(s, producers)
    for v in pending:
        s = producers[v.slot]
        _attach(v, T.nodes[s], v.slot - s.slot)
    return True


def _attach(v: Value, node, nr: int) -> None:
    v.node = node
    if nr:
        v.nr = nr


class FreedNode(Node):
    """The node of an operation whose graph a backward has freed before anyone looked at it.

    Most are never looked at, so their edges are worked out when somebody does.
    """

    __slots__ = ("_edges", "_family", "_inputs", "_numbers", "_step")
    _classes: ClassVar[dict[str, type[FreedNode]]] = {}

    def __new__(cls, step: Step, *args) -> FreedNode:
        name = step.kernel.grad_name
        found = cls._classes.get(name)
        if found is None:
            found = cls._classes[name] = type(name, (FreedNode,), {"__slots__": ()})
        return object.__new__(found)

    def __init__(self, step: Step, family: dict, inputs: dict, numbers: dict):
        self._step, self._family, self._inputs, self._numbers = step, family, inputs, numbers
        self._edges = None
        super().__init__(step.kernel, None, None, None, ())

    @property
    def edges(self):
        """The edges, and what follows from them."""
        if self._edges is None:
            s = self._step
            producers = {slot: p for p in executor.path(s) for slot in range(p.slot, p.end)}
            edges = []
            for i, a in zip(s.ins, s.kernel.inputs, strict=True):
                p = producers[i]
                edge = None
                if a.dtype.category >= FLOATING:
                    if i in self._inputs:
                        edge = self._inputs[i]
                    elif p.kernel is not None and p.outs[i - p.slot][1] is LAZY:
                        if p not in self._family:
                            self._family[p] = FreedNode(p, self._family, self._inputs, self._numbers)
                        edge = self._family[p], i - p.slot
                edges.append(edge)
            self._edges = tuple(edges)
            self.needs = tuple([e is not None for e in edges])
            if not keeps(s.kernel, self.needs):
                self.saved = [None] * len(edges)
                self.numbers = [Number(self._numbers[i], k) for k, i in s.numbers]
        return self._edges

    @edges.setter
    def edges(self, value) -> None:
        pass

    def apply(self, cts):
        self.edges  # noqa: B018  (works out what is kept)
        return super().apply(cts)


def _freed_node(step: Step) -> Node:
    # Its relatives go by a table of their own: T's would keep alive what was not freed.
    node = T.nodes[step] = FreedNode(step, {}, T.nodes_in, T.numbers)
    return node


def freed_step(freed: list, slot: int) -> Step:
    """The step of a value in a trace whose graph a backward has freed."""
    step = None
    for steps in freed:
        step = steps.get(slot, step)
    assert step is not None
    return step


def freed_node(freed: list, slot: int) -> Node:
    """The node of such a value."""
    step = freed_step(freed, slot)
    return T.nodes.get(step) or _freed_node(step)


def _edge(slot: int, producers):
    held = T.nodes_in.get(slot)
    if held is not None:
        return held
    p = producers[slot]
    if p.kernel is not None and p.outs[slot - p.slot][1] is LAZY:
        return T.nodes[p], slot - p.slot
    return None


def _make(step: Step, producers) -> Node:
    kernel = step.kernel
    edges = tuple([
        _edge(i, producers) if a.dtype.category >= FLOATING else None for i, a in zip(step.ins, kernel.inputs, strict=True)
    ])  # fmt: skip
    needs = tuple([e is not None for e in edges])
    reads = kernel.reads(needs)
    saved = [pack(_saved_at(i, producers)) if r else None for i, r in zip(step.ins, reads, strict=True)]
    numbers = [Number(T.numbers[i], k, i, T.epoch) for k, i in step.numbers]
    node = new_node(kernel, edges, needs, saved, numbers)
    if kernel.saves_output:
        node.modified = word_at(step.slot)
    for v in saved:
        if v is not None and v.dirty is not None and (T.epoch, step.slot) in v.dirty.by:
            node.own = v.dirty
    return node


def _saved_at(slot: int, producers) -> Value:
    """The value in a slot that a backward keeps. Of a view also what was written to its base counts."""
    v = _value_at(slot, producers)
    p, view = producers[slot], v
    while p.kernel is not None and p.kernel.memory == "view":
        base = p.ins[0]
        word = word_at(base)
        if word is not None and v.dirty is None:
            v.dirty = word.of_view(v)
        held = _known(base)
        if held is None:
            break
        viewed(held, view)
        p, view = producers[base], held
    return v


def _value_at(slot: int, producers) -> Value:
    """The value in a slot, made anew where the trace did not keep one."""
    v = _known(slot)
    if v is not None:
        node = T.nodes.get(producers[slot]) if v.node is LAZY else None
        if node is not None:  # that only a node holds it does not count: it would be left without its own
            _attach(v, node, slot - producers[slot].slot)
    else:
        p = producers[slot]
        a, node = p.outs[slot - p.slot]
        v = Value(a, slot)
        if p.kind == "in":
            v.array = T.arrays[slot]
            T.entered[slot] = weakref.ref(v)
        else:
            T.made[slot] = v
        held = T.nodes_in.get(slot)
        if held is not None:
            v.node, v.nr = held
        elif p.kernel is not None and node is LAZY:
            v.node = T.nodes.get(p, LAZY)
            if slot != p.slot:
                v.nr = slot - p.slot
        v.dirty = word_at(slot)
    return v


def _known(slot: int) -> Value | None:
    v = T.made.get(slot)
    if v is None and slot in T.entered:
        v = T.entered[slot]()
    return v


def written_by(old: Value, new: Value) -> None:
    """Notes that the write which made `old` out of date is the operation that made `new` of it.

    That operation's backward may go on using the value before.
    """
    if old.dirty is not None:
        old.dirty.spare(new)


def make_node(kernel: Kernel, values, numbers, results: list[Value]) -> None:
    """Gives the results of a kernel that ran at once their node."""
    edges = []
    for v in values:
        node = node_of(v) if v.aval.dtype.category >= FLOATING else None
        edges.append(None if node is None else (node, v.nr))
    needs = tuple([e is not None for e in edges])
    saved = [pack(v) if r else None for v, r in zip(values, kernel.reads(needs), strict=True)]
    kept = [n if type(n) is Number else Number(n, k) for n, k in zip(numbers, kernel.numbers, strict=True)]
    node = new_node(kernel, tuple(edges), needs, saved, kept)
    for nr, v in enumerate(results):
        if v.aval.dtype.category >= FLOATING:
            _attach(v, node, nr)


executor.materialise = materialise
executor.make_node = make_node
executor.viewed = viewed
