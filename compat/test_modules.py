"""Every module of PyTorch's own database that jtorch has: construction, state_dict, forward, backward."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.testing._internal.common_modules import ModuleInfo, ModuleInput, module_db

from compat import bridge, judge
from compat.ledger import Ledger

ENTRIES = {info.name.removeprefix("nn."): info for info in module_db}


@pytest.fixture(params=sorted(ENTRIES))
def entry(request) -> ModuleInfo:
    return ENTRIES[request.param]


@functools.lru_cache(maxsize=16)
def _inputs(name: str, training: bool, count: int) -> tuple[ModuleInput, ...]:
    info = ENTRIES[name]
    torch.manual_seed(0)
    made = list(info.module_inputs_func(info, device="cpu", dtype=torch.float32, requires_grad=True, training=training))
    if len(made) <= count:
        return tuple(made)
    return tuple(made[k * (len(made) - 1) // max(1, count - 1)] for k in range(count))


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_module(entry, training, request, execution_mode, samples):
    name = entry.name.removeprefix("nn.")
    ledger = Ledger(request, f"nn.{name}", execution_mode)
    check = "module train" if training else "module eval"
    try:
        theirs = bridge.lookup(f"nn.{name}")
    except bridge.Absent as error:
        ledger.note(check, "float32", "absent", str(error))
    else:
        cases: list[tuple[str, Callable[[], Any]]] = []
        for k, one in enumerate(_inputs(name, training, samples + 2)):
            times = 3 if execution_mode == "deferred" and k == 0 else 1
            label = one.desc or f"{one.constructor_input.args} {one.constructor_input.kwargs}"[:200]
            cases.append((label, functools.partial(_run, entry.module_cls, theirs, one, training, times)))
        ledger.judge(check, "float32", cases)
    ledger.close()


def _build(lib: Any, kind: Any, args: Any, kwargs: Any, training: bool) -> Any:
    lib.manual_seed(3)
    module = kind(*args, **kwargs)
    return module.train(training)


def _run(kind: Any, theirs: Any, one: ModuleInput, training: bool, times: int) -> None:
    construct = one.constructor_input
    lib = bridge.library()
    mine = _build(torch, kind, construct.args, construct.kwargs, training)
    lazy = any(isinstance(p, torch.nn.parameter.UninitializedParameter) for p in mine.parameters())
    state = None if lazy else {k: v.clone() for k, v in mine.state_dict().items()}
    forward = one.forward_input
    leaves = [t for t in _tensors((forward.args, forward.kwargs)) if t.requires_grad]
    torch.manual_seed(5)
    try:
        expected = mine(*forward.args, **forward.kwargs)
    except RuntimeError as error:
        raise bridge.Unconvertible(f"torch refuses its own sample: {error}") from None
    heads = [t for t in _tensors(expected) if t.requires_grad]
    torch.manual_seed(9)
    cotangents = [torch.randn_like(h) for h in heads]
    params = dict(mine.named_parameters())
    wanted = [*params.values(), *leaves]
    grads = torch.autograd.grad(heads, wanted, cotangents, allow_unused=True) if heads and wanted else []
    for _ in range(times):
        memo: dict[int, Any] = {}
        args, kwargs = bridge.convert(construct.args), bridge.convert(construct.kwargs)
        other = _build(lib, theirs, args, kwargs, training)
        if state is not None:
            judge.compare(state, dict(other.state_dict()), where="initial state_dict", rtol=1e-6, atol=1e-7)
            other.load_state_dict(bridge.convert(dict(state)))
        if (
            repr(mine if lazy else kind(*construct.args, **construct.kwargs)) != repr(theirs(*args, **kwargs))
            and not lazy
        ):
            raise judge.Mismatch(f"repr: torch {mine!r}, jtorch {other!r}")
        f_args, f_kwargs = bridge.convert(forward.args, memo), bridge.convert(forward.kwargs, memo)
        lib.manual_seed(5)
        got = other(*f_args, **f_kwargs)
        judge.compare(expected, got, where="output", factor=3)
        judge.compare(dict(mine.state_dict()), dict(other.state_dict()), where="state_dict after forward")
        their_heads = [t for t in _their_tensors(got) if t.requires_grad]
        if len(their_heads) != len(heads):
            raise judge.Mismatch(f"{len(heads)} outputs require grad in torch, {len(their_heads)} in jtorch")
        if not grads:
            continue
        their_params = dict(other.named_parameters())
        judge.compare(list(params), list(their_params), where="parameter names")
        their_wanted = [*their_params.values(), *[memo[id(t)][0] for t in leaves]]
        their_grads = lib.autograd.grad(
            their_heads, their_wanted, [bridge.convert(c) for c in cotangents], allow_unused=True
        )
        for label, x, e, g in zip([*params, *["input"] * len(leaves)], wanted, grads, their_grads, strict=True):
            if (e is None) and (g is None):
                continue
            judge.compare(torch.zeros_like(x) if e is None else e, torch.zeros_like(x) if g is None else g,
                          where=f"gradient of {label}", factor=judge.GRADIENT_FACTOR)  # fmt: skip


def _tensors(structure: Any) -> list[torch.Tensor]:
    if isinstance(structure, torch.Tensor):
        return [structure]
    if isinstance(structure, list | tuple):
        return [t for part in structure for t in _tensors(part)]
    return _tensors(list(structure.values())) if isinstance(structure, dict) else []


def _their_tensors(structure: Any) -> list[Any]:
    if bridge.is_tensor(structure):
        return [structure]
    if isinstance(structure, list | tuple):
        return [t for part in structure for t in _their_tensors(part)]
    return _their_tensors(list(structure.values())) if isinstance(structure, dict) else []
