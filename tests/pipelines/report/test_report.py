"""What a report counts, draws and chooses."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tonemill.audiotools.codecs.encoding import encode
from tonemill.audiotools.errors import UsageError
from tonemill.audiotools.waveform import Waveform
from tonemill.pipelines.corpus.plan_file import dump_plan, read_whole
from tonemill.pipelines.corpus.shard_tables import REJECT_COLUMNS
from tonemill.pipelines.evaluation.vectors import read_vectors
from tonemill.pipelines.maintenance.leaks import leaks
from tonemill.pipelines.planning.plan import Output
from tonemill.pipelines.planning.planner import make_plan
from tonemill.pipelines.planning.splits import Splitting
from tonemill.pipelines.planning.straddling import straddling
from tonemill.pipelines.recipes.recipe import Recipe
from tonemill.pipelines.report.charts import HEIGHT, WIDTH, histogram, lines, plain, ticks
from tonemill.pipelines.report.distributions import Constant, distributions
from tonemill.pipelines.report.metric_tables import read_judged
from tonemill.pipelines.report.rejects import refusals
from tonemill.pipelines.report.sampling import at_the_edges, by_lot, label_of
from tonemill.pipelines.report.subject import Place
from tonemill.pipelines.runs.metric_lines import read_metrics
from tonemill.pipelines.storage.paths import to_uri

FINITE = st.floats(-1e6, 1e6, allow_nan=False)


@given(FINITE, st.floats(1e-6, 1e6))
def test_ticks_are_few_round_and_in_their_place(low: float, span: float) -> None:
    high = low + span
    if high <= low:
        return
    marks = ticks(low, high, 100)
    assert len(marks) <= 6
    for mark in marks:
        assert -0.01 <= mark.at <= 100.01
    steps = np.diff([mark.at for mark in marks])
    assert steps.size == 0 or np.ptp(steps) < 0.05


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (-0.0, "0"), (12345.678, "12,346"), (0.012345, "0.01235"), (-3.5, "−3.5"), (1.5e-7, "1.5e−07")],
)
def test_numbers_are_shown_plainly(value: float, text: str) -> None:
    assert plain(value) == text
    assert plain(float("nan")) == "not finite"


def test_a_histogram_shows_shares_of_each_place_on_one_axis() -> None:
    many, few = np.repeat([0.0, 10.0], [300, 100]), np.array([10.0, 10.0, np.nan, 0.0])
    chart = histogram("x", [many, few], [400, 4])
    assert chart is not None
    first, second = (_heights(series.path) for series in chart.series)
    # Three quarters of the one lie where a third of the other does.
    assert first[0] / first[-1] == pytest.approx(3, abs=0.1)
    assert second[-1] / second[0] == pytest.approx(2, abs=0.1)
    assert first[-1] / second[-1] == pytest.approx((1 / 4) / (2 / 3), abs=0.02)
    assert not first[1:-1].any()
    assert "1 of 4 without" in chart.series[1].note


def test_a_histogram_of_nothing_is_none_and_of_one_value_is_one_bar() -> None:
    assert histogram("x", [np.full(3, np.nan)], [3]) is None
    chart = histogram("x", [np.full(3, 7.0)], [3])
    assert chart is not None
    assert np.count_nonzero(_heights(chart.series[0].path)) == 1
    assert chart.series[0].note == "7 everywhere"


def _heights(path: str) -> np.ndarray:
    return HEIGHT - np.array([float(one) for one in re.findall(r"V([\d.]+)H", path)])


def test_a_curve_goes_where_its_values_go_and_states_what_was_lost() -> None:
    steps = np.arange(1000.0)
    values = steps / 10
    values[::100] = np.nan
    chart = lines("loss", [(0, steps, values)])
    assert chart is not None
    drawn = np.array([[float(one) for one in pair.split()] for pair in chart.series[0].path[1:].split("L")])
    assert np.all(np.diff(drawn[:, 0]) > 0)
    assert np.all(np.diff(drawn[:, 1]) <= 0)
    assert drawn.min() >= 0
    assert drawn[:, 0].max() <= WIDTH
    assert chart.series[0].band
    assert "10 not finite" in chart.series[0].note
    assert "last 99.9 at 999" in chart.series[0].note
    assert lines("loss", [(0, steps, np.full(1000, np.inf))]) is None
    assert lines("loss", [(0, steps[5:6], values[5:6])]) is not None


def test_metrics_are_read_past_what_is_no_number(tmp_path: Path) -> None:
    rows = ['{"step": 1, "loss": 2.0}', '{"step": 2, "loss": NaN, "note": "x"}', "[]", '{"step": 3, "lo']
    (tmp_path / "metrics.jsonl").write_text("\n".join(rows))
    found = read_metrics(tmp_path / "metrics.jsonl")
    assert list(found) == ["loss"]
    assert found["loss"][0].tolist() == [1, 2]
    assert read_metrics(tmp_path / "none.jsonl") == {}


def index(rows: int = 1000, labels: int = 10) -> pa.Table:
    random = np.random.default_rng(0)
    return pa.table(
        {
            "seconds": random.uniform(1, 2, rows),
            "peak_db": pa.array([None if row == 7 else -float(row % 50) for row in range(rows)]),
            # One label makes up nearly all.
            "label": [f"l{max(0, row - rows + labels)}" for row in range(rows)],
            "rate": pa.array([16000] * rows),
        }
    )


def test_every_label_is_drawn_and_the_draw_is_the_same_each_time() -> None:
    table = index()
    rows = by_lot(table, 20, "label")
    assert rows == by_lot(table, 20, "label")
    assert len(set(rows)) == 20
    counts = Counter(table["label"].take(rows).to_pylist())
    assert set(counts) == {f"l{number}" for number in range(10)}
    assert sorted(by_lot(table, 5000, "label")) == list(range(1000))
    assert by_lot(table, 20, None) != list(range(20))
    assert label_of(table, ["rate", "label"]) == "label"
    assert label_of(table, ["rate"]) is None


def test_the_edges_are_the_extremes() -> None:
    table = index()
    seconds = table["seconds"].to_numpy()
    named = {one.why: one.row for one in at_the_edges(table)}
    assert named["shortest"] == seconds.argmin()
    assert named["longest"] == seconds.argmax()
    assert named["highest peak"] == 0
    assert at_the_edges(pa.table({"seconds": [1.0, 1.0], "peak_db": pa.array([None, None], pa.float64())})) == []


def test_distributions_count_everything_there_is() -> None:
    found = distributions([_place("a", index()), _place("b", index(100).drop_columns(["label"]))])
    titles = {one.title: one for one in found.shown}
    assert set(titles) == {"seconds", "peak_db", "label"}
    assert Constant("rate", "16000") in found.constant
    assert "1 of 1,000 without" in titles["peak_db"].series[0].note
    label = titles["label"]
    assert label.bars[0].value == "l0"
    assert label.bars[0].counts == ((0, 991, 100.0),)


def test_numbers_too_large_for_a_float_and_names_without_end_do_no_harm() -> None:
    rows = 10_500
    table = pa.table({"id": pa.array([2**62 + row for row in range(rows)]), "name": [f"n{row}" for row in range(rows)]})
    found = distributions([_place("a", table)])
    assert [one.title for one in found.shown] == ["id"]
    assert found.constant == (Constant("name", "more than 10,000 different values"),)


def _place(name: str, table: pa.Table) -> Place:
    return Place(name, "corpus", Path(name), {"roles": ["audio"]}, table)


def test_refusals_are_counted_and_the_worst_come_first() -> None:
    rows = [_reject(f"s{number}", "seam", clip) for number in range(300) for clip in range(1 + 9 * (number == 250))]
    rows += [_reject("worse", "duplicate", 0)] * 40
    found = refusals(pa.Table.from_pylist(rows, schema=REJECT_COLUMNS))
    assert found.total == 349
    assert [(one.reason, one.count) for one in found.reasons] == [("seam", 309), ("duplicate", 40)]
    assert found.reasons[0].meaning == "the jump from its end to its start is audible, so it makes no loop"
    assert [(row.source, row.lost) for row in found.rows[:3]] == [("worse", 40), ("s250", 10), ("s0", 1)]
    assert (len(found.rows), found.kinds) == (200, 301)
    # One broken file among thousands that did not fit is shown, and before those that lost as much.
    rows = [_reject(f"s{number}", "too_short", 0) for number in range(2000)]
    rows.insert(1000, {**_reject("torn", "truncated", 0), "outcome": "rejected"})
    assert refusals(pa.Table.from_pylist(rows, schema=REJECT_COLUMNS)).rows[0].source == "torn"


def _reject(source: str, reason: str, clip: int) -> dict[str, Any]:
    empty = dict.fromkeys(REJECT_COLUMNS.names)
    return {**empty, "source": source, "reason": reason, "clip": clip, "outcome": "filtered", "message": "m"}


def test_an_index_that_names_more_bytes_than_a_tar_has_takes_no_memory_for_them(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    encoded = encode(Waveform(np.ones((1, 800), np.float32), 8000), "wav")
    (tmp_path / "train/000000.tar").write_bytes(encoded.data)
    place = Place("c", "corpus", tmp_path, {"roles": ["audio"]})
    found = place.sounds({"shard": "train/000000", "audio_offset": 0, "audio_bytes": 1 << 60})
    assert found["audio"].whole().samples.shape == (1, 800)


def test_leaks_are_those_that_straddle(tmp_path: Path) -> None:
    recipes = [
        Recipe(f"f{number % 7}/{number}.wav", {"audio": {"uri": "x", "sha256": f"{number % 150:064x}", "frames": 8000}})
        for number in range(400)
    ]
    plan = make_plan(recipes, Output("shards"), Splitting(valid=0.3, group="path"), 5.0)
    with (tmp_path / "plan.parquet").open("wb") as file:
        dump_plan(plan, file)
    whole = read_whole(tmp_path / "plan.parquet")
    dealt = [(shard.split, row.recipe) for shard, rows in zip(whole.shards, whole.rows, strict=True) for row in rows]
    by = {one.group: one for one in leaks(tmp_path / "plan.parquet")}
    assert by["equal bytes"].count == len(straddling(lambda: dealt, [None])[None]) > 20
    assert by["path"].count == 0
    assert by["path"].dealt_by
    assert not by["equal bytes"].dealt_by
    part = {one.group: one for one in leaks(tmp_path / "plan.parquet", most=100)}["equal bytes"]
    assert part.one_in == 4
    assert part.count * 4 == pytest.approx(by["equal bytes"].count, rel=0.5)


def test_both_shapes_of_metrics_say_the_same(tmp_path: Path) -> None:
    rows = {"generated": _number(8.0, 7.0, 9.0), "held_out": _number(2.0), "noise": _number(90.0)}
    nested = {"generated": {"place": "made"}, "metrics": {"frechet": rows}, "notes": ["few"], "judge": {"run": "r"}}
    flat = {"corpus": "made", "metrics": [{"name": "frechet", **rows["generated"], "reference": 2.0, "noise": 90.0}]}
    found = [
        read_judged([_written(tmp_path / f"{name}.json", one)], ["real", "made"])
        for name, one in (("a", nested), ("b", {**flat, "judge": {"run": "r"}, "notes": ["few"]}))
    ]
    assert found[0] == found[1]
    (figure,) = found[0].metrics[0].figures
    assert (figure.place, figure.text, figure.interval, figure.count) == (1, "8", "7 to 9", "40")
    assert [one.text for one in figure.beside] == ["2", "90"]
    places = [figure.beside[0].at, figure.reach[0], figure.at, figure.reach[1], figure.beside[1].at]
    assert places == sorted(places)
    assert found[0].notes == ("made: judged by run r", "made: few")


def test_a_comparison_of_several_sets_is_one_of_each(tmp_path: Path) -> None:
    """Each under its own place, with what it stands beside, and with its own nearest clips."""
    rows = {"a": {"value": 1.0}, "b": {"value": 2.0}, "held_out": {"value": 0.0}}
    near = [{"set": name, "key": f"{name}1", "real_key": "r", "distance": 1.0, "unit": "dB"} for name in "ab"]
    record = {
        "metrics": {"kernel_audio_distance": rows, "silent": {"b": {"value": 0.0}}},
        "generated": {"place": "corpora/a"},
        "sets": {name: {"place": f"corpora/{name}"} for name in "ab"},
        "against": {"place": "corpora/real"},
        "nearest": near,
        "labels": {"a": {"x": 1}, "b": {"x": 3}, "held_out": {"x": 2}},
    }
    judged = read_judged([_written(tmp_path / "m.json", record)], ["corpora/a", "corpora/b"])
    distance, silent = judged.metrics
    assert [(one.place, one.source, one.value) for one in distance.figures] == [
        (0, "corpora/a", 1.0),
        (1, "corpora/b", 2.0),
    ]
    assert [one.beside[0].value for one in distance.figures] == [0.0, 0.0] and judged.beside == ("held out",)
    assert [one.source for one in silent.figures] == ["corpora/b"]
    assert [judged.closest[number].pairs[0][0] for number in (0, 1)] == ["a1", "b1"]
    assert [one.sets for one in judged.labels] == [("generated", "held out")] * 2


def test_metrics_that_are_not_numbers_are_not_measured(tmp_path: Path) -> None:
    values = {"value": float("nan"), "low": None, "high": float("inf"), "n": 0}
    judged = read_judged([_written(tmp_path / "a.json", {"metrics": [{"name": "x", **values}, {"name": "y"}]})])
    assert [metric.figures[0].text for metric in judged.metrics] == ["not measured"] * 2
    assert judged.metrics[0].figures[0].at is None
    for wrong in ([], {"metrics": 3}, {"metrics": [{"value": 3}]}, {"metrics": {"x": 3}}):
        with pytest.raises(UsageError, match="It takes"):
            read_judged([_written(tmp_path / "b.json", wrong)])


def test_renders_name_the_run_that_made_them(tmp_path: Path) -> None:
    step = {"step": "render", "version": 1, "run": "drums", "run_uri": to_uri(tmp_path / "runs/drums")}
    for steps, made_by in (([step], tmp_path / "runs/drums"), ([{**step, "run_uri": ""}], Path("drums")), ([], None)):
        plan = make_plan([Recipe("seed-0", {}, {"seed": 0}, steps)], Output("shards"), Splitting(), 5.0)
        with (tmp_path / "plan.parquet").open("wb") as file:
            dump_plan(plan, file)
        assert Place("made", "corpus", tmp_path, {}).rendered_by() == made_by


def test_what_was_found_nearest_and_how_it_was_labelled_is_read(tmp_path: Path) -> None:
    pair = {"key": "made-0", "real_key": "real-7", "distance": 0.5, "unit": "dB"}
    record = {
        "generated": {"place": str(tmp_path / "made")},
        "against": {"place": "corpora/real"},
        "metrics": {"copies": {"generated": _number(0.1)}},
        "labels": {"generated": {"kick": 3, "snare": 1}, "held_out": {"kick": 1, "snare": 1}, "noise": {"kick": 0}},
        "nearest": [pair, {"key": "half a row"}],
    }
    judged = read_judged([_written(tmp_path / "a.json", record)], ["corpora/real", str(tmp_path / "x/../made")])
    assert judged.closest[1].against == "corpora/real"
    assert judged.closest[1].pairs == (("made-0", "real-7", 0.5, "dB"),)
    assert judged.labels[0].sets == ("generated", "held out")
    assert judged.labels[0].rows == (("kick", (75.0, 50.0)), ("snare", (25.0, 50.0)))
    assert read_judged([tmp_path / "a.json"], [str(tmp_path / "made")]).metrics[0].figures[0].place == 0
    # It may have been written where its names are shorter.
    _written(tmp_path / "b.json", {**record, "generated": {"place": "corpora/made"}})
    judged = read_judged([tmp_path / "b.json"], [str(tmp_path / "made"), str(tmp_path / "corpora/made")])
    assert judged.metrics[0].figures[0].place == 1
    # Of a place that the report does not show no clip can be played.
    assert not read_judged([tmp_path / "a.json"], ["corpora/real"]).closest


def test_numbers_that_name_a_kind_are_counted_and_those_that_measure_are_binned() -> None:
    random = np.random.default_rng(0)
    table = pa.table(
        {
            "rate": random.choice([8000, 16000, 44100, 48000, 96000], 100),
            "clipped": np.arange(100) // 9,
            "gain": random.choice([0.5, 0.25, 0.125], 100),
            "take": [str(number % 50) for number in range(100)],
            "name": [f"n{number}" for number in range(100)],
        }
    )
    found = distributions([_place("a", table)])
    assert found.constant == (Constant("name", "100 different values"),)
    kinds = {one.title: one for one in found.shown}
    assert [kinds[name].kind for name in ("rate", "clipped", "gain", "take")] == ["values", "values", "bars", "values"]
    assert [bar.value for bar in kinds["take"].bars] == [str(number) for number in range(16)]
    few = {one.title: one.kind for one in distributions([_place("a", table.take(list(range(0, 100, 9))))]).shown}
    assert few["clipped"] == "bars"


def _number(value: float, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "count": 40}


def _written(path: Path, record: Any) -> Path:
    path.write_text(json.dumps(record))
    return path


def test_vectors_must_be_alike(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.npz", tmp_path / "bad.npz"
    np.savez(good, key=np.array(["a", "b"]), vector=np.eye(2))
    assert set(read_vectors([good])) == {"a", "b"}
    for arrays in ({"key": ["a"], "vector": np.eye(2)}, {"vector": np.eye(2)}):
        np.savez(bad, **{name: np.array(value) for name, value in arrays.items()})
        with pytest.raises(UsageError, match="must hold"):
            read_vectors([bad])
    np.savez(bad, key=np.array([{}]), vector=np.ones((1, 2)))
    with pytest.raises(UsageError, match="Object arrays cannot be loaded"):
        read_vectors([bad])
    bad.write_bytes(b"PK no zip")
    with pytest.raises(UsageError, match="not a zip file"):
        read_vectors([bad])
    np.savez(bad, key=np.array(["c"]), vector=np.ones((1, 3)))
    with pytest.raises(UsageError, match="2 and 3 numbers"):
        read_vectors([good, bad])
