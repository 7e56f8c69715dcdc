"""Rounds in a trace: where they are found, what is a loop of them, and that it computes what the straight program does."""

import chex
import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest

import jtorch as torch
from jtorch._profiling import hlo
from jtorch._runtime import background, devices, dtypes, loops, programs
from jtorch._runtime.avals import aval
from jtorch._runtime.kernel import Kernel
from jtorch._runtime.repeats import find
from jtorch._runtime.trace import Step

ROUNDS = 20
F32 = dtypes.from_numpy(np.dtype(np.float32))


def array(*shape):
    return aval(shape, F32, devices.CPU)


def kernel(fn, *shapes, numbers=""):
    return Kernel(getattr(fn, "__name__", "fn"), fn, tuple(array(*s) for s in shapes), numbers)


class Trace:
    """A trace made by hand: inputs first."""

    def __init__(self, *shapes):
        self.end = Step(None, "root")
        self.ops, self.shapes = [], shapes
        for shape in shapes:
            self.end = Step(self.end, "in", outs=((array(*shape), None),))

    def call(self, kernel, *ins, numbers=()):
        """One more operation: the slot of its result, or the slots."""
        self.end = Step(self.end, "op", kernel, ins, tuple(numbers), tuple((a, None) for a in kernel.out))
        self.ops.append(self.end)
        slots = range(self.end.slot, self.end.end)
        return slots[0] if len(slots) == 1 else list(slots)

    def program(self, wanted):
        """The function of the inputs and the numbers that is compiled."""
        numbers = [n for s in self.ops for n in s.numbers]
        _, given = programs.run_time_numbers(numbers, devices.CPU)
        compute = programs.body(self.ops, wanted)

        def fn(arrays, numbers):
            env = dict(enumerate(arrays))
            compute(env, given(numbers))
            return [env[slot] for slot in wanted]

        return fn

    def arguments(self):
        generator = np.random.default_rng(0)
        numbers = {n for s in self.ops for n in s.numbers}
        floats, ints = (len([k for k, _ in numbers if k == kind]) for kind in "fi")
        arrays = [jnp.asarray(generator.normal(size=s).astype(np.float32)) for s in self.shapes]
        made = jnp.asarray(generator.uniform(0.5, 1, floats)), jnp.asarray(generator.integers(0, 3, ints))
        return arrays, [a for a in made if a.size]


def equations(jaxpr):
    """All equations, those of inner functions too."""
    for eqn in jaxpr.eqns:
        yield eqn
        for inner in jax.extend.core.jaxprs_in_params(eqn.params):
            yield from equations(inner)


def count(jaxpr, name):
    return sum(eqn.primitive.name == name for eqn in equations(jaxpr))


B, H = 3, 5
mix = kernel(lambda h, w: (jnp.tanh(h @ w),), (B, H), (H, H))
add = kernel(lambda a, b: (a + b,), (B, H), (B, H))
add_w = kernel(lambda a, b: (a + b,), (H, H), (H, H))
scaled = kernel(lambda a, n: ((a @ jnp.ones((H, H), a.dtype)) * n.astype(a.dtype),), (B, H), numbers="f")
row = kernel(lambda x, i: (jax.lax.dynamic_index_in_dim(x, i, 0, False),), (ROUNDS, B, H), numbers="i")
two = kernel(lambda a, w: (a @ w, jnp.exp(-a)), (B, H), (H, H))
stack = kernel(lambda *a: (jnp.stack(a),), *[(B, H)] * ROUNDS)
unstack = kernel(lambda a: tuple(a[i] for i in range(ROUNDS)), (ROUNDS, B, H))
nested = kernel(lambda a, w: (jax.nn.relu(jax.jit(jnp.matmul)(a, w)),), (B, H), (H, H))
swap = kernel(lambda a, b, w: (b, a @ w), (B, H), (B, H), (H, H))
add_b = kernel(lambda a, b: (a + b,), (H,), (H,))
affine = kernel(lambda a, w, b: (jnp.tanh(a @ w.T + b),), (B, H), (H, H), (H,))
affine_back, _ = affine.vjp((True, True, True), (True,))
back, back_reads = mix.vjp((True, True), (True,))
assert back_reads == (True, True)


def repeated(t):
    """Each round takes the last one's result, and the same weights."""
    h = 0
    for _ in range(ROUNDS):
        h = t.call(mix, h, 1)
    return [h]


