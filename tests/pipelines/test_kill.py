"""Killed at any moment, the same command goes on where it stopped, and every byte is the same."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Tonemill, contents, leftovers, lines_of, stream_of

COMMANDS = {
    "shard": "shard {} --shard-seconds 1 --valid 0.2 -q",
    "write": "write {} --shard-seconds 1 --format flac -q",
    "append": "shard {} --shard-seconds 1 --append -q",
    "update": "shard {} --shard-seconds 1 --update --valid 0.2 -q",
}

FORKING = """
import os, sys, time
import tonemill.pipelines.graph, tonemill.pipelines.production  # imported once, for it takes longer than the work
from tonemill.cli.app import app

plan, out, words = sys.argv[1], sys.argv[2], sys.argv[3:]
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        os.dup2(os.open(plan, os.O_RDONLY), 0)
        sys.stdin = open(0)
        app(words)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""
"""Runs the command once for each line it is sent, in a fork of its own; prints the process id, then how it ended."""


class Forks:
    """Many runs of one command, started quickly.

    Args:
        command: without `tonemill`.
        plan: the file it reads.
        out: where it writes.
        environment: with Python's path.
    """

    def __init__(self, command: str, plan: Path, out: Path, environment: dict[str, str]) -> None:
        words = command.format(out).split()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", FORKING, str(plan), str(out), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            text=True,
        )

    def start(self) -> int:
        assert self._process.stdin is not None
        print("go", file=self._process.stdin, flush=True)
        return int(self._read())

    def wait(self) -> int:
        """Its exit code; negative for the signal that ended it."""
        return os.waitstatus_to_exitcode(int(self._read()))

    def run(self, kill_after: float | None = None) -> int:
        """Start and wait; with `kill_after`, SIGKILL after so many seconds."""
        process = self.start()
        if kill_after is not None:
            time.sleep(kill_after)
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        return self.wait()

    def _read(self) -> str:
        """A number on a line of its own, among what sinks print."""
        assert self._process.stdout is not None
        while line := self._process.stdout.readline():
            if line.strip().isdigit():
                return line
        raise AssertionError(self._process.stderr and self._process.stderr.read())

    def close(self) -> None:
        self._process.terminate()
        self._process.communicate()


Make = Callable[[str, int], Forks]


