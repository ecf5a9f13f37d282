"""Take a constant offset (DC) away: the mean of each channel, or everything below a frequency."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from tonemill.audiotools.errors import AudioError, UsageError
from tonemill.pipelines.recipes.step import Step

if TYPE_CHECKING:
    from tonemill.pipelines.recipes.example import Example


@dataclass(frozen=True)
class Dc(Step):
    needs_material: ClassVar[bool] = True
    gives_fields: ClassVar[tuple[str, ...] | None] = ("dc_removed", "high_pass_hz")

    high_pass_hz: Annotated[
        float | None, "Take away everything below this frequency instead, where the offset wanders; as 10."
    ] = None

    def __post_init__(self) -> None:
        if self.high_pass_hz is not None and not 0.1 <= self.high_pass_hz <= 1000:
            raise UsageError(f"--high-pass-hz is {self.high_pass_hz}; it must be from 0.1 to 1000, as in 10.")

    def apply(self, example: Example) -> Iterator[Example]:
        from tonemill.audiotools.editing.rest import high_passed, means, without

        if self.high_pass_hz is not None:
            if self.high_pass_hz >= example.sample_rate / 2:
                raise AudioError(
                    "unsupported",
                    f"--high-pass-hz {self.high_pass_hz:g} is not below half of its {example.sample_rate} Hz",
                )
            passed = {role: high_passed(sound, self.high_pass_hz) for role, sound in example.sounds.items()}
            yield example.with_sounds(passed).with_fields({"high_pass_hz": self.high_pass_hz})
            return
        offsets = {role: means(sound) for role, sound in example.sounds.items()}
        sounds = {role: without(sound, offsets[role]) for role, sound in example.sounds.items()}
        largest = {
            example.name_for(role, "dc_removed"): round(float(max(one, key=abs, default=0.0)), 6)
            for role, one in offsets.items()
        }
        yield example.with_sounds(sounds).with_fields(largest)


STEP = Dc
