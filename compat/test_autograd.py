"""Autograd as torch's: accumulation, `grad`, derivatives of derivatives, subgradients."""

from __future__ import annotations

from compat.battery import Battery
from compat.graphs import leaf
from compat.judge import raises

case = Battery()


# ---- backward --------------------------------------------------------------------------------------------------------


@case
def tutorial_q(torch):
    a, b = leaf(torch, 2.0, 3.0), leaf(torch, 6.0, 4.0)
    q = 3 * a**3 - b**2
    q.backward(gradient=torch.tensor([1.0, 1.0]))
    return a.grad, b.grad


@case
def accumulates(torch):
    x = leaf(torch)
    (x * 2).sum().backward()
    first = x.grad.clone()
    (x * x).sum().backward()
    return first, x.grad


@case
def accumulates_in_place(torch):
    x = leaf(torch)
    x.sum().backward()
    g = x.grad
    x.sum().backward()
    return g, g is x.grad


@case
def grad_set_to_none(torch):
    x = leaf(torch)
    x.sum().backward()
    x.grad = None
    (3 * x).sum().backward()
    before = x.grad.clone()
    x.grad.zero_()
    return before, x.grad


@case
def grad_assigned_errors(torch):
    x = leaf(torch)
    return (
        raises(
            lambda: setattr(x, "grad", torch.zeros(2)),
            "attempting to assign a gradient of size '[2]' to a tensor of size '[3]'",
        ),
        raises(lambda: setattr(x, "grad", 1.0), "assigned grad expected to be a Tensor or None"),
        raises(lambda: setattr(x, "grad", x), "can't assign Variable as its own grad"),
        raises(lambda: setattr(x, "grad", torch.zeros(3, dtype=torch.float64)), "attempting to assign a gradient"),
    )


@case
def diamond(torch):
    x = leaf(torch)
    y = x * 2
    (y.sin() + y.cos() * y + x).sum().backward()
    return x.grad


@case
def same_tensor_many_times(torch):
    x = leaf(torch)
    (x * x * x + x / x).sum().backward()
    return x.grad


@case
def nonscalar_needs_gradient(torch):
    x = leaf(torch)
    return raises(lambda: (x * 2).backward(), "grad can be implicitly created only for scalar outputs")


@case
def gradient_shape_mismatch(torch):
    x = leaf(torch)
    return raises(lambda: (x * 2).backward(torch.ones(2)), "Mismatch in shape: grad_output[0] has a shape of")


@case
def no_graph(torch):
    return raises(
        lambda: torch.ones(1).backward(), "element 0 of tensors does not require grad and does not have a grad_fn"
    )


@case
def integer_requires_grad(torch):
    return (
        raises(lambda: torch.ones(2, dtype=torch.int64).requires_grad_(), "only Tensors of floating point"),
        raises(lambda: torch.tensor([1], requires_grad=True), "Only Tensors of floating point"),
    )


@case
def freed_graph(torch):
    x = leaf(torch)
    y = (x * x).sum()
    y.backward()
    return raises(y.backward, "Trying to backward through the graph a second time"), x.grad


@case
def freed_graph_by_another_head(torch):
    x = leaf(torch)
    h = x.exp()
    (h * 2).sum().backward()
    return raises(lambda: (h * 3).sum().backward(), "Trying to backward through the graph a second time")


@case
def freed_graph_without_saved(torch):
    x = leaf(torch)
    y = (x + 1).sum()
    y.backward()
    y.backward()
    return x.grad


@case
def retain_graph(torch):
    x = leaf(torch)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    return x.grad


@case
def backward_inputs(torch):
    x, w = leaf(torch), leaf(torch, 4.0, 5.0, 6.0)
    (x * w).sum().backward(inputs=[x])
    return x.grad, w.grad


@case
def backward_inputs_nonleaf(torch):
    x = leaf(torch)
    y = x * 2
    (y * y).sum().backward(inputs=[y])
    return x.grad, y.grad


