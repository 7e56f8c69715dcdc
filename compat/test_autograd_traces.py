"""Autograd over many traces: graphs cut by syncs, backwards that are remembered, hooks that come and go."""

from __future__ import annotations

import gc

from compat.battery import Battery, layout
from compat.judge import raises

case = Battery()

MODIFIED = "one of the variables needed for gradient computation has been modified by an inplace operation"
FREED = "Trying to backward through the graph a second time"


def _leaf(torch, *values):
    return torch.tensor(values or (1.0, 2.0, 3.0), requires_grad=True)


def _net(torch):
    """Two small layers and data, the same each time."""
    w = (torch.arange(12.0).reshape(4, 3) / 10 - 0.5).requires_grad_()
    v = (torch.arange(4.0) / 5).requires_grad_()
    x = torch.arange(6.0).reshape(2, 3) / 3
    return w, v, x


def _loss(torch, w, v, x):
    return ((torch.tanh(x @ w.t()) @ v) ** 2).mean()


# ---- graphs that syncs cut ----------------------------------------------------------------------------------------------


@case
def sync_in_the_middle(torch):
    x = _leaf(torch)
    y = x.exp()
    first = y.sum().item()
    z = (y * x).sin()
    second = z.sum().item()
    (z * y).sum().backward()
    return first, second, x.grad


@case
def sync_between_forward_and_backward(torch):
    w, v, x = _net(torch)
    loss = _loss(torch, w, v, x)
    value = loss.item()
    loss.backward()
    return value, w.grad, v.grad


@case
def retain_graph_across_syncs(torch):
    x = _leaf(torch)
    y = (x.exp() * x).sum()
    y.backward(retain_graph=True)
    first = x.grad.tolist()
    y.backward(retain_graph=True)
    second = x.grad.tolist()
    y.backward()
    return first, second, x.grad, raises(y.backward, FREED)


@case
def freed_after_sync(torch):
    x = _leaf(torch)
    h = x.exp()
    (h * 2).sum().backward()
    h.sum().item()
    return raises(lambda: (h * h).sum().backward(), FREED)


@case
def kept_then_freed_in_one_trace(torch):
    """A first run with the graph kept, then one without: the second backward of the latter is the error."""

    def run(keep):
        x = _leaf(torch)
        y = (x * x).sum()
        y.backward(retain_graph=keep)
        return raises(y.backward, FREED) if not keep else (y.backward(), x.grad)[1]

    return run(True), run(False), run(True), run(False)


@case
def freed_trunk_of_two_losses(torch):
    def run(keep):
        x = _leaf(torch)
        trunk = x.exp()
        a, b = (trunk * 2).sum(), (trunk * 3).sum()
        a.backward(retain_graph=keep)
        return raises(b.backward, FREED) if not keep else (b.backward(), x.grad)[1]

    return run(True), run(False), run(True), run(False)


@case
def freed_by_grad(torch):
    x = _leaf(torch)
    trunk = x.exp()
    a, b = (trunk * 2).sum(), (trunk * 3).sum()
    torch.autograd.grad(a, x)
    return raises(b.backward, FREED)


@case
def not_freed_by_grad_that_keeps(torch):
    x = _leaf(torch)
    trunk = x.exp()
    a, b = (trunk * 2).sum(), (trunk * 3).sum()
    g = torch.autograd.grad(a, x, retain_graph=True)
    b.backward()
    return g, x.grad


@case
def freed_though_looked_at(torch):
    def run():
        x = _leaf(torch)
        h = x.exp()
        name = h.grad_fn.name()
        loss = (h * h).sum()
        loss.backward()
        return name, raises(lambda: h.sum().backward(), FREED)

    return run(), run(), run()


@case
def nothing_saved_nothing_freed(torch):
    x = _leaf(torch)
    results = []
    for f in (
        lambda: x + 1,
        lambda: -x,
        lambda: x.clone(),
        lambda: x[1:],
        lambda: torch.cat([x, x]),
        lambda: x.mean(),
        lambda: x.expand(2, 3),
    ):
        x.grad = None
        y = f().sum()
        y.backward()
        y.backward()
        y.item()
        y.backward()
        results.append(x.grad.clone())
    return results


@case
def numbers_are_saved(torch):
    x = _leaf(torch)
    words = []
    for f in (
        lambda: x * 2,
        lambda: x / 2,
        lambda: 2 / x,
        lambda: x**2,
        lambda: x.relu(),
        lambda: x.masked_fill(x > 2, 0.0),
        lambda: x[[0, 1]],
    ):
        y = f().sum()
        y.backward()
        words.append(raises(y.backward, FREED))
    return words


@case
def losses_kept_alive(torch):
    w, v, x = _net(torch)
    history, total = [], 0.0
    for i in range(4):
        loss = _loss(torch, w, v, x * (i + 1))
        loss.backward()
        history.append(loss)
        total = total + loss
        with torch.no_grad():
            w -= 0.1 * w.grad
        w.grad = None
    gc.collect()
    return history, total, raises(lambda: total.backward(), FREED)


@case
def graph_kept_over_a_step(torch):
    w, v, x = _net(torch)
    opt = torch.optim.SGD([w, v], 0.1)
    loss = _loss(torch, w, v, x)
    loss.backward(retain_graph=True)
    opt.step()
    return raises(loss.backward, MODIFIED)


@case
def graph_kept_over_a_step_after_sync(torch):
    w, v, x = _net(torch)
    opt = torch.optim.SGD([w, v], 0.1)
    loss = _loss(torch, w, v, x)
    loss.backward(retain_graph=True)
    loss.item()
    opt.step()
    v.sum().item()
    return raises(loss.backward, MODIFIED)


@case
def loss_before_a_step(torch):
    """A loss that is computed before the step and differentiated after it."""
    w, v, x = _net(torch)
    opt = torch.optim.SGD([w, v], 0.1)
    _loss(torch, w, v, x).backward()
    other = (w * w).sum()
    opt.step()
    return raises(other.backward, MODIFIED)


@case
def step_between_of_what_is_not_saved(torch):
    w, _v, _x = _net(torch)
    opt = torch.optim.SGD([w], 0.1)
    (w * 2).sum().backward()
    other = w.sum()
    opt.step()
    other.backward()
    return w, w.grad


@case
def recurrent_truncated(torch):
    w = _leaf(torch, 0.5, 0.2)
    h = torch.zeros(2)
    seen = []
    for t in range(6):
        h = torch.tanh(h * w + t / 3)
        if t % 2:
            h.sum().backward()
            h = h.detach()
            seen.append(w.grad.clone())
            w.grad = None
    return seen


