"""Locks on files of this machine, by flock: whoever holds one is alive, in whatever container."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from pathlib import Path
from typing import Final, TextIO

WORKER_SECONDS: Final = 10.0
"""How long a worker may hold a folder whose command was killed."""

PLANNING: Final = " plan"
"""What stands behind the process id of who holds a lock for no longer than writing a plan takes."""

WITHOUT_LOCKS: Final = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS})
"""What a file system answers that has no locks."""


def is_without_locks(error: OSError) -> bool:
    """Whether a lock was refused because the file system has none."""
    return error.errno in WITHOUT_LOCKS


def take(file: TextIO, path: Path, together: bool) -> bool:
    """Take a lock; where it is held for a command that is dead, wait for that command's worker to notice.

    Args:
        file: opened for reading and appending; it holds the process id of who holds it alone.
        path: of that file.
        together: with any number that take it so too.

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


def held() -> list[int]:
    """File descriptors of the locks of this process; whoever works for it keeps them to its own end."""
    return list(held_files)


held_files: Final[list[int]] = []
"""Those descriptors; who closes one takes it out first."""
