"""Spectrograms read levels in decibels at any rate, and their distance is larger between drums than within one."""

from __future__ import annotations

import numpy as np
import pytest

from tonemill.audiotools.mel import FLOOR_DB, mel_distance, mel_filters, mel_of_hz, mel_spectrogram_db, mel_spread
from tonemill.audiotools.synthetic import hit, sine, varied

RATE = 22050


def drums(voice: str, seeds: range) -> list[np.ndarray]:
    """Hits of one length."""
    hits = [hit(voice, RATE, seed, varied(voice, np.random.default_rng(seed))) for seed in seeds]
    return [np.pad(sound, ((0, 0), (0, RATE)))[:, :RATE] for sound in hits]


@pytest.mark.parametrize("sample_rate", [16000, 22050, 44100, 96000])
@pytest.mark.parametrize("amplitude", [1.0, 0.1])
def test_a_sine_reads_its_own_level_at_every_rate(sample_rate: int, amplitude: float) -> None:
    frames_db = mel_spectrogram_db(sine(3000, sample_rate, sample_rate, amplitude), sample_rate)
    steady_db = frames_db[0, :, 10:-10]
    expected_db = 20 * np.log10(amplitude)
    np.testing.assert_allclose(steady_db.max(axis=0), expected_db, atol=4)  # between two bands it is 3 dB less
    assert np.ptp(steady_db[steady_db.mean(axis=1).argmax()]) < 0.1


def test_a_decay_runs_alike_at_two_rates() -> None:
    def levels_db(sample_rate: int) -> np.ndarray:
        decay = 10 ** (-np.arange(sample_rate) / sample_rate)  # 20 dB in a second
        tone = (sine(1000, sample_rate, sample_rate, 1.0) * decay).astype(np.float32)
        return mel_spectrogram_db(tone, sample_rate)[0].max(axis=0)[10:90]

    low_db, high_db = levels_db(16000), levels_db(32000)
    np.testing.assert_allclose(low_db - low_db[0], high_db - high_db[0], atol=0.2)
    assert low_db[0] - low_db[50] == pytest.approx(10, abs=0.2)


@pytest.mark.parametrize("frames", [0, 1, 100, 5000, 22050])
@pytest.mark.parametrize("channels", [1, 2])
def test_frames_stand_a_hop_apart(frames: int, channels: int) -> None:
    result = mel_spectrogram_db(np.zeros((channels, frames), np.float32), RATE, n_mels=40, hop_ms=10)
    assert result.shape == (channels, 40, 1 + frames // 220)
    assert (result == FLOOR_DB).all()


def test_a_frame_is_centred_on_its_sample() -> None:
    click = np.zeros((1, RATE), np.float32)
    click[0, 220 * 30] = 1
    assert mel_spectrogram_db(click, RATE)[0].mean(axis=0).argmax() == 30


def test_distance_is_nought_to_itself_symmetric_and_six_db_for_half_the_level() -> None:
    kicks, hats = drums("kick", range(5)), drums("hat", range(5))
    assert mel_distance(kicks, kicks, RATE) == pytest.approx(0, abs=1e-3)
    assert mel_distance(kicks, hats, RATE) == pytest.approx(mel_distance(hats, kicks, RATE))
    noise = [np.random.default_rng(0).uniform(-1, 1, (1, RATE)).astype(np.float32)]
    assert mel_distance(noise, [noise[0] / 2], RATE) == pytest.approx(6.02, abs=0.01)


def test_distance_separates_voices_and_spread_is_small_for_near_ones() -> None:
    voices = ("kick", "snare", "hat", "clap")
    some, others = ({voice: drums(voice, seeds) for voice in voices} for seeds in (range(8), range(8, 16)))
    for voice in voices:
        near = mel_distance(some[voice], others[voice], RATE)
        far = min(mel_distance(some[voice], others[other], RATE) for other in voices if other != voice)
        assert near < mel_spread(some[voice], RATE)
        assert far > 2 * near


def test_a_generator_of_one_sound_has_no_spread() -> None:
    kick = drums("kick", range(1))
    assert mel_spread(kick * 4, RATE) == pytest.approx(0, abs=1e-9)
    assert mel_spread(drums("kick", range(8)), RATE) > 1


def test_a_set_of_no_clips_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one clip"):
        mel_distance([], drums("kick", range(1)), RATE)
    with pytest.raises(ValueError, match="at least one clip"):
        mel_spread([], RATE)


def test_the_scale_is_slaney_s() -> None:
    """15 mels at 1 kHz, linear below it, and 27 more to 6.4 kHz."""
    assert [mel_of_hz(hz) for hz in (0, 500, 1000, 6400)] == pytest.approx([0, 7.5, 15, 42])
    assert mel_of_hz(2530) - mel_of_hz(1000) == pytest.approx(mel_of_hz(6400) - mel_of_hz(2530), abs=0.01)


def test_triangles_overlap_to_one_or_have_an_area_of_one() -> None:
    """Between the middles of the first band and the last."""
    n_fft, bands = 65536, 64
    total = mel_filters(16000, n_fft, bands).sum(axis=0)
    hz = np.fft.rfftfreq(n_fft, 1 / 16000)
    inside = (hz > 200) & (hz < 7500)
    np.testing.assert_allclose(total[inside], 1, atol=1e-5)
    areas = mel_filters(16000, n_fft, bands, low_hz=100.0, high_hz=7000.0, area=True).sum(axis=1) * 16000 / n_fft
    np.testing.assert_allclose(areas, 1, atol=1e-3)
