"""The kernel distance of two sets of vectors: unbiased, with a Gaussian or a cubic kernel, and an interval.

Sets of one distribution have 0 on average, whatever their size, so a distance may be negative. Everything is computed
in float64, block by block.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float, Float64, Int

from tonemill.audiotools.comparison import confidence
from tonemill.audiotools.comparison.confidence import Interval

BLOCK: Final = 1024
SCALE: Final = 100.0
"""The published kernel audio distance is so many times the squared discrepancy."""

_BINS: Final = 1 << 16

Vectors = Float[np.ndarray, "_ dimensions"]
Groups = Int[np.ndarray, "_"]
Matrix = Float64[np.ndarray, "_ _"]


@dataclass(frozen=True)
class Gaussian:
    """exp(-|x - y|^2 / (2 bandwidth^2)), times 100: the kernel audio distance (Chung et al., 2025, arXiv:2502.15602).

    Args:
        bandwidth: the median distance between two vectors of the reference.
    """

    bandwidth: float

    def __call__(self, x: Matrix, y: Matrix, products: Matrix) -> Matrix:
        """The kernel of each x (rows) with each y (columns), given their inner products."""
        kernel = products * 2
        kernel -= np.square(x).sum(axis=1)[:, None]
        kernel -= np.square(y).sum(axis=1)
        np.minimum(kernel, 0, out=kernel)
        # Where all vectors of the reference are equal, equal ones have the kernel 1 and others 0.
        kernel /= 2 * max(self.bandwidth, np.finfo(np.float64).tiny ** 0.25) ** 2
        return np.exp(kernel, out=kernel) * SCALE


@dataclass(frozen=True)
class Cubic:
    """(x.y / dimensions + 1)^3: the kernel inception distance (Bińkowski et al., 2018, arXiv:1801.01401, eq. 4)."""

    def __call__(self, x: Matrix, y: Matrix, products: Matrix) -> Matrix:
        """The kernel of each x (rows) with each y (columns), given their inner products."""
        line = products / x.shape[1]
        line += 1
        return line * line * line  # `** 3` takes ten times as long


Kernel = Gaussian | Cubic


@dataclass(frozen=True)
class Sums:
    """A kernel over all pairs of clips of two sets, added up by their groups; within a set, no clip beside itself.

    Args:
        values: (groups of x, groups of y).
        pairs: how many are in each sum.
    """

    values: Matrix
    pairs: Matrix

    @property
    def mean(self) -> float:
        return float(self.values.sum() / self.pairs.sum())

    def without_rows(self) -> Float64[np.ndarray, "_"]:
        """The mean over the pairs that are left without each group of x."""
        return self._left(lambda t: t.sum(axis=1))

    def without_columns(self) -> Float64[np.ndarray, "_"]:
        """The mean over the pairs that are left without each group of y."""
        return self._left(lambda t: t.sum(axis=0))

    def without_both(self) -> Float64[np.ndarray, "_"]:
        """The mean without each group, where x and y are one set."""
        return self._left(lambda t: t.sum(axis=1) + t.sum(axis=0) - np.diag(t))

    def _left(self, taken) -> Float64[np.ndarray, "_"]:  # type: ignore[no-untyped-def]
        left = [t.sum() - taken(t) for t in (self.values, self.pairs)]
        return left[0] / left[1]


def sums(x: Vectors, y: Vectors, groups_x: Groups, groups_y: Groups, kernels: Sequence[Kernel]) -> list[Sums]:
    """The sums of each kernel over all pairs of two sets; within one set where y is x."""
    same = x is y
    rows, columns = np.unique(groups_x, return_inverse=True)[1], np.unique(groups_y, return_inverse=True)[1]
    belongs = np.eye(columns.max() + 1)[columns]
    values = [np.zeros((rows.max() + 1, columns.max() + 1)) for _ in kernels]
    x, y = x.astype(np.float64), y.astype(np.float64)
    for start in range(0, len(x), BLOCK):
        part = slice(start, start + BLOCK)
        products = x[part] @ y.T
        for kernel, total in zip(kernels, values, strict=True):
            found = kernel(x[part], y, products)
            if same:
                found[np.arange(len(found)), np.arange(start, start + len(found))] = 0
            np.add.at(total, rows[part], found @ belongs)
    pairs = np.outer(np.bincount(rows), np.bincount(columns)).astype(np.float64)
    if same:
        pairs -= np.diag(np.bincount(rows))
    return [Sums(total, pairs) for total in values]


def distance(within_a: Sums, within_b: Sums, between: Sums, count: int) -> Interval:
    """The unbiased squared maximum mean discrepancy (Gretton et al., 2012, lemma 6), with a jackknife interval.

    Args:
        within_a, within_b: of each set.
        between: of a (rows) and b (columns).
        count: clips of a.
    """
    value = within_a.mean + within_b.mean - 2 * between.mean
    if min(len(within_a.values), len(within_b.values)) < 3:
        return Interval(value, count=count)
    without_a = within_a.without_both() + within_b.mean - 2 * between.without_rows()
    without_b = within_b.without_both() + within_a.mean - 2 * between.without_columns()
    variance = sum(
        (len(left_out) - 1) / len(left_out) * float(np.square(left_out - left_out.mean()).sum())
        for left_out in (without_a, without_b)
    )
    half = confidence.Z95 * float(np.sqrt(variance))
    return Interval(value, value - half, value + half, count)


def median_distance(vectors: Vectors) -> float:
    """The median Euclidean distance between two different vectors of a set, exactly, in bounded memory.

    The lower of the middle two where their number is even. A first pass finds the bin of a histogram that holds it, a
    second one the value.

    Raises:
        ValueError: there are fewer than two vectors.
    """
    if len(vectors) < 2:
        raise ValueError(f"a distance needs at least two vectors, and the set has {len(vectors)}")
    x = vectors.astype(np.float64)
    x -= x.mean(axis=0)
    top = 4 * float(np.square(x).sum(axis=1).max())
    if top == 0:
        return 0.0
    wanted = (len(x) * (len(x) - 1) // 2 - 1) // 2
    counts = np.zeros(_BINS, np.int64)
    for squares in _squares(x):
        counts += np.bincount(_bin_of(squares, top), minlength=_BINS)
    bin_number = int(np.searchsorted(np.cumsum(counts), wanted, side="right"))
    before = int(counts[:bin_number].sum())
    inside = np.concatenate([squares[_bin_of(squares, top) == bin_number] for squares in _squares(x)])
    return float(np.sqrt(np.partition(inside, wanted - before)[wanted - before]))


def _bin_of(squares: Float64[np.ndarray, "_"], top: float) -> Int[np.ndarray, "_"]:
    return np.minimum((squares * (_BINS / top)).astype(np.int64), _BINS - 1)


def _squares(x: Matrix) -> Iterator[Float64[np.ndarray, "_"]]:
    """Squared distances of all pairs, each once, in blocks."""
    lengths = np.square(x).sum(axis=1)
    for start in range(0, len(x), BLOCK):
        block = x[start : start + BLOCK]
        rest = x[start:]
        squares = lengths[start : start + BLOCK, None] + lengths[start:] - 2 * (block @ rest.T)
        yield np.maximum(squares[np.triu_indices(len(block), 1, len(rest))], 0)
