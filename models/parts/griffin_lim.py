"""Find a signal whose spectrogram has given magnitudes (Griffin and Lim, 1984; momentum: Perraudin et al., 2013)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from tonemill.models.parts.spectra import Inverse, inverse_stft, stft


def griffin_lim(
    magnitude: Float[Tensor, "*batch frames bins"],
    phase: Float[Tensor, "*batch frames bins"] | None,
    hop_length: int,
    iterations: int,
    momentum: float = 0.99,
    inverse: Inverse = "true",
) -> Float[Tensor, "*batch time"]:
    """A signal of n_fft + (frames - 1) * hop_length samples.

    Args:
        phase: to start from, in radians; None for zero.
        momentum: how far each step overshoots; 0 is the original algorithm.
        inverse: see `inverse_stft`.
    """
    n_fft = 2 * (magnitude.shape[-1] - 1)
    start = torch.zeros_like(magnitude) if phase is None else phase
    angles = torch.polar(torch.ones_like(magnitude), start)
    previous = torch.zeros_like(angles)
    for _ in range(iterations):
        rebuilt = stft(inverse_stft(magnitude * angles, hop_length, inverse), n_fft, hop_length)
        step = rebuilt - (momentum / (1 + momentum)) * previous
        angles = step / step.abs().clamp(min=1e-8)
        previous = rebuilt
    return inverse_stft(magnitude * angles, hop_length, inverse)
