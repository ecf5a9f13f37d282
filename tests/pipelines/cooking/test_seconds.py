"""Seconds that were read are stored, left behind, rejected or filtered, each once."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import Tonemill
from pyarrow import parquet

from tonemill.audiotools.waveform import Waveform
from tonemill.cli.outcomes import summary
from tonemill.pipelines.building.build import Build, produce
from tonemill.pipelines.cooking.seconds import of_source
from tonemill.pipelines.corpus.corpus import open_corpus
from tonemill.pipelines.engine.engine import Engine
from tonemill.pipelines.planning.plan import Output, Splitting
from tonemill.pipelines.planning.planner import make_plan
from tonemill.pipelines.progress import Progress
from tonemill.pipelines.recipes.example import Example
from tonemill.pipelines.recipes.recipe import Recipe, parse_recipe

RATE = 1000
SOURCE = {"uri": "file:///a", "sample_rate": RATE, "channels": 1, "frames": 10 * RATE}


def row(start: float, seconds: float, **fields: float) -> dict[str, float]:
    return {"start_seconds": start, "samples": round(seconds * RATE), "sample_rate": RATE, **fields}


def clip(start: float, seconds: float) -> Example:
    return Example({"audio": Waveform(np.zeros((1, round(seconds * RATE)), np.float32), RATE)}, start_seconds=start)


@pytest.mark.parametrize(
    ("kept", "refused", "stored", "rejected", "filtered"),
    [
        ([row(0, 4), row(4, 4)], [], 8, 0, 0),
        ([row(0, 4), row(2, 4), row(4, 4)], [], 8, 0, 0),
        ([row(0, 4), row(8, 4, padded_samples=2 * RATE)], [("filtered", clip(4, 4))], 6, 0, 4),
        ([row(0, 4)], [("rejected", clip(2, 4)), ("filtered", clip(3, 4))], 4, 2, 1),
        ([row(1, 2, stretch_ratio=1.5)], [], 3, 0, 0),
        ([row(9, 5)], [], 1, 0, 0),
    ],
    ids=["side by side", "overlapping", "padded", "refused", "stretched", "longer than its source"],
)
def test_every_second_counts_once(
    kept: list[dict[str, float]], refused: list[tuple[str, Example]], stored: float, rejected: float, filtered: float
) -> None:
    found = of_source(Recipe("a", {"audio": SOURCE}), {}, kept, refused, "kept")
    assert found == pytest.approx(
        {
            "read": 10,
            "stored": stored,
            "rejected": rejected,
            "filtered": filtered,
            "left_behind": 10 - stored - rejected - filtered,
        }
    )


def test_what_is_read_is_what_was_decoded_of_the_part_that_is_wanted() -> None:
    recipe = Recipe("a", {"audio": SOURCE}, start=2 * RATE)
    assert of_source(recipe, {}, [], [], "rejected") == {"read": 8, "rejected": 8}
    assert of_source(recipe, {"audio": 5 * RATE}, [], [], "filtered") == {"read": 5, "filtered": 5}
    pair = Recipe("a", {"dry": SOURCE, "wet": {**SOURCE, "frames": 9 * RATE}})
    assert of_source(pair, {}, [], [], "rejected")["read"] == 9
    assert of_source(Recipe("a", {"audio": {"uri": "file:///a"}}), {}, [], [], "rejected")["read"] == 0


def test_a_corpus_counts_what_slice_left_behind(
    tonemill: Tonemill, piped: Callable[..., bytes], tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    for number in range(3):
        noise = 0.1 * np.random.default_rng(number).standard_normal(1990)
        soundfile.write(tmp_path / "in" / f"{number}.wav", noise, RATE)
    (tmp_path / "in" / "bad.wav").write_bytes(b"nothing")
    stream = piped(["scan", tmp_path / "in", "-q"], ["slice", "--seconds", 1])
    ended = tonemill("shard", tmp_path / "c", "--workers", 1, stdin=stream).done()
    assert "sound: 6.0 s read = 3.0 s stored + 3.0 s left behind + 0.0 s rejected + 0.0 s filtered" in ended.err
    seconds = tonemill("inspect", tmp_path / "c", "--json").done().line["seconds_ledger"]
    assert seconds == {"read": 5.97, "stored": 3.0, "left_behind": 2.97, "rejected": 0.0, "filtered": 0.0}
    tonemill("verify", tmp_path / "c", "-q").done()
    stream = piped(["scan", tmp_path / "in", "-q"], ["slice", "--seconds", 1, "--tail", "pad"])
    ended = tonemill("shard", tmp_path / "d", "--workers", 1, stdin=stream).done()
    assert "6.0 s stored + 0.0 s left behind" in ended.err


def test_where_nothing_was_read_as_from_seeds_no_sum_of_it_is_printed(
    tonemill: Tonemill, piped: Callable[..., bytes], tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "a.wav", np.full(RATE, 0.1), RATE)
    tonemill("shard", tmp_path / "c", "-q", stdin=piped(["scan", tmp_path / "a.wav", "-q"])).done()
    about = open_corpus(tmp_path / "c").about
    assert "sound: 1.0 s read" in summary("c", about)
    about["seconds_ledger"] = dict.fromkeys(about["seconds_ledger"], 0.0)
    assert "sound:" not in summary("c", about)


def test_what_remove_leaves_adds_up_though_clips_of_it_were_refused(
    tonemill: Tonemill, piped: Callable[..., bytes], tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    for number in range(3):
        noise = 0.1 * np.random.default_rng(number).standard_normal(3500)
        if number == 1:
            noise[1000:2000] = 0
        soundfile.write(tmp_path / "in" / f"{number}.wav", noise, RATE)
    steps = (["slice", "--seconds", 1], ["filter", "--max-silence", 0.5])
    for name, places in (("all", [tmp_path / "in"]), ("rest", [tmp_path / "in" / f"{n}.wav" for n in (0, 1)])):
        stream = piped(["scan", *places, "-q"], *steps)
        tonemill("shard", tmp_path / name, "--workers", 1, "-q", stdin=stream).done()
    tonemill("remove", tmp_path / "all", "--source", "2.wav", "-q").done()
    tonemill("verify", tmp_path / "all", "-q").done()
    # What filter measured is no place in a tar, though dc_offset is called like one.
    rows = [parquet.read_table(tmp_path / name / "index.parquet").to_pylist() for name in ("all", "rest")]
    assert [{**row, "recipe": ""} for row in rows[0]] == [{**row, "recipe": ""} for row in rows[1]]
    assert len({row["dc_offset"] for row in rows[0]}) == 5
    all_of, rest = (tonemill("inspect", tmp_path / name, "--json").done().line for name in ("all", "rest"))
    assert all_of["seconds_ledger"] == rest["seconds_ledger"]
    assert rest["seconds_ledger"] == {"read": 7, "stored": 5, "left_behind": 1, "rejected": 0, "filtered": 1}


def test_each_clip_states_its_zeros_but_in_a_corpus_of_before(
    tonemill: Tonemill, piped: Callable[..., bytes], tmp_path: Path
) -> None:
    """Readers that take the fields of the first examples for those of all would not see what only the last has."""
    (tmp_path / "in").mkdir()
    for number, seconds in enumerate((2.0, 2.5)):
        noise = 0.1 * np.random.default_rng(number).standard_normal(round(seconds * RATE))
        soundfile.write(tmp_path / "in" / f"{number}.wav", noise, RATE)
    stream = piped(["scan", tmp_path / "in", "-q"], ["slice", "--seconds", 1, "--tail", "pad"])
    first = parse_recipe(json.loads(stream.splitlines()[0]))
    before = make_plan([first], Output("shards"), Splitting(), 600)
    produce(Build(tmp_path / "before", before, Engine(1), Progress(quiet=True)))
    for name, flag, expected in (("new", "--update", [0, 0, 0, 0, RATE // 2]), ("before", "--append", [RATE // 2])):
        tonemill("shard", tmp_path / name, "-q", flag, stdin=stream).done()
        with tarfile.open(tmp_path / name / "train" / f"{'000000' if name == 'new' else '000001'}.tar") as tar:
            about = [json.load(tar.extractfile(one)) for one in tar if one.name.endswith(".json")]  # type: ignore[arg-type]
        assert sorted(one["padded_samples"] for one in about if "padded_samples" in one) == expected
