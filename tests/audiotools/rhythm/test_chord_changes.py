"""Harmony: downbeats found by chords that change with them, whatever drums play on every beat."""

from __future__ import annotations

import numpy as np
import pytest

from tonemill.audiotools.rhythm.chord_changes import harmony_changes
from tonemill.audiotools.rhythm.known_tempo import with_tempo
from tonemill.audiotools.rhythm.onsets import TONE_HOPS, onsets
from tonemill.audiotools.synthetic import VOICES
from tonemill.audiotools.waveform import Waveform

RATE = 22050
BEAT = 0.5


def four_on_the_floor(bars: int, beats_per_bar: int, first: int, chords: float) -> Waveform:
    """The same kick on every beat, and chords that change where each bar begins, `first` beats after the start."""
    random = np.random.default_rng(1)
    count = bars * beats_per_bar
    samples = np.zeros(round(count * BEAT * RATE))
    kick = VOICES["kick"](RATE, random)[0]
    for beat in range(count):
        start = round(beat * BEAT * RATE)
        part = kick[: len(samples) - start]
        samples[start : start + len(part)] += random.uniform(0.8, 1.0) * part
    time = np.arange(len(samples)) / RATE
    bar = np.floor((time / BEAT - first) / beats_per_bar).astype(int)
    roots = 110 * 2 ** (np.array([0, 5, 7, 3, 10, 2, 8]) / 12)
    for ratio in (1.0, 1.25, 1.5, 2.0):
        samples += chords * 0.2 * np.sin(2 * np.pi * np.cumsum(roots[bar % 7] * ratio) / RATE)
    return Waveform((0.5 * samples / np.abs(samples).max()).astype(np.float32)[None], RATE)


@pytest.mark.parametrize(("beats_per_bar", "first"), [(4, 0), (4, 1), (4, 2), (4, 3), (3, 0), (3, 1), (3, 2)])
def test_bars_begin_where_chords_change(beats_per_bar: int, first: int) -> None:
    strengths = onsets(four_on_the_floor(8, beats_per_bar, first, 1.0))
    beats = np.arange(8 * beats_per_bar + 1) * BEAT
    found = harmony_changes(strengths.tones, strengths.hop_seconds * TONE_HOPS, beats, beats_per_bar)
    assert int(found.argmax()) == first
    assert found.mean() == pytest.approx(0, abs=1e-9)
    assert found[first] > 0.6 * (beats_per_bar - 1)


def test_drums_alone_say_nothing_and_so_do_few_bars() -> None:
    strengths = onsets(four_on_the_floor(16, 4, 0, 0.0))
    beats = np.arange(65) * BEAT
    assert np.abs(harmony_changes(strengths.tones, strengths.hop_seconds * TONE_HOPS, beats, 4)).max() < 0.7
    assert not harmony_changes(strengths.tones, strengths.hop_seconds * TONE_HOPS, beats[:9], 4).any()


def test_a_recording_that_begins_in_mid_bar_is_cut_where_its_chords_change() -> None:
    sound = four_on_the_floor(12, 4, 3, 1.0)
    # Half a beat too long for a grid of its length: beats are tracked.
    longer = np.pad(sound.samples, ((0, 0), (0, round(0.5 * BEAT * RATE))))
    bars = with_tempo(onsets(Waveform(longer, RATE)), 120.0).bars(4)
    assert np.abs(bars[:, 0] - (3 * BEAT + np.arange(len(bars)) * 4 * BEAT)).max() < 0.010
