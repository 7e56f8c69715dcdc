"""Every operation of PyTorch's own database that jtorch has: forward, gradients, variants."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.testing._internal.common_device_type import precisionOverride, toleranceOverride
from torch.testing._internal.common_methods_invocations import op_db
from torch.testing._internal.opinfo.core import OpInfo, SampleInput

from compat import bridge, judge
from compat.ledger import Ledger, Nothing, Tally

FORWARD_DTYPES = (torch.float32, torch.int64, torch.bool, torch.complex64, torch.bfloat16)
MORE_DTYPES = (torch.float64, torch.float16, torch.int32, torch.uint8)
GRADIENT_DTYPES = (torch.float32, torch.complex64)
MORE_GRADIENT_DTYPES = (torch.float64, torch.bfloat16)
LARGEST = 20_000  # elements; samples above it are left out
DRAWN = 40  # samples looked at when choosing

# Results that hold whatever memory held before.
UNDEFINED = {
    "empty",
    "empty_like",
    "empty_permuted",
    "empty_strided",
    "new_empty",
    "new_empty_strided",
    "resize_",
    "resize_as_",
}


def full_name(info: OpInfo) -> str:
    """The name that tests, the report and the expected failures use."""
    return f"{info.name}.{info.variant_test_name}" if info.variant_test_name else info.name


ENTRIES = {full_name(info): info for info in op_db if not info.name.startswith("sparse.")}


@pytest.fixture(params=sorted(ENTRIES))
def entry(request) -> OpInfo:
    return ENTRIES[request.param]


@pytest.fixture
def ledger(request, entry, execution_mode) -> Ledger:
    return Ledger(request, full_name(entry), execution_mode)


# ---- samples ---------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=64)
def _samples(name: str, dtype: torch.dtype, requires_grad: bool, count: int) -> tuple[SampleInput, ...]:
    """A few samples of different kinds. They are the same in both modes, and nobody writes to them."""
    info = ENTRIES[name]
    torch.manual_seed(0)
    drawn = []
    source = info.sample_inputs("cpu", dtype, requires_grad=requires_grad)
    for sample in source:
        if _elements(sample) <= LARGEST:
            drawn.append(sample)
        if len(drawn) >= DRAWN:
            break
    chosen: list[SampleInput] = []
    for novelty in (_coarse, _fine, lambda s: id(s)):
        seen = {novelty(s) for s in chosen}
        for sample in drawn:
            if len(chosen) < count and all(sample is not c for c in chosen) and novelty(sample) not in seen:
                seen.add(novelty(sample))
                chosen.append(sample)
    return tuple(chosen)


def _tensors(structure: Any) -> Iterator[torch.Tensor]:
    if isinstance(structure, torch.Tensor):
        yield structure
    elif isinstance(structure, list | tuple):
        for part in structure:
            yield from _tensors(part)
    elif isinstance(structure, dict):
        yield from _tensors(list(structure.values()))


def _parts(sample: SampleInput) -> tuple[Any, ...]:
    return (sample.input, sample.args, sample.kwargs)


def _elements(sample: SampleInput) -> int:
    return sum(t.numel() for t in _tensors(_parts(sample)))


def _coarse(sample: SampleInput) -> Any:
    first = next(_tensors(sample.input), None)
    shape = None if first is None else (first.ndim == 0, first.numel() == 0)
    return shape, len(sample.args), tuple(sorted(sample.kwargs)), tuple(type(a).__name__ for a in sample.args)


def _fine(sample: SampleInput) -> Any:
    plain = [(k, v) for k, v in sample.kwargs.items() if isinstance(v, str | bool | int)]
    layouts = tuple((t.ndim, t.is_contiguous()) for t in _tensors(_parts(sample)))
    return _coarse(sample), tuple(plain), layouts, tuple(a for a in sample.args if isinstance(a, str | bool | int))


def _tolerance(info: OpInfo, dtype: torch.dtype) -> tuple[float | None, float | None]:
    """The loosest tolerance PyTorch itself grants this operation on the CPU."""
    rtol = atol = None
    for rule in info.decorators or ():
        if getattr(rule, "device_type", None) not in (None, "cpu"):
            continue
        if getattr(rule, "dtypes", None) is not None and dtype not in rule.dtypes:
            continue
        for decorator in getattr(rule, "decorators", None) or [rule]:
            granted = (
                getattr(decorator, "d", {}).get(dtype)
                if isinstance(decorator, toleranceOverride | precisionOverride)
                else None
            )
            if granted is not None:
                r, a = (granted.rtol, granted.atol) if hasattr(granted, "rtol") else (0.0, granted)
                rtol, atol = max(rtol or 0.0, min(r, 1e-2)), max(atol or 0.0, min(a, 1e-2))
    return rtol, atol


# ---- calling ---------------------------------------------------------------------------------------------------------


@functools.cache
def _counterpart(name: str) -> Any:
    """jtorch's function for an entry. Absent where there is none."""
    info = ENTRIES[name]
    try:
        return bridge.rebind(info.op)
    except bridge.Absent:
        if bridge.public_name(info.op) is None and info.name.startswith(("torch.ops", "_")) is False:
            return bridge.lookup(info.name)
        raise


