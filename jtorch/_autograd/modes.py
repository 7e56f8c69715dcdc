"""Grad modes: each a context manager and a decorator, of functions and of generators."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Self, TypeVar, overload

from jtorch._runtime import executor
from jtorch._runtime.executor import T

F = TypeVar("F", bound=Callable[..., Any])


class _Mode:
    """Switches recording of gradients; usable as `with`, as a decorator with or without parentheses."""

    @overload
    def __new__(cls, fn: F, /) -> F: ...
    @overload
    def __new__(cls, *args: Any, **kwargs: Any) -> Self: ...
    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        if cls._bare and len(args) == 1 and callable(args[0]) and not isinstance(args[0], bool):
            return cls()(args[0])
        return object.__new__(cls)

    _bare = True

    def _target(self) -> bool:
        return False

    def __enter__(self) -> None:
        self._before = T.grad
        executor.set_grad(self._target())

    def __exit__(self, *exc: Any) -> None:
        executor.set_grad(self._before)

    def clone(self) -> Self:
        """A fresh one with the same settings."""
        return type(self)()

    def __call__(self, fn: F) -> F:
        """Wraps a function (or generator function) to run under this mode."""
        if inspect.isclass(fn):
            fn.__init__ = self(fn.__init__)
            return fn  # pyright: ignore[reportReturnType]  # it is an F, narrowed
        if inspect.isgeneratorfunction(fn):

            @functools.wraps(fn)
            def steps(*args, **kwargs):
                generator = fn(*args, **kwargs)
                try:
                    with self.clone():
                        sent = generator.send(None)
                    while True:
                        try:
                            given = yield sent
                        except GeneratorExit:
                            with self.clone():
                                generator.close()
                            raise
                        except BaseException as error:
                            with self.clone():
                                sent = generator.throw(error)
                        else:
                            with self.clone():
                                sent = generator.send(given)
                except StopIteration as stop:
                    return stop.value

            return steps  # pyright: ignore[reportReturnType]  # wraps() keeps the signature

        @functools.wraps(fn)
        def under(*args, **kwargs):
            with self.clone():
                return fn(*args, **kwargs)

        return under  # pyright: ignore[reportReturnType]  # the same


class no_grad(_Mode):
    """Operations are not recorded for a backward."""


class enable_grad(_Mode):
    """Operations are recorded for a backward."""

    def _target(self) -> bool:
        return True


class inference_mode(_Mode):
    """`no_grad`. Differs from torch: the tensors made under it are ordinary ones."""

    def __init__(self, mode: bool = True):
        self.mode = mode

    @overload
    def __new__(cls, mode: F, /) -> F: ...
    @overload
    def __new__(cls, mode: bool = True) -> Self: ...
    def __new__(cls, mode: Any = True) -> Any:
        if callable(mode) and not isinstance(mode, bool):
            return object.__new__(cls)._with(True)(mode)
        return object.__new__(cls)

    def _with(self, mode: bool) -> Self:
        self.mode = mode
        return self

    def _target(self) -> bool:
        return not self.mode

    def __enter__(self) -> None:
        super().__enter__()
        self._outer = inference[0]
        inference[0] = self.mode

    def __exit__(self, *exc: Any) -> None:
        inference[0] = self._outer
        super().__exit__(*exc)

    def clone(self) -> Self:
        return type(self)(self.mode)


inference = [False]


class set_grad_enabled(_Mode):
    """Turns recording on or off: at once, and for the block if used as a context manager."""

    _bare = False

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        return object.__new__(cls)

    def __init__(self, mode: bool):
        if not isinstance(mode, bool):
            raise TypeError(
                f"set_grad_enabled(): argument 'enabled' (position 1) must be bool, not {type(mode).__name__}"
            )
        self.mode = mode
        self._before = T.grad
        executor.set_grad(mode)

    def _target(self) -> bool:
        return self.mode

    def __enter__(self) -> None:
        executor.set_grad(self.mode)

    def __call__(self, fn: F) -> F:
        executor.set_grad(self._before)
        return super().__call__(fn)

    def clone(self) -> Self:
        return type(self)(self.mode)


def is_grad_enabled() -> bool:
    """Whether operations are recorded for a backward."""
    return T.grad


def is_inference_mode_enabled() -> bool:
    """Whether `inference_mode` is on."""
    return inference[0]
