"""Convolutions of known networks beside torch's: forward, weight gradient and input gradient of each shape.

    taskset -c 0 python compat/bench/convolution.py [part of a row's name ...]

Prints milliseconds and torch's time over ours; "plain" is JAX's own convolution with XLA's own settings. The values
are compared, so a wrong answer cannot win. On one core the process's own time is taken, which a busy machine disturbs
least; on several the least time on the clock. Exits 1 where a form that was chosen loses to the plain one by a quarter.
"""

from __future__ import annotations

import os
import sys
import time

ONE = len(os.sched_getaffinity(0)) == 1
os.environ.setdefault("JAX_PLATFORMS", "cpu")
if ONE:
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
CLOCK = time.process_time if ONE else time.perf_counter

# Name: input, weight, stride, padding, groups. A transposed convolution is the input gradient of its row.
SHAPES = {
    "mnist 1": ((64, 1, 28, 28), (32, 1, 3, 3), 1, 0, 1),
    "mnist 2": ((64, 32, 26, 26), (64, 32, 3, 3), 1, 0, 1),
    "resnet stem": ((128, 3, 32, 32), (16, 3, 3, 3), 1, 1, 1),
    "resnet 16": ((128, 16, 32, 32), (16, 16, 3, 3), 1, 1, 1),
    "resnet 32": ((128, 32, 16, 16), (32, 32, 3, 3), 1, 1, 1),
    "resnet 64": ((128, 64, 8, 8), (64, 64, 3, 3), 1, 1, 1),
    "resnet 16/2": ((128, 16, 32, 32), (32, 16, 3, 3), 2, 1, 1),
    "resnet 32/2": ((128, 32, 16, 16), (64, 32, 3, 3), 2, 1, 1),
    "shortcut 16": ((128, 16, 32, 32), (32, 16, 1, 1), 2, 0, 1),
    "pointwise 64": ((32, 64, 28, 28), (256, 64, 1, 1), 1, 0, 1),
    "dcgan 3": ((64, 3, 64, 64), (64, 3, 4, 4), 2, 1, 1),
    "dcgan 64": ((64, 64, 32, 32), (128, 64, 4, 4), 2, 1, 1),
    "dcgan 128": ((64, 128, 16, 16), (256, 128, 4, 4), 2, 1, 1),
    "dcgan 256": ((64, 256, 8, 8), (512, 256, 4, 4), 2, 1, 1),
    "dcgan head": ((64, 512, 4, 4), (1, 512, 4, 4), 1, 0, 1),
    "dcgan latent": ((64, 512, 4, 4), (100, 512, 4, 4), 1, 0, 1),
    "vit patches": ((16, 3, 224, 224), (192, 3, 16, 16), 16, 0, 1),
    "depthwise": ((32, 64, 28, 28), (64, 1, 3, 3), 1, 1, 64),
    "depthwise/2": ((32, 64, 28, 28), (64, 1, 3, 3), 2, 1, 64),
    "conv1d": ((64, 64, 400), (64, 64, 3), 1, 1, 1),
    "small 8": ((8, 8, 14, 14), (16, 8, 3, 3), 1, 1, 1),
    "small 32": ((4, 32, 14, 14), (32, 32, 3, 3), 1, 1, 1),
    "small lenet": ((32, 6, 14, 14), (16, 6, 5, 5), 1, 0, 1),
}  # fmt: skip


def best(fns: dict, rounds: int = 5) -> dict[str, float]:
    """The least time of each in milliseconds, taken in turn so that a busy moment hits all."""
    times = dict.fromkeys(fns, float("inf"))
    for fn in fns.values():
        fn()
    for _ in range(rounds):
        for name, fn in fns.items():
            n = max(1, min(20, int(2 / (times[name] + 0.1))))
            start = CLOCK()
            for _ in range(n):
                fn()
            times[name] = min(times[name], (CLOCK() - start) * 1e3 / n)
    return times


def row(name: str, variants: dict) -> dict[str, dict[str, float]]:
    """The times of one shape, for each of its three maps; `variants` adds forms to compare, by map."""
    import jax
    import numpy as np
    import torch

    from jtorch._ops import _bilinear, _conv_forms, _conv_geometry
    from jtorch._runtime import devices
    from jtorch._runtime.kernel import compiler_options

    shape, kernel, stride, padding, groups = SHAPES[name]
    n = len(kernel) - 2
    at = _conv_geometry.Geometry(shape[2:], kernel[2:], (stride,) * n, ((padding,) * 2,) * n, (1,) * n, groups)
    draw = np.random.default_rng(0).standard_normal
    x, w = draw(shape, np.float32), draw(kernel, np.float32)
    g = draw((shape[0], kernel[0], *at.out), np.float32)
    tensors = [torch.from_numpy(a) for a in (x, w, g)]
    s, p, d = [stride] * n, [padding] * n, [1] * n

    def torch_backward(*which):
        def run():
            X, W, G = tensors
            back = torch.ops.aten.convolution_backward
            return back(G, X, W, None, s, p, d, False, [0] * n, groups, [*which, False])

        return run

    def compiled(fn, a, b, options):
        call = jax.jit(lambda a, b: fn(a, b, at), compiler_options=options)
        return lambda: jax.block_until_ready(call(a, b))

    ours = compiler_options(devices.CPU, False)
    table = {}
    for what, judge, place, fns, args in (
        ("forward", lambda: torch.convolution(*tensors[:2], None, s, p, d, False, [0] * n, groups), None,
         (_bilinear.correlate, _conv_forms.correlate), (x, w)),
        ("weight", torch_backward(False, True), 1, (_bilinear.taps_of, _conv_forms.taps_of), (x, g)),
        ("input", torch_backward(True, False), 0, (_bilinear.spread_back, _conv_forms.spread_back), (g, w)),
    ):  # fmt: skip
        runs = {"torch": judge, "plain": compiled(fns[1], *args, None), "jtorch": compiled(fns[0], *args, ours)}
        for other, form in variants.get(what, {}).items():
            runs[other] = compiled(form, *args, ours)
        wanted = judge() if place is None else judge()[place]
        for key in runs:
            if key != "torch":
                np.testing.assert_allclose(runs[key](), wanted, rtol=1e-3, atol=2e-5 * float(abs(wanted).max()))
        table[what] = best(runs)
    return table


def main(words: list[str], variants: dict | None = None) -> int:
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    lost = 0
    for name in SHAPES:
        if words and not any(word in name for word in words):
            continue
        for what, times in row(name, variants or {}).items():
            others = "".join(f"   {k} {v:7.2f} ({times['torch'] / v:4.2f})" for k, v in times.items() if k != "torch")
            print(f"{name:14} {what:8} torch {times['torch']:7.2f}{others}", flush=True)
            lost += times["jtorch"] > 1.25 * times["plain"]
    return int(lost > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
