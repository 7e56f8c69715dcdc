"""The Tensor class itself: what it holds, and its attributes. Its operations are attached by the other modules here."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeVar, overload

import jax
import numpy as np

from jtorch._autograd import engine, graph
from jtorch._autograd.graph import AccumulateGrad, RemovableHandle, node_of, observe
from jtorch._autograd.modes import no_grad, set_grad_enabled
from jtorch._ops._common import wrap_dim
from jtorch._runtime import devices, dtypes, executor
from jtorch._runtime.avals import Aval, Size, aval, is_dense
from jtorch._runtime.dtypes import FLOATING
from jtorch._runtime.executor import LAZY, T, Value
from jtorch._tensor import printing
from jtorch._tensor.storage import alias, copied, detached, storage_of, tag, value_of, version_of, write

if TYPE_CHECKING:
    from jtorch._stubs.tensor import Attached
else:
    Attached = object  # the operations are attached to Tensor itself when `jtorch._tensor.tensor` is imported

new = object.__new__
S = TypeVar("S", bound="Tensor")


class Tensor(Attached):
    """A multi-dimensional array of one dtype, as torch has it, over a jax array that may be pending.

    Views share memory, writes are seen through all sharers, `backward()` fills `grad`. A Tensor is a JAX pytree of one
    leaf, and `jnp` functions take it as an array.
    """

    __module__ = "jtorch"  # where users find it, and what `print(type(t))` says

    # _value: the current Value, or None when the memory was written through another sharer (see storage.py).
    # Plain class attributes are the defaults of what few tensors have.
    _storage: Any = None
    _offset = 0
    _base: Any = None  # the autograd base of a view
    _aval: Any = None  # shape of a tensor whose _value is None
    _old: Any = None  # place in the graph of a tensor whose _value is None
    _alone = 0  # version while there is no storage
    _grad: Any = None
    _view_name: Any = None
    _backward_hooks: Any = None
    _made: Any = None  # how a view was made that may not be written in place (see storage.check_view)
    _unseen = False  # whether writes leave the version as it is
    __array_priority__ = 1000
    __slots__ = ("__dict__", "__weakref__", "_value")

    def __new__(cls, *args, **kwargs):
        from jtorch._tensor.creation import legacy_tensor

        return legacy_tensor(cls, *args, **kwargs)

    def __init__(self, *args, **kwargs):
        pass

    # ---- facts -------------------------------------------------------------------------------------------------------

    def _shape_aval(self) -> Aval:
        return self._value.aval if self._value is not None else self._aval

    @property
    def shape(self) -> Size:
        """The size along each dim."""
        return self._shape_aval().shape

    @overload
    def size(self, dim: None = None) -> Size: ...
    @overload
    def size(self, dim: int) -> int: ...
    def size(self, dim: int | None = None) -> Any:
        """The shape, or the size along one dim."""
        shape = self._shape_aval().shape
        if dim is None:
            return shape
        if not hasattr(dim, "__index__"):
            raise TypeError(f"size(): argument 'dim' must be int, not {type(dim).__name__}")
        n = len(shape)
        if not -n <= dim < n:
            if n == 0:
                raise IndexError(f"Dimension specified as {dim} but tensor has no dimensions")
            raise IndexError(f"Dimension out of range (expected to be in range of [{-n}, {n - 1}], but got {dim})")
        return shape[dim]

    @property
    def dtype(self) -> dtypes.dtype:
        """The element type."""
        return self._shape_aval().dtype

    @property
    def device(self) -> devices.device:
        """Where the elements are."""
        return self._shape_aval().device

    @property
    def ndim(self) -> int:
        """The number of dims."""
        return self._shape_aval().ndim

    def dim(self) -> int:
        """The number of dims."""
        return self._shape_aval().ndim

    ndimension = dim

    def numel(self) -> int:
        """The number of elements."""
        return self._shape_aval().numel

    nelement = numel

    @overload
    def stride(self, dim: None = None) -> tuple[int, ...]: ...
    @overload
    def stride(self, dim: int) -> int: ...
    def stride(self, dim: int | None = None) -> Any:
        """Elements to skip in memory for one step along each dim, or along one."""
        strides = self._shape_aval().stride()
        return strides if dim is None else strides[wrap_dim(dim, len(strides))]

    def storage_offset(self) -> int:
        """Where in its memory the tensor begins, in elements."""
        return self._offset

    def element_size(self) -> int:
        """Bytes an element."""
        return self.dtype.itemsize

    itemsize = property(element_size)

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.numel() * self.dtype.itemsize

    @property
    def layout(self):
        """Always torch.strided."""
        from jtorch._tensor.placing import strided

        return strided

    is_sparse = is_quantized = is_nested = is_mkldnn = is_sparse_csr = False
    is_mps = is_xpu = is_xla = False
    names = property(lambda self: (None,) * self.ndim)

    @property
    def is_cuda(self) -> bool:
        """Whether the elements are on a GPU."""
        return self.device.type == "cuda"

    @property
    def is_cpu(self) -> bool:
        """Whether the elements are in the host's memory."""
        return self.device.type == "cpu"

    @property
    def is_meta(self) -> bool:
        """Whether there are no elements, only a shape."""
        return self.device.type == "meta"

    def get_device(self) -> int:
        """The index of the GPU, -1 on the CPU."""
        return -1 if self.device.index is None else self.device.index

    def is_floating_point(self) -> bool:
        """Whether the dtype is a floating one."""
        return self.dtype.is_floating_point

    def is_complex(self) -> bool:
        """Whether the dtype is complex."""
        return self.dtype.is_complex

    def is_signed(self) -> bool:
        """Whether the dtype has negative values."""
        return self.dtype.is_signed

    def is_conj(self) -> bool:
        """Whether this is a lazy conjugate: never, conj() computes."""
        return False

    is_neg = is_conj

    def is_inference(self) -> bool:
        """Whether the tensor was made under inference_mode."""
        return executor.inferred(value_of(self))

    def is_pinned(self) -> bool:
        """Whether the elements are in page-locked memory: never here."""
        return False

    def is_shared(self) -> bool:
        """Whether the memory is shared between processes: never here."""
        return False

    def has_names(self) -> bool:
        """Whether dims are named: never here."""
        return False

    # ---- memory ------------------------------------------------------------------------------------------------------

    @property
    def _version(self) -> int:
        if executor.inferred(value_of(self)):
            raise RuntimeError("Inference tensors do not track version counter.")
        return version_of(self)

    def data_ptr(self) -> int:
        """A number that is equal for tensors that begin at the same place of the same memory. No address: XLA keeps those."""
        return storage_of(self).number * (1 << 40) + self._offset * self.dtype.itemsize if self.numel() else 0

    def untyped_storage(self):
        """The memory, as an object that is the same for all sharers."""
        from jtorch._tensor.storage_api import UntypedStorage

        return UntypedStorage(storage_of(self))

    def storage(self):
        """The memory in elements of this tensor's dtype."""
        from jtorch._tensor.storage_api import TypedStorage

        return TypedStorage(self.untyped_storage(), self.dtype)

    def _is_view(self) -> bool:
        return self._base is not None

    # ---- autograd ----------------------------------------------------------------------------------------------------

    @property
    def requires_grad(self) -> bool:
        """Whether operations on this tensor are recorded for a backward."""
        return value_of(self).node is not None

    @requires_grad.setter
    def requires_grad(self, on: bool) -> None:
        if type(on) is not bool:
            raise RuntimeError("requires_grad must be a bool")
        v = value_of(self)
        if on:
            if v.node is not None and v.node.kind != 1:
                raise RuntimeError("you can only change requires_grad flags of leaf variables.")
            if v.node is None:
                if v.aval.dtype.category < FLOATING:
                    raise RuntimeError("only Tensors of floating point and complex dtype can require gradients")
                if not T.inference and executor.inferred(v):
                    raise RuntimeError(
                        "Setting requires_grad=True on inference tensor outside InferenceMode is not allowed."
                    )
                # A new value, not this one: what was computed from it before did not require grad.
                self._value = tag(detached(v), AccumulateGrad(self))
        elif v.node is not None:
            if v.node.kind != 1:
                raise RuntimeError(
                    "you can only change requires_grad flags of leaf variables. If you want to use a computed variable "
                    "in a subgraph that doesn't require differentiation use var_no_grad = var.detach()."
                )
            self._value = detached(v)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Sets requires_grad, in place."""
        if type(requires_grad) is not bool:
            raise TypeError(
                "requires_grad_(): argument 'requires_grad' (position 1) must be bool, not "
                + type(requires_grad).__name__
            )
        if not requires_grad or not self.requires_grad:
            if requires_grad and self.dtype.category < FLOATING:
                raise RuntimeError("only Tensors of floating point dtype can require gradients")
            self.requires_grad = requires_grad
        return self

    @property
    def is_leaf(self) -> bool:
        """Whether the tensor was made by the user rather than by an operation that requires grad."""
        node = value_of(self).node
        return node is None or node.kind == 1

    @property
    def grad_fn(self):
        """The node that computes this tensor's gradient, None for leaves."""
        node = node_of(value_of(self))
        return None if node is None or node.kind == 1 else node

    @property
    def output_nr(self) -> int:
        """Which output of its grad_fn this is."""
        v = value_of(self)
        node_of(v)
        return v.nr

    @property
    def grad(self) -> Tensor | None:
        """The gradient that backwards have added up, None before the first."""
        if self._grad is None:
            node: Any = value_of(self).node
            if node is not None and node.kind != 1 and not self.retains_grad:
                warnings.warn(_NOT_KEPT, stacklevel=2)
        return self._grad

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None:
            if not isinstance(value, Tensor):
                raise TypeError(
                    f"assigned grad expected to be a Tensor or None but got grad of type {type(value).__name__}"
                )
            if value is self:
                raise RuntimeError("can't assign Variable as its own grad")
            if value.shape != self.shape:
                raise RuntimeError(
                    f"attempting to assign a gradient of size '{list(value.shape)}' to a tensor of size "
                    f"'{list(self.shape)}'. Please ensure that the gradient and the tensor are the same size"
                )
            if value.dtype is not self.dtype:
                raise RuntimeError(
                    f"attempting to assign a gradient with dtype '{_ctype(value.dtype)}' to a tensor with grad_dtype "
                    f"'{dtypes.SCALAR_NAMES[self.dtype]}'. The gradient must match the tensor's grad_dtype (defaults to the "
                    "tensor's dtype). You can set the tensor's grad_dtype attribute with a specific dtype, or None to allow any "
                    "dtype. Set grad_dtype with caution. Diverging the dtypes of a tensor and its gradient may break "
                    "downstream systems that assume they match."
                )
            if value.device.type != self.device.type:
                raise RuntimeError(
                    f"attempting to assign a gradient with device type '{value.device.type}' to a tensor with device type "
                    f"'{self.device.type}'. Please ensure that the gradient and the tensor are on the same device"
                )
        self._grad = value

    @grad.deleter
    def grad(self) -> None:
        self._grad = None

    def backward(
        self, gradient=None, retain_graph: bool | None = None, create_graph: bool = False, inputs=None
    ) -> None:
        """Adds the gradients of this tensor to the grads of the leaves it was computed from.

        gradient: d(loss)/d(this tensor), same shape; may be left out for a scalar.
        """
        v = self._value
        plain = gradient is None and inputs is None and not create_graph
        if plain and v is not None and v.node is LAZY and v.aval.numel == 1 and v.aval.dtype.is_floating_point:
            engine.backward(v, None, bool(retain_graph))  # what the general way comes to, sooner
            return
        from jtorch._tensor.backward import backward

        backward(self, gradient, retain_graph, create_graph, inputs=inputs)

    def detach(self) -> Tensor:
        """The same memory, outside the graph."""
        t = new(Tensor)
        s = storage_of(self)
        t._value = detached(value_of(self))
        t._storage, t._offset = s, self._offset
        s.add(t)
        return t

    def detach_(self) -> Tensor:
        """Takes this tensor itself out of the graph."""
        if self._base is not None:
            raise RuntimeError(
                "Can't detach views in-place. Use detach() instead. If you are using DistributedDataParallel (DDP) for "
                "training, and gradient_as_bucket_view is set as True, gradients are views of DDP buckets, and hence "
                "detach_() cannot be called on these gradients. To fix this error, please refer to the "
                "Optimizer.zero_grad() function in torch/optim/optimizer.py as the solution."
            )
        if value_of(self).node is not None:
            self._value = detached(self._value)
        return self

    @property
    def data(self) -> Tensor:
        """The same memory, outside the graph. Autograd does not notice what is written through it."""
        t = self.detach()
        t._unseen = True
        return t

    @data.setter
    def data(self, other: Tensor) -> None:
        node = value_of(self).node
        v = detached(value_of(other))
        if node is not None and node.kind == 1:
            v = tag(v, node)
        s = storage_of(other)
        self._value, self._storage, self._offset, self._base = v, s, other._offset, None
        s.add(self)

    def retain_grad(self) -> None:
        """Keeps this tensor's gradient in `grad` though it is no leaf."""
        if not self.requires_grad:
            raise RuntimeError("can't retain_grad on Tensor that has requires_grad=False")
        if self.is_leaf:
            return
        node, nr = node_of(value_of(self)), self._value.nr
        assert node is not None
        if node.retain is None:
            node.retain = {}
        r = weakref.ref(self)

        def keep(ct):
            t = r()
            if t is not None:
                t._grad = wrap(ct) if t._grad is None else wrap(engine.add(value_of(t._grad), ct))

        node.retain[nr] = keep
        observe()

    def _keep_retaining(self, old: Value) -> None:
        """Lets the gradient be kept that this tensor now has, where the one it had before a write in place was to be."""
        node: Any = old.node
        if node.retain and node.retain.pop(old.nr, None) is not None and not self.is_leaf:
            self.retain_grad()

    @property
    def retains_grad(self) -> bool:
        """Whether retain_grad() was called."""
        if self.is_leaf:
            return False
        node = node_of(value_of(self))
        return bool(node is not None and node.retain and self._value.nr in node.retain)

    def register_hook(self, hook) -> RemovableHandle:
        """Calls `hook(grad)` whenever this tensor's gradient is computed; what it returns, if anything, replaces it."""
        if not self.requires_grad:
            raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
        v = value_of(self)
        node = node_of(v)
        assert node is not None
        return node.add_tensor_hook(v.nr, hook)

    def register_post_accumulate_grad_hook(self, hook) -> RemovableHandle:
        """Calls `hook(tensor)` after this leaf's grad was added to."""
        if not self.requires_grad:
            raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
        if not self.is_leaf:
            raise RuntimeError("post accumulate grad hooks cannot be registered on non-leaf tensors")
        node: Any = self._value.node
        if node.post_accumulate is None:
            node.post_accumulate = {}
        handle = RemovableHandle(node.post_accumulate)
        node.post_accumulate[handle.id] = hook
        return handle

    # ---- to Python and to others ---------------------------------------------------------------------------------------

    def __repr__(self, *, tensor_contents: str | None = None) -> str:
        return describe(self, tensor_contents)

    def __str__(self) -> str:
        return describe(self)

    def __format__(self, spec: str) -> str:
        if self.ndim == 0 and not self.is_meta and type(self) is Tensor:
            return format(self.item(), spec)
        return object.__format__(self, spec)

    def item(self) -> Any:
        """The one element as a Python number."""
        v = value_of(self)
        if v.aval.numel != 1:
            raise RuntimeError(f"a Tensor with {v.aval.numel} elements cannot be converted to Scalar")
        if v.aval.device is devices.META:
            raise RuntimeError("Tensor.item() cannot be called on meta tensors")
        return executor.host(v).item()

    def tolist(self) -> Any:
        """The elements as (nested lists of) Python numbers."""
        return executor.host(value_of(self)).tolist()

    def _host(self) -> np.ndarray:
        """The elements as a NumPy array that is only to be read, without a copy where they are on the CPU."""
        return executor.host(value_of(self))

    def _pending(self) -> bool:
        """Whether the elements are still to be computed."""
        v = self._value
        return v is None or v.array is None

    def numpy(self, *, force: bool = False) -> np.ndarray:
        """The elements as a NumPy array of its own.

        Differs from torch: the array is a copy, writes to it do not reach the tensor.
        """
        if not force:
            if self.requires_grad:
                raise RuntimeError(
                    "Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead."
                )
            if self.device.type != "cpu":
                raise TypeError(
                    f"can't convert {self.device} device type tensor to numpy. Use Tensor.cpu() to copy the tensor to "
                    "host memory first."
                )
        if self.dtype is dtypes.bfloat16 or self.dtype in dtypes.EIGHTS:
            raise TypeError(f"Got unsupported ScalarType {dtypes.SCALAR_NAMES[self.dtype]}")
        return np.array(self._host())

    def __array__(self, dtype=None, copy=None):
        array = self.numpy()
        return array if dtype is None else array.astype(dtype, copy=False)

    def __jax_array__(self):
        return executor.concrete(value_of(self))

    def __dlpack__(self, *args, **kwargs):
        if self.requires_grad:
            raise BufferError("Can't export tensors that require gradient, use tensor.detach()")
        return jax.numpy.array(self.__jax_array__(), copy=True).__dlpack__(*args, **kwargs)

    def __dlpack_device__(self):
        return self.__jax_array__().__dlpack_device__()

    def _one(self, kind):
        if self.numel() != 1:
            raise ValueError("only one element tensors can be converted to Python scalars")
        return kind(self.item())

    def __bool__(self) -> bool:
        n = self.numel()
        if n != 1:
            if n == 0:
                raise RuntimeError("Boolean value of Tensor with no values is ambiguous")
            raise RuntimeError("Boolean value of Tensor with more than one value is ambiguous")
        return bool(self.item())

    def __int__(self) -> int:
        return self._one(int)

    def __float__(self) -> float:
        return self._one(float)

    def __complex__(self) -> complex:
        return self._one(complex)

    def __index__(self) -> int:
        if self.numel() != 1 or self.dtype.category > dtypes.INTEGRAL:
            raise TypeError("only integer tensors of a single element can be converted to an index")
        return int(self.item())

    def __len__(self) -> int:
        shape = self.shape
        if not shape:
            raise TypeError("len() of a 0-d tensor")
        return shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        if self.ndim == 0:
            raise TypeError("iteration over a 0-d tensor")
        return iter(self.unbind(0))

    def __contains__(self, element) -> bool:
        if isinstance(element, Tensor | bool | int | float | complex):
            return bool((self == element).any().item())
        raise RuntimeError(f"Tensor.__contains__ only supports Tensor or scalar, but you passed in a {type(element)}.")

    def __hash__(self) -> int:
        return id(self)

    def __dir__(self):
        return sorted(set(object.__dir__(self)))

    @staticmethod
    def _make_subclass(cls: type[S], data: Tensor, require_grad: bool = False) -> S:  # pyright: ignore[reportSelfClsParameterName]  # torch's own
        """A tensor of class `cls` over the memory of `data`, outside its graph."""
        t = new(cls)
        s = storage_of(data)
        t._value = detached(value_of(data))
        t._storage, t._offset = s, data._offset
        s.add(t)
        if require_grad:
            if t.dtype.category < FLOATING:
                raise RuntimeError("Only Tensors of floating point and complex dtype can require gradients")
            t.requires_grad = True
        return t

    def as_subclass(self, cls: type[S]) -> S:
        """The same memory and place in the graph under another class of tensor."""
        t = new(cls)
        s = storage_of(self)
        t._value = alias(value_of(self))
        t._storage, t._offset, t._base = s, self._offset, self._base if self._base is not None else self
        s.add(t)
        return t


