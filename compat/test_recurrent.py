"""Recurrent layers: outputs, gradients, gradients of gradients, in every form a layer has."""

from __future__ import annotations

from typing import Any

from compat.battery import Battery, Case

case = Battery()
KINDS = ("RNN", "RNN relu", "GRU", "LSTM", "LSTM projected")
FORMS = {
    "given states": {"batch_first": True, "bias": False},
    "packed": {"bidirectional": True},
    "some frozen": {"num_layers": 2},
}


def _run(torch: Any, kind: str, form: str) -> Any:
    options: dict[str, Any] = dict(FORMS[form])
    name, _, word = kind.partition(" ")
    if word == "relu":
        options["nonlinearity"] = "relu"
    out = 2 if word == "projected" else 3
    if word == "projected":
        options["proj_size"] = out
    net = getattr(torch.nn, name)(4, 3, **options).double()
    x = torch.randn(5, 3, 4, dtype=torch.float64, requires_grad=True)
    inputs, given = x, ()
    if form == "packed":
        inputs = torch.nn.utils.rnn.pack_padded_sequence(x, [5, 3, 2])
    if form == "given states":
        h = torch.randn(1, 5, out, dtype=torch.float64, requires_grad=True)
        c = torch.randn(1, 5, 3, dtype=torch.float64, requires_grad=True)
        given = ((h, c) if name == "LSTM" else h,)
    if form == "some frozen":
        for p in (net.weight_hh_l0, net.weight_ih_l1, net.bias_hh_l1):
            p.requires_grad_(False)
    output, states = net(inputs, *given)
    if form == "packed":
        output = output.data
    states = states if isinstance(states, tuple) else (states,)
    loss = (output.sin() * torch.arange(output.numel()).view_as(output)).sum() + sum((s**2).sum() for s in states)
    wanted = [x, *(p for p in net.parameters() if p.requires_grad)]
    if form == "given states":
        wanted += given[0] if name == "LSTM" else given
    first = torch.autograd.grad(loss, wanted, create_graph=True)
    second = torch.autograd.grad(sum((g**2).sum() for g in first), wanted)
    return [output, *states, *first, *second]


def _make(kind: str, form: str) -> Case:
    return lambda torch: _run(torch, kind, form)


for _kind in KINDS:
    for _form in FORMS:
        case.add(f"{_kind}, {_form}", _make(_kind, _form))


test_recurrent = case.test(rtol=1e-6, atol=1e-8)
