"""What a replay may not miss of a training step's tensors: each scenario sees the same with and without `jtorch.compile`.

A scenario takes the wrapper (`torch.compile`, or nothing) and gives what it saw. It calls its function often enough to be
replayed, then changes something that the function hangs on.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest

import jtorch as torch
import jtorch.nn.functional as F
from jtorch import nn
from jtorch._runtime.executor import stats
from jtorch.compiler import _resident
from tests.both_ways import check, scenarios

SCENARIOS, scenario = scenarios()


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    """Replays follow themselves after a few calls, not only where a program is worth compiling again."""
    monkeypatch.setattr(_resident, "PATIENCE", 2)


def trained(wrap, optimizer=None, size=3, between=lambda i, net, opt: None, steps=14, body=None):
    """Training, with something done between the steps; what is seen after each."""
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(size, 4), nn.Tanh(), nn.Linear(4, 1))
    opt = (optimizer or (lambda p: torch.optim.SGD(p, 0.1, momentum=0.9)))(net.parameters())

    def step(x):
        opt.zero_grad()
        loss = net(x).square().mean()
        loss.backward()
        opt.step()
        return loss

    step = wrap(step if body is None else functools.partial(body, net, opt))
    found = []
    for i in range(steps):
        found.append(step(torch.linspace(i / 10, 1, 2 * size).reshape(2, size)))
        found.append(between(i, net, opt))
    return [*found, *net.parameters(), [v for s in opt.state.values() for v in s.values()]]


@scenario
def plain_training(wrap):
    return trained(wrap)


@scenario
def adam_training(wrap):
    return trained(wrap, lambda p: torch.optim.Adam(p, 0.01))


@scenario
def large_parameters(wrap):
    return trained(wrap, lambda p: torch.optim.Adam(p, 0.01), size=5000)


@scenario
def parameters_are_looked_at(wrap):
    return trained(wrap, between=lambda i, net, opt: [p.detach().clone() for p in net.parameters()] if i % 2 else None)


@scenario
def grads_are_kept(wrap):
    kept = []

    def between(i, net, opt):
        kept.extend(p.grad for p in net.parameters())

    return trained(wrap, between=between), kept


@scenario
def grads_are_read(wrap):
    return trained(wrap, between=lambda i, net, opt: sum(p.grad.square().sum() for p in net.parameters()))


@scenario
def grads_are_dropped(wrap):
    return trained(wrap, between=lambda i, net, opt: opt.zero_grad() if i % 3 else None)


@scenario
def something_on_a_grad(wrap):
    def between(i, net, opt):
        g = net[0].weight.grad
        before = getattr(g, "seen", None)
        g.seen = i
        return before

    return trained(wrap, between=between)


@scenario
def snapshots_are_kept(wrap):
    kept = []

    def between(i, net, opt):
        if i in (7, 8, 11):
            kept.extend(p.detach() if i == 8 else p.detach().clone() for p in net.parameters())

    return trained(wrap, between=between, size=5000), [k.clone() for k in kept]


@scenario
def best_weights_come_back(wrap):
    kept = {}

    def between(i, net, opt):
        if i == 7:
            kept.update({k: v.clone() for k, v in net.state_dict().items()})
        if i == 10:
            net.load_state_dict(kept)

    return trained(wrap, between=between)


@scenario
def parameters_are_written(wrap):
    def between(i, net, opt):
        with torch.no_grad():
            if i == 7:
                net[0].weight.mul_(0.5)
            if i == 9:
                net[2].bias.data = torch.full((1,), 0.25)
            if i == 11:
                net[0].weight[0] = 0.0

    return trained(wrap, between=between)


@scenario
def parameters_are_frozen(wrap):
    def between(i, net, opt):
        if i in (7, 10):
            net[0].weight.requires_grad_(i == 10)
        return [p.grad is None for p in net.parameters()]

    return trained(wrap, between=between)


@scenario
def a_view_is_kept_and_written(wrap):
    views = []

    def between(i, net, opt):
        if i == 7:
            views.append(net[0].weight.detach()[0])
        if i in (9, 12):
            views[0].fill_(i / 10)
        return views[0].clone() if views else None

    return trained(wrap, between=between)


@scenario
def the_graph_outside_is_told(wrap):
    kept = []

    def between(i, net, opt):
        if i == 8:
            kept.append((net[2].weight * net[2].weight).sum())
            kept[0].item()
        if i == 10:
            try:
                kept[0].backward()
            except RuntimeError as e:
                return "modified by an inplace operation" in str(e)
        return None

    return trained(wrap, between=between)


@scenario
def versions_count(wrap):
    return trained(wrap, between=lambda i, net, opt: [p._version - net[0].bias._version for p in net.parameters()])


@scenario
def optimizer_state_is_loaded(wrap):
    kept = {}

    def between(i, net, opt):
        if i == 7:
            kept.update(opt.state_dict())
        if i == 9:
            opt.load_state_dict(kept)

    return trained(wrap, between=between)


@scenario
def options_change(wrap):
    def between(i, net, opt):
        group = opt.param_groups[0]
        if i == 7:
            group["lr"] = 0.01
        if i == 9:
            group["momentum"] = 0.5
        if i == 11:
            group["lr"], group["nesterov"] = torch.tensor(0.05), True

    return trained(wrap, between=between)


@scenario
def a_schedule(wrap):
    def between(i, net, opt):
        opt.param_groups[0]["lr"] *= 0.9

    return trained(wrap, between=between)


@scenario
def the_rate_is_read_by_another_name(wrap):
    def body(net, opt, x):
        opt.zero_grad()
        loss = net(x).square().mean()
        loss.backward()
        opt.step()
        return loss * rate_of(opt)

    def rate_of(opt):
        for group in opt.param_groups:
            for value in group.values():
                if type(value) is float:
                    return value * 2
        return None

    def between(i, net, opt):
        opt.param_groups[0]["lr"] *= 0.9

    return trained(wrap, between=between, body=body)


@scenario
def the_group_is_reached_otherwise(wrap):
    groups, key = [], ["l" + "r"]

    def body(net, opt, x):
        opt.zero_grad()
        loss = net(x).square().mean()
        loss.backward()
        opt.step()
        return loss * (groups[0][key[0]] * 2 if groups else 1)

    def between(i, net, opt):
        groups[:] = opt.param_groups
        opt.param_groups[0]["lr"] *= 0.9

    return trained(wrap, between=between, body=body)


@scenario
def a_group_is_added(wrap):
    extra = nn.Parameter(torch.ones(1))

    def body(net, opt, x):
        opt.zero_grad()
        loss = (net(x) * extra).square().mean()
        loss.backward()
        opt.step()
        return loss

    def between(i, net, opt):
        if i == 8:
            opt.add_param_group({"params": [extra], "lr": 0.5})
        return extra.clone()

    return trained(wrap, between=between, body=body)


@scenario
def hooks_come_and_go(wrap):
    told, handles = [], []

    def between(i, net, opt):
        if i == 6:
            handles.append(net[1].register_forward_hook(lambda m, a, out: out * 2))
        if i == 9:
            handles.pop().remove()
        if i == 11:
            handles.append(opt.register_step_post_hook(lambda *a: told.append(i)))
        if i == 12:
            handles.append(net[0].weight.register_hook(lambda g: g * 2))

    return trained(wrap, between=between), told


@scenario
def modes_change(wrap):
    def make(net):
        net[1] = nn.Dropout(0.5)

    def between(i, net, opt):
        if i == 6:
            net.eval()
        if i == 9:
            net.train()

    return trained(wrap, between=between)


@scenario
def a_layer_is_replaced(wrap):
    def between(i, net, opt):
        if i == 7:
            net[1] = nn.ReLU()
        if i == 9:
            del net[1]
            net.append(nn.Linear(1, 1, bias=False))
            with torch.no_grad():
                net[2].weight.fill_(0.5)

    return trained(wrap, between=between, steps=9)


@scenario
def zeroed_grads(wrap):
    def body(net, opt, x):
        opt.zero_grad(set_to_none=False)
        loss = net(x).square().mean()
        loss.backward()
        opt.step()
        return loss

    return trained(wrap, body=body)


@scenario
def accumulated_grads(wrap):
    def body(net, opt, x):
        loss = net(x).square().mean()
        loss.backward()
        opt.step()
        return loss

    return trained(wrap, body=body, between=lambda i, net, opt: opt.zero_grad() if i % 4 == 3 else None)


@scenario
def clipped(wrap):
    def body(net, opt, x):
        opt.zero_grad()
        loss = net(x).square().mean()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(net.parameters(), 0.1)
        opt.step()
        return loss, norm

    return trained(wrap, body=body)


@scenario
def moving_average(wrap):
    average = {}

    def body(net, opt, x):
        opt.zero_grad()
        loss = net(x).square().mean()
        loss.backward()
        opt.step()
        with torch.no_grad():
            for name, p in net.named_parameters():
                average[name] = p.clone() if name not in average else average[name] * 0.9 + p * 0.1
        return loss

    return trained(wrap, body=body), average


@scenario
def moving_average_in_place(wrap):
    torch.manual_seed(0)
    average = [torch.zeros(4, 3), torch.zeros(4), torch.zeros(1, 4), torch.zeros(1)]

    def body(net, opt, x):
        opt.zero_grad()
        loss = net(x).square().mean()
        loss.backward()
        opt.step()
        with torch.no_grad():
            for a, p in zip(average, net.parameters()):
                a.mul_(0.9).add_(p, alpha=0.1)
        return loss

    return trained(wrap, body=body), average


@scenario
def two_functions_share_a_model(wrap):
    torch.manual_seed(1)
    a, b = nn.Linear(3, 3), nn.Linear(3, 1)
    opt_a, opt_b = torch.optim.Adam(a.parameters(), 0.01), torch.optim.SGD(b.parameters(), 0.1)

    def step(opt, x):
        opt.zero_grad()
        loss = b(a(x)).square().mean()
        loss.backward()
        opt.step()
        return loss

    first, second = wrap(functools.partial(step, opt_a)), wrap(functools.partial(step, opt_b))
    found = []
    for i in range(16):
        x = torch.full((2, 3), i / 8)
        found += [first(x), *([second(x)] if i % 5 else []), a.weight.sum() if i % 7 == 0 else None]
    return [*found, *a.parameters(), *b.parameters()]


@scenario
def a_parameter_is_an_argument(wrap):
    def body(net, opt, x):
        opt.zero_grad()
        loss = net(x).square().mean()
        loss.backward()
        opt.step()
        return loss

    torch.manual_seed(1)
    net = nn.Linear(2, 2)
    opt = torch.optim.SGD(net.parameters(), 0.1)
    f = wrap(functools.partial(body, net, opt))
    return [f(torch.ones(2, 2)) for _ in range(8)] + [f(net.weight) for _ in range(3)] + [f(net.weight.grad)]


@scenario
def a_result_is_an_argument(wrap):
    torch.manual_seed(1)
    net = nn.Linear(2, 2)
    opt = torch.optim.SGD(net.parameters(), 0.1)

    def body(x):
        opt.zero_grad()
        out = net(x)
        out.square().mean().backward()
        opt.step()
        return out.detach()

    f, x, found = wrap(body), torch.ones(2, 2), []
    for i in range(12):
        x = f(x)
        found.append(x.clone() if i % 3 == 0 else x)
    return found


@scenario
def index_counter(wrap):
    torch.manual_seed(1)
    table, at = torch.randn(16, 3), torch.zeros(1, dtype=torch.int64)
    net = nn.Linear(3, 1)
    opt = torch.optim.SGD(net.parameters(), 0.1)

    def body(x):
        opt.zero_grad()
        loss = (net(table[at]) * x).square().mean()
        loss.backward()
        opt.step()
        at.add_(1)
        return loss

    f = wrap(body)
    return [f(torch.ones(1)) for _ in range(16)], at


@scenario
def random_numbers(wrap):
    def body(net, opt, x):
        opt.zero_grad()
        loss = F.dropout(net(x + torch.randn(2, 3)), 0.3).square().mean()
        loss.backward()
        opt.step()
        return loss

    return trained(wrap, body=body, between=lambda i, net, opt: torch.manual_seed(5) and None if i == 9 else None)


@scenario
def the_freed_graph(wrap):
    """What is left of the graph inside is the same, and the same operations outside are another graph."""
    net = nn.Linear(3, 1)
    opt = torch.optim.SGD(net.parameters(), 0.1)

    def body(x):
        opt.zero_grad()
        out = net(x).square()
        out.mean().backward()
        opt.step()
        return out, x.grad_fn is None

    f, found = wrap(body), []
    for i in range(9):
        x = torch.full((2, 3), i / 4)
        out, _ = f(x)
        found.append(names(out.grad_fn))
        try:
            out.mean().backward()
        except RuntimeError as e:
            found.append("second time" in str(e))
        found.append(body(x)[0])
        loss = net(x).square().mean()
        loss.backward()
        found.append(net.weight.grad.clone())
    return found


def names(node):
    """The names of the nodes from here on."""
    return [] if node is None else [node.name(), *(n for f, _ in node.next_functions for n in names(f))]


@scenario
def a_fixed_model(wrap):
    torch.manual_seed(2)
    teacher = nn.Linear(3, 1)

    def body(net, opt, x):
        opt.zero_grad()
        with torch.no_grad():
            y = teacher(x)
        loss = (net(x) - y).square().mean()
        loss.backward()
        opt.step()
        return loss

    def between(i, net, opt):
        if i == 8:
            with torch.no_grad():
                teacher.weight.mul_(2)
        if i == 10:
            teacher.weight.requires_grad_(False)

    return trained(wrap, body=body, between=between)


@pytest.mark.parametrize("execution", ["deferred", "eager"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario(name, execution):
    check(SCENARIOS[name], execution)


def test_a_step_follows_itself_and_takes_nothing_apart():
    """The loop that it is all about: no program but the step's own, and the tensors keep their values."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1))
    opt = torch.optim.Adam(net.parameters(), 0.01)

    @torch.compile
    def step(x):
        opt.zero_grad()
        loss = net(x).square().mean()
        loss.backward()
        opt.step()
        return loss

    with torch.execution("deferred"):
        x = torch.ones(2, 4)
        for _ in range(9):
            step(x)
        value = id(net[0].weight._value)  # held, it would be left what it is
        before = stats.hot, stats.replays
        for _ in range(5):
            step(x)
        assert (stats.hot - before[0], stats.replays - before[1]) == (5, 5)
        assert id(net[0].weight._value) == value
        at = net[0].weight.detach()
        was = at.tolist()
        step(x)
        assert at.tolist() != was, "a detached tensor shares the memory"
        copy = net[0].weight.detach().clone().tolist()
        step(x)
        assert net[0].weight.tolist() != copy


