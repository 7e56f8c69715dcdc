"""torch.profiler beside torch's: the same events give the same table, and a script's operations the same names."""

from __future__ import annotations

import importlib
import itertools
import re

import pytest
import torch
from torch.autograd import profiler_util as their_util

from compat import bridge


def util():
    return importlib.import_module(f"{bridge.LIBRARY}.autograd.profiler_util")


def events(m, *, stacks=False, **facts):
    """The same events in either library."""
    spans = [
        ("aten::linear", 0.0, 1500.0, None), ("aten::addmm", 100.0, 1200.0, 0), ("aten::relu", 2000.0, 2000.5, None),
        ("autograd::engine::evaluate_function: SomethingWithALongNameBackward0", 3000.0, 2.5e6, None),
        ("aten::relu", 2.6e6, 2.7e6, None),
    ]  # fmt: skip
    made, parents = [], []
    for i, (name, start, end, parent) in enumerate(spans):
        e = m.FunctionEvent(
            i + 1, name, 1, start, end, input_shapes=[[i, 2], []] if i != 2 else [], flops=0 if i == 2 else 10**i * 700,
            stack=["/some/where/far/away/on/the/disk/file.py(3): f", "b.py(4): g"] if stacks and i != 2 else [],
            cpu_memory_usage=(i - 1) * 500 * 1024**i,
        )  # fmt: skip
        if parent is not None:
            parents.append((made[parent], e))
        made.append(e)
    found = m.EventList(made, **facts)
    if m is their_util:
        found._build_tree()  # from the times: the same one
    else:
        for outer, inner in parents:
            outer.append_cpu_child(inner)
            inner.set_cpu_parent(outer)
    return found


COLUMNS = [
    {},
    {"profile_memory": True},
    {"with_flops": True},
    {"stacks": True},
    {"stacks": True, "profile_memory": True},
]
TABLES = [
    {},
    {"sort_by": "self_cpu_time_total"},
    {"sort_by": "cuda_time_total", "row_limit": 2},
    {"sort_by": "count", "row_limit": -1},
    {"header": "what a header", "top_level_events_only": True},
    {"header": "what a header"},
    {"top_level_events_only": True, "row_limit": 1},
    {"time_unit": "ms"},
    {"time_unit": "s"},
    {"time_unit": "us"},
    {"max_name_column_width": 20, "max_src_column_width": 30, "max_shapes_column_width": 9},
]


@pytest.mark.one_mode
@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("group", [None, {}, {"group_by_input_shapes": True}, {"group_by_stack_n": 2}])
def test_table(columns, group):
    lists = [events(m, **columns) for m in (util(), their_util)]
    if group is not None:
        lists = [found.key_averages(**group) for found in lists]
    for options in TABLES:
        mine, theirs = (found.table(**options) for found in lists)
        assert mine == theirs, options


@pytest.mark.one_mode
def test_events_and_averages():
    mine, theirs = events(util()), events(their_util)
    assert [str(e) for e in mine] == [str(e) for e in theirs]
    assert [str(a) for a in mine.key_averages()] == [str(a) for a in theirs.key_averages()]
    assert str(mine.total_average()) == str(theirs.total_average())
    assert mine.self_cpu_time_total == theirs.self_cpu_time_total
    assert util().EventList([]).table() == their_util.EventList([]).table()


@pytest.mark.one_mode
def test_stacks(tmp_path):
    written = []
    for m in (util(), their_util):
        events(m, stacks=True).export_stacks(str(tmp_path / "s"), "self_cpu_time_total")
        written.append((tmp_path / "s").read_text())
        with pytest.raises(ValueError, match="metric should be one of") as caught:
            events(m).export_stacks(str(tmp_path / "s"), "other")
        written.append(str(caught.value))
    assert written[:2] == written[2:]


@pytest.mark.one_mode
@pytest.mark.filterwarnings("ignore:Profiler won't be using warmup")
def test_schedules():
    given = itertools.product((0, 2), (0, 1), (1, 3), (0, 2), (0, 3), (0, 1))
    for wait, warmup, active, repeat, skip, skip_wait in given:
        options = dict(
            wait=wait, warmup=warmup, active=active, repeat=repeat, skip_first=skip, skip_first_wait=skip_wait
        )
        mine, theirs = (lib.profiler.schedule(**options) for lib in (bridge.library(), torch))
        assert [mine(i).name for i in range(25)] == [theirs(i).name for i in range(25)], options


@pytest.mark.one_mode
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "misuse",
    [
        lambda p: p.schedule(wait=-1, warmup=0, active=1),
        lambda p: p.schedule(wait=0, warmup=0, active=1)(-1),
        lambda p: p.profile().events(),
        lambda p: p.profile().key_averages(),
        lambda p: p.profile().export_chrome_trace("/nowhere"),
        lambda p: p.profile().stop(),
        lambda p: p.profile(activities=[]),
        lambda p: p.profile(activities=["cpu"]),
        lambda p: p.profile(activities=[p.ProfilerActivity.CUDA]).start(),
        lambda p: p.profile(schedule=3),
    ],
)
def test_errors(misuse):
    errors = []
    for lib in (bridge.library(), torch):
        with pytest.raises(Exception) as caught:
            misuse(lib.profiler)
        errors.append((type(caught.value), str(caught.value)))
    assert errors[0] == errors[1]


def script(lib):
    lib.manual_seed(0)
    model = lib.nn.Sequential(lib.nn.Linear(6, 5), lib.nn.Tanh(), lib.nn.Linear(5, 3))
    optimizer = lib.optim.SGD(model.parameters(), lr=0.1)
    x, y = lib.randn(4, 6), lib.tensor([0, 1, 2, 0])

    def step():
        optimizer.zero_grad()
        with lib.profiler.record_function("forward"):
            out = model(x)
            loss = lib.nn.functional.cross_entropy(out, y)
        loss.backward()
        optimizer.step()
        lib.mm(x, x.t()).sum().item()

    return step


@pytest.mark.parametrize("rounds", [0, 3])
def test_names_and_calls(rounds):
    """What jtorch calls as torch does is named as torch names it, and counted as often."""
    counts = []
    for lib in (bridge.library(), torch):
        step = script(lib)
        for _ in range(rounds):
            step()
        with lib.profiler.profile() as p:
            step()
            step()
        counts.append({a.key: a.count for a in p.key_averages()})
    mine, theirs = counts
    own = {name for name in mine if not name.startswith(("jtorch::", "xla::"))}
    # torch makes the first gradient with ones_like, and as one more operation.
    assert own - set(theirs) <= {"aten::ones"}
    for name in ("forward", "aten::linear", "aten::tanh", "aten::cross_entropy_loss", "AddmmBackward0",
                 "TanhBackward0", "NllLossBackward0", "Optimizer.step#SGD.step", "Optimizer.zero_grad#SGD.zero_grad"):  # fmt: skip
        assert mine[name] == theirs[name], name


def test_the_columns_of_a_profile():
    titles = []
    for lib in (bridge.library(), torch):
        step = script(lib)
        step()
        with lib.profiler.profile(record_shapes=True, profile_memory=True, with_flops=True) as p:
            step()
        text = p.key_averages(group_by_input_shape=True).table(sort_by="cpu_time_total", row_limit=5)
        titles.append(re.sub(r"Total \w+", "Total FLOPs", " ".join(text.splitlines()[1].split())))
        assert re.fullmatch(r"Self CPU time total: \d+\.\d{3}(us|ms|s)", text.splitlines()[-1])
        assert len({len(line) for line in text.splitlines()[:-1]}) == 1
    assert titles[0] == titles[1]
