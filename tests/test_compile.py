"""`jtorch.compile`: the same numbers as without it, nothing lost, and no Python run where none is needed."""

from __future__ import annotations

import copy
import os

import numpy as np
import pytest

import jtorch as torch
import jtorch.nn.functional as F
from jtorch import nn
from jtorch._runtime.executor import stats

calls = 0


@pytest.fixture(autouse=True)
def _fresh():
    global calls
    calls = 0
    torch.compiler.reset()


def flat(x):
    return [z for y in x for z in flat(y)] if isinstance(x, list | tuple) else [x]


def both(scenario, **kwargs):
    """A scenario without and with compile: equal numbers. Gives how many calls were replayed."""
    torch.manual_seed(0)
    plain = scenario(lambda f: f, **kwargs)
    torch.manual_seed(0)
    before = stats.replays
    compiled = scenario(torch.compile, **kwargs)
    np.testing.assert_allclose(flat(plain), flat(compiled), rtol=1e-4, atol=1e-5)
    return stats.replays - before


def training(wrap, optimizer, layers, schedule=False):
    net = nn.Sequential(nn.Linear(6, 8), *layers(), nn.Linear(8, 3))
    opt = optimizer(net.parameters())
    sched = torch.optim.lr_scheduler.StepLR(opt, 1, 0.9) if schedule else None

    def step(x, y):
        opt.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        opt.step()
        return loss

    step = wrap(step)
    losses = []
    for _ in range(7):
        losses.append(step(torch.randn(5, 6), torch.randint(0, 3, (5,))).item())
        if sched:
            sched.step()
    grads = [p.grad.abs().sum().item() for p in net.parameters()]
    return losses, grads, [b.sum().item() for b in net.buffers()]


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, 0.1),
    "momentum": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, 1e-2),
    "adamw": lambda p: torch.optim.AdamW(p, 1e-2, weight_decay=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 1e-2),
    "adagrad": lambda p: torch.optim.Adagrad(p, 1e-1),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_step(name):
    assert both(training, optimizer=OPTIMIZERS[name], layers=lambda: [nn.ReLU()]) == 5


def test_dropout_batchnorm_and_inplace():
    def layers():
        return [nn.BatchNorm1d(8, affine=False), nn.ReLU(inplace=True), nn.Dropout(0.4)]

    assert both(training, optimizer=OPTIMIZERS["sgd"], layers=layers) == 5


def test_learning_rate_compiles_nothing():
    assert both(training, optimizer=OPTIMIZERS["sgd"], layers=lambda: [nn.Tanh()], schedule=True) == 5
    w = torch.zeros(1, requires_grad=True)
    opt = torch.optim.SGD([w], 1.0)

    @torch.compile
    def step():
        opt.zero_grad()
        w.sum().backward()
        opt.step()

    for _ in range(3):
        step()
    compiles, replays, before = stats.compiles, stats.replays, w.item()
    for rate in (0.5, 0.25, 2.0):
        opt.param_groups[0]["lr"] = rate
        step()
    assert w.item() == before - 2.75
    assert (stats.compiles, stats.replays) == (compiles, replays + 3)


def test_scheduler_inside():
    def scenario(wrap):
        w = torch.randn(3, requires_grad=True)
        opt = torch.optim.SGD([w], 0.1)
        sched = torch.optim.lr_scheduler.ExponentialLR(opt, 0.5)

        @wrap
        def step():
            opt.zero_grad()
            w.square().sum().backward()
            opt.step()
            sched.step()

        for _ in range(5):
            step()
        return w.tolist(), opt.param_groups[0]["lr"], sched.last_epoch

    assert both(scenario) == 0  # the scheduler counts in Python: the step is recorded each time


def test_module_and_modes():
    def scenario(wrap):
        net = nn.Sequential(
            nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(32, 3)
        )
        opt = torch.optim.SGD(net.parameters(), 1e-2)
        model = wrap(net)
        losses = []
        for i in range(8):
            model.train(i != 5)
            opt.zero_grad()
            loss = F.cross_entropy(model(torch.randn(4, 1, 6, 6)), torch.randint(0, 3, (4,)))
            loss.backward()
            opt.step()
            losses.append(loss.item())
        return losses, [b.sum().item() for b in net.buffers()]

    assert both(scenario) == 5


