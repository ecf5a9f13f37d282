"""A file to read that is made of parts of another one and of other bytes, as one with a mended header."""

from __future__ import annotations

import io
import os
from bisect import bisect_right
from itertools import accumulate
from pathlib import Path

Part = bytes | tuple[int, int]
"""Bytes to read as they are, or the places of the first byte of a stretch of the file and of the byte behind it."""


def opened_raw(source: Path | bytes) -> io.BufferedIOBase:
    """The encoded bytes of a source, to be read and closed."""
    return io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")


class Spliced(io.BufferedIOBase):
    """Parts, one behind the other, as one file.

    Args:
        raw: the file that stretches are taken from.
        parts: in their order.
        owns: whether the file is closed with this one.
    """

    def __init__(self, raw: io.BufferedIOBase, parts: tuple[Part, ...], owns: bool = True) -> None:
        self._raw, self._parts, self._owns = raw, parts, owns
        lengths = [len(part) if isinstance(part, bytes) else part[1] - part[0] for part in parts]
        self._starts = [0, *accumulate(lengths)]
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._starts[-1]}[whence]
        # A damaged header may send a decoder anywhere: the place stays as it is, and is the answer.
        if 0 <= place < 1 << 62:
            self._place = place
        return self._place

    def tell(self) -> int:
        return self._place

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self._starts[-1] - self._place)
        left = left if size is None or size < 0 else min(left, size)
        found = []
        while left:
            number = bisect_right(self._starts, self._place) - 1
            part, inside = self._parts[number], self._place - self._starts[number]
            wanted = min(left, self._starts[number + 1] - self._place)
            if isinstance(part, bytes):
                data = part[inside : inside + wanted]
            else:
                self._raw.seek(part[0] + inside)
                data = self._raw.read(wanted)
            if not data:
                break
            found.append(data)
            left -= len(data)
            self._place += len(data)
        return b"".join(found)

    def close(self) -> None:
        if self._owns:
            self._raw.close()
        super().close()
