"""`scan`: the same stable stream for any order of arguments, with metadata from names and tables."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from conftest import RATE, Tonemill, lines_of, write_wav
from pyarrow import parquet

from tonemill.audiotools.codecs import ffmpeg


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four sounds in nested folders, and what is none."""
    for number, name in enumerate(("b/2_bob.wav", "b/c/1_ann.WAV", "a/1_ann.wav", "3_cy.flac")):
        write_wav(tmp_path / "in" / name, 1000 + number, number)
    (tmp_path / "in" / "notes.txt").touch()
    (tmp_path / "in" / "a" / "._1_ann.wav").touch()
    return tmp_path / "in"


def scanned(tonemill: Tonemill, *words: object, stdin: bytes = b"") -> list[dict[str, Any]]:
    return lines_of(tonemill("scan", "-q", *words, stdin=stdin).done().out)


def test_a_folder_is_walked_in_the_order_of_paths(tonemill: Tonemill, folder: Path) -> None:
    found = [one["path"] for one in scanned(tonemill, folder)]
    assert found == ["3_cy.flac", "a/1_ann.wav", "b/2_bob.wav", "b/c/1_ann.WAV"]


def test_headers_and_digests_are_read(tonemill: Tonemill, folder: Path) -> None:
    (one,) = scanned(tonemill, folder / "b" / "2_bob.wav")
    data = (folder / "b" / "2_bob.wav").read_bytes()
    audio = one["sources"]["audio"]
    assert audio["uri"] == f"file://{folder}/b/2_bob.wav"
    assert audio["sha256"] == hashlib.sha256(data).hexdigest()
    assert (audio["bytes"], audio["frames"], audio["sample_rate"], audio["channels"]) == (len(data), 1000, RATE, 1)
    (one,) = scanned(tonemill, folder / "b" / "2_bob.wav", "--digest", "none")
    assert "sha256" not in one["sources"]["audio"]


def test_the_order_of_arguments_does_not_matter(tonemill: Tonemill, folder: Path) -> None:
    places = [folder / "a", folder / "b", folder / "b" / "c", folder / "3_cy.flac", folder / "a"]
    assert scanned(tonemill, *places) == scanned(tonemill, *reversed(places))
    assert len(scanned(tonemill, *places)) == 4


def test_the_number_of_threads_does_not_matter(tonemill: Tonemill, raw: Path) -> None:
    assert scanned(tonemill, raw, "--workers", 1) == scanned(tonemill, raw, "--workers", 5)


