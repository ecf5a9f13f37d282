"""Write tars whose bytes depend on names and contents only, and find the members of a tar without unpacking it."""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, NamedTuple

from tonemill.audiotools.errors import CorpusError

MEMBER_BYTES: Final = 8**11
"""Smallest member size that does not fit a USTAR header, which has eleven octal digits for it."""


@dataclass(frozen=True)
class Mark:
    """A place in a tar to which it can be rolled back."""

    offset: int
    digest: Any


class TarWriter:
    """A USTAR archive with mtime 0 and owner 0; any other header would differ from run to run.

    Args:
        file: opened for writing at its start; the caller closes it.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self.size = 0

    def add(self, name: str, size: int, pieces: Iterable[bytes]) -> int:
        """Append a member; returns the offset of its data.

        Args:
            name: of the member.
            size: of all pieces together, less than `MEMBER_BYTES`.
            pieces: its content.
        """
        info = tarfile.TarInfo(name)
        info.size = size
        info.mode = 0o644
        header = info.tobuf(tarfile.USTAR_FORMAT)
        offset = self.size + len(header)
        self._write(header)
        for piece in pieces:
            self._write(piece)
        self._write(bytes(-size % tarfile.BLOCKSIZE))
        return offset

    def mark(self) -> Mark:
        return Mark(self.size, self._digest.copy())

    def roll_back(self, mark: Mark) -> None:
        """Take back every member added since the mark."""
        self._file.seek(mark.offset)
        self._file.truncate()
        self.size, self._digest = mark.offset, mark.digest.copy()

    def finish(self) -> str:
        """Write the end of the archive; returns the SHA-256 of all of it."""
        self._write(ending(self.size))
        return self._digest.hexdigest()

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._digest.update(data)
        self.size += len(data)


def ending(size: int) -> bytes:
    """The zeros after `size` bytes of members: two blocks, then padding to a whole record."""
    end = size + 2 * tarfile.BLOCKSIZE
    return bytes(end + -end % tarfile.RECORDSIZE - size)


class Member(NamedTuple):
    """Name, data offset and data size of a member of a tar, both in bytes."""

    name: str
    offset: int
    size: int

    @property
    def end(self) -> int:
        """The byte behind the member and its padding, where the next header is."""
        return self.offset + self.size + -self.size % tarfile.BLOCKSIZE


def members(file: BinaryIO, place: int = 0) -> Iterator[Member]:
    """The members of a tar, in order, from the header at byte `place` on.

    Raises:
        CorpusError: a header is damaged, or the tar is cut.
    """
    size = file.seek(0, os.SEEK_END)
    while (one := _member_at(file, place, size)) is not None:
        yield one
        place = one.end


def _member_at(file: BinaryIO, place: int, size: int) -> Member | None:
    """The member whose header is at byte `place`; None at the end-of-archive block.

    Members are never unpacked to disk, so names with `..`, links and devices do no harm.

    Raises:
        CorpusError: the header is damaged, the member is not a regular file, or its size exceeds the tar.
    """
    file.seek(place)
    header = file.read(tarfile.BLOCKSIZE)
    if header == bytes(tarfile.BLOCKSIZE):
        return None
    try:
        info = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
    except (tarfile.HeaderError, ValueError, OverflowError) as error:
        raise CorpusError(f"the header of a member at byte {place} is damaged: {error}") from error
    if not info.isreg():
        raise CorpusError(
            f"the member {info.name!r} at byte {place} is not a regular file, but a link or other entry of type "
            f"{info.type!r}"
        )
    # A negative size would move the reader backwards, into an endless loop.
    if not 0 <= info.size <= size - place - tarfile.BLOCKSIZE:
        raise CorpusError(
            f"the member {info.name!r} at byte {place} announces {info.size} bytes, and the tar ends before"
        )
    return Member(info.name, place + tarfile.BLOCKSIZE, info.size)


def cut_out(file: BinaryIO, offset: int, length: int) -> bytes:
    """Bytes of a file from a place that an index or a recipe names; as many as there are."""
    size = file.seek(0, os.SEEK_END)
    if not 0 <= offset <= size or length < 0:
        return b""
    file.seek(offset)
    return file.read(min(length, size - offset))
