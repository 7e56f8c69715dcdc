"""Module: the base class of everything that holds parameters."""

from __future__ import annotations

import itertools
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import jtorch
from jtorch._tensor.backward import clear_grads
from jtorch._tensor.tensor import Tensor
from jtorch.nn.modules import _hooks, _pytree
from jtorch.nn.modules._hooks import (
    RemovableHandle,
    add_hook,
    register_module_backward_hook,
    register_module_buffer_registration_hook,
    register_module_forward_hook,
    register_module_forward_pre_hook,
    register_module_full_backward_hook,
    register_module_full_backward_pre_hook,
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)
from jtorch.nn.modules._state_dict import StateDictMixin
from jtorch.nn.modules._state_dict import _IncompatibleKeys as _IncompatibleKeys
from jtorch.nn.parameter import Buffer, Parameter

__all__ = [
    "Module",
    "register_module_backward_hook",
    "register_module_buffer_registration_hook",
    "register_module_forward_hook",
    "register_module_forward_pre_hook",
    "register_module_full_backward_hook",
    "register_module_full_backward_pre_hook",
    "register_module_module_registration_hook",
    "register_module_parameter_registration_hook",
]

_HOOK_TABLES = (
    "_backward_pre_hooks", "_backward_hooks", "_forward_hooks", "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called", "_forward_pre_hooks", "_forward_pre_hooks_with_kwargs", "_state_dict_hooks",
    "_state_dict_pre_hooks", "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks",
)  # fmt: skip

_CALL_TABLES = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def _type_name(value: Any) -> str:
    """What torch's messages call a value's type: int, torch.FloatTensor, package.module.Class."""
    if isinstance(value, Tensor) and not isinstance(value, Parameter):
        return value.type()
    cls = type(value)
    module = "" if cls.__module__ in ("builtins", "__main__") else cls.__module__ + "."
    return module + cls.__qualname__


def _indented(text: str) -> str:
    """All lines but the first, two spaces further in."""
    return text.replace("\n", "\n  ")


def _check_name(kind: str, name: Any) -> None:
    if not isinstance(name, str):
        raise TypeError(f"{kind} name should be a string. Got {_type_name(name)}")
    if "." in name:
        raise KeyError(f'{kind} name can\'t contain "."' + (f", got: {name}" if kind == "module" else ""))
    if name == "":
        raise KeyError(f'{kind} name can\'t be empty string ""')


def _filtered(hooks: OrderedDict, module: Any, name: str, value: Any) -> Any:
    """The value after the global registration hooks."""
    for hook in hooks.values():
        result = hook(module, name, value)
        if result is not None:
            value = result
    return value


