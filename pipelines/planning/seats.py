"""What a plan must have of each of its recipes when it grows, small enough that a million of them fit in memory."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import NamedTuple

from tonemill.pipelines.planning.plan import Plan, Planned, digest_of
from tonemill.pipelines.planning.planner import expected
from tonemill.pipelines.recipes.recipe import Recipe
from tonemill.pipelines.recipes.step import Estimate


class Sound(NamedTuple):
    """What a recipe leaves, as far as one batch needs it alike."""

    roles: str
    rate: int
    channels: int


class Facts(NamedTuple):
    """What a growing plan compares of a recipe.

    Args:
        digest: of its canonical text.
        path: of its source.
        contents: digest of the contents of its sources.
        extent: digest of these and of the part that it reads; empty where it has no sources.
        estimate: what will come of it; None where that was not wanted.
        roles: of its sources.
        is_unread: `scan` could not read its source.
    """

    digest: bytes
    path: str
    contents: bytes
    extent: bytes
    estimate: Estimate | None
    roles: str
    is_unread: bool

    @property
    def sound(self) -> Sound | None:
        """What it leaves; None where nothing is expected of it."""
        estimate = self.estimate
        if estimate is None or not estimate.clips or not self.roles:
            return None
        return Sound(self.roles, estimate.sample_rate, estimate.channels)


class Seat(NamedTuple):
    """A recipe in its place: a million of these fit in memory.

    Args:
        row: its recipe, packed.
        facts: of it.
        split: where it sits.
        shard: where that is known.
    """

    row: Planned
    facts: Facts
    split: str
    shard: str | None


class Known:
    """Facts of recipes by their packed lines, so that a text that is in stream and plan is parsed once.

    Args:
        with_estimates: also what will come of each, for which its steps must be installed here.
    """

    def __init__(self, with_estimates: bool) -> None:
        self._with_estimates = with_estimates
        self._facts: dict[bytes, Facts] = {}

    def note(self, recipe: Recipe, packed: bytes, digest: bytes, estimate: Estimate | None) -> None:
        """Keep the facts of a recipe; `estimate` is what will come of it."""
        contents, roles = "\n".join(_contents(recipe)), sys.intern("/".join(sorted(recipe.sources)))
        extent = _short(f"{recipe.start} {recipe.frames} {contents}") if recipe.sources else b""
        self._facts[packed] = Facts(digest, recipe.path, _short(contents), extent, estimate, roles, recipe.is_unread)

    def of(self, row: Planned) -> Facts:
        """The facts of a recipe, which is parsed if its line is not known."""
        if row.packed not in self._facts:
            recipe = row.recipe
            digest = bytes.fromhex(digest_of(recipe.canonical()))
            self.note(recipe, row.packed, digest, expected(recipe) if self._with_estimates else None)
        return self._facts[row.packed]


def seats_of(plan: Plan, known: Known) -> list[Seat]:
    """All recipes of a plan with its rows, in order."""
    return [
        Seat(row, known.of(row), sys.intern(shard.split), shard.name)
        for shard, rows in zip(plan.shards, plan.rows, strict=True)
        for row in rows
    ]


def _short(text: str) -> bytes:
    """Half of a digest, enough to distinguish a million texts."""
    return bytes.fromhex(digest_of(text)[:32])


def _contents(recipe: Recipe) -> Iterator[str]:
    for role, source in sorted(recipe.sources.items()):
        yield f"{role} {source.get('sha256') or source.get('modified_ns')} {source.get('offset')}"
