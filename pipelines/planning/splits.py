"""Deal recipes to splits by group, so that nothing that belongs together straddles them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from typing import Final, NamedTuple

from tonemill.audiotools.errors import CorpusError, UsageError
from tonemill.pipelines.hashing import number_of
from tonemill.pipelines.planning.dealing import Dealing
from tonemill.pipelines.planning.plan import Splitting
from tonemill.pipelines.planning.unions import Unions
from tonemill.pipelines.recipes.conditions import Condition, condition
from tonemill.pipelines.recipes.recipe import Recipe

_OUTERMOST: Final = re.compile(r"folder:([1-9])")

LEFT_OUT: Final = "duplicate"
"""The step of a copy in whose place `dedup` keeps another."""

CLUSTER: Final = "duplicate_cluster"
"""The field that `dedup` gives to copies of one recording; whatever the group, a cluster stays together."""


def group_of(recipe: Recipe, group: str | None) -> str:
    """What must not straddle splits: the content (None), the `path`, the `folder` (`folder:1`: outermost), or a field.

    An example of a corpus has the group that its source has there, where no other is named.

    Raises:
        UsageError: the recipe has no such field.
    """
    if group is None and "group" in recipe.dealt:
        return recipe.dealt["group"]
    # Of pairs, the dry side decides: one riff through many effects must not be learned here and judged there.
    deciding = {"dry": recipe.sources["dry"]} if "dry" in recipe.sources else recipe.sources
    digests = [str(source["sha256"]) for _, source in sorted(deciding.items()) if "sha256" in source]
    if group == "path" or (group is None and not digests):
        return recipe.path
    if group is None:
        return " ".join(digests)
    if group == "folder":
        return recipe.path.rpartition("/")[0]
    if (outermost := _OUTERMOST.fullmatch(group)) is not None:
        return "/".join(recipe.path.split("/")[:-1][: int(outermost[1])])
    if group not in recipe.fields:
        known = ", ".join(["path", "folder", "folder:1", *recipe.fields])
        raise UsageError(f"--group is {group!r}, but {recipe.path} has no such field; it has: {known}.")
    return str(recipe.fields[group])


def has_group(recipe: Recipe, group: str | None) -> bool:
    """Whether a recipe can be grouped so."""
    return group in (None, "path", "folder") or bool(_OUTERMOST.fullmatch(group)) or group in recipe.fields


def choice_of(splitting: Splitting) -> tuple[Callable[[Recipe], str | None] | None, Collection[Condition]]:
    """What chooses the split of a recipe, whatever its group, None where nothing does; and the conditions in it.

    Raises:
        UsageError: a condition is none. The function: a recipe lacks the field, or has no split there, or two.
    """
    if splitting.split_by is not None:
        return lambda recipe: _named_split(recipe, str(splitting.split_by)), ()
    flags = {"valid": splitting.valid_where, "test": splitting.test_where}
    tests = {split: condition(text, f"--{split}-where") for split, text in flags.items() if text is not None}

    def choice(recipe: Recipe) -> str | None:
        known = {**recipe.fields, "path": recipe.path}
        found = [split for split, holds in tests.items() if holds(known)]
        if len(found) > 1:
            raise UsageError(
                f"--valid-where and --test-where both hold for {recipe.path}, and a recipe is in one split. Change "
                "one of the conditions."
            )
        return found[0] if found else None

    return (choice if tests else None), tests.values()


_SPELLINGS: Final = {
    **dict.fromkeys(("train", "training", "tr"), "train"),
    **dict.fromkeys(("valid", "validation", "val", "dev", "development"), "valid"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
"""How tables of others call splits."""


def _named_split(recipe: Recipe, field: str) -> str:
    if field not in recipe.fields:
        known = ", ".join(recipe.fields) or "none"
        raise UsageError(f"--split-by is {field!r}, but {recipe.path} has no such field; its fields are: {known}.")
    split = _SPELLINGS.get(str(recipe.fields[field]).strip().casefold())
    if split is None:
        raise UsageError(
            f"--split-by {field}: {recipe.path} has {recipe.fields[field]!r} there; it must be train, valid or "
            "test. Choose by conditions instead, as --valid-where 'fold == 9' --test-where 'fold == 10'."
        )
    return split


def dealt_by_hash(group: str, splitting: Splitting) -> str:
    """The split of a group."""
    at = number_of(f"{splitting.seed}\0{group}") / 2**64
    if at < splitting.test:
        return "test"
    return "valid" if at < splitting.test + splitting.valid else "train"


def group_to_pass_on(recipe: Recipe, group: str | None) -> str:
    """The group of a recipe as what comes of it has it in the stream of another corpus: equal texts are one group."""
    name = group_of(recipe, group)
    return name if group is None else f"{group}={name}"


class Place(NamedTuple):
    """Where a recipe belongs.

    Args:
        group: its own.
        cluster: of copies.
        chosen: the split that a condition or a field chooses; None where neither does.
        path: of its source.
        split: that it keeps; None where its group decides.
    """

    group: str
    cluster: str | None
    chosen: str | None
    path: str
    split: str | None = None


class Groups:
    """Groups, joined where a cluster of copies has members in several: known once every recipe is entered.

    Args:
        splitting: what a group is, and the shares.
        dealing: which recipes have a split already; the rest of their group follows them.

    Raises:
        CorpusError: a group of the output stands in two splits.
    """

    def __init__(self, splitting: Splitting, dealing: Dealing | None = None) -> None:
        self._splitting = splitting
        self._dealing = dealing or Dealing()
        # A million groups fit in memory by their hashes alone.
        self._kept: dict[int, str] = {}
        self._kept_together: dict[tuple[str, str], str] | None = None
        # Whatever the order they came in, the least name stands for all; a cluster's before a group's.
        self._joined: Unions[tuple[str, str]] = Unions()
        self._chosen: dict[str, tuple[str, str]] = {}
        self._choice, self._conditions = choice_of(splitting)
        # Only a choice can cut a group in two, and only then must be remembered where each went.
        self._dealt: dict[str, tuple[str, str]] = {}
        self._is_bound = False
        self._bind(self._dealing.bound(streams=False))

    def enter(self, recipe: Recipe, digest: str) -> Place:
        """Where a recipe belongs.

        Args:
            recipe: of the stream.
            digest: of its canonical text.

        Raises:
            UsageError: it has no field to be grouped by.
            CorpusError: another of its group has another split.
        """
        split = self._dealing.split_of(recipe, digest)
        if split is not None and not self._is_bound:
            self._is_bound = True
            self._bind(self._dealing.bound(streams=True))
        return self._entered(recipe, split)

    def _bind(self, there: Iterable[tuple[Recipe, str]]) -> None:
        for recipe, split in there:
            self._is_bound = True
            if has_group(recipe, self._splitting.group):
                self._entered(recipe, split)

    def _entered(self, recipe: Recipe, split: str | None) -> Place:
        chosen = self._choice(recipe) if split is None and self._choice is not None else None
        cluster = str(recipe.fields[CLUSTER]) if CLUSTER in recipe.fields else None
        # Those that are chosen need no group, and may lack the field.
        group = (
            "" if chosen and not has_group(recipe, self._splitting.group) else group_of(recipe, self._splitting.group)
        )
        place = Place(group, cluster, chosen, recipe.path, split)
        if split is not None:
            if any(step["step"] == LEFT_OUT for step in recipe.steps):
                # Nothing comes of a copy that is left out, so it ties nothing to its split.
                return place
            for kind, name in (("group", group), ("cluster", cluster)):
                if name is not None and self._kept.setdefault(_hashed(kind, name), split) != split:
                    raise CorpusError(self._straddles(recipe.path, kind, name, split))
        if cluster is not None and chosen:
            other, path = self._chosen.setdefault(cluster, (chosen, recipe.path))
            if other != chosen:
                raise CorpusError(self._cuts(path, other, recipe.path, chosen, "the same recording"))
        elif cluster is not None:
            self._joined.join(("group", place.group), ("cluster", cluster))
        return place

    def require_known_names(self) -> None:
        """Refuse a condition with a name that no recipe has.

        Raises:
            UsageError: names it, and the nearest that there is.
        """
        for one in self._conditions:
            one.refuse_unknown()

    def settled(self, place: Place) -> str | None:
        """The split of a recipe that nothing but its group decides, as long as no groups are joined."""
        if self._choice is not None or place.cluster is not None:
            return None
        return place.split or dealt_by_hash(place.group, self._splitting)

    @property
    def are_joined(self) -> bool:
        """Whether more than its own group decides about a recipe: a cluster, or another that keeps its split."""
        return bool(self._joined or self._kept)

    def split_of(self, place: Place) -> str:
        """Train, valid or test; a pure function of the group, or of what it was joined to, and the seed.

        Raises:
            CorpusError: a condition chooses some of a group and not the rest, or a group keeps two splits.
        """
        chosen = place.chosen or self._chosen.get(place.cluster or "", (None,))[0]
        group = place.group
        root = self._joined.root(("group", group)) if ("group", group) in self._joined else ("group", group)
        kept = self._kept_by(root) or self._kept.get(_hashed("cluster", place.cluster or ""))
        if place.split is not None:
            return place.split
        if chosen and kept not in (None, chosen):
            raise CorpusError(
                f"{self._chooser(chosen)} would put {place.path} into {chosen}, but others of its group are in "
                f"{kept} in the corpus that they come from. Leave one of them out with `tonemill select`, or give "
                "--redeal to assign all by the flags."
            )
        split = chosen or kept or dealt_by_hash(root[1], self._splitting)
        if self._choice is None or not place.group:
            return split
        before, path = self._dealt.setdefault(place.group, (split, place.path))
        if before != split:
            by = self._splitting.group
            what = "the same bytes" if by is None else f"the same {by}"
            raise CorpusError(self._cuts(path, before, place.path, split, what))
        return split

    def _cuts(self, one: str, its: str, other: str, others: str, what: str) -> str:
        return (
            f"{self._chooser(its if its != 'train' else others)} would put {one} into {its} and {other} into "
            f"{others}, though they have {what}. A model trained on one would be tested on the same sound. Choose "
            "both or neither, leave one out with `tonemill select`, or give --group path to tell them apart by "
            "path only."
        )

    def _chooser(self, split: str) -> str:
        flags = self._splitting
        if flags.split_by is not None:
            return f"--split-by {flags.split_by}"
        return f"--valid-where {flags.valid_where!r}" if split == "valid" else f"--test-where {flags.test_where!r}"

    def _kept_by(self, root: tuple[str, str]) -> str | None:
        """The split that a member of joined groups keeps, or a group that is joined with no other."""
        if self._kept and self._kept_together is None:
            self._kept_together = {}
            for name in self._joined.names():
                split = self._kept.get(_hashed(*name))
                if split is not None and self._kept_together.setdefault(self._joined.root(name), split) != split:
                    raise CorpusError(self._straddles("a copy", *self._joined.root(name), split))
        return (self._kept_together or {}).get(root) or self._kept.get(_hashed(*root))

    def _straddles(self, path: str, kind: str, name: str, split: str) -> str:
        by = CLUSTER if kind == "cluster" else self._splitting.group or "group"
        return (
            f"{path} comes from {split}, and another of its {by} {name[:80]!r} from another split. A model trained "
            "on one would be tested on the same sound. Leave one out with `tonemill select` or `tonemill dedup`, "
            "or give --redeal to assign all by the flags."
        )


def _hashed(kind: str, name: str) -> int:
    return number_of(f"{kind}\0{name}")