@case
def double_backward_through_a_passing_view(torch):
    x = _leaf(torch)
    square = x.view(3, 1).mT @ x.view(3, 1)
    square.detach().item()
    (g,) = torch.autograd.grad(square.sin().sum(), x, create_graph=True)
    return g, torch.autograd.grad((g**2).sum(), x)


def _factor(upper):
    """The factor is looked at where it is made: its backward is in another trace, and takes it from there."""

    def factor(torch):
        x = _leaf(torch, *[0.1 * k for k in range(12)])
        rows = x.view(2, 2, 3).double()
        matrices = rows.mT @ rows + 2 * torch.eye(3, dtype=torch.float64)
        ours = torch.linalg.cholesky(matrices, upper=upper)
        loss = (ours * torch.arange(9.0).view(3, 3)).sin().sum()
        (g,) = torch.autograd.grad(loss, x, create_graph=True)
        (gg,) = torch.autograd.grad((g**2).sum(), x)
        with torch.no_grad():
            kept = torch.linalg.cholesky(matrices)
        refused = raises(
            lambda: torch.linalg.cholesky(matrices - 9 * torch.eye(3, dtype=torch.float64)), "is not positive-definite"
        )
        return ours, ours.grad_fn.name(), g, gg, kept, kept.requires_grad, refused

    return factor


case.add("cholesky_across_its_sync", _factor(False))
case.add("cholesky_upper_across_its_sync", _factor(True))


@case
def double_backward_across_sync(torch):
    x = _leaf(torch)
    (g,) = torch.autograd.grad((x**3).sum(), x, create_graph=True)
    g.sum().item()
    penalty = (g**2).sum()
    penalty.item()
    penalty.backward()
    return x.grad


# ---- the same loop again and again ---------------------------------------------------------------------------------------


def _loop(torch, change, n=5, sync=True):
    """n steps on the same data; `change(i, w, v)` comes before each. The grads of every step."""
    w, v, x = _net(torch)
    seen = []
    for i in range(n):
        change(i, w, v)
        w.grad = v.grad = None
        loss = _loss(torch, w, v, x)
        loss.backward()
        seen.append((None if w.grad is None else w.grad.clone(), None if v.grad is None else v.grad.clone()))
        if sync:
            loss.item()
    return seen


@case
def loop_plain(torch):
    return _loop(torch, lambda i, w, v: None), _loop(torch, lambda i, w, v: None, sync=False)


@case
def loop_hook_comes_and_goes(torch):
    handles, calls = [], []

    def change(i, w, v):
        if i == 2:
            handles.append(w.register_hook(lambda g: (calls.append(tuple(g.shape)), g * 2)[1]))
        if i == 4:
            handles.pop().remove()

    first = _loop(torch, change, 7)
    return first, calls, _loop(torch, change, 7, sync=False), calls


@case
def loop_post_accumulate_hook(torch):
    handles, calls = [], []

    def hook(p):
        calls.append(torch.is_grad_enabled())
        p.grad.mul_(3)

    def change(i, w, v):
        if i == 1:
            handles.append(v.register_post_accumulate_grad_hook(hook))
        if i == 3:
            handles.pop().remove()

    return _loop(torch, change), calls


@case
def loop_requires_grad_toggled(torch):
    def change(i, w, v):
        w.requires_grad_(i % 2 == 0)

    return _loop(torch, change, 6), _loop(torch, change, 6, sync=False)


@case
def loop_grad_kept(torch):
    w, v, x = _net(torch)
    seen = []
    for i in range(6):
        if i % 3 == 0:
            w.grad = None
        elif i % 3 == 1:
            w.grad.zero_()
        _loss(torch, w, v, x).backward()
        seen.append((w.grad.clone(), v.grad.clone()))
    return seen


@case
def loop_retain_changes(torch):
    w, v, x = _net(torch)
    seen = []
    for i in range(6):
        w.grad = v.grad = None
        loss = _loss(torch, w, v, x)
        loss.backward(retain_graph=i % 2 == 0)
        if i % 2 == 0:
            loss.backward()
        else:
            seen.append(raises(loss.backward, FREED))
        seen.append((w.grad.clone(), v.grad.clone()))
    return seen


@case
def loop_shapes_change(torch):
    w, v, x = _net(torch)
    seen = []
    for n in (2, 1, 2, 3, 1, 3, 2):
        w.grad = v.grad = None
        loss = _loss(torch, w, v, x[:1].repeat(n, 1) * n)
        loss.backward()
        seen.append((loss.item(), w.grad.clone()))
    return seen


@case
def loop_parts_without_grad(torch):
    w, v, x = _net(torch)
    seen = []
    for i in range(5):
        w.grad = None
        with torch.no_grad():
            h = torch.tanh(x @ w.t())
        scale = (h * 2).detach() if i % 2 else h
        loss = ((x @ w.t()) * scale).sum()
        loss.backward()
        seen.append((w.grad.clone(), v.grad))
    return seen


@case
def loop_detach_in_the_middle(torch):
    w, v, x = _net(torch)
    seen = []
    for i in range(6):
        w.grad = v.grad = None
        h = torch.tanh(x @ w.t())
        if i % 2:
            h = h.detach()
        (h @ v).sum().backward()
        seen.append((None if w.grad is None else w.grad.clone(), v.grad.clone()))
    return seen


@case
def loop_two_losses_share_a_trunk(torch):
    w, v, x = _net(torch)
    seen = []
    for i in range(5):
        w.grad = v.grad = None
        h = torch.tanh(x @ w.t())
        a, b = (h @ v).sum(), (h * h).mean()
        a.backward(retain_graph=True)
        middle = w.grad.clone()
        if i == 3:
            a.item()
        b.backward()
        seen.append((middle, w.grad.clone(), v.grad.clone()))
    return seen


@case
def loop_two_losses_summed_or_not(torch):
    w, v, x = _net(torch)
    seen = []
    for i in range(4):
        w.grad = None
        h = torch.tanh(x @ w.t())
        a, b = (h @ v).sum(), (h * h).mean()
        if i % 2:
            (a + b).backward()
        else:
            torch.autograd.backward([a, b])
        seen.append(w.grad.clone())
    return seen


@case
def loop_with_optimizer(torch):
    w, v, x = _net(torch)
    opt = torch.optim.Adam([w, v], 0.05)
    losses = []
    for i in range(8):
        opt.zero_grad(set_to_none=i % 2 == 0)
        loss = _loss(torch, w, v, x)
        loss.backward()
        opt.step()
        if i % 3 == 0:
            losses.append(loss.item())
    return losses, w, v


@case
def loop_accumulation(torch):
    w, v, x = _net(torch)
    opt = torch.optim.SGD([w, v], 0.1, momentum=0.9)
    for i in range(8):
        (_loss(torch, w, v, x + i) / 4).backward()
        if i % 4 == 3:
            opt.step()
            opt.zero_grad()
    return w, v


