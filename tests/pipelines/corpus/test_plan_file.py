"""The plan's file: which rows are a shard's, what a shard costs, and what is compared with which digest."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from tonemill.audiotools.errors import CorpusError
from tonemill.pipelines.corpus import plan_file
from tonemill.pipelines.corpus.layout import OutputFolder
from tonemill.pipelines.corpus.plan_file import (
    EARLIER,
    SCHEMA,
    PlanFile,
    dump_plan,
    plan_is_whole,
    read_plan,
    read_whole,
    write_plan,
)
from tonemill.pipelines.planning.plan import Output, Plan, Planned, Rows, Shard, Splitting, pack
from tonemill.pipelines.planning.planner import make_plan
from tonemill.pipelines.recipes.recipe import Recipe
from tonemill.pipelines.storage.columns import table_of_rows
from tonemill.pipelines.storage.parts_file import PartsFile

SOURCES = 24


def planned(shard_seconds: float = 1.0, folder: str = "a") -> Plan:
    """Sources of a second each."""
    sources = {"audio": {"uri": "file:///x.wav", "frames": 8000, "sample_rate": 8000, "channels": 1}}
    recipes = [Recipe(f"{folder}/{number}.wav", sources, {}, []) for number in range(SOURCES)]
    return make_plan(recipes, Output("shards"), Splitting(), shard_seconds)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans whose row groups have five rows, so that shards begin and end within them, and lists of five shards."""
    monkeypatch.setattr(plan_file, "AT_ONCE", 5)


def counting(function: Callable[..., Any], counted: list[Any]) -> Callable[..., Any]:
    def call(*args: Any, **named: Any) -> Any:
        counted.append(args)
        return function(*args, **named)

    return call


# Which rows are a shard's


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("schema", [EARLIER, SCHEMA])
@pytest.mark.parametrize("shard_seconds", [1.0, 3.0, 7.0, 12.0, 100.0])
def test_each_shard_has_its_own_rows_in_either_format(tmp_path: Path, schema: int, shard_seconds: float) -> None:
    output, plan = OutputFolder(tmp_path, "shards"), planned(shard_seconds)
    write_plan(output, plan, schema)
    file = PlanFile(output.plan)
    assert file.whole() == plan and file.plan == replace(plan, rows=Rows())
    assert (file.count, file.output) == (len(plan.shards), plan.output)
    # The last first, so that no order of shards is needed.
    for number in reversed(range(len(plan.shards))):
        assert file.shard(number) == plan.shards[number]
        assert tuple(file.rows(number)) == plan.rows[number]
        assert file.find(plan.shards[number].name) == number
    assert file.find("test/000000") is None
    lines = [[row.line for row in rows] for rows in plan.rows]
    assert [table["recipe"].to_pylist() for table in file.tables(("key", "recipe"))] == lines
    some = [len(lines) - 1, 0]
    assert [table["recipe"].to_pylist() for table in file.tables(("recipe",), some)] == [lines[one] for one in some]
    assert [text for table in file.batches(("recipe",)) for text in table["recipe"].to_pylist()] == [
        line for shard in lines for line in shard
    ]
    for number in (-1, len(plan.shards)):
        with pytest.raises(CorpusError, match=f"(shard|part) {number} is needed|no (shard|part) {number}"):
            file.rows(number)


@pytest.mark.usefixtures("small_parts")
def test_other_programs_read_the_rows(tmp_path: Path) -> None:
    output, plan = OutputFolder(tmp_path, "shards"), planned(3.0)
    write_plan(output, plan)
    rows = parquet.read_table(output.plan).to_pylist()
    assert [row["recipe"] for row in rows] == [row.line for part in plan.rows for row in part]
    assert [row["shard"] for row in rows] == [
        shard.name for shard, part in zip(plan.shards, plan.rows, strict=True) for _ in part
    ]


def test_a_row_group_ends_where_its_recipes_are_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output, plan = OutputFolder(tmp_path, "shards"), planned(100.0)
    monkeypatch.setattr(plan_file, "MOST_TEXT", 2 * len(plan.rows[0][0].line))
    write_plan(output, plan)
    assert parquet.read_metadata(output.plan).num_row_groups >= SOURCES // 3
    assert read_whole(output.plan) == plan


