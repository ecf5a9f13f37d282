"""Each anchor is worse in its own way, and only in that."""

from __future__ import annotations

import numpy as np
import pytest

from tonemill.audiotools.comparison.anchors import ANCHORS, GAP_SECONDS, low_passed, steady_noise, with_gap
from tonemill.audiotools.comparison.descriptors import mean_spectrum

RATE = 16000


def tones(*hertz: float) -> np.ndarray:
    at = np.arange(RATE) / RATE
    return np.stack([sum(np.sin(2 * np.pi * one * at) for one in hertz)] * 2).astype(np.float32) * 0.2


def test_the_low_anchor_keeps_what_is_below_and_takes_what_is_above() -> None:
    assert low_passed(tones(440, 3000, 4500, 7000), RATE) == pytest.approx(tones(440, 3000), abs=1e-5)


def test_the_low_anchor_is_low_at_a_low_rate_too() -> None:
    at = np.arange(8000) / 8000
    clip = (0.2 * np.sin(2 * np.pi * np.array([[1000], [3000]]) * at)).astype(np.float32)
    found = low_passed(clip, 8000)
    assert found[0] == pytest.approx(clip[0], abs=1e-5) and np.abs(found[1]).max() < 1e-5


def test_the_gap_is_at_the_joint_and_the_rest_untouched() -> None:
    clip = tones(440)
    found = with_gap(clip, RATE)
    kept = RATE - round(GAP_SECONDS * RATE)
    assert (found[:, :kept] == clip[:, :kept]).all() and not found[:, kept:].any()
    # The clip itself sounds there, as loud as anywhere.
    assert np.square(clip[:, kept:]).mean() == pytest.approx(np.square(clip).mean(), rel=0.02)


def test_noise_has_the_spectrum_and_the_power_and_no_beats() -> None:
    clip = np.random.default_rng(0).standard_normal((1, 4 * RATE)).astype(np.float32) * 0.1
    clip *= np.repeat([1.0, 0.0] * 8, 4 * RATE // 16).astype(np.float32)
    found = steady_noise(clip, RATE, seed=1)
    assert np.square(found).mean() == pytest.approx(np.square(clip).mean(), rel=0.1)
    assert 10 * np.log10(mean_spectrum([found], 33) / mean_spectrum([clip], 33)) == pytest.approx(0, abs=1.5)
    powers = np.square(found).reshape(-1, RATE // 4).mean(axis=1)
    assert powers.max() / powers.min() < 1.3


@pytest.mark.parametrize("name", ANCHORS)
def test_any_clip_has_an_anchor_of_its_own_shape(name: str) -> None:
    for frames in (50, 4000):
        clip = np.random.default_rng(0).standard_normal((2, frames)).astype(np.float32) * 0.1
        found = ANCHORS[name](clip, 8000, seed=3)
        assert found.shape == clip.shape and found.dtype == np.float32 and np.isfinite(found).all()
