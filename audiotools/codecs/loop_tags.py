"""Mark a file as a loop: `smpl` and `acid` chunks of WAV, and a BPM comment of FLAC, as DAWs read them.

Layouts: `smpl` as in "Multimedia Data Standards Update" (Microsoft and IBM, 1994, chapter "Sample chunk"); `acid`, 24
bytes, as libsndfile reads it (wav.c): flags u32, root note u16, two unknown fields (u16, f32), beats u32, meter
denominator and numerator u16, tempo f32.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, NamedTuple

from tonemill.audiotools.codecs.encoding import Encoded

MIDDLE_C: Final = 60
STRETCHES: Final = 0x04
"""Flag of an `acid` chunk: it follows the tempo of the project. Bit 0 would be a one-shot, bit 1 a root note."""

MOST_OFF: Final = 0.005
"""A sound whose length differs by more from its beats at its tempo is a part of that loop, and none itself."""


class Loop(NamedTuple):
    """The data of a loop that DAWs read.

    Args:
        tempo_bpm: beats per minute.
        beats: of the whole loop.
        beats_per_bar: as 4.
        samples: from its first to its last, one channel.
        sample_rate: in hertz.
    """

    tempo_bpm: float
    beats: int
    beats_per_bar: int
    samples: int
    sample_rate: int


def loop_of(fields: Mapping[str, Any], samples: int, sample_rate: int) -> Loop | None:
    """The loop that fields describe, as the step `loops` and models of loops write them; None where they describe none.

    Args:
        fields: with `tempo_bpm`, `beats`, and maybe `beats_per_bar`.
        samples: of the sound.
        sample_rate: in hertz.
    """
    tempo, counts = fields.get("tempo_bpm"), [fields.get("beats"), fields.get("beats_per_bar", 4)]
    if isinstance(tempo, bool) or not isinstance(tempo, int | float) or not 20 <= tempo <= 400:
        return None
    if not all(isinstance(one, int) and not isinstance(one, bool) and 1 <= one < 1 << 16 for one in counts):
        return None
    beats, per_bar = map(int, counts)
    wanted = beats * 60 / tempo * sample_rate
    if samples < 1 or not math.isclose(samples, wanted, rel_tol=MOST_OFF):
        return None
    return Loop(float(tempo), beats, per_bar, samples, sample_rate)


def smpl_chunk(loop: Loop) -> bytes:
    """One forward loop, without end, over all samples; the last one is counted in."""
    period_ns = round(1e9 / loop.sample_rate)
    head = struct.pack("<9I", 0, 0, period_ns, MIDDLE_C, 0, 0, 0, 1, 0)
    return _chunk(b"smpl", head + struct.pack("<6I", 0, 0, 0, loop.samples - 1, 0, 0))


def acid_chunk(loop: Loop) -> bytes:
    """Tempo, beats and meter."""
    body = struct.pack("<IHHfIHHf", STRETCHES, MIDDLE_C, 0, 0.0, loop.beats, 4, loop.beats_per_bar, loop.tempo_bpm)
    return _chunk(b"acid", body)


def with_loop(encoded: Encoded, container: str, loop: Loop) -> Encoded:
    """The file with tags for tempo and loop points; unchanged if its container has no such tags.

    Args:
        encoded: the file; it is changed in place and must not be used afterwards.
        container: `wav`, `flac` or another.
        loop: the loop in the file.
    """
    content = encoded.content
    if container == "wav":
        end = content.seek(0, os.SEEK_END)
        content.write(b"\0" * (end % 2) + smpl_chunk(loop) + acid_chunk(loop))
        size = content.seek(0, os.SEEK_END)
        content.seek(4)
        content.write(struct.pack("<I", size - 8))
    elif container == "flac":
        from mutagen.flac import FLAC

        content.seek(0)
        tags = FLAC(content)
        if tags.tags is None:
            tags.add_tags()
        tags["BPM"] = f"{loop.tempo_bpm:g}"
        content.seek(0)
        tags.save(content, padding=lambda _: 0)
    return replace(encoded, size=content.seek(0, os.SEEK_END))


def _chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body
