"""Means and differences of ratings where listeners and clips are both drawn from larger sets.

Each listener rates many clips, and each clip is rated by many listeners, so ratings are not independent. Listeners and
clips are drawn with replacement, each by themselves (the pigeonhole bootstrap of Owen, 2007, The Annals of Applied
Statistics 1, 386-411). Its plain percentiles count the residual three times; so the difference in every draw is divided
by the standard error of that same draw, and quantiles are taken of these ratios (a bootstrap-t: Efron and Tibshirani,
1993, chapter 12.5). Intervals and p-values come from the same ratios: where an interval excludes 0, p is below 0.05.

The standard error is the two-way one of Cameron, Gelbach and Miller (2011, Journal of Business & Economic Statistics
29, 238-249), V = V_listeners + V_clips - V_cells, with squares about both means in V_cells, and with the factors that
make each term unbiased where every listener rated every clip: n / (n - 1) of listeners, of clips, and both for cells.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float

from tonemill.audiotools.comparison.confidence import Interval

DRAWS: Final = 10_000
LEVEL: Final = 0.95
BATCH: Final = 2_000
"""So many draws are computed at once: a few megabytes."""


@dataclass(frozen=True)
class Difference:
    """Of the means of two systems.

    Args:
        value: the first minus the second; None where one of them was never rated.
        low, high: of the 95 % interval; None where there are fewer than two listeners or two clips of a system.
        p: of no difference, two-sided; None as above.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    p: float | None = None


@dataclass(frozen=True)
class _Parts:
    """What a table of ratings gives under weights of listeners and clips, for each draw.

    Args:
        mean: (draws,).
        rows: sums over clips of what is left after the mean, divided by the number of ratings, (draws, listeners).
        columns: the same sums over listeners, (draws, clips).
        squares: sums of their squares over cells, (draws,).
        count: ratings, (draws,).
    """

    mean: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    squares: np.ndarray
    count: np.ndarray


@dataclass(frozen=True)
class _Weights:
    """How often each listener and each clip of each system was drawn, (draws, listeners) and (draws, clips)."""

    listeners: np.ndarray
    clips: list[np.ndarray]


def mean_of(table: Float[np.ndarray, "listeners clips"], seed: int = 0, draws: int = DRAWS) -> Interval:
    """The mean of all ratings of a system, with its 95 % interval.

    Args:
        table: ratings; NaN where a listener did not rate a clip.
        seed: of the draws.
        draws: how many.
    """
    (found,) = differences([table, np.zeros((len(table), 2))], [(0, 1)], seed=seed, draws=draws)
    count = int(np.isfinite(table).sum())
    return Interval(found.value, found.low, found.high, count)


def differences(
    tables: Sequence[Float[np.ndarray, "listeners _"]],
    pairs: Sequence[tuple[int, int]],
    matched: bool = False,
    seed: int = 0,
    draws: int = DRAWS,
) -> list[Difference]:
    """Differences of pairs of systems that the same listeners rated, each with its interval and p-value.

    Args:
        tables: of each system, (listeners, clips); NaN where a listener did not rate a clip.
        pairs: numbers of the systems, the second of which is subtracted.
        matched: column n of every table is a clip of the same source, and these are drawn together.
        seed: of the draws; the same seed gives the same draws for each question of a study.
        draws: how many.

    Raises:
        ValueError: the tables have unequal numbers of listeners, or of clips where they are matched.
    """
    listeners = len(tables[0])
    if any(len(one) != listeners for one in tables):
        raise ValueError(f"tables have {[len(one) for one in tables]} listeners; all must have the same")
    if matched and len({one.shape[1] for one in tables}) > 1:
        raise ValueError(f"tables have {[one.shape[1] for one in tables]} clips; matched ones have the same number")
    whole = _Weights(np.ones((1, listeners)), [np.ones((1, one.shape[1])) for one in tables])
    observed = _contrasts(tables, whole, pairs, matched)
    rng = np.random.default_rng(seed)
    ratios: list[list[np.ndarray]] = [[] for _ in pairs]
    for first in range(0, draws, BATCH):
        weights = _drawn(tables, rng, min(BATCH, draws - first), matched)
        for number, (values, errors) in enumerate(_contrasts(tables, weights, pairs, matched)):
            ratios[number].append(_ratio(values - observed[number][0], errors))
    return [
        _difference(float(value[0]), float(error[0]), np.concatenate(ratio), min(listeners, *_clips(tables, pair)))
        for (value, error), ratio, pair in zip(observed, ratios, pairs, strict=True)
    ]


def standard_error(
    one: Float[np.ndarray, "listeners _"], other: Float[np.ndarray, "listeners _"], matched: bool = False
) -> float:
    """Of the difference of two systems' means, as in the head of this module."""
    whole = _Weights(np.ones((1, len(one))), [np.ones((1, each.shape[1])) for each in (one, other)])
    ((_, error),) = _contrasts([one, other], whole, [(0, 1)], matched)
    return float(error[0])


def _clips(tables: Sequence[np.ndarray], pair: tuple[int, int]) -> list[int]:
    return [tables[number].shape[1] for number in pair]


