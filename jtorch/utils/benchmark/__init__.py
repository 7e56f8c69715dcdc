"""`torch.utils.benchmark`: timing statements, and comparing the times.

Honest with deferred execution: what a statement leaves pending is run inside the timed region.
"""

from jtorch.utils.benchmark.utils.common import Measurement as Measurement
from jtorch.utils.benchmark.utils.common import TaskSpec as TaskSpec
from jtorch.utils.benchmark.utils.common import ordered_unique as ordered_unique
from jtorch.utils.benchmark.utils.common import select_unit as select_unit
from jtorch.utils.benchmark.utils.common import set_torch_threads as set_torch_threads
from jtorch.utils.benchmark.utils.common import trim_sigfig as trim_sigfig
from jtorch.utils.benchmark.utils.common import unit_to_english as unit_to_english
from jtorch.utils.benchmark.utils.compare import Colorize as Colorize
from jtorch.utils.benchmark.utils.compare import Compare as Compare
from jtorch.utils.benchmark.utils.timer import Language as Language
from jtorch.utils.benchmark.utils.timer import Timer as Timer
from jtorch.utils.benchmark.utils.timer import timer as timer

__all__ = [
    "Colorize", "Compare", "Language", "Measurement", "TaskSpec", "Timer", "ordered_unique", "select_unit",
    "set_torch_threads", "timer", "trim_sigfig", "unit_to_english",
]  # fmt: skip
