"""Whether Python's state is as it was when it was walked."""

from __future__ import annotations

import operator
from collections import OrderedDict
from collections.abc import Callable
from itertools import chain
from operator import attrgetter, is_, itemgetter
from typing import Any

from jtorch.compiler._state import State, lookup, parts, same_marks


class Guard:
    """Tells whether Python's state is as it was when it was walked. `but` are (id of container, key) that may differ.

    Looked at in a few passes that run in C: calls wait for it.
    """

    __slots__ = (
        "cells", "dicts", "empty", "entries", "expected", "filled", "functions", "getters", "keyed", "keys", "kinds", "lists", "marks",
        "ordered", "own", "parts", "quick", "sizes", "spaces", "things", "types", "whole",
    )  # fmt: skip

    def __init__(self, state: State, but: set[tuple[int, Any]]):
        loose = {container for container, _ in but}
        self.entries = [(s, n, v) for s, n, v in state.singles if (id(s), n) not in but]
        for x, keys, values in state.containers:
            if id(x) in loose:
                places = keys if isinstance(x, dict) else range(len(values))
                self.entries += [(x, k, v) for k, v in zip(places, values, strict=True) if (id(x), k) not in but]
        self.cells = [(c, v) for c, v in state.cells if (id(c), None) not in but]
        self.spaces = state.spaces
        self.empty = [x for x, _, v in state.containers if not v] + [d for d, size, *_ in state.objects if not size]
        whole = [(x, k, v) for x, k, v in state.containers if v]
        dicts = [(x, k, v) for x, k, v in whole if isinstance(x, dict) and not isinstance(x, OrderedDict)]
        ordered = [(x, k, v) for x, k, v in whole if isinstance(x, OrderedDict)]
        lists = [(x, k, v) for x, k, v in whole if not isinstance(x, dict)]
        objects = [(d, size, n, v) for d, size, n, v in state.objects if size]
        self.filled = [x for x, *_ in dicts + ordered + lists] + [d for d, *_ in objects]
        self.sizes = [len(v) for *_, v in dicts + ordered + lists] + [size for _, size, *_ in objects]
        self.keyed = [x for x, *_ in dicts + ordered]
        self.keys = [k for _, keys, _ in dicts + ordered for k in keys]
        # The values of a dict with entries that may differ are among `entries`.
        self.dicts = [x for x, *_ in dicts if id(x) not in loose]
        self.ordered = [x for x, *_ in ordered if id(x) not in loose]
        self.lists = [x for x, *_ in lists if id(x) not in loose]
        self.things, self.getters, expected = [], [], []
        for d, _, names, values in objects:
            kept = [(n, v) for n, v in zip(names, values, strict=True) if (id(d), n) not in but]
            if kept:
                names = [n for n, _ in kept]
                self.things.append(d)
                self.getters.append(itemgetter(*names, names[0]))  # twice: of one name it would give no tuple
                expected += [*(v for _, v in kept), kept[0][1]]
        self.expected = [e for x, _, v in dicts + ordered + lists if id(x) not in loose for e in v] + expected
        self.functions = [f for f, _ in state.functions]
        self.parts = [part for _, parts in state.functions for part in parts]
        self.kinds = [x for x, *_ in state.kinds]
        self.types = [kind for _, kind, _ in state.kinds]
        self.own = [space for *_, space in state.kinds]
        self.marks = state.marks
        self.whole = [(x, k, None if id(x) in loose else v) for x, k, v in dicts + ordered + lists]
        self.quick: Callable[[], bool] | None = None

    def holds(self) -> bool:
        """Whether everything is as it was."""
        if any(self.empty) or list(map(len, self.filled)) != self.sizes:
            return False
        try:
            now = chain(
                chain.from_iterable(map(dict.values, self.dicts)),
                chain.from_iterable(map(OrderedDict.values, self.ordered)),
                chain.from_iterable(self.lists),
                chain.from_iterable(map(_call, self.getters, self.things)),
            )
            if not all(map(is_, now, self.expected)):
                return False
        except KeyError:
            return False
        if not (
            all(map(is_, map(type, self.kinds), self.types))
            and all(map(is_, map(_own, self.kinds), self.own))
            and all(map(is_, chain.from_iterable(self.keyed), self.keys))
            and all(map(is_, chain.from_iterable(map(parts, self.functions)), self.parts))
        ):
            return False
        for space, names, there in self.spaces:
            if len(names & space.keys()) != there:
                return False
        for space, name, value in self.entries:
            if lookup(space, name) is not value:
                return False
        try:
            for cell, value in self.cells:
                if cell.cell_contents is not value:
                    return False
        except ValueError:  # empty
            return False
        return all(same_marks(t, own) for t, own in self.marks)

    def quicken(self) -> Callable[[], bool]:
        """`holds` as code of its own, with everything that it compares among its constants: half the time of passes."""
        if self.quick is None:
            self.quick = self._generate() if len(self.expected) < LONG else self.holds
        return self.quick

    def _generate(self) -> Callable[[], bool]:
        known: dict[str, Any] = {"is_": is_, "same_marks": same_marks, "dict_values": dict.values}
        known["ordered_values"] = OrderedDict.values

        def name(x: Any) -> str:
            known[f"k{len(known)}"] = x
            return f"k{len(known) - 1}"

        tests = [f"not {name(x)}" for x in self.empty]
        sized = zip(self.filled[len(self.whole) :], self.sizes[len(self.whole) :], strict=True)
        tests += [f"len({name(d)}) == {size}" for d, size in sized]
        for x, keys, values in self.whole:
            n, text = name(x), bool(keys) and all(type(k) is str for k in keys)
            if not text:
                tests.append(f"len({n}) == {len(keys or values or ())}")
            if keys:  # ahead of the values: one that is missing may be made by the look-up
                tests.append(f"(*{n},) == {name(keys)}" if text else f"all(map(is_, {n}, {name(keys)}))")
            if values is None:
                continue
            if text:
                tests += [f"{n}[{k!r}] is {name(v)}" for k, v in zip(keys, values, strict=True)]
            elif type(x) is list:
                tests += [f"{n}[{i}] is {name(v)}" for i, v in enumerate(values)]
            else:
                ordered = "ordered_values" if isinstance(x, OrderedDict) else "dict_values"
                tests.append(f"all(map(is_, {f'{ordered}({n})' if keys else n}, {name(values)}))")
        at = 0
        flat = self.expected[len(self.expected) - sum(len(get.__reduce__()[1]) for get in self.getters) :]
        for d, get in zip(self.things, self.getters, strict=True):
            n, names = name(d), get.__reduce__()[1]
            tests += [f"{n}[{a!r}] is {name(v)}" for a, v in zip(names[:-1], flat[at:], strict=False)]
            at += len(names)
        for x, kind, own in zip(self.kinds, self.types, self.own, strict=True):
            n = name(x)
            tests += [f"type({n}) is {name(kind)}", f"{n}.__dict__ is {name(own)}"]
        for i, f in enumerate(self.functions):
            n = name(f)
            made_of = zip(("__code__", "__defaults__", "__kwdefaults__"), self.parts[3 * i :], strict=False)
            tests += [f"{n}.{part} is {name(v)}" for part, v in made_of]
        tests += [f"len({name(names)} & {name(space)}.keys()) == {there}" for space, names, there in self.spaces]
        for space, at_name, value in self.entries:
            key = repr(at_name) if type(at_name) in (str, int) else name(at_name)
            tests.append(f"{name(space)}[{key}] is {name(value)}")
        tests += [f"{name(cell)}.cell_contents is {name(value)}" for cell, value in self.cells]
        tests += [f"same_marks({name(t)}, {name(own)})" for t, own in self.marks]
        given = ", ".join(f"{n}={n}" for n in known)
        source = f"def holds({given}):\n try:\n  return {' and '.join(tests) or 'True'}\n except _OTHER: return False"
        scope: dict[str, Any] = {**known, "_OTHER": (KeyError, IndexError, ValueError)}
        exec(compile(source, "<jtorch guard>", "exec"), scope)
        return scope["holds"]


LONG = 2000  # comparisons: compiling more of them takes too long
_own = attrgetter("__dict__")
_call: Any = operator.call
