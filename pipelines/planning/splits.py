"""Deal recipes to splits by group, so that nothing that belongs together straddles them."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from typing import Final, NamedTuple

from tonemill.audiotools.errors import CorpusError, UsageError
from tonemill.pipelines.planning.plan import Splitting
from tonemill.pipelines.recipes.conditions import condition
from tonemill.pipelines.recipes.recipe import Recipe

CLUSTER: Final = "duplicate_cluster"
"""The field that `dedup` gives to copies of one recording; whatever the group, a cluster stays together."""


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


def has_group(recipe: Recipe, group: str | None) -> bool:
    """Whether a recipe can be grouped so."""
    return group in (None, "path", "folder") or group in recipe.fields


def dealt_by_hash(group: str, splitting: Splitting) -> str:
    """The split of a group."""
    text = f"{splitting.seed}\0{group}"
    at = int.from_bytes(hashlib.sha256(text.encode("utf-8", "backslashreplace")).digest()[:8], "big") / 2**64
    if at < splitting.test:
        return "test"
    return "valid" if at < splitting.test + splitting.valid else "train"


def straddling(dealt: Iterable[tuple[str, Recipe]], group: str | None) -> dict[str, list[str]]:
    """Groups that stand in more than one split, with a path of each; none in a plan that was dealt by that group.

    Args:
        dealt: recipes with their splits.
        group: as `group_of` takes it; a recipe without that field belongs to none.
    """
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for split, recipe in dealt:
        if has_group(recipe, group):
            found[group_of(recipe, group)].setdefault(split, recipe.path)
    several = {name: places for name, places in found.items() if len(places) > 1}
    return {name: [f"{split}: {path}" for split, path in places.items()] for name, places in several.items()}


class Place(NamedTuple):
    """Where a recipe belongs: its group, its cluster, whether it is chosen for validation; and its path."""

    group: str
    cluster: str | None
    chosen: bool
    path: str


class Groups:
    """Groups, joined where a cluster of copies has members in several: known once every recipe is entered.

    Args:
        splitting: what a group is, and the shares.
    """

    def __init__(self, splitting: Splitting) -> None:
        self._splitting = splitting
        self._parents: dict[tuple[str, str], tuple[str, str]] = {}
        self._chosen: set[str] = set()
        where = splitting.valid_where
        self._where = condition(where, "--valid-where") if where is not None else None
        # Only a choice can cut a group in two, and only then must be remembered where each went.
        self._dealt: dict[str, tuple[str, str]] = {}

    def enter(self, recipe: Recipe) -> Place:
        """Where a recipe belongs.

        Raises:
            UsageError: it has no field to be grouped by.
        """
        chosen = self._where is not None and self._where({**recipe.fields, "path": recipe.path})
        cluster = str(recipe.fields[CLUSTER]) if CLUSTER in recipe.fields else None
        # Those that are chosen need no group, and may lack the field.
        group = (
            "" if chosen and not has_group(recipe, self._splitting.group) else group_of(recipe, self._splitting.group)
        )
        place = Place(group, cluster, chosen, recipe.path)
        if cluster is not None and chosen:
            self._chosen.add(cluster)
        elif cluster is not None:
            self._join(("group", place.group), ("cluster", cluster))
        return place

    def settled(self, place: Place) -> str | None:
        """The split of a recipe that nothing but its group decides, as long as no groups are joined."""
        if self._where is not None or place.cluster is not None:
            return None
        return dealt_by_hash(place.group, self._splitting)

    @property
    def are_joined(self) -> bool:
        """Whether a cluster joins groups."""
        return bool(self._parents)

    def split_of(self, place: Place) -> str:
        """Train, valid or test; a pure function of the group, or of what it was joined to, and the seed.

        Raises:
            CorpusError: a condition chooses some of a group and not the rest.
        """
        chosen = place.chosen or place.cluster in self._chosen
        group = place.group
        if ("group", group) in self._parents:
            group = self._root(("group", group))[1]
        split = "valid" if chosen else dealt_by_hash(group, self._splitting)
        if self._where is None or not place.group:
            return split
        before, path = self._dealt.setdefault(place.group, (split, place.path))
        if before != split:
            by = self._splitting.group
            what = "the same bytes" if by is None else f"the same {by}"
            raise CorpusError(
                f"--valid-where {self._splitting.valid_where!r} would put {path} into {before} and {place.path} into "
                f"{split}, though they have {what}: what is learnt from one would show in the other. Choose both or "
                "neither, leave one out with `tonemill select`, or say --group path to deal them by name alone."
            )
        return split

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
