"""Feature maps smoothed, or brought to half their size, with gradients that a CPU computes as fast as the values.

PyTorch pools one number at a time on a CPU, and the gradient of a slice is a map of zeros in which the slice is filled
in. Here both ways are sums and choices of whole maps. Gradients have gradients, as penalties on them need.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

Maps = Float[Tensor, "batch channels height width"]
Other = Float[Tensor, "batch channels _ _"]

BINOMIAL: Final = (1.0, 3.0, 3.0, 1.0)
"""The filter of StyleGAN2's changes of resolution, along each axis; it is the same backwards."""

_QUADRANTS: Final = [(slice(first, None, 2), slice(second, None, 2)) for first in (0, 1) for second in (0, 1)]
"""Places of the four numbers of each two by two."""


def smoothed(x: Maps, gain: float) -> Other:
    """The binomial filter along both axes, where it is wholly inside: three rows and columns less.

    Args:
        x: maps of at least four rows and columns.
        gain: what a constant map is multiplied with.
    """
    found: Tensor = _Smoothed.apply(x, gain)
    return found


def largest_of_four(x: Maps) -> Other:
    """The ReLU of the largest of each two by two; at an odd end of those that are there.

    Of equal numbers the first has the gradient.
    """
    if x.device.type != "cpu":
        return F.relu(F.max_pool2d(x, 2, ceil_mode=True))
    height, width = x.shape[2:]
    even = x if height % 2 == width % 2 == 0 else F.pad(x, (0, width % 2, 0, height % 2), value=-torch.inf)
    found: Tensor = _LargestOfFour.apply(even)
    return found


class _Smoothed(torch.autograd.Function):
    """The gradient of a filter that is the same backwards is that filter, wherever it reaches in."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: float) -> Tensor:
        ctx.gain = gain
        # A sum of shifted maps: a convolution of single channels takes ten times as long on a CPU, and back again.
        for axis in (2, 3):
            first, second, third, last = (x.narrow(axis, place, x.shape[axis] - 3) for place in range(4))
            x = (first + last).add_(second + third, alpha=BINOMIAL[1])
        return x.mul_(gain / sum(BINOMIAL) ** 2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return smoothed(F.pad(gradient, (3, 3, 3, 3)), ctx.gain), None


class _LargestOfFour(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        first, second, third, last = (x[:, :, rows, columns] for rows, columns in _QUADRANTS)
        found = torch.maximum(torch.maximum(first, second), torch.maximum(third, last)).relu_()
        ctx.save_for_backward(x, found)
        return found

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        x, found = ctx.saved_tensors
        left = torch.where(found > 0, gradient, 0)
        out = torch.empty_like(x)
        for rows, columns in _QUADRANTS:
            given = torch.where(x[:, :, rows, columns] == found, left, 0)
            out[:, :, rows, columns] = given
            left = left - given
        return out
