"""Corpora that grow and change: `--append`, `--update`, `--overwrite`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import SHARDING, Tonemill, contents, lines_of, stream_of, table, write_wav
from inspecting import inodes, kinds, steps

from tonemill.audiotools.errors import OutputError
from tonemill.pipelines.storage import folders

Piped = Callable[..., bytes]


def test_append_puts_new_sources_into_new_shards(tonemill: Tonemill, plan: bytes, corpus: Path, tmp_path: Path) -> None:
    recipes = lines_of(plan)
    first, out = stream_of(recipes[:10]), tmp_path / "out"
    tonemill("shard", out, *SHARDING, stdin=first).done()
    old, splits = inodes(out), {row["source"]: row["split"] for row in table(out / "index.parquet")}
    ended = tonemill("shard", out, "--append", "--shard-seconds", 2, stdin=stream_of(recipes[6:])).done()
    assert "4 there already, 6 new" in ended.err and "is new:" in ended.err
    assert ended.line["ledger"]["sources"] == 16
    now = inodes(out)
    assert old.items() < now.items(), "the old shards are as they were"
    dealt = {row["source"]: row["split"] for row in table(out / "index.parquet")}
    assert dealt == {row["source"]: row["split"] for row in table(corpus / "index.parquet")}, "as if they came at once"
    assert splits.items() < dealt.items()
    assert kinds(out, quick=False) == {}
    again = tonemill("shard", out, "--append", "-q", stdin=stream_of(recipes[10:])).done()
    assert again.line["digest"] == ended.line["digest"] and inodes(out) == now
    fresh = tmp_path / "fresh"
    tonemill("shard", fresh, *SHARDING, stdin=first).done()
    tonemill("shard", fresh, "--append", "--shard-seconds", 2, "-q", stdin=stream_of(recipes[6:][::-1])).done()
    assert contents(fresh) == contents(out), "the same history, the same bytes"


def test_append_takes_an_equal_name_with_other_sound(tonemill: Tonemill, piped: Piped, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        write_wav(tmp_path / folder / "a.wav", 500, len(folder) + (folder == "two"))
    for folder in ("one", "two", "two"):
        stream = piped(["scan", tmp_path / folder, "-q"])
        tonemill("shard", tmp_path / "out", "-q", "--append", stdin=stream).done()
    rows = table(tmp_path / "out" / "index.parquet")
    assert [row["source"] for row in rows] == ["a.wav", "a.wav"] and len({row["key"] for row in rows}) == 2


def test_append_refuses_what_does_not_fit(
    tonemill: Tonemill, plan: bytes, piped: Piped, copy: Path, tmp_path: Path
) -> None:
    before = contents(copy)
    other = stream_of(steps(plan, samples=500))
    tonemill("shard", copy, "--append", stdin=other).refused(1, "is already in the corpus", "slice samples 1000 -> 500")
    tonemill("shard", copy, "--append", "--bits", 24, stdin=plan).refused(1, "holds flac")
    tonemill("shard", copy, "--append", "--valid", 0.5, stdin=plan).refused(1, "--valid 0.25", "--append uses those")
    write_wav(tmp_path / "in" / "new.wav", 5000, 77, rate=16000)
    fast = piped(["scan", tmp_path / "in", "-q"], ["slice", "--samples", 1000])
    tonemill("shard", copy, "--append", stdin=fast).refused(1, "8000 Hz", "16000", "tonemill resample")
    tonemill("shard", copy, "--append", "--update", stdin=plan).refused(2, "--append and --update")
    assert contents(copy) == before


def test_update_makes_exactly_the_touched_shards_and_reports_why(
    tonemill: Tonemill, plan: bytes, copy: Path, tmp_path: Path
) -> None:
    recipes = lines_of(plan)
    where = {row["source"]: row["shard"] for row in table(copy / "index.parquet")}
    before = inodes(copy)
    changed = [one | {"fields": one["fields"] | {"take": "100"}} if one is recipes[3] else one for one in recipes[:-1]]
    ended = tonemill("shard", copy, *SHARDING[:-1], "--update", stdin=stream_of(changed)).done()
    touched = {where[recipes[3]["path"]], where[recipes[-1]["path"]]}
    assert {name for name, number in inodes(copy).items() if before[name] != number} == touched
    take = recipes[3]["fields"]["take"]
    why = f"1 changed ({recipes[3]['path']}: field take '{take}' -> '100')"
    assert f"{where[recipes[3]['path']]} is made again: {why}" in ended.err
    assert f"1 gone ({recipes[-1]['path']})" in ended.err
    assert kinds(copy, quick=False) == {}
    assert tonemill("shard", copy, *SHARDING, "--update", stdin=stream_of(changed)).done().line == ended.line
    tonemill("shard", copy, *SHARDING, stdin=stream_of(changed)).done()
    tonemill("shard", copy, *SHARDING, stdin=plan).refused(1, "other sources or with other steps", "--update")


def test_a_changed_option_names_itself(tonemill: Tonemill, plan: bytes, copy: Path) -> None:
    ended = tonemill("shard", copy, *SHARDING[:-1], "--overwrite", "--bits", 24, stdin=plan).done()
    assert "train/000000 is made again: output bits None -> 24" in ended.err


def test_two_writers_are_never_at_one_folder(tonemill: Tonemill, plan: bytes, copy: Path) -> None:
    with folders.locked(copy):
        for words in (["repair", copy], ["remove", copy, "--source", "x"], ["shard", copy, *SHARDING, "--update"]):
            if words[0] == "repair":
                (copy / "train" / "000000.tar").unlink()
            tonemill(*words, stdin=stream_of(lines_of(plan)[1:])).refused(1, "Another command")
    with pytest.raises(OutputError, match="Another command"), folders.locked(copy), folders.locked(copy):
        raise AssertionError
