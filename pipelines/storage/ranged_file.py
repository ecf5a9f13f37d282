"""A file for reading whose bytes a function gives by their places: a part of a file, or an object in a store."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import Any


class RangedFile(io.RawIOBase):
    """Such a file, at its start.

    Args:
        size: of the file.
        bytes_of: its bytes from one place to before another, which is greater, and `size` at most.
    """

    def __init__(self, size: int, bytes_of: Callable[[int, int], bytes]) -> None:
        super().__init__()
        self._size, self._bytes_of, self._at = size, bytes_of, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        end = self._size if size is None or size < 0 else min(self._size, self._at + size)
        data = self._bytes_of(self._at, end) if end > self._at else b""
        self._at += len(data)
        return data

    def readall(self) -> bytes:
        return self.read()

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