@case
def loop_freezes_a_layer(torch):
    w, v, x = _net(torch)
    opt = torch.optim.SGD([w, v], 0.1)
    for i in range(6):
        w.requires_grad_(i >= 3)
        opt.zero_grad()
        _loss(torch, w, v, x).backward()
        opt.step()
    return w, v, w.grad


@case
def loop_gradient_given(torch):
    w, _v, x = _net(torch)
    seen = []
    for i in range(4):
        w.grad = None
        y = torch.tanh(x @ w.t())
        y.backward(torch.full_like(y, float(i)) if i % 2 else y.detach())
        seen.append(w.grad.clone())
    return seen


@case
def loop_with_function(torch):
    class Double(torch.autograd.Function):
        @staticmethod
        def forward(ctx, t):
            ctx.save_for_backward(t)
            return t * 2

        @staticmethod
        def backward(ctx, g):
            (t,) = ctx.saved_tensors
            return g * 2 + 0 * t

    w, _v, x = _net(torch)
    seen = []
    for _ in range(4):
        w.grad = None
        Double.apply(torch.tanh(x @ w.t())).sum().backward()
        seen.append(w.grad.clone())
    return seen


@case
def loop_retain_grad_sometimes(torch):
    w, v, x = _net(torch)
    seen = []
    for i in range(5):
        w.grad = None
        h = torch.tanh(x @ w.t())
        if i % 2:
            h.retain_grad()
        (h @ v).sum().backward()
        seen.append((h.grad.clone() if i % 2 else None, w.grad.clone()))
    return seen


@case
def loop_hook_in_the_middle_sometimes(torch):
    w, v, x = _net(torch)
    seen = []
    for i in range(5):
        w.grad = None
        h = torch.tanh(x @ w.t())
        if i % 2:
            h.register_hook(lambda g: g * 2)
        (h @ v).sum().backward()
        seen.append(w.grad.clone())
    return seen


@case
def loop_gradient_penalty(torch):
    w, _v, x = _net(torch)
    seen = []
    for _ in range(3):
        w.grad = None
        t = x.clone().requires_grad_()
        (g,) = torch.autograd.grad(torch.tanh(t @ w.t()).sum(), t, create_graph=True)
        (g.norm(dim=1) - 1).pow(2).mean().backward()
        seen.append(w.grad.clone())
    return seen


@case
def loop_clipping(torch):
    w, v, x = _net(torch)
    seen = []
    for _ in range(4):
        w.grad = v.grad = None
        _loss(torch, w, v, x).backward()
        seen.append(torch.nn.utils.clip_grad_norm_([w, v], 0.1))
    return seen, w.grad, v.grad


@case
def many_uses_of_one_leaf(torch):
    x = _leaf(torch)
    y = x
    for i in range(40):
        y = y * x if i % 7 == 0 else y + x
    y.sum().backward()
    return x.grad


@case
def long_chain(torch):
    x = _leaf(torch)
    y = x
    for _ in range(1200):
        y = y * 0.999 + 0.001
    y.sum().backward()
    return x.grad


# ---- hooks ---------------------------------------------------------------------------------------------------------------


@case
def leaves_come_first(torch):
    order = []
    a, b, c = _leaf(torch), _leaf(torch), _leaf(torch)
    for name, t in (("a", a), ("b", b), ("c", c)):
        t.register_hook(lambda g, name=name: order.append(name))
    y = a * b
    y.register_hook(lambda g: order.append("y"))
    z = y + c
    z.register_hook(lambda g: order.append("z"))
    (z * a).sum().backward()
    return order


@case
def hooks_and_inputs(torch):
    x = _leaf(torch)
    y = x * 2
    y.register_hook(lambda g: g * 10)
    x.register_hook(lambda g: g * 100)
    z = (y * y).sum()
    both = torch.autograd.grad(z, [y, x], retain_graph=True)
    one = torch.autograd.grad(z, [y], retain_graph=True)
    other = torch.autograd.grad(z, [x], retain_graph=True)
    y.retain_grad()
    z.backward(inputs=[y, x])
    return both, one, other, y.grad, x.grad


@case
def inputs_skip_other_leaves(torch):
    x, w, u = _leaf(torch), _leaf(torch), _leaf(torch)
    y = x * w
    seen = []
    u.register_hook(seen.append)
    (y * u).sum().backward(inputs=[x, y])
    return x.grad, w.grad, u.grad, y.grad, y.retains_grad, len(seen)


@case
def hook_in_place(torch):
    x = _leaf(torch)
    y = x * 2

    def scale(g):
        g.mul_(5)

    y.register_hook(scale)
    (y * y).sum().backward()
    return x.grad


@case
def hook_errors_in_backward(torch):
    def run(result):
        x = _leaf(torch)
        x.register_hook(lambda g: result)
        return x.sum().backward

    return (
        raises(run(3), "expected Variable, but hook returned 'int'"),
        raises(run(torch.ones(5)), "has changed the size of value"),
        raises(
            run(torch.ones(3, dtype=torch.float64)),
            "has changed the type of value (was torch.FloatTensor got torch.DoubleTensor)",
        ),
    )


@case
def node_hook_errors(torch):
    x = _leaf(torch)
    y, z = x * 2, x * 2
    y.grad_fn.register_prehook(lambda go: (go[0], go[0]))
    z.grad_fn.register_hook(lambda gi, go: (gi[0],))
    return (
        raises(y.sum().backward, "has returned an incorrect number of values (got 2, but expected 1)"),
        raises(z.sum().backward, "has returned an incorrect number of values (got 1, but expected 2)"),
    )


@case
def node_hooks_change_gradients(torch):
    x, w = _leaf(torch), _leaf(torch)
    y = x * w
    y.grad_fn.register_hook(lambda gi, go: (gi[0] * 3, None))
    y.grad_fn.register_prehook(lambda go: (go[0] * 2,))
    y.sum().backward()
    return x.grad, w.grad


@case
def accumulate_node_hooks(torch):
    x = _leaf(torch)
    node = (x * 2).grad_fn.next_functions[0][0]
    seen = []
    node.register_hook(lambda gi, go: seen.append((len(gi), go[0].clone())))
    node.register_prehook(lambda go: (go[0] * 7,))
    (x * 2).sum().backward()
    return seen, x.grad, node.variable is x


@case
def hook_handle_as_context(torch):
    x = _leaf(torch)
    seen = []
    with x.register_hook(lambda g: seen.append(1)):
        x.sum().backward()
    x.sum().backward()
    return len(seen)


