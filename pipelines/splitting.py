"""Deal recipes to splits by group, so that nothing that belongs together straddles them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from tonemill.audiotools.errors import UsageError
from tonemill.pipelines.recipe import Recipe

CLUSTER: Final = "duplicate_cluster"
"""The field that `dedup` gives to copies of one recording; whatever the group, a cluster stays together."""


@dataclass(frozen=True)
class Splitting:
    """How recipes are dealt to splits.

    Args:
        valid: share of groups, from 0 to 1.
        test: likewise.
        valid_where: goes to valid by choice, whatever its group; its copies go with it.
        group: what must not straddle splits, as `group_of` takes it.
        seed: another seed deals other groups.
    """

    valid: float = 0.0
    test: float = 0.0
    valid_where: Callable[[Mapping[str, Any]], bool] | None = None
    group: str | None = None
    seed: int = 0


def group_of(recipe: Recipe, group: str | None) -> str:
    """What must not straddle splits: the content (None), the `path`, the `folder`, or a field.

    Raises:
        UsageError: the recipe has no such field.
    """
    # Of pairs, the dry side decides: one riff through many effects must not be learned here and judged there.
    deciding = {"dry": recipe.sources["dry"]} if "dry" in recipe.sources else recipe.sources
    digests = [str(source["sha256"]) for _, source in sorted(deciding.items()) if "sha256" in source]
    if group == "path" or (group is None and not digests):
        return recipe.path
    if group is None:
        return " ".join(digests)
    if group == "folder":
        return recipe.path.rpartition("/")[0]
    if group not in recipe.fields:
        known = ", ".join(["path", "folder", *recipe.fields])
        raise UsageError(f"--group is {group!r}, but {recipe.path} has no such field; it has: {known}.")
    return str(recipe.fields[group])


class Place(NamedTuple):
    """Where a recipe belongs: its group, its cluster, and whether it is chosen for validation."""

    group: str
    cluster: str | None
    chosen: bool


class Groups:
    """Groups, joined where a cluster of copies has members in several: known once every recipe is entered.

    Args:
        splitting: what a group is, and the shares.
    """

    def __init__(self, splitting: Splitting) -> None:
        self._splitting = splitting
        self._parents: dict[tuple[str, str], tuple[str, str]] = {}
        self._chosen: set[str] = set()

    def enter(self, recipe: Recipe) -> Place:
        """Where a recipe belongs.

        Raises:
            UsageError: it has no field to be grouped by.
        """
        where = self._splitting.valid_where
        chosen = where is not None and where({**recipe.fields, "path": recipe.path})
        cluster = str(recipe.fields[CLUSTER]) if CLUSTER in recipe.fields else None
        # Those that are chosen need no group, and may lack the field.
        place = Place("" if chosen else group_of(recipe, self._splitting.group), cluster, chosen)
        if cluster is not None and chosen:
            self._chosen.add(cluster)
        elif cluster is not None:
            self._join(("group", place.group), ("cluster", cluster))
        return place

    def split_of(self, place: Place) -> str:
        """Train, valid or test; a pure function of the group, or of what it was joined to, and the seed."""
        if place.chosen or place.cluster in self._chosen:
            return "valid"
        group = place.group
        if ("group", group) in self._parents:
            group = self._root(("group", group))[1]
        text = f"{self._splitting.seed}\0{group}"
        at = int.from_bytes(hashlib.sha256(text.encode("utf-8", "backslashreplace")).digest()[:8], "big") / 2**64
        if at < self._splitting.test:
            return "test"
        return "valid" if at < self._splitting.test + self._splitting.valid else "train"

    def _join(self, one: tuple[str, str], other: tuple[str, str]) -> None:
        roots = {self._root(one), self._root(other)}
        # The least name stands for all, whatever the order they came in; a cluster's before a group's.
        for root in roots:
            self._parents[root] = min(roots)

    def _root(self, name: tuple[str, str]) -> tuple[str, str]:
        self._parents.setdefault(name, name)
        while self._parents[name] != name:
            self._parents[name] = self._parents[self._parents[name]]
            name = self._parents[name]
        return name
