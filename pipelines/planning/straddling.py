"""Groups of recipes that are in more than one split: of a plan that is being made, and of one on disk."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Iterable

from tonemill.pipelines.planning.splits import group_of, has_group
from tonemill.pipelines.recipes.recipe import Recipe

Straddling = dict[str | None, dict[str, dict[str, str]]]
"""For each kind of group that some recipe has: the groups in more than one split, each with a path in every split."""


def straddling(
    dealt: Callable[[], Iterable[tuple[str, Recipe]]], kinds: Collection[str | None], one_in: int = 1
) -> Straddling:
    """Find the groups that are in more than one split.

    Args:
        dealt: returns recipes with their splits. It is called once more if a group straddles, for paths: those of all
            groups would fill the memory, their hashes do not.
        kinds: of groups, as `group_of` takes them; a recipe without that field belongs to none.
        one_in: only one group in so many is looked at, chosen by its name.
    """
    first: dict[str | None, dict[int, str]] = {kind: {} for kind in kinds}
    several: dict[str | None, set[int]] = {kind: set() for kind in kinds}
    for split, recipe in dealt():
        for kind in first:
            if not has_group(recipe, kind):
                continue
            name = group_of(recipe, kind)
            if one_in > 1 and zlib.crc32(name.encode("utf-8", "backslashreplace")) % one_in:
                continue
            if first[kind].setdefault(hash(name), split) != split:
                several[kind].add(hash(name))
    found: Straddling = {kind: {} for kind, groups in first.items() if groups}
    for split, recipe in dealt() if any(several.values()) else ():
        for kind, groups in found.items():
            if has_group(recipe, kind) and hash(name := group_of(recipe, kind)) in several[kind]:
                groups.setdefault(name, {}).setdefault(split, recipe.path)
    # Two names may have one hash.
    return {kind: {name: paths for name, paths in groups.items() if len(paths) > 1} for kind, groups in found.items()}
