"""Custom differentiable functions."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from jtorch._autograd import graph
from jtorch._autograd.graph import Edges, Modified, node_of, observe
from jtorch._autograd.modes import no_grad
from jtorch._runtime.dtypes import FLOATING
from jtorch._runtime.executor import T, Value
from jtorch._tensor.base import Tensor
from jtorch._tensor.creation import zeros
from jtorch._tensor.storage import detached, tag, value_of


class FunctionCtx:
    """What a custom function's forward leaves for its backward."""

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keeps tensors for the backward, in `saved_tensors`; writes in place between the two are noticed."""
        self.to_save = tensors

    def save_for_forward(self, *tensors: Tensor | None) -> None:
        """Keeps tensors for `jvp`."""
        self.saved_for_forward = tensors

    def mark_dirty(self, *args: Tensor) -> None:
        """Says which inputs the forward wrote in place."""
        self.dirty_tensors = args

    def mark_non_differentiable(self, *args: Tensor) -> None:
        """Says which outputs have no gradient."""
        self.non_differentiable = args

    def set_materialize_grads(self, value: bool) -> None:
        """Whether missing gradients reach the backward as zeros (the default) or as None."""
        self.materialize_grads = value


class FunctionNode(Edges, FunctionCtx):
    """The ctx of one call, and its node in the graph."""

    def __init__(self, cls: type, needs: tuple[bool, ...]):
        Edges.__init__(self, (), 0)
        self._cls = cls
        self.needs_input_grad = needs
        self.materialize_grads = True
        self.to_save: tuple = ()
        self.dirty_tensors: tuple = ()
        self.non_differentiable: tuple = ()
        self.saved_for_forward: tuple = ()
        self._saved: tuple | None = ()
        self._avals: list = []
        self._places: list[int] = []

    def name(self) -> str:
        return self._cls.__name__ + "Backward"

    def __repr__(self) -> str:
        return f"<torch.autograd.function.{self.name()} object at {id(self):#x}>"

    def _keep(self, outputs: dict[int, int]) -> None:
        kept = []
        for t in self.to_save:
            if t is None:
                kept.append(None)
                continue
            if not isinstance(t, Tensor):
                raise TypeError(f"save_for_backward can only save variables, but argument 0 is of type {type(t).__name__}")
            # An output is kept without its node: that is this one, and a cycle.
            kept.append((graph.pack(detached(value_of(t)) if id(t) in outputs else value_of(t)), outputs.get(id(t))))
        self._saved = tuple(kept)
        self.to_save = ()

    @property
    def saved_tensors(self) -> tuple:
        """The tensors that `save_for_backward` was given."""
        if self._saved is None:
            raise RuntimeError(graph.FREED)
        if self.to_save:
            return tuple(self.to_save)
        found = []
        for kept in self._saved:
            if kept is None:
                found.append(None)
                continue
            s, nr = kept
            if s.dirty is not None:
                raise graph._modified_error(s.dirty)
            v = graph.unpack(s)
            if nr is not None:
                fresh = detached(v)
                v = tag(fresh, self, nr)
            found.append(graph.wrap(v))
        return tuple(found)

    saved_variables = saved_tensors

    def release(self) -> None:
        self._saved = None

    def apply(self, cts: list[Value | None]) -> list[Value | None]:
        grads = []
        for ct, a in zip(cts, self._avals, strict=True):
            if ct is None:
                grads.append(zeros(tuple(a.shape), dtype=a.dtype, device=a.device) if self.materialize_grads and a is not None else None)
            else:
                grads.append(graph.wrap(ct))
        cls = self._cls
        backward = cls.backward if cls.backward is not Function.backward else cls.vjp
        results = backward(self, *grads)
        results = results if isinstance(results, tuple | list) else (results,)
        expected = len(self.needs_input_grad)
        if len(results) > expected and all(r is None for r in results[expected:]):
            results = results[:expected]
        if len(results) != expected:
            raise RuntimeError(
                f"function {self.name()} returned an incorrect number of gradients (expected {expected}, got {len(results)})"
            )
        out: list[Value | None] = []
        for place, edge in zip(self._places, self.edges, strict=True):
            r = results[place]
            if r is None or edge is None:
                out.append(None)
                continue
            if not isinstance(r, Tensor):
                raise TypeError(f"expected Variable or None (got {type(r).__name__})")
            shape = self._inputs[len(out)].shape
            if r.shape != shape:
                if _expandable(tuple(shape), tuple(r.shape)):
                    r = r.sum_to_size(shape) if hasattr(r, "sum_to_size") else r
                if r.shape != shape:
                    raise RuntimeError(
                        f"Function {self.name()} returned an invalid gradient at index {place} - got {list(r.shape)} but "
                        f"expected shape compatible with {list(shape)}"
                    )
            dtype = self._inputs[len(out)].dtype
            out.append(value_of(r.to(dtype) if r.dtype is not dtype else r))
        return out


def _expandable(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    lead = len(to) - len(shape)
    return lead >= 0 and all(n in (1, to[lead + i]) for i, n in enumerate(shape))


class _FunctionMeta(type):
    pass


class Function(metaclass=_FunctionMeta):
    """A function with a gradient of its own: static `forward(ctx, ...)` (or `forward(...)` and `setup_context`) and
    `backward(ctx, *grads)`; called as `F.apply(...)`."""

    def __init__(self, *args, **kwargs):
        raise RuntimeError(
            f"{type(self)} should not be instantiated. Methods on autograd functions are all static, so you should invoke "
            "them on the class itself. Instantiating an autograd function will raise an error in a future version of "
            "PyTorch."
        )

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        """The computation. To be overridden."""
        raise NotImplementedError("You must implement the forward function for custom autograd.Function.")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Any) -> Any:
        """Leaves things for the backward, where `forward` takes no ctx."""
        raise NotImplementedError("setup_context is not implemented.")

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        """The gradients of the inputs from those of the outputs. To be overridden."""
        raise NotImplementedError(
            "You must implement either the backward or vjp method for your custom autograd.Function to use it with "
            "backward mode AD."
        )

    vjp = backward

    @staticmethod
    def jvp(ctx: Any, *grad_inputs: Any) -> Any:
        """The tangents of the outputs. To be overridden."""
        raise NotImplementedError("You must implement the jvp function for custom autograd.Function to use it with forward mode AD.")

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        """Calls the function, as one node of the graph."""
        tensors = [(i, a) for i, a in enumerate(args) if isinstance(a, Tensor)]
        needs = tuple(isinstance(a, Tensor) and a.requires_grad for a in args)
        node = FunctionNode(cls, needs)
        record = T.grad and any(needs)
        # Before the forward runs: it may write its inputs in place.
        edges = []
        for _, t in tensors:
            v = value_of(t)
            n = node_of(v) if record and v.aval.dtype.category >= FLOATING else None
            edges.append(None if n is None else (n, v.nr))
        node._inputs = [value_of(t).aval for _, t in tensors]  # type: ignore[attr-defined]
        with no_grad():
            if cls.setup_context is not Function.setup_context:
                output = cls.forward(*args, **kwargs)
                cls.setup_context(node, args, output)
            else:
                output = cls.forward(node, *args, **kwargs)
        several = isinstance(output, tuple)
        outputs = list(output) if several else [output]
        if not record:
            node._keep({})
            return output
        inputs = {id(a): a for _, a in tensors}
        dirty = {id(t) for t in node.dirty_tensors}
        fixed = {id(t) for t in node.non_differentiable}
        results, places = [], {}
        for nr, o in enumerate(outputs):
            if not isinstance(o, Tensor):
                results.append(o)
                node._avals.append(None)
                continue
            node._avals.append(value_of(o).aval)
            places[id(o)] = nr
            results.append(o)
        node.n_outputs = len(outputs)
        node.edges = tuple(edges)
        node._places = [i for i, _ in tensors]
        node._keep(places)
        for nr, o in enumerate(results):
            if not isinstance(o, Tensor) or id(o) in fixed or o.dtype.category < FLOATING:
                continue
            if id(o) in dirty:
                if o.requires_grad and o.is_leaf:
                    raise RuntimeError("a leaf Variable that requires grad is being used in an in-place operation.")
                o._value = tag(detached(value_of(o)), node, nr)
            elif id(o) in inputs or o._storage is not None and o._base is not None:
                # An input handed through, or a view: a tensor of its own over the same memory.
                o = o.detach()
                o._value = tag(o._value, node, nr)
                results[nr] = o
            else:
                o._value = tag(detached(value_of(o)), node, nr)
        observe()
        return tuple(results) if several else results[0]


def once_differentiable(fn: Callable) -> Callable:
    """Marks a backward that can't be differentiated again: trying to raises."""

    @functools.wraps(fn)
    def wrapper(ctx, *grads):
        with no_grad():
            results = fn(ctx, *grads)
        if not T.grad or not any(isinstance(g, Tensor) and g.requires_grad for g in grads):
            return results
        several = isinstance(results, tuple)
        return tuple(_Refuse.apply(r, *grads) if isinstance(r, Tensor) else r for r in (results if several else (results,)))

    return wrapper


class _Refuse(Function):
    @staticmethod
    def forward(ctx, result, *grads):
        return result.clone()

    @staticmethod
    def backward(ctx, *grads):
        raise RuntimeError("trying to differentiate twice a function that was marked with @once_differentiable")


class NestedIOFunction(Function):
    """A `Function` whose inputs and outputs may be nested."""


InplaceFunction = Function
BackwardCFunction = FunctionNode
_Modified = Modified
