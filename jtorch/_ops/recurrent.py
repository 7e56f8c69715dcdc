"""Recurrent networks: whole sequences through all layers and directions, and single cells.

A layer's input projection is one matrix product over all steps, ahead of the scan; only the hidden state's product is
inside. Parameters come flat, in torch's order: for every layer, for every direction, w_ih, w_hh, then b_ih, b_hh where
there are biases, then w_hr where an LSTM projects its output.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jtorch._ops._common import Array, Arrays, scalar_name
from jtorch._ops._recurrences import Cell, Gated, LongShort, Plain, recur, times
from jtorch._ops.registry import op

_TANH = Plain(jnp.tanh, lambda h: 1 - h * h)
_RELU = Plain(jax.nn.relu, lambda h: (h > 0).astype(h.dtype))
_LSTM, _GRU = LongShort(), Gated()


@op(key="nn.rnn_tanh", name="rnn_tanh", function=False, out=False)
def rnn_tanh(
    input: Array,
    hx: Array,
    params: Arrays,
    lengths: Array | None = None,
    dropout_masks: Arrays = (),
    has_biases: bool = True,
    num_layers: int = 1,
    bidirectional: bool = False,
    batch_first: bool = False,
) -> tuple[Array, Array]:
    """Elman network with tanh; see `lstm` for the shapes. Returns output, h_n."""
    return _network(
        _TANH, input, (hx,), params, lengths, dropout_masks, has_biases, num_layers, bidirectional,
        batch_first, False,
    )  # fmt: skip


@op(key="nn.rnn_relu", name="rnn_relu", function=False, out=False)
def rnn_relu(
    input: Array,
    hx: Array,
    params: Arrays,
    lengths: Array | None = None,
    dropout_masks: Arrays = (),
    has_biases: bool = True,
    num_layers: int = 1,
    bidirectional: bool = False,
    batch_first: bool = False,
) -> tuple[Array, Array]:
    """Elman network with relu; see `lstm` for the shapes. Returns output, h_n."""
    return _network(
        _RELU, input, (hx,), params, lengths, dropout_masks, has_biases, num_layers, bidirectional,
        batch_first, False,
    )  # fmt: skip


@op(key="nn.gru", name="gru", function=False, out=False)
def gru(
    input: Array,
    hx: Array,
    params: Arrays,
    lengths: Array | None = None,
    dropout_masks: Arrays = (),
    has_biases: bool = True,
    num_layers: int = 1,
    bidirectional: bool = False,
    batch_first: bool = False,
) -> tuple[Array, Array]:
    """Gated recurrent units; see `lstm` for the shapes. Returns output, h_n."""
    return _network(
        _GRU, input, (hx,), params, lengths, dropout_masks, has_biases, num_layers, bidirectional, batch_first,
        False,
    )  # fmt: skip


@op(key="nn.lstm", name="lstm", function=False, out=False)
def lstm(
    input: Array,
    hx: Array,
    cx: Array,
    params: Arrays,
    lengths: Array | None = None,
    dropout_masks: Arrays = (),
    has_biases: bool = True,
    num_layers: int = 1,
    bidirectional: bool = False,
    batch_first: bool = False,
    projected: bool = False,
) -> tuple[Array, Array, Array]:
    """Long short-term memory over a batch of sequences. Returns output, h_n, c_n.

    input: (T, B, I), or (B, T, I) with batch_first. hx, cx: (layers * directions, B, H). lengths: (B), the steps that
    count in each sequence; output is 0 after them, the backward direction starts at the last of them, and h_n, c_n are
    the states there. dropout_masks: none, or a factor for the output of every layer but the last, (T, B, D * H) or
    with batch_first (B, T, D * H).
    """
    return _network(
        _LSTM, input, (hx, cx), params, lengths, dropout_masks, has_biases, num_layers, bidirectional,
        batch_first, projected,
    )  # fmt: skip


def _network(
    cell: Cell,
    input: Array,
    states: tuple[Array, ...],
    params: Arrays,
    lengths: Array | None,
    dropout_masks: Arrays,
    has_biases: bool,
    num_layers: int,
    bidirectional: bool,
    batch_first: bool,
    projected: bool,
) -> tuple[Any, ...]:
    directions = 2 if bidirectional else 1
    each = 2 + 2 * has_biases + projected
    if len(params) != each * num_layers * directions:
        raise RuntimeError(f"expected {each * num_layers * directions} recurrent parameters, got {len(params)}")
    steps = input.shape[1 if batch_first else 0]
    if steps == 0:
        raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
    sequence = jnp.swapaxes(input, 0, 1) if batch_first else input
    alive = None if lengths is None else (jnp.arange(steps)[:, None] < lengths[None, :])[..., None]
    finals: list[tuple[Array, ...]] = []
    for depth in range(num_layers):
        outputs = []
        for way in range(directions):
            row = depth * directions + way
            group = params[each * row : each * (row + 1)]
            parameters = _named(group, has_biases, projected)
            start = tuple(s[row] for s in states)
            output, final = _layer(cell, sequence, *parameters, start, alive, reverse=way == 1)
            outputs.append(output)
            finals.append(final)
        sequence = outputs[0] if directions == 1 else jnp.concatenate(outputs, axis=-1)
        if dropout_masks and depth + 1 < num_layers:
            mask = dropout_masks[depth]
            sequence = sequence * (jnp.swapaxes(mask, 0, 1) if batch_first else mask).astype(sequence.dtype)
    output = jnp.swapaxes(sequence, 0, 1) if batch_first else sequence
    return (output, *(jnp.stack(parts) for parts in zip(*finals, strict=True)))


def _named(group: Arrays, has_biases: bool, projected: bool) -> tuple[Any, Any, Any, Any, Any]:
    """w_ih, w_hh, b_ih, b_hh, w_hr of one layer and direction, None for what it lacks."""
    b_ih, b_hh = group[2:4] if has_biases else (None, None)
    return group[0], group[1], b_ih, b_hh, group[-1] if projected else None


def _layer(
    cell: Cell,
    x: Array,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None,
    b_hh: Array | None,
    w_hr: Array | None,
    start: tuple[Array, ...],
    alive: Array | None,
    reverse: bool,
) -> tuple[Array, tuple[Array, ...]]:
    """The output of one layer in one direction, and its final states."""
    if cell.summed and b_ih is not None and b_hh is not None:
        b_ih, b_hh = b_ih + b_hh, None
    output, final = recur(cell, reverse, times(x, w_ih, b_ih), w_hh, b_hh, w_hr, start, alive)
    return output if alive is None else jnp.where(alive, output, jnp.zeros((), output.dtype)), final


def _lstm_gates(gates: Array, c: Array) -> tuple[Array, Array]:
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def _gru_gates(from_input: Array, from_state: Array, h: Array) -> Array:
    reset_x, update_x, new_x = jnp.split(from_input, 3, axis=-1)
    reset_h, update_h, new_h = jnp.split(from_state, 3, axis=-1)
    reset, update = jax.nn.sigmoid(reset_x + reset_h), jax.nn.sigmoid(update_x + update_h)
    new = jnp.tanh(new_x + reset * new_h)
    return (h - new) * update + new


@op(out=False, grad_name="TanhBackward0")
def rnn_tanh_cell(
    input: Array, hx: Array, w_ih: Array, w_hh: Array, b_ih: Array | None = None, b_hh: Array | None = None
) -> Array:
    """tanh(w_ih x + b_ih + w_hh h + b_hh). input: (B, I), hx: (B, H)."""
    _check_cell(input, (hx,), w_ih, w_hh, 1)
    return jnp.tanh(times(input, w_ih, b_ih) + times(hx, w_hh, b_hh))


@op(out=False, grad_name="ReluBackward0")
def rnn_relu_cell(
    input: Array, hx: Array, w_ih: Array, w_hh: Array, b_ih: Array | None = None, b_hh: Array | None = None
) -> Array:
    """relu(w_ih x + b_ih + w_hh h + b_hh). input: (B, I), hx: (B, H)."""
    _check_cell(input, (hx,), w_ih, w_hh, 1)
    return jax.nn.relu(times(input, w_ih, b_ih) + times(hx, w_hh, b_hh))


@op(out=False, grad_name="MulBackward0")
def lstm_cell(
    input: Array, hx: Arrays, w_ih: Array, w_hh: Array, b_ih: Array | None = None, b_hh: Array | None = None
) -> tuple[Array, Array]:
    """One LSTM step: the new (h, c). input: (B, I), hx: h and c, each (B, H); gates in the order i, f, g, o."""
    if len(hx) != 2:
        raise RuntimeError("lstm_cell expects two hidden states")
    _check_cell(input, hx, w_ih, w_hh, 4)
    return _lstm_gates(times(input, w_ih, b_ih) + times(hx[0], w_hh, b_hh), hx[1])


@op(out=False, grad_name="AddBackward0")
def gru_cell(
    input: Array, hx: Array, w_ih: Array, w_hh: Array, b_ih: Array | None = None, b_hh: Array | None = None
) -> Array:
    """One GRU step: the new h. input: (B, I), hx: (B, H); gates in the order reset, update, new."""
    _check_cell(input, (hx,), w_ih, w_hh, 3)
    return _gru_gates(times(input, w_ih, b_ih), times(hx, w_hh, b_hh), hx)


def _check_cell(input: Array, states: Arrays, w_ih: Array, w_hh: Array, gates: int) -> None:
    if input.ndim != 2:
        raise IndexError("Dimension out of range (expected to be in range of [-1, 0], but got 1)")
    if input.shape[1] != w_ih.shape[1]:
        raise RuntimeError(f"input has inconsistent input_size: got {input.shape[1]} expected {w_ih.shape[1]}")
    hidden = w_hh.shape[0] // gates
    for i, state in enumerate(states):
        if state.shape[0] != input.shape[0]:
            raise RuntimeError(f"Input batch size {input.shape[0]} doesn't match hidden{i} batch size {state.shape[0]}")
        if state.shape[1] != hidden:
            raise RuntimeError(f"hidden{i} has inconsistent hidden_size: got {state.shape[1]}, expected {hidden}")
    if input.dtype != w_ih.dtype or states[0].dtype != w_hh.dtype:
        left, right = (input, w_ih) if input.dtype != w_ih.dtype else (states[0], w_hh)
        raise RuntimeError(
            f"mat1 and mat2 must have the same dtype, but got {scalar_name(left)} and {scalar_name(right)}"
        )
