"""Autograd over many traces: in-place writes, custom functions, saved-tensor hooks, checkpoints."""

from __future__ import annotations

from compat.battery import Battery, layout
from compat.graphs import FREED, MODIFIED, function, leaf, loss_of, net
from compat.judge import raises

case = Battery()


# ---- in place ---------------------------------------------------------------------------------------------------------------


@case
def what_add_saves(torch):
    x, w = leaf(torch), torch.ones(3)
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
        x = leaf(torch)
        y = getattr(x, name)(0) if "softmax" in name else getattr(x, name)()
        y.add_(1)
        words[name] = raises(y.sum().backward, MODIFIED)
    return words


@case
def what_inputs_are_saved(torch):
    words = {}
    for name in ("sin", "cos", "log", "abs", "square", "log1p", "erf", "sinh", "atan"):
        x = leaf(torch)
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
        x = leaf(torch)
        h = x * 1
        y = f(h)
        h.add_(1)
        y.sum().backward()
        grads.append(x.grad)
    return grads


@case
def in_place_operations_keep_what_they_read(torch):
    x = leaf(torch, 0.3, 0.6)
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
    x = leaf(torch)
    y = x * 1
    before = y + 0
    v = y[1:]
    v.mul_(4)
    (before * 2 + y * 3).sum().backward()
    return x.grad, v, v.grad_fn.name()


@case
def view_is_part_of_its_base_afterwards(torch):
    x = leaf(torch)
    y = x * 1
    v = y[1:]
    v.mul_(4)
    y.retain_grad()
    v.sum().backward()
    return y.grad, x.grad


@case
def other_views_see_the_write(torch):
    x = leaf(torch)
    y = x * 1
    a, b = y[:2], y.view(3, 1)
    a.mul_(3)
    (b * torch.tensor([[1.0], [2.0], [3.0]])).sum().backward()
    return x.grad, b


@case
def write_on_detached_is_noticed(torch):
    x = leaf(torch)
    y = x * 1
    z = (y * y).sum()
    y.detach().zero_()
    return raises(z.backward, MODIFIED)


@case
def write_on_detached_of_unsaved(torch):
    x = leaf(torch)
    y = x * 1
    z = y + 1
    y.detach().zero_()
    (z + y).sum().backward()
    return y, x.grad


@case
def errors_leave_tensors_as_they_were(torch):
    x = leaf(torch)
    w = raises(lambda: x.mul_(2), "a leaf Variable that requires grad")
    u = raises(lambda: x.view(3, 1).mul_(2), "a view of a leaf Variable that requires grad")
    x.sum().backward()
    return w, u, x, x.grad, x._version


@case
def views_made_without_grad(torch):
    x = leaf(torch)
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
    x = leaf(torch)
    (x * 2).sum().backward()
    x.grad.mul_(10)
    g = x.grad
    (x * 2).sum().backward()
    return g, x.grad, g is x.grad, g._version


@case
def gradient_given_is_not_taken(torch):
    x = leaf(torch)
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


def _product(torch):
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return x * y

    def backward(ctx, g):
        x, y = ctx.saved_tensors
        return g * y, g * x

    return function(torch, forward, backward)


@case
def function_saved_input_modified(torch):
    x, w = leaf(torch), torch.ones(3)
    z = _product(torch).apply(x, w)
    w.add_(1)
    return raises(z.sum().backward, MODIFIED)


@case
def function_saved_output_modified(torch):
    def forward(ctx, x):
        y = x.exp()
        ctx.save_for_backward(y)
        return y

    made = function(torch, forward, lambda ctx, g: g * ctx.saved_tensors[0])
    z = made.apply(leaf(torch))
    z.add_(1)
    return raises(z.sum().backward, MODIFIED)


@case
def function_freed(torch):
    x = leaf(torch)
    z = _product(torch).apply(x, torch.ones(3)).sum()
    z.backward()
    return raises(z.backward, FREED), x.grad


@case
def function_output_in_double_backward(torch):
    def forward(ctx, x):
        y = x.exp()
        ctx.save_for_backward(y)
        return y

    made = function(torch, forward, lambda ctx, g: g * ctx.saved_tensors[0])
    x = leaf(torch, 0.5, 1.0)
    (g,) = torch.autograd.grad(made.apply(x).sum(), x, create_graph=True)
    (h,) = torch.autograd.grad(g.sum(), x, create_graph=True)
    return g, h, torch.autograd.grad(h.sum(), x)


@case
def function_keywords(torch):
    def forward(ctx, x, scale=1.0):
        ctx.scale = scale
        return x * scale

    made = function(torch, forward, lambda ctx, g: (g * ctx.scale, None))
    x = leaf(torch)
    made.apply(x, 3.0).sum().backward()
    return x.grad


