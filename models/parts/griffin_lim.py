"""Find a signal whose spectrogram has given magnitudes (Griffin and Lim, 1984; momentum: Perraudin et al., 2013)."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Complex, Float
from torch import Tensor
from torch.nn import functional as F

Inverse = Literal["true", "reference"]


def stft(x: Float[Tensor, "*batch time"], n_fft: int, hop_length: int) -> Complex[Tensor, "*batch frames bins"]:
    """Spectrum of Hann-windowed frames, the first from sample 0 on: 1 + (time - n_fft) // hop_length frames."""
    frames = x.unfold(-1, n_fft, hop_length)
    return torch.fft.rfft(frames * torch.hann_window(n_fft, device=x.device))


def inverse_stft(
    spectrum: Complex[Tensor, "*batch frames bins"], hop_length: int, inverse: Inverse = "true"
) -> Float[Tensor, "*batch time"]:
    """The signal whose `stft` is nearest (Griffin and Lim, eq. 6): windowed overlap-add over the summed squared window.

    Args:
        inverse: "reference" leaves the division out, as the SpecGAN code does; half a window apart the sum swings
            between 0.5 and 1, so it is no inverse.
    """
    n_fft = 2 * (spectrum.shape[-1] - 1)
    window = torch.hann_window(n_fft, device=spectrum.device)
    x = _overlap_add(torch.fft.irfft(spectrum, n_fft) * window, hop_length)
    if inverse == "reference":
        return x
    weight = _overlap_add(window.square().expand(spectrum.shape[-2], n_fft), hop_length)
    # At the very edges one window reaches almost nothing; what is inconsistent there must not be blown up.
    return x / weight.clamp(min=_LEAST_WEIGHT)


_LEAST_WEIGHT = 1e-2


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


def _overlap_add(frames: Float[Tensor, "*batch frames n_fft"], hop_length: int) -> Float[Tensor, "*batch time"]:
    *batch, count, n_fft = frames.shape
    length = n_fft + (count - 1) * hop_length
    flat = frames.reshape(-1, count, n_fft).transpose(1, 2)
    return F.fold(flat, (1, length), (1, n_fft), stride=(1, hop_length)).reshape(*batch, length)
