"""A command reads a folder's plan once and lists the folder once, whatever it does with it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from conftest import Tonemill
from faults import FailingStore

from tonemill.pipelines.building import existing
from tonemill.pipelines.building.build import clear
from tonemill.pipelines.building.existing import ExistingFolder
from tonemill.pipelines.building.state import look
from tonemill.pipelines.corpus.layout import OutputFolder
from tonemill.pipelines.corpus.plan_file import PlanFile
from tonemill.pipelines.planning.plan import Output, Splitting
from tonemill.pipelines.planning.planner import make_plan
from tonemill.pipelines.recipes.recipe import Recipe
from tonemill.pipelines.storage.paths import place

FLAGS = ("--shard-seconds", 1, "-q", "--workers", 1)


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts of calls in this process that list a folder or read the head or a part of a plan's file."""
    counted: Counter[str] = Counter()

    def counting(module: Any, name: str, what: str) -> None:
        real = getattr(module, name)

        def call(*given: Any, **named: Any) -> Any:
            counted[what if what != "part" else f"part {given[1]}"] += 1
            return real(*given, **named)

        monkeypatch.setattr(module, name, call)

    counting(existing, "sizes_below", "listing")
    counting(existing, "PlanFile", "head")
    counting(PlanFile, "rows", "part")
    counting(PlanFile, "whole", "parts")
    return counted


@pytest.mark.parametrize(
    "words",
    [(), ("--append",), ("--update",), ("--overwrite", "--format", "wav"), ("--dry-run",), ("--planned",)],
    ids=" ".join,
)
def test_a_command_lists_a_folder_and_reads_its_plan_once(
    tonemill: Tonemill, plan: bytes, tmp_path: Path, counts: Counter[str], words: tuple[str, ...]
) -> None:
    tonemill("shard", tmp_path / "out", *FLAGS, stdin=plan).done()
    counts.clear()
    tonemill("shard", tmp_path / "out", *FLAGS, *words, stdin=plan).done()
    assert counts["head"] == counts["listing"] == 1
    assert not counts - Counter(dict.fromkeys(counts, 1)), "a part was read twice"
    assert (len(counts) > 2) == (words != ("--planned",))


def test_a_plan_is_read_again_where_its_file_is_another(tonemill: Tonemill, plan: bytes, tmp_path: Path) -> None:
    there = ExistingFolder(OutputFolder(tmp_path / "out", "shards"))
    assert there.plan() is there.whole_plan() is there.recorded() is None
    tonemill("shard", tmp_path / "out", *FLAGS, stdin=plan).done()
    first = there.plan()
    assert first is not None and not first.rows and there.plan() is first
    whole = there.whole_plan()
    assert whole is not None and len(whole.rows) == len(whole.shards) and there.plan() is whole
    tonemill("shard", tmp_path / "out", *FLAGS, "--overwrite", "--format", "wav", stdin=plan).done()
    again = there.plan()
    assert again is not None and again.digest != whole.digest


def test_flags_are_remembered_where_the_rest_of_a_plan_is_damaged(
    tonemill: Tonemill, plan: bytes, tmp_path: Path
) -> None:
    tonemill("shard", tmp_path / "out", *FLAGS, "--valid", 0.5, stdin=plan).done()
    path = tmp_path / "out" / "plan.parquet"
    content = bytearray(path.read_bytes())
    content[10] ^= 255
    path.write_bytes(content)
    recorded = ExistingFolder(OutputFolder(tmp_path / "out", "shards")).recorded()
    assert recorded is not None and recorded.splitting.valid == 0.5


def test_what_is_not_there_in_a_store_is_looked_for_in_one_listing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not five requests for each shard of a new corpus, before the first of them is cooked."""
    store = FailingStore(tmp_path)
    for module in ("storage.stores", "storage.store_path"):
        monkeypatch.setattr(f"tonemill.pipelines.{module}.store_of", lambda scheme: store)
    source = {"audio": {"uri": "s3://bucket/x.wav", "frames": 8000, "sample_rate": 8000, "channels": 1}}
    plan = make_plan([Recipe(f"{n}.wav", source) for n in range(9)], Output("shards"), Splitting(), 1.0)
    output = OutputFolder(place("s3://bucket/out"), "shards")
    clear(output, plan, look(ExistingFolder(output), plan))
    assert len(plan.shards) == 9 and not [key for _, key in store.calls if "train/" in key]
