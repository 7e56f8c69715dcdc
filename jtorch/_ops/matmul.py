"""Products of matrices and vectors: mm, matmul, linear, the add-products, einsum and their kin.

Nothing here promotes: torch asks that the operands of a product have one dtype. Products run at the highest precision,
so
that accelerators agree with the CPU, and half types accumulate in float32.
"""

from __future__ import annotations

import math

import jax.numpy as jnp
from jax import lax

from jtorch._ops._common import Array, Number, scalar_name, wrap_dim
from jtorch._ops.registry import op

C_NAMES = {
    "Bool": "bool",
    "Byte": "unsigned char",
    "Char": "signed char",
    "Short": "short int",
    "Int": "int",
    "Long": "long int",
    "Half": "c10::Half",
    "BFloat16": "c10::BFloat16",
    "Float": "float",
    "Double": "double",
    "ComplexFloat": "c10::complex<float>",
    "ComplexDouble": "c10::complex<double>",
}
_HALVES = (jnp.dtype("float16"), jnp.dtype("bfloat16"))


def contract(a: Array, b: Array, dims: tuple, batch: tuple = ((), ())) -> Array:
    """`lax.dot_general` at full precision; the result has the operands' dtype, half types accumulate in float32."""
    wide = jnp.float32 if a.dtype in _HALVES else a.dtype
    out = lax.dot_general(a, b, (dims, batch), precision=lax.Precision.HIGHEST, preferred_element_type=wide)
    return out.astype(a.dtype)


def product(a: Array, b: Array) -> Array:
    """Matrix product over the last two dims, batch dims broadcast, with `contract`'s precision."""
    wide = jnp.float32 if a.dtype in _HALVES else a.dtype
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST, preferred_element_type=wide).astype(a.dtype)


def _scaled(factor: Number, x: Array) -> Array:
    """factor * x; a zero factor wipes even nan and inf, as torch's beta does."""
    factor = jnp.asarray(factor).astype(x.dtype)
    return jnp.where(factor == 0, jnp.zeros((), x.dtype), factor * x)


def _times(factor: Number, x: Array) -> Array:
    return jnp.asarray(factor).astype(x.dtype) * x


def _shape(x: Array) -> str:
    return "x".join(map(str, x.shape))


def _no_bool(x: Array, kernel: str) -> None:
    if x.dtype == bool:
        raise NotImplementedError(f"\"{kernel}\" not implemented for 'Bool'")


def _same_m(a: Array, b: Array) -> None:
    if a.dtype != b.dtype:
        names = [C_NAMES[scalar_name(x)] for x in (a, b)]
        raise RuntimeError(f"expected m1 and m2 to have the same dtype, but got: {names[0]} != {names[1]}")


def _same_as_addend(addend: Array, mat1: Array, mat2: Array) -> None:
    for name, x in (("self", addend), ("mat1", mat1)):
        if x.dtype != mat2.dtype:
            raise RuntimeError(
                f"{name} and mat2 must have the same dtype, but got {scalar_name(x)} and {scalar_name(mat2)}"
            )


def same_scalar(a: Array, b: Array) -> None:
    if a.dtype != b.dtype:
        raise RuntimeError(f"expected scalar type {scalar_name(a)} but found {scalar_name(b)}")


def _expandable(x: Array, target: tuple[int, ...]) -> None:
    """Raises torch's expand error unless x broadcasts to target exactly."""
    if x.ndim > len(target):
        raise RuntimeError(
            f"expand(torch.{scalar_name(x)}Tensor{{{list(x.shape)}}}, size={list(target)}): the number of sizes "
            "provided "
            f"({len(target)}) must be greater or equal to the number of dimensions in the tensor ({x.ndim})"
        )
    lead = len(target) - x.ndim
    for i in reversed(range(x.ndim)):
        if x.shape[i] not in (1, target[lead + i]):
            raise RuntimeError(
                f"The expanded size of the tensor ({target[lead + i]}) must match the existing size ({x.shape[i]}) at "
                f"non-singleton dimension {lead + i}.  Target sizes: {list(target)}.  Tensor sizes: {list(x.shape)}"
            )


