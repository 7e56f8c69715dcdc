"""The base of optimizers: parameter groups, state, hooks, and state dicts in torch's format.

A step is one program over all parameters of a group (`jtorch._ops.optimizing`); here is only what a user sees of it.
"""

from __future__ import annotations

import functools
import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable, Iterable
from copy import deepcopy
from itertools import chain
from typing import Any

import numpy as np

from jtorch._autograd.modes import enable_grad, no_grad
from jtorch._runtime import dtypes, executor
from jtorch._tensor.backward import clear_grads
from jtorch._tensor.base import wrap
from jtorch._tensor.placing import place
from jtorch._tensor.tensor import Tensor

ParamsT = Iterable[Tensor] | Iterable[dict[str, Any]] | Iterable[tuple[str, Tensor]]

_global_pre_hooks: OrderedDict[int, Callable] = OrderedDict()
_global_post_hooks: OrderedDict[int, Callable] = OrderedDict()


class _RequiredParameter:
    """The default of an option that every parameter group must give."""

    def __repr__(self) -> str:
        return "<required parameter>"


required = _RequiredParameter()


class HookHandle:
    """Takes its hook away again: `handle.remove()`, or leaving a `with` block."""

    _next_id = 0

    def __init__(self, hooks: OrderedDict[int, Callable], hook: Callable, prepend: bool = False):
        self.id = HookHandle._next_id
        HookHandle._next_id += 1
        self._hooks = hooks
        hooks[self.id] = hook
        if prepend:
            hooks.move_to_end(self.id, last=False)

    def remove(self) -> None:
        self._hooks.pop(self.id, None)

    def __enter__(self) -> HookHandle:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


def register_optimizer_step_pre_hook(hook: Callable) -> HookHandle:
    """Calls hook(optimizer, args, kwargs) ahead of every optimizer's step; it may return new args and kwargs."""
    return HookHandle(_global_pre_hooks, hook)


def register_optimizer_step_post_hook(hook: Callable) -> HookHandle:
    """Calls hook(optimizer, args, kwargs) after every optimizer's step."""
    return HookHandle(_global_post_hooks, hook)


