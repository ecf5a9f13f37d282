"""Count the frames of MPEG audio whose header has no length, and write the missing tag.

Decoders guess the length of such a file from its size and the bit rate of its first frame, and stop there. If the bit
rate varies, the rest of the sound is lost without a warning. Headers are those of ISO/IEC 11172-3, 2.4.1.3 and 13818-3;
the tag is Xing's.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Final, NamedTuple

from tonemill.audiotools.codecs.spliced import Part, Spliced, opened_raw

_KBPS: Final = {
    3: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""Bit rates of layer III by index: of MPEG-1 (3), and of MPEG-2 and 2.5."""

_RATES: Final = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}

_LAYER_III: Final = 1
TAGS: Final = (b"Xing", b"Info")
"""First bytes of a tag with the number of frames; it follows the side information of the first frame."""

SIDES: Final = (32, 17, 9)
"""Possible sizes of the side information, in bytes."""

_SEARCHED: Final = 1 << 16
"""Bytes after a tag of ID3 in which the first frame must begin."""


MOST_BEHIND: Final = 4096
"""Bytes behind the frames that a tag counts, in which no second file begins: most tags are shorter."""


class Frame(NamedTuple):
    """A frame of layer III.

    Args:
        size: bytes, its header included.
        samples: per channel.
        side: bytes of side information after the header.
    """

    size: int
    samples: int
    side: int


class Tag(NamedTuple):
    """A first frame that holds a tag with the length of the stream behind it.

    Args:
        first: byte offset of the frame.
        size: bytes of the frame.
        frames: number of frames that follow; 0 if the tag does not have it.
        frames_at: byte offset of that number.
        stream_bytes: bytes of all frames and this one; 0 if the tag does not have it.
    """

    first: int
    size: int
    frames: int
    frames_at: int
    stream_bytes: int


class Counted(NamedTuple):
    """Frames that follow each other.

    Args:
        frames: how many.
        samples: per channel, of all of them.
    """

    frames: int
    samples: int


class Untagged(NamedTuple):
    """A stream that does not tell its length.

    Args:
        first: where its first frame begins.
        header: of that frame, four bytes.
        frames: that follow each other from there.
        samples: per channel, of all of them.
    """

    first: int
    header: bytes
    frames: int
    samples: int


def frame_of(header: bytes) -> Frame | None:
    """Parse the first four bytes of a frame; None if they are no header of layer III with a bit rate."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, header[1] >> 1 & 3
    bit_rate, rate = header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or layer != _LAYER_III or bit_rate in (0, 15) or rate == 3:
        return None
    samples = 1152 if version == 3 else 576
    bits_per_second = 1000 * _KBPS[3 if version == 3 else 2][bit_rate]
    size = samples // 8 * bits_per_second // _RATES[version][rate] + (header[2] >> 1 & 1)
    mono = header[3] >> 6 == 3
    side = (17 if mono else 32) if version == 3 else (9 if mono else 17)
    return Frame(size, samples, side)


def with_length(source: Path | bytes, parts: tuple[Part, ...], guessed: int, slack: int) -> Spliced | None:
    """The file with a length tag in front; None if it has a tag, or if the decoder's guess was right.

    Args:
        source: a file of layer III, or its bytes.
        parts: of it that are read; none for all of it.
        guessed: samples per channel that a decoder expects.
        slack: largest error of that guess, in samples, that counts as right.
    """
    raw: io.BufferedIOBase = opened_raw(source)
    if parts:
        raw = Spliced(raw, parts)
    stream = untagged(raw)
    if stream is not None and abs(stream.samples - guessed) > slack:
        return Spliced(raw, (tag_for(stream), (stream.first, raw.seek(0, io.SEEK_END))))
    raw.close()
    return None


def begin_of(start: bytes) -> int:
    """Length in bytes of the ID3 tag at the start of a file; 0 if there is none.

    Args:
        start: of the file, 10 bytes.
    """
    if start[:3] != b"ID3" or len(start) < 10:
        return 0
    # Its size has seven bits a byte.
    return 10 + sum((byte & 0x7F) << 7 * place for place, byte in enumerate(reversed(start[6:10])))


def begins(raw: io.BufferedIOBase) -> bool:
    """Whether a file begins with frames of layer III, behind tags or not much else."""
    return _begun(raw) is not None


def begins_with_frames(data: bytes, count: int) -> bool:
    """Whether some bytes begin with so many frames of layer III, one behind the other."""
    place = 0
    for _ in range(count):
        frame = frame_of(data[place : place + 4])
        if frame is None:
            return False
        place += frame.size
    return True


def tag_of(raw: io.BufferedIOBase) -> Tag | None:
    """The tag of Xing's form that a file of layer III begins with; None without one."""
    found = _begun(raw)
    if found is None:
        return None
    first, frame, inside = found
    tag = inside[frame.side :]
    if tag[:4] not in TAGS or len(tag) < 16:
        return None
    flags, one, two = struct.unpack(">III", tag[4:16])
    # What bits 0 and 1 announce follows in this order, where it is there.
    frames = one if flags & 1 else 0
    stream_bytes = (two if flags & 1 else one) if flags & 2 else 0
    return Tag(first, frame.size, frames, first + 4 + frame.side + 8, stream_bytes)


