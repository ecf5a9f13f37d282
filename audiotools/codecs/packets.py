"""Find the end of the sound in containers that FFmpeg reads: Matroska, WavPack, ASF, AVI, Flash, MPEG, and more."""

from __future__ import annotations

import io
import struct
from typing import Final

from tonemill.audiotools.codecs.extent import NOTED_BYTES, Extent, is_known_end
from tonemill.audiotools.codecs.searching import find

_MOST: Final = 2_000_000
"""Packets of one file that are looked at; a file of more is left to its decoder."""


def _ends_at(
    raw: io.BufferedIOBase, at: int, size: int, magic: bytes, kept: int | None = None, form: bytes = b""
) -> Extent:
    """The extent of a file whose sound ends at a place: another of its kind follows, something else, or nothing.

    Args:
        raw: the file.
        at: where its sound ends, by what it states.
        size: of the file.
        magic: the first bytes of another file of this kind.
        kept: where its last whole packet ends, if it was cut and no less than a packet can be read.
        form: bytes 8 to 12 of another file of this kind.
    """
    if at > size + 1:
        parts = () if kept is None else ((0, kept),)
        return Extent(at, size, parts=parts, was_cut=kept is not None)
    raw.seek(at)
    head = raw.read(12)
    if head.startswith(magic) and head[8:].startswith(form):
        return Extent(parts=((0, at),), next_at=at)
    return Extent(parts=((0, at),) if at < size else (), left_bytes=0 if is_known_end(raw, at, size) else size - at)


def matroska(raw: io.BufferedIOBase, size: int) -> Extent:
    """The extent of a Matroska or WebM file (RFC 8794, RFC 9559): it ends with its segments, if they state a length."""
    raw.seek(0)
    length = _element_length(raw.read(64), 4)
    at, segments = (4 + length[0] + length[1], 0) if length else (0, 0)
    for _ in range(_MOST):
        raw.seek(at)
        head = raw.read(12)
        if head[:4] != _SEGMENT:
            break
        if (length := _element_length(head, 4)) is None:
            return Extent()  # to the end of the file
        at, segments = at + 4 + length[0] + length[1], segments + 1
    else:
        return Extent()
    return _ends_at(raw, at, size, EBML) if segments else Extent()


EBML: Final = b"\x1a\x45\xdf\xa3"
"""First bytes of a Matroska file."""

_SEGMENT: Final = b"\x18\x53\x80\x67"


def _element_length(head: bytes, at: int) -> tuple[int, int] | None:
    """(bytes of a length, length) of an element; None where it is unknown."""
    if len(head) <= at or not head[at]:
        return None
    count = 9 - head[at].bit_length()
    value = int.from_bytes(head[at : at + count]) & (1 << 7 * count) - 1
    return None if value == (1 << 7 * count) - 1 else (count, value)


def wavpack(raw: io.BufferedIOBase, size: int) -> Extent:
    """The extent of a WavPack file: blocks that state their sizes; the first has the number of samples."""
    at, samples, total = 0, 0, 0
    for _ in range(_MOST):
        raw.seek(at)
        head = raw.read(32)
        if len(head) < 32 or head[:4] != b"wvpk":
            break
        length, high, total_high = struct.unpack("<I2xBB", head[4:12])
        total_low, index, count, flags = struct.unpack("<IIII", head[12:28])
        if samples and count and flags & _INITIAL and not index and not high:
            break  # the first block of another file
        if at + 8 + length > size:
            return _ends_at(raw, at + 8 + length, size, b"wvpk", at)
        if not samples and total_low != _UNKNOWN:
            total = total_low | total_high << 32
        samples = max(samples, (index | high << 32) + count)
        at += 8 + length
    else:
        return Extent()
    if samples < total:
        return Extent(parts=((0, at),), was_cut=True)
    return _ends_at(raw, at, size, b"wvpk")


_INITIAL: Final = 0x800
"""Flag of the first block of several with channels of one moment."""

_UNKNOWN: Final = 0xFFFFFFFF