class Optimizer:
    """Base of optimizers.

    params: an iterable of tensors, of dicts with "params" and options of their own, or of (name, tensor) pairs.
    defaults: the options' values for the groups that do not give them.
    """

    def __init__(self, params: ParamsT, defaults: dict[str, Any]):
        self.defaults = defaults
        self._make_hooks()
        self._hook_step()
        if isinstance(params, Tensor):
            raise TypeError(
                "params argument given to the optimizer should be an iterable of Tensors or dicts, but got "
                f"{_type_name(params)}"
            )
        self.state: defaultdict[Tensor, Any] = defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = []
        groups: list[Any] = list(params)
        if not groups:
            raise ValueError("optimizer got an empty parameter list")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    def _make_hooks(self) -> None:
        self._optimizer_step_pre_hooks: OrderedDict[int, Callable] = OrderedDict()
        self._optimizer_step_post_hooks: OrderedDict[int, Callable] = OrderedDict()
        self._optimizer_state_dict_pre_hooks: OrderedDict[int, Callable] = OrderedDict()
        self._optimizer_state_dict_post_hooks: OrderedDict[int, Callable] = OrderedDict()
        self._optimizer_load_state_dict_pre_hooks: OrderedDict[int, Callable] = OrderedDict()
        self._optimizer_load_state_dict_post_hooks: OrderedDict[int, Callable] = OrderedDict()

    def _hook_step(self) -> None:
        """Wraps the class's `step` once, so that hooks run for subclasses that users write too."""
        step = type(self).step
        if not getattr(step, "hooked", False):
            type(self).step = _with_hooks(step)

    def __getstate__(self) -> dict[str, Any]:
        return {"defaults": self.defaults, "state": self.state, "param_groups": self.param_groups}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if "_optimizer_step_pre_hooks" not in self.__dict__:
            self._make_hooks()
        self._hook_step()
        self.defaults.setdefault("differentiable", False)

    def __repr__(self) -> str:
        blocks = []
        for i, group in enumerate(self.param_groups):
            options = "".join(f"    {key}: {group[key]}\n" for key in sorted(group) if key != "params")
            blocks.append(f"\nParameter Group {i}\n{options}")
        return f"{type(self).__name__} ({''.join(blocks)})"

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group: {"params": tensors, option: value ...}. Options that it lacks take the defaults."""
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, but got {type(param_group)}")
        params = param_group["params"]
        if isinstance(params, Tensor):
            params = [params]
        elif isinstance(params, set):
            raise TypeError(
                "optimizer parameters need to be organized in ordered collections, but the ordering of tensors in sets "
                "will change between runs. Please use a list instead."
            )
        params = list(params)
        names = [p[0] if isinstance(p, tuple) else None for p in params]
        named = [n is not None for n in names]
        if any(named) and not all(named):
            raise ValueError("all optimizer params should be with/without names. Some param names are missing")
        params = [p[1] if isinstance(p, tuple) else p for p in params]
        if all(named) and named:
            param_group["param_names"] = names
        param_group["params"] = params
        for param in params:
            if not isinstance(param, Tensor):
                raise TypeError(f"optimizer can only optimize Tensors, but one of the params is {_type_name(param)}")
            if not self.defaults.get("differentiable") and not (param.is_leaf or param.retains_grad):
                raise ValueError("can't optimize a non-leaf Tensor")
        for name, default in self.defaults.items():
            if default is required and name not in param_group:
                raise ValueError(f"parameter group didn't specify a value of required optimization parameter {name}")
            param_group.setdefault(name, default)
        if len({id(p) for p in params}) != len(params):
            warnings.warn(
                "optimizer contains a parameter group with duplicate parameters; in future, this will cause an error; "
                "see github.com/pytorch/pytorch/issues/40967 for more information",
                stacklevel=3,
            )
        taken = {id(p) for group in self.param_groups for p in group["params"]}
        if any(id(p) in taken for p in params):
            raise ValueError("some parameters appear in more than one parameter group")
        if self.param_groups and ("param_names" in param_group) != ("param_names" in self.param_groups[0]):
            how = "with names to the optimizer" if "param_names" in param_group else "without names to the optimizer"
            raise ValueError(f"all optimizer param groups should be with/without names. cannot add param group {how}")
        self.param_groups.append(param_group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drops all gradients, or fills them with zeros in place."""
        if executor.T.observer is not None:
            with executor.T.observer.range(f"Optimizer.zero_grad#{type(self).__name__}.zero_grad"):
                self._zero_grad(set_to_none)
        else:
            self._zero_grad(set_to_none)

    def _zero_grad(self, set_to_none: bool) -> None:
        for group in self.param_groups:
            clear_grads(group["params"], set_to_none)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update. A closure computes the loss and its gradients anew; its result is returned."""
        raise NotImplementedError  # each subclass's own, those of users too

    def register_step_pre_hook(self, hook: Callable) -> HookHandle:
        """Calls hook(optimizer, args, kwargs) ahead of `step`; it may return new args and kwargs."""
        return HookHandle(self._optimizer_step_pre_hooks, hook)

    def register_step_post_hook(self, hook: Callable) -> HookHandle:
        """Calls hook(optimizer, args, kwargs) after `step`."""
        return HookHandle(self._optimizer_step_post_hooks, hook)

    def register_state_dict_pre_hook(self, hook: Callable, prepend: bool = False) -> HookHandle:
        """Calls hook(optimizer) ahead of `state_dict`."""
        return HookHandle(self._optimizer_state_dict_pre_hooks, hook, prepend)

    def register_state_dict_post_hook(self, hook: Callable, prepend: bool = False) -> HookHandle:
        """Calls hook(optimizer, state_dict) after `state_dict`; it may return another to use in its place."""
        return HookHandle(self._optimizer_state_dict_post_hooks, hook, prepend)

    def register_load_state_dict_pre_hook(self, hook: Callable, prepend: bool = False) -> HookHandle:
        """Calls hook(optimizer, state_dict) ahead of loading; it may return another to use in its place."""
        return HookHandle(self._optimizer_load_state_dict_pre_hooks, hook, prepend)

    def register_load_state_dict_post_hook(self, hook: Callable, prepend: bool = False) -> HookHandle:
        """Calls hook(optimizer) after loading."""
        return HookHandle(self._optimizer_load_state_dict_post_hooks, hook, prepend)

    def state_dict(self) -> dict[str, Any]:
        """{"state": ..., "param_groups": ...}, parameters being numbered through the groups. Tensors are not copied."""
        for pre_hook in self._optimizer_state_dict_pre_hooks.values():
            pre_hook(self)
        numbers: dict[int, int] = {}
        groups = []
        for group in self.param_groups:
            for param in group["params"]:
                numbers.setdefault(id(param), len(numbers))
            packed = {key: value for key, value in group.items() if key != "params"}
            packed["params"] = [numbers[id(param)] for param in group["params"]]
            groups.append(packed)
        state = {(numbers[id(k)] if isinstance(k, Tensor) else k): value for k, value in self.state.items()}
        result: dict[str, Any] = {"state": state, "param_groups": groups}
        for post_hook in self._optimizer_state_dict_post_hooks.values():
            changed = post_hook(self, result)
            result = result if changed is None else changed
        return result

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over a `state_dict`, its tensors copied; they get their parameter's dtype and device, "step" apart."""
        state_dict = dict(state_dict)
        for pre_hook in self._optimizer_load_state_dict_pre_hooks.values():
            changed = pre_hook(self, state_dict)
            state_dict = state_dict if changed is None else changed
        groups, saved = self.param_groups, deepcopy(state_dict["param_groups"])
        if len(groups) != len(saved):
            raise ValueError("loaded state dict has a different number of parameter groups")
        if any(len(g["params"]) != len(s["params"]) for g, s in zip(groups, saved, strict=True)):
            raise ValueError(
                "loaded state dict contains a parameter group that doesn't match the size of optimizer's group"
            )
        by_number = dict(
            zip(
                chain.from_iterable(s["params"] for s in saved),
                chain.from_iterable(g["params"] for g in groups),
                strict=True,
            )
        )
        state: defaultdict[Any, Any] = defaultdict(dict)
        with no_grad():
            for key, value in state_dict["state"].items():
                if key in by_number:
                    state[by_number[key]] = _adopt(by_number[key], value)
                else:
                    state[key] = value
        for group, new in zip(groups, saved, strict=True):
            new["params"] = group["params"]
            if "param_names" in group and "param_names" not in new:
                new["param_names"] = group["param_names"]
        self.__setstate__({"state": state, "param_groups": saved})
        for post_hook in self._optimizer_load_state_dict_post_hooks.values():
            post_hook(self)

    def _updatable(self, group: dict[str, Any]) -> list[list[Tensor]]:
        """The group's parameters that have a gradient, a list a device."""
        if group.get("differentiable"):
            raise NotImplementedError(
                "steps with differentiable=True are not supported: differentiate through an update with jax.grad, "
                "on the functional form of the model"
            )
        params = [param for param in group["params"] if param.grad is not None]
        devices = dict.fromkeys([param.device for param in params])
        if len(devices) == 1:
            return [params]
        return [[param for param in params if param.device is where] for where in devices]


