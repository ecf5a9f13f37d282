"""Leases: an object in a folder of a store stands for a lock.

A lease is an object that its owner rewrites every 22 s. An owner first puts its own lease and then lists the rest, so
of two owners that begin at once at least one sees the other: both may give way, never do both go on. This needs a
store that lists what was put (S3 since 2020, Google's, Azure's).

Beside its lease an owner holds flock on a local file, which it hands to its workers, so on one machine a lease whose
file is free is of the dead and needs no waiting. Process numbers and names of hosts prove nothing: containers share
them. Where the file is not to be seen, the lease is watched: one that is rewritten is alive, and one that was silent
for `LEASE_SECONDS` by the store's clock is dead.

Leases keep commands from working against each other by mistake, and no digest depends on them: an owner that paused for
longer may run on beside its successor, and of two commands with one plan both put the same bytes.
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
"""Whoever has not put its object again for so long is dead."""

WATCH_SECONDS: Final = 2.0
"""Between two looks at the lease of another."""

ALONE: Final = "alone"

TOGETHER: Final = "together"

BOOT: Final = Path("/proc/sys/kernel/random/boot_id")
"""One number for all containers of a machine, and another after it was started again."""


@contextmanager
def leased(
    folder: StorePath, together: bool, say: Callable[[str], None] = lambda _: None, planning: bool = False
) -> Iterator[StorePath | None]:
    """Hold a folder of a store; yields the lease of who holds it, where somebody else does.

    Args:
        folder: to hold.
        together: with any number that hold it so too.
        say: what is waited for.
        planning: it is held for no longer than writing a plan takes.
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
    """A local file named after a lease, with what the lease holds, and locked as long as anybody works for it."""

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
    """Whether its owner holds a folder for a moment, or together with others."""
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
        # One that could not be put is put next time.
        with contextlib.suppress(OSError):
            mine.put(source)


def _other(
    folder: StorePath, mine: StorePath, source: Path, together: bool, say: Callable[[str], None]
) -> StorePath | None:
    """A lease of somebody who lives and does not go with ours; those of the dead are taken away."""
    first: dict[StorePath, int] = {}
    announced = False
    until = time.monotonic() + 2 * LEASE_SECONDS
    while True:
        there = (folder / LEASES).below()
        # By the store's own clock.
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
                f"{unsure[0]} says that another command may be at work on {folder}; waiting until it is renewed, or "
                f"was silent for {LEASE_SECONDS:.0f} s"
            )
        time.sleep(min(WATCH_SECONDS, LEASE_SECONDS / 4))
        # This tells the store's time.
        mine.put(source)


def _is_dead(path: StorePath, entry: Entry, now: int) -> bool | None:
    """Whether the owner of a lease has ended; None where only time can tell."""
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
