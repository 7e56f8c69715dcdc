"""Hooks on module calls: those that run for every module, and the gates through which the full backward hooks see a
call's gradients."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import jtorch
from jtorch._autograd.graph import RemovableHandle as RemovableHandle
from jtorch._tensor.tensor import Tensor


def add_hook(
    table: OrderedDict, hook: Callable, *, prepend: bool = False, marks: tuple[OrderedDict, ...] = ()
) -> RemovableHandle:
    """Puts the hook into its table and into the tables that mark it (with_kwargs, always_call)."""
    handle = RemovableHandle(table, extra_dict=list(marks))
    table[handle.id] = hook
    for mark in marks:
        mark[handle.id] = True
    if prepend:
        table.move_to_end(handle.id, last=False)
    return handle


# Hooks on every module. The tables are OrderedDicts because handles hold them by weak reference.
global_forward_pre: OrderedDict = OrderedDict()
global_forward: OrderedDict = OrderedDict()
global_forward_kwargs: OrderedDict = OrderedDict()
global_forward_always: OrderedDict = OrderedDict()
global_backward_pre: OrderedDict = OrderedDict()
global_backward: OrderedDict = OrderedDict()
global_module_registration: OrderedDict = OrderedDict()
global_parameter_registration: OrderedDict = OrderedDict()
global_buffer_registration: OrderedDict = OrderedDict()

_announce: list[Callable[[], None]] = []


def on_global_hook(fn: Callable[[], None]) -> None:
    """`fn()` whenever a hook on the calls of every module is registered."""
    _announce.append(fn)


def any_global() -> bool:
    """Whether there is a hook on the calls of every module."""
    return bool(global_forward_pre or global_forward or global_backward_pre or global_backward)


def _add_global(table: OrderedDict, hook: Callable, marks: tuple[OrderedDict, ...] = ()) -> RemovableHandle:
    for fn in _announce:
        fn()
    return add_hook(table, hook, marks=marks)


# None until a global backward hook is registered, then whether those are full ones: the two kinds do not mix.
_global_is_full: bool | None = None


def global_backward_is_full() -> bool | None:
    return _global_is_full


def register_module_forward_pre_hook(hook: Callable) -> RemovableHandle:
    """`hook(module, args)` before the forward of every module; what it returns replaces the arguments."""
    return _add_global(global_forward_pre, hook)


def register_module_forward_hook(
    hook: Callable, *, with_kwargs: bool = False, always_call: bool = False
) -> RemovableHandle:
    """`hook(module, args, output)` after the forward of every module; what it returns replaces the output."""
    marks = ((global_forward_kwargs,) if with_kwargs else ()) + ((global_forward_always,) if always_call else ())
    return _add_global(global_forward, hook, marks=marks)


def _register_global_backward(hook: Callable, full: bool) -> RemovableHandle:
    global _global_is_full
    if _global_is_full is not None and _global_is_full != full and global_backward:
        raise RuntimeError(
            "Cannot use both regular backward hooks and full backward hooks as a global Module hook. "
            "Please use only one of them."
        )
    _global_is_full = full
    return _add_global(global_backward, hook)


def register_module_backward_hook(hook: Callable) -> RemovableHandle:
    """The older form of `register_module_full_backward_hook`: sees only the last operation of each module."""
    return _register_global_backward(hook, False)


def register_module_full_backward_hook(hook: Callable) -> RemovableHandle:
    """`hook(module, grad_input, grad_output)` for every module, once the gradients of its inputs are known."""
    return _register_global_backward(hook, True)


def register_module_full_backward_pre_hook(hook: Callable) -> RemovableHandle:
    """`hook(module, grad_output)` for every module, before its backward; what it returns replaces grad_output."""
    return _add_global(global_backward_pre, hook)


def register_module_module_registration_hook(hook: Callable) -> RemovableHandle:
    """`hook(module, name, submodule)` whenever a submodule is registered; a result that is not None replaces it."""
    return add_hook(global_module_registration, hook)


def register_module_parameter_registration_hook(hook: Callable) -> RemovableHandle:
    """`hook(module, name, param)` whenever a parameter is registered; a result that is not None replaces it."""
    return add_hook(global_parameter_registration, hook)


def register_module_buffer_registration_hook(hook: Callable) -> RemovableHandle:
    """`hook(module, name, buffer)` whenever a buffer is registered; a result that is not None replaces it."""
    return add_hook(global_buffer_registration, hook)


class BackwardGates:
    """One call's two identity nodes around a module: gradients pass the output's on their way in, the input's on
    their way out, and the hooks run there."""

    def __init__(self, module: Any, hooks: list[Callable], pre_hooks: list[Callable]):
        self.module, self.hooks, self.pre_hooks = module, hooks, pre_hooks
        self.n_inputs = self.n_outputs = 0
        self.gated_inputs: list[int] = []
        self.gated_outputs: list[int] = []
        self.grad_outputs: tuple | None = None

    def wrap_inputs(self, args: tuple) -> tuple:
        self.n_inputs = len(args)
        if not jtorch.is_grad_enabled():
            return args
        self.gated_inputs = [i for i, a in enumerate(args) if isinstance(a, Tensor) and a.requires_grad]
        return self._through(args, self.gated_inputs, self._leave)

    def wrap_outputs(self, result: Any) -> Any:
        single = not isinstance(result, tuple)
        outputs = (result,) if single else result
        self.n_outputs = len(outputs)
        if not jtorch.is_grad_enabled():
            return result
        self.gated_outputs = [i for i, o in enumerate(outputs) if isinstance(o, Tensor) and o.requires_grad]
        outputs = self._through(outputs, self.gated_outputs, self._enter)
        if single:
            return outputs[0]
        return type(result)(*outputs) if hasattr(result, "_fields") else outputs

    @staticmethod
    def _through(values: tuple, picked: list[int], on_grads: Callable) -> tuple:
        if not picked:
            return values
        gated = _gate().apply(on_grads, *(values[i] for i in picked))
        replaced = list(values)
        for i, tensor in zip(picked, gated, strict=True):
            replaced[i] = tensor
        return tuple(replaced)

    def _enter(self, grads: tuple) -> tuple:
        full: list = [None] * self.n_outputs
        for i, grad in zip(self.gated_outputs, grads, strict=True):
            full[i] = grad
        self.grad_outputs = tuple(full)
        for hook in self.pre_hooks:
            out = hook(self.module, self.grad_outputs)
            if out is not None:
                self.grad_outputs = self._checked(out, self.n_outputs, "Backward pre hook", "grad_output")
        grads = tuple(self.grad_outputs[i] for i in self.gated_outputs)
        if not self.gated_inputs:
            # No input wants a gradient, so no backward will leave the module: its hooks run here.
            for hook in self.hooks:
                out = hook(self.module, (None,) * self.n_inputs, self.grad_outputs)
                if out is not None and not (isinstance(out, tuple) and all(g is None for g in out)):
                    raise RuntimeError(
                        "Backward hook for Modules where no input requires gradient should always return None or None "
                        "for all gradients."
                    )
        return grads

    def _leave(self, grads: tuple) -> tuple:
        full: list = [None] * self.n_inputs
        for i, grad in zip(self.gated_inputs, grads, strict=True):
            full[i] = grad
        grad_inputs = tuple(full)
        if self.grad_outputs is None:
            raise RuntimeError(
                "Module backward hook for grad_input is called before the grad_output one. This happens because the "
                "gradient in your nn.Module flows to the Module's input without passing through the Module's output. "
                "Make sure that the output depends on the input and that the loss is computed based on the output."
            )
        for hook in self.hooks:
            out = hook(self.module, grad_inputs, self.grad_outputs)
            if out is not None:
                grad_inputs = self._checked(out, self.n_inputs, "Backward hook", "grad_input")
        return tuple(grad_inputs[i] for i in self.gated_inputs)

    @staticmethod
    def _checked(out: Any, expected: int, what: str, name: str) -> tuple:
        out = out if isinstance(out, tuple) else (out,)
        if len(out) != expected:
            raise RuntimeError(f"{what} returned an invalid number of {name}, got {len(out)}, but expected {expected}")
        return out


_GATE: Any = None


def _gate() -> Any:
    """The identity Function, made at first use because autograd's public namespace is imported after nn's."""
    global _GATE
    if _GATE is None:

        class BackwardHookFunction(jtorch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, on_grads: Callable, *tensors: Tensor) -> tuple:
                ctx.on_grads = on_grads
                ctx.set_materialize_grads(False)
                return tuple(t.view_as(t) for t in tensors)

            @staticmethod
            def backward(ctx: Any, *grads: Any) -> tuple:
                return None, *ctx.on_grads(grads)

        _GATE = BackwardHookFunction
    return _GATE
