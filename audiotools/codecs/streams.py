"""Where the sound of an Ogg, FLAC or MP3 file ends: such files are joined by writing one behind the other."""

from __future__ import annotations

import io
import mmap
import struct
from typing import Final

from tonemill.audiotools.codecs import mpeg
from tonemill.audiotools.codecs.chunked import patched
from tonemill.audiotools.codecs.extent import MOST_CHUNKS, Extent

_TAIL: Final = 1 << 17
"""Bytes at the end of a FLAC in which its last frame begins: one of 8 channels in 24 bits has 98,304."""

_PAGE: Final = 65_307
"""The most bytes of a page of Ogg: 27 + 255 + 255 * 255."""

_FIRST_PAGE: Final = b"OggS\0\2"

_STREAM_INFORMATION: Final = (b"fLaC\0\0\0\x22", b"fLaC\x80\0\0\x22")


def ogg(raw: io.BufferedIOBase, size: int) -> Extent:
    """Of an Ogg file. It is cut unless its last page is whole and marked as the last (RFC 3533, section 6).

    A second stream behind the first is legal (a chained file, as recordings of radio are).
    """
    at = 0
    # Streams that run side by side begin with their first pages side by side.
    while at < size:
        raw.seek(at)
        head = raw.read(27)
        if head[:6] != _FIRST_PAGE or len(head) < 27:
            break
        at += 27 + head[26] + sum(raw.read(head[26]))
    following = _find(raw, _FIRST_PAGE, at, size)
    while following >= 0:
        raw.seek(following)
        head = raw.read(27)
        # A first page has one packet, position 0 and number 0.
        if len(head) == 27 and head[6:14] == bytes(8) and head[18:22] == bytes(4):
            return Extent(parts=((0, following),), next_at=following)
        following = _find(raw, _FIRST_PAGE, following + 1, size)
    raw.seek(max(0, size - _PAGE))
    tail = raw.read()
    at = tail.rfind(b"OggS")
    if at < 0 or len(tail) < at + 27:
        return Extent(was_cut=True)
    segments = tail[at + 26]
    end = at + 27 + segments + sum(tail[at + 27 : at + 27 + segments])
    return Extent(was_cut=not tail[at + 5] & 4 or end > len(tail))


def _find(raw: io.BufferedIOBase, wanted: bytes, start: int, size: int) -> int:
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


def flac(raw: io.BufferedIOBase, size: int) -> Extent:
    """Of a FLAC file (RFC 9639): how much it announces, another file behind it, and where its last frame ends."""
    raw.seek(0)
    head = raw.read(42)
    if len(head) < 42 or not head.startswith(_STREAM_INFORMATION):
        return Extent()
    total = int.from_bytes(head[21:26]) & (1 << 36) - 1
    following = _find(raw, b"fLaC", 42, size)
    while following >= 0:
        raw.seek(following)
        if raw.read(8) in _STREAM_INFORMATION:
            break
        following = _find(raw, b"fLaC", following + 1, size)
    next_at = max(0, following)
    end = next_at or size
    last = _last_flac_sample(raw, end, head)
    if last is None or last <= total or last >= 1 << 36:
        return Extent(parts=((0, end),) if next_at else (), next_at=next_at)
    # A writer to a pipe leaves 0.
    known = bytes([head[21] & 0xF0 | last >> 32]) + struct.pack(">I", last & 0xFFFFFFFF)
    return Extent(total or None, last, 1, patched({21: known}, end), next_at)


def _last_flac_sample(raw: io.BufferedIOBase, size: int, head: bytes) -> int | None:
    """How many samples there are up to the end of the last frame; None where none is found."""
    smallest, largest = struct.unpack(">HH", head[8:12])
    raw.seek(max(0, size - _TAIL))
    tail = raw.read(min(size, _TAIL))
    place = len(tail)
    # Sound has the two bytes of a frame's beginning by chance once in 32,000 bytes; its checksum decides.
    while (place := tail.rfind(b"\xff", 0, place)) >= 0:
        found = _flac_frame(tail[place : place + 16])
        if found is None:
            continue
        is_variable, number, samples = found
        if is_variable:
            return number + samples
        if smallest == largest:
            return number * smallest + samples
    return None


def _flac_frame(data: bytes) -> tuple[bool, int, int] | None:
    """Whether a frame's number is its first sample's, this number, and how many samples it has; None for no frame."""
    if len(data) < 16 or data[0] != 0xFF or data[1] & 0xFE != 0xF8:
        return None
    block, rate = data[2] >> 4, data[2] & 0xF
    if block == 0 or rate == 15 or data[3] & 1:
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


def mp3(raw: io.BufferedIOBase, size: int) -> Extent:
    """Of a file of MPEG layer III: what its first frame announces, if it is a tag, and what follows behind that.

    Files without a tag are counted by `mpeg.with_length`.
    """
    tagged = mpeg.tag_of(raw)
    if tagged and tagged.stream_bytes and size - (tagged.first + tagged.stream_bytes) <= mpeg.MOST_BEHIND:
        return Extent()
    following = _next_tag(raw, tagged.first + tagged.size if tagged else 0, size)
    if following:
        return Extent(parts=((0, following),), next_at=following)
    if tagged is None or not tagged.frames:
        return Extent()
    counted = mpeg.counted_from(raw, tagged.first + tagged.size)
    # The rest of a frame that was cut, or one of silence, is no second file.
    if counted.frames <= tagged.frames + 2:
        return Extent()
    longer = struct.pack(">I", counted.frames)
    return Extent(tagged.frames, counted.frames, 0, patched({tagged.frames_at: longer}, size))


def _next_tag(raw: io.BufferedIOBase, start: int, size: int) -> int:
    """Where a frame with a tag begins, another file's first; 0 without one."""
    for word in mpeg.TAGS:
        # The first frame of a file without a tag has none either.
        place = _find(raw, word, start + 4, size)
        while place >= 0:
            for side in mpeg.SIDES:
                at = place - 4 - side
                raw.seek(max(0, at))
                frame = mpeg.frame_of(raw.read(4))
                if at > start and frame is not None and frame.side == side:
                    return at
            place = _find(raw, word, place + 1, size)
    return 0


def mp4(raw: io.BufferedIOBase, size: int) -> Extent:
    """Of a file of boxes (ISO/IEC 14496-12, 4.2): another file behind it, or no box that tells where its sound is."""
    at, has_index = 0, False
    for _ in range(MOST_CHUNKS):
        raw.seek(at)
        head = raw.read(16)
        if len(head) < 8:
            break
        length, name = struct.unpack(">I4s", head[:8])
        if name == b"ftyp" and at:
            return Extent(parts=((0, at),), next_at=at)
        has_index = has_index or name in (b"moov", b"moof")
        if length == 1 and len(head) == 16:
            (length,) = struct.unpack(">Q", head[8:])
        if length < 8:
            break  # to the end of the file, or no box
        at += length
        if at > size and name != b"ftyp":
            return Extent(was_cut=not has_index or name == b"moov", is_useless=True)
    return Extent()
