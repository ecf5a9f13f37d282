"""The server behind `engine`: it imports Beam once, and forks a worker for each job that comes over its socket.

    command -> server   a line of JSON per job, with the locks that the command holds; `stop` while a worker is at it
    worker -> command   began, at (what is under way), failed or lost (why), all as lines of JSON
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
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NoReturn

from tonemill.audiotools.errors import TonemillError
from tonemill.pipelines import graph, journal, shard
from tonemill.pipelines.places import place

MEMORY_SHARE: Final = 0.85
"""Of the machine's memory, what a worker may hold; more is taken as a codec gone wild."""

MAX_LOCKS: Final = 16


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
                _tell(channel, {"ended": code})


def _work(job: dict[str, Any], channel: socket.socket) -> NoReturn:
    """Do a job and end the process, whatever comes."""
    code = 1
    try:
        _prepare(job, channel)
        if "check" in job:
            graph.check(job["workers"], job["runner"], job["options"])
        else:
            _run(job, channel)
        code = 0
    except TonemillError as error:
        _tell(channel, {"lost": str(error)} if isinstance(error, graph.WorkerLost) else {"failed": _told(error)})
        code = 0
    except KeyboardInterrupt:
        code = 0
    finally:
        # Threads may be in the middle of a codec; nobody waits for them.
        os._exit(code)


def _told(error: TonemillError) -> tuple[str, str]:
    """Kind and message of an error; one of a kind that takes more than a message becomes its nearest plain kind."""
    kind = next(one for one in type(error).__mro__ if one.__module__ == "tonemill.audiotools.errors")
    return kind.__name__, str(error)


def _prepare(job: dict[str, Any], channel: socket.socket) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # A crash is told by the exit code; a dump of the memory is of no use to anybody.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.path[:] = job["path"]
    os.chdir(job["folder"])
    _tell(channel, {"began": os.getpid()})
    threading.Thread(target=_follow, args=(channel,), daemon=True).start()


def _follow(channel: socket.socket) -> None:
    """Stop when the command says so, and end with it."""
    while True:
        try:
            said = channel.recv(1 << 10)
        except OSError:
            said = b""
        if not said:
            os._exit(1)
        _thread.interrupt_main()


def _run(job: dict[str, Any], channel: socket.socket) -> None:
    module, _, name = job["work"].partition(":")
    work: Callable[[Path, int], None] = getattr(importlib.import_module(module), name)
    journal.set_patience(job["patience"])
    threading.Thread(target=_guard, args=(job["patience"],), daemon=True).start()

    def watch() -> None:
        _tell(channel, {"at": [shard.under_way, shard.refused, shard.rejected]})

    graph.run(place(job["home"]), job["numbers"], job["workers"], watch, job["runner"], job["options"], work)
    watch()


def _guard(patience: float) -> None:
    """End this process when a decoder hangs or memory runs out, for nothing else ends a call into a codec."""
    limit = MEMORY_SHARE * _memory_bytes()
    while True:
        time.sleep(min(1.0, patience / 4))
        # A decoder in a process of its own gets its full time first.
        if journal.note_hung(1.25 * patience):
            os._exit(journal.HUNG_EXIT)
        if _resident_bytes() > limit:
            os.kill(os.getpid(), signal.SIGKILL)


def _memory_bytes() -> float:
    """Memory of the machine, or as much of it as this container may take."""
    there = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    with suppress(OSError, ValueError):
        there = min(there, float(Path("/sys/fs/cgroup/memory.max").read_text()))
    return there


def _resident_bytes() -> int:
    """Memory that this process holds; 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


def _tell(channel: socket.socket, message: dict[str, Any]) -> None:
    channel.sendall(json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
