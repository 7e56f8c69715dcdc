"""A kernel: one operation specialised to its static arguments and its inputs' avals.

It is the unit of everything that runs: a pure function of arrays and run-time numbers, a compiled form of it for cold
execution, and its vjp, which is a kernel again (so that gradients of gradients need nothing of their own).
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jtorch._runtime import devices, jax_internals
from jtorch._runtime.avals import Aval, aval
from jtorch._runtime.dtypes import FLOATING, from_numpy
from jtorch._runtime.executables import How, program
from jtorch._runtime.fingerprint import fingerprint
from jtorch._runtime.jax_internals import Traced, passed_on

_NUMBERS = {"f": jax.ShapeDtypeStruct((), np.float64), "i": jax.ShapeDtypeStruct((), np.int64)}
_ids = itertools.count()

# A kernel is compiled for the first few calls in the least time, and again, for speed, if it goes on being called.
WARM = 12
FILLED = 1 << 20  # bytes of a result that are filled on the host
# Most of a small program's compile time is LLVM's: these cut it to a quarter. The older emitters compile faster; what
# they make takes up to twice as long (GPT step 58 ms to 39, GRU step 0.8 to 0.5), so they are for what runs seldom.
_QUICK: dict[str, Any] = {
    "xla_cpu_use_fusion_emitters": False, "xla_backend_optimization_level": 0, "xla_cpu_parallel_codegen_split_count": 1,
}  # fmt: skip
if jax.__version_info__ >= (0, 12):  # it has no older emitters: a small program takes 20 ms to compile instead of 12
    del _QUICK["xla_cpu_use_fusion_emitters"]
# XLA for the CPU drops optimization barriers before it fuses; with this it keeps them, as `_conv_forms` and
# `fusing` need it to.
_HOT: dict[str, Any] = {"xla_disable_hlo_passes": "cse_barrier_expander"}


# Without the convolutions of XLA's library, which keep to one thread. ResNet-20's step takes 140 ms with them and 158
# without on one core, 154 and 102 on two; a small CNN's 13.7 and 14.0, then 13.2 and 8.7. With JAX 0.12 ResNet-20's takes
# 159 and 148 on one core, the CNN's 13.9 and 13.8.
_OWN_CONVOLUTIONS: dict[str, Any] = {
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE",
}


def cores() -> int:
    """The cores that this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed else os.cpu_count() or 1


@functools.cache
def compiler_options(where: devices.device, quick: bool, more: tuple[tuple[str, Any], ...] = ()) -> dict | None:
    """XLA's options for a device, and `more`: what the user's XLA_FLAGS name is left to them."""
    if where is not devices.CPU:
        return None
    flags = os.environ.get("XLA_FLAGS", "")
    own = cores() > 1 or jax.__version_info__ >= (0, 12)
    wanted = (_QUICK if quick else _HOT) | (_OWN_CONVOLUTIONS if own else {}) | dict(more)
    chosen = {name: value for name, value in wanted.items() if name not in flags}
    # The options are XLA's own, not JAX's: another version need not know them all.
    return chosen if jax.__version__ in MEASURED else {n: v for n, v in chosen.items() if option_is_known(n, v)}


MEASURED = ("0.10.2", "0.12.0.1")  # the JAX that the options were tried with


@functools.cache
def option_is_known(name: str, value: Any) -> bool:
    """Whether this XLA takes an option: a barrier alone is compiled with it, or was by an earlier process."""

    def barrier():
        return jax.lax.optimization_barrier(jnp.zeros(()))

    try:
        call, made = program(barrier, How((), devices.CPU, {name: value}, "an option"))
        if made is None:  # it would be at the call
            call.lower().compile()  # type: ignore[attr-defined]
    except jax.errors.JaxRuntimeError as error:
        if any(words in str(error) for words in ("No such compile option", "INVALID_ARGUMENT", "UNIMPLEMENTED")):
            return False
        raise
    return True


# Compiled programs that are held, oldest first. XLA's take 100 kB and more each: past the limit all are dropped (the
# persistent cache gives back those that are needed again).
compiled: list[Kernel] = []
MAX_COMPILED = 1500


class _Tally:
    kernels = 0


tally: Any = _Tally()  # the executor's counts


