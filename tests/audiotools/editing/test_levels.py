"""Levels: meters read what formulas say, and nothing depends on where a sound is cut into blocks."""

from __future__ import annotations

import math

import numpy as np
import pyloudnorm
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tonemill.audiotools.editing.levels import Levels, amplified, measure
from tonemill.audiotools.editing.loudness import _k_weighting
from tonemill.audiotools.synthetic import sine
from tonemill.audiotools.waveform import Flow, Sound, Waveform


def flow(samples: np.ndarray, rate: int, cuts: list[int]) -> Flow:
    return Flow(lambda: iter(np.split(samples, cuts, axis=1)), rate, len(samples))


def lufs(sound: Sound) -> float:
    loudness = measure(sound, loudness=True).loudness
    assert loudness is not None and loudness.lufs is not None
    return loudness.lufs


def coloured(frames: int, channels: int, seed: int) -> np.ndarray:
    """Noise whose level and colour change, with pauses that the gate must find."""
    rng = np.random.default_rng(seed)
    sound = rng.standard_normal((channels, frames))
    sound[: channels // 2] = np.cumsum(sound[: channels // 2], axis=1) * 0.02
    envelope = np.repeat([0.3, *rng.choice([1e-5, 0.02, 0.3], size=frames // 3000)], 3000)[:frames]
    return (sound * envelope * 0.3).astype(np.float32)


def test_a_sine_has_its_peak_and_an_rms_3_01_db_below() -> None:
    levels = measure(Waveform(sine(1000, 48000, 48000, 0.25), 48000))
    assert levels.peak_db == pytest.approx(20 * math.log10(0.25), abs=1e-4)
    assert levels.rms_db == pytest.approx(levels.peak_db - 3.0103, abs=1e-4)
    assert levels.dc_offset < 1e-6
    assert levels.clipping_share == levels.silence_share == 0


def test_a_full_scale_sine_of_997_hz_reads_minus_3_01_lufs() -> None:
    """BS.1770-4, annex 1: in one front channel, at 48 kHz."""
    assert lufs(Waveform(sine(997, 5 * 48000, 48000, 1.0), 48000)) == pytest.approx(-3.01, abs=0.005)


@pytest.mark.parametrize("rate", [32000, 44100, 44101, 48000, 96000])
@pytest.mark.parametrize("level", [-23.0, -33.0])
def test_ebu_tech_3341_case_1_and_2(rate: int, level: float) -> None:
    """A stereo sine of 1 kHz with a peak of -23 dB reads -23 LUFS, within 0.1."""
    tone = np.repeat(sine(1000, 20 * rate, rate, 10 ** (level / 20)), 2, axis=0)
    assert lufs(Waveform(tone, rate)) == pytest.approx(level, abs=0.1)


def test_ebu_tech_3341_case_3_is_gated() -> None:
    """10 s at -36, 60 s at -23, 10 s at -36 dB: the quiet parts lie under the relative gate."""
    rate = 48000
    parts = [sine(1000, s * rate, rate, 10 ** (db / 20)) for s, db in ((10, -36), (60, -23), (10, -36))]
    assert lufs(Waveform(np.repeat(np.concatenate(parts, axis=1), 2, axis=0), rate)) == pytest.approx(-23, abs=0.1)


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 44101, 48000])
@pytest.mark.parametrize(("channels", "seconds"), [(1, 0.41), (2, 0.93), (2, 5.037), (5, 2.2)])
def test_loudness_is_pyloudnorms(rate: int, channels: int, seconds: float) -> None:
    sound = coloured(round(rate * seconds), channels, seed=channels)
    meter = pyloudnorm.Meter(rate, filter_class="DeMan")
    assert lufs(Waveform(sound, rate)) == pytest.approx(meter.integrated_loudness(sound.T.astype(float)), abs=0.01)


def test_the_filter_is_the_standards_table() -> None:
    """BS.1770-4, annex 1, tables 1 and 2."""
    shelf = [1.53512485958697, -2.69169618940638, 1.19839281085285, 1.0, -1.69065929318241, 0.73248077421585]
    high_pass = [1.0, -2.0, 1.0, 1.0, -1.99004745483398, 0.99007225036621]
    np.testing.assert_allclose(_k_weighting(48000), [shelf, high_pass], atol=1e-10)


def test_a_short_sound_is_one_block_and_is_reported() -> None:
    """0.1 s of a sine that fills it has nearly the loudness of 5 s of it; silence around it counts."""
    tone = sine(997, 4800, 48000, 0.5)
    short = measure(Waveform(tone, 48000), loudness=True).loudness
    assert short is not None and short.lufs is not None and not short.gated
    assert short.lufs == pytest.approx(-3.01 - 6.02, abs=0.1)
    padded = np.pad(tone, ((0, 0), (0, 4800)))
    assert lufs(Waveform(padded, 48000)) == pytest.approx(short.lufs - 3.01, abs=0.02)


@pytest.mark.parametrize("sound", [np.zeros((2, 30000), np.float32), sine(1000, 30000, 48000, 1e-5)])
def test_what_is_under_the_gate_has_no_loudness(sound: np.ndarray) -> None:
    loudness = measure(Waveform(sound, 48000), loudness=True).loudness
    assert loudness is not None and loudness.lufs is None


def test_nothing_is_measured_of_no_sound() -> None:
    levels = measure(Waveform(np.zeros((1, 0), np.float32), 44100), loudness=True)
    assert levels == Levels(0, 44100, None, None, 0.0, 0.0, 0.0, levels.loudness)
    assert levels.loudness is not None and levels.loudness.lufs is None


def test_at_a_rate_too_low_for_the_filter_there_is_no_loudness() -> None:
    loudness = measure(Waveform(sine(100, 3000, 3000), 3000), loudness=True).loudness
    assert loudness is not None and loudness.lufs is None


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 9000), max_size=6).map(sorted), st.integers(1, 2), st.integers(0, 3))
def test_where_blocks_are_cut_changes_nothing(cuts: list[int], channels: int, seed: int) -> None:
    sound = (coloured(9000, channels, seed) * 8).clip(-1, 1)
    sound[0, 4000:4100] = 1.0
    sound[0, 7000:7002] = -1.0
    whole, parts = (measure(one, -50, True) for one in (Waveform(sound, 8000), flow(sound, 8000, cuts)))
    assert whole.clipping_share == parts.clipping_share >= 100 / sound.size
    assert (whole.frames, whole.peak_db, whole.silence_share) == (parts.frames, parts.peak_db, parts.silence_share)
    assert whole.rms_db == pytest.approx(parts.rms_db, abs=1e-9)
    assert whole.dc_offset == pytest.approx(parts.dc_offset, abs=1e-12)
    assert whole.loudness and parts.loudness
    assert whole.loudness.lufs == pytest.approx(parts.loudness.lufs, abs=1e-9)


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.lists(st.integers(0, 60), max_size=8).map(sorted))
def test_clipping_is_three_neighbours_or_more_at_full_scale(touches: list[bool], cuts: list[int]) -> None:
    sound = np.where(touches, -1.0, 0.5).astype(np.float32)[None]
    runs = "".join("x" if one else " " for one in touches).split()
    expected = sum(len(run) for run in runs if len(run) >= 3) / len(touches)
    assert measure(flow(sound, 8000, cuts)).clipping_share == pytest.approx(expected)


