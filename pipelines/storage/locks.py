"""Take a lock on a file, and wait for the worker of a command that was killed to let go of it."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import Final, TextIO

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
