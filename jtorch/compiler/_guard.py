"""Whether Python's state is as it was when it was walked."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from operator import is_
from typing import Any

from jtorch.compiler._state import State, same_marks


def guard(state: State, but: set[tuple[int, Any]]) -> Callable[[], bool]:
    """Tells whether Python's state is as it was when it was walked. `but` are (id of container, key) that may differ.

    Calls wait for it, so it is code of its own, with everything that it compares among its constants.
    """
    known: dict[str, Any] = {"is_": is_, "same_marks": same_marks, "values_of": dict.values}
    known["ordered_values_of"] = OrderedDict.values
    loose = {container for container, _ in but}
    tests: list[str] = []

    def name(x: Any) -> str:
        known[f"k{len(known)}"] = x
        return f"k{len(known) - 1}"

    def entries(n: str, x: Any, keys, values) -> list[str]:
        kept = [(k, v) for k, v in zip(keys, values, strict=True) if (id(x), k) not in but]
        return [f"{n}[{repr(k) if type(k) in (str, int) else name(k)}] is {name(v)}" for k, v in kept]

    for x, keys, values in state.containers:
        n, text = name(x), bool(keys) and all(type(k) is str for k in keys)
        if not values:
            tests.append(f"not {n}")
            continue
        tests.append(f"len({n}) == {len(values)}")
        if keys and (len(keys) > 1 or not text or id(x) in loose or hasattr(x, "__missing__")):
            # Ahead of the values: one that is missing may be made by the look-up.
            tests.append(f"(*{n},) == {name(keys)}" if text else f"all(map(is_, {n}, {name(keys)}))")
        if text or id(x) in loose or type(x) is list:
            tests += entries(n, x, keys or range(len(values)), values)
        else:
            held = f"{'ordered_' if isinstance(x, OrderedDict) else ''}values_of({n})" if keys else n
            tests.append(f"all(map(is_, {held}, {name(values)}))")
    for space, size, names, values in state.objects:
        n = name(space)
        tests += [f"len({n}) == {size}", *entries(n, space, names, values)]
    for x, kind, own in state.kinds:
        n = name(x)
        tests += [f"type({n}) is {name(kind)}", f"{n}.__dict__ is {name(own)}"]
    for f, (code, defaults, kwdefaults) in state.functions:
        n = name(f)
        tests += [f"{n}.__code__ is {name(code)}", f"{n}.__defaults__ is {name(defaults)}"]
        tests.append(f"{n}.__kwdefaults__ is {name(kwdefaults)}")
    tests += [f"len({name(names)} & {name(space)}.keys()) == {there}" for space, names, there in state.spaces]
    for space, key, value in state.singles:
        tests += entries(name(space), space, (key,), (value,))
    tests += [f"{name(c)}.cell_contents is {name(v)}" for c, v in state.cells if (id(c), None) not in but]
    tests += [f"same_marks({name(t)}, {name(own)})" for t, own in state.marks]
    given = ", ".join(f"{n}={n}" for n in known)
    source = f"def holds({given}):\n try:\n  return {' and '.join(tests) or 'True'}\n except GONE: return False"
    scope: dict[str, Any] = {**known, "GONE": (KeyError, IndexError, ValueError)}
    exec(compile(source, "<jtorch guard>", "exec"), scope)
    return scope["holds"]
