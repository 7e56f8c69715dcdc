"""What a replay may not miss of Python's state: each scenario sees the same with and without `jtorch.compile`.

A scenario takes the wrapper (`torch.compile`, or nothing) and gives what it saw. It calls its function often enough to be
replayed, then changes something that the function hangs on.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import operator
import types
import weakref

import pytest

import jtorch as torch
from jtorch import nn
from jtorch.compiler import _resident
from tests.both_ways import N, changes, check, one, scenarios

SCENARIOS, scenario = scenarios()


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    """Replays follow themselves after a few calls, not only where a program is worth compiling again."""
    monkeypatch.setattr(_resident, "PATIENCE", 2)


# ---- Python's state --------------------------------------------------------------------------------------------------


@scenario
def function_attribute(wrap):
    def step(x):
        return x * inner.scale

    def inner():
        pass

    inner.scale = 2
    return changes(wrap(step), lambda: setattr(inner, "scale", 3))


@scenario
def counting_function(wrap):
    def inner(x):
        inner.calls += 1
        return x + inner.calls

    inner.calls = 0
    f = wrap(lambda x: inner(x))
    return [f(one()) for _ in range(N)], inner.calls


@scenario
def hooks_on_what_is_saved(wrap):
    """What a call does not look at counts all the same where the function's own code puts something there."""
    net = nn.Linear(2, 2)
    opt = torch.optim.SGD(net.parameters(), 0.1)
    given = torch.ones(2)

    def of_the_module(x):
        net.register_load_state_dict_post_hook(lambda module, keys: None)
        return net(x)

    def of_the_optimizer(x):
        opt.register_load_state_dict_post_hook(lambda optimizer: None)
        opt.zero_grad()
        return net(x)

    for step in (of_the_module, of_the_optimizer):
        f = wrap(step)
        for _ in range(N):
            f(given)
    return len(net._load_state_dict_post_hooks), len(opt._optimizer_load_state_dict_post_hooks)


@scenario
def counting_itself(wrap):
    def inner(x):
        inner.calls = getattr(inner, "calls", 0) + 1
        return x

    f = wrap(inner)
    for _ in range(N):
        f(one())
    return inner.calls


@scenario
def defaults_replaced(wrap):
    def inner(x, n=2, *, k=1):
        return x * n + k

    return changes(
        wrap(lambda x: inner(x)),
        lambda: setattr(inner, "__defaults__", (3,)),
        lambda: inner.__kwdefaults__.update(k=5),
        lambda: setattr(inner, "__kwdefaults__", {"k": 7}),
    )


@scenario
def code_replaced(wrap):
    def inner(x):
        return x * 2

    def other(x):
        return x * 3

    return changes(wrap(lambda x: inner(x)), lambda: setattr(inner, "__code__", other.__code__))


@scenario
def mutable_default(wrap):
    def inner(x, seen=[]):  # noqa: B006
        seen.append(1)
        return x * len(seen)

    f = wrap(lambda x: inner(x))
    return [f(one()) for _ in range(N)]


@scenario
def mutable_default_changed(wrap):
    def inner(x, scale=[2]):  # noqa: B006
        return x * scale[0]

    return changes(wrap(lambda x: inner(x)), lambda: inner.__defaults__[0].__setitem__(0, 5))


@scenario
def key_renamed(wrap):
    cfg = {"double": 1}

    def f(x):
        return x * 2 if "double" in cfg else x * 3

    def change():
        cfg["triple"] = cfg.pop("double")

    return changes(wrap(f), change)


@scenario
def keys_reordered(wrap):
    cfg = {"a": 1, "b": 1}

    def f(x):
        return x * (2 if next_of(cfg) == "a" else 3)

    def next_of(d):
        return next(k for k in [*d])

    return changes(wrap(f), lambda: cfg.update(a=cfg.pop("a")))


@scenario
def ordered_dict_moved(wrap):
    layers = collections.OrderedDict(a=lambda x: x + 1, b=lambda x: x * 2)

    def f(x):
        for layer in layers.values():
            x = layer(x)
        return x

    return changes(wrap(f), lambda: layers.move_to_end("a"))


class Config(dict):
    scale = 2


@scenario
def dict_with_attributes(wrap):
    cfg = Config(n=1)

    def f(x):
        return x * cfg.scale * cfg["n"]

    return changes(wrap(f), lambda: setattr(cfg, "scale", 3), lambda: cfg.update(n=4))


class Items(list):
    pass


@scenario
def list_with_attributes(wrap):
    items = Items([1])
    items.scale = 2
    return changes(wrap(lambda x: x * items.scale * items[0]), lambda: setattr(items, "scale", 3))


class Lying(dict):
    def __len__(self):
        return 1

    def values(self):
        return [2]


@scenario
def dict_with_its_own_values(wrap):
    d = Lying(a=1)

    def f(x):
        return x * d["a"]

    return changes(wrap(f), lambda: d.__setitem__("a", 5))


class Number(int):
    pass


@scenario
def int_with_attributes(wrap):
    n = Number(3)
    n.scale = 2
    return changes(wrap(lambda x: x * n * n.scale), lambda: setattr(n, "scale", 3))