@case
def hook_on_view_and_base(torch):
    x = _leaf(torch)
    y = x * 2
    seen = []
    v = y[1:]
    v.register_hook(lambda g: seen.append(("v", g.clone())))
    y.register_hook(lambda g: seen.append(("y", g.clone())))
    (v * v).sum().backward()
    return [s[0] for s in seen], [s[1] for s in seen], x.grad


@case
def hook_belongs_to_the_value_of_its_time(torch):
    x = _leaf(torch)
    y = x * 2
    seen = []
    y.register_hook(lambda g: seen.append(g.clone()))
    y.mul_(3)
    y.sum().backward()
    return seen, x.grad


@case
def retain_grad_twice(torch):
    x = _leaf(torch)
    y = x * 2
    y.retain_grad()
    y.retain_grad()
    (y * y).sum().backward(retain_graph=True)
    first = y.grad.clone()
    (y * 1).sum().backward()
    return first, y.grad


@case
def multi_grad_hook_any(torch):
    x, y = _leaf(torch), _leaf(torch)
    seen = []
    handle = torch.autograd.graph.register_multi_grad_hook((x, y), lambda g: seen.append(g.clone()), mode="any")
    (x * 2 + y * 3).sum().backward()
    handle.remove()
    (x * 2 + y * 3).sum().backward()
    return len(seen)


@case
def post_accumulate_sees_whole_grad(torch):
    x = _leaf(torch)
    seen = []
    x.register_post_accumulate_grad_hook(lambda p: seen.append(p.grad.clone()))
    (x * x + x).sum().backward()
    (x * 2).sum().backward()
    return seen


# ---- structure of the graph ------------------------------------------------------------------------------------------------


def _tree(fn, depth=4):
    if fn is None:
        return None
    return (fn.name(), [(_tree(f, depth - 1), n) for f, n in fn.next_functions]) if depth else fn.name()


@case
def trees(torch):
    x, y = _leaf(torch), _leaf(torch)
    m = torch.ones(2, 3, requires_grad=True)
    results = [
        x + y, x + 1, x * 2, 2 * x, x - torch.ones(3), x / y, x**2, (x * y).sum(), torch.cat([x, y]), torch.stack([x, torch.ones(3), y]),
        m @ x, m.t(), m[0], m[:, 1:], m.sum(0) * y, torch.where(x > 1, x, y), m.unbind()[1], m.split(1, 1)[2], m.chunk(2)[1].exp(),
        x.max(), m.max(1)[0], torch.addmm(m, m, m.t() @ m), x.clone().detach() + x, x.double(),
        x.expand(2, 3), m.view(-1), m.reshape(3, 2).tanh().mean(),
    ]  # fmt: skip
    return [_tree(r.grad_fn) for r in results]


@case
def trees_of_writes(torch):
    x, y = _leaf(torch), _leaf(torch)
    a = x * 2
    a.add_(y)
    b = x.clone()
    b[1:] = y[:2]
    c = torch.zeros(3)
    c[0] = x[0]
    d = x * 1
    d.copy_(y)
    e = x * 1
    e.zero_()
    return [_tree(t.grad_fn, 2) for t in (a, b, c, d, e)]


@case
def freed_graph_can_be_looked_at(torch):
    x = _leaf(torch)
    y = (x.exp() * x).sum()
    y.backward()
    return _tree(y.grad_fn)


@case
def saved_values(torch):
    x, y = _leaf(torch), _leaf(torch)
    m, e = (x * y).grad_fn, x.exp().grad_fn
    s, t = m._saved_self, m._saved_other
    total = (x * y).sum()
    node = total.grad_fn.next_functions[0][0]
    total.backward()
    return s, t, e._saved_result.detach(), raises(lambda: node._saved_self, FREED)


@case
def metadata_stays(torch):
    x = _leaf(torch)
    y = x * 2
    y.grad_fn.metadata["k"] = 1
    return y.grad_fn.metadata, (y + 1).grad_fn.next_functions[0][0].metadata


@case
def gradient_edges(torch):
    x = _leaf(torch)
    y = x.exp()
    edge = torch.autograd.graph.get_gradient_edge(y)
    g = torch.autograd.grad((y * 2).sum(), edge)
    return edge.node.name(), edge.output_nr, g


# ---- in place ---------------------------------------------------------------------------------------------------------------


@case
def what_add_saves(torch):
    x, w = _leaf(torch), torch.ones(3)
    y = (x + w).sum() + (x - w).sum() + (x * 2).sum()
    w.add_(1)
    y.backward()
    return x.grad


@case
def what_outputs_are_saved(torch):
    words = {}
    for name in (
        "exp",
        "tanh",
        "sigmoid",
        "relu",
        "sqrt",
        "rsqrt",
        "reciprocal",
        "softmax",
        "log_softmax",
        "expm1",
        "tan",
    ):
        x = _leaf(torch)
        y = getattr(x, name)(0) if "softmax" in name else getattr(x, name)()
        y.add_(1)
        words[name] = raises(y.sum().backward, MODIFIED)
    return words


@case
def what_inputs_are_saved(torch):
    words = {}
    for name in ("sin", "cos", "log", "abs", "square", "log1p", "erf", "sinh", "atan"):
        x = _leaf(torch)
        h = x * 1
        y = getattr(h, name)()
        h.add_(1)
        words[name] = raises(y.sum().backward, MODIFIED)
    return words


@case
def what_is_not_saved(torch):
    grads = []
    for f in (
        lambda h: h.exp(), lambda h: h.tanh(), lambda h: h + 1, lambda h: h.sum(), lambda h: h.clone(), lambda h: -h, lambda h: h.cumsum(0),
        lambda h: h.sigmoid(), lambda h: h.softmax(0), lambda h: torch.cat([h, h]), lambda h: h.repeat(2), lambda h: h.mean(),
    ):  # fmt: skip
        x = _leaf(torch)
        h = x * 1
        y = f(h)
        h.add_(1)
        y.sum().backward()
        grads.append(x.grad)
    return grads


@case
def in_place_operations_keep_what_they_read(torch):
    x = _leaf(torch, 0.3, 0.6)
    results = []
    for f in (
        lambda y: y.mul_(y.detach()), lambda y: y.pow_(2), lambda y: y.sin_(), lambda y: y.abs_(), lambda y: y.clamp_(0.4, 0.5), lambda y: y.log_(),
        lambda y: y.exp_(), lambda y: y.sigmoid_(), lambda y: y.div_(x.detach()), lambda y: y.mul_(3).pow_(3).sin_(),
    ):  # fmt: skip
        x.grad = None
        y = x * 1
        try:
            f(y)
            (y * 2).sum().backward()
            results.append(x.grad.clone())
        except RuntimeError as error:
            results.append(MODIFIED in str(error))
    return results