@case
def autograd_backward_many(torch):
    x = leaf(torch)
    torch.autograd.backward([(x * 2).sum(), x * 3], [None, torch.tensor([1.0, 0.0, 2.0])])
    return x.grad


@case
def unused_leaf_keeps_none(torch):
    x, y = leaf(torch), leaf(torch)
    (x * 2).sum().backward()
    return x.grad, y.grad


@case
def broadcast_gradients(torch):
    x = torch.ones(3, 1, requires_grad=True)
    y = torch.ones(4, requires_grad=True)
    s = torch.tensor(2.0, requires_grad=True)
    (x * y * s + s).sum().backward()
    return x.grad, y.grad, s.grad


@case
def mixed_dtypes_gradients(torch):
    x = torch.ones(2, requires_grad=True)
    y = torch.ones(2, dtype=torch.float64, requires_grad=True)
    (x * y).sum().backward()
    return x.grad, y.grad


@case
def number_operands(torch):
    x = leaf(torch)
    (2 / x + x**3 - 1 - (5 - x) * 0.5).sum().backward()
    return x.grad


@case
def complex_gradients(torch):
    z = torch.tensor([1 + 2j, 3 - 1j], requires_grad=True)
    (z * z.conj()).real.sum().backward()
    w = torch.tensor([1 + 2j], requires_grad=True)
    (w**2).abs().sum().backward()
    return z.grad, w.grad


@case
def complex_loss_raises(torch):
    z = torch.tensor([1 + 2j], requires_grad=True)
    return raises(
        lambda: (z * 2).sum().backward(), "grad can be implicitly created only for real scalar outputs but got"
    )


# ---- autograd.grad ---------------------------------------------------------------------------------------------------


@case
def grad_basic(torch):
    x = leaf(torch)
    g = torch.autograd.grad((x**2).sum(), x)
    return g, x.grad, g[0].requires_grad


@case
def grad_unused(torch):
    x, y = leaf(torch), leaf(torch)
    loss = (x * 2).sum()
    return (
        raises(
            lambda: torch.autograd.grad(loss, [x, y], retain_graph=True),
            "The differentiated Tensor at index 1 appears to not have been used in the graph",
        ),
        torch.autograd.grad(loss, [x, y], allow_unused=True, retain_graph=True),
        torch.autograd.grad(loss, [x, y], materialize_grads=True),
    )


@case
def grad_of_nonleaf(torch):
    x = leaf(torch)
    y = x * 2
    return torch.autograd.grad((y**2).sum(), [y, x])


@case
def grad_needs_requires_grad(torch):
    x = torch.ones(2)
    y = leaf(torch, 1.0, 2.0)
    return raises(
        lambda: torch.autograd.grad((x * y).sum(), x), "One of the differentiated Tensors does not require grad"
    )


@case
def grad_outputs(torch):
    x = leaf(torch)
    y = x**2
    return torch.autograd.grad(y, x, grad_outputs=torch.tensor([1.0, 0.0, -1.0])), torch.autograd.grad(
        [x.exp(), x.sum()], x, [torch.ones(3), None]
    )


@case
def grad_batched(torch):
    x = leaf(torch)
    y = x**2
    return torch.autograd.grad(y, x, torch.eye(3), is_grads_batched=True)


@case
def double_backward(torch):
    x = leaf(torch)
    (g,) = torch.autograd.grad((x**3).sum(), x, create_graph=True)
    (h,) = torch.autograd.grad(g.sum(), x, create_graph=True)
    (k,) = torch.autograd.grad(h.sum(), x)
    return g, h, k, g.requires_grad


@case
def double_backward_into_grad(torch):
    x = leaf(torch)
    (x.sin() * x).sum().backward(create_graph=True)
    first = x.grad.clone()
    x.grad.sum().backward()
    return first, x.grad


