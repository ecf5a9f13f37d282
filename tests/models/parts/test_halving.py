"""Maps are smoothed and halved as PyTorch's layers do it, with their gradients, and those of the gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tonemill.models.parts.halving import BINOMIAL, largest_of_four, smoothed

LAYOUTS = pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])


def convolved(x: Tensor) -> Tensor:
    taps = torch.tensor(BINOMIAL, dtype=x.dtype) / sum(BINOMIAL)
    found = F.conv2d(x.flatten(0, 1)[:, None], 4 * torch.outer(taps, taps)[None, None])
    return found.view(*x.shape[:2], *found.shape[2:])


def pooled(x: Tensor) -> Tensor:
    return F.relu(F.max_pool2d(x, 2, ceil_mode=True))


@LAYOUTS
@pytest.mark.parametrize(
    ("found", "wanted", "size"),
    [
        (lambda x: smoothed(x, 4.0), convolved, (4, 9)),
        (largest_of_four, pooled, (6, 8)),
        (largest_of_four, pooled, (5, 7)),
        (largest_of_four, pooled, (1, 2)),
    ],
)
def test_values_and_gradients_are_those_of_the_layer(
    found: object, wanted: object, size: tuple[int, int], layout: torch.memory_format
) -> None:
    assert callable(found) and callable(wanted)
    torch.manual_seed(0)
    x = torch.randn(2, 3, *size, dtype=torch.double).contiguous(memory_format=layout).requires_grad_()
    values = [found(x), wanted(x)]
    torch.testing.assert_close(*values)
    direction = torch.randn_like(values[0])
    torch.testing.assert_close(*(torch.autograd.grad((one * direction).sum(), x) for one in values))
    assert torch.autograd.gradgradcheck(lambda x: found(x).square(), [x])


def test_of_equal_numbers_the_first_has_the_gradient() -> None:
    x = torch.tensor([[1.0, 3, 3, 0], [3, 2, 3, -1], [0, 0, -2, -1], [0, 0, -1, -1]])[None, None].requires_grad_()
    (largest_of_four(x) * torch.tensor([[1.0, 10], [100, 1000]])).sum().backward()
    assert x.grad is not None
    assert x.grad[0, 0].tolist() == [[0, 1, 10, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
