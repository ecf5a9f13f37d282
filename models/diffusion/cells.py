"""The exact denoiser of Gaussian sound whose level is known in each cell of time and frequency, as of a mel.

It is that of `baseline` with a variance for each cell of a short-time spectrum, not for each band of the whole corpus:
a time-varying Wiener filter. Noise is shaped by the same levels, so that soft cells are learned as early as loud ones
(PriorGrad; Lee et al., 2022, https://arxiv.org/abs/2106.06406, section 3; by a time-varying filter: SpecGrad; Koizumi
et al., 2022, https://arxiv.org/abs/2203.16749, section 3). What the network adds, and its loss, are in units of what
remains in a cell: so a pause stays a pause, which a network alone would have to learn to -60 dB.

Cells overlap, so shaped noise leaks from a loud cell into its neighbours. With P the variance of sound and N that of
noise in a cell, a mix x_s = a x + b e has the expected slope and remaining variance

    E[u | x_s] = (a a' P + b b' N) / (a^2 P + b^2 N) x_s        Var[u | x_s] = P N / (a^2 P + b^2 N)
"""

from __future__ import annotations

import math
from functools import cache
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
Known = Float[Tensor, "batch channels _"]
Spectrum = Complex[Tensor, "batch channels frames bins"]
Power = Float[Tensor, "batch frames bins"]
Cellwise = Float[Tensor, "batch 1 _ bins"]

RAYLEIGH: Final = 4 / math.pi
"""The variance of a Gaussian coefficient over its squared mean magnitude."""

WINDOW_POWER: Final = 0.375
"""The mean square of a Hann window."""

LEAST_POWER: Final = 1e-12
"""Of a cell, over the mean of the corpus: -120 dB."""

LEAK_BINS: Final = 3
"""On either side of a bin, that a Hann window reaches."""

POWER_ROUNDS: Final = 5
"""Of multiplication."""

SEARCH_ROUNDS: Final = 120
"""Of Griffin-Lim; on real loops 60 are farther by 0.02 and 200 nearer by 0.01 (multi-resolution distance)."""

SEARCH_PARTS: Final = 12
"""Of these rounds, where the beginning is known."""

LEAST_SHARE: Final = 0.1
"""Of a line between the middles of bands, that a bin has at least."""

MOST_GAIN: Final = 10.0
"""Of a cell, from sound to noisy sound."""


