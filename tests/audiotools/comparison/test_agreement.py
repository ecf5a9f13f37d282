"""Agreement equals published worked examples, and is 1 for equal raters and about 0 for dice."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from tonemill.audiotools.comparison.agreement import intraclass_correlation, krippendorff_alpha, weighted_kappa

NAN = np.nan
KRIPPENDORFF = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ]
)
"""Four observers, twelve units: Krippendorff (2011), section E."""

SHROUT_FLEISS = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]).T
"""Four judges, six targets: Shrout and Fleiss (1979), table 2."""


def test_alpha_of_the_published_example() -> None:
    assert krippendorff_alpha(KRIPPENDORFF) == pytest.approx(0.815, abs=5e-4)


def test_alpha_depends_on_the_order_of_values_and_not_on_their_size() -> None:
    stretched = np.where(np.isfinite(KRIPPENDORFF), KRIPPENDORFF**3, NAN)
    assert krippendorff_alpha(stretched) == pytest.approx(krippendorff_alpha(KRIPPENDORFF))


def test_alpha_of_equal_raters_and_of_dice() -> None:
    rng = np.random.default_rng(0)
    same = np.repeat(rng.integers(1, 6, (1, 50)).astype(float), 3, axis=0)
    assert krippendorff_alpha(same) == pytest.approx(1)
    assert abs(krippendorff_alpha(rng.integers(1, 6, (8, 400)).astype(float)) or 1) < 0.05
    assert krippendorff_alpha(np.full((3, 4), 2.0)) is None
    assert krippendorff_alpha(np.array([[1.0, NAN], [NAN, 2.0]])) is None


def test_kappa_is_scikit_learns() -> None:
    rng = np.random.default_rng(1)
    first = rng.integers(1, 6, 60)
    second = np.clip(first + rng.integers(-1, 2, 60), 1, 5)
    wanted = cohen_kappa_score(first, second, weights="quadratic")
    found = weighted_kappa(np.append(first, NAN).astype(float), np.append(second, 3).astype(float))
    assert found == pytest.approx(wanted, abs=1e-12)
    assert weighted_kappa(np.full(3, 4.0), np.full(3, 4.0)) is None


def test_intraclass_correlation_of_the_published_example() -> None:
    assert intraclass_correlation(SHROUT_FLEISS.astype(float)) == pytest.approx((0.29, 0.62), abs=5e-3)
    assert intraclass_correlation(KRIPPENDORFF) is None
