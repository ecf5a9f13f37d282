"""Takes that a person plays: what the tests' generator states of them is true of their sound."""

from __future__ import annotations

import numpy as np
import pytest
from takes import FASTEST_BPM, RATE, RHYTHMS, SLOWEST_BPM, Take, kit, take


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
    heard = strokes(one)
    assert heard[0] == pytest.approx(one.begins, abs=0.004)
    assert level_db(one.samples[0, : int((one.begins - 0.005) * RATE)]) < -58
    # Each rhythm plays on one; timing has a standard deviation of 4 ms.
    late = [float(np.abs(heard - line).min()) for line in one.bar_lines[:-1]]
    assert np.median(late) < 0.010
    assert one.samples.shape[1] / RATE > one.bar_lines[-1] + 0.5


def test_a_seed_settles_a_take_and_kits_differ() -> None:
    assert np.array_equal(take(3).samples, take(3).samples)
    assert not np.array_equal(kit(0)["kick"], kit(1)["kick"])
    assert not np.array_equal(kit(0)["kick"], kit(0, held_out=False)["kick"])
    assert all(np.abs(sound).max() == pytest.approx(0.8, abs=0.01) for sound in kit(5).values())
