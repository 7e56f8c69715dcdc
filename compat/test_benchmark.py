"""torch.utils.benchmark beside torch's: the same times give the same text and statistics."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch.utils.benchmark as theirs

from compat import bridge

pytestmark = pytest.mark.one_mode


def ours():
    return bridge.library().utils.benchmark


def both(times, number=1, stmt="x+y", setup="pass", **facts):
    return [
        b.Measurement(
            number_per_run=number, raw_times=list(times), task_spec=b.TaskSpec(stmt=stmt, setup=setup, **facts)
        )
        for b in (ours(), theirs)
    ]


def masked(text: str) -> str:
    return re.sub(r"at 0x[0-9a-f]+", "at 0x", text)


TASKS = [
    {},
    {"label": "L", "sub_label": "S", "description": "D", "env": "E", "num_threads": 2},
    {"sub_label": "S", "description": "D"},
    {"label": "L", "stmt": "a\nb"},
    {"stmt": "a\nb", "setup": "s\nt", "sub_label": "S", "description": "D"},
    {"setup": "x = 1"},
]
TIMES = [
    [1.234e-3],
    [2.0],
    [3e-8],
    [1.0, 2.0],
    [1.0, 1.1, 1.2],
    [1.0, 1.1, 1.2, 1.3],
    [1.0, 1.01, 1.02, 1.03, 1.04],
    [1.0] * 3 + [3.0] * 3,
    [1e-6, 2e-6, 9e-6, 2e-6],
]


@pytest.mark.parametrize("task", TASKS)
def test_repr(task):
    for times in TIMES:
        mine, reference = both(times, 100, **task)
        assert masked(repr(mine)) == masked(repr(reference))
        assert (mine.title, mine.as_row_name, mine.env) == (reference.title, reference.as_row_name, reference.env)
        assert mine.task_spec.summarize() == reference.task_spec.summarize()


def test_statistics():
    rng = np.random.default_rng(0)
    for n in (1, 2, 3, 4, 5, 6, 7, 8, 11, 30):
        for spread in (1e-4, 1e-3, 1e-2, 0.1, 1.0):
            for scale in (1e-7, 1e-4, 1.0):
                mine, reference = both(scale * (1 + spread * rng.random(n)))
                for name in ("mean", "median", "iqr", "significant_figures", "has_warnings", "times"):
                    assert getattr(mine, name) == pytest.approx(getattr(reference, name)), (name, n, spread, scale)
                assert mine.meets_confidence(0.05) == reference.meets_confidence(0.05)


def tables():
    rows = [
        dict(times=[1e-3 * i, 1.1e-3 * i, 1.2e-3 * i], label="mul", sub_label=f"size {s}", description=d, num_threads=t)
        for t in (4, 1)
        for i, s in enumerate(("8x8", "64x64"), 1)
        for d in ("a", "bb")
    ]
    yield rows
    yield [dict(row, env=f"E{i % 2}") for i, row in enumerate(rows)]
    yield [dict(row, label=row["description"]) for row in rows]
    yield [dict(times=[t], label="a", description=f"d{t}", sub_label="s") for t in (1, 1.02, 1.15, 1.6, 3, 0.5, 12)]
    yield [
        dict(times=[t], label="a", description="d", sub_label=f"s{t}") for t in (1, 1.02, 1.15, 1.6, 3, 0.5, 12, 123)
    ]
    yield [
        dict(times=[1, 1.1, 1.2, 1.3, 1.1], label=None, description="one", sub_label="s"),
        dict(times=[1, 1.1, 4.2, 9.3, 1.1], label=None, description="another, longer", sub_label="s"),
        dict(times=[1, 1.1, 4.2, 9.3, 1.1], label=None, description="one", sub_label="another"),
    ]
    yield [dict(times=[v * (1 + 0.001 * i) for i in range(5)], label="a", description="d", sub_label=f"{v}")
           for v in (5.03, 99.99, 1000.4)]  # fmt: skip


@pytest.mark.parametrize("change", ["", "trim_significant_figures", "colorize", "rowwise", "highlight_warnings"])
def test_compare(change):
    for rows in tables():
        shown = []
        for which in (0, 1):
            c = (ours(), theirs)[which].Compare([both(**row)[which] for row in rows])
            if change == "rowwise":
                c.colorize(rowwise=True)
            elif change:
                getattr(c, change)()
            # Where some of a column have warnings and others not, how they are aligned is ours.
            shown.append(re.sub(r"[ -]+", " ", str(c)) if change == "highlight_warnings" else str(c))
        assert shown[0] == shown[1]


def test_timer_arguments():
    for make in (
        lambda b: b.Timer(3),
        lambda b: b.Timer("x", language="rust"),
        lambda b: b.Timer("x", global_setup="y"),
        lambda b: b.Timer("undefined").timeit(1),
        lambda b: b.Timer("pass").repeat(),
        lambda b: b.Compare([1]),
    ):
        errors = []
        for b in (ours(), theirs):
            with pytest.raises(Exception) as caught:
                make(b)
            errors.append((type(caught.value), str(caught.value)))
        assert errors[0] == errors[1]


def test_timer_shows_what_torch_shows():
    shown = []
    for b in (ours(), theirs):
        m = b.Timer("\n  x + 1\n  ", setup="x = 1", label="L", description="D", num_threads=1).timeit(7)
        shown.append(re.sub(r"[\d.]+ (ns|us|ms)", "TIME", masked(repr(m))))
    assert shown[0] == shown[1]


@pytest.mark.parametrize("x", [123.456, 0.00123456, 99999, 1.0, 12.5])
def test_numbers(x):
    assert [ours().trim_sigfig(x, n) for n in (1, 2, 3, 4)] == [theirs.trim_sigfig(x, n) for n in (1, 2, 3, 4)]
    assert ours().select_unit(x) == theirs.select_unit(x)
