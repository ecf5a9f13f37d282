"""The Fréchet distance of two sets of vectors, its interval, and what it would be with infinitely many clips."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int

from tonemill.audiotools.comparison import confidence
from tonemill.audiotools.comparison.confidence import Interval

LARGE: Final = 512
"""From so many dimensions on, one distance takes a second, and the jackknife makes do with fewer groups."""

Vectors = Float[np.ndarray, "_ dimensions"]
Groups = Int[np.ndarray, "_"]


class Distances(NamedTuple):
    """How far two sets are from each other.

    Args:
        measured: biased upwards, the more the fewer clips; never negative.
        extrapolated: to infinitely many clips; may be negative, as what has no bias is around 0.
    """

    measured: Interval
    extrapolated: Interval


@dataclass(frozen=True)
class Moments:
    """Mean and covariance (that with n - 1) of a set of vectors.

    Raises:
        ValueError: there are fewer than two.
    """

    mean: Float64[np.ndarray, "dimensions"]
    covariance: Float64[np.ndarray, "dimensions dimensions"]

    @classmethod
    def of(cls, vectors: Vectors) -> Moments:
        """Those of a set."""
        if len(vectors) < 2:
            raise ValueError(f"a covariance needs at least two vectors, and the set has {len(vectors)}")
        return cls(vectors.mean(axis=0, dtype=np.float64), np.atleast_2d(np.cov(vectors, rowvar=False)))

    @cached_property
    def root(self) -> Float64[np.ndarray, "dimensions dimensions"]:
        """The symmetric square root of the covariance."""
        values, vectors = np.linalg.eigh(self.covariance)
        return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


@dataclass(frozen=True)
class GroupedMoments:
    """A set of vectors as moments of the whole, and of the whole without each group."""

    whole: Moments
    without: tuple[Moments, ...]

    @classmethod
    def of(cls, vectors: Vectors, groups: Groups) -> GroupedMoments:
        """Those of a set, whose groups are left out one by one.

        A set without two groups, or that has less than two vectors without one of them, has no `without`.
        """
        x = vectors.astype(np.float64)
        whole = Moments.of(x)
        which = np.unique(groups % 5 if x.shape[1] >= LARGE else groups, return_inverse=True)[1]
        counts = np.bincount(which)
        if len(counts) < 2 or len(x) - counts.max() < 2:
            return cls(whole, ())
        # Around the mean of all, so that no difference of large squares is taken.
        x -= whole.mean
        every, without = x.T @ x, []
        for number, count in enumerate(counts):
            part = x[which == number]
            left, total = len(x) - count, -part.sum(axis=0)
            squares = every - part.T @ part - np.outer(total, total) / left
            without.append(Moments(whole.mean + total / left, squares / (left - 1)))
        return cls(whole, tuple(without))


def frechet(a: Moments, b: Moments) -> float:
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) of two sets (Heusel et al., 2017, https://arxiv.org/abs/1706.08500).

    It is biased upwards, the more the fewer clips: compare it with a distance of as many real clips. With fewer clips
    than dimensions it is mostly bias.
    """
    # S1 S2 has the eigenvalues of R S2 R with R = S1^(1/2), which is symmetric: no complex square root is needed.
    crossed = np.sqrt(np.maximum(np.linalg.eigvalsh(a.root @ b.covariance @ a.root), 0)).sum()
    apart = float(np.square(a.mean - b.mean).sum())
    return max(0.0, apart + float(np.trace(a.covariance) + np.trace(b.covariance) - 2 * crossed))


def distances(a: GroupedMoments, b: GroupedMoments, count: int) -> Distances:
    """The Fréchet distance with a jackknife interval over groups of clips, as measured and extrapolated.

    A distance of n clips is that of infinitely many plus a bias in proportion to 1 / n (Chong and Forsyth, 2020,
    https://arxiv.org/abs/1911.07023, who draw a line through distances of random subsets). Here the subsets are the
    sets without each group, and the line is Quenouille's (1956): of g groups, g times the whole less (g - 1) times the
    mean without one.

    Args:
        count: clips of a.
    """
    value = frechet(a.whole, b.whole)
    if not a.without or not b.without:
        return Distances(Interval(value, count=count), Interval(None))
    variance, unbiased = 0.0, value
    # The square root is that of the side that stays whole, and taken once.
    for whole, left in ((b.whole, a.without), (a.whole, b.without)):
        found = np.array([frechet(whole, one) for one in left])
        variance += (len(found) - 1) / len(found) * float(np.square(found - found.mean()).sum())
        unbiased += (len(found) - 1) * (value - float(found.mean()))
    half = confidence.Z95 * float(np.sqrt(variance))
    return Distances(
        Interval(value, max(0.0, value - half), value + half, count),
        Interval(unbiased, unbiased - half, unbiased + half, count),
    )
