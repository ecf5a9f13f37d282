"""Compute the features that describe how well the onsets of a sound fit one way to count its beats and bars."""

from __future__ import annotations

from typing import Final

import numpy as np
from jaxtyping import Float

from tonemill.audiotools.rhythm.beat_grid import Events
from tonemill.audiotools.rhythm.drum_patterns import STEPS

BEATS_SEEN: Final = 4
"""Beats from a downbeat on that features cover: the beginning of a longer bar, or more than one shorter bar."""
_STEPS_SEEN: Final = STEPS * BEATS_SEEN
_TEMPO_CENTRES_BPM: Final = np.array([50.0, 60.0, 71.0, 84.0, 100.0, 119.0, 141.0, 168.0, 200.0, 238.0])
"""A quarter of an octave apart."""
CHANGES: Final = -2
"""Column of `described`: how much more the harmony changes at the downbeat than at other beats."""
COUNT: Final = 4 * _STEPS_SEEN + 2 * (_STEPS_SEEN + 1) + len(_TEMPO_CENTRES_BPM) + 15


def described(
    events: Events, beats: Float[np.ndarray, "beats"], beats_per_bar: int, fits_length: float
) -> Float[np.ndarray, "phases count"]:
    """Each way to count beats: a row for each beat that may begin the bar.

    Args:
        events: onsets of a sound.
        beats: seconds of its beats, the end of the last included; at least two.
        beats_per_bar: how many make a bar.
        fits_length: 0 for beats that follow the onsets; for a grid that the length of a loop suggests, how usual such
            a length is, as a log likelihood, plus 4.
    """
    position, period = events.position(beats)
    strokes, crowded = events.strokes(beats)
    count, bar = strokes.shape[1], STEPS * beats_per_bar
    numbers = np.arange(count) % bar
    repeats = np.maximum(np.bincount(numbers, minlength=bar), 1)
    folded = np.stack([np.bincount(numbers, drum, bar) / repeats for drum in strokes])
    bars = count / bar
    tempo_bpm = 60 * (len(beats) - 1) / (beats[-1] - beats[0])
    shared = [
        *np.exp(-0.5 * np.square(np.log2(tempo_bpm / _TEMPO_CENTRES_BPM) / 0.2)),
        *(events.near(position, period, parts) for parts in (1, 2, 3, 4, 6)),
        events.repetition(beats, beats_per_bar),
        events.repetition(beats, 1) if beats_per_bar > 1 else 0.0,
        events.repetition(beats, 2 * beats_per_bar),
        min(np.log2(max(bars, 0.25)) / 4, 1.5),
        min(crowded / max(bars, 0.25) / 8, 2.0),
        min(len(events.times) / count, 2.0),
        float(beats_per_bar == 3),
        fits_length / 4,
    ]
    changes = np.clip(events.changes(beats, beats_per_bar), -1, 3)
    hand = events.scores(beats, beats_per_bar) / 10
    edges = [_edge(position[at], period[at], bar) for at in (0, -1)] if len(position) else [None, None]
    rows = np.zeros((beats_per_bar, COUNT))
    seen = np.arange(_STEPS_SEEN)
    for beat in range(beats_per_bar):
        turned = folded[:, (seen + STEPS * beat) % bar]
        row = [*turned.ravel()]
        for edge in edges:
            hot = np.zeros(_STEPS_SEEN + 1)
            place = None if edge is None else (edge - STEPS * beat) % bar
            hot[_STEPS_SEEN if place is None or place >= _STEPS_SEEN else place] = 1
            row += [*hot]
        rows[beat] = [*row, *shared, changes[beat], hand[beat]]
    return rows


def _edge(position: float, period: float, bar: int) -> int | None:
    """The step of a bar on which an event falls, or None between two."""
    step = round(position * STEPS)
    return step % bar if abs(position - step / STEPS) * period < 0.03 else None