@pytest.fixture
def forks(plan: bytes, tmp_path: Path, environment: dict[str, str]) -> Iterator[Make]:
    """Makes runs of a sink over so many copies of the plan."""
    made: list[Forks] = []

    def make(sink: str, copies: int) -> Forks:
        recipes = [one | {"path": f"{copy}/{one['path']}"} for copy in range(copies) for one in lines_of(plan)]
        (tmp_path / "plan.jsonl").write_bytes(stream_of(recipes))
        made.append(Forks(COMMANDS[sink], tmp_path / "plan.jsonl", tmp_path / "out", environment))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.mark.parametrize(
    ("sink", "kills"),
    [("shard", 3), ("write", 3), *(pytest.param(sink, 24, marks=pytest.mark.slow) for sink in COMMANDS)],
)
def test_killed_at_random_moments_every_byte_is_the_same(forks: Make, tmp_path: Path, sink: str, kills: int) -> None:
    runs = forks(sink, kills // 3)
    begun = time.monotonic()
    assert runs.run() == 0
    whole_seconds = time.monotonic() - begun
    expected = contents(tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "expected")
    moments = random.Random(kills)
    ended = [runs.run(kill_after=moments.uniform(0.1, 0.4) * whole_seconds) for _ in range(kills)]
    assert ended[0] == -signal.SIGKILL
    assert runs.run() == 0
    assert contents(tmp_path / "out") == expected
    assert not leftovers(tmp_path / "out")


@pytest.mark.parametrize(("sink", "number"), [("shard", signal.SIGINT), ("write", signal.SIGTERM)])
def test_asked_to_stop_it_stops_soon_and_leaves_nothing_half_written(
    forks: Make, tmp_path: Path, sink: str, number: signal.Signals
) -> None:
    runs = forks(sink, 1)
    process = runs.start()
    while not list((tmp_path / "out").rglob("0*.json")):
        time.sleep(0.005)
    os.kill(process, number)
    begun = time.monotonic()
    assert runs.wait() == 130
    assert time.monotonic() - begun < 2
    assert not leftovers(tmp_path / "out")
    assert not (tmp_path / "out" / "corpus.json").exists()
    there = contents(tmp_path / "out")
    assert runs.run() == 0
    finished = contents(tmp_path / "out")
    assert all(finished[name] == data for name, data in there.items() if name.endswith((".tar", ".flac", ".parquet")))


@pytest.mark.slow
@pytest.mark.parametrize("words", [["repair"], ["remove", "--where", "take in ['3', '9']"]], ids=["repair", "remove"])
def test_a_tool_killed_at_random_moments_ends_as_if_it_was_not(
    plan: bytes, tmp_path: Path, tonemill: Tonemill, environment: dict[str, str], words: list[str]
) -> None:
    tonemill("shard", tmp_path / "whole", "--shard-seconds", 2, "-q", stdin=plan).done()

    def damaged(folder: Path) -> Path:
        shutil.copytree(tmp_path / "whole", folder)
        if "repair" in words:
            for tar in sorted(folder.rglob("*.tar"))[::2]:
                tar.write_bytes(b"!" + tar.read_bytes()[1:])
        return folder

    def run(folder: Path, kill_after: float | None = None) -> float:
        begun = time.monotonic()
        process = subprocess.Popen(["tonemill", *words, str(folder), "-q"], env=environment, stdout=subprocess.DEVNULL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(kill_after)
        process.kill()
        process.wait()
        assert kill_after is not None or process.returncode == 0
        return time.monotonic() - begun

    whole_seconds = run(damaged(tmp_path / "expected"))
    moments = random.Random(7)
    out = damaged(tmp_path / "out")
    for _ in range(8):
        run(out, moments.uniform(0.5, 1.0) * whole_seconds)
    run(out)
    assert contents(out) == contents(tmp_path / "expected")
    assert not leftovers(out)


def workers_of(process: int) -> list[int]:
    """Worker processes below a command, the shells that Beam starts them in left out."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            grandparent = int(Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()[1])
            if grandparent == process and b"sdk_worker_main" in (status.parent / "cmdline").read_bytes():
                found.append(int(status.parent.name))
    return found


@pytest.mark.slow
def test_a_killed_worker_is_noticed_and_the_same_command_goes_on(
    plan: bytes, tmp_path: Path, tonemill: Tonemill, environment: dict[str, str]
) -> None:
    copies = 40
    recipes = [one | {"path": f"{copy}/{one['path']}"} for copy in range(copies) for one in lines_of(plan)]
    (tmp_path / "plan.jsonl").write_bytes(stream_of(recipes))
    command = "tonemill shard out --shard-seconds 1 -q --workers 2 --beam direct_running_mode=multi_processing"
    for kill in (True, False):
        with (tmp_path / "plan.jsonl").open("rb") as stdin:
            process = subprocess.Popen(
                command.split(),
                cwd=tmp_path,
                env=environment,
                stdin=stdin,
                stderr=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        if kill:
            while not list((tmp_path / "out").rglob("0*.json")) or not workers_of(process.pid):
                assert process.poll() is None
                time.sleep(0.02)
            # Seen alive by the command, which looks once a second.
            time.sleep(1.5)
            os.kill(workers_of(process.pid)[0], signal.SIGKILL)
        _, err = process.communicate(timeout=120)
        assert process.returncode == (1 if kill else 0), err
        assert (b"A worker process was killed" in err) == kill
        assert not leftovers(tmp_path / "out")
    tonemill("shard", tmp_path / "anew", "--shard-seconds", 1, "-q", stdin=stream_of(recipes)).done()
    assert contents(tmp_path / "out") == contents(tmp_path / "anew")


@pytest.mark.slow
@pytest.mark.parametrize("sink", ["shard {} --shard-seconds 1 -q", "write {} --shard-seconds 1 -q"])
def test_a_render_killed_at_random_moments_gives_the_same_bytes(
    tonemill: Tonemill, corpus: Path, tmp_path: Path, environment: dict[str, str], sink: str
) -> None:
    flags = [
        "--steps",
        1,
        "--dim",
        2,
        "--batch-size",
        2,
        "--length",
        4096,
        "--listen-clips",
        1,
        "--device",
        "cpu",
        "-q",
    ]
    stream = tonemill("open", corpus).done().out
    longer = tonemill("slice", "--samples", 4096, "--short", "pad", stdin=stream).done().out
    tonemill("shard", tmp_path / "corpus", "-q", stdin=longer).done()
    tonemill("train", "wavegan", tmp_path / "corpus", "-o", tmp_path / "run", *flags).done()
    seeds = tonemill("seeds", 60).done().out
    (tmp_path / "plan.jsonl").write_bytes(
        tonemill("render", tmp_path / "run", "--batch-size", 4, stdin=seeds).done().out
    )
    runs = Forks(sink, tmp_path / "plan.jsonl", tmp_path / "out", environment)
    try:
        begun = time.monotonic()
        assert runs.run() == 0
        whole_seconds = time.monotonic() - begun
        expected = contents(tmp_path / "out")
        (tmp_path / "out").rename(tmp_path / "expected")
        moments = random.Random(3)
        ended = [runs.run(kill_after=moments.uniform(0.3, 0.9) * whole_seconds) for _ in range(8)]
        assert -signal.SIGKILL in ended
        assert runs.run() == 0
        assert contents(tmp_path / "out") == expected
        assert not leftovers(tmp_path / "out")
    finally:
        runs.close()


def test_ctrl_c_ends_every_stage_of_a_pipe_without_a_traceback(tmp_path: Path, environment: dict[str, str]) -> None:
    pipe = "tonemill seeds 100000000 | tonemill resample --rate 8000 | tonemill select --partial > out"
    process = subprocess.Popen(
        ["bash", "-c", f"trap : INT; {pipe}"],
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    time.sleep(2)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=5)
    assert b"Traceback" not in err, err.decode()[-500:]
    assert (tmp_path / "out").read_bytes() == b""
