"""Who is left out of an analysis, by rules that are written into a study before anybody has answered."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, Final

RULES: Final[dict[str, float]] = {
    "fastest_rounds": 0.5,
    "reference_below": 4,
    "reference_below_share": 0.15,
    "same_answer_share": 0.9,
    "attention_missed": 1,
}
"""In the order of `reasons`. A reference below 4 in more than 15 % of its trials is the rule of ITU-R BS.1534-3,
section 4.1.2, on a scale of five."""

Rating = Mapping[str, Any]


def reasons(
    session: Mapping[str, Any],
    ratings: Sequence[Rating],
    rules: Mapping[str, float],
    headphones: str,
    levels: int,
    anchors: Mapping[str, str],
) -> list[str]:
    """Why a listener is left out; none where the listener stays.

    Args:
        session: as it was collected.
        ratings: of this listener, a row per answer: `question`, `score`, `kind` of the trial, `owner` and `role` of
            the clip (reference, system or anchor), `clip`, `milliseconds` and `clip_seconds`.
        rules: as in the study.
        headphones: ask, check or require.
        levels: of the scale.
        anchors: for each question its anchor.
    """
    found = []
    if headphones == "require" and not session["headphones"].get("passed"):
        found.append("the headphone check was not passed")
    counted = [one for one in ratings if one["kind"] in ("trial", "repeat")]
    times = [one["milliseconds"] / 1000 / one["clip_seconds"] for one in counted if one["clip_seconds"]]
    if times and median(times) < rules["fastest_rounds"]:
        found.append(f"half of the answers came within {median(times):.2f} of a clip's length")
    # On another scale the rule is the point as far from the top.
    least = levels - (5 - rules["reference_below"])
    quality = [one["score"] for one in counted if one["role"] == "reference" and one["question"] == "quality"]
    low = sum(score < least for score in quality)
    if quality and low / len(quality) > rules["reference_below_share"]:
        found.append(f"the hidden reference was rated below {least:.0f} in {low} of {len(quality)} trials")
    for question, anchor in anchors.items():
        worst = _mean(one["score"] for one in counted if one["owner"] == anchor and one["question"] == question)
        best = _mean(one["score"] for one in counted if one["role"] == "reference" and one["question"] == question)
        if worst > best:
            found.append(f"the anchor of {question} was rated {worst:.2f} and the hidden reference {best:.2f}")
    scores = [one["score"] for one in counted]
    if len(scores) >= 10:
        most = max(scores.count(one) for one in set(scores))
        if most / len(scores) > rules["same_answer_share"]:
            found.append(f"{most} of {len(scores)} answers are the same")
    missed = session["attention_missed"]
    if missed >= rules["attention_missed"]:
        found.append(f"{missed} attention trials were missed")
    return found


def _mean(scores: Any) -> float:
    """NaN for none, which compares as false."""
    values = list(scores)
    return sum(values) / len(values) if values else math.nan
