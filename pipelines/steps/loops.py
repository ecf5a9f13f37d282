"""Cut whole bars on downbeats, at their own tempo or stretched to one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final

from tonemill.audiotools.errors import AudioError, Filtered, UsageError
from tonemill.pipelines.recipes.step import Estimate, Step

if TYPE_CHECKING:
    import numpy as np

    from tonemill.audiotools.rhythm.beat_grid import Beats
    from tonemill.audiotools.rhythm.onsets import Onsets
    from tonemill.audiotools.waveform import Waveform
    from tonemill.pipelines.recipes.example import Example, Refusal

ORIGINS = ("field", "tag", "name", "sound")
CONFIDENCE = {"bpm": 1.0, "field": 0.95, "tag": 0.9, "name": 0.9}
"""Confidence, from 0 to 1, in a tempo from each origin other than the sound."""
ASSUMED_BPM = 120.0


BPM_FIELDS: Final = ("tempo_bpm", "bpm", "tempo")
"""Fields in which a tempo is looked for, in this order, if none is named."""


@dataclass(frozen=True)
class Loops(Step):
    version: ClassVar[int] = 4

    bars: Annotated[int, "Bars in a clip."] = 1
    bpm: Annotated[str, "Tempo in beats per minute; auto asks field, tags, name and sound, in this order."] = "auto"
    beats_per_bar: Annotated[int, "Beats in a bar: 4 for most music, 3 for a waltz."] = 4
    target_bpm: Annotated[float | None, "Stretch to this tempo at constant pitch; default: keep each clip's."] = None
    max_stretch: Annotated[float, "Refuse to play faster or slower than this many times."] = 1.5
    bpm_field: Annotated[str, "Metadata field that holds the tempo; if not given also bpm and tempo."] = "tempo_bpm"
    tempo_from: Annotated[tuple[str, ...], "With --bpm auto: where a tempo is looked for, in this order."] = ORIGINS
    min_confidence: Annotated[float, "Refuse a source whose tempo is less certain, from 0 to 1."] = 0.25
    min_loopability: Annotated[
        float, "Leave out clips whose end leads worse into their start, from 0 to 1, and clips without beats."
    ] = 0.0
    seam_ms: Annotated[float, "Crossfade, with equal power, at the end of each clip."] = 0.0

    def __post_init__(self) -> None:
        for flag, value in (("--bars", self.bars), ("--beats-per-bar", self.beats_per_bar)):
            if value < 1:
                raise UsageError(f"{flag} is {value}; it must be 1 or more.")
        for flag, tempo in (("--bpm", self._typed_bpm()), ("--target-bpm", self.target_bpm)):
            if tempo is not None and not 20 <= tempo <= 400:
                raise UsageError(f"{flag} is {tempo:g}; it must be from 20 to 400.")
        if not 1 < self.max_stretch <= 4:
            raise UsageError(f"--max-stretch is {self.max_stretch}; it must be above 1 and at most 4.")
        for flag, share in (("--min-confidence", self.min_confidence), ("--min-loopability", self.min_loopability)):
            if not 0 <= share <= 1:
                raise UsageError(f"{flag} is {share}; it must be from 0 to 1.")
        if not 0 <= self.seam_ms <= 1000:
            raise UsageError(f"--seam-ms is {self.seam_ms}; it must be from 0 to 1000.")
        unknown = [name for name in self.tempo_from if name not in ORIGINS]
        if unknown or not self.tempo_from:
            raise UsageError(f"--tempo-from is {', '.join(unknown) or 'empty'}; it can be {', '.join(ORIGINS)}.")

    def apply(self, example: Example) -> Iterator[Example | Refusal]:
        from tonemill.pipelines.recipes.example import Refusal

        beats, origin = self._beats(example)
        about: dict[str, Any] = {
            "tempo_bpm": round(beats.tempo_bpm, 3),
            "tempo_from": origin,
            "tempo_confidence": round(beats.confidence, 3),
        }
        if beats.confidence < self.min_confidence:
            raise Filtered(
                "tempo",
                f"{_words(about)} is less certain than --min-confidence {self.min_confidence:g}; give the tempo "
                "with --bpm",
                **about,
            )
        bars = beats.bars(self.beats_per_bar, self.bars)
        if not len(bars):
            count = len(beats.times) - 1
            raise Filtered(
                "too_short",
                f"at {_words(about)} it holds {count} beats, and --bars {self.bars} needs "
                f"{self.bars * self.beats_per_bar}",
                **about,
            )
        rate = example.sample_rate
        for number, (first, last, clip) in enumerate(_cut(example, bars)):
            fields = {
                **about,
                "bar": number * self.bars + 1,
                "beats": self.bars * self.beats_per_bar,
                "beats_per_bar": self.beats_per_bar,
            }
            if not beats.exact:
                fields["tempo_bpm"] = round(fields["beats"] * 60 * rate / (last - first), 3)
            made = example.with_sounds(clip, start_seconds=example.start_seconds + first / rate, is_clip=True)
            if len(beats.tempo_candidates) > 1:
                made = made.with_fields({"tempo_candidates": [round(tempo, 3) for tempo in beats.tempo_candidates]})
            try:
                yield self._finished(made, fields)
            except Filtered as error:
                yield Refusal(made, error)

    def estimate(self, expected: Estimate) -> Estimate:
        beats = self.bars * self.beats_per_bar
        frames = round(beats * 60 / (self._typed_bpm() or ASSUMED_BPM) * expected.sample_rate)
        clips = expected.frames // max(1, frames)
        if self.target_bpm:
            frames = round(beats * 60 / self.target_bpm * expected.sample_rate)
        return expected._replace(clips=expected.clips * max(1, clips), frames=frames)

    def _typed_bpm(self) -> float | None:
        if self.bpm == "auto":
            return None
        try:
            return float(self.bpm)
        except ValueError as error:
            raise UsageError(f"--bpm is {self.bpm!r}; it must be auto or a number, as in --bpm 120.") from error

    def _beats(self, example: Example) -> tuple[Beats, str]:
        """(the beats, the origin of the tempo: a name of `CONFIDENCE`, "sound" or "beats")."""
        from tonemill.audiotools.rhythm.beats import find_beats
        from tonemill.audiotools.rhythm.known_tempo import with_tempo
        from tonemill.audiotools.rhythm.onsets import onsets

        found = _onsets(example, onsets)
        lengths = {one.frames for one in found.values()}
        if len(lengths) > 1:
            raise AudioError("roles", f"its roles have {sorted(lengths)} samples; `tonemill align` makes them equal")
        # Of a pair, the dry side has the clearer attacks.
        role = min(found)
        envelope = found[role]
        if not envelope.frames:
            raise AudioError("no_frames", "there is no sound to cut")
        tempo, rounding_bpm, origin = self._known_tempo(example, envelope.seconds)
        if tempo is None:
            found_beats = find_beats(envelope, self.beats_per_bar)
            return found_beats, "sound" if found_beats.exact else "beats"
        return with_tempo(envelope, tempo, self.beats_per_bar, CONFIDENCE[origin], rounding_bpm), origin

    def needs_fields(self) -> frozenset[str]:
        is_looked_for = self.bpm == "auto" and "field" in self.tempo_from and self.bpm_field != BPM_FIELDS[0]
        return frozenset({self.bpm_field}) if is_looked_for else frozenset()

    def _known_tempo(self, example: Example, seconds: float) -> tuple[float | None, float, str]:
        """(bpm, its rounding, origin) of the first in `tempo_from` that has a tempo; else (None, 0, "sound").

        Args:
            example: with its name and fields.
            seconds: its length, which a number in its name must fit.
        """
        from tonemill.audiotools.rhythm.tempo_tags import tempo_of_field, tempo_of_name, tempo_of_number, tempo_of_tags

        typed = self._typed_bpm()
        if typed is not None:
            return typed, 0.0, "bpm"
        for origin in self.tempo_from:
            tempo, rounding_bpm = None, 0.0
            if origin == "sound":
                break
            if origin == "field":
                names = BPM_FIELDS if self.bpm_field == BPM_FIELDS[0] else (self.bpm_field,)
                found = (tempo_of_field(example.fields.get(name)) for name in names)
                tempo = next((one for one in found if one is not None), None)
            elif origin == "tag":
                tempo = next((t for place in example.places.values() if (t := tempo_of_tags(place))), None)
            elif (named := tempo_of_name(example.path)) is not None:
                tempo, rounding_bpm = named
            elif (tempo := tempo_of_number(example.path, seconds, self.beats_per_bar)) is not None:
                rounding_bpm = 0.5
            if tempo is not None:
                return tempo, rounding_bpm, origin
        return None, 0.0, "sound"

    def _finished(self, made: Example, about: dict[str, Any]) -> Example:
        """Stretch and join a clip, and hold it to the limits.

        Raises:
            Filtered: stretch or seam: it is beyond one.
        """
        from tonemill.audiotools.editing.loop_seam import seam_of, with_seam

        fields, rate = dict(about), made.sample_rate
        clip = {role: one.whole().samples for role, one in made.sounds.items()}
        if self.target_bpm is not None:
            clip, fields = self._stretched(clip, fields, rate)
        if self.seam_ms:
            clip = {role: with_seam(one, rate, self.seam_ms) for role, one in clip.items()}
            fields["seam_ms"] = self.seam_ms
        seams = [seam for one in clip.values() if not (seam := seam_of(one, rate, about["beats"])).flat]
        if not seams:
            if self.min_loopability:
                raise Filtered("flat", "it has no beats, by which --min-loopability is measured", **about)
            return _with(made, clip).with_fields(fields)
        worst = min(seams, key=lambda seam: seam.loopability)
        score = round(worst.loopability, 4)
        if score < self.min_loopability:
            missing = (
                f" (its beats fit a clip {worst.missing_ms:+g} ms longer)" if worst.fit == worst.loopability else ""
            )
            message = f"its loopability is {score:g}{missing}, less than --min-loopability"
            raise Filtered("seam", f"{message} {self.min_loopability:g}", loopability=score, **about)
        return _with(made, clip).with_fields(
            {**fields, "loopability": score, "joint_percentile": round(worst.percentile, 4)}
        )

    def _stretched(
        self, clip: dict[str, np.ndarray], about: dict[str, Any], rate: int
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        from tonemill.audiotools.editing.stretching import stretched_loop

        assert self.target_bpm is not None
        ratio = self.target_bpm / about["tempo_bpm"]
        if not 1 / self.max_stretch <= ratio <= self.max_stretch:
            raise Filtered(
                "stretch",
                f"from {_words(about)} to {self.target_bpm:g} BPM it would play {ratio:.2f} times as fast; "
                f"--max-stretch is {self.max_stretch:g}",
                **about,
            )
        frames = round(about["beats"] * 60 / self.target_bpm * rate)
        fields = {
            "stretch_ratio": round(ratio, 6),
            "tempo_bpm_from": about["tempo_bpm"],
            "tempo_bpm": self.target_bpm,
        }
        return {role: stretched_loop(one, rate, frames) for role, one in clip.items()}, {**about, **fields}


def _onsets(example: Example, onsets: Any) -> dict[str, Onsets]:
    example.sample_rate  # noqa: B018  (roles of different rates are refused here)
    return {role: onsets(sound) for role, sound in example.sounds.items()}


def _with(example: Example, clip: dict[str, np.ndarray]) -> Example:
    from tonemill.audiotools.waveform import Waveform

    return example.with_sounds({role: Waveform(one, example.sample_rate) for role, one in clip.items()})


def _cut(example: Example, bars: Any) -> Iterator[tuple[int, int, dict[str, Waveform]]]:
    """Each span of seconds cut out of all roles, in one reading."""
    from tonemill.audiotools.editing.slicing import spans
    from tonemill.audiotools.waveform import Waveform

    rate = example.sample_rate
    edges = [(round(first * rate), round(last * rate)) for first, last in bars]
    cuts = [spans(sound.blocks(), edges) for sound in example.sounds.values()]
    for (first, last), *parts in zip(edges, *cuts, strict=True):
        yield first, last, {role: Waveform(part, rate) for role, part in zip(example.sounds, parts, strict=True)}


def _words(about: dict[str, Any]) -> str:
    return f"{about['tempo_bpm']:g} BPM (from {about['tempo_from']}, confidence {about['tempo_confidence']:.2f})"


STEP = Loops