def test_hidden_state_is_carried():
    class Cell(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.GRUCell(2, 3)
            self.h = torch.zeros(2, 3)

        def forward(self, x):
            h = self.cell(x, self.h)
            self.h = h.detach()
            return h

    def scenario(wrap):
        cell = Cell()
        opt = torch.optim.SGD(cell.parameters(), 0.1)

        @wrap
        def step(x):
            opt.zero_grad()
            loss = cell(x).square().mean()
            loss.backward()
            opt.step()
            return loss

        return [step(torch.randn(2, 2)).item() for _ in range(7)], cell.h.tolist()

    assert both(scenario) > 0


def test_accumulated_grads():
    def scenario(wrap):
        w = torch.randn(3, 3, requires_grad=True)

        @wrap
        def back(x):
            loss = (x @ w).sum().square()
            loss.backward()
            return loss

        out = []
        for i in range(9):
            out += [back(torch.randn(2, 3)).item(), w.grad.sum().item()]
            if i == 4:
                w.grad = None
        return out

    assert both(scenario) > 0


def test_clipping_and_a_target_network():
    def scenario(wrap):
        net = nn.Linear(3, 3)
        target = copy.deepcopy(net)
        opt = torch.optim.Adam(net.parameters())

        @wrap
        def step(x):
            opt.zero_grad()
            loss = (net(x) - target(x).detach() + 1).square().mean()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 0.1)
            opt.step()
            with torch.no_grad():
                for p, q in zip(net.parameters(), target.parameters()):
                    q.mul_(0.9).add_(p, alpha=0.1)
            return {"loss": loss, "count": 3}

        return [step(torch.randn(2, 3))["loss"].item() for _ in range(6)], [q.sum().item() for q in target.parameters()]

    assert both(scenario) > 0


def test_shapes_and_structures():
    def scenario(wrap):
        @wrap
        @torch.no_grad()
        def f(pair, scale=1.0, *, names=()):
            a, b = pair["a"], pair["b"]
            return [a * scale, (b + a, len(names))]

        out = []
        for n in (2, 2, 2, 3, 3, 3, 2):
            for scale in (1.0, 2.5):
                first, (second, count) = f({"a": torch.randn(n), "b": torch.randn(n)}, scale, names=("x", "y"))
                out += [first.tolist(), second.tolist(), count]
        return out

    assert both(scenario) > 0


def test_python_effects_are_kept():
    def scenario(wrap):
        w = torch.randn(3, requires_grad=True)
        opt = torch.optim.SGD([w], 0.1)
        seen = []

        @wrap
        def step():
            global calls
            calls += 1
            opt.zero_grad()
            loss = w.square().sum()
            loss.backward()
            opt.step()
            seen.append(calls)
            return loss

        losses = [step().item() for _ in range(6)]
        return losses, [n - seen[0] for n in seen]

    assert both(scenario) == 0


def test_printing_is_kept(capsys):
    @torch.compile
    def f(x):
        print("here")
        return x + 1

    for _ in range(5):
        f(torch.ones(2))
    assert capsys.readouterr().out == "here\n" * 5


def test_values_on_the_host_are_read_anew():
    def scenario(wrap):
        f = wrap(lambda x: x * float(x[0]))
        g = wrap(lambda x: x * 2 if x.sum() > 0 else x - 1)
        h = wrap(lambda s, x: x * s.item())
        out = []
        for _ in range(6):
            x, s = torch.randn(3), torch.randn(())
            x.tolist(), s.item()
            out += [f(x).tolist(), g(x).tolist(), h(s, x).tolist()]
        return out

    assert both(scenario) == 0


def test_changed_python_state_is_seen():
    class Scale(nn.Module):
        factor = 1.0

        def forward(self, x):
            return x * self.factor + self.offset if hasattr(self, "offset") else x * self.factor

    m = Scale()
    f = torch.compile(m)
    x = torch.ones(2)
    for _ in range(4):
        assert f(x).tolist() == [1, 1]
    m.factor = 3.0
    for _ in range(4):
        assert f(x).tolist() == [3, 3]
    Scale.factor, m.offset = 2.0, 1.0
    del m.factor
    for _ in range(4):
        assert f(x).tolist() == [3, 3]
    Scale.factor = 5.0
    for _ in range(4):
        assert f(x).tolist() == [6, 6]


