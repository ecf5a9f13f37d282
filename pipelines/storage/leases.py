"""Leases: locks on a folder of a store, each an object in the store.

A lease is an object that its owner rewrites every 22 s. An owner first puts its own lease and then lists the rest, so
of two owners that begin at once at least one finds the other's: both may stop, but they never both continue. This needs
a store that lists an object as soon as it is put (S3 since 2020, Google's, Azure's).

An owner also holds flock on a local file, which its workers inherit, so on one machine a lease whose file is unlocked
has expired and no wait is needed. Process ids and host names do not identify an owner: containers share them. If the
file is not on this machine, the lease is watched: a lease that is rewritten is live, and one that was not rewritten for
`LEASE_SECONDS` by the store's clock has expired.

Leases prevent accidental concurrent writes, and no digest depends on them: an owner that paused for longer than
`LEASE_SECONDS` may continue beside its successor, but two commands with the same plan put the same bytes.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TextIO

from tonemill.pipelines.storage.locks import held_files, is_without_locks
from tonemill.pipelines.storage.paths import scratch_root, undisturbed
from tonemill.pipelines.storage.store import Entry
from tonemill.pipelines.storage.store_path import StorePath

LEASES: Final = ".tonemill-leases"

LEASE_SECONDS: Final = 90.0
"""Age at which a lease that was not rewritten has expired."""

WATCH_SECONDS: Final = 2.0
"""Interval at which another owner's lease is read."""

ALONE: Final = "alone"

TOGETHER: Final = "together"

BOOT: Final = Path("/proc/sys/kernel/random/boot_id")
"""This id is the same in all containers of a machine, and changes at each boot."""


@contextmanager
def leased(
    folder: StorePath, together: bool, say: Callable[[str], None] = lambda _: None, planning: bool = False
) -> Iterator[StorePath | None]:
    """Take a lease on a folder of a store. Yields None, or the conflicting lease if another command has one.

    Args:
        folder: to lease.
        together: take a shared lease, which conflicts with exclusive ones only.
        say: prints what the command waits for.
        planning: the lease is held only while a plan is written.
    """
    kind = TOGETHER if together else ALONE
    mine = folder / LEASES / f"{kind}-{secrets.token_hex(8)}.json"
    with _local(mine.name, planning) as source:
        mine.put(source)
        ended = threading.Event()
        renewal = threading.Thread(target=_renew, args=(mine, source, ended), daemon=True)
        try:
            other = _other(folder, mine, source, together, say)
            if other is None:
                renewal.start()
            yield other
        finally:
            ended.set()
            if renewal.ident is not None:
                renewal.join()
            with contextlib.suppress(OSError):
                mine.unlink(missing_ok=True)


@contextmanager
def _local(name: str, planning: bool) -> Iterator[Path]:
    """Yield a local file with the name and the content of a lease, locked by this process and its workers."""

    def opened() -> TextIO:
        path = scratch_root() / "leases" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("w")

    with undisturbed(opened) as file:
        path = Path(file.name)
        record = {"host": socket.gethostname(), "pid": os.getpid(), "boot": _boot(), "planning": planning}
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            record["file"] = str(path)
        except OSError as error:
            if not is_without_locks(error):
                raise
        json.dump(record, file)
        file.flush()
        held_files.append(file.fileno())
        try:
            yield path
        finally:
            held_files.remove(file.fileno())
            path.unlink(missing_ok=True)


def is_brief(lease: StorePath) -> bool:
    """Whether a lease is shared, or held only while a plan is written; True if it cannot be read."""
    try:
        return lease.name.startswith(TOGETHER) or bool(json.loads(lease.read_bytes()).get("planning"))
    except (OSError, ValueError, AttributeError):
        return True


def _boot() -> str:
    with contextlib.suppress(OSError):
        return BOOT.read_text().strip()
    return ""


def _renew(mine: StorePath, source: Path, ended: threading.Event) -> None:
    while not ended.wait(LEASE_SECONDS / 4):
        # A put that failed is repeated at the next interval.
        with contextlib.suppress(OSError):
            mine.put(source)


def _other(
    folder: StorePath, mine: StorePath, source: Path, together: bool, say: Callable[[str], None]
) -> StorePath | None:
    """The first live conflicting lease, or None; expired leases are deleted.

    A lease that may be live or expired is watched, up to 2 * LEASE_SECONDS.
    """
    first: dict[StorePath, int] = {}
    announced = False
    until = time.monotonic() + 2 * LEASE_SECONDS
    while True:
        there = (folder / LEASES).below()
        # By the clock of the store.
        now = there[mine].modified_ns if mine in there else mine.entry().modified_ns
        unsure = []
        for path, entry in there.items():
            if path == mine or (together and path.name.startswith(TOGETHER)):
                continue
            if entry.modified_ns > first.setdefault(path, entry.modified_ns):
                return path
            dead = _is_dead(path, entry, now)
            if dead is False:
                return path
            if dead is None:
                unsure.append(path)
            else:
                path.unlink(missing_ok=True)
        if not unsure:
            return None
        if time.monotonic() > until:
            return unsure[0]
        if not announced:
            announced = True
            say(
                f"another command may be writing to {folder}; waiting up to {LEASE_SECONDS:.0f} s to see whether "
                f"it still renews its lock {unsure[0]}"
            )
        time.sleep(min(WATCH_SECONDS, LEASE_SECONDS / 4))
        # The modification time of this put is the store's current time.
        mine.put(source)


def _is_dead(path: StorePath, entry: Entry, now: int) -> bool | None:
    """Whether a lease has expired or its owner has ended; None if neither can be known yet."""
    if now - entry.modified_ns > LEASE_SECONDS * 1e9:
        return True
    try:
        holder: dict[str, Any] = json.loads(path.read_bytes())
        boot, local = holder.get("boot"), holder.get("file")
    except FileNotFoundError:
        return True
    except (OSError, ValueError, AttributeError):
        return None
    if not boot or boot != _boot() or not isinstance(local, str):
        return None
    try:
        with Path(local).open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    except BlockingIOError:
        return False
    except OSError:
        return None
