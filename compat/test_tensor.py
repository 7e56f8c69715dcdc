"""Expressions evaluated with both libraries: values, dtypes, strides, and the errors of common mistakes.

One expression a line, under the names torch, T (torch.tensor), np, copy and pickle; `;;` ends a statement before it.
"""

from __future__ import annotations

import copy
import math
import pickle
import warnings
from typing import Any

import numpy as np
import pytest
import torch

from compat import bridge

WORDS = 40  # so much of a message must agree: what follows may name overloads


def _described(lib: Any, value: Any) -> Any:
    """A value as plain data, with what of its layout is visible."""
    if isinstance(value, lib.Tensor):
        elements = "meta" if value.device.type == "meta" else value.detach().tolist()
        return "tensor", str(value.dtype), tuple(value.shape), tuple(value.stride()), elements, value.requires_grad
    if isinstance(value, np.ndarray | np.generic):
        return "numpy", str(value.dtype), value.shape, value.tolist()
    if isinstance(value, tuple | list):
        return [_described(lib, v) for v in value]
    if isinstance(value, bool | int | float | complex | str):
        return value
    return str(value)


def _outcome(lib: Any, source: str) -> Any:
    scope = {"torch": lib, "T": lib.tensor, "np": np, "copy": copy, "pickle": pickle, "math": math}
    *statements, last = (part.strip() for part in source.split(";;"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for statement in statements:
                exec(statement, scope)
            return _described(lib, eval(last, scope))
    except Exception as error:
        return "raises", type(error).__name__, str(error).split("\n")[0][:WORDS]


def _close(expected: Any, got: Any) -> bool:
    if type(expected) is not type(got):
        return False
    if isinstance(expected, tuple | list):
        return len(expected) == len(got) and all(map(_close, expected, got))
    if isinstance(expected, float):
        return expected == got or (expected != expected and got != got) or math.isclose(expected, got, rel_tol=1e-6)
    if isinstance(expected, complex):
        return _close(expected.real, got.real) and _close(expected.imag, got.imag)
    return expected == got


def _check(sources: list[str]) -> None:
    lib = bridge.library()
    wrong = []
    for source in sources:
        expected, got = _outcome(torch, source), _outcome(lib, source)
        if not _close(expected, got):
            wrong.append(f"{source}\n    torch  {expected}\n    jtorch {got}")
    assert not wrong, f"{len(wrong)} of {len(sources)} differ:\n" + "\n".join(wrong)


# fmt: off
ERRORS = r"""
torch.add("a", 1)
torch.add(T([1.]), "a")
T([1.]) + "a"
"a" + T([1.])
T([1.]) + None
T([1.]) + [1]
T([1.]).view("a")
T([1.]).view(1.5)
T([1.]).view(2)
T([1.]).view(-1,-1)
torch.zeros(-1)
torch.zeros("a")
torch.zeros(1.5)
torch.zeros(2, "a")
torch.zeros((2, 1.5))
torch.zeros(2, dtype=float)
torch.zeros(2, dtype="float")
torch.zeros()
torch.ones(2, foo=1)
T([1.])[1.5]
T([1.])["a"]
T([1.])[{}]
torch.cat([1,2])
torch.cat(T([1.]))
torch.cat([])
torch.cat([T([1.]), T([[1.]])])
torch.cat([T([[1.,2.]]), T([[1.]])])
torch.cat([T([1.])], dim=3)
torch.stack([T([1.]), T([1.,2.])])
torch.stack([])
T([1.]).sum(dim=5)
T([1.]).sum(dim=(0,0))
T([1.]).sum("a")
T([1.]).reshape(7)
T([1.]).reshape(1.5)
T([1.]).reshape("a")
T([1.]).mean(dim=2)
T([1]).mean()
T([True]).mean()
T([1.]).foo
T([1.,2.]) + T([1.,2.,3.])
T([1.,2.]) @ T([1.,2.,3.])
T([[1.,2.]]) @ T([[1.,2.,3.]])
torch.mm(T([1.]), T([1.]))
torch.matmul(T(1.), T(1.))
T([1.,2.]).item()
bool(T([1.,2.]))
int(T([1.,2.]))
float(T([]))
len(T(1.))
list(T(1.))
T([1.]).transpose(0,1)
T([1.]).permute(1)
T([1.]).permute(0,0)
T([1.]).squeeze(3)
T([1.]).unsqueeze(3)
T([1.]).expand(2,3).expand(4)
T([1.,2.]).expand(3)
T([1.]).to("foo")
T([1.]).to("cuda")
T([1.]).type("foo")
torch.tensor("a")
torch.tensor(["a"])
torch.tensor([1,[2]])
torch.tensor([[1],[1,2]])
torch.tensor([[1],2])
torch.tensor(None)
torch.tensor([None])
torch.tensor(object())
torch.tensor({})
torch.tensor(2**63)
torch.tensor(2**64)
torch.tensor([2**63])
torch.tensor(300, dtype=torch.uint8)
torch.tensor(-1, dtype=torch.uint8)
torch.tensor(1.5, dtype=torch.int32)
torch.tensor(float("nan"), dtype=torch.int32)
torch.tensor(float("inf"), dtype=torch.int64)
torch.tensor(1j, dtype=torch.float32)
torch.tensor([1j], dtype=torch.int32)
torch.tensor(1e40)
torch.tensor(1e40, dtype=torch.float16)
torch.tensor([1, 2], requires_grad=True)
torch.tensor()
torch.tensor(1, 2)
torch.arange(0, 10, 0)
torch.arange(0, 10, -1)
torch.arange("a")
torch.arange(float("nan"))
torch.arange(float("inf"))
torch.linspace(0, 1, -1)
torch.linspace(0, 1, "a")
torch.eye(-1)
torch.eye(2, -1)
torch.full(2, 1)
torch.full((2,), "a")
torch.full((2,), 300, dtype=torch.uint8)
torch.full((2,), 1.5, dtype=torch.uint8)
torch.full((2,), 1e50)
torch.full((2,), 1j, dtype=torch.float32)
T([1,2]).requires_grad_()
T([1.], requires_grad=True).numpy()
T([1.], requires_grad=True).add_(1)
x=T([1.,2.], requires_grad=True);; x[0:1].add_(1)
T([1.]).add_(T([1.,2.]))
T([1]).add_(1.5)
T([1]).mul_(1.5)
T([1]).div_(2)
T([True]).add_(1)
T([True]) - T([True])
T([True]) - 1
1 - T([True])
T([1.]) - T([True])
T([True]) - T([1.])
torch.sub(T([1.]), True)
-T([True])
~T([1.])
T([1.]) & T([1.])
T([1.]) << 1
T([1]) // 0
T([1]) % 0
T([1]).fmod(0)
T([1]) / 0
T([1.]) // 0
torch.div(T([1]), 2, rounding_mode="foo")
torch.add(T([1]), T([1]), alpha=1.5)
torch.add(T([True]), T([True]), alpha=True)
torch.add(T([1]), T([1]), alpha=True)
torch.add(T([1.]), T([1.]), alpha=1j)
torch.sub(T([1]), T([1]), alpha=1.5)
T([2]) ** -1
2 ** T([-1])
T([2]) ** T([-1])
torch.pow(2, 3)
torch.add(1, 2)
torch.abs(1)
torch.abs()
torch.abs(T([1.]), T([1.]))
torch.abs(T([1.]), foo=1)
torch.exp("a")
torch.max(T([]))
T([]).argmax()
T([]).max(dim=0)
T([1.]).max(dim=1)
torch.where(T([1.]), 1, 2)
torch.where(T([True]), "a", 2)
torch.gather(T([1.]), 0, T([1.]))
T([1.]).index_select(1, T([0]))
T([1.])[5]
T([1.])[T([5])]
T([1.])[T([1.])]
x=T([1.]);; x[5]=1;; x
torch.zeros(2,3).split(0)
torch.zeros(2,3).split([1,2])
torch.zeros(2,3).chunk(0)
torch.zeros(2,3).flatten(2)
torch.zeros(2,3).view(3,3)
torch.zeros(2,3).t().view(6)
torch.zeros(2,3).narrow(0, 1, 5)
torch.zeros(2,3).select(0, 5)
torch.zeros(2,3,4).t()
torch.zeros(2,3).diagonal(0,0,0)
torch.zeros(2,3).repeat(2)
torch.zeros(2,3).masked_fill(T([1,0,1]), 1)
torch.zeros(2,3).masked_select(T([1,0,1]))
torch.zeros(2,3).scatter(0, T([[1]]), "a")
torch.clamp(T([1.]))
torch.clamp(T([1.]), "a")
torch.clamp(1, 2)
torch.sqrt(T([1]), out=T([1]))
torch.add(T([1.]), 1, out=T([1]))
torch.add(T([1.]), 1, out=T([1.,2.]))
torch.exp(T([1.], requires_grad=True), out=T([1.]))
torch.device("foo")
torch.Size([1.5])
torch.Size("a")
torch.Size(5)
torch.result_type(1, "a")
T([1.]).copy_(T([1.,2.]))
T([1.]).copy_("a")
T([1.]).fill_(T([1.,2.]))
T([1.]).size(2)
T([1.]).stride(3)
T([1.]).type(5)
torch.from_numpy(1)
torch.from_numpy(np.array(["a"]))
torch.as_tensor("a")
T([1.]).new_zeros("a")
torch.zeros_like(1)
torch.bmm(torch.zeros(2,3), torch.zeros(2,3))
torch.bmm(torch.zeros(1,2,3), torch.zeros(2,3,4))
T([1.]).backward()
T([1.,2.], requires_grad=True).backward()
5 in T([1,5])
"a" in T([1,5])
torch.einsum("ij,jk", torch.zeros(2,3), torch.zeros(4,5))
torch.isclose(T([1.]), T([1]))
torch.equal(T([1.]), 1)
torch.allclose(T([1.]), T([1]))
T([1.]).view(torch.int64)
T([1.]).view(torch.int32)
T([1., 2.]).view(torch.int64)
T([1.]).as_strided((5,),(1,))
T([1.]).unfold(0, 5, 1)
T([1.])[0][0]
T([1.]).T(1)
torch.complex(T([1.]), T([1]))
torch.complex(T([1]), T([1]))
torch.view_as_complex(T([1.]))
torch.view_as_real(T([1.]))
torch.imag(T([1.]))
T([1j]).int()
T([1j]) > T([1j])
T([1j]).max()
T([1j]) // 2
T([1j]) % 2
T([1.]).bitwise_and(1)
torch.logical_not("a")
""".strip().splitlines()

VALUES = r"""
torch.Size([1,2]) + (3,)
torch.Size([1,2]) + torch.Size([3])
(3,) + torch.Size([1])
repr(torch.Size([1,2]))
repr(torch.Size([1,2])[0:1])
torch.Size([1,2])*2
torch.Size([2,3]).numel()
torch.Size() == ()
torch.Size((2,3)) == (2,3)
torch.Size(torch.zeros(2,3).shape)
torch.Size([T(2), 3])
torch.zeros(2,3).shape[0:1]
torch.zeros(2,3).size(-1)
repr(torch.zeros(2,3).size())
T([300.5, -1.5, 256.]).to(torch.uint8)
T([300.5, -1.5, 130., 1e10]).to(torch.int8)
T([300.5, -1.5, 70000.]).to(torch.int16)
T([float("nan"), float("inf"), -float("inf"), 3e9]).to(torch.int32)
T([float("nan"), float("inf"), -float("inf"), 1e30]).to(torch.int64)
T([float("nan"), float("inf"), -float("inf"), 1e30]).to(torch.uint8)
T([float("nan"), float("inf"), -float("inf"), 1e30]).to(torch.int8)
T([float("nan"), 0., 2., -0.]).to(torch.bool)
T([300, -1, 2**40]).to(torch.int8)
T([300, -1, 2**40]).to(torch.uint8)
T([300, -1, 2**40]).to(torch.int32)
T([300, -1, 2**40]).to(torch.float16)
T([1+2j, 0j]).to(torch.float32)
T([1+2j, 0j, 1j]).to(torch.bool)
T([1.5, 2.5]).to(torch.complex64)
T([True, False]).to(torch.float32)
T([1.5]).type(torch.float64)
T([1.5]).type("torch.LongTensor")
T([1.5]).type()
T([1]).type()
T([1]).double().type()
T([1.5]).type(torch.IntTensor)
T([1.5]).to(T([1]))
T([1.5]).to(torch.device("cpu"), torch.float64)
T([1.5]).to("cpu", torch.float64, True)
T([1.5]).to(device="cpu", dtype=torch.int64, non_blocking=True, copy=True)
x=T([1.5]);; x.to(torch.float32) is x
x=T([1.5]);; x.to(torch.float32, copy=True) is x
x=T([1.5]);; x.to("cpu") is x
x=T([1.5]);; x.float() is x
T([1.7,-1.7]).int()
T([1.7,-1.7]).char()
T([200.]).byte()
T([1.5]).bfloat16()
T(True).item()
T(1).item()
T(1.5).item()
T(1j).item()
T(1.1, dtype=torch.bfloat16).item()
T(1.1, dtype=torch.float16).tolist()
T([[1,2],[3,4]]).tolist()
T([]).tolist()
T(3).tolist()
T([1.5], dtype=torch.bfloat16).tolist()
T([1.5], dtype=torch.bfloat16).numpy()
T([1.5], dtype=torch.float16).numpy()
T([1+1j]).numpy()
T([True]).numpy()
T(3).numpy()
np.asarray(T([1,2]))
np.array(T([1.,2.]), dtype=np.float64)
np.sin(T([1.,2.]))
type(np.sin(T([1.,2.]))).__name__
np.float32(2) * T([1.,2.])
T([1.,2.]) * np.float32(2)
np.float64(2) * T([1,2])
T([1,2]) * np.float64(2)
np.int64(2) * T([1.5])
T([1,2]) + np.int32(1)
np.float64(2) - T([1.5])
np.float64(2) / T(4.)
T([1.5]) * np.array(2.)
T([1.5]) == np.array([1.5])
np.array([1.5]) == T([1.5])
np.maximum(T([1.,3.]), 2)
np.stack([T([1.]), T([2.])])
np.concatenate([T([1.]), T([2.])])
np.exp(T([0.], dtype=torch.float64))
np.array([T(1.), T(2.)])
T([1,2,3])[np.array([0,2])]
T([1,2,3])[np.int64(1)]
np.arange(3)[T([0,2])]
[10,20,30][T(1)]
list(range(T(3)))
len(T([1,2]))
[x.item() for x in T([1,2])]
[tuple(x.shape) for x in torch.zeros(2,3)]
bool(T([]))
bool(T(0.))
bool(T([[1]]))
f"{T(1.5):.3f}"
f"{T(3):d}"
f"{T([1.5])}"
format(T([1.5]), ".2f")
"%d" % T(3)
"%.2f" % T(1.5)
round(T(1.567), 1)
round(T([1.5, 2.5]))
math.floor(T(1.5))
math.sqrt(T(4.))
abs(T([-1.]))
divmod(T([5.]), 2)
T([1]) in T([1,2])
1 in T([1,2])
5 in T([1,2])
T(1.) in [T(1.)]
torch.arange(5)
torch.arange(5.)
torch.arange(1, 2, 0.25)
torch.arange(0, 1, 0.1)
torch.arange(1, 0, -0.3)
torch.arange(5, dtype=torch.float16)
torch.arange(0, 5, 2, dtype=torch.int8)
torch.arange(1.5, 5)
torch.arange(T(3))
torch.arange(0, 10, 3.5, dtype=torch.int64)
torch.arange(0.5, 5, dtype=torch.int64)
torch.arange(0)
torch.arange(True)
torch.arange(end=3)
torch.arange(start=1, end=3)
torch.arange(1, 3, step=1)
torch.arange(2**53, 2**53+3)
torch.arange(-3, 3, out=torch.empty(2, dtype=torch.int64))
torch.arange(0, 1, 0.1, dtype=torch.float32)[3].double()
torch.arange(0, 3, 0.1)[29].double()
torch.range(1, 4)
torch.range(1, 4, 0.5)
torch.range(0, 1, 0.3)
torch.linspace(0, 1, 5)
torch.linspace(0, 1, 1)
torch.linspace(0, 1, 0)
torch.linspace(-1, 1, 7).double()
torch.linspace(3, 10, 4)
torch.linspace(0, 10, 5, dtype=torch.int64)
torch.linspace(1, -7, 4, dtype=torch.int32)
torch.linspace(0, 1, 11, dtype=torch.float64)
torch.linspace(T(0.), T(1.), 3)
torch.linspace(0, 1j, 3)
torch.linspace(0, 1, steps=3, dtype=torch.float16)
torch.logspace(0, 2, 3)
torch.logspace(-10, 10, 5)
torch.logspace(0.1, 1.0, 5)
torch.logspace(0, 3, 4, base=2)
torch.logspace(0, 3, 4, base=2, dtype=torch.int64)
torch.eye(3)
torch.eye(2,3, dtype=torch.int64)
torch.full((2,), 1)
torch.full((2,), True)
torch.full((2,), 1.5)
torch.full((2,), 1j)
torch.full((), 3)
torch.full([2,2], T(3))
torch.full((2,), 1, dtype=torch.bool)
torch.full((2,), 3.7, dtype=torch.int64)
torch.full_like(T([1,2]), 1.5)
torch.full_like(T([1,2]), 1.5, dtype=torch.float32)
torch.full(size=(2,), fill_value=2.)
torch.zeros(2, 3, dtype=torch.int32)
torch.zeros((2,))
torch.zeros([])
torch.zeros(())
torch.zeros(T(2), 3)
torch.zeros(np.int64(2))
torch.zeros(size=(2,))
torch.zeros(torch.Size([1]))
torch.zeros(2, requires_grad=True)
torch.ones_like(T([1,2], dtype=torch.int8))
torch.zeros_like(torch.zeros(2,3).t()).stride()
torch.empty(2,3,4,5, memory_format=torch.channels_last).stride()
torch.empty_strided((2,3),(1,2)).stride()
torch.empty_like(torch.zeros(2,3,4,5).to(memory_format=torch.channels_last)).stride()
torch.zeros(2,3,4,5).contiguous(memory_format=torch.channels_last).stride()
torch.zeros(2,3).contiguous(memory_format=torch.channels_last)
(torch.zeros(2,3).t() + 1).stride()
(torch.zeros(2,3).t() + torch.zeros(3,2)).stride()
(torch.zeros(3,2) + torch.zeros(2,3).t()).stride()
(torch.zeros(2,3,4).permute(2,0,1) * torch.zeros(4,1,3)).stride()
(torch.zeros(4,1,3) * torch.zeros(2,3,4).permute(2,0,1)).stride()
torch.zeros(2,3,4).permute(2,0,1).exp().stride()
torch.zeros(2,3,4).permute(2,0,1).clone().stride()
torch.zeros(2,3,4).permute(2,0,1).contiguous().stride()
torch.zeros(2,3,4)[:, :, ::2].exp().stride()
torch.zeros(3,1).expand(3,4).exp().stride()
torch.zeros(3,1).expand(3,4).clone().stride()
torch.zeros(2,3).t().double().stride()
torch.zeros(2,3).t().sum(0, keepdim=True).stride()
(torch.zeros(2,1,4).permute(2,1,0) + torch.zeros(4,1,2)).stride()
torch.where(torch.zeros(2,3).t() > 0, torch.zeros(3,2), 1.).stride()
torch.zeros(2,3).t().softmax(0).stride()
torch.tensor(1)
torch.tensor(1.5)
torch.tensor(True)
torch.tensor(1j)
torch.tensor([1, 2.5])
torch.tensor([True, 2])
torch.tensor([True, 1.5, 1j])
torch.tensor([])
torch.tensor([[], []])
torch.tensor([[]])
torch.tensor(())
torch.tensor((1, 2))
torch.tensor([[1, 2], (3, 4)])
torch.tensor(range(3))
torch.tensor([T(1), T(2)])
torch.tensor([T(1.), 2])
torch.tensor([T([1.]), T([2.])])
torch.tensor([np.array([1,2]), np.array([3,4])])
torch.tensor([np.float64(1.), np.float64(2.)])
torch.tensor([np.float32(1.)])
torch.tensor([np.int32(1)])
torch.tensor(np.array([1,2], dtype=np.int32))
torch.tensor(np.float64(1.5))
torch.tensor(np.float32(1.5))
torch.tensor(np.int16(3))
torch.tensor(np.bool_(True))
torch.tensor(np.array([1,2]), dtype=torch.float32)
torch.tensor([1.7, 2.2], dtype=torch.int64)
torch.tensor([0, 2], dtype=torch.bool)
torch.tensor(1, dtype=torch.float16)
torch.tensor(-1, dtype=torch.uint8)
torch.tensor([1,2], dtype=torch.complex64)
torch.tensor(T([1,2]))
torch.tensor(np.array([3,2,1])[::-1])
torch.tensor(2**62)
torch.tensor(2**63, dtype=torch.uint64)
torch.tensor(0.1).item()
torch.as_tensor([1,2])
torch.as_tensor(np.array([1.]))
torch.as_tensor(T([1]), dtype=torch.float32)
torch.asarray([1.])
torch.from_numpy(np.array([1,2], dtype=np.int8))
torch.from_numpy(np.arange(6).reshape(2,3).T).stride()
torch.frombuffer(bytearray([1,2,3,4]), dtype=torch.uint8)
torch.frombuffer(bytearray(8), dtype=torch.float32, offset=4)
torch.Tensor([1,2])
torch.Tensor(2,3).shape
torch.Tensor().shape
torch.Tensor(2).shape
torch.Tensor([True, 2])
torch.Tensor(T([1.]))
torch.Tensor(T([1]))
torch.Tensor(np.array([1.], dtype=np.float32))
torch.Tensor(1.5)
torch.Tensor(torch.Size([2])).shape
torch.Tensor([[1,2],[3,4]])
torch.FloatTensor([1,2])
torch.LongTensor([1,2])
torch.LongTensor(2).shape
torch.DoubleTensor([1.5])
torch.ByteTensor([1, 255])
torch.BoolTensor([0, 1])
torch.LongTensor([1.5])
isinstance(T([1.]), torch.FloatTensor)
isinstance(T([1]), torch.FloatTensor)
T([1.]).new([1,2])
T([1]).new(2,3).shape
T([1]).new_tensor([1.5])
T([1.]).new_tensor([1,2])
T([1]).new_zeros(2)
T([1]).new_ones((2,3))
T([1]).new_full((2,), 3.5)
T([1.]).new_empty(2,3).shape
T([1.]).new_zeros(2, dtype=torch.int8)
torch.scalar_tensor(3)
torch.tril_indices(3,3)
torch.triu_indices(3,4,1)
torch.complex(T([1.]), T([2.]))
torch.polar(T([1.]), T([0.]))
torch.zeros(2,0,3)
torch.zeros(0).sum()
torch.zeros(0,3).mean(0)
""".strip().splitlines()

STATE = r"""
torch.linspace(-1, 1, 7).double()
torch.linspace(0.1, 1.3, 11).double()
torch.linspace(-3.7, 9.1, 100).double()
torch.linspace(3, 7, 33).double()
torch.arange(0.5, 5.5, 1.5, dtype=torch.int32)
torch.Size([T(2), 3])
torch.add(T([1.,2.]), 1, out=torch.empty(0))
o=torch.empty(5);; r=torch.add(T([1.,2.]), 1, out=o);; (r is o, o)
o=torch.zeros(2,dtype=torch.float64);; torch.add(T([1.,2.]), 1, out=o);; o
o=torch.zeros(2,3);; torch.sum(torch.ones(2,3), 1, out=o);; o
o=torch.zeros(4);; torch.cat([T([1.,2.]),T([3.,4.])], out=o);; o
o=(torch.empty(0),torch.empty(0,dtype=torch.long));; r=torch.max(T([[1.,3.]]), 1, out=o);; (r, o)
o=torch.zeros(2);; torch.ones(2, out=o);; o
o=torch.zeros(2);; torch.matmul(torch.ones(2,2), torch.ones(2), out=o)
o=torch.zeros(3,2).t();; torch.add(torch.ones(2,3), 1, out=o);; (o.stride(), o)
torch.eq(T([1.]), 1, out=torch.empty(1))
torch.eq(T([1.]), 1, out=torch.empty(1, dtype=torch.bool))
torch.exp(T([1]), out=torch.empty(1, dtype=torch.int64))
torch.arange(3, out=torch.empty(0))
x=T([1.,2.]);; y=copy.copy(x);; y[0]=5;; (x, y, y is x)
x=T([1.,2.]);; y=copy.deepcopy(x);; y[0]=5;; (x, y)
x=T([1.,2.,3.]);; v=x[1:];; d=copy.deepcopy([x,v]);; d[1][0]=9;; (d, x, v, d[1].storage_offset())
x=T([1.,2.,3.]);; d=copy.deepcopy([x,x]);; d[0] is d[1]
x=T([1.,2.],requires_grad=True);; y=copy.deepcopy(x);; (y.requires_grad, y.is_leaf)
x=T([1.,2.],requires_grad=True)*2;; copy.deepcopy(x)
x=T([1.,2.]);; x.foo=3;; copy.deepcopy(x).foo
x=T([1.,2.],requires_grad=True);; x.sum().backward();; copy.deepcopy(x).grad
x=T([1.,2.]);; pickle.loads(pickle.dumps(x))
x=T([1.,2.],requires_grad=True);; pickle.loads(pickle.dumps(x))
x=torch.zeros(2,3).t();; pickle.loads(pickle.dumps(x)).stride()
x=T([1.5],dtype=torch.bfloat16);; pickle.loads(pickle.dumps(x))
x=T(3);; pickle.loads(pickle.dumps(x))
pickle.loads(pickle.dumps(torch.float32)) is torch.float32
pickle.loads(pickle.dumps(torch.Size([1,2])))
pickle.loads(pickle.dumps(torch.device("cuda:1")))
copy.deepcopy(torch.device("cpu"))
x=T([1.,2.]);; y=T([3.,4.,5.]);; x.set_(y);; y[0]=9;; x
x=T([1.,2.]);; y=torch.arange(6.);; x.set_(y.untyped_storage(), 1, (2,), (2,));; x
x=T([1.,2.]);; x.set_();; x
x=torch.arange(6.);; x.resize_(2,2);; x
x=torch.arange(4.);; x.resize_(2,3).shape
x=torch.arange(6.);; v=x[:];; x.resize_(3);; (x, v)
x=torch.arange(4.);; x.resize_as_(torch.zeros(2,2));; x
x=T([1.,2.]);; x.data=T([3.,4.,5.]);; x
x=T([1.,2.],requires_grad=True);; x.data=T([3.,4.,5.]);; (x, x.requires_grad)
x=T([1.,2.]);; x.data=T([3]);; x
x=T([1.,2.]);; x.data="a"
x=T([1.,2.],requires_grad=True);; x.data.add_(1);; (x, x._version)
x=T([1.,2.]);; x.grad=T([1.,1.]);; x.grad
x=T([1.,2.]);; x.grad=T([1.]);; x.grad
x=T([1.,2.]);; x.grad=1
x=torch.ones(2);; x.t_();; x
x=torch.arange(6.).view(2,3);; y=x.view(-1);; x.t_();; x[0,1]=50;; (x, y, x.stride())
x=torch.arange(6.).view(2,3);; x.unsqueeze_(0);; x.squeeze_();; x.transpose_(0,1);; (x.shape, x.stride())
x=torch.arange(6.);; x.as_strided_((2,2),(1,2));; x
x=torch.ones(2,requires_grad=True)*2;; x.unsqueeze_(0);; x.sum().backward();; x.shape
x=torch.zeros(3,3);; x.fill_diagonal_(2);; x
x=torch.zeros(7,3);; x.fill_diagonal_(2, wrap=True);; x
x=torch.zeros(3);; x.fill_diagonal_(1)
torch.zeros(2,2).select_scatter(torch.ones(2),0,0)
torch.zeros(2,2).slice_scatter(torch.ones(1,2),0,0,1)
torch.zeros(2,2).diagonal_scatter(torch.ones(2))
torch.as_strided_scatter(torch.zeros(4), torch.ones(2),(2,),(2,))
torch.nonzero_static(T([1,0,1]),size=3)
torch.empty_permuted((2,3,4),(2,0,1)).stride()
torch.permute_copy(torch.zeros(2,3),(1,0)).stride()
torch.squeeze_copy(torch.zeros(1,3)).shape
torch.zeros(2,3).narrow_copy(0,0,1)
repr(torch.ones(2, device="meta"))
repr(torch.ones(2, device="meta") + 1)
torch.ones(2,3, device="meta") @ torch.ones(3,4, device="meta")
torch.ones(2, device="meta").item()
torch.ones(2, device="meta").tolist()
torch.ones(1, device="meta").item()
torch.ones(2, device="meta").numpy()
bool(torch.ones(1, device="meta"))
torch.ones(2, device="meta")[0]
torch.ones(2, device="meta").add_(1)
torch.ones(2, device="meta").to("cpu")
torch.ones(2, device="meta") + T(1.)
torch.ones(2).to("meta")
torch.arange(3, device="meta")
torch.empty(2, device="meta").cpu()
torch.ones(2,3,device="meta").sum(0)
torch.ones(2,3,device="meta").max(1)
torch.cat([torch.ones(2,device="meta")]*2)
torch.ones(2,3,device="meta").t().contiguous()
torch.ones(4,device="meta").view(2,2).transpose(0,1)
torch.empty_like(torch.ones(2), device="meta")
torch.nn.functional.conv2d(torch.ones(1,2,5,5,device="meta"), torch.ones(3,2,3,3,device="meta"))
x=torch.ones(2,device="meta");; x.copy_(torch.ones(2))
x=torch.ones(2);; x.copy_(torch.ones(2,device="meta"))
x=torch.ones(2,device="meta");; x[0]=1;; x
x=torch.ones(2,device="meta",requires_grad=True);; y=(x*2).sum();; y.backward();; x.grad
repr(torch.device("cpu"))
repr(torch.device("cuda:1"))
repr(torch.device("cuda", 1))
str(torch.device("cuda:0"))
torch.device("cpu") == torch.device("cpu:0")
torch.device("cuda") == "cuda"
torch.device("cpu").index
torch.device(type="cpu")
torch.device(type="cuda", index=1)
torch.device("cuda:0", 1)
{torch.device("cpu"): 1}[torch.device("cpu")]
torch.set_default_device("meta");; a=torch.ones(2);; torch.set_default_device(None);; str(a.device)
torch.get_default_device()
torch.from_dlpack(np.arange(3))
np.from_dlpack(T([1.,2.]))
torch.from_dlpack(T([1.,2.]))
T([1.]).data_ptr() == T([1.]).data_ptr()
x=T([1.,2.]);; x.data_ptr()==x[0:].data_ptr()
x=T([1.,2.]);; x[1:].data_ptr()-x.data_ptr()
x=T([1.,2.]);; x.untyped_storage().nbytes()
x=T([1.,2.]);; x.storage().size()
x=T([1.,2.]);; len(x.storage())
x=T([1.,2.]);; x.storage().tolist()
x=T([1.,2.]);; x.untyped_storage().data_ptr()==x.data_ptr()
x=T([1.,2.]);; x.element_size()*x.nelement()
x=T([1.,2.]);; x.is_shared()
T([1.,2.]).apply_(lambda v: v*2)
T([1.,2.]).map_(T([3.,4.]), lambda a,b: a+b)
T([3,1,2]).new_tensor(1)
x=torch.zeros(2,3);; x[0]=1;; x[:,1]=T([5.,6.]);; x[T([1]),T([2])]=7;; x
x=torch.zeros(3);; x[[0,2]]+=1;; x
x=torch.zeros(3);; x[T([True,False,True])]=T([1.,2.]);; x
x=torch.zeros(2,2);; x.T[0]=T([1.,2.]);; x
x=T([1.,2.]);; x+=1;; x
x=T([1,2]);; x+=1.5
x=T([1,2]);; x/=2
x=T([1.,2.]);; x**=2;; x
x=T([7,2]);; x//=2;; x
x=T([7,2]);; x%=4;; x
x=T([7,2]);; x<<=1;; x
x=T([True,False]);; x&=T([True,True]);; x
x=torch.eye(2);; x@=torch.ones(2,2);; x
x=torch.ones(2);; x+=torch.ones(3,2)
x=torch.ones(2,1);; x.add_(torch.ones(2,2))
x=torch.ones(3).expand(2,3);; x.add_(1)
x=T([1.,2.]);; x.clamp_(max=1.5);; x
T([1.,2.]).masked_fill_(T([True,False]),T([1.,2.]))
torch.relu_(T([-1.,2.]))
torch.nn.functional.leaky_relu_(T([-1.,2.]))
torch.selu_(T([-1.,2.]))
torch.celu_(T([-1.,2.]))
torch.threshold_(T([-1.,2.]), 0., 5.)
torch.zero_(T([-1.,2.]))
torch.fill_(T([-1.,2.]), 3)
torch.clamp_(T([-1.,2.]), 0)
torch.float_power(T([2]), 2)
torch.float_power(2, T([1.5]))
torch.add(1, 2)
torch.mul(T([1.]), T(2, dtype=torch.float64))
T(1.) + T([1], dtype=torch.float16)
T(1.5) + T([1])
T(1.5, dtype=torch.float64) * T([1.5])
T([1.]).to(torch.float16) * 2.5
x=torch.zeros(2);; x.requires_grad_(False).requires_grad
T([1.]).new_zeros(2, requires_grad=True).requires_grad
torch.result_type(T([1]), 1.5)
torch.can_cast(torch.float32, torch.int64)
torch.can_cast(torch.int64, torch.bool)
torch.is_tensor(1)
torch.get_device(T([1.]))
torch.finfo(torch.float32).eps
repr(torch.finfo(torch.float32))
repr(torch.iinfo(torch.int8))
repr(torch.strided)
repr(torch.channels_last)
repr(torch.float32)
T([1.]).layout == torch.strided
""".strip().splitlines()
# fmt: on

GROUP = 25
GROUPS = {
    f"{name}-{i // GROUP}": sources[i : i + GROUP]
    for name, sources in (("errors", ERRORS), ("values", VALUES), ("state", STATE))
    for i in range(0, len(sources), GROUP)
}


@pytest.mark.parametrize("group", list(GROUPS))
def test_expressions(group: str) -> None:
    _check(GROUPS[group])
