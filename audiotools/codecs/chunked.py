"""Find the end of the sound in an AIFF, CAF, AU, Sony Wave64 or NIST SPHERE file."""

from __future__ import annotations

import io
import struct
from typing import Final, NamedTuple

from tonemill.audiotools.codecs.extent import (
    FORMS,
    MOST_CHUNKS,
    UNKNOWN,
    Extent,
    can_be_sound,
    chunks,
    chunks_behind,
    is_known_end,
)
from tonemill.audiotools.codecs.spliced import Part

WAVE64_TAIL: Final = bytes.fromhex("f3acd3118cd100c04f8edb8a")
"""Bytes 4 to 16 of every chunk's name in a Wave64 file but the first."""

_AU_BITS: Final = {1: 8, 2: 8, 3: 16, 4: 24, 5: 32, 6: 32, 7: 64, 27: 8}
"""Bits per sample by the encoding of Sun's header; other codecs have none of their own."""


_FLOATS: Final = {b"fl32": ">f4", b"FL32": ">f4", b"fl64": ">f8", b"FL64": ">f8"}
"""Kinds of floats by the name of the codec in an AIFF-C file."""

_SECOND: Final = "it has two chunks of sound, and this kind of file has one"
_BEHIND: Final = (
    "there is sound after the length that its header states, and this kind of file has no way to state more"
)


