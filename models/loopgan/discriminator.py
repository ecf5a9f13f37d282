"""What judges mel spectrograms: heads on mixed feature maps of a frozen network, or StyleGAN2's own discriminator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from tonemill.models.loopgan.features import RandomFeatures, TrainedFeatures
from tonemill.models.loopgan.plain_discriminator import PlainDiscriminator
from tonemill.models.loopgan.projection import Heads, Projection
from tonemill.models.loopgan.settings import NONE, RANDOM, LoopGANConfig
from tonemill.models.parts.spectra import BandStatistics

Mel = Float[Tensor, "batch 1 frames bands"]
Maps = Float[Tensor, "batch _ _ _"]
Condition = Float[Tensor, "batch condition"] | None


class Projected(nn.Module):
    """Mel spectrograms to the logits of heads that see mixed features of a frozen network.

    Args:
        features: the frozen network.
        condition: numbers of a condition.
        circular: time is a circle.
    """

    def __init__(self, features: RandomFeatures | TrainedFeatures, condition: int, circular: bool) -> None:
        super().__init__()
        self.features = features
        self.projection = Projection(features.widths, circular=circular)
        self.heads = Heads(self.projection.widths, condition, circular)

    def seen(self, mel: Mel) -> list[Maps]:
        """The mixed feature maps, which no training changes: once is enough for both networks' updates."""
        return self.projection(self.features(mel))

    def judged(self, seen: Sequence[Maps], condition: Condition = None) -> Float[Tensor, "batch logits"]:
        """The logits of what was seen."""
        return self.heads(seen, condition)

    def forward(self, mel: Mel, condition: Condition = None) -> Float[Tensor, "batch logits"]:
        return self.judged(self.seen(mel), condition)


def discriminator_of(
    config: LoopGANConfig, sample_rate: int, statistics: BandStatistics, parents: Mapping[str, Any]
) -> nn.Module:
    """The discriminator of settings; of one that is only loaded to render, whose feature network is not, an empty one.

    Args:
        config: settled.
        sample_rate: in hertz.
        statistics: by which spectrograms are normalised.
        parents: the runs that the model leans on.
    """
    circular = config.layout == "circular"
    if config.features == NONE:
        frames = config.frames(sample_rate)
        return PlainDiscriminator(
            frames, config.mel_bands, config.discriminator_width, circular=circular, condition=config.condition
        )
    if config.features == RANDOM:
        return Projected(RandomFeatures(config.feature_width, circular), config.condition, circular)
    if "features" not in parents:
        return nn.Module()
    return Projected(TrainedFeatures(parents["features"], statistics, circular), config.condition, circular)
