"""What is measured of a clip is what is known of sines, noise and silence."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import lfilter

from tonemill.audiotools.comparison import descriptors

RATE = 16000


def white(frames: int = RATE, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal((1, frames))).astype(np.float32)


def test_a_sine_has_its_frequency_and_noise_half_of_nyquist() -> None:
    sine = np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE).astype(np.float32)[None] * 0.5
    found = descriptors.character(sine, RATE)
    assert found["centroid_hz"] == pytest.approx(1000, abs=5)
    assert found["rolloff_hz"] == pytest.approx(1000, abs=30)
    assert found["peak_db"] == pytest.approx(-6.02, abs=0.01)
    flat = descriptors.character(white(), RATE)
    assert flat["centroid_hz"] == pytest.approx(4000, rel=0.03)
    assert flat["rolloff_hz"] == pytest.approx(7600, rel=0.02)
    assert flat["flatness_db"] > -0.5 > found["flatness_db"]


@pytest.mark.parametrize("frames", [0, 1, 100, RATE])
def test_silence_and_shreds_have_no_colour_and_no_error(frames: int) -> None:
    nothing = np.zeros((1, frames), np.float32)
    found = descriptors.character(nothing, RATE)
    assert set(found) == set(descriptors.MEASURES)
    assert np.isnan(found["centroid_hz"]) and np.isnan(found["loudness_lufs"])
    assert descriptors.is_silent(nothing) and not descriptors.is_silent(white())
    assert descriptors.outline(nothing, RATE).shape == (32, max(1, -(-frames // 640)))


def test_an_outline_is_blind_to_level_and_sees_form() -> None:
    x = white()
    soft, faded = np.float32(0.1) * x, x * np.linspace(1, 0, RATE, dtype=np.float32)
    np.testing.assert_allclose(descriptors.outline(soft, RATE), descriptors.outline(x, RATE), atol=1e-3)
    assert np.abs(descriptors.outline(faded, RATE) - descriptors.outline(x, RATE)).mean() > 3


def test_noise_has_the_mean_spectrum_of_clips() -> None:
    b, a = [0.1], [1, -0.9]
    clips = [lfilter(b, a, white(20_000, seed)).astype(np.float32) for seed in range(8)]
    spectrum = descriptors.mean_spectrum(clips)
    made = [descriptors.noise_with(spectrum, 20_000, 1, seed) for seed in range(8)]
    level = 10 * np.log10(descriptors.mean_spectrum(made)[1:-1] / spectrum[1:-1])
    assert np.abs(np.convolve(level, np.ones(16) / 16, "valid")).max() < 1.5
    assert np.std(made) == pytest.approx(np.std(clips), rel=0.05)
    assert not np.array_equal(made[0], made[1])
    assert np.array_equal(made[0], descriptors.noise_with(spectrum, 20_000, 1, 0))
