"""Rank tests equal scipy's and published values, and find nothing where there is nothing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tonemill.audiotools.comparison.ranks import friedman, holm, rank_correlation, sign_flips, superiority


def test_holm_of_a_family() -> None:
    # 4 x 0.01, 3 x 0.02, then 2 x 0.022 would be less than what came before, 1 x 0.3.
    assert holm([0.3, 0.01, None, 0.022, 0.02]) == pytest.approx([0.3, 0.04, None, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([None]) == [None]


@pytest.mark.parametrize("listeners", [7, 24])
def test_sign_flips_are_those_of_scipy(listeners: int) -> None:
    x = np.random.default_rng(listeners).normal(0.4, 1, listeners)
    exact = listeners <= 16
    resamples = np.inf if exact else 50_000
    wanted = stats.permutation_test(
        (x,), np.mean, permutation_type="samples", n_resamples=resamples, random_state=0
    ).pvalue
    assert sign_flips(np.append(x, np.nan)) == pytest.approx(wanted, abs=1e-9 if exact else 0.01)


def test_friedman_is_scipys() -> None:
    x = np.random.default_rng(0).integers(1, 6, (12, 4)).astype(float)
    assert friedman(x) == pytest.approx(stats.friedmanchisquare(*x.T).pvalue)
    assert friedman(np.ones((5, 3))) is None
    assert friedman(x[:, :2]) is None


def test_superiority_counts_pairs_of_each_listener() -> None:
    one, other = np.array([[5.0, 3.0], [1.0, np.nan]]), np.array([[3.0, 2.0], [4.0, 1.0]])
    # Of the first: 5 > 3, 5 > 2, 3 = 3, 3 > 2; of the second: 1 < 4, 1 = 1.
    assert superiority(one, other) == pytest.approx(4 / 6)
    assert superiority(np.full((1, 1), np.nan), np.ones((1, 1))) is None


def test_rank_correlation_is_scipys_and_its_interval_holds_the_truth() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(60):
        quality = rng.standard_normal(40)
        table = quality + rng.standard_normal((10, 40)) * 0.5
        measure = quality * 0.8 + rng.standard_normal(40) * 0.6
        found = rank_correlation(table, measure, draws=300)
        assert found.value == pytest.approx(stats.spearmanr(table.mean(axis=0), measure).statistic)
        # Spearman's of a normal pair is 6 / pi asin(r / 2); r is 0.8 times the means' own reliability.
        truth = 6 / np.pi * np.arcsin(0.8 / np.sqrt(1 + 0.25 / 10) / 2)
        assert found.low is not None and found.high is not None
        held += found.low <= truth <= found.high
    assert held >= 51
    assert rank_correlation(np.ones((3, 5)), np.arange(5.0)).value is None
