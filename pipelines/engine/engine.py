"""What does the work of a plan: a process beside the command, made anew when a source ends it.

The command starts a server (`fork_server`), which imports Beam once and forks a worker for each job. So a codec
that crashes takes a worker with it and not the job: the journals say which sources the worker was at, their shards
come first and one at a time, and a source that is found to be deadly is refused.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from tonemill.audiotools.errors import OutputError, TonemillError
from tonemill.pipelines.cooking import journal
from tonemill.pipelines.engine.messages import Inbox, error_of
from tonemill.pipelines.sources import decoder
from tonemill.pipelines.storage import copies, locks
from tonemill.pipelines.storage.paths import as_store

POLL_SECONDS: Final = 0.2

MOST_IDLE_ENDS: Final = 3
"""So many workers may end while they are at no source, killed by whoever, before a command gives up."""

ALLOCATION: Final = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(256 << 20)}
"""For glibc, which else gives the memory of every block of sound back to the system and asks for it again: measured on
four hours of it, as much system time again as all reading and writing took."""

STOP_SECONDS: Final = 15.0
"""How long a worker may take to stop when it is asked to."""


@dataclass(frozen=True)
class Engine:
    """Who works, and how.

    Args:
        workers: processes of the local runner; threads of one, where a model renders.
        runner: a Beam runner's name; None for the local one.
        options: Beam's own options, as typed.
        patience: seconds that a decoder may take for a block of sound.
    """

    workers: int
    runner: str | None = None
    options: Sequence[str] = ()
    patience: float = decoder.PATIENCE


@dataclass
class UnderWay:
    """What is known of the shards that a worker on this machine is at, by number.

    Args:
        seconds: expected seconds of sound cooked so far.
        refused: sources and clips refused so far.
        rejected: whole sources rejected so far.
    """

    seconds: dict[int, float] = field(default_factory=dict)
    refused: dict[int, int] = field(default_factory=dict)
    rejected: dict[int, int] = field(default_factory=dict)


COOK: Final = "tonemill.pipelines.cooking.shard:cook_shard"
"""Where the function lies that cooks and commits one shard: module and name."""


def run(
    home: Path,
    left: Callable[[], Collection[int]],
    engine: Engine,
    watch: Callable[[UnderWay], None],
    work: str = COOK,
    among: Collection[int] | None = None,
) -> None:
    """Do what is left of the plan that lies in a folder, its home, until nothing is.

    Args:
        home: where the plan lies: the corpus itself, or `.tonemill` in a folder of files.
        left: tells which shards are not done yet.
        engine: who works.
        watch: shows progress; called some times a second. What it raises stops the work.
        work: what is done to each shard, as `COOK`.
        among: numbers of the only shards that are this command's; None where all are.

    Raises:
        TonemillError: a worker failed; what was committed stays.
        KeyboardInterrupt: after the workers of this machine have stopped and left nothing half-written.
    """
    settings = {"runner": engine.runner, "options": list(engine.options), "patience": engine.patience, "work": work}
    ended, idle_ends = "", 0
    while todo := sorted(left()):
        # Alone, so that nothing else is under way when the deadly one is met again.
        alone = sorted(set(journal.suspected(home)) & set(todo)) if ended else []
        workers = 1 if alone else engine.workers
        job = {"home": str(as_store(home) or home.absolute()), "numbers": alone or todo, "workers": workers, **settings}
        ended = _server().do(job, watch)
        # Who hung is in the journals by name; the others were at work beside it.
        if ended and not journal.note_end(home, journal.SUSPECT if ended == journal.HUNG else ended, among):
            idle_ends += 1
            if idle_ends == MOST_IDLE_ENDS:
                raise OutputError(
                    f"A worker ended with {ended} while it was at no source, as {idle_ends - 1} before it. What was "
                    "finished stays; give the same command again to go on."
                )
        if not ended and (missing := set(alone or todo) & set(left())):
            raise OutputError(f"{len(missing)} shards were not committed, though the runner says that it is done.")
    journal.forget(home, among)
    copies.tidy()


def check(engine: Engine) -> None:
    """Refuse a runner or options that cannot be used, before anything is touched.

    Raises:
        UsageError: says what Beam says.
    """
    ended = _server().do(
        {"check": True, "workers": engine.workers, "runner": engine.runner, "options": list(engine.options)},
        lambda _: None,
    )
    if ended:
        raise OutputError(f"Beam cannot be loaded here: a worker ended with {ended}.")


def start() -> None:
    """Start the server now, for it imports Beam while the command does other things."""
    _server()


def _kept_in_memory() -> IO[bytes]:
    """A file that takes no room on a disk, which may be full."""
    if hasattr(os, "memfd_create"):
        return open(os.memfd_create("tonemill-said"), "w+b")  # noqa: PTH123  (it lives as long as the server)
    return tempfile.TemporaryFile()


class Server:
    """The process that forks workers."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        self._said = _kept_in_memory()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "tonemill.pipelines.engine.fork_server", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._said,
                env={**ALLOCATION, **os.environ},
                # What is typed at the terminal reaches the command, which tells the worker.
                start_new_session=True,
            )
        self._inbox = Inbox(self._socket)
        self._owner = os.getpid()

    @property
    def is_usable(self) -> bool:
        """Whether it lives, was not closed, and was not left over by a fork of whoever started it.

        One that was closed may live for a while: it ends when it has imported Beam, which takes long on a busy machine.
        """
        return self._owner == os.getpid() and self._socket.fileno() >= 0 and self._process.poll() is None

    def do(self, job: dict[str, Any], watch: Callable[[UnderWay], None]) -> str:
        """Have a worker do a job; returns what ended it, as `SIGSEGV`, or nothing where all is well.

        Raises:
            TonemillError: what the worker says that went wrong.
        """
        # A worker holds the locks of its command until it ends, even when the command was killed.
        job = {**job, "path": sys.path, "folder": os.fspath(Path.cwd())}
        # Whether a server that has just died could still be told is no matter: what it said comes as a message.
        with contextlib.suppress(ConnectionError):
            socket.send_fds(self._socket, [json.dumps(job).encode() + b"\n"], locks.held())
        worker, failure, lost = 0, None, ""
        try:
            while True:
                message = self._message(POLL_SECONDS)
                if message is None:
                    watch(UnderWay())
                elif "began" in message:
                    worker = message["began"]
                elif "at" in message:
                    watch(UnderWay(*({int(key): value for key, value in one.items()} for one in message["at"])))
                elif "failed" in message:
                    failure = error_of(*message["failed"])
                elif "lost" in message:
                    lost = "no word"
                elif "fell" in message:
                    lost = _name_of(message["fell"]) or "exit code 0"
                elif "ended" in message:
                    if failure is not None:
                        raise failure
                    return lost or _name_of(message["ended"])
        except TonemillError:
            if failure is None:
                self._stop(worker)
            raise
        except BaseException:
            self._stop(worker)
            raise

    def close(self) -> None:
        """Let the server end; one that does not is killed."""
        self._socket.close()
        if self._owner == os.getpid():
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _stop(self, worker: int) -> None:
        """Have the worker stop, and wait until it has."""
        with contextlib.suppress(OSError, OutputError):
            self._socket.sendall(b"stop\n")
            for seconds in (STOP_SECONDS, STOP_SECONDS):
                until = time.monotonic() + seconds
                while time.monotonic() < until:
                    if "ended" in (self._message(POLL_SECONDS) or {}):
                        return
                if worker:
                    os.kill(worker, signal.SIGKILL)

    def _message(self, seconds: float) -> dict[str, Any] | None:
        """The next message, or None if there is none for so long."""
        self._socket.settimeout(seconds)
        try:
            message: dict[str, Any] = self._inbox.take()
        except TimeoutError:
            return None
        except EOFError:
            self._said.seek(0)
            said = self._said.read().decode(errors="replace").strip().splitlines() or ["no word"]
            raise OutputError(
                f"The process that does the work ended with: {said[-1][:500]}. What was finished stays; give the "
                "same command again to go on."
            ) from None
        finally:
            self._socket.settimeout(None)
        return message


_servers: list[Server] = []


def _server() -> Server:
    """The server of this process, started when there is none."""
    if not _servers or not _servers[0].is_usable:
        for old in _servers:
            old.close()
        if not _servers:
            atexit.register(_close_servers)
        _servers[:] = [Server()]
    return _servers[0]


def _close_servers() -> None:
    for one in _servers:
        one.close()


def _name_of(code: int) -> str:
    """What ended a process: nothing where all is well, the name of a signal, or that a decoder hung."""
    if code < 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(-code).name
        return f"signal {-code}"
    return {0: "", journal.HUNG_EXIT: journal.HUNG}.get(code, f"exit code {code}")