class Cells:
    """Clips by their variance in each cell.

    Args:
        power: of each cell, in units in which white noise of variance 1 has 1; all channels have the same.
        hop_length: samples of a frame; frame k is centred on the middle of its own.
    """

    def __init__(self, power: Power, hop_length: int) -> None:
        self._hop, self._n_fft = hop_length, 2 * (power.shape[2] - 1)
        self._power = power.float().clamp(min=LEAST_POWER)
        self._leaked = _leaked(self._power, self._n_fft, hop_length)

    def shaped(self, noise: Clips) -> Clips:
        """White noise with the level of each cell."""
        with torch.autocast(noise.device.type, enabled=False):
            power, _ = self._of_frames(noise.shape[-1])
            return self._signal(power.sqrt() * self._spectrum(noise), noise.shape[-1])

    def denoised(self, x: Clips, added: Clips, level: Levels, objective: Objective) -> Clips:
        """The expected slope, and what a network adds to it in units of the deviation that remains.

        Args:
            x: noisy sound.
            added: of the network.
            level: of each item.
            objective: which slope.
        """
        with torch.autocast(x.device.type, enabled=False):
            mix, power, noise, variance = self._mixed(x.shape[-1], mix_at(objective, level.float()))
            gain = (mix.signal * mix.signal_slope * power + mix.noise * mix.noise_slope * noise) / variance
            remaining = (power * noise / variance).sqrt()
            return self._signal(gain * self._spectrum(x) + remaining * self._spectrum(added), x.shape[-1])

    def whitened(self, x: Clips, level: Levels, objective: Objective) -> Clips:
        """Noisy sound with the same level in all cells, which a network reads more easily (EDM, section 5).

        What leaks into a cell that is silent stays within 20 dB.
        """
        with torch.autocast(x.device.type, enabled=False):
            _, _, noise, variance = self._mixed(x.shape[-1], mix_at(objective, level.float()))
            return self._signal((variance + 0.01 * noise).rsqrt() * self._spectrum(x), x.shape[-1])

    def loss(self, error: Clips) -> Float[Tensor, "batch"]:
        """The mean squared error of slopes over all cells, each in units of its noise."""
        with torch.autocast(error.device.type, enabled=False):
            _, noise = self._of_frames(error.shape[-1])
            squares = self._spectrum(error).abs().square() / noise
            return squares.mean(dim=(1, 2, 3)) / (WINDOW_POWER * self._n_fft)

    def expected_loss(self, samples: int, level: Levels, objective: Objective) -> Float[Tensor, "batch"]:
        """The loss of the expected slope at each level, for Gaussian sound; of v 1 where nothing leaks."""
        _, power, _, variance = self._mixed(samples, mix_at(objective, level.float()))
        return (power / variance).mean(dim=(1, 2, 3))

    def searched(self, noise: Clips, known: Known | None = None) -> Clips:
        """White noise brought to where each cell has the mean magnitude of sound, by Griffin-Lim.

        The magnitudes of noise are random (Rayleigh's distribution), and what is sampled of noise keeps that.
        Griffin-Lim leaves the phases to chance and not the levels.

        Args:
            noise: white.
            known: what was found before for the first samples, which the rest is to fit.
        """
        samples, first = noise.shape[-1], (self._n_fft - self._hop) // 2
        power, _ = self._of_frames(samples)
        mean = (power * (WINDOW_POWER * self._n_fft / RAYLEIGH)).sqrt()
        # Each part but the last is followed by a return to what is known.
        parts = 1 if known is None else SEARCH_PARTS
        for _ in range(parts):
            if known is not None:
                noise = torch.cat([known, noise[..., known.shape[-1] :]], dim=-1)
            spectrum = self._spectrum(noise)
            found = griffin_lim(mean.expand_as(spectrum), spectrum.angle(), self._hop, SEARCH_ROUNDS // parts)
            noise = found[..., first : first + samples]
        return noise

    def raised(self, x: Clips, level: float, objective: Objective) -> Clips:
        """Clean sound with the levels that noisy sound has."""
        _, power, _, variance = self._mixed(x.shape[-1], mix_of(objective, level))
        # Where noise that leaks is far above the sound, a gain would bring up what leaked in the search.
        gain = (variance / power).sqrt().clamp(max=MOST_GAIN)
        return self._signal(gain * self._spectrum(x), x.shape[-1])

    def _spectrum(self, x: Clips) -> Spectrum:
        spare = self._n_fft - self._hop
        more = -x.shape[-1] % self._hop
        return stft(F.pad(x.float(), (spare // 2, spare - spare // 2 + more)), self._n_fft, self._hop)

    def _signal(self, spectrum: Spectrum, samples: int) -> Clips:
        first = (self._n_fft - self._hop) // 2
        return inverse_stft(spectrum, self._hop)[..., first : first + samples]

    def _of_frames(self, samples: int) -> tuple[Cellwise, Cellwise]:
        """The variances of sound and of shaped noise; as many frames as sound of a length has."""
        frames = -(-samples // self._hop)
        return _as_long(self._power, frames), _as_long(self._leaked, frames)

    def _mixed(self, samples: int, mix: Mix) -> tuple[Mix, Cellwise, Cellwise, Cellwise]:
        """A mix for each cell, the variances of sound and of noise, and that of noisy sound."""
        power, noise = self._of_frames(samples)
        mix = Mix(*(one[..., None] if isinstance(one, Tensor) else one for one in mix))
        return mix, power, noise, mix.signal**2 * power + mix.noise**2 * noise


def _as_long(power: Power, frames: int) -> Cellwise:
    """Frames after the last one are like it."""
    missing = frames - power.shape[1]
    if missing <= 0:
        return power[:, None, :frames]
    return torch.cat([power, power[:, -1:].expand(-1, missing, -1)], dim=1)[:, None]


def _leaked(power: Power, n_fft: int, hop_length: int) -> Power:
    """The variance in each cell of noise that was shaped to a power: of the cells around it, by how much they share."""
    kernel = _overlap(n_fft, hop_length).to(power.device)
    frames, bins = (size // 2 for size in kernel.shape)
    around = F.pad(power[:, None], (bins, bins, frames, frames), mode="replicate")
    return F.conv2d(around, kernel[None, None])[:, 0]


@cache
def _overlap(n_fft: int, hop_length: int) -> Float[Tensor, "frames bins"]:
    """The share of the power of a cell that each of the cells around it shows; they sum to 1."""
    frames, middle = -(-n_fft // hop_length), n_fft // 4
    bins = min(LEAK_BINS, middle)
    with torch.inference_mode(False):
        spectrum = torch.zeros(1, 4 * frames + 1, n_fft // 2 + 1, dtype=torch.complex64)
        spectrum[0, 2 * frames, middle] = 1
        shown = stft(inverse_stft(spectrum, hop_length), n_fft, hop_length)[0].abs().square()
        shown = shown[frames : 3 * frames + 1, middle - bins : middle + bins + 1]
        return shown / shown.sum()


class CellPower(nn.Module):
    """The variance of each cell of a log-mel spectrogram.

    Magnitudes are those of the least sum of squares that have these bands, where they are not negative or far below a
    line in the logarithm between the middles of bands; rounds of multiplication then make them have just these bands
    (Richardson, 1972; Lucy, 1974).

    Args:
        log_mel: that computes them.
    """

    lines: Tensor
    widths: Tensor
    filters: Tensor
    solution: Tensor

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
        self.register_buffer("solution", torch.linalg.pinv(log_mel.filters), persistent=False)
        self._energy = WINDOW_POWER * log_mel.n_fft

    def forward(self, mel: Float[Tensor, "batch bands frames"]) -> Power:
        """In units of the audio's own variance."""
        with torch.autocast(mel.device.type, enabled=False):
            bands = mel.float().transpose(1, 2)
            # The least value of a band means that it is silent.
            sizes = 10**bands - LOG_FLOOR
            sizes = sizes * (sizes > LOG_FLOOR / 100)
            found = torch.maximum(sizes @ self.solution, LEAST_SHARE * 10 ** ((bands - self.widths) @ self.lines))
            total = self.filters.sum(dim=1).clamp(min=1e-9)
            for _ in range(POWER_ROUNDS):
                ratio = sizes / (found @ self.filters).clamp(min=LOG_FLOOR / 10)
                # What is in no band, as 0 Hz, is silent.
                found = found * ((ratio @ self.filters.T) / total)
            return RAYLEIGH / self._energy * found.square()