def _drawn(tables: Sequence[np.ndarray], rng: np.random.Generator, draws: int, matched: bool) -> _Weights:
    def counts(size: int) -> np.ndarray:
        return rng.multinomial(size, np.full(size, 1 / size), size=draws).astype(np.float64)

    listeners = counts(len(tables[0]))
    if matched:
        return _Weights(listeners, [counts(tables[0].shape[1])] * len(tables))
    return _Weights(listeners, [counts(one.shape[1]) for one in tables])


def _contrasts(
    tables: Sequence[np.ndarray], weights: _Weights, pairs: Sequence[tuple[int, int]], matched: bool
) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each pair the difference and its standard error, (draws,) each."""
    used = {number for pair in pairs for number in pair}
    parts = {number: _parts(tables[number], weights.listeners, weights.clips[number]) for number in used}
    found = []
    with np.errstate(invalid="ignore", divide="ignore"):
        for a, b in pairs:
            one, other = parts[a], parts[b]
            listeners = one.rows.shape[1]
            by_listener = (weights.listeners * (one.rows - other.rows) ** 2).sum(axis=1)
            if matched:
                shared = _shared_squares(tables[a], tables[b], weights.listeners, weights.clips[a], one, other)
                cells = one.squares + other.squares - 2 * shared
                terms = [(weights.clips[a], one.columns - other.columns, by_listener, cells)]
            else:
                terms = [
                    (weights.clips[n], each.columns, (weights.listeners * each.rows**2).sum(axis=1), each.squares)
                    for n, each in ((a, one), (b, other))
                ]
            variance, least = _factor(listeners) * by_listener, np.zeros(len(by_listener))
            for drawn, columns, rows, squares in terms:
                clips = drawn.shape[1]
                by_clip = (drawn * columns**2).sum(axis=1)
                # Squares about both means: what is left of the cells, as in an analysis of variance of two ways.
                residual = np.maximum(squares - rows / clips - by_clip / listeners, 0)
                residual *= _factor(listeners) * _factor(clips)
                variance += _factor(clips) * by_clip - residual
                least += residual
            # No less than if all ratings were independent, for an estimate of a variance may come out negative.
            found.append((one.mean - other.mean, np.sqrt(np.maximum(variance, least))))
    return found


def _factor(count: int) -> float:
    return count / (count - 1) if count > 1 else float("nan")


def _parts(table: np.ndarray, listeners: np.ndarray, clips: np.ndarray) -> _Parts:
    rated = np.isfinite(table).astype(np.float64)
    values = np.where(rated > 0, table, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        rated_columns = listeners @ rated
        columns = listeners @ values
        count = (rated_columns * clips).sum(axis=1)
        mean = (columns * clips).sum(axis=1) / count
        rows = (clips @ values.T - mean[:, None] * (clips @ rated.T)) / count[:, None]
        squares = (((listeners @ values**2) * clips).sum(axis=1) - mean**2 * count) / count**2
        return _Parts(mean, rows, (columns - mean[:, None] * rated_columns) / count[:, None], squares, count)


def _shared_squares(
    a: np.ndarray, b: np.ndarray, listeners: np.ndarray, clips: np.ndarray, one: _Parts, other: _Parts
) -> np.ndarray:
    """Sums over cells of the products of what is left of two matched tables after their means, (draws,)."""
    in_a, in_b = np.isfinite(a).astype(np.float64), np.isfinite(b).astype(np.float64)
    x, y = np.where(in_a > 0, a, 0.0), np.where(in_b > 0, b, 0.0)

    def total(cells: np.ndarray) -> np.ndarray:
        return ((listeners @ cells) * clips).sum(axis=1)

    both = total(in_a * in_b)
    products = total(x * y) - one.mean * total(in_a * y) - other.mean * total(x * in_b) + one.mean * other.mean * both
    return products / (one.count * other.count)


def _ratio(values: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """|value| / error; a draw without spread counts as infinitely far unless it is where the ratings are."""
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = np.abs(values) / errors
    near = np.abs(values) <= 1e-12
    return np.where(np.isnan(ratios), np.where(near, 0.0, np.inf), np.where(near, 0.0, ratios))


def _difference(value: float, error: float, ratios: np.ndarray, least: int) -> Difference:
    if not np.isfinite(value):
        return Difference(None)
    if least < 2 or not np.isfinite(error):
        return Difference(value)
    (ratio,) = _ratio(np.array([value]), np.array([error]))
    # Equal ratios are ties, which rounding must not tell apart.
    p = (1 + int((ratios >= ratio * (1 - 1e-9)).sum())) / (len(ratios) + 1)
    # The ratio that leaves p below 1 - LEVEL outside; no interpolation, for a ratio may be infinite.
    limit = np.sort(ratios)[min(len(ratios), math.ceil(LEVEL * (len(ratios) + 1))) - 1]
    half = float(limit) * error if error > 0 else 0.0
    return Difference(value, value - half, value + half, min(1.0, p)) if np.isfinite(half) else Difference(value, p=p)
