"""A study that was made is blind, equally loud, and whole or not there."""

from __future__ import annotations

import json
import re
import stat
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from conftest import Ended, Tonemill

from tonemill.audiotools.editing.looped import loudness_lufs, true_peak_db
from tonemill.pipelines.survey.study import Study, open_study

from .conftest import SYSTEMS, Make, sound_of, write_loops


def words_of_the_key(study: Study) -> set[str]:
    """What would tell a listener something: names of systems and anchors, places, sources, the secret, the seed."""
    key = study.key()
    found = {key["secret"], str(key["seed"]), *SYSTEMS} - {"real"}
    found |= {one["place"] for one in key["systems"]} | {one["source"] for one in key["clips"].values()}
    return found | set(key["anchors"].values()) - {"noise", "gap"}


def test_nothing_in_the_folder_shows_what_a_clip_is(study: Study) -> None:
    words = words_of_the_key(study)
    assert len(words) > 10
    for path in study.files.folder.rglob("*"):
        if path.is_file():
            text = path.read_bytes().decode(errors="replace")
            assert not [word for word in words if word in text or word in path.name], path
    plan = study.files.plan.read_text()
    assert not re.search(
        r"\b(real|noise|gap|anchor|system|reference)\b", re.sub(r'"(intro|consent|hint)": "[^"]*"', "", plan)
    )
    assert not study.files.key.is_relative_to(study.files.folder)
    assert stat.S_IMODE(study.files.key.stat().st_mode) == 0o600


def test_ids_are_of_one_study_and_listed_in_no_order_but_their_own(study: Study, make_study: Make) -> None:
    other = make_study("--clips", 6, "--seed", 20231205)
    assert not set(study.plan["clips"]) & set(other.plan["clips"])
    assert list(study.plan["clips"]) == sorted(study.plan["clips"])
    sources = [sorted((c["system"], c["source"]) for c in one.key()["clips"].values()) for one in (study, other)]
    assert sources[0] == sources[1]


def test_every_clip_is_at_one_loudness_and_rate_and_none_is_limited(study: Study) -> None:
    key = study.key()["clips"]
    for one, facts in key.items():
        samples, rate, flac = sound_of(study, one)
        assert rate == study.plan["sample_rate"] == 16000
        assert loudness_lufs(samples.T.astype(np.float32), rate, 8) == pytest.approx(-23, abs=0.1)
        peak = true_peak_db(samples.T.astype(np.float32), rate)
        assert peak is not None and peak <= -0.9 and peak == pytest.approx(facts["true_peak_db"], abs=0.1)
        assert len(samples) == 4000
        # STREAMINFO and nothing else; a comment of the encoder's own would be the same in all.
        assert b"loop" not in flac
    assert {len(sound_of(study, one)[2][:4]) for one in key} == {4}


def test_where_one_would_pass_full_scale_all_are_lower_alike(make_study: Make) -> None:
    study = make_study("--clips", 4, "--lufs", -10)
    loudness, peaks = [], []
    for one in study.plan["clips"]:
        samples, rate, _ = sound_of(study, one)
        loudness.append(loudness_lufs(samples.T.astype(np.float32), rate, 8))
        peaks.append(true_peak_db(samples.T.astype(np.float32), rate))
    assert max(one for one in peaks if one is not None) == pytest.approx(-1, abs=0.1)
    assert loudness == pytest.approx([loudness[0]] * len(loudness), abs=0.1) and (loudness[0] or 0) < -10.3


def test_anchors_repeats_training_and_attention_are_there(study: Study) -> None:
    key = study.key()
    assert Counter(one["system"] for one in key["clips"].values()) == dict.fromkeys(SYSTEMS, 6) | {
        "noise": 3,
        "gap": 3,
        "low3500": 3,
    }
    assert set(key["anchors"]) == set(study.questions)
    for order in study.plan["orders"]:
        assert Counter(one["kind"] for one in order) == {"training": 4, "trial": 27, "repeat": 3, "attention": 2}
    owners = [key["clips"][one["clip"]]["system"] for one in study.plan["orders"][0][:4]]
    assert owners[0] == "real" and {"noise", "gap"} <= set(owners)


def test_matched_clips_share_their_sources_and_blocks_are_smaller(make_study: Make) -> None:
    study = make_study("--clips", 5, "--matched", "source", "--per-listener", 2)
    by_system: dict[str, set[str]] = {}
    for one in study.key()["clips"].values():
        by_system.setdefault(one["system"], set()).add(one["match"])
    assert by_system["real"] == by_system["zebragan"] == by_system["quaggagan"]
    assert sum(one["kind"] == "trial" for one in study.plan["orders"][0]) == 3 * 2 + 3


