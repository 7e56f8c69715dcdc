"""What recording costs: a chain of operations and the prototype's MLP step, beside torch, on one core.

    taskset -c 0 python compat/bench/recording.py

Prints microseconds an operation (forward and backward together, two operations a link), microseconds a training step,
and the ratios; exits 1 where a budget is missed. The losses of both MLPs are compared, so a wrong answer cannot win.
"""

from __future__ import annotations

import gc
import os
import sys
import time

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
LINKS = 50


def median_us(fn, n=300):
    """The median time of one call, in microseconds, after warming up."""
    times = []
    for _ in range(10):
        fn()
    gc.collect()
    for _ in range(n):
        start = time.perf_counter()
        fn()
        times.append(time.perf_counter() - start)
    return sorted(times)[n // 2] * 1e6


def chain(torch):
    """A chain of x * k + k, backwards to x."""
    x0, k = torch.ones(32, 32, requires_grad=True), torch.full((32, 32), 0.5)

    def run(sync=True):
        x0.grad, x = None, x0
        for _ in range(LINKS):
            x = x * k + k
        x.sum().backward()
        return float(x0.grad[0, 0]) if sync else None

    return run


def mlp(torch):
    """One training step of a 4-layer MLP, its loss read on the host."""
    torch.manual_seed(0)
    nn = torch.nn
    net = nn.Sequential(
        nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)
    )
    opt = torch.optim.SGD(net.parameters(), 0.1)
    x, y = torch.randn(32, 64), torch.randint(0, 10, (32,))

    def step():
        opt.zero_grad()
        loss = nn.functional.cross_entropy(net(x), y)
        loss.backward()
        opt.step()
        return loss.item()

    return step


def main() -> int:
    import torch

    import jtorch

    torch.set_num_threads(1)
    rows = {}
    for name, module in (("torch", torch), ("jtorch", jtorch)):
        rows[name] = chain(module), mlp(module)
    for _ in range(20):
        losses = [rows[name][1]() for name in rows]
        assert abs(losses[0] - losses[1]) < 1e-4 * max(1, abs(losses[0])), losses
    chains, steps = {}, {}
    for _ in range(3):  # in turn, so that a busy moment hits both
        for name, (c, m) in rows.items():
            chains.setdefault(name, []).append(median_us(c) / (2 * LINKS))
            steps.setdefault(name, []).append(median_us(m))
    best = {name: (min(chains[name]), min(steps[name])) for name in rows}
    for name, (c, m) in best.items():
        print(f"{name:7} chain {c:5.2f} us an operation   MLP step {m:6.0f} us")
    ratio = best["torch"][0] / best["jtorch"][0], best["torch"][1] / best["jtorch"][1]
    print(f"torch / jtorch: chain {ratio[0]:.2f}, MLP step {ratio[1]:.2f}")
    return int(best["jtorch"][0] > 3.0 or ratio[1] < 1.5)


if __name__ == "__main__":
    sys.exit(main())