def test_globals_and_closures_are_seen():
    scale = 2.0

    def f(x):
        return x * scale * GLOBAL

    g = torch.compile(f)
    global GLOBAL
    for GLOBAL in (1.0, 1.0, 1.0, 4.0, 4.0, 4.0):
        assert g(torch.ones(1)).item() == scale * GLOBAL
    scale = 3.0
    assert g(torch.ones(1)).item() == 12


GLOBAL = 1.0


def test_seeding_inside():
    @torch.compile
    def f():
        torch.manual_seed(3)
        return torch.rand(2)

    first = f().tolist()
    for _ in range(4):
        torch.rand(1)
        assert f().tolist() == first


def test_draws_go_on():
    f = torch.compile(lambda x: x + torch.rand(3) + F.dropout(x, 0.5))
    torch.manual_seed(0)
    want = [(torch.ones(3) + torch.rand(3) + F.dropout(torch.ones(3), 0.5)).tolist() for _ in range(6)]
    torch.manual_seed(0)
    before = stats.replays
    np.testing.assert_allclose([f(torch.ones(3)).tolist() for _ in range(6)], want, rtol=1e-6)
    assert stats.replays > before


def test_fullgraph_names_the_line():
    @torch.compile(fullgraph=True)
    def f(x):
        if x.sum() > 0:  # the line
            return x
        return -x

    for _ in range(2):
        with pytest.raises(torch.compiler.Unsupported, match=r"test_compile.py:\d+"):
            f(torch.ones(2))
    assert (torch.ones(2) + 1).tolist() == [2, 2]  # nothing is left behind


def test_errors_go_through():
    @torch.compile
    def f(x):
        return x @ torch.ones(7, 7)

    for _ in range(3):
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            f(torch.ones(2, 3))
    assert torch.ones(2).tolist() == [1, 1]
    assert not torch.compiler.is_compiling()


def test_forms_of_the_call():
    def f(x):
        return x + torch.compiler.is_compiling()

    x = torch.zeros(1)
    assert torch.compile(f)(x).item() == 1
    assert torch.compile(dynamic=True)(f)(x).item() == 1
    assert torch.compile(f, disable=True) is f
    assert torch.compiler.disable(torch.compile(f))(x).item() == 0
    with pytest.raises(RuntimeError, match="Either mode or options"):
        torch.compile(f, mode="default", options={})
    with pytest.raises(RuntimeError, match="Unrecognized mode"):
        torch.compile(f, mode="fastest")
    net = nn.Linear(2, 2)
    model = torch.compile(net)
    assert list(model.state_dict()) == ["_orig_mod.weight", "_orig_mod.bias"]
    assert model.weight is net.weight
    assert isinstance(model, nn.Module)
    assert torch.equal(model(torch.ones(1, 2)), net(torch.ones(1, 2)))
    net.compile()
    assert torch.allclose(net(torch.ones(1, 2)), model(torch.ones(1, 2)))
    assert copy.deepcopy(net).weight.shape == (2, 2)


def test_methods():
    class Thing:
        def __init__(self, k):
            self.k = k

        @torch.compile
        def scaled(self, x):
            return x * self.k

    one, two = Thing(2.0), Thing(3.0)
    for _ in range(4):
        assert one.scaled(torch.ones(1)).item() == 2
        assert two.scaled(torch.ones(1)).item() == 3


def test_shared_memory_is_not_replayed_wrongly():
    base = torch.zeros(4)
    view = base[:2]

    @torch.compile
    def f():
        view.add_(1)
        return base.sum()

    assert [f().item() for _ in range(5)] == [2, 4, 6, 8, 10]
    assert base.tolist() == [5, 5, 0, 0]


def test_one_argument_twice():
    f = torch.compile(lambda a, b: a * 2 + b)
    x, y = torch.ones(1), torch.full((1,), 5.0)
    for _ in range(3):
        assert f(x, y).item() == 7
        assert f(x, x).item() == 3
        assert f(y, x).item() == 11


