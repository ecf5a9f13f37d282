"""Fade audio in and out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from tonemill.audiotools.errors import UsageError
from tonemill.pipelines.recipes.step import Step

if TYPE_CHECKING:
    from tonemill.pipelines.recipes.example import Example


@dataclass(frozen=True)
class Fade(Step):
    needs_material: ClassVar[bool] = True
    gives_fields: ClassVar[tuple[str, ...] | None] = ("fade_in_ms", "fade_out_ms")

    in_ms: Annotated[float, "Length of the rise at the start."] = 0.0
    out_ms: Annotated[float, "Length of the fall at the end."] = 0.0
    shape: Annotated[
        Literal["linear", "equal-power", "cosine"], "What crosses unlike sounds with even power is equal-power."
    ] = "linear"

    def __post_init__(self) -> None:
        for flag, value in (("--in-ms", self.in_ms), ("--out-ms", self.out_ms)):
            if not 0 <= value < float("inf"):
                raise UsageError(f"{flag} is {value}; it must be 0 or more.")
        if not self.in_ms and not self.out_ms:
            raise UsageError("fade needs --in-ms or --out-ms, as in --out-ms 20.")

    def apply(self, example: Example) -> Iterator[Example]:
        from tonemill.audiotools.editing.fades import faded, fitted
        from tonemill.audiotools.editing.silence import extent

        rate = example.sample_rate
        wished = round(self.in_ms / 1000 * rate), round(self.out_ms / 1000 * rate)
        sounds, fields = {}, {}
        for role, sound in example.sounds.items():
            frames, _ = extent(sound)
            fade_in, fade_out = fitted(frames, *wished)
            sounds[role] = faded(sound, frames, fade_in, fade_out, self.shape)
            fields[example.name_for(role, "fade_in_ms")] = round(fade_in / rate * 1000, 3)
            fields[example.name_for(role, "fade_out_ms")] = round(fade_out / rate * 1000, 3)
        yield example.with_sounds(sounds).with_fields(fields)


STEP = Fade