def true_audio(raw: io.BufferedIOBase, size: int) -> Extent:
    """The extent of a True Audio file: its header has the number of samples, its table the bytes of each frame."""
    raw.seek(0)
    head = raw.read(22)
    if len(head) < 22:
        return Extent()
    rate, samples = struct.unpack("<II", head[10:18])
    frame = rate * 256 // 245
    count = -(-samples // frame) if frame else 0
    table = raw.read(min(4 * count, size))
    if not count or len(table) < 4 * count:
        return Extent(was_cut=bool(count), is_useless=True)
    end = kept = 22 + 4 * count + 4
    for length in struct.unpack(f"<{count}I", table):
        end += length
        kept = end if end <= size else kept
    return _ends_at(raw, end, size, b"TTA1", kept)


def asf(raw: io.BufferedIOBase, size: int) -> Extent:
    """The extent of an ASF file (as wma): objects that state their sizes, but for those of a broadcast."""
    at, ends = 0, False
    for _ in range(_MOST):
        raw.seek(at)
        head = raw.read(24)
        if len(head) < 24 or (at and head[:16] == ASF) or head[:16] not in _ASF_OBJECTS:
            break
        (length,) = struct.unpack("<Q", head[16:])
        if length < 24:
            return Extent()
        if head[:16] == _ASF_DATA and at + length > size and (packet := _asf_packet(raw)):
            # The decoder fails at a part of a packet.
            whole = at + _ASF_DATA_HEAD + (size - at - _ASF_DATA_HEAD) // packet * packet
            return Extent(at + length, size, parts=((0, whole),))
        ends = ends or head[:16] == _ASF_DATA
        at += length
        if at >= size:
            break
    else:
        return Extent()
    return _ends_at(raw, at, size, ASF) if ends else Extent()


def _asf_packet(raw: io.BufferedIOBase) -> int:
    """Bytes of each packet, from the properties of the file; 0 where they vary."""
    place = find(raw, _ASF_PROPERTIES, 0, _ASF_SEARCHED)
    raw.seek(max(0, place) + 92)
    sizes = raw.read(8).ljust(8, b"\0")
    return int.from_bytes(sizes[:4], "little") if place > 0 and sizes[:4] == sizes[4:] else 0


ASF: Final = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
"""The identifier of the first object of an ASF file."""

_ASF_DATA: Final = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")
_ASF_DATA_HEAD: Final = 50
_ASF_PROPERTIES: Final = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_SEARCHED: Final = 1 << 16
_ASF_OBJECTS: Final = (
    ASF,
    _ASF_DATA,
    *map(
        bytes.fromhex,
        (
            "90080033b1e5cf1189f400a0c90349cb",
            "d329e2d6da35d111903400a0c90349be",
            "f803b1fead12644c840f2a1d2f7ad48c",
            "d03fb73c4a0c0348953dedf7b6228f0c",
        ),
    ),
)
"""And those of the others that stand side by side: data, and four indexes."""


def avi(raw: io.BufferedIOBase, size: int) -> Extent:
    """The extent of an AVI: one chunk RIFF, and more of form AVIX beyond its first gigabyte (OpenDML, 1996)."""
    at = 0
    for _ in range(_MOST):
        raw.seek(at)
        head = raw.read(12)
        if len(head) < 12 or head[:4] != b"RIFF" or head[8:] != (b"AVIX" if at else b"AVI "):
            break
        (length,) = struct.unpack("<I", head[4:8])
        if not length:
            return Extent()  # its writer was killed
        at += 8 + length + length % 2
    else:
        return Extent()
    # Chunks of sound (01wb), of pictures, or an index: there is more than it states.
    return Extent() if head[2:4] in (b"wb", b"dc", b"db", b"x1") else _ends_at(raw, at, size, b"RIFF", form=b"AVI ")


def flash(raw: io.BufferedIOBase, size: int) -> Extent:
    """The extent of a Flash video: tags that state their sizes, each with its size behind it once more."""
    raw.seek(5)
    at = int.from_bytes(raw.read(4)) + 4
    for _ in range(_MOST):
        raw.seek(at)
        head = raw.read(11)
        if len(head) < 11 or head[0] & 0x1F not in (8, 9, 18) or any(head[8:]):
            break
        following = at + 11 + int.from_bytes(head[1:4]) + 4
        if following - 4 > size:
            return _ends_at(raw, following, size, _FLASH, at)
        at = min(following, size)
    else:
        return Extent()
    return _ends_at(raw, at, size, _FLASH)


_FLASH: Final = b"FLV\1"


def program_stream(raw: io.BufferedIOBase, size: int) -> Extent:
    """The extent of a program stream of MPEG (ISO/IEC 13818-1, 2.5.3): packs of packets that state their sizes."""
    at = 0
    for _ in range(_MOST):
        raw.seek(at)
        head = raw.read(14)
        length = _packet(head)
        if not length:
            # Players look for the next pack behind what is none.
            further = find(raw, _PACK, at, size)
            if further < 0:
                break
            at, length = further, 0
        elif at + length > size and head[3] != _PADDING:
            return _ends_at(raw, at + length, size, _PACK, at)
        at = min(at + length, size)
        if at >= size:
            break
    else:
        return Extent()
    return _ends_at(raw, at, size, _PACK)


_PACK: Final = b"\0\0\1\xba"
_PADDING: Final = 0xBE


def _packet(head: bytes) -> int:
    """Bytes of a pack's header, of a packet or of the end; 0 if it is none."""
    if len(head) < 4 or head[:3] != b"\0\0\1" or head[3] < 0xB9:
        return 0
    if head[3] == 0xB9:
        return 4
    if head[3] > 0xBA:
        return 6 + int.from_bytes(head[4:6])
    # Of MPEG-1 and MPEG-2.
    return 12 if head[4:5] and head[4] >> 4 == 2 else 14 + (head[13] & 7 if len(head) == 14 else 0)


def real_media(raw: io.BufferedIOBase, size: int) -> Extent:
    """The extent of a RealMedia file: chunks that state their sizes; writers count some bytes of DATA too many."""
    at, seen = 0, False
    for _ in range(_MOST):
        raw.seek(at)
        head = raw.read(8)
        if len(head) < 8 or (at and head[:4] == _REAL) or head[:4] not in _REAL_CHUNKS:
            break
        length = int.from_bytes(head[4:])
        if length < 8:
            return Extent()
        if head[:4] == b"DATA" and at + length > size:
            return Extent() if at + length - size < NOTED_BYTES else _ends_at(raw, at + length, size, _REAL)
        at, seen = at + length, seen or head[:4] == b"DATA"
    else:
        return Extent()
    near = find(raw, _REAL, max(1, at - _REAL_SLACK), min(size, at + _REAL_SLACK)) if seen else -1
    if near > 0:
        return Extent(parts=((0, near),), next_at=near)
    return _ends_at(raw, at, size, _REAL) if seen and at < size else Extent()


_REAL: Final = b".RMF"
_REAL_CHUNKS: Final = (_REAL, b"PROP", b"MDPR", b"CONT", b"DATA", b"INDX", b"RMMD", b"RMJE", b"RJMD")
_REAL_SLACK: Final = 16


def direct_stream(raw: io.BufferedIOBase, size: int) -> Extent:
    """The extent of a DSF file (Sony, 2005): its third chunk is the sound, and a tag follows."""
    raw.seek(0)
    head = raw.read(92)
    if len(head) < 92 or head[28:32] != b"fmt " or head[80:84] != b"data":
        return Extent()
    (length,) = struct.unpack("<Q", head[84:92])
    return _ends_at(raw, 80 + length, size, b"DSD ")


def monkeys_audio(raw: io.BufferedIOBase, size: int) -> Extent:
    """The extent of a Monkey's Audio file since version 3.98: its descriptor has the bytes of each of its parts."""
    raw.seek(0)
    head = raw.read(36)
    if len(head) < 36 or struct.unpack("<H", head[4:6])[0] < 3980:
        return Extent()
    descriptor, header, table, before, frames, high, behind = struct.unpack("<7I", head[8:36])
    end = descriptor + header + table + before + (frames | high << 32) + behind
    return _ends_at(raw, end, size, b"MAC ")
