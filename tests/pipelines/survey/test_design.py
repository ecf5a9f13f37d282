"""Orders are balanced: who follows whom, which clips are rated how often, and what stands next to what."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest

from tonemill.pipelines.survey.design import REPEAT_GAP, Clip, Design, Trial, order_of, williams


@pytest.mark.parametrize("systems", range(2, 10))
def test_each_system_follows_each_other_equally_often(systems: int) -> None:
    rows = williams(systems)
    assert len(rows) == systems * (1 + systems % 2)
    assert all(sorted(row) == list(range(systems)) for row in rows)
    follows = Counter(pair for row in rows for pair in pairwise(row))
    assert len(follows) == systems * (systems - 1)
    assert set(follows.values()) == {1 + systems % 2}


def design(systems: int = 4, clips: int = 10, each: int = 10, matched: bool = False) -> Design:
    def group(name: str, count: int) -> list[Clip]:
        return [Clip(f"{name}{n}", f"source{n}" if matched else f"{name}-source{n}") for n in range(count)]

    return Design(
        [group(f"s{number}-", clips) for number in range(systems)],
        [group(f"a{number}-", 3) for number in range(2)],
        ["s0-0", "a0-0", "a1-0", "s1-3"],
        each,
        0.1,
        (2, 4),
    )


def rated(order: list[Trial]) -> list[str]:
    return [one.clip for one in order if one.kind == "trial"]


@pytest.mark.parametrize("each", [3, 7, 10])
def test_clips_are_rated_equally_often_within_one(each: int) -> None:
    one = design(each=each)
    counts = Counter(clip for listener in range(13) for clip in rated(order_of(one, listener)))
    for system in one.systems:
        found = [counts[clip.id] for clip in system]
        assert max(found) - min(found) <= 1 and sum(found) == 13 * each
    for anchor in one.anchors:
        found = [counts[clip.id] for clip in anchor]
        assert max(found) - min(found) <= 1 and min(found) > 0


@pytest.mark.parametrize("matched", [False, True])
@pytest.mark.parametrize("systems", [2, 3, 5])
def test_a_listener_rates_every_clip_once_and_never_one_source_twice_running(systems: int, matched: bool) -> None:
    one = design(systems, matched=matched)
    sources = {clip.id: clip.source for group in (*one.systems, *one.anchors) for clip in group}
    for listener in range(12):
        order = order_of(one, listener)
        clips = rated(order)
        assert len(set(clips)) == len(clips) == systems * 10 + 6
        after_training = [trial.clip for trial in order[4:] if trial.clip]
        assert all(sources[a] != sources[b] for a, b in pairwise(after_training))


def test_each_listener_meets_systems_balanced_over_the_session() -> None:
    """Half of a system's clips stand in each half, within one."""
    for listener in range(8):
        clips = rated(order_of(replace(design(), repeats=0, anchors=()), listener))
        first = Counter(clip.split("-")[0] for clip in clips[:20])
        assert set(first.values()) == {5}
    begins = Counter(rated(order_of(replace(design(), anchors=()), listener))[0].split("-")[0] for listener in range(8))
    assert set(begins.values()) == {2}


def test_repeats_come_late_and_attention_trials_are_spread() -> None:
    for listener in range(10):
        order = order_of(design(), listener)
        assert [trial.kind for trial in order[:4]] == ["training"] * 4
        places = {trial.clip: place for place, trial in enumerate(order) if trial.kind == "trial"}
        repeats = [(place, trial.clip) for place, trial in enumerate(order) if trial.kind == "repeat"]
        assert len(repeats) == 5
        assert all(place - places[clip] > REPEAT_GAP for place, clip in repeats)
        attention = [
            (place / len(order), trial.answer) for place, trial in enumerate(order) if trial.kind == "attention"
        ]
        assert [answer for _, answer in attention] == [2, 4]
        assert [share for share, _ in attention] == pytest.approx([1 / 3, 2 / 3], abs=0.1)
    assert order_of(design(), 3) == order_of(design(), 3) != order_of(design(), 4)
