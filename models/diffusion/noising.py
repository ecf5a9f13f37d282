"""How clips are mixed with noise: objectives, random noise levels of training, and schedules of levels for sampling.

At a level s from 0 (clean) to 1 (noise) a clip x and noise e are mixed, and a network predicts the slope u of the mix:

    x_s = a x + b e        u = a' x + b' e        a b' - a' b = 1

    v     a = cos(phi), b = sin(phi), phi = s pi / 2; slopes by phi (Salimans and Ho, 2022, "Progressive distillation",
          https://arxiv.org/abs/2202.00512, appendix D)
    flow  a = 1 - s, b = s; slopes by s (rectified flow; Liu et al., 2022, https://arxiv.org/abs/2209.03003)

As the determinant is 1, the way back is the same for both: x = b' x_s - b u, and e = a u - a' x_s.
"""

from __future__ import annotations

import math
from typing import Any, Final, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from tonemill.models.exchange import Batch

Objective = Literal["v", "flow"]
Draws = Literal["stratified", "uniform", "logit-normal"]
Schedule = Literal["tan", "squared", "linear"]
Levels = Float[Tensor, "*batch"]

LOUDEST_RATIO: Final = 16.0
"""Noise over signal where `tan` schedules begin.

On exactly solvable data of standard deviations from .02 to 1 ten steps of 2M from here down to `SOFTEST_RATIO` are off
by at most 0.31 dB; from 100 to .01, as is usual, by 1.6 dB.
"""

SOFTEST_RATIO: Final = 0.004
"""Noise over signal before the last step of a `tan` schedule, which takes the clean clip."""


class Mix(NamedTuple):
    """The weights of clip and noise at a level, and their slopes; numbers, or tensors that broadcast over clips."""

    signal: Any
    noise: Any
    signal_slope: Any
    noise_slope: Any

    def mixed(self, clean: Tensor, noise: Tensor) -> Tensor:
        """A noisy clip."""
        return self.signal * clean + self.noise * noise

    def slope(self, clean: Tensor, noise: Tensor) -> Tensor:
        """What a network is to predict of the noisy clip."""
        return self.signal_slope * clean + self.noise_slope * noise

    def clean_of(self, mixed: Tensor, slope: Tensor) -> Tensor:
        """The clip of a noisy one and its slope."""
        return self.noise_slope * mixed - self.noise * slope

    def noise_of(self, mixed: Tensor, slope: Tensor) -> Tensor:
        """The noise in a noisy clip of this slope."""
        return self.signal * slope - self.signal_slope * mixed


def mix_at(objective: Objective, level: Levels) -> Mix:
    """The mix of each item of a batch of clips (batch, channels, time) at its level (batch)."""
    level = level[:, None, None]
    if objective == "flow":
        ones = torch.ones_like(level)
        return Mix(1 - level, level, -ones, ones)
    angle = level * (math.pi / 2)
    signal, noise = angle.cos(), angle.sin()
    return Mix(signal, noise, -noise, signal)


def mix_of(objective: Objective, level: float) -> Mix:
    """The mix at a level that all clips have; exactly clean at 0 and exactly noise at 1."""
    if objective == "flow":
        return Mix(1 - level, level, -1.0, 1.0)
    angle = level * math.pi / 2
    signal, noise = (0.0 if level == 1 else math.cos(angle)), math.sin(angle)
    return Mix(signal, noise, -noise, signal)


def ratio_of(objective: Objective, level: float) -> float:
    """Noise over signal at a level; infinite at 1."""
    mix = mix_of(objective, level)
    return mix.noise / mix.signal if mix.signal else math.inf


def level_of(objective: Objective, ratio: float) -> float:
    """The level that has a ratio of noise over signal."""
    return ratio / (1 + ratio) if objective == "flow" else math.atan(ratio) * 2 / math.pi


def schedule_of(schedule: Schedule, objective: Objective, steps: int, start: float = 1.0) -> list[float]:
    """Levels from the beginning of sampling down to 0.

    Args:
        schedule: `linear` in the level; `squared`, which stays longer at low levels, where quiet bands are made; `tan`,
            geometric in noise over signal, with 0 after its last.
        objective: decides which level has which ratio.
        steps: so many calls of a network, one for each level but the last.
        start: the level of what is sampled from.

    Returns:
        steps + 1 levels; none but 0 where there is nothing to do.
    """
    if not start:
        return [0.0]
    if schedule == "tan":
        loudest = min(LOUDEST_RATIO, ratio_of(objective, start))
        softest = min(SOFTEST_RATIO, loudest)
        falls = [(softest / loudest) ** (step / max(1, steps - 1)) for step in range(steps)]
        return [*(level_of(objective, loudest * fall) for fall in falls), 0.0]
    power = 2 if schedule == "squared" else 1
    return [start * (1 - step / steps) ** power for step in range(steps)] + [0.0]


def draw_levels(batch: Batch, draws: Draws) -> Levels:
    """A noise level for each example of a batch.

    Args:
        draws: `uniform`; `stratified`, one in each of as many equal parts of 0 to 1 as the step's batch has examples,
            so that its mean loss is less of a lottery; `logit-normal`, also stratified, with more levels in the middle
            (Esser et al., 2024, https://arxiv.org/abs/2403.03206, section 3.1).
    """
    drawn = batch.draw(torch.rand)
    if draws == "uniform":
        return drawn
    place = torch.arange(batch.first, batch.first + len(batch), device=drawn.device)
    part = (place + drawn) / (batch.whole or len(batch))
    if draws == "stratified":
        return part
    return torch.special.ndtri(part.clamp(1e-6, 1 - 1e-6)).sigmoid()
