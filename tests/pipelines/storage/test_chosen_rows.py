"""Rows are found by number and by value in files of any row groups, and others are not read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from tonemill.audiotools.errors import CorpusError
from tonemill.pipelines.storage import parquet as tables
from tonemill.pipelines.storage.chosen_rows import rows_at, rows_with
from tonemill.pipelines.storage.parquet import TableFile, table_file

ROWS = 100
TABLE = pa.table({"key": [f"{row // 3}" for row in range(ROWS)], "tags": [["x"] * (row % 3) for row in range(ROWS)]})


@pytest.fixture(params=[1, 7, 33, ROWS], ids=lambda rows: f"groups of {rows}")
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    parquet.write_table(TABLE, tmp_path / "t.parquet", row_group_size=request.param)
    return tmp_path / "t.parquet"


@pytest.mark.parametrize("numbers", [[], [5], [99, 0, 7, 6], list(range(ROWS)), list(range(ROWS))[::-1]])
@pytest.mark.parametrize("columns", [None, ["key"]])
def test_rows_come_in_the_order_of_their_numbers(path: Path, numbers: list[int], columns: list[str] | None) -> None:
    with table_file(path) as table:
        found = rows_at(table, np.array(numbers, np.int64), columns)
    assert found.equals((TABLE if columns is None else TABLE.select(columns)).take(pa.array(numbers, pa.int64())))


@pytest.mark.parametrize("value", ["0", "17", "33", "none"])
def test_rows_come_by_a_value(path: Path, value: str) -> None:
    with table_file(path) as table:
        assert list(rows_with(table, "key", value)) == [row for row in TABLE.to_pylist() if row["key"] == value]
        assert list(rows_with(table, "no such column", value)) == []


def test_of_row_groups_without_them_nothing_else_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet.write_table(TABLE, tmp_path / "t.parquet", row_group_size=10)
    read: list[tuple[object, int | None]] = []
    batches = TableFile.batches

    def counted(self: TableFile, columns: object = None, number: int | None = None) -> object:
        read.append((columns, number))
        return batches(self, columns, number)  # type: ignore[arg-type]

    monkeypatch.setattr(TableFile, "batches", counted)
    with table_file(tmp_path / "t.parquet") as table:
        rows_at(table, np.array([25, 71]))
        assert [number for _, number in read] == [2, 7]
        read.clear()
        list(rows_with(table, "key", "5"))
    assert [number for columns, number in read if columns is None] == [1]


def test_the_limit_of_memory_holds_for_a_batch_where_batches_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = pa.table({"x": np.arange(100_000)})
    parquet.write_table(table, tmp_path / "t.parquet", row_group_size=1000)
    monkeypatch.setattr(tables, "MOST_BYTES", 200_000)
    with table_file(tmp_path / "t.parquet") as file:
        assert sum(batch.num_rows for batch in file.batches()) == table.num_rows
    with pytest.raises(CorpusError, match="would take"):
        tables.read_table(tmp_path / "t.parquet")
    parquet.write_table(table, tmp_path / "t.parquet")
    with table_file(tmp_path / "t.parquet") as file, pytest.raises(CorpusError, match="would take"):
        list(file.batches())
