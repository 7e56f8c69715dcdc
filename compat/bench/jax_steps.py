"""Hand-written JAX: the same models, weights and batches, as one jitted and donated step each."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from compat.bench.workloads import gpt

NAMES = ("mlp_tiny", "mlp", "cnn", "gpt")
_steps: list = []


def counts() -> dict:
    """How many programs the step was compiled to."""
    return {"compiles": sum(f._cache_size() for f in _steps)}


def build(name: str, arrays: str) -> Callable:
    """The step of a workload, from the weights and batches that `save` wrote."""
    with np.load(arrays) as file:
        params = {k[2:]: jnp.asarray(v) for k, v in file.items() if k.startswith("p:")}
        x = [jnp.asarray(v) for k, v in file.items() if k.startswith("x:")]
        y = [jnp.asarray(v, jnp.int32 if v.dtype == np.int64 else None) for k, v in file.items() if k.startswith("y:")]
    loss, init, update = STEPS[name]

    def train(params, state, x, y):
        value, grads = jax.value_and_grad(loss)(params, x, y)
        params, state = update(params, grads, state)
        return params, state, value

    jitted = jax.jit(train, donate_argnums=(0, 1))
    _steps.append(jitted)
    state, data = init(params), itertools.cycle(list(zip(x, y)))

    def step():
        nonlocal params, state
        params, state, value = jitted(params, state, *next(data))
        return value

    return step


def save(torch, name: str, path: str) -> None:
    """Writes the first weights and the batches of a workload, made by `torch`."""
    from compat.bench import workloads

    net, batches = workloads.load(name).make(torch)
    arrays = {f"p:{k}": v.detach().numpy() for k, v in net.named_parameters()}
    for i, (x, y) in enumerate(batches):
        arrays |= {f"x:{i}": x.numpy(), f"y:{i}": y.numpy()}
    np.savez(path, **arrays)


# ---- optimizers ------------------------------------------------------------------------------------------------------

_map = jax.tree.map


def _sgd(rate, momentum):
    def update(params, grads, state):
        state = _map(lambda m, g: momentum * m + g, state, grads)
        return _map(lambda p, m: p - rate * m, params, state), state

    return lambda params: _map(jnp.zeros_like, params), update


def _adam(rate, decay=0.0, clip=None, b1=0.9, b2=0.999, eps=1e-8):
    def init(params):
        return _map(jnp.zeros_like, params), _map(jnp.zeros_like, params), jnp.zeros((), jnp.float32)

    def update(params, grads, state):
        if clip is not None:
            norm = jnp.sqrt(sum(jnp.sum(g * g) for g in jax.tree.leaves(grads)))
            scale = jnp.minimum(1.0, clip / (norm + 1e-6))
            grads = _map(lambda g: g * scale, grads)
        m, v, t = state
        t = t + 1
        m = _map(lambda m, g: b1 * m + (1 - b1) * g, m, grads)
        v = _map(lambda v, g: b2 * v + (1 - b2) * g * g, v, grads)

        def move(p, m, v):
            return p * (1 - rate * decay) - rate / (1 - b1**t) * m / (jnp.sqrt(v) / jnp.sqrt(1 - b2**t) + eps)

        return _map(move, params, m, v), (m, v, t)

    return init, update


# ---- models ----------------------------------------------------------------------------------------------------------


def _linear(p, name, x):
    y = x @ p[f"{name}.weight"].T
    return y + p[f"{name}.bias"] if f"{name}.bias" in p else y


def _cross_entropy(logits, y):
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), y[..., None], -1).mean()


def _mlp_tiny(p, x, y):
    h = jnp.tanh(_linear(p, "2", jnp.tanh(_linear(p, "0", x))))
    return jnp.mean((_linear(p, "4", h) - y) ** 2)


def _mlp(p, x, y):
    return _cross_entropy(_linear(p, "4", jax.nn.relu(_linear(p, "2", jax.nn.relu(_linear(p, "0", x))))), y)


def _cnn(p, x, y):
    for name in ("0", "3"):
        x = jax.lax.conv_general_dilated(
            x, p[f"{name}.weight"], (1, 1), "SAME", dimension_numbers=("NCHW", "OIHW", "NCHW")
        )
        x = jax.nn.relu(x + p[f"{name}.bias"][:, None, None])
        x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")
    return _cross_entropy(_linear(p, "7", x.reshape(x.shape[0], -1)), y)


def _norm(p, name, x):
    x = x - x.mean(-1, keepdims=True)
    return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-5) * p[f"{name}.weight"] + p[f"{name}.bias"]


def _gpt(p, x, y):
    b, t = x.shape
    split = (b, t, gpt.HEADS, gpt.WIDTH // gpt.HEADS)
    h = p["tokens.weight"][x] + p["places.weight"][:t]
    causal = jnp.tril(jnp.ones((t, t), bool))
    for i in range(gpt.LAYERS):
        name = f"blocks.{i}"
        q, k, v = (a.reshape(split) for a in jnp.split(_linear(p, f"{name}.qkv", _norm(p, f"{name}.ln1", h)), 3, -1))
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(split[-1])
        weights = jax.nn.softmax(jnp.where(causal, scores, -jnp.inf), -1)
        h = h + _linear(p, f"{name}.out", jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(h.shape))
        up = jax.nn.gelu(_linear(p, f"{name}.up", _norm(p, f"{name}.ln2", h)), approximate=False)
        h = h + _linear(p, f"{name}.down", up)
    return _cross_entropy(_linear(p, "head", _norm(p, "ln", h)), y)


STEPS = {
    "mlp_tiny": (_mlp_tiny, *_sgd(0.02, 0.9)),
    "mlp": (_mlp, *_adam(1e-3)),
    "cnn": (_cnn, *_sgd(0.01, 0.9)),
    "gpt": (_gpt, *_adam(1e-3, decay=0.1, clip=1.0)),
}