class Module(StateDictMixin):
    """Base class of all networks.

    Parameters, buffers and submodules assigned as attributes are registered under the attribute's name. A subclass
    calls `super().__init__()` first and defines `forward`. Every subclass is a JAX pytree: see `_pytree`.
    """

    dump_patches: bool = False
    training: bool
    call_super_init: bool = False
    _compiled_call_impl: Callable | None = None
    # Whether a call has hooks to look for. True on an instance once it got one; on the class once a global one exists.
    _hooked: bool = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _pytree.register(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if not self.call_super_init:
            if kwargs:
                raise TypeError(
                    f"{type(self).__name__}.__init__() got an unexpected keyword argument '{next(iter(kwargs))}'"
                )
            if args:
                raise TypeError(
                    f"{type(self).__name__}.__init__() takes 1 positional argument but {len(args) + 1} were given"
                )
        # Written to __dict__ directly: __setattr__ would look each of them up in the stores that are made here.
        self.__dict__.update(
            training=True,
            _parameters={},
            _buffers={},
            _non_persistent_buffers_set=set(),
            _backward_pre_hooks=OrderedDict(),
            _backward_hooks=OrderedDict(),
            _is_full_backward_hook=None,
            _forward_hooks=OrderedDict(),
            _forward_hooks_with_kwargs=OrderedDict(),
            _forward_hooks_always_called=OrderedDict(),
            _forward_pre_hooks=OrderedDict(),
            _forward_pre_hooks_with_kwargs=OrderedDict(),
            _state_dict_hooks=OrderedDict(),
            _state_dict_pre_hooks=OrderedDict(),
            _load_state_dict_pre_hooks=OrderedDict(),
            _load_state_dict_post_hooks=OrderedDict(),
            _modules={},
        )
        if self.call_super_init:
            super().__init__(*args, **kwargs)

    if TYPE_CHECKING:
        forward: Callable[..., Any]  # a subclass's may take what it likes
    else:

        def forward(self, *input: Any) -> Any:
            """What the module computes; subclasses define it. NotImplementedError here."""
            raise NotImplementedError(f'Module [{type(self).__name__}] is missing the required "forward" function')

    # -- registration

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Adds a tensor that is state but not trained. persistent: whether it is part of the state_dict."""
        if "_buffers" not in self.__dict__:
            raise AttributeError("cannot assign buffer before Module.__init__() call")
        _check_name("buffer", name)
        if hasattr(self, name) and name not in self._buffers:
            raise KeyError(f"attribute '{name}' already exists")
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(
                f"cannot assign '{_type_name(tensor)}' object to buffer '{name}' (torch Tensor or None required)"
            )
        self._buffers[name] = _filtered(_hooks.global_buffer_registration, self, name, tensor)
        if persistent:
            self._non_persistent_buffers_set.discard(name)
        else:
            self._non_persistent_buffers_set.add(name)

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Adds a parameter, or with None a name that holds none."""
        if "_parameters" not in self.__dict__:
            raise AttributeError("cannot assign parameter before Module.__init__() call")
        _check_name("parameter", name)
        if hasattr(self, name) and name not in self._parameters:
            raise KeyError(f"attribute '{name}' already exists")
        if param is None:
            self._parameters[name] = None
            return
        if not isinstance(param, Parameter):
            raise TypeError(
                f"cannot assign '{_type_name(param)}' object to parameter '{name}' "
                "(torch.nn.Parameter or None required)"
            )
        if param.grad_fn is not None:
            raise ValueError(
                f"Cannot assign non-leaf Tensor to parameter '{name}'. Model parameters must be created explicitly. "
                f"To express '{name}' as a function of another Tensor, compute the value in the forward() method."
            )
        self._parameters[name] = _filtered(_hooks.global_parameter_registration, self, name, param)

    def add_module(self, name: str, module: Module | None) -> None:
        """Adds a submodule under this name."""
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"{_type_name(module)} is not a Module subclass")
        _check_name("module", name)
        if hasattr(self, name) and name not in self._modules:
            raise KeyError(f"attribute '{name}' already exists")
        self._modules[name] = _filtered(_hooks.global_module_registration, self, name, module)

    def register_module(self, name: str, module: Module | None) -> None:
        """The same as `add_module`."""
        self.add_module(name, module)

    def _forget(self, name: str, *stores: Any) -> None:
        for store in stores:
            if name in store:
                store.discard(name) if isinstance(store, set) else store.pop(name)

    def __setattr__(self, name: str, value: Any) -> None:
        own = self.__dict__
        params = own.get("_parameters")
        if isinstance(value, Parameter):
            if params is None:
                raise AttributeError("cannot assign parameters before Module.__init__() call")
            self._forget(name, own, own["_buffers"], own["_modules"], own["_non_persistent_buffers_set"])
            self.register_parameter(name, value)
        elif params is not None and name in params:
            if value is not None:
                raise TypeError(
                    f"cannot assign '{_type_name(value)}' as parameter '{name}' (torch.nn.Parameter or None expected)"
                )
            self.register_parameter(name, value)
        elif isinstance(value, Module):
            if "_modules" not in own:
                raise AttributeError("cannot assign module before Module.__init__() call")
            self._forget(name, own, params, own["_buffers"], own["_non_persistent_buffers_set"])
            own["_modules"][name] = _filtered(_hooks.global_module_registration, self, name, value)
        elif params is not None and name in own["_modules"]:
            if value is not None:
                raise TypeError(
                    f"cannot assign '{_type_name(value)}' as child module '{name}' (torch.nn.Module or None expected)"
                )
            own["_modules"][name] = _filtered(_hooks.global_module_registration, self, name, value)
        elif params is not None and name in own["_buffers"]:
            if value is not None and not isinstance(value, Tensor):
                raise TypeError(
                    f"cannot assign '{_type_name(value)}' as buffer '{name}' "
                    "(torch.nn.Buffer, torch.Tensor or None expected)"
                )
            own["_buffers"][name] = _filtered(_hooks.global_buffer_registration, self, name, value)
            if isinstance(value, Buffer):
                self._mark_persistence(name, value)
        elif isinstance(value, Buffer):
            if params is None:
                raise AttributeError("cannot assign buffer before Module.__init__() call")
            self._forget(name, own, params, own["_modules"])
            self.register_buffer(name, value, value.persistent)
        else:
            object.__setattr__(self, name, value)

    def _mark_persistence(self, name: str, buffer: Any) -> None:
        if buffer.persistent:
            self._non_persistent_buffers_set.discard(name)
        else:
            self._non_persistent_buffers_set.add(name)

    def __getattr__(self, name: str) -> Any:
        # Reached for every parameter, buffer and submodule in every forward: look-ups without exceptions.
        own = self.__dict__
        if "_parameters" in own:
            store = own["_parameters"]
            if name in store:
                return store[name]
            store = own["_modules"]
            if name in store:
                return store[name]
            store = own["_buffers"]
            if name in store:
                return store[name]
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def __delattr__(self, name: str) -> None:
        if name in self._parameters:
            del self._parameters[name]
        elif name in self._buffers:
            del self._buffers[name]
            self._non_persistent_buffers_set.discard(name)
        elif name in self._modules:
            del self._modules[name]
        else:
            object.__delattr__(self, name)

    def __dir__(self) -> list[str]:
        names = {*dir(type(self)), *self.__dict__, *self._parameters, *self._modules, *self._buffers}
        return sorted(name for name in names if not name[0].isdigit())

    # -- by dotted name

    def get_submodule(self, target: str) -> Module:
        """The submodule at this dotted path, the module itself for "". AttributeError where there is none."""
        module: Any = self
        for name in target.split(".") if target else ():
            if not hasattr(module, name):
                raise AttributeError(f"{module._get_name()} has no attribute `{name}`")
            module = getattr(module, name)
            if not isinstance(module, Module):
                raise AttributeError(f"`{name}` is not an nn.Module")
        return module

    def set_submodule(self, target: str, module: Module, strict: bool = False) -> None:
        """Puts a module at this dotted path. strict: only in place of one that is there."""
        if target == "":
            raise ValueError("Cannot set the submodule without a target name!")
        path, _, name = target.rpartition(".")
        if not isinstance(module, Module):
            raise ValueError(f"`module` is not an nn.Module, found {type(module)}")
        parent = self.get_submodule(path)
        if strict and not hasattr(parent, name):
            raise AttributeError(f"{parent._get_name()} has no attribute `{name}`")
        if hasattr(parent, name) and not isinstance(getattr(parent, name), Module):
            raise AttributeError(f"`{name}` is not an nn.Module")
        setattr(parent, name, module)

    def _get_leaf(self, target: str) -> tuple[Module, str, Any]:
        path, _, name = target.rpartition(".")
        owner = self.get_submodule(path)
        if not hasattr(owner, name):
            raise AttributeError(f"{owner._get_name()} has no attribute `{name}`")
        return owner, name, getattr(owner, name)

    def get_parameter(self, target: str) -> Parameter:
        """The parameter at this dotted path. AttributeError where there is none."""
        _, name, param = self._get_leaf(target)
        if not isinstance(param, Parameter):
            raise AttributeError(f"`{name}` is not an nn.Parameter")
        return param

    def get_buffer(self, target: str) -> Tensor:
        """The buffer at this dotted path. AttributeError where there is none."""
        owner, name, buffer = self._get_leaf(target)
        if name not in owner._buffers:
            raise AttributeError(f"`{name}` is not a buffer")
        return buffer

    # -- iteration

    def _named_members(
        self, get_members_fn: Callable, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        modules = self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate) if recurse else [(prefix, self)]
        for path, module in modules:
            for name, value in get_members_fn(module):
                if value is None or id(value) in seen:
                    continue
                if remove_duplicate:
                    seen.add(id(value))
                yield (f"{path}.{name}" if path else name), value

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """The parameters, each once; recurse: of the submodules as well."""
        for _, param in self.named_parameters(recurse=recurse):
            yield param

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """(dotted name, parameter) pairs."""
        yield from self._named_members(lambda m: m._parameters.items(), prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """The buffers, each once; recurse: of the submodules as well."""
        for _, buf in self.named_buffers(recurse=recurse):
            yield buf

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """(dotted name, buffer) pairs."""
        yield from self._named_members(lambda m: m._buffers.items(), prefix, recurse, remove_duplicate)

    def children(self) -> Iterator[Module]:
        """The immediate submodules."""
        for _, module in self.named_children():
            yield module

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """(name, immediate submodule) pairs, each module once."""
        seen: set[int] = set()
        for name, module in self._modules.items():
            if module is not None and id(module) not in seen:
                seen.add(id(module))
                yield name, module

    def modules(self, remove_duplicate: bool = True) -> Iterator[Module]:
        """The module itself and all below it, depth first."""
        for _, module in self.named_modules(remove_duplicate=remove_duplicate):
            yield module

    def named_modules(
        self, memo: set[Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """(dotted name, module) pairs, the module itself first, under `prefix`."""
        if memo is None:
            memo = set()
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                inner = f"{prefix}.{name}" if prefix else name
                yield from module.named_modules(memo, inner, remove_duplicate)

    # -- conversion

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Module:
        """Runs fn on every tensor. Parameters stay the objects they are: optimizers hold on to them."""
        if recurse:
            for module in self.children():
                module._apply(fn)
        for param in self._parameters.values():
            if param is None:
                continue
            with jtorch.no_grad():
                param.data = fn(param)
                if param.grad is not None:
                    grad = param.grad
                    # Set down first: torch checks a gradient's dtype and shape against the parameter's.
                    param.grad = None
                    new = fn(grad)
                    if isinstance(new, Tensor):
                        grad.data = new
                        param.grad = grad.requires_grad_(grad.requires_grad)
        for name, buf in self._buffers.items():
            if buf is not None:
                self._buffers[name] = fn(buf)
        return self

    def apply(self, fn: Callable[[Module], None]) -> Module:
        """Runs fn on every submodule, then on the module itself."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    def to(self, *args: Any, **kwargs: Any) -> Module:
        """`to(device, dtype, non_blocking)`, `to(dtype)`, `to(tensor)`, `to(memory_format=...)`, in place.

        A dtype touches floating and complex tensors only; TypeError for an integer one.
        """
        device, dtype, non_blocking, memory_format = _parse_to(*args, **kwargs)
        if dtype is not None and not (dtype.is_floating_point or dtype.is_complex):
            raise TypeError(
                f"nn.Module.to only accepts floating point or complex dtypes, but got desired dtype={dtype}"
            )

        def convert(t: Tensor) -> Tensor:
            target = dtype if t.is_floating_point() or t.is_complex() else None
            if memory_format is not None and t.dim() in (4, 5):
                return t.to(device, target, non_blocking, memory_format=memory_format)
            return t.to(device, target, non_blocking)

        return self._apply(convert)

    def cuda(self, device: Any = None) -> Module:
        """Moves everything to the GPU."""
        return self._apply(lambda t: t.cuda(device))

    def cpu(self) -> Module:
        """Moves everything to the CPU."""
        return self._apply(lambda t: t.cpu())

    def type(self, dst_type: Any) -> Module:
        """Casts everything, integers included."""
        return self._apply(lambda t: t.type(dst_type))

    def float(self) -> Module:
        """Casts floating tensors to float32."""
        return self._apply(lambda t: t.float() if t.is_floating_point() else t)

    def double(self) -> Module:
        """Casts floating tensors to float64."""
        return self._apply(lambda t: t.double() if t.is_floating_point() else t)

    def half(self) -> Module:
        """Casts floating tensors to float16."""
        return self._apply(lambda t: t.half() if t.is_floating_point() else t)

    def bfloat16(self) -> Module:
        """Casts floating tensors to bfloat16."""
        return self._apply(lambda t: t.bfloat16() if t.is_floating_point() else t)

    def to_empty(self, *, device: Any, recurse: bool = True) -> Module:
        """Moves to a device without copying values."""
        return self._apply(lambda t: jtorch.empty_like(t, device=device), recurse=recurse)

    def share_memory(self) -> Module:
        """Returns the module: JAX arrays are passed between processes by value, so there is nothing to share."""
        return self

    # -- modes

    def train(self, mode: bool = True) -> Module:
        """Sets training mode here and below."""
        if not isinstance(mode, bool):
            raise ValueError("training mode is expected to be boolean")
        self.training = mode
        for module in self.children():
            module.train(mode)
        return self

    def eval(self) -> Module:
        """Sets evaluation mode here and below."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Module:
        """Sets requires_grad of all parameters."""
        for p in self.parameters():
            p.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets the gradients of all parameters, or with set_to_none=False fills them with zeros."""
        clear_grads(self.parameters(), set_to_none)

    # -- call

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._hooked:
            return self._call_with_hooks(args, kwargs)
        return self.forward(*args, **kwargs)

    def _call_impl(self, *args: Any, **kwargs: Any) -> Any:
        return self._call_uncompiled(args, kwargs) if self._hooked else self.forward(*args, **kwargs)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compiles this module's calls from now on, in place. Takes the arguments of `torch.compile`."""
        from jtorch.compiler import compile

        self.__dict__["_compiled_call_impl"] = compile(self._call_impl, *args, **kwargs)
        self.__dict__["_hooked"] = True  # so that a call looks for it

    def _call_with_hooks(self, args: tuple, kwargs: dict) -> Any:
        if self._compiled_call_impl is not None:
            return self._compiled_call_impl(*args, **kwargs)
        return self._call_uncompiled(args, kwargs)

    def _call_uncompiled(self, args: tuple, kwargs: dict) -> Any:
        if not any(self.__dict__[name] for name in _CALL_TABLES):
            if self._compiled_call_impl is None:
                self.__dict__.pop("_hooked", None)
            if not _hooks.any_global():
                Module._hooked = False  # all hooks are gone: calls are cheap again
                return self.forward(*args, **kwargs)
        called: set[Any] = set()
        always = [*_hooks.global_forward_always, *self._forward_hooks_always_called]
        if not always:
            return self._call_through_hooks(args, kwargs, called)
        try:
            return self._call_through_hooks(args, kwargs, called)
        except Exception:
            # Hooks registered with always_call run even now; the error that is raised stays the forward's own.
            tables = itertools.chain(_hooks.global_forward.items(), self._forward_hooks.items())
            for hook_id, hook in list(tables):
                if hook_id in always and hook_id not in called:
                    try:
                        self._run_forward_hook(hook_id, hook, args, kwargs, None)
                    except Exception as e:
                        warnings.warn(
                            "module forward hook with ``always_call=True`` raised an exception that was silenced as "
                            f"another error was raised in forward: {e}",
                            stacklevel=3,
                        )
            raise

    def _call_through_hooks(self, args: tuple, kwargs: dict, called: set[Any]) -> Any:
        full, other = self._split_backward_hooks()
        pre_backward = [*_hooks.global_backward_pre.values(), *self._backward_pre_hooks.values()]
        tables = itertools.chain(_hooks.global_forward_pre.items(), self._forward_pre_hooks.items())
        for hook_id, hook in list(tables):
            if hook_id in self._forward_pre_hooks_with_kwargs:
                out = hook(self, args, kwargs)
                if out is not None:
                    if not (isinstance(out, tuple) and len(out) == 2):
                        raise RuntimeError(
                            f"forward pre-hook must return None or a tuple of (new_args, new_kwargs), but got {out}."
                        )
                    args, kwargs = out
            else:
                out = hook(self, args)
                if out is not None:
                    args = out if isinstance(out, tuple) else (out,)
        gates = _hooks.BackwardGates(self, full, pre_backward) if full or pre_backward else None
        if gates is not None:
            args = gates.wrap_inputs(args)
        result = self.forward(*args, **kwargs)
        tables = itertools.chain(_hooks.global_forward.items(), self._forward_hooks.items())
        for hook_id, hook in list(tables):
            called.add(hook_id)
            out = self._run_forward_hook(hook_id, hook, args, kwargs, result)
            if out is not None:
                result = out
        if gates is not None:
            if not isinstance(result, (Tensor, tuple)):
                warnings.warn(
                    "For backward hooks to be called, module output should be a Tensor or a tuple of Tensors but "
                    f"received {type(result)}",
                    stacklevel=3,
                )
            result = gates.wrap_outputs(result)
        if other:
            self._hook_grad_fn(result, other)
        return result

    def _run_forward_hook(self, hook_id: Any, hook: Callable, args: tuple, kwargs: dict, result: Any) -> Any:
        if hook_id in self._forward_hooks_with_kwargs or hook_id in _hooks.global_forward_kwargs:
            return hook(self, args, kwargs, result)
        return hook(self, args, result)

    def _split_backward_hooks(self) -> tuple[list[Callable], list[Callable]]:
        """(full hooks, hooks of the older kind), global ones first."""
        full: list[Callable] = []
        other: list[Callable] = []
        (full if _hooks.global_backward_is_full() else other).extend(_hooks.global_backward.values())
        (full if self._is_full_backward_hook else other).extend(self._backward_hooks.values())
        return full, other

    def _hook_grad_fn(self, result: Any, hooks: list[Callable]) -> None:
        while not isinstance(result, Tensor):
            result = next(iter(result.values())) if isinstance(result, dict) else result[0]
        if result.grad_fn is not None:
            for hook in hooks:
                result.grad_fn.register_hook(lambda grad_in, grad_out, hook=hook: hook(self, grad_in, grad_out))

    # -- hooks

    def register_forward_pre_hook(
        self, hook: Callable, *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """`hook(module, args)` before every forward; what it returns replaces the arguments.

        with_kwargs: `hook(module, args, kwargs)`, returning None or (args, kwargs).
        """
        marks = (self._forward_pre_hooks_with_kwargs,) if with_kwargs else ()
        self.__dict__["_hooked"] = True
        return add_hook(self._forward_pre_hooks, hook, prepend=prepend, marks=marks)

    def register_forward_hook(
        self, hook: Callable, *, prepend: bool = False, with_kwargs: bool = False, always_call: bool = False
    ) -> RemovableHandle:
        """`hook(module, args, output)` after every forward; a result that is not None replaces the output.

        with_kwargs: `hook(module, args, kwargs, output)`. always_call: run also when forward raised.
        """
        marks = ((self._forward_hooks_with_kwargs,) if with_kwargs else ()) + (
            (self._forward_hooks_always_called,) if always_call else ()
        )
        self.__dict__["_hooked"] = True
        return add_hook(self._forward_hooks, hook, prepend=prepend, marks=marks)

    def register_full_backward_pre_hook(self, hook: Callable, prepend: bool = False) -> RemovableHandle:
        """`hook(module, grad_output)` before the module's backward; what it returns replaces grad_output."""
        self.__dict__["_hooked"] = True
        return add_hook(self._backward_pre_hooks, hook, prepend=prepend)

    def register_full_backward_hook(self, hook: Callable, prepend: bool = False) -> RemovableHandle:
        """`hook(module, grad_input, grad_output)` once the gradients of the inputs are known; what it returns
        replaces grad_input."""
        return self._register_backward(hook, True, prepend)

    def register_backward_hook(self, hook: Callable) -> RemovableHandle:
        """The older form of `register_full_backward_hook`: sees only the module's last operation."""
        return self._register_backward(hook, False, False)

    def _register_backward(self, hook: Callable, full: bool, prepend: bool) -> RemovableHandle:
        if self._is_full_backward_hook is not None and self._is_full_backward_hook != full:
            raise RuntimeError(
                "Cannot use both regular backward hooks and full backward hooks on a single Module. "
                "Please use only one of them."
            )
        self._is_full_backward_hook = full
        self.__dict__["_hooked"] = True
        return add_hook(self._backward_hooks, hook, prepend=prepend)

    # -- copying, pickling, printing

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        state.pop("_compiled_call_impl", None)
        state.pop("_hooked", None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        # Checkpoints of whole modules from older torch versions lack the newer tables.
        for name in _HOOK_TABLES:
            self.__dict__.setdefault(name, OrderedDict())
        self.__dict__.setdefault("_non_persistent_buffers_set", set())
        self.__dict__.setdefault("_is_full_backward_hook", None)
        if any(self.__dict__[name] for name in _CALL_TABLES):
            self.__dict__["_hooked"] = True

    def _replicate_for_data_parallel(self) -> Module:
        replica = type(self).__new__(type(self))
        replica.__dict__ = self.__dict__.copy()
        replica._parameters = {}
        replica._buffers = self._buffers.copy()
        replica._modules = self._modules.copy()
        return replica

    def _get_name(self) -> str:
        return type(self).__name__

    def extra_repr(self) -> str:
        """What the module's own line of the repr says, besides its class."""
        return ""

    def __repr__(self) -> str:
        extra = self.extra_repr()
        lines = extra.split("\n") if extra else []
        children = [f"({name}): {_indented(repr(module))}" for name, module in self._modules.items()]
        if not children and len(lines) <= 1:
            return f"{self._get_name()}({extra})"
        body = "".join(f"  {line}\n" for line in (*lines, *children))
        return f"{self._get_name()}(\n{body})"


_pytree.register(Module)
_hooks.on_global_hook(lambda: setattr(Module, "_hooked", True))


def _parse_to(*args: Any, **kwargs: Any) -> tuple[Any, Any, bool, Any]:
    """(device, dtype, non_blocking, memory_format) from any of the forms of `to`."""
    memory_format = kwargs.pop("memory_format", None)
    non_blocking = kwargs.pop("non_blocking", False)
    kwargs.pop("copy", None)
    device, dtype = kwargs.pop("device", None), kwargs.pop("dtype", None)
    other = kwargs.pop("tensor", kwargs.pop("other", None))
    if kwargs:
        raise TypeError(f"to() got an unexpected keyword argument '{next(iter(kwargs))}'")
    rest = list(args)
    if rest and isinstance(rest[0], Tensor):
        other = rest.pop(0)
    elif rest and isinstance(rest[0], jtorch.dtype):
        dtype = rest.pop(0)
    elif rest and (rest[0] is None or isinstance(rest[0], (str, int, jtorch.device)) and rest[0] is not True):
        device = rest.pop(0)
        if rest and (rest[0] is None or isinstance(rest[0], jtorch.dtype)):
            dtype = rest.pop(0)
    elif rest:
        raise TypeError(
            "to() received an invalid combination of arguments - got "
            f"({', '.join(_type_name(a) for a in args)}), but expected one of:\n"
            " * (torch.device device = None, torch.dtype dtype = None, bool non_blocking = False)\n"
            " * (torch.dtype dtype, bool non_blocking = False)\n * (Tensor tensor, bool non_blocking = False)\n"
        )
    if rest:
        non_blocking = rest.pop(0)
    if other is not None:
        device, dtype = other.device, other.dtype
    if device is not None:
        device = jtorch.device(device)
    return device, dtype, non_blocking, memory_format
