"""Hold out the end of each recording, where recordings are too few to deal whole ones to splits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

from tonemill.pipelines.planning.plan import Splitting
from tonemill.pipelines.planning.splits import group_of
from tonemill.pipelines.recipes.recipe import Recipe
from tonemill.pipelines.recipes.step import Estimate

PART: Final = "within"
"""The step that keeps a part of a recording."""


def parts_of(
    recipe: Recipe, splitting: Splitting, expected: Callable[[Recipe], Estimate]
) -> Iterator[tuple[str, Recipe]]:
    """Splits and recipes of a recording's parts, in order of time: train, then valid, then test.

    Every step is applied to the whole recording, as it would be without splits, and each part keeps the clips that are
    wholly in it: no sound is in two. Nothing where it is no recording that is cut, or a part would have no clip.

    Args:
        recipe: of the whole.
        splitting: whose shares are of the recording's time.
        expected: what comes of a recipe.
    """
    seconds = seconds_of(recipe)
    if seconds is None:
        return
    rate = min(int(source["sample_rate"]) for source in recipe.sounds.values())
    first, whole = recipe.start / rate, expected(recipe)
    if whole.clips < 2:
        return
    # Parts begin where clips do, or the clip there would be in neither.
    clip_seconds = whole.frames / whole.sample_rate
    shares = {"train": 1 - splitting.valid - splitting.test, "valid": splitting.valid, "test": splitting.test}
    found, so_far = [], 0.0
    for split, share in shares.items():
        if share <= 0:
            continue
        begin, so_far = so_far, so_far + share
        start, last = (
            round(first + math.floor(place * seconds / clip_seconds + 1e-6) * clip_seconds, 6)
            for place in (begin, so_far)
        )
        if last <= start:
            return
        end = None if so_far > 1 - 1e-9 else last
        step = {"step": PART, "version": 1, "start_seconds": start, "end_seconds": end}
        group = f"{group_of(recipe, None)} {split}"
        part = replace(recipe.then(step), dealt={**recipe.dealt, "group": group})
        if not expected(part).clips:
            return
        found.append((split, part))
    yield from found


def seconds_of(recipe: Recipe) -> float | None:
    """How much sound a recipe reads, as far as headers tell; a pair counts once."""
    lengths = []
    for source in recipe.sounds.values():
        frames, rate = source.get("frames"), source.get("sample_rate")
        if not frames or not rate:
            return None
        left = max(0, frames - recipe.start)
        lengths.append((left if recipe.frames is None else min(left, recipe.frames)) / rate)
    return min(lengths, default=None)


def are_too_few(recipes: Iterator[Recipe], splitting: Splitting) -> bool:
    """Whether there are so few groups that the smallest share is less than one of them."""
    shares = [share for share in (splitting.valid, splitting.test) if share]
    most = 1 / min(shares)
    groups: set[str] = set()
    for recipe in recipes:
        groups.add(group_of(recipe, splitting.group))
        if len(groups) >= most:
            return False
    return True
