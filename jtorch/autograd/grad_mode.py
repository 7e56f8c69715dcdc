"""Grad modes under the name torch gives their module."""

from jtorch._autograd.modes import enable_grad as enable_grad
from jtorch._autograd.modes import inference_mode as inference_mode
from jtorch._autograd.modes import no_grad as no_grad
from jtorch._autograd.modes import set_grad_enabled as set_grad_enabled
