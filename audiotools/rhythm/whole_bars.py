"""Which bars of a recording are whole: those with sound in them, not the silence around it nor a pick-up."""

from __future__ import annotations

from typing import Final

import numpy as np
from jaxtyping import Float

from tonemill.audiotools.rhythm.beat_grid import Events

EDGE_BEATS: Final = 0.12
"""A beat may begin so much before a sound, or end so much after it, and is still whole."""
PICKUP: Final = 0.2
"""A first bar whose first stroke comes later, as a share of the bar, is a pick-up."""
LAST_STROKE: Final = 0.2
"""A last bar in which nothing is struck after this share of it is the end of the one before."""
EARLY: Final = 0.03
"""A stroke so much earlier than a bar line, as a share of the bar, belongs to the bar that begins there."""
QUIET: Final = 0.03
"""Events softer than this share of the loud ones are noise, or what rings on."""


def whole_bars(
    events: Events, beats: Float[np.ndarray, "beats"], phase: int, beats_per_bar: int, seconds: float
) -> tuple[Float[np.ndarray, "all_beats"], int]:
    """Beats from the first that sounds to the end of the last whole bar, and which of them begins the first whole bar.

    Args:
        events: onsets of the sound.
        beats: seconds of those beats that were followed; at least two.
        phase: which of them begins a bar.
        beats_per_bar: how many make one.
        seconds: the length of the sound.
    """
    times, before = _completed(beats, seconds)
    downbeats = np.arange((phase + before) % beats_per_bar, len(times) - beats_per_bar, beats_per_bar)
    struck = events.times[events.loudness > QUIET]
    sounding = [at for at in downbeats if len(_places(struck, times[at], times[at + beats_per_bar]))]
    while sounding and _places(struck, times[sounding[0]], times[sounding[0] + beats_per_bar])[0] > PICKUP:
        del sounding[0]
    while sounding and _places(struck, times[sounding[-1]], times[sounding[-1] + beats_per_bar])[-1] < LAST_STROKE:
        del sounding[-1]
    first = int(np.searchsorted(times, struck[0] + 0.03) - 1) if len(struck) else 0
    first = min(max(first, 0), int(sounding[0])) if sounding else max(first, 0)
    if not sounding:
        last = int(np.searchsorted(times, struck[-1])) if len(struck) else first
        return times[first : min(last + 1, first + beats_per_bar)], 0
    return times[first : sounding[-1] + beats_per_bar + 1], int(sounding[0]) - first


def _places(struck: Float[np.ndarray, "events"], start: float, end: float) -> Float[np.ndarray, "inside"]:
    """Positions of events within a bar, from 0 to 1."""
    share = (struck - start) / (end - start)
    return share[(share >= -EARLY) & (share < 1 - EARLY)]


def _completed(times: Float[np.ndarray, "beats"], seconds: float) -> tuple[Float[np.ndarray, "all_beats"], int]:
    """Beats up to both ends of the sound, the end of the last included, and how many stand before the first."""
    first, last = (float(np.mean(part)) for part in (np.diff(times[:4]), np.diff(times[-4:])))
    before = np.arange(times[0] - first, -EDGE_BEATS * first, -first)[::-1]
    after = np.arange(times[-1] + last, seconds + EDGE_BEATS * last, last)
    return np.clip(np.concatenate([before, times, after]), 0, seconds), len(before)
