"""From answers to a report: planted differences are found, bad listeners named, same answers give same bytes."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Tonemill
from listeners import answers_to

from tonemill.pipelines.survey.exclusions import RULES, reasons
from tonemill.pipelines.survey.study import Study

from .conftest import Make


@pytest.fixture(scope="module")
def rehearsed(make_study: Make, tonemill: Tonemill) -> Study:
    study = make_study("--clips", 8, "--matched", "source")
    words = ("--listeners", 10, "--effect", "zebragan=-1.5", "--seed", 4, "-q")
    tonemill("survey", "simulate", study.files.folder, *words).done()
    return study


def analysed(tonemill: Tonemill, study: Study, output: Path, *words: object) -> dict[str, Any]:
    tonemill("survey", "analyse", study.files.folder, "-o", output, "--draws", 499, "-q", *words).done()
    return dict(json.loads(output.with_name(f"{output.stem}.analysis.json").read_text()))


@pytest.fixture(scope="module")
def report(rehearsed: Study, tonemill: Tonemill, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the rehearsal; its other files are beside it."""
    output = tmp_path_factory.mktemp("report") / "r.html"
    analysed(tonemill, rehearsed, output, "--rehearsal")
    return output


def test_a_rehearsal_finds_what_was_planted_and_is_marked_everywhere(rehearsed: Study, report: Path) -> None:
    found = json.loads(report.with_name("r.analysis.json").read_text())
    assert found["simulated"] is True and found["agree"] is True
    pairs = {(one["question"], one["first"], one["second"]): one for one in found["pairs"]}
    assert len(pairs) == 9
    for question in rehearsed.questions:
        one = pairs[question, "zebragan", "quaggagan"]
        assert one["difference"] < -0.7 and one["high"] < 0 and one["p_holm"] < 0.05 and one["superiority"] < 0.4
        assert one["p_for_these_clips"] is not None
    assert all(one["low"] > 0 for one in found["checks"]["anchors"])
    drift = found["checks"]["points_per_100_trials"]
    assert drift["low"] < 0 < drift["high"]
    assert {one["measure"] for one in found["measures"]} >= {"loopability", "centroid_hz", "flatness_db"}
    page = report.read_text()
    assert page.count("SIMULATED") >= 4 and "<title>SIMULATED" in page
    # Whether listeners agree comes before any mean.
    assert page.index("alpha is") < page.index("Every pair of systems")
    assert "default-src &#39;none&#39;" in page and "<script" not in page
    rows = list(csv.DictReader(report.with_name("r.ratings.csv").open()))
    assert {one["study"] for one in rows} == {rehearsed.rehearsal_digest}


def test_the_same_answers_give_the_same_bytes(
    rehearsed: Study, report: Path, tonemill: Tonemill, tmp_path: Path
) -> None:
    analysed(tonemill, rehearsed, tmp_path / "r.html", "--rehearsal")
    for end in ("html", "analysis.json", "ratings.csv", "exclusions.csv"):
        assert (tmp_path / f"r.{end}").read_bytes() == report.with_name(f"r.{end}").read_bytes()
    (tmp_path / "mine.html").write_text("mine")
    words = ("survey", "analyse", rehearsed.files.folder, "--rehearsal", "-o", tmp_path / "mine.html", "--draws", 99)
    tonemill(*words).refused(1, "not a report of a study")