def _check_mm(a: Array, b: Array) -> None:
    _same_m(a, b)
    if a.shape[1] != b.shape[0]:
        raise RuntimeError(f"mat1 and mat2 shapes cannot be multiplied ({_shape(a)} and {_shape(b)})")
    _no_bool(a, "addmm_impl_cpu_")


def _check_bmm(a: Array, b: Array) -> None:
    if a.ndim != 3:
        raise RuntimeError("batch1 must be a 3D tensor")
    if b.ndim != 3:
        raise RuntimeError("batch2 must be a 3D tensor")
    if b.shape[:2] != (a.shape[0], a.shape[2]):
        raise RuntimeError(
            f"Expected size for first two dimensions of batch2 tensor to be: [{a.shape[0]}, {a.shape[2]}] "
            f"but got: [{b.shape[0]}, {b.shape[1]}]."
        )
    same_scalar(a, b)
    _no_bool(a, "bmm")


def _check_mv(mat: Array, vec: Array, size: tuple[int, ...] | None = None) -> None:
    if mat.ndim != 2 or vec.ndim != 1:
        raise RuntimeError(
            f"vector + matrix @ vector expected, got {1 if size is None else len(size)}, {mat.ndim}, {vec.ndim}"
        )
    given = mat.shape[:1] if size is None else size
    if mat.shape[1] != vec.shape[0] or (given and given[0] not in (mat.shape[0], 1)):
        raise RuntimeError(
            f"size mismatch, got input ({given[0] if given else 1}), mat ({_shape(mat)}), vec ({vec.shape[0]})"
        )
    _no_bool(mat, "addmv_impl_cpu")


def _check_dot(a: Array, b: Array) -> None:
    if a.ndim != 1 or b.ndim != 1:
        raise RuntimeError(f"1D tensors expected, but got {a.ndim}D and {b.ndim}D tensors")
    if a.dtype != b.dtype:
        raise RuntimeError(
            f"dot : expected both vectors to have same dtype, but found {scalar_name(a)} and {scalar_name(b)}"
        )
    if a.shape != b.shape:
        raise RuntimeError(
            f"inconsistent tensor size, expected tensor [{a.shape[0]}] and src [{b.shape[0]}] to have the same "
            "number of "
            f"elements, but got {a.shape[0]} and {b.shape[0]} elements respectively"
        )
    _no_bool(a, "dot")


@op(method=True)
def mm(input: Array, mat2: Array) -> Array:
    """Product of two matrices, (n, m) by (m, p)."""
    if input.ndim != 2:
        raise RuntimeError("self must be a matrix")
    if mat2.ndim != 2:
        raise RuntimeError("mat2 must be a matrix")
    _check_mm(input, mat2)
    return contract(input, mat2, ((1,), (0,)))


@op(method=True)
def bmm(input: Array, mat2: Array) -> Array:
    """Products of matrices pair by pair, (b, n, m) by (b, m, p)."""
    _check_bmm(input, mat2)
    return contract(input, mat2, ((2,), (1,)), ((0,), (0,)))


@op(method=True)
def mv(input: Array, vec: Array) -> Array:
    """Matrix (n, m) times vector (m)."""
    _check_mv(input, vec)
    if input.dtype != vec.dtype:
        raise RuntimeError(
            "addmv input tensors must have the same dtype, but got "
            f"{scalar_name(vec)}, {scalar_name(input)}, and {scalar_name(vec)}"
        )
    return contract(input, vec, ((1,), (0,)))


@op(method=True)
def dot(input: Array, tensor: Array) -> Array:
    """Sum of the products of two vectors; no conjugate."""
    _check_dot(input, tensor)
    return contract(input, tensor, ((0,), (0,)))


@op(method=True)
def vdot(input: Array, other: Array) -> Array:
    """`dot` with the first vector conjugated."""
    _check_dot(input, other)
    return contract(jnp.conj(input), other, ((0,), (0,)))