def drop_compiled() -> None:
    """Forgets all compiled programs."""
    for kernel in compiled:
        kernel._compiled = None
        kernel._calls = 0
    compiled.clear()
    jax.clear_caches()


# The name of a vjp's own gradient by that of the operation's: torch composes most backwards of operations it has.
vjp_names: dict[str, str] = {}


class Kernel:
    """`fn(*arrays, *numbers)` gives a tuple of arrays. `inputs` are avals, `numbers` a string of "f" and "i".

    memory: "view" where the results are seen in the first input's memory, "same" where they are all of it, "write" where
        they replace what is in it.
    """

    __slots__ = (
        "_calls", "_compiled", "_known", "_reads", "_vjps", "autocast", "backward", "dead", "differentiable", "fn", "grad_name", "id", "inputs", "memory", "name",
        "names", "numbers", "out", "places", "saves_both", "saves_output", "settings", "shares",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        fn: Callable[..., tuple],
        inputs: tuple[Aval, ...],
        numbers: str = "",
        *,
        grad_name: str = "",
        differentiable: bool = True,
        saves_output: bool = False,
        out: tuple[Aval, ...] | None = None,
        device=None,
        strides: tuple[int, ...] | None = None,
        names: tuple[str, ...] | None = None,
        places: tuple[int | None, ...] | None = None,
        memory: str = "",
        saves_both: bool = False,
        settings: dict[str, tuple[str, Any]] | None = None,
    ):
        self.id = next(_ids)
        self.name, self.fn, self.inputs, self.numbers = name, fn, inputs, numbers
        self.grad_name = grad_name or name
        self.dead: tuple[bool, ...] = ()  # of a vjp of a vjp: which results no cotangent has a part in, where any is so
        # Of the vjp of a kernel with a loop in it: that kernel, `needs`, `given`, and the inputs that it reads. Inside one
        # program the two run the loop once (see `with_pull`); XLA would not find out that it is the same.
        self.shares: Any = None
        self.backward = ""  # the node whose work this is, where it is a vjp: "MulBackward0"
        self.saves_output, self.saves_both, self.memory = saves_output, saves_both, memory
        self.settings = settings  # what the operation was called with besides arrays, by parameter
        self.names, self.places = names, places  # of the inputs in torch's account of the backward
        if out is None:
            self.fn, results = jax_internals.trace(fn, self.structs)
            where = device or (inputs[0].device if inputs else devices.CPU)
            out = tuple(
                aval(r.shape, from_numpy(r.dtype), where, strides if strides and len(strides) == len(r.shape) else None)
                for r in results
            )
        self.out = out
        self.differentiable = differentiable and any(a.dtype.category >= FLOATING for a in out)
        self._compiled = None
        self._calls = 0
        self._known: str | None = ""  # until it is asked for
        self._vjps: dict = {}
        self._reads: dict = {}

    @property
    def run(self) -> Callable[..., tuple]:
        """The compiled function of arrays and numbers, for one call."""
        self._calls += 1
        if self._compiled is None or self._calls == WARM:
            where = self.out[0].device
            known, fn = self.known, self.traced
            if devices.is_only(where):
                # Filling memory on the host takes no compiling, but another copy: of what is small, and for the first calls.
                fill = self._calls < WARM and all(a.numel * a.dtype.itemsize <= FILLED for a in self.out)
                plain = passed_on(fn, devices.to_jax(where), fill)
                if plain is not None:
                    self._compiled = plain
                    return plain

            def kernel(*args):
                return fn(*args)

            kernel.__name__ = kernel.__qualname__ = self.name.replace(".", "_") or "kernel"
            options = compiler_options(where, self._calls < WARM)
            self._compiled, _ = program(kernel, How(self.structs, where, options, known))
            compiled.append(self)
            tally.kernels += 1
        return self._compiled

    @property
    def ready(self) -> Callable[..., tuple] | None:
        """The compiled function, if there is one, for a call that is no reason to compile it for speed."""
        return self._compiled

    @property
    def known(self) -> str | None:
        """A digest of what it computes, the same in every process; None where there is none."""
        if self._known == "":
            self._known = fingerprint(self.traced.closed)
        return self._known

    @property
    def traced(self) -> Traced:
        """`fn`, traced once."""
        if not isinstance(self.fn, Traced):
            self.fn, _ = jax_internals.trace(self.fn, self.structs)
        return self.fn

    @property
    def structs(self) -> tuple[jax.ShapeDtypeStruct, ...]:
        """The shapes and dtypes of what it takes."""
        return *(a.struct for a in self.inputs), *(_NUMBERS[k] for k in self.numbers)

    def vjp(self, needs: tuple[bool, ...], given: tuple[bool, ...]) -> tuple[Kernel, tuple[bool, ...]]:
        """The kernel of the gradients of the inputs in `needs`, from the cotangents of the outputs in `given`.

        Its arrays are the inputs that it reads (the second result says which), then the cotangents.
        """
        key = needs, given
        found = self._vjps.get(key)
        if found is None:
            found = self._vjps[key] = self._make_vjp(needs, given)
        return found

    def reads(self, needs: tuple[bool, ...]) -> tuple[bool, ...]:
        """Which inputs a backward for `needs` has to keep."""
        found = self._reads.get(needs)
        if found is None:
            given = tuple(a.dtype.category >= FLOATING for a in self.out)
            found = self._reads[needs] = self.vjp(needs, given)[1]
        return found

    def with_pull(self, needs, given, arrays, numbers) -> tuple[tuple, Callable[[Any], tuple]]:
        """The results, and what gives the gradients from their cotangents without computing them again."""
        wanted = [i for i, need in enumerate(needs) if need]

        def forward(*at):
            redo = list(arrays)
            for i, a in zip(wanted, at, strict=True):
                redo[i] = a
            out = self.fn(*redo, *numbers)
            return [out[i] for i, g in enumerate(given) if g], out

        _, pull, out = jax.vjp(forward, *[arrays[i] for i in wanted], has_aux=True)
        return out, lambda cts: tuple(_conj(g) for g in pull([_conj(ct) for ct in cts]))

    def _make_vjp(self, needs, given):
        fn, n = self.fn, len(self.inputs)
        wanted = [i for i, need in enumerate(needs) if need]
        chosen = [i for i, g in enumerate(given) if g]
        cts = tuple(self.out[i] for i in chosen)

        def full(*args):
            arrays, given, numbers = args[:n], args[n : n + len(cts)], args[n + len(cts) :]

            def forward(*at):
                redo = list(arrays)
                for i, a in zip(wanted, at, strict=True):
                    redo[i] = a
                out = fn(*redo, *numbers)
                return [out[i] for i in chosen]

            # torch's gradient of a complex input is the conjugate of JAX's.
            _, pull = jax.vjp(forward, *[arrays[i] for i in wanted])
            return tuple(_conj(g) for g in pull([_conj(ct) for ct in given]))

        structs = [a.struct for a in self.inputs + cts] + [_NUMBERS[k] for k in self.numbers]
        each = bool(self.backward) and len(wanted) > 1
        traced, all_used, alone = jax_internals.trace_used(full, structs, n, each)
        used = all_used[:n]
        kept = [i for i, u in enumerate(used) if u]

        kernel = Kernel(
            self.name + ".vjp",
            traced,
            tuple(self.inputs[i] for i in kept) + cts,
            self.numbers,
            grad_name=vjp_names.get(self.grad_name) or self.grad_name.replace("Backward0", "BackwardBackward0"),
            out=tuple(self.inputs[i].with_strides(None) for i in wanted),
        )
        kernel.backward = self.grad_name
        if isinstance(fn, Traced) and fn.loops():
            kernel.shares = self, needs, given, tuple(kept)
        # torch's backwards are made of operations, one of which may not lead to an input: that has no gradient then.
        if not all(any(u[n : n + len(cts)]) for u in alone):
            kernel.dead = tuple(not any(u[n : n + len(cts)]) for u in alone)
        return kernel, tuple(used)


def cost(kernel: Kernel) -> dict:
    """XLA's estimate of what a kernel costs: "flops", "bytes accessed"."""
    found = jax.jit(kernel.fn).lower(*kernel.structs).cost_analysis()
    return found if isinstance(found, dict) else {}


def _conj(x):
    return jnp.conj(x) if jnp.issubdtype(x.dtype, np.complexfloating) else x
