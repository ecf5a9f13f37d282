"""Options of RAVE's directions: how many latents, and how far from their means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from tonemill.audiotools.errors import UsageError
from tonemill.models.directions import Bounds


@dataclass(frozen=True)
class DecodeOptions:
    temperature: Annotated[float, "Noise in place of missing latents, in their deviation; 0: none.", Bounds(0)] = 0.0

    def __post_init__(self) -> None:
        Bounds(0).check("--temperature", self.temperature)


@dataclass(frozen=True)
class EncodeOptions:
    latents: Annotated[int | None, "Keep so many, those that vary most; default: all."] = None
    fidelity: Annotated[float | None, "Keep as few as hold this share of the variance, as 0.95; default: all."] = None
    temperature: Annotated[float, "Noise around the means of latents, in their deviations; 0: none.", Bounds(0)] = 0.0

    def __post_init__(self) -> None:
        Bounds(0).check("--temperature", self.temperature)
        if self.latents is not None:
            Bounds(1).check("--latents", self.latents)
        if self.fidelity is not None and not 0 < self.fidelity <= 1:
            raise UsageError(f"--fidelity is {self.fidelity}; it must be above 0 and at most 1, as 0.95.")
