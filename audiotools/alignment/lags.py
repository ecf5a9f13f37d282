"""Find by how much one signal lags another, coarsely: correlate windows, and draw a line through their peaks.

Each window's spectra are whitened (the phase transform of Knapp and Carter 1976, with an exponent of 0.8 that spares
the bins that hold nothing), so that a peak is narrow whatever the sound. The lags of a pair's windows lie on a line
over time: level where both ran on one clock, tilted where clocks drifted. Peaks of strangers' windows lie anywhere.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Float, Float32

from tonemill.audiotools.alignment.response import HIGHEST, LOWEST_HZ, Bend, bent

PEAKS: Final = 6
"""Of each window: a sound that repeats has several."""

_WHITENING: Final = 0.8
_TOLERANCE: Final = 6.0
CLEAR: Final = 6.0
"""Standard deviations of the background from which on a window's peak counts as seen."""

_CAP: Final = 60.0
"""A peak this high above the background counts no more than this, so that no single window decides."""


class Peaks(NamedTuple):
    """The highest peaks of each window.

    Args:
        lags: (windows, PEAKS), in samples.
        heights: (windows, PEAKS), signed, in standard deviations of the background.
    """

    lags: Float[np.ndarray, "windows peaks"]
    heights: Float[np.ndarray, "windows peaks"]


class Line(NamedTuple):
    """Lags over time.

    Args:
        offset: samples, at time 0.
        slope: samples per sample.
        polarity: 1 or -1, of most peaks near it.
        score: the mean height of the windows' peaks near it, each at most _CAP.
        agreement: the share of windows with a peak of that polarity near it.
    """

    offset: float
    slope: float
    polarity: int
    score: float
    agreement: float

    def at(self, times: Float[np.ndarray, "windows"]) -> Float[np.ndarray, "windows"]:
        return self.offset + self.slope * times


def window_peaks(
    dry: Float32[np.ndarray, "time"],
    wet: Float32[np.ndarray, "wet_time"],
    first_lag: int,
    sample_rate: int,
    bends: tuple[Bend, ...],
    level: float,
) -> dict[Bend, tuple[np.ndarray, np.ndarray]]:
    """The highest peaks of the whitened correlation, for the dry signal bent in each way.

    Args:
        dry: a window.
        wet: what may answer it: `first_lag` samples from the window's start on, longer than `dry`.
        first_lag: in samples, of the wet excerpt's start.
        sample_rate: in hertz.
        bends: ways to bend `dry`.
        level: of the whole dry signal.

    Returns:
        lags and signed heights of PEAKS peaks, highest first.
    """
    from scipy import fft, signal

    size = fft.next_fast_len(len(wet), real=True)
    frequencies = np.fft.rfftfreq(size, 1 / sample_rate)
    band = ((frequencies > LOWEST_HZ) & (frequencies < HIGHEST * sample_rate)).astype(np.float32)
    taper = signal.windows.tukey(len(dry), 0.2).astype(np.float32)
    wet_spectrum = fft.rfft(wet - wet.mean(), size)
    found: dict[Bend, tuple[np.ndarray, np.ndarray]] = {}
    for bend in bends:
        cross = wet_spectrum * fft.rfft(bent(dry, bend, level) * taper, size).conj()
        magnitude = np.abs(cross)
        if not magnitude.max() > 0:
            found[bend] = np.zeros(PEAKS), np.zeros(PEAKS)
            continue
        cross *= band / (magnitude**_WHITENING + np.float32(1e-12) * magnitude.max())
        found[bend] = _highest(fft.irfft(cross, size)[: len(wet) - len(dry) + 1], first_lag)
    return found


def _highest(correlation: np.ndarray, first_lag: int) -> tuple[np.ndarray, np.ndarray]:
    background = float(np.sqrt(np.mean(np.square(correlation)))) + 1e-30
    rest = np.abs(correlation)
    lags, heights = np.zeros(PEAKS), np.zeros(PEAKS)
    for index in range(PEAKS):
        at = int(rest.argmax())
        lags[index], heights[index] = at + first_lag, correlation[at] / background
        rest[max(0, at - 8) : at + 9] = 0
    return lags, heights


def best_line(peaks: Peaks, times: Float[np.ndarray, "windows"], steepest: float, furthest: int) -> Line:
    """The line through the peaks of most windows, level where that does as well.

    Args:
        peaks: by window.
        times: of the windows' middles, in samples.
        steepest: the largest slope to try, in samples per sample.
        furthest: the largest lag at time 0, in samples.
    """
    lags, heights = peaks.lags.ravel(), np.clip(peaks.heights, -_CAP, _CAP).ravel()
    when = np.repeat(times, peaks.lags.shape[1])
    slopes, offsets = [np.zeros(len(lags))], [lags]
    apart = np.abs(when[:, None] - when[None, :]) > 0.25 * np.ptp(times)
    first, second = np.nonzero(np.triu(apart & (when[:, None] != when[None, :])))
    if len(first):
        slope = (lags[second] - lags[first]) / (when[second] - when[first])
        kept = np.abs(slope) <= steepest
        slopes.append(slope[kept])
        offsets.append((lags[first] - slope * when[first])[kept])
    tried = np.stack([np.concatenate(offsets), np.concatenate(slopes)], axis=1)
    tried = tried[np.abs(tried[:, 0]) <= furthest]
    if not len(tried):
        return Line(0.0, 0.0, 1, 0.0, 0.0)
    values, scores = [], []
    signed = heights.reshape(peaks.lags.shape)
    for part in np.array_split(tried, max(1, len(tried) // 1024)):
        near = np.abs(peaks.lags - part[:, 0, None, None] - part[:, 1, None, None] * times[:, None]) <= _TOLERANCE
        # (lines, polarities, windows): the highest peak near the line.
        each = np.stack([np.where(near, sign * signed, 0.0).max(axis=2) for sign in (1, -1)], axis=1)
        # Among equals the level line wins, then the one that lags least, then the one that does not lead.
        liked = np.where(part[:, 1] == 0, 1.05, 1.0)
        later = 1e-7 * np.abs(part[:, 0]) + 1e-6 * (part[:, 0] < 0)
        values.append(each.mean(axis=2) * liked[:, None] - later[:, None])
        scores.append(np.stack([each.mean(axis=2), (each > CLEAR).mean(axis=2)], axis=-1))
    value, score = np.concatenate(values), np.concatenate(scores)
    best, side = np.unravel_index(int(value.argmax()), value.shape)
    height, agreement = score[best, side]
    offset, slope = tried[best]
    return Line(float(offset), float(slope), (1, -1)[side], float(height), float(agreement))
