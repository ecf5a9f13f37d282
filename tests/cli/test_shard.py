"""`shard`: same plan, same bytes; shards that anyone can read; splits that follow groups."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import webdataset
from conftest import (
    SHARDING,
    Shell,
    Tonemill,
    adds_up,
    contents,
    lines_of,
    noise,
    stream_of,
    table,
    write_wav,
)

from tonemill.pipelines.corpus.corpus import open_corpus

SAME = {
    "two workers": ["--workers", 2],
    "four workers": ["--workers", 4],
    "one thread of Beam's in-memory mode": ["--workers", 1, "--beam", "direct_running_mode=in_memory"],
    "bundles done twice": ["--beam", "direct_runner_bundle_repeat=1"],
}


@pytest.mark.parametrize("how", SAME)
def test_the_same_plan_gives_the_same_bytes(
    tonemill: Tonemill, plan: bytes, corpus: Path, tmp_path: Path, how: str
) -> None:
    tonemill("shard", tmp_path / "out", *SHARDING, *SAME[how], stdin=plan).done()
    assert contents(tmp_path / "out") == contents(corpus)


def test_processes_give_the_same_bytes(shell: Shell, plan: bytes, corpus: Path, tmp_path: Path) -> None:
    flags = " ".join(map(str, SHARDING))
    shell(f"tonemill shard out {flags} --workers 2 --beam direct_running_mode=multi_processing", stdin=plan).done()
    assert contents(tmp_path / "out") == contents(corpus)


def test_the_order_of_lines_does_not_matter(tonemill: Tonemill, plan: bytes, corpus: Path, tmp_path: Path) -> None:
    tonemill("shard", tmp_path / "out", *SHARDING, stdin=stream_of(lines_of(plan)[::-1])).done()
    assert contents(tmp_path / "out") == contents(corpus)


def test_where_sources_lie_does_not_matter(
    tonemill: Tonemill, raw: Path, plan: bytes, corpus: Path, tmp_path: Path
) -> None:
    shutil.copytree(raw, tmp_path / "moved")
    moved = plan.replace(str(raw).encode(), str(tmp_path / "moved").encode())
    tonemill("shard", tmp_path / "out", *SHARDING, stdin=moved).done()
    mine, theirs = contents(tmp_path / "out"), contents(corpus)
    assert mine.pop("plan.parquet") != theirs.pop("plan.parquet")
    assert mine.pop("plan.json") != theirs.pop("plan.json"), "the digest of the plan's file"
    assert mine == theirs
    assert not any(str(tmp_path).encode() in data for name, data in mine.items() if name.endswith(".tar"))


def test_a_finished_corpus_is_not_made_again(tonemill: Tonemill, plan: bytes, corpus: Path, tmp_path: Path) -> None:
    shutil.copytree(corpus, tmp_path / "out")
    before = {path: path.stat().st_ino for path in (tmp_path / "out").rglob("*.tar")}
    tonemill("shard", tmp_path / "out", *SHARDING, stdin=plan).done()
    assert {path: path.stat().st_ino for path in (tmp_path / "out").rglob("*.tar")} == before
    assert contents(tmp_path / "out") == contents(corpus)


DAMAGE = ("train/000001.tar", "train/000001.json", "train/000001.index.parquet", "index.parquet", "corpus.json")


@pytest.mark.parametrize("name", DAMAGE)
@pytest.mark.parametrize("how", ["removed", "emptied"])
def test_what_is_missing_is_made_again(
    tonemill: Tonemill, plan: bytes, corpus: Path, tmp_path: Path, name: str, how: str
) -> None:
    shutil.copytree(corpus, tmp_path / "out")
    (tmp_path / "out" / name).unlink() if how == "removed" else (tmp_path / "out" / name).write_bytes(b"")
    tonemill("shard", tmp_path / "out", *SHARDING, stdin=plan).done()
    assert contents(tmp_path / "out") == contents(corpus)


def test_a_folder_in_use_is_left_alone(tonemill: Tonemill, plan: bytes, tmp_path: Path) -> None:
    from tonemill.pipelines.storage import folders

    with folders.locked(tmp_path / "out"):
        tonemill("shard", tmp_path / "out", stdin=plan).refused(1, "Another command is writing")


def test_a_dry_run_shows_what_comes_and_touches_nothing(
    tonemill: Tonemill, plan: bytes, corpus: Path, tmp_path: Path
) -> None:
    ended = tonemill("shard", tmp_path / "out", *SHARDING, "--dry-run", stdin=plan).done()
    assert not list(tmp_path.iterdir())
    about = json.loads((corpus / "corpus.json").read_text())
    assert ended.line["plan_digest"] == about["plan_digest"]
    assert {name: one["examples"] for name, one in ended.line["splits"].items()} == {
        name: one["examples"] for name, one in about["splits"].items()
    }
    ended = tonemill("shard", corpus, *SHARDING, "--dry-run", stdin=plan).done()
    assert all(one["there_already"] == one["shards"] for one in ended.line["splits"].values())


# Files on disk


def test_the_layout_is_the_documented_one(corpus: Path) -> None:
    about = json.loads((corpus / "corpus.json").read_text())
    shards = [one["shard"] for one in about["shards"]]
    suffixes = (".tar", ".json", ".index.parquet", ".rejects.parquet")
    top = {"plan.parquet", "plan.json", "corpus.json", "index.parquet", "rejects.parquet", ".huggingface.yaml"}
    assert set(contents(corpus)) == top | {f"{shard}{suffix}" for shard in shards for suffix in suffixes}
    assert {shard.split("/")[0] for shard in shards} == {"train", "valid"}
    # What is JSON is YAML.
    (config,) = json.loads((corpus / ".huggingface.yaml").read_text())["configs"]
    named = {one["split"]: sorted(corpus.glob(one["path"])) for one in config["data_files"]}
    assert named == {split: sorted((corpus / split).glob("*.tar")) for split in ("train", "valid")}
    assert adds_up(about)


def test_tars_are_plain_and_the_same_for_everybody(corpus: Path) -> None:
    for path in corpus.rglob("*.tar"):
        with tarfile.open(path) as tar:
            for member in tar:
                assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")
                assert member.mode == 0o644
                assert not member.pax_headers
        data = path.read_bytes()
        assert len(data) % tarfile.RECORDSIZE == 0
        assert data[257:265] == b"ustar\x0000"


def test_members_are_neighbours_and_keys_have_no_dots(corpus: Path) -> None:
    for path in corpus.rglob("*.tar"):
        with tarfile.open(path) as tar:
            names = tar.getnames()
        assert len(set(names)) == len(names)
        for audio, text in zip(names[::2], names[1::2], strict=True):
            key = audio.removesuffix(".flac")
            assert text == f"{key}.json"
            source, number = key.split("-")
            assert len(bytes.fromhex(source)) == 8
            assert number.isdigit()


def test_webdataset_reads_back_what_the_index_has(corpus: Path) -> None:
    rows = {row["key"]: row for row in table(corpus / "index.parquet")}
    urls = sorted(map(str, corpus.rglob("*.tar")))
    for one in webdataset.WebDataset(urls, shardshuffle=False):
        row, about = rows.pop(one["__key__"]), json.loads(one["json"])
        samples, rate = soundfile.read(io.BytesIO(one["flac"]), dtype="int16", always_2d=True)
        assert samples.shape == (row["samples"], row["channels"]) == (1000, 1)
        assert rate == row["sample_rate"] == about["sample_rate"]
        assert (about["key"], about["label"]) == (row["key"], row["label"])
        assert about["recipe"]["steps"][0]["samples"] == 1000
    assert not rows


def test_clips_hold_the_sound_of_their_places(raw: Path, corpus: Path) -> None:
    for row in table(corpus / "index.parquet")[::5]:
        with tarfile.open(corpus / f"{row['shard']}.tar") as tar:
            member = tar.extractfile(f"{row['key']}.flac")
            assert member is not None
            clip = soundfile.read(io.BytesIO(member.read()), dtype="int16")[0]
        start = round(row["start_seconds"] * row["sample_rate"])
        source = soundfile.read(raw / row["source"], start=start, frames=1000, dtype="int16")[0]
        np.testing.assert_array_equal(clip, source)


@pytest.mark.parametrize(
    ("subtype", "flags", "kept"),
    [
        ("PCM_16", [], "PCM_16"),
        ("PCM_24", [], "PCM_24"),
        ("FLOAT", [], "PCM_24"),
        ("PCM_24", ["--bits", 16], "PCM_16"),
        ("PCM_16", ["--format", "wav"], "PCM_16"),
        ("FLOAT", ["--format", "wav", "--bits", 32], "FLOAT"),
    ],
)
def test_the_depth_follows_the_source_unless_set(
    tonemill: Tonemill, tmp_path: Path, subtype: str, flags: list[object], kept: str
) -> None:
    soundfile.write(tmp_path / "a.wav", noise(500), 8000, subtype=subtype)
    stream = tonemill("scan", tmp_path / "a.wav", "-q").done().out
    tonemill("shard", tmp_path / "out", "-q", *flags, stdin=stream).done()
    with tarfile.open(tmp_path / "out" / "train" / "000000.tar") as tar:
        member = tar.extractfile(tar.getmembers()[0])
        assert member is not None
        assert soundfile.info(io.BytesIO(member.read())).subtype == kept


def test_a_source_that_breaks_off_leaves_no_clip_behind(tonemill: Tonemill, tmp_path: Path) -> None:
    # Longer than a block, so that clips are already in the tar when the rest turns out to be rotten.
    sound = noise(400_000)
    sound[350_000] = np.nan
    soundfile.write(tmp_path / "rotten.wav", sound, 8000, subtype="FLOAT")
    for number in range(3):
        write_wav(tmp_path / f"{number}.wav", 5000, number)
    stream = tonemill("scan", tmp_path, "-q").done().out
    cut = tonemill("slice", "--samples", 1000, stdin=stream).done().out
    about = tonemill("shard", tmp_path / "out", "-q", stdin=cut).done().line
    assert about["ledger"]["rejected"] == 1
    assert about["examples"] == 15
    with tarfile.open(tmp_path / "out" / "train" / "000000.tar") as tar:
        assert len(tar.getnames()) == 30
    assert len(list(open_corpus(tmp_path / "out").recipes())) == 15


# Splits


def splits(folder: Path) -> dict[str, str]:
    return {row["source"]: row["split"] for row in table(folder / "index.parquet")}


def test_equal_bytes_never_straddle_splits(raw: Path, tonemill: Tonemill, tmp_path: Path) -> None:
    for number in range(8):
        for copy in range(3):
            write_wav(tmp_path / "in" / str(copy) / f"{number}.wav", 300, number)
    stream = tonemill("scan", tmp_path / "in", "-q").done().out
    tonemill("shard", tmp_path / "out", "-q", "--valid", 0.5, stdin=stream).done()
    by_sound: dict[str, set[str]] = {}
    for source, split in splits(tmp_path / "out").items():
        by_sound.setdefault(source.split("/")[1], set()).add(split)
    assert {len(places) for places in by_sound.values()} == {1}
    assert set.union(*by_sound.values()) == {"train", "valid"}


def test_adding_sources_moves_none(tonemill: Tonemill, plan: bytes, corpus: Path, tmp_path: Path) -> None:
    tonemill("shard", tmp_path / "out", *SHARDING, stdin=stream_of(lines_of(plan)[:11])).done()
    fewer, all_of_them = splits(tmp_path / "out"), splits(corpus)
    assert fewer.items() < all_of_them.items()


@pytest.mark.parametrize(
    ("group", "key"), [("speaker", lambda one: one.split("_")[1]), ("folder", lambda one: one[:4])]
)
def test_a_group_never_straddles_splits(tonemill: Tonemill, plan: bytes, tmp_path: Path, group: str, key: Any) -> None:
    for seed in range(20):
        flags = ["--valid", 0.5, "--group", group, "--split-seed", seed, "--shard-seconds", 60, "-q"]
        ended = tonemill("shard", tmp_path / "out", *flags, stdin=plan)
        if ended.code == 0:
            break
        ended.refused(1, "valid" if "valid split" in ended.err else "train", "--split-seed")
    dealt = {(key(source), split) for source, split in splits(tmp_path / "out").items()}
    assert len(dealt) == 2


def test_validation_can_be_chosen(tonemill: Tonemill, plan: bytes, tmp_path: Path) -> None:
    chosen = ["--valid-where", "speaker == 'bob'"]
    # Ann has a file with the same bytes as one of Bob's, which would stand on both sides.
    tonemill("shard", tmp_path / "out", "-q", *chosen, stdin=plan).refused(1, "0_ann_0", "3_bob_15", "the same bytes")
    tonemill("shard", tmp_path / "out", "-q", *chosen, "--group", "path", stdin=plan).done()
    assert {("_bob_" in source, split) for source, split in splits(tmp_path / "out").items()} == {
        (True, "valid"),
        (False, "train"),
    }


def test_a_wished_split_that_comes_out_empty_is_an_error(tonemill: Tonemill, plan: bytes, tmp_path: Path) -> None:
    ended = tonemill("shard", tmp_path / "out", "--valid-where", "speaker == 'eve'", stdin=plan)
    ended.refused(1, "valid split came out empty", "--valid-where")
    assert not (tmp_path / "out").exists()


# What a killed command may leave


@pytest.mark.parametrize(
    ("sink", "there"),
    [
        ("shard", [".tonemill-lock"]),
        ("shard", [".tonemill-lock", ".tonemill-part-0"]),
        ("write", [".tonemill-lock", ".tonemill-part-0"]),
        ("write", [".tonemill-lock", ".tonemill/.tonemill-part-0"]),
        # The mark of a folder of files is written before its plan.
        ("write", [".tonemill-lock", ".tonemill-part-0", "tonemill.json"]),
    ],
    ids=str,
)
def test_a_command_killed_at_its_very_start_goes_on(
    tonemill: Tonemill, plan: bytes, tmp_path: Path, sink: str, there: list[str]
) -> None:
    out = tmp_path / "out"
    for name in there:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text('{"schema": 1, "plan_digest": "0", "finished": false}' if "json" in name else "")
    stream = stream_of(lines_of(plan)[:3])
    tonemill(sink, out, "-q", stdin=stream).done()
    tonemill(sink, tmp_path / "fresh", "-q", stdin=stream).done()
    assert contents(out) == contents(tmp_path / "fresh")


def test_a_length_that_a_header_declares_wrongly_is_recorded(tonemill: Tonemill, plan: bytes, tmp_path: Path) -> None:
    recipes = lines_of(plan)
    recipes[1]["sources"]["audio"]["frames"] += 7
    ended = tonemill("shard", tmp_path / "corpus", stdin=stream_of(recipes)).done()
    assert "1 sources are longer or shorter than their headers state" in ended.err
    lengths = {
        row["source"]: (row["declared_samples"], row["decoded_samples"])
        for row in table(tmp_path / "corpus" / "index.parquet")
        if row["declared_samples"] is not None
    }
    declared = recipes[1]["sources"]["audio"]["frames"]
    assert lengths == {recipes[1]["path"]: (declared, declared - 7)}
