"""Sources of a shard that are in a store are fetched while others are cooked: as many as fit, and with no other end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import contents, reasons, write_wav
from faults import Answered, FailingStore
from making import QUIET

from tonemill.audiotools.errors import MachineError, OutputError
from tonemill.pipelines.building import build
from tonemill.pipelines.cooking import ahead, journal, status
from tonemill.pipelines.cooking.shard import cook_shard
from tonemill.pipelines.corpus import plan_file
from tonemill.pipelines.corpus.layout import OutputFolder, ShardFiles
from tonemill.pipelines.engine.engine import Engine
from tonemill.pipelines.planning.plan import Output, Splitting
from tonemill.pipelines.planning.planner import make_plan
from tonemill.pipelines.recipes.recipe import Recipe
from tonemill.pipelines.sources import reader, scan
from tonemill.pipelines.sources.reach import Reach, reach
from tonemill.pipelines.storage import copies, stores
from tonemill.pipelines.storage.paths import place, scratch
from tonemill.pipelines.storage.store_path import StorePath

COUNT = 12


class Watching(FailingStore):
    """Refuses some sources, counts those that are fetched at once, and may hold back each until others wait too."""

    refused: frozenset[str] = frozenset()
    together: threading.Barrier | None = None
    largest = 0

    def fetch(self, key: str, target: Path) -> None:
        if self.together is not None:
            self.together.wait()
        if Path(key).name in self.refused:
            raise Answered(403)
        super().fetch(key, target)
        self.largest = max(self.largest, sum(path.suffix == ".wav" for path in Path(str(target.parent)).iterdir()))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watching]:
    """A store with sources, and a command that cooks in this process."""

    def run(home: Path, left: Any, *_: Any, **__: Any) -> None:
        for number in sorted(left()):
            cook_shard(home, number)
        journal.forget(home, None)

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(copies, "_held", {})
    monkeypatch.setattr(stores, "PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(build, "run", run)
    made = Watching(tmp_path / "store")
    for module in ("storage.stores", "storage.store_path", "sources.reach"):
        monkeypatch.setattr(f"tonemill.pipelines.{module}.store_of", lambda scheme: made)
    for number in range(COUNT):
        write_wav(made.folder / "bucket" / "in" / f"{number:02d}.wav", frames=400, seed=number)
    Reach.__init__(reach)
    yield made
    Reach.__init__(reach)
    copies.discard()


@pytest.fixture
def recipes(store: Watching) -> list[Recipe]:
    sources = [StorePath("s3", f"bucket/in/{number:02d}.wav") for number in range(COUNT)]
    return [Recipe(one.name, {"audio": scan.describe(one)}) for one in sources]  # type: ignore[arg-type]


def made(recipes: list[Recipe], folder: Path) -> Path:
    plan = make_plan(recipes, Output("shards"), Splitting(), 1e6)
    build.produce(build.Build(folder, plan, Engine(1), QUIET))
    return folder


def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead.Ahead, "take", lambda _, row, role: reader.bring(row.recipe.sources[role]))


def test_as_many_are_fetched_at_once_as_may_be_and_no_more_are_kept(
    store: Watching, recipes: list[Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.together, store.largest = threading.Barrier(4, timeout=60), 0
    monkeypatch.setattr(ahead, "MOST_SOURCES", 4)
    found = made(recipes, tmp_path / "ahead")
    # Four that wait for their turn, the one that is cooked, and one whose turn has just ended.
    assert 4 <= store.largest <= 6
    store.together = None
    one_by_one(monkeypatch)
    assert contents(made(recipes, tmp_path / "one by one")) == contents(found)
    assert not list(copies._folder(again=False).glob("*.wav"))


def test_no_more_bytes_are_kept_than_may_be(
    store: Watching, recipes: list[Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.largest = 0
    size = recipes[0].sources["audio"]["bytes"]
    monkeypatch.setattr(ahead, "MOST_BYTES", size * 5 // 2)
    made(recipes, tmp_path / "two")
    assert store.largest <= 4
    for recipe in recipes:
        recipe.sources["audio"].pop("bytes")
    store.largest = 0
    made(recipes, tmp_path / "of unknown size")
    assert store.largest <= 3


def test_refusals_are_those_of_sources_that_are_fetched_in_their_turn(
    store: Watching, recipes: list[Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.refused = frozenset({"03.wav", "04.wav", "11.wav"})
    (store.folder / "bucket" / "in" / "07.wav").unlink()
    write_wav(store.folder / "bucket" / "in" / "08.wav", frames=300, seed=99)
    found = made(recipes, tmp_path / "ahead")
    assert reasons(found) == {
        **dict.fromkeys(("03.wav", "04.wav", "11.wav"), "forbidden"),
        "07.wav": "missing",
        "08.wav": "changed",
    }
    one_by_one(monkeypatch)
    assert contents(made(recipes, tmp_path / "one by one")) == contents(found)


def test_a_tmpdir_with_room_for_one_source_is_enough(
    store: Watching, recipes: list[Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once, lock = [0], threading.Lock()

    def bring(record: dict[str, Any]) -> Any:
        with lock:
            at_once[0] += 1
        try:
            if at_once[0] > 1:
                raise MachineError("TMPDIR is full")
            return reader.bring(record)
        finally:
            with lock:
                at_once[0] -= 1

    monkeypatch.setattr(ahead, "bring", bring)
    assert not reasons(made(recipes, tmp_path / "out"))


def test_a_machine_that_lacks_room_for_one_source_ends_the_command(
    recipes: list[Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bring(_: dict[str, Any]) -> Any:
        raise MachineError("TMPDIR is full")

    monkeypatch.setattr(ahead, "bring", bring)
    with pytest.raises(MachineError, match="TMPDIR is full"):
        made(recipes, tmp_path / "out")


def test_a_shard_is_put_by_what_its_worker_is_handed_and_leaves_nothing_here(
    store: Watching, recipes: list[Recipe], tmp_path: Path
) -> None:
    home = place("s3://bucket/out")
    plan_file.write_plan(OutputFolder(home, "shards"), make_plan(recipes, Output("shards"), Splitting(), 1e6))
    plan = {path.name for path in home.iterdir()}
    handed: list[Any] = []
    token = status.COMMITTED.set(handed.append)
    try:
        for _ in range(2):
            cook_shard(home, 0)
    finally:
        status.COMMITTED.reset(token)
    assert {path.name for path in home.iterdir()} == plan and not journal.suspected(home)
    store.fail_at, store.error = len(store.calls), Answered(403)
    with pytest.raises(OutputError, match=r"s3://bucket/out/train/000000\.tar cannot be written"):
        handed[0]()
    assert {path.name for path in home.iterdir()} == plan
    handed[1]()
    made(recipes, tmp_path / "here")
    assert (store.folder / "bucket" / "out" / "train/000000.tar").read_bytes() == (
        tmp_path / "here" / "train/000000.tar"
    ).read_bytes()
    assert ShardFiles(home / "train/000000").read_sidecar() is not None
    assert not [path for path in scratch(home).rglob("*") if path.is_file()]
