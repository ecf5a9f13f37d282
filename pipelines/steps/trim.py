"""Cut silence off the start and the end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from tonemill.audiotools.errors import Filtered, UsageError
from tonemill.pipelines.recipes.step import Step

if TYPE_CHECKING:
    from tonemill.pipelines.recipes.example import Example


@dataclass(frozen=True)
class Trim(Step):
    needs_material: ClassVar[bool] = True
    gives_fields: ClassVar[tuple[str, ...] | None] = ("trimmed_start_seconds", "trimmed_end_seconds")

    threshold_db: Annotated[float, "Sound begins and ends where a sample is above this."] = -60.0
    relative_to: Annotated[
        Literal["peak", "full-scale"], "What the threshold counts from: the largest sample, or full scale."
    ] = "peak"
    keep_ms: Annotated[float, "So much is kept before and after."] = 10.0
    sides: Annotated[Literal["both", "start", "end"], "Where to cut."] = "both"
    min_seconds: Annotated[float, "What is shorter after that is left out."] = 0.0

    def __post_init__(self) -> None:
        if not -200 <= self.threshold_db < 0:
            raise UsageError(
                f"--threshold-db is {self.threshold_db}; it must be from -200 to below 0, as in --threshold-db -60."
            )
        for flag, value in (("--keep-ms", self.keep_ms), ("--min-seconds", self.min_seconds)):
            if not 0 <= value < float("inf"):
                raise UsageError(f"{flag} is {value}; it must be 0 or more.")

    def apply(self, example: Example) -> Iterator[Example]:
        from tonemill.audiotools.editing.levels import to_amplitude
        from tonemill.audiotools.editing.silence import ground, loud_part, part

        rate = example.sample_rate
        keep = round(self.keep_ms / 1000 * rate)
        level = to_amplitude(self.threshold_db)
        grounds = [ground(sound, level, self.relative_to == "peak") for sound in example.sounds.values()]
        found = [loud_part(sound, where) for sound, where in zip(example.sounds.values(), grounds, strict=True)]
        loud = [one for one in found if one is not None]
        if not loud:
            # Any other sound reaches its own peak.
            below = f"it never rises above {self.threshold_db:g} dB of full scale"
            raise Filtered("silent", below if self.relative_to == "full-scale" else "it is silence from end to end")
        longest = max(where.frames for where in grounds)
        # Roles stay beside each other: all are cut where the first of them begins and the last of them ends.
        first = max(0, min(begin for begin, _ in loud) - keep) if self.sides != "end" else 0
        end = min(longest, max(end for _, end in loud) + keep) if self.sides != "start" else longest
        if end - first < self.min_seconds * rate:
            raise Filtered(
                "too_short",
                f"{(end - first) / rate:.3f} s are left of it without silence, less than {self.min_seconds:g} s",
            )
        sounds = {
            role: sound if (first, end) == (0, longest) else part(sound, first, end)
            for role, sound in example.sounds.items()
        }
        start_seconds = example.start_seconds + first / rate
        cut = {"trimmed_start_seconds": first / rate, "trimmed_end_seconds": (longest - end) / rate}
        yield example.with_sounds(sounds, start_seconds=start_seconds).with_fields(_added(example, cut))


def _added(example: Example, seconds: dict[str, float]) -> dict[str, float]:
    """`seconds` plus those of earlier `trim` steps; in seconds, since the rate may change between two steps."""
    before = {name: example.fields.get(name, 0.0) for name in seconds}
    return {
        name: round(value + (before[name] if isinstance(before[name], int | float) else 0.0), 6)
        for name, value in seconds.items()
    }


STEP = Trim
