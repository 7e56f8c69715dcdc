"""The table and its summary, as Markdown."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
import sys
from pathlib import Path

from compat.bench.workloads import DISPATCH

HEAD = (
    "workload", "implementation", "step ms", "torch / this", "first step s", "20 steps cold s", "20 steps warm s",
    "import s", "peak MB", "compiles", "in steady state, a step",
)  # fmt: skip
Rows = dict[str, dict[str, dict]]


def ratio(row: dict[str, dict], impl: str) -> float | None:
    """How many times as fast as torch a step is. None where it is not known, or the losses are wrong."""
    mine, torch = row.get(impl, {}), row.get("torch", {})
    if "step_s" not in mine or "step_s" not in torch or "wrong" in mine:
        return None
    return torch["step_s"] / mine["step_s"]


def _line(cells) -> str:
    return "| " + " | ".join(cells) + " |"


def _cells(row: dict[str, dict], workload: str, impl: str) -> list[str]:
    r = row[impl]
    if "error" in r:
        error = r["error"].replace("|", "\\|")
        return [workload, impl, "fails", error[:120] + ("..." if len(error) > 120 else ""), *[""] * (len(HEAD) - 4)]
    times = ratio(row, impl)
    counts, steady = r["counts"], r["steady"]
    compiles = f"{counts['compiles']}" + (f" + {counts['kernels']} kernels" if "kernels" in counts else "")
    what = [f"{steady[k]:.2g} {k}" for k in ("syncs", "cold", "compiles", "replays") if steady.get(k)]
    return [
        workload, impl, f"{r['step_s'] * 1e3:.3f}",
        f"**losses differ by {r['wrong']:.1e}**" if "wrong" in r else "" if times is None else f"{times:.2f}",
        *[f"{r[k]:.2f}" for k in ("first_s", "cold_s", "warm_s", "import_s")], f"{r['peak_mb']:.0f}", compiles, ", ".join(what),
    ]  # fmt: skip


def table(rows: Rows) -> str:
    """All that was measured, a line for each implementation of each workload."""
    lines = [_line(HEAD), _line(["---"] * len(HEAD))]
    for workload, row in rows.items():
        lines += [_line(_cells(row, workload, impl)) for impl in row]
    return "\n".join(lines)


def _mean(values: list[float]) -> str:
    product = 1.0
    for v in values:
        product *= v
    return f"{product ** (1 / len(values)):.2f} ({len(values)})" if values else ""


def summary(rows: Rows) -> str:
    """Geometric means of torch's time over each implementation's, and the row each is worst at."""
    head = ("torch / this", "all rows", "dispatch-bound rows", "worst row")
    lines = [_line(head), _line(["---"] * len(head))]
    impls = dict.fromkeys(impl for row in rows.values() for impl in row if impl != "torch")
    for impl in impls:
        known = {w: x for w, row in rows.items() if (x := ratio(row, impl)) is not None}
        worst = min(known, key=lambda w: known[w]) if known else None
        few = [x for w, x in known.items() if w in DISPATCH]
        lines.append(
            _line([impl, _mean(list(known.values())), _mean(few), f"{worst} {known[worst]:.2f}" if worst else ""])
        )
    return "\n".join(lines)


def failed(rows: Rows) -> bool:
    """Whether losses differ or something fails that is not torch.compile, which is reported and not judged."""
    return any(
        "wrong" in r or ("error" in r and impl != "torch.compile") for row in rows.values() for impl, r in row.items()
    )


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def document(rows: Rows, command: str, cores: list[int], notes: str) -> str:
    """RESULTS.md, with what was written by hand at its end."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "jax", "jaxlib", "numpy"))
    return (
        f"""# Training steps, side by side
Written by `{command}` on {datetime.date.today()}: Python {sys.version.split()[0]}, {versions}; {_cpu()}, pinned to
core {", ".join(map(str, cores))}; "onednn" is jtorch with its optional kernels.

A step's time is the median over rounds of a block's median; the implementations take turns within a round. The first
step is timed with an empty compile cache, the model made already; 20 steps from after the import, making the model included,
with the cache empty (cold) and as that left it (warm). Losses of the first 20 steps are compared.

## Summary
Geometric means (of how many rows).

{summary(rows)}

## All of it
{table(rows)}

{notes}""".rstrip()
        + "\n"
    )
