"""Intervals hold what they promise, and are those of scipy where it has them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tonemill.audiotools.comparison import confidence


@pytest.mark.parametrize(("hits", "count"), [(0, 10), (3, 10), (10, 10), (500, 1000)])
def test_shares_have_wilsons_interval(hits: int, count: int) -> None:
    found = confidence.share(hits, count)
    wanted = stats.binomtest(hits, count).proportion_ci(method="wilson")
    assert (found.value, found.low, found.high) == pytest.approx((hits / count, wanted.low, wanted.high), abs=1e-12)


def test_means_have_students_interval() -> None:
    x = np.random.default_rng(0).normal(3, 2, 25)
    found = confidence.mean(np.append(x, np.nan))
    low, high = stats.t.interval(0.95, 24, x.mean(), stats.sem(x))
    assert (found.value, found.low, found.high, found.count) == pytest.approx((x.mean(), low, high, 25))


def test_clips_of_one_source_count_as_one() -> None:
    x = np.random.default_rng(0).normal(0, 1, 30)
    alone, copied = confidence.mean(x), confidence.mean(np.repeat(x, 10), np.repeat(np.arange(30), 10))
    assert (copied.low, copied.high) == pytest.approx((alone.low, alone.high))


def test_nothing_is_known_of_nothing() -> None:
    assert confidence.mean(np.array([np.nan])).value is None
    assert confidence.share(0, 0).value is None
    assert confidence.mean(np.array([2.0])) == confidence.Interval(2.0, None, None, 1)


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    x = np.random.default_rng(0).normal(0, 1, 40)
    value, low, high = confidence.jackknife(lambda kept: float(x[kept].mean()), np.arange(40))
    assert value == pytest.approx(x.mean())
    assert low is not None and high is not None
    assert high - low == pytest.approx(2 * confidence.Z95 * x.std(ddof=1) / np.sqrt(40))


def test_sources_share_a_group_and_groups_are_even() -> None:
    groups = confidence.dealt([f"source {number // 3}" for number in range(300)])
    assert len(set(groups)) == 20 and np.bincount(groups).tolist() == [15] * 20
    assert all(len(set(groups[i : i + 3])) == 1 for i in range(0, 300, 3))