def counted_from(raw: io.BufferedIOBase, first: int) -> Counted:
    """Count the frames from a place on."""
    frames = samples = place = 0
    raw.seek(first)
    data = raw.read()
    while True:
        one = frame_of(data[place : place + 4])
        if one is None:
            # Decoders look for the next frame behind what is none.
            further = _first_frame(data[place : place + _SEARCHED])
            if further is None:
                break
            place, one = place + further[0], further[1]
        if place + one.size > len(data):
            break
        place += one.size
        frames += 1
        samples += one.samples
    return Counted(frames, samples)


def untagged(raw: io.BufferedIOBase) -> Untagged | None:
    """Count the frames of a stream that has no tag with its length; None for any other file."""
    found = _begun(raw)
    if found is None:
        return None
    first, frame, inside = found
    # The first frame is a tag's, if it is one; VBRI stands at a fixed place.
    if inside[frame.side : frame.side + 4] in TAGS or inside[32:36] == b"VBRI":
        return None
    raw.seek(first)
    header = raw.read(4)
    counted = counted_from(raw, first)
    return Untagged(first, header, counted.frames, counted.samples)


def _begun(raw: io.BufferedIOBase) -> tuple[int, Frame, bytes] | None:
    """Place of the first frame, the frame, and its bytes behind its header."""
    raw.seek(0)
    after_id3 = begin_of(raw.read(10))
    raw.seek(after_id3)
    searched = raw.read(_SEARCHED)
    found = _first_frame(searched)
    if found is None:
        return None
    offset, frame = found
    return after_id3 + offset, frame, searched[offset + 4 : offset + frame.size]


def _first_frame(data: bytes) -> tuple[int, Frame] | None:
    """Place of the first header that another follows where it should."""
    place = data.find(0xFF)
    while place >= 0:
        frame = frame_of(data[place : place + 4])
        if frame is not None and frame_of(data[place + frame.size : place + frame.size + 4]) is not None:
            return place, frame
        place = data.find(0xFF, place + 1)
    return None


def tag_for(stream: Untagged) -> bytes:
    """The bytes of a silent frame whose tag holds the length of `stream`, to be put before its first frame."""
    one, two, three, four = stream.header
    for bit_rate in range(1, 15):
        # No checksum, no padding, and no more bytes than the tag needs.
        header = bytes([one, two | 1, bit_rate << 4 | three & 0x0C, four])
        frame = frame_of(header)
        assert frame is not None
        content = header + bytes(frame.side) + b"Info" + struct.pack(">II", 1, stream.frames)
        if frame.size >= len(content):
            return content.ljust(frame.size, b"\0")
    raise AssertionError("320 kbit/s hold every tag")
