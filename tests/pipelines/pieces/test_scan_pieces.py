"""`scan --work` prints the bytes of a plain scan; a killed one goes on, also where files came meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import Tonemill, write_wav
from making import QUIET

from tonemill.pipelines.cooking import journal
from tonemill.pipelines.engine.engine import Engine
from tonemill.pipelines.pieces import pieces, scan_pieces
from tonemill.pipelines.recipes.recipe import Recipe
from tonemill.pipelines.sources.scan import find_audio, scan

BY_RUNNER = "--runner", "apache_beam.runners.portability.fn_api_runner.FnApiRunner"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two pieces among its first 12 files; the place of a file decides whether one begins there."""
    monkeypatch.setattr(scan_pieces, "PIECES", 6)
    names = [f"{number % 3}/{number:02d}.wav" for number in range(24)]

    def ends(folder: Path) -> list[int]:
        return scan_pieces._bounds([(name, str(folder / name)) for name in sorted(names)])[1:]

    folder = next(one for one in (tmp_path / f"in{number}" for number in range(100)) if ends(one)[1] <= 12)
    for number, name in enumerate(names):
        write_wav(folder / name, frames=50, seed=number)
    return folder


@pytest.mark.parametrize("by", [("--workers", 2), pytest.param(BY_RUNNER, marks=pytest.mark.slow)])
def test_an_engine_prints_what_threads_print(
    tonemill: Tonemill, folder: Path, tmp_path: Path, by: tuple[Any, ...]
) -> None:
    (folder / "cut.wav").write_bytes((folder / "0/00.wav").read_bytes()[:70])
    (folder / "noise.mp3").write_bytes(bytes(range(256)))
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.wav")).write_bytes((folder / "0/03.wav").read_bytes())
    work = tmp_path / "work"
    for words in (("--digest", "none"), ("--fields", "{number}", "--truncated", "keep")):
        plain = tonemill("scan", folder, "-q", *words).done()
        assert tonemill("scan", folder, "-q", *words, "--work", work, *by).done().out == plain.out
        assert not work.exists()
        if by == BY_RUNNER:
            break


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that pieces have read, in this process; a name `kill` among them ends the command."""
    files: list[str] = []
    described = scan_pieces.described

    def noted(audio: Sequence[tuple[str, str]], *more: Any) -> Iterator[dict[str, Any]]:
        for entry, (path, _) in zip(described(audio, *more), audio, strict=True):
            if files[:1] == ["kill"] and len(files) > 12:
                raise KeyboardInterrupt
            files.append(path)
            yield {"uri": entry["uri"], "unread": {"reason": "network"}} if files[:1] == [path] else entry

    def run(home: Path, left: Callable[[], Sequence[int]], *_: Any) -> None:
        for number in left():
            scan_pieces.scan_piece(home, number)
        journal.forget(home)

    monkeypatch.setattr(scan_pieces, "described", noted)
    monkeypatch.setattr(pieces, "run", run)
    return files


def recipes(folder: Path, work: Path) -> list[Recipe]:
    found = find_audio([str(folder)])
    with QUIET.phase("scan", len(found.audio)) as phase:
        return list(scan_pieces.scan_by(Engine(1), work, found, True, lambda path: {}, False, phase))


def test_a_killed_scan_goes_on_where_files_came_meanwhile(folder: Path, tmp_path: Path, read: list[str]) -> None:
    work = tmp_path / "work"
    read.append("kill")
    with pytest.raises(KeyboardInterrupt):
        recipes(folder, work)
    before = set(read[1:])
    done = len(list(work.glob("*.answer.json")))
    assert done >= 2
    write_wav(folder / "0/01 and a half.wav", frames=50, seed=99)
    read[:] = ["go on"]
    assert recipes(folder, work) == list(scan(find_audio([str(folder)]), workers=1))
    again = before & set(read)
    # The piece that was under way, and the one with the new file.
    assert len(again) <= 2 * 16 and len(read) - 1 < 25 and not work.exists()


def test_a_name_without_a_file_is_read_once_it_has_one(folder: Path, tmp_path: Path, read: list[str]) -> None:
    name, work = "0/00 and a half.wav", tmp_path / "work"
    found = find_audio([str(folder)])
    found.audio = sorted([*found.audio, (name, str(folder / name))])

    def scanned(missing: list[str]) -> list[Recipe]:
        with QUIET.phase("scan", len(found.audio)) as phase:
            listed = replace(found, missing=missing)
            return list(scan_pieces.scan_by(Engine(1), work, listed, True, lambda path: {}, False, phase))

    read.append("kill")
    with pytest.raises(KeyboardInterrupt):
        scanned([str(folder / name)])
    assert name in read and list(work.glob("*.answer.json"))
    write_wav(folder / name, frames=50, seed=99)
    read[:] = ["go on"]
    assert scanned([]) == list(scan(found, workers=1))


def test_what_is_refused_for_good_is_not_tried_again() -> None:
    whole, gone = {"uri": "file:///a.wav"}, {"unread": {"reason": "missing", "final": True}}
    assert scan_pieces.is_read([whole, gone]) and not scan_pieces.is_read([whole, {"unread": {"reason": "network"}}])


def test_files_that_could_not_be_read_are_tried_again_and_no_others(
    folder: Path, tmp_path: Path, read: list[str]
) -> None:
    work = tmp_path / "work"
    first = recipes(folder, work)
    assert "unread" in first[0].sources["audio"] and work.exists()
    read[:] = ["go on"]
    assert recipes(folder, work) == list(scan(find_audio([str(folder)]), workers=1))
    assert 0 < len(read) - 1 < 24 and first[0].path in read and not work.exists()
