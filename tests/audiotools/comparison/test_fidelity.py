"""Distances from a target equal closed forms for gains, noise and silence."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tonemill.audiotools.comparison import fidelity


def noise(seed: int, frames: int = 8000, channels: int = 1) -> np.ndarray:
    return (0.2 * np.random.default_rng(seed).standard_normal((channels, frames))).astype(np.float32)


@pytest.mark.parametrize("gain", [0.5, 2.0, -1.0])
def test_a_gain_alone_has_closed_forms(gain: float) -> None:
    x = noise(0)
    louder = np.float32(gain) * x
    assert fidelity.error_to_signal(louder, x) == pytest.approx((1 - gain) ** 2, rel=1e-6)
    assert fidelity.si_sdr_db(louder, x) == math.inf
    # Magnitudes are blind to polarity; each resolution gives |1 - g| + |ln g|.
    wanted = abs(1 - abs(gain)) + abs(math.log(abs(gain)))
    assert fidelity.multi_resolution_stft(louder, x) == pytest.approx(wanted, abs=1e-6)
    assert fidelity.log_mel_distance_db(louder, x, 16000) == pytest.approx(20 * abs(math.log10(abs(gain))), abs=1e-3)


@pytest.mark.parametrize("snr_db", [0.0, 20.0, 40.0])
def test_si_sdr_of_orthogonal_noise_is_its_ratio_whatever_the_gain(snr_db: float) -> None:
    x, other = noise(0).astype(np.float64), noise(1).astype(np.float64)
    other -= (other @ x.T) / (x @ x.T) * x
    other *= np.linalg.norm(x) / np.linalg.norm(other) * 10 ** (-snr_db / 20)
    found = (0.3 * (x + other)).astype(np.float32)
    assert fidelity.si_sdr_db(found, x.astype(np.float32)) == pytest.approx(snr_db, abs=1e-3)
    assert fidelity.error_to_signal((x + other).astype(np.float32), x.astype(np.float32)) == pytest.approx(
        10 ** (-snr_db / 10), rel=1e-4
    )


def test_silence_is_reported() -> None:
    x, nothing = noise(0), np.zeros((1, 8000), np.float32)
    assert fidelity.error_to_signal(nothing, x) == pytest.approx(1)
    assert fidelity.error_to_signal(x, nothing) is None
    assert fidelity.si_sdr_db(x, nothing) is None and fidelity.si_sdr_db(nothing, x) is None
    assert fidelity.multi_resolution_stft(x, nothing) is None
    assert math.isfinite(fidelity.multi_resolution_stft(nothing, x))
    assert fidelity.log_mel_distance_db(nothing, nothing, 16000) == 0


def test_clips_shorter_than_a_window_have_distances_too() -> None:
    assert math.isfinite(fidelity.multi_resolution_stft(noise(0, 100), noise(1, 100)))
