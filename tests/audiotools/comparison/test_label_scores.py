"""Scores of a classifier's opinions in cases that can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tonemill.audiotools.comparison import label_scores


def test_a_sure_and_balanced_classifier_scores_the_number_of_classes() -> None:
    assert label_scores.inception_score(np.tile(np.eye(10), (30, 1))) == pytest.approx(10, rel=1e-3)


def test_one_class_and_no_opinion_score_one() -> None:
    assert label_scores.inception_score(np.tile(np.eye(10)[3], (50, 1))) == pytest.approx(1)
    assert label_scores.inception_score(np.full((50, 10), 0.1)) == pytest.approx(1)
    assert label_scores.modified_inception_score(np.full((50, 10), 0.1)) == pytest.approx(1)


def test_the_inception_score_of_two_kinds_has_its_closed_form() -> None:
    p = np.array([[0.9, 0.1], [0.1, 0.9]] * 20)
    # The mean is (1/2, 1/2), and each clip's divergence from it ln 2 - H(0.9).
    entropy = -(0.9 * np.log(0.9) + 0.1 * np.log(0.1))
    assert label_scores.inception_score(p) == pytest.approx(2 * np.exp(-entropy))
    # Half the ordered pairs of different clips, n/2 of n - 1, are of two kinds, and those lie 0.8 ln 9 apart.
    assert label_scores.modified_inception_score(p) == pytest.approx(np.exp(20 / 39 * 0.8 * np.log(9)))


def test_the_modified_score_is_the_mean_over_all_pairs() -> None:
    p = np.random.default_rng(0).dirichlet([1, 1, 1], 12)
    pairs = [np.sum(a * np.log(a / b)) for i, a in enumerate(p) for j, b in enumerate(p) if i != j]
    assert label_scores.modified_inception_score(p) == pytest.approx(np.exp(np.mean(pairs)))


def test_intervals_hold_the_score_of_many_clips() -> None:
    rng = np.random.default_rng(1)
    true = label_scores.inception_score(rng.dirichlet([0.3] * 4, 100_000))
    found = [label_scores.scores(rng.dirichlet([0.3] * 4, 300), np.arange(300) % 20)[0] for _ in range(60)]
    # It is 0.87 here; another numpy may draw otherwise.
    assert np.mean([one.low <= true <= one.high for one in found]) > 0.8


def test_imbalance_is_the_share_that_would_have_to_change() -> None:
    reference, predicted = np.array([0] * 50 + [1] * 50), np.array([0] * 80 + [1] * 20)
    found = label_scores.imbalance(predicted, reference, np.arange(100) // 5, 2)
    assert found.value == pytest.approx(0.3)
    assert found.low < 0.3 < found.high
