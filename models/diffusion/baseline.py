"""The exact denoiser of a Gaussian signal that has the corpus's spectrum: what any network must do better than.

In each band, where the signal has variance d^2, a mix x_s = a x + b e has the expected slope and remaining variance

    E[u | x_s] = (a a' d^2 + b b') / (a^2 d^2 + b^2) x_s        Var[u | x_s] = d^2 / (a^2 d^2 + b^2)

with the weights and slopes of `noising`; the second for their determinant is 1. Uniform levels of v make the mean loss
of a band d exactly, so the best loss of a linear model is the mean over bands of the root of the spectrum.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import torch
from einops import einsum, rearrange
from jaxtyping import Complex, Float
from torch import Tensor, nn
from torch.nn import functional as F

from tonemill.models.diffusion.noising import Levels, Mix, Objective, mix_at, mix_of
from tonemill.models.parts.spectra import stft

N_FFT: Final = 1024
TAIL: Final = 4 * N_FFT
"""Samples of silence after a clip that is no loop: a filter, as a product of transforms, goes round its end.

Of loops with a kick alone the filter's response is 35 to 60 dB softer there than without.
"""

LEAST_VARIANCE: Final = 1e-10
"""Of a band, over the mean of all: -100 dB."""

Clips = Float[Tensor, "batch channels time"]


class GaussianDenoiser(nn.Module):
    """The level and the spectrum of a corpus as buffers, and the expected slope of a Gaussian signal with them.

    Channels are turned to their principal axes, so that what they have in common counts once.

    Args:
        channels: of the clips.
        scaled: clips are divided by the corpus's level before anything else, so that they have unit variance.
    """

    deviation: Tensor
    axes: Tensor
    spectrum: Tensor

    def __init__(self, channels: int, scaled: bool = True) -> None:
        super().__init__()
        self.scaled = scaled
        self.register_buffer("deviation", torch.ones(()))
        self.register_buffer("axes", torch.eye(channels))
        self.register_buffer("spectrum", torch.ones(channels, N_FFT // 2 + 1))

    def fit(self, clips: Iterable[Clips]) -> None:
        """Measure level, axes and spectrum, summed on the CPU in float64: MPS has none.

        Args:
            clips: as the network is to make them; they are read once.

        Raises:
            ValueError: they are silent, or there are none.
        """
        channels = len(self.axes)
        total, squares = 0, torch.zeros(channels, channels, dtype=torch.float64)
        cross = torch.zeros(N_FFT // 2 + 1, channels, channels, dtype=torch.complex128)
        frames = 0
        for some in clips:
            x = some.cpu().double()
            squares += einsum(x, x, "batch c time, batch d time -> c d")
            total += x.shape[0] * x.shape[2]
            spectra = stft(F.pad(x, (0, max(0, N_FFT - x.shape[2]))), N_FFT, N_FFT // 2)
            cross += einsum(spectra, spectra.conj(), "batch c frames bins, batch d frames bins -> bins c d")
            frames += spectra.shape[0] * spectra.shape[2]
        variance = float(squares.diagonal().mean()) / max(1, total)
        if not variance > 0:
            raise ValueError("silence")
        # Columns of `axes` are the channels' directions of most to least variance.
        axes = torch.linalg.eigh(squares).eigenvectors
        spectrum = einsum(axes, cross.real, axes, "c k, bins c d, d k -> k bins").clamp(min=0)
        # A mean over bands of 1, each bin counted as often as a two-sided spectrum has it.
        weight = torch.full((N_FFT // 2 + 1,), 2.0, dtype=torch.float64)
        weight[[0, -1]] = 1
        spectrum = spectrum / ((spectrum * weight).sum() / weight.sum() / channels)
        if self.scaled:
            self.deviation.fill_(variance**0.5)
        else:
            spectrum = spectrum * variance
        self.axes.copy_(axes)
        self.spectrum.copy_(spectrum.clamp(min=LEAST_VARIANCE * float(spectrum.mean())))

    def expected(self, x: Clips, level: Levels, objective: Objective, tail: int = 0) -> Clips:
        """The slope that is expected of noisy clips, divided by `deviation` before they were mixed.

        Args:
            tail: samples of silence after the clips; without them a clip's end is followed by its start.
        """
        mix, samples = mix_at(objective, level.float()), x.shape[-1]
        with torch.autocast(x.device.type, enabled=False):
            turned = einsum(self.axes, x.float(), "c k, batch c time -> batch k time")
            bands = torch.fft.rfft(turned, samples + tail)
            slopes = torch.fft.irfft(bands * self._gain(mix, bands.shape[-1]), samples + tail)
            return einsum(self.axes, slopes[..., :samples], "c k, batch k time -> batch c time")

    def missed_in_pauses(
        self, x: Clips, level: Levels, objective: Objective, tail: int = 0
    ) -> tuple[Complex[Tensor, "batch axes bins"], Float[Tensor, "batch channels bins"]]:
        """What `expected` lacks where noisy clips are noise alone, over the deviation that it leaves in sound.

        Args:
            level: of each clip, above 0.
            tail: as for `expected`.

        Returns:
            of each axis and bin of a transform of the clips with their tails; and of each channel the variance that
            it has there for noise alone, whose transform has a variance of 1.
        """
        mix = mix_at(objective, level.float())
        turned = einsum(self.axes, x, "c k, batch c time -> batch k time")
        bands = torch.fft.rfft(turned, x.shape[-1] + tail)
        lacks = mix.noise_slope / mix.noise - self._gain(mix, bands.shape[-1])
        lacks = lacks / self.loss(level, objective).sqrt()[:, None, None]
        variance = einsum(self.axes.square(), (lacks * mix.noise).square(), "c k, batch k bins -> batch c bins")
        return bands * lacks, variance

    def _gain(self, mix: Mix, bins: int) -> Float[Tensor, "batch channels bins"]:
        """Of each bin of a transform of any length, from noisy clips to the slope that is expected."""
        power = self._power(bins)
        found: Tensor = mix.signal * mix.signal_slope * power + mix.noise * mix.noise_slope
        return found / _variance(mix, power)

    def colored(self, noise: Clips, level: float, objective: Objective) -> Clips:
        """White noise with the spectrum that noisy clips have at a level."""
        mix = mix_of(objective, level)
        bands = torch.fft.rfft(einsum(self.axes, noise, "c k, batch c time -> batch k time"))
        variance = _variance(mix, self._power(bands.shape[-1]))
        made = torch.fft.irfft(bands * variance.sqrt(), noise.shape[-1])
        return einsum(self.axes, made, "c k, batch k time -> batch c time")

    def loss(self, level: Levels, objective: Objective) -> Float[Tensor, "batch"]:
        """The mean squared error of `expected` at each level, for a signal that is Gaussian."""
        mix, power = mix_at(objective, level.float()), self._power(N_FFT // 2 + 1)
        remaining = power / _variance(mix, power)
        weight = torch.full_like(power[0], 2.0)
        weight[0] = weight[-1] = 1
        return (remaining * weight).sum(dim=-1).mean(dim=-1) / weight.sum()

    def _power(self, bins: int) -> Float[Tensor, "channels bins"]:
        """The variance in each bin of a transform of any length."""
        if bins == self.spectrum.shape[1]:
            return self.spectrum
        spread = F.interpolate(self.spectrum[:, None], bins, mode="linear", align_corners=True)
        return rearrange(spread, "channels 1 bins -> channels bins")


def _variance(mix: Mix, power: Tensor) -> Tensor:
    """Of noisy clips in each band."""
    found: Tensor = mix.signal**2 * power + mix.noise**2
    return found
