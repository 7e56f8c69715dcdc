"""torch.signal.windows at every kind of argument: values, dtypes, and which error comes first."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import jtorch

OWN = {
    "exponential": [{}, {"tau": 2.0}, {"tau": -1.0}, {"center": 1.0, "sym": False}, {"center": 1.0}],
    "gaussian": [{}, {"std": 0.5}, {"std": 0}],
    "kaiser": [{}, {"beta": 2.0}, {"beta": -1}],
    "general_cosine": [{"a": [0.5, 0.3, 0.2]}, {"a": []}, {"a": 3}],
    "general_hamming": [{}, {"alpha": 0.3}],
}
COMMON = [{}, {"sym": False}, {"dtype": "float64"}, {"dtype": "int64"}, {"requires_grad": True}]


def outcome(module, name, places, options):
    """The window as an array, or the error's type and text."""
    if "dtype" in options:
        options = options | {"dtype": getattr(module, options["dtype"])}
    try:
        window = getattr(module.signal.windows, name)(places, **options)
    except (ValueError, TypeError) as error:
        return type(error), str(error)
    return window.requires_grad, window.detach().numpy()


@pytest.mark.parametrize("name", torch.signal.windows.__all__)
def test_window(name):
    for own in OWN.get(name, [{}]):
        for places in (0, 1, 2, 7, -1):
            for common in COMMON:
                theirs, ours = (outcome(m, name, places, own | common) for m in (torch, jtorch))
                assert theirs[0] == ours[0], (own, places, common)
                if isinstance(theirs[1], str):
                    assert theirs[1] == ours[1]
                else:
                    assert theirs[1].dtype == ours[1].dtype
                    np.testing.assert_allclose(theirs[1], ours[1], atol=1e-6)
