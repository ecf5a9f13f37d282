"""Tests that assume no distribution of the ratings: Holm's correction, sign flips, Friedman, rank correlation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from jaxtyping import Float

from tonemill.audiotools.comparison.confidence import Interval

EXACT: Final = 16
"""With so many listeners or fewer all sign flips are counted, else `FLIPS` of them are drawn."""

FLIPS: Final = 50_000


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjusted p-values: those below 0.05 are wrong in any place in at most 5 % of families (Holm, 1979).

    Args:
        p_values: of one family; None where nothing could be tested, which is no part of it.
    """
    known = sorted((p, number) for number, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    least = 0.0
    for rank, (p, number) in enumerate(known):
        least = max(least, min(1.0, p * (len(known) - rank)))
        adjusted[number] = least
    return adjusted


def sign_flips(differences: Float[np.ndarray, "listeners"], seed: int = 0) -> float | None:
    """The p-value of no difference for these very clips, from flips of the signs of each listener's mean difference.

    Clips count as fixed: for other clips it shows nothing (Fisher, 1935, The Design of Experiments, section 21).
    """
    known = differences[np.isfinite(differences)]
    if len(known) < 2:
        return None
    if len(known) <= EXACT:
        numbers = np.arange(1 << len(known))
        signs = 1.0 - 2.0 * ((numbers[:, None] >> np.arange(len(known))) & 1)
        extra = 0
    else:
        signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(FLIPS, len(known)))
        extra = 1
    sums = np.abs(signs @ known)
    reached = int((sums >= abs(float(known.sum())) * (1 - 1e-12)).sum())
    return (reached + extra) / (len(signs) + extra)


def friedman(means: Float[np.ndarray, "listeners systems"]) -> float | None:
    """The p-value of no difference between any systems, from each listener's ranking of them (Friedman, 1937).

    Returns:
        None with fewer than three systems or two listeners, or where each listener rates all systems alike.
    """
    from scipy.stats import chi2, rankdata

    table = means[np.isfinite(means).all(axis=1)]
    listeners, systems = table.shape
    if listeners < 2 or systems < 3:
        return None
    ranks = rankdata(table, axis=1)
    spread = float(np.square(ranks - (systems + 1) / 2).sum())
    if spread == 0:
        return None
    between = float(np.square(ranks.sum(axis=0) - listeners * (systems + 1) / 2).sum())
    return float(chi2.sf((systems - 1) * between / spread, systems - 1))


def superiority(one: Float[np.ndarray, "listeners _"], other: Float[np.ndarray, "listeners _"]) -> float | None:
    """How often a listener rates a clip of one system above a clip of the other; ties count half.

    McGraw and Wong (1992, Psychological Bulletin 111, 361-365), over all pairs of clips of each listener.
    """
    higher, pairs = 0.0, 0
    for a, b in zip(one, other, strict=True):
        a, b = a[np.isfinite(a)], b[np.isfinite(b)]
        signs = np.sign(a[:, None] - b[None, :])
        higher += float((signs + 1).sum()) / 2
        pairs += signs.size
    return higher / pairs if pairs else None


def rank_correlation(
    table: Float[np.ndarray, "listeners clips"], measure: Float[np.ndarray, "clips"], seed: int = 0, draws: int = 2_000
) -> Interval:
    """Spearman's correlation of a measure with the clips' mean ratings; the interval draws listeners and clips.

    Args:
        table: ratings; NaN where a listener did not rate a clip.
        measure: of each clip; clips without one (NaN) are left out.
        seed: of the draws.
        draws: how many; the interval is their middle 95 %.
    """
    from scipy.stats import rankdata

    known = np.isfinite(measure) & np.isfinite(table).any(axis=0)
    ratings, x = table[:, known], measure[known]
    rated, values = np.isfinite(ratings).astype(np.float64), np.nan_to_num(ratings)
    listeners, clips = ratings.shape
    if clips < 4 or np.ptp(x) == 0:
        return Interval(None, count=clips)

    def correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        a, b = (rankdata(one, axis=1) - (one.shape[1] + 1) / 2 for one in (a, b))
        with np.errstate(invalid="ignore", divide="ignore"):
            return (a * b).sum(axis=1) / np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))

    value = float(correlation((values.sum(axis=0) / rated.sum(axis=0))[None], x[None])[0])
    if not np.isfinite(value) or listeners < 2:
        return Interval(value if np.isfinite(value) else None, count=clips)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(listeners, np.full(listeners, 1 / listeners), size=draws).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = (weights @ values) / (weights @ rated)
    # A clip that none of the drawn listeners rated keeps its own mean.
    means = np.where(np.isfinite(means), means, values.sum(axis=0) / rated.sum(axis=0))
    drawn = rng.integers(clips, size=(draws, clips))
    found = correlation(np.take_along_axis(means, drawn, axis=1), x[drawn])
    low, high = np.quantile(found[np.isfinite(found)], [0.025, 0.975])
    return Interval(value, float(low), float(high), clips)
