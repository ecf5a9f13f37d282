"""For each example of a corpus the split and the group that go with it into another corpus."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tonemill.audiotools.errors import CorpusError
from tonemill.pipelines.corpus.layout import OutputFolder
from tonemill.pipelines.corpus.plan_file import PlanFile
from tonemill.pipelines.corpus.sidecar import source_key
from tonemill.pipelines.planning.splits import group_to_pass_on, has_group
from tonemill.pipelines.recipes.recipe import Recipe


class Origins:
    """Splits and groups of a corpus; its plan is read shard by shard, in the order of the index.

    Args:
        output: the corpus.
        splits: those that it has. Where all is in train nothing was held out, so a split is no fact about an example.
    """

    def __init__(self, output: OutputFolder, splits: Mapping[str, Any]) -> None:
        self._splits = splits.keys() - {"train"}
        self._shards = _groups_of_shards(output)
        self._shard = ""
        self._groups: dict[str, str] = {}

    def dealt(self, row: Mapping[str, Any]) -> dict[str, str]:
        """What `Recipe.dealt` holds for an example.

        Args:
            row: of the index.

        Raises:
            CorpusError: the plan is damaged.
        """
        while row["shard"] != self._shard:
            self._shard, self._groups = next(self._shards, (row["shard"], {}))
        key = source_key(row["key"])
        # Without a plan the clips of one source still belong together.
        group = self._groups.get(key) or f"key={key}"
        return {"split": row["split"], "group": group} if self._splits else {"group": group}


def _groups_of_shards(output: OutputFolder) -> Iterator[tuple[str, dict[str, str]]]:
    """The groups of each shard's sources by their keys, with the name of the shard."""
    if not output.plan.exists():
        return
    plan_file = PlanFile(output.plan)
    plan = plan_file.plan
    by = plan.splitting.group
    tables = plan_file.tables(("key", "recipe"))
    try:
        for shard, table in zip(plan.shards, tables, strict=True):
            records = json.loads(f"[{','.join(table['recipe'].to_pylist())}]")
            groups = {}
            for key, one in zip(table["key"].to_pylist(), records, strict=True):
                recipe = Recipe(one["path"], one["sources"], one.get("fields", {}), dealt=one.get("dealt", {}))
                if has_group(recipe, by):
                    groups[key] = group_to_pass_on(recipe, by)
            yield shard.name, groups
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CorpusError(f"{output.plan} is damaged: {error}. `tonemill repair {output.folder}` mends it.") from error
