"""Simulate ratings from effects of listeners, clips and chance with known spreads, to rehearse an analysis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from jaxtyping import Float

from tonemill.audiotools.comparison.study_power import Spread

OWN: Final = 0.5
"""Standard deviation, in points, of how high a listener rates everything; it cancels in differences."""

ROUNDING: Final = 1 / 12
"""Variance that rounding to whole points adds; `Spread.rest` includes it."""


def simulated(
    rng: np.random.Generator,
    centres: Sequence[float],
    listeners: int,
    clips: int,
    spread: Spread,
    levels: int = 5,
    matched: bool = False,
) -> Float[np.ndarray, "systems listeners clips"]:
    """Answers to one question: a system's centre, effects of listener, listener x system, clip and chance, rounded.

    Args:
        rng: decides all of it.
        centres: of each system, in points, before rounding.
        listeners, clips: how many.
        spread: standard deviations.
        levels: of the scale, which ends at 1 and there.
        matched: the clips of all systems share their sources; `spread.shared` is what they differ by.
    """
    systems = len(centres)
    own = OWN * rng.standard_normal((1, listeners, 1))
    taste = spread.listener * rng.standard_normal((systems, listeners, 1))
    clip = (spread.shared if matched else spread.clip) * rng.standard_normal((systems, 1, clips))
    if matched:
        clip = clip + np.sqrt(max(0.0, spread.clip**2 - spread.shared**2)) * rng.standard_normal((1, 1, clips))
    rest = np.sqrt(max(0.0, spread.rest**2 - ROUNDING)) * rng.standard_normal((systems, listeners, clips))
    latent = np.asarray(centres, np.float64)[:, None, None] + own + taste + clip + rest
    return np.clip(np.rint(latent), 1, levels)


def expected_mean(centre: float, spread: Spread, levels: int = 5) -> float:
    """The expected mean of a system's answers, with the ends of the scale: the truth that intervals must contain."""
    from scipy.stats import norm

    clip = max(spread.clip, spread.shared)
    total = np.sqrt(OWN**2 + spread.listener**2 + clip**2 + max(0.0, spread.rest**2 - ROUNDING))
    # E of a whole number from 1 to n is 1 + the sum of P(it is k or more) from 2 to n.
    return 1 + float(norm.sf((np.arange(2, levels + 1) - 0.5 - centre) / total).sum())
