"""One sound in every container, to be cut, joined, and given lengths that are wrong."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import soundfile

RATE = 16000
FRAMES = 64_000
SOUND = (
    0.4 * np.sin(2 * np.pi * 330 * np.arange(FRAMES) / RATE) + 0.1 * np.random.default_rng(3).standard_normal(FRAMES)
).clip(-0.9, 0.9)


@dataclass(frozen=True)
class Container:
    """One kind of file.

    Args:
        suffix: of its name.
        form: libsndfile's name of the container.
        subtype: libsndfile's name of the sample format.
        length_at: where the header states the length; None where it does not, or not in one number.
        layout: of that number, as `struct` writes it.
        extra: what it counts beside the bytes of sound.
        unknown: what stands there where the length is not known; None where nothing may.
        endian: of the samples.
    """

    suffix: str
    form: str
    subtype: str
    length_at: Callable[[bytes], int] | None = None
    layout: str = "<I"
    extra: int = 0
    unknown: int | None = None
    endian: str = "FILE"

    @property
    def name(self) -> str:
        return f"{self.form}-{self.subtype}" + ("-big" if self.endian == "BIG" else "")

    def data(self, sound: np.ndarray = SOUND) -> bytes:
        """A healthy file."""
        buffer = io.BytesIO()
        soundfile.write(buffer, sound, RATE, format=self.form, subtype=self.subtype, endian=self.endian)
        return buffer.getvalue()

    def with_length(self, data: bytes, change: Callable[[int], int]) -> bytes:
        """The same file with another length in its header."""
        assert self.length_at is not None
        at, size = self.length_at(data), struct.calcsize(self.layout)
        (length,) = struct.unpack(self.layout, data[at : at + size])
        changed = struct.pack(self.layout, change(length - self.extra))
        return data[:at] + changed + data[at + size :]


def _behind(name: bytes, more: int = 0) -> Callable[[bytes], int]:
    return lambda data: data.index(name) + len(name) + more


WAV = {"length_at": _behind(b"data"), "unknown": 0xFFFFFFFF}

CONTAINERS = (
    Container("wav", "WAV", "PCM_16", **WAV),
    Container("wav", "WAV", "PCM_24", **WAV),
    Container("wav", "WAV", "FLOAT", **WAV),
    Container("wav", "WAV", "ULAW", **WAV),
    Container("wav", "WAV", "PCM_16", _behind(b"data"), ">I", unknown=0xFFFFFFFF, endian="BIG"),
    Container("wav", "WAVEX", "PCM_24", **WAV),
    Container("rf64", "RF64", "PCM_16", _behind(b"ds64", 12), "<Q"),
    Container("aiff", "AIFF", "PCM_16", _behind(b"SSND"), ">I", 8, 0xFFFFFFFF),
    Container("aifc", "AIFF", "FLOAT", _behind(b"SSND"), ">I", 8),
    Container("au", "AU", "PCM_16", lambda data: 8, ">I", unknown=0xFFFFFFFF),
    Container("au", "AU", "FLOAT", lambda data: 8, ">I", unknown=0xFFFFFFFF),
    Container("snd", "AU", "ULAW", lambda data: 8, ">I", unknown=0xFFFFFFFF),
    Container("caf", "CAF", "PCM_16", _behind(b"data"), ">q", 4, -1),
    Container("caf", "CAF", "ALAC_16"),
    Container("w64", "W64", "PCM_16", _behind(b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"), "<Q", 24),
    Container("sph", "NIST", "PCM_16"),
    Container("flac", "FLAC", "PCM_16"),
    Container("flac", "FLAC", "PCM_24"),
    Container("ogg", "OGG", "VORBIS"),
    Container("opus", "OGG", "OPUS"),
    Container("mp3", "MP3", "MPEG_LAYER_III"),
)
