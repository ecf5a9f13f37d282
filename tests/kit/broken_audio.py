"""Audio that is broken in every way we know, each with the reason it must be rejected for."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

RATE = 8000
FRAMES = 20_000
SOUND = (np.random.default_rng(1).standard_normal((FRAMES, 2)) * 0.1).clip(-1, 1)


@dataclass(frozen=True)
class Broken:
    """One broken file.

    Args:
        name: of the file.
        reason: one of `errors.REASONS`.
        make: puts it at a path.
    """

    name: str
    reason: str
    make: Callable[[Path], object]


def encoded(kind: str, subtype: str | None = None, sound: np.ndarray = SOUND) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, sound, RATE, format=kind, subtype=subtype)
    return buffer.getvalue()


def holding(name: str, reason: str, data: Callable[[], bytes]) -> Broken:
    return Broken(name, reason, lambda path: path.write_bytes(data()))


def cut(kind: str, share: float, reason: str = "truncated") -> Broken:
    """A file that ends too early."""

    def data() -> bytes:
        whole = encoded(kind)
        return whole[: int(len(whole) * share)]

    return holding(f"cut at {share}.{kind.lower()}", reason, data)


def patched(name: str, reason: str, at: int, data: bytes) -> Broken:
    """A WAV with other bytes at some place of its header (rate at 24, channels at 22)."""

    def patch() -> bytes:
        whole = bytearray(encoded("WAV"))
        whole[at : at + len(data)] = data
        return bytes(whole)

    return holding(name, reason, patch)


def with_value(name: str, kind: str, subtype: str, value: float) -> Broken:
    """A file of floats, one of which is no sound."""
    sound = SOUND.copy()
    sound[15_000, 1] = value
    return holding(name, "not_finite", lambda: encoded(kind, subtype, sound))


def damaged_flac() -> bytes:
    whole = bytearray(encoded("FLAC"))
    middle = len(whole) // 2
    whole[middle : middle + 400] = bytes(400)
    return bytes(whole)


def header_of_a_silent_flac() -> bytes:
    """A FLAC that announces no frames and has none: its stream information alone."""
    head = bytearray(encoded("FLAC")[:42])
    head[4] |= 0x80
    head[21] &= 0xF0
    head[22:26] = bytes(4)
    return bytes(head)


BROKEN = (
    holding("zero bytes.wav", "empty", bytes),
    holding("zero bytes.flac", "empty", bytes),
    *(
        holding(f"no frames.{kind.lower()}", "no_frames", lambda kind=kind: encoded(kind, sound=SOUND[:0]))
        for kind in ("WAV", "OGG", "AIFF")
    ),
    holding("no frames.flac", "no_frames", header_of_a_silent_flac),
    *(cut(kind, 0.5) for kind in ("WAV", "FLAC", "MP3", "OGG", "AIFF", "AU", "W64", "RF64")),
    *(cut(kind, 0.9) for kind in ("WAV", "FLAC", "OGG")),
    holding("header only.wav", "truncated", lambda: encoded("WAV")[:44]),
    holding("half a header.wav", "unreadable", lambda: encoded("WAV")[:30]),
    holding("damaged.flac", "damaged", damaged_flac),
    with_value("nan.wav", "WAV", "FLOAT", np.nan),
    with_value("inf.wav", "WAV", "FLOAT", np.inf),
    with_value("minus inf.wav", "WAV", "DOUBLE", -np.inf),
    with_value("nan.au", "AU", "FLOAT", np.nan),
    holding("a text.wav", "unreadable", lambda: b"I am no audio at all.\n" * 20),
    holding("a picture.wav", "unreadable", lambda: b"\x89PNG\r\n\x1a\n" + bytes(200)),
    patched("rate of 0.wav", "unreadable", 24, bytes(4)),
    patched("no channels.wav", "unreadable", 22, bytes(2)),
    patched("nine channels.wav", "unsupported", 0, encoded("WAV", sound=np.zeros((100, 9)))),
    holding("not ours.m4a", "unreadable", lambda: bytes(range(256)) * 5),
    Broken("link to nothing.wav", "missing", lambda path: path.symlink_to("nothing.wav")),
    Broken("link to itself.wav", "missing", lambda path: path.symlink_to(path.name)),
)

UNKNOWN_LENGTHS = {"ffmpeg": 0xFFFFFFFF, "sox": 0x7FFFF000}
"""What programs that stream a WAV write as its length; the sound then runs to the end."""


def streamed_wav(length: int) -> bytes:
    whole = bytearray(encoded("WAV"))
    at = whole.index(b"data") + 4
    whole[at : at + 4] = struct.pack("<I", length)
    return bytes(whole)
