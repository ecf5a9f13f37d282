"""Sets are ranked only where their intervals are apart, and else the number of clips it would take is named."""

from __future__ import annotations

import pytest

from tonemill.audiotools.comparison.confidence import Interval
from tonemill.pipelines.evaluation.ranking import verdicts


def around(value: int | float, half: int | float, count: int = 100) -> Interval:
    return Interval(float(value), float(value - half), float(value + half), count)


def test_intervals_apart_are_ranked() -> None:
    (found,) = verdicts({"a": around(3, 0.5), "b": around(1, 0.5)})
    assert found.nearer == "b" and found.needed is None
    assert found.in_words("distance") == "b is nearer to the real clips than a, by the distance."


def test_overlapping_ones_need_more_clips_by_the_square() -> None:
    """Half a unit apart with halves that add up to 2: intervals must narrow four times, so sixteen times the clips."""
    (found,) = verdicts({"a": around(1, 1), "b": around(1.5, 1)})
    assert found.nearer is None and found.needed == 16 * 100
    assert "about 1,600 clips of each" in found.in_words("distance")


def test_equal_ones_need_more_than_can_be_named() -> None:
    (found,) = verdicts({"a": around(1, 1), "b": around(1, 1)})
    assert found.nearer is None and found.needed is None
    assert "more than a million" in found.in_words("distance")


@pytest.mark.parametrize("unknown", [Interval(1.0), Interval(None)])
def test_nothing_is_stated_without_an_interval(unknown: Interval) -> None:
    assert verdicts({"a": unknown, "b": around(1, 1)}) == []


def test_every_pair_has_a_verdict() -> None:
    found = verdicts({name: around(place, 0.1) for place, name in enumerate("abc")})
    assert [one.sets for one in found] == [("a", "b"), ("a", "c"), ("b", "c")]
