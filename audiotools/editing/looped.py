"""What a clip is when it is repeated without end: its loudness, its true peak, and itself at another rate."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from tonemill.audiotools.editing.levels import to_db
from tonemill.audiotools.editing.loudness import LoudnessMeter
from tonemill.audiotools.editing.resampling import resample
from tonemill.audiotools.shapes import Float32

SETTLE_SECONDS: Final = 0.05
"""So much of the loop goes before and after what is resampled: longer than any filter used."""

OVERSAMPLED: Final = 4
"""Of a true peak: ITU-R BS.1770-4, annex 2; an error of 0.7 dB at most at half the rate, and far less below."""


def repeated(samples: Float32[np.ndarray, "channels time"], frames: int) -> np.ndarray:
    """Whole rounds of a loop, of so many frames at least, (channels, rounds * time)."""
    return np.tile(samples, (1, max(1, -(-frames // samples.shape[1]))))


def resampled_loop(samples: Float32[np.ndarray, "channels time"], from_rate: int, to_rate: int) -> np.ndarray:
    """A loop at another rate, with what sounds at the joint when it is repeated; its length is rounded to a frame."""
    if from_rate == to_rate:
        return samples
    # A number of input frames that is a whole number of output frames.
    unit = from_rate // math.gcd(from_rate, to_rate)
    around = -(-round(SETTLE_SECONDS * from_rate) // unit) * unit
    length = samples.shape[1]
    wrapped = np.take(samples, np.arange(-around, length + around) % length, axis=1)
    first = around * to_rate // from_rate
    found = resample(np.ascontiguousarray(wrapped), from_rate, to_rate)
    return found[:, first : first + max(1, round(length * to_rate / from_rate))]


def loudness_lufs(
    samples: Float32[np.ndarray, "channels time"], sample_rate: int, seconds: int | float
) -> float | None:
    """Integrated loudness (ITU-R BS.1770-4) of a loop that is repeated for so long; None for silence."""
    meter = LoudnessMeter(sample_rate, samples.shape[0])
    meter.take(repeated(samples, round(seconds * sample_rate)))
    return meter.read().lufs


def true_peak_db(samples: Float32[np.ndarray, "channels time"], sample_rate: int) -> float | None:
    """The highest point of the wave between samples, the joint included, in dB of full scale; None for silence."""
    fine = resampled_loop(samples, sample_rate, OVERSAMPLED * sample_rate)
    return to_db(float(max(np.abs(fine).max(initial=0), np.abs(samples).max(initial=0))))


def dithered(samples: Float32[np.ndarray, "channels time"], seed: int, bits: int = 16) -> np.ndarray:
    """With triangular noise of two quantising steps, which makes the error of quantising noise of constant power.

    Lipshitz, Wannamaker and Vanderkooy (1992), Journal of the Audio Engineering Society 40, 355-375.
    """
    rng = np.random.default_rng(seed)
    noise = rng.random(samples.shape, np.float32) - rng.random(samples.shape, np.float32)
    return samples + noise * np.float32(2.0 ** (1 - bits))
