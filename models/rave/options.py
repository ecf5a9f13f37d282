"""Options of RAVE's directions: how many latents, and how far from their means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from tonemill.models.directions import Bounds


@dataclass(frozen=True)
class DecodeOptions:
    temperature: Annotated[float, "Noise in place of missing latents, in their deviation; 0: none.", Bounds(0)] = 0.0


@dataclass(frozen=True)
class EncodeOptions:
    latents: Annotated[int | None, "Keep so many, those that vary most; default: all.", Bounds(1)] = None
    fidelity: Annotated[
        float | None, "Keep as few as hold this share of the variance, as 0.95; default: all.", Bounds(0, 1)
    ] = None
    temperature: Annotated[float, "Noise around the means of latents, in their deviations; 0: none.", Bounds(0)] = 0.0
