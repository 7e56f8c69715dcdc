"""Autograd as torch's: custom functions, checkpoints, saved tensors, anomaly mode."""

from __future__ import annotations

from compat.battery import Battery
from compat.graphs import leaf
from compat.judge import raises

case = Battery()


# ---- Function --------------------------------------------------------------------------------------------------------


def _cube(torch):
    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return g * 3 * x**2

    return Cube


@case
def function_basic(torch):
    x = leaf(torch)
    y = _cube(torch).apply(x)
    y.sum().backward()
    return y, x.grad, y.grad_fn.name(), type(y.grad_fn).__name__


@case
def function_double(torch):
    x = leaf(torch)
    (g,) = torch.autograd.grad(_cube(torch).apply(x).sum(), x, create_graph=True)
    return torch.autograd.grad(g.sum(), x)


@case
def function_setup_context(torch):
    class Scale(torch.autograd.Function):
        @staticmethod
        def forward(x, k):
            return x * k

        @staticmethod
        def setup_context(ctx, inputs, output):
            x, ctx.k = inputs
            ctx.save_for_backward(x, output)

        @staticmethod
        def backward(ctx, g):
            x, y = ctx.saved_tensors
            return g * ctx.k + 0 * x * y, None

    x = leaf(torch)
    Scale.apply(x, 4).sum().backward()
    return x.grad


@case
def function_needs_input_grad(torch):
    seen = []

    class Product(torch.autograd.Function):
        @staticmethod
        def forward(ctx, a, b, n):
            ctx.save_for_backward(a, b)
            return a * b * n

        @staticmethod
        def backward(ctx, g):
            _, b = ctx.saved_tensors
            seen.append(ctx.needs_input_grad)
            return g * b * 2, None, None

    x = leaf(torch)
    Product.apply(x, torch.ones(3), 2).sum().backward()
    return seen, x.grad