def test_whether_an_argument_requires_grad_is_seen():
    f = torch.compile(lambda x: x * 2)
    for requires in (False, False, False, True, True, True, False):
        x = torch.ones(2, requires_grad=requires)
        y = f(x)
        assert y.requires_grad is requires
        if requires:
            y.sum().backward()
            assert x.grad.tolist() == [2, 2]


def test_grads_of_arguments_go_to_the_arguments():
    @torch.compile
    def f(x):
        (x * x).sum().backward()

    for value in range(5):
        x = torch.full((2,), float(value), requires_grad=True)
        f(x)
        assert x.grad.tolist() == [2.0 * value] * 2
        f(x)
        assert x.grad.tolist() == [4.0 * value] * 2


def test_indices_out_of_range_still_raise():
    table = torch.arange(4.0)
    for f, error in ((lambda i: table[i], IndexError), (lambda i: table.gather(0, i), RuntimeError)):
        g = torch.compile(f)
        for _ in range(4):
            assert g(torch.tensor([1, 3])).tolist() == [1, 3]
        with pytest.raises(error, match="out of bounds"):
            g(torch.tensor([1, 4]))
        assert g(torch.tensor([0, 2])).tolist() == [0, 2]


def test_objects_given_anew():
    class Batch:
        def __init__(self, k):
            self.k = k

    f = torch.compile(lambda x, batch: x * batch.k)
    for k in range(60):  # their memory is taken over by the next one
        assert f(torch.ones(1), Batch(float(k))).item() == k


def test_numbers_given_anew_stop_being_watched():
    f = torch.compile(lambda x, k: x * k)
    for k in range(40):
        assert f(torch.ones(1), k).item() == k
    assert f._fruitless == 32
    assert f(torch.ones(1), -0.0).item() == 0.0
    assert str(f(torch.ones(1), -0.0).item()) == "-0.0"


def test_attributes_that_appear():
    class Scale:
        def __call__(self, x):
            return x * (self.k if hasattr(self, "k") else 1)

    s = Scale()
    f = torch.compile(lambda x: s(x))
    for _ in range(4):
        assert f(torch.ones(1)).item() == 1
    s.k = 5.0
    assert f(torch.ones(1)).item() == 5


def test_the_environment_is_read_anew(monkeypatch):
    f = torch.compile(lambda x: x * float(os.environ["JTORCH_TEST_FACTOR"]))
    for k in (1.0, 1.0, 1.0, 2.0):
        monkeypatch.setenv("JTORCH_TEST_FACTOR", str(k))
        assert f(torch.ones(1)).item() == k


def test_draws_that_hang_on_values():
    p = torch.tensor([0.5, 0.5])
    f = torch.compile(lambda: torch.multinomial(p, 20, replacement=True))
    assert len({tuple(f().tolist()) for _ in range(6)}) > 1


def test_hooks_that_come_later():
    net = nn.Linear(2, 2)
    f = torch.compile(net)
    for _ in range(4):
        f(torch.ones(1, 2))
    seen = []
    handle = nn.modules.module.register_module_forward_hook(lambda module, args, out: seen.append(type(module)))
    try:
        f(torch.ones(1, 2))
    finally:
        handle.remove()
    assert nn.Linear in seen


def test_copies_of_compiled_modules():
    model = torch.compile(nn.Linear(2, 1))
    x = torch.ones(1, 2)
    for _ in range(4):
        model(x)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.weight.zero_()
        other.bias.zero_()
    assert other(x).item() == 0
    assert model(x).item() != 0


def test_a_step_happens_or_does_not(interrupted):
    """An interrupt at any line leaves all parameters as before the step or as after it."""

    def run(stop_at):
        torch.manual_seed(0)
        net = nn.Linear(3, 2)
        opt = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)

        @torch.compile
        def step(x):
            opt.zero_grad()
            loss = net(x).square().sum()
            loss.backward()
            opt.step()
            return loss

        x = torch.ones(1, 3)
        for _ in range(4):
            step(x)
        lines = interrupted(stop_at, step, x)
        return [p.sum().item() for p in net.parameters()], lines

    states = set()
    last = run(10**9)[1]
    for stop in range(1, last, 7):
        values, _ = run(stop)
        states.add(tuple(np.round(values, 5)))
    assert len(states) <= 2