def test_corpora_splits_fields_and_pipes(tonemill: Tonemill, systems: dict[str, Path], tmp_path: Path) -> None:
    stream = tonemill("scan", systems["real"], "-q", "--fields", "loop{number}").done().out
    corpus = tmp_path / "corpus"
    measured = tonemill("measure", stdin=stream).done().out
    tonemill("shard", corpus, "-q", "--valid", 0.5, stdin=measured).done()
    words = ("-o", tmp_path / "study", "--clips", 3, "-q", "--by", "number")
    made = tonemill("survey", "make", f"real={corpus}:valid", "model=-", *words, stdin=stream).done().line
    assert made["systems"] == 2 and made["clips"] == 15
    measures = [one["measures"] for one in open_study(tmp_path / "study").key()["clips"].values()]
    assert sum("rms_db" in one for one in measures) == 3 and all("centroid_hz" in one for one in measures)
    # Files that were written of a corpus match its clips, also where a source has several.
    cut = tonemill("slice", "--seconds", 0.125, stdin=stream).done().out
    tonemill("shard", tmp_path / "halves", "-q", stdin=cut).done()
    opened = tonemill("open", tmp_path / "halves").done().out
    tonemill("write", tmp_path / "files", "-q", stdin=opened).done()
    places = (f"a={tmp_path / 'halves'}", f"b={tmp_path / 'files'}", "c=-")
    words = ("--clips", 12, "-q", "--matched", "source", "--no-anchors", "-o", tmp_path / "three")
    assert tonemill("survey", "make", *places, *words, stdin=opened).done().line["clips"] == 36
    tonemill("survey", "make", f"a={corpus}:nowhere", "b=-", "-o", tmp_path / "x").refused(
        2, "no split nowhere", "valid"
    )


