"""Sources and corpora in object stores have the bytes that they have in folders, and are read as those are."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from buckets import FLAGS, Wire, bucket, objects, objects_at, upload
from conftest import Tonemill, contents, lines_of, reasons, stream_of, table, write_wav
from latents import install

pytest.importorskip("s3fs", reason="stores need tonemill[s3]")
pytest.importorskip("moto", reason="tests of stores need tonemill[test]")

from tonemill.pipelines.corpus import plan_file
from tonemill.pipelines.corpus.corpus import open_corpus
from tonemill.pipelines.corpus.layout import OutputFolder
from tonemill.pipelines.corpus.plan_file import read_whole
from tonemill.pipelines.planning.plan import Output, Splitting
from tonemill.pipelines.planning.planner import make_plan
from tonemill.pipelines.recipes.recipe import Recipe
from tonemill.pipelines.storage import commit, copies, stores
from tonemill.pipelines.storage.paths import as_store, kept, place, scratch
from tonemill.pipelines.storage.store_path import StorePath
from tonemill.pipelines.training.loader import Batches


def test_a_corpus_in_a_bucket_has_the_bytes_of_one_in_a_folder(
    tonemill: Tonemill, few: bytes, expected: Path, s3: Wire
) -> None:
    line = tonemill("shard", "s3://tonemill/whole", *FLAGS, stdin=few).done().line
    assert line["corpus"] == "s3://tonemill/whole"
    assert objects("whole") == contents(expected)
    puts = s3.counted["PUT"]
    tonemill("shard", "s3://tonemill/whole", *FLAGS, stdin=few).done()
    # The lease, the tables of the whole, the file for loaders and the description; no shard.
    assert s3.counted["PUT"] - puts == 5
    assert not [path for path in scratch(place("s3://tonemill/whole")).rglob("*") if commit.TEMPORARY in path.name]

    stream = tonemill("open", "s3://tonemill/whole").done().out
    local = tonemill("open", expected).done().out
    assert stream.replace(b"s3://tonemill/whole", b"") == local.replace(f"file://{expected}".encode(), b"")
    tonemill("shard", "s3://tonemill/copied", "-q", stdin=stream).done()
    facts = json.loads(tonemill("inspect", "s3://tonemill/whole", "--json").done().out)
    assert facts["examples"] == line["examples"]


@pytest.mark.slow
def test_arrays_in_a_bucket_are_those_of_a_folder(
    tonemill: Tonemill, few: bytes, tmp_path: Path, s3: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path / "site", monkeypatch)
    stream = tonemill("latents", "--hop", 100, stdin=stream_of(lines_of(few)[:1])).done().out
    for corpus in ("s3://tonemill/latents", tmp_path / "latents"):
        tonemill("shard", corpus, *FLAGS, "--workers", 1, stdin=stream).done()
    assert objects("latents") == contents(tmp_path / "latents")
    opened = tonemill("open", "s3://tonemill/latents").done().out
    tonemill("shard", tmp_path / "again", *FLAGS, "--workers", 1, stdin=opened).done()
    digests = [
        sorted(row["latents_sha256"] for row in table(tmp_path / name / "index.parquet"))
        for name in ("latents", "again")
    ]
    assert digests[0] == digests[1]
    found = [
        Batches(open_corpus(place(str(corpus))), "train", (), 500, 4, arrays=("latents",)).batch(0).arrays["latents"]
        for corpus in ("s3://tonemill/latents", tmp_path / "latents")
    ]
    assert np.array_equal(*found)


def test_sources_in_a_bucket_give_the_same_corpus(
    tonemill: Tonemill, piped: Callable[..., bytes], raw: Path, tmp_path: Path, s3: Wire
) -> None:
    shutil.copytree(raw / "left", tmp_path / "raw")
    root = upload(tmp_path / "raw", "raw")
    made = {}
    for name, source in {"remote": root, "local": tmp_path / "raw"}.items():
        stream = piped(["scan", source, "--fields", "{label}_{speaker}_{take}", "-q"], ["slice", "--samples", 1000])
        tonemill("shard", tmp_path / name, *FLAGS, stdin=stream).done()
        made[name] = contents(tmp_path / name)
        # Of these, and of nothing else, places are a part.
        made[name + " plan"] = {one: made[name].pop(one) for one in ("plan.parquet", "plan.json")}
    assert made["remote"] == made["local"] and made["remote plan"] != made["local plan"]
    left = scratch(copies.FETCHED).rglob("*.wav")  # type: ignore[arg-type]
    assert not list(left), "copies of sources stay behind"


@pytest.mark.parametrize("name", ["plan.parquet", "index.parquet"])
def test_a_damaged_table_in_a_bucket_is_refused_in_words(
    tonemill: Tonemill, few: bytes, expected: Path, tmp_path: Path, s3: Wire, name: str
) -> None:
    upload(expected, f"damaged-{name}")
    data = bytearray((expected / name).read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / name).write_bytes(data)
    (bucket(f"damaged-{name}") / name).put(tmp_path / name)
    ended = tonemill("inspect", f"s3://tonemill/damaged-{name}").refused(1, f"damaged-{name}/{name} is damaged")
    assert "tonemill repair" in ended.err
    tonemill("shard", f"s3://tonemill/damaged-{name}", *FLAGS, stdin=few).done()
    assert objects(f"damaged-{name}") == contents(expected)


def test_a_table_of_a_bucket_comes_once(expected: Path, s3: Wire) -> None:
    corpus = open_corpus(place(str(upload(expected, "once"))))
    s3.counted.clear()
    index = corpus.index()
    assert index.equals(open_corpus(expected).index()) and s3.counted["GET"] == 1
    plan = corpus.folder / "plan.parquet"
    there = read_whole(expected / "plan.parquet")
    for _ in range(2):
        s3.counted.clear()
        assert read_whole(plan) == there
        wanted = s3.counted["GET"]
        # The plan is copied only the first time, and its end compared each time.
        s3.counted.clear()
        assert read_whole(plan) == there
        assert s3.counted["GET"] == wanted - 1 == 2
        # What was copied from another version, of one size and one time in the store's whole seconds, is no copy.
        kept(plan).write_bytes(bytes(kept(plan).stat().st_size))


def test_a_worker_reads_its_own_part_of_a_plan_in_a_bucket(
    s3: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four requests: the record, the end, the list that the shard is in, and its row group."""
    monkeypatch.setattr(plan_file, "AT_ONCE", 4)
    source = {"audio": {"uri": "file:///x.wav", "frames": 8000, "sample_rate": 8000, "channels": 1}}
    recipes = [Recipe(f"{number}.wav", source, {"text": f"{number}" * 2000}) for number in range(200)]
    made = make_plan(recipes, Output("shards"), Splitting(), 2.0)
    local = OutputFolder(tmp_path, "shards")
    plan_file.write_plan(local, made)
    far = place(str(upload(tmp_path, "parts"))) / "plan.parquet"
    bytes_read: list[int] = []
    real = StorePath.read

    def read(path: StorePath, start: int, end: int) -> bytes:
        bytes_read.append(end - start)
        return real(path, start, end)

    monkeypatch.setattr(StorePath, "read", read)
    s3.counted.clear()
    file = plan_file.PlanFile(far)
    assert file.shard(50) == made.shards[50] and tuple(file.rows(50)) == made.rows[50]
    assert s3.counted["GET"] == 4 and len(bytes_read) == 3
    assert sum(bytes_read) < local.plan.stat().st_size / 3
    for number in range(100):
        assert tuple(file.rows(number)) == made.rows[number]


