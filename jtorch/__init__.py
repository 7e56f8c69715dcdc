"""jtorch: PyTorch's API on JAX. `import jtorch as torch`, or `python -m jtorch script.py`."""

from __future__ import annotations

import math as _math
from builtins import bool as _bool
from builtins import int as _int
from typing import TYPE_CHECKING as _TYPE_CHECKING

from jtorch._autograd.modes import enable_grad as enable_grad
from jtorch._autograd.modes import inference_mode as inference_mode
from jtorch._autograd.modes import is_grad_enabled as is_grad_enabled
from jtorch._autograd.modes import is_inference_mode_enabled as is_inference_mode_enabled
from jtorch._autograd.modes import no_grad as no_grad
from jtorch._autograd.modes import set_grad_enabled as set_grad_enabled
from jtorch._runtime import background as _background
from jtorch._runtime import devices as _devices
from jtorch._runtime import dtypes as _dtypes
from jtorch._runtime.avals import Size as Size
from jtorch._runtime.counts import counts as stats  # noqa: F401
from jtorch._runtime.devices import device as device
from jtorch._runtime.dtypes import dtype as dtype
from jtorch._runtime.dtypes import finfo as finfo
from jtorch._runtime.dtypes import get_default_dtype as get_default_dtype
from jtorch._runtime.dtypes import iinfo as iinfo
from jtorch._runtime.dtypes import promote_types as promote_types
from jtorch._runtime.dtypes import set_default_dtype as set_default_dtype
from jtorch._runtime.executor import execution as execution
from jtorch._tensor import composites as _composites
from jtorch._tensor import creation as _creation
from jtorch._tensor import derive as _derive
from jtorch._tensor import from_data as _from_data
from jtorch._tensor import functions as _functions
from jtorch._tensor import histograms as _histograms
from jtorch._tensor import methods as _methods
from jtorch._tensor import operators as _operators
from jtorch._tensor import random as _random
from jtorch._tensor import ranges as _ranges
from jtorch._tensor import reshaping as _reshaping
from jtorch._tensor import views as _views
from jtorch._tensor import windows as _windows
from jtorch._tensor.placing import channels_last as channels_last
from jtorch._tensor.placing import channels_last_3d as channels_last_3d
from jtorch._tensor.placing import contiguous_format as contiguous_format
from jtorch._tensor.placing import layout as layout
from jtorch._tensor.placing import memory_format as memory_format
from jtorch._tensor.placing import preserve_format as preserve_format
from jtorch._tensor.placing import sparse_coo as sparse_coo
from jtorch._tensor.placing import sparse_csr as sparse_csr
from jtorch._tensor.placing import strided as strided
from jtorch._tensor.printing import set_printoptions as set_printoptions
from jtorch._tensor.random import Generator as Generator
from jtorch._tensor.random import fork_rng as fork_rng
from jtorch._tensor.storage_api import TypedStorage as TypedStorage
from jtorch._tensor.storage_api import UntypedStorage as UntypedStorage
from jtorch._tensor.tensor import Tensor as Tensor
from jtorch._version import __version__ as __version__

pi, e, tau, inf, nan, newaxis = _math.pi, _math.e, _math.tau, _math.inf, _math.nan, None

if _TYPE_CHECKING:
    from jtorch._stubs.top import *  # noqa: F403

globals().update({_d.name: _d for _d in _dtypes.ALL} | _dtypes.ALIASES)
globals().update(_derive.functions())
for _room in (
    _views, _reshaping, _functions, _creation, _from_data, _ranges, _windows, _histograms, _random, _composites,
):  # fmt: skip
    globals().update(_room.FUNCTIONS)
globals().update(_operators.divisions())
pow = _operators.pow_
clone = _methods.clone
index_put, index_put_, zero_ = Tensor.index_put, Tensor.index_put_, Tensor.zero_
resize_as_ = Tensor.resize_as_
swap_tensors = _methods.swap_tensors
default_generator = _random.default_generator


def is_storage(obj) -> _bool:
    """Whether an object is a tensor's memory."""
    return isinstance(obj, UntypedStorage | TypedStorage)


