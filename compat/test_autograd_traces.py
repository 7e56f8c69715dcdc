"""Autograd over many traces: graphs cut by syncs, backwards that are remembered."""

from __future__ import annotations

import gc

from compat.battery import Battery
from compat.graphs import FREED, MODIFIED, leaf, loss_of, net
from compat.judge import raises

case = Battery()


# ---- graphs that syncs cut ----------------------------------------------------------------------------------------------


@case
def sync_in_the_middle(torch):
    x = leaf(torch)
    y = x.exp()
    first = y.sum().item()
    z = (y * x).sin()
    second = z.sum().item()
    (z * y).sum().backward()
    return first, second, x.grad


@case
def sync_between_forward_and_backward(torch):
    w, v, x = net(torch)
    loss = loss_of(torch, w, v, x)
    value = loss.item()
    loss.backward()
    return value, w.grad, v.grad


@case
def retain_graph_across_syncs(torch):
    x = leaf(torch)
    y = (x.exp() * x).sum()
    y.backward(retain_graph=True)
    first = x.grad.tolist()
    y.backward(retain_graph=True)
    second = x.grad.tolist()
    y.backward()
    return first, second, x.grad, raises(y.backward, FREED)


@case
def freed_after_sync(torch):
    x = leaf(torch)
    h = x.exp()
    (h * 2).sum().backward()
    h.sum().item()
    return raises(lambda: (h * h).sum().backward(), FREED)


@case
def kept_then_freed_in_one_trace(torch):
    """A first run with the graph kept, then one without: the second backward of the latter is the error."""

    def run(keep):
        x = leaf(torch)
        y = (x * x).sum()
        y.backward(retain_graph=keep)
        return raises(y.backward, FREED) if not keep else (y.backward(), x.grad)[1]

    return run(True), run(False), run(True), run(False)


@case
def freed_trunk_of_two_losses(torch):
    def run(keep):
        x = leaf(torch)
        trunk = x.exp()
        a, b = (trunk * 2).sum(), (trunk * 3).sum()
        a.backward(retain_graph=keep)
        return raises(b.backward, FREED) if not keep else (b.backward(), x.grad)[1]

    return run(True), run(False), run(True), run(False)


@case
def freed_by_grad(torch):
    x = leaf(torch)
    trunk = x.exp()
    a, b = (trunk * 2).sum(), (trunk * 3).sum()
    torch.autograd.grad(a, x)
    return raises(b.backward, FREED)


@case
def not_freed_by_grad_that_keeps(torch):
    x = leaf(torch)
    trunk = x.exp()
    a, b = (trunk * 2).sum(), (trunk * 3).sum()
    g = torch.autograd.grad(a, x, retain_graph=True)
    b.backward()
    return g, x.grad


@case
def freed_though_looked_at(torch):
    def run():
        x = leaf(torch)
        h = x.exp()
        name = h.grad_fn.name()
        loss = (h * h).sum()
        loss.backward()
        return name, raises(lambda: h.sum().backward(), FREED)

    return run(), run(), run()


@case
def nothing_saved_nothing_freed(torch):
    x = leaf(torch)
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
    x = leaf(torch)
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
    w, v, x = net(torch)
    history, total = [], 0.0
    for i in range(4):
        loss = loss_of(torch, w, v, x * (i + 1))
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
    w, v, x = net(torch)
    opt = torch.optim.SGD([w, v], 0.1)
    loss = loss_of(torch, w, v, x)
    loss.backward(retain_graph=True)
    opt.step()
    return raises(loss.backward, MODIFIED)


@case
def graph_kept_over_a_step_after_sync(torch):
    w, v, x = net(torch)
    opt = torch.optim.SGD([w, v], 0.1)
    loss = loss_of(torch, w, v, x)
    loss.backward(retain_graph=True)
    loss.item()
    opt.step()
    v.sum().item()
    return raises(loss.backward, MODIFIED)


@case
def loss_before_a_step(torch):
    """A loss that is computed before the step and differentiated after it."""
    w, v, x = net(torch)
    opt = torch.optim.SGD([w, v], 0.1)
    loss_of(torch, w, v, x).backward()
    other = (w * w).sum()
    opt.step()
    return raises(other.backward, MODIFIED)


@case
def step_between_of_what_is_not_saved(torch):
    w, _v, _x = net(torch)
    opt = torch.optim.SGD([w], 0.1)
    (w * 2).sum().backward()
    other = w.sum()
    opt.step()
    other.backward()
    return w, w.grad


