"""Columns of where a row begins and ends are found by their names, and read in the unit that these state."""

from __future__ import annotations

from pathlib import Path

import pytest

from tonemill.audiotools.errors import UsageError
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
        ("from,to", "61.5,63"),
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


@pytest.mark.parametrize(
    ("typed", "row"),
    [
        ("t0,t1,ms", "61500,63000"),
        ("t0,t1,samples", f"{61.5 * RATE:.0f},{63 * RATE}"),
        ("t0,t1,s", "61.5,63"),
        ("t0,length,sample", f"{61.5 * RATE:.0f},{1.5 * RATE:.0f}"),
    ],
)
def test_a_unit_is_typed_behind_the_columns(tmp_path: Path, typed: str, row: str) -> None:
    table, files = tmp_path / "t.csv", [("day.wav", "/data/day.wav")]
    begun, ended, _ = typed.split(",")
    table.write_text(f"path,{begun},{ended}\nday.wav,{row}\n")
    source = {"uri": "file:///data/day.wav", "sample_rate": RATE, "channels": 1, "frames": 100 * RATE}
    (one,) = join_table(read_table(table), files, None, typed).recipes(Recipe("day.wav", {"audio": source}, {}))
    assert (one.start, one.frames) == (61.5 * RATE, 1.5 * RATE)


def test_samples_that_are_read_as_seconds_are_refused_with_the_way_to_say_so(tmp_path: Path) -> None:
    table, files = tmp_path / "t.csv", [("day.wav", "/data/day.wav")]
    table.write_text("path,start,end\nday.wav,4000,8000\n")
    source = {"uri": "file:///data/day.wav", "sample_rate": RATE, "channels": 1, "frames": 100 * RATE}
    found = join_table(read_table(table), files, None, None)
    with pytest.raises(UsageError, match="--excerpts START,END,samples"):
        list(found.recipes(Recipe("day.wav", {"audio": source}, {})))
    for typed in ("start", "start,", "start,finish", "start,end,furlongs"):
        with pytest.raises(UsageError, match=r"START,END|no column"):
            join_table(read_table(table), files, None, typed)


def test_a_track_of_labels_is_of_the_one_file_that_is_scanned(tmp_path: Path) -> None:
    """As Audacity exports it: no names of columns, and none of a file."""
    labels, files = tmp_path / "labels.txt", [("day.wav", "/data/day.wav")]
    labels.write_text("1.500000\t2.000000\twren\n8.000000\t9.250000\ta robin\n")
    table = read_table(labels, columns=("start", "end", "label"))
    source = {"uri": "file:///data/day.wav", "sample_rate": RATE, "channels": 1, "frames": 10 * RATE}
    found = list(join_table(table, files, None, None).recipes(Recipe("day.wav", {"audio": source}, {})))
    assert [(one.start / RATE, (one.frames or 0) / RATE, one.fields["label"]) for one in found] == [
        (1.5, 0.5, "wren"),
        (8.0, 1.25, "a robin"),
    ]
    with pytest.raises(UsageError, match="no column 'path'"):
        join_table(table, [*files, ("night.wav", "/data/night.wav")], None, None)