def numbered(t):
    """Each round has numbers of its own."""
    h = 0
    for r in range(ROUNDS):
        h = t.call(add, t.call(scaled, h, numbers=[("f", 100 + r)]), t.call(row, 2, numbers=[("i", 200 + r)]))
    return [h]


def numbers_alike(t):
    """All rounds have one number in common, and another the other way round."""
    h = 0
    for r in range(ROUNDS):
        h = t.call(scaled, t.call(scaled, h, numbers=[("f", 7)]), numbers=[("f", 500 - 3 * r)])
    return [h]


def all_kept(t):
    """The results of all rounds are asked for, one by one and stacked."""
    kept = [0]
    for _ in range(ROUNDS):
        kept.append(t.call(mix, kept[-1], 1))
    return [t.call(stack, *kept[1:]), kept[3], kept[-1]]


def given_each(t):
    """Each round takes another value from outside, which one operation gave."""
    h = 0
    for x in t.call(unstack, 2):
        h = t.call(add, t.call(mix, h, 1), t.call(mix, x, 1))
    return [h]


def two_results(t):
    """Of one operation's results one is carried, the other read once, of the last round."""
    h = 0
    for _ in range(ROUNDS):
        h, e = t.call(two, h, 1)
    return [e, h]


def shifted(t):
    """What a round takes passes through it to the next."""
    a, b = 0, t.call(mix, 0, 1)
    kept = []
    for _ in range(ROUNDS):
        a, b = t.call(swap, a, b, 1)
        kept.append(a)
    return [a, b, t.call(stack, *kept)]


def with_calls(t):
    h = 0
    for _ in range(ROUNDS):
        h = t.call(nested, h, 1)
    return [h]


def backward(t):
    """A loop, and its gradient: in reverse, with a sum for the weights."""
    kept = [0]
    for _ in range(ROUNDS):
        kept.append(t.call(mix, kept[-1], 1))
    ct, total = kept[-1], None
    for h in reversed(kept[:-1]):
        ct, w = t.call(back, h, 1, ct)
        total = w if total is None else t.call(add_w, total, w)
    return [ct, total]


def added_twice(t):
    """Each round adds to the gradients twice, and to that of a bias."""
    kept = [0]
    for _ in range(2 * ROUNDS):
        kept.append(t.call(affine, kept[-1], 1, 3))
    ct, total, bias = kept[-1], 1, 3
    for k, h in enumerate(reversed(kept[:-1])):
        ct, w, b = t.call(affine_back, h, 1, 3, ct)
        total, bias = t.call(add_w, total, w), t.call(add_b, b, bias)
        if k % 2:
            ct = t.call(mix, ct, 1)
    return [total, ct, bias]


def sums_read(t):
    """What has been added up is asked for after each round."""
    h, total, kept = 0, 0, []
    for _ in range(ROUNDS):
        h = t.call(mix, h, 1)
        total = t.call(add, total, t.call(scaled, h, numbers=[("f", 7)]))
        kept.append(total)
    return [total, t.call(stack, *kept)]


def odd_ends(t):
    """The first and last rounds are others."""
    h = t.call(add, t.call(nested, 0, 1), 0)
    for _ in range(ROUNDS):
        h = t.call(add, t.call(mix, h, 1), h)
    return [t.call(nested, t.call(add, h, h), 1), h]


CASES = [
    repeated, numbered, numbers_alike, all_kept, given_each, two_results, shifted, with_calls, backward, added_twice, sums_read, odd_ends,
]  # fmt: skip


def made(case):
    t = Trace((B, H), (H, H), (ROUNDS, B, H), (H,))
    return t, case(t)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_a_loop_gives_what_the_straight_program_does(case, monkeypatch):
    t, wanted = made(case)
    args = t.arguments()
    looped = jax.make_jaxpr(t.program(wanted))(*args)
    assert count(looped.jaxpr, "while") == (2 if case in (backward, added_twice) else 1)
    results = jax.jit(t.program(wanted))(*args)
    monkeypatch.setattr(loops, "ROUNDS", 1000)
    straight = jax.make_jaxpr(t.program(wanted))(*args)
    assert count(straight.jaxpr, "while") == 0
    chex.assert_trees_all_close(results, t.program(wanted)(*args), rtol=1e-4, atol=1e-6)


def test_the_size_of_a_loop_is_that_of_a_round():
    def sizes(n):
        t = Trace((B, H), (H, H))
        h = 0
        for _ in range(n):
            h = t.call(add, t.call(mix, h, 1), h)
        return len(list(equations(jax.make_jaxpr(t.program([h]))(*t.arguments()).jaxpr)))

    assert sizes(20) == sizes(60)


