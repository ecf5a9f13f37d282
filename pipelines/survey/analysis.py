"""What the ratings of a study say: whether listeners agree, means, differences, and whether anchors did badly."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, Final

import numpy as np

from tonemill.audiotools.comparison import agreement, confidence, crossed, ranks
from tonemill.audiotools.comparison.confidence import Interval
from tonemill.pipelines.survey.answers import sessions_of
from tonemill.pipelines.survey.exclusions import reasons
from tonemill.pipelines.survey.ratings import Ratings, ratings_of
from tonemill.pipelines.survey.study import Study

SCHEMA: Final = 1
LEAST_AGREEMENT: Final = 0.4
"""Krippendorff's alpha below which listeners do not agree on what they rate."""


@dataclass(frozen=True)
class Analysed:
    """A study's numbers, and the rows they come from.

    Args:
        numbers: plain values, for JSON.
        ratings: of all listeners.
    """

    numbers: dict[str, Any]
    ratings: Ratings


def analyse(study: Study, rehearsed: bool = False, seed: int = 0, draws: int = crossed.DRAWS) -> Analysed:
    """Everything that is known from the answers to a study; the same answers and seed give the same numbers.

    Args:
        study: that was answered.
        rehearsed: analyse what `simulate` made up; the numbers are marked as such.
        seed: of the draws.
        draws: of listeners and clips.

    Raises:
        UsageError: the key is missing, or there are no answers.
    """
    sessions, key = sessions_of(study, rehearsed), study.key()
    everyone = ratings_of(study, key, sessions)
    anchors: Mapping[str, str] = key["anchors"]
    excluded = {}
    for name, session in zip(everyone.listeners, sessions, strict=True):
        rows = [one for one in everyone.rows if one["listener"] == name]
        plan = study.plan
        found = reasons(session, rows, plan["exclusions"], plan["headphones"], study.levels, anchors)
        if not any(one["kind"] == "trial" for one in rows):
            found.append("no trial was finished")
        if found:
            excluded[name] = found
    kept = everyone.of([one for one in everyone.listeners if one not in excluded])
    matched = key["matched"] is not None
    reliability = {one: _reliability(kept, one) for one in study.questions}
    known = [one["alpha"] for one in reliability.values() if one["alpha"] is not None]
    numbers = {
        "schema": SCHEMA,
        "study": study.digest,
        "title": study.plan["title"],
        "simulated": rehearsed,
        "seed": seed,
        "draws": draws,
        "questions": study.plan["questions"],
        "systems": list(kept.systems),
        "reference": key["reference"],
        "anchors": anchors,
        "matched": key["matched"],
        "clips": {owner: len(some) for owner, some in kept.clips.items()},
        "listeners": {
            "collected": len(everyone.listeners),
            "analysed": len(kept.listeners),
            "excluded": excluded,
            "wear": _counts(one["headphones"].get("wears") for one in sessions),
        },
        "reliability": reliability,
        "agree": bool(known and min(known) >= LEAST_AGREEMENT),
        **_compared(study, kept, matched, seed, draws),
        "with_everyone": _compared(study, everyone, matched, seed, draws) if excluded else None,
        "checks": _checks(study, kept, key, seed, draws),
        "measures": _measures(study, kept, key, seed, min(draws, 2_000)),
    }
    return Analysed(numbers, everyone)


def _counts(values: Any) -> dict[str, int]:
    found: dict[str, int] = defaultdict(int)
    for one in values:
        found[one or "not stated"] += 1
    return dict(sorted(found.items()))


def _reliability(ratings: Ratings, question: str) -> dict[str, Any]:
    """Listeners with each other, over all clips; and each with itself, where a clip came twice."""
    first = {owner: ratings.table(question, owner) for owner in ratings.clips}
    again = {owner: ratings.table(question, owner, "repeat") for owner in ratings.clips}
    table = np.concatenate(list(first.values()), axis=1)
    systems = np.concatenate([first[one] for one in ratings.systems], axis=1)
    correlation = agreement.intraclass_correlation(systems)
    pairs = [(a, b) for owner in first for a, b in zip(first[owner].ravel(), again[owner].ravel(), strict=True)]
    one, other = np.array([pair for pair in pairs if np.isfinite(pair).all()]).reshape(-1, 2).T
    return {
        "alpha": agreement.krippendorff_alpha(table) if table.size else None,
        "icc_single": correlation[0] if correlation else None,
        "icc_mean": correlation[1] if correlation else None,
        "repeat_kappa": agreement.weighted_kappa(one, other),
        "repeats": len(one),
    }


