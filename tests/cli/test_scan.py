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
    assert scanned(tonemill, "-", stdin=stdin) == scanned(tonemill, *names)


def test_an_empty_pipe_of_names_is_told(tonemill: Tonemill) -> None:
    ended = tonemill("scan", "-", stdin=b"")
    ended.refused(2, "no names")


def test_what_is_not_audio_is_passed_over_and_counted(tonemill: Tonemill, folder: Path) -> None:
    err = tonemill("scan", folder).done().err
    assert "Passed over 2 files" in err
    assert "1 .txt" in err


def test_fields_come_from_names(tonemill: Tonemill, folder: Path) -> None:
    fields = {one["path"]: one["fields"] for one in scanned(tonemill, folder, "--fields", "{take}_{speaker}")}
    assert fields["b/c/1_ann.WAV"] == {"take": "1", "speaker": "ann"}
    fields = {one["path"]: one["fields"] for one in scanned(tonemill, folder, "--fields", "{room}/{take}_{speaker}")}
    assert fields["b/c/1_ann.WAV"] == {"room": "c", "take": "1", "speaker": "ann"}
    assert fields["3_cy.flac"] == {}


def test_names_that_do_not_fit_are_counted(tonemill: Tonemill, folder: Path) -> None:
    assert "1 of 4 files got no fields" in tonemill("scan", folder, "--fields", "{room}/{take}_{who}").done().err


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


@pytest.mark.parametrize(
    ("name", "text", "says"),
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
    tonemill: Tonemill, folder: Path, tmp_path: Path, name: str, text: str, says: str
) -> None:
    (tmp_path / name.replace("other", "t")).write_text(text)
    tonemill("scan", folder, "--table", tmp_path / name).refused(2, says)


@pytest.mark.parametrize("pattern", ["label", "{}", "{a}_{a}", "{key}", "{source}", "{1}", ""])
def test_a_pattern_that_cannot_be_used_is_wrong_usage(tonemill: Tonemill, folder: Path, pattern: str) -> None:
    tonemill("scan", folder, "--fields", pattern).refused(2, "ields")
