"""Find the end of the sound in an Ogg, MP3 or MP4 file, also in files joined into one."""

from __future__ import annotations

import io
import struct
from dataclasses import replace
from typing import Final

from tonemill.audiotools.codecs import mpeg
from tonemill.audiotools.codecs.chunked import patched
from tonemill.audiotools.codecs.extent import MOST_CHUNKS, Extent, ended
from tonemill.audiotools.codecs.ogg_pages import MOST_PAGE, damage
from tonemill.audiotools.codecs.searching import find

_FIRST_PAGE: Final = b"OggS\0\2"


def ogg(raw: io.BufferedIOBase, size: int) -> Extent:
    """The extent of an Ogg file. It is cut unless its last page is whole and marked as the last (RFC 3533, section 6).

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
    following = find(raw, _FIRST_PAGE, at, size)
    while following >= 0:
        raw.seek(following)
        head = raw.read(27)
        # A first page has one packet, position 0 and number 0.
        if len(head) == 27 and head[6:14] == bytes(8) and head[18:22] == bytes(4):
            return Extent(parts=((0, following),), next_at=following, damage=damage(raw, following, False))
        following = find(raw, _FIRST_PAGE, following + 1, size)
    raw.seek(max(0, size - MOST_PAGE))
    tail = raw.read()
    at = tail.rfind(b"OggS")
    if at >= 0 and len(tail) >= at + 27 and tail[at + 5] & 4:
        segments = tail[at + 26]
        if at + 27 + segments + sum(tail[at + 27 : at + 27 + segments]) == len(tail):
            return Extent(damage=damage(raw, size, True))
    end, is_last = 0, False
    while end < size:
        raw.seek(end)
        head = raw.read(27)
        if head[:4] != b"OggS" or len(head) < 27:
            break
        end += 27 + head[26] + sum(raw.read(head[26]))
        is_last = bool(head[5] & 4)
    if not is_last or end > size:
        return Extent(was_cut=True, damage=damage(raw, size, False))
    return replace(ended(raw, end, size), damage=damage(raw, end, True))


def mp3(raw: io.BufferedIOBase, size: int) -> Extent:
    """The extent of a file of MPEG layer III, from the tag in its first frame and the bytes behind the tagged frames.

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
        return ended(raw, tagged.first + tagged.stream_bytes, size) if tagged.stream_bytes else Extent()
    longer = struct.pack(">I", counted.frames)
    return Extent(tagged.frames, counted.frames, 0, patched({tagged.frames_at: longer}, size))


def _next_tag(raw: io.BufferedIOBase, start: int, size: int) -> int:
    """Byte offset of the next frame with a tag, which is the first frame of another file; 0 if there is none."""
    for word in mpeg.TAGS:
        # The first frame of a file without a tag has none either.
        place = find(raw, word, start + 4, size)
        while place >= 0:
            for side in mpeg.SIDES:
                at = place - 4 - side
                raw.seek(max(0, at))
                frame = mpeg.frame_of(raw.read(4))
                if at > start and frame is not None and frame.side == side:
                    return at
            place = find(raw, word, place + 1, size)
    return 0


def mp4(raw: io.BufferedIOBase, size: int) -> Extent:
    """The extent of an MP4 file (ISO/IEC 14496-12, 4.2): it ends before a second file; cut if its index is missing."""
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
        if has_index and name not in _BOXES and not (length >= 8 and at + length <= size and _is_name(name)):
            return ended(raw, at, size)
        if length < 8:
            break  # to the end of the file, or no box
        at += length
        if at > size and name != b"ftyp":
            return Extent(was_cut=not has_index or name == b"moov", is_useless=True)
    return Extent()


_BOXES: Final = frozenset(
    (
        b"ftyp",
        b"styp",
        b"moov",
        b"moof",
        b"mdat",
        b"mfra",
        b"meta",
        b"uuid",
        b"free",
        b"skip",
        b"wide",
        b"udta",
        b"sidx",
    )
)
"""Boxes that stand side by side in a file, which may be cut there."""


def _is_name(name: bytes) -> bool:
    """Whether four bytes can name a box: letters, and the sign of copyright before those of QuickTime."""
    return all(32 <= letter < 127 or letter == 0xA9 for letter in name)
