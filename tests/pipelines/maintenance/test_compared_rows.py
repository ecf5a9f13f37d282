"""A comparison holds keys and digests of a corpus, and finds the rows that it needs in the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from tonemill.audiotools.errors import CorpusError
from tonemill.pipelines.maintenance import compared_rows
from tonemill.pipelines.maintenance.compared_rows import ComparedRows, places_in


def index_of(path: Path, rows: list[dict[str, Any]], group: int) -> ComparedRows:
    parquet.write_table(pa.Table.from_pylist(rows), path, row_group_size=group)
    return ComparedRows(path)


ROWS = [
    {"key": f"{row:x}-0000", "shard": f"{row // 9}", "dry_sha256": f"{row:064x}", "wet_sha256": None, "peak_db": -1.0}
    for row in range(50)
]


@pytest.mark.parametrize("group", [1, 8, 64])
def test_only_another_digest_of_a_part_is_a_difference(
    tmp_path: Path, group: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compared_rows, "AT_ONCE", 5)
    other = [dict(row) for row in ROWS[::-1]]
    other[3]["dry_sha256"] = "0" * 64
    # The same digest at another role is another example.
    other[7] |= {"wet_sha256": other[7]["dry_sha256"], "dry_sha256": None}
    other[9]["peak_db"] = 0.0
    a, b = index_of(tmp_path / "a", ROWS, group), index_of(tmp_path / "b", other, 64)
    there = np.asarray(places_in(a.keys, b.keys))
    assert there.tolist() == list(range(50))[::-1]
    here = np.arange(50)
    differ = np.flatnonzero(a.differ(here, b, there))
    assert differ.tolist() == [50 - 1 - 7, 50 - 1 - 3]
    several = np.array([40, 2, 30, 3, 4, 5, 9, 1])
    assert [row["key"] for row in a.rows(several)] == [ROWS[one]["key"] for one in several]
    assert "peak_db" not in next(a.rows(several))


def test_keys_that_are_not_there_have_no_place(tmp_path: Path) -> None:
    a, b = index_of(tmp_path / "a", ROWS[:4], 64), index_of(tmp_path / "b", ROWS[2:], 64)
    assert places_in(a.keys, b.keys).to_pylist() == [None, None, 0, 1]
    assert places_in(a.keys, a.keys).to_pylist() == [0, 1, 2, 3]


def test_an_index_without_rows(tmp_path: Path) -> None:
    parquet.write_table(pa.table({}), tmp_path / "none")
    assert len(ComparedRows(tmp_path / "none").keys) == 0


@pytest.mark.parametrize("rows", [ROWS[:20], ROWS[::-1]], ids=["fewer", "others"])
def test_an_index_that_was_replaced_meanwhile_is_refused(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    before = index_of(tmp_path / "a", ROWS, 8)
    index_of(tmp_path / "a", rows, 8)
    with pytest.raises(CorpusError, match="changed while it was read"):
        list(before.rows(np.array([30, 2])))
