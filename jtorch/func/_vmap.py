"""`vmap`: a function of single examples, called on a batch."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable
from typing import Any

import jax

import jtorch
from jtorch._autograd.modes import enable_grad
from jtorch._runtime.executor import T
from jtorch._tensor.backward import grad as gradients
from jtorch._tensor.tensor import Tensor
from jtorch.autograd.function import Function
from jtorch.func import _tree
from jtorch.func._level import outer_leaves

Dims = int | tuple | list | dict | None


class _Map:
    """One call: the function of a list of tensors, and along which dim each of them is mapped."""

    def __init__(self, fn: Callable[[list[Tensor]], list[Tensor]], dims: list[int | None], size: int):
        self.fn, self.dims, self.size = fn, dims, size
        self.captured: list[Tensor] = []  # leaves that require grad and that the function has from elsewhere

    def __call__(self, tensors: list[Tensor], out_dims: Callable[[], list[int | None]]) -> list[Tensor]:
        """The results, each with the batch along the dim that `out_dims()` says after the call."""
        inside: list[Any] = []

        def single(*parts: Tensor) -> list[Tensor]:
            given = iter(parts)
            outs = self.fn([t if d is None else next(given) for t, d in zip(tensors, self.dims, strict=True)])
            if T.grad:
                inside.extend(outer_leaves(outs))
            dims.extend(out_dims())
            # Results without a batch dim are the same for each example: the first one's.
            return [o.detach() for o in outs]

        dims: list[int | None] = []
        mapped = [t.detach().movedim(d, 0) for t, d in zip(tensors, self.dims, strict=True) if d is not None]
        outs = jax.vmap(single)(*mapped)
        own = {id(t) for t in tensors}
        self.captured = [t for t in {id(n): n.variable for n in inside}.values() if t is not None and id(t) not in own]
        return [o[0] if d is None else o.movedim(0, d) for o, d in zip(outs, dims, strict=True)]


class _Mapped(Function):
    """Puts a finished call of vmap into the graph: its backward is a vmap of the function's own."""

    @staticmethod
    def forward(ctx: Any, call: _Map, out_dims: list, results: list, count: int, *inputs: Tensor) -> tuple:
        ctx.call, ctx.out_dims, ctx.count = call, out_dims, count
        ctx.save_for_backward(*inputs)
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, *cts: Tensor) -> tuple:
        call, inputs, count = ctx.call, ctx.saved_tensors, ctx.count
        wanted = [i for i, need in enumerate(ctx.needs_input_grad[4:]) if need]

        def pull(tensors: tuple, cts: tuple) -> tuple:
            with enable_grad():
                fresh = [t.view_as(t) if t.requires_grad else t.detach() for t in tensors[:count]]
                fresh = [t.requires_grad_() if i in wanted and not t.requires_grad else t for i, t in enumerate(fresh)]
                outs = call.fn(fresh)
                sources = [*fresh, *inputs[count:]]
                pairs = [(o, ct) for o, ct in zip(outs, cts, strict=True) if o.requires_grad]
                found = gradients(
                    [o for o, _ in pairs], [sources[i] for i in wanted], [ct for _, ct in pairs],
                    create_graph=True, materialize_grads=True,
                )  # fmt: skip
            return tuple(found)

        dims = [*call.dims, *[None] * (len(inputs) - count)]
        none = [i for i, d in enumerate(ctx.out_dims) if d is None]
        if none:  # the same for each example: an equal part of the gradient each
            cts = tuple(ct / call.size if i in none else ct for i, ct in enumerate(cts))
        found = vmap(pull, in_dims=(tuple(dims), tuple(ctx.out_dims)), out_dims=0)(inputs, cts)
        made: list[Any] = [None] * len(inputs)
        for i, g in zip(wanted, found, strict=True):
            d = dims[i]
            made[i] = g.sum(0) if d is None else g.movedim(0, d)
        return (None, None, None, None, *made)


def _checked(func: Callable, in_dims: Dims, args: tuple) -> tuple[list[Any], list[int | None], int]:
    """The leaves of the arguments, the dim of each, and the size of the batch."""
    name = getattr(func, "__name__", repr(func))
    where = f"vmap({name}, in_dims={in_dims}, ...)(<inputs>)"
    if not isinstance(in_dims, int | tuple | list) or isinstance(in_dims, bool):
        raise ValueError(
            f"{where}: expected `in_dims` to be int or a (potentially nested) tuple matching the structure of inputs, got: "
            f"{type(in_dims)}."
        )
    if not args:
        raise ValueError(
            f"vmap({name})(<inputs>): got no inputs. Maybe you forgot to add inputs, or you are trying to vmap over a "
            "function with no inputs. The latter is unsupported."
        )
    flat = _tree.leaves(args)
    dims = _tree.spread(tuple(in_dims) if isinstance(in_dims, list) else in_dims, args)
    if dims is None:
        raise ValueError(
            f"{where}: in_dims is not compatible with the structure of `inputs`. in_dims has structure "
            f"{_tree.form(in_dims)} but inputs has structure {_tree.form(args)}."
        )
    made: list[int | None] = []
    for x, d in zip(flat, dims, strict=True):
        if d is not None and not isinstance(d, int):
            raise ValueError(
                f"{where}: Got in_dim={d} for an input but in_dim must be either an integer dimension or None."
            )
        if d is not None and not isinstance(x, Tensor):
            raise ValueError(
                f"{where}: Got in_dim={d} for an input but the input is of type {type(x)}. We cannot vmap over non-Tensor "
                "arguments, please use None as the respective in_dim"
            )
        if d is not None and not -x.ndim <= d < x.ndim:
            raise ValueError(
                f"{where}: Got in_dim={d} for some input, but that input is a Tensor of dimensionality {x.ndim} so expected "
                f"in_dim to satisfy -{x.ndim} <= in_dim < {x.ndim}."
            )
        made.append(None if d is None else d % x.ndim)
    sizes = [x.shape[d] for x, d in zip(flat, made, strict=True) if d is not None]
    if not sizes:
        raise ValueError(f"{where}: at least one of the in_dims must be an int: none of the inputs is mapped over.")
    if len(set(sizes)) > 1:
        raise ValueError(
            "vmap: Expected all tensors to have the same size in the mapped dimension, got sizes "
            f"{sizes} for the mapped dimension"
        )
    return flat, made, sizes[0]