def test_places_can_be_spelt_in_any_way(tonemill: Tonemill, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert scanned(tonemill, ".") == scanned(tonemill, f"{folder}/") == scanned(tonemill, "b/..")


def test_names_come_from_a_pipe(tonemill: Tonemill, folder: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9 1.wav"))
    odd.write_bytes((folder / "a" / "1_ann.wav").read_bytes())
    names = [folder / "3_cy.flac", folder / "b", odd]
    stdin = b"\n".join(os.fsencode(name) for name in names) + b"\n\n"
    found = scanned(tonemill, "-", stdin=stdin)
    uris = {one["sources"]["audio"]["uri"] for one in found}
    assert uris == {one["sources"]["audio"]["uri"] for one in scanned(tonemill, *names)}
    # The folders that they do not have in common stay; b alone would give 2_bob.wav.
    assert [one["path"] for one in found] == ["3_cy.flac", "b/2_bob.wav", "b/c/1_ann.WAV", "caf\\xe9 1.wav"]


def test_names_from_a_pipe_keep_the_folders_that_differ(tonemill: Tonemill, folder: Path) -> None:
    names = [folder / "a" / "1_ann.wav", folder / "b" / "c" / "1_ann.WAV"]
    stdin = "\n".join(map(str, names)).encode()
    expected = ["a/1_ann.wav", "b/c/1_ann.WAV"]
    fields = [{"room": "a", "take": "1_ann"}, {"room": "c", "take": "1_ann"}]
    found = scanned(tonemill, "-", "--fields", "{room}/{take}", stdin=stdin)
    assert ([one["path"] for one in found], [one["fields"] for one in found]) == (expected, fields)
    found = scanned(tonemill, "-", "--root", folder.parent, stdin=stdin)
    assert [one["path"] for one in found] == [f"in/{path}" for path in expected]
    tonemill("scan", "-", "--root", folder / "a", stdin=stdin).refused(2, "is not in --root")


def test_files_of_one_name_that_are_named_one_by_one_keep_their_folders(tonemill: Tonemill, folder: Path) -> None:
    write_wav(folder / "b" / "1_ann.wav", 1000, 9)
    found = scanned(tonemill, folder / "b" / "1_ann.wav", folder / "a" / "1_ann.wav", folder / "3_cy.flac")
    assert [one["path"] for one in found] == ["3_cy.flac", "a/1_ann.wav", "b/1_ann.wav"]


@pytest.mark.parametrize(
    ("between", "flags"), [("\r\n", []), ("\0", ["-0"]), ("\0", []), ("\n", ["utf-16"])], ids=["crlf", "0", "nul", "16"]
)
def test_lists_come_from_any_program(tonemill: Tonemill, folder: Path, between: str, flags: list[str]) -> None:
    text = between.join([str(folder / "3_cy.flac"), str(folder / "b" / "2_bob.wav"), ""])
    coding = flags.pop() if flags == ["utf-16"] else "utf-8-sig"
    found = scanned(tonemill, "-", *flags, stdin=text.encode(coding))
    assert [one["path"] for one in found] == ["3_cy.flac", "b/2_bob.wav"]


def test_a_name_of_a_list_that_is_of_no_file_becomes_a_reject(tonemill: Tonemill, folder: Path, tmp_path: Path) -> None:
    stdin = f"{folder}/3_cy.flac\n{folder}/b/gone.wav\n".encode()
    ended = tonemill("scan", "-", stdin=stdin).done()
    assert f"1 of the given names are of no file, as {folder}/b/gone.wav" in ended.err
    line = tonemill("shard", tmp_path / "out", "-q", stdin=ended.out).done().line
    assert (line["examples"], line["reasons"]) == (1, {"rejected: missing": 1})
    tonemill("scan", folder / "b" / "gone.wav").refused(2, "no file or folder")


def test_an_empty_pipe_of_names_is_reported(tonemill: Tonemill) -> None:
    ended = tonemill("scan", "-", stdin=b"")
    ended.refused(2, "No file names")


def test_what_is_not_audio_is_passed_over_and_counted(tonemill: Tonemill, folder: Path) -> None:
    err = tonemill("scan", folder).done().err
    assert "Skipped 2 files" in err
    assert "1 .txt" in err
    # As a Mac writes beside each sound.
    assert "1 hidden .wav" in err


def test_a_folder_without_audio_is_answered_with_all_kinds_that_are_read(tonemill: Tonemill, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    ended = tonemill("scan", tmp_path).refused(1, "passed over: 1 .txt", " flac ")
    assert (" m4a " in ended.err) == ffmpeg.loads()


def test_fields_come_from_names(tonemill: Tonemill, folder: Path) -> None:
    fields = {one["path"]: one["fields"] for one in scanned(tonemill, folder, "--fields", "{take}_{speaker}")}
    assert fields["b/c/1_ann.WAV"] == {"take": "1", "speaker": "ann"}
    fields = {one["path"]: one["fields"] for one in scanned(tonemill, folder, "--fields", "{room}/{take}_{speaker}")}
    assert fields["b/c/1_ann.WAV"] == {"room": "c", "take": "1", "speaker": "ann"}
    assert fields["3_cy.flac"] == {}


def test_names_that_do_not_fit_are_reported_with_an_example(tonemill: Tonemill, folder: Path) -> None:
    err = tonemill("scan", folder, "--fields", "{room}/{take}_{who}").done().err
    assert "1 of 4 files do not fit --fields '{room}/{take}_{who}', as 3_cy.flac." in err
    tonemill("scan", folder, "--fields", "{room}/{take}_{who}", "--unmatched", "refuse").refused(1, "3_cy.flac")


ROWS = [{"path": "a/1_ann.wav", "mood": "calm", "bpm": 120}, {"path": "3_cy.flac", "mood": "wild", "bpm": 90}]


def _write(path: Path) -> Path:
    columns = list(ROWS[0])
    if path.suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(ROWS), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    else:
        between = "\t" if path.suffix == ".tsv" else ","
        path.write_text("\n".join(between.join(map(str, row)) for row in (columns, *(r.values() for r in ROWS))))
    return path


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_fields_come_from_a_table(tonemill: Tonemill, folder: Path, tmp_path: Path, suffix: str) -> None:
    found = scanned(tonemill, folder, "--table", _write(tmp_path / f"t.{suffix}"), "--fields", "{take}_{who}")
    fields = {one["path"]: one["fields"] for one in found}
    assert fields["a/1_ann.wav"] == {"take": "1", "who": "ann", "mood": "calm", "bpm": 120}
    assert fields["3_cy.flac"] == {"take": "3", "who": "cy", "mood": "wild", "bpm": 90}
    assert fields["b/2_bob.wav"] == {"take": "2", "who": "bob"}


def test_labels_of_a_table_keep_their_zeros(tonemill: Tonemill, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path,label\n3_cy.flac,007\n")
    assert scanned(tonemill, folder, "--table", tmp_path / "t.csv")[0]["fields"] == {"label": "007"}


def test_rows_and_files_without_each_other_are_reported_with_an_example(
    tonemill: Tonemill, folder: Path, tmp_path: Path
) -> None:
    table = tmp_path / "t.csv"
    table.write_text("path,label\n3_cy.wav,bell\n4_di.wav,gong\n")
    ended = tonemill("scan", folder, "--table", table).done()
    assert f"3 of 4 files have no row in {table}, as a/1_ann.wav." in ended.err
    assert f"1 of 2 rows of {table} fit no file, as line 3: '4_di.wav'" in ended.err
    assert "of 4" not in tonemill("scan", folder, "--table", table, "-q").done().err
    tonemill("scan", folder, "--table", table, "--unmatched", "refuse").refused(1, "--unmatched refuse")
    table.write_text("path,label\n4_cy.wav,bell\n")
    tonemill("scan", folder, "--table", table).refused(2, "No name in column 'path'", "3_cy.flac", "--join COLUMN")


def test_unmatched_files_are_refused_before_any_is_read(tonemill: Tonemill, folder: Path, tmp_path: Path) -> None:
    """What a killed `scan --work` has read stays for the command with a table that is mended."""
    work = tmp_path / "work"
    work.mkdir()
    (work / f"{'0' * 64}.answer.json").write_text("{}")
    words = "--work", work, "--workers", 1, "--fields", "{room}/{take}_{who}", "--unmatched", "refuse"
    ended = tonemill("scan", folder, *words)
    ended.refused(1, "--unmatched refuse")
    assert b"sha256" not in ended.out and len(list(work.iterdir())) == 1


@pytest.mark.parametrize("command", ["scan", "verify"])
def test_a_runner_without_a_folder_of_work_is_refused_before_anything_is_read(
    tonemill: Tonemill, tmp_path: Path, command: str
) -> None:
    tonemill(command, tmp_path / "none", "--runner", "dask").refused(2, "--work FOLDER")


def test_reserved_columns_are_renamed_or_left_out(tonemill: Tonemill, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path,split,key,mood\n3_cy.flac,test,Am,calm\n")
    command = ["--table", tmp_path / "t.csv"]
    refusal = tonemill("scan", folder, *command).refused(2, "--rename key=my_key", "--rename key= to leave it out")
    assert "key and split" in refusal.err
    found = scanned(tonemill, folder, *command, "--rename", "split=part", "--rename", "key=")
    assert found[0]["fields"] == {"part": "test", "mood": "calm"}
    for wrong in ("split", "spilt=part", "split=mood"):
        tonemill("scan", folder, *command, "--rename", wrong).refused(2, "--rename")


def test_a_row_with_start_and_end_becomes_a_recipe(tonemill: Tonemill, folder: Path, tmp_path: Path) -> None:
    write_wav(folder / "day.wav", 10 * RATE, 5)
    table = tmp_path / "t.csv"
    table.write_text("file,onset,offset,label\nday.wav,1.5,3.0,wren\nday.wav,8,10.01,robin\nday,4,4.5,wren\n")
    ended = tonemill("scan", folder / "day.wav", "--table", table).done()
    assert "3 excerpts of 1 files" in ended.err
    assert "1 excerpts end after their file does" in ended.err
    tonemill("shard", tmp_path / "out", "-q", stdin=ended.out).done()
    rows = parquet.read_table(tmp_path / "out" / "index.parquet").to_pylist()
    assert {(row["source"], row["start_seconds"], row["samples"], row["label"]) for row in rows} == {
        ("day.wav", 1.5, 1.5 * RATE, "wren"),
        ("day.wav", 8.0, 2 * RATE, "robin"),
        ("day.wav", 4.0, 0.5 * RATE, "wren"),
    }
    table.write_text("file,offset,duration,label\nday.wav,2,0.5,wren\n")
    (one,) = scanned(tonemill, folder / "day.wav", "--table", table)
    assert (one["start"], one["frames"], one["fields"]) == (2 * RATE, RATE // 2, {"label": "wren"})


def test_columns_that_are_no_places_in_the_file_are_refused_or_fields(
    tonemill: Tonemill, folder: Path, tmp_path: Path
) -> None:
    # UrbanSound8K: each row is of a file of its own, and start and end count in the recording that it was cut from.
    table = tmp_path / "t.csv"
    table.write_text("slice_file_name,start,end\n3_cy.flac,58.5,62.5\n")
    tonemill("scan", folder, "--table", table).refused(2, "line 2", "--excerpts none")
    found = scanned(tonemill, folder, "--table", table, "--excerpts", "none")
    assert found[0]["fields"] == {"start": 58.5, "end": 62.5}
    table.write_text("path,from,to\n3_cy.flac,0.05,0.1\n")
    (one, *_) = scanned(tonemill, folder, "--table", table, "--excerpts", "from,to")
    assert (one["start"], one["frames"]) == (400, 400)
    for text in ("3_cy.flac,0.1,0.05", "3_cy.flac,a,b"):
        table.write_text(f"path,start,end\n{text}\n")
        tonemill("scan", folder, "--table", table).refused(2, "line 2", "--excerpts none")


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("t.csv", "song,mood\na,b\n", "no column 'path'"),
        ("t.csv", "path,key\na,b\n", "key"),
        ("t.csv", "path,source\na,b\n", "source"),
        ("t.csv", "path,mood\na,b,c\n", "cannot be read"),
        ("t.csv", "", "cannot be read"),
        ("t.jsonl", '{"path": ', "cannot be read"),
        ("t.parquet", "no parquet", "cannot be read"),
        ("other.csv", "", "cannot be read"),
    ],
)
def test_a_table_that_cannot_be_used_is_wrong_usage(
    tonemill: Tonemill, folder: Path, tmp_path: Path, name: str, text: str, expected: str
) -> None:
    (tmp_path / name.replace("other", "t")).write_text(text)
    tonemill("scan", folder, "--table", tmp_path / name).refused(2, expected)


@pytest.mark.parametrize("pattern", ["label", "{}", "{a}_{a}", "{key}", "{source}", "{1}", ""])
def test_a_pattern_that_cannot_be_used_is_wrong_usage(tonemill: Tonemill, folder: Path, pattern: str) -> None:
    tonemill("scan", folder, "--fields", pattern).refused(2, "ields")
