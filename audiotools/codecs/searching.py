"""Find bytes in a file without reading all of it into memory."""

from __future__ import annotations

import io
from typing import Final

_BLOCK_BYTES: Final = 1 << 18


def find(raw: io.BufferedIOBase, wanted: bytes, start: int, size: int) -> int:
    """The first place of some bytes from a place on; -1 without one.

    Args:
        raw: the file.
        wanted: the bytes.
        start: where to begin.
        size: of the file.
    """
    if start >= size:
        return -1
    raw.seek(start)
    # One buffer for all blocks: the end of the block before, and the next one behind it.
    keep = len(wanted) - 1
    buffer = bytearray(keep + _BLOCK_BYTES)
    view, kept = memoryview(buffer), 0
    while count := raw.readinto(view[kept : kept + _BLOCK_BYTES]):
        filled = kept + count
        place = buffer.find(wanted, 0, filled)
        if place >= 0:
            return start - kept + place
        start += count
        kept = min(keep, filled)
        view[:kept] = bytes(view[filled - kept : filled])
    return -1
