"""Log-mel spectrograms, and two numbers that compare clips by them.

Windows are given in milliseconds, so that a spectrogram means the same at every sample rate. Levels are in decibels
relative to a full-scale sine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from jaxtyping import Float32, Float64

FLOOR_DB: Final = -80.0
"""Levels below this count as silence, here and in `mel_distance`."""

_HZ_PER_MEL: Final = 200 / 3
_LINEAR_HZ: Final = 1000.0
_LINEAR_MELS: Final = _LINEAR_HZ / _HZ_PER_MEL
_LOG_STEP: Final = math.log(6.4) / 27
"""Of Slaney's scale: 27 mels from 1 kHz to 6.4 kHz."""

_FRAMES_AT_ONCE: Final = 4096
"""So that hours need little memory."""


def mel_spectrogram_db(
    samples: Float32[np.ndarray, "channels time"],
    sample_rate: int,
    *,
    n_mels: int = 64,
    window_ms: int | float = 40.0,
    hop_ms: int | float = 10.0,
    floor_db: int | float = FLOOR_DB,
) -> Float32[np.ndarray, "channels n_mels frames"]:
    """The power in each mel band of each frame, in decibels: 0 dB is a full-scale sine in the middle of a band.

    Args:
        samples: (channels, time).
        sample_rate: in hertz.
        n_mels: bands (Slaney's mel scale, triangles of height 1), from 0 Hz to the Nyquist frequency.
        window_ms: length of the Hann window, padded with zeros to a power of two (and at least `8 * n_mels`).
        hop_ms: from the middle of one frame to the next.
        floor_db: the least level that comes out.

    Returns:
        (channels, n_mels, 1 + time // hop); frame `k` is centred on sample `k * hop`, beyond either end is silence.
    """
    hop_length = max(1, round(hop_ms * sample_rate / 1000))
    win_length = max(16, round(window_ms * sample_rate / 1000))
    n_fft = 1 << (max(win_length, 8 * n_mels) - 1).bit_length()
    window = np.zeros(n_fft, np.float32)
    start = (n_fft - win_length) // 2
    hann = np.sin(np.pi * np.arange(win_length) / win_length) ** 2  # periodic
    window[start : start + win_length] = hann * (2 / hann.sum())
    padded = np.pad(samples, ((0, 0), (n_fft // 2, n_fft // 2)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft, axis=1)[:, ::hop_length]
    filters = mel_filters(sample_rate, n_fft, n_mels)
    levels = np.empty((len(samples), n_mels, frames.shape[1]), np.float32)
    for first in range(0, frames.shape[1], _FRAMES_AT_ONCE):
        some = slice(first, first + _FRAMES_AT_ONCE)
        bins = np.fft.rfft(frames[:, some] * window, axis=-1)
        # einsum stays out of BLAS, whose threads took 20 ms to meet for this 1 ms of work while others used the cores.
        power = np.einsum("mb,ctb->cmt", filters, bins.real**2 + bins.imag**2)
        # The floor is cut in decibels: of its own power some processors' logarithm gives -80.00001.
        levels[..., some] = 10 * np.log10(np.maximum(power, 10 ** (floor_db / 10 - 1)))
    return np.maximum(levels, np.float32(floor_db))


def mel_of_hz(hz: int | float) -> float:
    """A frequency on Slaney's mel scale (Auditory Toolbox, 1998): linear up to 1 kHz, logarithmic above."""
    if hz < _LINEAR_HZ:
        return hz / _HZ_PER_MEL
    return _LINEAR_MELS + math.log(hz / _LINEAR_HZ) / _LOG_STEP


def _hz_of_mel(mels: Float64[np.ndarray, "_"]) -> Float64[np.ndarray, "_"]:
    above = _LINEAR_HZ * np.exp(_LOG_STEP * (np.maximum(mels, _LINEAR_MELS) - _LINEAR_MELS))
    return np.where(mels < _LINEAR_MELS, mels * _HZ_PER_MEL, above)


def mel_filters(
    sample_rate: int, n_fft: int, n_mels: int, *, low_hz: float = 0.0, high_hz: float | None = None, area: bool = False
) -> Float32[np.ndarray, "n_mels bins"]:
    """Triangles on Slaney's mel scale.

    Args:
        sample_rate: in hertz.
        n_fft: samples of the transform whose bins are weighted.
        n_mels: bands.
        low_hz: where the lowest begins.
        high_hz: where the highest ends; None for the Nyquist frequency.
        area: triangles have area 1 in hertz, and not height 1.
    """
    high_hz = sample_rate / 2 if high_hz is None else high_hz
    corners = _hz_of_mel(np.linspace(mel_of_hz(low_hz), mel_of_hz(high_hz), n_mels + 2))[:, None]
    left, middle, right = corners[:-2], corners[1:-1], corners[2:]
    bins_hz = np.fft.rfftfreq(n_fft, 1 / sample_rate)
    filters = np.maximum(0, np.minimum((bins_hz - left) / (middle - left), (right - bins_hz) / (right - middle)))
    return (filters * (2 / (right - left)) if area else filters).astype(np.float32)


def mel_distance(
    a_clips: Sequence[Float32[np.ndarray, "_ _"]],
    b_clips: Sequence[Float32[np.ndarray, "_ _"]],
    sample_rate: int,
    *,
    n_mels: int = 64,
) -> float:
    """The distance between the average sounds of two sets of clips, in decibels: 0 is the same, 6 plainly audible.

    The log-spectral distance (Gray and Markel, 1976) of the two mean log-mel spectra: the root mean square of their
    difference over the bands. It sees colour and level. It sees neither the order of events nor variety within a set;
    `mel_spread` sees the latter. A spectrum is an average over a clip, silence included, so clips should be of one
    length.

    Args:
        a_clips, b_clips: one or more clips each (channels, time); channels count alike.
        sample_rate: of all of them, in hertz.
        n_mels: bands.

    Raises:
        ValueError: a set is empty.
    """
    a, b = (_clip_spectra_db(clips, sample_rate, n_mels).mean(axis=0) for clips in (a_clips, b_clips))
    return float(np.sqrt(np.mean((a - b) ** 2)))


def mel_spread(clips: Sequence[Float32[np.ndarray, "_ _"]], sample_rate: int, *, n_mels: int = 64) -> float:
    """How much the clips of a set differ in spectrum, in decibels: the standard deviation, averaged over mel bands.

    A generator that makes one sound over and over has a spread near 0; one that is right has that of the real clips,
    and a `mel_distance` from them well below it.

    Args:
        clips: one or more (channels, time).
        sample_rate: of all of them, in hertz.
        n_mels: bands.

    Raises:
        ValueError: there is no clip.
    """
    return float(_clip_spectra_db(clips, sample_rate, n_mels).std(axis=0).mean())


def _clip_spectra_db(
    clips: Sequence[Float32[np.ndarray, "_ _"]], sample_rate: int, n_mels: int
) -> Float64[np.ndarray, "clips n_mels"]:
    """The level of each mel band over each clip as a whole: an average of power over frames and channels."""
    if not clips:
        raise ValueError("a mean spectrum needs at least one clip, and the set is empty")
    powers = [10 ** (mel_spectrogram_db(clip, sample_rate, n_mels=n_mels).astype(np.float64) / 10) for clip in clips]
    return np.stack([10 * np.log10(power.mean(axis=(0, 2))) for power in powers])
