"""The server behind `engine`: it imports Beam once, and forks a worker for each job that comes over its socket.

    command -> server   a line of JSON per job, with the locks that the command holds; `stop` while a worker is at it
    worker -> command   began, at (what is under way), failed or lost (why), fell (how a hand of its `pool` ended)
    server -> command   ended (the worker's exit code, negative for a signal)

A worker that loses its command ends at once: nothing works on a folder that nobody holds.
"""

from __future__ import annotations

import _thread
import importlib
import json
import os
import resource
import signal
import socket
import sys
import threading
from contextlib import suppress
from typing import Any, Final, NoReturn, TextIO

from tonemill.audiotools.errors import TonemillError
from tonemill.pipelines.cooking import journal, status
from tonemill.pipelines.engine import beam, pool
from tonemill.pipelines.engine.liveness import WorkerLost
from tonemill.pipelines.engine.messages import named, tell
from tonemill.pipelines.engine.pool import Work
from tonemill.pipelines.engine.watchdog import guard
from tonemill.pipelines.storage import copies
from tonemill.pipelines.storage.paths import place

MAX_LOCKS: Final = 16

THREADS: Final = 4
"""Of the runner, for each hand."""


def serve(channel: socket.socket) -> None:
    """Fork a worker for each job until the command is gone."""
    held, locks = b"", []
    while True:
        data, fds, _, _ = socket.recv_fds(channel, 1 << 20, MAX_LOCKS)
        locks += fds
        if not data:
            return
        held += data
        while b"\n" in held:
            line, _, held = held.partition(b"\n")
            # What stops a worker that has ended meanwhile is no job.
            if line == b"stop":
                continue
            worker = os.fork()
            if worker == 0:
                _work(json.loads(line), channel)
            for lock in locks:
                os.close(lock)
            locks = []
            code = os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])
            with suppress(OSError):
                tell(channel, {"ended": code})


def _work(job: dict[str, Any], channel: socket.socket) -> NoReturn:
    """Do a job and end the process, whatever comes."""
    code = 1
    try:
        _prepare(job, channel)
        if "check" in job:
            _follow_command(channel)
            beam.check(job["workers"], job["runner"], job["options"])
        else:
            _run(job, channel)
        code = 0
    except TonemillError as error:
        tell(channel, {"lost": str(error)} if isinstance(error, WorkerLost) else {"failed": named(error)})
        code = 0
    except KeyboardInterrupt:
        code = 0
    finally:
        pool.dismiss()
        copies.discard()
        # Threads may be in the middle of a codec; nobody waits for them.
        os._exit(code)


class _Careful:
    """A stream for people that never fails: Beam prints what went wrong, and waits for ever where it cannot."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _prepare(job: dict[str, Any], channel: socket.socket) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # A crash is told by the exit code; a dump of the memory is of no use to anybody.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.stderr = _Careful(sys.stderr)
    sys.path[:] = job["path"]
    os.chdir(job["folder"])
    tell(channel, {"began": os.getpid()})


def _follow_command(channel: socket.socket) -> None:
    """From now on stop when the command says so, and end with it."""

    def follow() -> None:
        while True:
            try:
                said = channel.recv(1 << 10)
            except OSError:
                said = b""
            if not said:
                os._exit(1)
            _thread.interrupt_main()

    threading.Thread(target=follow, daemon=True).start()


def _run(job: dict[str, Any], channel: socket.socket) -> None:
    module, _, name = job["work"].partition(":")
    work: Work = getattr(importlib.import_module(module), name)
    home, numbers, patience = place(job["home"]), job["numbers"], job["patience"]
    journal.set_patience(patience)
    workers = job["workers"]
    hands = min(workers, len(numbers)) if beam.is_ours(job["runner"], job["options"]) else 1
    if hands > 1 and pool.is_fit(home, numbers):

        def begin() -> None:
            channel.close()
            threading.Thread(target=guard, args=(patience, None), daemon=True).start()

        def fell(code: int) -> NoReturn:
            tell(channel, {"fell": code})
            pool.dismiss()
            os._exit(0)

        pool.employ(hands, home, work, begin, fell)
        # The runner deals shards to its threads once for all; with more threads than hands, who is free takes the next.
        work, workers = pool.by_hand, THREADS * hands
    _follow_command(channel)
    threading.Thread(target=guard, args=(patience, pool.processes), daemon=True).start()

    def watch() -> None:
        tell(channel, {"at": [status.under_way, status.refused, status.rejected]})

    beam.run(home, numbers, workers, watch, job["runner"], job["options"], work)
    watch()


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
