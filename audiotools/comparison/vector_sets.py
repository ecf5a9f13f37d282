"""How far two sets of vectors lie apart: Fréchet and kernel distance, precision and recall, nearest neighbours, bins.

A vector is what a network makes of a clip. Sets are (clips, dimensions). Everything is computed in float64, but for the
search of neighbours: that is done in float32, and the distances of those found are computed anew.
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

MOST_BINS: Final = 100
CLIPS_PER_BIN: Final = 10
SIGNIFICANT_Z: Final = 1.959963984540054
LARGE: Final = 512
"""From so many dimensions on, one distance takes a second, and the jackknife makes do with fewer groups."""

ROUNDING: Final = 4e-6
"""Squared distances below this share of a squared length are within the error of float32."""

Vectors = Float[np.ndarray, "_ dimensions"]
Groups = Int[np.ndarray, "_"]
KernelSums = tuple[Float64[np.ndarray, "_ _"], Float64[np.ndarray, "_ _"]]


def frechet(a: Vectors, b: Vectors) -> float:
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) of two sets (Heusel et al., 2017, https://arxiv.org/abs/1706.08500).

    Covariances are those with n - 1. It is biased upwards, the more the fewer clips: hold it against a distance of as
    many real ones. With fewer clips than dimensions it says little.

    Raises:
        ValueError: a set has fewer than two vectors.
    """
    return _frechet(_moments(a), _moments(b))


def frechet_interval(a: Vectors, b: Vectors, groups_a: Groups, groups_b: Groups) -> Interval:
    """The Fréchet distance with a jackknife interval over groups of clips."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    if a.shape[1] >= LARGE:
        groups_a, groups_b = groups_a % 5, groups_b % 5
    whole_a, whole_b = _moments(a), _moments(b)

    def statistic(kept_a: Bool[np.ndarray, "_"], kept_b: Bool[np.ndarray, "_"]) -> float:
        return _frechet(
            whole_a if kept_a.all() else _moments(a[kept_a]), whole_b if kept_b.all() else _moments(b[kept_b])
        )

    return _bounded(confidence.jackknife(statistic, groups_a, groups_b), len(a))


@dataclass(frozen=True)
class _Moments:
    mean: Float64[np.ndarray, "dimensions"]
    covariance: Float64[np.ndarray, "dimensions dimensions"]


def _moments(vectors: Vectors) -> _Moments:
    if len(vectors) < 2:
        raise ValueError(f"a set of {len(vectors)} vectors has no covariance")
    return _Moments(vectors.mean(axis=0, dtype=np.float64), np.atleast_2d(np.cov(vectors, rowvar=False)))


def _frechet(a: _Moments, b: _Moments) -> float:
    # S1 S2 has the eigenvalues of R S2 R with R = S1^(1/2), which is symmetric: no complex square root is needed.
    values, vectors = np.linalg.eigh(a.covariance)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    crossed = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ b.covariance @ root), 0)).sum()
    apart = float(np.square(a.mean - b.mean).sum())
    return max(0.0, apart + float(np.trace(a.covariance) + np.trace(b.covariance) - 2 * crossed))


def kernel_distance(
    a: Vectors, b: Vectors, groups_a: Groups, groups_b: Groups, within_b: KernelSums | None = None
) -> Interval:
    """Unbiased squared maximum mean discrepancy with the kernel (x.y / dimensions + 1)^3.

    The kernel inception distance (Bińkowski et al., 2018, https://arxiv.org/abs/1801.01401, eq. 4). Sets of one
    distribution have 0 on average, so it may be negative, and its mean does not depend on how many clips there are.

    Args:
        within_b: `kernel_sums(b, b, groups_b, groups_b)`, where several sets are held against b.
    """
    aa, bb = kernel_sums(a, a, groups_a, groups_a), within_b or kernel_sums(b, b, groups_b, groups_b)
    ab = kernel_sums(a, b, groups_a, groups_b)

    def mean(sums: np.ndarray, pairs: np.ndarray) -> float:
        return float(sums.sum() / pairs.sum())

    within_a, inside_b, between = mean(*aa), mean(*bb), mean(*ab)
    value = within_a + inside_b - 2 * between
    if min(len(aa[0]), len(bb[0])) < 3:
        return Interval(value, count=len(a))
    # Each value without one group of a, and without one of b.
    without_a = _without(*aa, both=True) + inside_b - 2 * _without(*ab, both=False)
    without_b = _without(*bb, both=True) + within_a - 2 * _without(ab[0].T, ab[1].T, both=False)
    variance = sum(
        (len(left_out) - 1) / len(left_out) * float(np.square(left_out - left_out.mean()).sum())
        for left_out in (without_a, without_b)
    )
    half = confidence.Z95 * float(np.sqrt(variance))
    return Interval(value, value - half, value + half, len(a))


def _without(
    sums: Float64[np.ndarray, "_ _"], pairs: Float64[np.ndarray, "_ _"], both: bool
) -> Float64[np.ndarray, "_"]:
    """Means over all pairs but those of one group: of rows, or of rows and columns, which are one set then."""
    left = [t.sum() - t.sum(axis=1) - (t.sum(axis=0) - np.diag(t) if both else 0) for t in (sums, pairs)]
    return left[0] / left[1]


def kernel_sums(x: Vectors, y: Vectors, groups_x: Groups, groups_y: Groups) -> KernelSums:
    """The kernel's sum over all pairs of two groups, and how many pairs; if y is x, without a clip and itself."""
    same = x is y
    rows, columns = np.unique(groups_x, return_inverse=True)[1], np.unique(groups_y, return_inverse=True)[1]
    x, y = x.astype(np.float64), y.astype(np.float64)
    belongs = np.eye(columns.max() + 1)[columns]
    sums = np.zeros((rows.max() + 1, columns.max() + 1))
    for start in range(0, len(x), BLOCK):
        part = slice(start, start + BLOCK)
        line = x[part] @ y.T
        line /= x.shape[1]
        line += 1
        kernel = line * line  # `** 3` takes ten times as long
        kernel *= line
        if same:
            kernel[np.arange(len(kernel)), np.arange(start, start + len(kernel))] = 0
        np.add.at(sums, rows[part], kernel @ belongs)
    pairs = np.outer(np.bincount(rows), np.bincount(columns)).astype(np.float64)
    return sums, pairs - np.diag(np.bincount(rows)) if same else pairs


def reach(vectors: Vectors, neighbours: int = NEIGHBOURS) -> Float64[np.ndarray, "_"]:
    """How far from each the third nearest other one lies."""
    return nearest(vectors, vectors, min(neighbours, len(vectors) - 1))[0][:, -1]


def precision_and_recall(
    a: Vectors, b: Vectors, reach_a: Float64[np.ndarray, "_"], reach_b: Float64[np.ndarray, "_"]
) -> tuple[Interval, Interval]:
    """The share of a within the reach of b, and of b within that of a.

    Improved precision and recall (Kynkäänniemi et al., 2019, https://arxiv.org/abs/1904.06991): a set covers what lies
    as near to one of its clips as the third nearest other one. Intervals are Wilson's, for the reach as it is.
    """
    covered_a, covered_b = np.zeros(len(a), bool), np.zeros(len(b), bool)
    squares_a, squares_b = reach_a.astype(np.float32) ** 2, reach_b.astype(np.float32) ** 2
    for part, squares in _squares(a, b):
        covered_a[part] = (squares <= squares_b).any(axis=1)
        covered_b |= (squares <= squares_a[part, None]).any(axis=0)
    return confidence.share(int(covered_a.sum()), len(a)), confidence.share(int(covered_b.sum()), len(b))


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
