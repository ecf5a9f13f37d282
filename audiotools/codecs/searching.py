"""Find bytes in a file without reading it into memory."""

from __future__ import annotations

import io
import mmap


def find(raw: io.BufferedIOBase, wanted: bytes, start: int, size: int) -> int:
    """The first place of some bytes in a file from a place on; -1 without one."""
    if start >= size:
        return -1
    try:
        with mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return data.find(wanted, start)
    except (OSError, ValueError):
        pass
    raw.seek(start)
    overlap = b""
    while block := raw.read(1 << 20):
        place = (overlap + block).find(wanted)
        if place >= 0:
            return start + place - len(overlap)
        start += len(block)
        overlap = (overlap + block)[1 - len(wanted) :]
    return -1
