"""Find the end of the sound in files of frames alone: AAC (ADTS), AC-3, MPEG audio of layers I and II, and AMR.

Such a file has no header, so FFmpeg guesses its length from the bit rate of its beginning; here its frames are counted.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Final, NamedTuple

from tonemill.audiotools.codecs.extent import Extent, is_known_end

_HEAD_BYTES: Final = 10
_FEWEST: Final = 3
"""Frames one behind the other that no other kind of file begins with."""

MOST_FRAMES: Final = 8_000_000
"""Two days of AAC; a file of more is left to its decoder."""


class Frame(NamedTuple):
    """A frame of coded sound.

    Args:
        size: bytes, its header included.
        samples: per channel.
        rate: of these, in hertz.
    """

    size: int
    samples: int
    rate: int


Parser = Callable[[bytes], Frame | None]
"""Takes the first ten bytes of a frame; None if they are none."""


def adts(head: bytes) -> Frame | None:
    """A frame of AAC (ISO/IEC 13818-7, 6.2)."""
    if len(head) < 7 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0 or (head[2] >> 2 & 15) >= len(_ADTS_HZ):
        return None
    size = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    return Frame(size, 1024 * (1 + (head[6] & 3)), _ADTS_HZ[head[2] >> 2 & 15]) if size > 7 else None


_ADTS_HZ: Final = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)


def mpeg(head: bytes) -> Frame | None:
    """A frame of layer I or II (ISO/IEC 11172-3, 2.4.1.3, and 13818-3)."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    bit_rate, rate = head[2] >> 4, head[2] >> 2 & 3
    if version not in (2, 3) or layer not in (1, 2) or bit_rate in (0, 15) or rate == 3:
        return None
    hertz = (44100, 48000, 32000)[rate] // (1 if version == 3 else 2)
    bits_per_second, padding = 1000 * _KBPS[version, layer][bit_rate - 1], head[2] >> 1 & 1
    if layer == 1:
        return Frame(4 * (12 * bits_per_second // hertz + padding), 384, hertz)
    return Frame(144 * bits_per_second // hertz + padding, 1152, hertz)


_KBPS: Final = {
    (3, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (3, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


def ac3(head: bytes) -> Frame | None:
    """A frame of AC-3 or E-AC-3 (ETSI TS 102 366, 4.4.1 and E.1.3.1)."""
    if len(head) < 6 or head[:2] != b"\x0b\x77":
        return None
    code, stream = head[4] >> 6, head[5] >> 3
    if stream <= 10:
        size_code = head[4] & 63
        if code == 3 or size_code >= 2 * len(_AC3_KBPS):
            return None
        hertz, kbps = (48000, 44100, 32000)[code], _AC3_KBPS[size_code // 2]
        words = kbps * 96000 // hertz + (size_code & 1 if hertz == 44100 else 0)
        # Streams of 9 and 10 are at half and at a quarter of the rate, as FFmpeg reads them.
        return Frame(2 * words, 1536, hertz >> max(0, stream - 8))
    if stream > 16:
        return None
    size = 2 * (((head[2] & 7) << 8 | head[3]) + 1)
    second = head[4] >> 4 & 3
    hertz = (24000, 22050, 16000, 0)[second] if code == 3 else (48000, 44100, 32000)[code]
    blocks = 6 if code == 3 else (1, 2, 3, 6)[second]
    # A dependent stream adds channels to the frame before it.
    return Frame(size, 0 if head[2] >> 6 == 1 else 256 * blocks, hertz) if hertz else None


_AC3_KBPS: Final = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)


def _amr(sizes: tuple[int, ...], samples: int, rate: int) -> Parser:
    def frame(head: bytes) -> Frame | None:
        # Padding bits around the type are 0.
        if not head or head[0] & 0x83 or (kind := head[0] >> 3 & 15) in range(len(sizes), 14):
            return None
        return Frame(1 + (sizes[kind] if kind < len(sizes) else 0), samples, rate)

    return frame


AMR: Final = (
    (b"#!AMR\n", _amr((12, 13, 15, 17, 19, 20, 26, 31, 5), 160, 8000)),
    (b"#!AMR-WB\n", _amr((17, 23, 32, 36, 40, 46, 50, 58, 60, 5), 320, 16000)),
)
"""First bytes of a file, and its frames (RFC 4867, 5.1 and 5.3)."""


def extent(raw: io.BufferedIOBase, size: int) -> Extent | None:
    """The extent of a file of frames alone; None of any other file."""
    raw.seek(0)
    head = raw.read(_HEAD_BYTES)
    for magic, amr in AMR:
        if head.startswith(magic):
            return _walked(raw, len(magic), size, amr, magic)
    parser = parser_of(head)
    return _walked(raw, 0, size, parser, b"") if parser is not None and _begins(raw, size, parser) else None


def parser_of(head: bytes) -> Parser | None:
    """Of the kind of frames that some bytes begin with; None if they are no frame."""
    return next((parser for parser in (adts, ac3, mpeg) if parser(head) is not None), None)


def _begins(raw: io.BufferedIOBase, size: int, parser: Parser) -> bool:
    at = 0
    for _ in range(_FEWEST):
        raw.seek(at)
        frame = parser(raw.read(_HEAD_BYTES))
        if frame is None:
            return False
        at += frame.size
        if at >= size:
            break
    return True


def _walked(raw: io.BufferedIOBase, start: int, size: int, parser: Parser, magic: bytes) -> Extent:
    """The extent of frames from a place on; a file that ends within a frame was cut."""
    at, samples, rate = start, 0, 0
    for _ in range(MOST_FRAMES):
        raw.seek(at)
        head = raw.read(_HEAD_BYTES)
        # Of AMR, zeros would be frames.
        frame = parser(head) if any(head) else None
        if frame is None:
            break
        if at + frame.size > size:
            return Extent(parts=((0, at),), was_cut=True, counted=(samples, rate or frame.rate))
        at, samples, rate = at + frame.size, samples + frame.samples, frame.rate
    else:
        return Extent()
    counted = (samples, rate)
    if at >= size:
        return Extent(counted=counted)
    raw.seek(at)
    if magic and raw.read(len(magic)) == magic:
        return Extent(parts=((0, at),), next_at=at, counted=counted)
    # A byte alone is no other file.
    left = 0 if size - at < 2 or is_known_end(raw, at, size) else size - at
    return Extent(parts=((0, at),), left_bytes=left, counted=counted)
