"""The network as a denoiser: the expected slope for Gaussian sound, what the network adds, conditions and guidance."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from tonemill.models.diffusion.baseline import TAIL, GaussianDenoiser
from tonemill.models.diffusion.cells import Cells, Known, Power
from tonemill.models.diffusion.conditioning import Condition, Rows, conditions_of
from tonemill.models.diffusion.noising import Levels, mix_of
from tonemill.models.diffusion.options import Decoding, Sampling
from tonemill.models.diffusion.pauses import pauses_of
from tonemill.models.diffusion.settings import DiffusionConfig
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
        power: the variance of a clean clip in each cell of time and frequency, where it is known.
    """

    context: Context = NOTHING
    appended: Float[Tensor, "batch _ _"] | None = None
    power: Power | None = None

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
        power = None if self.power is None else self.power[:, first // hop : last // hop]
        return Seen(context, None if self.appended is None else self.appended[..., first:last], power)

    def followed_by(self, other: Seen) -> Seen:
        """This batch and then another of the same parts."""
        parts: dict[str, Any] = {
            name: _joined(getattr(self.context, name), getattr(other.context, name)) for name in _TENSORS
        }
        appended, power = _joined(self.appended, other.appended), _joined(self.power, other.power)
        return Seen(replace(self.context, **parts), appended, power)

    def _changed(self, change: Callable[[Tensor], Tensor]) -> Seen:
        parts = {name: getattr(self.context, name) for name in _TENSORS}
        changed: dict[str, Any] = {name: None if one is None else change(one) for name, one in parts.items()}
        appended, power = (None if one is None else change(one) for one in (self.appended, self.power))
        return Seen(replace(self.context, **changed), appended, power)


def _joined(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    return None if one is None or other is None else torch.cat([one, other])


class Denoiser(nn.Module):
    """Predicts slopes of noisy clips.

    With `--precondition` the network's answer, in units of the deviation that remains at a noise level, is added to
    what is expected of a Gaussian signal with the corpus's spectrum: as in EDM (Karras et al., 2022,
    https://arxiv.org/abs/2206.00364, section 5) for each band by itself. So training begins at the loss of the best
    linear denoiser, and not at that of silence. With `--pause-octaves` the network also reads and weighs what it would
    have to answer in a pause.

    Args:
        config: settled.
        channels: of the clips that are made.
        appended: channels of a condition beside them.
        injected: channels of one that each level reads.
        hop: samples for a frame of what a task gives.
    """

    def __init__(
        self, config: DiffusionConfig, channels: int, appended: int = 0, injected: tuple[int, ...] = (), hop: int = 1
    ) -> None:
        super().__init__()
        self.config, self.channels, self.hop = config, channels, hop
        self.gaussian = GaussianDenoiser(channels, config.scale)
        self.octaves = config.pause_octaves or 0
        weighed = self.octaves * channels
        shape = config.shape(channels, appended + weighed, injected)
        self.unet = UNet(replace(shape, out_channels=channels + weighed))
        for name, condition in conditions_of(config).items():
            self.add_module(name, condition)

    @property
    def conditions(self) -> dict[str, Condition]:
        """What clips are made for, by name."""
        return {name: one for name, one in self.named_children() if isinstance(one, Condition)}

    def seen(self, rows: Rows, about: TaskSeen) -> Seen:
        """What the network reads: of conditions, and of what the task gives."""
        power = None if about.power is None else about.power / self.gaussian.deviation.square()
        return Seen(self.context(rows, about.injected), about.appended, power)

    def noise(self, white: Clips, seen: Seen) -> Clips:
        """The noise that clips are mixed with: white, or where levels of cells are known, with these."""
        cells = self._cells(seen)
        return white if cells is None else cells.shaped(white)

    def colored(self, noise: Clips, level: float, seen: Seen) -> Clips:
        """White noise as it is at a level where sampling begins."""
        cells, objective = self._cells(seen), self.config.objective
        if cells is None:
            return self.gaussian.colored(noise, level, objective)
        mix = mix_of(objective, level)
        return math.hypot(mix.signal, mix.noise) * cells.shaped(noise)

    def searched(self, noise: Clips, seen: Seen, known: Known | None = None) -> Clips | None:
        """Clean clips of known levels with phases by Griffin-Lim, see `Cells.searched`; None without such levels."""
        cells = self._cells(seen)
        return None if cells is None else cells.searched(noise, known)

    def raised(self, x: Clips, level: float, seen: Seen) -> Clips:
        """What was searched, with the levels that noisy clips have."""
        cells = self._cells(seen)
        assert cells is not None
        return cells.raised(x, level, self.config.objective)

    def _cells(self, seen: Seen) -> Cells | None:
        return Cells(seen.power, self.hop) if seen.power is not None and self.config.precondition else None

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
        cells, objective = self._cells(seen), self.config.objective
        read = x if cells is None else cells.whitened(x, level, objective)
        if seen.appended is not None:
            missing = x.shape[-1] - seen.appended.shape[-1]
            read = torch.cat([read, F.pad(seen.appended, (0, missing))], dim=1)
        tail = self._tail(seen)
        pauses = pauses_of(x, level, objective, self.gaussian, self.octaves, tail) if self.octaves else None
        if pauses is not None:
            read = torch.cat([read, pauses.read], dim=1)
        found = self.unet(read, level, seen.context).float()
        if pauses is not None:
            found = pauses.weighed(found)
        if not self.config.precondition:
            return found
        if cells is not None:
            return cells.denoised(x, found, level, objective)
        remaining = self.gaussian.loss(level, objective).sqrt()
        return self.gaussian.expected(x, level, objective, tail) + remaining[:, None, None] * found

    def _tail(self, seen: Seen) -> int:
        """Samples of silence after clips that are no loops; none in runs of before, which learned without."""
        return TAIL if self.octaves and not seen.context.circular else 0

    def expected(self, x: Clips, level: Levels, seen: Seen) -> Clips:
        """The slope that is expected of Gaussian sound with the corpus's spectrum, or with the levels of cells."""
        cells, objective = self._cells(seen), self.config.objective
        if cells is None:
            return self.gaussian.expected(x, level, objective, self._tail(seen))
        return cells.denoised(x, torch.zeros_like(x), level, objective)

    def loss(self, error: Clips, seen: Seen) -> Float[Tensor, "batch"]:
        """The mean squared error of slopes of each item; where levels of cells are known, in units of their noise."""
        cells = self._cells(seen)
        return error.square().mean(dim=(1, 2)) if cells is None else cells.loss(error)

    def expected_loss(self, samples: int, level: Levels, seen: Seen) -> Float[Tensor, "batch"]:
        """The loss that `expected` has at each level, where sound is Gaussian."""
        cells, objective = self._cells(seen), self.config.objective
        return self.gaussian.loss(level, objective) if cells is None else cells.expected_loss(samples, level, objective)

    def sampling(self, rows: Rows, about: TaskSeen, options: Sampling, circular: bool = False) -> Guided:
        """The denoiser that a sampler calls, guided towards the conditions where that was wanted.

        Args:
            rows: of each condition.
            about: what the task gives.
            options: of sampling.
            circular: clips are loops.
        """
        seen = self.seen(rows, about)
        seen = replace(seen, context=replace(seen.context, circular=circular))
        if not rows or options.guidance == 1:
            return Guided(self, seen, None, options)
        return Guided(self, seen, seen.followed_by(self.seen(self.without(rows), about)), options)


def begins_at(options: Sampling) -> float:
    """The noise level where sampling begins."""
    return options.begin if isinstance(options, Decoding) else 1.0


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

    def begun(self, noise: Clips, level: float, known: Known | None = None) -> tuple[Clips, Clips | None]:
        """White noise as it is at the level where sampling begins, and what was searched of it, if anything was.

        Args:
            noise: white.
            level: where sampling begins; below 1 phases are searched for the known levels.
            known: what was searched before for the first samples.
        """
        sound = self._denoiser.searched(noise, self._seen, known) if begins_at(self._options) < 1 else None
        if sound is None:
            return self._denoiser.colored(noise, level, self._seen), None
        return self._denoiser.raised(sound, level, self._seen), sound

    def part(self, first: int, last: int, hop: int) -> Guided:
        """The same for a part of the clips.

        Args:
            first: its first sample, a multiple of `hop`.
            last: the first one after it, a multiple of `hop`.
            hop: samples for a frame of what is injected.
        """
        both = None if self._both is None else self._both.part(first, last, hop)
        return Guided(self._denoiser, self._seen.part(first, last, hop), both, self._options)
