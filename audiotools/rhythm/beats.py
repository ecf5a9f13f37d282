"""Find tempo, beats and bars of a sound whose tempo is unknown.

Beats are followed at every likely tempo, and a file that may be a loop is divided evenly by every likely number of
beats. Each of these, begun on each beat of the bar, is a way to count the sound; a network, trained on takes with known
beats, gives the probability of each.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from tonemill.audiotools.rhythm.beat_grid import (
    FASTEST_BPM,
    NEARER,
    SLOWEST_BPM,
    USUAL_BPM,
    USUAL_BPM_RANGE,
    Beats,
    Events,
    usual,
)
from tonemill.audiotools.rhythm.meter_features import described
from tonemill.audiotools.rhythm.meter_network import shares, stated
from tonemill.audiotools.rhythm.onsets import Onsets
from tonemill.audiotools.rhythm.tracking import paths
from tonemill.audiotools.rhythm.whole_bars import LAST_STROKE, QUIET, whole_bars

LONGEST_LOOP_BEATS: Final = 136
"""For more beats (32 bars and a little) some tempo always fits the length, which is then no evidence."""
SAME_TEMPO_OCTAVES: Final = 0.06
LEAST_SHARE: Final = 0.1
"""Smallest probability of a tempo that is listed beside the likeliest."""
DOUBTFUL: Final = 0.6
LOOP_SECONDS: Final = 0.030
"""Bar lines this near to an even division of the sound are replaced by it."""
FEWEST_EVENTS: Final = 3
UNHEARD: Final = 0.5
"""The most that is stated of a tempo which nothing but the length bears out."""


class Way(NamedTuple):
    """One way to count the beats of a sound.

    Args:
        beats: their times in seconds, the end of the last included.
        exact: they divide the length of the sound evenly.
        phases: which of them may begin the first bar.
        rows: a description for each of these (`meter_features.described`).
    """

    beats: Float[np.ndarray, "beats"]
    exact: bool
    phases: Int[np.ndarray, "phases"]
    rows: Float[np.ndarray, "phases count"]

    @property
    def tempo_bpm(self) -> float:
        """The mean of all beats."""
        return float(60 * (len(self.beats) - 1) / (self.beats[-1] - self.beats[0]))


def way_of(events: Events, beats: Float[np.ndarray, "beats"], beats_per_bar: int) -> Way:
    """Beats that any of the first may begin a bar of."""
    phases = np.arange(min(beats_per_bar, len(beats) - 1))
    return Way(beats, False, phases, described(events, beats, beats_per_bar, 0.0)[phases])


def likeliest(ways: list[Way]) -> tuple[Way, int]:
    """One of the ways to count, and which of its beats begins the first bar."""
    rows = np.concatenate([way.rows for way in ways])
    share = shares(rows, np.zeros(len(rows)))
    each = [(way, int(phase)) for way in ways for phase in way.phases]
    return each[int(np.argmax(share))]


def counted(onsets: Onsets, beats_per_bar: int = 4) -> list[Way]:
    """All ways to count a sound that are worth a look: beats that follow its onsets, and grids that fit its length."""
    events = Events(onsets)
    if not len(events.times):
        return []
    followed = paths(onsets, events, beats_per_bar)
    ways = []
    for beats in followed:
        ways.append(way_of(events, beats, beats_per_bar))
    for count in _lengths(onsets.seconds, events, followed):
        grid = np.linspace(0, onsets.seconds, count + 1)
        rows = described(events, grid, beats_per_bar, 4.0 + _length_prior(count, beats_per_bar))
        # A file of whole bars begins with one; any other may begin with a pick-up.
        phases = np.arange(1 if count % beats_per_bar == 0 else min(beats_per_bar, count))
        ways.append(Way(grid, True, phases, rows[phases]))
    return ways


def _lengths(seconds: float, events: Events, followed: list[np.ndarray]) -> list[int]:
    """Possible numbers of beats of a loop: every number if it is short, else those near the tracked tempi."""
    least, most = max(1, int(np.ceil(seconds * SLOWEST_BPM / 60))), int(seconds * FASTEST_BPM / 60)
    if seconds < 6:
        counts = set(range(least, most + 1))
    else:
        tempi = {len(beats) - 1: (len(beats) - 1) / (beats[-1] - beats[0]) for beats in followed}.values()
        counts = {round(seconds * tempo) for tempo in tempi if abs(seconds * tempo - round(seconds * tempo)) < 0.3}
    fitting = [count for count in counts if least <= count <= min(most, LONGEST_LOOP_BEATS)]
    return sorted(fitting, key=lambda count: -events.alignment(np.linspace(0, seconds, count + 1)))[:10]


def find_beats(onsets: Onsets, beats_per_bar: int = 4) -> Beats:
    """Beats of a sound of which nothing is known.

    Args:
        onsets: its onset envelope.
        beats_per_bar: how many make a bar.
    """
    events = Events(onsets)
    if not events.clear or len(events.times) < FEWEST_EVENTS:
        # A drone, a wash of noise or silence: only the length remains as evidence.
        loop = as_loop(onsets, beats_per_bar)
        return loop if loop is not None else _without_beats(onsets)
    ways = counted(onsets, beats_per_bar)
    if not ways:
        return _without_beats(onsets)
    each = [(way, int(phase)) for way in ways for phase in way.phases]
    tempi = np.array([way.tempo_bpm for way, _ in each])
    share = shares(np.concatenate([way.rows for way in ways]), np.array([usual(tempo) for tempo in tempi]))
    # The masses of ways that agree on the tempo are added.
    together = np.abs(np.log2(tempi[:, None] / tempi)) < SAME_TEMPO_OCTAVES
    masses = together @ share
    octaves = _octaves(events.pulse_bpm) if events.pulse_bpm is not None else []
    if len(octaves) > 1:
        of_pulse = (np.abs(np.log2(tempi[:, None] / octaves)) < SAME_TEMPO_OCTAVES).any(axis=1)
        masses = np.where(of_pulse, masses, 0.0) if of_pulse.any() else masses
    best = int(np.argmax(masses))
    confidence = stated(float(masses[best]))
    others = _tempo_candidates(tempi, masses, together, confidence)
    way, phase = each[int(np.argmax(np.where(together[best], share, 0.0)))]
    if len(octaves) > 1:
        first = min(octaves, key=lambda tempo: abs(np.log2(tempo / way.tempo_bpm)))
        others = (first, *(tempo for tempo in octaves if tempo != first))
        confidence = min(confidence, 1 / len(octaves))
    even = _loop_like(way, phase, ways, events, beats_per_bar)
    if even is not None:
        return Beats(even.beats, int(even.phases[0]), even.tempo_bpm, confidence, True, (even.tempo_bpm, *others[1:]))
    if way.exact:
        # Some even grid is near to every recording; what follows the onsets more nearly is right.
        near = [number for number, (one, _) in enumerate(each) if together[best][number] and not one.exact]
        way, phase = each[max(near, key=lambda number: share[number])] if near else (way, phase)
    if way.exact:
        return Beats(way.beats, phase, way.tempo_bpm, confidence, True, others)
    times, downbeat = whole_bars(events, way.beats, phase, beats_per_bar, onsets.seconds)
    return Beats(times, downbeat, way.tempo_bpm, confidence, False, others)


def _octaves(pulse_bpm: float) -> list[float]:
    """The tempi at which strokes that are all alike may be counted: one, two or four to a beat, or one to two beats."""
    low, high = USUAL_BPM_RANGE
    return [pulse_bpm * factor for factor in (1.0, 0.5, 0.25, 2.0) if low <= pulse_bpm * factor <= high]


def _loop_like(way: Way, phase: int, ways: list[Way], events: Events, beats_per_bar: int) -> Way | None:
    """The even grid of the sound's length whose bar lines are those of a way, or None."""
    lines = way.beats[phase::beats_per_bar]
    struck, bar = events.times[events.loudness > QUIET], 60 * beats_per_bar / way.tempo_bpm
    if not len(struck) or struck[0] > bar / 2 or events.seconds - struck[-1] > (1 - LAST_STROKE) * bar:
        # Silence before it, or after a last stroke: a recording, whatever its length.
        return None
    for one in ways:
        if not one.exact or abs(np.log2(one.tempo_bpm / way.tempo_bpm)) > SAME_TEMPO_OCTAVES:
            continue
        for at in one.phases:
            grid = one.beats[at::beats_per_bar]
            near = max(float(np.abs(grid - line).min()) for line in lines)
            if near < LOOP_SECONDS and NEARER * events.distance(one.beats) <= events.distance(way.beats):
                return one._replace(phases=np.array([at]))
    return None


