"""Settings of RAVE: of each architecture, of its two phases of training, and of validation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from tonemill.audiotools.errors import UsageError
from tonemill.models.parts.augment import CHANGES
from tonemill.models.parts.settings import require_least

Architecture = Literal["v2", "v1", "v2-small", "live"]
Ratios = tuple[int, ...]

DILATIONS: Final = {
    "v1": ((1, 3, 9),) * 4,
    "v2": ((1, 3, 9), (1, 3, 9), (1, 3, 9), (1, 3)),
    "v2-small": ((1, 3, 9), (1, 3, 9), (1, 3, 9), (1, 3)),
    "live": ((3, 9, 27, 36),) * 4,
}
"""Of the residual layers of each stage (RAVE's published code; of `live`, BRAVE's)."""

NOISE: Final[Mapping[str, tuple[Ratios, int]]] = {"v1": ((4, 4, 4), 5), "v2-small": ((2, 2, 2), 32)}
"""Of the noise branch of an architecture that has one: strides of its layers, and bands of each filter."""

NOISE_WIDTH: Final = 64


@dataclass(frozen=True)
class RaveConfig:
    architecture: Annotated[Architecture, "Which layers; live is causal, for under 10 ms."] = "v2"
    length: Annotated[int, "Samples of a training clip; a multiple of the samples of a latent frame."] = 131_072
    latent_dim: Annotated[int, "Latents of a frame."] = 128
    capacity: Annotated[int, "Channels after the first layer; each stage doubles them."] = 96
    ratios: Annotated[Ratios, "By which each stage of the encoder lowers the rate; four."] = (4, 4, 4, 2)
    bands: Annotated[int, "Sub-bands of the signal; a power of two."] = 16
    filter_taps: Annotated[int, "Of the filter of a band, over the number of bands; more separate them better."] = 32
    attenuation_db: Annotated[float, "Of what is beyond a band and its neighbours."] = 80.0
    causal: Annotated[bool, "No layer looks ahead: a stream is late by the sub-band filters alone."] = False
    beta: Annotated[float, "Weight of the divergence of latents from a normal distribution, once warmed up."] = 0.05
    beta_start: Annotated[float, "At the first step; rises by the same factor each step."] = 1e-6
    beta_warm_up: Annotated[int, "Steps of that; 0: none."] = 20_000
    fine_tune_after: Annotated[
        int, "Steps before the encoder is frozen and discriminators begin; 0: that never happens."
    ] = 1_000_000
    discriminator_every: Annotated[int, "Of so many steps of fine tuning one is the discriminators'."] = 4
    adversarial_weight: Annotated[float, "Of the hinge loss."] = 1.0
    matching_weight: Annotated[float, "Of the distance of the discriminators' feature maps."] = 20.0
    spectral_weight: Annotated[float, "Of the spectral distances, of sub-bands and of the signal."] = 1.0
    scales: Annotated[Ratios, "Samples of the transforms of these distances."] = (2048, 1024, 512, 256, 128)
    silence_floor_db: Annotated[float, "A clip below this level weighs as if it had it."] = -60.0
    learning_rate: Annotated[float, "Of encoder and decoder; of Adam."] = 1e-3
    learning_rate_end: Annotated[float, "Where it has fallen to, linearly, when fine tuning begins."] = 1e-4
    learning_rate_warm_up: Annotated[int, "Steps in which it rises at the beginning; 0: none."] = 100
    discriminator_learning_rate: Annotated[float, "Of the discriminators; of Adam."] = 1e-4
    augment: Annotated[tuple[str, ...], f"Changes of training clips, at random: of {', '.join(CHANGES)}."] = (
        "phase",
        "dequantize",
    )
    validate_seconds: Annotated[float, "Of held-out audio that is rendered each time; 0: all of it."] = 60.0
    sample_rate: Annotated[int | None, "In hertz; default: the corpus's."] = None
    channels: Annotated[int | None, "Encoded together; default: the corpus's."] = None

    def __post_init__(self) -> None:
        require_least(
            self,
            latent_dim=1,
            capacity=1,
            filter_taps=4,
            beta_warm_up=0,
            fine_tune_after=0,
            discriminator_every=2,
            learning_rate_warm_up=0,
            validate_seconds=0,
        )
        weights = ("beta", "adversarial_weight", "matching_weight")
        require_least(self, **dict.fromkeys(weights, 0))
        for name in ("beta_start", "spectral_weight", "attenuation_db", "learning_rate", "learning_rate_end"):
            self._require_positive(name)
        self._require_positive("discriminator_learning_rate")
        if self.bands < 2 or self.bands & (self.bands - 1):
            raise UsageError(f"--bands is {self.bands}; it must be a power of two, as 16.")
        if self.filter_taps % 4:
            raise UsageError(f"--filter-taps is {self.filter_taps}; it must be a multiple of 4, as 32.")
        self._check_ratios()
        self._check_lengths()
        for name in self.augment:
            if name not in CHANGES:
                raise UsageError(f"--augment is {name!r}; it must be of {', '.join(CHANGES)}.")

    @property
    def hop_length(self) -> int:
        """Samples of a latent frame."""
        return self.bands * math.prod(self.ratios)

    @property
    def dilations(self) -> tuple[Ratios, ...]:
        """Of each stage, in the order of the encoder."""
        return DILATIONS[self.architecture]

    @property
    def is_first(self) -> bool:
        """Whether the layers are those of the first version."""
        return self.architecture in ("v1", "live")

    def _require_positive(self, name: str) -> None:
        value = getattr(self, name)
        if value <= 0:
            raise UsageError(f"--{name.replace('_', '-')} is {value}; it must be above 0.")

    def _check_ratios(self) -> None:
        if len(self.ratios) != 4 or min(self.ratios) < 1 or math.prod(self.ratios) % 2:
            shown = " x ".join(map(str, self.ratios))
            raise UsageError(f"--ratios is {shown}; it must be four numbers of at least 1, one of them even.")
        strides, _ = NOISE.get(self.architecture, ((), 0))
        if strides and math.prod(self.ratios) % math.prod(strides):
            raise UsageError(
                f"--ratios multiply to {math.prod(self.ratios)}; the noise branch of {self.architecture} needs a "
                f"multiple of {math.prod(strides)}."
            )

    def _check_lengths(self) -> None:
        if not self.scales or min(self.scales) < 16 or any(size % 4 for size in self.scales):
            raise UsageError(f"--scales is {self.scales}; each must be a multiple of 4, and at least 16.")
        least = self.bands * (max(self.scales) // 2 + 1)
        if self.length % self.hop_length or self.length < least:
            fitting = -(-max(self.length, least) // self.hop_length) * self.hop_length
            raise UsageError(
                f"--length is {self.length}; it must be a multiple of {self.hop_length}, the samples of a latent "
                f"frame, and at least {least}, half of the largest of --scales in every sub-band. Try --length "
                f"{fitting}."
            )


@dataclass(frozen=True)
class FirstConfig(RaveConfig):
    architecture: Annotated[Architecture, "Which layers; live is causal, for under 10 ms."] = "v1"
    capacity: Annotated[int, "Channels after the first layer; each stage doubles them."] = 64
    beta: Annotated[float, "Weight of the divergence of latents from a normal distribution, once warmed up."] = 0.1
    beta_warm_up: Annotated[int, "Steps of that; 0: none."] = 0
    discriminator_every: Annotated[int, "Of so many steps of fine tuning one is the discriminators'."] = 2
    matching_weight: Annotated[float, "Of the distance of the discriminators' feature maps."] = 10.0


@dataclass(frozen=True)
class SmallConfig(RaveConfig):
    architecture: Annotated[Architecture, "Which layers; live is causal, for under 10 ms."] = "v2-small"
    capacity: Annotated[int, "Channels after the first layer; each stage doubles them."] = 48
    ratios: Annotated[Ratios, "By which each stage of the encoder lowers the rate; four."] = (4, 2, 2, 2)
    beta: Annotated[float, "Weight of the divergence of latents from a normal distribution, once warmed up."] = 0.01
    beta_warm_up: Annotated[int, "Steps of that; 0: none."] = 0
    discriminator_every: Annotated[int, "Of so many steps of fine tuning one is the discriminators'."] = 2
    learning_rate: Annotated[float, "Of encoder and decoder; of Adam."] = 2e-3


@dataclass(frozen=True)
class LiveConfig(FirstConfig):
    architecture: Annotated[Architecture, "Which layers; live is causal, for under 10 ms."] = "live"
    capacity: Annotated[int, "Channels after the first layer; each stage doubles them."] = 32
    ratios: Annotated[Ratios, "By which each stage of the encoder lowers the rate; four."] = (2, 2, 2, 1)
    filter_taps: Annotated[int, "Of the filter of a band, over the number of bands; more separate them better."] = 12
    attenuation_db: Annotated[float, "Of what is beyond a band and its neighbours."] = 50.0
    causal: Annotated[bool, "No layer looks ahead: a stream is late by the sub-band filters alone."] = True


VARIANTS: Final[Mapping[str, type[RaveConfig]]] = {
    "v2": RaveConfig,
    "v1": FirstConfig,
    "v2-small": SmallConfig,
    "live": LiveConfig,
}
