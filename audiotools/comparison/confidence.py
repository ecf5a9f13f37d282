"""How certain a measured number is: intervals of shares, of means, and of anything computed from a set of clips."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Bool, Float, Int

Z95: Final = 1.959963984540054
"""95 % of a normal distribution is within so many standard deviations of its mean."""

GROUPS: Final = 20
"""Into how many parts the jackknife divides a set."""


@dataclass(frozen=True)
class Interval:
    """A number and its 95 % confidence interval.

    Args:
        value: as measured; None where it cannot be.
        low, high: None where nothing is known.
        count: clips it was computed from.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    count: int = 0


def share(hits: int, count: int) -> Interval:
    """Hits of so many, with Wilson's interval (1927), which holds near 0 and 1 too."""
    if not count:
        return Interval(None)
    p, z2 = hits / count, Z95**2
    middle = (p + z2 / (2 * count)) / (1 + z2 / count)
    half = Z95 * math.sqrt(p * (1 - p) / count + z2 / (4 * count**2)) / (1 + z2 / count)
    low, high = middle - half, middle + half
    return Interval(p, max(0.0, low) if hits else 0.0, min(1.0, high) if hits < count else 1.0, count)


def mean(values: Float[np.ndarray, "clips"], groups: Int[np.ndarray, "clips"] | None = None) -> Interval:
    """The mean, with Student's interval over clips, or over groups of clips that are not independent.

    NaN stands for a clip of which nothing is known, and is left out. For groups, the variance is that of a ratio of
    sums (Cochran, Sampling Techniques, 1977, eq. 9A.8), so that large and small ones count by their size.
    """
    from scipy.stats import t

    known = np.isfinite(values)
    x = values[known].astype(np.float64)
    if not len(x):
        return Interval(None)
    centre = float(x.mean())
    which = np.arange(len(x)) if groups is None else np.unique(groups[known], return_inverse=True)[1]
    deviations = np.bincount(which, weights=x - centre)
    parts = len(deviations)
    if parts < 2:
        return Interval(centre, count=len(x))
    error = math.sqrt(parts / (parts - 1) * float(np.square(deviations).sum())) / len(x)
    half = float(t.ppf(0.975, parts - 1)) * error
    return Interval(centre, centre - half, centre + half, len(x))


def dealt(sources: Sequence[str], groups: int = GROUPS) -> Int[np.ndarray, "clips"]:
    """A group for each clip: clips of one source share it, and groups are about equally large."""
    order: dict[str, int] = {}
    return np.array([order.setdefault(source, len(order)) for source in sources], dtype=np.int64) % max(
        2, min(groups, len(set(sources)))
    )


def jackknife(
    statistic: Callable[..., float], *sets: Int[np.ndarray, "_"], value: float | None = None
) -> tuple[float, float | None, float | None]:
    """A statistic of one or more independent sets, and its 95 % interval by the delete-a-group jackknife.

    A bootstrap would not do: clips drawn twice make a set look less varied than it is, which moves Fréchet distances
    and nearest neighbours by more than their error. Variances of the sets add up (Shao and Tu, The Jackknife and
    Bootstrap, 1995, section 2.3).

    Args:
        statistic: takes, for each set, a mask of the clips that stay.
        sets: for each, the group of every clip.
        value: of all clips, where it is known.

    Returns:
        value, low, high; the last two None where a set has one group only, or without one has fewer than two clips.
    """
    whole = [np.ones(len(groups), bool) for groups in sets]
    value = statistic(*whole) if value is None else value
    variance = 0.0
    for place, groups in enumerate(sets):
        numbers = np.unique(groups)
        if len(numbers) < 2 or len(groups) - np.unique(groups, return_counts=True)[1].max() < 2:
            return value, None, None
        left_out = []
        for number in numbers:
            masks: list[Bool[np.ndarray, "_"]] = list(whole)
            masks[place] = groups != number
            left_out.append(statistic(*masks))
        spread = np.array(left_out)
        variance += (len(numbers) - 1) / len(numbers) * float(np.square(spread - spread.mean()).sum())
    half = Z95 * math.sqrt(variance)
    return value, value - half, value + half
