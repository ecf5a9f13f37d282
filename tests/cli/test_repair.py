"""What `repair` makes again, and what it leaves."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import SHARDING, Tonemill, contents, table, write_wav
from inspecting import inodes

Piped = Callable[..., bytes]


@pytest.mark.parametrize("kind", ["shards", "files"])
def test_repair_gives_back_every_byte(tonemill: Tonemill, plan: bytes, corpus: Path, tmp_path: Path, kind: str) -> None:
    whole = corpus
    if kind == "files":
        whole = tmp_path / "whole"
        tonemill("write", whole, "--format", "flac", "--shard-seconds", 2, "-q", stdin=plan).done()
    folder = shutil.copytree(whole, tmp_path / "copy")
    expected = contents(whole)
    names = [name for name in expected if "plan." not in name]
    for turn, name in enumerate(names[:: max(1, len(names) // 12)]):
        path = folder / name
        if turn % 3 == 0:
            path.unlink()
        elif turn % 3 == 1:
            path.write_bytes(path.read_bytes()[:-7])
        else:
            data = path.read_bytes()
            path.write_bytes(data[: len(data) // 2] + b"\x5a\xa5" + data[len(data) // 2 + 2 :])
    ended = tonemill("repair", folder, "-q").done()
    assert ended.line["repaired"] and ended.line["found_before"] >= 8
    assert contents(folder) == expected
    assert tonemill("repair", folder, "-q").done().line["repaired"] == []


def test_repair_touches_only_what_is_broken(tonemill: Tonemill, copy: Path) -> None:
    before = inodes(copy)
    data = (copy / "train" / "000001.tar").read_bytes()
    (copy / "train" / "000001.tar").write_bytes(data[:600] + b"!" + data[601:])
    (copy / "mine.txt").write_text("mine")
    ended = tonemill("repair", copy, "-q").refused(1)
    assert ended.line["repaired"] == ["train/000001"]
    assert [one["path"] for one in ended.line["findings"]] == ["mine.txt"], "it stays, and is listed"
    assert {name for name, number in inodes(copy).items() if number != before[name]} == {"train/000001"}
    assert (copy / "train" / "000001.tar").read_bytes() == data


def test_repair_reports_which_source_is_gone_and_joins_what_is_left(
    tonemill: Tonemill, piped: Piped, tmp_path: Path
) -> None:
    for number in range(6):
        write_wav(tmp_path / "in" / f"{number}.wav", 3000, number)
    stream = piped(["scan", tmp_path / "in", "-q"], ["slice", "--samples", 1000])
    tonemill("shard", tmp_path / "out", "-q", stdin=stream).done()
    tar, data = tmp_path / "out" / "train" / "000000.tar", (tmp_path / "out" / "train" / "000000.tar").read_bytes()
    rows = table(tmp_path / "out" / "index.parquet")
    hit, gone = rows[4], next(row for row in rows if row["source"] != rows[4]["source"])
    place = hit["audio_offset"] + 100
    tar.write_bytes(data[:place] + bytes([data[place] ^ 255]) + data[place + 1 :])
    # The hit one can be cooked again; of the one that is gone the tar holds all.
    (tmp_path / "in" / gone["source"]).unlink()
    tonemill("repair", tmp_path / "out", "-q").done()
    assert tar.read_bytes() == data
    tar.write_bytes(data[:place] + bytes([data[place] ^ 255]) + data[place + 1 :])
    write_wav(tmp_path / "in" / hit["source"], 3000, 99)
    before = contents(tmp_path / "out")
    ended = tonemill("repair", tmp_path / "out", "-q").refused(1)
    assert hit["source"] in ended.line["failed"]["train/000000"] and "changed" in ended.line["failed"]["train/000000"]
    after = contents(tmp_path / "out")
    assert all(after[name] == before[name] for name in before), "what cannot be made again is not made worse"


def test_a_damaged_plan_is_written_again_by_the_command_that_made_it(
    tonemill: Tonemill, plan: bytes, copy: Path, corpus: Path
) -> None:
    data = (copy / "plan.parquet").read_bytes()
    (copy / "plan.parquet").write_bytes(data[:300] + bytes(64) + data[364:])
    before = inodes(copy)
    tonemill("repair", copy, "-q").refused(1, "plan.parquet is damaged", "command that made")
    tonemill("shard", copy, *SHARDING, stdin=plan).done()
    assert contents(copy) == contents(corpus)
    assert inodes(copy) == before, "no shard was cooked for it"
