"""Options, execution modes and the collection of results for the compat suite.

pytest compat -n 2                      everything, both modes
pytest compat -k "matmul and forward" --mode eager --samples 10
pytest compat -n 2 --report             also writes compat/REPORT.md
pytest compat -k ... --rows a.jsonl     notes the results down as they come; `python -m compat.report a.jsonl b.jsonl`
                                        makes one report of several such runs
"""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path

# Both libraries keep to one thread: pytest-xdist is what uses the cores, and sums keep their order.
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("PYTORCH_TESTING_DEVICE_ONLY_FOR", "cpu")

import pytest
import torch

torch.set_num_threads(1)

HERE = Path(__file__).parent
MODES = ("eager", "deferred")


def pytest_addoption(parser):
    group = parser.getgroup("compat", "jtorch against torch")
    group.addoption(
        "--mode",
        choices=(*MODES, "both"),
        default=None,
        help="execution modes to run in (both, or what JTORCH_EXECUTION says)",
    )
    from compat.ledger import SAMPLES

    group.addoption("--samples", type=int, default=SAMPLES, help="sample inputs per operation and dtype")
    group.addoption("--dtypes", choices=("common", "all"), default="common", help="dtypes of the operations' database")
    group.addoption("--rows", default=None, help="append the results to this file, one JSON object a test")
    group.addoption("--report", action="store_true", help="write compat/REPORT.md from this run")
    group.addoption("--library", default="jtorch", help="what is judged; `torch` judges the suite itself")


def pytest_configure(config):
    from compat import bridge

    bridge.LIBRARY = config.getoption("--library")
    config.addinivalue_line("markers", "one_mode: run in the default execution mode only")
    if not hasattr(config, "workerinput"):
        config._compat_results = []


def _modes(config) -> tuple[str, ...]:
    wanted = config.getoption("--mode") or os.environ.get("JTORCH_EXECUTION") or "both"
    return MODES if wanted == "both" else (wanted,)


def pytest_generate_tests(metafunc):
    if "execution_mode" in metafunc.fixturenames:
        modes = _modes(metafunc.config)
        if metafunc.definition.get_closest_marker("one_mode"):
            modes = modes[-1:]
        metafunc.parametrize("execution_mode", modes, indirect=True)


@pytest.fixture(autouse=True)
def execution_mode(request, monkeypatch):
    """The mode that jtorch runs the test in."""
    from compat import bridge

    mode = request.param
    monkeypatch.setenv("JTORCH_EXECUTION", mode)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lib = bridge.library()
        if lib is torch:
            yield mode
            return
        from jtorch._runtime import executor

        with executor.execution(mode):
            yield mode


@pytest.fixture
def samples(request) -> int:
    """How many sample inputs to take per operation and dtype."""
    return request.config.getoption("--samples")


@pytest.fixture
def all_dtypes(request) -> bool:
    """Whether the operations' database is judged in all its dtypes, or in the commonest."""
    return request.config.getoption("--dtypes") == "all"


# ---- results ---------------------------------------------------------------------------------------------------------


def pytest_runtest_logreport(report):
    config = _CONFIG[0]
    if not hasattr(config, "_compat_results"):
        return
    if report.when == "call" or (report.when == "setup" and report.outcome != "passed"):
        outcome = "expected" if hasattr(report, "wasxfail") else report.outcome
        rows = [value for name, value in report.user_properties if name == "compat"]
        result = {"id": report.nodeid, "outcome": outcome, "seconds": report.duration, "rows": rows}
        config._compat_results.append(result)
        if config.getoption("--rows"):
            with open(config.getoption("--rows"), "a") as file:
                file.write(json.dumps(result) + "\n")


_CONFIG: list = [None]


def pytest_sessionstart(session):
    _CONFIG[0] = session.config


def pytest_sessionfinish(session):
    config = session.config
    if not config.getoption("--report") or not hasattr(config, "_compat_results"):
        return
    from compat import report

    report.write(config._compat_results, HERE / "REPORT.md")


# ---- distribution ----------------------------------------------------------------------------------------------------


class _Distribution:
    """With pytest-xdist: all tests of one operation go to one worker, which compiles its programs once."""

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config, log):
        from xdist.scheduler import LoadScopeScheduling

        class ByOperation(LoadScopeScheduling):
            def _split_scope(self, nodeid):
                path, _, test = nodeid.partition("::")
                if path.endswith("test_opinfo.py") and "[" in test:
                    return test.split("[", 1)[1].rstrip("]").removeprefix("eager-").removeprefix("deferred-")
                return path

        return ByOperation(config, log)


def pytest_plugin_registered(plugin, manager):
    if getattr(plugin, "__name__", "") == "xdist.plugin" and not manager.hasplugin("compat-distribution"):
        manager.register(_Distribution(), "compat-distribution")
