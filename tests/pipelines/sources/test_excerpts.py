"""Columns of where a row begins and ends are found by their names, and read in the unit that these state."""

from __future__ import annotations

from pathlib import Path

import pytest

from tonemill.pipelines.recipes.recipe import Recipe
from tonemill.pipelines.sources.excerpts import join_table
from tonemill.pipelines.sources.tables import read_table

RATE = 8000


@pytest.mark.parametrize(
    ("columns", "row"),
    [
        ("start,end", "61.5,63"),
        ("onset,offset", "61.5,63"),
        ("offset,duration", "61.5,1.5"),
        ("start_ms,end_ms", "61500,63000"),
        ("startMs,endMs", "61500,63000"),
        ("start_ms,duration", "61500,1.5"),
        ("start_sample,end_sample", f"{61.5 * RATE:.0f},{63 * RATE}"),
        ("Begin Time (s),End Time (s)", "61.5,63"),
        ("start_seconds,end_seconds", "61.5,63"),
        ("start,end", "1:01.5,1:03"),
        ("start,end", "00:01:01.500,00:01:03.000"),
    ],
)
def test_an_excerpt_is_where_its_row_places_it(tmp_path: Path, columns: str, row: str) -> None:
    table, files = tmp_path / "t.csv", [("day.wav", "/data/day.wav")]
    table.write_text(f"path,{columns},label\nday.wav,{row},wren\n")
    source = {"uri": "file:///data/day.wav", "sample_rate": RATE, "channels": 1, "frames": 100 * RATE}
    for typed in (None, columns):
        found = join_table(read_table(table), files, None, typed)
        (one,) = found.recipes(Recipe("day.wav", {"audio": source}, {}))
        assert (one.start, one.frames, one.fields) == (61.5 * RATE, 1.5 * RATE, {"label": "wren"})