class Base:
    scale = 2

    def of(self, x):
        return x * self.scale


class Child(Base):
    pass


@scenario
def attribute_of_a_base_class(wrap):
    obj = Child()

    def restore():
        Base.scale = 2

    try:
        return changes(wrap(lambda x: obj.of(x)), lambda: setattr(Base, "scale", 3))
    finally:
        restore()


@scenario
def class_replaced(wrap):
    class A:
        def of(self, x):
            return x * 2

    class B:
        def of(self, x):
            return x * 3

    obj = A()
    return changes(wrap(lambda x: obj.of(x)), lambda: setattr(obj, "__class__", B))


@scenario
def method_replaced_in_the_class(wrap):
    class Net(nn.Module):
        def forward(self, x):
            return x * 2

    net = Net()
    return changes(wrap(lambda x: net(x)), lambda: setattr(Net, "forward", lambda self, x: x * 3))


@scenario
def dunder_replaced_in_the_class(wrap):
    class Scale:
        def __call__(self, x):
            return x * 2

    scale = Scale()
    return changes(wrap(lambda x: scale(x)), lambda: setattr(Scale, "__call__", lambda self, x: x * 3))


@scenario
def method_replaced_on_the_instance(wrap):
    net = nn.Linear(2, 2)
    f = wrap(lambda x: net(x))
    return changes(f, lambda: setattr(net, "forward", lambda x: x * 3))


class Slotted:
    __slots__ = ("n",)


class Half(Slotted):
    pass


@scenario
def attributes_replaced(wrap):
    obj = Base()
    obj.scale = 2
    return changes(wrap(lambda x: obj.of(x)), lambda: setattr(obj, "__dict__", {"scale": 5}))


@scenario
def cell_emptied(wrap):
    n = 2

    def f(x):
        try:
            return x * n
        except NameError:
            return x

    def change():
        nonlocal n
        del n

    return changes(wrap(f), change)


@scenario
def slots_and_attributes(wrap):
    obj = Half()
    obj.n, obj.k = 2, 1
    return changes(wrap(lambda x: x * obj.n + obj.k), lambda: setattr(obj, "n", 3), lambda: setattr(obj, "k", 3))


@dataclasses.dataclass
class Settings:
    kind: str = "a"
    scale: int = 2


@scenario
def dataclass_compared(wrap):
    cfg, other = Settings(), Settings()

    def f(x):
        return x * 2 if cfg == other else x * 3

    return changes(wrap(f), lambda: setattr(other, "scale", 5), lambda: setattr(other, "scale", 2))


@scenario
def dataclass_as_dict(wrap):
    cfg = Settings()
    return changes(wrap(lambda x: x * dataclasses.asdict(cfg)["scale"]), lambda: setattr(cfg, "scale", 5))


@scenario
def attribute_by_name(wrap):
    cfg = types.SimpleNamespace(scale=2)
    return changes(
        wrap(lambda x: x * (getattr(cfg, "scale") if hasattr(cfg, "scale") else 1)),  # noqa: B009
        lambda: setattr(cfg, "scale", 5), lambda: delattr(cfg, "scale"), lambda: setattr(cfg, "scale", 6),
    )  # fmt: skip


@scenario
def has_attribute(wrap):
    cfg = types.SimpleNamespace()
    return changes(wrap(lambda x: x * 2 if hasattr(cfg, "flag") else x), lambda: setattr(cfg, "flag", 1))


@scenario
def attrgetter(wrap):
    cfg, get = types.SimpleNamespace(scale=2), operator.attrgetter("scale")
    return changes(wrap(lambda x: x * get(cfg)), lambda: setattr(cfg, "scale", 5))


@scenario
def matched(wrap):
    cfg = Settings()

    def f(x):
        match cfg:
            case Settings(kind="a"):
                return x * 2
        return x * 3

    return changes(wrap(f), lambda: setattr(cfg, "kind", "b"))


@scenario
def through_a_weak_reference(wrap):
    cfg = Base()
    cfg.scale = 2
    ref = weakref.ref(cfg)
    return changes(wrap(lambda x: x * ref().scale), lambda: setattr(cfg, "scale", 5))


@scenario
def property_with_a_closure(wrap):
    box = [2]

    class A:
        scale = property(lambda self: box[0])

    obj = A()
    return changes(wrap(lambda x: x * obj.scale), lambda: box.__setitem__(0, 5))


@scenario
def cached(wrap):
    box = [2]

    @functools.cache
    def scale():
        return box[0]

    def change():
        box[0] = 5

    return changes(wrap(lambda x: x * scale()), change, scale.cache_clear)


@scenario
def generator_outside(wrap):
    numbers = (i for i in range(1, 100))

    def f(x):
        for n in numbers:
            return x * n
        return None

    f = wrap(f)
    return [f(one()) for _ in range(8)]


@scenario
def flag_that_is_equal(wrap):
    cfg = {"n": 1}
    return changes(wrap(lambda x: x[cfg["n"]] if cfg["n"] is True else x * cfg["n"]), lambda: cfg.update(n=1.0))


