"""A loop stays a loop: at another rate, in its loudness, at its joint."""

from __future__ import annotations

import numpy as np
import pytest

from tonemill.audiotools.editing.looped import dithered, loudness_lufs, repeated, resampled_loop, true_peak_db


def tone(hertz: float, rate: int, frames: int, amplitude: float = 0.5) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * hertz * np.arange(frames) / rate))[None].astype(np.float32)


@pytest.mark.parametrize(("from_rate", "to_rate"), [(16000, 44100), (44100, 48000), (44100, 22050), (8000, 8000)])
def test_a_tone_that_loops_goes_on_looping_at_another_rate(from_rate: int, to_rate: int) -> None:
    found = resampled_loop(tone(1000, from_rate, from_rate), from_rate, to_rate)
    wanted = tone(1000, to_rate, to_rate)
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() < 1e-3


def test_a_clip_shorter_than_the_filter_loops_too() -> None:
    found = resampled_loop(tone(1000, 16000, 160), 16000, 48000)
    assert found == pytest.approx(tone(1000, 48000, 480), abs=1e-3)


def test_the_loudness_is_that_of_what_is_played() -> None:
    # BS.1770-4: a sine of 997 Hz at full scale in one channel reads -3.01 LUFS.
    sine = tone(997, 48000, 48000, 1.0)
    assert loudness_lufs(sine, 48000, 8) == pytest.approx(-3.01, abs=0.02)
    # A tick in a second of silence passes the gates in four blocks of ten, as often as it is played.
    tick = np.pad(tone(997, 48000, 4800), ((0, 0), (0, 43200)))
    assert loudness_lufs(tick, 48000, 8) == pytest.approx(loudness_lufs(repeated(tick, 16 * 48000), 48000, 16), abs=0.1)
    assert loudness_lufs(np.zeros((2, 1000), np.float32), 48000, 8) is None


def test_true_peaks_are_found_between_samples_and_at_the_joint() -> None:
    # A quarter of the rate, 45 degrees off: no sample comes nearer than 3 dB to the peak.
    at = np.arange(4800)
    off = (0.5 * np.sin(np.pi * at / 2 + np.pi / 4))[None].astype(np.float32)
    assert true_peak_db(off, 48000) == pytest.approx(-6.02, abs=0.1)
    assert 20 * np.log10(np.abs(off).max()) == pytest.approx(-9.03, abs=0.01)
    assert true_peak_db(np.zeros((1, 100), np.float32), 48000) is None


def test_dither_leaves_noise_of_a_quarter_step_of_power() -> None:
    step = 2.0**-15
    for amplitude in (0.0, 0.3):
        samples = tone(440, 48000, 48000, amplitude)
        error = np.rint(dithered(samples, 1) / step) * step - samples
        # Triangular noise has (step)^2 / 6, quantising (step)^2 / 12.
        assert np.square(error).mean() == pytest.approx(step**2 / 4, rel=0.02)
    assert (dithered(samples, 1) == dithered(samples, 1)).all() and (dithered(samples, 1) != dithered(samples, 2)).any()
