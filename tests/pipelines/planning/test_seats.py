"""Seats that are made after those of another plan are those that parsing every recipe gives."""

from __future__ import annotations

from unittest.mock import Mock

import pytest

from tonemill.pipelines.planning import seats
from tonemill.pipelines.planning.plan import Output, Splitting
from tonemill.pipelines.planning.planner import expected, make_plan
from tonemill.pipelines.planning.seats import Known, seats_of
from tonemill.pipelines.recipes.recipe import Recipe


def recipes(first: int, count: int) -> list[Recipe]:
    facts = {"sample_rate": 8000, "channels": 1, "frames": 80_000}
    return [
        Recipe(f"{number}.wav", {"audio": {"uri": f"file:///{number}.wav", "sha256": f"{number:064x}", **facts}})
        for number in range(first, first + count)
    ]


@pytest.mark.parametrize("with_estimates", [False, True])
def test_recipes_of_one_text_are_parsed_once(monkeypatch: pytest.MonkeyPatch, with_estimates: bool) -> None:
    output, known = Output("shards", "flac", None), Known(with_estimates)
    old = make_plan(recipes(0, 30), output, Splitting(valid=0.5), 20.0)
    new = make_plan(recipes(4, 30), output, Splitting(), 20.0, note=known.note)
    direct = seats_of(old, Known(with_estimates=True))
    monkeypatch.setattr(seats, "expected", estimated := Mock(wraps=expected))
    monkeypatch.setattr(known, "note", parsed := Mock(wraps=known.note))
    of_stream, found = seats_of(new, known), seats_of(old, known)
    assert parsed.call_count == 4, "those that the stream lacks"
    assert estimated.call_count == (4 if with_estimates else 0)
    assert [(one.row, one.split, one.shard) for one in found] == [(one.row, one.split, one.shard) for one in direct]
    for one, other in zip(found, direct, strict=True):
        assert one.facts._replace(estimate=None) == other.facts._replace(estimate=None)
        assert one.facts.estimate in (other.facts.estimate, *([] if with_estimates else [None]))
    assert {one.split for one in direct} == {"train", "valid"}
    assert {one.facts.path for one in of_stream} == {f"{number}.wav" for number in range(4, 34)}
