"""`slice --at silence`: a clip for each phrase, whole and in its place, however the sound is read."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from tonemill.audiotools.errors import Filtered, UsageError
from tonemill.audiotools.waveform import Flow, Sound, Waveform
from tonemill.pipelines.recipes.example import Example
from tonemill.pipelines.steps.slice import Slice

RATE = 8000
PHRASES = ((0.5, 1.5), (4.5, 7.0), (9.0, 10.0))
"""From and to, in seconds of a recording of 10.5 s."""


def recording(delay: int = 0) -> np.ndarray:
    time = np.arange(round(10.5 * RATE)) / RATE
    sound = np.zeros((1, time.size), np.float32)
    for first, end in PHRASES:
        sound[0, round(first * RATE) : round(end * RATE)] = 0.5
    return np.roll(sound, delay, axis=1)


def flow(samples: np.ndarray, block: int) -> Sound:
    def blocks() -> Iterator[np.ndarray]:
        for start in range(0, samples.shape[1], block):
            yield samples[:, start : start + block]

    return Flow(blocks, RATE, samples.shape[0])


@pytest.mark.parametrize("block", [37, 8000, 1 << 20])
def test_each_phrase_becomes_a_clip_in_its_place(block: int) -> None:
    clips = list(Slice(at="silence").apply(Example({"audio": flow(recording(), block)})))
    starts = [clip.start_seconds for clip in clips]
    lengths = [clip.sounds["audio"].whole().samples.shape[1] / RATE for clip in clips]
    assert starts == pytest.approx([first - 0.01 for first, _ in PHRASES], abs=1 / RATE)
    assert lengths == pytest.approx([end - first + 0.02 for first, end in PHRASES], abs=1 / RATE)
    assert all(clip.is_clip for clip in clips)


def test_a_shorter_pause_parts_nothing() -> None:
    clips = list(Slice(at="silence", silence_seconds=2.5).apply(Example({"audio": Waveform(recording(), RATE)})))
    assert [clip.start_seconds for clip in clips] == pytest.approx([0.49, 4.49], abs=1 / RATE)


def test_both_sides_of_a_pair_are_cut_at_the_same_places() -> None:
    wet = recording(delay=800)
    clips = list(Slice(at="silence").apply(Example({"dry": flow(recording(), 999), "wet": flow(0.1 * wet, 999)})))
    lengths = [{one.whole().samples.shape[1] for one in clip.sounds.values()} for clip in clips]
    assert lengths == [{round((end - first + 0.1 + 0.02) * RATE)} for first, end in PHRASES]


def test_silence_and_clicks_are_refused_and_the_recipe_of_other_clips_is_as_before() -> None:
    with pytest.raises(Filtered, match="silence from end to end"):
        list(Slice(at="silence").apply(Example({"audio": Waveform(np.zeros((1, 900), np.float32), RATE)})))
    click = np.zeros((1, 9000), np.float32)
    click[0, 4000] = 1
    with pytest.raises(Filtered, match="min-seconds"):
        list(Slice(at="silence").apply(Example({"audio": Waveform(click, RATE)})))
    for wrong in ({"seconds": 1.0}, {"silence_db": 1.0}, {"silence_seconds": 0.0}, {"keep_ms": 400.0}):
        with pytest.raises(UsageError):
            Slice(at="silence", **wrong)  # type: ignore[arg-type]
    assert set(Slice(seconds=1.0).to_json()) == {
        "step",
        "version",
        "seconds",
        "samples",
        "hop_seconds",
        "short",
        "tail",
    }
