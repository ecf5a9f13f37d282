"""Write a file whole or not at all, and make it last through a power cut.

A shard is complete once its sidecar exists, because the sidecar is written last. All other files of a killed command
have names that start with `TEMPORARY`; the next command deletes them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, Final

from tonemill.audiotools.errors import OutputError
from tonemill.pipelines.storage.paths import as_store, scratch

OURS: Final = ".tonemill"
"""Prefix of the names of internal files."""

TEMPORARY: Final = f"{OURS}-part-"


class Part:
    """A temporary file that `commit` renames to `target`; without a commit it is deleted.

    Args:
        target: the final name.
        folder: of the temporary file, on the target's file system; default: `scratch(target.parent)`.

    Raises:
        OutputError: the file cannot be written, for example because the disk is full.
    """

    def __init__(self, target: Path, folder: Path | None = None) -> None:
        self.target = target
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=TEMPORARY, dir=folder or scratch(target.parent))
        except OSError as error:
            raise unwritable(target, error) from error
        self.path = Path(name)
        self.file: BinaryIO = os.fdopen(handle, "w+b")

    def close(self) -> None:
        """Flush the bytes to the disk and close the file; it keeps its temporary name."""
        try:
            self.file.flush()
            os.fsync(self.file.fileno())
            self.file.close()
        except OSError as error:
            raise unwritable(self.target, error) from error

    def commit(self, target: Path | None = None) -> None:
        """Rename the file to its final name, or upload it to a store."""
        target = target or self.target
        if not self.file.closed:
            self.close()
        try:
            if (remote := as_store(target)) is not None:
                remote.put(self.path)
                self.path.unlink()
                return
            self.path.chmod(0o666 & ~_umask())
            target.parent.mkdir(parents=True, exist_ok=True)
            self.path.replace(target)
            sync_folder(target.parent)
        except OSError as error:
            raise unwritable(target, error) from error

    def discard(self) -> None:
        """Delete the file unless it was committed; if that fails, the next command deletes it."""
        with contextlib.suppress(OSError):
            self.file.close()
        with contextlib.suppress(OSError):
            self.path.unlink()

    def __enter__(self) -> Part:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()


@contextmanager
def pending(target: Path) -> Iterator[BinaryIO]:
    """Yield a file to write; it is committed if the block ends without an error.

    Raises:
        OutputError: the file cannot be written.
    """
    with _writing(target) as part:
        yield part.file
        part.commit()


@contextmanager
def fingerprinted(target: Path) -> Iterator[tuple[BinaryIO, dict[str, Any]]]:
    """As `pending`, with a `fingerprint` that is filled in after the block: of the local file, also for a store."""
    found: dict[str, Any] = {}
    with _writing(target) as part:
        yield part.file, found
        part.close()
        found |= fingerprint(part.path)
        part.commit()


@contextmanager
def _writing(target: Path) -> Iterator[Part]:
    with Part(target) as part:
        try:
            yield part
        except OSError as error:
            raise unwritable(target, error) from error


def fingerprint(path: Path) -> dict[str, Any]:
    """{"bytes": the size of a file, "sha256": its digest}."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"bytes": file.tell(), "sha256": digest}


def sync_folder(folder: Path) -> None:
    """Flush a folder to the disk, so that a rename in it survives a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_file(path: Path) -> None:
    """Flush a file to the disk, so that its bytes survive a power cut."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def unwritable(target: Path, error: OSError) -> OutputError:
    return OutputError(
        f"{target} cannot be written: {error.strerror or error}. Finished work is kept: mend this and repeat the "
        "command, and it goes on where it stopped."
    )


@cache
def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
