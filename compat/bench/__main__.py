"""Runs the workloads under each implementation, prints the table, writes RESULTS.md.

    python -m compat.bench                                everything, on core 0
    python -m compat.bench --only mlp,gpt --impl torch,jtorch --rounds 5
    python -m compat.bench --quick                        one short round: does it work?

An implementation "... onednn" is jtorch with its optional kernels, on the workloads with convolutions; by default only
where they are installed. All others are without. For each workload an implementation starts twice, first with an empty compile cache, then with the one that left. Then
they take turns at being timed, several rounds. Exits 1 where the losses of two implementations differ, or one of ours fails.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from compat.bench import report, workloads
from jtorch import _native

HERE = Path(__file__).parent
KERNELS = ("jtorch onednn", "jtorch.compile onednn")
IMPLS = ("torch", "torch.compile", "jtorch eager", "jtorch", "jtorch.compile", *KERNELS, "jax")
JAX = ("mlp_tiny", "mlp", "cnn", "gpt")
ONLY = {"jax": JAX} | dict.fromkeys(KERNELS, workloads.CONVOLUTIONS)
TOLERANCE = 2e-3  # relative: float32 in another order, after twenty steps
SET_BY_DEVELOPERS = ("XLA_FLAGS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "PYTHONDONTWRITEBYTECODE", "JTORCH_BACKGROUND")
_SAVE = "import sys, torch; from compat.bench import jax_steps; jax_steps.save(torch, *sys.argv[1:])"


class Failed(Exception):
    """A child ended early. Its last line says why."""


class Child:
    """A process that runs one implementation of one workload."""

    def __init__(self, impl: str, workload: str, cores: list[int], folder: Path):
        cache = folder / impl.replace(" ", "_")
        # As a user has it: none of the flags that a developer may have set.
        env = {k: v for k, v in os.environ.items() if k not in SET_BY_DEVELOPERS}
        env |= {"JAX_PLATFORMS": "cpu", "JTORCH_CACHE": str(cache), "TORCHINDUCTOR_CACHE_DIR": str(cache)}
        env["JTORCH_EXECUTION"] = "eager" if impl == "jtorch eager" else "deferred"
        env["JTORCH_NATIVE"] = "1" if impl in KERNELS else "0"
        if impl == "jax":
            env |= {"JAX_COMPILATION_CACHE_DIR": str(cache), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
            env["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
        told = {"impl": impl, "workload": workload, "cores": cores, "arrays": str(folder / "arrays.npz")}
        self.errors = folder / f"{impl} errors {id(self)}.txt"
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "compat.bench.child", json.dumps(told)], text=True, env=env,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
            )  # fmt: skip
        self.started = self.answer()

    def answer(self) -> dict:
        """The child's next line."""
        line = self.process.stdout.readline()  # type: ignore[union-attr]
        if not line:
            self.process.wait()
            lines = [x.strip() for x in self.errors.read_text().splitlines() if x.strip()]
            # torch.compile goes on with advice after the error.
            told = (
                [x for x in lines if "Error" in x.split(":")[0]] or lines or [f"exit status {self.process.returncode}"]
            )
            raise Failed(told[-1])
        return json.loads(line)

    def block(self, seconds: float) -> dict:
        """Has it run a block of steps."""
        print(seconds, file=self.process.stdin, flush=True)
        return self.answer()

    def end(self) -> dict:
        """What it has counted; ends it."""
        self.process.stdin.close()  # type: ignore[union-attr]
        counts = self.answer()
        self.process.wait()
        return counts


def run(workload: str, impls: list[str], cores: list[int], rounds: int, seconds: float) -> dict[str, dict]:
    """One row of the table: what each implementation gave, or {"error": why}."""
    row: dict[str, dict] = {}
    children: dict[str, Child] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "jax" in impls:
            subprocess.run([sys.executable, "-c", _SAVE, workload, str(folder / "arrays.npz")], check=True)
        for impl in impls:
            print(f"  {workload}: {impl}", file=sys.stderr, flush=True)
            try:
                cold = Child(impl, workload, cores, folder)
                cold.end()
                children[impl] = warm = Child(impl, workload, cores, folder)
            except Failed as why:
                row[impl] = {"error": str(why)}
                continue
            row[impl] = warm.started | {
                "cold_s": cold.started["start_s"],
                "first_s": cold.started["first_s"],
                "medians": [],
            }
            row[impl]["warm_s"] = warm.started["start_s"]
        for _ in range(rounds):
            for impl, child in list(children.items()):
                try:
                    row[impl]["medians"].append(child.block(seconds)["median"])
                except Failed as why:
                    row[impl] = {"error": str(why)}
                    del children[impl]
        for impl, child in children.items():
            row[impl] |= child.end() | {"step_s": statistics.median(row[impl]["medians"])}
    compare(row)
    return row


def compare(row: dict[str, dict]) -> None:
    """Marks the implementations whose losses are not torch's (or, without torch, the first one's)."""
    right = None
    for result in row.values():
        if "losses" not in result:
            continue
        losses = result["losses"]
        right = right or losses
        # NaN is further from everything than anything.
        worst = max(abs(losses[i] - right[i]) / max(1.0, abs(right[i])) for i in right)
        if not worst <= TOLERANCE or any(x != x for x in losses.values()):
            result["wrong"] = worst


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m compat.bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default=",".join(workloads.NAMES), help="workloads, comma between")
    parser.add_argument("--impl", help="implementations, comma between")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.6, help="how long a block of steps is timed")
    parser.add_argument("--cores", default="0", help="the cores that everything is pinned to, comma between")
    parser.add_argument("--quick", action="store_true", help="one round of short blocks, and no RESULTS.md")
    parser.add_argument(
        "--out", type=Path, default=HERE / "RESULTS.md", help="the file to write in place of RESULTS.md"
    )
    parser.add_argument("--json", type=Path, help="also write all that was measured here")
    args = parser.parse_args()
    only = args.only.split(",")
    impls = args.impl.split(",") if args.impl else [i for i in IMPLS if i not in KERNELS or _native.available()]
    for name, known in (*((x, workloads.NAMES) for x in only), *((x, IMPLS) for x in impls)):
        if name not in known:
            parser.error(f"{name!r} is none of {', '.join(known)}")
    cores = [int(core) for core in args.cores.split(",")]
    rounds, seconds = (1, 0.05) if args.quick else (args.rounds, args.seconds)
    rows = {}
    for name in only:
        meant = [i for i in IMPLS if i in impls and name in ONLY.get(i, workloads.NAMES)]
        rows[name] = run(name, meant, cores, rounds, seconds)
        print(report.table({name: rows[name]}), flush=True)
        if args.json:
            args.json.write_text(json.dumps(rows, indent=1))
    print(report.summary(rows))
    if not args.quick:
        command = " ".join(["python -m compat.bench", *sys.argv[1:]])
        notes = (HERE / "misses.md").read_text() if args.out == HERE / "RESULTS.md" else ""
        args.out.write_text(report.document(rows, command, cores, notes))
    return int(report.failed(rows))


if __name__ == "__main__":
    sys.exit(main())