@case
def gradient_penalty(torch):
    torch.manual_seed(0)
    x = torch.randn(4, 3, requires_grad=True)
    w = torch.randn(3, requires_grad=True)
    out = torch.tanh(x @ w)
    (g,) = torch.autograd.grad(out.sum(), x, create_graph=True)
    ((g.norm(dim=1) - 1) ** 2).mean().backward()
    return w.grad


@case
def hessian_vector(torch):
    x = leaf(torch)
    v = torch.tensor([1.0, -1.0, 2.0])
    (g,) = torch.autograd.grad((x.prod() * x.sum()), x, create_graph=True)
    return torch.autograd.grad(g @ v, x)


@case
def functional_jacobian(torch):
    f = torch.autograd.functional
    x = torch.tensor([1.0, 2.0])
    return f.jacobian(lambda t: t**2 * t.sum(), x), f.hessian(lambda t: (t**3).prod(), x)


@case
def functional_products(torch):
    f = torch.autograd.functional
    x, v = torch.tensor([1.0, 2.0]), torch.tensor([0.5, -1.0])
    return f.vjp(lambda t: t.exp() * t.sum(), x, v), f.jvp(lambda t: t.exp(), x, v), f.hvp(lambda t: (t**3).sum(), x, v)


# ---- subgradients ----------------------------------------------------------------------------------------------------


def _sub(name, values, function):
    def run(torch):
        x = torch.tensor(values, requires_grad=True)
        y = function(torch, x)
        torch.autograd.backward(y.sum())
        return y, x.grad

    case.add(f"at_{name}", run)


