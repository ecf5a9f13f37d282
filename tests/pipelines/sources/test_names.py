"""A name of a table finds the file that a person means by it, or none, and never one of several."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from tonemill.audiotools.errors import UsageError
from tonemill.pipelines.sources.names import Files, Joined, join
from tonemill.pipelines.sources.tables import Row, Table

FOUND = [
    ("songA/00.flac", "/data/set/songA/00.flac"),
    ("songB/00.flac", "/data/set/songB/00.flac"),
    ("songB/take.1.wav", "/data/set/songB/take.1.wav"),
    ("Café/Kick 01.WAV", "/data/set/Café/Kick 01.WAV"),
    ("solo.mp3", "/data/set/solo.mp3"),
]


def joined(
    *names: object, found: list[tuple[str, str]] = FOUND, column: str = "path", **fields: list[object]
) -> Joined:
    rows = [Row(n, {column: name, **{k: v[n - 2] for k, v in fields.items()}}) for n, name in enumerate(names, 2)]
    return join(Table(Path("t.csv"), (column, *fields), tuple(rows), {}), Files(found))


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("songA/00.flac", "songA/00.flac"),
        ("songA/00.wav", "songA/00.flac"),
        ("songA/00", "songA/00.flac"),
        ("./songA/00.flac", "songA/00.flac"),
        ("set/songA/00.mp3", "songA/00.flac"),
        ("/home/me/corpora/songA/00.flac", "songA/00.flac"),
        ("/data/set/songA/00.flac", "songA/00.flac"),
        ("C:\\sounds\\songA\\00.wav", "songA/00.flac"),
        ("SONGA/00.FLAC", "songA/00.flac"),
        ("take.1", "songB/take.1.wav"),
        ("take.1.wav", "songB/take.1.wav"),
        (unicodedata.normalize("NFD", "Café/kick 01.wav"), "Café/Kick 01.WAV"),
        (" solo ", "solo.mp3"),
        ("Caf%C3%A9/Kick%2001.WAV", "Café/Kick 01.WAV"),
        ("https://sounds.example/set/songB/take.1.wav?download=1#t=2", "songB/take.1.wav"),
        ({"path": "songA/00.flac", "bytes": None}, "songA/00.flac"),
    ],
)
def test_a_name_in_any_spelling_finds_its_file(name: object, path: str) -> None:
    assert list(joined(name).rows) == [path]


@pytest.mark.parametrize("name", ["songC/00.flac", "take", "0", "1", "01", "songB/solo.mp3", "ake.1", ""])
def test_a_name_that_is_of_no_file_finds_none(name: str) -> None:
    result = joined(name, "solo")
    assert list(result.rows) == ["solo.mp3"]
    assert [row.line for row in result.lonely_rows] == [2]


@pytest.mark.parametrize("name", ["00.flac", "00", "00.wav", "elsewhere/../00.flac"[-7:]])
def test_a_name_that_fits_several_files_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"line 2: .* fits several files \(songA/00.flac, songB/00.flac\)"):
        joined(name)


def test_rows_that_differ_and_mean_one_file_are_refused() -> None:
    with pytest.raises(UsageError, match=r"line 2 and line 3, whose singer is 'Cy' and 'Di'"):
        joined("solo.mp3", "./solo", singer=["Cy", "Di"])
    assert len(joined("solo.mp3", "solo.mp3", singer=["Cy", "Cy"]).rows["solo.mp3"]) == 1


def test_of_files_that_fit_the_one_that_is_spelt_so_is_meant() -> None:
    found = [(path, f"/x/{path}") for path in ("a.wav", "A.WAV", "a.flac", "b/a.wav")]
    result = joined("a.flac", "A.WAV", "a.wav", "b/a.wav", found=found, n=[1, 2, 3, 4])
    assert {path: rows[0].values["n"] for path, rows in result.rows.items()} == {
        "a.flac": 1,
        "A.WAV": 2,
        "a.wav": 3,
        "b/a.wav": 4,
    }


def test_a_folder_above_the_scanned_one_distinguishes_rows() -> None:
    """A table of two songs, of which one is scanned: the other's rows are not given to its files."""
    result = joined("songA/01.wav", "songB/01.wav", found=[("01.wav", "/data/songB/01.wav")], who=["Cy", "Di"])
    assert result.rows["01.wav"][0].values["who"] == "Di"
    assert [row.line for row in result.lonely_rows] == [2]


@pytest.mark.parametrize(
    "column",
    ["path", "File", "file_name", "fileName", "fname", "slice_file_name", "audio_filepath", "ID", "Audio File"],
)
def test_columns_that_people_use_are_joined_on(column: str) -> None:
    assert joined("solo", column=column).naming.used == [column]


def test_the_column_that_names_files_is_taken_of_several() -> None:
    result = joined("A Song", column="name", id=["solo"])
    assert result.naming.used == ["id"]


def test_a_table_without_a_column_of_names_is_refused() -> None:
    with pytest.raises(UsageError, match="--join COLUMN"):
        joined("solo", column="label")
    with pytest.raises(UsageError, match=r"No name in column 'path' .* 'sola', and a file is called 'solo.mp3'"):
        joined("sola")


@pytest.mark.parametrize(("number", "path"), [(2, "000/000002.mp3"), ("25", "000/000025.mp3"), (2.0, "000/000002.mp3")])
def test_numbers_that_lost_their_zeros_find_their_files(number: object, path: str) -> None:
    """As pandas writes the ids of FMA."""
    found = [(f"000/{n:06d}.mp3", f"/fma/000/{n:06d}.mp3") for n in (2, 25, 3)]
    assert list(joined(number, found=found, column="track_id").rows) == [path]


def test_zeros_are_made_up_only_where_no_name_fits_as_it_is() -> None:
    result = joined("1", "2", found=[("1.wav", "/x/1.wav"), ("002.wav", "/x/002.wav")])
    assert list(result.rows) == ["1.wav"]
    assert [row.line for row in result.lonely_rows] == [3]


def test_several_columns_together_name_a_file() -> None:
    """As in UrbanSound8K, whose folds hold files of one name."""
    found = [(f"fold{n}/00.wav", f"/u/fold{n}/00.wav") for n in (1, 2)]
    rows = [Row(n + 1, {"slice_file_name": "00.wav", "fold": n, "class": f"c{n}"}) for n in (1, 2)]
    table = Table(Path("t.csv"), ("slice_file_name", "fold", "class"), tuple(rows), {})
    with pytest.raises(UsageError, match=r"--join 'fold\{fold\}/\{file\}'"):
        join(table, Files(found))
    result = join(table, Files(found), "fold{fold}/{slice_file_name}")
    assert {path: table.fields(rows[0], *result.naming.used) for path, rows in result.rows.items()} == {
        f"fold{n}/00.wav": {"fold": n, "class": f"c{n}"} for n in (1, 2)
    }
    with pytest.raises(UsageError, match="has no column 'folder'"):
        join(table, Files(found), "{folder}/{slice_file_name}")


@pytest.mark.parametrize(("columns", "advice"), [(("solo.mp3", "kick"), "path,c1"), (("solo a song",), "path,c1")])
def test_a_first_line_that_is_a_row_is_noticed(columns: tuple[str, ...], advice: str) -> None:
    table = Table(Path("t.csv"), columns, (Row(2, dict.fromkeys(columns, "x")),), {})
    with pytest.raises(UsageError, match=f"Its first line names a file and no columns; --columns {advice} "):
        join(table, Files(FOUND))
