"""What `verify` finds: each flipped byte, what is missing or foreign, and files that disagree."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Tonemill, table, write_wav
from inspecting import kinds
from pyarrow import parquet

from tonemill.pipelines.corpus.layout import OutputFolder
from tonemill.pipelines.maintenance import shard_check
from tonemill.pipelines.storage import commit, json_files
from tonemill.pipelines.storage.tar import members

Piped = Callable[..., bytes]


@pytest.fixture(scope="module")
def small(tonemill: Tonemill, piped: Piped, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus and a folder of files of two short sounds, one of which is refused."""
    folder = tmp_path_factory.mktemp("small")
    for number in range(3):
        write_wav(folder / "in" / f"{number}.wav", 300 if number < 2 else 20, number)
    stream = piped(["scan", folder / "in", "-q"], ["slice", "--samples", 150])
    tonemill("shard", folder / "shards", "--shard-seconds", 0.04, "-q", stdin=stream).done()
    tonemill("write", folder / "files", "--format", "flac", "-q", stdin=stream).done()
    return folder


@pytest.mark.parametrize("kind", ["shards", "files"])
@pytest.mark.parametrize("every", [199, pytest.param(1, marks=pytest.mark.slow)])
def test_every_flipped_byte_is_found(small: Path, tmp_path: Path, kind: str, every: int) -> None:
    folder = shutil.copytree(small / kind, tmp_path / "copy")
    assert kinds(folder, quick=False) == {}
    flipped = 0
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        data = path.read_bytes()
        # The first and the last bytes too: magic numbers, the end of a tar, the line end of JSON.
        for place in sorted({*range(0, len(data), every), 0, 1, len(data) - 2, len(data) - 1}):
            with path.open("r+b") as file:
                file.seek(place)
                file.write(bytes([data[place] ^ (1 << place % 8)]))
            name = path.relative_to(folder).as_posix()
            assert name in kinds(folder), f"byte {place} of {name}"
            flipped += 1
        path.write_bytes(data)
    assert kinds(folder) == {}
    assert flipped > 100


@pytest.mark.parametrize("kind", ["shards", "files"])
def test_what_is_cut_missing_or_foreign_is_found(small: Path, tmp_path: Path, kind: str) -> None:
    folder = shutil.copytree(small / kind, tmp_path / "copy")
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        data = path.read_bytes()
        name = path.relative_to(folder).as_posix()
        path.write_bytes(data[:-1])
        assert kinds(folder)[name] & {"size", "damaged", "digest"}
        path.unlink()
        assert kinds(folder)[name] & {"missing", "unfinished"}
        path.write_bytes(data)
    (folder / "notes.txt").write_text("mine")
    assert kinds(folder) == {"notes.txt": {"orphan"}}


def test_wrong_sound_with_right_digests_is_found_by_decoding(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was broken when it was written has every digest in order."""
    folder = shutil.copytree(small / "shards", tmp_path / "copy")
    (path, *_) = sorted(folder.glob("train/*.tar"))
    data = bytearray(path.read_bytes())
    with path.open("rb") as file:
        flac, text = list(members(file))[:2]
    data[flac.offset + 60 : flac.offset + flac.size] = bytes(flac.size - 60)
    data[text.offset : text.offset + text.size] = data[text.offset : text.offset + text.size].replace(b"8000", b"8001")
    path.write_bytes(data)
    sidecar = json_files.read_sealed(path.with_suffix(".json"))
    about = json_files.read_sealed(folder / "corpus.json")
    assert sidecar is not None and about is not None
    sidecar["sha256"] = commit.fingerprint(path)["sha256"]
    json_files.write_sealed(path.with_suffix(".json"), sidecar)
    about["shards"][0]["sha256"] = sidecar["sha256"]
    from tonemill.pipelines.corpus.description import digest_of_shards

    about["digest"] = digest_of_shards(about["shards"])
    json_files.write_sealed(folder / "corpus.json", about)
    assert kinds(folder) == {}
    assert kinds(folder, quick=False) == {f"train/{path.name}": {"undecodable", "unfit"}}


@pytest.mark.parametrize("kind", ["shards", "files"])
def test_rows_that_shards_lack_with_right_digests_are_found_by_reading_tables(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    folder = shutil.copytree(small / kind, tmp_path / "copy")
    output = OutputFolder.open(folder)
    rows = parquet.read_table(output.index)
    parquet.write_table(rows.slice(0, rows.num_rows - 1), output.index)
    about = json_files.read_sealed(output.description)
    assert about is not None
    about["files"]["index.parquet"] = commit.fingerprint(output.index)
    json_files.write_sealed(output.description, about)
    found = kinds(folder, quick=False)
    assert found[output.index.relative_to(folder).as_posix()] == {"unfit"}
    monkeypatch.setattr(shard_check, "read_table", None)
    assert kinds(folder) == {}, "tables with the recorded digest are not unpacked"


def test_verify_reports_to_people_and_programs(tonemill: Tonemill, copy: Path) -> None:
    assert tonemill("verify", copy, "-q").done().line["ok"] is True
    row = next(row for row in table(copy / "index.parquet") if row["shard"] == "train/000000")
    with (copy / "train" / "000000.tar").open("r+b", buffering=0) as tar:
        tar.seek(row["audio_offset"] + 50)
        byte = tar.read(1)[0]
        tar.seek(-1, os.SEEK_CUR)
        tar.write(bytes([byte ^ 1]))
        ended = tonemill("verify", copy, "--quick").refused(1, f"{row['key']} ({row['source']})", "2 findings")
        assert {(one["path"], one["kind"]) for one in ended.line["findings"]} == {("train/000000.tar", "digest")}
        tar.seek(-1, os.SEEK_CUR)
        tar.write(bytes([byte]))
    (copy / "train" / "000001.tar").unlink()
    ended = tonemill("verify", copy, "--quick").refused(1, "train/000001.tar: missing", "1 findings")
    assert [(one["path"], one["kind"]) for one in ended.line["findings"]] == [("train/000001.tar", "missing")]
    tonemill("verify", copy.parent / "none").refused(2, "neither a corpus nor a folder")


@pytest.mark.parametrize("how", [["--quick"], []])
def test_a_sidecar_of_another_shard_is_reported(tonemill: Tonemill, copy: Path, how: list[str]) -> None:
    shutil.copy(copy / "train" / "000000.json", copy / "train" / "000001.json")
    ended = tonemill("verify", copy, *how).refused(1, "train/000001.json: unfit")
    assert any("it is of train/000000" in one["message"] for one in ended.line["findings"])


def test_verify_quick_finds_totals_that_disagree(tonemill: Tonemill, copy: Path) -> None:
    about = json_files.read_sealed(copy / "corpus.json")
    assert about is not None
    json_files.write_sealed(copy / "corpus.json", {**about, "examples": 999})
    tonemill("verify", copy, "--quick").refused(1, "examples")
