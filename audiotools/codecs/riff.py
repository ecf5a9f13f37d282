"""Find the end of the sound in a WAV file: RIFF, RIFX (big-endian), RF64 and BW64 (EBU Tech 3306)."""

from __future__ import annotations

import io
import struct
from dataclasses import replace
from typing import Final, Literal, NamedTuple

from tonemill.audiotools.codecs.extent import FORMS, UNKNOWN, Extent, can_be_sound, chunks, chunks_behind, is_known_end
from tonemill.audiotools.codecs.spliced import Part

_MOST_FORMAT: Final = 1 << 12
"""Largest format chunk, in bytes; codecs with tables use a few hundred."""

_WRITTEN_TO_A_PIPE: Final = 0xFFFFF000
"""Lengths from here up are placeholders, for files of every size."""

_PLAIN: Final = (1, 3, 6, 7, 0xFFFE)
"""Format tags of samples of one size: integers, floats, A-law, mu-law, and the tag of those with a longer header."""


_PER_BLOCK: Final = (2, 17, 49)
"""Format tags of ADPCM and GSM, whose format chunk states the samples of a block."""

_MP3_BLOCK: Final = {80: 2304, 85: 2304}
"""Samples of two frames of MPEG audio, by its format tags."""


class _Head(NamedTuple):
    """The chunks of a WAV before its sound.

    Args:
        format: contents of the format chunk.
        samples: per channel, as a chunk of its own states them; 0 without one.
        at: byte offset of the sound.
        length: that its chunk announces.
        long_length: that the chunk of long lengths announces; None without one.
    """

    format: bytes
    samples: int
    at: int
    length: int
    long_length: int | None


def extent(raw: io.BufferedIOBase, size: int) -> Extent:
    """The extent of the sound in a WAV file of either byte order.

    Args:
        raw: the file.
        size: of it, in bytes.
    """
    raw.seek(0)
    form = raw.read(4)
    layout: Literal["<4sI", ">4sI"] = ">4sI" if form == b"RIFX" else "<4sI"
    head = _head(raw, layout)
    is_padded = head is not None
    # Chunks of odd length are padded to an even one, which some writers leave out.
    head = head or _head(raw, layout, even=1)
    if head is None:
        return Extent()
    block = _block_frames(head.format, layout)
    found = _extent(raw, size, form, layout, head)
    if not is_padded and not found.parts:
        end = head.at + (found.present or head.length)
        found = replace(found, parts=_spliced(head, layout, ((head.at, min(size, end)),)))
    return replace(found, filled=(head.samples, block)) if head.samples and block else found


def _block_frames(format_chunk: bytes, layout: Literal["<4sI", ">4sI"]) -> int:
    """Samples per channel of a block of the codec; 0 where it has none, or none that is known."""
    (tag,) = struct.unpack(layout[0] + "H", format_chunk[:2].ljust(2, b"\0"))
    if tag in _PER_BLOCK and len(format_chunk) >= 20:
        return int(struct.unpack(layout[0] + "H", format_chunk[18:20])[0])
    return _MP3_BLOCK.get(tag, 0)


def _extent(raw: io.BufferedIOBase, size: int, form: bytes, layout: Literal["<4sI", ">4sI"], head: _Head) -> Extent:
    present, frame_bytes = size - head.at, _frame_bytes(head.format, layout)
    length: int | None = head.length
    if head.length >= UNKNOWN and head.long_length:
        length = head.long_length
    elif _is_unknown(raw, head, size, layout):
        length = None
    if length is None:
        # Of a length of 32 bits, decoders read no more than those hold.
        as_it_is = head.length >= UNKNOWN and present < 1 << 32 and form in (b"RIFF", b"RIFX")
        parts = () if as_it_is else _spliced(head, layout, ((head.at, size),))
        return _checked(Extent(0 if head.length == 0 else None, present, frame_bytes, parts), layout)
    if length > present:
        return Extent(length, present, frame_bytes, _renamed(form, size))
    if size - head.at - length <= length % 2:
        return Extent(length, length, frame_bytes, _renamed(form, size))
    stretches, next_at = _sound_behind(raw, head, length, size, layout)
    total = sum(end - start for start, end in stretches)
    if next_at:
        parts = ((0, next_at),) if total == length else _spliced(head, layout, stretches)
        return Extent(length, total, frame_bytes, parts, next_at)
    if total == length:
        return Extent(length, length, frame_bytes, _renamed(form, size))
    floats = _floats(head.format, layout)
    if len(stretches) == 1 and not can_be_sound(raw, head.at + length, size, floats):
        return Extent(length, length, frame_bytes, _renamed(form, size), left_bytes=size - head.at - length)
    return _checked(Extent(length, total, frame_bytes, _spliced(head, layout, stretches)), layout)


