"""Clips for a page: their sound, their outline and spectrogram, and what is known of them."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from tonemill.audiotools.codecs.playable import playable
from tonemill.audiotools.errors import AudioError
from tonemill.audiotools.pictures.clips import ZOOM_MS, strongest_attack
from tonemill.audiotools.pictures.thumbnails import WIDTH, line_path, outline_path, spectrogram_image
from tonemill.audiotools.waveform import Flow, Waveform
from tonemill.pipelines.report.charts import plain

SILENCE_DB: Final = -80.0
MOST_BEATS: Final = 128


@dataclass(frozen=True)
class Line:
    """A beat: where it stands, from 0 to the width of an outline, and whether a bar begins."""

    at: float
    bar: bool


@dataclass(frozen=True)
class Side:
    """One role of a clip.

    Args:
        role: its name.
        sound: a `data:` URI that browsers play.
        outline: `d` of an SVG path.
        picture: a `data:` URI of a grey spectrogram.
    """

    role: str
    sound: str
    outline: str
    picture: str


@dataclass(frozen=True)
class Attack:
    """Dry and wet up close: paths, each scaled to its own peak, and a caption."""

    dry: str
    wet: str
    note: str


@dataclass(frozen=True)
class Card:
    """A clip as the page shows it.

    Args:
        title: its source.
        tags: short words: the label, why it was chosen.
        alerts: what may be wrong: `silent`, `12 samples clipped`.
        notes: what is known of it, name and value.
        seconds: of what is played.
        peak_db: of what is played, or None for silence.
        sides: by role; none where it could not be read.
        beats: from its tempo.
        attack: of pairs.
        trouble: why it cannot be played.
        neighbour: the most similar real clip.
        distance: to the neighbour.
        distance_unit: of the distance.
    """

    title: str
    tags: tuple[str, ...] = ()
    alerts: tuple[str, ...] = ()
    notes: tuple[tuple[str, str], ...] = ()
    seconds: float = 0.0
    peak_db: float | None = None
    sides: tuple[Side, ...] = ()
    beats: tuple[Line, ...] = ()
    attack: Attack | None = None
    trouble: str = ""
    neighbour: Card | None = None
    distance: float | None = None
    distance_unit: str = "dB"


@dataclass
class Budget:
    """How much sound and how many pictures the page may still hold, in bytes as they stand in the page."""

    left: float
    used: float = 0.0

    def take(self, card: Card) -> bool:
        """Whether a card still fits; then its room is taken."""
        size = sum(len(side.sound) + len(side.outline) + len(side.picture) for side in card.sides)
        if size > self.left:
            return False
        self.left -= size
        self.used += size
        return True


def read_start(sounds: Mapping[str, Flow], seconds: float) -> dict[str, Waveform]:
    """The first seconds of each role, without reading the rest.

    Raises:
        AudioError: they cannot be read.
    """
    return {role: _start(sound, round(seconds * sound.sample_rate)) for role, sound in sounds.items()}


def _start(sound: Flow, frames: int) -> Waveform:
    parts: list[Any] = []
    got = 0
    for block in sound.blocks():
        parts.append(block[:, : frames - got])
        got += parts[-1].shape[1]
        if got >= frames:
            break
    samples = np.concatenate(parts, axis=1) if parts else np.zeros((sound.channels, 0), np.float32)
    return Waveform(np.ascontiguousarray(samples, np.float32), sound.sample_rate)


def card_of(
    title: str,
    sounds: Mapping[str, Waveform],
    fields: Mapping[str, Any],
    *,
    tags: Iterable[str] = (),
    notes: Iterable[tuple[str, str]] = (),
    whole_seconds: float | None = None,
) -> Card:
    """Make a card of sounds in memory.

    Args:
        title: stands above.
        sounds: by role, with finite samples.
        fields: `tempo_bpm` and `beats_per_bar` draw beats from the clip's start; `clipped_samples` is shown.
        tags, notes: as in `Card`.
        whole_seconds: of the clip, where only its start is shown.

    Raises:
        AudioError: it holds no sound, or samples that are not finite.
    """
    encoded = {role: playable(clip) for role, clip in sounds.items()}
    peak = max((float(np.abs(clip.samples).max(initial=0)) for clip in sounds.values()), default=0.0)
    sides = tuple(
        Side(
            role,
            _data_uri(encoded[role].mime, encoded[role].data),
            # Roles share one scale, so that they can be compared.
            outline_path(clip.samples, peak or 1.0),
            _data_uri("image/webp", spectrogram_image(clip.samples, clip.sample_rate)),
        )
        for role, clip in sounds.items()
    )
    seconds = max((clip.frames / clip.sample_rate for clip in sounds.values()), default=0.0)
    peak_db = 20 * float(np.log10(peak)) if peak else None
    clipped = fields.get("clipped_samples")
    alerts = [f"{clipped:,} sample{'s' * (clipped != 1)} clipped"] if isinstance(clipped, int) and clipped else []
    if peak_db is None:
        alerts.append("silent")
    elif peak_db < SILENCE_DB:
        alerts.append("nearly silent")
    elif peak_db > 0:
        alerts.append("above full scale")
    marks = list(tags)
    if whole_seconds is not None and whole_seconds > seconds + 0.05:
        marks.append(f"first {plain(seconds)} of {plain(whole_seconds)} s")
    return Card(
        title,
        tuple(marks),
        tuple(alerts),
        tuple(notes),
        seconds,
        peak_db,
        sides,
        beats_of(fields, seconds),
        _attack_of(sounds),
    )


def beats_of(fields: Mapping[str, Any], seconds: float) -> tuple[Line, ...]:
    """Beats and bar lines of a clip that begins on a downbeat."""
    tempo, per_bar = fields.get("tempo_bpm"), fields.get("beats_per_bar") or 4
    if not isinstance(tempo, int | float) or not np.isfinite(tempo) or tempo <= 0 or not seconds:
        return ()
    count = round(seconds * tempo / 60)
    if not 1 <= count <= MOST_BEATS or not isinstance(per_bar, int | float) or per_bar < 1:
        return ()
    width = 60 / tempo / seconds * WIDTH
    return tuple(Line(round(beat * width, 1), beat % round(per_bar) == 0) for beat in range(count))


def _attack_of(sounds: Mapping[str, Waveform]) -> Attack | None:
    if set(sounds) != {"dry", "wet"}:
        return None
    dry, wet = sounds["dry"], sounds["wet"]
    if dry.sample_rate != wet.sample_rate or not dry.frames or dry.frames != wet.frames:
        return None
    middle, reach = strongest_attack(dry.samples, dry.sample_rate)
    parts = [one.samples.mean(axis=0)[middle - reach : middle + reach] for one in (dry, wet)]
    paths = [line_path(part, float(np.abs(part).max(initial=0.0))) for part in parts]
    note = f"{plain(2 * ZOOM_MS)} ms around {middle / dry.sample_rate:.3f} s, each side scaled to its own peak"
    return Attack(paths[0], paths[1], note)


def troubled(title: str, error: Exception, tags: Iterable[str] = (), notes: Iterable[tuple[str, str]] = ()) -> Card:
    """A card with the reason why a clip cannot be played."""
    what = f"{error.reason}: {error}" if isinstance(error, AudioError) else str(error)
    return Card(title, tuple(tags), (), tuple(notes), trouble=what)


def _data_uri(mime: str, data: bytes) -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"
