"""Engines: the probe detects one that loses or repeats a shard; a cluster survives the loss of a worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Tonemill, contents, lines_of, stream_of

from tonemill.audiotools.errors import OutputError, UsageError
from tonemill.pipelines.engine import liveness
from tonemill.pipelines.engine.engine import Engine
from tonemill.pipelines.engine.probe import SHARDS, probe

FAULTY = '''
"""A runner that leaves out every hundredth shard and reports success."""

from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from tonemill.pipelines.engine.probe import write_record
from tonemill.pipelines.engine.beam import CookShard


def leave_most(home, number):
    if number % 100 != 99:
        write_record(home, number)


class Losing(FnApiRunner):
    def run_pipeline(self, pipeline, options):
        (cook,) = [one.transform.fn for one in pipeline.transforms_stack[0].parts if hasattr(one.transform, "fn")]
        assert isinstance(cook, CookShard)
        cook.work = "faulty_runners:leave_most"
        return super().run_pipeline(pipeline, options)
'''


def test_the_local_runner_does_every_shard_once(tmp_path: Path) -> None:
    found = probe(Engine(2), tmp_path)
    assert found.holds and sum(found.workers.values()) == SHARDS, found
    assert not list(tmp_path.iterdir())


def test_the_doctor_reports_an_engine(tonemill: Tonemill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tonemill.pipelines.engine.probe.SHARDS", 8)
    report = tonemill("doctor", tmp_path, "--beam", "direct_running_mode=in_memory", "--json").done().line
    assert [(one["check"], one["state"]) for one in report["findings"]] == [("engine", "ok")]
    refused = tonemill("doctor", tmp_path, "--beam", "direct_runner_bundle_repeat=1").refused(1)
    assert b"8 done twice" in refused.out and b"--range" in refused.out


def test_an_engine_that_doubles_is_found_out(tmp_path: Path) -> None:
    found = probe(Engine(2, None, ["--direct_runner_bundle_repeat=1"]), tmp_path)
    assert len(found.doubled) == SHARDS and not found.lost and not found.holds
    assert f"{SHARDS} done twice" in found.summary()


@pytest.mark.slow
def test_an_engine_that_loses_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "faulty_runners.py").write_text(FAULTY)
    monkeypatch.syspath_prepend(tmp_path)
    found = probe(Engine(2, "faulty_runners.Losing"), tmp_path / "out")
    assert found.lost == (99, 199, 299) and not found.doubled and not found.holds
    assert "3 lost" in found.summary() and "3 shards are missing" in found.summary()


def test_an_engine_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="NoRunner"):
        probe(Engine(2, "NoRunner"), tmp_path)


@pytest.fixture
def cluster(tmp_path: Path, environment: dict[str, str]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Two worker processes of Dask; the address of their scheduler is in `scheduler.json`."""
    pytest.importorskip("distributed", reason="a cluster of Dask needs tonemill[dask]")
    started: list[subprocess.Popen[bytes]] = []

    def start(name: str, *words: str) -> None:
        command = [sys.executable, "-P", "-m", f"distributed.cli.dask_{name}", "--no-dashboard", *words]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        started.append(subprocess.Popen(command, env=environment, cwd=tmp_path, **quiet))  # type: ignore[call-overload]

    start("scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", "scheduler.json")
    for number in range(2):
        local = f"worker-{number}"
        start(
            "worker", "--scheduler-file", "scheduler.json", "--nthreads", "1", "--no-nanny", "--local-directory", local
        )
    try:
        while not (tmp_path / "scheduler.json").exists():
            assert started[0].poll() is None
            time.sleep(0.1)
        yield started[1:]
    finally:
        for one in started[::-1]:
            one.kill()
            one.wait()


@pytest.mark.slow
def test_small_plans_spread_over_all_workers_of_a_cluster(
    cluster: list[subprocess.Popen[bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [f"--dask_scheduler_file={tmp_path / 'scheduler.json'}"]
    found = probe(Engine(2, "dask", options), tmp_path / "out")
    assert found.holds, found.summary()
    assert len(found.workers) == 2 and min(found.workers.values()) > SHARDS / 5, found.workers
    monkeypatch.setattr("tonemill.pipelines.engine.probe.SHARDS", 20)
    few = probe(Engine(2, "dask", options), tmp_path / "out")
    assert few.holds and len(few.workers) == 2, few.summary()


@pytest.mark.slow
def test_a_cluster_outlives_a_worker_that_is_killed(
    cluster: list[subprocess.Popen[bytes]],
    plan: bytes,
    tmp_path: Path,
    tonemill: Tonemill,
    environment: dict[str, str],
) -> None:
    recipes = [one | {"path": f"{copy}/{one['path']}"} for copy in range(25) for one in lines_of(plan)]
    (tmp_path / "plan.jsonl").write_bytes(stream_of(recipes))
    command = "tonemill shard out --shard-seconds 1 -q --runner dask --beam dask_scheduler_file=scheduler.json"
    with (tmp_path / "plan.jsonl").open("rb") as stdin:
        process = subprocess.Popen(command.split(), cwd=tmp_path, env=environment, stdin=stdin, stderr=subprocess.PIPE)
    until = time.monotonic() + 600
    while len(list((tmp_path / "out").rglob("0*.json"))) < 10:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until, "nothing comes of it"
        time.sleep(0.02)
    os.kill(cluster[0].pid, signal.SIGKILL)
    done = len(list((tmp_path / "out").rglob("0*.json")))
    _, err = process.communicate(timeout=900)
    assert process.returncode == 0, err
    tonemill("shard", tmp_path / "local", "--shard-seconds", 1, "-q", stdin=stream_of(recipes)).done()
    mine = contents(tmp_path / "out")
    assert mine == contents(tmp_path / "local")
    assert done < sum(name.endswith(".tar") for name in mine) / 2, "it was killed when most was done"


@pytest.mark.slow
def test_a_cluster_without_workers_is_not_waited_for(
    cluster: list[subprocess.Popen[bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distributed import Client

    monkeypatch.setattr(liveness, "LOOK_SECONDS", 0.2)
    with Client(scheduler_file=str(tmp_path / "scheduler.json")) as client:
        client.wait_for_workers(2, timeout=60)
        watched = liveness.Cluster(patience=2)
        until = time.monotonic() + 4
        while time.monotonic() < until:
            watched.require()
            time.sleep(0.1)
        for one in cluster:
            one.kill()
        with pytest.raises(OutputError, match="no worker for 2 s"):
            while time.monotonic() < until + 60:
                watched.require()
                time.sleep(0.1)
