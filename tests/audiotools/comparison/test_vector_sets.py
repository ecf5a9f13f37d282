"""Distances between sets of vectors are those of closed forms, and of scipy and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist, jensenshannon

from tonemill.audiotools.comparison import vector_sets


def normal(count: int, dimensions: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, dimensions))


def groups(count: int) -> np.ndarray:
    return np.arange(count) % 20


def test_neighbours_are_scipys_also_far_from_the_origin() -> None:
    x, y = normal(1100, 3, 0) + 1e4, normal(50, 3, 1) + 1e4
    distances, which = vector_sets.nearest(x, y, 2)
    wanted = cdist(x, y)
    # Squares are compared to six digits: of two that are as near to these, either is right.
    np.testing.assert_allclose(distances, np.sort(wanted, axis=1)[:, :2], atol=1e-4)
    np.testing.assert_allclose(np.take_along_axis(wanted, which[:, :1], 1)[:, 0], wanted.min(axis=1), atol=1e-4)
    own = cdist(x, x)
    np.fill_diagonal(own, np.inf)
    np.testing.assert_allclose(vector_sets.nearest(x, x)[0][:, 0], own.min(axis=1), atol=1e-4)


def covering(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Precision and recall, from plain arrays."""
    found = vector_sets.precision_and_recall(a, b, vector_sets.reach(a), vector_sets.reach(b))
    assert found[0].value is not None and found[1].value is not None
    return found[0].value, found[1].value


def test_precision_and_recall_are_their_definition() -> None:
    a, b = normal(1100, 3, 0), normal(300, 3, 1) + 0.5

    def covered(x: np.ndarray, by: np.ndarray) -> float:
        # Its third nearest other one is the fourth nearest, after itself.
        return float((cdist(x, by) <= np.sort(cdist(by, by), axis=1)[:, 3]).any(axis=1).mean())

    assert covering(a, b) == pytest.approx((covered(a, b), covered(b, a)), abs=1e-12)
    assert covering(a, a.copy()) == (1, 1)


def test_precision_and_recall_tell_wrong_from_narrow() -> None:
    real = normal(600, 3, 0)
    assert min(covering(normal(600, 3, 1), real)) > 0.9
    precision, recall = covering(0.1 * normal(600, 3, 2), real)
    assert precision > 0.95 and recall < 0.1
    assert covering(normal(600, 3, 3) + 50, real) == (0, 0)


def test_coverage_is_its_definition_and_known_for_one_distribution() -> None:
    a, b = normal(300, 3, 0), normal(1100, 3, 1) + 0.5
    reach = vector_sets.reach(b, vector_sets.COVERING)
    wanted = (cdist(b, a).min(axis=1) <= np.sort(cdist(b, b), axis=1)[:, 5]).mean()
    assert vector_sets.coverage(a, b, reach).value == pytest.approx(wanted, abs=1e-12)
    # Naeem et al., lemma 2: 1 - 1 / 2^5 where both sets are large and alike.
    found = [
        vector_sets.coverage(normal(400, 3, s), b, vector_sets.reach(b, 5)).value
        for s, b in ((seed, normal(400, 3, 100 + seed)) for seed in range(10))
    ]
    assert np.mean(found) == pytest.approx(1 - 1 / 32, abs=0.01)
    assert vector_sets.coverage(normal(300, 3, 2) + 50, b, reach).value == 0


def test_bins_of_one_distribution_agree_and_a_missing_mode_shows() -> None:
    middles = 20 * normal(10, 4, 0)
    real, same = (np.repeat(middles, 100, axis=0) + normal(1000, 4, seed) for seed in (1, 2))
    bins = vector_sets.make_bins(real)
    assert len(bins.counts) == 100 and bins.counts.sum() == 1000
    alike, collapsed = bins.deal(same), bins.deal(same[:500])
    assert vector_sets.different_bins(bins, alike).value <= 0.2
    assert vector_sets.divergence(bins, alike, groups(1000)).value < 0.08
    # Half of the modes are gone, so half of the mass is where the other has none: JS of p and (p in one half only).
    found = vector_sets.divergence(bins, collapsed, groups(500))
    assert found.value == pytest.approx(0.5 * np.log(4 / 3) + 0.25 * np.log(2) + 0.25 * np.log(2 / 3), abs=0.05)
    # K-means may cut the modes otherwise: some tenth more or less.
    assert vector_sets.different_bins(bins, collapsed).value > 0.4


def test_jensen_shannon_is_scipys() -> None:
    a, b = np.array([3, 0, 5, 2]), np.array([1, 4, 0, 5])
    assert vector_sets.jensen_shannon(a, b) == pytest.approx(jensenshannon(a / 10, b / 10) ** 2, rel=1e-12)
    assert vector_sets.jensen_shannon(np.array([1, 0]), np.array([0, 1])) == pytest.approx(np.log(2))
