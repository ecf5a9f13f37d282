"""Measure loudness, level, silence, clipping and DC into the fields; the sound stays as it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from tonemill.audiotools.errors import UsageError
from tonemill.pipelines.recipes.step import Step
from tonemill.pipelines.steps._levels import LEVEL_FIELDS

if TYPE_CHECKING:
    from tonemill.pipelines.recipes.example import Example


@dataclass(frozen=True)
class Measure(Step):
    needs_material: ClassVar[bool] = True
    gives_fields: ClassVar[tuple[str, ...] | None] = LEVEL_FIELDS

    silence_db: Annotated[float, "10 ms whose peak is under this are silence, in dB of full scale."] = -60.0

    def __post_init__(self) -> None:
        if not -200 <= self.silence_db <= 0:
            raise UsageError(f"--silence-db is {self.silence_db}; it must be from -200 to 0, as in --silence-db -60.")

    def apply(self, example: Example) -> Iterator[Example]:
        from tonemill.pipelines.steps._levels import as_fields, levels_of

        yield example.with_fields(as_fields(example, levels_of(example, self.silence_db, loudness=True)))


STEP = Measure