def _compared(study: Study, ratings: Ratings, matched: bool, seed: int, draws: int) -> dict[str, Any]:
    means: list[dict[str, Any]] = []
    pairs: list[dict[str, Any]] = []
    overall = {}
    places = list(combinations(range(len(ratings.systems)), 2))
    for question in study.questions:
        tables = [ratings.table(question, one) for one in ratings.systems]
        for owner in ratings.clips:
            means.append(
                {"question": question, "system": owner, **_mean(ratings, question, owner, study.levels, seed, draws)}
            )
        if not ratings.listeners:
            continue
        found = crossed.differences(tables, places, matched, seed, draws)
        for (a, b), one in zip(places, found, strict=True):
            by_listener = _by_listener(tables[a]) - _by_listener(tables[b])
            pairs.append(
                {
                    "question": question,
                    "first": ratings.systems[a],
                    "second": ratings.systems[b],
                    "difference": one.value,
                    "low": one.low,
                    "high": one.high,
                    "p": one.p,
                    "superiority": ranks.superiority(tables[a], tables[b]),
                    # Of matched clips only: for others it would take a choice of clips for a difference of systems.
                    "p_for_these_clips": ranks.sign_flips(by_listener, seed) if matched else None,
                }
            )
        overall[question] = ranks.friedman(np.stack([_by_listener(one) for one in tables], axis=1))
    for pair, adjusted in zip(pairs, ranks.holm([one["p"] for one in pairs]), strict=True):
        pair["p_holm"] = adjusted
    return {"means": means, "pairs": pairs, "friedman_p": overall}


def _by_listener(table: np.ndarray) -> np.ndarray:
    """The mean of each listener's ratings; NaN for none."""
    rated = np.isfinite(table).sum(axis=1)
    return np.where(rated > 0, np.nansum(table, axis=1) / np.maximum(rated, 1), np.nan)


def _mean(ratings: Ratings, question: str, owner: str, levels: int, seed: int, draws: int) -> dict[str, Any]:
    table = ratings.table(question, owner)
    scores = table[np.isfinite(table)]
    student = confidence.mean(_by_listener(table)) if len(table) else Interval(None)
    found = crossed.mean_of(table, seed, draws) if len(table) else Interval(None)
    low, high = (None if one is None else min(max(one, 1.0), float(levels)) for one in (found.low, found.high))
    return {
        **asdict(found),
        # A mean of answers is on the scale.
        "low": low,
        "high": high,
        "student_low": student.low,
        "student_high": student.high,
        "histogram": [int((scores == level).sum()) for level in range(1, levels + 1)],
    }


def _checks(study: Study, ratings: Ratings, key: Mapping[str, Any], seed: int, draws: int) -> dict[str, Any]:
    """Reference above anchors, and whether answers drift over a session or lean on the answer before."""
    anchors, reference = [], key["reference"] or ratings.systems[0]
    for question, anchor in key["anchors"].items():
        tables = [ratings.table(question, one) for one in (reference, anchor)]
        (found,) = (
            crossed.differences(tables, [(0, 1)], seed=seed, draws=draws)
            if ratings.listeners
            else (crossed.Difference(None),)
        )
        anchors.append(
            {
                "question": question,
                "anchor": anchor,
                "above": reference,
                "difference": found.value,
                "low": found.low,
                "high": found.high,
            }
        )
    slopes: dict[str, list[float]] = {"position": [], "carry_over": []}
    for question in study.questions:
        means = defaultdict(list)
        for one in ratings.rows:
            if one["question"] == question and one["kind"] == "trial":
                means[one["clip"]].append(one["score"])
        for listener in ratings.listeners:
            rows = sorted(
                (
                    one
                    for one in ratings.rows
                    if one["listener"] == listener and one["question"] == question and one["kind"] == "trial"
                ),
                key=lambda one: one["position"],
            )
            left = np.array([one["score"] - np.mean(means[one["clip"]]) for one in rows])
            before = np.array([one["score"] for one in rows])
            slopes["position"].append(_slope(np.array([one["position"] for one in rows], float) / 100, left))
            slopes["carry_over"].append(_slope(before[:-1].astype(float), left[1:]))
    # Questions of one listener are not independent, so listeners are what is counted.
    who = np.tile(np.arange(len(ratings.listeners)), len(study.questions))
    return {
        "anchors": anchors,
        "points_per_100_trials": asdict(confidence.mean(np.array(slopes["position"], float), who)),
        "points_per_point_before": asdict(confidence.mean(np.array(slopes["carry_over"], float), who)),
        "median_seconds": _median_seconds(ratings),
    }


def _slope(x: np.ndarray, y: np.ndarray) -> float:
    """Of the line through points by least squares; NaN where there is none."""
    spread = float(np.square(x - x.mean()).sum()) if len(x) > 2 else 0.0
    return float(((x - x.mean()) * y).sum()) / spread if spread > 0 else float("nan")


def _median_seconds(ratings: Ratings) -> float | None:
    trials: dict[tuple[str, int], float] = {}
    for one in ratings.rows:
        place = one["listener"], one["position"]
        trials[place] = max(trials.get(place, 0.0), one["milliseconds"] / 1000)
    return float(np.median(list(trials.values()))) if trials else None


def _measures(study: Study, ratings: Ratings, key: Mapping[str, Any], seed: int, draws: int) -> list[dict[str, Any]]:
    """Each measure of a clip with its mean rating, over the clips of all systems."""
    owners = list(ratings.systems)
    ids = [one for owner in owners for one in ratings.clips[owner]]
    names = sorted({name for one in ids for name in key["clips"][one]["measures"]})
    found = []
    for question in study.questions if len(ratings.listeners) else []:
        table = np.concatenate([ratings.table(question, owner) for owner in owners], axis=1)
        for name in names:
            measure = np.array([key["clips"][one]["measures"].get(name, np.nan) for one in ids])
            interval = ranks.rank_correlation(table, measure, seed, draws)
            if interval.value is not None:
                found.append({"question": question, "measure": name, **asdict(interval)})
    return found
