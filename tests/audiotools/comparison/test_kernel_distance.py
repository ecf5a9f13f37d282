"""The kernel distances are scikit-learn's arithmetic, unbiased, and their intervals cover 0 for one distribution."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist, pdist
from sklearn.metrics.pairwise import polynomial_kernel, rbf_kernel

from tonemill.audiotools.comparison.confidence import Interval
from tonemill.audiotools.comparison.kernel_distance import Cubic, Gaussian, Kernel, distance, median_distance, sums


def normal(count: int, dimensions: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, dimensions))


def groups(count: int) -> np.ndarray:
    return np.arange(count) % 20


def between(x: np.ndarray, y: np.ndarray, kernel: Kernel) -> Interval:
    a, b = groups(len(x)), groups(len(y))
    parts = (sums(x, x, a, a, [kernel]), sums(y, y, b, b, [kernel]), sums(x, y, a, b, [kernel]))
    return distance(*(one for (one,) in parts), len(x))


def unbiased(kernel: np.ndarray) -> float:
    return float((kernel.sum() - np.trace(kernel)) / (len(kernel) * (len(kernel) - 1)))


@pytest.mark.parametrize("kind", ["cubic", "gaussian"])
def test_it_is_scikit_learns_arithmetic(kind: str) -> None:
    """Also where sets are larger than a block."""
    x, y = normal(1100, 5, 0), normal(1040, 5, 1) + 0.5
    bandwidth = float(np.median(pdist(y)))

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        if kind == "cubic":
            return polynomial_kernel(a, b, degree=3, gamma=1 / 5, coef0=1)
        return 100 * rbf_kernel(a, b, gamma=1 / (2 * bandwidth**2))

    wanted = unbiased(kernel(x, x)) + unbiased(kernel(y, y)) - 2 * kernel(x, y).mean()
    found = between(x, y, Cubic() if kind == "cubic" else Gaussian(bandwidth))
    assert found.value == pytest.approx(wanted, rel=1e-9)


def test_the_gaussian_kernel_has_its_closed_form() -> None:
    """N(0, 1) and N(d, 1), bandwidth s: 2 c (1 - exp(-d^2 / (2 (s^2 + 2)))) with c^2 = s^2 / (s^2 + 2)."""
    apart, bandwidth = 1.5, 0.9
    found = [
        between(normal(1000, 1, seed), normal(1000, 1, 500 + seed) + apart, Gaussian(bandwidth)).value
        for seed in range(20)
    ]
    scale = bandwidth / np.sqrt(bandwidth**2 + 2)
    wanted = 200 * scale * (1 - np.exp(-(apart**2) / (2 * (bandwidth**2 + 2))))
    assert np.mean(found) == pytest.approx(wanted, rel=0.05)


@pytest.mark.parametrize("kernel", [Cubic(), Gaussian(3.0)], ids=["cubic", "gaussian"])
def test_it_has_no_bias_and_its_interval_covers_zero(kernel: Kernel) -> None:
    found = [between(normal(50, 5, seed), normal(50, 5, 500 + seed), kernel) for seed in range(80)]
    values = np.array([one.value for one in found])
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(len(values))
    assert np.mean([one.low <= 0 <= one.high for one in found]) > 0.85


def test_a_shift_of_all_vectors_changes_nothing_for_the_gaussian_kernel() -> None:
    x, y = normal(60, 4, 0), normal(70, 4, 1) + 0.3
    near, far = between(x, y, Gaussian(2.0)).value, between(x + 1e3, y + 1e3, Gaussian(2.0)).value
    assert near is not None and far == pytest.approx(near, abs=1e-6 * 100)


@pytest.mark.parametrize("count", [2, 3, 10, 1500])
def test_the_median_distance_is_the_middle_of_all(count: int) -> None:
    x = normal(count, 7, count) + 50
    ordered = np.sort(cdist(x, x)[np.triu_indices(count, 1)])
    assert median_distance(x) == pytest.approx(ordered[(len(ordered) - 1) // 2], rel=1e-9)


def test_equal_vectors_have_a_distance_all_the_same() -> None:
    x = np.ones((10, 3))
    kernel = Gaussian(median_distance(x))
    assert between(x, x.copy(), kernel).value == pytest.approx(0, abs=1e-9)
    assert between(x + 1, x, kernel).value == pytest.approx(200, abs=1e-6)
