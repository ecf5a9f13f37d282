"""Ways to count a sound: shares of a whole, whatever their order, and bars where strokes are."""

from __future__ import annotations

import numpy as np
import pytest

from tonemill.audiotools.rhythm.beat_grid import Events
from tonemill.audiotools.rhythm.beats import counted, find_beats
from tonemill.audiotools.rhythm.meter_features import COUNT, described
from tonemill.audiotools.rhythm.meter_network import shares, stated
from tonemill.audiotools.rhythm.onsets import onsets
from tonemill.audiotools.rhythm.whole_bars import whole_bars
from tonemill.audiotools.synthetic import loop
from tonemill.audiotools.waveform import Waveform

RATE = 22050


def strokes_at(seconds: list[float], length: float) -> Events:
    """Bursts of noise of 20 ms, all alike."""
    samples = np.zeros((1, round(length * RATE)), np.float32)
    burst = np.random.default_rng(0).standard_normal(RATE // 50).astype(np.float32) * 0.3
    for one in seconds:
        at = round(one * RATE)
        samples[0, at : at + len(burst)] = burst
    return Events(onsets(Waveform(samples, RATE)))


def test_shares_sum_to_one_in_any_order() -> None:
    rows = np.concatenate([way.rows for way in counted(onsets(Waveform(loop(110, 2, RATE), RATE)))])
    found = shares(rows, np.zeros(len(rows)))
    order = np.random.default_rng(0).permutation(len(rows))
    assert found.sum() == pytest.approx(1)
    assert shares(rows[order], np.zeros(len(rows))) == pytest.approx(found[order])


def test_what_is_stated_rises_with_the_share() -> None:
    confidence = [stated(float(share)) for share in np.linspace(0, 1, 21)]
    assert np.all(np.diff(confidence) > 0)
    assert 0 <= confidence[0] < 0.5 < confidence[-1] <= 1


@pytest.mark.parametrize("beats_per_bar", [1, 2, 3, 4, 5, 6, 7])
def test_every_meter_is_described(beats_per_bar: int) -> None:
    strengths = onsets(Waveform(loop(120, 2, RATE), RATE))
    rows = described(Events(strengths), np.linspace(0, strengths.seconds, 9), beats_per_bar, 0.0)
    assert rows.shape == (beats_per_bar, COUNT)
    assert np.isfinite(rows).all()
    assert find_beats(strengths, beats_per_bar).tempo_bpm > 0


def test_bars_are_where_strokes_are() -> None:
    """Four bars of 2 s from 3 s on, a pick-up of a beat before them, a last stroke after them, silence around."""
    strokes = [2.5, *np.arange(3.0, 11.0, 0.5), 11.0]
    times, downbeat = whole_bars(strokes_at(strokes, 16), np.arange(2.5, 11.1, 0.5), 1, 4, 16.0)
    bars = times[downbeat::4]
    assert bars == pytest.approx([3, 5, 7, 9, 11])
    assert times[0] == pytest.approx(2.5)


def test_a_bar_that_the_recording_cuts_short_is_none() -> None:
    times, downbeat = whole_bars(strokes_at(list(np.arange(0, 9.4, 0.5)), 9.4), np.arange(0, 9.1, 0.5), 0, 4, 9.4)
    assert times[downbeat::4] == pytest.approx([0, 2, 4, 6, 8])
    assert len(times) == 17