@pytest.mark.parametrize(
    ("words", "code", "words_shown"),
    [
        (["only={real}"], 2, ["two systems or more"]),
        (["a={real}", "a={real}"], 2, ["a name of its own"]),
        (["a={real}", "noise={real}"], 2, ["reserved for anchors"]),
        (["a={real}", "b"], 2, ["NAME=PLACE"]),
        (["a={real}", "b={real}", "--reference", "c"], 2, ["--reference is c", "a, b"]),
        (["a={real}", "b={real}", "--clips", "9"], 1, ["8 usable clips", "9 are wanted", "--clips 8"]),
        (["a={real}", "b={real}", "--questions", "mood"], 2, ["loops, quality", ".toml"]),
        (["a={real}", "b={real}", "--matched", "seed"], 2, ["no field seed", "--matched source"]),
        (["a={real}", "b={real}", "--post", "ftp://x"], 2, ["--post is ftp://x", "https://"]),
        (["a={real}", "b=s3://bucket/x"], 2, ["folders of this machine"]),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_nothing(
    tonemill: Tonemill, systems: dict[str, Path], tmp_path: Path, words: list[str], code: int, words_shown: list[str]
) -> None:
    typed = [one.format(real=systems["real"]) for one in words]
    tonemill("survey", "make", *typed, "-o", tmp_path / "study").refused(code, *words_shown)
    assert list(tmp_path.iterdir()) == []


def test_broken_silent_and_short_clips_are_passed_over_and_counted(tonemill: Tonemill, tmp_path: Path) -> None:
    write_loops(tmp_path / "good", 8000, 4)
    write_loops(tmp_path / "bad", 8000, 4)
    (tmp_path / "bad" / "broken.wav").write_bytes(b"RIFF")
    import soundfile

    soundfile.write(tmp_path / "bad" / "short.wav", np.full(80, 0.1), 8000)
    words = (f"real={tmp_path / 'good'}", f"model={tmp_path / 'bad'}", "-o", tmp_path / "study", "--clips", 4)
    tonemill("survey", "make", *words, "-q").done()
    left_out = open_study(tmp_path / "study").key()["systems"][1]["left_out"]
    assert set(left_out) <= {"truncated", "unreadable", "too_short"}
    write_loops(tmp_path / "more", 8000, 8)
    words = (f"real={tmp_path / 'more'}", *words[1:3], tmp_path / "other", "--clips", 6)
    tonemill("survey", "make", *words).refused(1, "model", "4 usable clips", "left out: ", "1 too_short")


def test_the_length_that_is_recommended_makes_all_clips_alike_and_leaves_none_out(
    tonemill: Tonemill, systems: dict[str, Path], tmp_path: Path
) -> None:
    import soundfile

    for number in range(8):
        (tmp_path / "long").mkdir(exist_ok=True)
        soundfile.write(
            tmp_path / f"long/{number}.wav", 0.1 * np.random.default_rng(number).standard_normal(4000), 8000
        )
    words = ("survey", "make", "--clips", 6, "-o")
    ended = tonemill(*words, tmp_path / "study", f"real={systems['real']}", f"model={tmp_path / 'long'}").done()
    (slicing,) = re.findall(r"differ in the lengths .*`tonemill (slice [^`]*)`", ended.err)
    assert slicing == "slice --seconds 0.25"
    for name, folder in (("real", systems["real"]), ("model", tmp_path / "long")):
        stream = tonemill(*slicing.split(), stdin=tonemill("scan", folder, "-q").done().out).done().out
        assert tonemill("write", tmp_path / name, "-q", stdin=stream).done().line["examples"] >= 8
    places = [f"{name}={tmp_path / name}" for name in ("real", "model")]
    assert "differ in the lengths" not in tonemill(*words, tmp_path / "alike", *places).done().err


def test_a_study_and_a_key_are_never_replaced(tonemill: Tonemill, systems: dict[str, Path], tmp_path: Path) -> None:
    words = ("survey", "make", f"real={systems['real']}", f"model={systems['zebragan']}", "--clips", 2, "-q", "-o")
    tonemill(*words, tmp_path / "study").done()
    key = (tmp_path / "study.key.json").read_bytes()
    tonemill(*words, tmp_path / "study").refused(1, "is there already")
    assert (tmp_path / "study.key.json").read_bytes() == key
    (tmp_path / "study.key.json").write_text("{}")
    tonemill("survey", "simulate", tmp_path / "study").refused(2, "is not the key", "beside the folder")


def test_questions_of_ones_own(tonemill: Tonemill, systems: dict[str, Path], tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text('scale = ["no", "yes"]\nloops = false\n[[question]]\nname = "like"\ntext = "Do you <like> it?"\n')
    words = (
        "survey",
        "make",
        f"a={systems['real']}",
        f"b={systems['zebragan']}",
        "--clips",
        2,
        "-q",
        "--questions",
        own,
        "-o",
    )
    tonemill(*words, tmp_path / "study").done()
    study = open_study(tmp_path / "study")
    assert study.questions == ["like"] and study.levels == 2 and not study.plan["questions"]["loops"]
    assert "Do you &lt;like&gt; it?" in study.files.page.read_text()
    for text, words_shown in (
        ('[[question]]\nname = "A b"\ntext = "x"', "small letters"),
        ('[[question]]\nname = "a"\ntext = "x"\nanchor = "loud"', "anchor is loud"),
        ('[[question]]\nname = "a"\ntext = "x"\nrounds = 99', "1 to 8"),
        ("scale = [1]", "[[question]]"),
        ('scale = ["a"]\n[[question]]\nname = "a"\ntext = "x"', "2 to 9"),
    ):
        own.write_text(text)
        tonemill(*words, tmp_path / "other").refused(2, words_shown)


def test_the_consent_has_its_digest(make_study: Make, tmp_path: Path) -> None:
    import hashlib

    (tmp_path / "consent.txt").write_text("I agree to </script><b>everything</b>.\n")
    study = make_study("--clips", 2, "--consent", tmp_path / "consent.txt")
    text = "I agree to </script><b>everything</b>."
    assert study.plan["consent_digest"] == hashlib.sha256(text.encode()).hexdigest()
    page = study.files.page.read_text()
    assert page.count("</script>") == 2 and "<b>everything" not in page
    assert json.loads(study.files.plan.read_text())["consent"] == text


def test_plan_finds_more_with_larger_studies(tonemill: Tonemill) -> None:
    small, large = (
        json.loads(tonemill("survey", "plan", "--json", "--clips", clips, "--difference", 0.6).done().out)
        for clips in (8, 48)
    )
    assert small["power"] < large["power"] and small["comparisons"] == 18
    assert large["power_holm_at_least"] < large["power"]
    ended: Ended = tonemill("survey", "plan", "--matched", "--per-listener", 8).done()
    assert "matched clips, of which each listener rates 8" in ended.out.decode()
