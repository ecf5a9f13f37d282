"""How two sets of vectors cover each other: precision, recall and coverage, nearest neighbours, bins.

A vector is what a network makes of a clip. Sets are (clips, dimensions). Neighbours are searched in float32; the
distances of those found are computed in float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int

from tonemill.audiotools.comparison import confidence
from tonemill.audiotools.comparison.confidence import Interval

BLOCK: Final = 1024
NEIGHBOURS: Final = 3
"""Kynkäänniemi et al. take the third."""

COVERING: Final = 5
"""Naeem et al. take the fifth."""

MOST_BINS: Final = 100
CLIPS_PER_BIN: Final = 10
SIGNIFICANT_Z: Final = 1.959963984540054
ROUNDING: Final = 4e-6
"""Squared distances below this share of a squared length are within the error of float32."""

Vectors = Float[np.ndarray, "_ dimensions"]
Groups = Int[np.ndarray, "_"]


def reach(vectors: Vectors, neighbours: int = NEIGHBOURS) -> Float64[np.ndarray, "_"]:
    """The distance from each to its third nearest other one, or as many as there are."""
    return nearest(vectors, vectors, min(neighbours, len(vectors) - 1))[0][:, -1]


def precision_and_recall(
    a: Vectors, b: Vectors, reach_a: Float64[np.ndarray, "_"], reach_b: Float64[np.ndarray, "_"]
) -> tuple[Interval, Interval]:
    """The share of a within the reach of b, and of b within that of a.

    Improved precision and recall (Kynkäänniemi et al., 2019, https://arxiv.org/abs/1904.06991): a set covers the ball
    around each of its clips up to the third nearest other one. Intervals are Wilson's, with the reach taken as fixed.
    """
    covered_a, covered_b = np.zeros(len(a), bool), np.zeros(len(b), bool)
    squares_a, squares_b = reach_a.astype(np.float32) ** 2, reach_b.astype(np.float32) ** 2
    for part, squares in _squares(a, b):
        covered_a[part] = (squares <= squares_b).any(axis=1)
        covered_b |= (squares <= squares_a[part, None]).any(axis=0)
    return confidence.share(int(covered_a.sum()), len(a)), confidence.share(int(covered_b.sum()), len(b))


def coverage(a: Vectors, b: Vectors, reach_b: Float64[np.ndarray, "_"]) -> Interval:
    """The share of b that has a clip of a within its reach (Naeem et al., 2020, https://arxiv.org/abs/2002.09797).

    Reach is measured among the real clips b alone, so an odd generated clip covers no more than its own place. Of one
    distribution, sets of n clips each have 1 - 1 / 2^5 on average, up to terms of 1 / n.

    Args:
        reach_b: `reach(b, COVERING)`.
    """
    distances = nearest(b, a)[0][:, 0]
    return confidence.share(int((distances <= reach_b).sum()), len(b))


def nearest(
    queries: Vectors, others: Vectors, count: int = 1
) -> tuple[Float64[np.ndarray, "queries count"], Int[np.ndarray, "queries count"]]:
    """Euclidean distances to so many nearest others, the nearest first, and which those are.

    If `others` is `queries`, a vector is not its own neighbour.
    """
    distances, which = np.zeros((len(queries), count)), np.zeros((len(queries), count), np.int64)
    for part, squares in _squares(queries, others):
        if queries is others:
            squares[np.arange(len(squares)), np.arange(part.start, part.start + len(squares))] = np.inf
        found = squares.argmin(axis=1)[:, None] if count == 1 else np.argpartition(squares, count - 1)[:, :count]
        exact = np.linalg.norm(queries[part, None].astype(np.float64) - others[found], axis=2)
        order = np.argsort(exact, axis=1, kind="stable")
        which[part], distances[part] = np.take_along_axis(found, order, 1), np.take_along_axis(exact, order, 1)
    return distances, which


def _squares(queries: Vectors, others: Vectors) -> Iterator[tuple[slice, Float32[np.ndarray, "_ _"]]]:
    """Squared distances of a block of queries to all others, to about six digits of the larger length."""
    # Far from the origin a difference of large products would lose what makes two clips alike.
    middle = others.mean(axis=0, dtype=np.float64)
    queries, others = (queries - middle).astype(np.float32), (others - middle).astype(np.float32)
    lengths = np.square(others).sum(axis=1)
    for start in range(0, len(queries), BLOCK):
        part = slice(start, start + BLOCK)
        block = queries[part]
        own = np.square(block).sum(axis=1)[:, None]
        squares = block @ others.T
        squares *= -2
        squares += lengths
        squares += own
        # What rounding alone could make of equal vectors is no distance.
        squares[squares < ROUNDING * own] = 0
        yield part, squares


@dataclass(frozen=True)
class Bins:
    """A set dealt to the cells of its k-means (Richardson and Weiss, 2018, https://arxiv.org/abs/1805.12462).

    Args:
        centres: of the cells.
        counts: clips of the set in each.
    """

    centres: Float64[np.ndarray, "bins dimensions"]
    counts: Int[np.ndarray, "bins"]

    def deal(self, vectors: Vectors) -> Int[np.ndarray, "_"]:
        """The cell of each vector."""
        return nearest(vectors, self.centres)[1][:, 0]


def make_bins(vectors: Vectors, seed: int = 0) -> Bins:
    """Up to 100 cells, and at least ten clips for each on average."""
    from sklearn.cluster import KMeans

    bins = max(2, min(MOST_BINS, len(vectors) // CLIPS_PER_BIN))
    bins = min(bins, len(np.unique(vectors, axis=0)))
    found = KMeans(bins, n_init=1, max_iter=100, random_state=seed).fit(vectors.astype(np.float64))
    return Bins(found.cluster_centers_, np.bincount(found.labels_, minlength=bins))


def divergence(bins: Bins, cells: Int[np.ndarray, "_"], groups: Groups) -> Interval:
    """Jensen-Shannon divergence between how two sets fill the cells, in nats: from 0 to ln 2."""

    def statistic(kept: Bool[np.ndarray, "_"]) -> float:
        return jensen_shannon(np.bincount(cells[kept], minlength=len(bins.counts)), bins.counts)

    return _bounded(confidence.jackknife(statistic, groups), len(cells))


def jensen_shannon(a: Int[np.ndarray, "bins"], b: Int[np.ndarray, "bins"]) -> float:
    """Of two histograms, in nats."""
    p, q = a / a.sum(), b / b.sum()
    middle = (p + q) / 2
    parts = [np.sum(x[x > 0] * np.log(x[x > 0] / middle[x > 0])) / 2 for x in (p, q)]
    return float(parts[0] + parts[1])


def different_bins(bins: Bins, cells: Int[np.ndarray, "_"]) -> Interval:
    """NDB/K: the share of cells that two sets fill differently, by a two-proportion z-test at 5 %.

    Of one distribution about 5 % are. Wilson's interval, over the cells.
    """
    counts = np.bincount(cells, minlength=len(bins.counts))
    p, q = counts / counts.sum(), bins.counts / bins.counts.sum()
    pooled = (counts + bins.counts) / (counts.sum() + bins.counts.sum())
    error = np.sqrt(pooled * (1 - pooled) * (1 / counts.sum() + 1 / bins.counts.sum()))
    different = np.abs(p - q) > SIGNIFICANT_Z * error
    return confidence.share(int(different.sum()), len(counts))


def _bounded(found: tuple[float, float | None, float | None], count: int) -> Interval:
    """An interval of what cannot be negative."""
    value, low, high = found
    return Interval(value, None if low is None else max(0.0, low), high, count)