@op(name="vecdot", function=False, namespaces=("linalg",), promote="same")
def vecdot(x: Array, y: Array, *, dim: int = -1) -> Array:
    """Dot products along a dim, the first operand conjugated; other dims broadcast."""
    ndim = max(x.ndim, y.ndim)
    axis = wrap_dim(dim, ndim)
    return (jnp.conj(x) * y).sum(axis, dtype=x.dtype)


@op(method=True, promote="same", elementwise=False, grad_name="MulBackward0")
def outer(input: Array, vec2: Array) -> Array:
    """All products of two vectors' elements, (n, m)."""
    if input.ndim != 1:
        raise RuntimeError(f"outer: Expected 1-D argument self, but got {input.ndim}-D")
    if vec2.ndim != 1:
        raise RuntimeError(f"outer: Expected 1-D argument vec2, but got {vec2.ndim}-D")
    return input[:, None] * vec2[None, :]


@op(method=True, promote="same", elementwise=False, grad_name="MulBackward0")
def ger(input: Array, vec2: Array) -> Array:
    """The same as `outer`."""
    return outer(input, vec2)


@op(method=True, grad_name="ViewBackward0")
def inner(input: Array, other: Array) -> Array:
    """Dot products over the last dims of both; with a 0-d operand, plain multiplication."""
    if not input.ndim or not other.ndim:
        if input.dtype != other.dtype:
            with_dims = [x.dtype for x in (input, other) if x.ndim]
            wide = with_dims[0] if with_dims else jnp.promote_types(input.dtype, other.dtype)
            input, other = input.astype(wide), other.astype(wide)
        return input * other
    if input.dtype != other.dtype:
        raise RuntimeError("both inputs should have same dtype")
    if input.shape[-1] != other.shape[-1]:
        raise RuntimeError(
            "inner() the last dimension must match on both input tensors but got shapes "
            f"{list(input.shape)} and {list(other.shape)}"
        )
    _no_bool(input, "addmm_impl_cpu_")
    return contract(input, other, ((input.ndim - 1,), (other.ndim - 1,)))


@op(method=True, grad_name="MmBackward0")
def matmul(input: Array, other: Array) -> Array:
    """Product by rank: dot, matrix-vector, matrix-matrix, or batches of matrices whose leading dims broadcast."""
    a, b = input, other
    if not a.ndim or not b.ndim:
        raise RuntimeError(f"both arguments to matmul need to be at least 1D, but they are {a.ndim}D and {b.ndim}D")
    if a.ndim == 1 and b.ndim == 1:
        return dot(a, b)
    if b.ndim == 1:
        return mv(a.reshape(math.prod(a.shape[:-1]), a.shape[-1]), b).reshape(a.shape[:-1])
    if a.ndim == 1 and b.ndim == 2:
        return mm(a[None], b)[0]
    if b.ndim == 2:
        flat = a if a.ndim == 2 else a.reshape(math.prod(a.shape[:-1]), a.shape[-1])
        return mm(flat, b).reshape(*a.shape[:-1], b.shape[-1])
    row = a.ndim == 1
    if row:
        a = a[None]
    check_batches(a.shape[:-2], b.shape[:-2])
    if a.shape[-1] != b.shape[-2]:
        batch = math.prod(jnp.broadcast_shapes(a.shape[:-2], b.shape[:-2]))
        raise RuntimeError(
            f"Expected size for first two dimensions of batch2 tensor to be: [{batch}, {a.shape[-1]}] "
            f"but got: [{batch}, {b.shape[-2]}]."
        )
    same_scalar(a, b)
    _no_bool(a, "bmm")
    out = product(a, b)
    return out[..., 0, :] if row else out


