"""Find the clips that sound most like a clip, cheaply: by log-mel spectrograms laid over each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from jaxtyping import Float32, Int64

from tonemill.audiotools.editing.resampling import resample
from tonemill.audiotools.mel import mel_spectrogram_db
from tonemill.audiotools.waveform import Waveform

SECONDS: Final = 2.0
"""Length that is compared, from the start of each clip."""

HOP_MS: Final = 20.0
BANDS: Final = 32
FLOOR_DB: Final = -60.0
"""Below the clip's loudest band."""

_FRAMES: Final = 1 + round(SECONDS * 1000 / HOP_MS)


@dataclass(frozen=True)
class Likenesses:
    """Clips ready to be compared.

    Args:
        levels: (clips, bands * frames), decibels above FLOOR_DB, 0 where a clip has ended or holds no sound.
        frames: of each clip, up to SECONDS.
    """

    levels: Float32[np.ndarray, "clips cells"]
    frames: Int64[np.ndarray, "clips"]


def likenesses(clips: Sequence[Waveform], sample_rate: int) -> Likenesses:
    """Measure clips, mixed to mono, at one rate; their own level is taken out, so gain makes no difference.

    Args:
        clips: of any rates and channels; resampled where theirs is another.
        sample_rate: at which they are compared, in hertz.
    """
    levels = np.zeros((len(clips), BANDS * _FRAMES), np.float32)
    frames = np.ones(len(clips), np.int64)
    for number, clip in enumerate(clips):
        # A little more than is compared, so that resampling ends in sound.
        mono = clip.samples[:, : round((SECONDS + 0.1) * clip.sample_rate)].mean(axis=0, keepdims=True)
        mono = resample(mono, clip.sample_rate, sample_rate, quality="fast")[:, : round(SECONDS * sample_rate)]
        found = mel_spectrogram_db(mono, sample_rate, n_mels=BANDS, hop_ms=HOP_MS, floor_db=-120)[0, :, :_FRAMES]
        top = found.max(initial=-120.0)
        if top > -120:
            kept = np.maximum(found - top - FLOOR_DB, 0)
            levels[number].reshape(BANDS, _FRAMES)[:, : kept.shape[1]] = kept
        frames[number] = found.shape[1]
    return Likenesses(levels, frames)


def nearest(
    queries: Likenesses, among: Likenesses, *, but_itself: bool = False
) -> tuple[Int64[np.ndarray, "queries"], Float32[np.ndarray, "queries"]]:
    """For each clip the place of the one that is most like it, and their distance in dB.

    The distance is the root mean square of the difference of two log-mel spectrograms, their own levels taken out, over
    the bands and the frames of the longer clip: 0 is the same sound; of 400 spoken digits the nearest other was
    6 dB away, and any other 17 dB (medians).

    Args:
        queries: one or more.
        among: one or more; with `but_itself` they begin with the queries themselves, and none finds itself.

    Raises:
        ValueError: there is nothing to find.
    """
    if not len(among.frames) or (but_itself and len(among.frames) < 2):
        raise ValueError("there is no clip to find")
    places = np.zeros(len(queries.frames), np.int64)
    distances = np.zeros(len(queries.frames), np.float32)
    own = np.einsum("ij,ij->i", among.levels, among.levels)
    for first in range(0, len(places), 256):
        part = slice(first, first + 256)
        some: Any = queries.levels[part]
        squares = np.einsum("ij,ij->i", some, some)[:, None] + own[None] - 2 * (some @ among.levels.T)
        cells = BANDS * np.maximum(queries.frames[part, None], among.frames[None])
        means = np.maximum(squares, 0) / cells
        if but_itself:
            means[np.arange(len(some)), np.arange(first, first + len(some))] = np.inf
        places[part] = means.argmin(axis=1)
        distances[part] = np.sqrt(means.min(axis=1))
    return places, distances