@case
def write_through_view_of_view(torch):
    x = torch.arange(12.0).reshape(3, 4).requires_grad_()
    y = x * 1
    y.t()[1:3][0].mul_(5)
    y[:, 1:].t()[0][1:].add_(x[0, 0])
    (y * y).sum().backward()
    return y, x.grad, y.grad_fn.name()


@case
def base_used_before_the_view_is_written(torch):
    x = _leaf(torch)
    y = x * 1
    before = y + 0
    v = y[1:]
    v.mul_(4)
    (before * 2 + y * 3).sum().backward()
    return x.grad, v, v.grad_fn.name()


@case
def view_is_part_of_its_base_afterwards(torch):
    x = _leaf(torch)
    y = x * 1
    v = y[1:]
    v.mul_(4)
    y.retain_grad()
    v.sum().backward()
    return y.grad, x.grad


@case
def other_views_see_the_write(torch):
    x = _leaf(torch)
    y = x * 1
    a, b = y[:2], y.view(3, 1)
    a.mul_(3)
    (b * torch.tensor([[1.0], [2.0], [3.0]])).sum().backward()
    return x.grad, b


@case
def write_on_detached_is_noticed(torch):
    x = _leaf(torch)
    y = x * 1
    z = (y * y).sum()
    y.detach().zero_()
    return raises(z.backward, MODIFIED)


@case
def write_on_detached_of_unsaved(torch):
    x = _leaf(torch)
    y = x * 1
    z = y + 1
    y.detach().zero_()
    (z + y).sum().backward()
    return y, x.grad


@case
def errors_leave_tensors_as_they_were(torch):
    x = _leaf(torch)
    w = raises(lambda: x.mul_(2), "a leaf Variable that requires grad")
    u = raises(lambda: x.view(3, 1).mul_(2), "a view of a leaf Variable that requires grad")
    x.sum().backward()
    return w, u, x, x.grad, x._version


@case
def views_made_without_grad(torch):
    x = _leaf(torch)
    base = torch.zeros(3)
    with torch.no_grad():
        v, u = base[:2], base[1:]
    v.add_(1)
    words = "A view was created in no_grad mode and is being modified inplace with grad mode enabled"
    with torch.no_grad():
        u.mul_(5)
    return raises(lambda: v.add_(x[:2]), words), base


@case
def several_views_of_plain_base(torch):
    base = torch.zeros(4)
    a, b = base.chunk(2)
    a.add_(1)
    b[0] = 7
    x = torch.ones(4, requires_grad=True)
    p, q = (x * 1).unsafe_split(2)
    p.mul_(2)
    (p.sum() + q.sum()).backward()
    return base, x.grad, [t.clone() for t in torch.ones(2, 2).unbind()]


@case
def in_place_on_what_backward_gave(torch):
    x = _leaf(torch)
    (x * 2).sum().backward()
    x.grad.mul_(10)
    g = x.grad
    (x * 2).sum().backward()
    return g, x.grad, g is x.grad, g._version


@case
def gradient_given_is_not_taken(torch):
    x = _leaf(torch)
    g = torch.ones(3)
    x.backward(g)
    x.grad.mul_(5)
    (x * g).sum().backward()
    return g, x.grad


@case
def grads_follow_the_leaf_layout(torch):
    x = torch.arange(24.0).reshape(2, 3, 4).permute(2, 0, 1).clone(memory_format=torch.preserve_format).requires_grad_()
    (x * x).sum().backward()
    e = torch.ones(1, 3).expand(2, 3).detach().requires_grad_()
    (e * 2).sum().backward()
    return layout(x.grad), layout(e.grad), x.grad


# ---- functions ---------------------------------------------------------------------------------------------------------------


def _function(torch, forward, backward, **more):
    return type(
        "Made",
        (torch.autograd.Function,),
        {"forward": staticmethod(forward), "backward": staticmethod(backward), **more},
    )


def _product(torch):
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return x * y

    def backward(ctx, g):
        x, y = ctx.saved_tensors
        return g * y, g * x

    return _function(torch, forward, backward)


@case
def function_saved_input_modified(torch):
    x, w = _leaf(torch), torch.ones(3)
    z = _product(torch).apply(x, w)
    w.add_(1)
    return raises(z.sum().backward, MODIFIED)


@case
def function_saved_output_modified(torch):
    def forward(ctx, x):
        y = x.exp()
        ctx.save_for_backward(y)
        return y

    made = _function(torch, forward, lambda ctx, g: g * ctx.saved_tensors[0])
    z = made.apply(_leaf(torch))
    z.add_(1)
    return raises(z.sum().backward, MODIFIED)


@case
def function_freed(torch):
    x = _leaf(torch)
    z = _product(torch).apply(x, torch.ones(3)).sum()
    z.backward()
    return raises(z.backward, FREED), x.grad


@case
def function_output_in_double_backward(torch):
    def forward(ctx, x):
        y = x.exp()
        ctx.save_for_backward(y)
        return y

    made = _function(torch, forward, lambda ctx, g: g * ctx.saved_tensors[0])
    x = _leaf(torch, 0.5, 1.0)
    (g,) = torch.autograd.grad(made.apply(x).sum(), x, create_graph=True)
    (h,) = torch.autograd.grad(g.sum(), x, create_graph=True)
    return g, h, torch.autograd.grad(h.sum(), x)


@case
def function_keywords(torch):
    def forward(ctx, x, scale=1.0):
        ctx.scale = scale
        return x * scale

    made = _function(torch, forward, lambda ctx, g: (g * ctx.scale, None))
    x = _leaf(torch)
    made.apply(x, 3.0).sum().backward()
    return x.grad


@case
def function_other_outputs(torch):
    seen = []

    def backward(ctx, *grads):
        seen.append([g is None for g in grads])
        return grads[0]

    made = _function(torch, lambda ctx, x: (x * 1, 5, None, "s"), backward)
    x = _leaf(torch)
    y, a, b, c = made.apply(x)
    y.sum().backward()
    return seen, a, b, c, x.grad


@case
def function_results_are_checked(torch):
    x = _leaf(torch)

    def run(result):
        return _function(torch, lambda ctx, t: t * 1, lambda ctx, g: result(g)).apply(x).sum().backward

    return (
        raises(run(lambda g: 5), "expected Variable or None (got int)"),
        raises(run(lambda g: (g, g)), "returned an incorrect number of gradients (expected 1, got 2)"),
        raises(
            run(lambda g: torch.ones(())),
            "returned an invalid gradient at index 0 - got [] but expected shape compatible with [3]",
        ),
        run(lambda g: (g, None, None))(),
        run(lambda g: torch.ones(2, 3))(),
        x.grad,
    )


