"""Leave out a copy only if a better copy is kept: a later step may refuse the one that `dedup` chose."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from tonemill.audiotools.errors import Doubtful
from tonemill.audiotools.reject_reasons import TRANSIENT
from tonemill.pipelines.cooking.cook import cook
from tonemill.pipelines.cooking.journal import Journal
from tonemill.pipelines.corpus.plan_file import PlanFile
from tonemill.pipelines.planning.plan import Planned, digest_of, pack
from tonemill.pipelines.planning.splits import CLUSTER, LEFT_OUT
from tonemill.pipelines.recipes.recipe import Recipe
from tonemill.pipelines.sources.reach import reach, sources_of


def settled(rows: Sequence[Planned], plan_file: Path, journal: Journal) -> list[Planned]:
    """The recipes of a shard. A copy that `dedup` left out is cooked if no better copy is kept.

    Args:
        rows: recipes of the shard.
        plan_file: plan with the recipes of all shards; better copies may be in any of them.
        journal: of the shard.
    """
    return [row if not _is_left_out(row.recipe) else _settled(row, plan_file, journal) for row in rows]


def _is_left_out(recipe: Recipe) -> bool:
    return bool(recipe.steps) and recipe.steps[0]["step"] == LEFT_OUT


def _settled(row: Planned, plan_file: Path, journal: Journal) -> Planned:
    step, cluster = row.recipe.steps[0], row.recipe.fields.get(CLUSTER)
    if cluster is None:
        return row
    status = plan_file.stat()
    members = _clusters(plan_file, status.st_size, status.st_mtime_ns, status.st_ino).get(str(cluster), [])
    mine = _place(row.recipe)
    for other in sorted(members, key=lambda one: (_place(one.recipe), one.key)):
        of = other.recipe.path if not _is_left_out(other.recipe) else other.recipe.steps[0]["of"]
        if of != step["of"] or (_place(other.recipe), other.key) >= (mine, row.key):
            continue
        verdict = _verdict(other, row.position, journal)
        # A copy with a transient failure may be kept when it is tried again.
        if verdict == "kept" or verdict in TRANSIENT:
            return _with_steps(row, [{**step, "of": other.recipe.path}, *row.recipe.steps[1:]])
    return _with_steps(row, row.recipe.steps[1:])


def _place(recipe: Recipe) -> int:
    """Rank of a copy in its cluster: 0 for the one that `dedup` chose, then 1, 2, ... from better to worse."""
    return int(recipe.steps[0].get("rank", 1)) if _is_left_out(recipe) else 0


def _with_steps(row: Planned, steps: list[dict[str, Any]]) -> Planned:
    line = replace(row.recipe, steps=steps).to_line()
    return replace(row, packed=pack(line))


_verdicts: dict[str, str] = {}


def _verdict(other: Planned, position: int, journal: Journal) -> str:
    """`kept` if a recipe gives examples, else the reject reason; each recipe is cooked once in a process."""
    steps = other.recipe.steps[1:] if _is_left_out(other.recipe) else other.recipe.steps
    # The journal names a source of this shard, also while the copy from another shard is decoded.
    alone = replace(_with_steps(other, steps), position=position)
    name = digest_of(alone.line)
    if name not in _verdicts:
        verdict = "none"
        for outcome in cook([alone], journal):
            if outcome.of_source and outcome.error is not None:
                error = outcome.error
                if isinstance(error, Doubtful):
                    # `reach` decides, as at the end of a shard, between a missing source and one out of reach.
                    error = reach.verdict(sources_of(other.recipe)[0], error, time.monotonic())
                verdict = error.reason
                break
            if outcome.error is None:
                verdict = "kept"
        if verdict in TRANSIENT:
            return verdict
        _verdicts[name] = verdict
    return _verdicts[name]


@lru_cache(maxsize=2)
def _clusters(plan_file: Path, *_: int) -> dict[str, list[Planned]]:
    """The recipes of a plan that are in a cluster of copies, by cluster."""
    found: dict[str, list[Planned]] = defaultdict(list)
    columns = ("key", "name", "recipe")
    for table in PlanFile(plan_file).batches(columns):
        for key, name, text in zip(*(table[column].to_pylist() for column in columns), strict=True):
            if f'"{CLUSTER}":' in text:
                cluster = json.loads(text)["fields"].get(CLUSTER)
                found[str(cluster)].append(Planned(0, key, name, 0, 0.0, pack(text)))
    return dict(found)
