"""Compute the likelihood of kick, snare and hi-hat strokes for a given position of the bars.

A bar has four steps per beat. For each drum there are a few ways of playing, each a probability of a stroke per step (a
snare on the second and fourth beat, say, or once in the middle); strokes on the steps are taken as independent
given these. That settles what a grid alone leaves open: tempi in an octave, and which beat is the first.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np
from jaxtyping import Float

STEPS: Final = 4
"""Per beat."""

INDEPENDENT_SECONDS: Final = 4.0
"""A rhythm repeats, so a longer sound counts as this many seconds of independent strokes."""

UNEXPLAINED: Final = 0.05
"""The chance of a stroke between steps: on a grid too coarse there are many."""


def groove(
    strokes: Float[np.ndarray, "drums steps"], beats_per_bar: int, seconds: float, crowded: float = 0.0
) -> Float[np.ndarray, "beats"]:
    """The log likelihood of strokes, for each beat that may begin the bar.

    Args:
        strokes: of kick, snare and hi-hat, from 0 to 1, per step of a bar, the mean of all bars; step 0 on a beat.
        beats_per_bar: how many; there are four times as many steps.
        seconds: of a bar.
        crowded: strokes of a bar that fall on a step which another of their drum has taken.
    """
    found = np.full(beats_per_bar, crowded * np.log(UNEXPLAINED) * INDEPENDENT_SECONDS / seconds)
    for drum, ways in enumerate(_ways(beats_per_bar)):
        for beat in range(beats_per_bar):
            turned = np.roll(strokes[drum], -STEPS * beat)
            each = turned @ np.log(ways.steps).T + (1 - turned) @ np.log1p(-ways.steps).T
            found[beat] += np.logaddexp.reduce(np.log(ways.shares) + each * (INDEPENDENT_SECONDS / seconds))
    return found


class _Ways:
    """Ways to play a drum: how usual each is, and its strokes."""

    def __init__(self, steps: int, *ways: tuple[float, float, dict[int, float]]) -> None:
        self.shares = np.array([share for share, _, _ in ways])
        self.steps = np.stack([np.full(steps, rest) for _, rest, _ in ways])
        for row, (_, _, strokes) in zip(self.steps, ways, strict=True):
            for step, probability in strokes.items():
                row[step] = probability


@cache
def _ways(beats_per_bar: int) -> tuple[_Ways, _Ways, _Ways]:
    """Ways of playing of kick, snare and hi-hat, for bars of `beats_per_bar` beats."""
    steps = STEPS * beats_per_bar
    beats, halves = range(0, steps, STEPS), range(2, steps, STEPS)
    hat = _Ways(
        steps,
        (0.4, 0.12, {**dict.fromkeys(beats, 0.85), **dict.fromkeys(halves, 0.85)}),
        (0.15, 0.6, {**dict.fromkeys(beats, 0.9), **dict.fromkeys(halves, 0.9)}),
        (0.15, 0.12, dict.fromkeys(beats, 0.85)),
        (0.15, 0.12, dict.fromkeys(halves, 0.85)),
        (0.15, 0.08, {}),
    )
    if beats_per_bar == 4:
        syncopes = {2: 0.12, 3: 0.15, 4: 0.12, 6: 0.3, 7: 0.15, 10: 0.4, 11: 0.2, 12: 0.12, 14: 0.2, 15: 0.12}
        kick = _Ways(
            steps,
            (0.55, 0.06, {**syncopes, 0: 0.9, 8: 0.55}),
            (0.2, 0.06, dict.fromkeys(beats, 0.93)),
            (0.2, 0.05, {**syncopes, 0: 0.9, 8: 0.1}),
            (0.05, 0.05, {8: 0.9}),
        )
        snare = _Ways(
            steps,
            (0.6, 0.07, {4: 0.9, 12: 0.9, 7: 0.15, 9: 0.15, 14: 0.12, 15: 0.15}),
            (0.2, 0.06, {8: 0.9, 15: 0.1}),
            (0.15, 0.15, {3: 0.4, 4: 0.3, 6: 0.4, 11: 0.4, 12: 0.3, 14: 0.4, 0: 0.08}),
            (0.05, 0.08, dict.fromkeys(beats, 0.9)),
        )
        return kick, snare, hat
    weak = dict.fromkeys(list(beats)[1:], 0.85)
    kick = _Ways(
        steps,
        (0.75, 0.07, {**dict.fromkeys(beats, 0.15), **dict.fromkeys(halves, 0.2), 0: 0.92}),
        (0.25, 0.07, {**dict.fromkeys(beats, 0.5), **dict.fromkeys(halves, 0.2), 0: 0.9}),
    )
    middle = STEPS * (beats_per_bar // 2) if beats_per_bar % 2 == 0 else STEPS * (beats_per_bar - 1)
    snare = _Ways(
        steps,
        (0.4, 0.07, weak),
        (0.35, 0.07, {middle: 0.9}),
        (0.25, 0.12, {**dict.fromkeys(weak, 0.4), 0: 0.08}),
    )
    return kick, snare, hat
