"""Sources and corpora in object stores, against an S3 API on loopback that also fails, stalls and cuts its answers."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from buckets import Wire, folder_at, objects_at, reached, s3_server
from conftest import Tonemill, contents, lines_of, reasons, stream_of, table, write_wav
from earlier import DATA, rebuild
from latents import install

pytest.importorskip("s3fs", reason="stores need tonemill[s3]")
pytest.importorskip("moto", reason="tests of stores need tonemill[test]")

from tonemill.audiotools.errors import UsageError
from tonemill.models.contract import Batch
from tonemill.pipelines.corpus import plan_file
from tonemill.pipelines.corpus.corpus import Corpus, open_corpus
from tonemill.pipelines.corpus.layout import OutputFolder
from tonemill.pipelines.corpus.plan_file import read_whole
from tonemill.pipelines.planning.plan import Output, Splitting
from tonemill.pipelines.planning.planner import make_plan
from tonemill.pipelines.recipes.recipe import Recipe
from tonemill.pipelines.storage import commit, copies, leases, stores
from tonemill.pipelines.storage import s3 as s3_store
from tonemill.pipelines.storage.paths import as_store, kept, place, scratch
from tonemill.pipelines.storage.store_path import StorePath
from tonemill.pipelines.training import order
from tonemill.pipelines.training.loader import Batches
from tonemill.pipelines.training.loader_processes import batches
from tonemill.pipelines.training.shard_cache import ShardCache

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": "loopback", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    """A bucket `s3://tonemill`, for this process and those it starts."""
    with s3_server() as wire, reached(tmp_path_factory.mktemp("scratch"), **CREDENTIALS, AWS_ENDPOINT_URL=wire.url):
        yield wire


@pytest.fixture
def s3(server: Wire) -> Iterator[Wire]:
    server.share, server.kinds, server.seconds, server.among = 0.0, ("error", "cut", "drop"), 0.05, ""
    server.counted.clear()
    yield server
    server.share = 0.0


THREADS = ("--runner", "apache_beam.runners.portability.fn_api_runner.FnApiRunner")

FLAGS = ("--shard-seconds", 2, "-q")


@pytest.fixture(scope="module")
def few(plan: bytes) -> bytes:
    """A quarter of the plan: two shards."""
    return stream_of(lines_of(plan)[:4])


@pytest.fixture(scope="module")
def expected(few: bytes, tonemill: Tonemill, server: Wire, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What it gives in a folder."""
    folder = tmp_path_factory.mktemp("local") / "corpus"
    tonemill("shard", folder, *FLAGS, stdin=few).done()
    return folder


def bucket(name: str) -> StorePath:
    return folder_at(f"s3://tonemill/{name}")


def objects(name: str) -> dict[str, bytes]:
    return objects_at(bucket(name))


def upload(folder: Path, name: str) -> StorePath:
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        (bucket(name) / path.relative_to(folder).as_posix()).put(path)
    return bucket(name)


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


