"""What a plan must have of each of its recipes when it grows, small enough that a million of them fit in memory."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

from tonemill.pipelines.planning.plan import Plan, Planned, digest_of
from tonemill.pipelines.planning.planner import expected
from tonemill.pipelines.recipes.recipe import Recipe


class Sound(NamedTuple):
    """What a recipe leaves, as far as one batch needs it alike; few differ."""

    roles: str
    rate: int
    channels: int


@dataclass(frozen=True, slots=True)
class Seat:
    """A recipe packed, its split, and what a growing plan compares: a million of these fit in memory.

    Args:
        row: its recipe, packed.
        digest: of its canonical text.
        split: where it sits.
        path: of its source.
        contents: digest of the contents of its sources.
        extent: digest of these and of the part that it reads; empty where it has no sources.
        sound: its roles, rate and channels; None where nothing is expected of it, or that was not wanted.
        is_unread: `scan` could not read its source.
        shard: where that is known.
    """

    row: Planned
    digest: bytes
    split: str
    path: str
    contents: bytes
    extent: bytes
    sound: Sound | None
    is_unread: bool
    shard: str | None = None


def seats_of(plan: Plan, with_sound: bool = False, like: Iterable[Seat] = ()) -> list[Seat]:
    """All recipes of a plan, in order.

    Args:
        plan: with its rows.
        with_sound: also what each is expected to leave, for which its steps must be installed here.
        like: seats made with the same `with_sound`; a recipe that has one of their texts is not parsed again.
    """
    known = {seat.row.packed: seat for seat in like}
    found = []
    for shard, rows in zip(plan.shards, plan.rows, strict=True):
        split = sys.intern(shard.split)
        for row in rows:
            same = known.get(row.packed)
            if same is None:
                found.append(_seat(row, split, shard.name, with_sound))
            else:
                found.append(replace(same, row=row, split=split, shard=shard.name))
    return found


def _seat(row: Planned, split: str, shard: str, with_sound: bool) -> Seat:
    recipe = row.recipe
    contents = "\n".join(_contents(recipe))
    extent = _short(f"{recipe.start} {recipe.frames} {contents}") if recipe.sources else b""
    digest = bytes.fromhex(digest_of(recipe.canonical()))
    sound = _sound(recipe) if with_sound else None
    return Seat(row, digest, split, recipe.path, _short(contents), extent, sound, recipe.is_unread, shard)


def _short(text: str) -> bytes:
    """Half of a digest, enough to distinguish a million texts."""
    return bytes.fromhex(digest_of(text)[:32])


def _sound(recipe: Recipe) -> Sound | None:
    estimate = expected(recipe)
    if not estimate.clips or not recipe.sources:
        return None
    return _shared(Sound("/".join(sorted(recipe.sources)), estimate.sample_rate, estimate.channels))


@lru_cache(maxsize=1 << 12)
def _shared(sound: Sound) -> Sound:
    """The same object for equal ones."""
    return sound


def _contents(recipe: Recipe) -> Iterator[str]:
    for role, source in sorted(recipe.sources.items()):
        yield f"{role} {source.get('sha256') or source.get('modified_ns')} {source.get('offset')}"
