"""Keep what is within a part of its source: cut a whole sound to it, and leave out clips that reach beyond it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar

from tonemill.audiotools.errors import Filtered, UsageError
from tonemill.pipelines.recipes.step import Estimate, Step

if TYPE_CHECKING:
    from tonemill.pipelines.recipes.example import Example

_ROUNDING: float = 1e-6
"""Seconds; places in a source are kept to the sample, and these are far shorter."""


@dataclass(frozen=True)
class Within(Step):
    needs_material: ClassVar[bool] = True
    gives_fields: ClassVar[tuple[str, ...] | None] = ()

    start_seconds: Annotated[float, "Where the part begins in its source."] = 0.0
    end_seconds: Annotated[float | None, "Where it ends; the end of the source if not given."] = None

    def __post_init__(self) -> None:
        if not 0 <= self.start_seconds < float("inf"):
            raise UsageError(f"--start-seconds is {self.start_seconds}; it must be 0 or more.")
        if self.end_seconds is not None and not self.start_seconds < self.end_seconds < float("inf"):
            raise UsageError(f"--end-seconds is {self.end_seconds}; it must be more than --start-seconds.")

    def apply(self, example: Example) -> Iterator[Example]:
        from tonemill.audiotools.editing.silence import extent, part

        rate = example.sample_rate
        if example.is_clip:
            frames = max(sound.whole().samples.shape[1] for sound in example.sounds.values())
            end = example.start_seconds + frames / rate
            if self._is_inside(example.start_seconds, end):
                yield example
            return
        begun = example.start_seconds
        first = max(0, round((self.start_seconds - begun) * rate))
        last = None if self.end_seconds is None else round((self.end_seconds - begun) * rate)
        end = max(extent(sound)[0] for sound in example.sounds.values())
        end = end if last is None else min(end, last)
        if first >= end:
            raise Filtered("too_short", f"it ends before {self.start_seconds:g} s (--start-seconds)")
        sounds = {role: part(sound, first, end) for role, sound in example.sounds.items()}
        yield replace(example.with_sounds(sounds), start_seconds=begun + first / rate)

    def estimate(self, expected: Estimate) -> Estimate:
        whole = expected.clips * expected.frames / max(1, expected.sample_rate)
        end = whole if self.end_seconds is None else min(whole, self.end_seconds)
        span = round(max(0.0, end - self.start_seconds) * expected.sample_rate)
        if expected.clips > 1:
            return expected._replace(clips=min(expected.clips, span // max(1, expected.frames)))
        return expected._replace(frames=min(expected.frames, span))

    def _is_inside(self, start: float, end: float) -> bool:
        limit = float("inf") if self.end_seconds is None else self.end_seconds
        return start >= self.start_seconds - _ROUNDING and end <= limit + _ROUNDING


STEP = Within
