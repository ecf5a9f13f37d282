"""Identify the format of a file by its first bytes, not its name, and the library that reads it."""

from __future__ import annotations

import io
from typing import Final, NamedTuple

from tonemill.audiotools.codecs import mpeg

HEAD_BYTES: Final = 512
"""Bytes at the start of a file that are compared with signatures."""


class Kind(NamedTuple):
    """The format of a file.

    Args:
        name: for messages.
        by_ffmpeg: libsndfile does not read it.
    """

    name: str
    by_ffmpeg: bool


_OGG_CODECS: Final = (
    (b"\x01vorbis", "Ogg Vorbis", False),
    (b"OpusHead", "Ogg Opus", False),
    (b"\x7fFLAC", "Ogg FLAC", True),
    (b"Speex   ", "Ogg Speex", True),
)

_MAGIC: Final = (
    # place, bytes, name, whether libsndfile does not read it
    (0, b".snd", "AU", False),
    (0, b"caff", "CAF", False),
    (0, b"fLaC", "FLAC", False),
    (0, b"NIST_1A", "NIST SPHERE", False),
    (0, b"riff\x2e\x91\xcf\x11", "Sony Wave64", False),
    (0, b"Creative Voice File", "VOC", False),
    (4, b"ftyp", "MP4 (as m4a, mov)", True),
    (4, b"moov", "MP4 (as m4a, mov)", True),
    (4, b"mdat", "MP4 (as m4a, mov)", True),
    (0, b"\x1a\x45\xdf\xa3", "Matroska or WebM", True),
    (0, bytes.fromhex("3026b2758e66cf11"), "ASF (as wma)", True),
    (0, b"wvpk", "WavPack", True),
    (0, b"MAC ", "Monkey's Audio (ape)", True),
    (0, b"TTA1", "True Audio (tta)", True),
    (0, b"MPCK", "Musepack", True),
    (0, b"MP+", "Musepack", True),
    (0, b"tBaK", "TAK", True),
    (0, b"ajkg", "Shorten", True),
    (0, b"#!AMR", "AMR", True),
    (0, b"DSD ", "DSF", True),
    (0, b"FRM8", "DSDIFF", True),
    (0, b".RMF", "RealMedia", True),
    (0, b".ra\xfd", "RealAudio", True),
    (0, b"FLV\x01", "Flash video", True),
    (0, b"\0\0\x01\xba", "MPEG video", True),
    (0, b"\x0b\x77", "AC-3", True),
    (0, b"ADIF", "AAC", True),
)


_WAV: Final = Kind("WAV", False)


def kind_of(raw: io.BufferedIOBase) -> Kind | None:
    """The kind of an encoded file, from its first bytes; None if they match no format that can be read."""
    raw.seek(0)
    head = raw.read(HEAD_BYTES)
    if behind_tag := mpeg.begin_of(head):
        raw.seek(behind_tag)
        head = raw.read(HEAD_BYTES)
    if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and head[8:12] == b"WAVE":
        return _WAV
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return Kind("AVI", True)
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC", b"8SVX", b"16SV"):
        return Kind("AIFF", False)
    if head[:4] == b"OggS":
        for magic, name, by_ffmpeg in _OGG_CODECS:
            if magic in head:
                return Kind(name, by_ffmpeg)
        return Kind("Ogg", False)
    for place, magic, name, by_ffmpeg in _MAGIC:
        if head[place : place + len(magic)] == magic:
            return Kind(name, by_ffmpeg)
    if len(head) > 7 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        # ADTS: the length of its frame, and then the next one.
        length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
        raw.seek(behind_tag + length)
        following = raw.read(2)
        if length > 7 and len(following) == 2 and following[0] == 0xFF and following[1] & 0xF6 == 0xF0:
            return Kind("AAC", True)
    return Kind("MP3", False) if mpeg.begins(raw) else None
