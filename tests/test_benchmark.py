"""torch.utils.benchmark: honest about pending work, and its measurements survive pickling."""

from __future__ import annotations

import pickle

import pytest

import jtorch as torch
from jtorch._runtime import executor
from jtorch.utils import benchmark
from jtorch.utils.benchmark import Compare, Measurement, TaskSpec, Timer


def measurement(times, number=1, **facts) -> Measurement:
    return Measurement(number, times, TaskSpec("x + y", "pass", **facts))


@pytest.mark.parametrize("mode", ["eager", "deferred"])
def test_pending_work_is_run_inside_the_timed_region(mode):
    """The clock is read when nothing is pending: what a statement recorded has run by the second reading."""
    readings = []

    def clock() -> float:
        now = benchmark.timer()
        readings.append(executor.T.at.parent is None)
        return now

    with torch.execution(mode):
        x = torch.ones(4, 4) + 1
        found = Timer("x @ x", globals={"x": x}, timer=clock).timeit(3)
    assert len(readings) == 4
    assert all(readings)
    assert found.number_per_run == 3 and found.mean > 0


def test_work_that_was_pending_before_is_not_timed():
    with torch.execution("deferred"):
        x = torch.ones(4) * 2
        seen = []
        y = x + 1
        Timer("pass", timer=lambda: seen.append(y._value.array is None) or benchmark.timer()).timeit(1)
    assert seen[1:] == [False] * 3


@pytest.mark.parametrize(
    "stmt", ["x @ x", "y = x @ x", "if True:\n    x @ x", "for _ in range(2): x @ x", "x.clone().add_(1)"]
)
def test_each_run_computes_its_results(stmt):
    """Of results that are dropped, too: else only their recording would be timed."""
    with torch.execution("deferred"):
        x = torch.ones(4, 4) + 1
        x.tolist()
        timed = Timer(stmt, globals={"x": x})
        before = executor.stats.cold + executor.stats.hot
        timed.timeit(5)
        assert executor.stats.cold + executor.stats.hot - before == 5 + 2  # two to warm up


def test_globals_and_setup():
    given = {"q": 1}
    Timer("r + q", setup="r = torch.ones(2)", globals=given).timeit(1)
    assert list(given) == ["q"]
    with pytest.raises(ZeroDivisionError):
        Timer("1 / 0").timeit(1)


def test_autoranges_measure_for_long_enough():
    m = Timer("x + 1", globals={"x": torch.ones(3)}).blocked_autorange(min_run_time=0.02)
    assert sum(m.raw_times) >= 0.02
    called = []
    m = Timer("pass").adaptive_autorange(max_run_time=0.05, callback=lambda n, t: called.append(n))
    assert called == [m.number_per_run] * len(m.raw_times)


def test_measurements_pickle_and_merge():
    found = Timer("pass", label="L", sub_label="S", description="D", env="E").timeit(10)
    again = pickle.loads(pickle.dumps(found))
    assert again == found and again.label == "L" and again.median == found.median
    merged = Measurement.merge([measurement([1.0, 3.0], 2), measurement([4.0]), measurement([5.0], label="other")])
    assert [m.times for m in merged] == [[0.5, 1.5, 4.0], [5.0]]


def test_what_is_not_there_says_so():
    with pytest.raises(NotImplementedError, match="collect_callgrind is not supported"):
        Timer("pass").collect_callgrind()
    with pytest.raises(NotImplementedError, match="no C\\+\\+ API"):
        Timer("pass", language="c++")


def test_compare_takes_measurements_without_words(capsys):
    Compare([measurement([1.0]), measurement([2.0], env="e")]).print()
    assert "Times are in seconds (s)." in capsys.readouterr().out