@case
def recurrent_truncated(torch):
    w = leaf(torch, 0.5, 0.2)
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
    x = leaf(torch)
    square = x.view(3, 1).mT @ x.view(3, 1)
    square.detach().item()
    (g,) = torch.autograd.grad(square.sin().sum(), x, create_graph=True)
    return g, torch.autograd.grad((g**2).sum(), x)


def _factor(upper):
    """The factor is looked at where it is made: its backward is in another trace, and takes it from there."""

    def factor(torch):
        x = leaf(torch, *[0.1 * k for k in range(12)])
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
    x = leaf(torch)
    (g,) = torch.autograd.grad((x**3).sum(), x, create_graph=True)
    g.sum().item()
    penalty = (g**2).sum()
    penalty.item()
    penalty.backward()
    return x.grad


# ---- the same loop again and again ---------------------------------------------------------------------------------------


def _loop(torch, change, n=5, sync=True):
    """n steps on the same data; `change(i, w, v)` comes before each. The grads of every step."""
    w, v, x = net(torch)
    seen = []
    for i in range(n):
        change(i, w, v)
        w.grad = v.grad = None
        loss = loss_of(torch, w, v, x)
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
    w, v, x = net(torch)
    seen = []
    for i in range(6):
        if i % 3 == 0:
            w.grad = None
        elif i % 3 == 1:
            w.grad.zero_()
        loss_of(torch, w, v, x).backward()
        seen.append((w.grad.clone(), v.grad.clone()))
    return seen


@case
def loop_retain_changes(torch):
    w, v, x = net(torch)
    seen = []
    for i in range(6):
        w.grad = v.grad = None
        loss = loss_of(torch, w, v, x)
        loss.backward(retain_graph=i % 2 == 0)
        if i % 2 == 0:
            loss.backward()
        else:
            seen.append(raises(loss.backward, FREED))
        seen.append((w.grad.clone(), v.grad.clone()))
    return seen


@case
def loop_shapes_change(torch):
    w, v, x = net(torch)
    seen = []
    for n in (2, 1, 2, 3, 1, 3, 2):
        w.grad = v.grad = None
        loss = loss_of(torch, w, v, x[:1].repeat(n, 1) * n)
        loss.backward()
        seen.append((loss.item(), w.grad.clone()))
    return seen


@case
def loop_parts_without_grad(torch):
    w, v, x = net(torch)
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
    w, v, x = net(torch)
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
    w, v, x = net(torch)
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
    w, v, x = net(torch)
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
    w, v, x = net(torch)
    opt = torch.optim.Adam([w, v], 0.05)
    losses = []
    for i in range(8):
        opt.zero_grad(set_to_none=i % 2 == 0)
        loss = loss_of(torch, w, v, x)
        loss.backward()
        opt.step()
        if i % 3 == 0:
            losses.append(loss.item())
    return losses, w, v


@case
def loop_accumulation(torch):
    w, v, x = net(torch)
    opt = torch.optim.SGD([w, v], 0.1, momentum=0.9)
    for i in range(8):
        (loss_of(torch, w, v, x + i) / 4).backward()
        if i % 4 == 3:
            opt.step()
            opt.zero_grad()
    return w, v


@case
def loop_freezes_a_layer(torch):
    w, v, x = net(torch)
    opt = torch.optim.SGD([w, v], 0.1)
    for i in range(6):
        w.requires_grad_(i >= 3)
        opt.zero_grad()
        loss_of(torch, w, v, x).backward()
        opt.step()
    return w, v, w.grad


@case
def loop_gradient_given(torch):
    w, _v, x = net(torch)
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

    w, _v, x = net(torch)
    seen = []
    for _ in range(4):
        w.grad = None
        Double.apply(torch.tanh(x @ w.t())).sum().backward()
        seen.append(w.grad.clone())
    return seen


@case
def loop_retain_grad_sometimes(torch):
    w, v, x = net(torch)
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
    w, v, x = net(torch)
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
    w, _v, x = net(torch)
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
    w, v, x = net(torch)
    seen = []
    for _ in range(4):
        w.grad = v.grad = None
        loss_of(torch, w, v, x).backward()
        seen.append(torch.nn.utils.clip_grad_norm_([w, v], 0.1))
    return seen, w.grad, v.grad


@case
def many_uses_of_one_leaf(torch):
    x = leaf(torch)
    y = x
    for i in range(40):
        y = y * x if i % 7 == 0 else y + x
    y.sum().backward()
    return x.grad


@case
def long_chain(torch):
    x = leaf(torch)
    y = x
    for _ in range(1200):
        y = y * 0.999 + 0.001
    y.sum().backward()
    return x.grad


test_autograd_traces = case.test()