def _torch_call(function: Callable, sample: SampleInput, **more: Any) -> Any:
    torch.manual_seed(7)
    return function(sample.input, *sample.args, **sample.kwargs, **more)


class _Theirs:
    """One sample converted for jtorch, afresh, so that a call may write to it."""

    def __init__(self, sample: SampleInput):
        self.memo: dict[int, Any] = {}
        self.input = bridge.convert(sample.input, self.memo)
        self.args = bridge.convert(sample.args, self.memo)
        self.kwargs = bridge.convert(sample.kwargs, self.memo)

    def call(self, function: Callable, **more: Any) -> Any:
        bridge.library().manual_seed(7)
        return function(self.input, *self.args, **self.kwargs, **more)


def _label(sample: SampleInput) -> str:
    return sample.summary().removeprefix("SampleInput")[:300]


def _compare(
    info: OpInfo, sample: SampleInput, expected: Any, got: Any, dtype: torch.dtype, factor: float = 1.0
) -> None:
    rtol, atol = _tolerance(info, dtype)
    try:
        judge.compare(expected, got, rtol=rtol, atol=atol, values=info.name not in UNDEFINED, factor=factor)
    except judge.Mismatch:
        # Where torch's result is one of many (signs of singular vectors), the database says how to make it unique.
        if sample.output_process_fn_grad.__qualname__.startswith("SampleInput.__init__"):
            raise
        process = sample.output_process_fn_grad
        judge.compare(
            process(expected), process(_as(expected, bridge.restore(got))), rtol=rtol, atol=atol, factor=10 * factor
        )


def _as(expected: Any, got: Any) -> Any:
    return type(expected)(got) if isinstance(expected, tuple) and not isinstance(got, type(expected)) else got


def _usable(ledger: Ledger, entry: OpInfo, check: str, dtype: torch.dtype) -> Any:
    """jtorch's function, or None after noting its absence."""
    try:
        return _counterpart(full_name(entry))
    except bridge.Absent as error:
        ledger.note(check, _short(dtype), "absent", str(error))
        return None


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


# ---- forward ---------------------------------------------------------------------------------------------------------


