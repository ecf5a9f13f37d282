"""`dedup`: copies are left out and listed, all else passes, and a second run or a killed one costs little."""

from __future__ import annotations

import fcntl
import random
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import Shell, Tonemill, adds_up, contents, leftovers, lines_of, stream_of, table

from tonemill.audiotools.synthetic import hit

HERTZ = 22050
Piped = Callable[..., bytes]


@pytest.fixture(scope="module")
def hits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six hits; the first as FLAC and softer as Ogg too, the second twice; one file is no audio."""
    folder = tmp_path_factory.mktemp("hits")
    for number in range(6):
        samples = 0.5 * hit(("kick", "snare", "clap")[number % 3], HERTZ, number, {"decay_ms": 200.0 + 30 * number})
        soundfile.write(folder / f"{number}.wav", samples.T, HERTZ)
        if number == 0:
            soundfile.write(folder / "0.flac", soundfile.read(folder / "0.wav", dtype="int16")[0], HERTZ)
            soundfile.write(folder / "0_soft.ogg", 0.3 * samples.T, HERTZ)
    shutil.copy(folder / "1.wav", folder / "1 copy.wav")
    (folder / "text.wav").write_bytes(b"no audio at all")
    return folder


@pytest.fixture(scope="module")
def stream(hits: Path, tonemill: Tonemill) -> bytes:
    return tonemill("scan", hits, "-q").done().out


def test_copies_are_filtered_where_they_are_cooked(tonemill: Tonemill, stream: bytes, tmp_path: Path) -> None:
    ended = tonemill("dedup", "--cache", tmp_path / "cache", stdin=stream).done()
    assert "10 recipes, 2 clusters; 3 copies are left out, 2 of them equal once decoded" in ended.err
    assert "1 could not be decoded" in ended.err
    before, after = lines_of(stream), lines_of(ended.out)
    assert [one["path"] for one in after] == [one["path"] for one in before]
    clusters = {one["path"]: one["fields"].get("duplicate_cluster") for one in after}
    assert (
        clusters["0.wav"] == clusters["0.flac"] == clusters["0_soft.ogg"] != clusters["1.wav"] == clusters["1 copy.wav"]
    )
    assert clusters["2.wav"] is clusters["text.wav"] is None
    sliced = tonemill("slice", "--seconds", 0.1, "--short", "pad", stdin=ended.out).done().out
    made = tonemill("shard", tmp_path / "corpus", "-q", stdin=sliced).done().line
    assert adds_up({**made, **made["ledger"], "examples": made["ledger"]["clips"]})
    assert (made["ledger"]["kept"], made["ledger"]["filtered"], made["ledger"]["rejected"]) == (6, 3, 1)
    rejects = {row["source"]: row for row in table(tmp_path / "corpus" / "rejects.parquet")}
    assert {name: row["reason"] for name, row in rejects.items()} == {
        "0.wav": "duplicate",
        "0_soft.ogg": "duplicate",
        "1.wav": "duplicate",
        "text.wav": "unreadable",
    }
    assert rejects["0_soft.ogg"]["message"] == "it sounds like 0.flac, which is kept"
    kept = {row["source"]: row["duplicate_cluster"] for row in table(tmp_path / "corpus" / "index.parquet")}
    assert kept["0.flac"] == clusters["0.flac"]


def test_mark_keeps_all_of_them_in_one_split(tonemill: Tonemill, stream: bytes, tmp_path: Path) -> None:
    marked = tonemill("dedup", "--mark", "-q", stdin=stream).done().out
    fields = {one["path"]: one["fields"] for one in lines_of(marked)}
    assert {path: one["duplicate_of"] for path, one in fields.items() if "duplicate_of" in one} == {
        "0.wav": "0.flac",
        "0_soft.ogg": "0.flac",
        "1.wav": "1 copy.wav",
    }
    for seed in range(6):
        words = ("shard", tmp_path / f"{seed}", "--valid", 0.4, "--split-seed", seed, "-q")
        ended = tonemill(*words, stdin=marked)
        if ended.code:  # so few groups may all fall to one side
            continue
        splits = {row["source"]: row["split"] for row in table(tmp_path / f"{seed}" / "index.parquet")}
        assert splits["0.wav"] == splits["0.flac"] == splits["0_soft.ogg"]
        assert splits["1.wav"] == splits["1 copy.wav"]


def test_order_and_workers_do_not_matter_and_the_cache_needs_no_audio(
    tonemill: Tonemill, hits: Path, tmp_path: Path
) -> None:
    shutil.copytree(hits, tmp_path / "raw")
    stream = tonemill("scan", tmp_path / "raw", "-q").done().out
    first = tonemill("dedup", "--cache", tmp_path / "cache", "-q", "--workers", 1, stdin=stream).done().out
    recipes = lines_of(stream)
    mixed = stream_of(random.Random(0).sample(recipes, len(recipes)))
    second = tonemill("dedup", "-q", "--workers", 3, stdin=mixed).done().out
    by_path = lambda stream: sorted(lines_of(stream), key=lambda one: one["path"])  # noqa: E731
    assert by_path(second) == by_path(first)
    shutil.rmtree(tmp_path / "raw")
    kept = contents(tmp_path / "cache")
    ended = tonemill("dedup", "--cache", tmp_path / "cache", stdin=stream).done()
    assert ended.out == first
    assert "8 of 9 fingerprints are in" in ended.err
    assert contents(tmp_path / "cache") == kept


def test_steps_before_it_count(tonemill: Tonemill, hits: Path, piped: Piped) -> None:
    # A tenth of a second from the start of the kick and of its copy, cut by a step.
    stream = piped(["scan", hits / "0.wav", hits / "0_soft.ogg", "-q"], ["slice", "--seconds", 0.1, "--tail", "drop"])
    assert [len(one["steps"]) for one in lines_of(tonemill("dedup", "-q", stdin=stream).done().out)] == [1, 2]
    rates = piped(["scan", hits / "0.wav", "-q"], ["resample", "--rate", 16000]) + piped(["scan", hits / "0.wav", "-q"])
    kept = [one["steps"] for one in lines_of(tonemill("dedup", "-q", stdin=rates).done().out)]
    assert [one["step"] for one in kept[0]] == ["duplicate", "resample"], "the one with more bandwidth is kept"
    assert kept[1] == []


def test_streams_that_are_no_good(tonemill: Tonemill, stream: bytes, tmp_path: Path) -> None:
    cut = b"".join(stream.splitlines(keepends=True)[:-1])
    for broken in (cut, b"", stream.splitlines(keepends=True)[0]):
        tonemill("dedup", "--cache", tmp_path / "cache", stdin=broken).refused(1, "--partial")
    tonemill("dedup", stdin=stream_of([])).refused(1, "No recipe")
    tonemill("dedup", stdin=stream[:50]).refused(1, "Line 1 of the stream")
    tonemill("dedup", "--workers", 0, stdin=stream).refused(2, "--workers")
    assert not (tmp_path / "cache").exists()
    assert len(lines_of(tonemill("dedup", "--partial", "-q", stdin=cut).done().out)) == 10


def test_a_cache_is_held_by_one_and_no_other_folder_is_written_to(
    tonemill: Tonemill, stream: bytes, tmp_path: Path
) -> None:
    cache, theirs = tmp_path / "cache", tmp_path / "theirs"
    cache.mkdir()
    with (cache / ".tonemill-lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        tonemill("dedup", "--cache", cache, stdin=stream).refused(1, "Another command is writing")
    theirs.mkdir()
    (theirs / "thesis.txt").write_text("mine")
    tonemill("dedup", "--cache", theirs, stdin=stream).refused(1, "did not make")
    assert contents(theirs) == {"thesis.txt": b"mine"}


def test_workers_elsewhere_see_no_temporary_cache(tonemill: Tonemill, stream: bytes) -> None:
    tonemill("dedup", "--runner", "dask", stdin=stream).refused(2, "--cache FOLDER")


def test_a_damaged_cache_is_reported_of(tonemill: Tonemill, stream: bytes, tmp_path: Path) -> None:
    tonemill("dedup", "--cache", tmp_path / "cache", "-q", stdin=stream).done()
    for path in (tmp_path / "cache").glob("*.sketches"):
        path.write_bytes(path.read_bytes()[:100])
    tonemill("dedup", "--cache", tmp_path / "cache", "-q", stdin=stream).refused(
        1, "damaged", "Delete its folder", str(tmp_path / "cache")
    )


def test_nothing_piped_in(shell: Shell) -> None:
    shell("tonemill dedup <&-").refused(2, "reads recipes from a pipe")


@pytest.mark.slow
@pytest.mark.parametrize("kills", [1, 8])
def test_killed_at_random_moments_it_goes_on_and_ends_the_same(
    tonemill: Tonemill, tmp_path: Path, environment: dict[str, str], kills: int
) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "raw").mkdir()
    for number in range(12):
        # Tones of their own make the outlines differ, or every pair would be compared.
        tones = np.repeat(rng.uniform(200, 3500, 15), 8000)
        sound = (0.2 * np.sin(2 * np.pi * np.cumsum(tones) / 8000)).astype(np.float32)
        sound += (0.02 * rng.standard_normal(sound.size)).astype(np.float32)
        soundfile.write(tmp_path / "raw" / f"{number:02d}.wav", sound, 8000)
        soundfile.write(tmp_path / "raw" / f"{number:02d}_soft.wav", 0.5 * sound, 8000)
    stream = tonemill("scan", tmp_path / "raw", "-q").done().out
    (tmp_path / "stream").write_bytes(stream)
    expected = tonemill("dedup", "-q", stdin=stream).done().out
    assert sum(one["steps"] != [] for one in lines_of(expected)) == 12
    cache = tmp_path / "cache"
    moments, there = random.Random(kills), 0

    def start() -> subprocess.Popen[bytes]:
        words = ["tonemill", "dedup", "--cache", str(cache), "-q"]
        with (tmp_path / "stream").open("rb") as source:
            return subprocess.Popen(words, stdin=source, stdout=subprocess.PIPE, env=environment)

    for _ in range(kills):
        process = start()
        while process.poll() is None and len(list(cache.glob("*.parquet"))) <= there:
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.2))
        process.kill()
        process.communicate()
        assert len(list(cache.glob("*.parquet"))) >= there, "what was committed stays"
        there = len(list(cache.glob("*.parquet")))
    assert there
    process = start()
    out, _ = process.communicate()
    assert process.returncode == 0
    assert out == expected
    assert not leftovers(cache)


@pytest.fixture(scope="module")
def takes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two takes as a whole, as one that is a little shorter, and as one that is quiet; the second has one copy only."""
    folder = tmp_path_factory.mktemp("takes")
    for number in range(2):
        samples = 0.5 * hit(("kick", "snare")[number], HERTZ, number, {"decay_ms": 300.0})
        soundfile.write(folder / f"{number}_best.wav", samples.T, HERTZ, subtype="PCM_24")
        soundfile.write(folder / f"{number}_next.wav", samples.T, HERTZ, subtype="PCM_16")
        if number == 0:
            soundfile.write(folder / "0_soft.ogg", 0.1 * samples.T, HERTZ)
    return folder


