"""What cases about graphs begin with, and how they look at one."""

from __future__ import annotations

MODIFIED = "one of the variables needed for gradient computation has been modified by an inplace operation"
FREED = "Trying to backward through the graph a second time"


def leaf(torch, *values):
    """A vector that requires grad."""
    return torch.tensor(values or (1.0, 2.0, 3.0), requires_grad=True)


def names(fn, depth=4):
    """grad_fn's names down the first edges."""
    seen = []
    while fn is not None and depth:
        seen.append(fn.name())
        fn = fn.next_functions[0][0] if fn.next_functions else None
        depth -= 1
    return seen


def net(torch):
    """Two small layers and data, the same each time."""
    w = (torch.arange(12.0).reshape(4, 3) / 10 - 0.5).requires_grad_()
    v = (torch.arange(4.0) / 5).requires_grad_()
    x = torch.arange(6.0).reshape(2, 3) / 3
    return w, v, x


def loss_of(torch, w, v, x):
    """What they give."""
    return ((torch.tanh(x @ w.t()) @ v) ** 2).mean()


def function(torch, forward, backward, **more):
    """A custom function."""
    return type(
        "Made",
        (torch.autograd.Function,),
        {"forward": staticmethod(forward), "backward": staticmethod(backward), **more},
    )
