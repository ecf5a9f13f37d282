"""Samplers: from noise to a clip in few steps, by a function that predicts the slope of a noisy clip.

ddim   the clip and the noise that the slope implies, mixed as at the next level (Song et al., 2021,
       https://arxiv.org/abs/2010.02502, eq. 12 without its random part); for flows the same as Euler's method
2m     DPM-Solver++ of second order, multistep, on predicted clips (Lu et al., 2022,
       https://arxiv.org/abs/2211.01095, algorithm 2)
euler  Euler's method on the slope itself
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from tonemill.models.diffusion.noising import Objective, mix_of, ratio_of

Sampler = Literal["2m", "ddim", "euler"]
Clips = Float[Tensor, "batch channels time"]
Denoiser = Callable[[Clips, float], Clips]
"""Predicts the slope of noisy clips that all have one level."""


class Solver:
    """Steps from level to level; 2M remembers the clip that it predicted at the level before.

    Args:
        denoiser: predicts slopes.
        objective: of the denoiser.
        sampler: which method.
    """

    def __init__(self, denoiser: Denoiser, objective: Objective, sampler: Sampler) -> None:
        self._denoiser, self._objective, self._sampler = denoiser, objective, sampler
        self._here: tuple[float, Clips] | None = None
        self._before: tuple[float, Clips] | None = None

    def step(self, x: Clips, here: float, there: float) -> Clips:
        """Noisy clips of a lower level.

        A level may be stepped from several times, as inpainting does; 2M then uses what it predicted last.
        """
        if self._here is not None and self._here[0] != here:
            self._before = self._here
        slope = self._denoiser(x, here)
        x, clean = stepped(x, slope, here, there, self._objective, self._sampler, self._before)
        self._here = (here, clean)
        return x


def stepped(
    x: Clips,
    slope: Clips,
    here: float,
    there: float,
    objective: Objective,
    sampler: Sampler,
    before: tuple[float, Clips] | None,
) -> tuple[Clips, Clips]:
    """Noisy clips of a lower level, and the clean ones that were predicted; each sample by itself.

    Args:
        x: noisy clips.
        slope: of them.
        here: their level.
        there: the lower one.
        objective: which levels mean what.
        sampler: which method.
        before: the level before and what was predicted there, for 2M; None at the first.
    """
    mix, following = mix_of(objective, here), mix_of(objective, there)
    clean = mix.clean_of(x, slope)
    if sampler == "euler":
        # A slope of v is by its angle.
        return x + (there - here) * (math.pi / 2 if objective == "v" else 1) * slope, clean
    if sampler == "ddim":
        return following.mixed(clean, mix.noise_of(x, slope)), clean
    if not there:
        return clean, clean
    line, ratio, next_ratio = clean, ratio_of(objective, here), ratio_of(objective, there)
    before_ratio = math.inf if before is None else ratio_of(objective, before[0])
    if before is not None and math.isfinite(before_ratio) and math.isfinite(ratio):
        # Exact for a predicted clip that is a line in the logarithm of signal over noise; the share is 1 / (2 r) of the
        # paper, r being the step before over this one.
        share = math.log(ratio / next_ratio) / math.log(before_ratio / ratio) / 2
        line = (1 + share) * clean - share * before[1]
    shrinking = following.noise / mix.noise
    return shrinking * x + (following.signal - shrinking * mix.signal) * line, clean


def sampled(denoiser: Denoiser, x: Clips, levels: Sequence[float], objective: Objective, sampler: Sampler) -> Clips:
    """Clips from noisy ones of the first level, by one call of the denoiser for each level but the last."""
    solver = Solver(denoiser, objective, sampler)
    for here, there in pairwise(levels):
        x = solver.step(x, here, there)
    return x
