"""Locks on local files, by flock: a lock that is held has a running owner, in this container or another."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, TextIO

WORKER_SECONDS: Final = 10.0
"""How long to wait for the workers of a killed command to release its folder."""

PLANNING: Final = " plan"
"""Suffix of the process id in a lock file whose lock is held only while a plan is written."""

WITHOUT_LOCKS: Final = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS})
"""Error numbers of flock on a file system without locks."""


def is_without_locks(error: OSError) -> bool:
    """Whether a lock was refused because the file system has none."""
    return error.errno in WITHOUT_LOCKS


@contextmanager
def exclusively(path: Path) -> Iterator[BinaryIO | None]:
    """Wait for the exclusive lock of a file, which is made if it is missing.

    Yields:
        the file, locked; None if the file system has no locks.
    """
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            if not is_without_locks(error):
                raise
            yield None
            return
        yield file


def take(file: TextIO, path: Path, together: bool) -> bool:
    """Take a lock and return whether that succeeded; if its command was killed, wait for the command's workers to end.

    Args:
        file: opened for reading and appending; it holds the process id of the exclusive owner.
        path: of that file.
        together: take a shared lock.

    Raises:
        OSError: the file system has no locks.
    """
    until = time.monotonic() + WORKER_SECONDS
    while True:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if together else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError as error:
            if is_without_locks(error):
                raise
            file.seek(0)
            holder = file.read().removesuffix(PLANNING)
            if not holder.isdigit() or lives(int(holder)) or time.monotonic() > until:
                return False
            time.sleep(0.02)
            continue
        try:
            # The last holder may have deleted the file after it was opened here.
            return path.stat().st_ino == os.fstat(file.fileno()).st_ino
        except OSError:
            return False


def lives(process: int) -> bool:
    """Whether a process of this machine is running."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def held() -> list[int]:
    """File descriptors of the locks of this process; its workers inherit them and keep them open until they end."""
    return list(held_files)


held_files: Final[list[int]] = []
"""The descriptors that `held` returns; remove one from the list before it is closed."""
