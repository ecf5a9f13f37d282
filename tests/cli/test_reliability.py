"""What keeps a corpus right: verify, repair, trace, diff, append, update, remove."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import SHARDING, Tonemill, contents, lines_of, stream_of, table, write_wav
from making import QUIET
from pyarrow import parquet

from tonemill.audiotools.errors import OutputError
from tonemill.pipelines.corpus.layout import OutputFolder
from tonemill.pipelines.maintenance import removal, shard_check
from tonemill.pipelines.maintenance.verification import verify
from tonemill.pipelines.storage import commit, folders, json_files, output_names
from tonemill.pipelines.storage.tar import members

Piped = Callable[..., bytes]


def steps(plan: bytes, **changes: Any) -> list[dict[str, Any]]:
    """The recipes of a stream, some with a changed parameter of their step."""
    return [one | {"steps": [one["steps"][0] | changes]} for one in lines_of(plan)]


def inodes(folder: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of each tar, which change when it is written again; an inode alone may be reused."""
    stats = {path.parent.name + "/" + path.stem: path.stat() for path in folder.rglob("*.tar")}
    return {name: (one.st_ino, one.st_mtime_ns) for name, one in stats.items()}


@pytest.fixture
def copy(corpus: Path, tmp_path: Path) -> Path:
    """A corpus to be changed."""
    return Path(shutil.copytree(corpus, tmp_path / "copy"))


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


def kinds(folder: Path, quick: bool = True) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for one in verify(folder, quick, QUIET).findings:
        found.setdefault(one.path, set()).add(one.kind)
    return found


# verify


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


# repair


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


# trace and diff


@pytest.mark.parametrize("kind", ["shards", "files"])
def test_trace_makes_an_example_again(tonemill: Tonemill, plan: bytes, tmp_path: Path, corpus: Path, kind: str) -> None:
    folder, home = corpus, corpus
    if kind == "files":
        folder, home = tmp_path / "whole", tmp_path / "whole" / ".tonemill"
        tonemill("write", folder, "--format", "flac", "-q", stdin=plan).done()
    row = table(home / "index.parquet")[5]
    facts = json.loads(tonemill("trace", folder, row["key"], "--json", "--write", tmp_path / "x.flac").done().out)
    assert facts["source"] == row["source"] and facts["steps"][0]["samples"] == 1000
    assert facts["remade"]["audio"]["same_bytes"] is True
    where = facts["stored"]["audio"]
    with (folder / where["file"]).open("rb") as file:
        file.seek(where["offset"])
        assert file.read(where["bytes"]) == (tmp_path / "x.flac").read_bytes()
    source, _ = soundfile.read(facts["sources"]["audio"]["uri"].removeprefix("file://"))
    begin = round(facts["start_seconds"] * 8000)
    assert np.array_equal(soundfile.read(tmp_path / "x.flac")[0], source[begin : begin + 1000])
    tonemill("trace", folder, row["key"]).done()
    tonemill("trace", folder, "nothing").refused(2, "no example 'nothing'")
    tonemill("trace", folder, row["key"], "--write", tmp_path / "x.wav").refused(2, ".flac")


def test_trace_reports_a_source_that_changed(tonemill: Tonemill, piped: Piped, tmp_path: Path) -> None:
    write_wav(tmp_path / "in" / "a.wav", 3000, 1)
    tonemill("shard", tmp_path / "out", "-q", stdin=piped(["scan", tmp_path / "in", "-q"])).done()
    (key,) = [row["key"] for row in table(tmp_path / "out" / "index.parquet")]
    write_wav(tmp_path / "in" / "a.wav", 3000, 2)
    tonemill("trace", tmp_path / "out", key, "--write", tmp_path / "a.flac").refused(1, "a.wav", "changed")
    assert not (tmp_path / "a.flac").exists()


