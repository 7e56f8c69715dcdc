"""Autograd as torch's: accumulation, graphs, hooks, modes, in-place writes, custom functions, errors."""

from __future__ import annotations

import gc
import weakref

from compat.battery import Battery, layout
from compat.judge import raises

case = Battery()


def _leaf(torch, *values):
    return torch.tensor(values or (1.0, 2.0, 3.0), requires_grad=True)


def _names(fn, depth=4):
    """grad_fn's names down the first edges."""
    seen = []
    while fn is not None and depth:
        seen.append(fn.name())
        fn = fn.next_functions[0][0] if fn.next_functions else None
        depth -= 1
    return seen


# ---- backward --------------------------------------------------------------------------------------------------------


@case
def tutorial_q(torch):
    a, b = _leaf(torch, 2.0, 3.0), _leaf(torch, 6.0, 4.0)
    q = 3 * a**3 - b**2
    q.backward(gradient=torch.tensor([1.0, 1.0]))
    return a.grad, b.grad


@case
def accumulates(torch):
    x = _leaf(torch)
    (x * 2).sum().backward()
    first = x.grad.clone()
    (x * x).sum().backward()
    return first, x.grad


@case
def accumulates_in_place(torch):
    x = _leaf(torch)
    x.sum().backward()
    g = x.grad
    x.sum().backward()
    return g, g is x.grad


@case
def grad_set_to_none(torch):
    x = _leaf(torch)
    x.sum().backward()
    x.grad = None
    (3 * x).sum().backward()
    before = x.grad.clone()
    x.grad.zero_()
    return before, x.grad


@case
def grad_assigned_errors(torch):
    x = _leaf(torch)
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
    x = _leaf(torch)
    y = x * 2
    (y.sin() + y.cos() * y + x).sum().backward()
    return x.grad


@case
def same_tensor_many_times(torch):
    x = _leaf(torch)
    (x * x * x + x / x).sum().backward()
    return x.grad


@case
def nonscalar_needs_gradient(torch):
    x = _leaf(torch)
    return raises(lambda: (x * 2).backward(), "grad can be implicitly created only for scalar outputs")


@case
def gradient_shape_mismatch(torch):
    x = _leaf(torch)
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
    x = _leaf(torch)
    y = (x * x).sum()
    y.backward()
    return raises(y.backward, "Trying to backward through the graph a second time"), x.grad


@case
def freed_graph_by_another_head(torch):
    x = _leaf(torch)
    h = x.exp()
    (h * 2).sum().backward()
    return raises(lambda: (h * 3).sum().backward(), "Trying to backward through the graph a second time")


@case
def freed_graph_without_saved(torch):
    x = _leaf(torch)
    y = (x + 1).sum()
    y.backward()
    y.backward()
    return x.grad


@case
def retain_graph(torch):
    x = _leaf(torch)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    return x.grad


@case
def backward_inputs(torch):
    x, w = _leaf(torch), _leaf(torch, 4.0, 5.0, 6.0)
    (x * w).sum().backward(inputs=[x])
    return x.grad, w.grad


@case
def backward_inputs_nonleaf(torch):
    x = _leaf(torch)
    y = x * 2
    (y * y).sum().backward(inputs=[y])
    return x.grad, y.grad


@case
def autograd_backward_many(torch):
    x = _leaf(torch)
    torch.autograd.backward([(x * 2).sum(), x * 3], [None, torch.tensor([1.0, 0.0, 2.0])])
    return x.grad


@case
def unused_leaf_keeps_none(torch):
    x, y = _leaf(torch), _leaf(torch)
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
    x = _leaf(torch)
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
    x = _leaf(torch)
    g = torch.autograd.grad((x**2).sum(), x)
    return g, x.grad, g[0].requires_grad


@case
def grad_unused(torch):
    x, y = _leaf(torch), _leaf(torch)
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
    x = _leaf(torch)
    y = x * 2
    return torch.autograd.grad((y**2).sum(), [y, x])


@case
def grad_needs_requires_grad(torch):
    x = torch.ones(2)
    y = _leaf(torch, 1.0, 2.0)
    return raises(
        lambda: torch.autograd.grad((x * y).sum(), x), "One of the differentiated Tensors does not require grad"
    )


@case
def grad_outputs(torch):
    x = _leaf(torch)
    y = x**2
    return torch.autograd.grad(y, x, grad_outputs=torch.tensor([1.0, 0.0, -1.0])), torch.autograd.grad(
        [x.exp(), x.sum()], x, [torch.ones(3), None]
    )


