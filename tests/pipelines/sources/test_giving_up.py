"""Where nothing can be read any more commands end soon: with four workers, in a stall, on a cluster with a bad host."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from buckets import Wire, folder_at, reached, s3_server
from conftest import Tonemill, contents, write_wav

pytest.importorskip("s3fs", reason="stores need tonemill[s3]")
pytest.importorskip("moto", reason="tests of stores need tonemill[test]")

from tonemill.audiotools.errors import UsageError
from tonemill.pipelines.sources.reach import MOST_SOURCES, Reach, reach
from tonemill.pipelines.storage import stores
from tonemill.pipelines.storage.commit import TEMPORARY
from tonemill.pipelines.storage.stores import GIVE_UP, MOST_SECONDS, most_seconds, persist

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": "loopback", "AWS_DEFAULT_REGION": "us-east-1"}
SOURCES = 3 * MOST_SOURCES
FLAGS = ("--shard-seconds", 0.3, "-q")
SECONDS = 8.0
"""Without anything that is read, until a worker gives up here; importing a store's client may take three of them."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    """A bucket with sources of a tenth of a second in `s3://tonemill/in`."""
    folder = tmp_path_factory.mktemp("scratch")
    with s3_server() as wire, reached(folder, **CREDENTIALS, AWS_ENDPOINT_URL=wire.url):
        for number in range(SOURCES):
            path = write_wav(folder / "raw.wav", frames=800, seed=number)
            (folder_at("s3://tonemill/in") / f"{number:02d}.wav").put(path)
        yield wire


@pytest.fixture(scope="module")
def stream(server: Wire, tonemill: Tonemill) -> bytes:
    return tonemill("scan", "s3://tonemill/in", "-q").done().out


@pytest.fixture
def wire(server: Wire) -> Iterator[Wire]:
    yield server
    server.share = 0.0


@contextmanager
def failing(wire: Wire, kind: str) -> Iterator[None]:
    """Every request for a source fails, a stall outlasts any test, and workers are patient for `SECONDS`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(GIVE_UP, str(SECONDS))
        Reach.__init__(reach)
        wire.among, wire.kinds, wire.seconds, wire.share = "/in/", (kind,), 600.0, 1.0
        yield
        wire.share = 0.0
        Reach.__init__(reach)


def committed(out: Path) -> list[Path]:
    return [path for path in out.rglob("*.tar") if TEMPORARY not in path.name]


@pytest.mark.parametrize(
    ("kind", "workers"), [("error", 4), ("slow", 4), ("slow", 1)], ids=["refused", "stalled", "stalled, one worker"]
)
@pytest.mark.slow
def test_workers_that_can_read_nothing_end_the_command(
    tonemill: Tonemill, stream: bytes, wire: Wire, tmp_path: Path, kind: str, workers: int
) -> None:
    flags = (*FLAGS, "--workers", workers)
    with failing(wire, kind):
        begun = time.monotonic()
        ended = tonemill("shard", tmp_path / "out", *flags, stdin=stream)
        # Each of 30 sources would have taken as long as this, and a stall 30 s for each of six attempts.
        assert time.monotonic() - begun < 10 * SECONDS
    ended.refused(1, socket.gethostname(), "s3://tonemill/in/", *(["503"] if kind == "error" else []))
    assert not committed(tmp_path / "out")
    assert tonemill("shard", tmp_path / "out", *flags, stdin=stream).done().line["examples"] == SOURCES
    tonemill("shard", tmp_path / "whole", *FLAGS, stdin=stream).done()
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.parametrize("kind", ["error", "slow"])
@pytest.mark.slow
def test_a_scan_that_can_read_nothing_ends(tonemill: Tonemill, wire: Wire, kind: str) -> None:
    with failing(wire, kind):
        begun = time.monotonic()
        ended = tonemill("scan", "s3://tonemill/in", "-q").refused(1, socket.gethostname(), "s3://tonemill/in/")
        assert time.monotonic() - begun < 10 * SECONDS
    # Without a trailer no sink takes it.
    assert b"trailer" not in ended.out


@pytest.mark.slow
def test_one_bad_host_of_a_cluster_ends_the_command(
    stream: bytes, wire: Wire, tmp_path: Path, environment: dict[str, str], tonemill: Tonemill
) -> None:
    """It would refuse one source after the other, faster than good hosts read them."""
    pytest.importorskip("distributed", reason="a cluster of Dask needs tonemill[dask]")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{closed.getsockname()[1]}"
    patience = ({}, {GIVE_UP: str(SECONDS)})
    started: list[subprocess.Popen[bytes]] = []

    def start(kind: str, *words: str, **more: str) -> None:
        command = [sys.executable, "-P", "-m", f"distributed.cli.dask_{kind}", "--no-dashboard", *words]
        with (tmp_path / f"{kind}-{len(started)}.txt").open("wb") as log:
            started.append(
                subprocess.Popen(
                    command, env={**os.environ, **environment, **more}, cwd=tmp_path, stdout=log, stderr=log
                )
            )

    start("scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", "scheduler.json")
    for number, place in enumerate((wire.url, nowhere)):
        words = ("--scheduler-file", "scheduler.json", "--nthreads", "1", "--no-nanny")
        start("worker", *words, "--local-directory", f"worker-{number}", AWS_ENDPOINT_URL=place, **patience[number])
    try:
        words = [*FLAGS, "--runner", "dask", "--beam", f"dask_scheduler_file={tmp_path / 'scheduler.json'}"]
        while not (tmp_path / "scheduler.json").exists():
            time.sleep(0.1)
        from distributed import Client

        with Client(scheduler_file=str(tmp_path / "scheduler.json")) as client:
            client.wait_for_workers(2, timeout=60)
        begun = time.monotonic()
        ended = tonemill("shard", tmp_path / "out", *words, stdin=stream)
        ended.refused(1, f"{socket.gethostname()} could read none", "s3://tonemill/in/")
        assert time.monotonic() - begun < 60
    finally:
        for one in started[::-1]:
            one.kill()
            one.wait()
    assert tonemill("shard", tmp_path / "out", *FLAGS, stdin=stream).done().line["examples"] == SOURCES


@pytest.mark.parametrize("typed", ["soon", "0", "-1", "nan"])
def test_how_long_a_worker_tries_is_of_its_environment(typed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(GIVE_UP, raising=False)
    assert most_seconds() == MOST_SECONDS
    monkeypatch.setenv(GIVE_UP, "600")
    assert most_seconds() == 600
    monkeypatch.setenv(GIVE_UP, typed)
    with pytest.raises(UsageError, match=f"{GIVE_UP} is '{typed}'"):
        most_seconds()


@pytest.mark.parametrize(("each", "patience", "attempts"), [(30, 60, 2), (1, 60, stores.ATTEMPTS), (600, 60, 2)])
def test_a_store_that_does_not_answer_is_given_up_in_time(
    each: float, patience: float, attempts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attempts of 30 s end after a minute; one that failed late, as a listing of hours, is made once more."""
    now, made = [0.0], []
    monkeypatch.setattr(stores.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(stores, "PAUSE_SECONDS", 0.0)

    def act() -> None:
        now[0] += each
        made.append(now[0])
        raise TimeoutError("no answer")

    with pytest.raises(OSError, match="listing"):
        persist("listing s3://bucket/in", act, "s3", patience)
    assert len(made) == attempts
