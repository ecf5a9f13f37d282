"""The network as a denoiser: the expected slope for Gaussian sound, what the network adds, classes and guidance."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

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
        appended: a signal that the network reads beside the noisy clip; what is missing at its end is silence.
        injected: one that a level reads.
    """

    classes: Int[Tensor, "batch"] | None = None
    appended: Float[Tensor, "batch _ _"] | None = None
    injected: Float[Tensor, "batch _ _"] | None = None

    def repeated(self, times: int) -> Conditions:
        """The whole batch so many times."""
        return Conditions(*(None if one is None else one.repeat(times, *[1] * (one.ndim - 1)) for one in self._each))

    def guided(self, no_label: int) -> Conditions:
        """Twice the batch, the second half without labels."""
        assert self.classes is not None
        classes = torch.cat([self.classes, torch.full_like(self.classes, no_label)])
        return replace(self.repeated(2), classes=classes)

    @property
    def _each(self) -> tuple[Tensor | None, ...]:
        return self.classes, self.appended, self.injected


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
        injected: channels of one that each level reads.
    """

    def __init__(
        self, config: DiffusionConfig, channels: int, appended: int = 0, injected: tuple[int, ...] = ()
    ) -> None:
        super().__init__()
        self.config, self.channels = config, channels
        self.gaussian = GaussianDenoiser(channels, config.scale)
        self.unet = UNet(config.shape(channels, appended, injected))
        self.classes = nn.Embedding(len(config.labels) + 1, config.modulation_dim) if config.labels else None
        if self.classes is not None:
            # Training begins without a difference between classes.
            nn.init.zeros_(self.classes.weight)

    def forward(self, x: Clips, level: Levels, conditions: Conditions) -> Clips:
        """The slope of noisy clips at a level for each."""
        seen = x
        if conditions.appended is not None:
            missing = x.shape[-1] - conditions.appended.shape[-1]
            seen = torch.cat([x, F.pad(conditions.appended, (0, missing))], dim=1)
        contexts = [conditions.injected if width else None for width in self.unet.shape.injected]
        features = None
        if self.classes is not None:
            assert conditions.classes is not None
            features = self.classes(conditions.classes)
        found = self.unet(seen, level, features, contexts).float()
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
        both = conditions.guided(classes.num_embeddings - 1) if classes is not None and weight != 1 else conditions

        def plain(x: Clips, level: float) -> Clips:
            return self(x, torch.full((len(x),), level, device=x.device), conditions)

        def guided(x: Clips, level: float) -> Clips:
            if not options.guide_from <= level <= options.guide_to:
                return plain(x, level)
            doubled = self(x.repeat(2, 1, 1), torch.full((2 * len(x),), level, device=x.device), both)
            towards, without = doubled.chunk(2)
            return torch.lerp(without, towards, weight)

        return plain if both is conditions else guided