@case
def grad_batched(torch):
    x = _leaf(torch)
    y = x**2
    return torch.autograd.grad(y, x, torch.eye(3), is_grads_batched=True)


@case
def double_backward(torch):
    x = _leaf(torch)
    (g,) = torch.autograd.grad((x**3).sum(), x, create_graph=True)
    (h,) = torch.autograd.grad(g.sum(), x, create_graph=True)
    (k,) = torch.autograd.grad(h.sum(), x)
    return g, h, k, g.requires_grad


@case
def double_backward_into_grad(torch):
    x = _leaf(torch)
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
    x = _leaf(torch)
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


# ---- hooks -----------------------------------------------------------------------------------------------------------


@case
def tensor_hook_changes(torch):
    x = _leaf(torch)
    h = x.register_hook(lambda g: g * 10)
    (x * 2).sum().backward()
    first = x.grad.clone()
    h.remove()
    (x * 2).sum().backward()
    return first, x.grad


@case
def tensor_hook_on_middle(torch):
    x = _leaf(torch)
    y = x * 3
    seen = []
    y.register_hook(lambda g: seen.append(g.clone()))
    y.register_hook(lambda g: g + 1)
    (y * y).sum().backward()
    return seen, x.grad


@case
def tensor_hook_runs_once_after_accumulation(torch):
    x = _leaf(torch)
    y = x * 1
    seen = []
    y.register_hook(lambda g: seen.append(g.clone()))
    (y * 2 + y * 3 + y).sum().backward()
    return seen


@case
def hooks_in_order(torch):
    x = _leaf(torch)
    order = []
    x.register_hook(lambda g: order.append("first"))
    x.register_hook(lambda g: order.append("second"))
    x.register_post_accumulate_grad_hook(lambda p: order.append("after"))
    x.sum().backward()
    return order


@case
def post_accumulate_hook(torch):
    x = _leaf(torch)

    def step(p):
        with torch.no_grad():
            p -= 0.1 * p.grad
        p.grad = None

    h = x.register_post_accumulate_grad_hook(step)
    (x * x).sum().backward()
    seen = x.detach().clone(), x.grad
    h.remove()
    (x * 2).sum().backward()
    return seen, x.grad


@case
def hook_errors(torch):
    x = _leaf(torch)
    return (
        raises(
            lambda: torch.ones(2).register_hook(print),
            "cannot register a hook on a tensor that doesn't require gradient",
        ),
        raises(
            lambda: (x * 2).register_post_accumulate_grad_hook(print),
            "post accumulate grad hooks cannot be registered on non-leaf tensors",
        ),
    )


@case
def hook_that_raises(torch):
    x = _leaf(torch)

    def bad(g):
        raise ValueError("from the hook")

    x.register_hook(bad)
    return raises(x.sum().backward, "from the hook")


@case
def node_hook(torch):
    x = _leaf(torch)
    y = x * 2
    seen = []
    y.grad_fn.register_hook(lambda gi, go: seen.append((len(gi), go[0].clone())))
    y.sum().backward()
    return seen


@case
def node_prehook(torch):
    x = _leaf(torch)
    y = x * 2
    y.grad_fn.register_prehook(lambda go: (go[0] * 5,))
    y.sum().backward()
    return x.grad


@case
def multi_grad_hook(torch):
    x, y = _leaf(torch), _leaf(torch)
    seen = []
    torch.autograd.graph.register_multi_grad_hook((x, y), lambda grads: seen.append([g.clone() for g in grads]))
    (x * 2 + y * 3).sum().backward()
    return seen


@case
def retain_grad(torch):
    x = _leaf(torch)
    y = x * 2
    y.retain_grad()
    (y**2).sum().backward()
    return y.grad, x.grad, y.retains_grad, x.retains_grad


@case
def retain_grad_errors(torch):
    return raises(torch.ones(2).retain_grad, "can't retain_grad on Tensor that has requires_grad=False")


@case
def retain_grad_sees_hook(torch):
    x = _leaf(torch)
    y = x * 2
    y.register_hook(lambda g: g * 3)
    y.retain_grad()
    y.sum().backward()
    return y.grad, x.grad


# ---- the graph to look at --------------------------------------------------------------------------------------------


