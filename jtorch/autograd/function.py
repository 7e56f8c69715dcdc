"""Custom differentiable functions."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any

from jtorch._autograd import graph
from jtorch._autograd.graph import Edges, Modified, node_of, observe
from jtorch._autograd.modes import no_grad
from jtorch._runtime import executor
from jtorch._runtime.dtypes import FLOATING
from jtorch._runtime.executor import T, Value
from jtorch._tensor.base import Tensor
from jtorch._tensor.creation import zeros
from jtorch._tensor.derive import cast
from jtorch._tensor.storage import alias, detached, tag, value_of, write


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


class BackwardCFunction(Edges, FunctionCtx):
    """The ctx of one call, and its node in the graph. Each `Function` has a subclass of its own."""

    _forward_cls: type

    def __init__(self, needs: tuple[bool, ...]):
        Edges.__init__(self, (), 0)
        self.needs_input_grad = needs
        self.materialize_grads = True
        self.to_save: tuple = ()
        self.dirty_tensors: tuple = ()
        self.non_differentiable: tuple = ()
        self.saved_for_forward: tuple = ()
        self._saved: tuple | None = ()
        self._inputs: list = []  # the avals of the tensors given
        self._outputs: list = []  # the avals of what came out, None for what is no tensor
        self._places: list[int] = []  # where the tensors were among the arguments
        self._written: dict[int, Modified] = {}

    def name(self) -> str:
        return type(self).__name__

    def wrote(self, word: Modified) -> None:
        self._written[word.nr] = word

    def __repr__(self) -> str:
        return f"<torch.autograd.function.{self.name()} object at {id(self):#x}>"

    def _keep(self, outputs: dict[int, int]) -> None:
        kept: list = []
        for i, t in enumerate(self.to_save):
            if t is None:
                kept.append(None)
                continue
            if not isinstance(t, Tensor):
                raise TypeError(
                    f"save_for_backward can only save variables, but argument {i} is of type {type(t).__name__}"
                )
            if executor.inferred(value_of(t)):
                raise RuntimeError(executor.NOT_SAVED)
            # An output is kept without its node: that is this one, and a cycle.
            nr = outputs.get(id(t))
            kept.append((graph.pack(value_of(t) if nr is None else detached(value_of(t))), nr))
        self._saved = tuple(kept)
        self.to_save = ()

    @property
    def saved_tensors(self) -> tuple:
        """The tensors that `save_for_backward` was given."""
        if self._saved is None:
            raise RuntimeError(graph.FREED)
        if self.to_save:
            return tuple(self.to_save)
        found: list[Tensor | None] = []
        for kept in self._saved:
            if kept is None:
                found.append(None)
                continue
            s, nr = kept
            word = s.dirty if nr is None else self._written.get(nr)
            if word is not None:
                raise graph.modified_error(word)
            v = graph.unpack(s)
            found.append(graph.wrap(v if nr is None else tag(detached(v), self, nr)))
        return tuple(found)

    saved_variables = saved_tensors

    def release(self) -> None:
        self._saved = None

    def apply(self, cts: list[Value | None]) -> list[Value | None]:
        grads: list[Tensor | None] = []
        for ct, a in zip(cts, self._outputs, strict=True):
            if ct is not None:
                grads.append(graph.wrap(ct))
            elif self.materialize_grads and a is not None:
                grads.append(zeros(tuple(a.shape), dtype=a.dtype, device=a.device))
            else:
                grads.append(None)
        results = _backward_of(self._forward_cls)(self, *grads)
        results = results if isinstance(results, tuple) else (results,)
        expected = len(self.needs_input_grad)
        if len(results) > expected and all(r is None for r in results[expected:]):
            results = results[:expected]
        if len(results) != expected:
            raise RuntimeError(
                f"function {self.name()} returned an incorrect number of gradients (expected "
                f"{expected}, got {len(results)})"
            )
        for i, r in enumerate(results):
            if r is not None and i not in self._places:
                raise RuntimeError(
                    f"function {self.name()} returned a gradient different than None at position {i + 1}, but the "
                    "corresponding forward input was not a Variable"
                )
        out: list[Value | None] = []
        for place, edge, a in zip(self._places, self.edges, self._inputs, strict=True):
            r = results[place]
            if r is not None and not isinstance(r, Tensor):
                raise RuntimeError(f"expected Variable or None (got {type(r).__name__})")
            out.append(None if r is None or edge is None else self._gradient(r, a, place))
        return out

    def _gradient(self, r: Tensor, a: Any, place: int) -> Value:
        """A gradient that the user's backward gave, in its input's shape and dtype."""
        if r.shape != a.shape:
            if not _expandable(tuple(a.shape), tuple(r.shape)):
                raise RuntimeError(
                    f"Function {self.name()} returned an invalid gradient at index {place} - got {list(r.shape)} but "
                    f"expected shape compatible with {list(a.shape)}"
                )
            lead = r.ndim - len(a.shape)
            dims = (*range(lead), *(lead + i for i, n in enumerate(a.shape) if n == 1 and r.shape[lead + i] != 1))
            r = r.sum(dims, keepdim=True).reshape(tuple(a.shape))
        v = value_of(r)
        if v.aval.dtype is not a.dtype:
            if v.aval.dtype.is_complex and not a.dtype.is_complex:
                raise RuntimeError(
                    "Expected isFloatingType(grad.scalar_type()) || (input_is_complex == grad_is_complex) to be true, but "
                    "got false.  (Could this error message be improved?  If so, please report an enhancement request to "
                    "PyTorch.)"
                )
            return cast(v, a.dtype)
        return alias(v) if v.node is None else v


def _backward_of(cls: type) -> Callable:
    own_backward, own_vjp = cls.backward is not Function.backward, cls.vjp is not Function.vjp
    if own_backward and own_vjp:
        raise RuntimeError(
            "Implementing both 'backward' and 'vjp' for a custom Function is not allowed. You should "
            "only implement one of "
            "them."
        )
    return cls.vjp if own_vjp else cls.backward


def _expandable(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    lead = len(to) - len(shape)
    return lead >= 0 and all(n in (1, to[lead + i]) for i, n in enumerate(shape))


class FunctionMeta(type):
    """Gives each `Function` the class of its nodes."""

    def __init__(cls, name: str, bases: tuple, attributes: dict):
        super().__init__(name, bases, attributes)
        cls._backward_cls = type(name + "Backward", (BackwardCFunction,), {"_forward_cls": cls})


class Function(metaclass=FunctionMeta):
    """A function with a gradient of its own: static `forward(ctx, ...)` (or `forward(...)` and `setup_context`) and
    `backward(ctx, *grads)`; called as `F.apply(...)`."""

    generate_vmap_rule = False

    def __init__(self, *args: Any, **kwargs: Any):
        warnings.warn(
            f"{type(self)} should not be instantiated. Methods on autograd functions are all static, "
            "so you should invoke "
            "them on the class itself. Instantiating an autograd function will raise an error in a future version of "
            "PyTorch.",
            DeprecationWarning,
            stacklevel=2,
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError(
            "Legacy autograd function with non-static forward method is deprecated. Please use "
            "new-style autograd function "
            "with static forward method. (Example: https://pytorch.org/docs/stable/autograd.html#torch.autograd.Function)"
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
        raise NotImplementedError(
            "You must implement the jvp function for custom autograd.Function to use it with forward mode AD."
        )

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        """Calls the function, as one node of the graph."""
        by_setup = cls.setup_context is not Function.setup_context
        if by_setup or kwargs:
            args = _with_defaults(cls.forward, args, kwargs, by_setup)
            kwargs = {}
        tensors = [(i, a) for i, a in enumerate(args) if isinstance(a, Tensor)]
        needs = tuple(isinstance(a, Tensor) and a.requires_grad for a in args)
        node = cls._backward_cls(needs)
        record = T.grad and any(needs)
        # Before the forward runs: it may write its inputs in place.
        edges = []
        for _, t in tensors:
            v = value_of(t)
            n = node_of(v) if record and v.aval.dtype.category >= FLOATING else None
            edges.append(None if n is None else (n, v.nr))
        node._inputs = [value_of(t).aval for _, t in tensors]
        with no_grad():
            if by_setup:
                output = cls.forward(*args)
                cls.setup_context(node, args, output)
            else:
                output = cls.forward(node, *args)
        several = isinstance(output, tuple)
        results = list(output) if several else [output]
        if record and not all(any(t is o for o in results) for t in node.dirty_tensors):
            raise RuntimeError(
                "Some elements marked as dirty during the forward method were not returned as output. The inputs that are "
                "modified inplace must all be outputs of the Function."
            )
        given = {id(a) for _, a in tensors}
        dirty = {id(t) for t in node.dirty_tensors}
        if record:
            node.n_outputs = len(results)
            node.edges = tuple(edges)
            node._places = [i for i, _ in tensors]
            node._outputs = [value_of(o).aval if isinstance(o, Tensor) else None for o in results]
            fixed = {id(t) for t in node.non_differentiable}
            node._keep({id(o): nr for nr, o in enumerate(results) if isinstance(o, Tensor)})
            observe()
        else:
            fixed = {id(o) for o in results}
            node._keep({})
        for nr, o in enumerate(results):
            if isinstance(o, Tensor):
                differs = id(o) not in fixed and o.dtype.category >= FLOATING
                results[nr] = _output(o, node if differs else None, nr, id(o) in given, id(o) in dirty)
        return tuple(results) if several else results[0]


def _with_defaults(forward: Callable, args: tuple, kwargs: dict, by_setup: bool) -> tuple:
    """The arguments of a call in the order of `forward`'s parameters, those left out as well."""
    bound = inspect.signature(forward).bind(*(() if by_setup else (None,)), *args, **kwargs)
    bound.apply_defaults()
    return bound.args if by_setup else bound.args[1:]


