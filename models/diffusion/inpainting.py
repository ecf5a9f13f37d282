"""Fill gaps of a sound: what is kept is exact, and both sides of a seam are brought to fit by resampling.

At each level the kept part is replaced by the sound with as much noise as belongs there; then noise is added again and
the step is repeated (RePaint; Lugmayr et al., 2022, https://arxiv.org/abs/2201.09865, algorithm 1). From a level j back
up to i that is

    x_i = (a_i / a_j) x_j + sqrt(b_i^2 - (a_i / a_j)^2 b_j^2) n

with fresh noise n. To mix the predicted clip with the predicted noise instead would give back x_i, and change nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tonemill.audiotools.errors import UsageError
from tonemill.models.diffusion.noising import Objective, mix_of
from tonemill.models.diffusion.samplers import Clips, Denoiser, Sampler, Solver


def kept(text: str, samples: int, sample_rate: int) -> Bool[Tensor, "time"]:
    """The samples that ranges in seconds cover, as `0-1,1.5-2`; each from its first up to, not including, its last.

    Raises:
        UsageError: a range is none, or ends before it begins. One past the end of the sound keeps nothing, for sounds
            of one stream differ in length.
    """
    mask = torch.zeros(samples, dtype=torch.bool)
    for part in filter(None, text.split(",")):
        found = re.fullmatch(r"\s*(\d*\.?\d+|\d+\.)\s*-\s*(\d*\.?\d+|\d+\.)\s*", part)
        if found is None:
            raise UsageError(f"--keep is {text!r}; it must be ranges in seconds, as --keep 0-1,1.5-2.")
        first, last = (round(float(one) * sample_rate) for one in found.groups())
        if first >= last:
            raise UsageError(f"--keep has {part.strip()}; a range must end after it begins, as 0-1.")
        mask[first:last] = True
    return mask


def inpainted(
    denoiser: Denoiser,
    x: Clips,
    source: Clips,
    mask: Bool[Tensor, "batch 1 time"],
    levels: Sequence[float],
    objective: Objective,
    sampler: Sampler,
    resamples: int,
    noise: Callable[[], Float[Tensor, "batch channels time"]],
) -> Clips:
    """Clips that equal the source where the mask is true, to the bit.

    Args:
        denoiser: predicts slopes.
        x: noisy clips of the first level; where all is to be made and `resamples` is 1 they are sampled as always.
        source: clean clips.
        mask: what to keep.
        levels: down to 0.
        objective: of the denoiser.
        sampler: which method.
        resamples: rounds at each level.
        noise: draws fresh noise of the shape of the clips.
    """
    solver = Solver(denoiser, objective, sampler)
    for here, there in pairwise(levels):
        mix, following = mix_of(objective, here), mix_of(objective, there)
        for again in reversed(range(resamples)):
            below = solver.step(x, here, there)
            # At level 0 this is the source itself.
            held = following.mixed(source, noise()) if there else source
            below = torch.where(mask, held, below)
            if again:
                share = mix.signal / following.signal
                x = share * below + math.sqrt(max(0.0, mix.noise**2 - (share * following.noise) ** 2)) * noise()
            else:
                x = below
    return x
