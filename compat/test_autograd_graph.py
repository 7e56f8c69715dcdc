"""Autograd as torch's: hooks, what a graph shows of itself, modes."""

from __future__ import annotations

import gc
import weakref

from compat.battery import Battery
from compat.graphs import leaf, names
from compat.judge import raises

case = Battery()


# ---- hooks -----------------------------------------------------------------------------------------------------------


@case
def tensor_hook_changes(torch):
    x = leaf(torch)
    h = x.register_hook(lambda g: g * 10)
    (x * 2).sum().backward()
    first = x.grad.clone()
    h.remove()
    (x * 2).sum().backward()
    return first, x.grad


@case
def tensor_hook_on_middle(torch):
    x = leaf(torch)
    y = x * 3
    seen = []
    y.register_hook(lambda g: seen.append(g.clone()))
    y.register_hook(lambda g: g + 1)
    (y * y).sum().backward()
    return seen, x.grad


@case
def tensor_hook_runs_once_after_accumulation(torch):
    x = leaf(torch)
    y = x * 1
    seen = []
    y.register_hook(lambda g: seen.append(g.clone()))
    (y * 2 + y * 3 + y).sum().backward()
    return seen


@case
def hooks_in_order(torch):
    x = leaf(torch)
    order = []
    x.register_hook(lambda g: order.append("first"))
    x.register_hook(lambda g: order.append("second"))
    x.register_post_accumulate_grad_hook(lambda p: order.append("after"))
    x.sum().backward()
    return order


@case
def post_accumulate_hook(torch):
    x = leaf(torch)

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
    x = leaf(torch)
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
    x = leaf(torch)

    def bad(g):
        raise ValueError("from the hook")

    x.register_hook(bad)
    return raises(x.sum().backward, "from the hook")


@case
def node_hook(torch):
    x = leaf(torch)
    y = x * 2
    seen = []
    y.grad_fn.register_hook(lambda gi, go: seen.append((len(gi), go[0].clone())))
    y.sum().backward()
    return seen


@case
def node_prehook(torch):
    x = leaf(torch)
    y = x * 2
    y.grad_fn.register_prehook(lambda go: (go[0] * 5,))
    y.sum().backward()
    return x.grad


@case
def multi_grad_hook(torch):
    x, y = leaf(torch), leaf(torch)
    seen = []
    torch.autograd.graph.register_multi_grad_hook((x, y), lambda grads: seen.append([g.clone() for g in grads]))
    (x * 2 + y * 3).sum().backward()
    return seen


@case
def retain_grad(torch):
    x = leaf(torch)
    y = x * 2
    y.retain_grad()
    (y**2).sum().backward()
    return y.grad, x.grad, y.retains_grad, x.retains_grad


@case
def retain_grad_errors(torch):
    return raises(torch.ones(2).retain_grad, "can't retain_grad on Tensor that has requires_grad=False")


@case
def retain_grad_sees_hook(torch):
    x = leaf(torch)
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
    x, y = leaf(torch), torch.ones(3)
    z = (x * y + x).sum()
    add = z.grad_fn.next_functions[0][0]
    return (
        names(z.grad_fn), len(add.next_functions), [f[0].name() for f in add.next_functions],
        [f[1] for f in add.next_functions], [f[0] is None for f in add.next_functions[0][0].next_functions],
        add.next_functions[1][0].variable is x,
    )  # fmt: skip


@case
def output_numbers(torch):
    x = leaf(torch)
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
    x = leaf(torch)
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
    x = leaf(torch)
    y = (x * 2).sum()
    return (
        type(y.grad_fn).__name__,
        str(y.grad_fn).startswith("<SumBackward0 object at 0x"),
        repr(x * 2).split("grad_fn=")[1],
        type(y.grad_fn.next_functions[0][0]).__name__,
    )


@case
def saved_attributes(torch):
    x = leaf(torch)
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
    x = leaf(torch)
    y = x * 2

    def off():
        y.requires_grad = False

    return raises(off, "you can only change requires_grad flags of leaf variables")


@case
def requires_grad_false_stops(torch):
    x, w = leaf(torch), leaf(torch)
    w.requires_grad_(False)
    (x * w).sum().backward()
    return x.grad, w.grad


@case
def detach_stops(torch):
    x = leaf(torch)
    (x * x.detach()).sum().backward()
    return x.grad


@case
def detach_in_place(torch):
    x = leaf(torch)
    y = x * 2
    y.detach_()
    return y.requires_grad, y.grad_fn, y.is_leaf


@case
def graph_dies_with_its_tensors(torch):
    x = leaf(torch)
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
    x = leaf(torch)
    with torch.no_grad():
        y = x * 2
        inside = torch.is_grad_enabled()
        x.add_(1)
        with torch.enable_grad():
            z = x * 3
    return y.requires_grad, inside, torch.is_grad_enabled(), z.requires_grad, x, x.is_leaf


@case
def no_grad_decorator(torch):
    x = leaf(torch)

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
    x = leaf(torch)

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
    x = leaf(torch)
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
    x = leaf(torch)
    with torch.no_grad():
        y = x * 2
    y.requires_grad_()
    (y * 3).sum().backward()
    return y.grad, x.grad


@case
def inference_mode(torch):
    x = leaf(torch)
    with torch.inference_mode():
        y = x * 2
        inside = torch.is_inference_mode_enabled(), torch.is_grad_enabled()
    return inside, y.requires_grad, y.is_inference(), torch.is_inference_mode_enabled(), y


@case
def inference_tensor_errors(torch):
    x = leaf(torch)
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

    y = f(leaf(torch))
    return y.is_inference(), (y.clone() + 1).is_inference(), y + 1


test_autograd_graph = case.test()