def aiff(raw: io.BufferedIOBase, size: int) -> Extent:
    """The extent of an AIFF or AIFF-C file; the sound's chunk begins with 8 bytes of its own."""
    common, frames_at, frame_bytes = b"", 0, 0
    sound: tuple[int, int] | None = None
    for name, at, length in chunks(raw, ">4sI"):
        if name == b"COMM":
            raw.seek(at)
            common, frames_at = raw.read(22), at + 2
            if len(common) >= 8:
                channels, _, bits = struct.unpack(">hIh", common[:8])
                is_plain = length < 22 or common[18:22] in (
                    b"NONE",
                    b"sowt",
                    b"twos",
                    b"fl32",
                    b"FL32",
                    b"fl64",
                    b"FL64",
                )
                if length >= 22 and common[18:22].lower() in (b"ulaw", b"alaw"):
                    # The depth there is that of what they were made of.
                    is_plain, bits = True, 8
                frame_bytes = channels * -(-bits // 8) if is_plain and channels > 0 else 0
        elif name == b"SSND":
            sound = at, length
            if common:
                break
    if sound is None:
        return Extent()
    at, length = sound
    start, announced = at + 8, max(0, length - 8)
    present = size - start
    if announced >= UNKNOWN and announced > present:
        return Extent(None, present, frame_bytes)
    if announced > present:
        return Extent(announced, present, frame_bytes)
    end = start + announced
    for place in sorted({end, end + announced % 2}, reverse=True):
        if is_known_end(raw, place, size):
            return Extent(announced, announced, frame_bytes)
        behind = chunks_behind(raw, place, size, ">4sI")
        if behind is not None:
            if any(name == b"SSND" for name, _, _ in behind):
                return Extent(refusal=_SECOND)
            next_at = next((at - 8 for name, at, _ in behind if name in FORMS), 0)
            return Extent(announced, announced, frame_bytes, ((0, next_at),) if next_at else (), next_at)
    floats = _FLOATS.get(common[18:22], "")
    if not can_be_sound(raw, end, size, floats):
        return Extent(announced, announced, frame_bytes, left_bytes=size - end)
    if size >= UNKNOWN or not frame_bytes:
        return Extent(announced, present, refusal=_BEHIND)
    patches = {
        4: struct.pack(">I", size - 8),
        frames_at: struct.pack(">I", present // frame_bytes),
        at - 4: struct.pack(">I", present + 8),
    }
    return Extent(announced, present, frame_bytes, patched(patches, size))


def patched(patches: dict[int, bytes], size: int) -> tuple[Part, ...]:
    """A file with other bytes at some places."""
    parts: list[Part] = []
    done = 0
    for place, data in sorted(patches.items()):
        parts += [(done, place), data]
        done = place + len(data)
    return (*parts, (done, size))


def caf(raw: io.BufferedIOBase, size: int) -> Extent:
    """The extent of a Core Audio file; the sound's chunk begins with 4 bytes of its own; length -1 is to the end."""
    at, frame_bytes, floats = 8, 0, ""
    for _ in range(MOST_CHUNKS):
        if at > size:
            break
        raw.seek(at)
        head = raw.read(12)
        if len(head) < 12:
            break
        name, length = struct.unpack(">4sq", head)
        if name == b"desc":
            # Bytes of a packet, and frames in it: 0 where they vary.
            codec, flags, packet, frames, bits = struct.unpack(">8x4sIII4xI", raw.read(32).ljust(32, b"\0"))
            frame_bytes = packet if frames == 1 else 0
            # Bit 0 of the flags is for floats, bit 1 for the little end first.
            floats = f"{'<' if flags & 2 else '>'}f{bits // 8}" if codec == b"lpcm" and flags & 1 else ""
        if name == b"data":
            start, announced = at + 16, length - 4
            present = size - start
            if announced > present:
                shorter = patched({at + 4: struct.pack(">q", present + 4)}, size)
                return Extent(
                    announced, present, frame_bytes, shorter, was_cut=not frame_bytes, is_useless=not frame_bytes
                )
            if length == -1 or (
                announced <= 0 < present and not _behind_caf(raw, at + 12 + max(0, length), size).are_chunks
            ):
                to_the_end = patched({at + 4: struct.pack(">q", present + 4)}, size)
                return Extent(None if length == -1 else 0, present, frame_bytes, to_the_end)
            announced = max(0, announced)
            end = start + announced
            # The format has no padding, but libsndfile writes some.
            padded = _behind_caf(raw, end + end % 2, size)
            behind = padded if padded.next_at else _behind_caf(raw, end, size)
            if behind.next_at:
                return Extent(announced, announced, frame_bytes, ((0, behind.next_at),), behind.next_at)
            if behind.has_sound:
                return Extent(refusal=_SECOND)
            if not frame_bytes:
                # Packets of varying size are found through a table, which does not list the bytes behind it.
                return _of_packets(raw, max(padded, behind, key=lambda one: one.ends_at), announced, size)
            if behind.are_chunks or is_known_end(raw, end, size):
                return Extent(announced, announced, frame_bytes)
            if not can_be_sound(raw, end, size, floats):
                return Extent(announced, announced, frame_bytes, left_bytes=size - end)
            longer = patched({at + 4: struct.pack(">q", present + 4)}, size)
            return Extent(announced, present, frame_bytes, longer)
        at += 12 + max(0, length)
    return Extent()


def _of_packets(raw: io.BufferedIOBase, behind: _Behind, announced: int, size: int) -> Extent:
    if behind.is_cut:
        return Extent(was_cut=True, is_useless=True)
    at = behind.ends_at
    if is_known_end(raw, at, size):
        return Extent(announced, announced)
    return Extent(announced, announced, parts=((0, at),), left_bytes=size - at)


class _Behind(NamedTuple):
    """The bytes behind the sound of a CAF file.

    Args:
        are_chunks: there are only chunks, or no bytes.
        has_sound: one of the chunks is a second chunk of sound.
        next_at: byte offset of another file; 0 if there is none.
        ends_at: byte offset behind the last whole chunk.
        is_cut: the table of packets is not whole.
    """

    are_chunks: bool
    has_sound: bool = False
    next_at: int = 0
    ends_at: int = 0
    is_cut: bool = False


def _behind_caf(raw: io.BufferedIOBase, at: int, size: int) -> _Behind:
    first = at
    for _ in range(MOST_CHUNKS):
        if at > size:
            break
        raw.seek(at)
        head = raw.read(12)
        if head.startswith(b"caff\0\1\0\0"):
            return _Behind(True, next_at=at)
        if len(head) < 12:
            break
        name, length = struct.unpack(">4sq", head)
        if not all(32 <= letter < 127 for letter in name) or length < 0:
            return _Behind(at > first and is_known_end(raw, at, size), ends_at=at)
        if at + 12 + length > size:
            return _Behind(name in _CAF_CHUNKS, ends_at=at, is_cut=name == b"pakt")
        if name == b"data":
            return _Behind(True, has_sound=True)
        at += 12 + length
    return _Behind(at > first or at >= size, ends_at=at)


_CAF_CHUNKS: Final = (b"free", b"info", b"pakt", b"strg", b"mark", b"regn", b"kuki", b"uuid", b"chan")


def au(raw: io.BufferedIOBase, size: int) -> Extent:
    """The extent of a file with Sun's header, which has no chunks: every byte behind its sound is sound."""
    raw.seek(0)
    head = raw.read(24)
    if len(head) < 24:
        return Extent()
    start, announced, encoding, _, channels = struct.unpack(">4xIIIII", head)
    present, frame_bytes = size - start, channels * _AU_BITS.get(encoding, 0) // 8
    if announced >= 0xFFFFF000 or (announced >= UNKNOWN and announced > present):
        return Extent(None, present, frame_bytes, patched({8: b"\xff" * 4}, size) if announced != 2**32 - 1 else ())
    if announced > present:
        return Extent(announced, present, frame_bytes)
    end = start + announced
    raw.seek(end)
    if announced and raw.read(4) == b".snd":
        return Extent(announced, announced, frame_bytes, ((0, end),), end)
    if is_known_end(raw, end, size):
        return Extent(announced, announced, frame_bytes)
    floats = {6: ">f4", 7: ">f8"}.get(encoding, "")
    if not can_be_sound(raw, end, size, floats):
        return Extent(announced, announced, frame_bytes, left_bytes=size - end)
    return Extent(announced, present, frame_bytes, patched({8: b"\xff" * 4}, size))


def wave64(raw: io.BufferedIOBase, size: int) -> Extent:
    """The extent of a Wave64 file: chunks of a 16-byte name, and a length that counts these 24 bytes too."""
    at, frame_bytes, tag, bits = 40, 0, 0, 0
    for _ in range(MOST_CHUNKS):
        if at > size:
            break
        raw.seek(at)
        head = raw.read(24)
        if len(head) < 24:
            break
        name, length = struct.unpack("<4s12xQ", head)
        if name == b"fmt ":
            tag, channels, bits = struct.unpack("<HH10xH", raw.read(16).ljust(16, b"\0"))
            frame_bytes = channels * -(-bits // 8) if tag in (1, 3, 0xFFFE) else 0
        if name == b"data":
            start, announced = at + 24, max(0, length - 24)
            present = size - start
            if announced > present:
                return Extent(announced, present, frame_bytes)
            end = start + announced
            following = end + -announced % 8
            raw.seek(following)
            behind = raw.read(16)
            if behind[:4] == b"riff" and announced:
                return Extent(announced, announced, frame_bytes, ((0, following),), following)
            if behind[4:] == WAVE64_TAIL and behind[:4] == b"data":
                return Extent(refusal=_SECOND)
            if behind[4:] == WAVE64_TAIL or size - end < 8:
                return Extent(announced, announced, frame_bytes)
            if is_known_end(raw, end, size):
                # libsndfile takes all of it for sound.
                return Extent(announced, announced, frame_bytes, ((0, end),))
            floats = f"<f{bits // 8}" if tag == 3 else ""
            if not can_be_sound(raw, end, size, floats):
                return Extent(announced, announced, frame_bytes, ((0, end),), left_bytes=size - end)
            patches = {16: struct.pack("<Q", size), at + 16: struct.pack("<Q", present + 24)}
            return Extent(announced, present, frame_bytes, patched(patches, size))
        at += max(24, length + -length % 8)
    return Extent()


def sphere(raw: io.BufferedIOBase, size: int) -> Extent:
    """The extent of a NIST SPHERE file, whose header is text with the number of samples."""
    raw.seek(0)
    lines = raw.read(1024).split(b"\n")
    fields = {line.split(b" ", 2)[0]: line.split(b" ", 2)[2] for line in lines if line.count(b" ") >= 2}
    try:
        start = int(lines[1])
        count = int(fields[b"sample_count"])
        frame_bytes = int(fields[b"channel_count"]) * int(fields[b"sample_n_bytes"])
    except (IndexError, KeyError, ValueError):
        return Extent()
    coding = fields.get(b"sample_coding", b"pcm")
    if b"," in coding:
        return Extent()  # compressed: bytes are no samples
    announced, present = count * frame_bytes, size - start
    if not announced or announced >= present:
        return Extent(announced or None, present, frame_bytes)
    end = start + announced
    raw.seek(end)
    if raw.read(8) == b"NIST_1A\n":
        return Extent(announced, announced, frame_bytes, ((0, end),), end)
    if is_known_end(raw, end, size):
        # libsndfile takes all of it for sound.
        return Extent(announced, announced, frame_bytes, ((0, end),))
    if not can_be_sound(raw, end, size):
        return Extent(announced, announced, frame_bytes, ((0, end),), left_bytes=size - end)
    return Extent(announced, present, frame_bytes)
