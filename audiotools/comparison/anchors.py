"""Clips that are worse than a reference in one known way, to calibrate one question of a listening study each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from jaxtyping import Float32

from tonemill.audiotools.comparison.descriptors import mean_spectrum, noise_with

CUTOFF_HZ: Final = 3500.0
"""Of the low anchor of MUSHRA (ITU-R BS.1534-3, section 5.1)."""

GAP_SECONDS: Final = 0.12
"""Silence before the joint: longer than the 50 ms or so below which a gap sounds like a click."""


def low_passed(samples: Float32[np.ndarray, "channels time"], sample_rate: int, seed: int = 0) -> np.ndarray:
    """The sound below 3.5 kHz: zero phase, nothing left from 4 kHz on, and a loop stays a loop.

    At rates below 15.6 kHz the cutoff is 0.45 of half the rate, for an anchor must lack what the reference has.
    """
    spectrum = np.fft.rfft(samples.astype(np.float64), axis=1)
    hertz = np.fft.rfftfreq(samples.shape[1], 1 / sample_rate)
    # The transform of a loop is circular, so its filter has no edge; a raised cosine from 3.5 to 4 kHz rings little.
    slope = np.clip((hertz - min(CUTOFF_HZ, 0.45 * sample_rate / 2)) / 500.0, 0, 1)
    return np.fft.irfft(spectrum * (0.5 + 0.5 * np.cos(np.pi * slope)), samples.shape[1], axis=1).astype(np.float32)


def with_gap(samples: Float32[np.ndarray, "channels time"], sample_rate: int, seed: int = 0) -> np.ndarray:
    """The clip with its end replaced by silence: repeated, it has a gap at the joint."""
    gap = min(round(GAP_SECONDS * sample_rate), samples.shape[1] // 4)
    found = samples.copy()
    found[:, samples.shape[1] - gap :] = 0
    return found


def steady_noise(samples: Float32[np.ndarray, "channels time"], sample_rate: int, seed: int = 0) -> np.ndarray:
    """Noise of the same spectrum and power; the clip's envelope is not kept, for it would sound like beats."""
    bins = max(33, min(513, samples.shape[1] // 4 + 1))
    return noise_with(mean_spectrum([samples], bins), samples.shape[1], samples.shape[0], seed)


ANCHORS: Final[dict[str, Callable[..., np.ndarray]]] = {
    "low3500": low_passed,
    "gap": with_gap,
    "noise": steady_noise,
}
"""By the name that a set of questions has for each; every one takes samples, sample rate and seed."""
