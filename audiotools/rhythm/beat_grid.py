"""The type `Beats`, and scores of how well the onsets of a sound fit given beats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float

from tonemill.audiotools.rhythm.chord_changes import harmony_changes
from tonemill.audiotools.rhythm.drum_patterns import STEPS, groove
from tonemill.audiotools.rhythm.onsets import TONE_HOPS, Onsets

SLOWEST_BPM: Final = 50.0
FASTEST_BPM: Final = 220.0
USUAL_BPM: Final = 115.0
SPREAD_OCTAVES: Final = 0.8
USUAL_BPM_RANGE: Final = (76.0, 175.0)
"""Range of the tempi of most music."""
RARE: Final = -1.5
"""Log likelihood of a tempo outside `USUAL_BPM_RANGE`."""
NEAR_SECONDS: Final = 0.016
"""An onset this near a grid line counts as on it."""
NEARER: Final = 0.7
"""One grid fits plainly better than another where onsets are so much nearer to it (`Events.distance`)."""
BEGINS_ON_ONE: Final = 0.75
"""Share of recordings that begin with a downbeat."""
_BINS: Final = 12


@dataclass(frozen=True)
class Beats:
    """The beats of a sound.

    Args:
        times: of all beats in seconds, the end of the last one included; the first may be at 0.
        downbeat: which of them starts the first bar.
        tempo_bpm: of the whole, beats per minute.
        confidence: from 0 to 1, that tempo and octave are right.
        exact: the sound is a whole number of beats of one length from its first sample to its last.
        tempo_candidates: all tempi that are likely enough to be named, the likeliest first: two where it is in doubt.
    """

    times: Float[np.ndarray, "beats"]
    downbeat: int
    tempo_bpm: float
    confidence: float
    exact: bool
    tempo_candidates: tuple[float, ...] = ()

    def bars(self, beats_per_bar: int, bars: int = 1) -> Float[np.ndarray, "groups 2"]:
        """Start and end in seconds of each whole group of bars."""
        starts = np.arange(self.downbeat, len(self.times) - beats_per_bar * bars, beats_per_bar * bars)
        return np.stack([self.times[starts], self.times[starts + beats_per_bar * bars]], axis=1).reshape(-1, 2)


def tempo_prior(tempo_bpm: float) -> float:
    """The logarithm of how usual a tempo is, up to a constant: from 70 to 180 all are, beyond that few."""
    return -0.5 * float(np.log2(tempo_bpm / USUAL_BPM) / SPREAD_OCTAVES) ** 8


def usual(tempo_bpm: float) -> float:
    """The log likelihood of a tempo: 0 where most music is counted, RARE from a tenth of an octave beyond."""
    low, high = USUAL_BPM_RANGE
    beyond = max(float(np.log2(low / tempo_bpm)), float(np.log2(tempo_bpm / high)), 0.0)
    return RARE * min(1.0, 10 * beyond)


class Events:
    """The prominent onsets of a sound, and scores of how well they fit beats.

    The weights of alignment, repetition and groove were fitted, as of a conditional logit, to loops with made and with
    recorded drum hits (`benchmarks/playing.py`) and rounded; those of phases the best of a coarse grid on the same.
    """

    def __init__(self, onsets: Onsets) -> None:
        total = onsets.total.astype(np.float64)
        around = np.stack([np.roll(total, shift) for shift in (-2, -1, 1, 2)]) if total.size else total[None]
        if total.size:
            around[:, [0, -1]] = np.minimum(around[:, [0, -1]], total[[0, -1]])
        peaks = np.flatnonzero((total >= around.max(axis=0)) & (total > 0.08 * total.max(initial=0.0)) & (total > 0))
        self.times = peaks * onsets.hop_seconds
        self.seconds = onsets.seconds
        self.total = total[peaks]
        padded = np.pad(onsets.strength, ((0, 0), (2, 2)))
        registers = np.stack([padded[:, peaks + shift] for shift in range(5)]).max(axis=0)
        self.low, self.high = registers[0], registers[1] + registers[2]
        self.drums, self.loudness = _drums(onsets, peaks)
        self.steady_loudness = _steady(onsets, peaks)
        self.tones, self.tone_seconds = onsets.tones, onsets.hop_seconds * TONE_HOPS
        # A drone or a wash of noise has a spectrum that flickers, but no events.
        self.clear = bool(len(peaks) and len(peaks) < 25 * max(onsets.seconds, 0.3))

    @property
    def pulse_bpm(self) -> float | None:
        """Strokes per minute if all are alike and equally far apart, which leaves the beat ambiguous; else None."""
        struck = self.loudness > 0.05
        gaps = np.diff(self.times[struck])
        if len(gaps) < 7 or gaps.max() > 1.1 * gaps.min():
            return None
        # Every second, third or fourth may be another one; single ones differ by how they fall on frames.
        each = np.concatenate([self.steady_loudness[None], self.drums])[:, struck]
        means = [np.stack([each[:, at::every].mean(axis=1) for at in range(every)]) for every in (2, 3, 4)]
        alike = max(float(np.ptp(mean, axis=0).max()) for mean in means) < 0.33
        return float(60 / gaps.mean()) if alike else None

    def scores(self, beats: Float[np.ndarray, "beats"], beats_per_bar: int) -> Float[np.ndarray, "phases"]:
        """The logarithm of how likely these are the beats, up to a constant, for each beat that may begin the bar."""
        tempo_bpm = 60 * (len(beats) - 1) / (beats[-1] - beats[0])
        scores = np.full(beats_per_bar, tempo_prior(tempo_bpm))
        if len(self.times):
            scores += 11.0 * self.alignment(beats) + 5.5 * self.repetition(beats, beats_per_bar)
        if self.clear:
            scores += 0.5 * self.beginning(beats, beats_per_bar) + 0.15 * self.groove(beats, beats_per_bar)
            scores += self.changes(beats, beats_per_bar)
            # Strokes that a coarse grid cannot tell apart cost it less than a fine one's empty steps.
            scores += 0.8 * np.log2(tempo_bpm / USUAL_BPM)
        return scores

    def alignment(self, beats: Float[np.ndarray, "beats"]) -> float:
        """The share of onset strength on sixteenths, triplets or swung sixteenths, beyond what chance puts there."""
        if not len(self.times):
            return 0.0
        position, period = self.position(beats)
        return max(self.near(position, period, parts) - less for parts, less in ((4, 0.0), (3, 0.2), (6, 0.25)))

    def distance(self, beats: Float[np.ndarray, "beats"]) -> float:
        """The mean distance in seconds of onsets from the nearest quarter of a beat, strong ones weighing more."""
        if not len(self.times):
            return 0.0
        position, period = self.position(beats)
        apart = np.abs(4 * position - np.round(4 * position)) / 4 * period
        return float(np.average(apart, weights=self.total))

    def strokes(self, beats: Float[np.ndarray, "beats"]) -> tuple[Float[np.ndarray, "4 steps"], float]:
        """How strongly each drum is struck at each step, from 0 to 1, and how loud all are, from 0 to 1.5.

        And the strokes for which no step was left.
        """
        position, _ = self.position(beats)
        steps = np.round(position * STEPS).astype(int)
        count = STEPS * (len(beats) - 1)
        inside = (steps >= 0) & (steps < count)
        strokes = np.zeros((4, count))
        for row, strength in zip(strokes, (*self.drums, self.loudness), strict=True):
            np.maximum.at(row, steps[inside], strength[inside])
        return strokes, float(self.drums[:, inside].sum() - strokes[:3].sum())

    def groove(self, beats: Float[np.ndarray, "beats"], beats_per_bar: int) -> Float[np.ndarray, "phases"]:
        """How likely kick, snare and hi-hat play like this in bars that begin with each beat (`groove.groove`)."""
        strokes, crowded = self.strokes(beats)
        count, bar = strokes.shape[1], STEPS * beats_per_bar
        repeats = np.bincount(np.arange(count) % bar, minlength=bar)
        folded = np.zeros((3, bar))
        for drum in range(3):
            folded[drum] = np.bincount(np.arange(count) % bar, strokes[drum], bar) / np.maximum(repeats, 1)
        crowded /= count / bar
        seconds = float(beats[-1] - beats[0]) / (len(beats) - 1) * beats_per_bar
        return groove(folded, beats_per_bar, seconds, crowded)

    def beginning(self, beats: Float[np.ndarray, "beats"], beats_per_bar: int) -> Float[np.ndarray, "phases"]:
        """A recording likes to begin with a downbeat, and if not, then with another beat."""
        position, period = self.position(beats)
        first, beat = position[0], round(float(position[0]))
        scores = np.full(beats_per_bar, np.log((1 - BEGINS_ON_ONE) / (STEPS * beats_per_bar - 1)))
        if abs(first - beat) * period[0] < 0.03:
            scores[beat % beats_per_bar] = np.log(BEGINS_ON_ONE)
        return scores

    def changes(self, beats: Float[np.ndarray, "beats"], beats_per_bar: int) -> Float[np.ndarray, "phases"]:
        """By beat of the bar: how much more the harmony changes there than on average (`harmony_changes`)."""
        return harmony_changes(self.tones, self.tone_seconds, beats, beats_per_bar)

    def repetition(self, beats: Float[np.ndarray, "beats"], beats_per_bar: int) -> float:
        """Similarity of neighbouring bars, from 0 to 1; a typical value if there is one bar only."""
        bars = (len(beats) - 1) // beats_per_bar
        if bars < 2:
            return 0.9 if len(beats) - 1 == beats_per_bar else 0.5
        position, _ = self.position(beats)
        inside = (position > -0.5 / _BINS) & (position < bars * beats_per_bar - 0.5 / _BINS)
        at = np.round(position[inside] * _BINS).astype(int)
        drawn = np.stack(
            [np.bincount(at, part[inside], bars * beats_per_bar * _BINS) for part in (self.low, self.high)]
        )
        blurred = drawn + 0.5 * (np.roll(drawn, 1, axis=1) + np.roll(drawn, -1, axis=1))
        each = blurred.reshape(2, bars, -1)
        norm = np.sqrt((each[:, :-1] ** 2).sum(axis=2) * (each[:, 1:] ** 2).sum(axis=2))
        alike = (each[:, :-1] * each[:, 1:]).sum(axis=2)
        return float(np.divide(alike, norm, out=np.zeros_like(alike), where=norm > 0).mean())

    def position(
        self, beats: Float[np.ndarray, "beats"]
    ) -> tuple[Float[np.ndarray, "events"], Float[np.ndarray, "events"]]:
        """Each event's place in beats, and how long a beat is there."""
        numbers = np.arange(len(beats), dtype=np.float64)
        period = np.interp(self.times, (beats[1:] + beats[:-1]) / 2, np.diff(beats))
        inside = np.interp(self.times, beats, numbers)
        before, after = np.minimum(self.times - beats[0], 0), np.maximum(self.times - beats[-1], 0)
        return inside + (before + after) / period, period

    def near(self, position: np.ndarray, period: np.ndarray, parts: int) -> float:
        """The share of onset strength near parts of a beat, from 0 (what chance puts there) to 1."""
        if not len(position):
            return 0.0
        distance = np.abs(position * parts - np.round(position * parts)) / parts * period
        chance = min(0.95, float(np.mean(2 * NEAR_SECONDS * parts / period)))
        share = self.total[distance <= NEAR_SECONDS].sum() / self.total.sum()
        return float((share - chance) / (1 - chance))


