"""Pairs: matched by the names people give, lined up in a corpus, refused with reasons a person understands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import Tonemill, adds_up, lines_of, table

from tonemill.audiotools.errors import AudioError, CorpusError, UsageError
from tonemill.audiotools.synthetic import loop
from tonemill.audiotools.waveform import Waveform
from tonemill.pipelines.planning.splits import group_of
from tonemill.pipelines.recipes.example import Example
from tonemill.pipelines.recipes.recipe import Recipe
from tonemill.pipelines.recipes.step import load_step
from tonemill.pipelines.sources.pairs import effect_fields, pair_by_name, pair_by_table, pair_with_one, sides
from tonemill.pipelines.sources.scan import Found
from tonemill.pipelines.sources.tables import read_table
from tonemill.pipelines.steps.align import Align

RATE = 22050
Piped = Callable[..., bytes]


def found(*paths: str, root: str = "/x") -> Found:
    return Found([(path, f"{root}/{path}") for path in sorted(paths)])


def matched(dry: list[str], wet: list[str], pattern: str | None = None) -> dict[str, str]:
    pairs = pair_by_name(found(*dry, root="/dry"), found(*wet, root="/wet"), pattern).pairs
    return {pair.wet.removeprefix("/wet/"): pair.dry.removeprefix("/dry/") for pair in pairs}


@pytest.mark.parametrize(
    ("dry", "wet"),
    [
        ("riff.wav", "riff.wav"),
        ("riff.wav", "riff.flac"),
        ("riff_dry.wav", "riff_wet.wav"),
        ("riff-in.wav", "riff-out.wav"),
        ("Riff Input.wav", "Riff Output.wav"),
        ("input.wav", "output.wav"),
        ("DI_riff_01.wav", "riff_01_amp.wav"),
        ("take.1-dry.wav", "take.1-wet.wav"),
        ("songs/a_dry.wav", "songs/a_wet.wav"),
        ("riff.wav", "riff__fuzz.wav"),
        ("riff_dry.wav", "riff__fuzz_gain=3.wav"),
    ],
)
def test_names_that_people_give(dry: str, wet: str) -> None:
    others = ["other_dry.wav", "inside.wav"]
    assert matched([dry, *others], [wet]) == {wet: dry}


def test_one_dry_has_many_wets_and_the_lonely_are_listed() -> None:
    result = pair_by_name(
        found("a.wav", "b.wav"), found("a__fuzz.wav", "a__phaser_rate=2.wav", "c__fuzz.wav", root="/w")
    )
    assert [(pair.name, pair.fields) for pair in result.pairs] == [
        ("a__fuzz.wav", {"effect": "fuzz"}),
        ("a__phaser_rate=2.wav", {"effect": "phaser", "rate": 2}),
    ]
    assert result.lonely == ("b.wav", "c__fuzz.wav")


def test_one_dry_file_has_wets_of_any_name() -> None:
    dry = Found([("riff.wav", "/x/riff.wav")])
    result = pair_with_one(dry, Found([(name, f"/x/{name}") for name in ("a.wav", "fuzz_g=7.wav", "riff.wav")]))
    assert [(pair.dry, pair.wet, pair.fields) for pair in result.pairs] == [
        ("/x/riff.wav", "/x/a.wav", {"effect": "a"}),
        ("/x/riff.wav", "/x/fuzz_g=7.wav", {"effect": "fuzz", "g": 7}),
    ]
    assert result.lonely == ()
    result = pair_with_one(dry, found("riff__fuzz.wav", "riff_wet.wav", "song__fuzz.wav", "take 2.wav", root="/w"))
    assert {pair.name: pair.fields.get("effect") for pair in result.pairs} == {
        "riff__fuzz.wav": "fuzz",
        "riff_wet.wav": None,
        "take 2.wav": "take 2",
    }
    assert result.lonely == ("song__fuzz.wav",)
    with pytest.raises(CorpusError, match="no wet file for"):
        pair_with_one(dry, dry)


def test_a_pattern_names_effects_and_knobs() -> None:
    result = pair_by_name(found("a.wav"), found("a_drive_0.7.wav", root="/w"), "{name}_{effect}_{gain}")
    assert result.pairs[0].fields == {"effect": "drive", "gain": 0.7}
    with pytest.raises(UsageError, match="must hold"):
        pair_by_name(found("a.wav"), found("a.wav", root="/w"), "{effect}")


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("fuzz", {"effect": "fuzz"}),
        ("overdrive_drive=0.7_tone=3", {"effect": "overdrive", "drive": 0.7, "tone": 3}),
        ("fuzz-face_g5", {"effect": "fuzz-face", "g": 5}),
        ("tone-2", {"effect": "tone-2"}),
        ("tape_delay", {"effect": "tape_delay"}),
    ],
)
def test_settings_in_names(text: str, fields: dict[str, Any]) -> None:
    assert effect_fields(text) == fields


def test_what_is_ambiguous_or_fits_nothing_is_an_error_with_names() -> None:
    with pytest.raises(CorpusError, match="several dry files"):
        matched(["a_dry.wav", "a-in.wav"], ["a_wet.wav"])
    with pytest.raises(CorpusError, match="No wet file has the name"):
        matched(["a.wav"], ["b.wav"])
    with pytest.raises(CorpusError, match="is wet by its name"):
        sides(found("a.wav", "b.wav"))


def test_one_folder_may_hold_both() -> None:
    dry, wet = sides(found("dry/a.wav", "wet/a__fuzz.wav", "wet/a.wav"))
    assert [pair.dry for pair in pair_by_name(dry, wet).pairs] == ["/x/dry/a.wav"] * 2


def test_a_table_reports_which_belong_together(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("dry,wet,gain,effect\na.wav,x1.wav,0.5,fuzz\na,x2,7,fuzz\n")
    result = pair_by_table(
        read_table(tmp_path / "pairs.csv"), found("a.wav", "b.wav"), found("x1.wav", "x2.wav", root="/w")
    )
    assert [(pair.dry, pair.wet, pair.fields) for pair in result.pairs] == [
        ("/x/a.wav", "/w/x1.wav", {"gain": 0.5, "effect": "fuzz"}),
        ("/x/a.wav", "/w/x2.wav", {"gain": 7.0, "effect": "fuzz"}),
    ]
    assert result.lonely == ("b.wav",)
    (tmp_path / "bad.csv").write_text("dry,wet\na.wav,missing.wav\n")
    with pytest.raises(UsageError, match="line 2: there is no wet file"):
        pair_by_table(read_table(tmp_path / "bad.csv"), found("a.wav"), found("x1.wav"))
    (tmp_path / "none.csv").write_text("left,right\n1,2\n")
    with pytest.raises(UsageError, match="no column 'dry'"):
        pair_by_table(read_table(tmp_path / "none.csv"), found("a.wav"), found("x1.wav"))


@pytest.mark.parametrize(
    ("columns", "joined"),
    [("dry,wet", None), ("Input,Output", None), ("clean_file,target_path", None), ("di,reamped", None), ("a,b", "a,b")],
)
def test_columns_of_names_are_found_as_people_call_them(tmp_path: Path, columns: str, joined: str | None) -> None:
    (tmp_path / "t.csv").write_text(f"{columns},amp\nriff,riff loud,vox\n")
    table = read_table(tmp_path / "t.csv")
    (pair,) = pair_by_table(table, found("riff.wav"), found("riff loud.flac"), joined).pairs
    assert (pair.dry, pair.wet, pair.fields) == ("/x/riff.wav", "/x/riff loud.flac", {"amp": "vox"})
    with pytest.raises(UsageError, match="--join"):
        pair_by_table(table, found("riff.wav"), found("riff loud.flac"), "a")


def test_all_wets_of_a_dry_stay_in_one_split() -> None:
    def pair(wet: str) -> Recipe:
        return Recipe(wet, {"dry": {"uri": "file:///d", "sha256": "d"}, "wet": {"uri": wet, "sha256": wet}})

    assert group_of(pair("a"), None) == group_of(pair("b"), None)


def lined_up(dry: np.ndarray, wet: np.ndarray, **settings: Any) -> Example:
    sounds = {"dry": Waveform(dry, RATE), "wet": Waveform(wet.astype(np.float32), RATE)}
    (made,) = Align(**settings).apply(Example(sounds))
    return made


@pytest.mark.parametrize("correct", ["latency", "none", "latency,gain"])
def test_the_gain_of_noise_is_right_with_a_margin_and_without_corrections(correct: str) -> None:
    """To 0.1 dB; a sample of margin leaves white noise without a like, so its gain would be -40 dB."""
    dry = 0.1 * np.random.default_rng(0).standard_normal((1, 2 * RATE)).astype(np.float32)
    made = lined_up(dry, np.concatenate([np.zeros((1, 333)), 0.5 * dry], axis=1), correct=correct)
    assert made.fields["align_gain_db"] == pytest.approx(-6.02, abs=0.1)
    if "gain" in correct:
        level = np.std(made.waveforms()["wet"].samples) / np.std(dry)
        assert 20 * np.log10(level) == pytest.approx(0, abs=0.1)


def test_a_recipe_of_before_is_cooked_as_it_was() -> None:
    """Version 2 has the gain beside the margin, by its earlier name; version 1 is refused."""
    dry = 0.1 * np.random.default_rng(0).standard_normal((1, 2 * RATE)).astype(np.float32)
    step = load_step({"step": "align", "version": 2})
    (made,) = step.apply(Example({"dry": Waveform(dry, RATE), "wet": Waveform(np.roll(dry, 333, axis=1), RATE)}))
    assert made.fields["gain_db"] < -25 and "align_gain_db" not in made.fields
    assert step.to_json()["version"] == 2 and load_step({"step": "align"}).to_json()["version"] == 3
    with pytest.raises(UsageError, match="version 1 of align"):
        load_step({"step": "align", "version": 1})


def test_latency_and_polarity_are_put_right_and_written_down() -> None:
    dry = loop(120, 2, RATE, seed=1)
    wet = np.concatenate([np.zeros((1, 333)), -0.5 * dry], axis=1)
    made = lined_up(dry, wet, margin_samples=0)
    assert made.fields["latency_samples"] == pytest.approx(333, abs=0.05)
    assert (made.fields["latency_corrected_samples"], made.fields["polarity"]) == (333, -1)
    assert made.fields["align_gain_db"] == pytest.approx(-6.02, abs=0.01)
    sounds = made.waveforms()
    assert sounds["dry"].frames == sounds["wet"].frames == dry.shape[1]
    # Whole samples are moved, not computed.
    assert np.array_equal(sounds["wet"].samples, np.float32(0.5) * dry)


def test_the_wet_never_leads() -> None:
    dry = loop(120, 2, RATE, seed=1)
    made = lined_up(dry, np.concatenate([np.zeros((1, 100)), np.tanh(5 * dry)], axis=1))
    assert made.fields["latency_corrected_samples"] == 99
    early = lined_up(dry, dry[:, 500:])
    assert early.fields["latency_samples"] == pytest.approx(-500, abs=0.1)
    sounds = early.waveforms()
    assert np.array_equal(sounds["wet"].samples[:, 1:], sounds["dry"].samples[:, :-1])
    assert early.start_seconds == pytest.approx(501 / RATE)


def test_gain_and_drift_are_put_right_on_request() -> None:
    random = np.random.default_rng(0)
    dry = np.concatenate([loop(float(bpm), 2, RATE, seed=bpm) for bpm in (90, 100, 110, 120)], axis=1)
    places = np.arange(round(dry.shape[1] * (1 + 1e-4))) / (1 + 1e-4)
    wet = 0.25 * np.interp(places, np.arange(dry.shape[1]), dry[0])[None]
    wet += 1e-4 * random.standard_normal(wet.shape)
    with pytest.raises(AudioError, match="differ by") as drifting:
        lined_up(dry, wet)
    assert drifting.value.reason == "drift"
    assert drifting.value.measured["drift_ppm"] == pytest.approx(100, abs=5)
    made = lined_up(dry, wet, correct="latency,gain,drift", margin_samples=0)
    assert made.fields["gain_corrected_db"] == pytest.approx(12.04, abs=0.5)
    sounds = made.waveforms()
    error = sounds["wet"].samples - sounds["dry"].samples
    assert np.sum(error**2) / np.sum(sounds["dry"].samples ** 2) < 0.05


@pytest.mark.parametrize(
    ("change", "settings", "reason"),
    [
        (lambda x: loop(93, 2, RATE, seed=9), {}, "unrelated"),
        (lambda x: x * 0, {}, "silent"),
        (lambda x: np.clip(30 * x, -1, 1), {}, "clipping"),
        (lambda x: x[:, :1000], {}, "too_short"),
    ],
)
def test_refusals(change: Callable[[np.ndarray], np.ndarray], settings: dict[str, Any], reason: str) -> None:
    dry = loop(120, 2, RATE, seed=1)
    with pytest.raises(AudioError) as refused:
        lined_up(dry, change(dry), **settings)
    assert refused.value.reason == reason


def test_a_wet_that_does_not_repeat_is_refused_on_request() -> None:
    dry = np.concatenate([loop(120, 1, RATE, seed=1)] * 3, axis=1)
    wet = dry + 0.05 * np.random.default_rng(0).standard_normal(dry.shape)
    assert lined_up(dry, wet).fields["replicate_esr"] > 0.01
    with pytest.raises(AudioError) as refused:
        lined_up(dry, wet, max_replicate_esr=0.01)
    assert refused.value.reason == "replicate"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"correct": "latency,tone"}, "--correct is"),
        ({"max_latency_ms": 0.0}, "--max-latency-ms"),
        ({"margin_samples": -1}, "--margin-samples"),
        ({"min_confidence": 2.0}, "--min-confidence"),
    ],
)
def test_parameters_are_checked_where_they_are_typed(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Align(**settings)


def test_from_folders_to_a_corpus(tonemill: Tonemill, piped: Piped, tmp_path: Path) -> None:
    for folder in ("di", "pedal"):
        (tmp_path / folder).mkdir()
    for seed in range(3):
        dry = loop(100 + 10 * seed, 2, RATE, seed=seed)[0]
        soundfile.write(tmp_path / f"di/riff{seed}.wav", dry, RATE)
        soundfile.write(
            tmp_path / f"pedal/riff{seed}__drive_gain={seed}.wav", np.tanh(4 * np.append([0] * 200, dry)), RATE
        )
    soundfile.write(tmp_path / "di/lonely.wav", np.zeros(100), RATE)
    soundfile.write(tmp_path / "di/odd.wav", np.zeros(RATE), RATE)
    soundfile.write(tmp_path / "pedal/odd__drive_gain=1.wav", np.zeros(RATE), 2 * RATE)
    started = tonemill("pair", tmp_path / "di", tmp_path / "pedal").done()
    assert "1 files have no partner: lonely.wav" in started.err
    assert len(lines_of(started.out)) == 4
    stream = piped(["pair", tmp_path / "di", tmp_path / "pedal", "-q"], ["align"], ["slice", "--seconds", "1"])
    ended = tonemill("shard", tmp_path / "out", "-q", stdin=stream).done()
    adds_up(ended.line)
    rows = table(tmp_path / "out/index.parquet")
    assert {row["gain"] for row in rows} == {0, 1, 2}
    assert {row["latency_corrected_samples"] for row in rows} == {199}
    assert [row["reason"] for row in table(tmp_path / "out/rejects.parquet")] == ["roles"]
    tonemill("pair", tmp_path / "di", tmp_path / "pedal", "--unmatched", "refuse").refused(1, "no partner")
