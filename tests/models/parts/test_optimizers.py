"""Fused Adam, against its formula."""

from __future__ import annotations

import math

import pytest
import torch

from tonemill.models.parts.optimizers import adam, adamw


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_steps_are_those_of_the_paper(decay: float) -> None:
    """Kingma and Ba, algorithm 1, and with decay Loshchilov and Hutter, algorithm 2, of one weight."""
    weight = torch.nn.Parameter(torch.tensor([0.7]))
    optimizer = adamw([weight], 0.01, (0.5, 0.9), 1e-8, decay) if decay else adam([weight], 0.01, (0.5, 0.9))
    assert optimizer.defaults["fused"] and torch.optim.Adam in type(optimizer).__mro__
    value, first, second = 0.7, 0.0, 0.0
    for step, slope in enumerate((0.3, -0.2, 0.5), 1):
        weight.grad = torch.tensor([slope])
        optimizer.step()
        first, second = 0.5 * first + 0.5 * slope, 0.9 * second + 0.1 * slope**2
        value -= 0.01 * decay * value
        value -= 0.01 * (first / (1 - 0.5**step)) / (math.sqrt(second / (1 - 0.9**step)) + 1e-8)
    assert weight.item() == pytest.approx(value, abs=1e-6)


def test_weights_elsewhere_have_the_steps_that_their_device_has() -> None:
    assert not adam([torch.nn.Parameter(torch.zeros(1, device="meta"))], 0.01).defaults["fused"]