def _tempo_candidates(
    tempi: Float[np.ndarray, "ways"],
    masses: Float[np.ndarray, "ways"],
    together: Bool[np.ndarray, "ways ways"],
    confidence: float,
) -> tuple[float, ...]:
    """Tempi that are likely enough to be named, the likeliest first; always two where that one is in doubt."""
    chosen: list[float] = []
    left = masses.copy()
    while left.max(initial=0.0) > 0:
        at = int(np.argmax(left))
        if chosen and left[at] < LEAST_SHARE and not (len(chosen) == 1 and confidence < DOUBTFUL):
            break
        chosen.append(float(tempi[at]))
        left = np.where(together[at], 0.0, left)
    return tuple(chosen)


def _without_beats(onsets: Onsets) -> Beats:
    """Beats at the usual tempo over the length of the sound, with confidence 0: none were found."""
    period = 60 / USUAL_BPM
    count = int(onsets.seconds / period)
    return Beats(np.arange(count + 1) * period, 0, USUAL_BPM, 0.0, False)


def as_loop(onsets: Onsets, beats_per_bar: int = 4) -> Beats | None:
    """Beats of a sound without onsets taken as a loop: the likeliest number of beats by its length and its bars.

    None where it is longer than loops are, or shorter than a beat.
    """
    seconds = onsets.seconds
    least = max(1, int(np.ceil(seconds * SLOWEST_BPM / 60)))
    most = int(seconds * FASTEST_BPM / 60)
    if not least <= most or least > LONGEST_LOOP_BEATS:
        return None
    events = Events(onsets)
    counts = np.arange(least, min(most, LONGEST_LOOP_BEATS) + 1)
    grids = [np.linspace(0, seconds, count + 1) for count in counts]
    scores = np.array([_length_prior(len(grid) - 1, beats_per_bar) for grid in grids])
    scores += [events.scores(grid, beats_per_bar)[0] for grid in grids]
    share = np.exp(scores - scores.max())
    share /= share.sum()
    best = int(np.argmax(share))
    tempi = 60 * counts / seconds
    named = tuple(float(tempi[at]) for at in np.argsort(-share)[:2])
    return Beats(grids[best], 0, float(tempi[best]), min(UNHEARD, float(share[best])), True, named)


def _length_prior(count: int, beats_per_bar: int) -> float:
    """Loops are cut to one, two, four or eight bars; three and six are rarer, part of a bar too."""
    bars, rest = divmod(count, beats_per_bar)
    if rest:
        if beats_per_bar % count == 0 and count > 1:
            return -0.5
        return -1.5 if count == 1 else -3.0
    odd = bars >> ((bars & -bars).bit_length() - 1)
    return {1: 0.0, 3: -1.2}.get(odd, -2.2)
