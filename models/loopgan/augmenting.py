"""Random changes of real and generated mel spectrograms, so that few loops are not learned by heart.

Each change is made to a share of the examples, which grows while the discriminator is right about too many real ones
and shrinks otherwise (Karras et al., 2020, https://arxiv.org/abs/2006.06676, section 3). As real and generated ones are
changed alike, and most stay as they are, the generator does not learn the changes.
"""

from __future__ import annotations

from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tonemill.models.exchange import Batch

Mel = Float[Tensor, "batch 1 frames bands"]

TARGET: Final = 0.6
"""Mean sign of the logits of real examples that is aimed at."""

IMAGES: Final = 100_000
"""Examples in which the share could go from 0 to 1."""

MOST_SHARE: Final = 0.8
LEVEL: Final = 0.3
TILT: Final = 0.5
"""Deviations of a change of level, and of the change from the lowest band to the highest, in those of a band."""

MOST_HIDDEN: Final = 0.25


class Augmenting(nn.Module):
    """The share, and the changes."""

    share: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("share", torch.zeros(()))

    def forward(self, mel: Mel, batch: Batch) -> Mel:
        """Each of four changes, to `share` of the examples: level, tilt, hidden frames, hidden bands.

        Args:
            mel: normalised, with gradients or not.
            batch: that draws.
        """
        bands = torch.linspace(-0.5, 0.5, mel.shape[3], device=mel.device)
        mel = mel + self._some(batch) * LEVEL * batch.draw(torch.randn, 1, 1, 1)
        mel = mel + self._some(batch) * TILT * batch.draw(torch.randn, 1, 1, 1) * bands
        for axis in (2, 3):
            size = mel.shape[axis]
            place = torch.arange(size, device=mel.device).view([1, 1, -1, 1] if axis == 2 else [1, 1, 1, -1])
            width = batch.draw(torch.rand, 1, 1, 1) * MOST_HIDDEN * size
            first = batch.draw(torch.rand, 1, 1, 1) * size
            # Around the end: a loop has none.
            hidden = ((place - first) % size < width) & (self._some(batch) > 0)
            mel = mel.masked_fill(hidden, 0.0)
        return mel

    def _some(self, batch: Batch) -> Float[Tensor, "batch 1 1 1"]:
        return (batch.draw(torch.rand, 1, 1, 1) < self.share).float()

    @torch.no_grad()
    def adapt(self, real_logits: Float[Tensor, "batch logits"]) -> None:
        """Move the share by what the discriminator found in as many real examples."""
        step = len(real_logits) / IMAGES
        too_sure = real_logits.sign().mean() > TARGET
        self.share.copy_((self.share + torch.where(too_sure, step, -step)).clamp(0, MOST_SHARE))
