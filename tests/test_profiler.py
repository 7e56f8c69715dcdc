"""Profiles: what is recorded, where it counts, and that nothing is left behind."""

from __future__ import annotations

import gzip
import json
import threading

import jax
import pytest

import jtorch as torch
from jtorch import nn
from jtorch._ops.registry import OPS
from jtorch._profiling import hlo
from jtorch._runtime import executables, executor, kernel, loops
from jtorch._tensor.derive import GENERATED, generate
from jtorch.autograd import profiler as autograd_profiler
from jtorch.profiler import ProfilerAction, profile, record_function, schedule, tensorboard_trace_handler


@pytest.fixture(params=["eager", "deferred"], autouse=True)
def mode(request):
    with torch.execution(request.param):
        yield request.param


def training_step():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = torch.randn(4, 8), torch.randint(0, 3, (4,))

    def step():
        optimizer.zero_grad()
        with record_function("forward"):
            loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def averages(p) -> dict:
    return {a.key: a for a in p.key_averages()}


def test_a_training_step(mode):
    step = training_step()
    for _ in range(3):
        step()
    with profile() as p:
        for _ in range(2):
            step()
    found = averages(p)
    counts = {
        "forward": 2, "aten::linear": 4, "aten::relu": 2, "aten::cross_entropy_loss": 2, "AddmmBackward0": 4,
        "ReluBackward0": 2, "Optimizer.step#SGD.step": 2, "Optimizer.zero_grad#SGD.zero_grad": 2, "jtorch::optim.sgd": 2,
    }  # fmt: skip
    assert {name: found[name].count for name in counts} == counts
    assert found["aten::linear"].self_cpu_time_total > 0
    assert ("jtorch::sync (step)" in found) == (mode == "deferred")
    parents = {e.name: e.cpu_parent.name for e in p.events() if e.cpu_parent is not None}
    assert parents["aten::linear"] == "forward"
    assert parents["jtorch::optim.sgd"] == "Optimizer.step#SGD.step"
    assert found["forward"].cpu_time_total >= found["aten::linear"].cpu_time_total


def test_a_compiled_trace_is_shared_out_among_its_operations():
    with torch.execution("deferred"):
        x, w = torch.randn(64, 256), torch.randn(256, 256)

        def work():
            with record_function("product"):
                y = x @ w
            return (y.relu() + 1).sum().item()

        for _ in range(3):
            work()
        with profile() as p:
            work()
        found = averages(p)
        row = next(a for name, a in found.items() if name.startswith("jtorch::compiled trace (4 operations)"))
        assert row.self_cpu_time_total > 0
        # The product ran in the sync, and counts in the range that it was called in.
        assert found["aten::matmul"].self_cpu_time_total > 0
        assert found["product"].cpu_time_total > found["aten::matmul"].self_cpu_time_total
        assert found["aten::relu"].self_cpu_time_total + found["aten::sum"].self_cpu_time_total > 0


def test_own_times_add_up_to_what_the_outermost_events_took():
    step = training_step()
    step()
    step()
    with profile() as p, record_function("all"):
        step()
        step()
    events = p.events()
    whole = next(e for e in events if e.name == "all")
    assert min(e.self_cpu_time_total for e in events) > -1e-3
    assert sum(e.self_cpu_time_total for e in events) == pytest.approx(whole.time_range.elapsed_us(), rel=1e-6)
    assert sum(e.cpu_time_total for e in events if e.cpu_parent is None) == pytest.approx(
        sum(e.self_cpu_time_total for e in events)
    )


def test_compiling_has_rows_of_its_own(monkeypatch, tmp_path):
    """And loading what an earlier process compiled."""
    monkeypatch.setattr(executables, "_folder", lambda: tmp_path)
    for what, other in ("XLA", "load"), ("load", "XLA"):
        executor.flush()
        executor.T.new_trie()
        executor.T.reset()
        kernel.drop_compiled()
        x = torch.ones(3, 17)
        with profile() as p:
            torch.nn.functional.softplus(x * 1.5, beta=1.25).sum().item()
        found = averages(p)
        assert found[f"jtorch::compile ({what})"].count >= 1
        assert f"jtorch::compile ({other})" not in found
        assert found["jtorch::dispatch"].count == 3


def test_nothing_is_left_behind():
    before = [f.__code__ for f in GENERATED]
    with pytest.raises(ZeroDivisionError):
        with profile() as p:
            torch.ones(2).exp()
            with record_function("broken"):
                1 / 0
    assert executor.T.observer is None
    assert [f.__code__ for f in GENERATED] == before
    assert {"aten::exp", "broken"} <= set(averages(p))
    with record_function("after"):
        torch.ones(2).exp().tolist()
    assert "after" not in averages(p)


def test_operations_that_are_made_in_a_profile_are_in_it():
    """Some are made when they are first used."""
    x = torch.ones(2)
    with profile() as p:
        f = generate(OPS["exp"])
        plain = GENERATED[-1].__globals__["_plain"].__code__
        f(x)
    assert averages(p)["aten::exp"].count == 1
    assert GENERATED.pop().__code__ is plain


