"""Flags that are left out mean what is recorded in an output that is there; and the ways of dealing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import RATE, Tonemill, table, write_wav

from tonemill.pipelines.maintenance.leaks import leaks

FEW = ("-q", "--workers", 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recorded")
    lines = ["path,singer,part,fold"]
    for number in range(12):
        write_wav(folder / "in" / f"{number:02d}.wav", 1000, number)
        part = ("Training", "dev", "test")[0 if number < 6 else 1 if number < 10 else 2]
        lines.append(f"{number:02d}.wav,s{number // 2},{part},{number}")
    (folder / "t.csv").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def stream(folder: Path, piped: Callable[..., bytes]) -> bytes:
    return piped(["scan", folder / "in", "--table", folder / "t.csv", "-q"], ["slice", "--samples", 500])


@pytest.fixture(scope="module")
def more(folder: Path, piped: Callable[..., bytes]) -> bytes:
    write_wav(folder / "more" / "90.wav", 1000, 90)
    (folder / "more.csv").write_text("path,singer,part,fold\n90.wav,s9,test,1\n")
    return piped(["scan", folder / "more", "--table", folder / "more.csv", "-q"], ["slice", "--samples", 500])


def splits(corpus: Path) -> dict[str, str]:
    return {row["source"]: row["split"] for row in table(corpus / "index.parquet")}


@pytest.mark.parametrize("mode", ["--update", "--append", "--overwrite", "--no-redeal"])
def test_a_corpus_keeps_how_it_was_made(
    tonemill: Tonemill, stream: bytes, more: bytes, tmp_path: Path, mode: str
) -> None:
    out = tmp_path / "c"
    flags = ("--valid", 0.3, "--group", "singer", "--format", "wav", "--bits", 24, "--split-seed", 1)
    tonemill("shard", out, *flags, *FEW, stdin=stream).done()
    before = splits(out)
    assert set(before.values()) == {"train", "valid"}
    tonemill("shard", out, mode, *FEW, stdin=stream).done()
    assert splits(out) == before
    assert {(row["bits"], row["split"]) for row in table(out / "index.parquet")} == {(24, "train"), (24, "valid")}
    assert tonemill("inspect", out, "--json").done().line["container"] == "wav"
    if mode in ("--update", "--append"):
        tonemill("shard", out, mode, *FEW, stdin=stream + more).done()
        assert before.items() <= splits(out).items()
        assert len(splits(out)) == 13


def test_what_moves_to_another_split_is_reported(tonemill: Tonemill, stream: bytes, tmp_path: Path) -> None:
    out = tmp_path / "c"
    tonemill("shard", out, "--valid", 0.3, "--split-seed", 3, *FEW, stdin=stream).done()
    held = Counter(splits(out).values())["valid"]
    err = tonemill("shard", out, "--update", "--valid", 0, "--workers", 1, stdin=stream).done().err
    assert f"{held} moved from valid to train" in err
    assert set(splits(out).values()) == {"train"}


def test_a_folder_of_files_keeps_its_bits(tonemill: Tonemill, stream: bytes, tmp_path: Path) -> None:
    out = tmp_path / "played"
    tonemill("write", out, "--format", "flac", "--bits", 24, *FEW, stdin=stream).done()
    tonemill("write", out, "--update", *FEW, stdin=stream).done()
    assert {soundfile.info(path).subtype for path in out.glob("*.*") if path.suffix == ".flac"} == {"PCM_24"}
    tonemill("write", out, "--update", "--bits", 0, *FEW, stdin=stream).done()
    assert {soundfile.info(path).subtype for path in out.glob("*.*") if path.suffix == ".flac"} == {"PCM_16"}


@pytest.mark.parametrize(
    "flags", [("--split-by", "part"), ("--valid-where", 'part == "dev"', "--test-where", 'part == "test"')]
)
def test_a_table_states_where_each_goes(
    tonemill: Tonemill, stream: bytes, more: bytes, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    out = tmp_path / "c"
    tonemill("shard", out, *flags, *FEW, stdin=stream).done()
    expected = {f"{n:02d}.wav": "train" if n < 6 else "valid" if n < 10 else "test" for n in range(12)}
    assert splits(out) == expected
    tonemill("shard", out, "--append", *FEW, stdin=more).done()
    assert splits(out) == {**expected, "90.wav": "test"}


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (("--split-by", "fold"), "00.wav has 0 there; it must be train"),
        (("--split-by", "prt"), "no such field"),
        (("--split-by", "part", "--valid", 0.1), "Give one of them"),
        (("--valid-where", "fold > 3", "--test-where", "fold > 5"), "both hold for"),
    ],
)
def test_a_choice_that_is_none_is_refused(
    tonemill: Tonemill, stream: bytes, tmp_path: Path, flags: tuple[Any, ...], expected: str
) -> None:
    tonemill("shard", tmp_path / "c", *flags, *FEW, stdin=stream).refused(2, expected)


def test_equal_bytes_in_two_named_splits_are_refused(tonemill: Tonemill, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_wav(tmp_path / "in" / f"{name}.wav", 1000, 1)
    (tmp_path / "t.csv").write_text("path,part\na.wav,train\nb.wav,test\n")
    stream = tonemill("scan", tmp_path / "in", "--table", tmp_path / "t.csv", "-q").done().out
    tonemill("shard", tmp_path / "c", "--split-by", "part", *FEW, stdin=stream).refused(1, "the same bytes")
    tonemill("shard", tmp_path / "c", "--split-by", "part", "--group", "path", *FEW, stdin=stream).done()


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One recording of 12.3 s, a ramp: each sample is known by its value."""
    folder = tmp_path_factory.mktemp("long")
    ramp = np.arange(round(12.3 * RATE)) / 2**17
    soundfile.write(folder / "song.wav", ramp, RATE, subtype="PCM_24")
    return folder


