"""Seats that are made after those of another plan are those that parsing every recipe gives."""

from __future__ import annotations

import gc
from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest

from tonemill.pipelines.planning import seats
from tonemill.pipelines.planning.growth import grow
from tonemill.pipelines.planning.plan import SPLITS, Output, Planned, Splitting
from tonemill.pipelines.planning.planner import expected, make_plan
from tonemill.pipelines.planning.seats import Known, are_alike, numbered
from tonemill.pipelines.recipes.recipe import Recipe

OUTPUT = Output("shards")


def recipes(first: int, count: int) -> list[Recipe]:
    facts = {"sample_rate": 8000, "channels": 1, "frames": 80_000}
    return [
        Recipe(f"{number}.wav", {"audio": {"uri": f"file:///{number}.wav", "sha256": f"{number:064x}", **facts}})
        for number in range(first, first + count)
    ]


@pytest.mark.parametrize("with_estimates", [False, True])
def test_recipes_of_one_text_are_parsed_once(monkeypatch: pytest.MonkeyPatch, with_estimates: bool) -> None:
    known, alone = Known(with_estimates), Known(with_estimates=True)
    old = make_plan(recipes(0, 30), OUTPUT, Splitting(valid=0.5), 20.0)
    new = make_plan(recipes(4, 30), OUTPUT, Splitting(), 20.0, note=known.note)
    direct = alone.seats(old, is_wished=False)
    monkeypatch.setattr(seats, "expected", estimated := Mock(wraps=expected))
    monkeypatch.setattr(known, "note", parsed := Mock(wraps=known.note))
    of_stream, found = known.seats(new, is_wished=True), known.seats(old, is_wished=False)
    assert parsed.call_count == 4, "those that the stream lacks"
    assert estimated.call_count == (4 if with_estimates else 0)
    for name in set(seats.SEAT.names or ()) - {"fact"}:
        assert (found[name] == direct[name]).all(), name
    mine, theirs = known.facts[found["fact"]], alone.facts[direct["fact"]]
    for name in set(seats.FACTS.names or ()) - {"expected"}:
        assert (mine[name] == theirs[name]).all(), name
    is_lacking = (mine["expected"] == -1).all(1)
    assert ((mine["expected"] == theirs["expected"]).all(1) | is_lacking).all()
    assert is_lacking.sum() == (0 if with_estimates else 4)
    assert {SPLITS[split] for split in found["split"]} == {"train", "valid"}
    assert [f"{key:016x}" for key in of_stream["key"]] == [row.key for rows in new.rows for row in rows]


def test_plans_are_alike_where_they_have_the_same_recipes_wherever_the_sources_lie(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    some = recipes(0, 30)
    twice = [*some, some[3]]
    elsewhere = [replace(one, sources={"audio": {**one.sources["audio"], "uri": "file:///b.wav"}}) for one in some[:5]]

    def plan(recipes: list[Recipe], valid: float = 0.3) -> Plan:
        return make_plan(recipes, OUTPUT, Splitting(valid=valid), 20.0)

    one = plan(twice)
    monkeypatch.setattr(seats, "_canonical", parsed := Mock(wraps=seats._canonical))
    assert are_alike(one, plan(twice[::-1])) and not parsed.call_count
    assert are_alike(one, plan([*elsewhere, *twice[5:]]))
    # Of the source that is there twice one recipe has moved, so all that have its two texts are parsed.
    assert parsed.call_count == 2 * (5 + 1)
    for other in (plan(some), plan([*twice, some[3]]), plan([*some, some[4]]), plan(twice, 0.0)):
        assert not are_alike(one, other) and not are_alike(other, one)


def test_equal_rows_have_one_number() -> None:
    values = np.random.default_rng(0).integers(0, 3, (200, 2))
    numbers = numbered(values)
    equal = (values[:, None] == values).all(2)
    assert (equal == (numbers[:, None] == numbers)).all() and len(numbered(values[:0])) == 0


def test_growing_holds_few_recipes_as_objects() -> None:
    """As objects a million recipes of two plans take more than a gigabyte."""
    old = make_plan(recipes(0, 3000), OUTPUT, Splitting(), 100.0)
    grown = grow(old, make_plan(recipes(500, 3000), OUTPUT, Splitting(), 100.0), "update", 100.0)
    assert (grown.there, grown.added, grown.gone) == (2500, 500, 500)
    assert sum(type(one) is Planned for one in gc.get_objects()) < 1000
    sizes = [len(one) for plan in (old, grown.plan) for one in plan.rows._shards]
    assert sum(sizes) / 6000 < 250, "bytes for each recipe"