@case
def grad_fn_names(torch):
    x = torch.ones(2, 3, requires_grad=True)
    results = [
        x + 1, x - x, x * 2, x / 3, x**2, x**x, -x, x.exp(), x.log(), x.sin(), x.tanh(), x.sigmoid(), x.relu(),
        x.sqrt(), x.abs(), x.sum(), x.sum(1), x.mean(), x.mean(0), x.prod(), x.max(), x.max(1)[0], x.min(1)[0],
        x.amax(1), x @ x.t(), x.mv(torch.ones(3)), x.t(), x.view(6), x.reshape(3, 2), x.permute(1, 0),
        x.transpose(0, 1), x[0], x[:, 1:], x[:, [0, 1]], x.unsqueeze(0), x[None, 0].squeeze(0), x.expand(2, 2, 3),
        torch.cat([x, x]), torch.stack([x, x]), x.clone(), x.std(), x.var(), x.norm(), x.cumsum(0), x.softmax(1),
        x.log_softmax(1), torch.where(x > 0, x, -x), x.clamp(0, 1), x.masked_fill(x > 0, 0.0),
        x.gather(0, torch.zeros(1, 3, dtype=torch.int64)), x.double(), x.flatten(), x.split(1)[0], x.unbind()[0],
        x.index_select(0, torch.tensor([0])), x.logsumexp(0), x.rsqrt(), x.reciprocal(), x.sort()[0], x.topk(1)[0],
        x.tril(), torch.nn.functional.gelu(x), torch.nn.functional.leaky_relu(x),
        torch.nn.functional.mse_loss(x, x.detach()), x.repeat(2, 1), x.diagonal(), x.contiguous(), x.float(),
        torch.addmm(x @ x.t(), x, x.t()), x.detach().requires_grad_() * 1,
    ]  # fmt: skip
    return [None if r.grad_fn is None else r.grad_fn.name() for r in results]


@case
def more_grad_fn_names(torch):
    x = torch.ones(1, 2, 4, 4, requires_grad=True)
    w = torch.ones(3, 2, 3, 3, requires_grad=True)
    f = torch.nn.functional
    results = [
        f.conv2d(x, w), f.max_pool2d(x, 2), f.avg_pool2d(x, 2), f.linear(x, torch.ones(5, 4), torch.ones(5)),
        f.layer_norm(x, (4,)), f.batch_norm(x, None, None, training=True), f.softplus(x), f.elu(x), f.silu(x),
        f.pad(x, (1, 1)), f.cross_entropy(x[0, :, 0], torch.tensor([0, 1])),
        f.nll_loss(x[0, :, 0], torch.tensor([0, 1])), f.binary_cross_entropy_with_logits(x, torch.zeros_like(x)),
        f.smooth_l1_loss(x, torch.zeros_like(x)), f.embedding(torch.tensor([0]), x[0, 0]), f.dropout(x, 0.5),
        f.adaptive_avg_pool2d(x, 2), f.hardtanh(x), f.l1_loss(x, x.detach()),
    ]  # fmt: skip
    return [r.grad_fn.name() for r in results]


@case
def next_functions(torch):
    x, y = _leaf(torch), torch.ones(3)
    z = (x * y + x).sum()
    add = z.grad_fn.next_functions[0][0]
    return (
        _names(z.grad_fn), len(add.next_functions), [f[0].name() for f in add.next_functions],
        [f[1] for f in add.next_functions], [f[0] is None for f in add.next_functions[0][0].next_functions],
        add.next_functions[1][0].variable is x,
    )  # fmt: skip


@case
def output_numbers(torch):
    x = _leaf(torch)
    v, i = x.sort()
    a, b, c = x.unbind()
    return (
        a.output_nr,
        b.output_nr,
        c.output_nr,
        (b * c).grad_fn.next_functions[0][1],
        (b * c).grad_fn.next_functions[1][1],
        i.requires_grad,
        v.output_nr,
    )


@case
def leaf_facts(torch):
    x = _leaf(torch)
    y = x * 2
    z = torch.ones(2)
    return (
        x.is_leaf,
        y.is_leaf,
        z.is_leaf,
        x.grad_fn,
        z.grad_fn,
        y.requires_grad,
        (z * 2).is_leaf,
        y.detach().is_leaf,
        y.grad_fn is y.grad_fn,
    )


@case
def node_type_names(torch):
    x = _leaf(torch)
    y = (x * 2).sum()
    return (
        type(y.grad_fn).__name__,
        str(y.grad_fn).startswith("<SumBackward0 object at 0x"),
        repr(x * 2).split("grad_fn=")[1],
        type(y.grad_fn.next_functions[0][0]).__name__,
    )


@case
def saved_attributes(torch):
    x = _leaf(torch)
    y = x.exp()
    return y.grad_fn._saved_result