def test_functions_keep_their_defaults_and_errors_in_a_profile():
    with profile():
        assert torch.ones(2, 3).sum(dim=1, keepdim=True).shape == (2, 1)
        assert torch.add(torch.ones(2), 1, alpha=2).tolist() == [3, 3]
        with pytest.raises(RuntimeError, match="1D tensors expected"):
            torch.ones(2, 2).dot(torch.ones(2, 2))
        with pytest.raises(TypeError):
            torch.exp()


def test_what_was_pending_before_is_not_in_the_profile():
    y = torch.ones(3).cosh()
    with profile() as p:
        y.tolist()
    assert "aten::cosh" not in averages(p)


def test_what_is_pending_at_the_end_is():
    x = torch.tensor([1.0, 2.0])
    with profile() as p:
        kept = x.cosh()
    assert averages(p)["aten::cosh"].self_cpu_time_total > 0
    assert kept.tolist()[0] == pytest.approx(1.5430806)


def test_decorator_and_ranges_inside_each_other():
    @record_function("outer")
    def f(x):
        """Doc."""
        with record_function("inner", "args"):
            return x + 1

    assert f.__name__ == "f" and f.__doc__ == "Doc."
    x = torch.ones(2)
    with profile() as p:
        f(x)
        f(x)
    parents = {e.name: e.cpu_parent and e.cpu_parent.name for e in p.events()}
    assert (parents["outer"], parents["inner"], parents["aten::add"]) == (None, "outer", "inner")


def test_shapes_stacks_flops_and_memory(tmp_path):
    a, b = torch.ones(4, 5), torch.ones(5, 6)
    with profile(record_shapes=True, with_stack=True, with_flops=True, profile_memory=True) as p:
        kept = torch.mm(a, b)
    event = next(e for e in p.events() if e.name == "aten::mm")
    assert event.input_shapes == [[4, 5], [5, 6]]
    assert event.flops == 2 * 4 * 5 * 6
    assert event.cpu_memory_usage == 4 * 6 * 4
    assert event.stack[0].startswith(__file__) and "test_shapes_stacks" in event.stack[0]
    text = p.key_averages(group_by_input_shape=True, group_by_stack_n=1).table()
    for title in ("Input Shapes", "Source Location", "Total FLOPs", "CPU Mem"):
        assert title in text
    p.export_stacks(str(tmp_path / "stacks"))
    line = next(line for line in (tmp_path / "stacks").read_text().splitlines() if "test_shapes_stacks" in line)
    assert int(line.rsplit(" ", 1)[1]) > 0
    assert kept.shape == (4, 6)


def test_chrome_trace(tmp_path):
    step = training_step()
    for _ in range(3):
        step()
    with profile(record_shapes=True) as p:
        with record_function("all"):
            step()
    p.add_metadata("who", "me")
    p.add_metadata_json("numbers", "[1, 2]")
    for name, opened in (("t.json", open), ("t.json.gz", gzip.open)):
        p.export_chrome_trace(str(tmp_path / name))
        with opened(tmp_path / name, "rt") as f:
            document = json.load(f)
        assert (document["who"], document["numbers"]) == ("me", [1, 2])
        rows = [e for e in document["traceEvents"] if e["ph"] == "X"]
        for row in rows:
            assert {"name", "cat", "pid", "tid", "ts", "dur", "args"} <= set(row) and row["dur"] >= 0
        at = {
            row["name"]: (row["ts"], row["ts"] + row["dur"], row["tid"])
            for row in rows
            if row["cat"] == "user_annotation"
        }
        assert at["all"][0] <= at["forward"][0] <= at["forward"][1] <= at["all"][1]
        assert at["all"][2] == at["forward"][2]
        kernels = [row["name"] for row in rows if row["cat"] in ("kernel", "cpu_op")]
        assert any("AddmmBackward0" in name for name in kernels)


def test_a_schedule(tmp_path):
    s = schedule(skip_first=1, wait=1, warmup=1, active=2, repeat=2)
    N, W, R, S = ProfilerAction.NONE, ProfilerAction.WARMUP, ProfilerAction.RECORD, ProfilerAction.RECORD_AND_SAVE
    assert [s(i) for i in range(11)] == [N, N, W, R, S, N, W, R, S, N, N]
    x, got = torch.ones(3), []
    save = tensorboard_trace_handler(str(tmp_path), "me", use_gzip=True)

    def ready(p):
        got.append((p.step_num, [e.trace_name for e in p.events() if e.name == "ProfilerStep*"]))
        save(p)

    with profile(schedule=schedule(wait=1, warmup=1, active=2, repeat=2), on_trace_ready=ready) as p:
        for _ in range(9):
            x = x * 1.0
            p.step()
    assert got == [(4, ["ProfilerStep#2", "ProfilerStep#3"]), (8, ["ProfilerStep#6", "ProfilerStep#7"])]
    assert len(list(tmp_path.glob("me.*.pt.trace.json.gz"))) == 2
    assert executor.T.observer is None


