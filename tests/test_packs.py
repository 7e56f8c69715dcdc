"""Small results of compiled traces lie in packs: nobody who looks at one, or writes to it, may tell."""

from __future__ import annotations

import copy
import threading

import numpy as np
import pytest

import jtorch as torch
from jtorch._runtime import devices, executor, packs
from jtorch._runtime.packs import Layout, Pack, Part
from jtorch._tensor.storage import value_of
from jtorch.nn import functional as F

pytestmark = pytest.mark.skipif(not devices.is_only(devices.CPU), reason="packs are for one device, the CPU")


@pytest.fixture(autouse=True)
def deferred():
    with executor.execution("deferred"):
        yield


class Training:
    """A small model that is trained step by step, with momentum or moments, running statistics and gradients."""

    def __init__(self, make=torch.optim.Adam):
        torch.manual_seed(0)
        nn = torch.nn
        self.net = nn.Sequential(nn.Linear(5, 6, bias=False), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 2))
        self.optimizer = make(self.net.parameters(), lr=0.05)
        self.x, self.y = torch.randn(7, 5), torch.randn(7, 2)
        self.grad_is_kept = False

    def step(self):
        if not self.grad_is_kept:
            self.optimizer.zero_grad()
        loss = F.mse_loss(self.net(self.x), self.y)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def state(self):
        tensors = [*self.net.state_dict().values(), *(p.grad for p in self.net.parameters())]
        for entry in self.optimizer.state.values():
            tensors += [t for t in entry.values() if isinstance(t, torch.Tensor)]
        return tensors


def momentum(params, lr):
    return torch.optim.SGD(params, lr, momentum=0.9)


def in_pack(t) -> bool:
    return type(value_of(t).array) is Part


def nothing(training):
    pass


def look(training):
    [t.tolist() for t in training.state()]


def place(training):
    [executor.concrete(value_of(t)) for t in training.state()]


def write(training):
    with torch.no_grad():
        training.net[0].weight.mul_(0.5)
        training.net[3].bias[0] = 1.0


def swap(training):
    first, second = training.net[1].weight, training.net[1].bias
    first.data, second.data = second.data, first.data


def evaluate(training):
    training.net.eval()
    with torch.no_grad():
        training.net(training.x).sum().item()
    training.net.train()


def save(training):
    training.net.load_state_dict(copy.deepcopy(training.net.state_dict()))
    training.optimizer.load_state_dict(copy.deepcopy(training.optimizer.state_dict()))


def eagerly(training):
    with executor.execution("eager"):
        training.step()


def in_another_thread(training):
    found = []
    thread = threading.Thread(target=lambda: found.extend(t.sum().item() for t in training.state()))
    thread.start()
    thread.join()
    assert len(found) == len(training.state())


def keep_grads(training):
    training.grad_is_kept = not training.grad_is_kept


@pytest.mark.parametrize(
    "between",
    [nothing, look, place, write, swap, evaluate, save, eagerly, in_another_thread, keep_grads],
    ids=lambda f: f.__name__,
)
@pytest.mark.parametrize("make", [torch.optim.Adam, momentum], ids=["adam", "momentum"])
def test_steps_are_the_same_as_eager_ones(make, between):
    losses = {}
    states = {}
    for mode in ("eager", "deferred"):
        with executor.execution(mode):
            training = Training(make)
            losses[mode] = []
            for _ in range(4):
                losses[mode] += [training.step(), training.step()]
                between(training)
            losses[mode].append(training.step())
            states[mode] = [t.tolist() for t in training.state()]
    np.testing.assert_allclose(losses["deferred"], losses["eager"], rtol=2e-4)
    for deferred, eager in zip(states["deferred"], states["eager"], strict=True):
        np.testing.assert_allclose(deferred, eager, rtol=2e-3, atol=2e-5)


def test_what_is_carried_on_is_not_put_together_anew(monkeypatch):
    training = Training()
    for _ in range(3):
        training.step()
    moving = list(training.net.parameters()) + [s["exp_avg"] for s in training.optimizer.state.values()]
    assert all(map(in_pack, moving)) and all(in_pack(p.grad) for p in training.net.parameters())
    joined = []
    monkeypatch.setattr(packs, "_join", lambda arrays, made=packs._join: joined.append(1) or made(arrays))
    for _ in range(3):
        look(training)  # looking leaves things where they are
        training.step()
    assert not joined
    write(training)
    look(training)
    training.step()
    assert joined


def test_small_numbers_of_results_stay_apart():
    weight = torch.ones(3, requires_grad=True)
    for _ in range(4):
        weight.grad = None
        loss = (weight * 2).exp().sum()
        loss.backward()
        loss.item()
    assert not in_pack(weight.grad) and not in_pack(loss)


def test_integers_and_large_arrays_stay_apart():
    x = torch.randn(6, 4)
    for _ in range(4):
        small = [x.sum(0), x.exp(), x.sin(), x.cos(), x.tan()]
        whole, large = x.argmax(0), x.repeat(60, 50)
        small[0].tolist()
    assert all(map(in_pack, small)) and not in_pack(whole) and not in_pack(large)
    np.testing.assert_allclose(small[2].numpy(), np.sin(x.numpy()), rtol=1e-6)


def test_a_run_that_is_cut_off_hands_its_packs_over_again(monkeypatch):
    training, calm = Training(), Training()
    for _ in range(3):
        training.step()
        calm.step()
    spread = packs.Carrier.spread

    def interrupted(self, pack):
        monkeypatch.setattr(packs.Carrier, "spread", spread)
        spread(self, pack)
        raise KeyboardInterrupt

    monkeypatch.setattr(packs.Carrier, "spread", interrupted)
    with pytest.raises(KeyboardInterrupt):
        training.step()
    calm.step()
    for mine, other in zip(training.state(), calm.state(), strict=True):
        np.testing.assert_allclose(mine.detach().numpy(), other.detach().numpy(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(training.step(), calm.step(), rtol=1e-4)


def test_a_pack_and_its_arrays():
    x = torch.zeros(2, 3), torch.zeros(()), torch.zeros(0, 2), torch.zeros(4)
    layout = Layout([value_of(t).aval for t in x])
    pack = Pack(np.arange(11, dtype=np.float32), layout)
    assert layout.struct.shape == (11,)
    assert pack.alone(0).tolist() == [[0, 1, 2], [3, 4, 5]] and pack.alone(1) == 6
    assert pack.alone(2).shape == (0, 2) and pack.alone(3).tolist() == [7, 8, 9, 10]
    assert not pack.placed(3).is_deleted() and pack.alone(3) is pack.placed(3)