def test_answers_without_sense_are_left_out_and_shown_beside(
    make_study: Make, tonemill: Tonemill, tmp_path: Path
) -> None:
    study = make_study("--clips", 4)
    key = study.key()["clips"]
    good = {"reference": 5, "system": 3, "anchor": 1}
    for listener in (1, 2, 3, 4):
        record = answers_to(study, listener)
        for one in record["trials"]:
            if listener < 4 and one["kind"] != "attention":
                facts = key[one["clip"]]
                role = "anchor" if facts["kind"] == "anchor" else "reference" if facts["system"] == "real" else "system"
                one["answers"] = dict.fromkeys(study.questions, good[role])
        (tmp_path / f"{listener}.json").write_text(json.dumps(record))
    tonemill("survey", "collect", study.files.folder, tmp_path, "-q").done()
    found = analysed(tonemill, study, tmp_path / "r.html")
    assert found["simulated"] is False and "SIMULATED" not in (tmp_path / "r.html").read_text()
    assert found["listeners"]["collected"] == 4 and found["listeners"]["analysed"] == 3
    (why,) = found["listeners"]["excluded"].values()
    assert any("answers are the same" in one for one in why)
    assert any("hidden reference was rated below 4" in one for one in why)
    means = {(one["question"], one["system"]): one for one in found["means"]}
    assert means["quality", "real"]["value"] == 5 and means["quality", "real"]["histogram"] == [0, 0, 0, 0, 12]
    everyone = found["with_everyone"]["means"]
    assert next(one for one in everyone if (one["question"], one["system"]) == ("quality", "real"))["value"] == 4.5
    assert found["reliability"]["quality"]["repeat_kappa"] == 1 and found["reliability"]["quality"]["alpha"] == 1
    text = (tmp_path / "r.exclusions.csv").read_text()
    assert text.startswith("listener,reason\n") and "L04" in text
    assert "Ann" not in (tmp_path / "r.ratings.csv").read_text() + (tmp_path / "r.html").read_text()


def test_dice_are_reported_as_no_agreement_first(make_study: Make, tonemill: Tonemill, tmp_path: Path) -> None:
    import numpy as np

    study = make_study("--clips", 4, "--attention", 0)
    rng = np.random.default_rng(0)
    for listener in (1, 2, 3):
        record = answers_to(study, listener)
        for one in record["trials"]:
            one["answers"] = {name: int(rng.integers(1, 6)) for name in study.questions}
        (tmp_path / f"{listener}.json").write_text(json.dumps(record))
    tonemill("survey", "collect", study.files.folder, tmp_path, "-q").done()
    ended = tonemill("survey", "analyse", study.files.folder, "-o", tmp_path / "r.html", "--draws", 99).done()
    assert "The listeners do not agree" in ended.err or "not known" in ended.err


def rating(score: int, role: str = "system", owner: str = "x", seconds: float = 4.0) -> dict[str, Any]:
    return {
        "kind": "trial",
        "role": role,
        "owner": owner,
        "question": "quality",
        "score": score,
        "clip": "c",
        "milliseconds": 1000 * seconds,
        "clip_seconds": 2.0,
    }


FINE = [rating(score, "reference", "real") for score in (5, 4, 5, 5, 4, 5)] + [rating(score) for score in (3, 2, 4, 3)]


@pytest.mark.parametrize(
    ("rows", "missed", "headphones", "words_shown"),
    [
        (FINE, 0, {}, None),
        ([rating(3)] * 12, 0, {}, "12 of 12 answers are the same"),
        ([{**one, "milliseconds": 900} for one in FINE], 0, {}, "within 0.45 of a clip's length"),
        ([*FINE, rating(3, "reference", "real")], 0, {}, None),
        ([*FINE, *[rating(3, "reference", "real")] * 2], 0, {}, "below 4 in 2 of 8"),
        (
            [*FINE, rating(5, "anchor", "low3500")],
            0,
            {},
            "anchor of quality was rated 5.00 and the hidden reference 4.67",
        ),
        (FINE, 1, {}, "1 attention trials were missed"),
        (FINE, 0, {"required": True}, "headphone check"),
    ],
)
def test_each_rule_has_its_reason(
    rows: list[Any], missed: int, headphones: dict[str, bool], words_shown: str | None
) -> None:
    session = {"headphones": {"passed": False}, "attention_missed": missed}
    mode = "require" if headphones else "ask"
    found = reasons(session, rows, RULES, mode, 5, {"quality": "low3500"})
    assert (not found) if words_shown is None else any(words_shown in one for one in found), found
