"""Sums of products by subscripts."""

from __future__ import annotations

import string

import jax.numpy as jnp
from jax import lax

from jtorch._ops._common import Array, Arrays, scalar_name
from jtorch._ops.registry import op

_HALVES = (jnp.dtype("float16"), jnp.dtype("bfloat16"))
_DOTS = "..."


def _labels(term: str, where: str, offset: int = 0) -> list[str]:
    """The subscripts of one term, an ellipsis as one entry. Spaces do not count."""
    found: list[str] = []
    i = 0
    while i < len(term):
        char = term[i]
        if char == " ":
            i += 1
        elif char == ".":
            if term[i : i + 3] != _DOTS:
                raise RuntimeError(f"einsum(): found '.' for {where} that is not part of any ellipsis")
            if _DOTS in found:
                raise RuntimeError(f"einsum(): found '.' for {where} for which an ellipsis was already found")
            found.append(_DOTS)
            i += 3
        elif char in string.ascii_letters:
            found.append(char)
            i += 1
        else:
            raise RuntimeError(
                f"einsum(): invalid subscript given at index {offset + i} in the equation string, subscripts must "
                "be in [a-zA-Z]"
            )
    return found


def _split(equation: str, operands: Arrays) -> tuple[list[list[str]], list[str] | None]:
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    if len(terms) > len(operands):
        raise RuntimeError("einsum(): fewer operands were provided than specified in the equation")
    if len(terms) < len(operands):
        raise RuntimeError("einsum(): more operands were provided than specified in the equation")
    inputs, offset = [], 0
    for i, term in enumerate(terms):
        inputs.append(_labels(term, f"operand {i}", offset))
        offset += len(term) + 1
    return inputs, _labels(right, "the output", len(left) + 2) if arrow else None


def _expand(labels: list[str], ndim: int, number: int) -> list[str | int]:
    """The label of each dim; dims under the ellipsis are numbered from the back: -1, -2 ..."""
    named = [label for label in labels if label != _DOTS]
    spare = ndim - len(named)
    if _DOTS not in labels:
        if spare:
            raise RuntimeError(
                f"einsum(): the number of subscripts in the equation ({len(named)}) does not match the number of "
                f"dimensions ({ndim}) for operand {number} and no ellipsis was given"
            )
        return list(named)
    if spare < 0:
        raise RuntimeError(
            f"einsum(): the number of subscripts in the equation ({len(named)}) is more than the number of dimensions "
            f"({ndim}) for operand {number}"
        )
    at = labels.index(_DOTS)
    return [*labels[:at], *range(-spare, 0), *labels[at + 1 :]]


def _output(given: list[str] | None, operands: list[list[str | int]], dots: bool) -> list[str | int]:
    seen = [label for labels in operands for label in labels]
    ellipsis = sorted({label for label in seen if isinstance(label, int)})
    if given is None:
        once = sorted(label for label in set(seen) if isinstance(label, str) and seen.count(label) == 1)
        return [*ellipsis, *once]
    if _DOTS in given and not dots:
        # torch lets an ellipsis in the output stand for no dims at all.
        given = [label for label in given if label != _DOTS]
    for label in given:
        if label == _DOTS:
            continue
        if given.count(label) > 1:
            raise RuntimeError(f"einsum(): output subscript {label} appears more than once in the output")
        if label not in seen:
            raise RuntimeError(
                f"einsum(): output subscript {label} does not appear in the equation for any input operand"
            )
    return [x for label in given for x in (ellipsis if label == _DOTS else [label])]


@op(key="einsum.static", name="einsum", grad_name="ViewBackward0")
def einsum(equation: str, operands: Arrays) -> Array:
    """Einstein summation in torch's notation: ellipses, repeated subscripts (diagonals), size-1 dims broadcast."""
    if not operands:
        raise RuntimeError("einsum(): must provide at least one operand")
    for x in operands[1:]:
        if x.dtype != operands[0].dtype:
            raise RuntimeError(f"expected scalar type {scalar_name(operands[0])} but found {scalar_name(x)}")
    terms, given = _split(equation, operands)
    labels = [_expand(term, x.ndim, i) for i, (term, x) in enumerate(zip(terms, operands, strict=True))]
    sizes: dict[str | int, int] = {}
    for i, (own, x) in enumerate(zip(labels, operands, strict=True)):
        mine: dict[str | int, int] = {}
        for label, size in zip(own, x.shape, strict=True):
            if mine.setdefault(label, size) != size:
                raise RuntimeError(
                    f"einsum(): subscript {label} is repeated for operand {i} but the sizes don't match, "
                    f"{size} != {mine[label]}"
                )
        for label, size in mine.items():
            before = sizes.get(label, 1)
            if before != 1 and size not in (1, before):
                name = f"subscript {label}" if isinstance(label, str) else "dimension under the ellipsis"
                raise RuntimeError(
                    f"einsum(): {name} has size {size} for operand {i} which does not broadcast with previously seen "
                    f"size {before}"
                )
            sizes[label] = before if size == 1 else size
    result = _output(given, labels, any(_DOTS in term for term in terms))
    # A size-1 dim that broadcasts is dropped: the product is the same without it.
    trimmed, own_labels = [], []
    for own, x in zip(labels, operands, strict=True):
        drop = tuple(i for i, label in enumerate(own) if x.shape[i] == 1 != sizes[label])
        trimmed.append(jnp.squeeze(x, drop))
        own_labels.append([label for i, label in enumerate(own) if i not in drop])
    letter = dict(zip(sizes, string.ascii_letters, strict=False))
    text = ",".join("".join(letter[label] for label in own) for own in own_labels)
    text += "->" + "".join(letter[label] for label in result)
    dtype = operands[0].dtype
    wide = jnp.float32 if dtype in _HALVES else dtype
    return jnp.einsum(text, *trimmed, precision=lax.Precision.HIGHEST, preferred_element_type=wide).astype(dtype)
