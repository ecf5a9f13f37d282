"""Cut audio into clips of one length."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

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

    seconds: Annotated[float | None, "Length of a clip, in seconds."] = None
    samples: Annotated[int | None, "Length of a clip, in samples, instead of --seconds."] = None
    hop_seconds: Annotated[float | None, "From one clip's start to the next; the clip's length if not given."] = None
    short: Annotated[Literal["pad", "drop", "keep"], "A source shorter than one clip."] = "drop"
    tail: Annotated[Literal["pad", "drop", "keep"], "What is left at the end of a longer source."] = "drop"

    def __post_init__(self) -> None:
        if (self.seconds is None) == (self.samples is None):
            raise UsageError("slice needs one of --seconds and --samples, as in --samples 16384.")
        for flag, value in (
            ("--seconds", self.seconds),
            ("--samples", self.samples),
            ("--hop-seconds", self.hop_seconds),
        ):
            if value is not None and not 0 < value < float("inf"):
                raise UsageError(f"{flag} is {value}; it must be more than 0.")

    def apply(self, example: Example) -> Iterator[Example | Refusal]:
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
    """A sound without channels, as long as what arrays stand in for."""
    import numpy as np

    from tonemill.audiotools.waveform import Waveform

    if example.samples is None:
        raise AudioError("roles", f"it has {example.holds}, and nothing of that has a length in samples to cut")
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
