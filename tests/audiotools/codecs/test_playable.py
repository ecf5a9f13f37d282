"""Sounds and pictures for pages: what a browser will play and show, and what is found to be alike."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from PIL import Image

from tonemill.audiotools.codecs import files
from tonemill.audiotools.codecs.playable import EXACT_BYTES, playable
from tonemill.audiotools.comparison.nearest import likenesses, nearest
from tonemill.audiotools.editing.resampling import resample
from tonemill.audiotools.errors import AudioError
from tonemill.audiotools.mel import mel_spectrogram_db
from tonemill.audiotools.pictures.thumbnails import HEIGHT, WIDTH, outline_path, spectrogram_image
from tonemill.audiotools.waveform import Waveform

RATE = 16000


def sine(hz: float, seconds: float, rate: int = RATE, level: float = 0.5, channels: int = 1) -> Waveform:
    wave = level * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)
    return Waveform(np.tile(wave.astype(np.float32), (channels, 1)), rate)


def noise(seconds: float, seed: int, rate: int = RATE, channels: int = 1) -> Waveform:
    random = np.random.default_rng(seed)
    return Waveform((0.1 * random.standard_normal((channels, round(seconds * rate)))).astype(np.float32), rate)


def points(path: str) -> np.ndarray:
    return np.array([[float(one) for one in pair] for pair in re.findall(r"([\d.-]+) ([\d.-]+)", path)])


def test_a_short_clip_stays_exact() -> None:
    clip = noise(0.5, 0)
    one = playable(clip)
    assert one.mime == "audio/flac"
    back = files.read(one.data).whole()
    assert back.sample_rate == RATE
    assert np.abs(back.samples - clip.samples).max() <= 0.5 / 32768 + 1e-9


@pytest.mark.parametrize(("rate", "becomes"), [(44100, 44100), (44101, 48000), (96000, 48000), (16000, 16000)])
def test_a_long_clip_is_small_and_sounds_the_same(rate: int, becomes: int) -> None:
    clip = Waveform(sine(440, 4, rate, channels=2).samples + noise(4, 1, rate, channels=2).samples, rate)
    one = playable(clip)
    assert one.mime == "audio/mpeg"
    assert EXACT_BYTES / 4 < len(one.data) < clip.samples.nbytes / 8
    back = files.read(one.data).whole()
    assert (back.sample_rate, back.channels) == (becomes, 2)
    # The codec's delay is at most a few frames of 1152 samples.
    assert abs(back.frames / becomes - 4) < 0.1
    middle = back.samples[0, becomes : 3 * becomes]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(middle.size))) * 4 / middle.size
    assert np.fft.rfftfreq(middle.size, 1 / becomes)[spectrum.argmax()] == pytest.approx(440, abs=0.5)
    assert 20 * np.log10(spectrum.max() / 0.5) == pytest.approx(0, abs=0.5)


def test_six_channels_become_two_and_what_is_no_sound_is_refused() -> None:
    assert files.read(playable(noise(0.1, 2, channels=6)).data).channels == 2
    for samples, reason in ((np.zeros((1, 0)), "no_frames"), (np.array([[0, np.nan]]), "not_finite")):
        with pytest.raises(AudioError) as refused:
            playable(Waveform(samples.astype(np.float32), RATE))
        assert refused.value.reason == reason


def test_no_peak_falls_between_the_spans_of_an_outline() -> None:
    samples = np.zeros((2, 1_000_000), np.float32)
    samples[1, 314_159] = 0.5
    found = points(outline_path(samples, 0.5))
    top = found[found[:, 1].argmin()]
    assert top[1] == 0
    assert top[0] == pytest.approx(314_159 / 1_000_000 * WIDTH, abs=WIDTH / 180)
    assert found[:, 1].max() == HEIGHT / 2
    assert len(outline_path(samples)) < 4000


def test_an_outline_shows_level_and_survives_a_few_samples() -> None:
    found = points(outline_path(sine(100, 1).samples))
    assert found[:, 1].min() == pytest.approx(HEIGHT / 4, abs=0.6)
    assert found[:, 1].max() == pytest.approx(3 * HEIGHT / 4, abs=0.6)
    for frames in (0, 1, 2, 179, 180, 181):
        assert np.isfinite(points(outline_path(np.ones((1, frames), np.float32)))).all()


def test_grey_shows_pitch_and_level() -> None:
    soft, loud = (sine(1000, 1, level=level).samples for level in (0.01, 0.1))
    image, louder = (_grey(spectrogram_image(samples, RATE)) for samples in (soft, loud))
    rows, columns = image.shape
    assert rows == 72
    # Slaney's mel scale: 15 mel at 1 kHz, and 35.2 at 8 kHz.
    mels = 15 + np.log(8) / (np.log(6.4) / 27)
    middle = image[:, columns // 4 : -columns // 4].mean(axis=1)
    assert middle.argmax() == pytest.approx(rows * (1 - 15 / mels), abs=1)
    # In decibels over a range of 80.
    level_db = mel_spectrogram_db(soft, RATE, n_mels=rows)[0, :, 40:60].max()
    assert middle.max() == pytest.approx(255 * (1 + level_db / 80), abs=8)
    assert louder[:, columns // 2].max() - image[:, columns // 2].max() == pytest.approx(255 * 20 / 80, abs=8)
    assert middle[0] < 20
    assert _grey(spectrogram_image(np.zeros((1, 100), np.float32), RATE)).max() <= 4


def _grey(image: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(image)).convert("L")).astype(int)


def test_a_copy_is_found_whatever_its_level_and_rate() -> None:
    clips = [
        noise(0.5, 0),
        sine(300, 0.7),
        sine(2000, 0.7),
        Waveform(sine(500, 1.0).samples * noise(1, 3).samples, RATE),
    ]
    real = likenesses(clips, RATE)
    softer = [Waveform(clip.samples * np.float32(0.05), RATE) for clip in clips]
    doubled = [Waveform(resample(clip.samples, RATE, 48000), 48000) for clip in clips]
    for queries in (softer, doubled):
        places, distances = nearest(likenesses(queries, RATE), real)
        assert places.tolist() == [0, 1, 2, 3]
        assert distances.max() < 1.5
    _, apart = nearest(real, real, but_itself=True)
    assert apart.min() > 5


def test_distances_are_root_mean_squares_over_the_longer_clip() -> None:
    random = np.random.default_rng(0)
    clips = [noise(seconds, seed) for seed, seconds in enumerate(random.uniform(0.1, 3, 100))]
    known = likenesses(clips, RATE)
    places, distances = nearest(known, known, but_itself=True)
    differences = ((known.levels[7] - known.levels) ** 2).sum(axis=1) / 32 / np.maximum(known.frames[7], known.frames)
    differences[7] = np.inf
    assert differences[places[7]] == pytest.approx(differences.min(), rel=1e-3)
    assert distances[7] == pytest.approx(np.sqrt(differences.min()), rel=1e-3)


def test_silence_and_nothing_are_compared_too() -> None:
    silent = likenesses([Waveform(np.zeros((1, frames), np.float32), RATE) for frames in (0, 1, 8000)], RATE)
    assert np.isfinite(nearest(silent, likenesses([noise(0.5, 0)], RATE))[1]).all()
    with pytest.raises(ValueError, match="no clip"):
        nearest(silent, likenesses([], RATE))
