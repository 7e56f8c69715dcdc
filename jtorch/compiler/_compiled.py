"""Compiled functions and modules: when to record, when to watch, when to replay."""

from __future__ import annotations

import copy
import functools
import os
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import jax

from jtorch._runtime import executor
from jtorch._runtime.executor import T
from jtorch._runtime.jax_internals import outside_traces
from jtorch._tensor import placing
from jtorch._tensor.methods import user_state
from jtorch.compiler import _resident, _state
from jtorch.compiler._replay import Recording, Replay
from jtorch.compiler._resident import Resident
from jtorch.compiler._state import Entry, Opaque, State
from jtorch.compiler._tree import Tree
from jtorch.compiler._watch import Watch, user_line
from jtorch.nn import Module

_LOG = {part.strip() for part in os.environ.get("JTORCH_LOG", "").split(",")}
_all: weakref.WeakSet[Compiled] = weakref.WeakSet()
_disabled = [0]
KEPT = 16  # replays of one function that are kept, for arguments of one kind
KINDS = 64  # of arguments: past that the oldest go
ATTEMPTS = 32  # watched calls without a replay in between, after which watching is given up


class Unsupported(RuntimeError):
    """A function compiled with fullgraph=True needs a value on the host, or more operations than one trace may have."""


_told: set[str] = set()


def _tell(what: str) -> None:
    if what not in _told:
        _told.add(what)
        print(f"jtorch: {what}", file=sys.stderr)


class _Region:
    """A compiled function that runs: its operations stay in one trace, whatever would cut it otherwise."""

    def __init__(self, name: str, fullgraph: bool):
        self.name, self.fullgraph = name, fullgraph
        self.breaks = 0
        self.stepped = False  # an optimizer's step ran: the trace ends with the call

    def cut(self, why: str) -> None:
        """Told by the executor of a sync in the middle."""
        if self.fullgraph:
            raise Unsupported(
                f"{self.name} was compiled with fullgraph=True, but {why} at {user_line()}. Values in the middle of a "
                "compiled function break its graph in two: compute with tensors, move the line out of the function, or "
                "leave fullgraph out."
            )
        self.breaks += 1
        if "graph_breaks" in _LOG:
            _tell(f"{self.name} breaks its graph at {user_line()}: {why}")