@case
def function_none_gradient(torch):
    x = _leaf(torch)
    made = _function(torch, lambda ctx, t: t * 1, lambda ctx, g: None)
    made.apply(x).sum().backward()
    return x.grad, torch.autograd.grad(made.apply(x).sum(), x, allow_unused=True)


@case
def function_gradient_of_other_dtype(torch):
    x = _leaf(torch)
    _function(torch, lambda ctx, t: t * 1, lambda ctx, g: g.double() * 2).apply(x).sum().backward()
    return x.grad


@case
def function_dirty_view(torch):
    def forward(ctx, t):
        ctx.mark_dirty(t)
        t.add_(1)
        return t

    made = _function(torch, forward, lambda ctx, g: g * 3)
    x = _leaf(torch)
    b = x * 1
    v = b[:1]
    made.apply(v)
    b.sum().backward()
    return (
        b,
        x.grad,
        v._version,
        b.grad_fn.name(),
        raises(lambda: made.apply(x), "a leaf Variable that requires grad has been used in an in-place operation"),
    )


@case
def function_input_as_output(torch):
    made = _function(torch, lambda ctx, t: t, lambda ctx, g: -g)
    x, w = _leaf(torch), torch.ones(3)
    y = x * 1
    z = made.apply(y)
    z.sum().backward()
    return (
        z is y,
        made.apply(w) is w,
        x.grad,
        raises(lambda: made.apply(x * 1).add_(1), "This view was created inside a custom Function"),
    )


@case
def function_both_vjp_and_backward(torch):
    made = _function(torch, lambda ctx, t: t * 1, lambda ctx, g: g, vjp=staticmethod(lambda ctx, g: g))
    only = type(
        "Only",
        (torch.autograd.Function,),
        {"forward": staticmethod(lambda ctx, t: t * 1), "vjp": staticmethod(lambda ctx, g: g * 7)},
    )
    x = _leaf(torch)
    only.apply(x).sum().backward()
    return raises(
        made.apply(x).sum().backward, "Implementing both 'backward' and 'vjp' for a custom Function is not allowed"
    ), x.grad


@case
def function_nested(torch):
    inner = _product(torch)

    def backward(ctx, g):
        (t,) = ctx.saved_tensors
        with torch.enable_grad():
            u = t.detach().requires_grad_()
            (d,) = torch.autograd.grad(inner.apply(u, u).sum(), u)
        return g * d

    def forward(ctx, t):
        ctx.save_for_backward(t)
        return inner.apply(t, t)

    x = _leaf(torch)
    _function(torch, forward, backward).apply(x).sum().backward()
    return x.grad


@case
def function_saves_nothing_but_tensors(torch):
    def forward(ctx, t):
        ctx.save_for_backward(t, 3)
        return t * 1

    return raises(
        lambda: _function(torch, forward, lambda ctx, g: g).apply(_leaf(torch)),
        "save_for_backward can only save variables, but argument 1 is of type int",
    )


@case
def function_list_argument_has_no_gradient(torch):
    x, w = _leaf(torch), _leaf(torch)
    made = _function(torch, lambda ctx, t, ts: t * ts[0], lambda ctx, g: (g, None))
    made.apply(x, [w]).sum().backward()
    return x.grad, w.grad


# ---- saved-tensor hooks, checkpoints -------------------------------------------------------------------------------------------


@case
def saved_hooks_nested_and_counted(torch):
    log = []

    def hooks(name):
        def pack(t):
            log.append(("pack", name, tuple(t.shape)))
            return t

        def unpack(t):
            log.append(("unpack", name, tuple(t.shape)))
            return t

        return torch.autograd.graph.saved_tensors_hooks(pack, unpack)

    x, w = _leaf(torch), _leaf(torch)
    with hooks("outer"):
        y = x * w
        with hooks("inner"):
            z = y * y
        z = z.sin()
    z.sum().backward()
    return log, x.grad, w.grad


@case
def saved_hooks_disabled(torch):
    def run():
        with (
            torch.autograd.graph.disable_saved_tensors_hooks("not here"),
            torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t),
        ):
            pass

    return raises(run, "not here")


@case
def saved_hooks_over_a_loop(torch):
    w, v, x = _net(torch)
    seen = []
    for i in range(4):
        w.grad = None
        if i % 2:
            with torch.autograd.graph.save_on_cpu():
                loss = _loss(torch, w, v, x)
        else:
            loss = _loss(torch, w, v, x)
        loss.backward()
        seen.append(w.grad.clone())
    return seen


def _block(torch, w):
    calls = []

    def block(t, scale=1.0, extra=None):
        calls.append(1)
        h = torch.tanh(t @ w.t()) * scale
        return h if extra is None else h + extra["bias"]

    return block, calls


@case
def checkpoint_finds_parameters(torch):
    results = []
    for reenter in (False, True):
        w, v, x = _net(torch)
        block, calls = _block(torch, w)
        t = x.clone().requires_grad_()
        y = torch.utils.checkpoint.checkpoint(block, t, use_reentrant=reenter)
        (y @ v).sum().backward()
        results += [y, t.grad, w.grad, v.grad, len(calls)]
    return results


@case
def checkpoint_keywords_and_nesting(torch):
    w, _v, x = _net(torch)
    block, calls = _block(torch, w)
    bias = torch.ones(4, requires_grad=True)
    y = torch.utils.checkpoint.checkpoint(block, x, scale=2.0, extra={"bias": bias}, use_reentrant=False)
    d = torch.utils.checkpoint.checkpoint(
        lambda q: {"a": q["x"].exp(), "b": [q["x"] * 2]}, {"x": y}, use_reentrant=False
    )
    (d["a"].sum() + d["b"][0].sum()).backward()
    return w.grad, bias.grad, len(calls), list(d)


@case
def checkpoint_in_checkpoint(torch):
    w, v, x = _net(torch)
    check = torch.utils.checkpoint.checkpoint

    def inner(t):
        return torch.tanh(t @ w.t())

    def outer(t):
        return check(inner, t * 2, use_reentrant=False) @ v

    check(outer, x, use_reentrant=False).sum().backward()
    return w.grad, v.grad


@case
def checkpoint_double_backward(torch):
    w, _v, x = _net(torch)
    t = x.clone().requires_grad_()
    y = torch.utils.checkpoint.checkpoint(lambda q: torch.tanh(q @ w.t()).pow(2), t, use_reentrant=False)
    (g,) = torch.autograd.grad(y.sum(), t, create_graph=True)
    g.pow(2).sum().backward()
    return g, w.grad, t.grad


@case
def checkpoint_retained(torch):
    x = _leaf(torch)
    y = torch.utils.checkpoint.checkpoint(lambda t: (t * 2).exp(), x, use_reentrant=False).sum()
    y.backward(retain_graph=True)
    y.backward()
    return x.grad, raises(y.backward, FREED)


