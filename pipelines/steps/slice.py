"""Cut audio into clips of one length, or at silences."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from tonemill.audiotools.errors import AudioError, Filtered, UsageError
from tonemill.pipelines.recipes.step import Estimate, Step

if TYPE_CHECKING:
    from tonemill.audiotools.arrays import Array
    from tonemill.audiotools.editing.slicing import Window
    from tonemill.audiotools.waveform import Waveform
    from tonemill.pipelines.recipes.example import Example, Refusal


@dataclass(frozen=True)
class Slice(Step):
    needs_sound: ClassVar[bool] = False
    needs_material: ClassVar[bool] = True
    gives_fields: ClassVar[tuple[str, ...] | None] = ("padded_samples",)

    seconds: Annotated[float | None, "Length of a clip, in seconds."] = None
    samples: Annotated[int | None, "Length of a clip, in samples, instead of --seconds."] = None
    hop_seconds: Annotated[float | None, "From one clip's start to the next; the clip's length if not given."] = None
    short: Annotated[Literal["pad", "drop", "keep"], "A source shorter than one clip; drop loses its sound."] = "drop"
    tail: Annotated[Literal["pad", "drop", "keep"], "The rest at the end of a longer source; drop loses it."] = "drop"

    at: Annotated[Literal["silence"] | None, "Cut out what is between silences instead, each as long as it is."] = None
    silence_db: Annotated[float, "Of --at: below this it is silent, in dB of the largest sample."] = -50.0
    silence_seconds: Annotated[float, "Of --at: so long a silence parts two clips."] = 0.5
    keep_ms: Annotated[float, "Of --at: so much silence is kept before and after."] = 10.0
    min_seconds: Annotated[float, "Of --at: what is shorter is left out."] = 0.1

    def __post_init__(self) -> None:
        if self.at is not None:
            self._check_silences()
            return
        if (self.seconds is None) == (self.samples is None):
            raise UsageError("slice needs one of --seconds and --samples, as in --samples 16384.")
        for flag, value in (
            ("--seconds", self.seconds),
            ("--samples", self.samples),
            ("--hop-seconds", self.hop_seconds),
        ):
            if value is not None and not 0 < value < float("inf"):
                raise UsageError(f"{flag} is {value}; it must be more than 0.")

    def _check_silences(self) -> None:
        if (self.seconds, self.samples, self.hop_seconds) != (None, None, None):
            raise UsageError(
                "slice --at silence cuts at pauses, so clips have any length: leave --seconds and --samples out."
            )
        if not -200 <= self.silence_db < 0:
            raise UsageError(f"--silence-db is {self.silence_db}; it must be from -200 to below 0.")
        if not 0 < self.silence_seconds < float("inf"):
            raise UsageError(f"--silence-seconds is {self.silence_seconds}; it must be more than 0.")
        if not 0 <= self.keep_ms <= 500 * self.silence_seconds:
            raise UsageError(f"--keep-ms is {self.keep_ms}; it must be from 0 to half of --silence-seconds.")
        if not 0 <= self.min_seconds < float("inf"):
            raise UsageError(f"--min-seconds is {self.min_seconds}; it must be 0 or more.")

    @property
    def none_fields(self) -> dict[str, Any]:
        return {"padded_samples": 0} if self.at is None and "pad" in (self.short, self.tail) else {}

    def to_json(self) -> dict[str, Any]:
        # Recipes of clips of one length are as they were before there were others.
        record = super().to_json()
        return record if self.at is not None else {name: one for name, one in record.items() if name not in _SILENCES}

    def apply(self, example: Example) -> Iterator[Example | Refusal]:
        yield from self._at_silences(example) if self.at is not None else self._of_one_length(example)

    def _at_silences(self, example: Example) -> Iterator[Example]:
        """A clip for each phrase; roles are cut at the same places, where all of them are silent."""
        from tonemill.audiotools.editing.levels import to_amplitude
        from tonemill.audiotools.editing.silence import ground, phrases
        from tonemill.audiotools.editing.slicing import spans
        from tonemill.audiotools.waveform import Waveform

        rate, sounds = example.sample_rate, list(example.sounds.values())
        if not sounds:
            raise AudioError("roles", f"it has {example.holds}, and no sound to look for silence in")
        grounds = [ground(sound, to_amplitude(self.silence_db), is_relative=True) for sound in sounds]
        if len({where.frames for where in grounds}) > 1:
            raise AudioError("roles", "its roles differ in length; `tonemill align` trims them to the same")
        keep, whole = round(self.keep_ms / 1000 * rate), grounds[0].frames
        found = phrases(sounds, grounds, max(1, round(self.silence_seconds * rate)))
        if not found:
            raise Filtered("silent", "it is silence from end to end")
        long = [(max(0, a - keep), min(whole, b + keep)) for a, b in found if b - a >= self.min_seconds * rate]
        if not long:
            raise Filtered("too_short", f"no sound in it is as long as {self.min_seconds:g} s (--min-seconds)")
        cuts = zip(*(spans(sound.blocks(), long) for sound in sounds), strict=True)
        for (first, _), parts in zip(long, cuts, strict=True):
            clip = {role: Waveform(one.copy(), rate) for role, one in zip(example.sounds, parts, strict=True)}
            yield example.with_sounds(clip, start_seconds=example.start_seconds + first / rate, is_clip=True)

    def _of_one_length(self, example: Example) -> Iterator[Example | Refusal]:
        from tonemill.audiotools.editing.slicing import windows
        from tonemill.audiotools.waveform import Waveform
        from tonemill.pipelines.recipes.example import Refusal

        rate = example.sample_rate
        length, hop = self._frames(rate)
        _refuse_cut_frames(example, length, hop)
        roles = list(example.sounds)
        cut = list(example.sounds.values()) or [_stand_in(example)]
        cuts = [windows(sound.blocks(), length, hop, self.short, self.tail) for sound in cut]
        empty = True
        for parts in _in_step(cuts):
            empty = False
            sounds = {role: Waveform(samples, rate) for role, (_, samples, _) in zip(roles, parts, strict=bool(roles))}
            start_seconds = example.start_seconds + parts[0].start / rate
            clip = example.with_sounds(sounds, start_seconds=start_seconds, is_clip=True)
            try:
                clip = replace(clip, arrays=_arrays_of(example, parts[0]))
            except AudioError as error:
                yield Refusal(clip, error)
                continue
            yield clip.with_fields({"padded_samples": parts[0].padded}) if parts[0].padded else clip
        if empty:
            raise Filtered(
                "too_short", f"it is shorter than {length} samples at {rate} Hz; --short pad keeps such sounds"
            )

    def estimate(self, expected: Estimate) -> Estimate:
        from tonemill.audiotools.editing.slicing import window_count

        if self.at is not None:
            # How many there are is in the sound alone.
            return expected
        length, hop = self._frames(expected.sample_rate)
        clips = expected.clips * window_count(expected.frames, length, hop, self.short, self.tail)
        shortened = expected.frames if self.short == "keep" and expected.frames < length else length
        return expected._replace(clips=clips, frames=shortened)

    def _frames(self, sample_rate: int) -> tuple[int, int]:
        length = self.samples or round((self.seconds or 0) * sample_rate)
        hop = length if self.hop_seconds is None else round(self.hop_seconds * sample_rate)
        if length < 1 or hop < 1:
            raise UsageError(f"slice: its length or hop is less than one sample at {sample_rate} Hz.")
        return length, hop


_SILENCES = ("at", "silence_db", "silence_seconds", "keep_ms", "min_seconds")


def _refuse_cut_frames(example: Example, length: int, hop: int) -> None:
    """Refuse clips that would begin or end inside a frame of an array."""
    for name, array in example.arrays.items():
        if array.hop is not None and (length % array.hop or hop % array.hop):
            fitting = max(1, round(length / array.hop)) * array.hop
            raise AudioError(
                "roles",
                f"its array {name} has frames of {array.hop} samples, and clips of {length} samples every {hop} would "
                f"cut them; use multiples, as --samples {fitting}, or slice before the step that makes the array",
            )


def _stand_in(example: Example) -> Waveform:
    """A sound with no channels and the length of the example's arrays."""
    import numpy as np

    from tonemill.audiotools.waveform import Waveform

    if example.samples is None:
        raise AudioError("roles", f"it has {example.holds}, which has no length in samples and cannot be cut")
    return Waveform(np.zeros((0, example.samples), np.float32), example.sample_rate)


def _arrays_of(example: Example, part: Window) -> dict[str, Array]:
    """The arrays of a clip; one without a hop belongs to the whole sound, and is left out.

    Raises:
        AudioError: roles: the clip is longer than the sound; too_short: an array ends before it.
    """
    tied = {name: array for name, array in example.arrays.items() if array.hop is not None}
    if tied and part.padded:
        raise AudioError(
            "roles",
            f"{part.padded} samples of silence would be added to it and not to its array {next(iter(tied))}; use "
            "--short drop and --tail drop, or slice before the step that makes the array",
        )
    return {name: array.cut(part.start, part.samples.shape[1]) for name, array in tied.items()}


def _in_step(cuts: list[Iterator[Window]]) -> Iterator[tuple[Window, ...]]:
    """Windows of all roles side by side.

    Raises:
        AudioError: roles: one ends before another.
    """
    for parts in zip_longest(*cuts):
        if None in parts or len({part.samples.shape[1] for part in parts}) > 1:
            raise AudioError("roles", "its roles differ in length; `tonemill align` trims them to the same")
        yield parts


STEP = Slice
