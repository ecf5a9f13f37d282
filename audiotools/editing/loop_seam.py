"""How well the end of a clip leads into its start, and a short crossfade where it does not.

The clip is played twice. What changes at the joint, in spectrum and level, is held against what changes at the clip's
own beats, which divide its length evenly. And these beats are held against its attacks: where they fit better to a clip
that is some milliseconds longer, so much was cut off.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Float, Float32

CLICK_MS: Final = 8.0
CHANGE_MS: Final = 16.0
ATTACK_MS: Final = 12.0
"""Windows: of a click at an instant, of what is before and after it, and of attacks."""

STEP_MS: Final = 2.0
RISE_MS: Final = 6.0
"""From one frame of attacks to the next, and the time in which they rise."""

MOST_MISSING_MS: Final = 60
SAME_MS: Final = 6
"""Lengths that are tried, around the clip's own, and how much of that counts as its own."""

PER_BEAT: Final = 4
"""Places of attacks in a beat: sixteenths."""

DIVISIONS: Final = (8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
SIXTEENTH_SECONDS: Final = (0.08, 0.19)
"""Where the beats are not known: evenly spaced places in a clip, and how far apart they may be."""

BANDS: Final = 18
LOW_HZ: Final = 60.0
HIGH_HZ: Final = 12000.0
FLOOR_DB: Final = -60.0
CLICK_DB: Final = 3.0
CHANGE_DB: Final = 6.0
"""Changes below these are not noticed, whatever the beats have."""

FLAT_MS: Final = 50.0
FLAT_DB: Final = 1.0
"""A clip whose level, in frames so long, deviates by less has no beats."""

Mono = Float[np.ndarray, "time"]


class Seam(NamedTuple):
    """What a joint is like.

    Args:
        percentile: share of the clip's own beats at which less changes than at the joint, from 0 to 1.
        smooth: 1 where no click, rise or fall at the joint is greater than at nine of ten beats; else that ratio.
        fit: 1 where the attacks fit the clip's own beats best; else how well, over how well those of the best length.
        missing_ms: how much longer that best length is; below 0 shorter.
        flat: it has no beats, as noise, a drone or silence, and nothing at the joint stands out.
    """

    percentile: float
    smooth: float
    fit: float
    missing_ms: float
    flat: bool

    @property
    def loopability(self) -> float:
        """From 0 to 1, the worse of `smooth` and `fit`; not a number where the clip is flat."""
        return math.nan if self.flat else min(self.smooth, self.fit)


def seam_of(samples: Float32[np.ndarray, "channels time"], sample_rate: int, beats: int | None = None) -> Seam:
    """The joint of a clip that is played twice.

    Args:
        samples: of the clip.
        sample_rate: in hertz.
        beats: that it has; left out, the division of its length that fits its attacks best.
    """
    mono = samples.mean(axis=0, dtype=np.float64)
    if len(mono) < sample_rate // 4 or np.abs(mono).max(initial=0.0) < 1e-5:
        return Seam(math.nan, 1.0, 1.0, 0.0, True)
    places, fit, missing_ms = _fitted(mono, sample_rate, beats)
    instants = np.round(np.arange(places) * len(mono) / places).astype(int)
    click = _clicks(mono, sample_rate, instants)
    change = _changes(mono, sample_rate, instants)
    kinds = ((click, CLICK_DB), (change, CHANGE_DB), (-change, CHANGE_DB))
    smooth = min(_ratio(float(np.quantile(one[1:], 0.9)), float(one[0]), least) for one, least in kinds)
    whole = click + np.abs(change)
    percentile = float((whole[1:] < whole[0]).mean() + (whole[1:] == whole[0]).mean() / 2)
    flat = smooth == 1 and _varies_db(mono, sample_rate) < FLAT_DB
    return Seam(percentile, smooth, fit, missing_ms, flat)


def loopability(samples: Float32[np.ndarray, "channels time"], sample_rate: int, beats: int | None = None) -> float:
    """From 0 to 1: 1 where the joint is no more of a jump than the clip's own beats, and falls on one of them.

    Not a number of a clip that is flat or silent.
    """
    return seam_of(samples, sample_rate, beats).loopability


def with_seam(samples: Float32[np.ndarray, "channels time"], sample_rate: int, seam_ms: float) -> np.ndarray:
    """The clip with its last milliseconds faded, with equal power, into what would come before its start.

    What comes before the start is not known, so it is the start played backwards: level and colour fit, and the last
    sample meets the first.
    """
    count = min(round(seam_ms * sample_rate / 1000), samples.shape[1] // 2)
    if count < 1:
        return samples
    angle = np.linspace(0, np.pi / 2, count, dtype=np.float32)
    joined = samples.copy()
    joined[:, -count:] = samples[:, -count:] * np.cos(angle) + samples[:, :count][:, ::-1] * np.sin(angle)
    return joined


def _levels(mono: Mono, sample_rate: int, starts: Float[np.ndarray, "_"] | np.ndarray, window_ms: float) -> np.ndarray:
    """Power in bands of windows that begin at samples, around the end: (windows, bands)."""
    count = max(16, round(window_ms * sample_rate / 1000))
    n_fft = 1 << (count - 1).bit_length()
    hertz = np.fft.rfftfreq(n_fft, 1 / sample_rate)
    edges = np.searchsorted(hertz, np.geomspace(LOW_HZ, min(HIGH_HZ, 0.49 * sample_rate), BANDS + 1))
    edges = np.unique(edges.clip(max=len(hertz) - 1))
    frames = mono[(np.asarray(starts)[:, None] + np.arange(count)) % len(mono)] * np.hanning(count + 2)[1:-1]
    return np.add.reduceat(np.abs(np.fft.rfft(frames, n_fft, axis=1)) ** 2, edges, axis=1)


def _in_db(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """The mean over bands of a ratio of powers, of which what is far below the loudest counts as nothing."""
    least = max(above.max(), below.max()) * 10 ** (FLOOR_DB / 10)
    return 10 * np.log10((above + least) / (below + least))


def _clicks(mono: Mono, sample_rate: int, instants: np.ndarray) -> np.ndarray:
    """By how many dB a window across an instant is louder than those before and after, where it is; mean over bands."""
    count = round(CLICK_MS * sample_rate / 1000)
    before, across, after = (
        _levels(mono, sample_rate, instants + shift, CLICK_MS) for shift in (-count, -(count // 2), 0)
    )
    return np.maximum(_in_db(across, np.maximum(before, after)), 0).mean(axis=1)


def _changes(mono: Mono, sample_rate: int, instants: np.ndarray) -> np.ndarray:
    """By how many dB it is louder after an instant than before; mean over bands."""
    count = round(CHANGE_MS * sample_rate / 1000)
    before, after = (_levels(mono, sample_rate, instants + shift, CHANGE_MS) for shift in (-count, 0))
    return _in_db(after, before).mean(axis=1)


def _attacks(mono: Mono, sample_rate: int) -> np.ndarray:
    """How much louder it becomes around each frame of `STEP_MS`, in dB, mean over bands; around the end."""
    count = int(len(mono) / (STEP_MS * sample_rate / 1000))
    middles = np.round(np.arange(count) * STEP_MS * sample_rate / 1000).astype(int)
    levels = _levels(mono, sample_rate, middles - round(ATTACK_MS * sample_rate / 2000), ATTACK_MS)
    shift = round(RISE_MS / STEP_MS)
    rises = np.maximum(_in_db(levels, np.roll(levels, shift, axis=0)), 0).mean(axis=1)
    triangle = np.array([1, 2, 3, 4, 3, 2, 1]) / 4
    around = np.concatenate([rises[-3:], rises, rises[:3]])
    return np.roll(np.convolve(around, triangle, "valid"), -(shift // 2))


def _fitted(mono: Mono, sample_rate: int, beats: int | None) -> tuple[int, float, float]:
    """Places of attacks in a clip, how well they fit it, and how much longer the length is that they fit best."""
    attacks = _attacks(mono, sample_rate)
    longer = np.arange(-MOST_MISSING_MS, MOST_MISSING_MS + 1, SAME_MS // 2)
    seconds = len(mono) / sample_rate
    low, high = SIXTEENTH_SECONDS
    divisions = [PER_BEAT * beats] if beats else [one for one in DIVISIONS if low <= seconds / one <= high]
    best: tuple[int, np.ndarray] = (divisions or [max(2, round(seconds / low))])[0], np.zeros(len(longer))
    for places in divisions:
        found = np.array([_strength(attacks, places, (1000 * seconds + more) / STEP_MS) for more in longer])
        if found.max() > best[1].max():
            best = places, found
    places, found = best
    own = found[np.abs(longer) <= SAME_MS].max()
    if found.max() <= own:
        return places, 1.0, 0.0
    return places, float(own / found.max()), float(longer[found.argmax()])


def _strength(attacks: np.ndarray, places: int, frames: float) -> float:
    """Mean strength of attacks at places that divide so many frames evenly, as far as there are frames."""
    at = np.round(np.arange(1, places) * frames / places).astype(int)
    return float(attacks[at[at < len(attacks)]].mean())


def _varies_db(mono: Mono, sample_rate: int) -> float:
    """Deviation of the level, of which low tones weigh less."""
    count = round(FLAT_MS * sample_rate / 1000)
    frames = np.diff(mono)[: (len(mono) - 1) // count * count].reshape(-1, count)
    power = (frames**2).mean(axis=1)
    return float((10 * np.log10(power + power.max() * 10 ** (FLOOR_DB / 10))).std())


def _ratio(usual: float, seam: float, least: float) -> float:
    """1 where the joint's jump is no greater than a usual one, or too small to notice."""
    return 1.0 if seam <= max(0.0, usual) + least else (max(0.0, usual) + least) / seam
