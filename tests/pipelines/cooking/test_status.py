"""What a process counts of a shard under way is right too when a runner gives it the same shard twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import write_wav

from tonemill.audiotools.codecs.encoding import Encoded, encode
from tonemill.audiotools.waveform import Flow, Sound
from tonemill.pipelines.cooking import shard
from tonemill.pipelines.cooking.ahead import Fetch
from tonemill.pipelines.cooking.cook import Outcome, cook
from tonemill.pipelines.cooking.journal import Journal
from tonemill.pipelines.cooking.shard import cook_shard
from tonemill.pipelines.cooking.status import UnderWay, under_way
from tonemill.pipelines.corpus.plan_file import PlanFile, dump_plan
from tonemill.pipelines.dedup.fingerprints import fingerprint_shard
from tonemill.pipelines.planning.plan import Output, Planned, Splitting
from tonemill.pipelines.planning.planner import make_plan
from tonemill.pipelines.sources import scan
from tonemill.pipelines.storage.output_names import PLAN


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with a plan of one shard, of which the last source is broken."""
    for number in range(3):
        write_wav(tmp_path / "raw" / f"{number}.wav", 8000, seed=number)
    plan = make_plan(scan.scan(scan.find_audio([str(tmp_path / "raw")])), Output("shards"), Splitting(), 1e6)
    (tmp_path / "raw" / "2.wav").write_bytes(b"no sound")
    home = tmp_path / "home"
    home.mkdir()
    with (home / PLAN).open("wb") as file:
        dump_plan(plan, file)
    return home


def test_a_shard_that_is_done_twice_counts_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = []

    def noted(rows: Sequence[Planned], journal: Journal, fetch: Fetch) -> Iterator[Outcome]:
        begun.append(replace(under_way[0]))
        yield from cook(rows, journal, fetch)

    monkeypatch.setattr(shard, "cook", noted)
    for _ in range(2):
        cook_shard(home, 0)
        assert under_way[0] == UnderWay(pytest.approx(3.0), 1, 1)
    assert begun == [UnderWay()] * 2


def test_a_source_counts_while_it_is_read_and_stored(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A single file of an hour is not at 0 until it is done."""
    seen: list[float] = []

    def noted(sound: Sound, *rest: Any) -> Encoded:
        assert isinstance(sound, Flow)
        # Twice, as a container may be written that states levels first.
        for _ in range(2):
            assert sum(block.shape[1] for block in sound.blocks()) == 8000
            seen.append(under_way[0].seconds)
        return encode(sound, *rest)

    monkeypatch.setattr(shard, "encode", noted)
    cook_shard(home, 0)
    paths = [row.recipe.path for row in PlanFile(home / PLAN).rows(0)]
    sound = [number + 1.0 for number, path in enumerate(paths) if path != "2.wav"]
    assert seen == pytest.approx([seconds for seconds in sound for _ in range(2)])
    assert under_way[0].seconds == pytest.approx(3.0)


def test_a_shard_that_is_fingerprinted_twice_counts_once(home: Path) -> None:
    for _ in range(2):
        fingerprint_shard(home, 0)
        assert under_way[0].seconds == pytest.approx(3.0)
