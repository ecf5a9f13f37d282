"""Beats and bars of a sound whose tempo is stated: a grid of just that tempo, unless the onsets drift away from it."""

from __future__ import annotations

from typing import Final

import numpy as np
from jaxtyping import Float

from tonemill.audiotools.rhythm.beat_grid import NEARER, Beats, Events
from tonemill.audiotools.rhythm.beats import likeliest, way_of
from tonemill.audiotools.rhythm.onsets import Onsets
from tonemill.audiotools.rhythm.tracking import paths
from tonemill.audiotools.rhythm.whole_bars import EDGE_BEATS, whole_bars

LENGTH_SECONDS: Final = 0.001
"""A length this near to a whole number of beats at the stated tempo is taken as that number of beats."""
STEADY_SECONDS: Final = 0.020
"""Beats that deviate less from an even grid do not drift."""
SHORT_BARS: Final = 2
"""So few bars of a file that begins on a beat begin with it."""


def with_tempo(
    onsets: Onsets, tempo_bpm: float, beats_per_bar: int = 4, confidence: float = 1.0, rounding_bpm: float = 0.0
) -> Beats:
    """Beats of a sound whose tempo is known.

    Args:
        tempo_bpm: as it is stated.
        confidence: that it is right.
        rounding_bpm: how far it may be off, for it is rounded: 0.5 of "120" in a name. So far the length of a loop
            or its onsets correct it; 0 holds the grid to what is stated.
    """
    seconds, period = onsets.seconds, 60 / tempo_bpm
    whole = max(1, round(seconds / period))
    by_length = 60 * whole / seconds
    exact = Beats(np.linspace(0, seconds, whole + 1), 0, by_length, confidence, True, (by_length,))
    if abs(seconds - whole * period) <= LENGTH_SECONDS:
        return exact
    rounded = abs(by_length - tempo_bpm) <= rounding_bpm
    even = np.arange(int(seconds / period + EDGE_BEATS) + 1) * period
    events = Events(onsets)
    if not events.clear or len(even) < 2:
        return exact if rounded else _stated(even, 0, tempo_bpm, confidence)
    if rounded and events.distance(even) > NEARER * events.distance(exact.times):
        return exact
    followed = paths(onsets, events, beats_per_bar, tempo_bpm)
    grids = [_steadied(beats, period, seconds) for beats in followed]
    begins = min((events.distance(grid) for grid in grids), default=np.inf) > NEARER * events.distance(even)
    if begins:
        # It begins on a step of the grid: there the first sample is the first of a beat, or a part of one is a pick-up.
        parts = (0.0,) if len(even) - 1 <= SHORT_BARS * beats_per_bar else (0.0, 0.25, 0.5, 0.75)
        grids = [even + part * period for part in parts]
        grids = [grid[grid < seconds + EDGE_BEATS * period] for grid in grids]
    if len(even) - 1 <= SHORT_BARS * beats_per_bar and begins:
        return _stated(np.minimum(even, seconds), 0, tempo_bpm, confidence)
    way, phase = likeliest([way_of(events, grid, beats_per_bar) for grid in grids if len(grid) > 2])
    times, downbeat = whole_bars(events, way.beats, phase, beats_per_bar, seconds)
    return _stated(times, downbeat, tempo_bpm, confidence)


def _stated(times: Float[np.ndarray, "beats"], downbeat: int, tempo_bpm: float, confidence: float) -> Beats:
    return Beats(times, downbeat, tempo_bpm, confidence, False, (tempo_bpm,))


def _steadied(beats: Float[np.ndarray, "beats"], period: float, seconds: float) -> Float[np.ndarray, "grid"]:
    """Beats of just the stated length where those that were followed stay near such a grid, else as they are."""
    apart = beats - period * np.round((beats - beats[0]) / period)
    if np.abs(apart - np.median(apart)).max() > STEADY_SECONDS:
        return beats
    start = float(np.median(apart)) % period
    if period - start < EDGE_BEATS * period:
        start -= period
    grid = start + np.arange(int((seconds - start) / period + EDGE_BEATS) + 1) * period
    return np.clip(grid, 0, seconds)
