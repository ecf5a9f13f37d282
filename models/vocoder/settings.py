"""Settings of the vocoder: of its mel spectrogram, its training, and each generator."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from tonemill.audiotools.errors import UsageError
from tonemill.models.parts.mel import MelConfig
from tonemill.models.parts.settings import require_least

GENERATORS = Literal["vocos", "melgan"]
DISCRIMINATORS = ("multiscale", "multiperiod", "stft")


@dataclass(frozen=True)
class VocoderConfig(MelConfig):
    generator: Annotated[GENERATORS, "What makes audio of mel spectrograms."] = "vocos"
    length: Annotated[int, "Samples of a training clip; what is beyond whole hops is left out."] = 8192
    learning_rate: Annotated[float, "Of the generator, at the beginning; of Adam."] = 2e-3
    decay_steps: Annotated[int, "Steps in which it falls to a tenth, where it stays; 0: none."] = 20_000
    discriminator_learning_rate: Annotated[float, "Of the discriminators; of Adam."] = 2e-4
    adversarial_after: Annotated[int, "Steps without discriminators, by spectra alone, at the beginning."] = 20_000
    discriminators: Annotated[tuple[str, ...], f"Of these: {', '.join(DISCRIMINATORS)}."] = ("multiperiod", "stft")
    discriminator_widths: Annotated[float, "Widths of their layers over the published ones; 0.25 or more."] = 1.0
    mel_weight: Annotated[float, "Of the mean distance of log-mel spectrograms, in bels."] = 15.0
    stft_weight: Annotated[float, "Of the multi-resolution STFT distance."] = 5.0
    adversarial_weight: Annotated[float, "Of the hinge loss, once there are discriminators."] = 1.0
    matching_weight: Annotated[float, "Of the distance of their feature maps."] = 2.0
    level_augment_db: Annotated[float, "Play training clips softer by up to so many dB."] = 10.0
    validate_seconds: Annotated[float, "Of held-out audio that is rendered each time; 0: all of it."] = 60.0
    sample_rate: Annotated[int | None, "In hertz; default: the corpus's."] = None
    channels: Annotated[int | None, "Each is a signal of its own; default: the corpus's."] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        # The largest transform of losses and discriminators, 4096, mirrors half of itself.
        require_least(
            self,
            length=max(4096, 4 * self.n_fft),
            adversarial_after=0,
            decay_steps=0,
            level_augment_db=0,
            validate_seconds=0,
        )
        weights = ("mel_weight", "stft_weight", "adversarial_weight", "matching_weight")
        require_least(self, **dict.fromkeys(weights, 0))
        for name in ("learning_rate", "discriminator_learning_rate"):
            if getattr(self, name) <= 0:
                flag = name.replace("_", "-")
                raise UsageError(f"--{flag} is {getattr(self, name)}; it must be above 0, as 0.0002.")
        if not any(getattr(self, name) for name in weights[:2]) and self.adversarial_after:
            raise UsageError(
                "--mel-weight and --stft-weight are both 0, so nothing is trained before the adversarial loss "
                "begins. Give one of them, or --adversarial-after 0."
            )
        if self.discriminator_widths < 0.25:
            raise UsageError(f"--discriminator-widths is {self.discriminator_widths}; it must be at least 0.25.")
        for name in self.discriminators:
            if name not in DISCRIMINATORS:
                raise UsageError(f"--discriminators is {name!r}; it must be of {', '.join(DISCRIMINATORS)}.")
        if not self.discriminators:
            raise UsageError(f"--discriminators is empty; name some of {', '.join(DISCRIMINATORS)}.")


@dataclass(frozen=True)
class VocosConfig(VocoderConfig):
    generator: Annotated[GENERATORS, "What makes audio of mel spectrograms."] = "vocos"
    width: Annotated[int, "Channels of the blocks."] = 256
    blocks: Annotated[int, "How many."] = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        require_least(self, width=1, blocks=1)


@dataclass(frozen=True)
class MelGANConfig(VocoderConfig):
    generator: Annotated[GENERATORS, "What makes audio of mel spectrograms."] = "melgan"
    width: Annotated[int, "Channels before the first stage; each halves them."] = 512
    ratios: Annotated[tuple[int, ...], "By which each stage raises the rate; their product is --hop-length."] = (
        5,
        4,
        4,
        2,
    )
    discriminators: Annotated[tuple[str, ...], f"Of these: {', '.join(DISCRIMINATORS)}."] = ("multiscale",)
    matching_weight: Annotated[float, "Of the distance of the discriminators' feature maps."] = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.ratios or min(self.ratios) < 2 or math.prod(self.ratios) != self.hop_length:
            shown = " x ".join(map(str, self.ratios))
            raise UsageError(
                f"--ratios is {shown}, which is {math.prod(self.ratios)}; each must be at least 2, and their product "
                f"--hop-length, which is {self.hop_length}."
            )
        if self.width % 2 ** len(self.ratios):
            raise UsageError(f"--width is {self.width}; it must be a multiple of {2 ** len(self.ratios)}.")


VARIANTS = {"vocos": VocosConfig, "melgan": MelGANConfig}
