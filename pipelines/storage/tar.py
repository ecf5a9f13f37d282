"""Write tar members whose bytes depend on their names and contents alone, and take the last ones back."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

MEMBER_BYTES: Final = 8**11
"""What a USTAR header, with eleven octal digits, can no longer say."""


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
        end = self.size + 2 * tarfile.BLOCKSIZE
        self._write(bytes(end + -end % tarfile.RECORDSIZE - self.size))
        return self._digest.hexdigest()

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._digest.update(data)
        self.size += len(data)
