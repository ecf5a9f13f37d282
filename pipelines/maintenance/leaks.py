"""What stands in more than one split of a plan though it belongs together."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from tonemill.audiotools.errors import CorpusError
from tonemill.pipelines.corpus.plan_file import PlanFile
from tonemill.pipelines.planning.splits import CLUSTER
from tonemill.pipelines.planning.straddling import straddling
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
    kinds = list(dict.fromkeys((None, by, CLUSTER)))
    straddle = straddling(partial(_recipes, plan_file, file), kinds, one_in)
    found = []
    for kind in kinds:
        if kind == CLUSTER and kind not in straddle and kind != by:
            continue
        groups = straddle.get(kind, {}).values()
        places = [tuple(f"{split}: {path}" for split, path in one.items()) for one in groups]
        found.append(Leak(kind or "equal bytes", kind == by, len(places), tuple(places[:shown]), one_in))
    return found


def _recipes(path: Path, file: PlanFile) -> Iterator[tuple[str, Recipe]]:
    """Every recipe as far as groups need it, with its split; a million in seconds, for a plan was checked before."""
    try:
        for shard, table in zip(file.plan.shards, file.tables(("recipe",)), strict=True):
            for record in json.loads(f"[{','.join(table['recipe'].to_pylist())}]"):
                fields, dealt = record.get("fields", {}), record.get("dealt", {})
                yield shard.split, Recipe(record["path"], record["sources"], fields, dealt=dealt)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorpusError(f"{path} is damaged: {error}.") from error
