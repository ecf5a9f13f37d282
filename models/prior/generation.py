"""Frames from seeds, one after another, in constant memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from tonemill.models.prior.frames import FrameModel

SEEDS: Final = 2**63
"""Seeds that an integer of 64 bits distinguishes."""


class Place(NamedTuple):
    """Where on the way from one seed's frames to another's an example stands.

    Args:
        seed: of its own.
        other: the other one.
        share: of the way, from 0 to 1.
    """

    seed: int
    other: int = 0
    share: float = 0.0


class _Draws:
    """The random numbers of an example: a uniform and a normal one for each coordinate of each frame.

    Between two seeds a normal number is cos(s pi / 2) a + sin(s pi / 2) b of theirs, which is standard normal for every
    share s; a uniform one goes the same way as the normal number that it is the distribution function of. So frames
    have the same law all the way.
    """

    def __init__(self, place: Place) -> None:
        self._ends = [np.random.default_rng(place.seed)]
        if place.share:
            self._ends.append(np.random.default_rng(place.other))
        self._angle = place.share * math.pi / 2

    def frame(self, rows: int) -> tuple[Float64[np.ndarray, "rows"], Float64[np.ndarray, "rows"]]:
        """Which components, in [0, 1), and where in them."""
        drawn = [(draws.random(rows), draws.standard_normal(rows)) for draws in self._ends]
        if len(drawn) == 1:
            return drawn[0]
        from scipy.special import ndtr, ndtri

        (one, own), (two, others) = drawn
        return ndtr(self._between(ndtri(one), ndtri(two))), self._between(own, others)

    def _between(
        self, one: Float64[np.ndarray, "rows"], two: Float64[np.ndarray, "rows"]
    ) -> Float64[np.ndarray, "rows"]:
        return math.cos(self._angle) * one + math.sin(self._angle) * two


class Generation:
    """Frames of a batch, each example from its own seeds alone; where they are cut changes nothing.

    Args:
        model: of the frames.
        places: of the examples.
        temperature: see `FrameDensity.drawn`.
    """

    def __init__(self, model: FrameModel, places: Sequence[Place], temperature: float) -> None:
        self._linear, self._context, self._density = model.linear, model.context, model.density
        self._temperature = temperature
        self._draws = [_Draws(place) for place in places]
        self._state = self._context.at_rest(len(places), self._linear.mean)
        self._before: Tensor | None = None
        self._seen = self._linear.mean.new_zeros(len(places), self._density.rows + 1, 1)

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
        drawn = [draws.frame(self._density.rows) for draws in self._draws]
        choices, noise = (torch.from_numpy(np.stack(one)).to(context) for one in zip(*drawn, strict=True))
        innovation = self._density.drawn(context[..., 0], self._temperature, choices, noise)
        self._before = self._linear.next_frame(innovation, self._before)
        self._seen = torch.cat([self._before, torch.ones_like(self._before[:, :1])], dim=1)[..., None]
        return self._before
