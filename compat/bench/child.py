"""One implementation of one workload, in a process of its own: `python -m compat.bench.child '{"impl": ...}'`.

Answers in JSON, a line each: first what starting cost and the losses of the first steps; then, for each line on stdin,
a block of steps timed one by one; at the end of stdin, the counts.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import sys
import time
from types import SimpleNamespace

STEPS = 20  # whose losses are compared


def same(fn):
    """Compiles nothing."""
    return fn


def torch_counts() -> dict:
    """What dynamo has counted."""
    module = sys.modules.get("torch._dynamo.utils")
    stats = module.counters["stats"] if module else {}
    return {"compiles": stats.get("unique_graphs", 0)}


def jtorch_counts() -> dict:
    """What jtorch's executor has counted, and the kernels that it compiled one by one."""
    from jtorch._runtime import executor, kernel

    s = executor.stats
    return {
        "compiles": s.compiles, "kernels": len(kernel.compiled), "compile_seconds": s.compile_seconds, "syncs": s.syncs,
        "hot": s.hot, "cold": s.cold, "replays": s.replays,
    }  # fmt: skip


def start(impl: str, workload: str, cores: int, arrays: str):
    """Imports the implementation; gives what builds the step, what counts, and the seconds the import took."""
    began = time.perf_counter()
    if impl == "jax":
        import jax.numpy  # noqa: F401  what every script has

        took = time.perf_counter() - began
        from compat.bench import jax_steps

        return (lambda: jax_steps.build(workload, arrays)), jax_steps.counts, took
    if impl.startswith("torch"):
        import torch

        torch.set_num_threads(cores)
        counts = torch_counts
    else:
        import jtorch as torch

        counts = jtorch_counts
    took = time.perf_counter() - began
    from compat.bench import workloads

    wrap = SimpleNamespace(
        model=torch.compile if impl == "torch.compile" else same,
        step=torch.compile if impl.startswith("jtorch.compile") else same,
    )
    return (lambda: workloads.load(workload).build(torch, wrap)), counts, took


def read(result) -> float:
    """A loss on the host. A step may give more than its loss."""
    return (result[0] if isinstance(result, tuple) else result).item()


def block(step, every: int, at: int, seconds: float) -> list[float]:
    """Seconds a step, each the mean of a stretch from one reading of the loss to the next."""
    times, until = [], time.perf_counter() + seconds
    began = time.perf_counter()
    while began < until or not times:
        for _ in range(every):
            result = step()
            at += 1
        read(result)
        now = time.perf_counter()
        times.append((now - began) / every)
        began = now
    return times


def main() -> None:
    told = json.loads(sys.argv[1])
    os.sched_setaffinity(0, told["cores"])
    out, sys.stdout = sys.stdout, sys.stderr  # what a library prints is not part of the answer

    def say(**what):
        print(json.dumps(what), file=out, flush=True)

    build, counts, import_seconds = start(told["impl"], told["workload"], len(told["cores"]), told["arrays"])
    from compat.bench import workloads

    every = getattr(workloads.load(told["workload"]), "EVERY", 1)
    began = time.perf_counter()
    step = build()
    built = time.perf_counter()
    losses, first = {}, 0.0
    for i in range(STEPS):
        result = step()
        if i % every == 0 or i == STEPS - 1:
            losses[i] = read(result)
        if i == 0:
            first = time.perf_counter() - built
    say(losses=losses, import_s=import_seconds, first_s=first, start_s=time.perf_counter() - began)
    at, done, before = STEPS, 0, counts()
    warm = False
    for line in sys.stdin:
        if not warm:  # what comes late, such as a second compile of what is used often
            warm = True
            block(step, every, at, float(line) / 2)
            before = counts()
        times = block(step, every, at, float(line))
        done += len(times) * every
        say(median=statistics.median(times), steps=len(times) * every)
    after = counts()
    steady = {k: (after[k] - before[k]) / done for k in after} if done else {}
    say(counts=after, steady=steady, peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


if __name__ == "__main__":
    main()