@case
def checkpoint_of_middle_values(torch):
    x = _leaf(torch)
    other = x.exp()
    y = torch.utils.checkpoint.checkpoint(lambda t: (t * other).sin(), x * 2, use_reentrant=False)
    y.sum().item()
    (y * other).sum().backward()
    return x.grad


@case
def checkpoint_loop(torch):
    w, v, x = _net(torch)
    seen = []
    for _ in range(4):
        w.grad = None
        y = torch.utils.checkpoint.checkpoint(lambda t: torch.tanh(t @ w.t()), x, use_reentrant=False)
        (y @ v).sum().backward()
        seen.append(w.grad.clone())
    return seen


@case
def checkpoint_dropout(torch):
    results = []
    for keep in (True, False):
        x = torch.ones(30, requires_grad=True)
        torch.manual_seed(1)
        y = torch.utils.checkpoint.checkpoint(
            lambda t: torch.nn.functional.dropout(t, 0.5), x, use_reentrant=False, preserve_rng_state=keep
        )
        torch.rand(3)
        y.sum().backward()
        results += [y, x.grad, torch.rand(2)]
    return results


@case
def checkpoint_errors(torch):
    check = torch.utils.checkpoint.checkpoint
    x = _leaf(torch)
    n = []

    def unstable(t):
        n.append(1)
        return (t[:1] if len(n) % 2 else t).exp()

    return (
        raises(lambda: check(lambda t, k: t * k, x, k=2, use_reentrant=True), "Unexpected keyword arguments: k"),
        raises(
            lambda: torch.autograd.grad(check(lambda t: t * 2, x, use_reentrant=True).sum(), x),
            "torch.utils.checkpoint is incompatible with .grad()",
        ),
        raises(
            check(lambda t: t.detach(), x, use_reentrant=True).sum().backward, "none of output has requires_grad=True"
        ),
        raises(
            check(unstable, x, use_reentrant=False).sum().backward,
            "have different metadata than during the forward pass",
        ),
        raises(
            lambda: check(unstable, x, use_reentrant=False, determinism_check="x"), "determinism_check should be one of"
        ),
    )


@case
def checkpoint_without_gradients(torch):
    check = torch.utils.checkpoint.checkpoint
    with torch.no_grad():
        y = check(lambda t: t * 2, _leaf(torch), use_reentrant=False)
    z = check(lambda t: t * 2, torch.ones(2), use_reentrant=False)
    u = check(lambda t: t * 2, torch.ones(2), use_reentrant=True)
    return y.requires_grad, z.requires_grad, u.requires_grad


@case
def checkpoint_sequence(torch):
    results = []
    for reenter in (False, True):
        torch.manual_seed(0)
        net = torch.nn.Sequential(
            torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)
        )
        x = torch.ones(2, 3, requires_grad=True)
        y = torch.utils.checkpoint.checkpoint_sequential(net, 2, x, use_reentrant=reenter)
        y.sum().backward()
        results += [y, x.grad, net[0].weight.grad, net[4].bias.grad]
    return results


# ---- the rest ------------------------------------------------------------------------------------------------------------------


@case
def argument_errors(torch):
    x = _leaf(torch)
    return (
        raises(lambda: torch.autograd.grad(x.sum(), []), "`inputs` argument to `grad()` cannot be empty."),
        raises(lambda: x.sum().backward(inputs=[]), "`inputs` argument to `backward()` cannot be empty."),
        raises(lambda: torch.autograd.backward([x.sum(), x.sum()], [None]), "got 2 tensors and 1 gradients"),
        raises(
            lambda: torch.autograd.grad(x.sum(), x, allow_unused=False, materialize_grads=True),
            "Expected allow_unused to be True or not passed",
        ),
        raises(lambda: torch.autograd.backward([x.sum(), torch.ones(1)]), "element 1 of tensors does not require grad"),
        raises(lambda: torch.autograd.backward(x.sum(), [5]), "gradients can be either Tensors or None, but got int"),
    )


@case
def mode_objects(torch):
    x = _leaf(torch)

    @torch.enable_grad()
    def on(t):
        return (t * 2).requires_grad

    @torch.set_grad_enabled(False)
    def off(t):
        return (t * 2).requires_grad

    mode = torch.no_grad()
    with mode:
        with mode:
            pass
        inside = torch.is_grad_enabled()
    with torch.no_grad():
        a = on(x)
    return a, off(x), inside, torch.is_grad_enabled(), torch.set_grad_enabled(True).__class__.__name__


@case
def generator_decorators(torch):
    log = []

    @torch.no_grad()
    def f():
        log.append(torch.is_grad_enabled())
        try:
            got = yield 1
            log.append((got, torch.is_grad_enabled()))
            yield 2
        except KeyError:
            log.append(("caught", torch.is_grad_enabled()))
            yield 3
        return 4

    g = f()
    first = next(g)
    log.append(torch.is_grad_enabled())
    second = g.send("x")
    third = g.throw(KeyError())
    try:
        next(g)
    except StopIteration as stop:
        last = stop.value
    return log, first, second, third, last, torch.is_grad_enabled()


@case
def class_decorated(torch):
    @torch.no_grad()
    class A:
        def __init__(self):
            self.on = torch.is_grad_enabled()

    return A().on


@case
def functional_with_several_arguments(torch):
    f = torch.autograd.functional
    x, y = torch.tensor([1.0, 2.0]), torch.tensor([0.5, -1.0, 2.0])

    def fn(a, b):
        return a.prod() * b, a.sum() * b.sum()

    v = torch.ones(2), torch.full((3,), 2.0)
    scalar = lambda a, b: (a**2).sum() * b.prod()  # noqa: E731
    return (
        f.jacobian(fn, (x, y)), f.hessian(scalar, (x, y)), f.vjp(fn, (x, y), (torch.ones(3), torch.ones(()))), f.jvp(fn, (x, y), v),
        f.hvp(scalar, (x, y), v), f.vhp(scalar, (x, y), v), f.jacobian(lambda a: torch.ones(2), x),
    )  # fmt: skip


@case
def functional_create_graph(torch):
    x = _leaf(torch, 1.0, 2.0)
    j = torch.autograd.functional.jacobian(lambda t: t**3, x, create_graph=True)
    j.sum().backward()
    return j, x.grad