@case
def requires_grad_propagates(torch):
    x, y = torch.ones(2, requires_grad=True), torch.ones(2)
    return (
        (x + y).requires_grad,
        (y + y).requires_grad,
        (x > 0).requires_grad,
        x.argmax().requires_grad,
        x.long().requires_grad,
        x.detach().requires_grad,
        x.round().requires_grad,
    )


@case
def requires_grad_of_nonleaf(torch):
    x = _leaf(torch)
    y = x * 2

    def off():
        y.requires_grad = False

    return raises(off, "you can only change requires_grad flags of leaf variables")


@case
def requires_grad_false_stops(torch):
    x, w = _leaf(torch), _leaf(torch)
    w.requires_grad_(False)
    (x * w).sum().backward()
    return x.grad, w.grad


@case
def detach_stops(torch):
    x = _leaf(torch)
    (x * x.detach()).sum().backward()
    return x.grad


@case
def detach_in_place(torch):
    x = _leaf(torch)
    y = x * 2
    y.detach_()
    return y.requires_grad, y.grad_fn, y.is_leaf


@case
def graph_dies_with_its_tensors(torch):
    x = _leaf(torch)
    y = x * 2
    r = weakref.ref(y)
    z = y.sum()
    del y
    gc.collect()
    z.backward()
    return r() is None, x.grad


# ---- modes -----------------------------------------------------------------------------------------------------------


@case
def no_grad_context(torch):
    x = _leaf(torch)
    with torch.no_grad():
        y = x * 2
        inside = torch.is_grad_enabled()
        x.add_(1)
        with torch.enable_grad():
            z = x * 3
    return y.requires_grad, inside, torch.is_grad_enabled(), z.requires_grad, x, x.is_leaf


@case
def no_grad_decorator(torch):
    x = _leaf(torch)

    @torch.no_grad()
    def f(t):
        """Words."""
        return t * 2

    @torch.no_grad
    def g(t):
        return t * 2

    return f(x).requires_grad, g(x).requires_grad, f.__name__, f.__doc__, torch.is_grad_enabled()


@case
def no_grad_generator(torch):
    x = _leaf(torch)

    @torch.no_grad()
    def f():
        yield (x * 2).requires_grad
        yield torch.is_grad_enabled()

    seen = []
    for inside in f():
        seen += [inside, torch.is_grad_enabled()]
    return seen


@case
def no_grad_restores_after_error(torch):
    try:
        with torch.no_grad():
            raise KeyError
    except KeyError:
        pass
    return torch.is_grad_enabled()


@case
def set_grad_enabled(torch):
    x = _leaf(torch)
    with torch.set_grad_enabled(False):
        a = (x * 2).requires_grad
    torch.set_grad_enabled(False)
    b = (x * 2).requires_grad
    torch.set_grad_enabled(True)
    return a, b, (x * 2).requires_grad


@case
def no_grad_leaf_made_inside(torch):
    with torch.no_grad():
        w = torch.ones(2, requires_grad=True)
    (w * 2).sum().backward()
    return w.grad


@case
def no_grad_requires_grad_set_on_result(torch):
    x = _leaf(torch)
    with torch.no_grad():
        y = x * 2
    y.requires_grad_()
    (y * 3).sum().backward()
    return y.grad, x.grad


@case
def inference_mode(torch):
    x = _leaf(torch)
    with torch.inference_mode():
        y = x * 2
        inside = torch.is_inference_mode_enabled(), torch.is_grad_enabled()
    return inside, y.requires_grad, y.is_inference(), torch.is_inference_mode_enabled(), y


@case
def inference_tensor_errors(torch):
    x = _leaf(torch)
    with torch.inference_mode():
        y = torch.ones(3)
    return (
        raises(lambda: y.add_(1), "Inplace update to inference tensor outside InferenceMode is not allowed"),
        raises(lambda: (x * y).sum().backward(), "Inference tensors cannot be saved for backward"),
        raises(
            lambda: y.requires_grad_(),
            "Setting requires_grad=True on inference tensor outside InferenceMode is not allowed",
        ),
    )


@case
def inference_decorator(torch):
    @torch.inference_mode()
    def f(t):
        return t * 2

    y = f(_leaf(torch))
    return y.is_inference(), (y.clone() + 1).is_inference(), y + 1


# ---- in place --------------------------------------------------------------------------------------------------------


