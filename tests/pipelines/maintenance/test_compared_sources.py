"""What `diff` holds of a plan's sources: all of it is the plan's, whatever part of the recipes is read at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from tonemill.pipelines.corpus.layout import OutputFolder
from tonemill.pipelines.corpus.plan_file import EARLIER, SCHEMA, PlanFile, write_plan
from tonemill.pipelines.maintenance import compared_sources
from tonemill.pipelines.maintenance.compared_sources import ComparedSources, numbers_of
from tonemill.pipelines.planning.plan import Output, Splitting
from tonemill.pipelines.planning.planner import make_plan
from tonemill.pipelines.recipes.recipe import Recipe

SOURCE = {"uri": "file:///a.wav", "bytes": 1, "sample_rate": 8000, "channels": 1, "frames": 8000}


def recipe(number: int) -> Recipe:
    return Recipe(f"{number}.wav", {"audio": {**SOURCE, "sha256": f"{number:064x}"}}, {"take": number})


@pytest.mark.parametrize("schema", [EARLIER, SCHEMA])
def test_all_of_a_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schema: int) -> None:
    monkeypatch.setattr(compared_sources, "AT_ONCE", 7)
    plan = make_plan(map(recipe, range(50)), Output("shards"), Splitting(valid=0.3), 3.0)
    write_plan(OutputFolder(tmp_path, "shards"), plan, schema)
    found = ComparedSources(PlanFile(tmp_path / "plan.parquet"))
    rows = {row.key: (shard.split, row) for shard, rows in zip(plan.shards, plan.rows, strict=True) for row in rows}
    keys = [f"{key:016x}" for key in found.keys.tolist()]
    assert keys == sorted(rows)
    assert [compared_sources.SPLITS[split] for split in found.splits] == [rows[key][0] for key in keys]
    chosen = np.random.default_rng(0).permutation(50)[:40]
    assert list(found.recipes(chosen)) == [rows[keys[number]][1].recipe for number in chosen]
    assert not list(found.recipes(chosen[:0]))
    other = replace(plan, rows=type(plan.rows)([replace(row, clips=9) for row in some] for some in plan.rows))
    (tmp_path / "other").mkdir()
    write_plan(OutputFolder(tmp_path / "other", "shards"), other, schema)
    again = ComparedSources(PlanFile(tmp_path / "other" / "plan.parquet"))
    assert (again.digests == found.digests).all() and len(np.unique(found.digests, axis=0)) == 50

    known, clipped = keys[3], keys[5]
    columns = {
        "key": [known, clipped, known, "f" * 16, "not a key", None],
        "clip": [None, 2, None, None, None, None],
        "reason": ["silent", "silent", None, "missing", "missing", "missing"],
        "step": ["trim", "trim", "loops", "read", "read", "read"],
    }
    parquet.write_table(pa.table(columns), tmp_path / "rejects.parquet")
    refused = found.refusals(tmp_path / "rejects.parquet")
    assert refused[3] == "None in loops"
    assert not [why for number, why in enumerate(refused) if number != 3 and why is not None]


def test_numbers_of_keys_are_in_their_order() -> None:
    keys = sorted(["0" * 15 + "1", "00ff" * 4, "8" * 16, "f" * 16])
    assert numbers_of(pa.array(keys)).tolist() == [int(key, 16) for key in keys]
    assert numbers_of(pa.array([None, "", "F" * 16, "0" * 17])).tolist() == [0] * 4
