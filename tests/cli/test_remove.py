"""What `remove` takes out of every file of a corpus, and keeps out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import SHARDING, Tonemill, contents, lines_of, stream_of, table
from inspecting import inodes, kinds

from tonemill.pipelines.maintenance import removal
from tonemill.pipelines.storage import output_names


def test_removed_is_gone_from_every_file_and_stays_out(
    tonemill: Tonemill, plan: bytes, corpus: Path, copy: Path, tmp_path: Path
) -> None:
    victim = lines_of(plan)[2]
    where = {row["source"]: row["shard"] for row in table(copy / "index.parquet")}
    before = inodes(copy)
    ended = tonemill("remove", copy, "--source", victim["path"]).done()
    assert ended.line["removed"] == 1 and ended.line["absent"] is True
    assert ended.line["shards"] == [where[victim["path"]]]
    assert {name for name, number in inodes(copy).items() if before[name] != number} == {where[victim["path"]]}
    assert kinds(copy, quick=False) == {}
    for name, data in contents(copy).items():
        assert victim["path"].encode() not in data, name
        assert victim["sources"]["audio"]["sha256"].encode() not in data, name
    for name in ("plan.parquet", "index.parquet", "rejects.parquet"):
        assert victim["path"] not in json.dumps(table(copy / name)), name
    # The same bytes as cooking the rest of that shard would have given.
    kept = {row["source"] for row in table(copy / "index.parquet")}
    mates = [one for one in lines_of(plan) if where.get(one["path"]) == where[victim["path"]] and one["path"] in kept]
    tonemill("shard", tmp_path / "rest", "-q", "--shard-seconds", 999, stdin=stream_of(mates)).done()
    tar = copy / f"{where[victim['path']]}.tar"
    assert tar.read_bytes() == (tmp_path / "rest" / "train" / "000000.tar").read_bytes()
    again = tonemill("shard", copy, *SHARDING[:-1], stdin=plan).done()
    assert again.line["digest"] == ended.line["digest"] and "1 sources were removed" in again.err
    tonemill("shard", copy, "--append", "-q", stdin=plan).done()
    tonemill("shard", copy, *SHARDING, "--overwrite", stdin=plan).done()
    assert victim["path"] not in {row["source"] for row in table(copy / "index.parquet")}
    assert tonemill("remove", copy, "--source", victim["path"], "-q").done().line["removed"] == 0


def test_remove_by_digest_and_by_condition(tonemill: Tonemill, plan: bytes, copy: Path, corpus: Path) -> None:
    twins = [one["path"] for one in lines_of(plan) if one["path"].endswith(("0_ann_0.wav", "3_bob_15.wav"))]
    by_path = tonemill("remove", copy, "--source", twins[0]).done()
    assert by_path.line["equal_elsewhere"] == [twins[1]] and "--sha256" in by_path.err
    digest = next(one["sources"]["audio"]["sha256"] for one in lines_of(plan) if one["path"] == twins[0])
    assert tonemill("remove", copy, "--dry-run", "--sha256", digest).done().out.decode().split() == [twins[1]]
    assert tonemill("remove", copy, "--sha256", digest.upper(), "-q").done().line["removed"] == 1
    gone = tonemill("remove", copy, "--where", "speaker == 'bob' and label != '1'", "-q").done()
    left = {row["source"] for row in table(copy / "index.parquet")}
    assert left == {
        one["path"]
        for one in lines_of(plan)
        if one["path"] not in twins and not (one["fields"]["speaker"] == "bob" and one["fields"]["label"] != "1")
    }
    assert gone.line["absent"] is True and kinds(copy, quick=False) == {}
    tonemill("remove", copy, "--where", "seconds > 0").refused(1, "would be left", "Delete the folder")
    tonemill("remove", copy).refused(2, "--source")
    tonemill("remove", copy, "--sha256", "abc").refused(2, "64 hex digits")


@pytest.mark.parametrize("moves", [0, 4, 9, 12, 13, 15, 18, 20, 23])
def test_a_removal_killed_at_any_move_is_finished_by_the_next_command(
    tonemill: Tonemill, plan: bytes, copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moves: int
) -> None:
    """Two shards change: what is moved is made ready first, and then put into place file by file."""
    by_shard: dict[str, set[str]] = {}
    for row in table(copy / "index.parquet"):
        by_shard.setdefault(row["shard"], set()).add(row["source"])
    alone = next((min(some) for some in by_shard.values() if len(some) == 1), None)
    paths = [min(some) for some in by_shard.values() if len(some) > 1][:2] + ([alone] if alone else [])
    flags = [*(word for path in paths for word in ("--source", path)), "-q"]
    expected = shutil.copytree(copy, tmp_path / "expected")
    tonemill("remove", expected, *flags).done()
    real, count = Path.replace, iter(range(1000))

    def replace(self: Path, target: Any) -> Path:
        if next(count) >= moves:
            raise KeyboardInterrupt
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        removal.remove(copy, lambda planned, _: planned.recipe.path in paths, paths, [], False)
    monkeypatch.undo()
    if (copy / output_names.STAGED).exists() and moves % 2:
        # Any sink finishes it too.
        tonemill("shard", copy, *SHARDING, stdin=plan).done()
    tonemill("remove", copy, *flags).done()
    assert contents(copy) == contents(expected)


def test_a_damaged_list_of_removals_stops_the_sink(tonemill: Tonemill, plan: bytes, copy: Path) -> None:
    tonemill("remove", copy, "--source", lines_of(plan)[0]["path"], "-q").done()
    path = copy / "removed.json"
    path.write_bytes(path.read_bytes().replace(b"0", b"1"))
    tonemill("shard", copy, *SHARDING, stdin=plan).refused(1, "removed.json is damaged")
