"""Modules that learn the sizes of their parameters from the first input."""

from __future__ import annotations

from typing import Any

from jtorch.nn.parameter import is_lazy

__all__ = ["LazyModuleMixin"]


class LazyModuleMixin:
    """Makes a module lazy.

    The subclass sets `cls_to_become`, gives uninitialized parameters to its base, and defines
    `initialize_parameters(*args)`, which materializes them. After the first forward the module is of `cls_to_become`.
    """

    cls_to_become: type | None = None

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._initialize_hook = self.register_forward_pre_hook(_infer_parameters, with_kwargs=True)
        self._load_hook = self._register_load_state_dict_pre_hook(_load_lazy, with_module=True)

    def initialize_parameters(self, *args: Any, **kwargs: Any) -> None:
        """Materializes the parameters for these inputs."""
        raise NotImplementedError(f"initialize_parameters is not implemented for {type(self).__name__}")

    def has_uninitialized_params(self) -> bool:
        """Whether a parameter or buffer still waits for its shape."""
        return any(is_lazy(t) for t in (*self._parameters.values(), *self._buffers.values()))

    def _settle(self) -> None:
        for name in ("_initialize_hook", "_load_hook"):
            handle = self.__dict__.pop(name, None)
            if handle is not None:
                handle.remove()
        if self.cls_to_become is not None:
            self.__class__ = self.cls_to_become


def _infer_parameters(module: Any, args: tuple, kwargs: dict) -> None:
    module.initialize_parameters(*args, **kwargs)
    if module.has_uninitialized_params():
        raise RuntimeError(f"module {module._get_name()} has not been fully initialized")
    module._settle()


def _load_lazy(module: Any, state_dict: Any, prefix: str, *rest: Any) -> None:
    """Materializes a lazy module's parameters to the shapes that are being loaded."""
    for store in (module._parameters, module._buffers):
        for name, t in store.items():
            value = state_dict.get(prefix + name)
            if t is not None and is_lazy(t) and value is not None and not is_lazy(value):
                t.materialize(value.shape)
