"""Describe a clip by a few numbers, and by a coarse spectrogram that compares clips without a trained judge."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
from jaxtyping import Float, Float32, Float64

from tonemill.audiotools.editing.levels import measure, to_amplitude
from tonemill.audiotools.editing.loop_seam import loopability
from tonemill.audiotools.mel import mel_filters
from tonemill.audiotools.waveform import Waveform

WINDOW_MS: Final = 40.0
BANDS: Final = 32
FLOOR_DB: Final = -80.0
ROLLOFF: Final = 0.95
BEGINNING_DB: Final = -40.0
"""Below the peak of a clip; its sound begins with the first sample above."""

SILENT_DB: Final = -60.0
"""A clip with no sample above this level is silent."""

MEASURES: Final = {
    "loudness_lufs": "LUFS",
    "peak_db": "dB",
    "silence_share": "",
    "clipping_share": "",
    "dc_offset": "",
    "centroid_hz": "Hz",
    "rolloff_hz": "Hz",
    "flatness_db": "dB",
    "loopability": "",
}
"""What `character` measures, with units."""


def character(samples: Float32[np.ndarray, "channels time"], sample_rate: int) -> dict[str, float]:
    """Measure a clip: level, loudness, colour and how well it loops, by the names in `MEASURES`.

    The colour measures are those of the mean power spectrum: centroid, the frequency with 95 % of the power below it,
    and flatness (geometric over arithmetic mean, 0 dB for white noise). Measures that do not exist for a silent or too
    short clip are NaN; so is the loopability of a clip without beats.

    Raises:
        AudioError: not_finite: the samples hold NaN or infinite values.
    """
    found = measure(Waveform(samples, sample_rate), SILENT_DB, loudness=True)
    spectra, n_fft = _spectra(samples.mean(axis=0), sample_rate)
    power, hertz = spectra.mean(axis=0, dtype=np.float64), np.fft.rfftfreq(n_fft, 1 / sample_rate)
    total = float(power.sum())
    silent = is_silent(samples)
    colour = dict.fromkeys(("centroid_hz", "rolloff_hz", "flatness_db"), float("nan"))
    if total > 0 and not silent:
        floored = np.maximum(power[1:], 1e-10 * total)
        colour = {
            "centroid_hz": float((power * hertz).sum()) / total,
            "rolloff_hz": float(hertz[np.searchsorted(np.cumsum(power), ROLLOFF * total).clip(max=len(hertz) - 1)]),
            "flatness_db": 10 * float(np.log10(floored).mean() - np.log10(floored.mean())),
        }
    lufs = found.loudness.lufs if found.loudness else None
    return {
        "loudness_lufs": float("nan") if lufs is None else lufs,
        "peak_db": float("nan") if found.peak_db is None else found.peak_db,
        "silence_share": found.silence_share,
        "clipping_share": found.clipping_share,
        "dc_offset": found.dc_offset,
        **colour,
        "loopability": float("nan") if silent else loopability(samples, sample_rate),
    }


def is_silent(samples: Float32[np.ndarray, "channels time"]) -> bool:
    """Whether every sample is at most -60 dB."""
    return float(np.abs(samples).max(initial=0.0)) < to_amplitude(SILENT_DB)


def from_first_sound(samples: Float32[np.ndarray, "channels time"]) -> Float32[np.ndarray, "channels _"]:
    """A clip from the first sample within 40 dB of its peak on, so that copies begin alike."""
    levels = np.abs(samples).max(axis=0, initial=0.0)
    if not levels.any():
        return samples
    return samples[:, int(np.argmax(levels > levels.max() * to_amplitude(BEGINNING_DB))) :]


def outline(samples: Float32[np.ndarray, "channels time"], sample_rate: int) -> Float32[np.ndarray, "32 frames"]:
    """A log-mel spectrogram in frames of 40 ms, in decibels below its loudest cell: clips compare without a judge."""
    spectra, n_fft = _spectra(samples.mean(axis=0), sample_rate)
    # einsum stays out of BLAS, whose threads would take longer to meet than the work does.
    bands = np.einsum("tb,mb->mt", spectra, _filters(sample_rate, n_fft, BANDS))
    pooled = bands.reshape(BANDS, -1, 2).mean(axis=2)
    loudest = float(pooled.max())
    relative = pooled / loudest if loudest > 0 else np.zeros_like(pooled)
    return (10 * np.log10(np.maximum(relative, 10 ** (FLOOR_DB / 10)))).astype(np.float32)


_filters = lru_cache(maxsize=8)(mel_filters)


def _spectra(mono: Float32[np.ndarray, "time"], sample_rate: int) -> tuple[Float[np.ndarray, "frames bins"], int]:
    """Power spectra of windows of 40 ms, one every 20 ms and an even number of them, and their FFT's size."""
    width = max(16, round(WINDOW_MS * sample_rate / 1000))
    n_fft = 1 << (max(width, 8 * BANDS) - 1).bit_length()
    hop = max(1, round(WINDOW_MS * sample_rate / 2000))
    frames = 2 * max(1, -(-len(mono) // (2 * hop)))
    padded = np.pad(mono, (0, max(0, (frames - 1) * hop + width - len(mono))))
    windows = np.lib.stride_tricks.sliding_window_view(padded, width)[::hop][:frames]
    return np.abs(np.fft.rfft(windows * np.hanning(width + 1)[:-1].astype(np.float32), n_fft)) ** 2, n_fft


def mean_spectrum(clips: list[Float32[np.ndarray, "_ _"]], bins: int = 513) -> Float64[np.ndarray, "bins"]:
    """The mean power spectrum of clips, per sample: that of white noise of power 1 is 1 everywhere.

    Args:
        clips: (channels, time), of one rate.
        bins: from 0 Hz to the Nyquist frequency.

    Raises:
        ValueError: there is no clip.
    """
    if not clips:
        raise ValueError("no clips have no spectrum")
    size = 2 * (bins - 1)
    total, frames = np.zeros(bins), 0.0
    for clip in clips:
        for channel in clip:
            padded = np.pad(channel, (0, -len(channel) % size)).reshape(-1, size)
            total += (np.abs(np.fft.rfft(padded)) ** 2).sum(axis=0)
            frames += max(1, len(channel)) / size
    return total / (frames * size)


def noise_with(
    spectrum: Float64[np.ndarray, "bins"], frames: int, channels: int, seed: int
) -> Float32[np.ndarray, "channels time"]:
    """Gaussian noise with a given mean power spectrum, (channels, frames); another seed gives another."""
    white = np.random.default_rng(seed).standard_normal((channels, frames))
    shaped = np.fft.rfft(white)
    at = np.linspace(0, 1, shaped.shape[1]) if shaped.shape[1] > 1 else np.zeros(1)
    gains = np.sqrt(np.interp(at, np.linspace(0, 1, len(spectrum)), spectrum))
    return np.fft.irfft(shaped * gains, frames).astype(np.float32)