def test_the_forward_is_not_computed_again():
    t, wanted = made(backward)
    jaxpr = jax.make_jaxpr(t.program(wanted))(*t.arguments()).jaxpr
    whiles = [eqn for eqn in jaxpr.eqns if eqn.primitive.name == "while"]
    dots, tanhs = ([count(w.params["body_jaxpr"].jaxpr, name) for w in whiles] for name in ("dot_general", "tanh"))
    # Of the gradient's two products that for the weights is one, after the loop. Of the forward there is nothing.
    assert dots == [1, 1] and tanhs == [1, 0]
    assert sum(eqn.primitive.name == "dot_general" for eqn in jaxpr.eqns) == 4  # a round's that is in no loop, too
    # What the rounds take from each other is kept once, and read as both the input and the result.
    assert sum(v.aval.shape == (ROUNDS, B, H) for v in whiles[0].outvars) == 0
    assert sum(v.aval.shape == (ROUNDS + 1, B, H) for v in whiles[0].outvars) == 1


def found_in(t, apart=()):
    return [(cuts[0].start, cuts[0].length, cuts[0].rounds) for cuts in find(t.ops, apart, 16)]


class TestFinding:
    def test_the_rounds_of_a_loop(self):
        assert found_in(made(repeated)[0]) == [(0, 1, ROUNDS)]
        assert found_in(made(numbered)[0]) == [(0, 3, ROUNDS)]
        assert found_in(made(odd_ends)[0]) == [(2, 2, ROUNDS)]
        assert found_in(made(backward)[0]) == [(0, 1, ROUNDS), (ROUNDS + 1, 2, ROUNDS - 1)]

    def test_too_few(self):
        t = Trace((B, H), (H, H))
        h = 0
        for _ in range(15):
            h = t.call(mix, h, 1)
        assert found_in(t) == []

    def test_what_is_apart_is_in_no_round(self):
        t, _ = made(repeated)
        assert found_in(t, {t.ops[2]}) == [(3, 1, ROUNDS - 3)]

    def test_the_sources(self):
        t, _ = made(numbered)
        ((rounds, *_),) = find(t.ops, (), 16)
        assert rounds.sources == [[("carried", 2, 0)], [("always", 2)], [("made", 0, 0), ("made", 1, 0)]]
        assert rounds.carried == {(2, 0): 0}

    def test_wired_otherwise(self):
        t = Trace((B, H), (H, H))
        made = [0]
        for r in range(40):  # each takes what one of the last few made, never the same way back twice in a row
            made.append(t.call(mix, made[-1 - r % 3 if r > 3 else 0], 1))
        assert found_in(t) == []


class TestNotWorthIt:
    """XLA's own form of these is faster."""

    def whiles(self, t, wanted):
        return count(jax.make_jaxpr(t.program(wanted))(*t.arguments()).jaxpr, "while")

    def test_what_becomes_one_pass(self):
        t = Trace((B, H), (B, H))
        h = 0
        for _ in range(ROUNDS):
            h = t.call(add, h, 1)
        assert self.whiles(t, [h]) == 0

    def test_weights_of_each_round_of_its_own(self):
        t = Trace((B, H), *[(H, H)] * ROUNDS)
        h = 0
        for r in range(ROUNDS):
            h = t.call(mix, h, 1 + r)
        assert self.whiles(t, [h]) == 0

    def test_weights_that_one_operation_writes_in_the_end(self):
        t = Trace((B, H), *[(H, H)] * ROUNDS)
        step = kernel(lambda *w: tuple(0.9 * a for a in w), *[(H, H)] * ROUNDS)
        h = 0
        for r in range(ROUNDS):
            h = t.call(mix, h, 1 + r)
        assert self.whiles(t, [h, *t.call(step, *range(1, 1 + ROUNDS))]) == 0

    def test_what_is_all_read_one_by_one(self):
        t = Trace((B, H), (H, H))
        kept = [0]
        for _ in range(ROUNDS):
            kept.append(t.call(mix, kept[-1], 1))
        assert self.whiles(t, kept[1:]) == 0


def test_a_profile_shares_a_loop_out_between_its_rounds():
    t, wanted = made(numbered)
    found = hlo.shares(jax.jit(t.program(wanted)).lower(*t.arguments()).compile().as_text())
    assert {place for _, shares in found.values() for place in shares} == set(range(3 * ROUNDS))
    for what, shares in found.values():
        assert not shares or sum(shares.values()) == pytest.approx(1), what
    line = '  %d = f32[3]{0} add(%a, %b), metadata={op_name="jit(trace)/while/body/jtorch.4.3.2/add"}'
    assert hlo.shares(line)["d"] == ("add", {4: 0.5, 7: 0.5})


