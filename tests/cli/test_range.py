"""`--range`: parts of a plan, cooked by commands that know nothing of each other, are the whole."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from conftest import SHARDING, Tonemill, contents, leftovers, lines_of, stream_of

from tonemill.audiotools.errors import UsageError
from tonemill.pipelines.building.shard_range import parse_portion
from tonemill.pipelines.storage import commit, folders

TYPED = {"0:3": (0, 3), "2:": (2, 9), ":4": (0, 4), ":": (0, 9), "0:0": (0, 0), "7:100": (7, 9), "20:30": (9, 9)}


@pytest.mark.parametrize("typed", TYPED)
def test_a_range_is_read_as_python_slices(typed: str) -> None:
    numbers = parse_portion(typed).numbers(9)
    assert (numbers.start, numbers.stop) == TYPED[typed]


@pytest.mark.parametrize("typed", ["", "3", "-1:2", "1:2:3", "a:b", " 1:2"])
def test_anything_else_is_refused(typed: str) -> None:
    with pytest.raises(UsageError, match="--range"):
        parse_portion(typed)


@pytest.mark.parametrize("sink", ["shard", pytest.param("write", marks=pytest.mark.slow)])
def test_ranges_and_a_last_call_give_what_one_command_gives(
    tonemill: Tonemill, plan: bytes, corpus: Path, tmp_path: Path, sink: str
) -> None:
    flags, whole, out = SHARDING, corpus, tmp_path / "out"
    if sink == "write":
        flags, whole = ("--shard-seconds", 2, "-q"), tmp_path / "whole"
        tonemill(sink, whole, *flags, stdin=plan).done()
    first = tonemill(sink, out, *flags, "--range", "0:0", stdin=plan).done().line
    shards = first["shards"]
    assert shards > 3 and first["cooked"] == 0
    cooked = 0
    for begin in range(0, shards, 4):
        # Some get the stream, others use the plan in the folder.
        words = ["--range", f"{begin}:{begin + 4}", *(["--planned", "-q"] if begin % 8 else flags)]
        line = tonemill(sink, out, *words, stdin=b"" if begin % 8 else plan).done().line
        assert line["range"] == [begin, min(shards, begin + 4)] and line["there_already"] == 0
        cooked += line["cooked"]
        assert not (out / "corpus.json").exists()
    assert cooked == shards
    again = tonemill(sink, out, "--planned", "--range", ":", "-q").done().line
    assert (again["cooked"], again["there_already"], again["sources"]) == (0, shards, 16)
    tonemill(sink, out, "--planned", "-q").done()
    assert contents(out) == contents(whole)


def test_the_last_call_makes_what_no_range_has_made(
    tonemill: Tonemill, plan: bytes, corpus: Path, tmp_path: Path
) -> None:
    tonemill("shard", tmp_path / "out", *SHARDING, "--range", "1:2", stdin=plan).done()
    assert len(list((tmp_path / "out").rglob("*.tar"))) == 1
    tonemill("shard", tmp_path / "out", "--planned", "-q").done()
    assert contents(tmp_path / "out") == contents(corpus)


def test_a_range_refuses_another_plan_and_updates_when_a_flag_allows_it(
    tonemill: Tonemill, plan: bytes, corpus: Path, tmp_path: Path
) -> None:
    shutil.copytree(corpus, tmp_path / "out")
    shutil.copytree(corpus, tmp_path / "whole")
    fewer = stream_of(lines_of(plan)[:-1])
    tonemill("shard", tmp_path / "whole", *SHARDING, "--update", stdin=fewer).done()
    tonemill("shard", tmp_path / "out", *SHARDING, "--range", "0:1", stdin=fewer).refused(
        1, "other sources or with other steps", "--update"
    )
    assert (tmp_path / "out" / "corpus.json").exists()
    for words in (["0:3"], ["3:"]):
        tonemill("shard", tmp_path / "out", *SHARDING, "--update", "--range", *words, stdin=fewer).done()
    tonemill("shard", tmp_path / "out", "--planned", "-q").done()
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_planned_needs_a_plan_that_is_whole(tonemill: Tonemill, plan: bytes, tmp_path: Path) -> None:
    out = tmp_path / "out"
    tonemill("shard", out, "--planned").refused(1, "no plan", "--range 0:0")
    tonemill("shard", out, *SHARDING, "--range", "0:0", stdin=plan).done()
    tonemill("shard", out, "--planned", "--append").refused(2, "--planned")
    data = bytearray((out / "plan.parquet").read_bytes())
    data[len(data) // 2] ^= 1
    (out / "plan.parquet").write_bytes(data)
    tonemill("shard", out, "--planned", "--range", "0:1").refused(1, "damaged", "Pipe the recipes in again")


def test_damaged_recipes_are_named_before_a_table_of_the_whole_is_removed(
    tonemill: Tonemill, corpus: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(corpus, tmp_path / "out"))
    (out / "train/000001.json").unlink()
    with (out / "plan.parquet").open("r+b") as file:
        file.seek(60)
        (byte,) = file.read(1)
        file.seek(60)
        file.write(bytes([byte ^ 1]))
    before = contents(out)
    tonemill("shard", out, "--planned", "-q").refused(1, "plan.parquet is damaged")
    assert contents(out) == before


def test_a_command_that_is_refused_leaves_no_folder(tonemill: Tonemill, plan: bytes, tmp_path: Path) -> None:
    tonemill("shard", tmp_path / "out", "--runner", "NoRunner", "-q", stdin=plan).refused(2, "no such runner")
    assert not (tmp_path / "out").exists()


def test_ranges_stand_beside_each_other_and_not_beside_the_whole(
    tonemill: Tonemill, plan: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tonemill.pipelines.building.shard_range.PLAN_SECONDS", 0.3)
    out = tmp_path / "out"
    tonemill("shard", out, *SHARDING, "--range", "0:0", stdin=plan).done()
    with folders.locked(out, together=True):
        tonemill("shard", out, "--planned", "--range", "0:1", "-q").done()
        tonemill("shard", out, "--planned", "-q").refused(1, "Another command is writing")
    with folders.locked(out):
        tonemill("shard", out, "--planned", "--range", "1:2", "-q").refused(1, "Another command is writing")
    tonemill("shard", out, "--planned", "--range", "1:2", "-q").done()


def test_a_range_sweeps_nothing_of_another(tonemill: Tonemill, plan: bytes, tmp_path: Path) -> None:
    out = tmp_path / "out"
    tonemill("shard", out, *SHARDING, "--range", "0:1", stdin=plan).done()
    under_way, journal = out / "train" / f"{commit.TEMPORARY}abc", out / ".tonemill-journals" / "2"
    under_way.write_bytes(b"half a shard")
    journal.parent.mkdir(exist_ok=True)
    journal.write_text(f"{3:15d}\n")
    tonemill("shard", out, "--planned", "--range", "1:2", "-q").done()
    assert under_way.exists() and journal.read_text() == f"{3:15d}\n"
    tonemill("shard", out, "--planned", "-q").done()
    assert not leftovers(out) and not journal.parent.exists()


@pytest.mark.slow
def test_ranges_at_once_killed_at_random_moments_give_the_same_bytes(
    tonemill: Tonemill, plan: bytes, tmp_path: Path, environment: dict[str, str]
) -> None:
    kills = 12
    recipes = [one | {"path": f"{copy}/{one['path']}"} for copy in range(4) for one in lines_of(plan)]
    (tmp_path / "plan.jsonl").write_bytes(stream_of(recipes))
    flags = ["--shard-seconds", "1", "-q", "--workers", "1"]
    tonemill("shard", tmp_path / "whole", *flags, stdin=stream_of(recipes)).done()
    shards = len(list((tmp_path / "whole").rglob("0*.tar")))

    def start(part: int) -> subprocess.Popen[bytes]:
        words = ["shard", tmp_path / "out", *flags, "--range", f"{part * shards // 3}:{(part + 1) * shards // 3}"]
        with (tmp_path / "plan.jsonl").open("rb") as stdin:
            return subprocess.Popen(
                ["tonemill", *map(str, words)], env=environment, stdin=stdin, stdout=subprocess.DEVNULL
            )

    moments, killed = random.Random(5), 0
    running = [start(part) for part in range(3)]
    while killed < kills or any(one.poll() is None for one in running):
        if killed < kills and list((tmp_path / "out").rglob("0*.json")):
            time.sleep(moments.uniform(0, 0.3))
            part = moments.randrange(3)
            running[part].kill()
            killed += running[part].wait() == -signal.SIGKILL
            running[part] = start(part)
        time.sleep(0.01)
    assert [one.wait() for one in running] == [0, 0, 0]
    tonemill("shard", tmp_path / "out", "--planned", "-q").done()
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert not leftovers(tmp_path / "out")
    assert os.listdir(tmp_path / "out").count(folders.LOCK) == 0  # noqa: PTH208
