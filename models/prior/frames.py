"""All of the prior that learns or is fitted: the density of frames given all before them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from tonemill.models.prior.linear import Frames, LinearFrames
from tonemill.models.prior.network import FrameDensity, context_network
from tonemill.models.prior.settings import PriorConfig

PIECE: Final = 256
"""Frames whose density is computed at once, so that memory does not grow with a recording."""


class FrameModel(nn.Module):
    """Statistics of the corpus, the context of a frame, and its density in it.

    Args:
        config: settled.
    """

    def __init__(self, config: PriorConfig) -> None:
        super().__init__()
        rows = config.rows or 1
        self.linear = LinearFrames(rows)
        self.context = context_network(config)
        self.density = FrameDensity(config.width, rows, config.frame_width, config.mixture)

    def log_likelihood(self, frames: Frames) -> Frames:
        """Of each coordinate of normalised frames given all before it, in nats; 0 for those that are not live.

        The log determinant of the linear model is shared out evenly over the live coordinates.
        """
        linear = self.linear
        normalized = linear.normalized(frames)
        innovations, log_determinants = linear.innovations(normalized)
        found = [
            self.density.log_likelihood(context, some)
            for context, some in zip(self._contexts(normalized), innovations.split(PIECE, dim=1), strict=True)
        ]
        return (torch.cat(found, dim=1) - log_determinants[:, None] / linear.live_rows) * linear.live

    def _contexts(self, normalized: Frames) -> Iterator[Float[Tensor, "batch _ width"]]:
        """The context of each frame, in pieces: of the frames before it, and of none at the start."""
        rows = F.pad(normalized.transpose(1, 2), (0, 0, 0, 1), value=1.0)
        before = F.pad(rows[..., :-1], (1, 0))
        if before.shape[2] <= PIECE:
            yield self.context(before).transpose(1, 2)
            return
        state = self.context.at_rest(len(before), before)
        for piece in before.split(PIECE, dim=2):
            context, state = self.context.step(piece, state)
            yield context.transpose(1, 2)