def hooked() -> bool:
    """Whether hooks on the steps of all optimizers are registered."""
    return bool(_global_pre_hooks or _global_post_hooks)


def _with_hooks(plain: Callable) -> Callable:
    @functools.wraps(plain)
    def step(self: Optimizer, *args: Any, **kwargs: Any) -> Any:
        if executor.T.observer is not None:
            with executor.T.observer.range(f"Optimizer.step#{type(self).__name__}.step"):
                return _through_hooks(plain, self, args, kwargs)
        if not (hooked() or self._optimizer_step_pre_hooks or self._optimizer_step_post_hooks):
            return plain(self, *args, **kwargs)
        return _through_hooks(plain, self, args, kwargs)

    step.hooked = True
    return step


def _through_hooks(plain: Callable, self: Optimizer, args: tuple, kwargs: dict) -> Any:
    for pre_hook in chain(_global_pre_hooks.copy().values(), self._optimizer_step_pre_hooks.copy().values()):
        result = pre_hook(self, args, kwargs)
        if result is None:
            continue
        if not (isinstance(result, tuple) and len(result) == 2):
            raise RuntimeError(f"{plain} must return None or a tuple of (new_args, new_kwargs), but got {result}.")
        args, kwargs = result
    out = plain(self, *args, **kwargs)
    for post_hook in chain(self._optimizer_step_post_hooks.copy().values(), _global_post_hooks.copy().values()):
        post_hook(self, args, kwargs)
    return out