def test_events_of_several_cycles_can_be_kept():
    kept = []
    for keep in (False, True):
        cycles = schedule(wait=0, warmup=1, active=1)
        with profile(schedule=cycles, acc_events=keep) as p:
            for _ in range(4):
                torch.ones(2).exp()
                p.step()
        kept.append(averages(p)["aten::exp"].count)
    assert kept == [1, 2]


def test_data_loaders_are_ranges():
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(4, 2)), batch_size=2)
    with profile() as p:
        list(loader)
    assert averages(p)["enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__"].count == 3


def test_other_threads_have_lanes_of_their_own():
    with profile() as p:
        torch.ones(2).exp()
        thread = threading.Thread(target=lambda: torch.ones(3).sinh())
        thread.start()
        thread.join()
    threads = {e.name: e.thread for e in p.events() if e.name in ("aten::exp", "aten::sinh")}
    assert len(set(threads.values())) == 2


def test_beside_another_profile_of_xla_compiled_traces_stay_whole(tmp_path, mode):
    step = training_step()
    for _ in range(3):
        step()
    with jax.profiler.trace(str(tmp_path)):
        if mode == "eager":
            with profile() as p:
                step()
            assert averages(p)["AddmmBackward0"].self_cpu_time_total > 0
            return
        with pytest.warns(UserWarning, match="compiled traces are shown as a whole"):
            with profile() as p:
                step()
    found = averages(p)
    assert found["AddmmBackward0"].self_cpu_time_total == 0
    assert next(a for n, a in found.items() if n.startswith("jtorch::compiled trace")).self_cpu_time_total > 0


def test_a_profile_in_a_profile_records_nothing():
    with profile() as outer:
        with pytest.warns(UserWarning, match="already enabled"):
            with profile() as inner:
                torch.ones(2).exp()
    assert not inner.events() and "aten::exp" in averages(outer)


def test_the_one_beneath():
    with autograd_profiler.profile(record_shapes=True) as p:
        torch.ones(2).exp()
    assert "aten::exp" in p.table() and p.self_cpu_time_total > 0
    assert p.total_average().key == "Total"
    with pytest.raises(RuntimeError, match="not reentrant"):
        p.__enter__()
    with pytest.raises(AssertionError, match="CUDA"), autograd_profiler.emit_nvtx():
        pass


# ---- what the attribution is made of ---------------------------------------------------------------------------------

PROGRAM = """HloModule jit_trace

%fused (p0: f32[4,8], p1: f32[8,16]) -> f32[4,16] {
  %p0 = f32[4,8]{1,0} parameter(0)
  %p1 = f32[8,16]{1,0} parameter(1)
  %dot.1 = f32[4,16]{1,0} dot(%p0, %p1), lhs_contracting_dims={1}, metadata={op_name="jit(trace)/jtorch.0/dot_general"}
  ROOT %exp.1 = f32[4,16]{1,0} exponential(%dot.1), metadata={op_name="jit(trace)/jtorch.12/exp"}
}

ENTRY %main (a: f32[4,8], b: f32[8,16]) -> f32[4,16] {
  %a = f32[4,8]{1,0} parameter(0)
  %b = f32[8,16]{1,0} parameter(1)
  %copy.2 = f32[4,8]{1,0} copy(%a)
  %fusion = f32[4,16]{1,0} fusion(%copy.2, %b), kind=kLoop, calls=%fused, metadata={op_name="jit(trace)/jtorch.12/exp"}
  ROOT %neg = f32[4,16]{1,0} negate(%fusion), metadata={op_name="jit(trace)/jtorch.3/jit(f)/neg"}
}
"""


def test_instructions_and_their_operations():
    found = hlo.shares(PROGRAM)
    assert found["neg"] == ("negate", {3: 1.0})
    assert found["copy.2"] == ("copy", {})
    what, shares = found["fusion"]
    assert what == "fusion" and shares == pytest.approx({0: 8 / 9, 12: 1 / 9})  # 4*16*8 products, 4*16 elements


def test_the_scopes_of_a_program_that_xla_compiled():
    def trace(a, b):
        with jax.named_scope(f"{loops.SCOPE}0"):
            c = a @ b
        with jax.named_scope(f"{loops.SCOPE}1"):
            return jax.numpy.sin(c)

    a, b = jax.numpy.ones((8, 32)), jax.numpy.ones((32, 16))
    found = hlo.shares(jax.jit(trace).lower(a, b).compile().as_text())
    assert {place for _, shares in found.values() for place in shares} == {0, 1}


@pytest.mark.parametrize(
    ("events", "times"),
    [
        ([], []),
        ([(1, 0, 10)], [10]),
        ([(1, 0, 10), (1, 2, 5)], [7, 3]),  # one inside the other
        ([(1, 0, 10), (2, 0, 10)], [5, 5]),  # at once
        ([(1, 0, 10), (2, 5, 15)], [7.5, 7.5]),
        ([(1, 0, 4), (1, 4, 6), (1, 8, 9)], [4, 2, 1]),
    ],
)
def test_time_that_is_an_instructions_own(events, times):
    assert hlo.exclusive(events) == pytest.approx(times)
