"""Parameter and Buffer: the tensors a Module finds by itself, and their uninitialized forms for lazy modules."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Self, cast

import jax

import jtorch
from jtorch._tensor import base
from jtorch._tensor.tensor import Tensor


class _ParameterMeta(type(Tensor)):
    """Lets a Tensor subclass instance count as a Parameter by carrying `_is_param = True`."""

    def __instancecheck__(cls, instance: Any) -> bool:
        if type.__instancecheck__(cls, instance):
            return True
        return cls is Parameter and isinstance(instance, Tensor) and getattr(instance, "_is_param", False) is True


class Parameter(Tensor, metaclass=_ParameterMeta):
    """A tensor that a Module registers as a parameter when it is assigned as an attribute.

    data: the tensor whose memory the parameter shares; an empty one by default.
    requires_grad: whether it is trained. RuntimeError for integer data unless False.
    """

    def __new__(cls, data: Tensor | None = None, requires_grad: bool = True) -> Self:
        if data is None:
            data = jtorch.empty(0)
        if type(data) is Tensor or isinstance(data, Parameter):
            return Tensor._make_subclass(cls, data, requires_grad)
        # Another Tensor subclass keeps its type and is only marked.
        t = data.detach().requires_grad_(requires_grad)
        if type(t) is not type(data):
            raise RuntimeError(
                f"Creating a Parameter from an instance of type {type(data).__name__} requires that detach() "
                "returns an "
                f"instance of the same type, but return type {type(t).__name__} was found instead. To use the "
                "type as a "
                "Parameter, please correct the detach() semantics defined by its __torch_dispatch__() implementation."
            )
        t._is_param = True
        return cast(Self, t)  # isinstance says so, too

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        if id(self) in memo:
            return memo[id(self)]
        result = type(self)(self.data.clone(), self.requires_grad)
        memo[id(self)] = result
        return result

    def __repr__(self, *, tensor_contents: str | None = None) -> str:
        return "Parameter containing:\n" + super().__repr__()

    def __str__(self) -> str:
        return repr(self)

    def __reduce_ex__(self, proto: Any) -> Any:
        # What a user hung on the parameter goes along; what the tensor layer keeps there is not state.
        state = {k: v for k, v in self.__dict__.items() if not hasattr(Tensor, k)}
        if state:
            return _rebuild_parameter_with_state, (self.data, self.requires_grad, OrderedDict(), state)
        return _rebuild_parameter, (self.data, self.requires_grad, OrderedDict())


# JAX looks pytree nodes up by exact class.
jax.tree_util.register_pytree_node(Parameter, base.flatten, base.unflatten)


def _rebuild_parameter(data: Tensor, requires_grad: bool, backward_hooks: Any) -> Parameter:
    """What pickles of a Parameter call."""
    param = Parameter(data, requires_grad)
    if backward_hooks:
        param._backward_hooks = backward_hooks
    return param


def _rebuild_parameter_with_state(data: Tensor, requires_grad: bool, backward_hooks: Any, state: Any) -> Parameter:
    """The same for a Parameter that carries Python attributes."""
    param = _rebuild_parameter(data, requires_grad, backward_hooks)
    if isinstance(state, tuple):
        state = {k: v for part in state if part for k, v in part.items()}
    for name, value in state.items():
        setattr(param, name, value)
    return param


class _BufferMeta(type(Tensor)):
    def __instancecheck__(cls, instance: Any) -> bool:
        if cls is not Buffer:
            return type.__instancecheck__(cls, instance)
        return isinstance(instance, Tensor) and getattr(instance, "_is_buffer", False) is True


class Buffer(Tensor, metaclass=_BufferMeta):
    """Marks a tensor as a buffer: assigned to a Module attribute it is registered, and not trained.

    The result is `data` detached, of its own type. persistent: whether the buffer is part of the state_dict.
    """

    def __new__(cls, data: Tensor | None = None, *, persistent: bool = True):
        if data is None:
            data = jtorch.empty(0)
        t = data.detach().requires_grad_(data.requires_grad)
        t.persistent = persistent
        t._is_buffer = True
        return t


class UninitializedTensorMixin:
    """A parameter or buffer whose shape a lazy module learns at its first forward."""

    def _shapeless(self, name: str) -> RuntimeError:
        return RuntimeError(
            f"Can't access the {name} of an uninitialized parameter or buffer. This error usually happens in "
            "`load_state_dict` when trying to load an uninitialized parameter into an initialized one. "
            "Call `forward` to initialize the parameters before accessing their attributes."
        )

    @property
    def shape(self) -> Any:
        raise self._shapeless("shape")

    def materialize(self, shape: Any, device: Any = None, dtype: Any = None) -> None:
        """Gives the tensor its shape (and device, dtype); from here on it is an ordinary one, without values yet."""
        base = self.data
        new = jtorch.empty(shape, device=base.device if device is None else device, dtype=dtype or base.dtype)
        self.__class__ = self.cls_to_become
        self.data = new

    def __repr__(self, *, tensor_contents: str | None = None) -> str:
        return f"<{type(self).__name__}>"

    def __reduce_ex__(self, proto: Any) -> Any:
        return type(self), (self.requires_grad,)


class UninitializedParameter(UninitializedTensorMixin, Parameter):
    """A Parameter without a shape yet; `materialize(shape)` gives it one."""

    cls_to_become = Parameter

    def __new__(cls, requires_grad: bool = True, device: Any = None, dtype: Any = None):
        return Tensor._make_subclass(cls, jtorch.empty(0, device=device, dtype=dtype), requires_grad)

    def __deepcopy__(self, memo: dict[int, Any]) -> UninitializedParameter:
        if id(self) not in memo:
            memo[id(self)] = type(self)(self.requires_grad, self.data.device, self.data.dtype)
        return memo[id(self)]


class UninitializedBuffer(UninitializedTensorMixin, Tensor):
    """A buffer without a shape yet; `materialize(shape)` gives it one."""

    cls_to_become = Tensor

    def __new__(cls, requires_grad: bool = False, device: Any = None, dtype: Any = None, persistent: bool = True):
        t = Tensor._make_subclass(cls, jtorch.empty(0, device=device, dtype=dtype), requires_grad)
        t.persistent = persistent
        t._is_buffer = True
        return t


def is_lazy(param: Any) -> bool:
    """Whether the tensor still waits for its shape."""
    return isinstance(param, UninitializedTensorMixin)
