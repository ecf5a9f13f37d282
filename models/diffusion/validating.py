"""Losses on held-out clips at five noise levels, beside those of the exact Gaussian denoiser on the same draws.

A loss alone shows little: 0.02 on loud music can be that of the best linear denoiser, which makes filtered noise.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tonemill.models.diffusion.denoiser import Denoiser, Seen
from tonemill.models.diffusion.noising import mix_at
from tonemill.models.exchange import Validation

LEVELS: Final = (0.1, 0.3, 0.5, 0.7, 0.9)

Clip = Float[Tensor, "channels time"]


def judged(denoiser: Denoiser, clips: Iterable[tuple[Clip, Seen]]) -> Validation | None:
    """Mean losses of clips of unit variance, with noise that is the same each time; None where there are none.

    Args:
        denoiser: in eval mode.
        clips: one at a time, with what the network reads beside a batch of one.

    Returns:
        as score the mean over levels of loss over that of the Gaussian denoiser: 1 is no better than filtered noise.
    """
    objective, device = denoiser.config.objective, denoiser.gaussian.deviation.device
    level = torch.tensor(LEVELS, device=device)
    losses: list[Tensor] = []
    baselines: list[Tensor] = []
    for number, (clip, seen) in enumerate(clips):
        drawn = np.random.default_rng(number).standard_normal((len(LEVELS), *clip.shape), np.float32)
        clean, about = clip.expand(len(LEVELS), -1, -1), seen.repeated(len(LEVELS))
        noise = denoiser.noise(torch.from_numpy(drawn).to(device), about)
        mix = mix_at(objective, level)
        noisy, slope = mix.mixed(clean, noise), mix.slope(clean, noise)
        for judge, kept in ((denoiser, losses), (denoiser.expected, baselines)):
            kept.append(denoiser.loss(judge(noisy, level, about) - slope, about).cpu())
    if not losses:
        return None
    loss, baseline = torch.stack(losses).mean(dim=0), torch.stack(baselines).mean(dim=0)
    score = float((loss / baseline).mean())
    values = {"loss_over_gaussian": score, "validated_examples": float(len(losses))}
    for one, ours, theirs in zip(LEVELS, loss, baseline, strict=True):
        values[f"loss_at_{one}"], values[f"gaussian_loss_at_{one}"] = float(ours), float(theirs)
    return Validation(score, values)
