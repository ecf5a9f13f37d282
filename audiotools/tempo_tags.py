"""The tempo that a file itself declares: ACID chunks of WAV files, tags of MP3, MP4, FLAC and Ogg, and its name."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import BinaryIO, Final

NAMED: Final = re.compile(
    r"(?<![\d.])(\d{2,3}(?:[.,]\d{1,3})?)[ _-]?bpm|bpm[ _-]?(\d{2,3}(?:[.,]\d{1,3})?)(?![\d])", re.I
)
_LARGEST_CHUNK: Final = 1 << 16


def tempo_of_name(path: str) -> float | None:
    """Beats per minute in a file's name, as in `break_120bpm.wav` or `BPM 97.5 bass.flac`, else in its folder's."""
    for part in reversed(path.replace("\\", "/").split("/")):
        for found in NAMED.findall(part):
            tempo = _plausible(next(text for text in found if text))
            if tempo is not None:
                return tempo
    return None


def tempo_of_tags(path: Path) -> float | None:
    """Beats per minute in a file's tags; None where there is none, or none that can be read."""
    try:
        with path.open("rb") as file:
            tempo = _acid_tempo(file)
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
    while len(head := file.read(8)) == 8:
        size = struct.unpack("<I", head[4:])[0]
        if head[:4] == b"acid" and 24 <= size < _LARGEST_CHUNK:
            body = file.read(24)
            if len(body) < 24 or body[0] & 1:
                return None
            return _plausible(struct.unpack("<f", body[20:24])[0])
        if head[:4] == b"data" and size >= 0xFFFFFFF0:
            return None  # the true size stands elsewhere, and tags after four gigabytes are not worth the search
        file.seek(size + size % 2, 1)
    return None


def _tagged_tempo(path: Path) -> float | None:
    import mutagen

    try:
        tags = mutagen.File(path)
    except Exception:  # a damaged tag is no tag; whether the sound can be read is not asked here
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