@scenario
def nonlocal_counter(wrap):
    n = 0

    def f(x):
        nonlocal n
        n += 1
        return x * n

    f = wrap(f)
    return [f(one()) for _ in range(8)], n


@scenario
def raises_later(wrap):
    cfg = {"limit": 10}

    def f(x):
        if cfg["limit"] < 5:
            raise ValueError("limit")
        return x * cfg["limit"]

    f = wrap(f)
    found = [f(one()) for _ in range(N)]
    cfg["limit"] = 3
    for _ in range(2):
        try:
            f(one())
        except ValueError as e:
            found.append(str(e))
    cfg["limit"] = 10
    return [*found, f(one())]


# ---- arguments and results -------------------------------------------------------------------------------------------


@scenario
def shape_of_an_argument(wrap):
    f = wrap(lambda x, y: x * y.shape[0])
    return [f(one(), torch.ones(n)) for n in (2, 2, 2, 2, 2, 2, 3, 3, 2)]


@scenario
def facts_of_an_argument(wrap):
    def f(x, y):
        return x * 2 if y.requires_grad else x * 3 if y.dtype == torch.float64 else x * 4 if y.grad is None else x * 5

    f = wrap(f)
    graded = torch.ones(2, requires_grad=True)
    given = [torch.ones(2)] * 5 + [graded] * 2 + [torch.ones(2, dtype=torch.float64)] * 4
    plain = torch.ones(2)
    found = [f(one(), y) for y in given] + [f(one(), plain) for _ in range(5)]
    plain.grad = torch.ones(2)
    return [*found, f(one(), plain), f(one(), plain)]


@scenario
def kind_of_an_argument(wrap):
    f = wrap(lambda w: w * 2 if isinstance(w, nn.Parameter) else w * 3)
    frozen = nn.Parameter(one(), requires_grad=False)
    return [f(one()) for _ in range(N)] + [f(frozen) for _ in range(N)] + [f(one())]


@scenario
def something_on_an_argument(wrap):
    f = wrap(lambda x: x * 2 if getattr(x, "double", False) else x)

    def marked():
        x = one()
        x.double = True
        return x

    return [f(one()) for _ in range(N)] + [f(marked()) for _ in range(N)] + [f(one())]


@scenario
def something_on_a_parameter(wrap):
    w = nn.Parameter(one())
    w.frozen = False
    return changes(wrap(lambda x: x + 1 if w.frozen else x * w.detach()), lambda: setattr(w, "frozen", True))


@scenario
def argument_dict_written(wrap):
    def f(batch):
        batch["y"] = batch["x"] * 2
        return batch["y"].sum()

    f, found = wrap(f), []
    for i in range(N):
        batch = {"x": one(i)}
        found += [f(batch), dict(batch)]
    return found


@scenario
def argument_list_written(wrap):
    def f(x, out):
        out[0] = x * 2

    f, found = wrap(f), []
    for i in range(N):
        out = [one()]
        f(one(i), out)
        found.append(list(out))
    return found


@scenario
def argument_list_that_is_reached(wrap):
    kept = [2]

    def f(x, scales):
        return x * scales[0] * kept[0]

    f = wrap(f)
    return [f(one(), kept) for _ in range(N)] + [f(one(), [3]) for _ in range(3)]


@scenario
def the_list_that_is_reached_comes_back(wrap):
    kept = [one()]

    def f(x):
        return kept

    f = wrap(f)
    return [f(one()) is kept for _ in range(N)]


@scenario
def the_argument_comes_back(wrap):
    f = wrap(lambda batch: batch)
    found = []
    for _ in range(N):
        batch = [one()]
        found += [f(batch) is batch, f((batch, 1))[0] is batch]
    return found


@scenario
def one_result_twice(wrap):
    def f(x):
        y = x * 2
        return y, y

    f = wrap(f)
    return [operator.is_(*f(one())) for _ in range(N)]


@scenario
def equal_keys_and_numbers(wrap):
    def f(d, n):
        k = next(iter(d))
        return d[k] * (2 if k is True else 3) * (1 if str(n)[1:2] == "-" or str(n)[:1] == "-" else 4)

    f = wrap(f)
    found = [f({1: one()}, 1 - 0j) for _ in range(N)] + [f({True: one()}, 1 + 0j) for _ in range(N)]
    return found + [f({1: one()}, complex(-0.0, 1)) for _ in range(3)] + [f({1: one()}, 1j) for _ in range(3)]


@scenario
def views_and_aliases_as_arguments(wrap):
    def f(a, b):
        a.add_(1)
        return a + b

    f, base = wrap(f), torch.arange(6.0)
    found = [f(torch.ones(3), torch.ones(3)) for _ in range(N)]
    for _ in range(3):
        found += [f(base[:3], base[3:]), f(base[:3], base[1:4]), f(base[:3], base[:3]), base.clone()]
    return found


@pytest.mark.parametrize("execution", ["deferred", "eager"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario(name, execution):
    check(SCENARIOS[name], execution)
