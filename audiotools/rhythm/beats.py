"""Tempo, beats and bars of a sound: a loop is taken as one, anything else is tracked.

Every tempo that makes a file a whole number of beats is scored by how its onsets lie on that grid, how alike its bars
are and how many, and how usual the tempo is. Where none fits, or beats that follow the onsets fit plainly better,
the sound is a recording and no loop.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from tonemill.audiotools.rhythm.beat_grid import FASTEST_BPM, SLOWEST_BPM, Beats, Events
from tonemill.audiotools.rhythm.onsets import Onsets
from tonemill.audiotools.rhythm.tracking import tracked

LONGEST_LOOP_BEATS: Final = 136
"""Beyond 32 bars and a little, one tempo or another always fits the length: that is no evidence any more."""


def find_beats(onsets: Onsets, beats_per_bar: int = 4) -> Beats:
    """Beats of a sound of which nothing is known.

    Args:
        onsets: its onset envelope.
        beats_per_bar: how many make a bar.
    """
    loop = as_loop(onsets, beats_per_bar)
    if loop is not None and onsets.seconds < 6:
        return loop
    free = tracked(onsets, beats_per_bar)
    events = Events(onsets)
    if loop is None or (events.clear and _better_tracked(events, loop, free, beats_per_bar)):
        return free
    return loop


def _better_tracked(events: Events, loop: Beats, free: Beats, beats_per_bar: int) -> bool:
    """Whether beats that follow the onsets explain them plainly better than the grid that the length suggests."""
    followed = events.scores(free.times, beats_per_bar).max() if len(free.times) > 2 else -99.0
    return bool(followed > events.scores(loop.times, beats_per_bar)[0] + 0.8)


def with_tempo(onsets: Onsets, tempo_bpm: float, beats_per_bar: int = 4, confidence: float = 1.0) -> Beats:
    """Beats of a sound whose tempo is known: an exact grid if its length is whole beats of it, else tracked near it."""
    count = onsets.seconds * tempo_bpm / 60
    whole = round(count)
    if whole >= 1 and abs(count - whole) <= min(0.2, 0.02 * count):
        # A tempo in a name is rounded and a length is not: the grid goes by the length.
        return Beats(np.linspace(0, onsets.seconds, whole + 1), 0, 60 * whole / onsets.seconds, confidence, True)
    found = tracked(onsets, beats_per_bar, tempo_bpm)
    return Beats(found.times, found.downbeat, tempo_bpm, confidence, False)


def as_loop(onsets: Onsets, beats_per_bar: int = 4) -> Beats | None:
    """Beats of a sound taken as a loop, or None where no whole number of beats fits its onsets."""
    seconds = onsets.seconds
    least = max(1, int(np.ceil(seconds * SLOWEST_BPM / 60)))
    most = int(seconds * FASTEST_BPM / 60)
    if not least <= most or least > LONGEST_LOOP_BEATS:
        return None
    events = Events(onsets)
    counts = list(range(least, min(most, LONGEST_LOOP_BEATS) + 1))
    grids = [np.linspace(0, seconds, count + 1) for count in counts]
    scores = np.array([_length_prior(len(grid) - 1, beats_per_bar) for grid in grids])
    # A file of whole bars begins with one; any other may begin with a pick-up.
    whole = [slice(0, 1 if count % beats_per_bar == 0 else None) for count in counts]
    scores += [events.scores(grid, beats_per_bar)[part].max() for grid, part in zip(grids, whole, strict=True)]
    best = int(np.argmax(scores))
    grid, count = grids[best], counts[best]
    alignment = events.alignment(grid)
    if events.clear and alignment < min(0.45, 0.2 + 0.25 * count / 16):
        return None
    confidence = float(1 / np.exp(scores - scores[best]).sum()) * (0.6 + 0.4 * float(np.clip(alignment, 0, 1)))
    downbeat = events.downbeat(grid, beats_per_bar) if count % beats_per_bar else 0
    return Beats(grid, downbeat, 60 * count / seconds, confidence, True)


def _length_prior(count: int, beats_per_bar: int) -> float:
    """Loops are cut to one, two, four or eight bars; three and six are rarer, part of a bar too."""
    bars, rest = divmod(count, beats_per_bar)
    if rest:
        if beats_per_bar % count == 0 and count > 1:
            return -0.5
        return -1.5 if count == 1 else -3.0
    odd = bars >> ((bars & -bars).bit_length() - 1)
    return {1: 0.0, 3: -1.2}.get(odd, -2.2)