@pytest.mark.parametrize(("looked_at", "size"), [(False, 3), (True, 200)])
def test_an_interrupt_leaves_a_state_of_before_or_after(interrupted, looked_at, size):
    """At whatever line it comes: parameters and moments go on from one step or the next, all of them."""

    def begin(wrap):
        torch.manual_seed(0)
        net = nn.Linear(size, size)
        opt = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)

        def step(x):
            opt.zero_grad()
            loss = net(x).square().mean()
            loss.backward()
            opt.step()
            return loss

        def state():
            return [t.sum().item() for t in (*net.parameters(), *(s["momentum_buffer"] for s in opt.state.values()))]

        return wrap(step), state, torch.ones(2, size)

    with torch.execution("deferred"):
        step, state, x = begin(lambda f: f)
        right = []
        for _ in range(12):
            step(x)
            right.append(state())
        step, state, x = begin(torch.compile)
        for _ in range(7):
            step(x)
        done, stop = 7, 1
        while True:
            if looked_at:
                state()
            ended = interrupted(stop, step, x)
            now = state()
            places = [i for i, r in enumerate(right) if np.allclose(now, r, rtol=1e-4, atol=1e-5)]
            assert places, (stop, now)
            assert done - 1 in places or done in places, (stop, places)
            if ended:
                break
            torch.compiler.reset()
            step, state, x = begin(torch.compile)
            for _ in range(7):
                step(x)
            stop += 9
