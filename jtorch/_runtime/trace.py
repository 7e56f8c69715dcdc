"""What is being recorded: values that may be pending, and the trie of traces whose steps make them.

Each call of an operation takes one step in the trie. `T` says where the trace is, and holds what belongs to this pass
through it; everything static about a value follows from the path, and is remembered on the step.
"""

from __future__ import annotations

import itertools
import os
import threading
import weakref
from collections import deque
from typing import Any

from jtorch._runtime import counts, kernel
from jtorch._runtime.avals import Aval, of_array
from jtorch._runtime.jax_internals import usual

ref = weakref.ref
get_ident = threading.get_ident
thread_modes: dict[int, tuple[bool, bool]] = {}  # grad and inference mode of threads that do not own the trace
HOT = 2  # the visit at which a trace is compiled whole


class _Lazy:
    """The node of a value whose graph is still only in the trace."""

    kind = 2

    def __repr__(self):
        return "<lazy node>"


LAZY = _Lazy()
INFERENCE = -3  # the slot of a value in no trace that inference_mode made: such can't be part of a graph
NUMBERS = 32  # more run-time numbers than any one operation takes


class Value:
    """An immutable array that may be pending.

    array: the jax array (or tracer) once there is one; a NumPy array that nobody writes to while it is small and new.
    node: what computes its gradient: None where it needs none, LAZY while that is only in the trace.
    nr: which output of `node` this is.
    slot: its place in the trace that is recorded; negative where it is in none, INFERENCE for what inference_mode made.
    dirty: set when the tensor that held it was written in place since; says which version it was.
    lent: how many programs took its NumPy array.
    views: weak references to the values that are views of it.
    """

    dirty = None
    lent = 0
    views = None
    nr = 0
    __slots__ = ("__dict__", "__weakref__", "array", "aval", "node", "slot")

    def __init__(self, aval: Aval, slot: int = -1, node=None):
        self.aval = aval
        self.slot = slot
        self.node = node
        self.array: Any = None


def of(array, node=None) -> Value:
    """A value that is there already."""
    array = usual(array)
    value = Value(of_array(array), INFERENCE if T.inference else -1, node)
    value.array = array
    return value


class Step:
    """A node of the trie, reached by exactly one sequence of steps before it.

    kernel is None for inputs and marks. `slot` is the first output's; `aval` and `node` are those of the only one, for
    the fast paths.
    """

    __slots__ = (
        "aval", "children", "compiled", "depth", "end", "extra", "grad", "inference", "ins", "jumps", "kernel", "kind", "marked", "node",
        "numbers", "opening", "outs", "parent", "programs", "slot", "tainted",
    )  # fmt: skip

    def __init__(self, parent, kind, kernel=None, ins=(), numbers=(), outs=()):
        self.children: dict = {}
        self.programs: dict = {}
        self.jumps: dict = {}
        self.kernel: Any = kernel  # a Kernel wherever there are results
        self.parent, self.kind, self.ins, self.numbers, self.outs = parent, kind, ins, numbers, outs
        self.slot = parent.end if parent is not None else 0
        self.end = self.slot + len(outs)  # slots in use after this step
        self.depth = parent.depth + 1 if parent is not None else 0
        self.aval, self.node = outs[0] if len(outs) == 1 else (None, None)
        # The first kernel of the trace.
        self.opening = kernel if parent is None or parent.opening is None else parent.opening
        # Whether what is recorded below is differentiable: a fact of the path, whatever interrupts a change of mode.
        self.grad = None if parent is None else parent.grad
        self.inference = parent is not None and parent.inference
        self.marked = False  # whether the results are tensors of inference_mode
        self.tainted = parent is not None and parent.tainted  # whether any results so far are
        self.extra = None
        self.compiled = False  # whether a trace that goes through here was compiled whole

    def root(self) -> Step:
        """The step without a parent that this one is below of."""
        at = self
        while at.parent is not None:
            at = at.parent
        return at

    def mark(self) -> None:
        """Notes that the results are tensors of inference_mode."""
        self.marked = self.tainted = True


