"""A fault of the machine never becomes a fact about a source: such sources are retried, kept and listed."""

from __future__ import annotations

import errno
import json
import os
import struct
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Tonemill, contents, lines_of, noise, reasons, stream_of, write_wav

from tonemill.pipelines.recipes.recipe_stream import LACKS

FLAGS = ("--shard-seconds", 0.2, "--workers", 1, "-q")


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    for number in range(4):
        write_wav(tmp_path / "vol" / f"{number}.wav", seed=number)
    return tmp_path / "vol"


def test_a_disk_that_is_away_for_a_moment_costs_nothing(tonemill: Tonemill, raw: Path, tmp_path: Path) -> None:
    stream = tonemill("scan", raw, "-q").done().out
    raw.rename(tmp_path / "away")
    raw.mkdir()
    tonemill("shard", tmp_path / "out", *FLAGS, stdin=stream).refused(1)
    raw.rmdir()
    (tmp_path / "away").rename(raw)
    assert tonemill("shard", tmp_path / "out", *FLAGS, stdin=stream).done().line["examples"] == 4


def test_retry_makes_again_the_shards_with_a_reason_and_only_those(
    tonemill: Tonemill, raw: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    stream = tonemill("scan", raw, "-q").done().out
    (raw / "1.wav").rename(tmp_path / "1.wav")
    few = tonemill("shard", out, *FLAGS[:-1], stdin=stream).done()
    # The reason is printed where few are rejected.
    assert "1.wav: " in few.err and "(missing, read)" in few.err
    assert reasons(out) == {"1.wav": "missing"}
    (tmp_path / "1.wav").rename(raw / "1.wav")
    before = {path: path.stat().st_mtime_ns for path in out.glob("train/[0-9]*.json")}
    tonemill("shard", out, *FLAGS, stdin=stream).done()
    assert reasons(out) == {"1.wav": "missing"}
    assert tonemill("shard", out, *FLAGS, "--retry", "missing", stdin=stream).done().line["examples"] == 4
    after = {path: path.stat().st_mtime_ns for path in before}
    assert len(before) > 1 and sum(before[path] != after[path] for path in before) == 1
    tonemill("verify", out, "-q").done()
    tonemill("shard", out, *FLAGS, "--retry", "changed", stdin=stream).refused(2, "--update")
    tonemill("shard", out, *FLAGS, "--retry", "misspelt", stdin=stream).refused(2, "misspelt", "missing")
    tonemill("shard", out, *FLAGS, "--retry", "all", "--update", stdin=stream).refused(2, "--retry")


def unread(stream: bytes, name: str) -> bytes:
    """A stream as `scan` writes it when it could not read one of the files."""
    recipes = lines_of(stream)
    for one in recipes:
        if one["path"] == name:
            source = {"uri": one["sources"]["audio"]["uri"]}
            one["sources"]["audio"] = {**source, "unread": {"reason": "forbidden", "message": "it may not be read"}}
    *lines, trailer = stream_of(recipes).splitlines()
    return b"\n".join(
        [*lines, json.dumps({**json.loads(trailer), "trailer": {"recipes": 4, "lacks": {"unread": 1}}}).encode()]
    )


def test_what_scan_could_not_read_waits_for_another_scan(tonemill: Tonemill, raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    whole = tonemill("scan", raw, "-q").done().out
    ended = tonemill("shard", out, *FLAGS, stdin=unread(whole, "1.wav")).refused(1, "lacks 1 source that", "--update")
    # The same stream would lack it again.
    assert "same command" not in ended.err
    assert reasons(out) == {"1.wav": "unreachable"}
    # Left out on purpose, it is a note.
    tonemill("shard", out, *FLAGS, "--keep-transient", stdin=unread(whole, "1.wav")).done()
    ended = tonemill("verify", out).done()
    assert json.loads(ended.out)["notes"] and "were left out" in ended.err
    assert tonemill("shard", out, *FLAGS, "--update", stdin=whole).done().line["examples"] == 4
    # One that is there already is not taken away by a scan that could not read it.
    tonemill("shard", out, *FLAGS, "--update", stdin=unread(whole, "1.wav")).refused(1, "could not be read")
    assert reasons(out) == {}


@pytest.mark.parametrize("lacks", LACKS)
def test_update_takes_nothing_away_that_a_stream_lacks(
    tonemill: Tonemill, raw: Path, tmp_path: Path, lacks: str
) -> None:
    out = tmp_path / "out"
    whole = tonemill("scan", raw, "-q").done().out
    tonemill("shard", out, *FLAGS, stdin=whole).done()
    *lines, _ = stream_of(lines_of(whole)[:2]).splitlines()
    trailer = {"tonemill": 1, "trailer": {"recipes": 2, "lacks": {lacks: 1}}}
    part = b"\n".join([*lines, json.dumps(trailer).encode()])
    # Whatever stands between hands it on.
    part = tonemill("select", "True", stdin=part).done().out
    tonemill("shard", out, *FLAGS, "--update", stdin=part).refused(1, "The stream lacks", "--update")
    assert len({*out.glob("train/*.tar")}) > 1 and json.loads((out / "corpus.json").read_text())["examples"] == 4


def test_an_empty_place_and_a_folder_that_cannot_be_entered_are_reported(
    tonemill: Tonemill, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    ended = tonemill("scan", raw, tmp_path / "empty", "-q").refused(1, "empty")
    assert json.loads(ended.out.splitlines()[-1])["trailer"] == {"recipes": 4, "lacks": {"empty": 1}}
    (raw / "locked").mkdir()
    entered = os.scandir

    def refusing(path: str) -> object:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", path)
        return entered(path)

    monkeypatch.setattr(os, "scandir", refusing)
    ended = tonemill("scan", raw, "-q").refused(1, "locked could not be opened")
    assert json.loads(ended.out.splitlines()[-1])["trailer"] == {"recipes": 4, "lacks": {"folders": 1}}


def test_pairs_lack_what_could_not_be_read_too(
    tonemill: Tonemill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        for side in ("dry", "wet"):
            write_wav(tmp_path / side / f"{number}.wav", seed=number)
    places = (tmp_path / "dry", tmp_path / "wet")
    whole = tonemill("pair", *places, "-q").done().out
    assert b"lacks" not in whole
    (tmp_path / "wet" / "locked").mkdir()
    entered, opened = os.scandir, Path.open

    def refusing(path: str) -> object:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", path)
        return entered(path)

    def failing(self: Path, *given: Any, **named: Any) -> Any:
        if self == tmp_path / "dry" / "1.wav":
            raise OSError(errno.EIO, "Input/output error", str(self))
        return opened(self, *given, **named)

    monkeypatch.setattr(os, "scandir", refusing)
    monkeypatch.setattr(Path, "open", failing)
    ended = tonemill("pair", *places, "-q").refused(1, "1 source that could not be read", "locked could not be opened")
    assert json.loads(ended.out.splitlines()[-1])["trailer"] == {"recipes": 3, "lacks": {"unread": 1, "folders": 1}}
    monkeypatch.undo()
    tonemill("shard", tmp_path / "out", *FLAGS, stdin=ended.out).refused(1)
    assert reasons(tmp_path / "out") == {"1.wav": "network"}
    (tmp_path / "wet" / "locked").rmdir()
    assert tonemill("shard", tmp_path / "out", *FLAGS, "--update", stdin=whole).done().line["examples"] == 3


def test_a_file_that_only_ffmpeg_may_read_waits_for_ffmpeg(
    tonemill: Tonemill, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A WAV of integers of 64 bits, which libsndfile refuses; first with a PyAV that does not load."""
    pytest.importorskip("av")
    whole = (noise(2000)[:, 0] * 2**60).astype("<i8").tobytes()
    head = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", 36 + len(whole), b"WAVE", b"fmt ", 16, 1, 1, 8000, 64000, 8, 64)
    (raw / "deep.wav").write_bytes(head + struct.pack("<4sI", b"data", len(whole)) + whole)
    out, site = tmp_path / "out", tmp_path / "site" / "av"
    site.mkdir(parents=True)
    (site / "__init__.py").write_text("raise ImportError('libstdc++.so.6: no such file')")
    with monkeypatch.context() as patch:
        patch.syspath_prepend(str(site.parent))
        for name in [name for name in sys.modules if name.partition(".")[0] == "av"]:
            patch.delitem(sys.modules, name)
        stream = tonemill("scan", raw, "-q").done().out
        tonemill("shard", out, *FLAGS, stdin=stream).refused(1, "temporary reason")
        assert reasons(out) == {"deep.wav": "no_decoder"}
        # As long as it does not load, nothing is made again.
        before = contents(out / "train")
        tonemill("shard", out, *FLAGS, stdin=stream).refused(1, "temporary reason")
        assert contents(out / "train") == before
    assert tonemill("shard", out, *FLAGS, stdin=stream).done().line["examples"] == 5
