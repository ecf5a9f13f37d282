"""A command that trains with loader processes, and signals to all of its processes at once, as of a batch system."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tonemill.pipelines.corpus.corpus import Corpus
from tonemill.pipelines.runs.run import open_run

FLAGS = "--length 4096 --dim 1 --batch-size 4 --steps 1000000 --checkpoint-every 1000000 --listen-every 1000000 -q"
PATIENCE_SECONDS = 120


@pytest.fixture
def training(
    drums: Corpus, tmp_path: Path, environment: dict[str, str]
) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A training that has made steps, leader of a group of its own, and its loader processes."""
    words = ["tonemill", "train", "wavegan", str(drums.folder), "-o", str(tmp_path / "run"), *FLAGS.split()]
    process = subprocess.Popen(
        [*words, "--loader-workers", "2"],
        env=environment,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    metrics = tmp_path / "run" / "metrics.jsonl"
    await_that(lambda: process.poll() is not None or (metrics.exists() and metrics.stat().st_size > 0))
    assert process.poll() is None, process.stderr and process.stderr.read()
    yield process, children_of(process.pid)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def children_of(process: int) -> list[int]:
    text = Path(f"/proc/{process}/task/{process}/children").read_text()
    return [int(number) for number in text.split()]


def await_that(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def is_there(process: int) -> bool:
    """Whether a process runs; one that has ended and that no process has waited for does not."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_to_the_whole_group_saves_first(
    number: signal.Signals, training: tuple[subprocess.Popen[str], list[int]], tmp_path: Path
) -> None:
    process, loaders = training
    assert len(loaders) == 2
    # `timeout` sends it to the command and to the group that the command is in.
    os.kill(process.pid, number)
    os.killpg(process.pid, number)
    printed = process.communicate(timeout=PATIENCE_SECONDS)[1]
    assert process.returncode == 130, printed
    assert "saved" in printed
    assert open_run(tmp_path / "run").checkpoint().step > 0
    await_that(lambda: not any(is_there(one) for one in loaders))


@pytest.mark.slow
def test_no_loader_process_outlives_a_command_that_is_killed(
    training: tuple[subprocess.Popen[str], list[int]],
) -> None:
    process, loaders = training
    assert all(is_there(one) for one in loaders)
    process.kill()
    await_that(lambda: not any(is_there(one) for one in loaders))
