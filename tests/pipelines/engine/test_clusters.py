"""Clusters by name: one that is not there, one that is stopped, and Beam's portable runner Prism with its workers."""

from __future__ import annotations

import contextlib
import json
import lzma
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Tonemill, contents, write_wav

from tonemill.audiotools.errors import OutputError
from tonemill.pipelines.engine import liveness
from tonemill.pipelines.engine.liveness import require_reachable

PRISM = Path(__file__).parents[4] / "shared" / "prism" / "prism.xz"
"""Beside the checkout, or unpacked at the path in TONEMILL_PRISM."""

FAKE = '''
"""A runner with a job server of its own, which notes whether that still ran when the job was cancelled."""

import subprocess
import time
from pathlib import Path

from apache_beam.runners.runner import PipelineResult, PipelineRunner, PipelineState


class Job(PipelineResult):
    def __init__(self, server):
        super().__init__(PipelineState.RUNNING)
        self.server = server

    def wait_until_finish(self, duration=None):
        Path("running").write_text(str(self.server.pid))
        time.sleep(100)

    def cancel(self):
        Path("cancelled").write_text("server ended" if self.server.poll() is not None else "server runs")


class Waiting(PipelineRunner):
    def run_pipeline(self, pipeline, options):
        return Job(subprocess.Popen(["sleep", "100"]))
'''


@contextlib.contextmanager
def listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def closed_port() -> int:
    with listening() as port:
        return port


@pytest.mark.parametrize("name", ["job_endpoint", "flink_master", "spark_master_url", "dask_client_address"])
def test_an_address_where_nothing_answers_is_named(name: str) -> None:
    scheme = {"spark_master_url": "spark://", "dask_client_address": "tcp://"}.get(name, "")
    option = f"{name}={scheme}127.0.0.1:{closed_port()}"
    with pytest.raises(OutputError, match=option) as caught:
        require_reachable([f"--{option}"], patience=0.1)
    assert "refused" in str(caught.value)
    with listening() as port:
        require_reachable([f"--{name}={scheme}127.0.0.1:{port}", "--parallelism=2"], patience=0.1)
    require_reachable([f"--{name}=[auto]"], patience=0.1)


def test_a_person_reads_at_once_which_cluster_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "GLANCE_SECONDS", 0.05)
    option, lines = f"--job_endpoint=127.0.0.1:{closed_port()}", list[str]()
    liveness.glance([option], lines.append)
    assert len(lines) == 1 and option.removeprefix("--") in lines[0] and "refused" in lines[0] and "40 s" in lines[0]
    with listening() as port:
        liveness.glance([f"--job_endpoint=127.0.0.1:{port}"], lines.append)
    assert len(lines) == 1


def test_a_scheduler_s_file_is_waited_for(tmp_path: Path) -> None:
    option = f"--dask_scheduler_file={tmp_path / 'scheduler.json'}"
    with pytest.raises(OutputError, match=r"scheduler\.json: No such file"):
        require_reachable([option], patience=0.1)
    with listening() as port:
        (tmp_path / "scheduler.json").write_text(json.dumps({"address": f"tcp://127.0.0.1:{port}"}))
        require_reachable([option], patience=0.1)
    with pytest.raises(OutputError, match=r"scheduler\.json: .*refused"):
        require_reachable([option], patience=0.1)


