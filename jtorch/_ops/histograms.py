"""Histograms over several dims: the edges of the bins, and what falls between them."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np

from jtorch._ops._common import Array, Arrays
from jtorch._ops.registry import op


@op(key="_histogram_edges", function=False, out=False, differentiable=False)
def _histogram_edges(input: Array, bins: int, range: tuple[float, float] | None) -> Array:
    """`bins + 1` edges, evenly over the range, by default from the least element to the greatest."""
    if range is not None:
        low, high = (jnp.asarray(end, input.dtype) for end in range)
    elif input.size:
        low, high = jnp.min(input), jnp.max(input)
    else:
        low, high = jnp.zeros((), input.dtype), jnp.ones((), input.dtype)
    half = jnp.where(low == high, 0.5, 0).astype(input.dtype)
    return jnp.linspace(low - half, high + half, bins + 1, dtype=input.dtype)


@op(key="_histogram_counts", function=False, out=False, differentiable=False)
def _histogram_counts(input: Array, edges: Arrays, weight: Array | None, density: bool) -> Array:
    """How many rows of (N, D) lie in each cell; the last bin of a dim has both its edges."""
    sizes = tuple(e.shape[0] - 1 for e in edges)
    cell = jnp.zeros(input.shape[0], np.int64)
    inside = jnp.ones(input.shape[0], bool)
    for d, (bounds, size) in enumerate(zip(edges, sizes, strict=True)):
        x = input[:, d]
        inside &= (x >= bounds[0]) & (x <= bounds[-1])
        place = jnp.searchsorted(bounds, x, side="right") - 1
        cell = cell * size + jnp.minimum(place, size - 1)
    ones = jnp.ones(input.shape[0], input.dtype) if weight is None else weight
    counts = jnp.zeros(math.prod(sizes), input.dtype)
    counts = counts.at[jnp.where(inside, cell, 0)].add(jnp.where(inside, ones, 0)).reshape(sizes)
    if density:
        counts = counts / jnp.sum(counts)
        for d, bounds in enumerate(edges):
            counts = counts / jnp.diff(bounds).reshape([-1 if k == d else 1 for k in range(len(sizes))])
    return counts
