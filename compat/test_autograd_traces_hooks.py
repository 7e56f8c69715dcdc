"""Autograd over many traces: hooks that come and go, the structure of graphs, and the rest."""

from __future__ import annotations

import gc

from compat.battery import Battery
from compat.graphs import FREED, function, leaf
from compat.judge import raises

case = Battery()


# ---- hooks ---------------------------------------------------------------------------------------------------------------


@case
def leaves_come_first(torch):
    order = []
    a, b, c = leaf(torch), leaf(torch), leaf(torch)
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
    x = leaf(torch)
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
    x, w, u = leaf(torch), leaf(torch), leaf(torch)
    y = x * w
    seen = []
    u.register_hook(seen.append)
    (y * u).sum().backward(inputs=[x, y])
    return x.grad, w.grad, u.grad, y.grad, y.retains_grad, len(seen)


@case
def hook_in_place(torch):
    x = leaf(torch)
    y = x * 2

    def scale(g):
        g.mul_(5)

    y.register_hook(scale)
    (y * y).sum().backward()
    return x.grad


@case
def hook_errors_in_backward(torch):
    def run(result):
        x = leaf(torch)
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
    x = leaf(torch)
    y, z = x * 2, x * 2
    y.grad_fn.register_prehook(lambda go: (go[0], go[0]))
    z.grad_fn.register_hook(lambda gi, go: (gi[0],))
    return (
        raises(y.sum().backward, "has returned an incorrect number of values (got 2, but expected 1)"),
        raises(z.sum().backward, "has returned an incorrect number of values (got 1, but expected 2)"),
    )


@case
def node_hooks_change_gradients(torch):
    x, w = leaf(torch), leaf(torch)
    y = x * w
    y.grad_fn.register_hook(lambda gi, go: (gi[0] * 3, None))
    y.grad_fn.register_prehook(lambda go: (go[0] * 2,))
    y.sum().backward()
    return x.grad, w.grad


@case
def accumulate_node_hooks(torch):
    x = leaf(torch)
    node = (x * 2).grad_fn.next_functions[0][0]
    seen = []
    node.register_hook(lambda gi, go: seen.append((len(gi), go[0].clone())))
    node.register_prehook(lambda go: (go[0] * 7,))
    (x * 2).sum().backward()
    return seen, x.grad, node.variable is x


@case
def hook_handle_as_context(torch):
    x = leaf(torch)
    seen = []
    with x.register_hook(lambda g: seen.append(1)):
        x.sum().backward()
    x.sum().backward()
    return len(seen)


@case
def hook_on_view_and_base(torch):
    x = leaf(torch)
    y = x * 2
    seen = []
    v = y[1:]
    v.register_hook(lambda g: seen.append(("v", g.clone())))
    y.register_hook(lambda g: seen.append(("y", g.clone())))
    (v * v).sum().backward()
    return [s[0] for s in seen], [s[1] for s in seen], x.grad


@case
def hook_belongs_to_the_value_of_its_time(torch):
    x = leaf(torch)
    y = x * 2
    seen = []
    y.register_hook(lambda g: seen.append(g.clone()))
    y.mul_(3)
    y.sum().backward()
    return seen, x.grad


@case
def retain_grad_twice(torch):
    x = leaf(torch)
    y = x * 2
    y.retain_grad()
    y.retain_grad()
    (y * y).sum().backward(retain_graph=True)
    first = y.grad.clone()
    (y * 1).sum().backward()
    return first, y.grad


@case
def multi_grad_hook_any(torch):
    x, y = leaf(torch), leaf(torch)
    seen = []
    handle = torch.autograd.graph.register_multi_grad_hook((x, y), lambda g: seen.append(g.clone()), mode="any")
    (x * 2 + y * 3).sum().backward()
    handle.remove()
    (x * 2 + y * 3).sum().backward()
    return len(seen)


@case
def post_accumulate_sees_whole_grad(torch):
    x = leaf(torch)
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
    x, y = leaf(torch), leaf(torch)
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
    x, y = leaf(torch), leaf(torch)
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
    x = leaf(torch)
    y = (x.exp() * x).sum()
    y.backward()
    return _tree(y.grad_fn)


@case
def saved_values(torch):
    x, y = leaf(torch), leaf(torch)
    m, e = (x * y).grad_fn, x.exp().grad_fn
    s, t = m._saved_self, m._saved_other
    total = (x * y).sum()
    node = total.grad_fn.next_functions[0][0]
    total.backward()
    return s, t, e._saved_result.detach(), raises(lambda: node._saved_self, FREED)


@case
def metadata_stays(torch):
    x = leaf(torch)
    y = x * 2
    y.grad_fn.metadata["k"] = 1
    return y.grad_fn.metadata, (y + 1).grad_fn.next_functions[0][0].metadata


@case
def gradient_edges(torch):
    x = leaf(torch)
    y = x.exp()
    edge = torch.autograd.graph.get_gradient_edge(y)
    g = torch.autograd.grad((y * 2).sum(), edge)
    return edge.node.name(), edge.output_nr, g


# ---- the rest ------------------------------------------------------------------------------------------------------------------


@case
def argument_errors(torch):
    x = leaf(torch)
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
    x = leaf(torch)

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
    x = leaf(torch, 1.0, 2.0)
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
    wrong = function(torch, lambda ctx, t: t * 2, lambda ctx, g: g * 3)
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
    x = leaf(torch, 0.5, 2.0)
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
    x, w = leaf(torch), leaf(torch)
    y = x * w
    rows = torch.eye(3) * 2
    return torch.autograd.grad(y, (x, w), rows, is_grads_batched=True, retain_graph=True), torch.autograd.grad(
        (y, y.sum()), x, (rows, torch.ones(3)), is_grads_batched=True
    )


@case
def triple_backward(torch):
    x = leaf(torch, 0.5, 1.5)
    y = (x.sin() * x.exp()).sum()
    seen = []
    for _ in range(3):
        (y,) = torch.autograd.grad(y, x, create_graph=True)
        seen.append(y)
        y = y.sum()
    return seen


@case
def create_graph_then_in_place(torch):
    x = leaf(torch)
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
    x = leaf(torch)
    y = (x * 2).sum()
    del x
    gc.collect()
    y.backward()
    return y


test_autograd_traces_hooks = case.test()