@case
def leaf_in_place_error(torch):
    x = _leaf(torch)
    message = "a leaf Variable that requires grad is being used in an in-place operation"
    return (
        raises(lambda: x.add_(1), message),
        raises(lambda: x.zero_(), message),
        raises(lambda: x.__setitem__(0, 1.0), "leaf Variable that requires grad"),
        raises(lambda: x[:2].mul_(2), "a view of a leaf Variable that requires grad is being used in an in-place"),
        x,
    )  # fmt: skip


@case
def modified_saved_input(torch):
    x = _leaf(torch)
    y = x * 1
    z = (y * y).sum()
    y.add_(1)
    return raises(
        z.backward, "one of the variables needed for gradient computation has been modified by an inplace operation"
    )


@case
def modified_saved_output(torch):
    x = _leaf(torch)
    y = x.exp()
    y.mul_(2)
    return raises(y.sum().backward, "modified by an inplace operation")


@case
def modified_version_in_message(torch):
    x = _leaf(torch)
    y = x.exp()
    y.mul_(2)
    return raises(y.sum().backward, "is at version 1; expected version 0 instead")


@case
def modified_plain_operand(torch):
    x, w = _leaf(torch), torch.ones(3)
    y = (x * w).sum()
    w.add_(1)
    return raises(y.backward, "modified by an inplace operation")


@case
def modified_by_view_write(torch):
    x, w = _leaf(torch), torch.ones(3)
    y = (x * w).sum()
    w[1:].zero_()
    return raises(y.backward, "modified by an inplace operation")


@case
def modified_but_not_needed(torch):
    x = _leaf(torch)
    y = x * 2
    z = y + 1
    y.mul_(5)
    z.sum().backward()
    return x.grad


@case
def data_write_goes_unseen(torch):
    x = _leaf(torch)
    y = x * 1
    z = (y * y).sum()
    y.data.zero_()
    z.backward()
    return x.grad


@case
def in_place_chain(torch):
    x = _leaf(torch)
    y = x * 2
    y.add_(3).mul_(4)
    y += x
    y.sum().backward()
    return x.grad, y.grad_fn.name(), y._version