def set_default_device(device) -> None:
    """Sets where factories place what they make; None is the CPU again."""
    _devices.set_default(device)


def get_default_device() -> device:
    """Where factories place what they make."""
    return _devices.default()


def set_default_tensor_type(t) -> None:
    """Sets the default dtype by the name of a tensor type."""
    names = {"torch.FloatTensor": _dtypes.float32, "torch.DoubleTensor": _dtypes.float64}
    set_default_dtype(names[t] if isinstance(t, str) else t.dtype)


def _typed(name: str, dtype_: _dtypes.dtype):
    """A legacy constructor such as `torch.FloatTensor`."""

    class Typed(type):
        def __call__(cls, *args, **kwargs):
            return _creation.legacy_tensor(Tensor, *args, dtype=dtype_, **kwargs)

        def __instancecheck__(cls, obj):
            return isinstance(obj, Tensor) and obj.dtype is dtype_

    return Typed(name, (), {"dtype": dtype_, "__doc__": f"Makes {dtype_!r} tensors from sizes or data."})


for _d, _name in _dtypes.SCALAR_NAMES.items():
    globals()[f"{_name}Tensor"] = _typed(f"{_name}Tensor", _d)


def get_num_threads() -> _int:
    """The number of threads XLA uses on the CPU."""
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_num_threads(n: _int) -> None:
    """Checked and otherwise without effect: XLA takes its threads when it starts (use `taskset`, or JAX's flags)."""
    if not isinstance(n, _int) or n <= 0:
        raise RuntimeError("set_num_threads expects a positive integer")


get_num_interop_threads, set_num_interop_threads = get_num_threads, set_num_threads


def set_float32_matmul_precision(precision: str) -> None:
    """Accepts torch's names. Products of float32 are always computed in float32."""
    if precision not in ("highest", "high", "medium"):
        raise RuntimeError(f"Invalid float32 matmul precision: {precision}")


def get_float32_matmul_precision() -> str:
    """Always "highest"."""
    return "highest"


def use_deterministic_algorithms(mode: _bool, *, warn_only: _bool = False) -> None:
    """Whether each run of a script is to give what the last one gave, to the last bit.

    Every operation does; what differs is when a long sequence of them, that comes again and again, begins to run as one
    program, whose roundings are its own. Usually it is compiled in the background. If `mode` it is at once.
    """
    _background.deterministic = _bool(mode)


def are_deterministic_algorithms_enabled() -> _bool:
    """What was said to `use_deterministic_algorithms`."""
    return _background.deterministic


def is_autocast_enabled(device_type: str | None = None) -> _bool:
    """Whether operations choose their dtype by themselves: never, there is no autocast yet."""
    return False


def typename(obj) -> str:
    """The name of a tensor's type, or of any object's."""
    return obj.type() if isinstance(obj, Tensor) else f"{type(obj).__module__}.{type(obj).__qualname__}"


from jtorch import autograd as autograd  # noqa: E402
from jtorch import compiler as compiler  # noqa: E402
from jtorch import cuda as cuda  # noqa: E402
from jtorch import fft as fft  # noqa: E402
from jtorch import func as func  # noqa: E402
from jtorch import linalg as linalg  # noqa: E402
from jtorch import nn as nn  # noqa: E402
from jtorch import optim as optim  # noqa: E402
from jtorch import profiler as profiler  # noqa: E402
from jtorch import random as random  # noqa: E402
from jtorch import return_types as return_types  # noqa: E402
from jtorch import signal as signal  # noqa: E402
from jtorch import special as special  # noqa: E402
from jtorch import testing as testing  # noqa: E402
from jtorch import utils as utils  # noqa: E402
from jtorch._alias import install as install  # noqa: E402
from jtorch.autograd.anomaly_mode import is_anomaly_check_nan_enabled as is_anomaly_check_nan_enabled  # noqa: E402
from jtorch.autograd.anomaly_mode import is_anomaly_enabled as is_anomaly_enabled  # noqa: E402
from jtorch.compiler import compile as compile  # noqa: E402
from jtorch.func import vmap as vmap  # noqa: E402
