"""`remove` and `repair` in a store, killed at each put and each deletion: given again they end as if never killed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import contents, write_wav
from faults import FailingStore
from making import QUIET

from tonemill.pipelines.building import build
from tonemill.pipelines.cooking import journal
from tonemill.pipelines.cooking.shard import cook_shard
from tonemill.pipelines.engine.engine import Engine
from tonemill.pipelines.maintenance import removal, repair
from tonemill.pipelines.maintenance.verification import verify
from tonemill.pipelines.planning.plan import Output
from tonemill.pipelines.planning.planner import Splitting, make_plan
from tonemill.pipelines.recipes.recipe import Recipe
from tonemill.pipelines.sources import scan
from tonemill.pipelines.storage import copies
from tonemill.pipelines.storage.paths import place

THERE = place("s3://bucket/out")
REMOVED = ["0.wav", "3.wav"]
STEPS = [{"step": "slice", "samples": 200}]
STRIDES = [11, pytest.param(1, marks=pytest.mark.slow)]


class Killed(BaseException):
    """The command was killed."""


@dataclass
class DyingStore(FailingStore):
    """A store whose client is killed at a change, by number; nothing is changed after that.

    Args:
        changes: how many there were.
        last: the number of the change before which the client is killed; None never.
    """

    changes: int = 0
    last: int | None = None

    def _change(self) -> None:
        if self.last is not None and self.changes >= self.last:
            raise Killed
        self.changes += 1

    def put(self, key: str, source: Path) -> None:
        self._change()
        super().put(key, source)

    def remove(self, key: str) -> None:
        self._change()
        super().remove(key)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DyingStore]:
    """A store in place of every other, a TMPDIR of this test, and shards that are cooked in this process."""

    def run(home: Path, left: Callable[[], Collection[int]], *_: Any, **__: Any) -> None:
        for number in sorted(left()):
            cook_shard(home, number)
        journal.forget(home, None)
        copies.tidy()

    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(copies, "_held", {})
    (tmp_path / "tmp").mkdir()
    made = DyingStore(tmp_path / "store")
    for module in ("storage.stores", "storage.store_path", "sources.reach"):
        monkeypatch.setattr(f"tonemill.pipelines.{module}.store_of", lambda scheme: made)
    for module in (build, repair):
        monkeypatch.setattr(module, "run", run)
    yield made
    copies.discard()


@pytest.fixture(params=["shards", "files"])
def whole(request: pytest.FixtureRequest, tmp_path: Path, store: DyingStore) -> Path:
    """A corpus, or a folder of files, of three shards; one shard holds a single source."""
    for number in range(5):
        write_wav(tmp_path / "in" / f"{number}.wav", frames=400, seed=number)
    recipes = [
        Recipe(one.path, one.sources, one.fields, STEPS)
        for one in scan.scan(scan.find_audio([str(tmp_path / "in")]), workers=1)
    ]
    output = Output(request.param, "flac")
    plan = make_plan(recipes, output, Splitting(), 0.1)
    assert sorted(shard.recipes for shard in plan.shards) == [1, 2, 2]
    build.produce(build.Build(tmp_path / "whole", plan, Engine(1), QUIET))
    return tmp_path / "whole"


def killed_at(store: DyingStore, start: Path, number: int, act: Callable[[], object]) -> bool:
    """Begin with a folder's bytes and kill the command at a change; whether it came so far. Then give it again."""
    there = store.folder / "bucket" / "out"
    shutil.rmtree(there, ignore_errors=True)
    shutil.copytree(start, there)
    store.changes, store.last = 0, number
    try:
        act()
        return False
    except Killed:
        # What a killed command holds is free; the lease of this process would count as alive.
        shutil.rmtree(there / ".tonemill-leases", ignore_errors=True)
    finally:
        store.last = None
    act()
    return True


@pytest.mark.parametrize("whole", ["shards"], indirect=True)
@pytest.mark.parametrize("stride", STRIDES)
def test_a_removal_killed_at_any_change(whole: Path, tmp_path: Path, store: DyingStore, stride: int) -> None:
    def remove(folder: Path) -> removal.Removed:
        return removal.remove(folder, lambda planned, _: planned.recipe.path in REMOVED, REMOVED, [], False)

    expected = shutil.copytree(whole, tmp_path / "expected")
    assert len(remove(expected).sources) == 2
    number = 0
    while killed_at(store, whole, number, lambda: remove(THERE)):
        assert contents(store.folder / "bucket" / "out") == contents(expected), number
        number += stride
    assert contents(store.folder / "bucket" / "out") == contents(expected)
    # The lease, what is staged, the mark, what is put in place and taken away, and the tables and the description.
    assert store.changes > 30


@pytest.mark.parametrize("stride", STRIDES)
def test_a_repair_killed_at_any_change(whole: Path, tmp_path: Path, store: DyingStore, stride: int) -> None:
    broken = shutil.copytree(whole, tmp_path / "broken")
    sounds = sorted(path for path in broken.rglob("*") if path.suffix in (".tar", ".flac"))
    sounds[0].write_bytes(sounds[0].read_bytes()[:-1])
    sounds[-1].unlink()
    next(iter(sorted(broken.rglob("000001.index.parquet")))).write_bytes(b"PAR1")
    number = 0
    while killed_at(store, broken, number, lambda: repair.repair(THERE, True, Engine(1), QUIET)):
        assert contents(store.folder / "bucket" / "out") == contents(whole), number
        number += stride
    assert contents(store.folder / "bucket" / "out") == contents(whole)
    assert store.changes > 10 and not verify(THERE, False, QUIET).findings
