"""Leave audio out because a better copy of it is kept; `dedup` writes this step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from tonemill.audiotools.errors import Filtered
from tonemill.pipelines.recipes.step import Estimate, Step

if TYPE_CHECKING:
    from tonemill.pipelines.recipes.example import Example


@dataclass(frozen=True)
class Duplicate(Step):
    needs_sound: ClassVar[bool] = False

    of: Annotated[str, "Path of the copy that is kept."]

    def apply(self, example: Example) -> Iterator[Example]:
        # It stands before every other step, so nothing is decoded.
        raise Filtered("duplicate", f"it sounds like {self.of}, which is kept")

    def estimate(self, expected: Estimate) -> Estimate:
        return expected._replace(clips=0, frames=0)


STEP = Duplicate
