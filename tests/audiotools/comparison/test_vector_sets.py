"""Distances between sets of vectors are those of closed forms, and of scipy and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist, jensenshannon
from sklearn.metrics.pairwise import polynomial_kernel

from tonemill.audiotools.comparison import vector_sets


def normal(count: int, dimensions: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, dimensions))


def whitened(count: int, dimensions: int, seed: int) -> np.ndarray:
    """Vectors whose mean is exactly 0 and whose covariance is exactly 1."""
    x = normal(count, dimensions, seed)
    x -= x.mean(axis=0)
    return x @ np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False))).T


def groups(count: int) -> np.ndarray:
    return np.arange(count) % 20


def test_frechet_of_gaussians_has_its_closed_form() -> None:
    x, y = whitened(500, 6, 0), whitened(400, 6, 1)
    shift, scales = np.arange(6.0), np.array([1.0, 2.0, 0.5, 3.0, 1.0, 1.5])
    # Of diagonal covariances: |m1 - m2|^2 + sum (s1 - s2)^2.
    assert vector_sets.frechet(x, y * scales + shift) == pytest.approx(
        np.square(shift).sum() + np.square(1 - scales).sum(), rel=1e-9
    )
    assert vector_sets.frechet(x, x) == pytest.approx(0, abs=1e-9)


def test_frechet_of_any_covariances_is_scipys() -> None:
    rng = np.random.default_rng(2)
    x, y = normal(60, 8, 3) @ rng.standard_normal((8, 8)), normal(80, 8, 4) @ rng.standard_normal((8, 8)) + 1
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    wanted = np.square(x.mean(0) - y.mean(0)).sum() + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert vector_sets.frechet(x, y) == pytest.approx(wanted, rel=1e-8)
    assert vector_sets.frechet(y, x) == pytest.approx(wanted, rel=1e-8)


def test_frechet_with_fewer_clips_than_dimensions_is_finite() -> None:
    assert 0 < vector_sets.frechet(normal(10, 64, 0), normal(12, 64, 1)) < np.inf


def test_frechet_intervals_cover_what_the_error_is() -> None:
    shift = np.array([3.0, 0, 0, 0])
    found = [
        vector_sets.frechet_interval(
            normal(400, 4, seed), normal(400, 4, 1000 + seed) + shift, groups(400), groups(400)
        )
        for seed in range(60)
    ]
    # The mean of all is the expectation, bias included.
    expected = np.mean([one.value for one in found])
    covered = np.mean([one.low <= expected <= one.high for one in found])
    assert expected == pytest.approx(9, abs=0.15)
    assert 0.85 <= covered <= 1


def test_clips_of_one_source_widen_the_interval() -> None:
    x = np.repeat(normal(40, 4, 0), 10, axis=0) + 0.01 * normal(400, 4, 1)
    y = normal(400, 4, 2)
    alone = vector_sets.frechet_interval(x, y, groups(400), groups(400))
    together = vector_sets.frechet_interval(x, y, np.arange(400) // 10 % 20, groups(400))
    assert together.high - together.low > 1.5 * (alone.high - alone.low)


def test_the_kernel_distance_is_scikit_learns_and_unbiased() -> None:
    x, y = normal(30, 5, 0), normal(40, 5, 1) + 0.5

    def mean(kernel: np.ndarray) -> float:
        return float((kernel.sum() - np.trace(kernel)) / (len(kernel) * (len(kernel) - 1)))

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return polynomial_kernel(a, b, degree=3, gamma=1 / 5, coef0=1)

    wanted = mean(kernel(x, x)) + mean(kernel(y, y)) - 2 * kernel(x, y).mean()
    assert vector_sets.kernel_distance(x, y, groups(30), groups(40)).value == pytest.approx(wanted, rel=1e-9)
    same = [
        vector_sets.kernel_distance(normal(50, 5, s), normal(50, 5, 500 + s), groups(50), groups(50)) for s in range(80)
    ]
    values = np.array([one.value for one in same])
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(len(values))
    assert np.mean([one.low <= 0 <= one.high for one in same]) > 0.85


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


def test_bins_of_one_distribution_agree_and_a_missing_mode_shows() -> None:
    middles = 20 * normal(10, 4, 0)
    real, same = (np.repeat(middles, 100, axis=0) + normal(1000, 4, seed) for seed in (1, 2))
    bins = vector_sets.make_bins(real)
    assert len(bins.counts) == 100 and bins.counts.sum() == 1000
    alike, collapsed = bins.deal(same), bins.deal(same[:500])
    assert vector_sets.different_bins(bins, alike).value <= 0.2
    assert vector_sets.divergence(bins, alike, groups(1000)).value < 0.08
    # Half of the modes are gone, so half of the mass lies where the other has none: JS of p and (p in one half only).
    found = vector_sets.divergence(bins, collapsed, groups(500))
    assert found.value == pytest.approx(0.5 * np.log(4 / 3) + 0.25 * np.log(2) + 0.25 * np.log(2 / 3), abs=0.05)
    # K-means may cut the modes otherwise: some tenth more or less.
    assert vector_sets.different_bins(bins, collapsed).value > 0.4


def test_jensen_shannon_is_scipys() -> None:
    a, b = np.array([3, 0, 5, 2]), np.array([1, 4, 0, 5])
    assert vector_sets.jensen_shannon(a, b) == pytest.approx(jensenshannon(a / 10, b / 10) ** 2, rel=1e-12)
    assert vector_sets.jensen_shannon(np.array([1, 0]), np.array([0, 1])) == pytest.approx(np.log(2))
