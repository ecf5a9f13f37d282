"""Stores that fail, stall and cut their answers, and commands that are killed, cost time and no byte."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from buckets import FLAGS, Wire, bucket, objects, upload
from conftest import Tonemill, contents

pytest.importorskip("s3fs", reason="stores need tonemill[s3]")
pytest.importorskip("moto", reason="tests of stores need tonemill[test]")

from tonemill.models.contract import Batch
from tonemill.pipelines.corpus.corpus import Corpus, open_corpus
from tonemill.pipelines.storage import leases, stores
from tonemill.pipelines.storage import s3 as s3_store
from tonemill.pipelines.storage.paths import place
from tonemill.pipelines.training import order
from tonemill.pipelines.training.loader import Batches
from tonemill.pipelines.training.loader_processes import batches
from tonemill.pipelines.training.shard_cache import ShardCache


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
    assert sum(s3.counted[kind] for kind in ("slow", "error", "cut")) > 2
