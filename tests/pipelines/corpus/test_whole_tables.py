"""The tables of a whole corpus come of those of its shards some thousand rows at a time, whatever these have."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from conftest import Tonemill
from pyarrow import parquet

from tonemill.pipelines.corpus import whole_tables
from tonemill.pipelines.corpus.shard_tables import REJECT_COLUMNS, index_table
from tonemill.pipelines.corpus.totals import RowTotals
from tonemill.pipelines.corpus.whole_tables import Pair, WholeTables
from tonemill.pipelines.maintenance.same_rows import SameRows
from tonemill.pipelines.storage.output_names import INDEX, REJECTS

SHARDS = 12
REASONS = {**dict.fromkeys(REJECT_COLUMNS.names), "step": "read", "outcome": "rejected", "reason": "unreadable"}


def pair(shard: int) -> Pair:
    """A field of one kind in most shards and of another in the last; a column that only some have; no rows in one."""
    rows: list[dict[str, Any]] = [
        {"source": f"{shard}/{row}", "sample_rate": 8000, "peak_db": -row, "take": str(row) if shard == 11 else row}
        for row in range(0 if shard == 4 else 5 + shard)
    ]
    for row in rows if shard % 3 == 0 else ():
        row |= {"declared_samples": 3, "gain_limited": True, "channels": 1 + shard // 6}
    refused = [REASONS] * (shard % 2)
    return index_table(rows), pa.Table.from_pylist(refused, schema=REJECT_COLUMNS)


def whole(tables: WholeTables, name: str) -> list[pa.Table]:
    return [group for one, group in tables.groups() if one == name]


@pytest.mark.parametrize("rows", [1, 7, 16, 1000])
@pytest.mark.parametrize("held", [0, 1500, 1 << 20])
def test_groups_are_the_rows_of_all_shards_in_one_schema(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, rows: int, held: int
) -> None:
    monkeypatch.setattr(whole_tables, "GROUP_ROWS", rows)
    monkeypatch.setattr(whole_tables, "MOST_HELD", held)
    read: list[int] = []

    def counted(number: int) -> Pair:
        read.append(number)
        return pair(number)

    tables = WholeTables(tmp_path, SHARDS, counted)
    groups = list(tables.groups())
    index, rejects = ([group for one, group in groups if one == name] for name in (INDEX, REJECTS))
    assert {group.num_rows for group in index[:-1]} <= {rows}
    assert len({group.schema for group in index}) == 1
    found = pa.concat_tables(index).to_pylist()
    wished = [row for shard in range(SHARDS) for row in pair(shard)[0].to_pylist()]
    assert [row["take"] for row in found] == [str(row["take"]) for row in wished]
    for column in ("source", "peak_db", "declared_samples", "channels"):
        assert [row[column] for row in found] == [row.get(column) for row in wished]
    assert pa.concat_tables(rejects).num_rows == SHARDS // 2
    # What has no room is read once for its schema and once for its rows.
    assert set(map(read.count, range(SHARDS))) == ({1} if held == 1 << 20 else {1, 2})
    sums = RowTotals(())
    for name, group in groups:
        sums.add(name, group)
    assert sums.before_splits() == {
        "columns": index[0].column_names,
        "sample_rate": 8000,
        "channels": None,
        "examples": len(found),
    }
    thirds = sum(1 for row in found if row["gain_limited"])
    assert sums.levels() == {"peak_db": 0, "gain_limited": thirds, "other_lengths": thirds}
    assert sums.reasons()["refused_by"] == {"rejected: unreadable (read)": SHARDS // 2}


def test_no_rows_at_all_are_a_table_without_columns(tmp_path: Path) -> None:
    tables = WholeTables(tmp_path, 2, lambda _: (index_table([]), REJECT_COLUMNS.empty_table()))
    assert [group.num_columns for group in whole(tables, INDEX)] == [0]
    assert [group.schema for group in whole(tables, REJECTS)] == [REJECT_COLUMNS]


@pytest.mark.parametrize("changed", [None, 0, 17, 39])
@pytest.mark.parametrize("at_once", [1, 16, 40, 41])
def test_one_other_row_is_noticed(tmp_path: Path, changed: int | None, at_once: int) -> None:
    table = pa.table({"key": [str(number) for number in range(40)]})
    other = pa.table({"key": ["x" if number == changed else str(number) for number in range(40)]})
    parquet.write_table(other, tmp_path / "t.parquet", row_group_size=13)
    same = SameRows(tmp_path / "t.parquet")
    for start in range(0, 40, at_once):
        same.add(table.slice(start, at_once))
    assert same.end() is (changed is None)


@pytest.mark.parametrize("count", [39, 41])
def test_rows_too_few_or_too_many_are_noticed(tmp_path: Path, count: int) -> None:
    parquet.write_table(pa.table({"key": list(range(40))}), tmp_path / "t.parquet")
    same = SameRows(tmp_path / "t.parquet")
    same.add(pa.table({"key": list(range(count))}))
    assert not same.end()


def test_a_corpus_in_many_row_groups_is_the_corpus_in_one(
    monkeypatch: pytest.MonkeyPatch, tonemill: Tonemill, corpus: Path, tmp_path: Path
) -> None:
    """In digest, description and rows."""
    copy = tmp_path / "corpus"
    shutil.copytree(corpus, copy)
    monkeypatch.setattr(whole_tables, "GROUP_ROWS", 3)
    for name in ("corpus.json", INDEX, REJECTS):
        (copy / name).unlink()
    tonemill("repair", copy, "-q").done()
    assert parquet.read_metadata(copy / INDEX).num_row_groups > 1
    assert parquet.read_table(copy / INDEX).equals(parquet.read_table(corpus / INDEX))
    before, after = (described(folder) for folder in (corpus, copy))
    assert after == before
    assert tonemill("verify", copy, "-q").code == 0


def described(folder: Path) -> Mapping[str, Any]:
    about = json.loads((folder / "corpus.json").read_bytes())
    return {name: value for name, value in about.items() if name not in ("files", "seal")}
