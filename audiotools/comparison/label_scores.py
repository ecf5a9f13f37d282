"""Scores of a set of clips from a classifier's probabilities: inception scores, and the balance of classes."""

from __future__ import annotations

from typing import Final

import numpy as np
from jaxtyping import Bool, Float, Int

from tonemill.audiotools.comparison import confidence
from tonemill.audiotools.comparison.confidence import Interval

LEAST: Final = 1e-6
"""Probabilities below this count as this, so that a classifier that is too sure does not decide a score alone."""

Probabilities = Float[np.ndarray, "clips classes"]


def inception_score(probabilities: Probabilities) -> float:
    """exp of the mean divergence of each clip's classes from those of all (Salimans et al., 2016, arXiv:1606.03498).

    From 1, where all clips look alike to the classifier or none looks like anything, to the number of classes.
    """
    p, logs = _floored(probabilities)
    marginal = p.mean(axis=0)
    return float(np.exp((p * (logs - np.log(marginal))).sum(axis=1).mean()))


def modified_inception_score(probabilities: Probabilities) -> float:
    """exp of the mean divergence between the classes of two different clips (Gurumurthy et al., 2017).

    https://arxiv.org/abs/1706.02071, over all pairs as in DiffWave (Kong et al., 2021, https://arxiv.org/abs/2009.09761).
    It has no bound but that of the least probability, and grows with how sure the classifier is.

    Raises:
        ValueError: there are fewer than two clips.
    """
    p, logs = _floored(probabilities)
    n = len(p)
    if n < 2:
        raise ValueError("one clip makes no pair")
    # Over all pairs the mean of a product is the product of means; a clip beside itself adds nothing.
    every_pair = (p * logs).sum(axis=1).mean() - (p.mean(axis=0) * logs.mean(axis=0)).sum()
    return float(np.exp(every_pair * n / (n - 1)))


def scores(probabilities: Probabilities, groups: Int[np.ndarray, "clips"]) -> tuple[Interval, Interval]:
    """Inception score and modified inception score of a whole set, with jackknife intervals over groups of clips."""
    found = []
    for score in (inception_score, modified_inception_score):

        def statistic(kept: Bool[np.ndarray, "_"], score=score) -> float:  # type: ignore[no-untyped-def]
            return score(probabilities[kept])

        value, low, high = confidence.jackknife(statistic, groups)
        found.append(Interval(value, None if low is None else max(1.0, low), high, len(probabilities)))
    return found[0], found[1]


def imbalance(
    predicted: Int[np.ndarray, "clips"], reference: Int[np.ndarray, "_"], groups: Int[np.ndarray, "clips"], classes: int
) -> Interval:
    """Total variation between the predicted classes of two sets: the share of clips that would have to change."""
    wanted = np.bincount(reference, minlength=classes) / len(reference)

    def statistic(kept: Bool[np.ndarray, "_"]) -> float:
        found = predicted[kept]
        return float(np.abs(np.bincount(found, minlength=classes) / len(found) - wanted).sum() / 2)

    value, low, high = confidence.jackknife(statistic, groups)
    return Interval(
        value,
        None if low is None else max(0.0, low),
        None if high is None else min(1.0, high),
        len(predicted),
    )


def _floored(probabilities: Probabilities) -> tuple[np.ndarray, np.ndarray]:
    p = np.maximum(probabilities.astype(np.float64), LEAST)
    p /= p.sum(axis=1, keepdims=True)
    return p, np.log(p)
