"""Leaks: groups that straddle splits are counted and named; dealing by a group leaves none of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tonemill.pipelines.corpus.plan_file import dump_plan
from tonemill.pipelines.maintenance.leaks import leaks
from tonemill.pipelines.planning.plan import Output, Splitting
from tonemill.pipelines.planning.planner import make_plan
from tonemill.pipelines.recipes.recipe import Recipe


def plan_file(folder: Path, splitting: Splitting, count: int = 200) -> Path:
    """Sources of which two each hold the same bytes, and ten each a singer."""
    recipes = []
    for number in range(count):
        header = {"sha256": f"{number // 2:064x}", "sample_rate": 8000, "channels": 1, "frames": 8000}
        fields = {"singer": f"s{number // 10}"}
        path = f"{number:03d}.wav"
        recipes.append(Recipe(path, {"audio": {"uri": f"file:///x/{path}", **header}}, fields))
    with (folder / "plan.parquet").open("wb") as file:
        dump_plan(make_plan(recipes, Output("shards"), splitting, 20.0), file)
    return folder / "plan.parquet"


def test_a_plan_of_one_split_leaks_nothing(tmp_path: Path) -> None:
    assert leaks(plan_file(tmp_path, Splitting())) == []


def test_a_plan_dealt_by_singer_has_no_singer_twice(tmp_path: Path) -> None:
    found = {leak.group: leak for leak in leaks(plan_file(tmp_path, Splitting(valid=0.4, group="singer")))}
    assert found["singer"].dealt_by and found["singer"].count == 0
    assert found["equal bytes"].count == 0


def test_copies_in_two_splits_are_counted_and_shown(tmp_path: Path) -> None:
    found = {leak.group: leak for leak in leaks(plan_file(tmp_path, Splitting(valid=0.4, group="path")), shown=3)}
    copies = found["equal bytes"]
    assert not copies.dealt_by
    # A pair dealt by path straddles with probability 2 * 0.4 * 0.6: 48 of 100, give or take five deviations.
    assert 23 <= copies.count <= 73
    assert len(copies.examples) == 3
    assert all(sorted(place.split(": ")[0] for place in one) == ["train", "valid"] for one in copies.examples)


@pytest.mark.parametrize("one_in", [2, 5])
def test_a_part_of_the_groups_keeps_the_share_of_leaks(tmp_path: Path, one_in: int) -> None:
    path = plan_file(tmp_path, Splitting(valid=0.4, group="path"), 2000)
    found = {leak.group: leak for leak in leaks(path, most=2000 // one_in)}["equal bytes"]
    assert found.one_in == one_in
    assert found.count * one_in == pytest.approx(480, rel=0.4)
