"""What libsndfile leaves undone about containers: notice a cut one, write none with a time or a random number."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO, Final, Literal

MOST_CHUNKS: Final = 10_000
"""Of one file that are looked at."""

UNKNOWN: Final = 0x7FFFF000
"""From here up, a length that a writer to a pipe left because it could not know it: the sound runs to the end."""


def missing_bytes(raw: io.BufferedIOBase, size: int) -> int:
    """How many bytes a file lacks of what its header announces; libsndfile reads such a file as a shorter one.

    Knows RIFF, RF64, Sony Wave64, AIFF, Sun AU and Ogg; 0 for any other, and where nothing is announced.

    Args:
        raw: at its start.
        size: of the file.
    """
    form = raw.read(12)
    raw.seek(0)
    if len(form) < 12:
        return 0
    if form[:4] in (b"RIFF", b"RF64") and form[8:] == b"WAVE":
        return _missing_of_chunk(raw, size, "<4sI", b"data")
    if form[:4] == b"FORM" and form[8:] in (b"AIFF", b"AIFC"):
        return _missing_of_chunk(raw, size, ">4sI", b"SSND")
    if form[:4] == b".snd":
        offset, length = struct.unpack(">II", form[4:])
        return 0 if length >= UNKNOWN else max(0, offset + length - size)
    if form[:4] == b"riff":
        return _missing_of_wave64(raw, size)
    return _missing_of_ogg(raw, size) if form[:4] == b"OggS" else 0


def chunks(raw: io.BufferedIOBase | BinaryIO, layout: Literal["<4sI", ">4sI"]) -> Iterator[tuple[bytes, int, int]]:
    """Names, places of the contents, and announced lengths of the chunks of a RIFF (`<4sI`) or AIFF (`>4sI`) file."""
    at = 12
    # A file of a gigabyte can hold a hundred million chunks of nothing.
    for _ in range(MOST_CHUNKS):
        raw.seek(at)
        head = raw.read(8)
        if len(head) < 8:
            return
        name, length = struct.unpack(layout, head)
        yield name, at + 8, length
        at += 8 + length + length % 2


def _missing_of_chunk(raw: io.BufferedIOBase, size: int, layout: Literal["<4sI", ">4sI"], wanted: bytes) -> int:
    long_length = None
    for name, at, length in chunks(raw, layout):
        if name == b"ds64":
            # EBU Tech 3306: the true lengths of an RF64 file, first the file's, then the sound's.
            raw.seek(at)
            lengths = raw.read(16)
            long_length = struct.unpack("<8xQ", lengths)[0] if len(lengths) == 16 else None
        if name == wanted:
            if length >= UNKNOWN:
                length = long_length or 0
            return max(0, at + length - size)
    return 0


def _missing_of_wave64(raw: io.BufferedIOBase, size: int) -> int:
    """Chunks of a 16-byte name, which starts with four letters, and a length that counts these 24 bytes too."""
    at = 40
    for _ in range(MOST_CHUNKS):
        if at > size:
            break
        raw.seek(at)
        head = raw.read(24)
        if len(head) < 24:
            break
        name, length = struct.unpack("<4s12xQ", head)
        if name == b"data":
            return max(0, at + length - size)
        at += max(24, length + -length % 8)
    return 0


def _missing_of_ogg(raw: io.BufferedIOBase, size: int) -> int:
    """At least 1 unless the last page is whole and marked as the stream's last (RFC 3533, section 6)."""
    # A page has at most 27 + 255 + 255 * 255 bytes.
    raw.seek(max(0, size - 65_307))
    tail = raw.read()
    at = tail.rfind(b"OggS")
    if at < 0 or len(tail) < at + 27:
        return 1
    segments = tail[at + 26]
    end = at + 27 + segments + sum(tail[at + 27 : at + 27 + segments])
    is_last = tail[at + 5] & 4
    return max(0 if is_last else 1, end - len(tail))


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


class Seekable(io.BytesIO):
    """Bytes in which a damaged header may send libsndfile before the start: it stays where it is, and is told so."""

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self.tell(), os.SEEK_END: self.getbuffer().nbytes}[whence]
        return super().seek(start + offset) if 0 <= start + offset < 1 << 62 else self.tell()