def test_forward(entry, ledger, samples, all_dtypes, execution_mode):
    strides = Tally(ledger, "strides", "float32")
    for dtype in FORWARD_DTYPES + MORE_DTYPES * all_dtypes:
        if not entry.supports_dtype(dtype, "cpu"):
            continue
        function = _usable(ledger, entry, "forward", dtype)
        if function is None:
            break
        cases = []
        count = samples if dtype is torch.float32 else max(1, samples // 2)
        for k, sample in enumerate(_samples(full_name(entry), dtype, False, count)):
            # The first is run again and again in deferred mode: a trace met twice is compiled whole.
            times = 3 if execution_mode == "deferred" and k == 0 and dtype is torch.float32 else 1
            tally = strides if dtype is torch.float32 else None
            cases.append((_label(sample), functools.partial(_forward, entry, function, sample, dtype, times, tally)))
        ledger.judge("forward", _short(dtype), cases)
    strides.close()
    ledger.close()


def _fresh(sample: SampleInput) -> SampleInput:
    """A sample whose tensors may be written to."""
    copy = sample.transform(lambda t: _clone(t) if isinstance(t, torch.Tensor) and not t.requires_grad else t)
    copy.output_process_fn_grad = sample.output_process_fn_grad
    return copy


def _clone(t: torch.Tensor) -> torch.Tensor:
    """A copy, of what lies around it in its storage as well where the tensor is a window."""
    if t.layout is torch.strided and t.device.type == "cpu" and t.is_contiguous() and t.storage_offset():
        held = t.untyped_storage().nbytes() // t.element_size()
        whole = torch.as_strided(t, (held,), (1,), 0).clone()
        return torch.as_strided(whole, tuple(t.shape), t.stride(), t.storage_offset())
    return t.detach().clone()


def _forward(
    info: OpInfo, function: Callable, sample: SampleInput, dtype: torch.dtype, times: int, strides: Tally | None
) -> None:
    theirs = [_Theirs(sample) for _ in range(times)]
    fresh = _fresh(sample)
    expected = _torch_call(info.op, fresh)
    for one in theirs:
        got = one.call(function)
        _compare(info, sample, expected, got, dtype)
        _compare_inputs(fresh, one)
    if strides is not None:
        for e, g in zip(_tensors(expected), _their_tensors(got), strict=False):
            strides.count(_strides(e) == _strides(g), f"{_label(sample)}: torch {e.stride()}, jtorch {g.stride()}")


def _strides(t: Any) -> Any:
    """The strides that tell where elements lie."""
    return None if t.numel() == 0 else [s for n, s in zip(t.shape, t.stride(), strict=True) if n > 1]


def _compare_inputs(fresh: SampleInput, one: _Theirs) -> None:
    """What a call leaves in its arguments."""
    pairs = zip(_tensors(_parts(fresh)), _their_tensors((one.input, one.args, one.kwargs)), strict=True)
    for i, (mine, theirs) in enumerate(pairs):
        judge.compare(mine, theirs, where=f"argument {i} after the call")


# ---- gradients -------------------------------------------------------------------------------------------------------


def test_gradient(entry, ledger, samples, all_dtypes, execution_mode):
    if not entry.supports_autograd:
        pytest.skip("not differentiable")
    undefined = Tally(ledger, "undefined gradients", "float32")
    for dtype in GRADIENT_DTYPES + MORE_GRADIENT_DTYPES * all_dtypes:
        if dtype not in entry.supported_backward_dtypes("cpu"):
            continue
        function = _usable(ledger, entry, "gradient", dtype)
        if function is None:
            break
        cases = []
        count = samples if dtype is torch.float32 else max(1, samples // 2)
        for k, sample in enumerate(_samples(full_name(entry), dtype, True, count)):
            times = 3 if execution_mode == "deferred" and k == 0 and dtype is torch.float32 else 1
            cases.append(
                (_label(sample), functools.partial(_gradient, entry, function, sample, dtype, times, False, undefined))
            )
        ledger.judge("gradient", _short(dtype), cases)
    undefined.close()
    ledger.close()


def test_second(entry, ledger):
    """The gradient of the gradient, on one sample."""
    if not entry.supports_gradgrad or torch.float32 not in entry.supported_backward_dtypes("cpu"):
        pytest.skip("not differentiable twice")
    function = _usable(ledger, entry, "second", torch.float32)
    if function is not None:
        sample = next((s for s in _samples(full_name(entry), torch.float32, True, 3) if _elements(s)), None)
        undefined = Tally(ledger, "undefined second gradients", "float32")
        cases = (
            []
            if sample is None
            else [
                (
                    _label(sample),
                    functools.partial(_gradient, entry, function, sample, torch.float32, 1, True, undefined),
                )
            ]
        )
        ledger.judge("second", "float32", cases)
        undefined.close()
    ledger.close()


def _differentiable(result: Any) -> list[torch.Tensor]:
    return [t for t in _tensors(result) if t.requires_grad]


def _gradient(
    info: OpInfo,
    function: Callable,
    sample: SampleInput,
    dtype: torch.dtype,
    times: int,
    second: bool,
    undefined: Tally,
) -> None:
    inputs = [t for t in _tensors(_parts(sample)) if t.requires_grad and t.is_leaf]
    wrapper = info.gradcheck_wrapper
    expected = sample.output_process_fn_grad(
        (torch.manual_seed(7), wrapper(info.op, sample.input, *sample.args, **sample.kwargs))[1]
    )
    outputs = _differentiable(expected)
    if not inputs or not outputs:
        raise Nothing
    torch.manual_seed(11)
    cotangents = [torch.randn_like(o) for o in outputs]
    grads = torch.autograd.grad(outputs, inputs, cotangents, allow_unused=True, create_graph=second)
    if second:
        again = [(g, torch.randn_like(g)) for g in grads if g is not None and g.requires_grad]
        if not again:
            raise Nothing
        try:
            grads2 = torch.autograd.grad([g for g, _ in again], inputs, [v for _, v in again], allow_unused=True)
        except RuntimeError as error:
            if "is not implemented" not in str(error):
                raise
            raise Nothing from None  # torch's own backward has no derivative
    process, their_wrapper = bridge.rebind(sample.output_process_fn_grad), bridge.rebind(wrapper)
    lib = bridge.library()
    rtol, atol = _tolerance(info, dtype)
    options = {"rtol": rtol, "atol": atol, "factor": judge.GRADIENT_FACTOR}
    for _ in range(times):
        one = _Theirs(sample)
        lib.manual_seed(7)
        got = process(their_wrapper(function, one.input, *one.args, **one.kwargs))
        their_inputs = [one.memo[id(t)][0] for t in inputs]
        flags = [t.requires_grad for t in _tensors(expected)], [t.requires_grad for t in _their_tensors(got)]
        if flags[0] != flags[1]:
            raise judge.Mismatch(f"which results require grad: torch {flags[0]}, jtorch {flags[1]}")
        their_outputs = [t for t in _their_tensors(got) if t.requires_grad]
        their_grads = lib.autograd.grad(
            their_outputs, their_inputs, [bridge.convert(c) for c in cotangents], allow_unused=True, create_graph=second
        )
        _compare_grads(grads, their_grads, options, undefined, "grad")
        if second:
            kept = [g for e, g in zip(grads, their_grads, strict=True) if e is not None and e.requires_grad]
            kept, vectors = _requiring(kept, [bridge.convert(v) for _, v in again])
            their_grads2 = (
                lib.autograd.grad(kept, their_inputs, vectors, allow_unused=True) if kept else [None] * len(inputs)
            )
            _compare_grads(grads2, their_grads2, options, undefined, "second grad")


def _requiring(grads: list, vectors: list) -> tuple[list, list]:
    pairs = [(g, v) for g, v in zip(grads, vectors, strict=True) if g is not None and g.requires_grad]
    return [g for g, _ in pairs], [v for _, v in pairs]


def _their_tensors(structure: Any) -> Iterator[Any]:
    if bridge.is_tensor(structure):
        yield structure
    elif isinstance(structure, list | tuple):
        for part in structure:
            yield from _their_tensors(part)
    elif isinstance(structure, dict):
        yield from _their_tensors(list(structure.values()))


def _compare_grads(expected: Any, got: Any, options: dict[str, Any], undefined: Tally, word: str) -> None:
    for i, (e, g) in enumerate(zip(expected, got, strict=True)):
        if e is None and g is None:
            continue
        # That torch leaves a gradient out where jtorch gives zeros, or the other way, is only counted.
        undefined.count((e is None) == (g is None), f"{word} {i}: torch {_what(e)}, jtorch {_what(g)}")
        if e is None:
            e = torch.zeros(tuple(g.shape), dtype=getattr(torch, str(g.dtype).removeprefix("torch.")))
        judge.compare(e, torch.zeros_like(e) if g is None else g, where=f"{word} {i}", **options)


def _what(gradient: Any) -> str:
    return "none" if gradient is None else f"one of shape {tuple(gradient.shape)}"


# ---- variants --------------------------------------------------------------------------------------------------------


def test_variants(entry, ledger):
    """The method, the in-place method, the operator, and `out=`, on one or two samples in float32."""
    dtype = (
        torch.float32 if entry.supports_dtype(torch.float32, "cpu") else next(iter(entry.supported_dtypes("cpu")), None)
    )
    if dtype not in FORWARD_DTYPES:
        pytest.skip("no common dtype")
    few = [s for s in _samples(full_name(entry), dtype, False, 4) if isinstance(s.input, torch.Tensor)][:2]
    for check, variant in (
        ("method", entry.method_variant), ("inplace", entry.inplace_variant), ("operator", entry.operator_variant),
        ("inplace operator", entry.inplace_operator_variant),
    ):  # fmt: skip
        inplace = "inplace" in check
        usable = [s for s in few if not (inplace and s.broadcasts_input)]
        if variant is not None and usable:
            cases = [(_label(s), functools.partial(_variant, entry, variant, s, dtype, inplace)) for s in usable]
            ledger.judge(check, _short(dtype), cases)
    if entry.supports_out:
        function = _usable(ledger, entry, "out", dtype)
        some = _samples(full_name(entry), dtype, False, 4)[:2]
        if function is not None:
            ledger.judge(
                "out", _short(dtype), [(_label(s), functools.partial(_out, entry, function, s, dtype)) for s in some]
            )
    ledger.close()


def _variant(info: OpInfo, variant: Callable, sample: SampleInput, dtype: torch.dtype, inplace: bool) -> None:
    own = bridge.rebind(variant)
    one = _Theirs(sample)
    fresh = _fresh(sample)
    try:
        expected, error = _torch_call(variant, fresh), None
    except Exception as e:
        expected, error = None, e
    if error is not None:
        try:
            one.call(own)
        except Exception as e:
            if judge.is_absence(e):
                raise
            if judge.same_error(error, e):
                return
            raise judge.Mismatch(
                f"torch raises {type(error).__name__}: {error}; jtorch {type(e).__name__}: {e}"
            ) from None
        raise judge.Mismatch(f"torch raises {type(error).__name__}: {error}; jtorch nothing")
    got = one.call(own)
    _compare(info, sample, expected, got, dtype)
    if inplace:
        if (expected is fresh.input) != (got is one.input):
            raise judge.Mismatch("the result of the in-place operation is not the tensor itself")
        _compare(info, sample, fresh.input, one.input, dtype)


def _out(info: OpInfo, function: Callable, sample: SampleInput, dtype: torch.dtype) -> None:
    try:
        expected = _torch_call(info.op, sample)
        outs = _blank(expected)
        _torch_call(info.op, sample, out=outs)
    except Exception:
        raise Nothing from None
    theirs = bridge.convert(_blank(expected))
    try:
        got = _Theirs(sample).call(function, out=theirs)
    except TypeError as error:
        if "unexpected keyword argument 'out'" in str(error):
            raise bridge.Absent("it takes no out=") from None
        raise
    _compare(info, sample, expected, got, dtype)
    for filled, one in zip(_their_tensors(theirs), _their_tensors(got), strict=True):
        judge.compare(bridge.restore(one), filled, where="what out= holds")


def _blank(expected: Any) -> Any:
    if isinstance(expected, torch.Tensor):
        return torch.zeros_like(expected)
    blanks = [_blank(e) for e in expected]
    return tuple(blanks) if isinstance(expected, tuple) else blanks


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:120]}"


