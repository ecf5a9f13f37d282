"""The folder in TMPDIR in which a process keeps its copies of sources, and the removal of folders of ended processes.

A process holds flock on the file `LOCK` in its folder; a folder whose lock is free may be removed. Process ids would
not identify an owner: containers that share a TMPDIR reuse the same ids. On a file system without locks no folder is
removed, because every folder may still be in use.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final, TypeVar, cast

from tonemill.audiotools.errors import MachineError
from tonemill.audiotools.trouble import is_of_machine, machine_error
from tonemill.pipelines.storage.locks import exclusively
from tonemill.pipelines.storage.paths import scratch, scratch_root, undisturbed
from tonemill.pipelines.storage.store_path import StorePath

T = TypeVar("T")

FETCHED: Final = StorePath("memory", ".tonemill-fetched")
"""`scratch(FETCHED)` is the folder that holds one folder of copies for each process."""

LOCK: Final = "lock"

EARLIER_SECONDS: Final = 86_400.0
"""Age at which a folder without a lock file may be removed; earlier versions made such folders."""

_held: dict[int, tuple[Path, IO[bytes]]] = {}
"""By process id: its folder and its open lock file. A forked child is not in it and makes its own folder."""

_making = threading.Lock()


def new_copy(suffix: str) -> Path:
    """An empty file for a copy, in the folder of this process; the folder is made again if it was deleted.

    Raises:
        MachineError: TMPDIR is full, or cannot be written.
    """
    handle, name = _created(lambda folder: tempfile.mkstemp(suffix, dir=folder))
    os.close(handle)
    return Path(name)


@contextmanager
def folder_of_copies() -> Iterator[Path]:
    """Yield a new folder in the folder of this process; it is removed when the block ends.

    Raises:
        MachineError: as `new_copy`.
    """
    folder = Path(_created(lambda folder: tempfile.mkdtemp(dir=folder)))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _created(create: Callable[[Path], T]) -> T:
    try:
        try:
            return create(_folder(again=False))
        except FileNotFoundError:
            return create(_folder(again=True))
    except OSError as error:
        raise _unusable(error) from error


def full(error: OSError, wanted: str) -> MachineError:
    """The error for a copy that cannot be written to TMPDIR.

    Args:
        error: the OSError of this machine.
        wanted: what should be copied, with its size in bytes.
    """
    place = tempfile.gettempdir()
    free = f"{shutil.disk_usage(place).free} bytes are free there" if Path(place).is_dir() else "it is not there"
    return machine_error(error, f"TMPDIR is {place}, and {wanted} must be copied there ({free})")


def _unusable(error: OSError) -> MachineError:
    place = tempfile.gettempdir()
    if is_of_machine(error):
        return machine_error(error, f"TMPDIR is {place}, where copies of sources are made")
    return MachineError(
        f"TMPDIR is {place}, where copies of sources are made, and it cannot be written: {error.strerror}. Set "
        "TMPDIR to a folder in which no other program deletes files, and repeat the command: it goes on where it "
        "stopped."
    )


def _folder(again: bool) -> Path:
    """The folder of this process; a new one if there is none, or if `again`."""
    with _making:
        held = _held.get(os.getpid())
        if held is None or again or not held[0].is_dir():
            _held[os.getpid()] = held = undisturbed(_made)
        return held[0]


def _made() -> tuple[Path, IO[bytes]]:
    """A new folder and its locked file, after folders of ended processes are removed."""
    home = scratch(cast(Path, FETCHED))
    with _guarded(home) as guarded:
        if guarded:
            _sweep(home)
        folder = home / secrets.token_hex(8)
        folder.mkdir(parents=True)
        file = (folder / LOCK).open("wb")
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return folder, file


@contextmanager
def _guarded(home: Path) -> Iterator[bool]:
    """Lock `home`, so that no other process removes a folder between its creation and its locking.

    Yields True; False if the file system has no locks.
    """
    with exclusively(home / LOCK) as file:
        # The last holder may have deleted the file after it was opened here.
        if file is not None and (home / LOCK).stat().st_ino != os.fstat(file.fileno()).st_ino:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(home / LOCK))
        yield file is not None


def _sweep(home: Path) -> None:
    for folder in home.iterdir():
        if folder.is_dir() and folder not in [path for path, _ in _held.values()] and _is_free(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _is_free(folder: Path) -> bool:
    """Whether no process holds the lock of a folder; False if the lock cannot be tested."""
    try:
        with (folder / LOCK).open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    except FileNotFoundError:
        if not folder.name.isdigit():
            return True
        with contextlib.suppress(OSError):
            return time.time() - folder.stat().st_mtime > EARLIER_SECONDS
        return False
    except OSError:
        return False


def discard() -> None:
    """Remove the folder of this process, at its end."""
    held = _held.pop(os.getpid(), None)
    if held is not None:
        shutil.rmtree(held[0], ignore_errors=True)
        held[1].close()


def tidy() -> None:
    """Remove from TMPDIR the copies of this process and of ended processes, and empty folders."""
    discard()
    with contextlib.suppress(OSError):
        root = scratch_root()
        home = root / FETCHED.scheme / FETCHED.key
        if home.is_dir():
            with _guarded(home) as guarded:
                if guarded:
                    _sweep(home)
                    if [path.name for path in home.iterdir()] == [LOCK]:
                        (home / LOCK).unlink()
        for folder, _, _ in os.walk(root, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(folder)  # noqa: PTH106


def describe_locks(folder: Path) -> str:
    """Why flock does not work in a folder; an empty text if it works."""
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return f"it has no locks ({error.strerror})"
    return ""
