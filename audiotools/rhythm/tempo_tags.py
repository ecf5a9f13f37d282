"""The tempo that a file itself declares: ACID chunks of WAV files, tags of MP3, MP4, FLAC and Ogg, and its name."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import BinaryIO, Final, Literal

from tonemill.audiotools.codecs.extent import chunks

NAMED: Final = re.compile(
    r"(?<![\d.])(\d{2,3}(?:[.,]\d{1,3})?)[ _-]?bpm|bpm[ _-]?(\d{2,3}(?:[.,]\d{1,3})?)(?![\d])", re.I
)
_NUMBER: Final = re.compile(r"(?<![^_\-. ()\[\]])[1-9]\d{1,2}(?![^_\-. ()\[\]])")
_SLOWEST, _FASTEST = 60, 200
_LARGEST_CHUNK: Final = 1 << 16
_LARGEST_TAG: Final = 32 << 20
_ENCODINGS: Final = {0: "latin-1", 1: "utf-16", 2: "utf-16-be", 3: "utf-8"}
"""Encoding of text in ID3 tags, by its first byte."""


def tempo_of_name(path: str) -> tuple[float, float] | None:
    """Beats per minute in a file's name, as in `break_120bpm.wav` or `BPM 97.5 bass.flac`, else in its folder's.

    And how far that may be off, for it is rounded: half of its last digit.
    """
    for part in reversed(path.replace("\\", "/").split("/")):
        for found in NAMED.findall(part):
            text = next(text for text in found if text).replace(",", ".")
            tempo = _plausible(text)
            if tempo is not None:
                return tempo, 0.5 / 10 ** len(text.partition(".")[2])
    return None


def tempo_of_number(path: str, seconds: float, beats_per_bar: int) -> float | None:
    """Beats per minute where a name has one number that can be a tempo, as `SM_100_Am_Loop.wav`, and the length fits.

    Numbers count takes, too: this one has to give whole bars, as far as it is rounded.

    Args:
        path: of the file; its folders do not count.
        seconds: the length of the sound.
        beats_per_bar: of its bars.
    """
    numbers = [float(one) for one in _NUMBER.findall(path.replace("\\", "/").rpartition("/")[2]) if _plausible(one)]
    if len(numbers) != 1 or not _SLOWEST <= numbers[0] <= _FASTEST:
        return None
    bars = seconds * numbers[0] / 60 / beats_per_bar
    is_whole = abs(bars - round(bars)) <= min(0.1, 0.01 + bars * 0.5 / numbers[0])
    return numbers[0] if is_whole and round(bars) else None


def tempo_of_field(value: object) -> float | None:
    """Beats per minute of a field, which may be the text of a number; None for any other."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    return _plausible(str(value).strip())


def tempo_of_tags(path: Path) -> float | None:
    """Beats per minute in a file's tags; None where there is none, or none that can be read."""
    try:
        with path.open("rb") as file:
            tempo = _acid_tempo(file)
            if tempo is None:
                tempo = _id3_tempo(file)
    except OSError:
        return None
    return tempo if tempo is not None else _tagged_tempo(path)


def _acid_tempo(file: BinaryIO) -> float | None:
    """The tempo of a RIFF file's `acid` chunk: flags, root note, two unknowns, beats, meter, and the tempo as float32.

    One-shots (bit 0 of the flags) have a chunk too, and their tempo means nothing.
    """
    riff = file.read(12)
    if riff[:4] not in (b"RIFF", b"RF64") or riff[8:] != b"WAVE":
        return None
    for name, at, size in chunks(file, "<4sI"):
        if name == b"acid" and 24 <= size < _LARGEST_CHUNK:
            file.seek(at)
            body = file.read(24)
            if len(body) < 24 or body[0] & 1:
                return None
            return _plausible(struct.unpack("<f", body[20:24])[0])
        if name == b"data" and size >= 0xFFFFFFF0:
            return None  # the true size stands elsewhere, and tags after four gigabytes are not worth the search
    return None


def _id3_tempo(file: BinaryIO) -> float | None:
    """The TBPM frame of an ID3 tag at the start of a file, or in a chunk of a WAV or AIFF file (ID3v2.2 to 2.4).

    Read by hand: mutagen unpacks compressed frames, pictures too, and a megabyte of those can hold a gigabyte.
    """
    file.seek(0)
    form, start, length = file.read(12), 0, _LARGEST_TAG
    if form[:4] in (b"RIFF", b"RF64", b"FORM"):
        layout: Literal["<4sI", ">4sI"] = ">4sI" if form[:4] == b"FORM" else "<4sI"
        places = ((at, size) for name, at, size in chunks(file, layout) if name.lower() == b"id3 ")
        start, length = next(places, (0, 0))
    file.seek(start)
    tag = file.read(min(length, _LARGEST_TAG))
    if tag[:3] != b"ID3" or len(tag) < 10:
        return None
    # Lengths hold seven bits a byte; a frame of a tempo is shorter than 128 bytes, where both spellings agree.
    size = sum((byte & 0x7F) << shift for byte, shift in zip(tag[6:10], (21, 14, 7, 0), strict=True))
    frames = tag[10 : 10 + size]
    name, head, count = (b"TBP", 6, slice(3, 6)) if tag[3] == 2 else (b"TBPM", 10, slice(4, 8))
    at = frames.find(name)
    while at >= 0:
        header = frames[at : at + head]
        length = int.from_bytes(header[count], "big")
        # A frame with flags is compressed, encrypted or has inserted bytes.
        if 2 <= length < 128 and not any(header[8:10]):
            text = frames[at + head : at + head + length]
            encoding = _ENCODINGS.get(text[0] if text else 9)
            tempo = _plausible(text[1:].decode(encoding, "replace").strip("\0\ufeff ")) if encoding else None
            if tempo is not None:
                return tempo
        at = frames.find(name, at + 1)
    return None


def _tagged_tempo(path: Path) -> float | None:
    """Tags of the kinds that cannot be compressed."""
    import mutagen
    from mutagen import apev2, asf, flac, monkeysaudio, mp4, musepack, oggflac, oggopus, oggspeex, oggvorbis, wavpack

    kinds = [
        flac.FLAC,
        oggvorbis.OggVorbis,
        oggopus.OggOpus,
        oggflac.OggFLAC,
        oggspeex.OggSpeex,
        mp4.MP4,
        asf.ASF,
        wavpack.WavPack,
        musepack.Musepack,
        monkeysaudio.MonkeysAudio,
        apev2.APEv2File,
    ]
    try:
        tags = mutagen.File(path, kinds)
    except Exception:  # a damaged tag counts as none; the sound itself is not read here
        return None
    if tags is None or tags.tags is None:
        return None
    for name in ("TBPM", "bpm", "BPM", "tempo", "tmpo"):
        value = tags.tags.get(name) if hasattr(tags.tags, "get") else None
        if value:
            text = getattr(value, "text", value)
            return _plausible(text[0] if isinstance(text, list | tuple) else text)
    return None


def _plausible(value: object) -> float | None:
    try:
        tempo = float(str(value).replace(",", "."))
    except ValueError:
        return None
    return tempo if 20 <= tempo <= 400 else None