# ---- errors ----------------------------------------------------------------------------------------------------------


def test_errors(entry, ledger):
    """The database's erroneous calls: how many raise torch's exception type, and how many say its words too."""
    if entry.error_inputs_func is None:
        pytest.skip("no error inputs")
    function = _usable(ledger, entry, "errors", torch.float32)
    if function is None:
        ledger.close()
    kinds, words = Tally(ledger, "error types", "float32"), Tally(ledger, "error words", "float32")
    for wrong in entry.error_inputs("cpu"):
        sample = wrong.sample_input
        try:
            _torch_call(entry.op, _fresh(sample))
        except Exception as error:
            expected = error
        else:
            continue
        if any(t.ndim > 64 for t in _tensors(_parts(sample))):
            continue  # NumPy, and so the way across, ends there
        try:
            one = _Theirs(sample)
        except bridge.Absent:
            continue
        try:
            one.call(function)
        except Exception as error:
            kind, said = judge.same_error(expected, error), judge.same_error(expected, error, wrong.error_regex)
            detail = f"torch {_brief(expected)}; jtorch {_brief(error)}"
        else:
            kind = said = False
            detail = f"{_label(sample)}: torch {_brief(expected)}; jtorch raises nothing"
        kinds.count(kind, detail)
        words.count(said, detail)
    kinds.close()
    words.close()
    ledger.close()