def _adopt(param: Tensor, value: Any, key: Hashable = None) -> Any:
    """A copy of loaded state, tensors in it in the parameter's dtype and on its device."""
    if isinstance(value, Tensor):
        if key == "step":
            return value.detach().clone().to(device=param.device)
        dtype = param.dtype if param.is_floating_point() or param.is_complex() else value.dtype
        return value.detach().clone().to(device=param.device, dtype=dtype)
    if isinstance(value, dict):
        return {k: _adopt(param, v, k) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_adopt(param, v) for v in value)
    return deepcopy(value)


def _type_name(value: Any) -> str:
    """torch.FloatTensor for a tensor, the class's name for anything else."""
    if isinstance(value, Tensor):
        return f"torch.{dtypes.SCALAR_NAMES[value.dtype]}Tensor"
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def run_closure(closure: Callable[[], Any] | None) -> Any:
    """The closure's loss, computed with gradients on whatever mode the caller is in; None without a closure."""
    if closure is None:
        return None
    with enable_grad():
        return closure()


def check_lr(lr: float | Tensor) -> None:
    """ValueError unless the learning rate is a number from 0 up, or a tensor of one element."""
    if isinstance(lr, Tensor):
        if lr.numel() != 1:
            raise ValueError("Tensor lr must be 1-element")
    elif not lr >= 0.0:
        raise ValueError(f"Invalid learning rate: {lr}")


def check_at_least_zero(value: float | Tensor, name: str) -> None:
    """ValueError, as torch words it, unless `value` is 0 or more. A tensor is taken on trust: looking would sync."""
    if not isinstance(value, Tensor) and not value >= 0.0:
        raise ValueError(f"Invalid {name}: {value}")


def check_betas(betas: tuple[Any, Any]) -> None:
    """ValueError unless both betas are in [0, 1)."""
    for i, beta in enumerate(betas):
        if not isinstance(beta, Tensor) and not 0.0 <= beta < 1.0:
            raise ValueError(f"Invalid beta parameter at index {i}: {beta}")


def check_implementation(fused: bool | None, foreach: bool | None, differentiable: bool) -> None:
    """RuntimeError for flags that exclude each other. Otherwise they change nothing: every step is one program."""
    if fused and differentiable:
        raise RuntimeError("`fused` does not support `differentiable`")
    if fused and foreach:
        raise RuntimeError("`fused` and `foreach` cannot be `True` together.")


def has_decay(weight_decay: Any) -> bool:
    """Whether the decay takes part in the program: always for a tensor, else where it is not 0."""
    return isinstance(weight_decay, Tensor) or weight_decay != 0


def _full(shape: tuple[int, ...], value: Any, dtype: Any, param: Tensor) -> Tensor:
    # Made on the host, not by an operation: a first step is then the same trace as those that follow.
    return wrap(place(np.full(shape, value, dtype.np), dtype, param.device))


def step_counter(param: Tensor, start: float = 0) -> Tensor:
    """A state's "step": a 0-d float tensor, on the parameter's device so that a step stays one program."""
    return _full((), start, dtypes.float64 if dtypes.get_default_dtype() is dtypes.float64 else dtypes.float32, param)


def full(param: Tensor, value: Any) -> Tensor:
    """State of the parameter's shape, dtype and device, filled with a number."""
    return _full(tuple(param.shape), value, param.dtype, param)


def zeros(param: Tensor) -> Tensor:
    """State of the parameter's shape, dtype and device, all zero."""
    return full(param, 0)
