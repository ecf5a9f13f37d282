"""Compare a table with the digest that was recorded when it was written, before its rows are read.

    plan.parquet                            plan.json beside it; there also that of its end
    index.parquet, rejects.parquet          `files` of corpus.json beside it; of tonemill.json above `.tonemill`
    NUMBER.index.parquet and the like       `tables` of the sidecar NUMBER.json beside it

A table without a recorded digest is read unchecked: a user's own table, one of an unfinished folder, and one whose
record is damaged, which `tonemill verify` reports.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from tonemill.audiotools.errors import CorpusError
from tonemill.pipelines.storage.json_files import read_sealed
from tonemill.pipelines.storage.output_names import (
    DESCRIPTION,
    HIDDEN,
    INDEX,
    MARK,
    PLAN,
    PLAN_SEAL,
    REJECTS,
    SIDECAR_SUFFIX,
)
from tonemill.pipelines.storage.paths import as_store, kept
from tonemill.pipelines.storage.ranged_file import RangedFile

_OF_SHARD: Final = re.compile(r"(\d{6,12})\.(index|rejects)\.parquet")

MOST_FETCHED: Final = 4 << 30
"""Bytes of a table in a store, which is held in memory."""

ATTEMPTS: Final = 5
"""Attempts to read a table that is being rewritten."""

MOST_PROVED: Final = 4096
"""Files whose digests a process keeps."""

SETTLED_NS: Final = 100_000_000
"""File times have steps of some milliseconds: a file can change twice within one step and keep its time."""

_digests: dict[tuple[int, ...], str] = {}
"""SHA-256 of files, by device, number, size, time of change, and the first byte of what was compared."""


def recorded(path: Path) -> dict[str, Any] | None:
    """Bytes and SHA-256 of a table from the sealed file beside it; None if none has them."""
    found: Any = None
    if path.name == PLAN:
        found = read_sealed(path.parent / PLAN_SEAL)
    elif path.name in (INDEX, REJECTS):
        hidden = path.parent.name == HIDDEN
        about = read_sealed(path.parent.parent / MARK if hidden else path.parent / DESCRIPTION)
        found = _value(about, "files", path.name)
    elif (match := _OF_SHARD.fullmatch(path.name)) is not None:
        found = _value(read_sealed(path.parent / f"{match[1]}{SIDECAR_SUFFIX}"), "tables", match[2])
    return as_record(found)


def recorded_end(path: Path) -> dict[str, Any] | None:
    """Bytes of a plan's file, and bytes and SHA-256 of its end, from the sealed file beside it; None if it has none.

    The end names the digests of all other parts, so that a reader compares what it reads and no more.
    """
    if path.name != PLAN:
        return None
    about = read_sealed(path.parent / PLAN_SEAL)
    end, size = as_record(_value(about, "end")), _value(about, "bytes")
    return {"size": size, **end} if end is not None and type(size) is int and 0 <= end["bytes"] <= size else None


def as_record(found: Any) -> dict[str, Any] | None:
    """The bytes and SHA-256 that a part of a JSON file holds; None where it holds none."""
    if not isinstance(found, Mapping) or type(found.get("bytes")) is not int or type(found.get("sha256")) is not str:
        return None
    return {"bytes": found["bytes"], "sha256": found["sha256"]}


def _value(record: Any, *keys: str) -> Any:
    for key in keys:
        record = record.get(key) if isinstance(record, Mapping) else None
    return record


@contextmanager
def opened(
    path: Path, proved: bool = True, known: Mapping[str, Any] | None = None, by_end: bool = False
) -> Iterator[BinaryIO]:
    """A table's file, open at its start.

    Args:
        path: of the table.
        proved: its bytes are those that were recorded, where any were.
        known: its bytes and SHA-256, where they are at hand.
        by_end: only the end of a plan's file is compared, where its digest was recorded; of a plan in a store nothing
            else is read.

    Raises:
        CorpusError: its bytes are others.
        OSError: it cannot be read.
    """
    with _proved(path, known, recorded_end if by_end else None) if proved else path.open("rb") as file:
        yield file


def held(path: Path) -> Path:
    """The path itself; of a table in a store that of a local copy, once its bytes were held against the record.

    Raises:
        CorpusError: its bytes are others.
        OSError: it cannot be read.
    """
    if as_store(path) is None or recorded(path) is None:
        return path
    with opened(path):
        return kept(path)


def _proved(
    path: Path, known: Mapping[str, Any] | None, end_of: Callable[[Path], dict[str, Any] | None] | None
) -> BinaryIO:
    def look() -> Mapping[str, Any] | None:
        return (end_of(path) if end_of is not None else None) or recorded(path)

    known, forgot = look() if known is None else known, False
    for _ in range(ATTEMPTS):
        if known is None:
            return cast(BinaryIO, path.open("rb"))
        file = _fetched(path, known)
        if file is not None:
            if _fits(file, known):
                file.seek(0)
                return file
            file.close()
        # A command that writes the table writes its record too: what changed between is read again.
        now = look()
        if now == known and (forgot or "size" in known or not _forget(path)):
            break
        known, forgot = now, True
    raise not_as_written(path)


def not_as_written(path: Path) -> CorpusError:
    """What is wrong with a table whose bytes are others, and the command that mends it."""
    folder = path.parent.parent if path.parent.name == HIDDEN or _OF_SHARD.fullmatch(path.name) else path.parent
    folder = folder.parent if folder.name == HIDDEN else folder
    more = " or names the command that does" if path.name == PLAN else ""
    return CorpusError(
        f"{path} is damaged: its bytes are not those that were written. `tonemill repair {folder}` mends it{more}."
    )


def _fetched(path: Path, known: Mapping[str, Any]) -> BinaryIO | None:
    """A table's file; of a store its bytes, or a local copy where it is read in parts; None if its size is another."""
    if as_store(path) is None:
        return cast(BinaryIO, path.open("rb"))
    if "size" in known:
        return _end_of(path, known)
    if path.name == PLAN:
        return cast(BinaryIO, kept(path).open("rb"))
    if path.stat().st_size != known["bytes"] or known["bytes"] > MOST_FETCHED:
        return None
    return io.BytesIO(path.read_bytes())


