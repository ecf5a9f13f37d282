"""Work around libsndfile: remove times and random numbers from the files it writes, and seek safely."""

from __future__ import annotations

import io
import os
import struct
from typing import Any

from tonemill.audiotools.codecs.ogg_pages import checksum


def blank_peak_time(file: Any) -> None:
    """Blank the time of writing that libsndfile puts into a float WAV's PEAK chunk (after its version word)."""
    file.seek(0)
    at = file.read(256).find(b"PEAK")
    if at >= 0:
        file.seek(at + 12)
        file.write(bytes(4))


def with_fixed_ogg_serial(data: bytes) -> bytes:
    """Give an Ogg stream the serial number 0, for libogg's is random; RFC 3533, section 6 has the page layout."""
    pages = bytearray(data)
    at = 0
    while at < len(pages):
        segments = pages[at + 26]
        end = at + 27 + segments + sum(pages[at + 27 : at + 27 + segments])
        pages[at + 14 : at + 18] = bytes(4)
        pages[at + 22 : at + 26] = bytes(4)
        pages[at + 22 : at + 26] = struct.pack("<I", checksum(pages[at:end]))
        at = end
    return bytes(pages)


class Seekable(io.BytesIO):
    """Bytes in which a damaged header may send libsndfile before the start: the place stays as it is."""

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self.tell(), os.SEEK_END: self.getbuffer().nbytes}[whence]
        return super().seek(start + offset) if 0 <= start + offset < 1 << 62 else self.tell()
