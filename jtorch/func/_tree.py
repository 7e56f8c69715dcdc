"""Nests of tuples, lists and dicts, in the order that the user wrote them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any


def leaves(tree: Any) -> list[Any]:
    """What is in a nest."""
    if isinstance(tree, dict):
        return [leaf for part in tree.values() for leaf in leaves(part)]
    if isinstance(tree, tuple | list):
        return [leaf for part in tree for leaf in leaves(part)]
    return [tree]


def rebuild(tree: Any, found: Iterator[Any]) -> Any:
    """A nest of the same form around other leaves."""
    if isinstance(tree, dict):
        return type(tree)((key, rebuild(part, found)) for key, part in tree.items())
    if isinstance(tree, tuple | list):
        parts = [rebuild(part, found) for part in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return next(found)


def over(fn: Callable[[Any], Any], tree: Any) -> Any:
    """A nest of the same form, `fn` of each leaf."""
    return rebuild(tree, iter([fn(leaf) for leaf in leaves(tree)]))


def form(tree: Any) -> str:
    """The form of a nest, as torch's errors print it."""
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{key!r}: {form(part)}" for key, part in tree.items()) + "}"
    if isinstance(tree, list):
        return "[" + ", ".join(map(form, tree)) + "]"
    if isinstance(tree, tuple):
        return "(" + ", ".join(map(form, tree)) + ("," if len(tree) == 1 else "") + ")"
    return "*"


def spread(prefix: Any, tree: Any) -> list[Any] | None:
    """One entry of `prefix` for each leaf of a tree whose upper part has its form; None where the forms differ."""
    if isinstance(prefix, dict):
        if not isinstance(tree, dict) or prefix.keys() != tree.keys():
            return None
        pairs = [(prefix[key], tree[key]) for key in tree]
    elif isinstance(prefix, tuple | list):
        if type(prefix) is not type(tree) or len(prefix) != len(tree):
            return None
        pairs = list(zip(prefix, tree, strict=True))
    else:
        return [prefix] * len(leaves(tree))
    found = []
    for part, below in pairs:
        entries = spread(part, below)
        if entries is None:
            return None
        found += entries
    return found
