"""Find the end of the sound in a FLAC file (RFC 9639): its last frame, or another file behind it."""

from __future__ import annotations

import io
import struct
from typing import Final

from tonemill.audiotools.codecs.chunked import patched
from tonemill.audiotools.codecs.extent import Extent, ended
from tonemill.audiotools.codecs.partial import is_partial
from tonemill.audiotools.codecs.searching import find

_TAIL: Final = 1 << 17
"""Bytes at the end of a FLAC in which its last frame begins: one of 8 channels in 24 bits has 98,304."""

_CANDIDATES: Final = 4
"""Places near the end that may be the beginning of a frame: sound looks like its header now and then."""

_BITS: Final = {1: 8, 2: 12, 4: 16, 5: 20, 6: 24, 7: 32}
"""Depths by their code in the header of a frame."""

_STREAM_INFORMATION: Final = (b"fLaC\0\0\0\x22", b"fLaC\x80\0\0\x22")


def extent(raw: io.BufferedIOBase, size: int) -> Extent:
    """The extent of a FLAC file (RFC 9639): announced samples, end of its last frame, another file behind it."""
    raw.seek(0)
    head = raw.read(42)
    if len(head) < 42 or not head.startswith(_STREAM_INFORMATION):
        return Extent()
    total = int.from_bytes(head[21:26]) & (1 << 36) - 1
    # Of a file that is far, the search for another one behind it would fetch all. Where its last frame is whole and has
    # the last sample that is announced, that file could only be one of as many samples.
    if is_partial(raw) and total and _last_sample(raw, size, head, total) == (total, True):
        return Extent()
    following = find(raw, b"fLaC", 42, size)
    while following >= 0:
        raw.seek(following)
        if raw.read(8) in _STREAM_INFORMATION:
            break
        following = find(raw, b"fLaC", following + 1, size)
    next_at = max(0, following)
    end = next_at or size
    as_it_is = Extent(parts=((0, end),) if next_at else (), next_at=next_at)
    last, is_whole = _last_sample(raw, end, head, total)
    if total and not is_whole and not next_at and (sound_end := _end_of(raw, size, head, total)):
        return ended(raw, sound_end, size)
    # Where the end of the last frame is not certain, decoding shows whether the file was cut.
    if last in (0, total) or last >= 1 << 36 or (total and not is_whole):
        return as_it_is
    # A writer to a pipe leaves 0.
    known = bytes([head[21] & 0xF0 | last >> 32]) + struct.pack(">I", last & 0xFFFFFFFF)
    return Extent(total or None, last, 1, patched({21: known}, end), next_at, unit="frames")


def _last_sample(raw: io.BufferedIOBase, size: int, head: bytes, total: int) -> tuple[int, bool]:
    """(samples up to the end of the last frame, 0 if none is found; whether that frame is whole).

    Args:
        raw: the file.
        size: of it.
        head: its stream information.
        total: samples that it announces.
    """
    smallest, largest = struct.unpack(">HH", head[8:12])
    raw.seek(max(0, size - _TAIL))
    tail = raw.read(min(size, _TAIL))
    end = len(tail) - 128 if tail[-128:-125] == b"TAG" else len(tail)
    place, uncertain = end, 0
    for _ in range(_CANDIDATES):
        found = None
        while found is None and (place := tail.rfind(b"\xff", 0, place)) >= 0:
            found = _frame(tail[place : place + 16].ljust(16, b"\0"), head)
        if found is None:
            break
        is_variable, number, samples = found
        if not is_variable and smallest != largest:
            break
        last = (number if is_variable else number * smallest) + samples
        if _checksum_16(tail[place:end]) == 0:
            return last, True
        if last == total:
            return last, False
        # Sound looks like the header of a frame now and then.
        uncertain = uncertain or last
    return uncertain, False


def _end_of(raw: io.BufferedIOBase, size: int, head: bytes, total: int) -> int:
    """Byte offset of the end of the frame with the last sample, wherever that is; 0 if there is none.

    Args:
        raw: the file.
        size: of it.
        head: its stream information.
        total: samples that it announces.
    """
    (smallest,) = struct.unpack(">H", head[8:10])
    for sync in (b"\xff\xf8", b"\xff\xf9"):
        place = find(raw, sync, 42, size)
        while place >= 0:
            raw.seek(place)
            data = raw.read(16).ljust(16, b"\0")
            if (found := _frame(data, head)) is not None:
                is_variable, number, samples = found
                if (number if is_variable else number * smallest) + samples == total:
                    raw.seek(place)
                    length = _whole_frame(raw.read(_TAIL))
                    if length:
                        return place + length
            place = find(raw, sync, place + 1, size)
    return 0


def _whole_frame(data: bytes) -> int:
    """Bytes of a frame at the beginning of some bytes, up to where its checksum fits; 0 where it never does."""
    crc = 0
    for place, byte in enumerate(data):
        crc = (crc << 8 & 0xFFFF) ^ _TABLE_16[crc >> 8 ^ byte]
        if crc == 0 and place > 16:
            return place + 1
    return 0


def _frame(data: bytes, stream: bytes) -> tuple[bool, int, int] | None:
    """Whether a frame's number is its first sample's, this number, and how many samples it has; None for no frame."""
    if data[0] != 0xFF or data[1] & 0xFE != 0xF8:
        return None
    block, rate = data[2] >> 4, data[2] & 0xF
    if block == 0 or rate == 15 or data[3] & 1:
        return None
    channels, bits = (stream[20] >> 1 & 7) + 1, ((stream[20] & 1) << 4 | stream[21] >> 4) + 1
    # Codes above 7 are pairs of which one channel is a difference; 0 as depth is that of the stream.
    if (2 if data[3] >> 4 > 7 else (data[3] >> 4) + 1) != channels or _BITS.get(data[3] >> 1 & 7, bits) != bits:
        return None
    # A number in the form of UTF-8, of up to seven bytes.
    more = 0
    while more < 7 and data[4] << more & 0x80:
        more += 1
    if more == 1:
        return None
    number = data[4] & (0x7F >> more if more else 0x7F)
    for byte in data[5 : 4 + max(1, more)]:
        if byte & 0xC0 != 0x80:
            return None
        number = number << 6 | byte & 0x3F
    at = 4 + max(1, more)
    if block in (6, 7):
        samples = int.from_bytes(data[at : at + block - 5]) + 1
    else:
        samples = 192 if block == 1 else 576 << block - 2 if block < 6 else 256 << block - 8
    at += {6: 1, 7: 2}.get(block, 0) + {12: 1, 13: 2, 14: 2}.get(rate, 0)
    if at >= len(data) or _checksum_8(data[:at]) != data[at]:
        return None
    return bool(data[1] & 1), number, samples


def _checksum_8(data: bytes) -> int:
    """CRC-8 with polynomial 7, starting from 0 (RFC 9639, 9.1.8)."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 7 if crc & 0x80 else crc << 1) & 0xFF
    return crc


def _checksum_16(data: bytes) -> int:
    """CRC-16 with polynomial 0x8005, starting from 0 (RFC 9639, 9.3); 0 of a whole frame with its checksum."""
    crc = 0
    for byte in data:
        crc = (crc << 8 & 0xFFFF) ^ _TABLE_16[crc >> 8 ^ byte]
    return crc


def _table_16() -> list[int]:
    table = []
    for value in range(256):
        crc = value << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x8005 if crc & 0x8000 else crc << 1) & 0xFFFF
        table.append(crc)
    return table


_TABLE_16: Final = _table_16()
