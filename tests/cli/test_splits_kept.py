"""A corpus that is made of a corpus keeps its splits."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Tonemill, lines_of, table

from tonemill.pipelines.maintenance.leaks import leaks

FEW = ("-q", "--workers", 1)
NORMALIZE = ["normalize", "--peak-db", -20]


def splits(corpus: Path) -> dict[tuple[str, int], str]:
    """The split of each clip, by its source and its number there."""
    found = {}
    for row in table(corpus / "index.parquet"):
        stem, _, number = row["source"].removesuffix(".wav").rpartition("-")
        found[(f"{stem}.wav", int(number)) if row["clip"] == 0 and stem else (row["source"], row["clip"])] = row[
            "split"
        ]
    return found


def require_no_leaks(tonemill: Tonemill, corpus: Path) -> None:
    assert [one.count for one in leaks(corpus / "plan.parquet")] in ([0], [0, 0])
    assert not any(tonemill("inspect", corpus, "--json").done().line["straddling"].values())


@pytest.fixture(scope="module")
def stream(corpus: Path, piped: Callable[..., bytes]) -> bytes:
    return piped(["open", corpus], NORMALIZE)


@pytest.fixture(scope="module")
def kept(stream: bytes, tonemill: Tonemill, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kept") / "corpus"
    tonemill("shard", folder, *FEW, stdin=stream).done()
    return folder


def test_what_was_held_out_stays_held_out(kept: Path, corpus: Path, tonemill: Tonemill) -> None:
    before = splits(corpus)
    assert set(before.values()) == {"train", "valid"}
    assert splits(kept) == before
    require_no_leaks(tonemill, kept)
    tonemill("verify", kept, "-q").done()
    about = tonemill("inspect", "-", stdin=tonemill("open", kept).done().out).done()
    assert "comes from valid" in about.out.decode()


def test_a_flag_deals_by_groups_and_reports_what_moves(
    stream: bytes, kept: Path, corpus: Path, tonemill: Tonemill, tmp_path: Path
) -> None:
    flags = ("--redeal", "--valid", 0.3, "--split-seed", 2)
    ended = tonemill("shard", tmp_path / "dealt", *flags, stdin=stream).done()
    before, after = splits(kept), splits(tmp_path / "dealt")
    moved = Counter(f"{before[clip]} -> {split}" for clip, split in after.items() if before[clip] != split)
    assert moved
    for words, count in moved.items():
        assert f"{count} examples {words}" in ended.err
    require_no_leaks(tonemill, tmp_path / "dealt")
    # Equal files of the first corpus are one group still, though all that this one reads are its clips.
    of_bytes: dict[str, set[str]] = {}
    digests = {row["source"]: row["audio_sha256"] for row in table(corpus / "index.parquet") if row["clip"] == 0}
    for (source, _), split in after.items():
        of_bytes.setdefault(digests[source], set()).add(split)
    assert all(len(one) == 1 for one in of_bytes.values())


def test_chosen_recipes_keep_their_splits(stream: bytes, tonemill: Tonemill, tmp_path: Path) -> None:
    chosen = tonemill("select", 'split == "valid" or label == "1"', stdin=stream).done().out
    wished = Counter(one["dealt"]["split"] for one in lines_of(chosen))
    assert set(wished) == {"train", "valid"}
    tonemill("shard", tmp_path / "some", *FEW, stdin=chosen).done()
    assert Counter(splits(tmp_path / "some").values()) == wished
    held_out = tonemill("select", 'split == "valid"', stdin=stream).done().out
    assert {one["dealt"]["split"] for one in lines_of(held_out)} == {"valid"}


def test_what_is_appended_keeps_its_split_and_new_sources_follow_their_group(
    raw: Path, corpus: Path, stream: bytes, tonemill: Tonemill, piped: Callable[..., bytes], tmp_path: Path
) -> None:
    folder = tmp_path / "grown"
    first = tonemill("select", 'label in ["1", "2"]', stdin=stream).done().out
    tonemill("shard", folder, *FEW, stdin=first).done()
    tonemill("shard", folder, "--append", *FEW, stdin=stream).done()
    assert splits(folder) == splits(corpus)
    originals = piped(["scan", raw, "--fields", "{label}_{speaker}_{take}", "-q"], ["slice", "--samples", 1000])
    ended = tonemill("shard", folder, "--append", stdin=originals).done()
    assert "16 new" in ended.err
    require_no_leaks(tonemill, folder)
    held_out = {source for (source, _), split in splits(corpus).items() if split == "valid"}
    for row in table(folder / "index.parquet"):
        assert (row["split"] == "valid") == (row["source"].partition("-")[0].removesuffix(".wav") + ".wav" in held_out)


@pytest.mark.slow
def test_a_mixed_stream_deals_the_new_by_the_flags(
    stream: bytes, raw: Path, corpus: Path, tonemill: Tonemill, piped: Callable[..., bytes], tmp_path: Path
) -> None:
    new = piped(["scan", raw, "-q"], ["slice", "--samples", 900], NORMALIZE)
    ended = tonemill("shard", tmp_path / "both", "--valid", 0.25, stdin=stream + new).done()
    assert "the flags assign the other 16" in ended.err
    assert splits(corpus).items() <= splits(tmp_path / "both").items()
    require_no_leaks(tonemill, tmp_path / "both")
    tonemill("shard", tmp_path / "none", "--valid", 0.25, stdin=stream).refused(2, "--redeal")


@pytest.mark.slow
def test_a_corpus_that_was_never_split_is_dealt_by_the_flags(plan: bytes, tonemill: Tonemill, tmp_path: Path) -> None:
    tonemill("shard", tmp_path / "one", *FEW, stdin=plan).done()
    stream = tonemill("open", tmp_path / "one").done().out
    assert all(one["dealt"].keys() == {"group"} for one in lines_of(stream))
    tonemill("shard", tmp_path / "two", *FEW, "--valid", 0.3, stdin=stream).done()
    sources: dict[str, set[str]] = {}
    for (source, _), split in splits(tmp_path / "two").items():
        sources.setdefault(source, set()).add(split)
    assert set().union(*sources.values()) == {"train", "valid"}
    assert all(len(one) == 1 for one in sources.values()), "clips of one source stay together"
    require_no_leaks(tonemill, tmp_path / "two")


@pytest.mark.slow
def test_files_have_no_splits_and_the_lineage_does_not_name_them(
    stream: bytes, kept: Path, tonemill: Tonemill, tmp_path: Path
) -> None:
    ended = tonemill("write", tmp_path / "files", stdin=stream).done()
    assert "splits:" not in ended.err
    shard = next(kept.glob("valid/*.tar"))
    assert b'"dealt"' not in shard.read_bytes()
    assert json.loads(table(kept / "plan.parquet")[0]["recipe"])["dealt"]
