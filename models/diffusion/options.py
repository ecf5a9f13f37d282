"""Options of rendering, by direction: how clips are sampled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from tonemill.models.diffusion.noising import Schedule
from tonemill.models.diffusion.samplers import Sampler
from tonemill.models.directions import Bounds


@dataclass(frozen=True)
class Sampling:
    steps: Annotated[int, "Calls of the network; 10 are usual.", Bounds(1)] = 10
    sampler: Annotated[Sampler, "2m is of second order, ddim and euler of first."] = "2m"
    schedule: Annotated[Schedule, "Of noise levels; tan is geometric in noise over signal."] = "tan"
    guidance: Annotated[float, "How much farther to go towards label, numbers and words; 1 goes there.", Bounds(0)] = (
        1.0
    )
    guide_from: Annotated[float, "Guide at noise levels from here on.", Bounds(0, 1)] = 0.0
    guide_to: Annotated[float, "Guide at noise levels up to here.", Bounds(0, 1)] = 1.0


@dataclass(frozen=True)
class Generating(Sampling):
    seconds: Annotated[float | None, "Of a clip; default: as in training.", Bounds(0.001)] = None


@dataclass(frozen=True)
class Looping(Generating):
    loop: Annotated[bool, "The end of a clip goes on with its start."] = False


@dataclass(frozen=True)
class Resembling(Looping):
    seed: Annotated[int, "Decides the noise, beside the seed of an example where it has one.", Bounds(0)] = 0


@dataclass(frozen=True)
class Reading(Sampling):
    seed: Annotated[int, "Decides the noise, beside the seed of an example where it has one.", Bounds(0)] = 0


@dataclass(frozen=True)
class Decoding(Reading):
    begin: Annotated[
        float,
        "Noise level to begin at: that of the given levels, with phases by Griffin-Lim; 1: noise.",
        Bounds(0.01, 1),
    ] = 0.3


@dataclass(frozen=True)
class Varying(Reading):
    strength: Annotated[float, "How far from the sound: 0 leaves it, 1 makes another.", Bounds(0, 1)] = 0.4


@dataclass(frozen=True)
class Inpainting(Reading):
    keep: Annotated[str, "Seconds to keep, as 0-1,1.5-2; what is between is made. Empty: none."] = ""
    resamples: Annotated[int, "Rounds at each level, so that both sides of a seam fit.", Bounds(1)] = 2


@dataclass(frozen=True)
class Continuing(Reading):
    seconds: Annotated[float, "To add at the end.", Bounds(0.001)] = 2.0
    resamples: Annotated[int, "Rounds at each level, so that both sides of the seam fit.", Bounds(1)] = 2
