"""MPEG audio without a tag that tells its length: count its frames, and write the tag that is missing.

Decoders guess the length of such a file from its size and the bit rate of its first frame, and stop there. Where the
bit rate varies, that loses sound without a word. Headers as in ISO/IEC 11172-3, 2.4.1.3 and 13818-3; the tag is Xing's.
"""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path
from typing import Final, NamedTuple

_KBPS: Final = {
    3: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""Bit rates of layer III by index: of MPEG-1 (3), and of MPEG-2 and 2.5."""

_RATES: Final = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}

_LAYER_III: Final = 1
_TAGS: Final = (b"Xing", b"Info")
_SEARCHED: Final = 1 << 16
"""Bytes after a tag of ID3 in which the first frame must begin."""


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
    """What a frame's first four bytes say; None where they are no header of layer III with a bit rate of its own."""
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


def with_length(source: Path | bytes, guessed: int, slack: int) -> Prefixed | None:
    """A file with a tag that tells its length, if it has none and was guessed wrong.

    Args:
        source: a file of layer III, or its bytes.
        guessed: samples per channel that a decoder expects.
        slack: how far that may be off.
    """
    raw: io.BufferedIOBase = io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")
    stream = untagged(raw)
    if stream is not None and abs(stream.samples - guessed) > slack:
        return Prefixed(tag_for(stream), raw, stream.first)
    raw.close()
    return None


def untagged(raw: io.BufferedIOBase) -> Untagged | None:
    """Count the frames of a stream that has no tag with its length; None for any other file."""
    raw.seek(0)
    start = raw.read(10)
    after_id3 = 0
    if start[:3] == b"ID3" and len(start) == 10:
        # Its size has seven bits a byte.
        after_id3 = 10 + sum((byte & 0x7F) << 7 * place for place, byte in enumerate(reversed(start[6:10])))
    raw.seek(after_id3)
    searched = raw.read(_SEARCHED)
    found = _first_frame(searched)
    if found is None:
        return None
    offset, frame = found
    # The first frame is a tag's, if it is one; VBRI lies at a fixed place.
    inside = searched[offset + 4 : offset + frame.size]
    if inside[frame.side : frame.side + 4] in _TAGS or inside[32:36] == b"VBRI":
        return None
    first = after_id3 + offset
    frames = samples = 0
    raw.seek(first)
    data = raw.read()
    place = 0
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
    return Untagged(first, searched[offset : offset + 4], frames, samples)


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
    """A frame of silence with a tag that tells the length, to be put in front of the first."""
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


class Prefixed(io.RawIOBase):
    """A file to read, with other bytes in place of its first ones.

    Args:
        prefix: what it begins with.
        raw: what follows.
        first: from which place on.
    """

    def __init__(self, prefix: bytes, raw: io.BufferedIOBase, first: int) -> None:
        self._prefix, self._raw, self._first = prefix, raw, first
        self._size = len(prefix) + raw.seek(0, os.SEEK_END) - first
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        # A damaged header may send a decoder anywhere: it stays where it is, and is told so.
        if 0 <= place < 1 << 62:
            self._place = place
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]  # the buffer protocol has no type before 3.12
        view = memoryview(buffer).cast("B")
        data = self._prefix[self._place : self._place + len(view)]
        if len(data) < len(view):
            self._raw.seek(self._first + max(0, self._place - len(self._prefix)))
            data += self._raw.read(len(view) - len(data))
        view[: len(data)] = data
        self._place += len(data)
        return len(data)

    def close(self) -> None:
        self._raw.close()
        super().close()