class Trace:
    """What is being recorded. One at a time; `lock` is held while it runs."""

    __slots__ = (
        "_modes", "arrays", "at", "device", "dirty", "done", "eager", "entered", "epoch", "freed", "made", "nodes", "nodes_in",
        "numbers", "observed", "observer", "owner", "patience", "pending", "program", "read", "region", "roots",
    )  # fmt: skip

    def __init__(self):
        self.owner = get_ident()
        self._modes = (True, False)
        self.eager = os.environ.get("JTORCH_EXECUTION", "deferred") == "eager"
        self.done: deque = deque()
        # The profile that is on, told of every run: `run(execute, end, slots)` runs a trace, `kernel(kernel, args)` one kernel.
        self.observer: Any = None
        self.region: Any = None  # what `jtorch.compile` keeps together: told of each sync, by `cut(why)`
        self.program: Any = None  # the one that ran last
        self.new_trie()
        self.reset()

    @property
    def modes(self) -> tuple[bool, bool]:
        """Whether gradients are recorded, and whether inference_mode is on: each thread has modes of its own."""
        me = get_ident()
        return self._modes if me == self.owner else thread_modes.get(me, (True, False))

    @modes.setter
    def modes(self, modes: tuple[bool, bool]) -> None:
        me = get_ident()
        if me == self.owner:
            self._modes = modes
        else:
            thread_modes[me] = modes

    @property
    def grad(self) -> bool:
        """Whether gradients are recorded."""
        return (self._modes if get_ident() == self.owner else self.modes)[0]

    @property
    def inference(self) -> bool:
        """Whether what is made are tensors of inference_mode."""
        return (self._modes if get_ident() == self.owner else self.modes)[1]

    def new_trie(self):
        self.read: weakref.WeakSet = weakref.WeakSet()  # nodes of leaves that compiled traces read and did not write
        # A step without children sends every operation to `record`: in the eager mode, and while a run is on.
        self.roots: dict = {None: Step(None, "eager")}
        for mode in itertools.product((True, False), repeat=2):
            self.roots[mode] = root = Step(None, "root")
            root.grad, root.inference = mode

    def reset(self):
        # All by slot, so that a signal between two statements leaves an entry too many at worst, never a shift.
        self.made: dict[int, Value] = {}  # slot -> what was made here; `held` tells who else has it
        self.entered: dict = {}  # slot of an input -> weak reference to its value
        self.arrays: dict = {}  # slot of an input -> its array
        self.numbers: dict = {}  # NUMBERS * slot of a step + place -> run-time number
        self.nodes_in: dict = {}  # slot -> (node, output number) where the value holds its node itself
        self.nodes: dict = {}  # step -> node, where one was made
        self.freed: list = []  # {slot: step} whose graph a backward has freed
        self.dirty: dict = {}  # slot -> what is known of the in-place write that came after
        self.device = None  # where the trace runs, once something says so
        self.observed = False  # somebody looks at the graph of this trace
        self.patience = HOT  # the visit at which this trace is compiled whole
        self.pending: Any = None  # (end, slots, values) of a run that has begun and is not done
        self.epoch = object()
        self.done.clear()
        # Last: until then a flush that was interrupted is begun again.
        self.at = self.roots[None if self.eager else self._modes]


T = Trace()
BUSY = Step(None, "busy")  # where the trace is while it runs
lock = threading.RLock()
stats = kernel.tally = counts.stats
LOG = {part.strip() for part in os.environ.get("JTORCH_LOG", "").split(",")}


def path(end: Step) -> list[Step]:
    """The steps from the root to `end`."""
    steps, at = [], end
    while at.parent is not None:
        steps.append(at)
        at = at.parent
    steps.reverse()
    return steps
