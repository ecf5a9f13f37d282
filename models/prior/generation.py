"""Frames from seeds, one after another, in constant memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tonemill.models.prior.frames import FrameModel

SEEDS: Final = 2**63
"""Seeds that an integer of 64 bits tells apart."""


class Generation:
    """Frames of a batch, each example from its own seed alone; where they are cut changes nothing.

    Args:
        model: of the frames.
        seeds: of the examples.
        temperature: see `FrameDensity.drawn`.
    """

    def __init__(self, model: FrameModel, seeds: Sequence[int], temperature: float) -> None:
        self._linear, self._context, self._density = model.linear, model.context, model.density
        self._temperature = temperature
        self._draws = [np.random.default_rng(seed) for seed in seeds]
        self._state = self._context.at_rest(len(seeds), self._linear.mean)
        self._before: Tensor | None = None
        self._seen = self._linear.mean.new_zeros(len(seeds), self._density.rows + 1, 1)

    @torch.inference_mode()
    def frames(self, count: int) -> Float[Tensor, "batch rows _"]:
        """The next frames."""
        found = [self._next() for _ in range(count)]
        if not found:
            return self._seen[:, 1:, :0]
        return self._linear.denormalized(torch.stack(found, dim=1)).transpose(1, 2)

    def _next(self) -> Float[Tensor, "batch rows"]:
        context, self._state = self._context.step(self._seen, self._state)
        # An example draws its own numbers, so that those of its neighbours change nothing.
        drawn = [(draws.random(self._density.rows), draws.standard_normal(self._density.rows)) for draws in self._draws]
        choices, noise = (torch.from_numpy(np.stack(one)).to(context) for one in zip(*drawn, strict=True))
        innovation = self._density.drawn(context[..., 0], self._temperature, choices, noise)
        self._before = self._linear.next_frame(innovation, self._before)
        self._seen = torch.cat([self._before, torch.ones_like(self._before[:, :1])], dim=1)[..., None]
        return self._before