def _is_unknown(raw: io.BufferedIOBase, head: _Head, size: int, layout: Literal["<4sI", ">4sI"]) -> bool:
    if head.length == 0:
        return not is_known_end(raw, head.at, size) and chunks_behind(raw, head.at, size, layout) is None
    return head.length >= _WRITTEN_TO_A_PIPE or (head.length >= UNKNOWN and head.at + head.length > size)


def _head(raw: io.BufferedIOBase, layout: Literal["<4sI", ">4sI"], even: int = 2) -> _Head | None:
    found, samples, long_length = b"", 0, None
    for name, at, length in chunks(raw, layout, even):
        if name == b"ds64":
            # The true lengths, first the file's, then the sound's.
            raw.seek(at)
            lengths = raw.read(16)
            long_length = struct.unpack("<8xQ", lengths)[0] if len(lengths) == 16 else None
        elif name == b"fmt ":
            raw.seek(at)
            found = raw.read(min(length, _MOST_FORMAT))
        elif name == b"fact" and length >= 4:
            raw.seek(at)
            samples = int.from_bytes(raw.read(4), "little" if layout[0] == "<" else "big")
        elif name == b"data":
            return _Head(found, samples, at, length, long_length)
    return None


def _frame_bytes(format_chunk: bytes, layout: Literal["<4sI", ">4sI"]) -> int:
    if len(format_chunk) < 16:
        return 0
    tag, channels, _, _, _, bits = struct.unpack(layout[0] + "HHIIHH", format_chunk[:16])
    return channels * -(-bits // 8) if tag in _PLAIN else 0


def _floats(format_chunk: bytes, layout: Literal["<4sI", ">4sI"]) -> str:
    """The kind of floats that samples are, as numpy writes it; nothing where they are none."""
    if len(format_chunk) < 16:
        return ""
    (tag,) = struct.unpack(layout[0] + "H", format_chunk[:2])
    (bits,) = struct.unpack(layout[0] + "H", format_chunk[14:16])
    if tag == 0xFFFE and len(format_chunk) >= 26:
        # The first two bytes of the longer header's identifier are a tag.
        (tag,) = struct.unpack(layout[0] + "H", format_chunk[24:26])
    return f"{layout[0]}f{bits // 8}" if tag == 3 and bits in (32, 64) else ""


def _sound_behind(
    raw: io.BufferedIOBase, head: _Head, length: int, size: int, layout: Literal["<4sI", ">4sI"]
) -> tuple[tuple[tuple[int, int], ...], int]:
    """Stretches of the file that hold its sound; and where another file begins behind it, 0 where none does."""
    end = head.at + length
    first = (head.at, end)
    if wraps := (size - end) >> 32:
        wrapped = end + (wraps << 32)
        if size - wrapped < 8 or chunks_behind(raw, wrapped, size, layout) is not None:
            return ((head.at, wrapped),), 0
    for at in sorted({end, end + length % 2}, reverse=True):
        if is_known_end(raw, at, size):
            return (first,), 0
        behind = chunks_behind(raw, at, size, layout)
        if behind is not None:
            further = [(place, min(size, place + more)) for name, place, more in behind if name == b"data" and more]
            next_at = next((place - 8 for name, place, _ in behind if name in FORMS), 0)
            return (first, *further), next_at
    return ((head.at, size),), 0


def _spliced(head: _Head, layout: Literal["<4sI", ">4sI"], stretches: tuple[tuple[int, int], ...]) -> tuple[Part, ...]:
    """A header with the total length of the stretches, then the stretches."""
    length = sum(end - start for start, end in stretches)
    chunk = struct.pack(layout, b"fmt ", len(head.format)) + head.format + bytes(len(head.format) % 2)
    if length < UNKNOWN:
        form = b"RIFX" if layout[0] == ">" else b"RIFF"
        begin = struct.pack(layout, form, 4 + len(chunk) + 8 + length) + b"WAVE" + chunk
        return (begin + struct.pack(layout, b"data", length), *stretches)
    lengths = struct.pack("<4sIQQQI", b"ds64", 28, 72 + len(chunk) + length, length, 0, 0)
    begin = struct.pack("<4sI4s", b"RF64", 0xFFFFFFFF, b"WAVE") + lengths + chunk
    return (begin + struct.pack("<4sI", b"data", 0xFFFFFFFF), *stretches)


def _renamed(form: bytes, size: int) -> tuple[Part, ...]:
    """BW64 is RF64 with more chunks, under a name that libsndfile does not read."""
    return (b"RF64", (4, size)) if form == b"BW64" else ()


def _checked(found: Extent, layout: str) -> Extent:
    if layout[0] == ">" and found.present >= UNKNOWN:
        return Extent(
            found.announced,
            found.present,
            refusal="it is a RIFX file of more than 2 GiB, where the lengths in its header overflow",
        )
    return found
