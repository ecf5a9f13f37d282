"""StyleGAN2's discriminator of mel spectrograms: residual blocks that halve time and bands (Karras et al., 2020).

https://arxiv.org/abs/1912.04958, figure 7; layout and counts are those of LoopTest, for mels of 320 frames of 80 bands.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from tonemill.models.loopgan.generator import EqualLinear, activated
from tonemill.models.loopgan.projection import Condition, agreement, conditioned, with_deviation
from tonemill.models.parts.circular import around
from tonemill.models.parts.halving import BINOMIAL, smoothed

Map = Float[Tensor, "batch _ _ _"]


class EqualConv(nn.Module):
    """A convolution whose weights are drawn from N(0, 1) and scaled when they are used; then a bias and an activation.

    Args:
        channels: in.
        outputs: channels out.
        size: of the kernel.
        halves: filter first, and keep every other frame and band.
        activates: it has a bias and an activation.
        circular: time is a circle.
    """

    def __init__(self, channels: int, outputs: int, size: int, halves: bool, activates: bool, circular: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, channels, size, size))
        self.bias = nn.Parameter(torch.zeros(outputs)) if activates else None
        self.scale = 1 / math.sqrt(channels * size * size)
        self.size, self.halves, self.circular = size, halves, circular

    def forward(self, x: Map) -> Map:
        # Half of the kernel, and of the filter where there is one, is beyond each end.
        beyond = (self.size - 1 + (len(BINOMIAL) - 2) * self.halves) // 2
        if beyond:
            x = around(x, beyond, 2) if self.circular else F.pad(x, (0, 0, beyond, beyond))
            x = F.pad(x, (beyond, beyond))
        if self.halves:
            x = smoothed(x, gain=1.0)
        out = F.conv2d(x, self.weight * self.scale, stride=2 if self.halves else 1)
        return out if self.bias is None else activated(out + self.bias[:, None, None])


class Residual(nn.Module):
    """Two convolutions, the second of which halves the map, beside a plain halving; their sum has unit variance."""

    def __init__(self, channels: int, circular: bool) -> None:
        super().__init__()
        self.same = EqualConv(channels, channels, 3, False, True, circular)
        self.halved = EqualConv(channels, channels, 3, True, True, circular)
        self.skip = EqualConv(channels, channels, 1, True, False, circular)

    def forward(self, x: Map) -> Map:
        return (self.halved(self.same(x)) + self.skip(x)) / math.sqrt(2)


class PlainDiscriminator(nn.Module):
    """Mel spectrograms (batch, 1, time, bands) to logits (batch, 1).

    Args:
        frames: of the spectrograms, a multiple of 2 ** blocks.
        bands: of the spectrograms, a multiple of 2 ** blocks.
        channels: of every map.
        blocks: each halves frames and bands.
        circular: time is a circle.
        condition: numbers of a condition, whose product with the last features is added to the logit.
    """

    def __init__(
        self, frames: int, bands: int, channels: int = 512, blocks: int = 4, circular: bool = False, condition: int = 0
    ) -> None:
        super().__init__()
        self.first = EqualConv(1, channels, 1, False, True, circular)
        self.blocks = nn.Sequential(*(Residual(channels, circular) for _ in range(blocks)))
        self.last = EqualConv(channels + 1, channels, 3, False, True, circular)
        self.dense = EqualLinear(channels * (frames >> blocks) * (bands >> blocks), channels)
        self.logit = EqualLinear(channels, 1)
        self.condition = conditioned(condition, channels)

    def seen(self, mel: Map) -> list[Map]:
        """The mel itself: all of this discriminator learns."""
        return [mel]

    def judged(self, seen: Sequence[Map], condition: Condition = None) -> Float[Tensor, "batch 1"]:
        """The logits of what was seen."""
        (mel,) = seen
        return self(mel, condition)

    def forward(self, mel: Map, condition: Condition = None) -> Float[Tensor, "batch 1"]:
        x = self.last(with_deviation(self.blocks(self.first(mel))))
        features = activated(self.dense(x.flatten(1)))
        given = 0.0 if self.condition is None else agreement(features, self.condition(condition))
        return self.logit(features) + given