@pytest.mark.parametrize("size", [4, 160])  # the larger's weights are donated
def test_training_steps_through_a_loop(size):
    def losses(mode):
        with torch.execution(mode):
            torch.manual_seed(0)
            cell, head = torch.nn.RNNCell(3, size), torch.nn.Linear(size, 1)
            parameters = [*cell.parameters(), *head.parameters()]
            optimizer = torch.optim.Adam(parameters, lr=1e-2)
            x, y = torch.randn(2, 24, 3), torch.randn(2, 24, 1)
            found = []
            for k in range(5):
                optimizer.param_groups[0]["lr"] = 1e-2 / (k + 1)
                optimizer.zero_grad()
                h = torch.zeros(2, size)
                outs = []
                for step in range(24):
                    h = cell(x[:, step], h) * (1 + 0.01 * step)
                    outs.append(head(h))
                loss = ((torch.stack(outs, 1) - y) ** 2).mean()
                loss.backward()
                optimizer.step()
                found.append(loss.item())
            return found + [p.detach().sum().item() for p in parameters]

    assert losses("deferred") == pytest.approx(losses("eager"), rel=1e-4, abs=1e-5)


# What a round may do with what it has (h, g), what is another each round (x), weights (p) and its number (i).
PARTS = [
    lambda h, g, x, p, i: torch.tanh(p[0]) + 0.1 * h,  # a part that is the same in all rounds
    lambda h, g, x, p, i: h @ p * 0.3,
    lambda h, g, x, p, i: x * (0.1 * i + 0.3) - g,
    lambda h, g, x, p, i: torch.where(h > 0.1, x, h),
    lambda h, g, x, p, i: torch.sigmoid(h).detach() * g,
    lambda h, g, x, p, i: torch.softmax(h + x, 0),
    lambda h, g, x, p, i: (h * g).sum() * x,
    lambda h, g, x, p, i: torch.cat([h, x])[1 : 1 + len(h)],
    lambda h, g, x, p, i: torch.nn.functional.linear(x, p) * 0.3,
    lambda h, g, x, p, i: torch.flip(g, [0]).clamp(-0.7, 0.9),
    lambda h, g, x, p, i: h.clone().mul_(0.9).add_(x, alpha=0.1),
    lambda h, g, x, p, i: torch.maximum(g, torch.exp(-(h**2))),
]  # fmt: skip


@pytest.mark.parametrize("seed", range(24))
def test_scripts_with_loops(seed, monkeypatch):
    """Any of them gives what it does operation by operation, and the same gradients."""
    monkeypatch.setattr(background, "_ALLOWED", False)
    random = np.random.default_rng(seed)
    n, size = int(random.integers(16, 24)), int(random.choice([1, 2, 4]))
    chosen = [PARTS[k] for k in random.choice(len(PARTS), 3, replace=False)]
    kept, turn, second, cut = random.random(4) < 0.5
    numbers = random.normal(size=(n, size)).astype(np.float32), random.normal(size=(size, size)).astype(np.float32)

    def script():
        x, p = (torch.tensor(a, requires_grad=True) for a in numbers)
        h, g, outs, total = torch.zeros(size), p[0] * 1, [], 0
        for i in reversed(range(n)) if turn else range(n):
            h = torch.tanh(chosen[0](h, g, x[i], p, i)) + 0.1 * h
            g = torch.tanh(chosen[1](g, h, x[n - 1 - i], p, i))
            outs.append(chosen[2](h, g, x[i], p, i))
            total = total + outs[-1].sum()
            if cut and i % 5 == 4:
                h = h.detach()
        if second:
            for i, out in enumerate(outs):
                h = torch.tanh(h * out + x[i])
        loss = h.sum() + g.sum() + (torch.stack(outs).square().mean() if kept else outs[3].sum() + total)
        loss.backward()
        zeros = torch.zeros(1)
        return [t.tolist() for t in (loss, h, *outs, *((zeros if t.grad is None else t.grad) for t in (x, p)))]

    with torch.execution("eager"):
        expected = script()
    with torch.execution("deferred"):
        for _ in range(2):
            chex.assert_trees_all_close(script(), expected, rtol=2e-3, atol=1e-4)
