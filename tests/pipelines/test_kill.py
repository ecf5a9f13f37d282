"""Killed at any moment, the same command goes on where it stopped, and every byte is the same."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import contents, leftovers, lines_of, stream_of

COMMANDS = {
    "shard": "shard {} --shard-seconds 1 --valid 0.2 -q",
    "write": "write {} --shard-seconds 1 --format flac -q",
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


@pytest.mark.parametrize("sink", COMMANDS)
@pytest.mark.parametrize("kills", [3, pytest.param(10, marks=pytest.mark.slow)])
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
