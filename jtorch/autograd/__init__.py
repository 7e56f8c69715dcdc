"""Automatic differentiation: `backward`, `grad`, `Function`, hooks and modes."""

from jtorch._autograd.modes import enable_grad as enable_grad
from jtorch._autograd.modes import inference_mode as inference_mode
from jtorch._autograd.modes import no_grad as no_grad
from jtorch._autograd.modes import set_grad_enabled as set_grad_enabled
from jtorch._tensor.backward import backward as backward
from jtorch._tensor.backward import grad as grad
from jtorch._tensor.base import Tensor as Variable
from jtorch.autograd import forward_ad as forward_ad
from jtorch.autograd import function as function
from jtorch.autograd import functional as functional
from jtorch.autograd import grad_mode as grad_mode
from jtorch.autograd import graph as graph
from jtorch.autograd import profiler as profiler
from jtorch.autograd import profiler_util as profiler_util
from jtorch.autograd.anomaly_mode import detect_anomaly as detect_anomaly
from jtorch.autograd.anomaly_mode import is_anomaly_check_nan_enabled as is_anomaly_check_nan_enabled
from jtorch.autograd.anomaly_mode import is_anomaly_enabled as is_anomaly_enabled
from jtorch.autograd.anomaly_mode import set_detect_anomaly as set_detect_anomaly
from jtorch.autograd.function import Function as Function
from jtorch.autograd.gradcheck import gradcheck as gradcheck
from jtorch.autograd.gradcheck import gradgradcheck as gradgradcheck

__all__ = [
    "Function", "Variable", "backward", "detect_anomaly", "enable_grad", "function", "functional", "grad", "grad_mode",
    "gradcheck", "gradgradcheck", "graph", "inference_mode", "no_grad", "set_detect_anomaly", "set_grad_enabled",
]  # fmt: skip
