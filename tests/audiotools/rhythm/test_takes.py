"""Takes that a person plays: what the tests' generator states of them is true of their sound."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from takes import FASTEST_BPM, RATE, RHYTHMS, SLOWEST_BPM, Take, Verdict, judged, kit, take, unclear_take

from tonemill.audiotools.rhythm.beats import find_beats
from tonemill.audiotools.rhythm.onsets import onsets
from tonemill.audiotools.waveform import Waveform


def level_db(samples: np.ndarray) -> float:
    return float(20 * np.log10(np.sqrt(np.mean(np.square(samples, dtype=np.float64))) + 1e-12))


def strokes(one: Take) -> np.ndarray:
    """Seconds at which the level rises by 10 dB within 2 ms."""
    frames = one.samples[0, : len(one.samples[0]) // 44 * 44].reshape(-1, 44)
    level = 10 * np.log10(np.square(frames.astype(np.float64)).mean(axis=1) + 1e-7)
    return np.flatnonzero(np.diff(level) > 10) * 44 / RATE


@pytest.mark.parametrize("seed", range(5))
def test_a_take_has_silence_around_strokes_at_its_bar_lines(seed: int) -> None:
    one = take(seed)
    assert SLOWEST_BPM <= one.tempo_bpm <= FASTEST_BPM
    assert one.beats_per_bar == RHYTHMS[one.rhythm].beats_per_bar
    bar = one.beats_per_bar * 60 / one.tempo_bpm
    assert np.diff(one.bar_lines) == pytest.approx(np.full(len(one.bar_lines) - 1, bar))
    # A hit begins up to 1 ms before its attack, and the analysis has frames of 2 ms.
    times = strokes(one)
    assert times[0] == pytest.approx(one.begins, abs=0.004)
    assert level_db(one.samples[0, : int((one.begins - 0.005) * RATE)]) < -58
    # Each rhythm plays on one; timing has a standard deviation of 4 ms.
    late = [float(np.abs(times - line).min()) for line in one.bar_lines[:-1]]
    assert np.median(late) < 0.010
    assert one.samples.shape[1] / RATE > one.bar_lines[-1] + 0.5


def test_a_seed_settles_a_take_and_kits_differ() -> None:
    assert np.array_equal(take(3).samples, take(3).samples)
    assert not np.array_equal(kit(0)["kick"], kit(1)["kick"])
    assert not np.array_equal(kit(0)["kick"], kit(0, held_out=False)["kick"])
    assert all(np.abs(sound).max() == pytest.approx(0.8, abs=0.01) for sound in kit(5).values())


def verdicts(seeds: range, made: Callable[[int], Take] = take) -> list[Verdict]:
    found = []
    for seed in seeds:
        one = made(seed)
        found.append(judged(one, find_beats(onsets(Waveform(one.samples, RATE)), one.beats_per_bar)))
    return found


def assert_right(found: list[Verdict]) -> None:
    """In listeners' terms: the octave of 97 % of takes, 95 % of bars within 10 ms, and no bar of silence."""
    assert np.mean([one.octave for one in found]) >= 0.97
    assert sum(one.starts for one in found) >= 0.95 * sum(one.bars for one in found)
    assert sum(one.found for one in found) >= 0.95 * sum(one.of for one in found)
    assert sum(one.silent for one in found) == 0
    # Where tempo and bars are right, there is not one too many.
    assert not [one for one in found if one.octave and one.starts >= 0.8 * one.bars and one.bars > one.of]


def test_tempo_and_bars_of_takes_are_right() -> None:
    assert_right(verdicts(range(1000, 1030)))


@pytest.mark.slow
def test_tempo_and_bars_of_many_takes_are_right() -> None:
    assert_right(verdicts(range(300)))


@pytest.mark.slow
def test_confidence_is_as_sure_as_it_is_right_in_each_fifth() -> None:
    """Takes whose tempo is clear say nothing of the lower fifths."""
    found = [*verdicts(range(20_000, 20_200)), *verdicts(range(600), unclear_take)]
    found += verdicts(range(1000, 1300), unclear_take)
    stated = np.array([one.confidence for one in found])
    octave = np.array([one.octave for one in found])
    for fifth in range(5):
        inside = (np.minimum(stated, 0.999) * 5).astype(int) == fifth
        assert np.count_nonzero(inside) >= 20, fifth
        assert octave[inside].mean() == pytest.approx(stated[inside].mean(), abs=0.07), fifth


def clicks(tempo_bpm: float, beats: int, accent_every: int, lead_seconds: float = 0.0) -> Waveform:
    """A metronome: 880 Hz where there is an accent, else 660 Hz, 4 dB softer."""
    time = np.arange(round(0.03 * RATE)) / RATE
    samples = np.zeros(round((beats * 60 / tempo_bpm + 2 * lead_seconds) * RATE), np.float32)
    for beat in range(beats):
        start = round((lead_seconds + beat * 60 / tempo_bpm) * RATE)
        pitch_hz, level = (880, 0.8) if accent_every and beat % accent_every == 0 else (660, 0.5)
        samples[start : start + len(time)] += level * np.sin(2 * np.pi * pitch_hz * time) * np.exp(-time / 0.01)
    return Waveform(samples[None], RATE)


@pytest.mark.parametrize("tempo_bpm", [60, 80, 100, 140])
@pytest.mark.parametrize("lead_seconds", [0.0, 0.7])
def test_accents_tell_the_tempo_of_a_metronome(tempo_bpm: int, lead_seconds: float) -> None:
    found = find_beats(onsets(clicks(tempo_bpm, 32, 4, lead_seconds)))
    assert found.tempo_bpm == pytest.approx(tempo_bpm, abs=0.1)
    bars = found.bars(4)
    assert len(bars) == 8
    assert bars[:, 0] == pytest.approx(lead_seconds + np.arange(8) * 240 / tempo_bpm, abs=0.010)


@pytest.mark.parametrize("lead_seconds", [0.0, 0.5])
@pytest.mark.parametrize("pulse_bpm", [78, 79, 80, 84, 85, 87, 160, 168, 320, 336])
def test_equal_clicks_leave_the_octave_open(pulse_bpm: int, lead_seconds: float) -> None:
    found = find_beats(onsets(clicks(pulse_bpm, 32 if pulse_bpm < 300 else 64, 0, lead_seconds)))
    assert found.confidence < 0.6
    slow = pulse_bpm / {0: 1, 1: 2, 2: 4}[int(np.log2(pulse_bpm / 76))]
    assert found.tempo_bpm == pytest.approx(found.tempo_candidates[0], rel=0.01)
    for tempo in (slow, 2 * slow):
        assert any(abs(one / tempo - 1) < 0.02 for one in found.tempo_candidates), found.tempo_candidates