def test_a_cache_loses_no_example_to_a_store_that_fails_half_of_the_time(
    expected: Path, s3: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(expected, "unsteady")
    corpus = open_corpus(place("s3://tonemill/unsteady"))
    monkeypatch.setattr(stores, "ATTEMPTS", 30)
    monkeypatch.setattr(stores, "PAUSE_SECONDS", 0.001)
    own = Batches(open_corpus(expected), "train", ("audio",), 500, 4, seed=3)
    cached = Batches(corpus, "train", ("audio",), 500, 4, seed=3, tars=ShardCache(tmp_path, 10**9, corpus))
    s3.share, s3.kinds, s3.among = 0.5, ("error", "cut", "drop", "slow"), ".tar"
    for number in range(6):
        assert np.array_equal(cached.batch(number).audio["audio"], own.batch(number).audio["audio"])
    assert sum(s3.counted[kind] for kind in s3.kinds)


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


@pytest.mark.parametrize("share", [0.2, pytest.param(0.4, marks=pytest.mark.slow)])
def test_what_fails_for_a_moment_is_tried_again(
    tonemill: Tonemill, few: bytes, expected: Path, s3: Wire, share: float
) -> None:
    s3.share = share
    tonemill("shard", f"s3://tonemill/faults-{share}", *FLAGS, stdin=few).done()
    faults = {kind: s3.counted[kind] for kind in s3.kinds}
    s3.share = 0.0
    assert sum(faults.values()) > 3, faults
    assert objects(f"faults-{share}") == contents(expected)


@pytest.mark.slow
def test_what_fails_for_good_is_reported_and_the_same_command_goes_on(
    tonemill: Tonemill, few: bytes, expected: Path, s3: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "ATTEMPTS", 2)
    s3.share, s3.kinds = 1.0, ("error",)
    tonemill("shard", "s3://tonemill/down", *FLAGS, stdin=few).refused(1, "s3://tonemill/down", "tried 2 times")
    s3.share = 0.0
    tonemill("shard", "s3://tonemill/down", *FLAGS, stdin=few).done()
    assert objects("down") == contents(expected)


@pytest.mark.slow
def test_cut_slow_and_dropped_answers_are_noticed(s3: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = np.random.default_rng(0).bytes(300_000)
    (tmp_path / "data").write_bytes(data)
    path = bucket("data")
    path.put(tmp_path / "data")
    for kind in ("cut", "drop", "slow", "error"):
        s3.share, s3.kinds = 0.5, (kind,)
        monkeypatch.setattr(stores, "ATTEMPTS", 12)
        assert path.read_bytes() == data
        path.fetch(tmp_path / "copy")
        assert (tmp_path / "copy").read_bytes() == data
        with path.open() as file:
            file.seek(-1000, os.SEEK_END)
            assert file.read(10) == data[-1000:-990]
            file.seek(0)
            assert b"".join(iter(lambda: file.read(7001), b"")) == data
        assert s3.counted[kind]


def test_a_reader_asks_for_what_it_needs(s3: Wire, tmp_path: Path) -> None:
    data = np.random.default_rng(1).bytes(4_000_000)
    (tmp_path / "data").write_bytes(data)
    path = bucket("long")
    path.put(tmp_path / "data")
    with path.open() as file:
        s3.counted.clear()
        file.seek(1_000_000)
        assert file.read(500) == data[1_000_000:1_000_500] and s3.counted["GET"] == 1
        s3.counted.clear()
        file.seek(0)
        assert io.BytesIO(file.read()).getvalue() == data and s3.counted["GET"] == 1
        s3.counted.clear()
        file.seek(0)
        while file.read(1 << 14):
            pass
        assert s3.counted["GET"] < 10


@pytest.mark.slow
def test_two_commands_on_one_bucket(
    tonemill: Tonemill, few: bytes, expected: Path, s3: Wire, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tonemill.pipelines.building.shard_range.PLAN_SECONDS", 0.2)
    where = "s3://tonemill/held"
    tonemill("shard", where, *FLAGS, "--range", "0:1", stdin=few).done()
    folder = bucket("held")
    # As from another machine: only the lease shows it.
    (tmp_path / "lease").write_text(json.dumps({"host": "elsewhere", "pid": 1}))
    other = folder / leases.LEASES / "together-0.json"
    other.put(tmp_path / "lease")
    tonemill("shard", where, "--planned", "--range", "1:2", "-q").done()
    done = threading.Event()

    def renew() -> None:
        while not done.wait(0.5):
            other.put(tmp_path / "lease")

    renewing = threading.Thread(target=renew)
    renewing.start()
    tonemill("shard", where, "--planned", "-q").refused(1, "Another command is writing", "together-0")
    done.set()
    renewing.join()
    other.unlink()
    tonemill("shard", where, "--planned", "-q").done()
    assert objects("held") == contents(expected)


HOLDING = """
import fcntl, os, sys
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def lease_of(folder: StorePath, tmp_path: Path, **record: object) -> StorePath:
    """Another's lease, put now."""
    (tmp_path / "lease").write_text(json.dumps({"host": "elsewhere", "pid": 1, **record}))
    lease = folder / leases.LEASES / "alone-0.json"
    lease.put(tmp_path / "lease")
    return lease


def test_on_one_machine_a_lease_lives_as_long_as_its_lock(s3: Wire, tmp_path: Path) -> None:
    folder, boot = bucket("leased"), leases.BOOT.read_text().strip()
    lock = tmp_path / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        # Neither the host nor the number of the process is looked at: containers share them.
        other = lease_of(folder, tmp_path, boot=boot, file=str(lock))
        with leases.leased(folder, together=False) as found:
            assert found == other
        holder.kill()
    begun = time.monotonic()
    with leases.leased(folder, together=False) as found:
        assert found is None and not other.is_file()
    assert time.monotonic() - begun < 1
    assert not folder.below()


@pytest.mark.parametrize("record", [{}, {"boot": "another", "file": "/tmp"}], ids=["of before", "elsewhere"])
def test_another_machine_s_lease_is_watched(
    s3: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: dict[str, str]
) -> None:
    # This store has times in whole seconds.
    monkeypatch.setattr(leases, "LEASE_SECONDS", 2.9)
    monkeypatch.setattr(leases, "WATCH_SECONDS", 0.2)
    folder, messages = bucket("watched"), []
    other = lease_of(folder, tmp_path, **record)
    with leases.leased(folder, together=False, say=messages.append) as found:
        assert found is None and not other.is_file()
    assert len(messages) == 1 and "may be writing to" in messages[0]
    lease_of(folder, tmp_path, **record)
    renewing = threading.Timer(1.2, lease_of, (folder, tmp_path), record)
    renewing.start()
    with leases.leased(folder, together=False) as found:
        assert found == other
    renewing.join()
    other.unlink()


def test_a_lease_is_renewed_while_it_is_held(s3: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "LEASE_SECONDS", 1.9)
    folder = bucket("renewed")
    with leases.leased(folder, together=False) as first:
        assert first is None
        (mine,) = folder.below()
        put = mine.entry().modified_ns
        time.sleep(2.1)
        assert mine.entry().modified_ns > put
    assert not folder.below()


@pytest.mark.slow
def test_killed_at_random_moments_every_object_is_the_same(
    few: bytes, expected: Path, tmp_path: Path, s3: Wire, environment: dict[str, str]
) -> None:
    (tmp_path / "plan.jsonl").write_bytes(few)
    words = ["tonemill", "shard", "s3://tonemill/killed", *map(str, FLAGS)]

    def run(seconds: float | None) -> int:
        with (tmp_path / "plan.jsonl").open("rb") as stdin:
            process = subprocess.Popen(
                words, env={**os.environ, "PATH": environment["PATH"]}, stdin=stdin, stdout=subprocess.DEVNULL
            )
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    begun = time.monotonic()
    assert run(None) == 0
    whole_seconds = time.monotonic() - begun
    for path in bucket("killed").below():
        path.unlink()
    ended = [run(whole_seconds * share) for share in (0.5, 0.6, 0.7, 0.8, 0.9)]
    assert -signal.SIGKILL in ended
    assert run(None) == 0
    assert objects("killed") == contents(expected)


REFUSED = {
    "s3://key:secret@bucket/loops": "must not contain a password",
    "ftp://host/loops": "is not supported",
    "s3://": "names no bucket and folder",
    "s3://bucket/../other": "names no bucket and folder",
}


@pytest.mark.parametrize("typed", REFUSED)
def test_what_is_no_place_is_refused(typed: str) -> None:
    with pytest.raises(UsageError, match=REFUSED[typed]) as caught:
        place(typed)
    assert "secret" not in str(caught.value)


def test_paths_that_lost_a_slash_are_uris_again() -> None:
    assert str(place(Path("s3://bucket/loops/"))) == "s3://bucket/loops"
    assert place("corpora/loops") == Path("corpora/loops")
    assert as_store(place("/data/a:b/c")) is None


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


@pytest.mark.parametrize(("ranks", "processes"), [(1, 0), pytest.param(2, 1, marks=pytest.mark.slow)])
def test_streams_lose_no_example_to_a_store_that_stalls_cuts_and_is_busy(
    expected: Path, s3: Wire, monkeypatch: pytest.MonkeyPatch, ranks: int, processes: int
) -> None:
    upload(expected, "streamed")
    monkeypatch.setattr(order, "RANGE_BYTES", 4000)
    monkeypatch.setattr(stores, "ATTEMPTS", 30)
    monkeypatch.setattr(stores, "PAUSE_SECONDS", 0.001)
    # Clients of their own, which wait less for an answer than the server stalls.
    monkeypatch.setattr(s3_store, "ANSWER_SECONDS", 0.3)
    monkeypatch.setattr(stores, "_stores", {})
    corpus = open_corpus(place("s3://tonemill/streamed"))

    def made(of: Corpus, **more: int) -> Batches:
        return Batches(of, "train", ("audio",), 500, 4, seed=3, streamed=True, **more)

    alone = made(open_corpus(expected))
    parts = [made(corpus, rank=rank, ranks=ranks) for rank in range(ranks)]
    s3.share, s3.kinds, s3.seconds, s3.among = 0.3, ("error", "cut", "drop", "slow"), 0.6, ".tar"
    incoming = [batches(part, processes, pin=False) for part in parts]
    for number in range(5):
        whole = Batch.joined([next(one) for one in incoming])
        assert np.array_equal(whole.audio["audio"], alone.batch(number).audio["audio"])
    s3.share = 0.0
    assert s3.counted["slow"] and s3.counted["error"] and s3.counted["cut"]
