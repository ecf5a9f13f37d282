"""Write a file whole or not at all, and make it last through a power cut.

A shard is done when its sidecar lies beside it, and the sidecar is written last. Whatever else a killed command
leaves has a name that starts with `TEMPORARY`, and the next command sweeps it.
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
"""How the names of all files start that are not for people."""

TEMPORARY: Final = f"{OURS}-part-"


class Part:
    """A file that becomes `target` when it is committed, and vanishes if it is not.

    Args:
        target: the final name.
        folder: where it waits; on the same file system, by default the target's own folder, or what stands for it.

    Raises:
        OutputError: it cannot be written, as when the disk is full.
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
        """Make the bytes last; the name is still temporary."""
        try:
            self.file.flush()
            os.fsync(self.file.fileno())
            self.file.close()
        except OSError as error:
            raise unwritable(self.target, error) from error

    def commit(self, target: Path | None = None) -> None:
        """Give it its final name."""
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
        """Remove it, unless it was committed; where that fails, the next command sweeps it."""
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
    """A file to write that is committed when the block ends without an error.

    Raises:
        OutputError: it cannot be written.
    """
    with Part(target) as part:
        try:
            yield part.file
        except OSError as error:
            raise unwritable(target, error) from error
        part.commit()


def fingerprint(path: Path) -> dict[str, Any]:
    """Bytes and SHA-256 of a file, by which it is known again."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"bytes": file.tell(), "sha256": digest}


def sync_folder(folder: Path) -> None:
    """Make a rename last through a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_file(path: Path) -> None:
    """Make a file's bytes last through a power cut."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def unwritable(target: Path, error: OSError) -> OutputError:
    return OutputError(
        f"{target} cannot be written: {error.strerror or error}. What was finished stays; mend this and give the same "
        "command again: it goes on where it stopped."
    )


@cache
def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