_sub("abs", [-1.0, 0.0, 2.0], lambda t, x: x.abs())
_sub("relu", [-1.0, 0.0, 2.0], lambda t, x: x.relu())
_sub("clamp", [-1.0, 0.0, 1.0, 2.0], lambda t, x: x.clamp(0, 1))
_sub("clamp_min", [0.0, 1.0], lambda t, x: x.clamp(min=0))
_sub("max", [1.0, 3.0, 3.0], lambda t, x: x.max())
_sub("max_dim", [[1.0, 3.0, 3.0]], lambda t, x: x.max(1)[0])
_sub("min_dim", [[1.0, 1.0, 3.0]], lambda t, x: x.min(1).values)
_sub("amax", [[1.0, 3.0, 3.0]], lambda t, x: x.amax(1))
_sub("amin", [1.0, 1.0, 3.0], lambda t, x: x.amin())
_sub("median", [2.0, 2.0, 3.0], lambda t, x: x.median())
_sub("median_dim", [[2.0, 2.0, 2.0]], lambda t, x: x.median(1)[0])
_sub("maximum", [1.0, 2.0], lambda t, x: t.maximum(x, t.tensor([1.0, 3.0])))
_sub("fmin", [1.0, 2.0], lambda t, x: t.fmin(x, t.tensor([1.0, 3.0])))
_sub("norm", [0.0, 0.0], lambda t, x: x.norm())
_sub("norm_1", [0.0, -2.0], lambda t, x: x.norm(p=1))
_sub("norm_inf", [2.0, -2.0], lambda t, x: x.norm(p=float("inf")))
_sub("norm_dim", [[0.0, 0.0], [3.0, 4.0]], lambda t, x: x.norm(dim=1))
_sub("linalg_norm", [0.0, 0.0], lambda t, x: t.linalg.norm(x))
_sub("sqrt", [0.0, 4.0], lambda t, x: x.sqrt())
_sub("rsqrt", [0.0, 4.0], lambda t, x: x.rsqrt())
_sub("prod_one_zero", [0.0, 2.0, 3.0], lambda t, x: x.prod())
_sub("prod_two_zeros", [0.0, 0.0, 3.0], lambda t, x: x.prod())
_sub("cumprod_zero", [2.0, 0.0, 3.0, 0.0], lambda t, x: x.cumprod(0))
_sub("pow_zero", [0.0, 2.0], lambda t, x: x**0)
_sub("pow_fraction", [0.0, 4.0], lambda t, x: x**0.5)
_sub("pow_tensor", [0.0, 2.0], lambda t, x: t.pow(x, t.tensor([2.0, 0.0])))
_sub("zero_pow", [2.0, 3.0], lambda t, x: t.tensor([0.0, 2.0]) ** x)
_sub("std_one", [[2.0]], lambda t, x: x.std(1))
_sub("std_equal", [2.0, 2.0], lambda t, x: x.std())
_sub("where_nan", [0.0, 2.0], lambda t, x: t.where(x > 0, x.log(), t.zeros(2)))
_sub("sort", [2.0, 1.0, 2.0], lambda t, x: x.sort().values * t.arange(3.0))
_sub("topk", [2.0, 1.0, 3.0], lambda t, x: x.topk(2).values * t.tensor([1.0, 5.0]))
_sub("kthvalue", [2.0, 1.0, 3.0], lambda t, x: x.kthvalue(2)[0])
_sub("logsumexp_inf", [float("-inf"), 1.0], lambda t, x: x.logsumexp(0))
_sub("softmax_large", [1000.0, 0.0], lambda t, x: x.softmax(0) * t.tensor([1.0, 2.0]))
_sub("sign", [-1.0, 0.0, 2.0], lambda t, x: x.sign() + x)
_sub("round", [0.5, 1.4], lambda t, x: x.round() + x.floor() + x.trunc() + 2 * x)
_sub("fmod", [5.5, -5.5], lambda t, x: x.fmod(2) + x.remainder(3))
_sub("atan2", [0.0, 1.0], lambda t, x: t.atan2(x, t.tensor([0.0, 1.0])))
_sub("hypot", [0.0, 3.0], lambda t, x: t.hypot(x, t.tensor([0.0, 4.0])))
_sub("leaky", [-1.0, 0.0, 2.0], lambda t, x: t.nn.functional.leaky_relu(x, 0.1))
_sub("elu", [-1.0, 0.0, 2.0], lambda t, x: t.nn.functional.elu(x))
_sub("hardtanh", [-1.0, 0.0, 1.0], lambda t, x: t.nn.functional.hardtanh(x))
_sub("relu6", [0.0, 3.0, 6.0], lambda t, x: t.nn.functional.relu6(x))
_sub("hardsigmoid", [-3.0, 0.0, 3.0], lambda t, x: t.nn.functional.hardsigmoid(x))
_sub("softshrink", [-0.5, 0.0, 0.5, 1.0], lambda t, x: t.nn.functional.softshrink(x))
_sub("smooth_l1", [-1.0, 0.0, 1.0], lambda t, x: t.nn.functional.smooth_l1_loss(x, t.zeros(3), reduction="none"))
_sub("l1", [-1.0, 0.0, 1.0], lambda t, x: t.nn.functional.l1_loss(x, t.zeros(3), reduction="none"))
_sub("max_pool_tie", [[1.0, 1.0, 2.0, 2.0]], lambda t, x: t.nn.functional.max_pool1d(x, 2))
_sub("dist", [0.0, 0.0], lambda t, x: t.dist(x, t.zeros(2)))
_sub("cdist", [[0.0, 0.0], [1.0, 1.0]], lambda t, x: t.cdist(x, t.zeros(1, 2)))
_sub("xlogy", [0.0, 2.0], lambda t, x: t.xlogy(x, t.tensor([0.0, 2.0])))
_sub("sinc", [0.0, 0.5], lambda t, x: t.sinc(x))
_sub("cummax", [1.0, 3.0, 3.0, 2.0], lambda t, x: x.cummax(0)[0] * t.arange(4.0))
_sub("logaddexp_inf", [float("-inf"), 1.0], lambda t, x: t.logaddexp(x, t.tensor([float("-inf"), 1.0])))


test_autograd = case.test()