def _out_dims(func: Callable, out: Any, out_dims: Dims) -> list[int | None]:
    name = getattr(func, "__name__", repr(func))
    dims = _tree.spread(out_dims, out)
    if dims is None:
        raise ValueError(
            f"vmap({name}, ..., out_dims={out_dims})(<inputs>): out_dims is not compatible with the structure of `outputs`. "
            f"out_dims has structure {_tree.form(out_dims)} but outputs has structure {_tree.form(out)}."
        )
    return dims


def vmap(
    func: Callable[..., Any], in_dims: Dims = 0, out_dims: Dims = 0, randomness: str = "error", *,
    chunk_size: int | None = None,
) -> Callable[..., Any]:  # fmt: skip
    """A function that maps `func` over a dim of its tensors: one program for the whole batch.

    in_dims, out_dims: the dim of each argument and result; None: not mapped. A nest of them follows the arguments'.
    randomness: "error" refuses random operations; "same" gives each example the same numbers. "different" is not there.
    Gradients flow to the arguments and to leaves that `func` has from elsewhere. What a value decides raises, as in torch.
    """
    if randomness not in ("error", "same", "different"):
        raise RuntimeError(f"Only allowed values for randomness are 'error', 'different', or 'same'. Got {randomness}")
    if chunk_size is not None and chunk_size <= 0:
        raise ValueError(f"vmap: chunk_size should be None or greater than 0. (got {chunk_size})")

    @functools.wraps(func)
    def run(*args: Any, **kwargs: Any) -> Any:
        flat, dims, size = _checked(func, in_dims, args)
        if chunk_size is not None and chunk_size < size:
            return _in_chunks(flat, dims, size, args, kwargs)
        places = [i for i, x in enumerate(flat) if isinstance(x, Tensor)]
        form: list[Any] = []
        out_at: list[int | None] = []

        def single(tensors: list[Tensor]) -> list[Tensor]:
            given = list(flat)
            for i, t in zip(places, tensors, strict=True):
                given[i] = t
            out = func(*_tree.rebuild(args, iter(given)), **kwargs)
            outs = _tree.leaves(out)
            for o in outs:
                if not isinstance(o, Tensor):
                    name = getattr(func, "__name__", repr(func))
                    raise ValueError(
                        f"vmap({name}, ...): `{name}` must only return Tensors, got type {type(o)}. Did you mean to set "
                        "out_dims= to None for output?"
                    )
            form[:] = [out]
            out_at[:] = _out_dims(func, out, out_dims)
            return outs

        call = _Map(single, [dims[i] for i in places], size)
        tensors = [flat[i] for i in places]
        before = None if randomness == "same" else jtorch.get_rng_state()
        try:
            results = call(tensors, lambda: out_at)
        except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError) as error:
            raise _value_needed(error) from None
        if before is not None and not jtorch.equal(before, jtorch.get_rng_state()):
            jtorch.set_rng_state(before)
            if randomness == "different":
                raise NotImplementedError(
                    "vmap: randomness='different' is not supported here; draw the numbers outside."
                )
            raise RuntimeError(
                "vmap: called random operation while in randomness error mode. Please either use the 'same' or 'different' "
                "randomness flags on vmap or perform the randomness operation out of vmap"
            )
        sources = [*tensors, *call.captured]
        if T.grad and any(t.requires_grad for t in sources):
            results = _Mapped.apply(call, list(out_at), results, len(tensors), *sources)
        return _tree.rebuild(form[0], iter(results))

    def _in_chunks(flat: list, dims: list, size: int, args: tuple, kwargs: dict) -> Any:
        parts, out = [], None
        for start in range(0, size, chunk_size or size):
            length = min(chunk_size or size, size - start)
            piece = [x if d is None else x.narrow(d, start, length) for x, d in zip(flat, dims, strict=True)]
            out = vmap(func, in_dims, out_dims, randomness)(*_tree.rebuild(args, iter(piece)), **kwargs)
            parts.append(_tree.leaves(out))
        at = _out_dims(func, out, out_dims)
        joined = [c[0] if d is None else jtorch.cat(c, d) for c, d in zip(zip(*parts, strict=True), at, strict=True)]
        return _tree.rebuild(out, iter(joined))

    return run


def _value_needed(error: Exception) -> RuntimeError:
    asked = [frame.name for frame in traceback.extract_tb(error.__traceback__) if frame.name in ("item", "__bool__")]
    if asked[:1] == ["item"]:
        return RuntimeError(
            "vmap: It looks like you're calling .item() on a Tensor. We don't support vmap over calling .item() on a Tensor, "
            "please try to rewrite what you're doing with other operations. If error is occurring somewhere inside PyTorch "
            "internals, please file a bug report."
        )
    return RuntimeError(
        "vmap: It looks like you're attempting to use a Tensor in some data-dependent control flow. We don't support that "
        "yet, please file an issue at https://github.com/pytorch/pytorch/issues ."
    )
