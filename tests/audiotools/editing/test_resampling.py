"""Resampling keeps length, level and time, and leaves no aliases; tones and constants tell."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from benchmarks.resampling import CONVERSIONS as BENCHMARKED_RATES
from benchmarks.resampling import PASS_BAND as BENCHMARKED
from benchmarks.resampling import Conversion
from tonemill.audiotools.editing.resampling import RECIPES, Engine, Quality, resample, resample_blocks, resampled_length
from tonemill.audiotools.errors import UsageError

CONVERSIONS = [(48000, 44100), (44100, 48000), (44100, 16000), (16000, 48000), (44100, 44099)]
TIERS = [(engine, quality) for engine in get_args(Engine) for quality in get_args(Quality)]
ALIASES_DB = dict(zip(TIERS, [-140, -125, -100, -85, -85, -60], strict=True))
PASS_BAND_DB = dict(zip(TIERS, [0.01, 0.02, 0.2, 0.002, 0.002, 0.5], strict=True))
ROUND_TRIP_DB = dict(zip(TIERS, [-120, -120, -80, -70, -70, -45], strict=True))

every_tier = pytest.mark.parametrize(("engine", "quality"), TIERS)
every_conversion = pytest.mark.parametrize(("from_rate", "to_rate"), CONVERSIONS)


def tone(frequency_hz: float, sample_rate: int, frames: int) -> np.ndarray:
    phase = 2 * np.pi * frequency_hz * np.arange(frames) / sample_rate
    return (0.5 * np.sin(phase)).astype(np.float32)[None, :]


def noise(frames: int, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, (channels, frames)).astype(np.float32)


def middle(samples: np.ndarray) -> np.ndarray:
    quarter = samples.shape[-1] // 4
    return samples[..., quarter:-quarter].astype(np.float64)


def rms_db(samples: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(samples**2) + 1e-30))


@given(st.integers(0, 2**40), st.integers(1, 768_000), st.integers(1, 768_000))
@example(44100 * 3600 * 24 * 365, 44100, 48000)  # a year: floating point is a frame off here
def test_length_is_the_least_that_covers_the_sound(frames: int, from_rate: int, to_rate: int) -> None:
    length = resampled_length(frames, from_rate, to_rate)
    assert length * from_rate >= frames * to_rate > (length - 1) * from_rate


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 400), st.sampled_from([*CONVERSIONS, (3, 2), (7, 48), (192000, 8000)]), st.sampled_from(TIERS))
@example(0, (48000, 44100), ("resampy", "best"))
@example(1, (192000, 8000), ("soxr", "best"))
@example(2, (192000, 8000), ("resampy", "fast"))
def test_every_length_comes_out_by_the_rule(frames: int, rates: tuple[int, int], tier: tuple[Engine, Quality]) -> None:
    result = resample(noise(frames), *rates, *tier)
    assert result.shape == (1, resampled_length(frames, *rates))
    assert result.dtype == np.float32
    assert np.isfinite(result).all()


@every_tier
@every_conversion
@pytest.mark.parametrize("fraction", [0.05, 0.4, 0.8])
def test_pass_band_tones_keep_level_and_time(
    engine: Engine, quality: Quality, from_rate: int, to_rate: int, fraction: float
) -> None:
    frequency_hz = fraction * min(from_rate, to_rate) / 2
    result = resample(tone(frequency_hz, from_rate, from_rate), from_rate, to_rate, engine, quality)[0]
    phase = middle(2 * np.pi * frequency_hz * np.arange(result.size) / to_rate)
    basis = np.stack([np.sin(phase), np.cos(phase)], axis=1)
    (in_phase, quadrature), *_ = np.linalg.lstsq(basis, middle(result), rcond=None)
    gain_db = 20 * np.log10(np.hypot(in_phase, quadrature) / 0.5)
    delay_frames = -np.arctan2(quadrature, in_phase) / (2 * np.pi * frequency_hz) * to_rate
    assert abs(gain_db) < PASS_BAND_DB[engine, quality]
    assert abs(delay_frames) < 1e-4
    rest = middle(result) - basis @ np.array([in_phase, quadrature])
    assert rms_db(rest) - rms_db(basis[:, 0] / 2) < max(
        ALIASES_DB[engine, quality] + 3, -118
    )  # 44100 and 44099 share no divisor


@every_tier
@every_conversion
def test_tones_above_the_new_nyquist_are_gone(engine: Engine, quality: Quality, from_rate: int, to_rate: int) -> None:
    for fraction in (1.002, 1.01, 1.05, 1.3, 2.0, 2.5):
        frequency_hz = fraction * to_rate / 2
        if frequency_hz < 0.999 * from_rate / 2:
            sound = tone(frequency_hz, from_rate, from_rate)
            result = resample(sound, from_rate, to_rate, engine, quality)
            assert rms_db(middle(result)) - rms_db(middle(sound)) < ALIASES_DB[engine, quality], fraction


@every_tier
def test_an_impulse_stays_in_its_place(engine: Engine, quality: Quality) -> None:
    samples = np.zeros((1, 96000), np.float32)
    samples[0, 48000] = 1  # one second in, at both rates
    result = resample(samples, 48000, 44100, engine, quality)[0]
    assert np.argmax(np.abs(result)) == 44100
    np.testing.assert_allclose(result[44100 - 30 : 44100], result[44100 + 30 : 44100 : -1], atol=1e-4)


@every_tier
@every_conversion
def test_a_constant_stays_constant(engine: Engine, quality: Quality, from_rate: int, to_rate: int) -> None:
    result = resample(np.full((1, from_rate // 2), 0.5, np.float32), from_rate, to_rate, engine, quality)
    np.testing.assert_allclose(middle(result), 0.5, rtol=3e-3 if quality == "fast" and engine == "resampy" else 1e-4)


@every_tier
def test_up_and_down_again_is_near_the_start(engine: Engine, quality: Quality) -> None:
    sound = tone(440, 16000, 16000) + tone(5000, 16000, 16000)
    back = resample(resample(sound, 16000, 48000, engine, quality), 48000, 16000, engine, quality)
    assert back.shape == sound.shape
    assert rms_db(middle(back) - middle(sound)) - rms_db(middle(sound)) < ROUND_TRIP_DB[engine, quality]


@every_tier
def test_stereo_is_two_monos(engine: Engine, quality: Quality) -> None:
    stereo = noise(70_000, channels=2)
    monos = [resample(channel[None, :], 44100, 16000, engine, quality) for channel in stereo]
    # An engine may sum in another order where channels lie beside each other: -120 dB.
    np.testing.assert_allclose(resample(stereo, 44100, 16000, engine, quality), np.concatenate(monos), atol=1e-6)
    interleaved = np.ascontiguousarray(stereo.T).T  # what decoders hand over
    np.testing.assert_allclose(resample(interleaved, 44100, 16000, engine, quality), np.concatenate(monos), atol=1e-6)


STREAM = noise(200_000)
WHOLE = {(rates, tier): resample(STREAM, *rates, *tier) for rates in CONVERSIONS[:3] for tier in TIERS}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, STREAM.shape[1]), max_size=8), st.sampled_from(list(WHOLE)))
@example([0, 1, 2, 65536, 65537, 131072], ((44100, 48000), ("resampy", "best")))
def test_where_blocks_are_cut_changes_no_bit(
    cuts: list[int], case: tuple[tuple[int, int], tuple[Engine, Quality]]
) -> None:
    rates, (engine, quality) = case
    edges = [0, *sorted(cuts), STREAM.shape[1]]
    blocks = (STREAM[:, start:end] for start, end in pairwise(edges))
    parts = list(resample_blocks(blocks, *rates, engine=engine, quality=quality))
    assert all(part.shape[1] for part in parts)
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), WHOLE[case])


KAISER = ("kaiser_best", "kaiser_best", "kaiser_fast")


@pytest.mark.parametrize("rates", CONVERSIONS[:3])
def test_both_engines_give_what_their_own_libraries_give(rates: tuple[int, int]) -> None:
    import resampy
    import soxr

    for quality, recipe, filter_name in zip(get_args(Quality), ("VHQ", "HQ", "MQ"), KAISER, strict=True):
        theirs = soxr.resample(STREAM[0], *rates, recipe)
        np.testing.assert_allclose(WHOLE[rates, ("soxr", quality)][0, : theirs.size], theirs, atol=1e-6)
        theirs = resampy.resample(STREAM[0], *rates, filter=filter_name)
        np.testing.assert_allclose(WHOLE[rates, ("resampy", quality)][0, : theirs.size], theirs, atol=1e-6)


def test_a_stream_is_read_no_further_than_needed() -> None:
    seen = 0

    def endless():  # type: ignore[no-untyped-def]
        nonlocal seen
        while True:
            seen += 1
            yield noise(4096)

    for engine in get_args(Engine):
        seen = 0
        next(resample_blocks(endless(), 48000, 44100, engine=engine))
        assert seen <= ceil(3 * 65536 / 4096)


def test_equal_rates_hand_the_input_back() -> None:
    sound = noise(10)
    assert resample(sound, 44100, 44100) is sound


@pytest.mark.parametrize("rates", [(0, 44100), (44100, 0), (-1, -1), (0, 0)])
def test_a_rate_below_one_hertz_is_refused(rates: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match=r"a sample rate of (0|-1) Hz"):
        resample(noise(10), *rates)
    with pytest.raises(UsageError, match=r"a sample rate of (0|-1) Hz"):
        resample_blocks(iter([noise(10)]), *rates)


def test_resampy_states_where_its_filter_table_ends() -> None:
    with pytest.raises(UsageError, match="at least 188 Hz"):
        resample(noise(10), 48000, 100, engine="resampy")
    assert resample(noise(48000), 48000, 188, engine="resampy").shape == (1, 188)


def test_importing_the_module_loads_no_engine() -> None:
    code = (
        "import sys, tonemill.audiotools.editing.resampling; assert not {'soxr', 'resampy', 'numba'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


PAGE = Path(__file__).parents[3] / "docs/resampling.md"


def rows_of_page() -> list[list[str]]:
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ") and "->" in line]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize("row", rows_of_page(), ids=lambda row: " ".join(row[:2]))
def test_each_filter_is_as_good_as_its_row_in_the_documentation(row: list[str]) -> None:
    rates, filter_name, tiers, aliases, images, ripple, *_ = row
    from_rate, to_rate = map(int, rates.split(" -> "))
    engine, _ = filter_name.split()
    for quality in tiers.split(", "):
        assert RECIPES[engine][quality] == filter_name.split()[1]
    measured = Conversion(from_rate, to_rate, engine, tiers.split(", ")[0])
    # Of the page's tones every tenth, so the worst of these is no worse than its worst. At -130 dB the rounding of
    # sums is measured, which is 2.4 dB louder where libsoxr sums one by one.
    gains, delays, beside = np.array([measured.pass_band_tone(f * measured.nyquist_hz) for f in BENCHMARKED[::10]]).T
    assert beside.max() < float(images) + 4
    assert np.abs(gains[BENCHMARKED[::10] <= 0.8]).max() < float(ripple.split(" / ")[0]) + 1e-4
    assert np.abs(delays).max() < 1e-4
    if aliases != "none possible":
        found = measured.aliases_db()
        assert found is not None and found < float(aliases) + 4


def test_the_documentation_has_a_row_for_every_tier() -> None:
    listed = {(row[0], row[1].split()[0], tier) for row in rows_of_page() for tier in row[2].split(", ")}
    rates = {f"{from_rate} -> {to_rate}" for from_rate, to_rate in BENCHMARKED_RATES}
    assert listed == {(one, engine, tier) for one in rates for engine, tier in TIERS}