@pytest.mark.parametrize(("valid", "first"), [(0.1, 11.0), (0.25, 9.0)])
def test_the_end_of_one_recording_is_held_out(
    tonemill: Tonemill, piped: Callable[..., bytes], long: Path, tmp_path: Path, valid: float, first: float
) -> None:
    stream = piped(["scan", long, "-q"], ["slice", "--seconds", 1])
    ended = tonemill("shard", tmp_path / "c", "--valid", valid, "--workers", 1, stdin=stream).done()
    assert "the end of each is held out" in ended.err
    rows = table(tmp_path / "c" / "index.parquet")
    starts = {
        split: sorted(row["start_seconds"] for row in rows if row["split"] == split) for split in ("train", "valid")
    }
    assert starts["valid"] == [float(second) for second in range(int(first), 12)]
    assert starts["train"] == [float(second) for second in range(int(first))]
    assert not any(leak.count for leak in leaks(tmp_path / "c" / "plan.parquet"))
    tonemill("verify", tmp_path / "c", "-q").done()
    again = tonemill("shard", tmp_path / "c", "--workers", 1, stdin=stream).done()
    assert "shards are finished already" in again.err
    tonemill("shard", tmp_path / "d", "--valid", valid, "--no-ends", *FEW, stdin=stream).refused(1, "came out empty")


def test_overlapping_clips_share_no_sound_with_those_held_out(
    tonemill: Tonemill, piped: Callable[..., bytes], long: Path, tmp_path: Path
) -> None:
    stream = piped(["scan", long, "-q"], ["slice", "--seconds", 1, "--hop-seconds", 0.25])
    tonemill("shard", tmp_path / "c", "--valid", 0.2, "--ends", *FEW, stdin=stream).done()
    rows = table(tmp_path / "c" / "index.parquet")
    last = max(row["start_seconds"] + row["seconds"] for row in rows if row["split"] == "train")
    assert last <= min(row["start_seconds"] for row in rows if row["split"] == "valid")


def test_one_shots_are_not_cut_for_a_split(tonemill: Tonemill, folder: Path, tmp_path: Path) -> None:
    stream = tonemill("scan", folder / "in" / "00.wav", "-q").done().out
    tonemill("shard", tmp_path / "c", "--valid", 0.001, *FEW, stdin=stream).refused(1, "valid split came out empty")


def test_shards_can_be_counted_for_a_loader(tonemill: Tonemill, stream: bytes, tmp_path: Path) -> None:
    ended = tonemill("shard", tmp_path / "c", "--workers", 1, stdin=stream).done()
    assert "`--shards 4 --overwrite`" in ended.err
    ended = tonemill("shard", tmp_path / "c", "--shards", 4, "--overwrite", "--workers", 1, stdin=stream).done()
    assert len(list((tmp_path / "c" / "train").glob("*.tar"))) == 4
    assert "--shards" not in ended.err
    # Left out, the size of shards is the recorded one.
    tonemill("shard", tmp_path / "c", *FEW, stdin=stream).done()
    assert len(list((tmp_path / "c" / "train").glob("*.tar"))) == 4
    tonemill("shard", tmp_path / "c", "--shards", 4, "--shard-seconds", 9, stdin=stream).refused(2, "Give one of")


def test_the_outermost_folder_can_be_the_group(tonemill: Tonemill, tmp_path: Path) -> None:
    for number in range(16):
        write_wav(tmp_path / "in" / f"song{number % 8}" / f"stem{number // 8}" / "take.wav", 500, number)
    stream = tonemill("scan", tmp_path / "in", "-q").done().out
    tonemill("shard", tmp_path / "c", "--valid", 0.4, "--group", "folder:1", *FEW, stdin=stream).done()
    where = splits(tmp_path / "c")
    assert all(len({split for path, split in where.items() if path.startswith(f"song{n}/")}) == 1 for n in range(8))
    assert len(set(where.values())) == 2


def test_sources_that_were_renamed_are_reported_where_they_are_put_beside(
    tonemill: Tonemill, folder: Path, tmp_path: Path
) -> None:
    """Equal bytes under other names would be in the corpus twice without another warning."""
    stream = tonemill("scan", folder / "in", "-q").done().out
    tonemill("shard", tmp_path / "c", *FEW, stdin=stream).done()
    renamed = stream.replace(b'"path":"0', b'"path":"x')
    refused = tonemill("shard", tmp_path / "c", *FEW, stdin=renamed).refused(1, "--append, which adds the new sources")
    assert "--update" in refused.err
    ended = tonemill("shard", tmp_path / "c", "--append", "--workers", 1, stdin=renamed).done()
    assert "10 of the new sources have the same bytes as earlier ones" in ended.err


@pytest.mark.parametrize(
    ("option", "expected"),
    [("direct_num_worker=2", "no option direct_num_worker; direct_num_workers"), ("zzz=1", "no option zzz")],
)
def test_a_beam_option_that_there_is_none_of_is_refused(
    tonemill: Tonemill, stream: bytes, tmp_path: Path, option: str, expected: str
) -> None:
    tonemill("shard", tmp_path / "c", "--beam", option, *FEW, stdin=stream).refused(2, expected)
    assert not (tmp_path / "c" / "corpus.json").exists()


def test_a_system_that_cannot_fork_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from tonemill.cli.start import main

    monkeypatch.delattr("os.fork")
    with pytest.raises(SystemExit, match=r"needs Linux or macOS.*Windows Subsystem for Linux"):
        main()
