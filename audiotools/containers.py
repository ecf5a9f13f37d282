"""What libsndfile leaves undone about containers: notice a cut one, write none with a time or a random number."""

from __future__ import annotations

import io
import os
import struct
from typing import Final


def missing_bytes(raw: io.BufferedIOBase, size: int) -> int:
    """How many bytes a RIFF or AIFF file lacks of what its header announces; libsndfile reads it as a shorter one.

    Args:
        raw: at its start.
        size: of the file.
    """
    form = raw.read(12)
    if form[:4] == b"RIFF" and form[8:] == b"WAVE":
        layout, wanted = "<4sI", b"data"
    elif form[:4] == b"FORM" and form[8:] in (b"AIFF", b"AIFC"):
        layout, wanted = ">4sI", b"SSND"
    else:
        return 0
    while len(chunk := raw.read(8)) == 8:
        name, length = struct.unpack(layout, chunk)
        if name == wanted:
            # Writers that stream leave 0 or the largest number: the sound then runs to the end.
            return 0 if length in (0, 0xFFFFFFFF, 0x7FFFFFFF) else max(0, raw.tell() + length - size)
        raw.seek(length + length % 2, os.SEEK_CUR)
    return 0


def without_peak_time(data: bytes) -> bytes:
    """Blank the time of writing that libsndfile puts into a float WAV's PEAK chunk (after its version word)."""
    at = data.find(b"PEAK", 0, 256)
    return data if at < 0 else data[: at + 12] + bytes(4) + data[at + 16 :]


def with_fixed_ogg_serial(data: bytes) -> bytes:
    """Give an Ogg stream the serial number 0, for libogg's is random; RFC 3533, section 6 has the page layout."""
    pages = bytearray(data)
    at = 0
    while at < len(pages):
        segments = pages[at + 26]
        end = at + 27 + segments + sum(pages[at + 27 : at + 27 + segments])
        pages[at + 14 : at + 18] = bytes(4)
        pages[at + 22 : at + 26] = bytes(4)
        pages[at + 22 : at + 26] = struct.pack("<I", _ogg_checksum(pages[at:end]))
        at = end
    return bytes(pages)


def _ogg_checksum(page: bytearray) -> int:
    """CRC-32 with polynomial 0x04c11db7, most significant bit first, starting from 0."""
    crc = 0
    for byte in page:
        crc = ((crc << 8) & 0xFFFFFFFF) ^ _OGG_TABLE[(crc >> 24) ^ byte]
    return crc


def _ogg_table() -> list[int]:
    table = []
    for value in range(256):
        crc = value << 24
        for _ in range(8):
            crc = ((crc << 1) ^ 0x04C11DB7 if crc & 0x80000000 else crc << 1) & 0xFFFFFFFF
        table.append(crc)
    return table


_OGG_TABLE: Final = _ogg_table()