def test_names_of_runners_and_options_are_refused_in_words(tonemill: Tonemill, plan: bytes, tmp_path: Path) -> None:
    words = ("shard", tmp_path / "out", "-q", "--runner")
    tonemill(*words, "flinky", stdin=plan).refused(2, "flinky", "dask, FlinkRunner", "PrismRunner")
    tonemill(*words, "PortableRunner", "--beam", "job_endpont=x:1", stdin=plan).refused(
        2, "job_endpont", "job_endpoint"
    )
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@contextlib.contextmanager
def started(
    words: list[str], plan: bytes, folder: Path, environment: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """A command in a folder, with its stream in its standard input."""
    (folder / "plan.jsonl").write_bytes(plan)
    with (folder / "plan.jsonl").open("rb") as stream, (folder / "err").open("wb") as err:
        process = subprocess.Popen(
            words, stdin=stream, stdout=subprocess.DEVNULL, stderr=err, cwd=folder, env=environment
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(what: Callable[[], object], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.slow
def test_a_stopped_command_cancels_its_job_before_the_job_server_ends(
    plan: bytes, tmp_path: Path, environment: dict[str, str]
) -> None:
    (tmp_path / "fake_runners.py").write_text(FAKE)
    words = ["tonemill", "shard", "out", "-q", "--runner", "fake_runners.Waiting"]
    with started(words, plan, tmp_path, environment | {"PYTHONPATH": str(tmp_path)}) as command:
        wait_for((tmp_path / "running").exists)
        command.send_signal(signal.SIGINT)
        assert command.wait(10) == 130, (tmp_path / "err").read_text()
    assert (tmp_path / "cancelled").read_text() == "server runs"
    wait_for(lambda: not Path("/proc", (tmp_path / "running").read_text()).exists(), 5)


@pytest.fixture(scope="module")
def prism(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Beam's portable runner as a program."""
    if given := os.environ.get("TONEMILL_PRISM"):
        return Path(given)
    if not PRISM.exists():
        pytest.skip("Prism is neither beside the checkout nor at the path in TONEMILL_PRISM")
    program = tmp_path_factory.mktemp("prism") / "prism"
    with lzma.open(PRISM) as packed, program.open("wb") as file:
        shutil.copyfileobj(packed, file)
    program.chmod(0o755)
    return program


@contextlib.contextmanager
def service(words: list[str], port: int, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A server in a process group of its own."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(words, env=environment, start_new_session=True, **quiet)  # type: ignore[call-overload]
    try:
        require_reachable([f"--job_endpoint=127.0.0.1:{port}"])
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def job_service(prism: Path, environment: dict[str, str]) -> Iterator[str]:
    """The Beam option with the address of Prism's job service."""
    port = closed_port()
    with service([str(prism), "-serve_http=false", "-job_port", str(port)], port, environment):
        yield f"job_endpoint=127.0.0.1:{port}"


@contextlib.contextmanager
def worker_pool(environment: dict[str, str]) -> Iterator[tuple[list[str], subprocess.Popen[bytes]]]:
    """Beam options that use a pool of workers, and the pool's process."""
    port = closed_port()
    words = [sys.executable, "-P", "-m", "apache_beam.runners.worker.worker_pool_main", f"--service_port={port}"]
    with service(words, port, environment) as process:
        yield ["--beam", "environment_type=EXTERNAL", "--beam", f"environment_config=127.0.0.1:{port}"], process


def running(word: str) -> list[int]:
    """Processes with a word in their command lines."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if word.encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


FLAGS = ("--shard-seconds", "0.5", "-q")
LOOPBACK = ("--beam", "environment_type=LOOPBACK")


@pytest.fixture(scope="module")
def expected(plan: bytes, tonemill: Tonemill, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("local") / "corpus"
    tonemill("shard", folder, *FLAGS, stdin=plan).done()
    return contents(folder)


@pytest.mark.slow
def test_prism_by_name_gives_the_same_bytes_and_ends_with_the_command(
    tonemill: Tonemill, plan: bytes, expected: dict[str, bytes], prism: Path, tmp_path: Path
) -> None:
    words = ("--runner", "PrismRunner", "--beam", f"prism_location={prism}", *LOOPBACK)
    tonemill("shard", tmp_path / "out", *FLAGS, *words, stdin=plan).done()
    assert contents(tmp_path / "out") == expected
    wait_for(lambda: not running(str(prism)), 5)


@pytest.mark.slow
def test_ctrl_c_leaves_no_prism_and_the_same_command_goes_on(
    tonemill: Tonemill,
    plan: bytes,
    expected: dict[str, bytes],
    prism: Path,
    tmp_path: Path,
    environment: dict[str, str],
) -> None:
    out = tmp_path / "out"
    words = ["--runner", "PrismRunner", "--beam", f"prism_location={prism}", *LOOPBACK]
    with started(["tonemill", "shard", str(out), *FLAGS, *words], plan, tmp_path, environment) as command:
        wait_for(lambda: running(str(prism)))
        wait_for(lambda: list(out.rglob("0*.json")))
        command.send_signal(signal.SIGINT)
        assert command.wait(30) in (0, 130)
    wait_for(lambda: not running(str(prism)), 5)
    there = sorted(out.rglob("*"))
    time.sleep(1)
    assert sorted(out.rglob("*")) == there
    tonemill("shard", out, *FLAGS, stdin=plan).done()
    assert contents(out) == expected


@pytest.mark.slow
def test_a_portable_runner_gives_the_same_bytes_with_workers_here_and_elsewhere(
    tonemill: Tonemill,
    plan: bytes,
    expected: dict[str, bytes],
    job_service: str,
    tmp_path: Path,
    environment: dict[str, str],
) -> None:
    words = ("--runner", "PortableRunner", "--beam", job_service)
    tonemill("shard", tmp_path / "loopback", *FLAGS, *words, *LOOPBACK, stdin=plan).done()
    assert contents(tmp_path / "loopback") == expected
    with worker_pool(environment) as (options, _):
        tonemill("shard", tmp_path / "external", *FLAGS, *words, *options, stdin=plan).done()
    assert contents(tmp_path / "external") == expected


@pytest.mark.slow
def test_a_killed_worker_ends_the_job_and_the_same_command_goes_on(
    tonemill: Tonemill,
    plan: bytes,
    expected: dict[str, bytes],
    job_service: str,
    tmp_path: Path,
    environment: dict[str, str],
) -> None:
    out = tmp_path / "out"
    words = ["--runner", "PortableRunner", "--beam", job_service]
    with worker_pool(environment) as (options, pool):
        given = ["tonemill", "shard", str(out), *FLAGS, *words, *options]
        with started(given, plan, tmp_path, environment) as command:
            wait_for(lambda: list(out.rglob("0*.json")))
            os.killpg(pool.pid, signal.SIGKILL)
            code = command.wait(60)
    assert code in (0, 1), (tmp_path / "err").read_text()
    tonemill("shard", out, *FLAGS, stdin=plan).done()
    assert contents(out) == expected


@pytest.mark.slow
def test_too_many_rejects_cancel_the_job(
    tonemill: Tonemill, job_service: str, tmp_path: Path, environment: dict[str, str]
) -> None:
    for number in range(200):
        write_wav(tmp_path / "raw" / f"{number:03d}.wav", seed=number)
    (tmp_path / "raw/000.wav").write_bytes(b"no sound")
    stream, out = tonemill("scan", tmp_path / "raw", "-q").done().out, tmp_path / "out"
    with worker_pool(environment) as (options, _):
        words = ("--runner", "PortableRunner", "--beam", job_service, *options, "--max-rejects", 0, "-q")
        tonemill("shard", out, "--shard-seconds", 0.1, *words, stdin=stream).refused(1, "--max-rejects")
        there = sorted(out.rglob("*"))
        time.sleep(2)
        assert sorted(out.rglob("*")) == there
    assert 0 < len(list(out.rglob("*.tar"))) < 199


@pytest.mark.slow
def test_prism_scans_and_verifies_as_this_machine_does(
    tonemill: Tonemill, raw: Path, corpus: Path, job_service: str, tmp_path: Path, environment: dict[str, str]
) -> None:
    with worker_pool(environment) as (options, _):
        words = ("--runner", "PortableRunner", "--beam", job_service, *options, "--work", tmp_path / "work", "-q")
        assert tonemill("scan", raw, *words).done().out == tonemill("scan", raw, "-q").done().out
        assert tonemill("verify", corpus, *words).done().line == tonemill("verify", corpus, "-q").done().line