def test_a_model_trains_on_what_a_bucket_holds(tonemill: Tonemill, few: bytes, expected: Path, s3: Wire) -> None:
    upload(expected, "train")
    made = []
    for corpus in (open_corpus(expected), open_corpus(place("s3://tonemill/train"))):
        made.append(Batches(corpus, "train", ("audio",), 500, 4, seed=3).batch(2))
    assert np.array_equal(made[0].audio["audio"], made[1].audio["audio"]) and made[0].fields == made[1].fields


def test_a_source_that_changes_or_goes_is_reported(tonemill: Tonemill, tmp_path: Path, s3: Wire) -> None:
    for name, seed in {"kept.wav": 0, "other.wav": 1, "gone.wav": 2}.items():
        write_wav(tmp_path / "raw" / name, seed=seed)
    root = upload(tmp_path / "raw", "changing")
    stream = tonemill("scan", root, "-q").done().out
    (root / "other.wav").put(write_wav(tmp_path / "new.wav", seed=9))
    (root / "gone.wav").unlink()
    tonemill("shard", tmp_path / "out", "-q", stdin=stream).done()
    assert reasons(tmp_path / "out") == {"other.wav": "changed", "gone.wav": "missing"}


ODD = ("x?versionId=7.wav", "./dot.wav", "a/../up.wav", "x?key=1.wav", "x&token=a.wav", "two//slashes.wav", "both.wav")


