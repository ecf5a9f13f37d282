"""Loops of another number of samples, exact around the joint."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

Clips = Float[Tensor, "batch time"]


def resampled(loops: Clips, samples: int) -> Float[Tensor, "batch _"]:
    """Loops of another number of samples: exact for signals that go on where they end, by their Fourier series.

    A loop of L samples has the period L; its harmonics below both half rates stay, so nothing is lost at a joint.
    """
    length = loops.shape[1]
    if length == samples:
        return loops
    kept = min(length, samples) // 2
    spectrum = torch.fft.rfft(loops)[:, : kept + 1].clone()
    if min(length, samples) % 2 == 0:
        # The bin at half the lower rate stands for two, of which the longer signal has both.
        spectrum[:, kept] = spectrum[:, kept].real * (0.5 if samples > length else 1.0)
    return torch.fft.irfft(spectrum, n=samples) * (samples / length)
