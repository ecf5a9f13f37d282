"""Each command that works on a folder works on a store."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from buckets import FLAGS, THREADS, Wire, bucket, objects, upload
from conftest import Tonemill, contents, table, write_wav
from earlier import DATA, rebuild

pytest.importorskip("s3fs", reason="stores need tonemill[s3]")
pytest.importorskip("moto", reason="tests of stores need tonemill[test]")

from tonemill.pipelines.storage import copies
from tonemill.pipelines.storage.paths import scratch


def flipped(folder: Path, name: str) -> Path:
    """A file with one bit of its middle changed."""
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    return folder / name


@pytest.mark.slow
def test_fingerprints_in_a_bucket_find_the_copies_that_those_in_a_folder_do(
    tonemill: Tonemill, raw: Path, tmp_path: Path, s3: Wire
) -> None:
    stream = tonemill("scan", raw, "-q").done().out
    near = tonemill("dedup", "--cache", tmp_path / "cache", "-q", stdin=stream).done().out
    assert b"duplicate_cluster" in near
    s3.share = 0.1
    first = tonemill("dedup", "--cache", bucket("cache"), *THREADS, stdin=stream).done()
    s3.share = 0.0
    assert first.out == near
    kept = objects("cache")
    assert {name.rpartition(".")[2] for name in kept} == {"json", "parquet", "sketches"}
    again = tonemill("dedup", "--cache", bucket("cache"), stdin=stream).done()
    assert again.out == near and "s of audio" not in again.err and objects("cache") == kept


@pytest.mark.slow
def test_an_engine_scans_a_bucket_as_threads_do(tonemill: Tonemill, raw: Path, s3: Wire) -> None:
    source = upload(raw, "recordings")
    plain = tonemill("scan", source, "-q").done().out
    s3.share = 0.1
    scanned = tonemill("scan", source, "-q", "--work", bucket("scanning"), *THREADS).done().out
    s3.share = 0.0
    assert scanned == plain and objects("scanning") == {}


@pytest.mark.slow
def test_verify_finds_in_a_bucket_what_it_finds_in_a_folder(
    tonemill: Tonemill, expected: Path, tmp_path: Path, s3: Wire
) -> None:
    there, here = upload(expected, "verified"), tmp_path / "verified"
    shutil.copytree(expected, here)
    s3.share = 0.1
    assert tonemill("verify", there, "-q").done().line["findings"] == []
    s3.share = 0.0
    tar, table = sorted(path.relative_to(here).as_posix() for path in here.rglob("*.tar"))[0], "rejects.parquet"
    (there / tar).put(flipped(here, tar))
    (there / table).unlink()
    (here / table).unlink()
    for words, by in (((), ("--work", bucket("work"), *THREADS)), ((), ()), (("--quick",), ())):
        far = tonemill("verify", there, "-q", *words, *by).refused(1).line
        near = tonemill("verify", here, "-q", *words).refused(1).line
        assert far["findings"] == near["findings"] and far["checked"] == near["checked"]
        assert {"digest", "missing"} <= {one["kind"] for one in far["findings"]}
    assert not [path for path in scratch(copies.FETCHED).rglob("*") if path.suffix]  # type: ignore[arg-type]
    assert objects("work") == {}
    s3.share = 0.1
    assert tonemill("repair", there, "--quick", "-q", *THREADS).done().line["findings"] == []
    s3.share = 0.0
    assert objects("verified") == contents(expected)


@pytest.mark.slow
def test_what_is_removed_from_a_bucket_is_gone(tonemill: Tonemill, expected: Path, tmp_path: Path, s3: Wire) -> None:
    there, here = upload(expected, "removed"), tmp_path / "removed"
    shutil.copytree(expected, here)
    words = ("--source", table(here / "index.parquet")[0]["source"], "-q")
    s3.share = 0.1
    far, near = (tonemill("remove", folder, *words, *by).done().line for folder, by in ((there, THREADS), (here, ())))
    s3.share = 0.0
    assert far["absent"] and far | {"corpus": ""} == near | {"corpus": ""}
    assert objects("removed") == contents(here)


def test_tools_read_a_bucket_as_a_folder(tonemill: Tonemill, expected: Path, tmp_path: Path, s3: Wire) -> None:
    there = upload(expected, "read")
    key = table(expected / "index.parquet")[0]["key"]
    assert tonemill("diff", there, expected).done().line["same"]
    far, near = (json.loads(tonemill("trace", folder, key, "--json").done().out) for folder in (there, expected))
    assert far == near
    clip = tmp_path / "clip.flac"
    assert (
        b"has exactly the samples that are stored" in tonemill("trace", there, key, "--write", clip).done().err.encode()
    )
    assert tonemill("report", there, "-o", tmp_path / "page.html").done().line["clips"] > 0
    here = shutil.copytree(expected, tmp_path / "read")
    for _ in range(2):
        for folder in (there, here):
            tonemill("card", folder, "-q").done()
        assert objects("read") == contents(here)


@pytest.mark.slow
def test_a_folder_of_files_in_a_bucket_has_the_bytes_of_one_here(
    tonemill: Tonemill, few: bytes, tmp_path: Path, s3: Wire
) -> None:
    there, here = bucket("files"), tmp_path / "files"
    for folder in (there, here):
        tonemill("write", folder, *FLAGS, stdin=few).done()
    assert objects("files") == contents(here)
    puts = s3.counted["PUT"]
    tonemill("write", there, *FLAGS, stdin=few).done()
    # The lease, the mark twice, and the tables of the whole; no file of a shard.
    assert s3.counted["PUT"] - puts == 5
    tonemill("verify", there, "-q").done()
    assert tonemill("diff", there, here).done().line["same"]
    assert tonemill("report", there, "-o", tmp_path / "page.html").done().line["clips"] > 0


@pytest.mark.slow
def test_a_run_in_a_bucket_renders_into_a_bucket(
    tonemill: Tonemill, tmp_path: Path, s3: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(3):
        write_wav(tmp_path / "raw" / f"{number}.wav", frames=4800, seed=number)
    tonemill("shard", "corpus", "-q", stdin=tonemill("scan", "raw", "-q").done().out).done()
    small = ("--length", 4096, "--dim", 2, "--batch-size", 2, "--critic-steps", 1, "--listen-clips", 1, "-q")
    tonemill("train", "wavegan", "corpus", "-o", "runs/voice", "--steps", 2, *small).done()
    there = upload(tmp_path / "runs" / "voice", "runs/voice")
    seeds, s3.share = tonemill("seeds", 4).out, 0.1
    made = {}
    for run, out in ((there, "s3://tonemill/rendered"), ("runs/voice", "rendered")):
        stream = tonemill("render", run, stdin=seeds).done().out
        made[out] = tonemill("shard", out, "-q", stdin=stream).done().line
    assert made["s3://tonemill/rendered"]["digest"] == made["rendered"]["digest"]
    facts = [json.loads(tonemill("inspect", run, "--json").done().out) for run in (there, "runs/voice")]
    assert facts[0] == facts[1]
    s3.share = 0.0
    assert tonemill("report", there, "-o", "page.html").done().line["clips"] > 0


def test_a_run_in_a_bucket_is_exported_into_a_bucket(
    tonemill: Tonemill, tmp_path: Path, s3: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    there = upload(DATA / "runs/room", "runs/room")
    s3.share = 0.1
    for run, out in ((DATA / "runs/room", "here.nam"), (there, "there.nam"), (there, bucket("room.nam"))):
        tonemill("export", run, "-o", out, "-q").done()
    tonemill("export", there, "-o", bucket("room.nam")).refused(1, "is there already", "--overwrite")
    # A file in a bucket is converted as one here.
    tonemill("export", bucket("room.nam"), "-o", "again.nam", "-q").done()
    s3.share = 0.0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.nam", "here.nam", "there.nam"]
    sounds = [Path(name).read_bytes() for name in ("here.nam", "there.nam", "again.nam")]
    weights = [json.loads(data)["weights"] for data in (*sounds, bucket("room.nam").read_bytes())]
    assert all(one == weights[0] for one in weights)


@pytest.mark.slow
def test_corpora_judge_and_vectors_in_a_bucket_are_compared_as_those_of_a_folder(
    tonemill: Tonemill, tmp_path: Path, s3: Wire
) -> None:
    for name in ("corpora/rendered", "corpora/drums", "corpora/pairs", "runs/judge"):
        shutil.copytree(DATA / name, tmp_path / name)
    (state,) = (tmp_path / "runs/judge").rglob("state.json")
    for name, header in json.loads((DATA / "judge.json").read_text()).items():
        rebuild(state.with_name(name), header)
    keys = [
        [row["key"] for row in table(tmp_path / name / "index.parquet")]
        for name in ("corpora/rendered", "corpora/drums")
    ]
    drawn = np.random.default_rng(0)
    for name, some in (("fake", keys[0]), ("real", keys[1])):
        np.savez(tmp_path / f"{name}.npz", key=some, vector=drawn.standard_normal((len(some), 3)))
    there = upload(tmp_path, "evaluated")
    fake, real = "corpora/rendered", "corpora/drums"
    commands: list[list[str]] = [
        [fake, "--against", real, "--judge", "runs/judge", "--noise", fake],
        [fake, "--against", real, "--embeddings", "fake.npz", "--embeddings", "real.npz"],
        ["fake.npz", "--against", "real.npz"],
        ["corpora/pairs"],
    ]
    for words in commands:
        found = []
        for home, s3.share in ((there, 0.1), (tmp_path, 0.0)):
            typed = [one if one.startswith("--") else f"{home}/{one}" for one in words]
            line = tonemill("evaluate", *typed, "--json", "-q").done().out.decode()
            found.append(json.loads(line.replace(str(home), "HOME")))
        assert found[0] == found[1]


@pytest.mark.parametrize("words", [["preview"], ["pair", "wet"]], ids=lambda words: words[0])
def test_what_works_on_folders_only_states_so(
    tonemill: Tonemill, words: list[str], few: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tonemill(words[0], "s3://tonemill/any", *words[1:], stdin=few).refused(2, "folders of this machine")
    assert not list(tmp_path.iterdir())