# What C++ calls the dtypes.
_C_NAMES = {
    "float32": "float", "float64": "double", "int64": "long int", "int32": "int", "int16": "short int", "int8": "signed char",
    "uint8": "unsigned char", "float16": "c10::Half", "bfloat16": "c10::BFloat16", "complex64": "c10::complex<float>",
    "complex128": "c10::complex<double>",
}  # fmt: skip
_NOT_KEPT = (
    "The .grad attribute of a Tensor that is not a leaf Tensor is being accessed. Its .grad attribute won't be populated "
    "during autograd.backward(). If you indeed want the .grad field to be populated for a non-leaf Tensor, use "
    ".retain_grad() on the non-leaf Tensor. If you access the non-leaf Tensor by mistake, make sure you access the leaf "
    "Tensor instead. See github.com/pytorch/pytorch/pull/30531 for more information."
)


def _ctype(d: dtypes.dtype) -> str:
    return _C_NAMES.get(d.name, d.name)


def wrap(v: Value) -> Tensor:
    """A tensor of a value."""
    t = new(Tensor)
    t._value = v
    return t


def _laid_out_as(grad: Value, a: Aval) -> Value:
    """A gradient with the strides of its leaf, where those fill their memory; row-major otherwise."""
    if grad.aval.shape != a.shape:
        return grad
    strides = a.strides if is_dense(a) else None
    return grad if grad.aval.strides == strides else alias(grad, strides)