def check_batches(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    ndim = max(len(a), len(b))
    for i in range(1, min(len(a), len(b)) + 1):
        if a[-i] != b[-i] and 1 not in (a[-i], b[-i]):
            raise RuntimeError(
                f"The size of tensor a ({a[-i]}) must match the size of tensor b ({b[-i]}) at non-singleton "
                f"dimension {ndim - i}"
            )


@op(name="matmul", key="linalg.matmul", function=False, namespaces=("linalg",), grad_name="MmBackward0")
def linalg_matmul(input: Array, other: Array) -> Array:
    """The same as `torch.matmul`."""
    return matmul(input, other)


@op(method=True, inplace=True)
def addmm(input: Array, mat1: Array, mat2: Array, *, beta: Number = 1, alpha: Number = 1) -> Array:
    """beta * input + alpha * (mat1 @ mat2); input broadcasts to the product."""
    if mat1.ndim != 2 or mat2.ndim != 2:
        which, ndim = ("mat1", mat1.ndim) if mat1.ndim != 2 else ("mat2", mat2.ndim)
        raise RuntimeError(f"{which} must be a matrix, got {ndim}-D tensor")
    if mat1.shape[1] != mat2.shape[0]:
        raise RuntimeError(f"mat1 and mat2 shapes cannot be multiplied ({_shape(mat1)} and {_shape(mat2)})")
    _same_as_addend(input, mat1, mat2)
    _expandable(input, (mat1.shape[0], mat2.shape[1]))
    _no_bool(mat1, "addmm_impl_cpu_")
    return _scaled(beta, input) + _times(alpha, contract(mat1, mat2, ((1,), (0,))))


@op(method=True, inplace=True)
def addmv(input: Array, mat: Array, vec: Array, *, beta: Number = 1, alpha: Number = 1) -> Array:
    """beta * input + alpha * (mat @ vec)."""
    _check_mv(mat, vec, input.shape)
    if not input.dtype == mat.dtype == vec.dtype:
        names = [scalar_name(x) for x in (input, mat, vec)]
        raise RuntimeError(
            f"addmv input tensors must have the same dtype, but got {names[0]}, {names[1]}, and {names[2]}"
        )
    return _scaled(beta, input) + _times(alpha, contract(mat, vec, ((1,), (0,))))


def _check_batch_sum(input: Array, batch1: Array, batch2: Array) -> None:
    if not input.dtype == batch1.dtype == batch2.dtype:
        names = [C_NAMES[scalar_name(x)] for x in (input, batch1, batch2)]
        raise RuntimeError(
            f"Input dtypes must be the same, got: input {names[0]}, batch1: {names[1]}, batch2: {names[2]}"
        )


@op(method=True, inplace=True)
def addbmm(input: Array, batch1: Array, batch2: Array, *, beta: Number = 1, alpha: Number = 1) -> Array:
    """beta * input + alpha * the sum over the batch of batch1 @ batch2."""
    if batch1.ndim != 3:
        raise RuntimeError("batch1 must be a 3D tensor")
    if batch2.ndim != 3:
        raise RuntimeError("batch2 must be a 3D tensor")
    if batch1.shape[0] != batch2.shape[0]:
        raise RuntimeError(
            f"batch1 and batch2 must have same number of batches, got {batch1.shape[0]} and {batch2.shape[0]}"
        )
    if batch1.shape[2] != batch2.shape[1]:
        raise RuntimeError(
            "Incompatible matrix sizes for bmm "
            f"({batch1.shape[1]}x{batch1.shape[2]} and {batch2.shape[1]}x{batch2.shape[2]})"
        )
    _check_batch_sum(input, batch1, batch2)
    _expandable(input, (batch1.shape[1], batch2.shape[2]))
    _no_bool(batch1, "addmm_impl_cpu_")
    return _scaled(beta, input) + _times(alpha, contract(batch1, batch2, ((0, 2), (0, 1))))


@op(method=True, inplace=True)
def baddbmm(input: Array, batch1: Array, batch2: Array, *, beta: Number = 1, alpha: Number = 1) -> Array:
    """beta * input + alpha * (batch1 @ batch2), matrix by matrix."""
    _check_bmm(batch1, batch2)
    _check_batch_sum(input, batch1, batch2)
    _expandable(input, (batch1.shape[0], batch1.shape[1], batch2.shape[2]))
    return _scaled(beta, input) + _times(alpha, contract(batch1, batch2, ((2,), (1,)), ((0,), (0,))))


@op(method=True, inplace=True, promote="same", elementwise=False)
def addr(input: Array, vec1: Array, vec2: Array, *, beta: Number = 1, alpha: Number = 1) -> Array:
    """beta * input + alpha * outer(vec1, vec2)."""
    for label, vec in (("vec1", vec1), ("vec2", vec2)):
        if vec.ndim != 1:
            raise RuntimeError(f"addr: Expected 1-D argument {label}, but got {vec.ndim}-D")
    _expandable(input, (vec1.shape[0], vec2.shape[0]))
    if input.dtype == bool:
        keep, use = (jnp.asarray(factor).astype(bool) for factor in (beta, alpha))
        return (keep & input) | (use & vec1[:, None] & vec2[None, :])
    return _scaled(beta, input) + _times(alpha, vec1)[:, None] * vec2[None, :]


@op(function=False, namespaces=("nn.functional",), grad_name="AddmmBackward0")
def linear(input: Array, weight: Array, bias: Array | None = None) -> Array:
    """input @ weight.T + bias: input (*, in), weight (out, in) or (in), bias (out) or ()."""
    if not input.ndim or not weight.ndim:
        raise RuntimeError(
            f"both arguments to linear need to be at least 1D, but they are {input.ndim}D and {weight.ndim}D"
        )
    if weight.ndim > 2:
        raise RuntimeError("linear(): weight must be 1D or 2D")
    matrix = weight.reshape(-1, weight.shape[-1])
    rows = math.prod(input.shape[:-1])
    if input.shape[-1] != matrix.shape[1]:
        raise RuntimeError(
            f"mat1 and mat2 shapes cannot be multiplied ({rows}x{input.shape[-1]} and "
            f"{matrix.shape[1]}x{matrix.shape[0]})"
        )
    if bias is not None:
        _same_as_addend(bias, input, weight)
    _same_m(input, weight)
    _no_bool(input, "addmm_impl_cpu_")
    # Two dims only: the weight's gradient is then one plain product over the rows.
    out = contract(input.reshape(rows, input.shape[-1]), matrix, ((1,), (1,)))
    shape = input.shape[:-1] + weight.shape[:-1]
    if bias is None:
        return out.reshape(shape)
    if bias.ndim < 2:
        _expandable(bias, out.shape)
        return (out + bias).reshape(shape)
    out = out.reshape(shape)
    _expandable(bias, shape)
    return out + bias


@op(function=True, namespaces=("nn.functional",), grad_name="AddBackward0")
def bilinear(input1: Array, input2: Array, weight: Array, bias: Array | None = None) -> Array:
    """x1 @ weight[k] @ x2 for each k: input1 (*, in1), input2 (*, in2), weight (out, in1, in2), bias (out)."""
    if input1.ndim != input2.ndim:
        raise RuntimeError(f"bilinear(): input dimensions do not match: got {input1.ndim} and {input2.ndim}")
    for i, (n, m) in enumerate(zip(input1.shape[:-1], input2.shape[:-1], strict=True)):
        if n != m:
            raise RuntimeError(f"bilinear(): input batch dimensions do not match at dim {i}: got {n} and {m}")
    for i, x in ((1, input1), (2, input2)):
        if x.shape[-1] != weight.shape[i]:
            raise RuntimeError(
                f"bilinear(): input{i} size does not match weight size: got {x.shape[-1]} but expected "
                f"{weight.shape[i]}"
            )
    if bias is not None and bias.shape[0] != weight.shape[0]:
        raise RuntimeError(
            f"bilinear(): bias size does not match weight size: got {bias.shape[0]} but expected {weight.shape[0]}"
        )
    same_scalar(input1, weight)
    rows = math.prod(input1.shape[:-1])
    half = contract(input1.reshape(rows, input1.shape[-1]), weight, ((1,), (1,)))  # (rows, out, in2)
    out = contract(half, input2.reshape(rows, input2.shape[-1]), ((2,), (1,)), ((0,), (0,)))
    out = out.reshape(*input1.shape[:-1], weight.shape[0])
    return out if bias is None else out + bias
