"""Seats that are made after those of another plan are those that parsing every recipe gives."""

from __future__ import annotations

import pytest

from tonemill.pipelines.planning import seats
from tonemill.pipelines.planning.plan import Output, Splitting
from tonemill.pipelines.planning.planner import make_plan
from tonemill.pipelines.planning.seats import seats_of
from tonemill.pipelines.recipes.recipe import Recipe


def recipes(first: int, count: int) -> list[Recipe]:
    facts = {"sample_rate": 8000, "channels": 1, "frames": 80_000}
    return [
        Recipe(f"{number}.wav", {"audio": {"uri": f"file:///{number}.wav", "sha256": f"{number:064x}", **facts}})
        for number in range(first, first + count)
    ]


@pytest.mark.parametrize("with_sound", [False, True])
def test_recipes_of_one_text_are_parsed_once(monkeypatch: pytest.MonkeyPatch, with_sound: bool) -> None:
    old, new = (
        make_plan(recipes(first, 30), Output("shards", "flac", None), Splitting(valid=share), 20.0)
        for first, share in ((0, 0.5), (4, 0.0))
    )
    sought, direct = seats_of(new, with_sound), seats_of(old, with_sound)
    parsed: list[str] = []
    seat = seats._seat
    monkeypatch.setattr(seats, "_seat", lambda row, *more: (parsed.append(row.recipe.path), seat(row, *more))[1])
    assert seats_of(old, with_sound, sought) == direct
    assert sorted(parsed) == sorted(f"{number}.wav" for number in range(4))
    assert {one.split for one in direct} == {"train", "valid"}