def _output(o: Tensor, node: BackwardCFunction | None, nr: int, given: bool, dirty: bool) -> Tensor:
    """One output as the caller gets it; `node` is None for those without a gradient."""
    if dirty:
        if node is None:
            return o
        if o.requires_grad and o.is_leaf:
            raise RuntimeError("a leaf Variable that requires grad has been used in an in-place operation.")
        write(o, tag(detached(value_of(o)), node, nr))
        return o
    if given:
        o = o.detach()  # a tensor of its own over the same memory
    elif node is None:
        return o
    elif o._base is not None:
        o = o.detach()
    if node is not None:
        shared = o._storage is not None
        o._value = tag(o._value if shared else detached(value_of(o)), node, nr)
        if shared:
            o._made = "function", nr, node._forward_cls.__name__
    return o


def once_differentiable(fn: Callable) -> Callable:
    """Marks a backward that can't be differentiated again: trying to raises."""

    @functools.wraps(fn)
    def wrapper(ctx, *grads):
        with no_grad():
            results = fn(ctx, *grads)
        if not T.grad or not any(isinstance(g, Tensor) and g.requires_grad for g in grads):
            return results
        several = isinstance(results, tuple)
        return tuple(
            _Refuse.apply(r, *grads) if isinstance(r, Tensor) else r for r in (results if several else (results,))
        )

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
