"""The plan's file: its cost for each shard, and plans that no reader would take."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from tonemill.audiotools.errors import UsageError
from tonemill.pipelines.corpus.layout import OutputFolder
from tonemill.pipelines.corpus.plan_file import read_plan, read_rows, read_whole, write_plan
from tonemill.pipelines.planning.plan import Output, Plan, Splitting
from tonemill.pipelines.planning.planner import make_plan
from tonemill.pipelines.recipes.recipe import Recipe
from tonemill.pipelines.storage import parquet as parquet_files

SOURCES = 24


def planned(shard_seconds: float = 1.0, folder: str = "a") -> Plan:
    """Sources of a second each."""
    sources = {"audio": {"uri": "file:///x.wav", "frames": 8000, "sample_rate": 8000, "channels": 1}}
    recipes = [Recipe(f"{folder}/{number}.wav", sources, {}, []) for number in range(SOURCES)]
    return make_plan(recipes, Output("shards"), Splitting(), shard_seconds)


def counting(function: Callable[..., Any], counted: list[Any]) -> Callable[..., Any]:
    def call(*args: Any, **named: Any) -> Any:
        counted.append(named)
        return function(*args, **named)

    return call


def test_the_footer_is_parsed_once_for_all_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output, plan = OutputFolder(tmp_path, "shards"), planned()
    assert len(plan.shards) == SOURCES
    write_plan(output, plan)
    # A file that was written just now may still change within a tick of the disk's clock.
    os.utime(output.plan, (1e9, 1e9))
    made: list[Any] = []
    monkeypatch.setattr(parquet, "ParquetFile", counting(parquet.ParquetFile, made))
    for number in range(SOURCES):
        assert tuple(read_rows(output.plan, number)) == plan.rows[number]
    assert len([one for one in made if one.get("metadata") is None]) == 1
    made.clear()
    assert read_whole(output.plan) == plan
    assert len(made) == 2


def test_a_plan_in_another_s_place_is_read_by_its_own_footer(tmp_path: Path) -> None:
    output = OutputFolder(tmp_path, "shards")
    for seconds, folder in ((1.0, "a"), (1.0, "b"), (5.0, "a")):
        plan = planned(seconds, folder)
        write_plan(output, plan)
        for _ in range(2):
            assert read_whole(output.plan) == plan


def test_a_plan_of_too_many_shards_is_refused_before_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = OutputFolder(tmp_path, "shards")
    write_plan(output, planned(8.0))
    before = read_plan(output.plan)
    monkeypatch.setattr(parquet_files, "MOST_METADATA", output.plan.stat().st_size)
    with pytest.raises(UsageError, match=f"{SOURCES} shards, which no reader takes") as caught:
        write_plan(output, planned())
    assert read_plan(output.plan) == before
    advice = re.search(r"--shard-seconds (\d+)", str(caught.value))
    assert advice is not None
    write_plan(output, planned(float(advice[1])))
    assert read_whole(output.plan) == planned(float(advice[1]))
