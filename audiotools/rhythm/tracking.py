"""Follow the beats of a recording whose tempo may drift, at every tempo that is likely.

Beats follow the onsets (Ellis, "Beat Tracking by Dynamic Programming", 2007); `beats` chooses among the paths.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from jaxtyping import Float

from tonemill.audiotools.rhythm.beat_grid import FASTEST_BPM, SLOWEST_BPM, Events, tempo_prior
from tonemill.audiotools.rhythm.onsets import Onsets

STIFFNESS: Final = 2.5
"""Smoothing weight of the line of beats, times the cube of beats per second: about two seconds to either side."""


def paths(onsets: Onsets, events: Events, beats_per_bar: int = 4, tempo_bpm: float | None = None) -> list[np.ndarray]:
    """Beats that follow the onsets, at each likely tempo and shifted by each quarter of a beat.

    Args:
        tempo_bpm: if it is known.
    """
    total = onsets.total.astype(np.float64)
    candidates = [float(tempo_bpm)] if tempo_bpm is not None else _tempi(total, onsets.hop_seconds, beats_per_bar)
    followed = [_amid_onsets(_follow(total, onsets.hop_seconds, bpm), events.times) for bpm in candidates]
    tries = [_refined(beats, total, onsets.hop_seconds) for beats in followed]
    tries += [
        _refined(beats[:-1] + part * np.diff(beats), total, onsets.hop_seconds)
        for beats in tries
        for part in (0.25, 0.5, 0.75)
        if len(beats) > 3
    ]
    return [beats for beats in tries if len(beats) > 2]


def _tempi(total: Float[np.ndarray, "frames"], hop_seconds: float, beats_per_bar: int) -> list[float]:
    """Likely tempi, the likeliest first: at the right one beats repeat, and whole bars repeat even better."""
    tempi = SLOWEST_BPM * 2.0 ** np.arange(0, np.log2(FASTEST_BPM / SLOWEST_BPM), 1 / 120)
    longest = 2.04 * beats_per_bar * 60 / tempi[0] / hop_seconds
    score = np.zeros(len(tempi))
    for part in _windows(total, round(max(8.0 / hop_seconds, 1.5 * longest))):
        correlation = _autocorrelation(part, min(len(part) - 1, round(longest)))
        for beats, weight in ((1, 1.0), (2, 0.7), (beats_per_bar, 1.6), (2 * beats_per_bar, 0.8)):
            lag = beats * 60 / tempi / hop_seconds
            # Where the tempo drifts, distant repeats come a little early or late.
            near = [np.interp(lag * stretch, np.arange(len(correlation)), correlation, right=0.0) for stretch in _DRIFT]
            score += weight * np.max(near, axis=0)
    score += 0.25 * max(float(score.max()), 1e-9) * np.array([tempo_prior(bpm) for bpm in tempi])
    chosen: list[float] = []
    for at in np.argsort(-score):
        if all(abs(np.log2(tempi[at] / bpm)) > 0.08 for bpm in chosen):
            chosen.append(float(tempi[at]))
        if len(chosen) == 5:
            break
    halves = [bpm * factor for bpm in chosen for factor in (0.5, 2.0)]
    return chosen + [
        bpm
        for bpm in halves
        if SLOWEST_BPM <= bpm <= FASTEST_BPM and all(abs(np.log2(bpm / other)) > 0.08 for other in chosen)
    ]


_DRIFT: Final = (0.985, 0.9925, 1.0, 1.0075, 1.015)


def _windows(total: Float[np.ndarray, "frames"], length: int) -> list[np.ndarray]:
    """Up to twenty stretches, spread over the whole."""
    if len(total) <= length:
        return [total]
    starts = np.linspace(0, len(total) - length, min(20, 1 + 2 * (len(total) // length))).astype(int)
    return [total[start : start + length] for start in starts]


def _autocorrelation(part: Float[np.ndarray, "frames"], lags: int) -> Float[np.ndarray, "lags"]:
    # Strokes are a little early and late: blurred, they still meet.
    blurred = np.convolve(np.sqrt(part), np.hanning(9), mode="same")
    centred = blurred - blurred.mean()
    spectrum = np.fft.rfft(centred, 1 << (2 * len(centred) - 1).bit_length())
    correlation = np.fft.irfft(np.abs(spectrum) ** 2)[: lags + 1]
    correlation /= np.maximum(len(part) - np.arange(len(correlation)), len(part) / 4)
    return correlation / max(float(correlation[0]), 1e-12)


def _follow(total: Float[np.ndarray, "frames"], hop_seconds: float, bpm: float) -> Float[np.ndarray, "beats"]:
    import librosa

    _, frames = librosa.beat.beat_track(
        onset_envelope=total, sr=1 / hop_seconds, hop_length=1, bpm=bpm, tightness=200, trim=False, units="frames"
    )
    return np.asarray(frames, np.float64) * hop_seconds


def _refined(
    beats: Float[np.ndarray, "beats"], total: Float[np.ndarray, "frames"], hop_seconds: float
) -> Float[np.ndarray, "beats"]:
    """Beats between frames: the onset nearest each, smoothed.

    Where no onset is, neighbours decide; a tempo that drifts is followed, single early or late strokes are not.
    """
    if len(beats) < 4:
        return beats
    reach = max(1, round(0.035 / hop_seconds))
    padded = np.pad(total, reach + 1)
    at = np.clip(np.round(beats / hop_seconds).astype(int), 0, len(total) - 1)
    around = padded[at[:, None] + np.arange(1, 2 * reach + 2)]
    peak = around.argmax(axis=1)
    rows = np.arange(len(beats))
    left, middle, right = (padded[at + peak + 1 + d] for d in (-1, 0, 1))
    bend = left - 2 * middle + right
    shift = np.where(np.abs(bend) > 1e-12, 0.5 * (left - right) / np.where(np.abs(bend) > 1e-12, bend, 1), 0.0)
    measured = (at + peak - reach + np.clip(shift, -0.5, 0.5)) * hop_seconds
    heights = around[rows, peak] / max(float(around.max()), 1e-9)
    weights = np.where(heights > 0.03, heights, 0.0) + 1e-6
    smooth = _smoothed(measured, weights)
    for _ in range(2):
        # Strokes far from the line count less (Tukey's biweight).
        distance = np.clip((measured - smooth) / 0.03, -1, 1)
        smooth = _smoothed(measured, weights * (1 - distance**2) ** 2 + 1e-6)
    return smooth


def _smoothed(measured: Float[np.ndarray, "beats"], weights: Float[np.ndarray, "beats"]) -> Float[np.ndarray, "beats"]:
    """The steadiest line near what was measured: least squares, with its bends held down (Whittaker 1923)."""
    from scipy.linalg import solveh_banded

    count = len(measured)
    # The bands of D'D, where D takes second differences.
    bands = np.zeros((3, count))
    bands[2, 0 : count - 2] += 1
    bands[2, 1 : count - 1] += 4
    bands[2, 2:count] += 1
    bands[1, 1 : count - 1] -= 2
    bands[1, 2:count] -= 2
    bands[0, 2:count] += 1
    bands *= STIFFNESS / max(float(np.median(np.diff(measured))), 0.05) ** 3
    bands[2] += weights
    return np.asarray(solveh_banded(bands, weights * measured))


def _amid_onsets(beats: Float[np.ndarray, "beats"], events: Float[np.ndarray, "events"]) -> Float[np.ndarray, "kept"]:
    """Beats from the first onset to the last: beyond them a tracker follows noise."""
    if len(beats) < 5 or not len(events):
        return beats
    near = 0.3 * float(np.median(np.diff(beats)))
    kept = beats[(beats > events[0] - near) & (beats < events[-1] + near)]
    return kept if len(kept) > 3 else beats
