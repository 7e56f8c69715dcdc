"""Modules as functions of their parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jtorch
from jtorch._tensor.tensor import Tensor


def _owner(module: Any, path: str) -> tuple[Any, str]:
    """The module that holds a parameter or buffer, and its name there."""
    *parts, name = path.split(".")
    for part in parts:
        module = getattr(module, part)
    return module, name


def functional_call(
    module: Any, parameter_and_buffer_dicts: dict[str, Tensor] | Sequence[dict[str, Tensor]], args: Any = None,
    kwargs: dict[str, Any] | None = None, *, tie_weights: bool = True, strict: bool = False,
) -> Any:  # fmt: skip
    """Calls a module with other tensors in the place of the parameters and buffers that are named.

    args: one positional argument, or a tuple of them. tie_weights: another name of the same parameter is replaced, too.
    RuntimeError, if strict, for names that the module has not or that are missing.
    """
    if isinstance(parameter_and_buffer_dicts, dict):
        given = dict(parameter_and_buffer_dicts)
    else:
        given = {}
        for part in parameter_and_buffer_dicts:
            if given.keys() & part.keys():
                raise ValueError(
                    f"{sorted(given.keys() & part.keys())} appeared in multiple dictionaries; behavior of functional call is "
                    "ambiguous"
                )
            given |= part
    own = dict(module.named_parameters(remove_duplicate=False)) | dict(module.named_buffers(remove_duplicate=False))
    if strict:
        missing, unexpected = own.keys() - given.keys(), given.keys() - own.keys()
        if missing or unexpected:
            words = [
                f"\n\t{word} key(s): {', '.join(map(repr, sorted(keys)))}."
                for word, keys in (("Unexpected", unexpected), ("Missing", missing))
                if keys
            ]
            raise RuntimeError(f"Error(s) in reparametrizing for {type(module).__name__}:" + "".join(words))
    if tie_weights:
        for name, t in list(given.items()):
            for other, held in own.items():
                if other != name and other not in given and held is own.get(name):
                    given[other] = t
    places = []
    for path, t in given.items():
        owner, name = _owner(module, path)
        # A name that is no parameter's or buffer's is an attribute for the time of the call.
        table: Any = next((x for x in (owner._parameters, owner._buffers) if name in x), owner.__dict__)
        places.append((table, name, table.get(name, table), path, t))
    if args is None:
        args = ()
    try:
        for table, name, _, _, t in places:
            table[name] = t
        return module(*(args if isinstance(args, tuple) else (args,)), **(kwargs or {}))
    finally:
        for table, name, held, path, _ in places:
            if isinstance(parameter_and_buffer_dicts, dict) and path in parameter_and_buffer_dicts:
                parameter_and_buffer_dicts[path] = table[name]  # a buffer that the call replaced
            if held is table:
                del table[name]
            else:
                table[name] = held


def stack_module_state(models: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parameters and the buffers of several modules of one kind, stacked by name along a new first dim."""
    models = list(models)
    if not models:
        raise RuntimeError("stack_module_state: Expected at least one model, got 0.")
    if len({m.training for m in models}) > 1:
        raise RuntimeError("stack_module_state: Expected all models to have the same training/eval mode.")
    if any(type(m) is not type(models[0]) for m in models):
        raise RuntimeError("stack_module_state: Expected all models to be of the same class.")

    def stacked(held: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        made = {}
        for name in held[0]:
            parts = [h[name] for h in held]
            together = jtorch.stack([p.detach() for p in parts])
            made[name] = together.requires_grad_() if parts[0].requires_grad else together
        return made

    return stacked([dict(m.named_parameters()) for m in models]), stacked([dict(m.named_buffers()) for m in models])


def replace_all_batch_norm_modules_(root: Any) -> Any:
    """Lets the batch norms in a module, which is changed, use the batch's statistics alone."""
    for module in root.modules():
        if isinstance(module, jtorch.nn.modules.batchnorm._BatchNorm):
            module.running_mean = module.running_var = module.num_batches_tracked = None
            module.track_running_stats = False
    return root
