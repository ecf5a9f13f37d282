"""A file of which only some stretches are here, for headers of files that are far; it notes what else is wanted."""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tonemill.audiotools.codecs.spliced import Part, Spliced


class Absent(OSError):
    """Bytes of a file are wanted that are not here.

    Args:
        start: place of the first one.
        end: place behind the last one.
    """

    def __init__(self, start: int, end: int) -> None:
        super().__init__(errno.ENODATA, os.strerror(errno.ENODATA))
        self.start, self.end = start, end


class Partial(type(Path())):  # type: ignore[misc]
    """Such a file: it can be opened and read, and has no place on a disk. Make it by `partly`.

    Whatever comes of it holds only while `absent` is None: decoders take bytes that cannot be read for the end.
    """

    size: int
    stretches: Mapping[int, bytes]
    absent: Absent | None = None

    def stat(self, *, follow_symlinks: bool = True) -> Any:
        return SimpleNamespace(st_mode=stat.S_IFREG, st_size=self.size, st_mtime_ns=0)

    def open(self, *_: Any, **__: Any) -> Any:
        return self.opened()

    def opened(self, is_quiet: bool = False) -> io.BufferedIOBase:
        """The file, for reading.

        Args:
            is_quiet: it gives nothing where bytes are absent; otherwise it raises `Absent`.
        """
        parts: list[Part] = []
        at = 0
        for start, data in sorted(self.stretches.items()):
            parts += [(at, start)] if start > at else []
            parts.append(data)
            at = start + len(data)
        return _PartialFile(_Gaps(self, is_quiet), (*parts, *([(at, self.size)] if at < self.size else [])))

    def __fspath__(self) -> str:
        raise self.lacking(0, self.size)

    def lacking(self, start: int, end: int) -> Absent:
        """Note bytes that are wanted, unless others are; the error for those that were first."""
        self.absent = self.absent or Absent(start, end)
        return self.absent


def partly(name: str, size: int, stretches: Mapping[int, bytes]) -> Partial:
    """A file of which some stretches are here.

    Args:
        name: ends with the suffix of the file.
        size: of the whole file in bytes.
        stretches: bytes by the place of the first one; no two overlap.
    """
    made = Partial(name)
    made.size, made.stretches = size, stretches
    return made


def is_partial(raw: io.BufferedIOBase) -> bool:
    """Whether an open file is one of which only some stretches are here."""
    return isinstance(raw, _PartialFile)


class _PartialFile(Spliced):
    """The stretches that are here, and gaps."""


class _Gaps(io.BufferedIOBase):
    """The bytes that are not here."""

    def __init__(self, of: Partial, is_quiet: bool) -> None:
        self._of, self._is_quiet, self._at = of, is_quiet, 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset
        return offset

    def read(self, size: int | None = -1) -> bytes:
        assert size is not None
        error = self._of.lacking(self._at, self._at + size)
        if self._is_quiet:
            return b""
        raise error
