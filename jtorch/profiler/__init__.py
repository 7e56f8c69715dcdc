"""`torch.profiler`: where the time of a program goes. `jtorch/autograd/profiler.py` says how it is attributed."""

from jtorch.autograd.profiler import kineto_available as kineto_available
from jtorch.autograd.profiler import record_function as record_function
from jtorch.profiler.profiler import ProfilerAction as ProfilerAction
from jtorch.profiler.profiler import ProfilerActivity as ProfilerActivity
from jtorch.profiler.profiler import profile as profile
from jtorch.profiler.profiler import schedule as schedule
from jtorch.profiler.profiler import supported_activities as supported_activities
from jtorch.profiler.profiler import tensorboard_trace_handler as tensorboard_trace_handler

__all__ = [
    "ProfilerAction", "ProfilerActivity", "kineto_available", "profile", "record_function", "schedule",
    "supported_activities", "tensorboard_trace_handler",
]  # fmt: skip