@case
def in_place_on_view_of_middle(torch):
    x = _leaf(torch)
    y = x * 2
    y[1:].mul_(10)
    (y * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    return x.grad, y


@case
def in_place_on_base_seen_by_view(torch):
    x = _leaf(torch)
    y = x * 2
    v = y[:2]
    y.mul_(3)
    v.sum().backward()
    return x.grad, v.grad_fn.name()


@case
def in_place_view_grad_fn_names(torch):
    x = torch.ones(2, 2, requires_grad=True)
    y = x * 2
    v = y[0]
    before = v.grad_fn.name(), y.grad_fn.name()
    v.mul_(3)
    return before, v.grad_fn.name(), y.grad_fn.name(), y.requires_grad


@case
def in_place_makes_plain_base_require_grad(torch):
    x = _leaf(torch)
    y = torch.zeros(2, 3)
    y[1] = x * 2
    y[0].add_(x)
    (y * y).sum().backward()
    return x.grad, y.requires_grad, y.grad_fn.name()


@case
def setitem_gradients(torch):
    x, w = _leaf(torch), _leaf(torch, 7.0)
    y = x.clone()
    y[1] = w[0] * 3
    y[torch.tensor([True, False, False])] = 0.0
    (y * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    return x.grad, w.grad


@case
def setitem_views_and_reads(torch):
    x = torch.arange(6.0).view(2, 3).requires_grad_()
    y = x.clone()
    y.t()[1] = x[0, 1] * 2
    y[:, 2:] *= y[:, :1].clone()
    (y**2).sum().backward()
    return x.grad


@case
def copy_gradients(torch):
    x, y = _leaf(torch), _leaf(torch, 5.0, 6.0, 7.0)
    z = x * 2
    z.copy_(y)
    z.sum().backward()
    return x.grad, y.grad


@case
def copy_into_slice_broadcasts(torch):
    s = torch.tensor(2.0, requires_grad=True)
    b = torch.zeros(3, 2)
    b[1:].copy_(s)
    (b * torch.arange(6.0).view(3, 2)).sum().backward()
    return s.grad


@case
def fill_and_zero_stop_gradients(torch):
    x = _leaf(torch)
    y = x * 2
    y[0].zero_()
    y[1:2].fill_(5)
    y.sum().backward()
    return x.grad


@case
def masked_fill_in_place(torch):
    x = _leaf(torch)
    y = x * x
    y.masked_fill_(x > 2, -1.0)
    y.sum().backward()
    return x.grad


@case
def relu_in_place(torch):
    x = _leaf(torch, -1.0, 0.0, 2.0)
    y = x * 3
    torch.nn.functional.relu(y, inplace=True)
    y.sum().backward()
    return x.grad, y


@case
def clamp_in_place_on_diagonal(torch):
    x = torch.arange(9.0).view(3, 3).requires_grad_()
    y = x * 1
    y.diagonal().clamp_(max=5)
    y.pow(2).sum().backward()
    return x.grad


@case
def in_place_under_no_grad_keeps_leaf(torch):
    x = _leaf(torch)
    (x * x).sum().backward()
    with torch.no_grad():
        x -= 0.5 * x.grad
    x.grad = None
    (x * x).sum().backward()
    return x, x.grad, x.is_leaf


@case
def multi_view_in_place_error(torch):
    x = _leaf(torch)
    a, _, _ = (x * 2).unbind()
    return raises(lambda: a.add_(1), "is a view and is being modified inplace")


@case
def no_grad_view_in_place_error(torch):
    x = _leaf(torch)
    y = x * 2
    with torch.no_grad():
        v = y[:2]
    return raises(
        lambda: v.mul_(2), "A view was created in no_grad mode and is being modified inplace with grad mode enabled"
    )


@case
def chunk_view_in_place_error(torch):
    x = _leaf(torch)
    a = (x * 2).chunk(3)[0]
    return raises(lambda: a.mul_(2), "is a view and is being modified inplace")


@case
def gradient_through_views(torch):
    x = torch.arange(12.0).view(3, 4).requires_grad_()
    y = x.t()[1:3].reshape(2, 3, 1).expand(2, 3, 2).permute(2, 0, 1).diagonal(0, 1, 2)
    (y * torch.arange(4.0).view(2, 2)).sum().backward()
    z = x.unfold(1, 2, 1) * x.as_strided((3, 3, 2), (4, 1, 1)).detach()
    z.sum().backward()
    return x.grad


@case
def as_strided_overlap_gradient(torch):
    x = _leaf(torch, 1.0, 2.0, 3.0, 4.0)
    w = x.as_strided((3, 2), (1, 1))
    (w * torch.arange(6.0).view(3, 2)).sum().backward()
    return x.grad


@case
def grad_layout(torch):
    x = torch.arange(6.0).view(2, 3).t().detach().requires_grad_()
    (x * 2).sum().backward()
    return layout(x.grad), x.grad


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
    x = _leaf(torch)
    y = _cube(torch).apply(x)
    y.sum().backward()
    return y, x.grad, y.grad_fn.name(), type(y.grad_fn).__name__


@case
def function_double(torch):
    x = _leaf(torch)
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

    x = _leaf(torch)
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

    x = _leaf(torch)
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

    x = _leaf(torch)
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

    x = _leaf(torch)
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

    x = _leaf(torch, 3.0, 1.0, 2.0)
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

    x = _leaf(torch)
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

    x = _leaf(torch)
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

    x = _leaf(torch)
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

    x = _leaf(torch)
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

    x = _leaf(torch)
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

    x = _leaf(torch)
    Look.apply(x).sum().backward()
    return seen


@case
def function_under_no_grad(torch):
    x = _leaf(torch)
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

    x = _leaf(torch)
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

    x = _leaf(torch)
    y = Keep.apply(x)
    kept = y.grad_fn.numbers
    y.backward()
    return x.grad, kept


@case
def straight_through(torch):
    x = _leaf(torch, 0.2, 0.7, 1.6)
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

    x = _leaf(torch)
    y = from_utils(block, x, use_reentrant=False)
    y.sum().backward()
    return y, x.grad, len(calls)


@case
def checkpoint_reentrant(torch):
    x = _leaf(torch)
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

    x = _leaf(torch)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t * 2):
        y = x * x
    y.sum().backward()
    return packed, x.grad


@case
def save_on_cpu(torch):
    x = _leaf(torch)
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

    x = _leaf(torch)
    y = copy.deepcopy(x)
    return y, y.requires_grad, raises(lambda: copy.deepcopy(x * 2), "Only Tensors created explicitly by the user")


@case
def numpy_and_item_rules(torch):
    x = _leaf(torch)
    return (
        raises(x.numpy, "Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead."),
        x.sum().item(),
        x.tolist(),
    )


@case
def out_with_requires_grad(torch):
    x = _leaf(torch)
    return raises(
        lambda: torch.add(x, 1, out=torch.empty(3)),
        "functions with out=... arguments don't support automatic differentiation",
    )


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