def test_a_normalised_sine_is_not_clipped_and_a_driven_one_is() -> None:
    tone = sine(997, 44100, 44100, 1.0)
    assert measure(Waveform(tone, 44100)).clipping_share == 0
    # |2 sin| is above 1 for two thirds of the time.
    assert measure(Waveform((2 * tone).clip(-1, 1), 44100)).clipping_share == pytest.approx(2 / 3, abs=0.01)


def test_above_full_scale_only_flat_tops_are_clipped() -> None:
    """A float file may hold peaks of +6 dB whole; one that was clipped before it was made louder holds flat ones."""
    loud = 2 * sine(997, 44100, 44100, 1.0)
    assert measure(Waveform(loud, 44100)).clipping_share == 0
    # |sin| is above 0.75 for 46 % of the time.
    assert measure(Waveform(loud.clip(-1.5, 1.5), 44100)).clipping_share == pytest.approx(0.46, abs=0.01)


def test_the_share_of_silence_and_dc_are_reported() -> None:
    half = np.concatenate([np.zeros((2, 8000), np.float32), np.full((2, 8000), 0.25, np.float32)], axis=1)
    levels = measure(Waveform(half, 8000))
    assert levels.silence_share == 0.5
    assert levels.dc_offset == pytest.approx(0.125)


def test_a_gain_is_as_written_in_either_form() -> None:
    sound = coloured(5000, 2, 1)
    whole, parts = amplified(Waveform(sound, 8000), -6.0), amplified(flow(sound, 8000, [7, 1000]), -6.0)
    np.testing.assert_array_equal(whole.whole().samples, parts.whole().samples)
    np.testing.assert_allclose(whole.whole().samples, sound * 10 ** (-6 / 20), rtol=1e-6)
