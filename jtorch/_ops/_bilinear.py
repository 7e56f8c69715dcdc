"""The convolution as three bilinear maps, each the transpose of the others.

    correlate(x, w)      the convolution itself
    spread_back(g, w)    its transpose in x: the input gradient, and the transposed convolution
    taps_of(x, g)        its transpose in w: the weight gradient

They are JAX primitives so that differentiation in any mode and to any order stays among the three, whatever form each
takes on the device: the forms are chosen when a program is lowered (`_conv_forms`), by platform and static shape.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching

from jtorch._ops import _conv_forms as forms
from jtorch._ops._common import Array
from jtorch._ops._conv_geometry import Geometry
from jtorch._ops._lowering import lower


def _primitive(name: str, shape: Callable, on_cpu: Callable, elsewhere: Callable) -> Primitive:
    primitive = Primitive(name)
    run = jax.jit(lambda a, b, geometry: primitive.bind(a, b, geometry=geometry), static_argnums=2)
    primitive.def_impl(lambda a, b, *, geometry: run(a, b, geometry))
    primitive.def_abstract_eval(lambda a, b, *, geometry: a.update(shape=shape(a, b, geometry), weak_type=False))
    lower(primitive, elsewhere, on_cpu)
    batching.primitive_batchers[primitive] = partial(_batch, elsewhere)
    return primitive


def _batch(form: Callable, operands, dims, *, geometry: Geometry):
    """Under vmap the plain form is batched: its own rules fold the new dim into batch or groups."""
    return jax.vmap(partial(form, geometry=geometry), dims)(*operands), 0


_correlate = _primitive(
    "convolution", lambda x, w, at: (x.shape[0], w.shape[0], *at.out), forms.correlate_on_cpu, forms.correlate
)
_spread_back = _primitive(
    "convolution_input_grad",
    lambda g, w, at: (g.shape[0], w.shape[1] * at.groups, *at.spatial),
    forms.spread_back_on_cpu,
    forms.spread_back,
)
_taps_of = _primitive(
    "convolution_weight_grad",
    lambda x, g, at: (g.shape[1], x.shape[1] // at.groups, *at.kernel),
    forms.taps_of_on_cpu,
    forms.taps_of,
)


def correlate(x: Array, w: Array, geometry: Geometry) -> Array:
    """x (N, C, *spatial) with w (O, C / groups, *kernel): (N, O, *out)."""
    return _correlate.bind(x, w, geometry=geometry)


def spread_back(g: Array, w: Array, geometry: Geometry) -> Array:
    """g (N, O, *out) with w (O, C / groups, *kernel): (N, C, *spatial)."""
    return _spread_back.bind(g, w, geometry=geometry)


def taps_of(x: Array, g: Array, geometry: Geometry) -> Array:
    """x (N, C, *spatial) with g (N, O, *out): (O, C / groups, *kernel)."""
    return _taps_of.bind(x, g, geometry=geometry)


def _bilinear(primitive: Primitive, left: Callable, right: Callable) -> None:
    ad.defbilinear(
        primitive,
        lambda ct, a, b, *, geometry: left(ct, b, geometry),
        lambda ct, a, b, *, geometry: right(ct, a, geometry),
    )


_bilinear(_correlate, lambda ct, w, at: spread_back(ct, w, at), lambda ct, x, at: taps_of(x, ct, at))
_bilinear(_spread_back, lambda ct, w, at: correlate(ct, w, at), lambda ct, g, at: taps_of(ct, g, at))
_bilinear(_taps_of, lambda ct, g, at: spread_back(g, ct, at), lambda ct, x, at: correlate(x, ct, at))