@pytest.mark.parametrize(
    ("where", "kept"),
    [
        ('take != "none"', ["0_best.wav", "1_best.wav"]),
        ('take != "best"', ["0_next.wav", "1_next.wav"]),
        ('take == "soft"', ["0_soft.ogg"]),
        ('take != "best" and take != "soft"', ["0_next.wav", "1_next.wav"]),
    ],
)
@pytest.mark.parametrize("by", ["filter", "select"])
def test_a_copy_is_left_out_only_if_a_better_one_is_kept(
    tonemill: Tonemill, takes: Path, tmp_path: Path, where: str, kept: list[str], by: str
) -> None:
    """What `dedup` kept may be refused by a later step, or be chosen away; then the next best takes its place."""
    stream = tonemill("scan", takes, "--fields", "{number}_{take}", "-q").done().out
    stream = tonemill("dedup", "-q", stdin=stream).done().out
    stream = tonemill(*(["filter", "--where", where] if by == "filter" else ["select", where]), stdin=stream).done().out
    made = tonemill("shard", tmp_path / "out", "-q", "--workers", 1, "--shard-seconds", 0.1, stdin=stream).done().line
    assert sorted(row["source"] for row in table(tmp_path / "out" / "index.parquet")) == kept
    assert adds_up({**made, **made["ledger"], "examples": made["ledger"]["clips"]})
    for row in table(tmp_path / "out" / "rejects.parquet"):
        if row["reason"] == "duplicate":
            assert row["message"].removeprefix("it sounds like ").removesuffix(", which is kept") in kept
    tonemill("verify", tmp_path / "out", "-q").done()


def test_of_copies_that_differ_in_clipping_and_bits_the_one_that_is_whole_is_kept(
    tonemill: Tonemill, tmp_path: Path
) -> None:
    time = np.arange(2 * HERTZ) / HERTZ
    samples = sum(np.sin(2 * np.pi * 90 * n * time + n) / n * np.exp(-time * (1 + 0.4 * n)) for n in range(1, 40))
    samples = 0.8 * samples / np.abs(samples).max()
    (tmp_path / "in").mkdir()
    soundfile.write(tmp_path / "in" / "clean.wav", samples, HERTZ, subtype="PCM_16")
    soundfile.write(tmp_path / "in" / "master.wav", np.clip(1.5 * samples, -1, 1), HERTZ, subtype="PCM_24")
    stream = tonemill("dedup", "-q", stdin=tonemill("scan", tmp_path / "in", "-q").done().out).done().out
    steps = {one["path"]: [step["step"] for step in one["steps"]] for one in lines_of(stream)}
    assert steps == {"clean.wav": [], "master.wav": ["duplicate"]}