def _end_of(path: Path, known: Mapping[str, Any]) -> BinaryIO | None:
    """The end of a table in a store, as a file; None if its size is another, or no process could hold it."""
    size, count = known["size"], known["bytes"]
    remote = as_store(path)
    if remote is None or remote.entry().bytes != size or count > MOST_FETCHED:
        return None
    return cast(BinaryIO, window(remote.read(size - count, size), size - count, size))


def window(data: bytes, first: int, size: int) -> RangedFile:
    """A file of which only some bytes are there, at their places; zeros stand before them, and nothing behind.

    Args:
        data: the bytes.
        first: place of the first one.
        size: of the file.
    """

    def bytes_of(start: int, end: int) -> bytes:
        # Arrow reads the last 64 KiB of any file, and uses of them the footer.
        return bytes(max(0, min(end, first) - start)) + data[max(0, start - first) : max(0, end - first)]

    return RangedFile(size, bytes_of)


def _forget(path: Path) -> bool:
    """Take away a local copy that is not what was recorded: a store's times may be too coarse to tell two versions."""
    if as_store(path) is None or path.name != PLAN:
        return False
    kept(path).unlink(missing_ok=True)
    return True


def version_of(file: BinaryIO) -> tuple[int, int, int, int] | None:
    """Device, number, size and time of a file on a disk; None if it changed so lately that they may not identify it."""
    try:
        status = os.fstat(file.fileno())
    except (OSError, AttributeError):
        # A file in memory, or in a store.
        return None
    if time.time_ns() - status.st_mtime_ns < SETTLED_NS:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _fits(file: BinaryIO, known: Mapping[str, Any]) -> bool:
    """Whether a file, or its end, is what was recorded."""
    size = file.seek(0, os.SEEK_END)
    if size != known.get("size", known["bytes"]):
        return False
    return _digest(file, size - known["bytes"]) == known["sha256"]


def _digest(file: BinaryIO, start: int) -> str:
    """SHA-256 of a file from a byte on; of one on a disk once for each version of it."""
    version = version_of(file)
    if version is not None and (*version, start) in _digests:
        return _digests[*version, start]
    file.seek(start)
    digest = hashlib.file_digest(cast(Any, file), "sha256").hexdigest()
    if version is not None:
        if len(_digests) >= MOST_PROVED:
            _digests.clear()
        _digests[*version, start] = digest
    return digest