@pytest.mark.parametrize("schema", [0, 3, "2"])
def test_a_plan_of_another_version_is_refused_in_words(tmp_path: Path, schema: object) -> None:
    with (tmp_path / "plan.parquet").open("wb") as file:
        dump_plan(planned(), file, schema)  # type: ignore[arg-type]
    with pytest.raises(
        CorpusError, match=rf"has schema {schema!r} \(the version of its format\); this tonemill reads 1 and 2"
    ):
        read_plan(tmp_path / "plan.parquet")


def test_earlier_versions_find_the_schema_where_they_look(tmp_path: Path) -> None:
    """They read it from the metadata of the table's schema, and refuse any but 1 with "Use the one that wrote it"."""
    output = OutputFolder(tmp_path, "shards")
    write_plan(output, planned())
    assert json.loads(parquet.read_schema(output.plan).metadata[b"tonemill"])["schema"] == 2


# What is read, and what is compared


@pytest.mark.usefixtures("small_parts")
def test_a_shard_costs_its_row_groups_and_one_table_of_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output, plan = OutputFolder(tmp_path, "shards"), planned(3.0)
    write_plan(output, plan)
    tables, groups, whole = list[Any](), list[Any](), list[Any]()
    monkeypatch.setattr(PartsFile, "table", counting(PartsFile.table, tables))
    monkeypatch.setattr(PartsFile, "group", counting(PartsFile.group, groups))
    monkeypatch.setattr(hashlib, "file_digest", counting(hashlib.file_digest, whole))
    file = PlanFile(output.plan)
    assert tuple(file.rows(6)) == plan.rows[6] and file.shard(6) == plan.shards[6]
    assert len(tables) == 1 and 1 <= len(groups) <= 2
    # The digest of the end, and of no more.
    assert len(whole) == 1
    groups.clear()
    for number in range(len(plan.shards)):
        file.rows(number)
    assert len(groups) <= -(-SOURCES // 5) + 1


@pytest.mark.usefixtures("small_parts")
def test_damage_is_found_where_it_is_read_and_nowhere_else(tmp_path: Path) -> None:
    output, plan = OutputFolder(tmp_path, "shards"), planned(3.0)
    write_plan(output, plan)
    whole, last = output.plan.read_bytes(), len(plan.shards) - 1
    for place, hurt, healthy in ((9, 0, last), (whole.index(b"PAR1", 4) + 9, 0, last)):
        output.plan.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        file = PlanFile(output.plan)
        assert tuple(file.rows(healthy)) == plan.rows[healthy]
        with pytest.raises(CorpusError, match="not those that were written"):
            file.rows(hurt)
        with pytest.raises(CorpusError, match="not those that were written"):
            file.whole()
        assert not plan_is_whole(output)
    output.plan.write_bytes(whole[:-20] + bytes([whole[-20] ^ 1]) + whole[-19:])
    with pytest.raises(CorpusError, match="not those that were written"):
        PlanFile(output.plan).rows(last)


@pytest.mark.usefixtures("small_parts")
def test_damage_is_found_without_the_record_beside_the_file(tmp_path: Path) -> None:
    output, plan = OutputFolder(tmp_path, "shards"), planned(3.0)
    write_plan(output, plan)
    output.plan_seal.unlink()
    assert read_whole(output.plan) == plan
    data = bytearray(output.plan.read_bytes())
    data[9] ^= 1
    output.plan.write_bytes(data)
    with pytest.raises(CorpusError, match="not those that were written"):
        read_whole(output.plan)


@pytest.mark.usefixtures("small_parts")
def test_a_plan_in_another_s_place_gives_no_rows_to_a_reader_of_the_first(tmp_path: Path) -> None:
    output, plan = OutputFolder(tmp_path, "shards"), planned(3.0)
    write_plan(output, plan)
    file = PlanFile(output.plan)
    assert file.shard(1) == plan.shards[1]
    write_plan(output, planned(3.0, "b"))
    with pytest.raises(CorpusError, match="not those that were written"):
        file.rows(1)


def test_the_footer_is_parsed_once_for_all_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output, plan = OutputFolder(tmp_path, "shards"), planned()
    assert len(plan.shards) == SOURCES
    write_plan(output, plan, EARLIER)
    # A file that was written just now may still change within a tick of the disk's clock.
    os.utime(output.plan, (1e9, 1e9))
    made: list[Any] = []

    def opening(*args: Any, **named: Any) -> Any:
        made.append(named)
        return opened(*args, **named)

    opened = parquet.ParquetFile
    monkeypatch.setattr(parquet, "ParquetFile", opening)
    for number in range(SOURCES):
        assert tuple(PlanFile(output.plan).rows(number)) == plan.rows[number]
    assert len([one for one in made if one.get("metadata") is None]) == 1


def test_a_plan_in_another_s_place_is_read_by_its_own_footer(tmp_path: Path) -> None:
    output = OutputFolder(tmp_path, "shards")
    for schema in (EARLIER, SCHEMA):
        for seconds, folder in ((1.0, "a"), (1.0, "b"), (5.0, "a")):
            plan = planned(seconds, folder)
            write_plan(output, plan, schema)
            for _ in range(2):
                assert read_whole(output.plan) == plan


# Lists that are not true


FALSE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another shard's rows": lambda shard: shard | {"first": 3},
    "rows before the first": lambda shard: shard | {"first": -1},
    "rows behind the last": lambda shard: shard | {"recipes": 1 << 40},
    "no first row": lambda shard: shard | {"first": None},
    "a name that leads out": lambda shard: shard | {"name": "../../000000"},
    "fewer recipes": lambda shard: shard | {"recipes": 2},
    "recipes below zero": lambda shard: shard | {"recipes": -1},
    "infinite seconds": lambda shard: shard | {"seconds": math.inf},
}


