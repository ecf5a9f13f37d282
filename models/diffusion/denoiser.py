"""The network as a denoiser: the expected slope for Gaussian sound, what the network adds, classes and guidance."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tonemill.models.diffusion import samplers
from tonemill.models.diffusion.baseline import GaussianDenoiser
from tonemill.models.diffusion.noising import Levels
from tonemill.models.diffusion.settings import DiffusionConfig, Sampling
from tonemill.models.diffusion.unet import UNet

Clips = Float[Tensor, "batch channels time"]


@dataclass(frozen=True)
class Conditions:
    """What a clip is made for.

    Args:
        classes: of each item; the one after the last is "no label". None where the model has no classes.
        appended: a signal that the network reads beside the noisy clip.
    """

    classes: Int[Tensor, "batch"] | None = None
    appended: Float[Tensor, "batch _ time"] | None = None

    def twice(self, no_label: int) -> Conditions:
        """For both halves of a guided batch, the second without labels."""
        assert self.classes is not None
        classes = torch.cat([self.classes, torch.full_like(self.classes, no_label)])
        return Conditions(classes, None if self.appended is None else self.appended.repeat(2, 1, 1))

    def expanded(self, batch: int) -> Conditions:
        """Those of one item for each of several."""
        appended = None if self.appended is None else self.appended.expand(batch, -1, -1)
        return Conditions(None if self.classes is None else self.classes.expand(batch), appended)


class Denoiser(nn.Module):
    """Predicts slopes of noisy clips.

    With `--precondition` the network's answer, in units of the deviation that remains at a noise level, is added to
    what is expected of a Gaussian signal with the corpus's spectrum: as in EDM (Karras et al., 2022,
    https://arxiv.org/abs/2206.00364, section 5) for each band by itself. So training begins at the loss of the best
    linear denoiser, and not at that of silence.

    Args:
        config: settled.
        channels: of the clips that are made.
        appended: channels of a condition beside them.
    """

    def __init__(self, config: DiffusionConfig, channels: int, appended: int) -> None:
        super().__init__()
        self.config, self.channels = config, channels
        self.gaussian = GaussianDenoiser(channels, config.scale)
        self.unet = UNet(config.shape(channels, appended))
        self.classes = nn.Embedding(len(config.labels) + 1, config.modulation_dim) if config.labels else None
        if self.classes is not None:
            # Training begins without a difference between classes.
            nn.init.zeros_(self.classes.weight)

    def forward(self, x: Clips, level: Levels, conditions: Conditions) -> Clips:
        """The slope of noisy clips at a level for each."""
        seen = x if conditions.appended is None else torch.cat([x, conditions.appended], dim=1)
        features = None
        if self.classes is not None:
            assert conditions.classes is not None
            features = self.classes(conditions.classes)
        found = self.unet(seen, level, features).float()
        if not self.config.precondition:
            return found
        remaining = self.gaussian.loss(level, self.config.objective).sqrt()
        return self.gaussian.expected(x, level, self.config.objective) + remaining[:, None, None] * found

    def sampling(self, conditions: Conditions, options: Sampling) -> samplers.Denoiser:
        """The denoiser that a sampler calls, guided towards the class where that was wanted.

        Guidance is slope + (guidance - 1) (slope - slope without label) (Ho and Salimans, 2022,
        https://arxiv.org/abs/2207.12598, eq. 6); both are computed in one batch.
        """
        weight, classes = options.guidance, self.classes
        both = conditions.twice(classes.num_embeddings - 1) if classes is not None and weight != 1 else conditions

        def plain(x: Clips, level: float) -> Clips:
            return self(x, torch.full((len(x),), level, device=x.device), conditions)

        def guided(x: Clips, level: float) -> Clips:
            if not options.guide_from <= level <= options.guide_to:
                return plain(x, level)
            doubled = self(x.repeat(2, 1, 1), torch.full((2 * len(x),), level, device=x.device), both)
            towards, without = doubled.chunk(2)
            return torch.lerp(without, towards, weight)

        return plain if both is conditions else guided