class Compiled:
    """A function that is recorded whole and, where that is safe, replayed."""

    def __init__(self, fn: Callable, fullgraph: bool = False):
        functools.update_wrapper(self, fn)
        self._fn = fn
        self._name = getattr(fn, "__qualname__", type(fn).__name__)
        self._fullgraph = fullgraph
        self.reset()
        _all.add(self)

    def reset(self) -> None:
        """Forgets what was learnt of the function."""
        self._replays: dict[Any, list[Replay]] = {}
        self._fruitless = 0  # watched calls since the last replay
        self._before: Replay | None = None  # the replay that ran last
        self._last: tuple[Any, Resident] | None = None  # it in the form that follows itself, and the arguments' key
        self._codes: dict = {}  # the user's code that runs in a call, with its globals
        self._watched = False
        self._why: str | None = None

    def __deepcopy__(self, memo) -> Compiled:
        return Compiled(copy.deepcopy(self._fn, memo), self._fullgraph)

    def __reduce__(self):
        return Compiled, (self._fn, self._fullgraph)

    def __get__(self, instance, owner=None):
        return self if instance is None else functools.partial(self, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if T.region is not None or _disabled[0] or threading.get_ident() != T.owner or not outside_traces():
            return self._fn(*args, **kwargs)
        given = Tree.of_call(args, kwargs)
        last = self._last
        if last is not None and last[0] == given.key and not T.eager:
            if T.at.parent is not None and executor.settled():
                executor.flush()  # what came before is another program
            done, result = last[1].follow(given.leaves)
            if done:
                executor.stats.replays += 1
                return result
        if any(isinstance(t._value.array, jax.core.Tracer) for t in given.leaves if t._value is not None):
            return self._fn(*args, **kwargs)
        eager = T.eager
        if eager:
            executor.set_execution("deferred")
        try:
            return self._call(given, args, kwargs)
        finally:
            if eager:
                executor.set_execution("eager")

    def _call(self, given: Tree, args: tuple, kwargs: dict) -> Any:
        found = self._replays.get(given.key)
        if executor.settled():
            executor.flush()  # what came before is another program
        for at, replay in enumerate(found or ()):
            done, result = replay.run(given.leaves)
            if done:
                T.patience = 1
                executor.stats.replays += 1
                self._fruitless = 0
                if replay.ends:
                    executor.flush()
                if at:
                    found.insert(0, found.pop(at))  # type: ignore[union-attr]
                self._settle(given, replay)
                return result
        self._last = None
        if self._fruitless >= ATTEMPTS:
            return self._record(args, kwargs, None)[0]
        self._fruitless += 1
        return self._learn(given, args, kwargs)

    def _settle(self, given: Tree, replay: Replay) -> None:
        """Has a replay that is done again and again follow itself from now on."""
        self._last = None
        if self._before is not replay:
            self._before, replay.again = replay, 0
        replay.again += 1
        if replay.again < _resident.PATIENCE or T.eager:
            return
        form = replay.resident
        if form is None or (form and form.debt > _resident.DEBT and form.packs):
            form = replay.resident = _resident.resident(replay, packing=form is None) or False
        if form:
            form.catch()
            self._last = given.key, form

    def _record(self, args: tuple, kwargs: dict, watch: Watch | None, finish: Callable | None = None):
        """Runs the function's Python, its operations as one trace."""
        executor.mark("compiled")  # so that what follows is below a step, whatever becomes of the grad mode
        T.region = region = _Region(self._name, self._fullgraph)
        T.patience = 1
        try:
            result = self._fn(*args, **kwargs) if watch is None else watch.run(self._fn, args, kwargs)
            if finish is not None:
                finish(result, region)
        finally:
            T.region = None
        T.patience = 1
        if region.stepped:
            executor.flush()
        return result, region

    def _learn(self, given: Tree, args: tuple, kwargs: dict) -> Any:
        """A watched call, and what can be learnt from it."""
        watch = Watch()
        state = self._state(given, args, kwargs)
        if state is None:  # the first time, only the code that runs is found out
            result, _ = self._record(args, kwargs, watch)
            self._note(watch)
            return result
        rates = self._rates(state)
        recording = Recording(state, given.leaves)
        recording.rates = rates
        placing.log = recording

        def finish(result, region):
            placing.log = None
            fresh = any(code not in self._codes for code in watch.codes)
            self._note(watch)
            if fresh or self._why is not None:
                return
            try:
                made = recording.replay(result, region.breaks)
            except Opaque as why:
                self._say(str(why))
                return
            finally:
                recording.release()  # what nobody else holds may be donated
            # What was pending before the call would not be run: such a replay goes on.
            alone = made.begin.parent is None
            made.ends = region.stepped and alone and not made.goes_on and not made.end.tainted
            made.others = given.others
            kept = self._replays.setdefault(given.key, [])
            kept.insert(0, made)
            del kept[KEPT:]
            if len(self._replays) > KINDS:
                self._replays.pop(next(iter(self._replays)))
            if "compile" in _LOG:
                _tell(f"{self._name} is replayed from now on")

        try:
            return self._record(args, kwargs, watch, finish)[0]
        finally:
            placing.log = None

    def _note(self, watch: Watch) -> None:
        self._watched = True
        self._codes.update(watch.codes)
        self._why = watch.reason
        if watch.reason is not None:
            self._say(watch.reason)

    def _say(self, why: str) -> None:
        if "compile" in _LOG:
            _tell(f"{self._name} is recorded at each call: {why}")

    def _state(self, given: Tree, args: tuple, kwargs: dict) -> State | None:
        """What the function can reach now; None where that isn't known or can't be told."""
        if not self._watched:
            return None
        state = State(self._codes)
        try:
            state.walk(self._fn)
            for x in given.others:
                state.walk(x)
            state.walk_code()
            if any(state.reached(t) for t in given.leaves):
                raise Opaque("it is given a tensor that it can reach by itself")
            if any(map(user_state, given.leaves)):
                raise Opaque("it is given a tensor that something was put on")
            for t in given.leaves:
                state.walk_argument(t)
            state.walk_arguments(args)
            state.walk_arguments(tuple(kwargs.values()))
        except Opaque as why:
            self._say(str(why))
            return None
        return state

    def _rates(self, state: State) -> dict[int, Entry]:
        """The learning rates of the optimizers in reach, each an object of its own so that it is known in the trace."""
        if not state.names.isdisjoint(("lr", "param_groups")):
            return {}
        found, owners = {}, state.owners()
        for optimizer in state.optimizers:
            if type(optimizer).__module__.partition(".")[0] != "jtorch" or owners[id(optimizer.param_groups)] > 1:
                continue
            for group in optimizer.param_groups:
                if type(group.get("lr")) is float and owners[id(group)] == 1:
                    group["lr"] = rate = group["lr"] + 0.0
                    state.replaced(group, "lr", rate)
                    found[id(rate)] = Entry(group, "lr")
        return found


_state.WRAPPERS.add(Compiled)


def compile(
    model: Any = None, *, fullgraph: bool = False, dynamic: bool | None = None, backend: Any = "inductor",
    mode: str | None = None, options: dict[str, Any] | None = None, disable: bool = False,
) -> Any:  # fmt: skip
    """Compiles a function or module: its operations become one program, recorded whole and replayed.

    Usable as a decorator, with and without arguments. A module gives an `OptimizedModule` around it.

    fullgraph: RuntimeError (`Unsupported`, naming the line) where a value is needed in the middle, instead of two
        programs. dynamic, backend, mode and options are checked and change nothing: there is one compiler, XLA, and
        programs are for one set of shapes. disable: gives `model` back as it is.

    Whole training steps may be compiled, `backward()` and `optimizer.step()` included; that is the fastest form.
    """
    if mode is not None and options is not None:
        raise RuntimeError("Either mode or options can be specified, but both can't be specified at the same time.")
    if mode not in (None, "default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"):
        raise RuntimeError(
            f"Unrecognized mode={mode}, should be one of: default, reduce-overhead, max-autotune, max-autotune-no-cudagraphs"
        )
    if model is None:
        return functools.partial(
            compile, fullgraph=fullgraph, dynamic=dynamic, backend=backend, mode=mode, options=options, disable=disable
        )
    if not callable(model):
        raise RuntimeError("torch.compile: expected a callable")
    if disable:
        return model
    if isinstance(model, Module):
        return OptimizedModule(model, Compiled(model, fullgraph))
    return Compiled(model, fullgraph)


class OptimizedModule(Module):
    """A module whose calls are compiled. Its state_dict has `_orig_mod.` before each key, as torch's has."""

    def __init__(self, module: Module, call: Compiled):
        super().__init__()
        self._orig_mod = module
        self.__dict__["_compiled"] = call
        self.__dict__["training"] = module.training

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The module's own call, compiled."""
        return self._compiled(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name == "_orig_mod":
            return self._modules["_orig_mod"]
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self._modules["_orig_mod"], name)

    def train(self, mode: bool = True) -> OptimizedModule:
        """Sets the training mode, of the module inside too."""
        super().train(mode)
        return self


# ---- torch.compiler --------------------------------------------------------------------------------------------------


def reset() -> None:
    """Forgets what was learnt of all compiled functions."""
    for compiled in list(_all):
        compiled.reset()


def is_compiling() -> bool:
    """Whether a compiled function's Python runs just now."""
    return T.region is not None


is_dynamo_compiling = is_compiling


def disable(fn: Callable | None = None, recursive: bool = True, *, reason: str | None = None) -> Any:
    """Makes a function run as if nothing were compiled: its operations are not kept in one trace with what is around."""
    if fn is None:
        return functools.partial(disable, recursive=recursive, reason=reason)

    @functools.wraps(fn)
    def outside(*args, **kwargs):
        region, T.region = T.region, None
        _disabled[0] += 1
        try:
            return fn(*args, **kwargs)
        finally:
            _disabled[0] -= 1
            T.region = region

    return outside


def assume_constant_result(fn: Callable) -> Callable:
    """Gives the function back: what a replay needs to know of it is found out by watching."""
    return fn


def list_backends(exclude_tags: tuple[str, ...] = ("debug", "experimental")) -> list[str]:
    """The names that `compile` takes as a backend. All mean XLA."""
    return ["inductor"]
