"""What stands in more than one split of a plan though it belongs together."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tonemill.audiotools.errors import CorpusError
from tonemill.pipelines.corpus.plan_file import PlanFile
from tonemill.pipelines.planning.splits import CLUSTER, group_of, has_group
from tonemill.pipelines.recipes.recipe import Recipe

EXACT: Final = 400_000
"""With more recipes than this, `leaks` can be limited to a part of the groups."""


@dataclass(frozen=True)
class Leak:
    """One way in which recipes belong together, and how many of these groups straddle splits.

    Args:
        group: what it is, in words.
        dealt_by: the plan was dealt by it, so there should be none.
        count: of groups in more than one split.
        examples: some of them, with their splits.
        one_in: only one group in so many was looked at.
    """

    group: str
    dealt_by: bool
    count: int
    examples: tuple[tuple[str, ...], ...]
    one_in: int = 1


def leaks(plan_file: Path, most: int = EXACT, shown: int = 20) -> list[Leak]:
    """Every kind of group of a plan, with those that straddle splits; nothing for a plan of one split.

    Args:
        plan_file: of a corpus or a folder of files.
        most: with more recipes, one group in so many that about these are left is looked at: whole groups, chosen by
            their names, so that the share of leaks is kept.
        shown: examples of each kind.

    Raises:
        CorpusError: it is no plan, or a damaged one.
    """
    file = PlanFile(plan_file)
    plan = file.plan
    if len({shard.split for shard in plan.shards}) < 2:
        return []
    one_in = -(-plan.recipes // most)
    by = plan.splitting.group
    kinds = {None: _Kind(one_in), by: _Kind(one_in), CLUSTER: _Kind(one_in)}
    # Paths of groups that straddle are read in a second pass: those of all others would fill the memory.
    for enter in (_Kind.meet, _Kind.name):
        for split, recipe in _recipes(plan_file, file):
            for group, kind in kinds.items():
                if has_group(recipe, group):
                    enter(kind, group_of(recipe, group), split, recipe.path)
        if not any(kind.straddle for kind in kinds.values()):
            break
    found = []
    for group, kind in kinds.items():
        if group == CLUSTER and not kind.first and group != by:
            continue
        several = [one for one in kind.places.values() if len(one) > 1]
        places = [tuple(f"{split}: {path}" for split, path in one.items()) for one in several]
        found.append(Leak(group or "equal bytes", group == by, len(places), tuple(places[:shown]), one_in))
    return found


class _Kind:
    """Groups of one kind: the split that each was seen in first, and paths of those seen elsewhere too.

    Args:
        one_in: only one group in so many is looked at.
    """

    def __init__(self, one_in: int) -> None:
        self._one_in = one_in
        self.first: dict[int, str] = {}
        self.straddle: set[int] = set()
        self.places: dict[str, dict[str, str]] = {}

    def meet(self, name: str, split: str, _: str) -> None:
        """First pass: which groups are in more than one split, by hashes of their names."""
        if self._one_in > 1 and zlib.crc32(name.encode("utf-8", "backslashreplace")) % self._one_in:
            return
        if self.first.setdefault(hash(name), split) != split:
            self.straddle.add(hash(name))

    def name(self, name: str, split: str, path: str) -> None:
        """Second pass: their names, and a path in each split."""
        if hash(name) in self.straddle:
            self.places.setdefault(name, {}).setdefault(split, path)


def _recipes(path: Path, file: PlanFile) -> Iterator[tuple[str, Recipe]]:
    """Every recipe as far as groups need it, with its split; a million in seconds, for a plan was checked before."""
    try:
        for shard, table in zip(file.plan.shards, file.tables(("recipe",)), strict=True):
            for record in json.loads(f"[{','.join(table['recipe'].to_pylist())}]"):
                fields, dealt = record.get("fields", {}), record.get("dealt", {})
                yield shard.split, Recipe(record["path"], record["sources"], fields, dealt=dealt)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorpusError(f"{path} is damaged: {error}.") from error
