"""Frozen networks whose feature maps the projected discriminator judges: a trained classifier's, or random ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from tonemill.models.parts.circular import around
from tonemill.models.parts.spectra import BandStatistics

Map = Float[Tensor, "batch _ _ _"]

REACH: Final = 16
"""Frames that a tap sees beyond its own, at most: of four 3x3 convolutions at strides 1, 2, 4 and 8, rounded up to a
multiple of the deepest tap's stride."""


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
            x = F.pad(around(x, 1, 2), (1, 1)) if self.circular else F.pad(x, (1, 1, 1, 1))
            x = F.avg_pool2d(torch.relu(layer(x)), 2)
            maps.append(x)
        return maps


class TrainedFeatures:
    """Four maps of another run's network. It is no module: its weights stay in that run, and never learn here.

    Args:
        network: a classifier that reads the same log-mel spectrograms, in eval mode, with `taps` and `tap_widths`.
        statistics: by which spectrograms were normalised.
        circular: time is a circle.
    """

    def __init__(self, network: Any, statistics: BandStatistics, circular: bool) -> None:
        self.network, self.statistics, self.circular = network, statistics, circular
        self.widths: Sequence[int] = network.tap_widths

    def __call__(self, mel: Map) -> list[Map]:
        """The maps (batch, channels, time, bands) of normalised spectrograms (batch, 1, time, bands), finest first."""
        logs = self.statistics.denormalized(mel[:, 0])[:, None]
        if not self.circular:
            return [one.transpose(2, 3) for one in self.network.taps(logs[:, 0].transpose(1, 2))]
        # The network has silence beyond both ends; what it makes of that is cut off.
        maps = self.network.taps(around(logs, REACH, 2)[:, 0].transpose(1, 2))
        return [
            one.transpose(2, 3)[:, :, REACH >> scale : -(REACH >> scale)] for scale, one in enumerate(maps, start=1)
        ]
