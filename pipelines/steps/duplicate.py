"""Leave audio out because a better copy of it is kept; `dedup` writes this step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from tonemill.audiotools.errors import Filtered
from tonemill.pipelines.recipes.step import Estimate, Step

if TYPE_CHECKING:
    from tonemill.pipelines.recipes.example import Example


@dataclass(frozen=True)
class Duplicate(Step):
    needs_sound: ClassVar[bool] = False
    makes_roles: ClassVar[bool] = True
    gives_fields: ClassVar[tuple[str, ...] | None] = ()

    of: Annotated[str, "Path of the copy that is kept."]
    rank: Annotated[
        int, "Among the copies that are left out: the lowest takes its place if a later step refuses it."
    ] = 1

    def apply(self, example: Example) -> Iterator[Example]:
        # It stands before every other step, so nothing is decoded. A sink takes it away (`cooking.copies`) where the
        # copy that is kept here is not kept there.
        raise Filtered("duplicate", f"it sounds like {self.of}, which is kept")

    def estimate(self, expected: Estimate) -> Estimate:
        return expected._replace(clips=0, frames=0)

    def to_json(self) -> dict[str, Any]:
        # The first of a cluster is written as it was before there were ranks.
        record = super().to_json()
        return record if self.rank != 1 else {name: value for name, value in record.items() if name != "rank"}


STEP = Duplicate
