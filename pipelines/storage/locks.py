"""Locks: on a file of this machine, and on a folder of an object store, where a lease stands for a lock.

A lease is an object that its owner rewrites every 22 s. An owner first puts its own lease and then lists the rest, so
of two owners that begin at once at least one sees the other: both may give way, never do both go on. This needs a
store that lists what was put (S3 since 2020, Google's, Azure's). Leases keep commands from working against each other
by mistake, and no digest depends on them: an owner that paused for longer than `LEASE_SECONDS` is taken for dead and
may run on beside its successor, and of two commands with one plan both put the same bytes.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TextIO

from tonemill.pipelines.storage.store import Entry
from tonemill.pipelines.storage.store_path import StorePath

WORKER_SECONDS: Final = 10.0
"""How long a worker may hold a folder whose command was killed."""


def take(file: TextIO, path: Path, together: bool) -> bool:
    """Take a lock; where it is held for a command that is dead, wait for that command's worker to notice.

    Args:
        file: opened for reading and appending; it holds the process id of who holds it alone.
        path: of that file.
        together: with any number that take it so too.
    """
    until = time.monotonic() + WORKER_SECONDS
    while True:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if together else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            holder = file.read()
            if not holder.isdigit() or lives(int(holder)) or time.monotonic() > until:
                return False
            time.sleep(0.02)
            continue
        try:
            # The last holder may have removed the very file that was opened here.
            return path.stat().st_ino == os.fstat(file.fileno()).st_ino
        except OSError:
            return False


def lives(process: int) -> bool:
    """Whether a process of this machine has not ended."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


LEASES: Final = ".tonemill-leases"

LEASE_SECONDS: Final = 90.0
"""Whoever has not put his object anew for so long is dead."""

ALONE: Final = "alone"

TOGETHER: Final = "together"


@contextmanager
def leased(folder: StorePath, together: bool) -> Iterator[StorePath | None]:
    """Hold a folder of a store; yields the lease of who holds it, where somebody else does.

    Args:
        folder: to hold.
        together: with any number that hold it so too.
    """
    kind = TOGETHER if together else ALONE
    mine = folder / LEASES / f"{kind}-{secrets.token_hex(8)}.json"
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump({"host": socket.gethostname(), "pid": os.getpid()}, file)
        file.flush()
        mine.put(Path(file.name))
        ended = threading.Event()
        renewal = threading.Thread(target=_renew, args=(mine, Path(file.name), ended), daemon=True)
        try:
            other = _other(folder, mine, together)
            if other is None:
                renewal.start()
            yield other
        finally:
            ended.set()
            if renewal.ident is not None:
                renewal.join()
            with contextlib.suppress(OSError):
                mine.unlink(missing_ok=True)


def _renew(mine: StorePath, source: Path, ended: threading.Event) -> None:
    while not ended.wait(LEASE_SECONDS / 4):
        # One that could not be put is put next time.
        with contextlib.suppress(OSError):
            mine.put(source)


def _other(folder: StorePath, mine: StorePath, together: bool) -> StorePath | None:
    """A lease of somebody who lives and does not go with ours; those of the dead are taken away."""
    there = (folder / LEASES).below()
    # By the store's own clock.
    now = there[mine].modified_ns if mine in there else mine.entry().modified_ns
    for path, entry in there.items():
        if path == mine or (together and path.name.startswith(TOGETHER)):
            continue
        if not _is_dead(path, entry, now):
            return path
        path.unlink(missing_ok=True)
    return None


def _is_dead(path: StorePath, entry: Entry, now: int) -> bool:
    if now - entry.modified_ns > LEASE_SECONDS * 1e9:
        return True
    try:
        holder = json.loads(path.read_bytes())
    except (OSError, ValueError):
        # It has ended since.
        return True
    return bool(holder["host"] == socket.gethostname() and not lives(holder["pid"]))
