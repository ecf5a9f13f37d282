"""Least squares find the response that was there, by the ear's measure."""

from __future__ import annotations

import numpy as np
import pytest

from tonemill.audiotools.alignment.least_squares import least_squares_response, least_squares_responses


def signals(frames: int, taps: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coloured noise, a decaying response, and the one through the other."""
    draws = np.random.default_rng(seed)
    dry = np.convolve(draws.standard_normal(frames), 0.9 ** np.arange(60), "same").astype(np.float32) * 0.1
    response = (np.exp(-5 * np.arange(taps) / taps) * draws.standard_normal(taps) * 0.1).astype(np.float32)
    response[0] = 1
    return dry, response, np.convolve(dry, response)[:frames].astype(np.float32)


def error_db(true: np.ndarray, estimate: np.ndarray) -> float:
    return float(10 * np.log10(np.square(true - estimate).sum() / np.square(true).sum()))


@pytest.mark.parametrize("taps", [1, 2, 37, 3000])
def test_a_response_comes_back_60_db_down(taps: int) -> None:
    dry, response, wet = signals(40_000, taps)
    assert error_db(response, least_squares_response([(dry, wet)], taps)) < -60


def test_what_was_played_before_a_clip_does_no_harm() -> None:
    """A clip from the midst of a recording begins with the tail of what came before it."""
    dry, response, wet = signals(60_000, 1000)
    cut = [(dry[start : start + 15_000], wet[start : start + 15_000]) for start in (5_000, 30_000)]
    assert error_db(response, least_squares_response(cut, 1000)) < -60


def test_noise_on_the_wet_is_averaged_out() -> None:
    dry, response, wet = signals(60_000, 200)
    noise = 0.01 * float(wet.std()) * np.random.default_rng(1).standard_normal(wet.size).astype(np.float32)
    assert error_db(response, least_squares_response([(dry, wet + noise)], 200)) < -50


def test_bands_that_the_dry_does_not_play_stay_at_rest() -> None:
    """The data do not determine them, and a response with high gain there would be audible with other music."""
    time = np.arange(44_100)
    dry = sum(np.sin(2 * np.pi * hertz * time / 44_100) for hertz in (110, 220, 330, 440)).astype(np.float32) * 0.1
    found = least_squares_response([(dry, np.float32(0.5) * dry)], 512)
    assert np.abs(np.fft.rfft(found, 4096)).max() < 1.0


def test_silence_and_clips_that_are_too_short_give_silence() -> None:
    none = np.zeros(5000, np.float32)
    assert not least_squares_response([(none, none)], 100).any()
    assert not least_squares_response([(none[:50], none[:50])], 100).any()
    assert not least_squares_response([], 100).any()


def test_responses_in_parallel_and_a_constant_are_found_and_what_was_played_before_is_not_looked_at() -> None:
    draws, taps = np.random.default_rng(0), 40
    responses = draws.standard_normal((3, taps)) * np.exp(-np.arange(taps) / 8)
    pairs = []
    for frames in (3000, 90_000):  # one is longer than what is correlated at once
        dry = draws.uniform(-1, 1, frames + 500)
        inputs = [dry, dry**2, dry**3]
        wet = 0.25 + sum(
            np.convolve(one, response)[: dry.size] for one, response in zip(inputs, responses, strict=True)
        )
        pairs.append(([one[500:].astype(np.float32) for one in inputs], wet[500:].astype(np.float32)))
    found, constant = least_squares_responses(pairs, taps)
    assert np.abs(found - responses).max() < 1e-3
    assert abs(constant - 0.25) < 1e-4


def test_nothing_long_enough_leaves_responses_of_silence() -> None:
    none = np.zeros(50, np.float32)
    for pairs in ([([none, none], none)], [([none, none], none[:50])] * 2):
        found, constant = least_squares_responses(pairs, 100)
        assert found.shape == (2, 100)
        assert not found.any()
        assert not constant