@case
def function_other_outputs(torch):
    seen = []

    def backward(ctx, *grads):
        seen.append([g is None for g in grads])
        return grads[0]

    made = function(torch, lambda ctx, x: (x * 1, 5, None, "s"), backward)
    x = leaf(torch)
    y, a, b, c = made.apply(x)
    y.sum().backward()
    return seen, a, b, c, x.grad


@case
def function_results_are_checked(torch):
    x = leaf(torch)

    def run(result):
        return function(torch, lambda ctx, t: t * 1, lambda ctx, g: result(g)).apply(x).sum().backward

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
    x = leaf(torch)
    made = function(torch, lambda ctx, t: t * 1, lambda ctx, g: None)
    made.apply(x).sum().backward()
    return x.grad, torch.autograd.grad(made.apply(x).sum(), x, allow_unused=True)


@case
def function_gradient_of_other_dtype(torch):
    x = leaf(torch)
    function(torch, lambda ctx, t: t * 1, lambda ctx, g: g.double() * 2).apply(x).sum().backward()
    return x.grad


@case
def function_dirty_view(torch):
    def forward(ctx, t):
        ctx.mark_dirty(t)
        t.add_(1)
        return t

    made = function(torch, forward, lambda ctx, g: g * 3)
    x = leaf(torch)
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
    made = function(torch, lambda ctx, t: t, lambda ctx, g: -g)
    x, w = leaf(torch), torch.ones(3)
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
    made = function(torch, lambda ctx, t: t * 1, lambda ctx, g: g, vjp=staticmethod(lambda ctx, g: g))
    only = type(
        "Only",
        (torch.autograd.Function,),
        {"forward": staticmethod(lambda ctx, t: t * 1), "vjp": staticmethod(lambda ctx, g: g * 7)},
    )
    x = leaf(torch)
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

    x = leaf(torch)
    function(torch, forward, backward).apply(x).sum().backward()
    return x.grad


@case
def function_saves_nothing_but_tensors(torch):
    def forward(ctx, t):
        ctx.save_for_backward(t, 3)
        return t * 1

    return raises(
        lambda: function(torch, forward, lambda ctx, g: g).apply(leaf(torch)),
        "save_for_backward can only save variables, but argument 1 is of type int",
    )


@case
def function_list_argument_has_no_gradient(torch):
    x, w = leaf(torch), leaf(torch)
    made = function(torch, lambda ctx, t, ts: t * ts[0], lambda ctx, g: (g, None))
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

    x, w = leaf(torch), leaf(torch)
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
    w, v, x = net(torch)
    seen = []
    for i in range(4):
        w.grad = None
        if i % 2:
            with torch.autograd.graph.save_on_cpu():
                loss = loss_of(torch, w, v, x)
        else:
            loss = loss_of(torch, w, v, x)
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
        w, v, x = net(torch)
        block, calls = _block(torch, w)
        t = x.clone().requires_grad_()
        y = torch.utils.checkpoint.checkpoint(block, t, use_reentrant=reenter)
        (y @ v).sum().backward()
        results += [y, t.grad, w.grad, v.grad, len(calls)]
    return results


@case
def checkpoint_keywords_and_nesting(torch):
    w, _v, x = net(torch)
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
    w, v, x = net(torch)
    check = torch.utils.checkpoint.checkpoint

    def inner(t):
        return torch.tanh(t @ w.t())

    def outer(t):
        return check(inner, t * 2, use_reentrant=False) @ v

    check(outer, x, use_reentrant=False).sum().backward()
    return w.grad, v.grad


@case
def checkpoint_double_backward(torch):
    w, _v, x = net(torch)
    t = x.clone().requires_grad_()
    y = torch.utils.checkpoint.checkpoint(lambda q: torch.tanh(q @ w.t()).pow(2), t, use_reentrant=False)
    (g,) = torch.autograd.grad(y.sum(), t, create_graph=True)
    g.pow(2).sum().backward()
    return g, w.grad, t.grad


@case
def checkpoint_retained(torch):
    x = leaf(torch)
    y = torch.utils.checkpoint.checkpoint(lambda t: (t * 2).exp(), x, use_reentrant=False).sum()
    y.backward(retain_graph=True)
    y.backward()
    return x.grad, raises(y.backward, FREED)


@case
def checkpoint_of_middle_values(torch):
    x = leaf(torch)
    other = x.exp()
    y = torch.utils.checkpoint.checkpoint(lambda t: (t * other).sin(), x * 2, use_reentrant=False)
    y.sum().item()
    (y * other).sum().backward()
    return x.grad


@case
def checkpoint_loop(torch):
    w, v, x = net(torch)
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
    x = leaf(torch)
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
        y = check(lambda t: t * 2, leaf(torch), use_reentrant=False)
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


test_autograd_traces_function = case.test()