@pytest.mark.parametrize("how", FALSE)
def test_a_list_of_shards_that_is_not_true_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    first = iter([True])

    def table_of_false_rows(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
        return table_of_rows([FALSE[how](row) if next(first, False) else row for row in rows], schema)

    with (tmp_path / "plan.parquet").open("wb") as file, monkeypatch.context() as patch:
        patch.setattr(plan_file, "table_of_rows", table_of_false_rows)
        dump_plan(planned(3.0), file)
    for read in (read_plan, read_whole):
        with pytest.raises(CorpusError, match=r"not a plan|damaged"):
            read(tmp_path / "plan.parquet")
    if how != "fewer recipes":
        with pytest.raises(CorpusError):
            PlanFile(tmp_path / "plan.parquet").rows(0)


@pytest.mark.parametrize("value", [{"quality": "best"}, {"quality": 1.5}, {"quality": math.nan}, {"states_none": "no"}])
def test_an_output_that_no_command_writes_is_refused(tmp_path: Path, value: dict[str, Any]) -> None:
    with (tmp_path / "plan.parquet").open("wb") as file:
        dump_plan(replace(planned(), output=Output("files", "ogg", **value)), file)
    with pytest.raises(CorpusError, match=f"not a plan: its {next(iter(value))} is"):
        read_plan(tmp_path / "plan.parquet")


@pytest.mark.slow
def test_half_a_million_shards(tmp_path: Path) -> None:
    """Of a recipe each: each is read within 50 ms of CPU, without the others."""
    row = Planned(0, "0" * 16, "a", 1, 1.0, pack(Recipe("a.wav", {}, {"seed": 1}).to_line()))
    count = 500_000
    shards = tuple(Shard(f"train/{number:06d}", f"{number:064x}", 1, 1, 1.0, 1) for number in range(count))
    output = OutputFolder(tmp_path, "shards")
    write_plan(output, Plan(Output("shards"), shards, Rows([(row,)] * count)))
    for number in (0, 77_777, count - 1):
        begun = time.process_time()
        file = PlanFile(output.plan)
        assert file.shard(number) == shards[number] and file.rows(number) == [row]
        assert time.process_time() - begun < 0.05
    assert file.plan.shards == shards
