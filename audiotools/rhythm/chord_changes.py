"""Measure on which beat of the bar the harmony changes: chords and bass notes change on downbeats most often.

Drums change the spectrum on every beat too, but alike in every bar. So the mean spectrum of each beat of the bar is
subtracted first, which leaves the differences from bar to bar.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from jaxtyping import Float

MANY_BARS: Final = 8
"""Number of bars from which the result has its full weight."""
FEWEST_BARS: Final = 4


def harmony_changes(
    tones: Float[np.ndarray, "bins frames"],
    hop_seconds: float,
    beats: Float[np.ndarray, "beats"],
    beats_per_bar: int,
) -> Float[np.ndarray, "phases"]:
    """How much more the harmony changes at each beat of the bar than at all: 0 on average, up to beats_per_bar - 1.

    Args:
        tones: a log spectrum of low and middle frequencies over time.
        hop_seconds: between its frames.
        beats: their times in seconds, the end of the last included.
        beats_per_bar: below 2 the result is zeros.
    """
    bars = (len(beats) - 1) / beats_per_bar
    edges = np.round(beats / hop_seconds).astype(int)
    inside = np.flatnonzero((edges >= 0) & (edges < tones.shape[1]))
    if bars < FEWEST_BARS or beats_per_bar < 2 or len(inside) <= FEWEST_BARS * beats_per_bar:
        return np.zeros(beats_per_bar)
    edges = edges[inside]
    lengths = np.diff(edges)
    if (lengths < 1).any():
        return np.zeros(beats_per_bar)
    each = np.add.reduceat(tones, edges, axis=1)[:, :-1] / lengths
    phase = inside[:-1] % beats_per_bar
    for place in range(beats_per_bar):
        each[:, phase == place] -= each[:, phase == place].mean(axis=1, keepdims=True)
    change = np.square(np.diff(each, axis=1)).sum(axis=0)
    if not change.sum() > 0:
        return np.zeros(beats_per_bar)
    mean = np.bincount(phase[1:], change, beats_per_bar) / np.bincount(phase[1:], minlength=beats_per_bar)
    return min(1.0, bars / MANY_BARS) * (mean / mean.mean() - 1)
