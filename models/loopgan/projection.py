"""Random mixtures of a frozen network's feature maps, across channels and scales (Projected GANs, Sauer et al., 2021).

https://arxiv.org/abs/2111.01007, section 3.2. The mixtures are drawn once and stay: what is judged is seen through
features of a trained network, and no discriminator can look at a part of them alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from tonemill.models.parts.circular import around

Map = Float[Tensor, "batch _ _ _"]


class Projection(nn.Module):
    """Feature maps of several scales to mixed ones, each at twice the resolution, without learning.

    Cross-channel mixing (CCM) is a 1x1 convolution of each map. Cross-scale mixing (CSM) goes from the deepest map up:
    add the next map, double the resolution, and a 1x1 convolution, as in pjloop-gan; the paper draws a 3x3.

    Args:
        channels: of the maps, the finest first.
        base: channels of the finest mixed map; each deeper one has twice as many.
        circular: height, which is time, is a circle.
    """

    def __init__(self, channels: Sequence[int], base: int = 64, circular: bool = False) -> None:
        super().__init__()
        self.circular = circular
        widths = [base << scale for scale in range(len(channels))]
        self.across_channels = nn.ModuleList(
            nn.Conv2d(count, width, 1) for count, width in zip(channels, widths, strict=True)
        )
        self.across_scales = nn.ModuleList(
            nn.Conv2d(width, widths[max(0, scale - 1)], 1) for scale, width in enumerate(widths)
        )
        self.requires_grad_(False)

    @property
    def widths(self) -> list[int]:
        """Channels of the mixed maps, the finest first."""
        return [layer.out_channels for layer in self.across_scales if isinstance(layer, nn.Conv2d)]

    def forward(self, maps: Sequence[Map]) -> list[Map]:
        """Mixed maps, the finest first.

        Args:
            maps: (batch, channels, height, width), the finest first, each of half the last one's size.
        """
        mixed: list[Tensor] = []
        below: Tensor | None = None
        for scale in reversed(range(len(maps))):
            x = self.across_channels[scale](laid_out(maps[scale]))
            if below is not None:
                # A map of an odd size was rounded when it was halved.
                x = x + (below if below.shape[2:] == x.shape[2:] else F.interpolate(below, x.shape[2:]))
            # A 1x1 convolution and an interpolation whose weights sum to 1 commute: this way is a quarter of the work.
            below = self._doubled(self.across_scales[scale](x))
            mixed.insert(0, below)
        return mixed

    def _doubled(self, x: Map) -> Map:
        if not self.circular:
            return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True)
        # Aligned corners would stretch a circle; without them each frame becomes the two beside its middle.
        wide = F.interpolate(around(x, 1, 2), scale_factor=2.0, mode="bilinear", align_corners=False)
        # Cut by a negative padding: the gradient of a slice is no longer in channels last.
        return F.pad(wide, (0, 0, -2, -2))


def laid_out(x: Map) -> Map:
    """In channels last on a CPU.

    There PyTorch interpolates, pools and convolves single channels in a fifth to a third of the time, with gradients.
    """
    return x.contiguous(memory_format=torch.channels_last) if x.device.type == "cpu" else x


Condition = Float[Tensor, "batch condition"] | None


def conditioned(condition: int, channels: int) -> nn.Linear | None:
    """A layer from a condition to as many numbers as there are features; it starts without an opinion."""
    if not condition:
        return None
    layer = nn.Linear(condition, channels, bias=False)
    nn.init.zeros_(layer.weight)
    return layer


def agreement(features: Float[Tensor, "batch channels"], wanted: Tensor) -> Float[Tensor, "batch 1"]:
    """The product of features and of what a condition wants of them, over the root of their number."""
    return (features * wanted).sum(dim=1, keepdim=True) / features.shape[1] ** 0.5


class Head(nn.Module):
    """Logits of one mixed map: separable convolutions down to an eighth, and how much a batch varies.

    Args:
        channels: of the map.
        size: of the shorter of the sides that the published layout has here: 128, 64, 32 or 16; each halving down to 8
            is a block.
        condition: numbers of a condition, whose product with the features is added to the logits (Miyato and Koyama,
            2018, https://arxiv.org/abs/1802.05637).
        circular: height, which is time, is a circle: rotating the map rotates the logits.
    """

    def __init__(self, channels: int, size: int, condition: int = 0, circular: bool = False) -> None:
        super().__init__()
        self.circular = circular
        blocks: list[nn.Module] = []
        while size > SMALLEST:
            size //= 2
            width = WIDTHS[size]
            blocks.append(_separable(channels, width, circular))
            channels = width
        self.blocks = nn.Sequential(*blocks)
        self.logits = nn.utils.parametrizations.spectral_norm(nn.Conv2d(channels + 1, 1, KERNEL, bias=False))
        self.condition = conditioned(condition, channels)

    def forward(self, x: Map, condition: Condition = None) -> Float[Tensor, "batch logits"]:
        x = self.blocks(x)
        given = 0.0 if self.condition is None else agreement(x.mean(dim=(2, 3)), self.condition(condition))
        x = with_deviation(x)
        if self.circular:
            x = around(x, KERNEL - 1, 2)[:, :, KERNEL - 1 :]
        # A map that is shorter than the kernel is seen whole.
        short = [max(0, KERNEL - side) for side in x.shape[2:]]
        return self.logits(F.pad(x, (0, short[1], 0, short[0]))).flatten(1) + given


KERNEL = 4
"""Of the convolution that gives the logits."""

SMALLEST = 8
WIDTHS = {64: 64, 32: 128, 16: 256, 8: 512}
"""Channels after a block, by the size that it leaves."""


class CircularConv(nn.Conv2d):
    """A convolution for which height, which is time, is a circle; its padding is that of the width alone."""

    def forward(self, x: Map) -> Map:
        wide = around(x, self.kernel_size[0] // 2, 2)
        return F.conv2d(
            wide, self.weight, self.bias, self.stride, (0, int(self.padding[1])), self.dilation, self.groups
        )


def _separable(channels: int, width: int, circular: bool) -> nn.Sequential:
    norm = nn.utils.parametrizations.spectral_norm
    convolution = CircularConv if circular else nn.Conv2d
    return nn.Sequential(
        norm(convolution(channels, channels, 3, padding=1, groups=channels, bias=False)),
        norm(nn.Conv2d(channels, width, 1, bias=False)),
        nn.BatchNorm2d(width),
        nn.LeakyReLU(0.2, inplace=True),
        nn.AvgPool2d(2, ceil_mode=True),
    )


def with_deviation(x: Map, most: int = 4) -> Map:
    """One more channel: the mean standard deviation over groups of the batch (Karras et al., 2018, section 3).

    A group has as many examples as divide the batch, at most four; a batch of one has a deviation of 0.
    """
    batch = x.shape[0]
    group = max(size for size in range(1, most + 1) if batch % size == 0)
    grouped = x.reshape(group, batch // group, *x.shape[1:])
    # Written out: `var` over a leading axis takes six times as long on a CPU.
    variance = (grouped - grouped.mean(dim=0)).square().mean(dim=0)
    deviation = (variance + 1e-8).sqrt().mean(dim=(1, 2, 3))
    plane = deviation.repeat(group).view(batch, 1, 1, 1).expand(-1, 1, *x.shape[2:])
    return torch.cat([x, plane], dim=1)


class Heads(nn.Module):
    """A head for each mixed map.

    Args:
        widths: channels of the maps, the finest first.
        condition: numbers of a condition.
        circular: as in `Head`.
    """

    def __init__(self, widths: Sequence[int], condition: int = 0, circular: bool = False) -> None:
        super().__init__()
        self.heads = nn.ModuleList(Head(width, 128 >> scale, condition, circular) for scale, width in enumerate(widths))

    def forward(self, maps: Sequence[Map], condition: Condition = None) -> Float[Tensor, "batch logits"]:
        """The logits of all heads, side by side."""
        maps = [laid_out(x) for x in maps]
        return torch.cat([head(x, condition) for head, x in zip(self.heads, maps, strict=True)], dim=1)
