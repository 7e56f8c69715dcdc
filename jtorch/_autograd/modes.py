"""Grad modes: each a context manager and a decorator, of functions and of generators."""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable
from typing import Any, Self, TypeVar, overload

from jtorch._runtime.executor import T, set_mode

F = TypeVar("F", bound=Callable[..., Any])


_serials = itertools.count()
_entered: list[int] = []  # the serial numbers of the modes that a block is under, innermost last


class _Mode:
    """Switches recording of gradients; usable as `with`, as a decorator with or without parentheses."""

    @overload
    def __new__(cls, fn: F, /) -> F: ...
    @overload
    def __new__(cls, *args: Any, **kwargs: Any) -> Self: ...
    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        if args and cls._bare and len(args) == 1 and callable(args[0]) and not isinstance(args[0], bool):
            return cls()(args[0])
        return object.__new__(cls)

    _bare = True
    _before = True, False
    _serial: int | None = None

    def _target(self, inference: bool) -> tuple[bool, bool]:
        """Whether gradients are recorded, and whether inference_mode is on, from whether it is on before."""
        return False, inference

    def __enter__(self) -> None:
        self._enter(T.modes)

    def _enter(self, before: tuple[bool, bool]) -> None:
        self._before = before
        if self._serial is None:
            self._serial = serial = next(_serials)
            _entered.append(serial)
        set_mode(*self._target(before[1]))

    def __exit__(self, *exc: Any) -> None:
        set_mode(*self._before)
        serial = self._serial
        if _entered and _entered[-1] == serial:
            _entered.pop()
        elif serial in _entered:
            del _entered[_entered.index(serial) :]
        self._serial = None

    def __del__(self) -> None:
        # An interrupt that came just as the block was left, before the mode was put back.
        if self._serial is not None and self._serial in _entered:
            self.__exit__()

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

    __module__ = "jtorch.autograd.grad_mode"


class enable_grad(_Mode):
    """Operations are recorded for a backward."""

    __module__ = "jtorch.autograd.grad_mode"

    def _target(self, inference: bool) -> tuple[bool, bool]:
        return True, inference


class inference_mode(_Mode):
    """`no_grad` for good: the tensors made under it can't be part of a graph later, nor be written outside of it."""

    __module__ = "jtorch.autograd.grad_mode"

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

    def _target(self, inference: bool) -> tuple[bool, bool]:
        return not self.mode, self.mode

    def clone(self) -> Self:
        return type(self)(self.mode)


class set_grad_enabled(_Mode):
    """Turns recording on or off: at once, and for the block if used as a context manager."""

    __module__ = "jtorch.autograd.grad_mode"

    _bare = False

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        return object.__new__(cls)

    def __init__(self, mode: bool):
        if not isinstance(mode, bool):
            raise TypeError(
                f"set_grad_enabled(): argument 'enabled' (position 1) must be bool, not {type(mode).__name__}"
            )
        self.mode = mode
        self._before = before = T.modes
        set_mode(mode, before[1])

    def _target(self, inference: bool) -> tuple[bool, bool]:
        return self.mode, inference

    def __enter__(self) -> None:
        self._enter(self._before)

    def __call__(self, fn: F) -> F:
        set_mode(*self._before)
        return super().__call__(fn)

    def clone(self) -> Self:
        return type(self)(self.mode)


for _mode in (no_grad, enable_grad, inference_mode, set_grad_enabled):
    _mode.__module__ = "jtorch.autograd.grad_mode"


def is_grad_enabled() -> bool:
    """Whether operations are recorded for a backward."""
    return T.grad


def is_inference_mode_enabled() -> bool:
    """Whether `inference_mode` is on."""
    return T.inference
