"""Start the processes that train one run together on this machine, and end them together.

Each runs the command that was typed, with its number in the variables that `torchrun` sets too. The first one prints
and writes. When one ends before its time, the others notice at their next exchange: the first one saves and ends.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import IO, Final

from tonemill.audiotools.errors import RunError, UsageError

LAUNCHER: Final = "TONEMILL_LAUNCHER"
"""The variable that holds the id of the process that started a process; it stops when that one has ended."""

ABANDONED: Final = 3
"""Exit status of a process that failed because another one had ended, which printed why."""

GRACE_SECONDS: Final = 120.0
"""After one process has failed, the others may take so long to save and end."""

LOOK_SECONDS: Final = 0.1
MOST_TEXT: Final = 2000
"""Characters of what a process printed that are shown when it failed."""


def is_launched() -> bool:
    """Whether this process is one of several already."""
    return "WORLD_SIZE" in os.environ


def launch(words: Sequence[str], count: int, tell: Callable[[str], None]) -> int:
    """Run a command of tonemill in so many processes, and wait for all.

    Args:
        words: after `tonemill`.
        count: of processes.
        tell: prints a line.

    Returns:
        the exit status of the first one.

    Raises:
        RunError: the first one was killed.
    """
    command = [sys.executable, "-c", "from tonemill.cli.start import main; main()", *words]
    with ExitStack() as stack:
        texts = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(count)]
        started: list[subprocess.Popen[bytes]] = []
        with _passing_signals_on(started):
            for rank, environment in enumerate(_environments(count)):
                shown = rank == 0
                started.append(
                    subprocess.Popen(
                        command,
                        env=environment,
                        stdin=subprocess.DEVNULL,
                        stdout=None if shown else subprocess.DEVNULL,
                        stderr=None if shown else texts[rank],
                    )
                )
            failed = _wait(started)
        # What ended the first one itself is printed, and was mostly met by the others too.
        if failed and started[0].returncode in (0, 130, ABANDONED):
            tell(_in_words(failed, started[failed].returncode, texts[failed]))
    status = started[0].returncode
    if status < 0:
        raise RunError(
            f"The first of {count} processes was ended by signal {-status}. The last checkpoint is kept: the same "
            "command goes on from there."
        )
    return 1 if status == ABANDONED else status


def refuse_unequal_shares(batch_size: int, count: int) -> None:
    """Refuse a batch that processes cannot share evenly.

    Raises:
        UsageError: names both numbers.
    """
    if batch_size % count:
        raise UsageError(
            f"--batch-size is {batch_size}, which the {count} processes that train together cannot share evenly."
        )


def _environments(count: int) -> Iterator[Mapping[str, str]]:
    """Of each process: how it finds the others, and threads, of which all together fill the cores."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    threads = str(max(1, (os.cpu_count() or 1) // count))
    for rank in range(count):
        yield {
            "OMP_NUM_THREADS": threads,
            **os.environ,
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "WORLD_SIZE": str(count),
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            LAUNCHER: str(os.getpid()),
        }


@contextmanager
def _passing_signals_on(started: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Ctrl-C and SIGTERM are for those who train; they save."""

    def pass_on(number: int, _: object) -> None:
        for process in started:
            process.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(started: Sequence[subprocess.Popen[bytes]]) -> int | None:
    """Until all have ended; returns the first that failed, or None."""
    failed, last = None, float("inf")
    while True:
        ends = [process.poll() for process in started]
        bad = [rank for rank, end in enumerate(ends) if end not in (None, 0, 130, ABANDONED)]
        if bad and failed is None:
            failed, last = bad[0], time.monotonic() + GRACE_SECONDS
        if None not in ends:
            return failed
        if time.monotonic() > last:
            for process in started:
                process.kill()
        time.sleep(LOOK_SECONDS)


def _in_words(rank: int, status: int, text: IO[bytes]) -> str:
    """What a process other than the first one ended with."""
    how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
    text.seek(0)
    printed = text.read().decode(errors="replace").strip()[-MOST_TEXT:]
    return f"Process {rank} {how}." + (f" It printed:\n{printed}" if printed else "")
