"""Settings of the loop GAN: its loops, its mel spectrogram, its networks and its training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from tonemill.audiotools.errors import UsageError
from tonemill.models.directions import Bounds
from tonemill.models.loopgan.generator import Shape
from tonemill.models.parts.mel import MelConfig
from tonemill.models.parts.settings import require_least

STAGES = 4
FRAMES = 1 << STAGES
"""A circular layout has a multiple of so many frames."""

PJLOOP_FRAMES = 192
"""Of the published layout, which are the first 1.92 s of loops of 2 s."""


@dataclass(frozen=True)
class LoopGANConfig(MelConfig):
    bars: Annotated[int, "Bars of four beats in a loop."] = 1
    bpm: Annotated[float, "Tempo of the loops: --target-bpm of `tonemill loops`."] = 120.0
    layout: Annotated[Literal["circular", "pjloop"], "Loops that go on where they end, or the published layout."] = (
        "circular"
    )
    latent: Annotated[int, "Numbers of a latent vector."] = 32
    style: Annotated[int, "Numbers of a style."] = 64
    mapping_layers: Annotated[int, "Dense layers from a latent vector to a style."] = 6
    width: Annotated[int, "Channels of the generator's maps; the published have 512."] = 256
    discriminator: Annotated[
        Literal["projected", "plain"], "Judges mixed features of a frozen network, or is StyleGAN2's own."
    ] = "projected"
    discriminator_width: Annotated[int, "Channels of the plain discriminator's maps."] = 256
    feature_width: Annotated[int, "Channels of the frozen network's first map; deeper ones have more."] = 64
    vocoder: Annotated[str | None, "A run of a vocoder, whose mel settings are taken; default: Griffin-Lim."] = None
    loss: Annotated[Literal["hinge", "logistic"], "Of both networks."] = "hinge"
    mixing: Annotated[float, "Share of loops that are trained with two styles."] = 0.9
    shift: Annotated[bool, "Rotate training loops in time, as a loop may begin anywhere."] = True
    r1_weight: Annotated[float | None, "Of the plain discriminator's gradients; default: 10, or 0 if projected."] = None
    path_weight: Annotated[float | None, "Of path lengths; default: 2, or 0 if projected."] = None
    learning_rate: Annotated[float, "Of both; of Adam."] = 2e-3
    griffin_lim_rounds: Annotated[int, "Of the phase search, without a vocoder."] = 60
    sample_rate: Annotated[int | None, "In hertz; default: the corpus's."] = None
    channels: Annotated[int | None, "One; default: the corpus's."] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        positive = ("bars", "latent", "style", "mapping_layers", "width", "discriminator_width", "feature_width")
        require_least(self, **dict.fromkeys(positive, 1), griffin_lim_rounds=0)
        if not 20 <= self.bpm <= 400:
            raise UsageError(f"--bpm is {self.bpm:g}; it must be from 20 to 400.")
        if not 0 <= self.mixing <= 1:
            raise UsageError(f"--mixing is {self.mixing}; it must be from 0 to 1.")
        if self.learning_rate <= 0:
            raise UsageError(f"--learning-rate is {self.learning_rate}; it must be above 0.")
        if self.mel_bands % FRAMES:
            raise UsageError(f"--mel-bands is {self.mel_bands}; it must be a multiple of {FRAMES}.")

    def samples(self, sample_rate: int) -> int:
        """Samples of a loop: whole bars of four beats, to the nearest sample."""
        return round(self.bars * 240 / self.bpm * sample_rate)

    def frames(self, sample_rate: int) -> int:
        """Frames of a loop's mel spectrogram: the multiple of 16 that is nearest to its length in hops."""
        if self.layout == "pjloop":
            return PJLOOP_FRAMES
        return max(1, round(self.samples(sample_rate) / self.hop_length / FRAMES)) * FRAMES

    def shape(self, sample_rate: int) -> Shape:
        """Sizes of the generator."""
        return Shape(
            self.frames(sample_rate) // FRAMES,
            self.mel_bands // FRAMES,
            STAGES,
            self.width,
            self.latent,
            self.style,
            self.mapping_layers,
            self.layout == "circular",
        )


@dataclass(frozen=True)
class LoopOptions:
    truncation: Annotated[
        float, "How far styles are from their mean: 1 as trained, less for fewer surprises, 0 for none.", Bounds(0, 2)
    ] = 1.0
