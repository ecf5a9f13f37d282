"""The Fréchet distance is its closed form and scipy's, its intervals cover, and its extrapolation has no bias."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm

from tonemill.audiotools.comparison.frechet import Distances, GroupedMoments, Moments, distances, frechet


def normal(count: int, dimensions: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, dimensions))


def whitened(count: int, dimensions: int, seed: int) -> np.ndarray:
    """Vectors whose mean is exactly 0 and whose covariance is exactly 1."""
    x = normal(count, dimensions, seed)
    x -= x.mean(axis=0)
    return x @ np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False))).T


def between(x: np.ndarray, y: np.ndarray) -> float:
    return frechet(Moments.of(x), Moments.of(y))


def measured(x: np.ndarray, y: np.ndarray, groups: np.ndarray | None = None) -> Distances:
    a, b = (np.arange(len(z)) % 20 for z in (x, y))
    return distances(GroupedMoments.of(x, a if groups is None else groups), GroupedMoments.of(y, b), len(x))


def test_frechet_of_gaussians_has_its_closed_form() -> None:
    x, y = whitened(500, 6, 0), whitened(400, 6, 1)
    shift, scales = np.arange(6.0), np.array([1.0, 2.0, 0.5, 3.0, 1.0, 1.5])
    # Of diagonal covariances: |m1 - m2|^2 + sum (s1 - s2)^2.
    wanted = np.square(shift).sum() + np.square(1 - scales).sum()
    assert between(x, y * scales + shift) == pytest.approx(wanted, rel=1e-9)
    assert between(x, x) == pytest.approx(0, abs=1e-9)


def test_frechet_of_any_covariances_is_scipys() -> None:
    rng = np.random.default_rng(2)
    x, y = normal(60, 8, 3) @ rng.standard_normal((8, 8)), normal(80, 8, 4) @ rng.standard_normal((8, 8)) + 1
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    wanted = np.square(x.mean(0) - y.mean(0)).sum() + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert between(x, y) == pytest.approx(wanted, rel=1e-8)
    assert between(y, x) == pytest.approx(wanted, rel=1e-8)


def test_moments_without_a_group_are_those_of_the_others() -> None:
    x, groups = normal(90, 5, 0) + 1000, np.arange(90) % 7
    for number, moments in enumerate(GroupedMoments.of(x, groups).without):
        others = x[groups != number]
        np.testing.assert_allclose(moments.mean, others.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(moments.covariance, np.cov(others, rowvar=False), atol=1e-9)


def test_fewer_clips_than_dimensions_give_a_finite_distance() -> None:
    assert 0 < between(normal(10, 64, 0), normal(12, 64, 1)) < np.inf


def test_intervals_cover_what_the_error_is() -> None:
    shift = np.array([3.0, 0, 0, 0])
    found = [measured(normal(400, 4, seed), normal(400, 4, 1000 + seed) + shift).measured for seed in range(60)]
    # The mean of all is the expectation, bias included.
    expected = np.mean([one.value for one in found])
    covered = np.mean([one.low <= expected <= one.high for one in found])
    assert expected == pytest.approx(9, abs=0.15)
    assert 0.85 <= covered <= 1


def test_extrapolated_to_infinitely_many_clips_one_distribution_is_zero_from_itself() -> None:
    """In 32 dimensions 300 clips are 2.0 from 300 others of the same distribution, and 0.02 of that is left."""
    found = [measured(normal(300, 32, seed), normal(300, 32, 1000 + seed)) for seed in range(30)]
    biased, unbiased = (
        np.array([getattr(one, which).value for one in found]) for which in ("measured", "extrapolated")
    )
    assert biased.mean() > 1.5
    assert abs(unbiased.mean()) < 0.1 * biased.mean()
    assert all(one.measured.low >= 0 for one in found)


def test_clips_of_one_source_widen_the_interval() -> None:
    x = np.repeat(normal(40, 4, 0), 10, axis=0) + 0.01 * normal(400, 4, 1)
    y = normal(400, 4, 2)
    alone, together = measured(x, y).measured, measured(x, y, np.arange(400) // 10 % 20).measured
    assert together.high - together.low > 1.5 * (alone.high - alone.low)


def test_one_group_has_no_interval() -> None:
    found = measured(normal(30, 3, 0), normal(30, 3, 1), np.zeros(30, int))
    assert found.measured.value is not None and found.measured.low is None and found.extrapolated.value is None
