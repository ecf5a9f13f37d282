"""The exact denoiser of Gaussian sound whose level is known in each cell of time and frequency, as of a mel.

It is that of `baseline` with a variance for each cell of a short-time spectrum, not for each band of the whole corpus:
a time-varying Wiener filter. (SpecGrad shapes the noise by such a filter; Koizumi et al., 2022,
https://arxiv.org/abs/2203.16749, section 3.) What the network adds is scaled by the deviation that remains in its cell,
so a cell without sound stays without, which a network alone would have to learn to -60 dB.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn
from torch.nn import functional as F

from tonemill.models.diffusion.noising import Levels, Mix, Objective, mix_at, mix_of
from tonemill.models.parts.griffin_lim import griffin_lim
from tonemill.models.parts.mel import LOG_FLOOR, LogMel
from tonemill.models.parts.spectra import inverse_stft, stft

Clips = Float[Tensor, "batch channels time"]
Spectrum = Complex[Tensor, "batch channels frames bins"]
Power = Float[Tensor, "batch frames bins"]

RAYLEIGH: Final = 4 / math.pi
"""The variance of a Gaussian coefficient over its squared mean magnitude."""

WINDOW_POWER: Final = 0.375
"""The mean square of a Hann window."""

POWER_ROUNDS: Final = 5
SEARCH_ROUNDS: Final = 60


class Cells:
    """Gaussian sound by its variance in each cell.

    Args:
        power: of each cell, in units in which white noise of variance 1 has 1; all channels have the same.
        hop_length: samples of a frame; frame k is centred on the middle of its own.
    """

    def __init__(self, power: Power, hop_length: int) -> None:
        self._power, self._hop = power.float(), hop_length
        self._n_fft = 2 * (power.shape[2] - 1)

    def denoised(self, x: Clips, added: Clips, level: Levels, objective: Objective) -> Clips:
        """The expected slope, and what a network adds to it in units of the deviation that remains.

        Args:
            x: noisy sound.
            added: of the network.
            level: of each item.
            objective: which slope.
        """
        mix = Mix(*(one[..., None] for one in mix_at(objective, level.float())))
        with torch.autocast(x.device.type, enabled=False):
            spectrum, power = self._spectrum(x), self._of_frames(x.shape[-1])
            variance = _variance(mix, power)
            gain = (mix.signal * mix.signal_slope * power + mix.noise * mix.noise_slope) / variance
            return self._signal(gain * spectrum + (power / variance).sqrt() * self._spectrum(added), x.shape[-1])

    def whitened(self, x: Clips, level: Levels, objective: Objective) -> Clips:
        """Noisy sound with the same level in all cells, which a network reads more easily (EDM, section 5)."""
        mix = Mix(*(one[..., None] for one in mix_at(objective, level.float())))
        with torch.autocast(x.device.type, enabled=False):
            variance = _variance(mix, self._of_frames(x.shape[-1]))
            return self._signal(variance.rsqrt() * self._spectrum(x), x.shape[-1])

    def colored(self, noise: Clips, level: float, objective: Objective) -> Clips:
        """White noise with the levels that noisy sound has."""
        power = self._of_frames(noise.shape[-1])
        return self._signal(_variance(mix_of(objective, level), power).sqrt() * self._spectrum(noise), noise.shape[-1])

    def even(self, noise: Clips, level: float, objective: Objective) -> Clips:
        """White noise brought to where each cell has the mean magnitude of noisy sound, by Griffin-Lim.

        The magnitudes of noise are random (Rayleigh's distribution), and what is sampled of noise keeps that.
        Griffin-Lim leaves the phases to chance and not the levels.
        """
        variance = _variance(mix_of(objective, level), self._of_frames(noise.shape[-1]))
        mean = (variance * (WINDOW_POWER * self._n_fft / RAYLEIGH)).sqrt()
        spectrum = self._spectrum(noise)
        found = griffin_lim(mean.expand_as(spectrum), spectrum.angle(), self._hop, SEARCH_ROUNDS)
        first = (self._n_fft - self._hop) // 2
        return found[..., first : first + noise.shape[-1]]

    def _spectrum(self, x: Clips) -> Spectrum:
        spare = self._n_fft - self._hop
        more = -x.shape[-1] % self._hop
        return stft(F.pad(x.float(), (spare // 2, spare - spare // 2 + more)), self._n_fft, self._hop)

    def _signal(self, spectrum: Spectrum, samples: int) -> Clips:
        first = (self._n_fft - self._hop) // 2
        return inverse_stft(spectrum, self._hop)[..., first : first + samples]

    def _of_frames(self, samples: int) -> Float[Tensor, "batch 1 frames bins"]:
        """As many frames as sound of a length has; those after the last are like it."""
        missing = -(-samples // self._hop) - self._power.shape[1]
        if missing <= 0:
            return self._power[:, None, : self._power.shape[1] + missing]
        return torch.cat([self._power, self._power[:, -1:].expand(-1, missing, -1)], dim=1)[:, None]


def _variance(mix: Mix, power: Tensor) -> Tensor:
    found: Tensor = mix.signal**2 * power + mix.noise**2
    return found


class CellPower(nn.Module):
    """The variance of each cell of a log-mel spectrogram.

    Between the middles of bands magnitudes are a line in the logarithm, which is then made to have just these bands by
    rounds of multiplication (Richardson, 1972; Lucy, 1974): so a low band with one loud bin has its neighbours soft.

    Args:
        log_mel: that computes them.
    """

    lines: Tensor
    widths: Tensor
    filters: Tensor

    def __init__(self, log_mel: LogMel) -> None:
        super().__init__()
        filters = log_mel.filters.numpy(force=True)
        bins, widths = np.arange(len(filters)), filters.sum(axis=0)
        # Between two bins of a short transform a low band may have none.
        there = np.flatnonzero(widths)
        middles = (filters[:, there] * bins[:, None]).sum(axis=0) / widths[there]
        lines = np.zeros(filters.shape[::-1], np.float32)
        for band, peak in zip(there, np.eye(len(there)), strict=True):
            lines[band] = np.interp(bins, middles, peak)
        widths[widths == 0] = 1
        # Both follow from the settings, so no checkpoint need hold them.
        self.register_buffer("lines", torch.from_numpy(lines), persistent=False)
        self.register_buffer("widths", torch.from_numpy(np.log10(widths)), persistent=False)
        self.register_buffer("filters", log_mel.filters, persistent=False)
        self._energy = WINDOW_POWER * log_mel.n_fft

    def forward(self, mel: Float[Tensor, "batch bands frames"]) -> Power:
        """In units of the audio's own variance."""
        with torch.autocast(mel.device.type, enabled=False):
            bands = mel.float().transpose(1, 2)
            sizes, found = 10**bands, 10 ** ((bands - self.widths) @ self.lines)
            total = self.filters.sum(dim=1).clamp(min=1e-9)
            for _ in range(POWER_ROUNDS):
                ratio = sizes / (found @ self.filters).clamp(min=LOG_FLOOR / 10)
                # What is in no band, as 0 Hz, is silent.
                found = found * ((ratio @ self.filters.T) / total)
            return RAYLEIGH / self._energy * found.square()
