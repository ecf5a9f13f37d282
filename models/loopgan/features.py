"""A frozen network with random weights, whose feature maps the projected discriminator judges."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from tonemill.models.loopgan.generator import around

Map = Float[Tensor, "batch _ _ _"]


class RandomFeatures(nn.Module):
    """Four maps of mel spectrograms, each of half the last one's size: convolutions that never learn.

    Random features keep enough of an image for a discriminator to learn from (Sauer et al., 2021, section 4.1).

    Args:
        width: channels of the first two maps; the last two have twice as many.
        circular: time is a circle.
    """

    def __init__(self, width: int, circular: bool) -> None:
        super().__init__()
        self.widths = (width, width, 2 * width, 2 * width)
        sizes = zip((1, *self.widths), self.widths, strict=False)
        layers = [nn.Conv2d(before, after, 3) for before, after in sizes]
        for layer in layers:
            nn.init.orthogonal_(layer.weight, gain=nn.init.calculate_gain("relu"))
        self.layers = nn.ModuleList(layers)
        self.circular = circular
        self.requires_grad_(False)

    def forward(self, mel: Map) -> list[Map]:
        """The maps, the finest first."""
        maps, x = [], mel
        for layer in self.layers:
            x = F.pad(around(x, 1), (1, 1)) if self.circular else F.pad(x, (1, 1, 1, 1))
            x = F.avg_pool2d(torch.relu(layer(x)), 2)
            maps.append(x)
        return maps
