"""The loops step: exact bars, who named the tempo, and refusals that say what was found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import Tonemill, adds_up, table
from patterns import perform

from tonemill.audiotools.errors import AudioError, UsageError
from tonemill.audiotools.synthetic import loop
from tonemill.audiotools.waveform import Waveform
from tonemill.pipelines.recipes.example import Example, Refusal
from tonemill.pipelines.steps.loops import Loops

RATE = 22050


def cut(samples: np.ndarray, path: str = "x.wav", fields: dict[str, Any] | None = None, **settings: Any) -> list[Any]:
    return list(Loops(**settings).apply(Example({"audio": Waveform(samples, RATE)}, fields or {}, path=path)))


def test_a_file_of_one_bar_gives_that_bar_sample_for_sample() -> None:
    samples = loop(128, 1, RATE)
    (clip,) = cut(samples)
    assert np.array_equal(clip.sounds["audio"].samples, samples)
    assert clip.fields["tempo_bpm"] == pytest.approx(128, abs=0.01)
    assert (clip.fields["tempo_from"], clip.fields["bar"], clip.is_clip) == ("sound", 1, True)


@pytest.mark.parametrize("bars", [1, 2])
def test_no_bar_is_lost_at_either_end(bars: int) -> None:
    samples = loop(120, 4, RATE)
    clips = cut(samples, bars=bars)
    assert np.array_equal(np.concatenate([clip.sounds["audio"].samples for clip in clips], axis=1), samples)
    assert [clip.fields["bar"] for clip in clips] == list(range(1, 5, bars))
    assert [clip.start_seconds for clip in clips] == pytest.approx(np.arange(0, 8, 2 * bars))


def test_stretched_clips_have_an_exact_number_of_samples() -> None:
    for bpm in (100, 128, 140):
        (clip,) = cut(loop(bpm, 1, RATE), target_bpm=120.0)
        assert clip.sounds["audio"].frames == 2 * RATE
        assert clip.fields["tempo_bpm"] == 120
        assert clip.fields["tempo_bpm_from"] == pytest.approx(bpm, rel=1e-3)
        assert clip.fields["stretch_ratio"] == pytest.approx(120 / bpm, rel=1e-3)


@pytest.mark.parametrize(
    ("path", "fields", "settings", "origin"),
    [
        ("a_100bpm.wav", {"tempo_bpm": 200}, {"bpm": "100"}, "bpm"),
        ("a_200bpm.wav", {"tempo_bpm": 100.0}, {}, "field"),
        ("a_100bpm.wav", {}, {}, "name"),
        ("a_200bpm.wav", {"bpm": 100}, {"bpm_field": "bpm"}, "field"),
        ("a_200bpm.wav", {"bpm": "100"}, {}, "field"),
        ("a_200bpm.wav", {"tempo": "100.0", "bpm": None}, {}, "field"),
        ("SM_100_Am_Loop.wav", {}, {}, "name"),
        ("a_200bpm.wav", {}, {"tempo_from": ("sound",)}, "sound"),
        ("a_100bpm.wav", {"tempo_bpm": 200}, {"tempo_from": ("name", "field")}, "name"),
    ],
)
def test_where_the_tempo_comes_from(path: str, fields: dict[str, Any], settings: dict[str, Any], origin: str) -> None:
    clips = cut(loop(100, 2, RATE), path, fields, **settings)
    assert len(clips) == 2
    assert clips[0].fields["tempo_from"] == origin
    assert clips[0].fields["tempo_bpm"] == pytest.approx(100, rel=1e-3)


def test_a_wet_side_is_cut_where_the_dry_side_is() -> None:
    dry = loop(120, 2, RATE)
    example = Example({"wet": Waveform(np.roll(dry, 900, axis=1), RATE), "dry": Waveform(dry, RATE)})
    for number, clip in enumerate(Loops().apply(example)):
        assert isinstance(clip, Example)
        assert np.array_equal(clip.sounds["dry"].whole().samples, dry[:, number * RATE * 2 : (number + 1) * RATE * 2])
        assert clip.sounds["wet"].whole().frames == 2 * RATE


def test_refusals_say_what_was_found() -> None:
    with pytest.raises(AudioError, match="holds 2 beats") as short:
        cut(loop(120, 1, RATE)[:, : RATE * 1])
    assert short.value.reason == "too_short"
    assert short.value.measured["tempo_bpm"] == pytest.approx(120, abs=0.1)
    with pytest.raises(AudioError, match="less certain") as unsure:
        cut(loop(120, 1, RATE), min_confidence=1.0)
    assert unsure.value.reason == "tempo"
    (far,) = cut(loop(120, 1, RATE), target_bpm=60.0)
    assert isinstance(far, Refusal)
    assert far.error.reason == "stretch"


def test_one_bad_seam_costs_one_clip() -> None:
    samples = loop(120, 2, RATE)
    samples[:, 2 * RATE - 3000 : 2 * RATE] = 0.0
    samples[:, 2 * RATE - 2000 : 2 * RATE] = 0.7
    clips = cut(samples, bpm="120", min_loopability=0.8)
    assert [isinstance(clip, Refusal) for clip in clips] == [True, False]


def test_a_long_recording_gives_a_clip_for_each_bar() -> None:
    played = perform("rock", 112, 24, drift=0.02, lead_seconds=0.5, tail_seconds=1.0)
    clips = cut(played.samples)
    starts = np.array([clip.start_seconds for clip in clips])
    assert len(clips) == 24
    assert np.median([np.abs(starts - time).min() for time in played.beats[:-1:4]]) < 0.01
    assert all(clip.fields["tempo_from"] == "beats" for clip in clips)
    assert {round(clip.fields["tempo_bpm"]) for clip in clips} <= set(range(109, 116))


def test_an_open_octave_is_reported() -> None:
    """Clicks that are all alike, at 84 BPM or 168."""
    time = np.arange(round(0.03 * RATE)) / RATE
    click = (0.5 * np.sin(2 * np.pi * 660 * time) * np.exp(-time / 0.01)).astype(np.float32)
    samples = np.zeros(round((32 * 60 / 84 + 1.0) * RATE), np.float32)
    for beat in range(32):
        at = round((0.5 + beat * 60 / 84) * RATE)
        samples[at : at + len(click)] += click
    for clip in cut(samples[None]):
        assert clip.fields["tempo_confidence"] < 0.6
        assert sorted(round(tempo) for tempo in clip.fields["tempo_candidates"])[:2] == [84, 168]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"bars": 0}, "--bars is 0"),
        ({"bpm": "fast"}, "--bpm is 'fast'"),
        ({"bpm": "1000"}, "from 20 to 400"),
        ({"target_bpm": 5.0}, "--target-bpm is 5"),
        ({"max_stretch": 1.0}, "--max-stretch"),
        ({"tempo_from": ("ear",)}, "--tempo-from is ear"),
        ({"min_loopability": 2.0}, "--min-loopability"),
    ],
)
def test_parameters_are_checked_where_they_are_typed(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Loops(**settings)


def test_from_files_to_a_corpus(tonemill: Tonemill, piped: Callable[..., bytes], tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    soundfile.write(tmp_path / "raw/four.wav", loop(120, 4, RATE).T, RATE)
    soundfile.write(tmp_path / "raw/half.wav", loop(120, 1, RATE)[:, :RATE].T, RATE)
    stream = piped(["scan", tmp_path / "raw", "-q"], ["loops", "--target-bpm", "100"])
    ended = tonemill("shard", tmp_path / "out", "-q", stdin=stream).done()
    adds_up(ended.line)
    assert ended.line["examples"] == 4
    rows = table(tmp_path / "out" / "index.parquet")
    assert {row["samples"] for row in rows} == {round(2.4 * RATE)}
    (refused,) = table(tmp_path / "out" / "rejects.parquet")
    assert refused["reason"] == "too_short"
    assert json.loads(refused["measured"])["tempo_bpm"] == pytest.approx(120, abs=0.1)
