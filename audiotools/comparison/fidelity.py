"""How near a sound is to the one that it should be: error-to-signal ratio, spectral distances, SI-SDR.

All take two sounds (channels, time) of one shape; the second is the true one.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from jaxtyping import Float32, Float64

from tonemill.audiotools.mel import mel_spectrogram_db

RESOLUTIONS: Final = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))
"""FFT, hop and window in samples, those of Parallel WaveGAN (Yamamoto et al., 2020, https://arxiv.org/abs/1910.11480)."""

SMALLEST: Final = 1e-7
"""Magnitudes below this count as this, lest silence decide a mean of logarithms."""

Sound = Float32[np.ndarray, "channels time"]


def error_to_signal(found: Sound, true: Sound) -> float | None:
    """ESR: energy of the difference over that of the true sound; 0 is perfect, 1 silence. None for a silent truth."""
    energy = float(np.square(true, dtype=np.float64).sum())
    return float(np.square(np.subtract(found, true, dtype=np.float64)).sum()) / energy if energy > 0 else None


def si_sdr_db(found: Sound, true: Sound) -> float | None:
    """Scale-invariant signal-to-distortion ratio in decibels (Le Roux et al., 2019, https://arxiv.org/abs/1811.02508).

    None where one of the two is silent; infinite where nothing but the level differs.
    """
    x, s = found.astype(np.float64).ravel(), true.astype(np.float64).ravel()
    energy = float(s @ s)
    if not energy or not float(x @ x):
        return None
    target = (x @ s) / energy * s
    noise = float(np.square(x - target).sum())
    if noise <= np.finfo(np.float64).eps * float(x @ x):
        return math.inf
    wanted = float(target @ target)
    return 10 * math.log10(wanted / noise) if wanted > 0 else -math.inf


def multi_resolution_stft(found: Sound, true: Sound) -> float | None:
    """MR-STFT: spectral convergence and mean absolute difference of log magnitudes, averaged over three resolutions.

    Spectral convergence is the norm of the difference of magnitudes over that of the true ones; logarithms are natural.
    None for a silent truth.
    """
    if not np.any(true):
        return None
    total = 0.0
    for n_fft, hop, window in RESOLUTIONS:
        a, b = _magnitudes(found, n_fft, hop, window), _magnitudes(true, n_fft, hop, window)
        total += float(np.linalg.norm(b - a) / np.linalg.norm(b)) + float(np.abs(np.log(a / b)).mean())
    return total / len(RESOLUTIONS)


def log_mel_distance_db(found: Sound, true: Sound, sample_rate: int) -> float:
    """Mean absolute difference of two log-mel spectrograms, in decibels; levels below -80 dB count as -80 dB."""
    levels = [mel_spectrogram_db(sound, sample_rate).astype(np.float64) for sound in (found, true)]
    return float(np.abs(levels[0] - levels[1]).mean())


def _magnitudes(sound: Sound, n_fft: int, hop: int, window: int) -> Float64[np.ndarray, "channels frames bins"]:
    from scipy.signal import get_window

    shape = np.zeros(n_fft)
    before = (n_fft - window) // 2
    shape[before : before + window] = get_window("hann", window)
    padded = np.pad(sound.astype(np.float64), ((0, 0), (n_fft // 2, n_fft // 2)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft, axis=1)[:, ::hop]
    return np.maximum(np.abs(np.fft.rfft(frames * shape)), SMALLEST)