@case
def functional_strict(torch):
    x = torch.ones(2)
    f = torch.autograd.functional
    return (
        raises(
            lambda: f.jacobian(lambda t: torch.ones(2), x, strict=True),
            "Output 0 of the user-provided function does not require gradients.",
        ),
        raises(
            lambda: f.jacobian(lambda a, b: a * 2, (x, x), strict=True),
            "Output 0 of the user-provided function is independent of input 1",
        ),
        raises(
            lambda: f.jacobian(lambda t: 3, x),
            "The outputs of the user-provided function given to jacobian must be either a Tensor or a tuple",
        ),
        raises(
            lambda: f.jacobian(lambda t: t, [x]),
            "The inputs given to jacobian must be either a Tensor or a tuple of Tensors",
        ),
        raises(
            lambda: f.hessian(lambda t: t * 2, x),
            "The Tensor returned by the function given to hessian should contain a single element",
        ),
        raises(
            lambda: f.hessian(lambda t: t.sum(), x, strict=True), "While computing the hessian, found that the jacobian"
        ),
        raises(
            lambda: f.vjp(lambda t: t * 2, x), "The vector v can only be None if the user-provided function returns"
        ),
        raises(
            lambda: f.vjp(lambda t: t * 2, x, torch.ones(3)),
            "v has invalid size: should be torch.Size([2]) but got torch.Size([3]).",
        ),
        raises(
            lambda: f.jvp(lambda t: t * 2, x),
            "The vector v can only be None if the input to the user-provided function is",
        ),
        raises(
            lambda: f.hvp(lambda t: t * 2, x, x),
            "The Tensor returned by the function given to hvp should contain a single element",
        ),
        raises(
            lambda: f.vjp(lambda a, b: a * 2, (x, x), x, strict=True),
            "The output of the user-provided function is independent of input 1",
        ),
        raises(
            lambda: f.hvp(lambda t: t.sum(), x, x, strict=True), "While computing the hessian, found that the jacobian"
        ),
    )


@case
def gradcheck_finds_errors(torch):
    wrong = _function(torch, lambda ctx, t: t * 2, lambda ctx, g: g * 3)
    x = torch.tensor([0.5, 1.5], dtype=torch.float64, requires_grad=True)
    return (
        raises(
            lambda: torch.autograd.gradcheck(wrong.apply, (x,)),
            "Jacobian mismatch for output 0 with respect to input 0",
        ),
        torch.autograd.gradcheck(wrong.apply, (x,), raise_exception=False),
        torch.autograd.gradcheck(lambda t, u: (t * u, t.sin()), (x, x.detach() * 2)),
        torch.autograd.gradgradcheck(lambda t: t.exp() * t, (x,)),
    )


@case
def gradcheck_of_complex(torch):
    z = torch.tensor([0.5 + 1j, 1.5 - 0.5j], dtype=torch.complex128, requires_grad=True)
    return torch.autograd.gradcheck(lambda t: t * t.conj() + t.exp(), (z,)), torch.autograd.gradcheck(
        lambda t: t.abs(), (z,)
    )


@case
def complex_chain(torch):
    z = torch.tensor([1 + 2j, -0.5 + 1j], requires_grad=True)
    x = _leaf(torch, 0.5, 2.0)
    y = torch.exp(z * x) / (z + 1)
    (torch.view_as_real(y) * torch.tensor([[1.0, 2.0], [3.0, 4.0]])).sum().backward()
    return z.grad, x.grad


@case
def complex_holomorphic_gradients(torch):
    results = []
    for f in (
        lambda t: t**2,
        lambda t: t.exp(),
        lambda t: t.sin(),
        lambda t: t.log(),
        lambda t: 1 / t,
        lambda t: t.sqrt(),
        lambda t: t.tanh(),
        lambda t: t.conj() * 2,
        lambda t: t.abs() + 0j,
        lambda t: t.angle() + 0j,
    ):
        z = torch.tensor([1 + 2j, 0.5 - 1j], requires_grad=True)
        f(z).backward(torch.tensor([1 + 1j, 2 - 1j]))
        results.append(z.grad)
    return results


@case
def batched_gradients(torch):
    x, w = _leaf(torch), _leaf(torch)
    y = x * w
    rows = torch.eye(3) * 2
    return torch.autograd.grad(y, (x, w), rows, is_grads_batched=True, retain_graph=True), torch.autograd.grad(
        (y, y.sum()), x, (rows, torch.ones(3)), is_grads_batched=True
    )


@case
def triple_backward(torch):
    x = _leaf(torch, 0.5, 1.5)
    y = (x.sin() * x.exp()).sum()
    seen = []
    for _ in range(3):
        (y,) = torch.autograd.grad(y, x, create_graph=True)
        seen.append(y)
        y = y.sum()
    return seen


@case
def create_graph_then_in_place(torch):
    x = _leaf(torch)
    (x**3).sum().backward(create_graph=True)
    g = x.grad
    (x**2).sum().backward(create_graph=True)
    return g is x.grad, g, x.grad, x.grad.requires_grad


@case
def second_order_of_common_layers(torch):
    results = []
    for f in (
        lambda t: t.softmax(1), lambda t: t.log_softmax(1), lambda t: torch.nn.functional.layer_norm(t, (3,)), lambda t: t.norm(dim=1),
        lambda t: t.std(1), lambda t: t.prod(1), lambda t: t.logsumexp(1), lambda t: t.sort(1)[0], lambda t: t.cumprod(1), lambda t: t @ t.t(),
        lambda t: torch.nn.functional.gelu(t), lambda t: torch.nn.functional.silu(t), lambda t: t.clamp(0.2, 0.7), lambda t: t[:, [0, 0, 2]],
    ):  # fmt: skip
        x = torch.tensor([[0.1, 0.5, 0.9], [0.3, 0.25, 0.75]], requires_grad=True)
        (g,) = torch.autograd.grad(f(x).pow(3).sum(), x, create_graph=True)
        (h,) = torch.autograd.grad(g.pow(2).sum(), x)
        results.append((g, h))
    return results


@case
def anomaly_tells_where(torch):
    import warnings

    x = torch.tensor([-1.0], requires_grad=True)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            with torch.autograd.set_detect_anomaly(True):
                (torch.sqrt(x) * 2).sum().backward()
        except RuntimeError as error:
            words = str(error)
    told = [str(w.message) for w in seen if "Error detected in SqrtBackward0" in str(w.message)]
    return "returned nan values in its 0th output" in words, len(told), "anomaly_tells_where" in told[0]


@case
def anomaly_without_nan_check(torch):
    x = torch.tensor([-1.0], requires_grad=True)
    with torch.autograd.set_detect_anomaly(True, check_nan=False):
        inside = torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()
        torch.sqrt(x).sum().backward()
    return inside, torch.is_anomaly_enabled(), x.grad


@case
def leaf_dies(torch):
    x = _leaf(torch)
    y = (x * 2).sum()
    del x
    gc.collect()
    y.backward()
    return y


test_autograd_traces = case.test()
