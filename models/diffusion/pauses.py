"""What a network would have to answer where a band is silent, for it to read and to weigh.

To the Gaussian denoiser sound is equally loud at every instant. In a pause, or after a hit, the network must then take
back each sample of the noise that this denoiser lets through. It learns that late: its own channels hold a pause as
faint numbers beside loud ones. But the answer is known. A silent clip is mixed to x_s = b e, and has the slope
u = b' e = (b' / b) x_s. In units of the deviation that the Gaussian denoiser leaves, the network must answer

    h = ((b' / b) x_s - E[u | x_s]) / sqrt(mean of Var[u | x_s])

with the terms of `baseline`. It reads h in octaves, and answers f + sum of g_k h_k: where octave k is silent, g_k = 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from tonemill.models.diffusion.baseline import GaussianDenoiser
from tonemill.models.diffusion.noising import Levels, Objective

BOUND: Final = 4.0
"""Deviations that are read: noise alone passes them once in 16,000 samples, and sound is bounded."""

LEAST: Final = 1e-3
"""Deviation of an octave, in units of the network's answer, below which it is not raised."""

LEAST_LEVEL: Final = 1e-6

Clips = Float[Tensor, "batch channels time"]


@dataclass(frozen=True)
class Pauses:
    """The answers of a pause, for a batch of noisy clips.

    Args:
        octaves: each in units of its deviation in a pause, within `BOUND`.
        deviations: of each octave in a pause, in units of the network's answer.
    """

    octaves: Float[Tensor, "batch channels octaves time"]
    deviations: Float[Tensor, "batch channels octaves 1"]

    @property
    def read(self) -> Float[Tensor, "batch _ time"]:
        """What is appended to the noisy clips."""
        return self.octaves.flatten(1, 2)

    def weighed(self, found: Float[Tensor, "batch _ time"]) -> Clips:
        """f + sum of g_k h_k.

        Args:
            found: f of each channel, then g of each channel and octave.
        """
        channels, octaves = self.octaves.shape[1:3]
        own, weights = found.split([channels, channels * octaves], dim=1)
        weights = rearrange(weights, "batch (channels octaves) time -> batch channels octaves time", octaves=octaves)
        return own + (weights * self.deviations * self.octaves).sum(dim=2)


def pauses_of(
    x: Clips, level: Levels, objective: Objective, gaussian: GaussianDenoiser, octaves: int, tail: int = 0
) -> Pauses:
    """The answers of a pause to noisy clips at a level for each.

    Args:
        gaussian: has measured the corpus.
        octaves: so many; the last one reaches down to 0 Hz.
        tail: samples of silence after the clips; without them a clip's end is followed by its start.
    """
    samples = x.shape[-1]
    level = level.float().clamp(min=LEAST_LEVEL)
    with torch.autocast(x.device.type, enabled=False):
        missed, variance = gaussian.missed_in_pauses(x.float(), level, objective, tail)
        masks = octave_masks(missed.shape[-1], octaves, x.device)
        weight = torch.full_like(masks[0], 2.0)
        weight[0] = weight[-1] = 1
        power = (masks.square() * variance[:, :, None] * weight).sum(dim=-1, keepdim=True) / weight.sum()
        deviations = power.sqrt().clamp(min=LEAST)
        turned = torch.fft.irfft(missed[:, :, None] * masks, samples + tail)[..., :samples]
        parts = einsum(gaussian.axes, turned, "c k, batch k octaves time -> batch c octaves time") / deviations
        return Pauses(parts.clamp(-BOUND, BOUND), deviations)


def octave_masks(bins: int, octaves: int, device: torch.device) -> Float[Tensor, "octaves bins"]:
    """Weights of the bins of a transform from 0 Hz to half the sample rate: raised cosines over octaves, of sum 1.

    Args:
        bins: at least 2.
        octaves: number k is whole at 2^-(k + 0.5) of half the sample rate. The first has all that is higher, and the
            last all that is lower.
    """
    below = -torch.linspace(0, 1, bins, device=device).clamp(min=2.0**-octaves).log2()
    place = (below - 0.5).clamp(0, octaves - 1)
    near = 1 - (place - torch.arange(octaves, device=device)[:, None]).abs()
    return 0.5 - 0.5 * (math.pi * F.relu(near)).cos()