def accumulate(node: AccumulateGrad, grad: Value, create: bool | None = None) -> None:
    """Adds a gradient to a leaf's grad, and runs the hooks that come after.

    create: whether that is part of the graph; by default as the grad mode says.
    """
    if create is None:
        create = T.grad
    t = node.tensor()
    if t is None:
        return
    a = t._shape_aval()
    if grad.aval is not a:
        grad = _laid_out_as(grad, a)
    held = t._grad
    if held is None:
        t._grad = wrap(copied(grad) if create and grad.node is not None else grad)
    elif create:
        t._grad = wrap(engine.add(value_of(held), grad))
    elif held._storage is None and value_of(held).node is None and grad.node is None:
        write(held, engine.add(held._value, grad))
    else:
        with no_grad():
            write(held, engine.add(detached(value_of(held)), grad))
    if node.post_accumulate:
        with set_grad_enabled(create):
            for hook in list(node.post_accumulate.values()):
                result = hook(t)
                if result is not None:
                    if not isinstance(result, Tensor):
                        raise TypeError(f"expected Variable, but hook returned '{type(result).__name__}'")
                    raise RuntimeError("Tensor post accumulate grad hooks should return None.")


graph.wrap = wrap
graph.unwrap = value_of
graph.accumulate = accumulate


