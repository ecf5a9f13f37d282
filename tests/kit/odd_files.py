"""One sound in every container, to be cut, joined, and given lengths that are wrong."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
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


@dataclass(frozen=True)
class Packed:
    """One kind of file that FFmpeg reads.

    Args:
        suffix: of its name.
        codec: FFmpeg's name of it.
        form: FFmpeg's name of the container.
        rate: of its sound, in hertz.
    """

    suffix: str
    codec: str
    form: str
    rate: int = 48000

    def data(self, folder: Path, sound: np.ndarray | None = None) -> bytes:
        """A healthy file with some samples (time,), or a second of a tone in noise; written in a folder."""
        av = pytest.importorskip("av")
        try:
            av.Codec(self.codec, "w")
        except av.error.FFmpegError:
            pytest.skip(f"this FFmpeg has no {self.codec}")
        if sound is None:
            noise = np.random.default_rng(3).standard_normal(self.rate)
            sound = 0.25 * np.sin(np.arange(self.rate) / 20) + 0.02 * noise
        samples = np.round(32767 * sound).astype(np.int16)[None]
        path = folder / f"packed.{self.suffix}"
        with av.open(str(path), "w", format=self.form) as container:
            stream = container.add_stream(self.codec, rate=self.rate, layout="mono")
            if self.codec in ("wmav2", "mp2", "ac3", "eac3", "aac"):
                stream.bit_rate = 128_000
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = self.rate, 0, Fraction(1, self.rate)
            form = stream.codec_context.format or stream.codec_context.codec.audio_formats[0]
            stream.format = form.name
            fifo = av.AudioFifo()
            for one in av.AudioResampler(format=form.name, layout="mono", rate=self.rate).resample(frame):
                fifo.write(one)
            size = {"flac": 4608}.get(self.codec, stream.codec_context.frame_size) or 4096
            while (one := fifo.read(size, partial=True)) is not None:
                for packet in stream.encode(one):
                    container.mux(packet)
            for packet in stream.encode(None):
                container.mux(packet)
        return path.read_bytes()


PACKED = [
    Packed("m4a", "aac", "ipod"),
    Packed("mov", "pcm_s24le", "mov"),
    Packed("webm", "libopus", "webm"),
    Packed("mka", "flac", "matroska"),
    Packed("caf", "alac", "caf"),
    Packed("tta", "tta", "tta"),
    Packed("wv", "wavpack", "wv"),
    Packed("wma", "wmav2", "asf"),
    Packed("avi", "pcm_s16le", "avi"),
    Packed("flv", "aac", "flv", 44100),
    Packed("mpg", "mp2", "mpeg"),
    Packed("ra", "ac3", "rm"),
    Packed("aac", "aac", "adts"),
    Packed("mp2", "mp2", "mp2"),
    Packed("ac3", "ac3", "ac3"),
    Packed("eac3", "eac3", "eac3"),
    Packed("amr", "libopencore_amrnb", "amr", 8000),
]
