"""The network as a denoiser: the expected slope for Gaussian sound, what the network adds, conditions and guidance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from tonemill.models.diffusion.baseline import GaussianDenoiser
from tonemill.models.diffusion.conditioning import Condition, Rows, conditions_of
from tonemill.models.diffusion.noising import Levels
from tonemill.models.diffusion.settings import DiffusionConfig, Sampling
from tonemill.models.diffusion.tasks import TaskSeen
from tonemill.models.diffusion.unet import NOTHING, Context, UNet

Clips = Float[Tensor, "batch channels time"]

_TENSORS: Final = ("features", "tokens", "visible", "injected")
"""Of a context."""


@dataclass(frozen=True)
class Seen:
    """What the network reads beside noisy clips.

    Args:
        context: of what they are made for.
        appended: a signal that is read beside the noisy clip; what is missing at its end is silence.
    """

    context: Context = NOTHING
    appended: Float[Tensor, "batch _ _"] | None = None

    def repeated(self, times: int) -> Seen:
        """The whole batch so many times."""
        return self._changed(lambda one: one.repeat(times, *[1] * (one.ndim - 1)))

    def item(self, number: int) -> Seen:
        """A batch of one of its items."""
        return self._changed(lambda one: one[number : number + 1])

    def part(self, first: int, last: int, hop: int) -> Seen:
        """What belongs to some samples of the clips; a frame of what is injected is `hop` of them."""
        injected = self.context.injected
        context = replace(
            self.context, injected=None if injected is None else injected[..., first // hop : last // hop]
        )
        return Seen(context, None if self.appended is None else self.appended[..., first:last])

    def followed_by(self, other: Seen) -> Seen:
        """This batch and then another of the same parts."""
        parts: dict[str, Any] = {
            name: _joined(getattr(self.context, name), getattr(other.context, name)) for name in _TENSORS
        }
        return Seen(replace(self.context, **parts), _joined(self.appended, other.appended))

    def _changed(self, change: Callable[[Tensor], Tensor]) -> Seen:
        parts = {name: getattr(self.context, name) for name in _TENSORS}
        changed: dict[str, Any] = {name: None if one is None else change(one) for name, one in parts.items()}
        return Seen(replace(self.context, **changed), None if self.appended is None else change(self.appended))


def _joined(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    return None if one is None or other is None else torch.cat([one, other])


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
        for name, condition in conditions_of(config).items():
            self.add_module(name, condition)

    @property
    def conditions(self) -> dict[str, Condition]:
        """What clips are made for, by name."""
        return {name: one for name, one in self.named_children() if isinstance(one, Condition)}

    def context(self, rows: Rows, injected: Float[Tensor, "batch _ _"] | None = None) -> Context:
        """What the network reads of conditions.

        Args:
            rows: of each condition that there is.
            injected: a signal for the levels that read one.
        """
        reads = [condition.read(rows[name]) for name, condition in self.conditions.items()]
        if not reads:
            return Context(injected=injected)
        tokens = [(one.tokens, one.visible) for one in reads if one.tokens is not None and one.visible is not None]
        return Context(
            torch.stack([one.features for one in reads]).sum(dim=0),
            torch.cat([one for one, _ in tokens], dim=2) if tokens else None,
            torch.cat([one for _, one in tokens], dim=1) if tokens else None,
            injected,
        )

    def without(self, rows: Rows) -> Rows:
        """Rows of "nothing" in place of some."""
        return {name: condition.nothing(rows[name]) for name, condition in self.conditions.items()}

    def forward(self, x: Clips, level: Levels, seen: Seen) -> Clips:
        """The slope of noisy clips at a level for each."""
        read = x
        if seen.appended is not None:
            missing = x.shape[-1] - seen.appended.shape[-1]
            read = torch.cat([x, F.pad(seen.appended, (0, missing))], dim=1)
        found = self.unet(read, level, seen.context).float()
        if not self.config.precondition:
            return found
        remaining = self.gaussian.loss(level, self.config.objective).sqrt()
        return self.gaussian.expected(x, level, self.config.objective) + remaining[:, None, None] * found

    def sampling(self, rows: Rows, about: TaskSeen, options: Sampling, circular: bool = False) -> Guided:
        """The denoiser that a sampler calls, guided towards the conditions where that was wanted.

        Args:
            rows: of each condition.
            about: what the task gives.
            options: of sampling.
            circular: clips are loops.
        """
        seen = Seen(replace(self.context(rows, about.injected), circular=circular), about.appended)
        if not rows or options.guidance == 1:
            return Guided(self, seen, None, options)
        away = Seen(self.context(self.without(rows), about.injected), about.appended)
        return Guided(self, seen, seen.followed_by(away), options)


class Guided:
    """The denoiser of one batch, for a sampler.

    Guidance is slope + (guidance - 1) (slope - slope without conditions) (Ho and Salimans, 2022,
    https://arxiv.org/abs/2207.12598, eq. 6); both are computed in one batch.

    Args:
        denoiser: that predicts slopes.
        seen: what it reads.
        both: the same, and then without conditions; None without guidance.
        options: of sampling.
    """

    def __init__(self, denoiser: Denoiser, seen: Seen, both: Seen | None, options: Sampling) -> None:
        self._denoiser, self._seen, self._both, self._options = denoiser, seen, both, options

    def __call__(self, x: Clips, level: float) -> Clips:
        """The slope of noisy clips that all have one level."""
        options, both = self._options, self._both
        if both is None or not options.guide_from <= level <= options.guide_to:
            return self._denoiser(x, torch.full((len(x),), level, device=x.device), self._seen)
        levels = torch.full((2 * len(x),), level, device=x.device)
        towards, away = self._denoiser(x.repeat(2, 1, 1), levels, both).chunk(2)
        return torch.lerp(away, towards, options.guidance)

    def part(self, first: int, last: int, hop: int) -> Guided:
        """The same for a part of the clips.

        Args:
            first: its first sample, a multiple of `hop`.
            last: the first one after it, a multiple of `hop`.
            hop: samples for a frame of what is injected.
        """
        both = None if self._both is None else self._both.part(first, last, hop)
        return Guided(self._denoiser, self._seen.part(first, last, hop), both, self._options)