def _steady(onsets: Onsets, peaks: np.ndarray) -> Float[np.ndarray, "events"]:
    """How loud each event is as a share of the loud ones: of all it sounds in 60 ms, however it falls on frames."""
    if not len(peaks):
        return np.zeros(0)
    count = round(0.06 / onsets.hop_seconds)
    padded = np.pad(np.square(onsets.level, dtype=np.float64).sum(axis=0), (count // 3, count))
    loudness = np.sqrt(np.stack([padded[peaks + shift] for shift in range(count)]).sum(axis=0))
    return np.clip(loudness / max(float(np.percentile(loudness, 95)), 1e-12), 0, 1.5)


def _drums(onsets: Onsets, peaks: np.ndarray) -> tuple[Float[np.ndarray, "3 events"], Float[np.ndarray, "events"]]:
    """How far each event is a stroke of kick, snare and hi-hat, from 0 to 1, by how loud its band becomes.

    And how loud it is in all, as a share of the loud ones, up to 1.5.
    """
    if not len(peaks):
        return np.zeros((3, 0)), np.zeros(0)
    padded = np.pad(onsets.level, ((0, 0), (6, 13)), mode="edge")
    # A beater's click is as bright as a snare, but over in 20 ms.
    after = np.stack([padded[0:2, peaks + 6 + shift] for shift in range(5, 13)]).mean(axis=0)
    struck = np.stack([padded[2:, peaks + 6 + shift] for shift in range(0, 8)]).max(axis=0)
    before = np.stack([padded[:, peaks + 6 + shift] for shift in range(-6, 0)]).min(axis=0)
    rises = np.maximum(np.concatenate([after, struck]) - before, 0).astype(np.float64)
    loud = np.percentile(rises, 95, axis=1)
    # A drum that does not play has a band all the same, with what other drums leave in it.
    loud = np.maximum(loud, 0.07 * loud.max())[:, None]
    share = np.divide(rises, loud, out=np.zeros_like(rises), where=loud > 0)
    energy = np.sqrt(np.square(rises).sum(axis=0))
    loudness = np.clip(energy / max(float(np.percentile(energy, 95)), 1e-12), 0, 1.5)
    return np.clip((share - 0.1) / 0.5, 0, 1), loudness