@case
def function_several_outputs(torch):
    class Both(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * 2, x * 3

        @staticmethod
        def backward(ctx, a, b):
            return a * 2 + b * 3

    x = leaf(torch)
    p, q = Both.apply(x)
    (p + q * q).sum().backward()
    first = x.grad.clone()
    x.grad = None
    Both.apply(x)[0].sum().backward()
    return first, x.grad


@case
def function_materialize_grads(torch):
    seen = []

    class Both(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.set_materialize_grads(False)
            return x * 2, x * 3

        @staticmethod
        def backward(ctx, a, b):
            seen.append((a is None, b is None))
            return a * 2 if b is None else a * 2 + b * 3

    x = leaf(torch)
    Both.apply(x)[0].sum().backward()
    return seen, x.grad


@case
def function_non_differentiable(torch):
    class Sorted(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            values, order = x.sort()
            ctx.mark_non_differentiable(order)
            ctx.save_for_backward(order)
            return values, order

        @staticmethod
        def backward(ctx, g, _):
            (order,) = ctx.saved_tensors
            return torch.zeros_like(g).scatter_(0, order, g)

    x = leaf(torch, 3.0, 1.0, 2.0)
    v, o = Sorted.apply(x)
    (v * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    return x.grad, o.requires_grad, v.requires_grad, o


@case
def function_mark_dirty(torch):
    class Double(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            x.mul_(2)
            ctx.mark_dirty(x)
            return x

        @staticmethod
        def backward(ctx, g):
            return g * 2

    x = leaf(torch)
    y = x * 1
    z = Double.apply(y)
    z.sum().backward()
    return z is y, x.grad, y, y._version, y.grad_fn.name()


@case
def function_no_backward(torch):
    class Half(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x / 2

    x = leaf(torch)
    y = Half.apply(x)
    try:
        y.sum().backward()
    except (NotImplementedError, RuntimeError) as error:
        return "backward" in str(error), type(error).__name__
    return "nothing was raised"


@case
def function_wrong_number_of_gradients(torch):
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, y):
            return x + y

        @staticmethod
        def backward(ctx, g):
            return g

    x = leaf(torch)
    return raises(Wrong.apply(x, x).sum().backward, "returned an incorrect number of gradients (expected 2, got 1)")


@case
def function_wrong_shape(torch):
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            return torch.ones(5)

    x = leaf(torch)
    return raises(Wrong.apply(x).sum().backward, "returned an invalid gradient at index 0")


@case
def function_once_differentiable(torch):
    from_module = torch.autograd.function.once_differentiable

    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        @from_module
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return g * 3 * x**2

    x = leaf(torch)
    (g,) = torch.autograd.grad(Cube.apply(x).sum(), x, create_graph=True)
    y = x * 2
    (h,) = torch.autograd.grad(Cube.apply(y).sum(), y, y.detach().sum() * 0 + y.sum() * 0 + 1, create_graph=True)
    words = "trying to differentiate twice a function that was marked with @once_differentiable"
    return g, g.requires_grad, h.requires_grad, raises(h.sum().backward, words)


@case
def function_runs_without_grad_inside(torch):
    seen = []

    class Look(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            seen.append((torch.is_grad_enabled(), (x * 2).requires_grad))
            return x * 2

        @staticmethod
        def backward(ctx, g):
            seen.append(torch.is_grad_enabled())
            return g * 2

    x = leaf(torch)
    Look.apply(x).sum().backward()
    return seen


@case
def function_under_no_grad(torch):
    x = leaf(torch)
    with torch.no_grad():
        y = _cube(torch).apply(x)
    return y, y.requires_grad, _cube(torch).apply(torch.ones(2)).requires_grad


@case
def function_returns_input(torch):
    class Same(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x

        @staticmethod
        def backward(ctx, g):
            return -g

    x = leaf(torch)
    y = Same.apply(x)
    y.sum().backward()
    return x.grad, y is x


@case
def function_direct_call(torch):
    cube = _cube(torch)
    return raises(
        lambda: cube()(torch.ones(1)), "Legacy autograd function with non-static forward method is deprecated"
    )


@case
def function_attributes_of_ctx(torch):
    class Keep(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, shape=None):
            ctx.numbers = {"k": 3}
            ctx.shape = x.shape
            return x.sum()

        @staticmethod
        def backward(ctx, g):
            return g.expand(ctx.shape) * ctx.numbers["k"], None

    x = leaf(torch)
    y = Keep.apply(x)
    kept = y.grad_fn.numbers
    y.backward()
    return x.grad, kept


@case
def straight_through(torch):
    x = leaf(torch, 0.2, 0.7, 1.6)
    y = x + (x.round() - x).detach()
    (y * y).sum().backward()
    return y, x.grad


# ---- memory and looking inside ---------------------------------------------------------------------------------------


@case
def checkpoint(torch):
    from_utils = torch.utils.checkpoint.checkpoint
    calls = []

    def block(t):
        calls.append(torch.is_grad_enabled())
        return (t.sin() * t).exp()

    x = leaf(torch)
    y = from_utils(block, x, use_reentrant=False)
    y.sum().backward()
    return y, x.grad, len(calls)


@case
def checkpoint_reentrant(torch):
    x = leaf(torch)
    y = torch.utils.checkpoint.checkpoint(lambda t: t.sin() * t, x, use_reentrant=True)
    y.sum().backward()
    return y, x.grad


@case
def checkpoint_keeps_random_state(torch):
    x = torch.ones(20, requires_grad=True)
    torch.manual_seed(3)
    y = torch.utils.checkpoint.checkpoint(lambda t: torch.nn.functional.dropout(t * 2, 0.5), x, use_reentrant=False)
    y.sum().backward()
    return y, x.grad


@case
def saved_tensors_hooks(torch):
    packed = []

    def pack(t):
        packed.append(tuple(t.shape))
        return t * 1

    x = leaf(torch)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t * 2):
        y = x * x
    y.sum().backward()
    return packed, x.grad


@case
def save_on_cpu(torch):
    x = leaf(torch)
    with torch.autograd.graph.save_on_cpu():
        y = x.exp() * x
    y.sum().backward()
    return x.grad


@case
def anomaly_mode(torch):
    x = torch.tensor([-1.0], requires_grad=True)

    def run():
        with torch.autograd.detect_anomaly():
            torch.sqrt(x).sum().backward()

    return raises(run, "returned nan values in its 0th output"), torch.is_anomaly_enabled()


@case
def anomaly_names_function(torch):
    x = torch.tensor([-1.0], requires_grad=True)

    def run():
        with torch.autograd.set_detect_anomaly(True):
            (torch.sqrt(x) * 2).sum().backward()

    return raises(run, "Function 'SqrtBackward0' returned nan values")


@case
def gradcheck(torch):
    x = torch.tensor([0.5, 1.5], dtype=torch.float64, requires_grad=True)
    return torch.autograd.gradcheck(lambda t: t.sin() * t, (x,)), torch.autograd.gradgradcheck(lambda t: t**3, (x,))


@case
def deepcopy_rules(torch):
    import copy

    x = leaf(torch)
    y = copy.deepcopy(x)
    return y, y.requires_grad, raises(lambda: copy.deepcopy(x * 2), "Only Tensors created explicitly by the user")


@case
def numpy_and_item_rules(torch):
    x = leaf(torch)
    return (
        raises(x.numpy, "Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead."),
        x.sum().item(),
        x.tolist(),
    )


@case
def out_with_requires_grad(torch):
    x = leaf(torch)
    return raises(
        lambda: torch.add(x, 1, out=torch.empty(3)),
        "functions with out=... arguments don't support automatic differentiation",
    )


test_autograd_function = case.test()