def test_every_key_is_read_under_its_own_name(tonemill: Tonemill, tmp_path: Path, s3: Wire) -> None:
    put = stores.store_of("s3")._call  # type: ignore[attr-defined]
    digests = {}
    for seed, key in enumerate(("x", "up.wav", *ODD, "both.wav/below.wav")):
        data = write_wav(tmp_path / "a.wav", seed=seed).read_bytes()
        put("put_object", Bucket="tonemill", Key=f"odd/{key}", Body=data)
        digests[key] = hashlib.sha256(data).hexdigest()
    put("put_object", Bucket="tonemill", Key="odd/", Body=b"")
    stream = tonemill("scan", "s3://tonemill/odd", "-q").done().out
    found = {one["path"]: one["sources"]["audio"]["sha256"] for one in lines_of(stream)}
    assert found == {key: digest for key, digest in digests.items() if key != "x"}
    assert tonemill("shard", tmp_path / "out", "-q", stdin=stream).done().line["examples"] == len(found)


def test_a_file_is_put_under_its_own_name(tmp_path: Path, s3: Wire) -> None:
    (tmp_path / "plain").write_bytes(b"plain")
    (bucket("put/x")).put(tmp_path / "plain")
    for name in ("x?versionId=7", "x?versionId=7/below", "a//b", "x#1", "x%20y"):
        (tmp_path / "one").write_bytes(name.encode())
        (bucket("put") / name).put(tmp_path / "one")
        assert (bucket("put") / name).read_bytes() == name.encode()
    assert bucket("put/x").read_bytes() == b"plain" and len(objects("put")) == 6


@pytest.mark.slow
def test_a_corpus_in_a_folder_with_an_odd_name(tonemill: Tonemill, few: bytes, expected: Path, s3: Wire) -> None:
    where = "s3://tonemill/odd[1]*?versionId=7"
    tonemill("shard", where, *FLAGS, stdin=few).done()
    assert objects_at(StorePath("s3", where.removeprefix("s3://"))) == contents(expected)
    tonemill("inspect", where).done()


def test_first_workers_of_one_machine_keep_one_copy_of_a_plan(
    expected: Path, s3: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two that fetch at once: the second to end must not take away what the first has begun to read."""
    plan = as_store(upload(expected, "raced") / "plan.parquet")
    assert plan is not None
    both, fetch, unlink = threading.Barrier(2), StorePath.fetch, Path.unlink
    removed: list[Path] = []

    def at_once(self: StorePath, target: Path) -> object:
        entry = fetch(self, target)
        both.wait(30)
        return entry

    def noted(self: Path, missing_ok: bool = False) -> None:
        removed.append(self)
        unlink(self, missing_ok)

    monkeypatch.setattr(StorePath, "fetch", at_once)
    monkeypatch.setattr(Path, "unlink", noted)
    with ThreadPoolExecutor(2) as workers:
        first, second = workers.map(lambda _: kept(plan), range(2))  # type: ignore[arg-type]
    assert first == second and first not in removed
    assert first.read_bytes() == (expected / "plan.parquet").read_bytes()


def test_doctor_tries_a_folder_of_a_bucket(tonemill: Tonemill, s3: Wire) -> None:
    ended = tonemill("doctor", "s3://tonemill/checked", "--only", "folder").done()
    assert b"can be listed, read and written, and files there can be deleted" in ended.out and not objects("checked")
    tonemill("doctor", "s3://no-such-bucket/checked", "--only", "folder").refused(1)
