"""The pages of an Ogg file (RFC 3533): their checksums, and whether one of its sound is lost."""

from __future__ import annotations

import io
import zlib
from typing import Final

from tonemill.audiotools.codecs.searching import find

MOST_PAGE: Final = 65_307
"""The most bytes of a page: 27 + 255 + 255 * 255."""

_CAPTURE: Final = b"OggS"
_HEAD: Final = 27
_SOUNDS: Final = (b"\x01vorbis", b"OpusHead", b"Speex   ", b"\x7fFLAC", b"fLaC")
"""First bytes of streams of sound."""

_NO_POSITION: Final = (bytes(8), b"\xff" * 8)
"""Positions of pages of headers, and of pages on which no packet ends."""

_REVERSED: Final = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def checksum(page: bytes | bytearray) -> int:
    """CRC-32 with polynomial 0x04c11db7, most significant bit first, from 0 (RFC 3533, section 6).

    That is zlib's, which takes the least significant bit first, of bytes whose bits are reversed.
    """
    from_zero = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(from_zero.to_bytes(4, "little").translate(_REVERSED), "big")


def damage(raw: io.BufferedIOBase, size: int, is_whole: bool) -> str:
    """What is wrong with the pages of sound in a file, in words; empty where nothing is.

    Decoders leave out a page with a wrong checksum and play on. Right behind its headers a recording of a radio goes on
    with any page.

    Args:
        raw: the file.
        size: of its Ogg stream, in bytes.
        is_whole: its last page was found, and is marked as the last.
    """
    last: dict[bytes, int] = {}
    has_sound: set[bytes] = set()
    at, flags, skipped = 0, 4, False
    while 0 <= at < size:
        page = _page(raw, at, size)
        if page is None:
            at, skipped = find(raw, _CAPTURE, at + 1, size), True
            continue
        serial, number = page[14:18], int.from_bytes(page[18:22], "little")
        if page[5] & 2 and page[_HEAD + page[26] :].startswith(_SOUNDS):
            last[serial] = number
        elif serial in last:
            if number != last[serial] + 1 and (skipped or serial in has_sound):
                return f"page {number} follows page {last[serial]} at byte {at}: the sound between them is lost"
            last[serial], flags = number, page[5]
            if page[6:14] not in _NO_POSITION:
                has_sound.add(serial)
        at, skipped = at + len(page), False
    return "its last page is damaged" if is_whole and skipped and last and not flags & 4 else ""


def _page(raw: io.BufferedIOBase, at: int, size: int) -> bytes | None:
    """The page at a place; None where there is none, or one that is cut or has a wrong checksum."""
    raw.seek(at)
    head = raw.read(_HEAD + 255)
    if head[:4] != _CAPTURE or len(head) <= _HEAD:
        return None
    length = _HEAD + head[26] + sum(head[_HEAD : _HEAD + head[26]])
    if at + length > size:
        return None
    page = (head + raw.read(max(0, length - len(head))))[:length]
    stated, zeroed = int.from_bytes(page[22:26], "little"), page[:22] + bytes(4) + page[26:]
    return page if len(page) == length and checksum(zeroed) == stated else None