def describe(t: Tensor, contents: str | None = None) -> str:
    """The tensor's repr, as torch prints it; `contents` stands for the elements where given."""
    v = value_of(t)
    if isinstance(v, _Opaque) or isinstance(v.array, jax.core.Tracer):
        return f"tensor({v.array!r})"  # what JAX put there while it traces
    grad_fn = None
    if v.node is not None and v.node.kind != 1:
        node: Any = node_of(v)
        grad_fn = node.name().rpartition("::")[2]
    array = None if v.aval.device is devices.META else executor.host(v)
    return printing.format_tensor(
        array,
        dtype=v.aval.dtype,
        device=str(v.aval.device),
        shape=tuple(v.aval.shape),
        requires_grad=v.node is not None,
        grad_fn=grad_fn,
        default_dtype=dtypes.get_default_dtype(),
        prefix="tensor(" if type(t) is Tensor or type(t).__name__ == "Parameter" else f"{type(t).__name__}(",
        contents=contents,
    )


# ---- pytree ----------------------------------------------------------------------------------------------------------


class _Opaque:
    """A pytree leaf that is no array (JAX puts such into trees while it looks at them)."""

    node = None
    aval = None
    slot = -2
    dirty = None

    def __init__(self, array):
        self.array = array


def flatten(t: Tensor):
    """A tensor as JAX sees it: one array, and whether it is a leaf that requires grad."""
    v = value_of(t)
    if isinstance(v, _Opaque):
        array = v.array
    else:
        array = v.aval.struct if v.aval.device is devices.META else executor.concrete(v)
    return (array,), (type(t), v.node is not None and v.node.kind == 1)


def unflatten(aux, children) -> Tensor:
    """A tensor around a leaf: an array, a tracer, or whatever JAX puts there."""
    cls, requires_grad = aux
    (array,) = children
    t = new(cls)
    if isinstance(array, Tensor):
        t._value = detached(value_of(array))
    elif isinstance(array, jax.ShapeDtypeStruct):
        t._value = Value(aval(array.shape, dtypes.from_numpy(array.dtype), devices.META))
    elif isinstance(array, jax.Array | np.ndarray | np.generic):
        if not isinstance(array, jax.Array):
            array = jax.numpy.asarray(array)
        if array.dtype == jax.dtypes.float0:
            t._value = _Opaque(array)
            return t
        t._value = executor.of(array)
    else:
        t._value = _Opaque(array)
        return t
    if requires_grad and t._value.aval.dtype.category >= FLOATING:
        t._value = tag(t._value, AccumulateGrad(t))
    return t


jax.tree_util.register_pytree_node(Tensor, flatten, unflatten)
