"""Lock an output folder for one command at a time, or for several that share it."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TextIO

from tonemill.audiotools.errors import OutputError
from tonemill.pipelines.storage.commit import OURS, TEMPORARY, unwritable
from tonemill.pipelines.storage.json_files import read_json
from tonemill.pipelines.storage.leases import is_brief, leased
from tonemill.pipelines.storage.locks import PLANNING, held_files, is_without_locks, take
from tonemill.pipelines.storage.paths import as_store, of_this_machine, scratch, undisturbed

LOCK: Final = f"{OURS}-lock"


class InUse(OutputError):
    """Another command holds the folder.

    Args:
        message: the text of the error.
        briefly: the other command holds a short lock (while it writes a plan) or a shared one.
    """

    def __init__(self, message: str, briefly: bool = True) -> None:
        super().__init__(message)
        self.briefly = briefly


@contextmanager
def locked(
    folder: Path,
    together: bool = False,
    say: Callable[[str], None] = lambda _: None,
    planning: bool = False,
    sole: bool = True,
) -> Iterator[None]:
    """Lock an output folder, and delete the temporary files of killed commands in it.

    Args:
        folder: to lock.
        together: take a shared lock; no file is deleted, since another holder may be writing it.
        say: prints what the command waits for; for a folder in a store.
        planning: the lock is held only while a plan is written.
        sole: there is no other lock on the folder, so a file system without locks is an error.

    Raises:
        InUse: another command holds the lock.
        OutputError: the folder cannot be written, or its file system has no locks.
    """
    if (remote := as_store(folder)) is not None:
        try:
            with (
                locked(scratch(folder), together, planning=planning, sole=False),
                leased(remote, together, say, planning) as other,
            ):
                if other is not None:
                    brief = is_brief(other)
                    raise InUse(
                        f"Another command is writing to {folder} (its lock is {other}). Wait until it has ended, "
                        "or name another folder.",
                        brief,
                    )
                yield
        except InUse as error:
            raise InUse(str(error).replace(str(scratch(folder)), str(folder)), error.briefly) from error
        return
    is_new = not folder.exists()
    try:
        file = undisturbed(lambda: _opened(folder))
    except OSError as error:
        raise unwritable(folder, error) from error
    with file:
        try:
            if not take(file, folder / LOCK, together):
                file.seek(0)
                brief = not file.read().isdigit()
                raise InUse(
                    f"Another command is writing to {folder}. Wait until it has ended, or name another folder.", brief
                )
        except OSError as error:
            if sole or not is_without_locks(error):
                raise _lockless(folder, error) from error
            yield
            return
        file.truncate(0)
        held_files.append(file.fileno())
        try:
            if together:
                yield
                return
            file.write(f"{os.getpid()}{PLANNING if planning else ''}")
            file.flush()
            sweep(folder)
            try:
                yield
            finally:
                sweep(folder)
                with contextlib.suppress(OSError):
                    (folder / LOCK).unlink()
                    if is_new:
                        # It holds nothing where the command was refused.
                        folder.rmdir()
        finally:
            held_files.remove(file.fileno())


def _opened(folder: Path) -> TextIO:
    """The lock of a folder, which is made if it is not there."""
    of_this_machine(folder, "This command").mkdir(parents=True, exist_ok=True)
    return (folder / LOCK).open("a+")


def _lockless(folder: Path, error: OSError) -> OutputError:
    return OutputError(
        f"{folder} cannot be locked: {error.strerror}. Two commands could write there at once: name a folder on a disk "
        "with locks (Lustre has them when it is mounted with -o flock)."
    )


def is_ours_or_empty(folder: Path, mark: str | None = None) -> bool:
    """Whether a folder is new, or holds nothing but a mark of ours and what a command that was killed early left."""
    if not folder.exists():
        return True
    if not folder.is_dir():
        return False
    rest = [path for path in folder.iterdir() if not path.name.startswith(OURS)]
    return all(path.name == mark and _is_mark(path) for path in rest)


def _is_mark(path: Path) -> bool:
    record = read_json(path)
    return path.suffix == ".toml" or (isinstance(record, dict) and {"schema", "plan_digest"} <= record.keys())


def sweep(folder: Path) -> None:
    """Remove what killed commands left half-written; nothing else has such names."""
    for part in folder.rglob(f"{TEMPORARY}*"):
        with contextlib.suppress(OSError):
            shutil.rmtree(part) if part.is_dir() else part.unlink()