def test_diff_reports_what_differs_and_why(tonemill: Tonemill, plan: bytes, corpus: Path, tmp_path: Path) -> None:
    tonemill("shard", tmp_path / "same", *SHARDING, "--shard-seconds", 3, stdin=plan).done()
    assert tonemill("diff", corpus, tmp_path / "same").done().line["same"] is True
    fewer = stream_of(steps(plan, samples=999)[1:])
    tonemill("shard", tmp_path / "other", "--shard-seconds", 2, "-q", "--valid", 0.6, stdin=fewer).done()
    ended = tonemill("diff", corpus, tmp_path / "other").refused(1, "slice samples 1000 -> 999", "valid 0.25 -> 0.6")
    found = ended.line
    assert found["only_in_a"] == {"count": 1, "named": [lines_of(plan)[0]["path"]]} and found["only_in_b"]["count"] == 0
    assert found["changes"] == {"slice samples 1000 -> 999": 15}
    assert found["sounds"]["count"] > 0 and found["moved"]["count"] > 0
    assert all(one["why"] == "slice samples 1000 -> 999" for one in found["sounds"]["named"])


def test_diff_measures_how_far_samples_are_apart(tonemill: Tonemill, piped: Piped, tmp_path: Path) -> None:
    one = 0.25 * np.sin(np.arange(4000))
    for name, sound in (("a", one), ("b", one + 0.001)):
        (tmp_path / name).mkdir()
        soundfile.write(tmp_path / name / "x.wav", sound, 8000, subtype="PCM_24")
        tonemill("shard", tmp_path / f"c{name}", "-q", stdin=piped(["scan", tmp_path / name, "-q"])).done()
    found = tonemill("diff", tmp_path / "ca", tmp_path / "cb").refused(1, "other content").line
    assert found["loudest_db"] == pytest.approx(-60, abs=0.01)


# --append, --update


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


# remove


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


# Splits, progress


def test_inspect_counts_groups_that_straddle(tonemill: Tonemill, plan: bytes, corpus: Path, tmp_path: Path) -> None:
    assert json.loads(tonemill("inspect", corpus, "--json").done().out)["straddling"] == {"equal bytes": 0}
    chosen = ["--valid-where", "speaker == 'bob'", "--group", "path", "-q"]
    tonemill("shard", tmp_path / "out", *chosen, stdin=plan).done()
    facts = json.loads(tonemill("inspect", tmp_path / "out", "--json").done().out)
    assert facts["straddling"] == {"equal bytes": 1, "path": 0}, "two files are equal, and were dealt by name"


def test_progress_for_programs(tonemill: Tonemill, plan: bytes, tmp_path: Path) -> None:
    short = stream_of(steps(plan, samples=7500))
    file = tmp_path / "progress.jsonl"
    tonemill(
        "shard", tmp_path / "a", "--shard-seconds", 2, "--progress", "jsonl", "--progress-file", file, stdin=short
    ).done()
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    last = [one for one in lines if "phase" in one][-1]
    assert last["state"] == "done" and last["done"] == last["total"] == last["seconds_of_audio"]
    assert last["rejects"] == len(table(tmp_path / "a" / "rejects.parquet")) > 0
    ended = tonemill("shard", tmp_path / "b", "--progress", "jsonl", stdin=short).done()
    assert all(json.loads(line) for line in ended.err.splitlines()), "nothing but JSON"
    assert tonemill("shard", tmp_path / "c", "--progress", "none", stdin=short).done().err == ""
    tonemill("shard", tmp_path / "d", "--progress-file", file, stdin=short).refused(2, "--progress jsonl")


def test_a_progress_file_on_a_full_disk_stops_nothing(tonemill: Tonemill, plan: bytes, tmp_path: Path) -> None:
    if not os.path.exists("/dev/full"):  # noqa: PTH110
        pytest.skip("no /dev/full here")
    flags = ["--progress", "jsonl", "--progress-file", "/dev/full", "-q"]
    tonemill("shard", tmp_path / "out", *flags, stdin=plan).done()


def test_two_writers_are_never_at_one_folder(tonemill: Tonemill, plan: bytes, copy: Path) -> None:
    with folders.locked(copy):
        for words in (["repair", copy], ["remove", copy, "--source", "x"], ["shard", copy, *SHARDING, "--update"]):
            if words[0] == "repair":
                (copy / "train" / "000000.tar").unlink()
            tonemill(*words, stdin=stream_of(lines_of(plan)[1:])).refused(1, "Another command")
    with pytest.raises(OutputError, match="Another command"), folders.locked(copy), folders.locked(copy):
        raise AssertionError
